"""The array layer: namespaces (NumPy or CuPy), moving arrays between them, and aligned allocation."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, NewType

import numpy as np

from pmlp_np.base import errors
from pmlp_np.base.errors import DataError, compose

ALIGNMENT = 64

# 64-bit integer arguments of compiled code, apart from counts: memory addresses, and the bits of a float64.
Address = NewType("Address", int)
Bits = NewType("Bits", int)
# The null address: the array does not exist.
NOWHERE = Address(0)


def namespace(*values: Any) -> Any:
    """Return the module (numpy or cupy) of these arrays; plain numbers count as NumPy's."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(value, cupy.ndarray) for value in values):
        return cupy
    return np


def device_namespace(device: str) -> Any:
    """Return the array module of a device: numpy for "cpu", cupy for "gpu".

    Raises DataError where there is no CuPy or no GPU.
    """
    if device == "cpu":
        return np
    try:
        import cupy
    except ImportError:
        hint = (
            "Install the package that fits your CUDA version (pip install cupy-cuda12x, or cupy-cuda13x), or train on"
            " the CPU (backend='numba'; pm.load(path, backend='numba'))."
        )
        raise DataError(compose("device", "an installed CuPy for 'gpu'", "none", hint)) from None
    if not cupy.cuda.is_available():
        raise DataError(
            compose("device", "a GPU that CuPy can use", "none", "Check nvidia-smi, or take backend='numba'.")
        )
    return cupy


def to_numpy(array: Any) -> np.ndarray:
    """Return the array in main memory."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def address(array: np.ndarray) -> Address:
    """Return the address of a NumPy array's first element.

    The usual `array.ctypes.data` takes three times as long.
    """
    try:
        return Address(ctypes.addressof(ctypes.c_char.from_buffer(array)))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, not contiguous, or empty
        return Address(int(array.__array_interface__["data"][0]))


def free_memory(xp: Any) -> int:
    """Return the free bytes of this module's memory: main memory, or the GPU's."""
    if xp is np:
        return errors.free_memory()
    return int(xp.cuda.Device().mem_info[0]) + int(xp.get_default_memory_pool().free_bytes())


def allocate(n: int, dtype: np.dtype, xp: Any = np) -> Any:
    """Return n uninitialized elements, aligned to a cache line (CuPy aligns more widely by itself).

    All memory that kernels write comes from here.
    """
    if xp is not np:
        return xp.empty(n, dtype)
    dtype = np.dtype(dtype)
    spare = ALIGNMENT // dtype.itemsize
    block = np.empty(n + spare, dtype)
    start = (-block.ctypes.data % ALIGNMENT) // dtype.itemsize
    return block[start : start + n]


def in_turn(values: Any) -> Any:
    """Sum over axis 0, one after another."""
    total = namespace(values).zeros_like(values[0])
    for each in values:
        total += each
    return total


def segment_sum(values: Any, starts: Any) -> Any:
    """Sum over neighboring columns: (rows, columns) -> (rows, segments), in the dtype of values.

    Segment i has the columns starts[i] ... starts[i + 1] - 1; the last segment ends at the last column; no segment is
    empty. A NaN stays in its segment.
    """
    xp = namespace(values)
    if xp is np:
        return np.add.reduceat(values, starts, axis=1)
    # CuPy's add.reduceat subtracts running sums: a NaN would reach all later segments.
    n_rows, n_columns = values.shape
    stops = xp.append(starts[1:], n_columns)
    return _segment_sum_kernel(xp)(values, xp.arange(n_rows).reshape(-1, 1) * n_columns, starts, stops)


@cache
def _segment_sum_kernel(cupy: Any) -> Any:
    return cupy.ElementwiseKernel(
        "raw T values, int64 row, int64 start, int64 stop",
        "T total",
        "total = 0; for (long long i = start; i < stop; ++i) total += values[row + i];",
        "pmlp_np_segment_sum",
    )
