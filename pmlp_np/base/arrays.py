"""The array layer: which namespace (NumPy or CuPy) an array belongs to, moving between them, and aligned allocation."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, NewType

import numpy as np

from pmlp_np.base import errors
from pmlp_np.base.errors import DataError, compose

ALIGNMENT = 64

# What compiled code takes as 64-bit integers, apart from counts: where something lies, and the bits of a float64.
Address = NewType("Address", int)
Bits = NewType("Bits", int)
# The address of what there is none of.
NOWHERE = Address(0)


def namespace(*values: Any) -> Any:
    """The module (numpy or cupy) whose arrays these are; plain numbers count as NumPy's."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(value, cupy.ndarray) for value in values):
        return cupy
    return np


def device_namespace(device: str) -> Any:
    """The module whose arrays lie on a device: numpy for "cpu", cupy for "gpu". DataError where there is no GPU to
    use."""
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
    """The array in main memory."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def address(array: np.ndarray) -> Address:
    """Where a NumPy array's first element lies. The usual `array.ctypes.data` takes three times as long."""
    try:
        return Address(ctypes.addressof(ctypes.c_char.from_buffer(array)))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, in pieces, or empty
        return Address(int(array.__array_interface__["data"][0]))


def free_memory(xp: Any) -> int:
    """Bytes that are free where this module's arrays lie: in main memory, or on the GPU."""
    if xp is np:
        return errors.free_memory()
    return int(xp.cuda.Device().mem_info[0]) + int(xp.get_default_memory_pool().free_bytes())


def allocate(n: int, dtype: np.dtype, xp: Any = np) -> Any:
    """n uninitialized elements, aligned to a cache line (CuPy's own alignment is wider); all memory that kernels write
    comes from here."""
    if xp is not np:
        return xp.empty(n, dtype)
    dtype = np.dtype(dtype)
    spare = ALIGNMENT // dtype.itemsize
    block = np.empty(n + spare, dtype)
    start = (-block.ctypes.data % ALIGNMENT) // dtype.itemsize
    return block[start : start + n]


def segment_sum(values: Any, starts: Any) -> Any:
    """Sums over neighboring columns: (rows, columns) -> (rows, segments), in values' dtype.

    Segment i is the columns starts[i] ... starts[i + 1] - 1, the last one goes to the end; none is empty. A NaN stays
    in its segment.
    """
    xp = namespace(values)
    if xp is np:
        return np.add.reduceat(values, starts, axis=1)
    # CuPy's own add.reduceat subtracts running sums, so that a NaN would reach all segments behind it.
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
