"""Matrix passes: products in register tiles, dot products along units, and sums of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.passes.registry import Cover, Tiles, enter
from pmlp_np.backends.numba.simd import Emitter, Value, fma

# Functions of a tile: first row, number of rows, first column, number of vectors. Its sums are listed row by row.
Begin = Callable[[Any, int, Any, int], list[Any]]
Finish = Callable[[Any, int, Any, int, list[Any]], None]


def multiply(
    e: Emitter, cover: Cover, begin: Begin, a, a_row, a_k, b, ldb, rows, vectors, depth, finish: Finish
) -> None:
    """Multiply A (rows, depth) and B (depth, vectors), tile by tile in registers; `finish` takes the sums of each tile.

    The sums are begin[r, n] + sum over k of A[r, k] B[k, n]. A is read by the strides a_row and a_k: the same code
    multiplies by A or by its transpose.
    """
    bld, lanes = e.builder, e.kind.lanes

    def tile(n: Any, width: int, r: Any, height: int) -> None:
        columns = bld.mul(n, e.integer(lanes))
        a_at = e.rows(a, r, a_row, height)
        b_at = e.offset(b, columns)

        def turn(k: Any, *accumulators: Any) -> list[Any]:
            b_row, a_k_at = e.offset(b_at, bld.mul(k, ldb)), bld.mul(bld.mul(k, a_k), e.integer(e.kind.itemsize))
            bs = [e.load(e.offset(b_row, j * lanes)) for j in range(width)]
            results = []
            for i in range(height):
                x = e.broadcast(bld.add(a_at[i], a_k_at))
                results += [fma(x, bs[j], Value(e, accumulators[i * width + j])).ir for j in range(width)]
            return results

        finish(r, height, columns, width, e.loop(depth, turn, *begin(r, height, columns, width)))

    # The loop over columns is the outer one, so that a strip of B stays in the nearest cache.
    def strips(widths: tuple[int, ...], odd: int, over_rows: Callable[[Callable[[Any, int], None]], Any]) -> None:
        e.blocks(vectors, widths, lambda n, width: over_rows(lambda r, height: tile(n, width, r, height)) and None, odd)

    left = bld.srem(rows, e.integer(cover.rows))
    whole = bld.sub(rows, left)
    strips(cover.vectors, cover.odd_vectors, lambda body: e.loop(whole, lambda r: body(r, cover.rows), step=cover.rows))
    e.when(
        bld.icmp_signed(">", left, e.integer(0)),
        lambda: strips(cover.left_vectors, 0, lambda body: e.blocks(rows, cover.left_rows, body, start=whole)),
    )


def row_of(e: Emitter, start: Any) -> Begin:
    """Return a `Begin`: the sums of every row start as the same row of vectors."""

    def begin(r: Any, height: int, columns: Any, width: int) -> list[Any]:
        row = e.offset(start, columns)
        return [e.load(e.offset(row, j * e.kind.lanes)).ir for j in range(width)] * height

    return begin


def block_of(e: Emitter, start: Any, stride: Any) -> Begin:
    """Return a `Begin`: the sums of each row start as a row of a block, `stride` elements apart."""

    def begin(r: Any, height: int, columns: Any, width: int) -> list[Any]:
        at = e.rows(e.offset(start, columns), r, stride, height)
        return [e.load(e.offset(row, j * e.kind.lanes)).ir for row in at for j in range(width)]

    return begin


def _halving_tree(e: Emitter, sums: list[Value], segment: int) -> list[Value]:
    """Fold pairs of vectors, in which runs of `segment` lanes hold partial sums: half the vectors, half the lanes."""
    lanes = e.kind.lanes
    half = segment // 2
    starts = range(0, 2 * lanes, segment)
    low = [s + i for s in starts for i in range(half)]
    high = [s + half + i for s in starts for i in range(half)]
    return [e.shuffle(a, b, low) + e.shuffle(a, b, high) for a, b in zip(sums[::2], sums[1::2], strict=True)]


def _halved(e: Emitter, sums: list[Value], segment: int) -> list[Value]:
    """Fold vectors, in which runs of `segment` lanes hold partial sums, down to one vector."""
    while len(sums) > 1:
        sums, segment = _halving_tree(e, sums, segment), segment // 2
    return sums


def _dots(
    e: Emitter, tiles: Tiles, p, ldp, q, ldq, n_p, n_q, vectors, finish: Callable[[Any, Any, Value, Any], None]
) -> None:
    """Call finish(j, i, dots, mask) with the dot products of rows i, i + 1, ... of P, one per lane, and row j of Q.

    The mask has the lanes of rows below n_p. Rows of P up to the next multiple of the lane count are read.
    """
    bld, lanes = e.builder, e.kind.lanes

    def tile(i: Any, j: Any, count: int) -> list[Value]:
        """Compute dot products of `lanes` rows of P with `count` rows of Q, in groups that fill the registers."""
        at_once = min(tiles.dot_rows // count, lanes)
        q_at = e.rows(q, j, ldq, count)
        parts: list[list[Value]] = [[] for _ in range(count)]
        for group in range(0, lanes, at_once):
            p_at = e.rows(p, bld.add(i, e.integer(group)), ldp, at_once)

            def turn(k: Any, *sums: Any, p_at: list[Any] = p_at) -> list[Any]:
                column = bld.mul(k, e.integer(lanes))
                q_vectors = [e.load(e.offset(at, column)) for at in q_at]
                p_vectors = [e.load(e.offset(at, column)) for at in p_at]
                pairs = [(x, y) for y in q_vectors for x in p_vectors]
                return [fma(x, y, Value(e, s)).ir for (x, y), s in zip(pairs, sums, strict=True)]

            sums = [Value(e, s) for s in e.loop(vectors, turn, *[e.constant(0.0).ir] * (count * at_once))]
            for c, part in enumerate(parts):
                part += _halved(e, sums[c * at_once : (c + 1) * at_once], lanes)
        return [_halved(e, part, lanes // at_once)[0] for part in parts]

    def block(i: Any) -> None:
        mask = e.first_lanes(bld.sub(n_p, i))

        def rows_of_q(j: Any, count: int) -> None:
            for c, dots in enumerate(tile(i, j, count)):
                finish(bld.add(j, e.integer(c)), i, dots, mask)

        e.blocks(n_q, (2, 1), rows_of_q)

    e.loop(n_p, block, step=lanes)


@enter("outputs")
def _outputs(e: Emitter, tiles: Tiles, rows, first, last, raw, ld, start, a, stride, w, outputs, vectors) -> None:
    """Compute raw outputs: raw[o, r] = start[o] + sum over n of a[r, n] w[o, n], zero from `rows` on.

    Reads a (rows, units), the last hidden layer, and w (outputs, units), both by `stride`, whole `vectors`; start
    (outputs,).
    Writes raw (outputs, rows) by `ld`.

    docs/kernels.md#the-way-back, docs/derivations.md#layers
    """

    def finish(o: Any, r: Any, dots: Value, mask: Any) -> None:
        total = dots + e.broadcast(e.offset(start, o))
        e.store(e.masked(mask, total), e.offset(raw, e.builder.add(e.builder.mul(o, ld), r)))

    _dots(e, tiles, a, stride, w, stride, rows, outputs, vectors, finish)


@enter("hidden_backward")
def _hidden_backward(e: Emitter, tiles: Tiles, rows, first, last, d, d_stride, dz, w, stride, fan_in, vectors) -> None:
    """Compute dz of the layer below from dz of a layer: d[r, i] *= sum over n of w[i, n] dz[r, n].

    Reads dz (rows, units) and w (fan_in, units), both by `stride`, whole `vectors`.
    Writes d (rows, fan_in) by `d_stride`, in place: derivatives of the layer below, which become its dz.

    docs/kernels.md#the-program, docs/derivations.md#layers
    """

    def finish(r: Any, i: Any, dots: Value, mask: Any) -> None:
        d_at = e.offset(d, e.builder.add(e.builder.mul(r, d_stride), i))
        e.store(e.masked(mask, dots * e.load(d_at)), d_at)

    _dots(e, tiles, w, stride, dz, stride, fan_in, rows, vectors, finish)


@enter("column_sums")
def _column_sums(e: Emitter, tiles: Tiles, rows, first, last, out, block, stride, vectors) -> None:
    """Compute the gradient by hidden biases: out[n] += sum over rows of block[r, n], row after row.

    Reads block (rows, units) by `stride`, whole `vectors`. Writes out (units,), starting from 0 with the first block.

    docs/kernels.md#the-program, docs/derivations.md#layers
    """
    bld, lanes = e.builder, e.kind.lanes
    begins = bld.icmp_signed("==", first, e.integer(1))
    after_first = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))

    def columns(n: Any, width: int) -> None:
        at = bld.mul(n, e.integer(lanes))
        out_at = [e.offset(out, bld.add(at, e.integer(j * lanes))) for j in range(width)]

        def turn(r: Any, *sums: Any) -> list[Any]:
            row = bld.add(bld.mul(r, stride), at)
            return [
                (Value(e, s) + e.load(e.offset(block, bld.add(row, e.integer(j * lanes))))).ir
                for j, s in enumerate(sums)
            ]

        totals = e.loop(rows, turn, *[e.masked(after_first, e.load(address)).ir for address in out_at])
        for address, total in zip(out_at, totals, strict=True):
            e.store(Value(e, total), address)

    e.blocks(vectors, (4, 2, 1), columns)


@enter("by_output")
def _by_output(e: Emitter, tiles: Tiles, rows, first, last, out, ldo, block, ld, outputs) -> None:
    """Transpose rows to lines of outputs: out[o, r] = block[r, o].

    Reads block (rows, outputs) by `ld`. Writes out (outputs, rows) by `ldo`.

    docs/kernels.md#vectors-and-passes
    """
    bld = e.builder

    def element(o: Any, r: Any) -> None:
        value = e.load_scalar(e.offset(block, bld.add(bld.mul(r, ld), o)))
        e.store_scalar(value, e.offset(out, bld.add(bld.mul(o, ldo), r)))

    e.loop(outputs, lambda o: e.loop(rows, lambda r: element(o, r)))


@enter("by_row")
def _by_row(e: Emitter, tiles: Tiles, rows, first, last, out, ldo, block, ld, outputs) -> None:
    """Transpose lines of outputs to rows: out[r, o] = block[o, r], zero from `outputs` up to `ldo`.

    Reads block (outputs, rows) by `ld`. Writes out (rows, outputs) by `ldo`.

    docs/kernels.md#vectors-and-passes
    """
    bld = e.builder

    def element(r: Any, o: Any) -> None:
        value = e.load_scalar(e.offset(block, bld.add(bld.mul(o, ld), r)))
        e.store_scalar(value, e.offset(out, bld.add(bld.mul(r, ldo), o)))

    def row(r: Any) -> None:
        e.loop(outputs, lambda o: element(r, o))
        zero = e.constant(0.0, e.kind.scalar).ir
        e.loop(ldo, lambda o: e.store_scalar(zero, e.offset(out, bld.add(bld.mul(r, ldo), o))), start=outputs)

    e.loop(rows, row)
