"""The prototype's register tile, emitted as LLVM IR by one intrinsic."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from benchmarks.peers.prototype.simd import LANES, VECTOR, fma_function, splat

I64 = ir.IntType(64)


def make_tile(rows, vectors):
    """C[rows, 16 vectors] += A[rows, K] (strides row_a, step_a) @ B[K, 16 vectors] (row stride ldb)."""

    @intrinsic
    def tile(typingctx, c, c0, ldc, a, a0, row_a, step_a, b, b0, ldb, depth):
        def codegen(context, builder, signature, args):
            c, c0, ldc, a, a0, row_a, step_a, b, b0, ldb, depth = args
            c_data, a_data, b_data = (
                context.make_array(kind)(context, builder, value).data
                for kind, value in ((signature.args[0], c), (signature.args[3], a), (signature.args[7], b))
            )
            fma = fma_function(builder)
            cells = [(i, j) for i in range(rows) for j in range(vectors)]

            def const(n):
                return ir.Constant(I64, n)

            def vector_at(base, offset):
                return builder.bitcast(builder.gep(base, [offset]), VECTOR.as_pointer())

            c_at = {
                (i, j): vector_at(c_data, builder.add(c0, builder.add(builder.mul(ldc, const(i)), const(LANES * j))))
                for i, j in cells
            }
            before = {cell: builder.load(c_at[cell], align=4) for cell in cells}
            a_rows = [builder.gep(a_data, [builder.add(a0, builder.mul(row_a, const(i)))]) for i in range(rows)]
            b_base = builder.gep(b_data, [b0])

            entry, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", depth, const(0)), loop, done)

            builder.position_at_end(loop)
            k = builder.phi(I64)
            k.add_incoming(const(0), entry)
            running = {cell: builder.phi(VECTOR) for cell in cells}
            b_row = builder.gep(b_base, [builder.mul(k, ldb)])
            b_vectors = [builder.load(vector_at(b_row, const(LANES * j)), align=4) for j in range(vectors)]
            a_step = builder.mul(k, step_a)
            after = {}
            for i in range(rows):
                a_lane = splat(builder, builder.load(builder.gep(a_rows[i], [a_step])))
                for j in range(vectors):
                    after[i, j] = builder.call(fma, [a_lane, b_vectors[j], running[i, j]])
            next_k = builder.add(k, const(1))
            k.add_incoming(next_k, loop)
            for cell in cells:
                running[cell].add_incoming(before[cell], entry)
                running[cell].add_incoming(after[cell], loop)
            builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

            builder.position_at_end(done)
            total = {cell: builder.phi(VECTOR) for cell in cells}
            for cell in cells:
                total[cell].add_incoming(before[cell], entry)
                total[cell].add_incoming(after[cell], loop)
            for cell in cells:
                builder.store(total[cell], c_at[cell], align=4)
            return context.get_dummy_value()

        index = types.intp
        return types.void(c, index, index, a, index, index, index, b, index, index, index), codegen

    return tile
