"""Digits that a cast loses: columns whose rows float32 can no longer tell apart are named before training.

A cast rounds. That matters where the rounding is no longer small beside how far the values of a column lie apart: unix
seconds of one day are rounded to 128 s, 400 row numbers near 1e9 to 7 different values. What is looked at is the
standard deviation of the rounding beside that of the column, over all rows of a table that is not large, else over some
drawn from it. Outliers must hide nothing: the same is asked of the middle half of the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.labels import Names, column_code, column_text

# Rounding of more than this share of a column's spread is refused.
_MOST_ROUNDING = 1e-3
# Floats that differ by less than this many units of their own rounding are a constant with noise of its computation.
_NOISE = 4096.0
# Whole numbers up to here have all their digits in a float64.
_WHOLE = 2.0**53
# Elements that are looked at, of at least so many rows; rows of which quartiles are taken; elements at a time.
_ELEMENTS, _FEWEST_ROWS, _QUARTILE_ROWS, _BLOCK = 1 << 17, 1024, 512, 1 << 17
# Targets of squares within the range of the dtype, with room for activations that multiply them in a gradient.
_ROOM = 256.0


@dataclass(frozen=True)
class Columns:
    """How errors speak of the columns of an argument.

    name: of the argument. original: what the caller handed over. names: of columns, where that has none.
    members: ids of members who have equally many columns each, one after the other. only: whether a single column is
    the argument itself.
    """

    name: str
    original: Any = None
    names: Names | None = None
    members: np.ndarray | None = None
    only: bool = False

    def text(self, column: int, count: int) -> str:
        """As "'age' (column 3)"; nothing where the column is the argument."""
        if self.members is not None:
            return f"those of member {self.members[column * len(self.members) // count]}"
        return "" if self.only and count == 1 else column_text(column, self.original, self.names)

    def code(self, column: int, count: int) -> str:
        """An expression for the column."""
        if self.members is not None:
            each = count // len(self.members)
            return f"{self.name}[{column // each}]" + (f"[:, {column % each}]" if each > 1 else "")
        return self.name if self.only and count == 1 else column_code(self.name, column, self.original)


def require_digits(given: np.ndarray, cast: np.ndarray, columns: Columns, read: np.ndarray | None = None) -> None:
    """Raise DataError where the cast of a column, (n, k) both, loses what distinguishes its rows.

    read: numbers of the columns that matter. Default None: all.
    """
    rows = _some_rows(*given.shape)
    if given.dtype.kind == "f" and not _is_array_of(columns.original, given.dtype):
        _require_whole_numbers(given, cast, columns, rows, read)
    if given.dtype.kind == "b" or _holds_all(given.dtype, cast.dtype):
        return
    for first, source, target in _blocks(given, cast, rows):
        lost = _lost(*_spread(source, target), source)
        lost |= (target == 0).all(axis=0) & (source != 0).any(axis=0)
        if read is not None:
            lost &= np.isin(np.arange(first, first + len(lost)), read)
        if lost.any():
            raise _error(given, cast, first + int(np.argmax(lost)), columns)


def require_range(y: np.ndarray, dtype: np.dtype, columns: Columns) -> None:
    """Raise DataError where the squares of targets, (n, k), don't fit the dtype: losses and gradients would be
    infinite, or 0."""
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
    """All rows, or numbers of some, the same each time; in no order that a table could have."""
    count = max(_FEWEST_ROWS, _ELEMENTS // max(1, k))
    return slice(None) if n <= count else np.sort(np.random.default_rng(0).integers(0, n, count))


def _blocks(
    given: np.ndarray, cast: np.ndarray, rows: np.ndarray | slice
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(first column, some columns of both) of these rows, some columns at a time."""
    count = len(given) if isinstance(rows, slice) else len(rows)
    step = max(1, _BLOCK // count)
    for first in range(0, given.shape[1], step):
        columns = slice(first, first + step)
        yield first, given[rows, columns], cast[rows, columns]


def _holds_all(source: np.dtype, target: np.dtype) -> bool:
    """Whether the target dtype holds every value of the source. (NumPy calls int64 to float64 safe.)"""
    return np.can_cast(source, target, "safe") and not (source.kind in "iu" and source.itemsize == 8)


def _spread(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, less a constant of the column, what rounding adds to them), float64 of shape (n, k)."""
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
    """For each column whether rounding takes more of its spread than it may. source: values as they came, where some of
    their digits may be noise."""
    step = -(-len(apart) // _QUARTILE_ROWS)
    with np.errstate(all="ignore"):
        some = np.sort(apart[::step].T, axis=1)
        width = some[:, -1 - some.shape[1] // 4] - some[:, some.shape[1] // 4]
        largest = np.abs(rounding).max(axis=0)
        lost = largest > _MOST_ROUNDING * np.minimum(apart.std(axis=0), width)
        # Few columns come so far.
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
    return bool(spread > noise and rounding > _MOST_ROUNDING * spread)


def _deviation(values: np.ndarray) -> float:
    """The standard deviation, of values scaled to 1: no square over- or underflows."""
    unit = float(np.abs(values).max())
    return float((values / unit).std()) * unit if unit > 0 else 0.0


def _noise(column: np.ndarray) -> float:
    """By which share of its size a constant may seem to vary; 0 where all values are whole numbers."""
    if column.dtype.kind != "f" or bool((column == np.floor(column)).all()):
        return 0.0
    return _NOISE * float(np.finfo(column.dtype).eps)


def _is_array_of(original: Any, dtype: np.dtype) -> bool:
    return type(original) is np.ndarray and original.dtype == dtype


def _require_whole_numbers(
    given: np.ndarray, cast: np.ndarray, columns: Columns, rows: np.ndarray | slice, read: np.ndarray | None
) -> None:
    """Raise DataError where whole numbers beyond 2**53 (in lists, objects, or frames of several dtypes) have lost their
    digits already on the way to float64."""
    with np.errstate(all="ignore"):
        large = np.abs(given[rows]).max(axis=0) > _WHOLE
    for column in np.flatnonzero(large).tolist():
        if read is not None and column not in read:
            continue
        cells = _cells(columns.original, column, given.shape)
        if cells is None or not all(isinstance(cell, (int, np.integer)) for cell in cells[rows].tolist()):
            continue
        whole = [int(cell) for cell in cells[rows].tolist()]
        least = min(whole)
        apart = np.array([float(cell - least) for cell in whole])[:, None]
        rounded = cast[rows, column].astype(np.float64) - float(cast.dtype.type(float(least)))
        if _lost(apart, apart - rounded[:, None]).any():
            raise _error(given, cast, column, columns, cells)


def _cells(original: Any, column: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """A column as it was handed over, objects; None where that can't be had."""
    try:
        if hasattr(original, "iloc") and getattr(original, "ndim", 0) == 2:
            return np.asarray(original.iloc[:, column], object)
        return np.asarray(original, object).reshape(shape)[:, column]
    except (TypeError, ValueError):
        return None


def _error(
    given: np.ndarray, cast: np.ndarray, column: int, columns: Columns, cells: np.ndarray | None = None
) -> DataError:
    """The error about a column; cells: its values where `given` has lost them."""
    source, target, dtype = given[:, column] if cells is None else cells, cast[:, column], cast.dtype
    text, code = columns.text(column, given.shape[1]), columns.code(column, given.shape[1])
    before, after = len(np.unique(source)), len(np.unique(target))
    got = f"{after:,} {'value' if after == 1 else 'different values'} left of {before:,}"
    held = source.dtype.kind in "fiu" and source.dtype.itemsize <= 8
    if source.dtype.kind != "f":
        held = held and bool((np.abs(source) <= _WHOLE).all())
    wide = ' Or make the pool with dtype="float64".' if held and dtype == np.float32 else ""
    shift = f"the least first, {code} - {code}.min()"
    if held and _least_is_far(source):
        shift = f"the median first, {code} - np.median({code})"
    hint = f"Subtract {shift}, and scale what is left."
    if not target.any():
        got = f"0 for {before:,} {'value' if before == 1 else 'different values'}"
        hint = f"Scale first: {code} / np.abs({code}).max()."
    got += f" in {text}" if text else ""
    return DataError(compose(columns.name, f"values that {dtype.name} can tell apart", got, hint + wide))


def _least_is_far(column: np.ndarray) -> bool:
    """Whether the least value lies far from the middle half of them: taken as a start, it would be no help."""
    lower, upper = np.percentile(column.astype(np.float64), [25, 75])
    return bool(upper > lower and lower - float(column.min()) > (upper - lower) / _MOST_ROUNDING)
