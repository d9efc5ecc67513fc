"""Checks of plain arguments. Each returns the validated value or raises a DataError that names the argument."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show

DTYPES = ("float32", "float64")
# Elements that are checked at once.
_PART = 1 << 20


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a float or an integer (of Python or NumPy) that fits a float, and not NaN."""
    if is_whole(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, (float, np.floating)) and not np.isnan(value)


def whole(name: str, value: Any, least: int, below: int = 2**31) -> int:
    """Return a validated integer from `least` up to but not including `below`."""
    if not is_whole(value) or not least <= value < below:
        raise DataError(compose(name, f"a whole number from {least:,} to {below - 1:,}", show(value)))
    return int(value)


def dtype(value: Any) -> np.dtype:
    """Return float32 or float64, in this machine's byte order."""
    try:
        result = np.dtype(value)
    except TypeError:
        result = np.dtype(object)
    if result.name not in DTYPES or not result.isnative:
        raise DataError(compose("dtype", " or ".join(map(repr, DTYPES)), show(value)))
    return result


def whole_array(value: Any) -> np.ndarray | None:
    """Return an array of integers as int64; None for anything else, masked entries included."""
    if np.ma.is_masked(value):
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "iu" or (array > np.iinfo(np.int64).max).any():
        return None
    return array.astype(np.int64)


def numbers(name: str, value: Any) -> np.ndarray:
    """Return real numbers as an array, of any dtype that holds real numbers; no copy if the value is an array."""
    try:
        array = np.asarray(value)
    except Exception as error:  # an object that can't become an array may raise anything
        raise DataError(compose(name, "an array of numbers", show(value))) from error
    if array.dtype.kind not in "fiub":
        raise DataError(compose(name, "an array of real numbers", f"one of {array.dtype}"))
    if np.ma.is_masked(value):
        raise DataError(compose(name, "an array of numbers", "masked entries"))
    return array


def all_finite(array: np.ndarray) -> bool:
    """Return whether no element is NaN or infinite; needs no mask as large as the array."""
    flat = array.reshape(-1)
    return all(bool(np.isfinite(flat[start : start + _PART]).all()) for start in range(0, len(flat), _PART))


def ids(value: Any, n: int) -> np.ndarray:
    """Return n distinct ids, (n,) int64; None stands for 0 ... n - 1."""
    if value is None:
        return np.arange(n, dtype=np.int64)
    result = whole_array(value)
    if result is None or result.shape != (n,) or (result < 0).any() or len(np.unique(result)) != n:
        raise DataError(compose("ids", f"{n} distinct whole numbers, at least 0", show(value)))
    return result


def _overlaps_itself(array: np.ndarray) -> bool:
    """Return whether elements may share memory, as in arrays with custom strides."""
    extent = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True)):
        if length > 1 and stride < extent:
            return True
        extent = max(extent, stride * (length - 1) + extent)
    return False


def out(value: Any, shape: tuple[int, ...], dtype: np.dtype, result: np.ndarray | None = None) -> np.ndarray:
    """Return a validated array to write to, of this shape and dtype; `result`, if given, is copied into it."""
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype or not value.flags.writeable:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else show(value)
        raise DataError(compose("out", f"a writable array of shape {shape}, {dtype}", got))
    if np.ma.is_masked(value):
        raise DataError(compose("out", "an array without masked entries", "some masked", "Hand over out.data."))
    if _overlaps_itself(value):
        expected = "an array whose elements do not overlap"
        raise DataError(compose("out", expected, f"strides {value.strides}", "Make one with np.empty."))
    if result is not None:
        value[...] = result
    return value
