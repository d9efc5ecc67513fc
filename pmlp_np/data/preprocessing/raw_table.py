"""Raw tables: the columns of an array or a data frame as numbers, dates or texts, missing cells included.

Numbers are float64, and NaN stands for a missing cell; dates are days since 1970-01-01 in the same form; categories are
texts, and None stands for a missing cell. Booleans are the numbers 0 and 1, durations are days.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.containers import require_plain
from pmlp_np.data.labels import columns_of, distinct_names

NUMBER, DATE, CATEGORY = "number", "date", "category"
_DAY = np.timedelta64(1, "D")
# Types whose names stand for a missing cell; pandas need not be imported for them.
_MISSING_TYPES = ("NAType", "NaTType", "NoneType")
# Types of cells that NumPy compares as they are.
_PLAIN_TYPES = {str, int, float, bool, NoneType}


@dataclass(frozen=True)
class RawColumn:
    """A column: its name in texts, its kind (NUMBER, DATE or CATEGORY), and its cells, (n,) float64 or objects."""

    name: str
    kind: str
    cells: np.ndarray

    @cached_property
    def coded(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The cells of a column of categories as numbers: (codes (n,) int64, the texts that they stand for).

        -1 stands for a missing cell.
        """
        numbers: dict[Any, int] = {None: -1}
        codes = np.array([numbers.setdefault(cell, len(numbers) - 1) for cell in self.cells.tolist()], np.int64)
        return codes, tuple(numbers)[1:]


def raw_columns(X: Any, kinds: Sequence[str] | None = None) -> list[RawColumn]:
    """Return the columns of X.

    X: a two-dimensional array or list, or a data frame (pandas, polars, PyArrow).
    kinds: the kind of each column, as training rows had it. Default None: categories where the frame says so, else as
        the cells are.

    Raises DataError for what is no table, for infinite numbers, and for cells that don't have the expected kind.
    """
    require_plain(X, "X")
    names = distinct_names(X)
    columns = list(_columns_of(X))
    if not columns:
        raise DataError(compose("X", "at least one column", "0 feature(s) (shape with 0 columns)"))
    if not len(columns[0]):
        raise DataError(compose("X", "at least one row", "0 sample(s)"))
    if kinds is not None and len(kinds) != len(columns):
        got = f"X has {len(columns)} features, but this model is expecting {len(kinds)} features as input"
        raise DataError(compose("X", f"{len(kinds)} columns, as in training", got))
    result = []
    for i, cells in enumerate(columns):
        name = f"column {i}" if names is None else f"column {names[i]!r}"
        kind = None if kinds is None else kinds[i]
        found, values = _typed(f"{name} of X", cells, kind)
        result.append(RawColumn(str(i if names is None else names[i]), found, values))
    return result


def stacked(table: Sequence[RawColumn], below: Sequence[RawColumn]) -> list[RawColumn]:
    """Return a table with the rows of another one, of the same kinds of columns, below its own."""
    return [
        RawColumn(column.name, column.kind, np.concatenate([column.cells, more.cells]))
        for column, more in zip(table, below, strict=True)
    ]


def part(table: Sequence[RawColumn], rows: Any) -> list[RawColumn]:
    """Return some rows of a table: row numbers, a mask or a slice."""
    return [RawColumn(column.name, column.kind, column.cells[rows]) for column in table]


def is_missing(cell: Any) -> bool:
    """Whether a cell of any type stands for a missing one."""
    if cell is None or type(cell).__name__ in _MISSING_TYPES:
        return True
    return bool(isinstance(cell, (float, np.floating, np.datetime64, np.timedelta64)) and cell != cell)


def _columns_of(X: Any) -> Iterator[Any]:
    """Yield each column as an array, or as the frame's own column."""
    if columns_of(X) is not None:
        if hasattr(X, "iloc"):
            yield from (X.iloc[:, i] for i in range(X.shape[1]))
        elif hasattr(X, "get_columns"):
            yield from X.get_columns()
        else:
            yield from X.itercolumns()
        return
    array = np.asarray(X) if not isinstance(X, np.ndarray) else X
    if array.dtype.kind == "U" and not isinstance(X, np.ndarray):
        # NumPy made texts of a list's numbers.
        array = np.asarray(X, dtype=object)
    if array.ndim != 2:
        hint = "Reshape your data: X.reshape(-1, 1) if it is a single feature, X.reshape(1, -1) if it is a single row."
        raise DataError(compose("X", "a table (2 dimensions)", f"{array.ndim} dimension(s)", hint))
    yield from array.T


def _typed(name: str, cells: Any, kind: str | None) -> tuple[str, np.ndarray]:
    """Return (kind, cells) of a column. kind: the expected one, or None."""
    array = _as_array(cells)
    if array.dtype.kind == "c":
        hint = "Hand over real and imaginary parts as separate columns."
        raise DataError(compose(name, "real numbers", "Complex data not supported", hint))
    if array.dtype.kind == "O":
        found = _kind_of_objects(name, array)
    else:
        found = {"M": DATE}.get(array.dtype.kind, NUMBER if array.dtype.kind in "biufm" else CATEGORY)
    missing = _missing(array)
    if kind == CATEGORY or (kind is None and _is_categorical(cells)):
        return CATEGORY, _texts(array, missing)
    if kind is not None and kind != found and not missing.all():
        first = array[int(np.argmin(missing))]
        raise DataError(compose(name, f"{kind}s, as in training", f"{show(first)} (a {found})"))
    if found == CATEGORY:
        return kind or found, _texts(array, missing)
    numbers_of = _days if (kind or found) == DATE else _numbers
    values = np.full(len(array), np.nan)
    if not missing.all():
        values[~missing] = numbers_of(array[~missing])
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise DataError(compose(f"{name}, row {row}", "finite numbers", f"{values[row]} (inf or infinity)"))
    return kind or found, values


def _is_categorical(cells: Any) -> bool:
    """Whether a frame says that a column holds categories, which may be numbers."""
    dtype = type(getattr(cells, "dtype", None)).__name__
    return dtype in ("CategoricalDtype", "Categorical", "Enum") or str(getattr(cells, "type", "")).startswith(
        "dictionary"
    )


def _as_array(cells: Any) -> np.ndarray:
    """Return a column as an array: of a NumPy dtype where the frame's dtype is as wide as one, else of objects."""
    if isinstance(cells, np.ndarray):
        return cells
    dtype = getattr(cells, "dtype", None)
    if isinstance(dtype, np.dtype):
        return np.asarray(cells)
    if hasattr(cells, "to_pylist"):
        return _objects(cells.to_pylist())
    if hasattr(cells, "to_list"):
        return _objects(cells.to_list())
    return _objects(list(cells))


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _missing(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "O":
        cells = array.tolist()
        if set(map(type, cells)) <= _PLAIN_TYPES:
            # Much faster, and the same: of these only NaN is not itself.
            return np.asarray((array != array) | (array == np.array(None, object)), bool)
        return np.array([is_missing(cell) for cell in cells], bool)
    if array.dtype.kind in "fc":
        return np.isnan(array)
    return np.isnat(array) if array.dtype.kind in "mM" else np.zeros(len(array), bool)


def _kind_of_objects(name: str, array: np.ndarray) -> str:
    """Return the kind of a column of objects, all cells of which must be of one kind, or texts among others."""
    types = set(map(type, array.tolist()))
    if not types <= _PLAIN_TYPES:
        types = {type(cell) for cell in array if not is_missing(cell)}
    elif types & {float, NoneType} and str in types:
        types = {type(cell) for cell in array[~_missing(array)].tolist()}
    types.discard(NoneType)
    if all(issubclass(each, (numbers.Real, np.bool_, datetime.timedelta, np.timedelta64)) for each in types):
        return NUMBER
    if all(issubclass(each, (datetime.date, np.datetime64)) for each in types):
        return DATE
    for each in types:
        if issubclass(each, complex):
            raise DataError(compose(name, "real numbers", "Complex data not supported"))
        if not issubclass(each, (str, bytes, numbers.Real, np.bool_, datetime.date)):
            cell = next(cell for cell in array if isinstance(cell, each))
            expected = "numbers, dates or texts: argument must be a string or a number"
            raise DataError(compose(name, expected, show(cell)))
    return CATEGORY


def _texts(array: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return cells as texts, None for missing ones. Equal numbers of different types are one text."""
    result = np.empty(len(array), object)
    if array.dtype.kind == "O" and set(map(type, array[~missing].tolist())) <= {str}:
        result[~missing] = array[~missing]
        return result
    for i, cell in enumerate(array.tolist()):
        if missing[i]:
            continue
        if isinstance(cell, bytes):
            cell = cell.decode("utf-8", "replace")
        whole = isinstance(cell, numbers.Real) and not isinstance(cell, bool) and float(cell).is_integer()
        result[i] = str(int(cell)) if whole else str(cell)
    return result


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "m":
        return np.asarray(array / _DAY)
    if array.dtype.kind != "O":
        return array.astype(np.float64)
    seconds = 86400.0
    spans = [
        cell.total_seconds() / seconds if isinstance(cell, datetime.timedelta)
        else cell / _DAY if isinstance(cell, np.timedelta64)
        else float(cell)
        for cell in array
    ]  # fmt: skip
    return np.array(spans)


def _days(array: np.ndarray) -> np.ndarray:
    """Return dates as days since 1970; those with a time zone by UTC."""
    if array.dtype.kind == "O":
        array = np.array([_without_zone(cell) for cell in array], "datetime64[us]")
    return np.asarray((array.astype("datetime64[us]") - np.datetime64(0, "us")) / _DAY)


def _without_zone(cell: Any) -> Any:
    if isinstance(cell, datetime.datetime) and cell.tzinfo is not None:
        return np.datetime64(cell.astimezone(datetime.UTC).replace(tzinfo=None), "us")
    return np.datetime64(cell, "us")
