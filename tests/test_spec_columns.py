"""Columns from a file: read where this version's tables have another order, and refused where they say nonsense."""

import re

import numpy as np
import pytest

from pmlp_np.base.errors import FileFormatError
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, SGD, AdamW
from pmlp_np.formulas.options import OPTIONS, default_row
from pmlp_np.specs.members import Member, Specs

MEMBERS = [
    Member((), seed=0),
    Member((3, 2), ("mish", "identity"), False, "he_normal", SGD(0.5, 0.9, True, 0.01), 16, 2**64 - 1),
    Member((130,), "hardshrink", True, "glorot_uniform", AdamW(eps=0.0)),
]
SPECS = Specs.from_members(MEMBERS)
COLUMNS_THEN = SPECS.columns()


def changed(**columns):
    return SPECS.columns() | {name: np.asarray(column) for name, column in columns.items()}


def with_entry(name, place, value):
    column = SPECS.columns()[name].copy()
    column[place] = value
    return {name: column}


@pytest.fixture(params=[ACTIVATIONS, INITIALIZERS, OPTIMIZERS], ids=["activations", "initializers", "optimizers"])
def turned_table(request):
    table = request.param
    entries = list(table.items())
    table.clear()
    table.update(reversed(entries))
    yield table
    table.clear()
    table.update(entries)


def test_a_table_that_has_another_order_by_now_reads_the_same_members(turned_table):
    now = Specs.from_members(MEMBERS)
    assert any(not np.array_equal(now.columns()[name], column) for name, column in COLUMNS_THEN.items())
    assert Specs.from_columns(COLUMNS_THEN) == now
    assert list(Specs.from_columns(COLUMNS_THEN)) == MEMBERS


def test_hyperparameters_may_come_in_another_order():
    columns = changed(
        hyperparameters=SPECS.hyperparameters[:, ::-1], hyperparameter_names=np.array(HYPERPARAMETERS[::-1])
    )
    assert Specs.from_columns(columns) == SPECS


def test_a_hyperparameter_newer_than_the_file_has_its_default():
    keep = [name != "eps" for name in HYPERPARAMETERS]
    columns = changed(
        hyperparameters=SPECS.hyperparameters[:, keep], hyperparameter_names=np.array(HYPERPARAMETERS)[keep]
    )
    assert Specs.from_columns(columns).hyperparameter("eps").tolist() == [1e-8, 0.0, 1e-8]
    assert Specs.from_columns(columns)[1] == MEMBERS[1]


def test_options_may_come_in_another_order_or_be_newer_than_the_file():
    columns = changed(options=SPECS.options[:, ::-1], option_names=list(OPTIONS)[::-1])
    assert Specs.from_columns(columns) == SPECS
    columns = changed(options=np.zeros((3, 0)), option_names=np.array([], str))
    assert Specs.from_columns(columns).options.tolist() == [default_row()] * 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"options": np.full((3, len(OPTIONS)), 0.5)}, "zero_last: expected 0 or 1"),
        ({"options": np.zeros((3, 0))}, f"options: expected {len(OPTIONS)} columns, got 0."),
        ({"options": np.tile([*default_row(), 1.0], (3, 1)), "option_names": [*OPTIONS, "rho"]}, "got 'rho'."),
    ],
)
def test_damaged_options_are_refused_by_name(columns, message):
    with pytest.raises(FileFormatError, match=re.escape(message)):
        Specs.from_columns(changed(**columns))


def test_what_no_member_uses_may_be_unknown():
    columns = changed(
        hyperparameters=np.column_stack([SPECS.hyperparameters, np.zeros(3)]),
        hyperparameter_names=[*HYPERPARAMETERS, "rho"],
        activation_names=[*ACTIVATIONS, "from_the_future"],
    )
    assert Specs.from_columns(columns) == SPECS


def test_smaller_types_and_other_byte_orders_are_read():
    columns = changed(widths=SPECS.widths.astype(np.uint8), seed=SPECS.seed.astype(">u8"), batch_size=[0, 16, 0])
    assert Specs.from_columns(columns) == SPECS


def test_values_that_mean_nothing_are_dropped():
    place = HYPERPARAMETERS.index("momentum")
    columns = changed(seed=np.array([0, 2**64 - 1, 77], np.uint64), **with_entry("hyperparameters", (2, place), np.nan))
    assert Specs.from_columns(columns) == SPECS


def test_the_table_is_a_copy():
    columns = {name: column.copy() for name, column in SPECS.columns().items()}
    specs = Specs.from_columns(columns)
    columns["widths"][:] = 1
    assert specs == SPECS


@pytest.mark.parametrize("name", SPECS.columns())
def test_a_missing_column_is_named(name):
    columns = SPECS.columns()
    del columns[name]
    with pytest.raises(FileFormatError, match=f"^columns: expected one called {name}, got .* The file is damaged.$"):
        Specs.from_columns(columns)


RATE, NESTEROV = HYPERPARAMETERS.index("learning_rate"), HYPERPARAMETERS.index("nesterov")
OTHER_VERSION = "It was written by a version of pmlp_np that has other formulas"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"bias": [True, False]},
            "width_offsets: expected 3 entries, got an array of shape (4,). The file is damaged.",
        ),
        ({"batch_size": [1, 2]}, "batch_size: expected 3 entries, got an array of shape (2,)."),
        ({"batch_size": [[1], [2], [3]]}, "batch_size: expected 3 entries, got an array of shape (3, 1)."),
        ({"activations": [0, 0]}, "activations: expected 3 entries, got an array of shape (2,)."),
        ({"hyperparameters": np.zeros(3)}, "hyperparameters: expected 3 entries, got an array of shape (3,)."),
        ({"hyperparameters": np.ones((3, 2))}, f"hyperparameters: expected {len(HYPERPARAMETERS)} columns, got 2."),
        ({"bias": np.bool_(True)}, "bias: expected an array of bool, got one of bool."),
        ({"bias": [0, 1, 0]}, "bias: expected an array of bool, got one of int64."),
        ({"widths": [3.0, 2.0, 7.0]}, "widths: expected an array of int32, got one of float64."),
        ({"hyperparameters": np.full((3, 7), "x")}, "hyperparameters: expected an array of float64, got one of <U1."),
        ({"seed": [0, -1, 0]}, "seed: expected numbers that uint64 holds, got others."),
        ({"widths": [3, 2, 2**32 + 1]}, "widths: expected numbers that int32 holds, got others."),
        ({"width_offsets": [0, 0, 2, 4]}, "width_offsets: expected offsets that grow from 0 to 3, got others."),
        ({"width_offsets": [0, 2, 1, 3]}, "width_offsets: expected offsets that grow from 0 to 3"),
        ({"width_offsets": [1, 1, 2, 3]}, "width_offsets: expected offsets that grow from 0 to 3"),
        ({"widths": [3, 0, 7]}, "member 1: hidden: expected widths from 1 to 16777216, got another value."),
        ({"widths": [3, 2, 2**24 + 1]}, "member 2: hidden: expected widths from 1 to 16777216"),
        ({"batch_size": [0, 0, -1]}, "member 2: batch_size: expected at least 0, got another value."),
        ({"activations": [0, 1, len(ACTIVATIONS)]}, f"activations: expected numbers from 0 to {len(ACTIVATIONS) - 1}"),
        ({"optimizer": [0, -1, 0]}, "optimizer: expected numbers from 0 to 4, got others."),
        (
            with_entry("hyperparameters", (2, RATE), np.nan),
            "member 2: learning_rate: expected a finite number, above 0",
        ),
        (with_entry("hyperparameters", (0, RATE), 0.0), "member 0: learning_rate: expected a finite number, above 0"),
        (with_entry("hyperparameters", (1, NESTEROV), 0.5), "member 1: nesterov: expected 0 or 1"),
        (with_entry("initializer_names", 0, "pytorc"), f"lecun_normal, got 'pytorc'. {OTHER_VERSION}"),
        ({"activation_names": ["swish"] * len(ACTIVATIONS)}, f"got 'swish'. {OTHER_VERSION}"),
        ({"hyperparameter_names": ["rho", *HYPERPARAMETERS[1:]]}, f"got 'rho'. {OTHER_VERSION}"),
    ],
)
def test_damaged_columns_are_refused_by_name(columns, message):
    with pytest.raises(FileFormatError, match=re.escape(message)):
        Specs.from_columns(changed(**columns))
