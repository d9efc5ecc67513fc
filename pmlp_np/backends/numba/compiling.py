"""Compilation, and the few intrinsics with which compiled driver code reaches passes and shares counters.

Compiled code is kept: see code_cache. Ctrl-C does not break into the compiler; it is heard between two functions.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from pmlp_np.backends.numba.code_cache import CodeCache, cache_folder, can_write
from pmlp_np.backends.numba.passes import AVX2_TILES, AVX512_TILES, PASSES, argument_names
from pmlp_np.backends.numba.simd import I64, KINDS, POINTER, Emitter
from pmlp_np.base import interrupts
from pmlp_np.base.console import say

# Denormals-are-zero and flush-to-zero of x86's MXCSR: an optimizer's slots decay into denormals, which are slow.
_FLUSH_BITS = 0x8040


def kernel(entry: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a driver function: without the GIL, cached, and with IEEE division instead of ZeroDivisionError.

    entry: whether Python calls it. What only compiled code calls is spared the code that Python would call it through,
    a good part of all compilation.
    """
    if not entry:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
        dispatcher._cache = CodeCache(function)
        compile_now = dispatcher.compile

        def compile_held(signature: Any) -> Any:
            with interrupts.held():
                return compile_now(signature)

        dispatcher.compile = compile_held
        return dispatcher

    return decorate


@cache
def cpu_features() -> frozenset[str]:
    """The processor features that Numba compiles for."""
    given = numba.config.CPU_FEATURES
    if given is not None:
        return frozenset(word[1:] for word in given.split(",") if word.startswith("+"))
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
def pass_address(kind: str, name: str) -> int:
    """The address of a pass for float32 or float64; compiled at first use, looked up in each process, never stored."""
    key = f"{kind}/{name}"

    def run(block):
        _emit(key, block)

    function: Any = CFunc(run, ((types.int64,), types.void), locals={}, options={})
    function._cache = CodeCache(run)
    with interrupts.held():
        function.compile()
    _alive.append(function)
    return int(function.address)


@cache
def announce_compilation(kind: str) -> Path | None:
    """Say once that compilation lies ahead, if it does. Returns the file to make when it is done, or None."""
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
    """Make the file that `announce_compilation` returned, where what was compiled could be kept."""
    if marker is not None and can_write():
        with contextlib.suppress(OSError):
            marker.touch()


def _write_integers(context, builder, place, signature, values):
    for i, value in enumerate(cgutils.unpack_tuple(builder, values, len(signature))):
        value = context.cast(builder, value, signature[i], types.int64)
        builder.store(value, builder.gep(place, [ir.Constant(I64, i)], source_etype=I64), align=8)


@intrinsic
def set_items(typing_context, table, values):
    """Write a tuple of 64-bit integers to the first elements of the int64 table at an address."""

    def generate(context, builder, signature, arguments):
        _write_integers(context, builder, builder.inttoptr(arguments[0], POINTER), signature.args[1], arguments[1])
        return context.get_dummy_value()

    return types.void(types.int64, values), generate


@intrinsic
def call_block(typing_context, address, block):
    """Call the pass at an address with the arguments that lie at another."""

    def generate(context, builder, signature, arguments):
        function_type = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def call(typing_context, address, arguments):
    """Call the pass at an address with a tuple of 64-bit integers."""

    def generate(context, builder, signature, values):
        place = cgutils.alloca_once(builder, ir.ArrayType(I64, len(signature.args[1])))
        block = builder.ptrtoint(place, I64)
        _write_integers(context, builder, builder.inttoptr(block, POINTER), signature.args[1], values[1])
        function_type = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(builder.inttoptr(values[0], function_type.as_pointer()), [block])
        return context.get_dummy_value()

    return types.void(address, arguments), generate


def _reader(element, llvm_type):
    def read(typing_context, table, index):
        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], POINTER)
            return builder.load(builder.gep(pointer, [arguments[1]], source_etype=llvm_type), typ=llvm_type, align=8)

        return element(types.int64, types.int64), generate

    return read


def _writer(element, llvm_type):
    def write(typing_context, table, index, value):
        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], POINTER)
            builder.store(arguments[2], builder.gep(pointer, [arguments[1]], source_etype=llvm_type), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, element), generate

    return write


# item(table, i) reads and set_item(table, i, value) writes element i of the int64 table at an address; float_item and
# set_float_item the float64 ones.
item = intrinsic(_reader(types.int64, I64))
float_item = intrinsic(_reader(types.float64, ir.DoubleType()))
set_item = intrinsic(_writer(types.int64, I64))
set_float_item = intrinsic(_writer(types.float64, ir.DoubleType()))


@intrinsic
def fetch_and_add(typing_context, address, amount):
    """Atomically add to the int64 at an address; what it held before."""

    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], I64.as_pointer()), arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def read_now(typing_context, address):
    """The int64 at an address as it is now, though another thread may write it."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8, typ=I64)

    return types.int64(types.int64), generate


@intrinsic
def pause(typing_context):
    """Tell the processor that this thread is waiting for another (x86; elsewhere nothing)."""

    def generate(context, builder, signature, arguments):
        if _X86:
            builder.call(cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])  # fmt: skip
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at an address without waiting for it."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [POINTER, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        # To be read, kept in all caches, data.
        options = [ir.Constant(word, value) for value in (0, 3, 1)]
        builder.call(function, [builder.inttoptr(arguments[0], POINTER), *options])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def bits_of(typing_context, number):
    """The bits of a float64 as int64, to hand it to a pass."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], I64)

    return types.int64(types.float64), generate


_X86 = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def set_float_mode(typing_context, mode):
    """Set the processor's floating-point control word of this thread (x86; elsewhere nothing). Returns the old one."""

    def generate(context, builder, signature, arguments):
        if not _X86:
            return ir.Constant(I64, 0)
        word = ir.IntType(32)
        place = cgutils.alloca_once(builder, word)
        function_type = ir.FunctionType(ir.VoidType(), [POINTER])
        read = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse.stmxcsr")
        write = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse.ldmxcsr")
        builder.call(read, [place])
        old = builder.zext(builder.load(place, typ=word), I64)
        keep = builder.icmp_signed("<", arguments[0], ir.Constant(I64, 0))
        flushing = builder.or_(old, ir.Constant(I64, _FLUSH_BITS))
        builder.store(builder.trunc(builder.select(keep, flushing, arguments[0]), word), place)
        builder.call(write, [place])
        return old

    return types.int64(types.int64), generate


# set_float_mode(FLUSH_DENORMALS) adds flushing to the current mode.
FLUSH_DENORMALS = -1
