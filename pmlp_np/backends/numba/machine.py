"""What this backend finds on the machine: versions, the processor, threads, the compile cache, and the most that its
cores can do, measured. For `pmlp doctor` and the benchmarks; training imports none of it."""

from __future__ import annotations

import platform
import threading
import time
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from pmlp_np.backends.numba import compiling
from pmlp_np.backends.numba.code_cache import cache_folder
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.program.instructions import run
from pmlp_np.backends.numba.simd import Emitter, Value, fma
from pmlp_np.base.arrays import address, allocate

# Independent sums, so that a multiply-add never waits for the one before: as many as the registers hold (32 of a
# whole vector each under AVX-512, 16 of half a vector each under AVX2).
_SUMS = 16 if compiling.has_avx512() else 5
_UNROLLED = 8
_TURNS = 1000
_PASS = "machine:multiply_adds"
# Rounds of so many calls, some milliseconds each. The fastest counts: noise only ever takes time.
_CALLS, _ROUNDS = 200, 15


@enter(_PASS)
def _multiply_adds(e: Emitter, tiles: Tiles, numbers, turns) -> None:
    """Multiply-adds on registers alone, in `turns` turns of a loop.

    Reads numbers (2 + sums, lanes): two factors, and where the sums start. Writes their total over the first.

    docs/benchmarks.md#how-near-to-the-machines-limit
    """
    x, y = e.load(numbers), e.load(e.offset(numbers, e.kind.lanes))

    def turn(_: Any, *sums: Any) -> list[Any]:
        values = [Value(e, s) for s in sums]
        for _ in range(_UNROLLED):
            values = [fma(x, y, s) for s in values]
        return [s.ir for s in values]

    start = [e.load(e.offset(numbers, (2 + i) * e.kind.lanes)).ir for i in range(_SUMS)]
    total = e.constant(0.0)
    for s in e.loop(turns, turn, *start):
        total = total + Value(e, s)
    e.store(total, numbers)


@compiling.kernel(entry=True)
def _repeat(instruction, count):
    for _ in range(count):
        run(instruction)


def multiply_add_rate(kind: str = "float32", n_threads: int = 1) -> float:
    """Floating-point operations per second, two for each multiply-add, of `n_threads` cores together. Some 0.2 s."""
    lanes = 64 // np.dtype(kind).itemsize
    pass_address = compiling.pass_address(kind, _PASS)
    places = [allocate((2 + _SUMS) * lanes, np.dtype(kind)) for _ in range(n_threads)]
    for place in places:
        place[...] = 0
    instructions = [np.array([pass_address, place.ctypes.data, _TURNS], np.int64) for place in places]
    for instruction in instructions:
        _repeat(address(instruction), 1)
    seconds = min(_together(instructions) for _ in range(_ROUNDS))
    return 2 * lanes * _SUMS * _UNROLLED * _TURNS * _CALLS * n_threads / seconds


def _together(instructions: list[np.ndarray]) -> float:
    """Seconds until all threads, one for each instruction, have made their calls."""
    barrier = threading.Barrier(len(instructions) + 1)

    def go(instruction: np.ndarray) -> None:
        barrier.wait()
        _repeat(address(instruction), _CALLS)

    threads = [threading.Thread(target=go, args=(instruction,)) for instruction in instructions]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def facts() -> dict[str, Any]:
    """What there is, by name; a second or two, most of it measuring.

    versions of Numba and llvmlite; processor, simd ("AVX-512", "AVX2" or what else), vector_bits; threads; cache (the
    folder of compiled code, None where none can be used) and cached (whether something was compiled before);
    peak_gflops and peak_gflops_one_core, of float32 multiply-adds.
    """
    features, folder = compiling.cpu_features(), cache_folder()
    simd = "AVX-512" if compiling.has_avx512() else "AVX2" if {"avx2", "fma"} <= features else platform.machine()
    threads = int(numba.config.NUMBA_NUM_THREADS)
    one = multiply_add_rate()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "processor": llvm.get_host_cpu_name(),
        "simd": simd,
        "vector_bits": {"AVX-512": 512, "AVX2": 256}.get(simd),
        "threads": threads,
        "threading_layer": "own threads (neither OpenMP nor TBB is needed)",
        "cache": None if folder is None else str(folder),
        "cached": folder is not None and any(folder.glob("compiled-*")),
        "peak_gflops_one_core": one / 1e9,
        "peak_gflops": (one if threads == 1 else multiply_add_rate("float32", threads)) / 1e9,
    }
