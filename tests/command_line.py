"""The command line in tests: `run` calls it in this process, `run_apart` in one of its own; tables to try it on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pmlp_np as pm

ROOT = Path(__file__).resolve().parent.parent
CONCRETE = ROOT / "examples" / "data" / "concrete.csv"
PENGUINS = ROOT / "examples" / "data" / "penguins.csv"
# What makes a fit as short as it can be.
SHORT = ("--max-members", "10", "--max-epochs", "2")


class Said(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Said:
    from pmlp_np.app.main import main

    capsys.readouterr()
    code = main([str(each) for each in arguments])
    return Said(code, *capsys.readouterr())


def environment(**variables: str) -> dict[str, str]:
    paths = [str(Path(pm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | variables


def run_apart(*arguments: Any, stdin: bytes | None = None, **variables: str) -> Said:
    command = [sys.executable, "-m", "pmlp_np", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, env=environment(**variables), capture_output=True, timeout=300)
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def refused(said: Said, *words: str, code: int = 1) -> None:
    """One line on stderr, with these words, nothing on stdout."""
    assert said.code == code, said
    assert said.err.startswith("pmlp: ") and said.err.count("\n") == 1, said.err
    assert said.out == "", said.out
    for word in words:
        assert word in said.err, f"{word!r} is missing in {said.err!r}"


def mixed_table(rng: np.random.Generator, n: int = 300) -> Any:
    """A pandas.DataFrame with a column of each kind, some cells missing, and two targets that follow from them."""
    import pandas

    size = rng.normal(50.0, 10.0, n)
    color = rng.choice(["red", "green", "dark blue"], n, p=[0.5, 0.3, 0.2])
    day = np.datetime64("2020-01-01") + rng.integers(0, 1200, n).astype("timedelta64[D]")
    days = (day - np.datetime64("2020-01-01")).astype(float)
    value = 3.0 * size + 40.0 * (color == "red") + 20.0 * np.sin(2 * np.pi * days / 365.2425) + rng.normal(0, 5, n)
    frame = pandas.DataFrame({"size": size, "color": color, "day": day.astype(str), "count": rng.integers(0, 9, n)})
    frame.loc[rng.random(n) < 0.1, "size"] = np.nan
    frame.loc[rng.random(n) < 0.1, "color"] = None
    frame["value"] = np.round(value, 3)
    frame["grade"] = np.where(value > np.quantile(value, 0.6), "high", np.where(value > value.mean(), "middle", "low"))
    return frame


def in_numbers(frame: Any) -> np.ndarray:
    """Columns of numbers and dates as numbers, dates as days since 1970, (n, columns) float64."""
    epoch, day = np.datetime64(0, "us"), np.timedelta64(1, "D")
    cells = [frame[name].to_numpy() for name in frame.columns]
    return np.column_stack([(each - epoch) / day if each.dtype.kind == "M" else each for each in cells]).astype(float)
