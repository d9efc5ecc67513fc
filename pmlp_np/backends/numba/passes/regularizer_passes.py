"""Passes of regularizers: dropout between layers and of features, clipping of gradients, averaged weights.

Programs of members that use no regularizer have none of these passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.program.step_arguments import Cursor, Tensor
from pmlp_np.backends.numba.simd import DOUBLE, I64, Emitter, Value, fma, intrinsic
from pmlp_np.formulas.regularizers import NORM_STRANDS
from pmlp_np.formulas.step_lists import average_steps, clip_steps, dropout_steps


def _factors(e: Emitter, rows, unit, threshold, scale, key, layer, cursor, use: Callable[[Any, Value], None]) -> None:
    """Emit use(row, factors) for each row of a block; factors are 0 or `scale`, of a vector of units from `unit` on."""
    bld, lanes = e.builder, e.kind.lanes
    epoch, first = (e.load_scalar(e.offset(cursor, i, 8), I64) for i in range(len(Cursor._fields)))
    number = bld.bitcast(scale, DOUBLE)
    scales = e.splat(number if e.kind.scalar is DOUBLE else bld.fptrunc(number, e.kind.scalar))
    lane = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    units = bld.add(e.splat(unit).ir, lane)
    bound = e.splat(threshold).ir
    stop = bld.ashr(bld.add(bld.add(first, rows), e.integer(3)), e.integer(2))

    def four(n: Any) -> None:
        words = emit(e, dropout_steps(), *(Value(e, x) for x in (n, epoch, layer, units, key)))
        row = bld.sub(bld.mul(n, e.integer(4)), first)
        for i, word in enumerate(words):
            r = bld.add(row, e.integer(i))
            stays = bld.icmp_unsigned(">=", word.ir, bound)
            inside = bld.and_(bld.icmp_signed(">=", r, e.integer(0)), bld.icmp_signed("<", r, rows))

            def one(r: Any = r, stays: Any = stays) -> None:
                use(r, e.masked(stays, scales))

            e.when(inside, one)

    e.loop(stop, four, start=bld.ashr(first, e.integer(2)))


@enter("dropout")
def _dropout(
    e: Emitter, tiles: Tiles, rows, first, last, a, d, stride, vectors, unit, threshold, scale, key, layer, cursor
) -> None:
    """Apply dropout to a hidden layer's units from number `unit` on: multiply a and d by 0 or `scale`.

    A unit is dropped where a random word is below `threshold`; words are a function of `key`, the epoch, `layer`, the
    unit, and the row's position in the epoch's order. `scale` holds the bits of a float64.

    Reads cursor (2,), int64: the epoch, and the position of the first row. Writes a and d (rows, units), activations
    and derivatives, by `stride`, whole `vectors`, in place.

    docs/derivations.md#regularizers
    """
    bld, lanes = e.builder, e.kind.lanes

    def vector(v: Any) -> None:
        column = bld.mul(v, e.integer(lanes))

        def use(r: Any, factors: Value) -> None:
            at = bld.add(bld.mul(r, stride), column)
            for block in (a, d):
                address = e.offset(block, at)
                e.store(e.load(address) * factors, address)

        _factors(e, rows, bld.add(unit, column), threshold, scale, key, layer, cursor, use)

    e.loop(vectors, vector)


@enter("input_dropout")
def _input_dropout(
    e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, out, features, threshold, scale, key, cursor
) -> None:
    """Apply dropout to features: out[r] = x[r] times 0 or `scale`; `threshold` and `key` as for `dropout`.

    Reads x (rows, features) by `x_stride`; cursor (2,), int64. Writes out (rows, features), dense; it may be x.

    docs/derivations.md#regularizers
    """
    bld, lanes = e.builder, e.kind.lanes

    def vector(column: Any) -> None:
        mask = e.first_lanes(bld.sub(features, column))

        def use(r: Any, factors: Value) -> None:
            values = e.load_masked(e.offset(x, bld.add(bld.mul(r, x_stride), column)), mask)
            e.store_masked(values * factors, e.offset(out, bld.add(bld.mul(r, features), column)), mask)

        _factors(e, rows, column, threshold, scale, key, e.integer(0), cursor, use)

    e.loop(features, vector, step=lanes)


@enter("clip")
def _clip(e: Emitter, tiles: Tiles, gradient, tensors, n, limit) -> None:
    """Clip the gradient: scale it down to the L2 norm `limit` where its norm is larger.

    Squares are added up in float64, tensor after tensor, to NORM_STRANDS sums per lane: row r of a tensor to the sum
    r mod NORM_STRANDS. Two halving trees follow, over these and over lanes. `limit` holds the bits of a float64.

    Reads tensors (n, Tensor), int64: of each part of the gradient its offset, stride, number of rows and width, and the
    bits of a float64 that multiplies its elements in the norm.
    Writes gradient (block,), in place.

    docs/derivations.md#regularizers
    """
    bld, lanes, scalar = e.builder, e.kind.lanes, e.kind.scalar
    wide = ir.VectorType(DOUBLE, lanes)
    sums = cgutils.alloca_once(bld, ir.ArrayType(wide, NORM_STRANDS))

    def strand(i: Any) -> Any:
        return bld.gep(sums, [e.integer(0), i], inbounds=True)

    def each_row(use: Callable[..., None]) -> None:
        """Emit use(row, address, width, factor) for every row of the gradient."""

        def tensor(i: Any) -> None:
            words = len(Tensor._fields)
            entry = [e.offset(tensors, bld.add(bld.mul(i, e.integer(words)), e.integer(k)), 8) for k in range(words)]
            part = Tensor(*[e.load_scalar(address, I64) for address in entry])
            factor = e.splat(bld.bitcast(part.factor, DOUBLE))

            def row(r: Any) -> None:
                start = e.offset(gradient, bld.add(part.offset, bld.mul(r, part.stride)))
                use(r, start, part.width, factor)

            e.loop(part.rows, row)

        e.loop(n, tensor)

    def add_squares(r: Any, start: Any, width: Any, factor: Value) -> None:
        at = strand(bld.and_(r, e.integer(NORM_STRANDS - 1)))

        def vector(column: Any, total: Any) -> list[Any]:
            x = e.masked(e.first_lanes(bld.sub(width, column)), e.load(e.offset(start, column)))
            x = x if scalar is DOUBLE else Value(e, bld.fpext(x.ir, wide))
            x = x * factor
            return [fma(x, x, Value(e, total)).ir]

        (total,) = e.loop(width, vector, bld.load(at), step=lanes)
        bld.store(total, at)

    for i in range(NORM_STRANDS):
        bld.store(e.constant(0.0, wide).ir, strand(e.integer(i)))
    each_row(add_squares)
    totals = [Value(e, bld.load(strand(e.integer(i)))) for i in range(NORM_STRANDS)]
    while len(totals) > 1:
        totals = [a + b for a, b in zip(totals, totals[len(totals) // 2 :], strict=False)]
    norm = Value(e, intrinsic(e, "sqrt", e.folded(totals[0])))
    (factor,) = emit(e, clip_steps(), norm, Value(e, bld.bitcast(limit, DOUBLE)))
    factors = e.splat(factor.ir if scalar is DOUBLE else bld.fptrunc(factor.ir, scalar))

    def scale(r: Any, start: Any, width: Any, factor: Value) -> None:
        def vector(column: Any) -> None:
            address = e.offset(start, column)
            e.store(e.masked(e.first_lanes(bld.sub(width, column)), e.load(address) * factors), address)

        e.loop(width, vector, step=lanes)

    e.when((factor < 1.0).ir, lambda: each_row(scale))


@enter("average")
def _average(e: Emitter, tiles: Tiles, average, w, n, decay, step) -> None:
    """Average weights after a step: a copy of the weights after the first, then their exponential average by `decay`.

    Reads w (n,), whole vectors; step (1,), int64: the step's number, from 1. `decay` holds the bits of a float64.
    Writes average (n,).

    docs/derivations.md#regularizers
    """
    bld, scalar = e.builder, e.kind.scalar
    number = bld.bitcast(decay, DOUBLE)

    def spread(x: Any) -> Value:
        return e.splat(x if scalar is DOUBLE else bld.fptrunc(x, scalar))

    old_share, new_share = spread(number), spread(bld.fsub(ir.Constant(DOUBLE, 1.0), number))
    starts = bld.icmp_signed("==", e.load_scalar(step, I64), e.integer(1))

    def vector(i: Any) -> None:
        address, new = e.offset(average, i), e.load(e.offset(w, i))
        (updated,) = emit(e, average_steps(e.kind.name), e.load(address), new, old_share, new_share)
        e.store(Value(e, bld.select(starts, new.ir, updated.ir)), address)

    e.loop(n, vector, step=e.kind.lanes)
