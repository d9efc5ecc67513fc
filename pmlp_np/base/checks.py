"""Checks of plain arguments: each returns the value as it is used, or raises a DataError that names the argument."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show

DTYPES = ("float32", "float64")
# Elements that are looked at together.
_PART = 1 << 20


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, Python's or NumPy's, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is an integer that a float can hold, or a float, Python's or NumPy's, and not NaN."""
    if is_whole(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, (float, np.floating)) and not np.isnan(value)


def whole(name: str, value: Any, least: int, below: int = 2**31) -> int:
    """An integer from `least` up to but not including `below`."""
    if not is_whole(value) or not least <= value < below:
        raise DataError(compose(name, f"a whole number from {least:,} to {below - 1:,}", show(value)))
    return int(value)


def dtype(value: Any) -> np.dtype:
    """float32 or float64, in this machine's byte order."""
    try:
        found = np.dtype(value)
    except TypeError:
        found = np.dtype(object)
    if found.name not in DTYPES or not found.isnative:
        raise DataError(compose("dtype", " or ".join(map(repr, DTYPES)), show(value)))
    return found


def whole_array(value: Any) -> np.ndarray | None:
    """An array of integers as int64; None for anything else, masked entries among it."""
    if np.ma.is_masked(value):
        return None
    try:
        found = np.asarray(value)
    except ValueError:
        return None
    if found.dtype.kind not in "iu" or (found > np.iinfo(np.int64).max).any():
        return None
    return found.astype(np.int64)


def numbers(name: str, value: Any) -> np.ndarray:
    """Real numbers as an array, of any type that holds such; not a copy where the value is one."""
    try:
        found = np.asarray(value)
    except Exception as error:  # whatever an object raises that can't become an array
        raise DataError(compose(name, "an array of numbers", show(value))) from error
    if found.dtype.kind not in "fiub":
        raise DataError(compose(name, "an array of real numbers", f"one of {found.dtype}"))
    if np.ma.is_masked(value):
        raise DataError(compose(name, "an array of numbers", "one of which some are masked"))
    return found


def all_finite(array: np.ndarray) -> bool:
    """Whether all are numbers, neither NaN nor infinite; without a mask as large as the array."""
    flat = array.reshape(-1)
    return all(bool(np.isfinite(flat[start : start + _PART]).all()) for start in range(0, len(flat), _PART))


def ids(value: Any, n: int) -> np.ndarray:
    """n distinct ids, (n,) int64; None stands for 0 ... n - 1."""
    if value is None:
        return np.arange(n, dtype=np.int64)
    found = whole_array(value)
    if found is None or found.shape != (n,) or (found < 0).any() or len(np.unique(found)) != n:
        raise DataError(compose("ids", f"{n} distinct whole numbers, at least 0", show(value)))
    return found


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements may lie in the same place, as only strides of a caller's own make them."""
    extent = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True)):
        if length > 1 and stride < extent:
            return True
        extent = max(extent, stride * (length - 1) + extent)
    return False


def out(value: Any, shape: tuple[int, ...], dtype: np.dtype, result: np.ndarray | None = None) -> np.ndarray:
    """An array to write to, of this shape and dtype; it receives `result` where one is given."""
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype or not value.flags.writeable:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else show(value)
        raise DataError(compose("out", f"a writable array of shape {shape}, {dtype}", got))
    if np.ma.is_masked(value):
        raise DataError(compose("out", "an array without masked entries", "some masked", "Hand over out.data."))
    if _overlaps_itself(value):
        expected = "an array whose elements lie in different places"
        raise DataError(compose("out", expected, f"strides {value.strides}", "Make one with np.empty."))
    if result is not None:
        value[...] = result
    return value
