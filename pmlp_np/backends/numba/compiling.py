"""Compilation of driver functions and of passes.

Compiled code is stored: see `code_cache`. Ctrl-C does not interrupt the compiler; it is noticed between two functions.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import njit, types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from pmlp_np.backends.numba.code_cache import CodeCache, cache_folder, can_write
from pmlp_np.backends.numba.function_pipeline import EntryPipeline, InnerPipeline
from pmlp_np.backends.numba.passes import AVX2_TILES, AVX512_TILES, PASSES, argument_names
from pmlp_np.backends.numba.simd import I64, KINDS, Emitter
from pmlp_np.base import interrupts
from pmlp_np.base.arrays import Address
from pmlp_np.base.console import say


def kernel(entry: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a driver function: without the GIL, and with IEEE division instead of ZeroDivisionError.

    entry: whether Python calls the function; then its code is stored. The code of other functions is part of entries',
    which takes a good part less of time: see `function_pipeline`.
    """
    options: dict[str, Any] = {"pipeline_class": EntryPipeline if entry else InnerPipeline}
    if not entry:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

    def decorate(function: Callable[..., Any]) -> Any:
        # Nothing is allocated: there is nothing to count references of.
        dispatcher = njit(nogil=True, error_model="numpy", _nrt=False, **options)(function)
        if entry:
            dispatcher._cache = CodeCache(function)
        compile_now, template_of = dispatcher.compile, dispatcher.get_call_template

        def compile_held(signature: Any) -> Any:
            with interrupts.held():
                address = compile_now(signature)
            interrupts.raise_if_pressed()
            return address

        def one_template(args: Any, kws: Any) -> Any:
            """Return how the function is called with integers, where Numba would compile it for each constant."""
            return template_of(
                tuple(map(types.unliteral, args)), {name: types.unliteral(each) for name, each in kws.items()}
            )

        dispatcher.compile, dispatcher.get_call_template = compile_held, one_template
        return dispatcher

    return decorate


@cache
def cpu_features() -> frozenset[str]:
    """Return the processor features that Numba compiles for."""
    configured = numba.config.CPU_FEATURES
    if configured is not None:
        return frozenset(word[1:] for word in configured.split(",") if word.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def has_avx512() -> bool:
    return "avx512f" in cpu_features()


@intrinsic(prefer_literal=True)
def _emit(typing_context, key, block):
    if not isinstance(key, types.StringLiteral):
        return None
    kind_name, name = key.literal_value.split("/")

    def generate(context, builder, signature, arguments):
        emitter = Emitter(builder, KINDS[kind_name])
        names = argument_names(name)
        values = [emitter.load_scalar(emitter.offset(arguments[1], i, 8), I64) for i in range(len(names))]
        PASSES[name](emitter, AVX512_TILES if has_avx512() else AVX2_TILES, *values)
        return context.get_dummy_value()

    return types.void(key, types.int64), generate


_alive: list[Any] = []


@cache
def pass_address(kind: str, name: str) -> Address:
    """Return the address of a pass for float32 or float64, compiled at its first use in this process or loaded."""
    key = f"{kind}/{name}"

    def run(block):
        _emit(key, block)

    signature = ((types.int64,), types.void)
    function: Any = CFunc(run, signature, locals={}, options={"_nrt": False}, pipeline_class=EntryPipeline)
    function._cache = CodeCache(run)
    with interrupts.held():
        function.compile()
    _alive.append(function)
    return Address(int(function.address))


@cache
def announce_compilation(kind: str) -> Path | None:
    """Print once that code will be compiled, if so. Returns the file for `note_compiled` to create, or None."""
    folder = cache_folder()
    if folder is None:
        say(f"compiling for {kind} (some seconds)")
        return None
    processor = hashlib.sha256(f"{llvm.get_host_cpu_name()} {sorted(cpu_features())}".encode()).hexdigest()[:12]
    marker = folder / f"compiled-{kind}-{processor}"
    with contextlib.suppress(OSError):
        if marker.exists():
            return None
    say(f"compiling for {kind} (some seconds, once; kept in {folder})")
    return marker


def note_compiled(marker: Path | None) -> None:
    """Create the file that `announce_compilation` returned, if the compiled code could be stored."""
    if marker is not None and can_write():
        with contextlib.suppress(OSError):
            marker.touch()
