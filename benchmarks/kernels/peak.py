"""What the machine can do at most: multiply-adds in registers, activations in cache, copies through memory."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.kernels.runner import BoundPass, aligned
from pmlp_np.backends.numba.compiling import has_avx512
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import Emitter, Value, Words
from pmlp_np.formulas.activations import ACTIVATIONS

# Independent sums, so that a multiply-add never waits for the one before: as many as the registers hold (32 of a
# whole vector each under AVX-512, 16 of half a vector each under AVX2).
_SUMS = 16 if has_avx512() else 5
_UNROLLED = 8
_TURNS = 1000


@enter("lab:multiply_adds")
def _multiply_adds(e: Emitter, tiles: Tiles, place, turns) -> None:
    """Multiply-adds on registers alone."""
    x, y = e.load(place), e.load(e.offset(place, e.kind.lanes))

    def turn(_: Any, *sums: Any) -> list[Any]:
        values = [Value(e, s) for s in sums]
        for _ in range(_UNROLLED):
            values = [Words.fma(x, y, s) for s in values]
        return [s.ir for s in values]

    start = [e.load(e.offset(place, (2 + i) * e.kind.lanes)).ir for i in range(_SUMS)]
    total = e.constant(0.0)
    for s in e.loop(turns, turn, *start):
        total = total + Value(e, s)
    e.store(total, place)


def multiply_add_rate(kind: str, n_threads: int = 1) -> float:
    """Floating-point operations per second, two for each multiply-add, of `n_threads` cores together."""
    lanes = 64 // np.dtype(kind).itemsize
    one = [BoundPass(kind, "lab:multiply_adds", place=aligned(np.zeros((2 + _SUMS) * lanes), kind), turns=_TURNS)
           for _ in range(n_threads)]  # fmt: skip
    operations = 2 * lanes * _SUMS * _UNROLLED * _TURNS
    if n_threads == 1:
        return operations / one[0].seconds()
    calls = 200
    best = min(_together([lambda p=p: p.run(calls) for p in one]) for _ in range(15))
    return n_threads * operations * calls / best


def _together(calls: list[Callable[[], None]]) -> float:
    """Seconds until all calls, each on a thread of its own, have returned."""
    barrier = threading.Barrier(len(calls) + 1)

    def go(call: Callable[[], None]) -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=go, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


# Whole vectors, and few enough for the nearest cache: activations and derivatives are 14 KB of float32.
_SHAPE = 16, 112


def _activation_pass(name: str) -> None:
    function = ACTIVATIONS[name].function

    @enter(f"lab:activation:{name}")
    def activation(e: Emitter, tiles: Tiles, z, derivative, count) -> None:
        """z becomes its activation, in place; the derivative goes beside it."""

        def vector(place: Any) -> None:
            a, d = function(e.load(e.offset(z, place)))
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
