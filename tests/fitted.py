"""A fitted folder for tests of the command line, made by `pmlp fit` of a table of mixed columns."""

import csv
import io

import numpy as np

from command_line import mixed_table
from pmlp_np.app.main import main


def fitted_folder(tmp_path_factory):
    """A folder with t.csv, and the results of a regression (value) and a classification (grade) on it."""
    folder = tmp_path_factory.mktemp("fits")
    mixed_table(np.random.default_rng()).to_csv(folder / "t.csv", index=False)
    choices = ("--cv", "3", "--max-members", "12", "--max-epochs", "15")
    for target, other in (("value", "grade"), ("grade", "value")):
        arguments = ["fit", folder / "t.csv", "--target", target, "--drop", other, "--out", folder / target, *choices]
        assert main([str(each) for each in arguments]) == 0
    return folder


def read(text):
    return list(csv.DictReader(io.StringIO(text)))
