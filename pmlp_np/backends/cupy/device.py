"""The device that kernels run on, as the backend sees it: arrays, compiled kernels, launches.

There are two: a GPU through CuPy, here, and the tests' emulation on the CPU, which runs the same kernels and so the
same backend. Addresses are 64-bit integers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol

import numpy as np

from pmlp_np.base.arrays import device_namespace
from pmlp_np.base.errors import DeviceError, MemoryNeededError, compose

# So that every operation of a kernel is one of IEEE 754; what CuPy sets by itself is not enough.
COMPILER_OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=true", "--prec-div=true", "--prec-sqrt=true")


class Kernel(Protocol):
    """A compiled kernel."""

    def launch(self, blocks: int, threads: int, shared_bytes: int, jobs: np.ndarray) -> None:
        """Run the kernel; may return before it is done.

        blocks, threads: thread blocks, and threads of each. shared_bytes: dynamic shared memory of a block. jobs: the
        argument, an array (1,) of `launch_job.JOBS`.
        """


class Device(Protocol):
    """Where a pool computes.

    xp: the module of its arrays. shared_bytes: the most shared memory that a thread block may have.
    processor_shared_bytes: what a multiprocessor has for all its blocks. processors: how many multiprocessors there
    are. operations_per_second: multiply-adds of kernels like these, a first guess.
    """

    xp: Any
    shared_bytes: int
    processor_shared_bytes: int
    processors: int
    operations_per_second: float

    def compile(self, text: str, name: str) -> Kernel:
        """Compile a text, unless it has been, and return its kernel of this name."""

    def address(self, array: Any) -> int:
        """Return the address of an array's first element on the device."""

    def synchronize(self) -> None:
        """Wait until all launches are done."""


# What NVRTC compiles for, and kernels need: shuffles and copies of sm_75 (Turing) and newer.
OLDEST_CAPABILITY = 75


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Convert CuPy's errors to the library's errors, with a hint."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("cupy", "cupy_backends")):
            raise
        name, first = type(error).__name__, (str(error).splitlines() or [""])[0]
        if name == "OutOfMemoryError":
            hint = "Train fewer or smaller members, float32, or on the CPU (backend='numba')."
            raise MemoryNeededError(compose("specs", "a pool that fits the GPU's memory", first, hint)) from error
        hint = "Save what there is and train on the CPU: pm.load(path, backend='numba') goes on to the same bits."
        if name == "CompileException":
            hint = "Please report it with the GPU's name and CuPy's version; backend='numba' computes the same bits."
        raise DeviceError(compose("device", f"a GPU that can {what}", f"{name}: {first}", hint)) from error


class _GpuKernel:
    def __init__(self, function: Any) -> None:
        self._function = function

    def launch(self, blocks: int, threads: int, shared_bytes: int, jobs: np.ndarray) -> None:
        with explained("run the kernels"):
            if self._function.max_dynamic_shared_size_bytes < shared_bytes:
                self._function.max_dynamic_shared_size_bytes = shared_bytes
            # CuPy hands over a structured array of one element by value.
            self._function((blocks,), (threads,), (jobs,), shared_mem=shared_bytes)


class CupyDevice:
    """The current GPU, through CuPy."""

    operations_per_second = 2e12

    def __init__(self) -> None:
        self.xp = device_namespace("gpu")
        device = self.xp.cuda.Device()
        if int(device.compute_capability) < OLDEST_CAPABILITY:
            expected = f"a GPU of compute capability {OLDEST_CAPABILITY / 10} or newer"
            hint = "Train on the CPU: backend='numba' computes the same bits."
            raise DeviceError(compose("device", expected, f"{int(device.compute_capability) / 10}", hint))
        attributes = device.attributes
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.processor_shared_bytes = int(attributes["MaxSharedMemoryPerMultiprocessor"])
        self.processors = int(attributes["MultiProcessorCount"])
        self._modules: dict[str, Any] = {}

    def compile(self, text: str, name: str) -> _GpuKernel:
        if text not in self._modules:
            self._modules[text] = self.xp.RawModule(code=text, options=COMPILER_OPTIONS, backend="nvrtc")
        with explained("compile the kernels"):
            return _GpuKernel(self._modules[text].get_function(name))

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def synchronize(self) -> None:
        with explained("finish what it was given"):
            self.xp.cuda.get_current_stream().synchronize()


@cache
def gpu() -> CupyDevice:
    """Return the current GPU. Raises DataError if CuPy finds none."""
    return CupyDevice()


def new_array(device: Device, shape: tuple[int, ...], dtype: Any, zeros: bool = False) -> Any:
    """Allocate an array on the device; zeros: filled with zeros."""
    with explained("hold the results"):
        return (device.xp.zeros if zeros else device.xp.empty)(shape, dtype)


def on_device(device: Device, array: np.ndarray) -> Any:
    """Copy an array to the device."""
    with explained("hold the data"):
        return device.xp.asarray(np.ascontiguousarray(array))
