"""What the machine can do at most: multiply-adds in registers, activations in cache, copies through memory."""

import time
from typing import Any

import numpy as np

from benchmarks.kernels.runner import BoundPass, aligned
from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.machine import multiply_add_rate as multiply_add_rate
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import Emitter
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.step_lists import activation_steps

# Whole vectors, and few enough for the nearest cache: activations and derivatives are 14 KB of float32.
_SHAPE = 16, 112


def _activation_pass(name: str) -> None:
    @enter(f"lab:activation:{name}")
    def activation(e: Emitter, tiles: Tiles, z, derivative, count) -> None:
        """z becomes its activation, in place; the derivative goes beside it."""

        def vector(place: Any) -> None:
            a, d = emit(e, activation_steps(name, e.kind.name), e.load(e.offset(z, place)))
            e.store(a, e.offset(z, place))
            e.store(d, e.offset(derivative, place))

        e.loop(count, vector, step=e.kind.lanes)


for _name in ACTIVATIONS:
    _activation_pass(_name)


def activation_seconds(kind: str, name: str) -> float:
    """Seconds per element of the training pass (value and derivative), in the nearest cache, whole vectors."""
    z = aligned(np.random.default_rng(0).normal(size=_SHAPE), kind)
    one = BoundPass(kind, f"lab:activation:{name}", z=z, derivative=np.empty_like(z), count=z.size)
    return one.seconds() / z.size


def copy_rate(n_bytes: int = 1 << 28) -> float:
    """Bytes read and written per second by a copy far larger than the caches, on one core."""
    source = np.ones(n_bytes // 8)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return 2 * n_bytes / min(seconds)
