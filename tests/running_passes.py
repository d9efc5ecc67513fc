"""Calling compiled passes from tests: by name, with arrays and numbers as arguments."""

import ctypes

import numpy as np

from pmlp_np.backends.numba.compiling import pass_address
from pmlp_np.backends.numba.passes import argument_names
from pmlp_np.base.arrays import allocate

LANES = {"float32": 16, "float64": 8}
_VOID_OF_ADDRESS = ctypes.CFUNCTYPE(None, ctypes.c_int64)


def run_pass(kind, name, **arguments):
    """Call a compiled pass; arrays are handed over by address, numbers as they are."""
    assert set(arguments) == set(argument_names(name)), f"{name} takes {argument_names(name)}"
    values = [arguments[argument] for argument in argument_names(name)]
    block = np.array([v.ctypes.data if isinstance(v, np.ndarray) else v for v in values], np.int64)
    _VOID_OF_ADDRESS(pass_address(kind, name))(block.ctypes.data)


def bits(number):
    return np.float64(number).view(np.int64)


def padded(n, kind):
    return -(-n // LANES[kind]) * LANES[kind]


def sentinel(shape, kind):
    """An aligned array of NaN: whatever a pass leaves alone stays NaN."""
    array = allocate(int(np.prod(shape)), np.dtype(kind)).reshape(shape)
    array[...] = np.nan
    return array
