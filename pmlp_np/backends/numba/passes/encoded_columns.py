"""Passes of encoded columns: the part of a first layer that reads columns in piecewise-linear encoding.

A row whose value lies in bin j, with a share f of the bin below it, has the inputs 1 (j times), f, 0, ..., minus
centers. Their product with the column's weights w is (1 - f) T[j] + f T[j + 1], where T has sums of the first weights:

    T[k] = sum over i < k of w[i] - sum over i of centers[i] w[i]        k = 0 ... bins, then two rows of zeros

Forward a row gathers two rows of T for each column; backward it adds to two rows of dT. Missing cells gather zeros. T
is made of the weights before the first block and after each step; dT is turned into dw before the step.

`columns` describes the encoded columns, (n, 2) int64: the first row of a column's table, and its number of bins.
Programs of members that read no encoded columns have none of these passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import I64, Emitter, Value, fma

# Rows of a column's table: the sums, one more than bins, and the zeros that missing cells read.
ROWS_BEYOND_BINS = 3


def _strips(e: Emitter, tiles: Tiles, vectors: Any, body: Callable[[Any, int], None]) -> None:
    """Emit body(first element, vectors) for each strip of a row, which stays in registers."""
    lanes = e.integer(e.kind.lanes)
    sizes = (2 * tiles.strips[0], *tiles.strips)
    e.blocks(vectors, sizes, lambda n, count: body(e.builder.mul(n, lanes), count))


def _loads(e: Emitter, address: Any, count: int) -> list[Value]:
    return [e.load(e.offset(address, j * e.kind.lanes)) for j in range(count)]


def _stores(e: Emitter, values: list[Value], address: Any) -> None:
    for j, value in enumerate(values):
        e.store(value, e.offset(address, j * e.kind.lanes))


def _each_column(e: Emitter, columns: Any, n: Any, body: Callable[[Any, Any, Any], None]) -> None:
    """Emit body(first row of the table, bins, bins of the columns before) for each encoded column."""

    def turn(c: Any, before: Any) -> list[Any]:
        at = e.offset(columns, e.builder.mul(c, e.integer(2)), 8)
        bins = e.load_scalar(e.offset(at, 1, 8), I64)
        body(e.load_scalar(at, I64), bins, before)
        return [e.builder.add(before, bins)]

    e.loop(n, turn, e.integer(0))


def _weighted_rows(
    e: Emitter, x: Any, columns: Any, c: Any, table: Any, stride: Any
) -> tuple[tuple[Value, Any], tuple[Value, Any]]:
    """Return the factors of the two rows of a table that a value lies between, each with the row's address.

    x: the row's first index and share. c: number of the column.
    """
    bld = e.builder
    two_c = bld.mul(c, e.integer(2))
    pair = e.offset(x, two_c)
    first = e.load_scalar(e.offset(columns, two_c, 8), I64)
    low = e.offset(table, bld.mul(bld.add(first, bld.fptosi(e.load_scalar(pair), I64)), stride))
    share = e.broadcast(e.offset(pair, 1))
    return (e.constant(1.0) - share, low), (share, e.offset(low, stride))


@enter("encoded_tables")
def _encoded_tables(e: Emitter, tiles: Tiles, table, w, scales, centers, columns, n, stride, vectors) -> None:
    """Compute the table T of each encoded column from the column's weights, times their scales if these are given.

    Reads w (bins of all columns, units) by `stride`, whole `vectors`; scales (bins of all columns,), or 0: none;
    centers (bins of all columns,); columns (n, 2).
    Writes table, the columns' rows, like w.

    docs/kernels.md#encoded-columns
    """
    with e.builder.if_else(e.builder.icmp_signed("==", scales, e.integer(0))) as (without, with_scales):
        with without:
            _tables(e, tiles, table, w, None, centers, columns, n, stride, vectors)
        with with_scales:
            _tables(e, tiles, table, w, scales, centers, columns, n, stride, vectors)


def _tables(e: Emitter, tiles: Tiles, table, w, scales, centers, columns, n, stride, vectors) -> None:
    bld = e.builder

    def weights(w_at: Any, before: Any, k: Any, count: int) -> list[Value]:
        found = _loads(e, e.offset(w_at, bld.mul(k, stride)), count)
        if scales is None:
            return found
        scale = e.broadcast(e.offset(scales, bld.add(before, k)))
        return [scale * x for x in found]

    def column(first: Any, bins: Any, before: Any) -> None:
        def strip(at: Any, count: int) -> None:
            w_at = e.offset(e.offset(w, bld.mul(before, stride)), at)
            table_at = e.offset(e.offset(table, bld.mul(first, stride)), at)
            zeros = [e.constant(0.0)] * count

            def center(k: Any, *sums: Any) -> list[Any]:
                factor = e.broadcast(e.offset(centers, bld.add(before, k)))
                read = weights(w_at, before, k, count)
                return [fma(factor, x, Value(e, s)).ir for x, s in zip(read, sums, strict=True)]

            means = e.loop(bins, center, *(zero.ir for zero in zeros))
            start = [zero - Value(e, mean) for zero, mean in zip(zeros, means, strict=True)]
            _stores(e, start, table_at)

            def add(k: Any, *sums: Any) -> list[Any]:
                read = weights(w_at, before, k, count)
                found = [Value(e, s) + x for s, x in zip(sums, read, strict=True)]
                _stores(e, found, e.offset(e.offset(table_at, bld.mul(k, stride)), stride))
                return [value.ir for value in found]

            e.loop(bins, add, *(value.ir for value in start))
            end = e.offset(e.offset(table_at, bld.mul(bins, stride)), stride)
            _stores(e, zeros, end)
            _stores(e, zeros, e.offset(end, stride))

        _strips(e, tiles, vectors, strip)

    _each_column(e, columns, n, column)


@enter("encoded_start")
def _encoded_start(
    e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, out, stride, start, table, columns, plain, n, vectors
) -> None:  # fmt: skip
    """Compute what a first layer's sums start from: start plus the products of encoded columns with their weights.

    out[r] = start + sum over columns of (1 - f) T[j] + f T[j + 1], column after column.

    Reads x (rows, plain + 2 n) by `x_stride`; table by `stride`, whole `vectors`; start (units,); columns (n, 2).
    Writes out (rows, units) by `stride`.

    docs/kernels.md#encoded-columns
    """
    bld = e.builder

    def row(r: Any) -> None:
        x_at = e.offset(x, bld.add(bld.mul(r, x_stride), plain))
        out_at = e.offset(out, bld.mul(r, stride))

        def strip(at: Any, count: int) -> None:
            table_at = e.offset(table, at)

            def add(c: Any, *sums: Any) -> list[Any]:
                found = [Value(e, s) for s in sums]
                for factor, address in _weighted_rows(e, x_at, columns, c, table_at, stride):
                    found = [fma(factor, t, s) for t, s in zip(_loads(e, address, count), found, strict=True)]
                return [value.ir for value in found]

            begin = [value.ir for value in _loads(e, e.offset(start, at), count)]
            _stores(e, [Value(e, s) for s in e.loop(n, add, *begin)], e.offset(out_at, at))

        _strips(e, tiles, vectors, strip)

    e.loop(rows, row)


@enter("encoded_backward")
def _encoded_backward(
    e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, dz, stride, dtable, columns, plain, n, vectors
) -> None:  # fmt: skip
    """Compute the gradient by the tables: dT[j] += (1 - f) dz[r], dT[j + 1] += f dz[r], row after row.

    Reads x (rows, plain + 2 n) by `x_stride`; dz (rows, units) by `stride`, whole `vectors`; columns (n, 2).
    Writes dtable by `stride`, zeros before the first block.

    docs/kernels.md#encoded-columns
    """
    bld = e.builder

    # All rows of a column are next to each other in time, so that a strip of its table stays in the nearest cache.
    def strip(at: Any, count: int) -> None:
        dz_at, dtable_at = e.offset(dz, at), e.offset(dtable, at)

        def column(c: Any) -> None:
            def row(r: Any) -> None:
                gradient = _loads(e, e.offset(dz_at, bld.mul(r, stride)), count)
                x_at = e.offset(x, bld.add(bld.mul(r, x_stride), plain))
                for factor, address in _weighted_rows(e, x_at, columns, c, dtable_at, stride):
                    sums = _loads(e, address, count)
                    _stores(e, [fma(factor, g, s) for g, s in zip(gradient, sums, strict=True)], address)

            e.loop(rows, row)

        e.loop(n, column)

    _strips(e, tiles, vectors, strip)


@enter("encoded_gradient")
def _encoded_gradient(e: Emitter, tiles: Tiles, dw, dtable, centers, columns, n, stride, vectors) -> None:
    """Compute the gradient by the weights of encoded columns from that by their tables.

    dw[i] = sum over k > i of dT[k], from the last k on, - centers[i] * sum over all k of dT[k]

    Reads dtable by `stride`, whole `vectors`; centers (bins of all columns,); columns (n, 2).
    Writes dw (bins of all columns, units) by `stride`, and zeros to dtable: the next minibatch starts from them, and
    they are written while the memory is in the nearest cache.

    docs/kernels.md#encoded-columns
    """
    bld = e.builder

    def column(first: Any, bins: Any, before: Any) -> None:
        def strip(at: Any, count: int) -> None:
            dtable_at = e.offset(e.offset(dtable, bld.mul(first, stride)), at)
            dw_at = e.offset(e.offset(dw, bld.mul(before, stride)), at)
            zeros = [e.constant(0.0).ir] * count

            def total(k: Any, *sums: Any) -> list[Any]:
                parts = _loads(e, e.offset(dtable_at, bld.mul(k, stride)), count)
                return [(Value(e, s) + x).ir for s, x in zip(sums, parts, strict=True)]

            totals = e.loop(bld.add(bins, e.integer(1)), total, *zeros)
            none = [e.constant(0.0)] * count

            def down(k: Any, *sums: Any) -> list[Any]:
                i = bld.sub(bld.sub(bins, k), e.integer(1))
                row = bld.mul(i, stride)
                above = e.offset(e.offset(dtable_at, row), stride)
                found = [Value(e, s) + x for s, x in zip(sums, _loads(e, above, count), strict=True)]
                _stores(e, none, above)
                factor = e.constant(0.0) - e.broadcast(e.offset(centers, bld.add(before, i)))
                values = [fma(factor, Value(e, t), s) for t, s in zip(totals, found, strict=True)]
                _stores(e, values, e.offset(dw_at, row))
                return [value.ir for value in found]

            e.loop(bins, down, *zeros)
            _stores(e, none, dtable_at)

        _strips(e, tiles, vectors, strip)

    _each_column(e, columns, n, column)
