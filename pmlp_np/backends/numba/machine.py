"""Facts of the machine: versions, the processor, threads, the compile cache, and the measured peak of its cores.

For `pmlp doctor` and the benchmarks; training imports none of it.
"""

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

# Independent sums, so that no multiply-add waits for the one before: as many as fit into the registers (32 of a whole
# vector each under AVX-512, 16 of half a vector each under AVX2).
_SUMS = 16 if compiling.has_avx512() else 5
_UNROLLED = 8
_TURNS = 1000
_PASS = "machine:multiply_adds"
# Rounds of this many calls, some milliseconds each. The fastest round counts: noise only adds time.
_CALLS, _ROUNDS = 200, 15


@enter(_PASS)
def _multiply_adds(e: Emitter, tiles: Tiles, numbers, turns) -> None:
    """Compute multiply-adds in registers alone, in `turns` turns of a loop.

    Reads numbers (2 + sums, lanes): two factors, and the initial sums. Writes the total of the sums over the first
    factor.

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
    """Measure floating-point operations per second of `n_threads` cores together, two per multiply-add, in 0.2 s."""
    lanes = 64 // np.dtype(kind).itemsize
    pass_address = compiling.pass_address(kind, _PASS)
    blocks = [allocate((2 + _SUMS) * lanes, np.dtype(kind)) for _ in range(n_threads)]
    for block in blocks:
        block[...] = 0
    instructions = [np.array([pass_address, block.ctypes.data, _TURNS], np.int64) for block in blocks]
    for instruction in instructions:
        _repeat(address(instruction), 1)
    seconds = min(_together(instructions) for _ in range(_ROUNDS))
    return 2 * lanes * _SUMS * _UNROLLED * _TURNS * _CALLS * n_threads / seconds


def _together(instructions: list[np.ndarray]) -> float:
    """Return the seconds until all threads, one for each instruction, have made their calls."""
    barrier = threading.Barrier(len(instructions) + 1)

    def call(instruction: np.ndarray) -> None:
        barrier.wait()
        _repeat(address(instruction), _CALLS)

    threads = [threading.Thread(target=call, args=(instruction,)) for instruction in instructions]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def facts() -> dict[str, Any]:
    """Return facts of this machine by name; it takes a second or two, most of it for measuring.

    numba, llvmlite: versions. processor, simd ("AVX-512", "AVX2" or the architecture), vector_bits, threads. cache: the
    folder of compiled code, None where none can be used; cached: whether it holds compiled code. peak_gflops,
    peak_gflops_one_core: measured, of float32 multiply-adds.
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
