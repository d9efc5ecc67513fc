"""Intrinsics of driver code: memory at addresses, calls of passes, atomic counters, the floating-point mode.

Driver code is compiled from Python functions whose variables are 64-bit integers. Python has no syntax for these
operations.
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


def write_integers(context, builder, start, signature, values):
    """Emit stores of a tuple of integers, as 64-bit ones, from a pointer on."""
    for i, value in enumerate(cgutils.unpack_tuple(builder, values, len(signature))):
        value = context.cast(builder, value, signature[i], types.int64)
        builder.store(value, builder.gep(start, [ir.Constant(I64, i)], source_etype=I64), align=8)


@intrinsic
def set_items(typing_context, table, values):
    """Write a tuple of 64-bit integers to the first elements of the int64 table at an address."""

    def generate(context, builder, signature, arguments):
        write_integers(context, builder, builder.inttoptr(arguments[0], POINTER), signature.args[1], arguments[1])
        return context.get_dummy_value()

    return types.void(types.int64, values), generate


@intrinsic
def record_at(typing_context, table, record):
    """Read a NamedTuple of the class `record`, all fields int64, from the first elements of the int64 table."""
    fields = types.NamedUniTuple(types.int64, len(record.instance_class._fields), record.instance_class)

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], POINTER)
        at = [builder.gep(pointer, [ir.Constant(I64, i)], source_etype=I64) for i in range(len(fields))]
        return cgutils.pack_array(builder, [builder.load(each, typ=I64, align=8) for each in at], I64)

    return fields(types.int64, record), generate


@intrinsic
def call(typing_context, address, arguments):
    """Call the pass at an address with a tuple of 64-bit integers."""

    def generate(context, builder, signature, values):
        stack = cgutils.alloca_once(builder, ir.ArrayType(I64, len(signature.args[1])))
        block = builder.ptrtoint(stack, I64)
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


# item(table, i) reads, and set_item(table, i, value) writes, element i of the int64 table at an address; float_item and
# set_float_item do so for float64 tables.
item = intrinsic(_reader(types.int64, I64))
float_item = intrinsic(_reader(types.float64, ir.DoubleType()))
set_item = intrinsic(_writer(types.int64, I64))
set_float_item = intrinsic(_writer(types.float64, ir.DoubleType()))


@intrinsic
def fetch_and_add(typing_context, address, amount):
    """Add to the int64 at an address, atomically. Returns the value before."""

    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], I64.as_pointer()), arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def read_now(typing_context, address):
    """Read the int64 at an address, atomically: another thread may write it."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8, typ=I64)

    return types.int64(types.int64), generate


@intrinsic
def pause(typing_context):
    """Tell the processor that this thread is waiting for another (x86 only)."""

    def generate(context, builder, signature, arguments):
        if _X86:
            builder.call(cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])  # fmt: skip
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typing_context, address):
    """Start to load the cache line at an address into the caches."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [POINTER, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        # For reading; into all caches; data, not instructions.
        options = [ir.Constant(word, value) for value in (0, 3, 1)]
        builder.call(function, [builder.inttoptr(arguments[0], POINTER), *options])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def bits_of(typing_context, number):
    """Return the bits of a float64 as int64, for an argument of a pass."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], I64)

    return types.int64(types.float64), generate


@intrinsic
def set_float_mode(typing_context, mode):
    """Set this thread's floating-point control word (x86 only). Returns the previous one."""

    def generate(context, builder, signature, arguments):
        if not _X86:
            return ir.Constant(I64, 0)
        word = ir.IntType(32)
        stack = cgutils.alloca_once(builder, word)
        function_type = ir.FunctionType(ir.VoidType(), [POINTER])
        read = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse.stmxcsr")
        write = cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse.ldmxcsr")
        builder.call(read, [stack])
        old = builder.zext(builder.load(stack, typ=word), I64)
        adds = builder.icmp_signed("<", arguments[0], ir.Constant(I64, 0))
        flushing = builder.or_(old, ir.Constant(I64, _FLUSH_BITS))
        builder.store(builder.trunc(builder.select(adds, flushing, arguments[0]), word), stack)
        builder.call(write, [stack])
        return old

    return types.int64(types.int64), generate
