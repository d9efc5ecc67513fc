"""The columns of a table of specs: dtypes, ragged rows, and validated reading from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np

from pmlp_np.base.errors import FileFormatError, SpecError, compose, show
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, hyperparameter_names, hyperparameter_range
from pmlp_np.formulas.options import OPTIONS, Range, default_row

# A layer between two layers of this width has 2^48 weights: no member of realistic depth overflows a 64-bit count.
MAX_WIDTH = 2**24

COLUMNS: dict[str, type] = {
    "width_offsets": np.int64,
    "widths": np.int32,
    "activations": np.int16,
    "bias": np.bool_,
    "initializer": np.int16,
    "optimizer": np.int16,
    "hyperparameters": np.float64,
    "options": np.float64,
    "batch_size": np.int64,
    "seed": np.uint64,
    "has_seed": np.bool_,
}
PER_LAYER = ("widths", "activations")
_NAMED: dict[str, tuple[str, Mapping[str, Any]]] = {
    "activations": ("activation_names", ACTIVATIONS),
    "initializer": ("initializer_names", INITIALIZERS),
    "optimizer": ("optimizer_names", OPTIMIZERS),
}
_KINDS = {"b": "truth", "i": "whole", "u": "whole", "f": "number"}
_OTHER_VERSION = "It was written by a version of pmlp_np that has other formulas: read it with that one."
_DAMAGED = "The file is damaged."


def gather(flat: np.ndarray, offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Select ragged rows by `index`. Returns (their elements in one array, their offsets)."""
    starts, lengths = offsets[:-1][index], np.diff(offsets)[index]
    new_offsets = np.concatenate([[0], np.cumsum(lengths)])
    elements = np.arange(new_offsets[-1]) + np.repeat(starts - new_offsets[:-1], lengths)
    return flat[elements], new_offsets


def inside(limits: Range, values: np.ndarray) -> np.ndarray:
    """Return a mask of the values within the limits; NaN is outside."""
    above = values > limits.low if limits.open_low else values >= limits.low
    return above & (values < limits.high)


def is_switch(hyperparameter: str) -> bool:
    """Return whether a hyperparameter is a boolean."""
    return any(isinstance(getattr(cls, hyperparameter, None), bool) for cls in OPTIMIZERS.values())


def _default_rows() -> np.ndarray:
    """Return default hyperparameters, float64, one row per optimizer; 0 for hyperparameters that an optimizer lacks."""
    rows = np.zeros((len(OPTIMIZERS), len(HYPERPARAMETERS)))
    for row, cls in zip(rows, OPTIMIZERS.values(), strict=True):
        for field in fields(cls):
            row[HYPERPARAMETERS.index(field.name)] = getattr(cls, field.name)
    return rows


def name_tables() -> dict[str, np.ndarray]:
    """Return arrays of names: the meaning of codes and columns in this version."""
    tables = {key: np.array(list(table)) for key, table in _NAMED.values()}
    tables |= {"hyperparameter_names": np.array(HYPERPARAMETERS), "option_names": np.array(list(OPTIONS))}
    return tables | {f"{name}_names": np.array(option.choices) for name, option in OPTIONS.items() if option.choices}


def read(columns: Mapping[str, Any], copy: bool = True) -> dict[str, np.ndarray]:
    """Convert columns and name tables of any version to columns of this version, with every value checked.

    A single row of options may stand for all members. copy: False uses the arrays without a copy, and may change them.

    Raises FileFormatError for a column that is missing or damaged, and for a name in use that this version lacks.
    """
    result = {name: _as_type(columns, name, dtype, copy) for name, dtype in COLUMNS.items()}
    n, n_layers = len(result["bias"]), len(result["widths"])
    lengths = {"width_offsets": n + 1} | dict.fromkeys(PER_LAYER, n_layers)
    for name, column in result.items():
        length = 1 if name == "options" and len(column) == 1 else lengths.get(name, n)
        if len(column) != length or column.ndim != (2 if name in ("hyperparameters", "options") else 1):
            raise FileFormatError(compose(name, f"{length} entries", f"an array of shape {column.shape}", _DAMAGED))
    offsets = result["width_offsets"]
    if offsets[0] != 0 or offsets[-1] != n_layers or (np.diff(offsets) < 0).any():
        raise FileFormatError(compose("width_offsets", f"offsets that grow from 0 to {n_layers}", "others", _DAMAGED))
    for name, (key, table) in _NAMED.items():
        result[name] = _recode(result[name], _names(columns, key), table, name)
    result["seed"] = np.where(result["has_seed"], result["seed"], np.uint64(0))
    result["hyperparameters"] = _read_hyperparameters(columns, result["optimizer"], result["hyperparameters"])
    result["options"] = _read_options(columns, result["options"])
    if len(result["options"]) != n:
        result["options"] = np.broadcast_to(result["options"], (n, result["options"].shape[1]))
    member_of = np.repeat(np.arange(n), np.diff(offsets))
    bad = (result["widths"] < 1) | (result["widths"] > MAX_WIDTH)
    _refuse(member_of[bad], "hidden", f"widths from 1 to {MAX_WIDTH}")
    _refuse(np.flatnonzero(result["batch_size"] < 0), "batch_size", "at least 0")
    return result


def require_sound(columns: Mapping[str, np.ndarray]) -> None:
    """Raise SpecError unless these are the columns of one valid table: dtypes, shapes, widths, and known codes.

    `pm.grid` and similar functions make valid tables; a table that a user assembles may be invalid.
    """

    def refuse(name: str, expected: str, got: str) -> NoReturn:
        hint = "Make specs with pm.grid, pm.sample or pm.Specs.from_members."
        raise SpecError(compose(f"specs.{name}", expected, got, hint))

    n, n_layers = len(columns["bias"]), len(columns["widths"])
    shapes: dict[str, tuple[int, ...]] = {"width_offsets": (n + 1,), "widths": (n_layers,), "activations": (n_layers,)}
    shapes |= {"hyperparameters": (n, len(HYPERPARAMETERS)), "options": (n, len(OPTIONS))}
    for name, dtype in COLUMNS.items():
        shape, column = shapes.get(name, (n,)), columns[name]
        if column.dtype != dtype or column.shape != shape:
            expected = f"an array of shape {shape}, {np.dtype(dtype)}"
            refuse(name, expected, f"{column.shape}, {column.dtype}")
    offsets = columns["width_offsets"]
    if offsets[0] != 0 or offsets[-1] != n_layers or (np.diff(offsets) < 0).any():
        refuse("width_offsets", f"offsets that grow from 0 to {n_layers}", "others")
    ranges = {"widths": (1, MAX_WIDTH), "batch_size": (0, 2**63 - 1)}
    ranges |= {name: (0, len(table) - 1) for name, (_, table) in _NAMED.items()}
    for name, (low, high) in ranges.items():
        column = columns[name]
        if column.size and not low <= column.min() <= column.max() <= high:
            refuse(name, f"numbers from {low} to {high}", f"{column.min()} to {column.max()}")
    for name in ("hyperparameters", "options"):
        column = columns[name][:1] if not columns[name].strides[0] else columns[name]
        if not np.isfinite(column).all():
            refuse(name, "finite numbers", "others")
    for i, (name, option) in enumerate(OPTIONS.items()):
        if option.choices and n:
            codes = columns["options"][:, i]
            if not 0 <= codes.min() <= codes.max() < len(option.choices) or (codes != np.floor(codes)).any():
                refuse(f"options of {name}", f"whole numbers from 0 to {len(option.choices) - 1}", "others")


def _as_type(columns: Mapping[str, Any], name: str, dtype: type, copy: bool) -> np.ndarray:
    """Return a column in its dtype; refused unless every value survives the cast."""
    column = _column(columns, name)
    target = np.dtype(dtype)
    if not column.ndim or _KINDS.get(column.dtype.kind) != _KINDS[target.kind]:
        raise FileFormatError(compose(name, f"an array of {target}", f"one of {column.dtype}", _DAMAGED))
    cast = column.astype(target, copy=copy)
    if target.kind in "iu" and cast is not column and not np.array_equal(cast, column):
        raise FileFormatError(compose(name, f"numbers that {target} holds", "others", _DAMAGED))
    return cast


def _column(columns: Mapping[str, Any], name: str) -> np.ndarray:
    if name not in columns:
        existing = ", ".join(columns) or "none"
        raise FileFormatError(compose("columns", f"one called {name}", existing, _DAMAGED))
    return np.asarray(columns[name])


def _names(columns: Mapping[str, Any], key: str) -> list[str]:
    names = _column(columns, key)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise FileFormatError(compose(key, "a list of names", f"{names.dtype} of shape {names.shape}", _DAMAGED))
    return [str(name) for name in names.tolist()]


def _recode(codes: np.ndarray, names: list[str], table: Mapping[str, Any], column: str) -> np.ndarray:
    """Convert codes that are indices into `names` to indices into `table`."""
    if codes.size and not 0 <= codes.min() <= codes.max() < len(names):
        raise FileFormatError(compose(column, f"numbers from 0 to {len(names) - 1}", "others", _DAMAGED))
    numbers = {name: number for number, name in enumerate(table)}
    for code in np.unique(codes):
        if names[code] not in numbers:
            hint = " Register a custom activation first: pm.register_activation." if column == "activations" else ""
            expected = f"one of {', '.join(table)}"
            raise FileFormatError(compose(column, expected, show(names[code]), _OTHER_VERSION + hint))
    return np.array([numbers.get(name, 0) for name in names], codes.dtype)[codes]


def _read_hyperparameters(columns: Mapping[str, Any], optimizer: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return stored hyperparameters in this version's order; a hyperparameter newer than the file gets its default."""
    names = _names(columns, "hyperparameter_names")
    if stored.shape[1] != len(names):
        raise FileFormatError(compose("hyperparameters", f"{len(names)} columns", f"{stored.shape[1]}", _DAMAGED))
    values = stored if names == list(HYPERPARAMETERS) else _default_rows()[optimizer]
    for name, column in zip(names, stored.T, strict=True):
        if name in HYPERPARAMETERS:
            index = HYPERPARAMETERS.index(name)
            has = np.array([name in hyperparameter_names(cls) for cls in OPTIMIZERS.values()])[optimizer]
            values[:, index] = np.where(has, column, 0.0)
            limits = hyperparameter_range(name)
            good, expected = inside(limits, column), f"a finite number, {limits}"
            if is_switch(name):
                good, expected = (column == 0.0) | (column == 1.0), "0 or 1"
            _refuse(np.flatnonzero(has & ~good), name, expected)
        elif column.any():
            expected = f"one of {', '.join(HYPERPARAMETERS)}"
            raise FileFormatError(compose("hyperparameters", expected, show(name), _OTHER_VERSION))
    return values


def _read_options(columns: Mapping[str, Any], stored: np.ndarray) -> np.ndarray:
    """Return stored options in this version's order; an option newer than the file gets its default."""
    names = _names(columns, "option_names")
    if stored.shape[1] != len(names):
        raise FileFormatError(compose("options", f"{len(names)} columns", f"{stored.shape[1]}", _DAMAGED))
    values = stored if names == list(OPTIONS) else np.tile(default_row(), (len(stored), 1))
    for name, column in zip(names, stored.T, strict=True):
        option = OPTIONS.get(name)
        if option is None:
            if column.any():
                raise FileFormatError(compose("options", f"one of {', '.join(OPTIONS)}", show(name), _OTHER_VERSION))
            continue
        if option.choices:
            # A stored value that is no integer becomes an invalid code.
            is_whole = (column == np.floor(column)) & (np.abs(column) < 2**31)
            whole = np.where(is_whole, column, -1.0).astype(np.int64)
            table = dict.fromkeys(option.choices)
            column = _recode(whole, _names(columns, f"{name}_names"), table, name).astype(np.float64)
        elif option.limits is None:
            _refuse(np.flatnonzero((column != 0.0) & (column != 1.0)), name, "0 or 1")
        else:
            good = inside(option.limits, column) & (~np.array(option.whole) | (column == np.floor(column)))
            _refuse(np.flatnonzero(~good), name, f"a {'whole' if option.whole else 'finite'} number, {option.limits}")
        values[:, list(OPTIONS).index(name)] = column
    return values


def _refuse(members: np.ndarray, field: str, expected: str) -> None:
    """Raise FileFormatError about the first of these members, if any."""
    if members.size:
        raise FileFormatError(compose(f"member {members[0]}: {field}", expected, "another value", _DAMAGED))
