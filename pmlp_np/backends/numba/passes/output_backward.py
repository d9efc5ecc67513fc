"""The pass of the output layer, backward: one walk over the rows for all that is due there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.passes.steps import Take, step_of, take_or_keep
from pmlp_np.backends.numba.simd import Emitter, Value, fma
from pmlp_np.formulas.optimizers import RULES


class _Strip:
    """Some vectors of the hidden units, n ... n + count: of every row, and of every output's weights.

    Names are those of the pass.
    """

    def __init__(self, e: Emitter, n: Any, count: int, a, d, stride, dz, ld, w, width) -> None:
        bld, lanes = e.builder, e.kind.lanes
        self.e, self.count = e, count
        self.a, self.d, self.stride, self.dz, self.ld, self.w = a, d, stride, dz, ld, w
        self.at = [bld.add(bld.mul(n, e.integer(lanes)), e.integer(j * lanes)) for j in range(count)]
        # Only the last vector of a strip can reach beyond the width.
        self.masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, self.at[-1]))]

    def sums(self, address: Any, going_on: Any) -> list[Any]:
        """Sums of the blocks before; zeros with the first."""
        e = self.e
        return [e.masked(going_on, e.load(e.offset(address, place))).ir for place in self.at]

    def row(self, block: Any, r: Any) -> list[Any]:
        """The addresses of a row's vectors."""
        e, b = self.e, self.e.builder
        return [e.offset(block, b.add(b.mul(r, self.stride), place)) for place in self.at]

    def line(self, o: Any) -> list[Any]:
        """The offsets of an output's weights."""
        b = self.e.builder
        return [b.add(b.mul(o, self.stride), place) for place in self.at]

    def dz_of(self, o: Any, r: Any) -> Value:
        b = self.e.builder
        return self.e.broadcast(self.e.offset(self.dz, b.add(b.mul(o, self.ld), r)))

    def weights(self) -> list[Value]:
        """Those of the first output."""
        return [self.e.load(self.e.offset(self.w, place)) for place in self.at]

    def products(self, r: Any, outputs: Any) -> list[Value]:
        """Sum over outputs of dz[o, r] w[o, n]."""
        e = self.e

        def output(o: Any, *products: Any) -> list[Any]:
            dz, line = self.dz_of(o, r), e.offset(self.w, e.builder.mul(o, self.stride))
            return [
                fma(dz, e.load(e.offset(line, place)), Value(e, x)).ir
                for place, x in zip(self.at, products, strict=True)
            ]

        return [Value(e, x) for x in e.loop(outputs, output, *[e.constant(0.0).ir] * self.count)]

    def to_dz(self, r: Any, products: list[Value], totals: Any) -> list[Any]:
        """A row's derivatives become dz of the hidden layer; the totals with them added."""
        e, results = self.e, []
        for here, product, total in zip(self.row(self.d, r), products, totals, strict=True):
            value = product * e.load(here)
            e.store(value, here)
            results.append((Value(e, total) + value).ir)
        return results

    def to_dw(self, r: Any, dz: Value, sums: Any) -> list[Any]:
        """The gradient by one output's weights with a row added."""
        e = self.e
        activations = [e.load(here) for here in self.row(self.a, r)]
        return [fma(dz, x, Value(e, s)).ir for x, s in zip(activations, sums, strict=True)]

    def keep(self, totals: Sequence[Any], address: Any) -> None:
        for place, total in zip(self.at, totals, strict=True):
            self.e.store(Value(self.e, total), self.e.offset(address, place))


def _one_output(e: Emitter, strip: _Strip, rows, going_on, hidden_db, dw, take: Take, ends) -> None:
    """With one output everything stays in registers: its weights, both sums, all in one walk."""
    weights, count, only = strip.weights(), strip.count, e.integer(0)

    def row(r: Any, *sums: Any) -> list[Any]:
        dz = strip.dz_of(e.integer(0), r)
        turned = strip.to_dz(r, [dz * weight for weight in weights], sums[:count])
        return turned + strip.to_dw(r, dz, sums[count:])

    sums = e.loop(rows, row, *strip.sums(hidden_db, going_on), *strip.sums(dw, going_on))
    strip.keep(sums[:count], hidden_db)
    take_or_keep(e, ends, take, dw, strip.line(only), strip.masks, sums[count:])


def _many_outputs(
    e: Emitter, tiles: Tiles, strip: _Strip, rows, outputs, going_on, hidden_db, dw, take: Take, ends
) -> None:
    """First dz of the hidden layer, row by row; then the gradient by weights, some outputs at once."""
    count = strip.count
    totals = e.loop(
        rows, lambda r, *sums: strip.to_dz(r, strip.products(r, outputs), sums), *strip.sums(hidden_db, going_on)
    )
    strip.keep(totals, hidden_db)

    def some_outputs(o: Any, at_once: int) -> None:
        some = [e.builder.add(o, e.integer(i)) for i in range(at_once)]

        def row(r: Any, *sums: Any) -> list[Any]:
            parts = [sums[i * count : (i + 1) * count] for i in range(at_once)]
            return [x for i, part in zip(some, parts, strict=True) for x in strip.to_dw(r, strip.dz_of(i, r), part)]

        start = [x for i in some for x in strip.sums(e.offset(dw, e.builder.mul(i, strip.stride)), going_on)]
        sums = e.loop(rows, row, *start)
        for i, part in enumerate(some):
            take_or_keep(e, ends, take, dw, strip.line(part), strip.masks, sums[i * count : (i + 1) * count])

    e.blocks(outputs, tiles.outputs, some_outputs)


def _output_backward_pass(rule: str) -> None:
    @enter(f"output_backward:{rule}")
    def output_backward(
        e: Emitter, tiles: Tiles, rows, first, last, a, d, stride, hidden_db, dz, ld, w, dw, slots, slot_stride, width,
        vectors, outputs, numbers,
    ) -> None:  # fmt: skip
        """The output layer backward, from dz (outputs, rows), the gradient of the loss by raw outputs.

        d[r, n] *= sum over outputs of dz[o, r] w[o, n]: derivatives of the last hidden layer become its dz, and
        hidden_db[n] += d[r, n]. dw[o, n] += sum over rows of dz[o, r] a[r, n].

        Reads dz by `ld`; a (rows, width) by `stride`, whole `vectors`; numbers (numbers, lanes).
        Writes d, like a; hidden_db (width,) and dw (outputs, width) by `stride`, from zero with the first block on;
        with the last block not dw, but w, like it, and slots (slots, like w) by `slot_stride`.

        docs/kernels.md#the-way-back, docs/derivations.md#layers
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step_of(e, rule, w, slots, slot_stride, numbers)
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        going_on = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))

        def cover(n: Any, count: int) -> None:
            strip = _Strip(e, n, count, a, d, stride, dz, ld, w, width)
            with bld.if_else(bld.icmp_signed("==", outputs, e.integer(1))) as (one, many):
                with one:
                    _one_output(e, strip, rows, going_on, hidden_db, dw, take, ends)
                with many:
                    _many_outputs(e, tiles, strip, rows, outputs, going_on, hidden_db, dw, take, ends)

        e.blocks(vectors, tiles.strips, cover)


for _name in RULES:
    _output_backward_pass(_name)
