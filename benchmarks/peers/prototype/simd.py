"""A Numba type for sixteen float32 lanes, and the few operations the prototype needs on it."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
F32, I32 = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(F32, LANES)


class VectorType(types.Type):
    def __init__(self):
        super().__init__("f32x16")


vector = VectorType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, VECTOR)


def vector_pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def splat(builder, scalar):
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def fma_function(builder):
    return cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )


@intrinsic
def vload(typingctx, array, index):
    def codegen(context, builder, signature, args):
        return builder.load(vector_pointer(context, builder, signature.args[0], args[0], args[1]), align=4)

    return vector(array, types.intp), codegen


@intrinsic
def vstore(typingctx, array, index, value):
    def codegen(context, builder, signature, args):
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def vsplat(typingctx, scalar):
    def codegen(context, builder, signature, args):
        return splat(builder, args[0])

    return vector(types.float32), codegen


@intrinsic
def vfma(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        return builder.call(fma_function(builder), args)

    return vector(vector, vector, vector), codegen


@intrinsic
def vadd(typingctx, a, b):
    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1])

    return vector(vector, vector), codegen


@intrinsic
def vmul(typingctx, a, b):
    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], args[1])

    return vector(vector, vector), codegen


@intrinsic
def vsum(typingctx, a):
    def codegen(context, builder, signature, args):
        reduce_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(F32, [F32, VECTOR]), f"llvm.vector.reduce.fadd.v{LANES}f32"
        )
        return builder.call(reduce_add, [ir.Constant(F32, -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(vector), codegen


@intrinsic
def bits_to_float(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], F32)

    return types.float32(types.int32), codegen
