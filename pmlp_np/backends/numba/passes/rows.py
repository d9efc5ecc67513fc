"""Passes that move numbers: gathering rows and targets, scattering results, filling, scaling, looking for NaN."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, add_rows, enter
from pmlp_np.backends.numba.simd import DOUBLE, I64, Emitter, Value


@enter("gather_rows")
def _gather_rows(e: Emitter, tiles: Tiles, out, source, row_stride, order, rows, columns) -> None:
    """out[r, c] = source[order[r], c]; order is int64; out is dense."""
    bld = e.builder

    def row(r: Any) -> None:
        place = bld.mul(e.load_scalar(e.offset(order, r, 8), I64), row_stride)
        from_, to = e.offset(source, place), e.offset(out, bld.mul(r, columns))
        whole = bld.and_(columns, e.integer(-e.kind.lanes))
        e.loop(whole, lambda c: e.store(e.load(e.offset(from_, c)), e.offset(to, c)), step=e.kind.lanes)
        e.loop(columns, lambda c: e.store_scalar(e.load_scalar(e.offset(from_, c)), e.offset(to, c)), start=whole)

    e.loop(rows, row)


@enter("gather_targets")
def _gather_targets(e: Emitter, tiles: Tiles, out, ldo, source, source_stride, first, order, rows, targets) -> None:
    """out[t, r] = source[t, first + r], or source[t, order[r]] where order is not 0."""
    bld = e.builder

    def target(t: Any) -> None:
        from_, to = e.offset(source, bld.mul(t, source_stride)), e.offset(out, bld.mul(t, ldo))

        def element(r: Any, place: Any) -> None:
            e.store_scalar(e.load_scalar(e.offset(from_, place)), e.offset(to, r))

        with bld.if_else(bld.icmp_signed("==", order, e.integer(0))) as (in_order, shuffled):
            with in_order:
                e.loop(rows, lambda r: element(r, bld.add(first, r)))
            with shuffled:
                e.loop(rows, lambda r: element(r, e.load_scalar(e.offset(order, r, 8), I64)))

    e.loop(targets, target)


@enter("scatter_outputs")
def _scatter_outputs(e: Emitter, tiles: Tiles, out, block, ld, rows, outputs) -> None:
    """out[r, o] = block[o, r]; out is dense."""
    bld = e.builder

    def element(r: Any, o: Any) -> None:
        value = e.load_scalar(e.offset(block, bld.add(bld.mul(o, ld), r)))
        e.store_scalar(value, e.offset(out, bld.add(bld.mul(r, outputs), o)))

    e.loop(rows, lambda r: e.loop(outputs, lambda o: element(r, o)))


@enter("fill")
def _fill(e: Emitter, tiles: Tiles, out, count) -> None:
    """Zeros; count is whole vectors."""
    e.loop(count, lambda i: e.store(e.constant(0.0), e.offset(out, i)), step=e.kind.lanes)


@enter("scale")
def _scale(e: Emitter, tiles: Tiles, out, stride, values, count, factor) -> None:
    """out[i * stride] = factor * values[i], computed in float64; `factor` holds the bits of a float64."""
    bld = e.builder
    number = bld.bitcast(factor, DOUBLE)

    def element(i: Any) -> None:
        value = bld.fmul(number, e.load_scalar(e.offset(values, i, 8), DOUBLE))
        e.store_scalar(
            value if e.kind.scalar is DOUBLE else bld.fptrunc(value, e.kind.scalar), e.offset(out, bld.mul(i, stride))
        )

    e.loop(count, element)


@enter("finite")
def _finite(e: Emitter, tiles: Tiles, block, count, verdict) -> None:
    """The float64 at `verdict` becomes 0 if all of block is finite, else NaN; count is whole vectors."""

    def turn(i: Any, total: Any) -> list[Any]:
        x = e.load(e.offset(block, i))
        return [(Value(e, total) + (x - x)).ir]

    (total,) = e.loop(count, turn, e.constant(0.0).ir, step=e.kind.lanes)
    e.store_scalar(e.constant(0.0, DOUBLE).ir, verdict)
    add_rows(e, Value(e, total), e.integer(e.kind.lanes), verdict)
