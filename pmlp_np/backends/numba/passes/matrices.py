"""Matrix passes: products in register tiles, dot products along units, and sums of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import I64, Emitter, Value, Words

# What becomes of a finished tile: finish(row numbers, first column, number of vectors, sums row by row).
Finish = Callable[[list[Any], Any, int, list[Any]], None]


def multiply(
    e: Emitter, tiles: Tiles, start, start_stride, a, a_row, a_k, b, ldb, rows, vectors, depth, finish: Finish
) -> None:
    """start[r, n] + sum over k of A[r, k] B[k, n], n over whole vectors, tile by tile in registers, to `finish`.

    A is read by strides, so that the same code multiplies by A or by its transpose. `start_stride` 0 adds one row to
    all.
    """
    bld, lanes = e.builder, e.kind.lanes

    def tile(n: Any, width: int, r: Any, height: int) -> None:
        columns = bld.mul(n, e.integer(lanes))
        row = [bld.add(r, e.integer(i)) for i in range(height)]
        start_at = [e.offset(start, bld.add(bld.mul(i, start_stride), columns)) for i in row]
        a_at = [e.offset(a, bld.mul(i, a_row)) for i in row]
        b_at = e.offset(b, columns)
        first = [e.load(e.offset(at, j * lanes)).ir for at in start_at for j in range(width)]

        def turn(k: Any, *accumulators: Any) -> list[Any]:
            b_row, a_k_at = e.offset(b_at, bld.mul(k, ldb)), bld.mul(bld.mul(k, a_k), e.integer(e.kind.itemsize))
            bs = [e.load(e.offset(b_row, j * lanes)) for j in range(width)]
            results = []
            for i in range(height):
                x = e.broadcast(bld.add(a_at[i], a_k_at))
                results += [Words.fma(x, bs[j], Value(e, accumulators[i * width + j])).ir for j in range(width)]
            return results

        finish(row, columns, width, e.loop(depth, turn, *first))

    # Columns outside, so that a strip of B stays in the nearest cache while the rows go by.
    def strips(widths: tuple[int, ...], odd: int, over_rows: Callable[[Callable[[Any, int], None]], Any]) -> None:
        e.blocks(vectors, widths, lambda n, width: over_rows(lambda r, height: tile(n, width, r, height)) and None, odd)

    left = bld.srem(rows, e.integer(tiles.rows))
    whole = bld.sub(rows, left)
    strips(tiles.vectors, tiles.odd_vectors, lambda body: e.loop(whole, lambda r: body(r, tiles.rows), step=tiles.rows))
    e.when(
        bld.icmp_signed(">", left, e.integer(0)),
        lambda: strips(tiles.left_vectors, 0, lambda body: e.blocks(rows, tiles.left_rows, body, start=whole)),
    )


@enter("gemm")
def _gemm(e: Emitter, tiles: Tiles, c, ldc, start, start_stride, a, a_row, a_k, b, ldb, rows, vectors, depth) -> None:
    """C[r, n] = start[r, n] + sum over k of A[r, k] B[k, n], n over whole vectors."""
    bld, lanes = e.builder, e.kind.lanes

    def finish(row: list[Any], columns: Any, width: int, sums: list[Any]) -> None:
        places = [bld.add(bld.mul(i, ldc), bld.add(columns, e.integer(j * lanes))) for i in row for j in range(width)]
        for place, total in zip(places, sums, strict=True):
            e.store(Value(e, total), e.offset(c, place))

    multiply(e, tiles, start, start_stride, a, a_row, a_k, b, ldb, rows, vectors, depth, finish)


@enter("output_slopes")
def _output_slopes(e: Emitter, tiles: Tiles, d, slope, ld, w, rows, vectors, outputs, sums, go_on) -> None:
    """d[r, n] *= sum over outputs of slope[o, r] W[o, n]: derivatives of the last hidden layer become slopes.

    sums (0: none) receives the sums of d over rows, as from `column_sums`, while d is in registers.
    """
    bld, lanes = e.builder, e.kind.lanes
    stride = bld.mul(vectors, e.integer(lanes))
    wanted = bld.icmp_signed("!=", sums, e.integer(0))
    going_on = e.first_lanes(bld.mul(bld.mul(go_on, bld.zext(wanted, I64)), e.integer(lanes)))

    def columns(n: Any, width: int) -> None:
        at = [bld.add(bld.mul(n, e.integer(lanes)), e.integer(j * lanes)) for j in range(width)]
        # Without a place for sums, what d holds is read instead, and dropped.
        kept = bld.select(wanted, sums, d)
        start = [e.masked(going_on, e.load(e.offset(kept, place))).ir for place in at]

        def slopes(weigh: Callable[[Any], list[Value]]) -> None:
            def row(r: Any, *totals: Any) -> list[Any]:
                results = []
                for place, weighted, total in zip(at, weigh(r), totals, strict=True):
                    here = e.offset(d, bld.add(bld.mul(r, stride), place))
                    value = weighted * e.load(here)
                    e.store(value, here)
                    results.append((Value(e, total) + value).ir)
                return results

            totals = e.loop(rows, row, *start)

            def keep() -> None:
                for place, total in zip(at, totals, strict=True):
                    e.store(Value(e, total), e.offset(sums, place))

            e.when(wanted, keep)

        def over_outputs(r: Any) -> list[Value]:
            def output(o: Any, *products: Any) -> list[Any]:
                s = e.broadcast(e.offset(slope, bld.add(bld.mul(o, ld), r)))
                line = e.offset(w, bld.mul(o, stride))
                return [
                    Words.fma(s, e.load(e.offset(line, n)), Value(e, x)).ir for n, x in zip(at, products, strict=True)
                ]

            return [Value(e, x) for x in e.loop(outputs, output, *[e.constant(0.0).ir] * width)]

        with bld.if_else(bld.icmp_signed("==", outputs, e.integer(1))) as (one, many):
            with one:
                weights = [e.load(e.offset(w, n)) for n in at]
                slopes(lambda r: [e.broadcast(e.offset(slope, r)) * weight for weight in weights])
            with many:
                slopes(over_outputs)

    e.blocks(vectors, (4, 2, 1), columns)


def _halving_tree(e: Emitter, sums: list[Value], segment: int) -> list[Value]:
    """Pairs of vectors whose `segment`-lane runs hold partial sums, folded into half as many with runs of half the
    length."""
    lanes = e.kind.lanes
    half = segment // 2
    starts = range(0, 2 * lanes, segment)
    low = [s + i for s in starts for i in range(half)]
    high = [s + half + i for s in starts for i in range(half)]
    return [e.shuffle(a, b, low) + e.shuffle(a, b, high) for a, b in zip(sums[::2], sums[1::2], strict=True)]


@enter("dots")
def _dots(e: Emitter, tiles: Tiles, out, ldo, start, p, ldp, q, ldq, n_p, n_q, vectors, factor) -> None:
    """out[j, i] = (start[j] + dot(P[i], Q[j])) * factor[j, i] over whole vectors of units; lanes across i, zero from
    n_p on.

    start 0: none; factor 0: none. Rows of P up to the next multiple of the lane count are read and their results
    dropped.
    """
    bld, lanes = e.builder, e.kind.lanes
    at_once = min(tiles.dot_rows, lanes)

    def block(i: Any) -> None:
        mask = e.first_lanes(bld.sub(n_p, i))

        def row(j: Any) -> None:
            q_at = e.offset(q, bld.mul(j, ldq))
            partial: list[Value] = []
            for group in range(0, lanes, at_once):
                p_at = [e.offset(p, bld.mul(bld.add(i, e.integer(group + r)), ldp)) for r in range(at_once)]

                def turn(k: Any, *sums: Any, p_at: list[Any] = p_at) -> list[Any]:
                    place = bld.mul(k, e.integer(lanes))
                    q_vector = e.load(e.offset(q_at, place))
                    return [
                        Words.fma(e.load(e.offset(at, place)), q_vector, Value(e, s)).ir
                        for at, s in zip(p_at, sums, strict=True)
                    ]

                sums = [Value(e, s) for s in e.loop(vectors, turn, *[e.constant(0.0).ir] * at_once)]
                segment = lanes
                while len(sums) > 1:
                    sums, segment = _halving_tree(e, sums, segment), segment // 2
                partial += sums
            segment = lanes // at_once
            while len(partial) > 1:
                partial, segment = _halving_tree(e, partial, segment), segment // 2
            (total,) = partial
            total = _added_if(e, start, j, total)
            place = bld.add(bld.mul(j, ldo), i)
            total = _scaled_if(e, factor, place, total)
            e.store(e.masked(mask, total), e.offset(out, place))

        e.loop(n_q, row)

    e.loop(n_p, block, step=lanes)


def _added_if(e: Emitter, start: Any, j: Any, total: Value) -> Value:
    return _chosen(e, start, total, lambda: total + e.broadcast(e.offset(start, j)))


def _scaled_if(e: Emitter, factor: Any, place: Any, total: Value) -> Value:
    return _chosen(e, factor, total, lambda: total * e.load(e.offset(factor, place)))


def _chosen(e: Emitter, address: Any, otherwise: Value, value: Callable[[], Value]) -> Value:
    """value() where the address is not zero."""
    bld = e.builder
    before = bld.block
    with bld.if_then(bld.icmp_signed("!=", address, e.integer(0))):
        chosen = value()
        inside = bld.block
    phi = bld.phi(otherwise.ir.type)
    phi.add_incoming(otherwise.ir, before)
    phi.add_incoming(chosen.ir, inside)
    return Value(e, phi)


@enter("column_sums")
def _column_sums(e: Emitter, tiles: Tiles, out, block, rows, vectors, go_on) -> None:
    """out[n] = sum over rows of block[r, n], row after row; go_on 1: added to what out holds."""
    bld, lanes = e.builder, e.kind.lanes
    stride = bld.mul(vectors, e.integer(lanes))

    def columns(n: Any, width: int) -> None:
        at = bld.mul(n, e.integer(lanes))
        held = e.first_lanes(bld.mul(go_on, e.integer(lanes)))
        start = [e.masked(held, e.load(e.offset(out, bld.add(at, e.integer(j * lanes))))).ir for j in range(width)]

        def turn(r: Any, *sums: Any) -> list[Any]:
            place = bld.add(bld.mul(r, stride), at)
            return [
                (Value(e, s) + e.load(e.offset(block, bld.add(place, e.integer(j * lanes))))).ir
                for j, s in enumerate(sums)
            ]

        for j, total in enumerate(e.loop(rows, turn, *start)):
            e.store(Value(e, total), e.offset(out, bld.add(at, e.integer(j * lanes))))

    e.blocks(vectors, (4, 2, 1), columns)


@enter("row_sums")
def _row_sums(e: Emitter, tiles: Tiles, out, lane_sums, block, ld, rows, outputs, go_on, finish) -> None:
    """out[o] = sum over rows of block[o, r]: one sum per lane, kept in lane_sums[o] between blocks, folded when finish
    is 1."""
    bld, lanes = e.builder, e.kind.lanes

    def output(o: Any) -> None:
        at = e.offset(lane_sums, bld.mul(o, e.integer(lanes)))
        start = e.masked(e.first_lanes(bld.mul(go_on, e.integer(lanes))), e.load(at))
        line = e.offset(block, bld.mul(o, ld))
        (total,) = e.loop(rows, lambda r, s: [(Value(e, s) + e.load(e.offset(line, r))).ir], start.ir, step=lanes)
        e.store(Value(e, total), at)

        def fold() -> None:
            folded, width = Value(e, total), lanes
            while width > 1:
                width //= 2
                turned = [(i + width) % lanes for i in range(lanes)]
                folded = folded + e.shuffle(folded, folded, turned)
            e.store_scalar(bld.extract_element(folded.ir, e.integer(0)), e.offset(out, o))

        e.when(bld.icmp_signed("==", finish, e.integer(1)), fold)

    e.loop(outputs, output)


@enter("transpose")
def _transpose(e: Emitter, tiles: Tiles, out, ldo, block, ld, rows, columns) -> None:
    """out[c, r] = block[r, c]."""
    bld = e.builder

    def element(r: Any, c: Any) -> None:
        value = e.load_scalar(e.offset(block, bld.add(bld.mul(r, ld), c)))
        e.store_scalar(value, e.offset(out, bld.add(bld.mul(c, ldo), r)))

    e.loop(columns, lambda c: e.loop(rows, lambda r: element(r, c)))
