"""Launches of kernels, recorded while some pools train on the emulated device: what each was given, and what it left.

`replayed` runs them again in a process of its own, where g++ has compiled the kernels with a sanitizer. So no Python,
no NumPy and no Numba has to live with one. The file's format is told in emulation/replay.h.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emulated_device import EMULATOR, FLAGS, EmulatedBackend, EmulatedDevice, EmulatedKernel, compiled, library
from pmlp_np import backends
from pmlp_np.backends.cupy import backend as cupy_backend
from pmlp_np.backends.cupy.device import Kernel
from pmlp_np.backends.cupy.formulas_text import part_text, pool_text
from pmlp_np.backends.cupy.launch_job import JOB, JOB_FIELDS, REGIONS, VIEW_WORDS
from pmlp_np.backends.cupy.program_text import (
    DRAW_ORDERS,
    DRAW_WEIGHTS,
    MIXED,
    SHARED,
    infer_kernel,
    mean_kernel,
    program_text,
    train_kernel,
)
from pmlp_np.backends.cupy.regions import Placement
from pmlp_np.formulas.losses import LOSSES
from strict_cupy import DeviceArray

REPLAY = Path(__file__).resolve().parent / "emulation" / "replay.h"
# As those of the emulated device, but for a program, soon compiled, with lines that a sanitizer can name.
_NOT_OURS = ("-shared", "-fPIC", "-O1")
_FLAGS = (*(flag for flag in FLAGS if flag not in _NOT_OURS), "-O0", "-g1", "-fno-sanitize-recover=undefined")
# What recorded pools may be made of, so that one text has it all.
LOSS, PART, ACTIVATIONS = "squared_error", "raw", ("tanh", "sigmoid")
RULES_USED, SCHEDULES_USED = ("sgd", "adam"), ("constant", "cosine")
KERNELS = (
    DRAW_ORDERS, DRAW_WEIGHTS, *(train_kernel(rule, memory) for rule in RULES_USED for memory in (SHARED, MIXED)),
    *(infer_kernel(task, memory) for task in ("evaluate", "predict") for memory in (SHARED, MIXED)),
    mean_kernel(PART),
)  # fmt: skip
# Bytes between the regions of a thread block's memory that nothing may touch.
GAP = 64
# Words of a view that are addresses (backends/cupy/sources.py).
ADDRESSES_OF_VIEW = (0, 3, 4, 5, 6)


def kernels_text(dtype: str) -> str:
    formulas = pool_text(LOSSES[LOSS], dtype, ACTIVATIONS, RULES_USED, SCHEDULES_USED)
    return program_text(dtype, formulas + part_text(LOSSES[LOSS], PART, dtype), KERNELS)


def regions_in(shared: bool, in_shared: int, offsets: np.ndarray) -> list[int]:
    """Regions that lie in shared memory, or those in scratch."""
    return [i for i in range(len(REGIONS)) if bool(in_shared >> i & 1) is shared and offsets[i] >= 0]


def spread(placement: Placement) -> Placement:
    """The placement with a gap behind each region."""
    offsets = placement.offsets.copy()
    ends = [placement.shared_bytes, placement.scratch_bytes]
    for shared in (True, False):
        ours = regions_in(shared, placement.in_shared, placement.offsets)
        for rank, i in enumerate(sorted(ours, key=lambda i: int(placement.offsets[i]))):
            offsets[i] += rank * GAP
        ends[not shared] += len(ours) * GAP
    return replace(placement, offsets=offsets, shared_bytes=ends[0], scratch_bytes=-(-ends[1] // 256) * 256)


def _words(numbers: Any) -> bytes:
    return np.array(numbers, np.int64).tobytes()


@dataclass(frozen=True)
class _Array:
    start: int
    values: np.ndarray

    @property
    def stop(self) -> int:
        return self.start + self.values.nbytes


class RecordingDevice(EmulatedDevice):
    """It keeps all arrays whose address was asked for: kernels know no others."""

    # As many epochs in a launch as there are, however slow the machine is.
    operations_per_second = 1e15

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.arrays: dict[int, _Array] = {}
        self.recorded: list[bytes] = []

    def address(self, array: Any) -> int:
        start = super().address(array)
        assert array.values.flags.c_contiguous
        if start not in self.arrays or self.arrays[start].stop < start + array.values.nbytes:
            self.arrays[start] = _Array(start, array.values)
        return start

    def containing(self, address: int) -> _Array:
        if address in self.arrays:
            return self.arrays[address]
        starts = sorted(self.arrays)
        found = self.arrays[starts[bisect_right(starts, address) - 1]]
        assert found.start <= address < found.stop
        return found


class Given:
    """What a kernel was given. arrays: the jobs, and all arrays whose addresses stand in them or in their views;
    addresses: (array, byte in it, array that it points into, byte in that)."""

    def __init__(self, device: RecordingDevice, jobs: Any) -> None:
        self._device = device
        self._found: dict[int, int] = {}
        self.arrays: list[_Array] = []
        self.addresses: list[tuple[int, int, int, int]] = []
        self._index_of(device.address(jobs))
        views = set()
        for k, record in enumerate(jobs.values.view(JOB)):
            for name, kind in JOB_FIELDS.items():
                if kind.endswith("*") and record[name]:
                    target, offset = self._index_of(int(record[name]))
                    self.addresses.append((0, k * JOB.itemsize + JOB.fields[name][1], target, offset))
                    if name == "views":
                        views.add(target)
        for i in sorted(views):
            for at, word in enumerate(self.arrays[i].values.ravel().tolist()):
                if at % VIEW_WORDS in ADDRESSES_OF_VIEW and word:
                    self.addresses.append((i, 8 * at, *self._index_of(word)))
        # Which array is scratch; -1: none.
        self.scratch = self._found.get(int(jobs.values.view(JOB)[0]["scratch"]), -1)

    def _index_of(self, address: int) -> tuple[int, int]:
        array = self._device.containing(address)
        if array.start not in self._found:
            self._found[array.start] = len(self.arrays)
            self.arrays.append(array)
        return self._found[array.start], address - array.start

    @property
    def results(self) -> list[bool]:
        """Of each array whether its bits are what a launch is for: not scratch, nor lists of addresses."""
        others = {self.scratch, *(array for array, *_ in self.addresses)}
        return [i not in others for i in range(len(self.arrays))]

    def contents(self) -> list[bytes]:
        return [array.values.tobytes() for array in self.arrays]


class RecordingKernel(EmulatedKernel):
    def launch(self, blocks: int, threads: int, shared_bytes: int, jobs: np.ndarray) -> None:
        device = self._device
        assert isinstance(device, RecordingDevice)
        given = Given(device, DeviceArray(jobs.view(np.uint8)))
        gaps = self._gaps(jobs["job"][0], blocks, shared_bytes)
        before = given.contents()
        super().launch(blocks, threads, shared_bytes, jobs)
        sizes = [(len(values), is_result) for values, is_result in zip(before, given.results, strict=True)]
        counts = [len(given.arrays), len(given.addresses), *map(len, gaps)]
        parts = [_words([len(self._name)]), self._name.encode()]
        parts += map(_words, ([blocks, threads, shared_bytes, *counts, given.scratch], sizes, given.addresses, *gaps))
        for values, left, is_result in zip(before, given.contents(), given.results, strict=True):
            parts += [values, left] if is_result else [values]
        device.recorded.append(b"".join(parts))

    def _gaps(self, job: Any, blocks: int, shared_bytes: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What lies between regions: in shared memory, and in the scratch of all blocks."""
        device = self._device
        assert isinstance(device, RecordingDevice)
        if not job["regions"]:
            return [], []
        offsets = device.containing(int(job["regions"])).values
        ends = shared_bytes, int(job["scratch_bytes"])
        gaps = []
        for shared in (True, False):
            starts = sorted(int(offsets[i]) for i in regions_in(shared, int(job["in_shared"]), offsets))
            stops = [*starts[1:], ends[not shared]] if starts else []
            gaps.append([(stop - GAP, GAP) for stop in stops])
        each = int(job["scratch_bytes"])
        return gaps[0], [(b * each + start, size) for b in range(blocks) for start, size in gaps[1]]


class RecordingBackend(EmulatedBackend):
    """The CuPy backend on a device that records."""

    on: EmulatedDevice

    def _kernel(self, name: str, rules: Iterable[str], part: str | None = None) -> Kernel:
        return RecordingKernel(library(kernels_text(self.plan.dtype.name), KERNELS), name, self.on)


@contextmanager
def recording(**arguments: Any) -> Iterator[RecordingDevice]:
    """Pools on the backend "recording" run on this device."""
    device = RecordingDevice(**arguments)
    kept = cupy_backend.placed
    RecordingBackend.on = device
    backends.BACKENDS["recording"] = backends.Entry(lambda: RecordingBackend, ("gpu",))
    cupy_backend.placed = lambda *arguments: spread(kept(*arguments))
    try:
        yield device
    finally:
        cupy_backend.placed = kept
        del backends.BACKENDS["recording"]


def program(text: str, sanitizer: str) -> Path:
    """A program that replays launches of these kernels. sanitizer: one of g++'s, or several with commas between."""
    table = ", ".join(f'{{"{name}", {name}}}' for name in KERNELS)
    known = f"static const std::pair<const char*, void (*)(const Jobs&)> KERNELS[] = {{{table}}};"
    source = "\n".join([EMULATOR, "#line 1", text, known, REPLAY.read_text(encoding="utf-8")])
    return compiled(source, (*_FLAGS, f"-fsanitize={sanitizer}"))


def replayed(executable: Path, file: Path, order: int, seed: int) -> str:
    """What went wrong when these launches ran again; "" where nothing did."""
    command = [str(executable), str(file), str(order), str(seed)]
    # Addresses that are drawn too widely leave ThreadSanitizer no room.
    fixed = shutil.which("setarch")
    if fixed and subprocess.run([fixed, "-R", "true"], capture_output=True, check=False).returncode == 0:
        command = [fixed, "-R", *command]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("SAN_OPTIONS")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode != 2, done.stderr
    return "" if done.returncode == 0 else done.stderr or f"exit status {done.returncode}"
