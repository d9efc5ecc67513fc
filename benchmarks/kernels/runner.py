"""Calling one compiled pass many times over, as the driver does: as an instruction, an address and its arguments."""

import time
from typing import Any

import numpy as np
from numba import njit

from pmlp_np.backends.numba.compiling import pass_address
from pmlp_np.backends.numba.intrinsics import FLUSH_DENORMALS, set_float_mode
from pmlp_np.backends.numba.passes import argument_names
from pmlp_np.backends.numba.program.instructions import run
from pmlp_np.base.arrays import allocate

# Long enough for a clock, short enough that some rounds go by between two interruptions of a shared machine.
_ROUND_SECONDS = 2e-4
_ROUNDS = 60


@njit(nogil=True)
def _repeat(instruction, count):
    mode = set_float_mode(FLUSH_DENORMALS)
    for _ in range(count):
        run(instruction)
    set_float_mode(mode)


class BoundPass:
    """A pass with its arguments: `run()` calls it once, `seconds()` says how long a call takes."""

    def __init__(self, kind: str, name: str, **arguments: Any) -> None:
        values = [arguments[argument] for argument in argument_names(name)]
        self._alive = values
        words = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
        self._instruction = np.array([pass_address(kind, name), *words], np.int64)

    def run(self, count: int = 1) -> None:
        _repeat(self._instruction.ctypes.data, count)

    def seconds(self, rounds: int = _ROUNDS) -> float:
        """Seconds per call: the fastest of several rounds, each of many calls. Noise only ever adds."""
        count = 1
        while self._round(count) < _ROUND_SECONDS:
            count *= 2
        return min(self._round(count) for _ in range(rounds)) / count

    def _round(self, count: int) -> float:
        start = time.perf_counter()
        self.run(count)
        return time.perf_counter() - start


def aligned(values: Any, kind: str) -> np.ndarray:
    """A copy that starts on a cache line, as the library's buffers do."""
    given = np.asarray(values, kind)
    array = allocate(given.size, np.dtype(kind)).reshape(given.shape)
    array[...] = given
    return array


def bits(number: float) -> int:
    """The bits of a float64, as passes take scalars."""
    return int(np.float64(number).view(np.int64))
