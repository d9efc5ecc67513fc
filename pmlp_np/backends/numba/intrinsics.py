"""Intrinsics of driver code: 64-bit integers and floats at addresses, calls of passes, counters that threads share, and
the processor's floating-point mode.

Driver code is compiled from Python functions whose variables are 64-bit integers; what Python has no words for is here.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pmlp_np.backends.numba.simd import I64, POINTER

_X86 = platform.machine().lower() in ("x86_64", "amd64")
# set_float_mode(FLUSH_DENORMALS) adds flushing to the current mode.
FLUSH_DENORMALS = -1
# Denormals-are-zero and flush-to-zero of x86's MXCSR: an optimizer's slots decay into denormals, which are slow.
_FLUSH_BITS = 0x8040


def write_integers(context, builder, place, signature, values):
    for i, value in enumerate(cgutils.unpack_tuple(builder, values, len(signature))):
        value = context.cast(builder, value, signature[i], types.int64)
        builder.store(value, builder.gep(place, [ir.Constant(I64, i)], source_etype=I64), align=8)


@intrinsic
def set_items(typing_context, table, values):
    """Write a tuple of 64-bit integers to the first elements of the int64 table at an address."""

    def generate(context, builder, signature, arguments):
        write_integers(context, builder, builder.inttoptr(arguments[0], POINTER), signature.args[1], arguments[1])
        return context.get_dummy_value()

    return types.void(types.int64, values), generate


@intrinsic
def call(typing_context, address, arguments):
    """Call the pass at an address with a tuple of 64-bit integers."""

    def generate(context, builder, signature, values):
        place = cgutils.alloca_once(builder, ir.ArrayType(I64, len(signature.args[1])))
        block = builder.ptrtoint(place, I64)
        write_integers(context, builder, builder.inttoptr(block, POINTER), signature.args[1], values[1])
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
