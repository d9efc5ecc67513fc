"""Instructions: the address of a pass and its arguments, in 64-bit words. How they are written, changed and run.

    instruction over a block of rows:   pass | Block: rows, first, last | arguments
    other instruction:                  pass | arguments

Arguments are NamedTuples, so that no caller counts words: see `block_arguments` and `step_arguments`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pmlp_np.backends.numba.intrinsics import write_integers
from pmlp_np.backends.numba.program import block_arguments, step_arguments
from pmlp_np.backends.numba.program.block_arguments import Block
from pmlp_np.backends.numba.simd import I64, POINTER, VECTOR_BYTES

# The value of an argument until it is set, anew for each block of rows or each minibatch.
LATER: Any = 0
_WORD_BYTES = 8


def arguments_of(module: Any) -> list[Any]:
    """Return the NamedTuples that a module defines."""
    return [entry for entry in vars(module).values() if hasattr(entry, "_fields")]


def over_block(arguments: Any) -> bool:
    """Whether the instruction with these arguments (a class) is one over a block of rows."""
    return bool(arguments.__module__ == block_arguments.__name__)


def _arguments_at(arguments: Any) -> int:
    """Return the bytes from an instruction's start to its arguments."""
    return _WORD_BYTES * (1 + (len(Block._fields) if over_block(arguments) else 0))


def _longest() -> int:
    """Return the bytes of the longest instruction."""
    every = arguments_of(block_arguments) + arguments_of(step_arguments)
    return max(_arguments_at(each) + _WORD_BYTES * len(each._fields) for each in every)


# Every instruction takes as many bytes as the longest one, in whole cache lines.
INSTRUCTION_BYTES = -(-_longest() // VECTOR_BYTES) * VECTOR_BYTES


def _offset(arguments: Any, field: str) -> int:
    """Return the bytes from an instruction's start to one of its arguments."""
    return _arguments_at(arguments) + _WORD_BYTES * arguments._fields.index(field)


@intrinsic
def put(typing_context, at, address, arguments):
    """Write an instruction: the address of its pass (0: it is skipped), and a NamedTuple of arguments.

    Returns the address of the next instruction. The `Block` of an instruction over a block is left to `set_block`.
    """
    offset = _arguments_at(arguments.instance_class)

    def generate(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], POINTER), align=8)
        first = builder.inttoptr(builder.add(values[0], ir.Constant(I64, offset)), POINTER)
        write_integers(context, builder, first, signature.args[2], values[2])
        return builder.add(values[0], ir.Constant(I64, INSTRUCTION_BYTES))

    return types.int64(types.int64, types.int64, arguments), generate


@intrinsic(prefer_literal=True)
def field_address(typing_context, at, arguments, field):
    """Return the address of an argument of the instruction at `at`: `field` of the class `arguments`."""
    offset = _offset(arguments.instance_class, field.literal_value)

    def generate(context, builder, signature, values):
        return builder.add(values[0], ir.Constant(I64, offset))

    return types.int64(types.int64, arguments, field), generate


@intrinsic(prefer_literal=True)
def set_field(typing_context, at, arguments, field, value):
    """Set an argument of the instruction at `at`: `field` of the class `arguments`."""
    offset = _offset(arguments.instance_class, field.literal_value)

    def generate(context, builder, signature, values):
        pointer = builder.inttoptr(builder.add(values[0], ir.Constant(I64, offset)), POINTER)
        builder.store(values[3], pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, arguments, field, types.int64), generate


@intrinsic
def set_block(typing_context, at, block):
    """Set the `Block` of an instruction over a block of rows."""

    def generate(context, builder, signature, values):
        first = builder.inttoptr(builder.add(values[0], ir.Constant(I64, _WORD_BYTES)), POINTER)
        write_integers(context, builder, first, signature.args[1], values[1])
        return context.get_dummy_value()

    return types.void(types.int64, block), generate


@intrinsic
def run(typing_context, at):
    """Call the pass of the instruction at `at` with its arguments."""

    def generate(context, builder, signature, values):
        address = builder.load(builder.inttoptr(values[0], POINTER), typ=I64, align=8)
        arguments = builder.add(values[0], ir.Constant(I64, _WORD_BYTES))
        function_type = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(builder.inttoptr(address, function_type.as_pointer()), [arguments])
        return context.get_dummy_value()

    return types.void(types.int64), generate
