"""CUDA sources to machine code without a GPU or a driver: NVRTC, of the wheel nvidia-cuda-nvrtc, through ctypes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

# The wheels: the compiler of CUDA 13 and of CUDA 12, and what reads machine code.
COMPILER, COMPILER_12, DISASSEMBLER = "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvdisasm"


class Missing(Exception):
    """A wheel is not installed."""


class Refused(Exception):
    """The compiler's log of a text that it did not compile."""


def file_of(wheel: str, pattern: str) -> Path:
    """The file of an installed wheel whose name a pattern matches. Missing where it is not installed."""
    try:
        files = distribution(wheel).files or []
    except PackageNotFoundError:
        raise Missing(f"{wheel} is not installed") from None
    return Path(next(str(file.locate()) for file in files if re.fullmatch(pattern, file.name)))


@dataclass(frozen=True)
class Compiled:
    """Machine code (a cubin), and the compiler's log, with ptxas's report on each kernel."""

    code: bytes
    log: str


@cache
def _library(compiler: str) -> ctypes.CDLL:
    # Not `.alt.`, another build of it.
    library = ctypes.CDLL(str(file_of(compiler, r"libnvrtc\.so\.\d+")))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _check(library: ctypes.CDLL, code: int) -> None:
    if code:
        raise RuntimeError(library.nvrtcGetErrorString(code).decode())


def version(compiler: str = COMPILER) -> tuple[int, int]:
    """NVRTC's version, as (13, 0)."""
    library, major, minor = _library(compiler), ctypes.c_int(), ctypes.c_int()
    _check(library, library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def compiled(text: str, architecture: str, options: Sequence[str] = (), compiler: str = COMPILER) -> Compiled:
    """The machine code of a text for an architecture, as "sm_90". Refused, with the log, where there are errors. Other
    threads go on meanwhile."""
    library, program = _library(compiler), ctypes.c_void_p()
    given = [f"--gpu-architecture={architecture}", "--ptxas-options=-v", *options]
    arguments = (ctypes.c_char_p * len(given))(*[option.encode() for option in given])
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None))
    try:
        failed = library.nvrtcCompileProgram(program, len(given), arguments)
        log = _result(library, program, "ProgramLog").rstrip(b"\0").decode()
        if failed:
            raise Refused(log)
        return Compiled(_result(library, program, "CUBIN"), log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _result(library: ctypes.CDLL, program: ctypes.c_void_p, name: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size)))
    room = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{name}")(program, room))
    return room.raw
