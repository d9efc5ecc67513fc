"""Precision lost in a cast: a column with rows that float32 cannot distinguish is refused before training.

A cast rounds. Rounding matters if it is not small compared with the spread of a column: unix seconds of one day are
rounded to 128 s, 400 row numbers near 1e9 to 7 different values. The standard deviation of the rounding error is
compared with that of the column, over all rows of a small table, or over a random sample of rows. Since outliers
increase the spread, the middle half of the values is compared in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.labels import Names, column_code, column_text

# A rounding error of more than this fraction of a column's spread is refused.
_MOST_ROUNDING = 1e-3
# Floats that differ by less than this many units of rounding are a constant with noise from its computation.
_NOISE = 4096.0
# float64 represents all integers up to this one exactly.
_WHOLE = 2.0**53
# Elements in the sample, its fewest rows, the rows for quartiles, and elements per block.
_ELEMENTS, _FEWEST_ROWS, _QUARTILE_ROWS, _BLOCK = 1 << 17, 1024, 512, 1 << 17
# Squares of targets must fit the dtype with this much room, because gradients multiply them by activations.
_ROOM = 256.0


@dataclass(frozen=True)
class Columns:
    """Names of an argument's columns, for errors.

    name: of the argument. original: the user's object. names: of columns, if `original` has none.
    members: ids of members, if the columns are those of each member in turn, equally many for each. only: whether a
        single column is the argument itself.
    """

    name: str
    original: Any = None
    names: Names | None = None
    members: np.ndarray | None = None
    only: bool = False

    def text(self, column: int, count: int) -> str:
        """Describe a column: "'age' (column 3)"; "" if the column is the argument itself."""
        if self.members is not None:
            return f"those of member {self.members[column * len(self.members) // count]}"
        return "" if self.only and count == 1 else column_text(column, self.original, self.names)

    def code(self, column: int, count: int) -> str:
        """Return code that selects the column."""
        if self.members is not None:
            n_columns = count // len(self.members)
            return f"{self.name}[{column // n_columns}]" + (f"[:, {column % n_columns}]" if n_columns > 1 else "")
        return self.name if self.only and count == 1 else column_code(self.name, column, self.original)


def require_digits(values: np.ndarray, cast: np.ndarray, columns: Columns, read: np.ndarray | None = None) -> None:
    """Raise DataError where a cast loses the differences between the rows of a column.

    values, cast: (n, k), before and after the cast. read: numbers of the columns that members read. Default None: all.
    """
    rows = _some_rows(*values.shape)
    if values.dtype.kind == "f" and not _is_array_of(columns.original, values.dtype):
        _require_whole_numbers(values, cast, columns, rows, read)
    if values.dtype.kind == "b" or _holds_all(values.dtype, cast.dtype):
        return
    for first, source, target in _blocks(values, cast, rows):
        lost = _lost(*_spread(source, target), source)
        lost |= (target == 0).all(axis=0) & (source != 0).any(axis=0)
        if read is not None:
            lost &= np.isin(np.arange(first, first + len(lost)), read)
        if lost.any():
            raise _error(values, cast, first + int(np.argmax(lost)), columns)


def require_range(y: np.ndarray, dtype: np.dtype, columns: Columns) -> None:
    """Raise DataError where squares of targets, (n, k), overflow or underflow in the dtype.

    Losses and gradients would be infinite, or 0.
    """
    ends = np.stack([np.fmin.reduce(y, axis=0), np.fmax.reduce(y, axis=0)]).astype(np.float64)
    largest = np.abs(ends).max(axis=0)
    limits = np.finfo(dtype)
    least, most = float(np.sqrt(limits.tiny)), float(np.sqrt(limits.max)) / _ROOM
    bad = np.isfinite(largest) & ((largest > most) | ((largest > 0) & (largest < least)))
    if bad.any():
        column, count = int(np.argmax(bad)), y.shape[1]
        text, code = columns.text(column, count), columns.code(column, count)
        got = f"magnitudes of up to {largest[column]:.3g}" + (f" in {text}" if text else "")
        expected = f"targets whose squares {dtype.name} can hold: magnitudes from {least:.0e} to {most:.0e}"
        constant = ends[0, column] == ends[1, column]
        scaled = f"{code} / np.abs({code}).max()" if constant else f"({code} - {code}.mean()) / {code}.std()"
        raise DataError(compose(columns.name, expected, got, f"Scale them: {scaled}."))


def _some_rows(n: int, k: int) -> np.ndarray | slice:
    """Return all rows of a small table, or the sorted numbers of a fixed random sample.

    A random sample cannot coincide with a pattern in the table.
    """
    count = max(_FEWEST_ROWS, _ELEMENTS // max(1, k))
    return slice(None) if n <= count else np.sort(np.random.default_rng(0).integers(0, n, count))


def _blocks(
    values: np.ndarray, cast: np.ndarray, rows: np.ndarray | slice
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (first column's number, columns of `values`, columns of `cast`) for blocks of columns of these rows."""
    count = len(values) if isinstance(rows, slice) else len(rows)
    step = max(1, _BLOCK // count)
    for first in range(0, values.shape[1], step):
        columns = slice(first, first + step)
        yield first, values[rows, columns], cast[rows, columns]


def _holds_all(source: np.dtype, target: np.dtype) -> bool:
    """Return whether the target dtype represents every value of the source.

    Stricter than NumPy, which calls int64 to float64 safe.
    """
    return np.can_cast(source, target, "safe") and not (source.kind in "iu" and source.itemsize == 8)


def _spread(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (values minus a constant per column, their rounding errors), float64 of shape (n, k)."""
    with np.errstate(all="ignore"):
        if source.dtype.kind in "iu":
            # Differences of 64-bit numbers in 64-bit arithmetic that wraps around: exact, before any rounding.
            least = source.min(axis=0)
            apart = (source.astype(np.uint64) - least.astype(np.uint64)).astype(np.float64)
            rounded = target.astype(np.float64) - least.astype(target.dtype).astype(np.float64)
            return apart, apart - rounded
        rounding = (source - target.astype(source.dtype)).astype(np.float64)
        apart = source if source.dtype.itemsize <= 8 else source - source[0]
        return apart.astype(np.float64), rounding


def _lost(apart: np.ndarray, rounding: np.ndarray, source: np.ndarray | None = None) -> np.ndarray:
    """Return for each column whether rounding loses too much of the spread.

    source: the values before the cast, if some of their digits may be noise.
    """
    step = -(-len(apart) // _QUARTILE_ROWS)
    with np.errstate(all="ignore"):
        some = np.sort(apart[::step].T, axis=1)
        width = some[:, -1 - some.shape[1] // 4] - some[:, some.shape[1] // 4]
        largest = np.abs(rounding).max(axis=0)
        lost = largest > _MOST_ROUNDING * np.minimum(apart.std(axis=0), width)
        # Only few columns need the slower, exact comparison.
        for column in np.flatnonzero(lost).tolist():
            moved, noise = rounding[:, column], 0.0
            magnitudes = np.zeros(1)
            if source is not None:
                magnitudes, noise = np.abs(source[:, column].astype(np.float64)), _noise(source[:, column])
            lost[column] = _beyond(_deviation(moved), _deviation(apart[:, column]), noise * magnitudes.max())
            middle = moved[::step]
            half = np.median(np.abs(middle - np.median(middle)))
            lost[column] |= _beyond(half, width[column], noise * np.median(magnitudes))
    return lost


def _beyond(rounding: float, spread: float, noise: float) -> bool:
    """Return whether rounding is too large for a spread that is more than noise."""
    return bool(spread > noise and rounding > _MOST_ROUNDING * spread)


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation, computed of values scaled to 1, so that no square over- or underflows."""
    unit = float(np.abs(values).max())
    return float((values / unit).std()) * unit if unit > 0 else 0.0


def _noise(column: np.ndarray) -> float:
    """Return the fraction of its size by which a constant may vary by rounding; 0 if all values are integers."""
    if column.dtype.kind != "f" or bool((column == np.floor(column)).all()):
        return 0.0
    return _NOISE * float(np.finfo(column.dtype).eps)


def _is_array_of(original: Any, dtype: np.dtype) -> bool:
    return type(original) is np.ndarray and original.dtype == dtype


def _require_whole_numbers(
    values: np.ndarray, cast: np.ndarray, columns: Columns, rows: np.ndarray | slice, read: np.ndarray | None
) -> None:
    """Raise DataError where integers beyond 2**53 lost digits in a conversion to float64 before the cast.

    The conversion happens in lists, object arrays, and frames of several dtypes.
    """
    with np.errstate(all="ignore"):
        large = np.abs(values[rows]).max(axis=0) > _WHOLE
    for column in np.flatnonzero(large).tolist():
        if read is not None and column not in read:
            continue
        cells = _cells(columns.original, column, values.shape)
        if cells is None or not all(isinstance(cell, (int, np.integer)) for cell in cells[rows].tolist()):
            continue
        whole = [int(cell) for cell in cells[rows].tolist()]
        least = min(whole)
        apart = np.array([float(cell - least) for cell in whole])[:, None]
        rounded = cast[rows, column].astype(np.float64) - float(cast.dtype.type(float(least)))
        if _lost(apart, apart - rounded[:, None]).any():
            raise _error(values, cast, column, columns, cells)


def _cells(original: Any, column: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a column of the user's object as an object array; None if it cannot be read."""
    try:
        if hasattr(original, "iloc") and getattr(original, "ndim", 0) == 2:
            return np.asarray(original.iloc[:, column], object)
        return np.asarray(original, object).reshape(shape)[:, column]
    except (TypeError, ValueError):
        return None


def _error(
    values: np.ndarray, cast: np.ndarray, column: int, columns: Columns, cells: np.ndarray | None = None
) -> DataError:
    """Return the error about a column. cells: its values, if `values` lost their digits."""
    source, target, dtype = values[:, column] if cells is None else cells, cast[:, column], cast.dtype
    text, code = columns.text(column, values.shape[1]), columns.code(column, values.shape[1])
    before, after = len(np.unique(source)), len(np.unique(target))
    got = f"{after:,} {'value' if after == 1 else 'different values'} left of {before:,}"
    exact = source.dtype.kind in "fiu" and source.dtype.itemsize <= 8
    if source.dtype.kind != "f":
        exact = exact and bool((np.abs(source) <= _WHOLE).all())
    wide = ' Or make the pool with dtype="float64".' if exact and dtype == np.float32 else ""
    shift = f"the least first, {code} - {code}.min()"
    if exact and _least_is_far(source):
        shift = f"the median first, {code} - np.median({code})"
    hint = f"Subtract {shift}, and scale what is left."
    if not target.any():
        got = f"0 for {before:,} {'value' if before == 1 else 'different values'}"
        hint = f"Scale first: {code} / np.abs({code}).max()."
    got += f" in {text}" if text else ""
    return DataError(compose(columns.name, f"values that {dtype.name} can tell apart", got, hint + wide))


def _least_is_far(column: np.ndarray) -> bool:
    """Return whether the minimum lies far from the middle half of the values; subtracting it would not help then."""
    lower, upper = np.percentile(column.astype(np.float64), [25, 75])
    return bool(upper > lower and lower - float(column.min()) > (upper - lower) / _MOST_ROUNDING)
