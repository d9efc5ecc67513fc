"""Passes that move numbers: gathering rows and targets, filling with zeros, scaling draws, a test for NaN."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import DOUBLE, I64, Emitter, Value


@enter("gather_rows")
def _gather_rows(e: Emitter, tiles: Tiles, out, source, row_stride, order, rows, columns) -> None:
    """Gather rows: out[r, c] = source[order[r], c].

    Reads order (rows,), int64; source (any number of rows, columns) by `row_stride`. Writes out (rows, columns), dense.

    docs/mechanics.md#from-fit-to-a-members-minibatch
    """
    bld = e.builder

    def row(r: Any) -> None:
        row_offset = bld.mul(e.load_scalar(e.offset(order, r, 8), I64), row_stride)
        from_, to = e.offset(source, row_offset), e.offset(out, bld.mul(r, columns))
        whole = bld.and_(columns, e.integer(-e.kind.lanes))
        e.loop(whole, lambda c: e.store(e.load(e.offset(from_, c)), e.offset(to, c)), step=e.kind.lanes)
        e.loop(columns, lambda c: e.store_scalar(e.load_scalar(e.offset(from_, c)), e.offset(to, c)), start=whole)

    e.loop(rows, row)


@enter("gather_targets")
def _gather_targets(e: Emitter, tiles: Tiles, out, ldo, source, source_stride, order, rows, targets) -> None:
    """Gather targets, or weights of rows (float64): out[t, r] = source[t, order[r]].

    Reads order (rows,), int64; source (targets, any number of rows) by `source_stride`.
    Writes out (targets, rows) by `ldo`.

    docs/mechanics.md#from-fit-to-a-members-minibatch
    """
    bld = e.builder

    def target(t: Any) -> None:
        from_, to = e.offset(source, bld.mul(t, source_stride)), e.offset(out, bld.mul(t, ldo))

        def element(r: Any) -> None:
            index = e.load_scalar(e.offset(order, r, 8), I64)
            e.store_scalar(e.load_scalar(e.offset(from_, index)), e.offset(to, r))

        e.loop(rows, element)

    e.loop(targets, target)


@enter("fill")
def _fill(e: Emitter, tiles: Tiles, out, n) -> None:
    """Fill with zeros.

    Reads nothing. Writes out (n,), whole vectors.

    docs/layout.md#vectors-and-lanes
    """
    e.loop(n, lambda i: e.store(e.constant(0.0), e.offset(out, i)), step=e.kind.lanes)


@enter("scale")
def _scale(e: Emitter, tiles: Tiles, out, stride, values, n, factor) -> None:
    """Scale draws to initial weights: out[i] = factor * values[i], computed in float64.

    Reads values (n,), float64; `factor` holds the bits of a float64. Writes out (n,) by `stride`.

    docs/derivations.md#initial-weights
    """
    bld = e.builder
    number = bld.bitcast(factor, DOUBLE)

    def element(i: Any) -> None:
        value = bld.fmul(number, e.load_scalar(e.offset(values, i, 8), DOUBLE))
        e.store_scalar(
            value if e.kind.scalar is DOUBLE else bld.fptrunc(value, e.kind.scalar), e.offset(out, bld.mul(i, stride))
        )

    e.loop(n, element)


@enter("finite")
def _finite(e: Emitter, tiles: Tiles, block, n, verdict) -> None:
    """Test whether all numbers are finite.

    Reads block (n,), whole vectors. Writes verdict (1,), float64: 0 if all numbers are finite, else NaN.

    docs/mechanics.md#ending-early
    """

    def turn(i: Any, total: Any) -> list[Any]:
        x = e.load(e.offset(block, i))
        return [(Value(e, total) + (x - x)).ir]

    (total,) = e.loop(n, turn, e.constant(0.0).ir, step=e.kind.lanes)
    folded = e.folded(Value(e, total))
    e.store_scalar(folded if e.kind.scalar is DOUBLE else e.builder.fpext(folded, DOUBLE), verdict)
