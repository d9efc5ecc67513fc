"""The pass of the output layer, backward: one loop over the rows for dz, sums for biases, and gradients of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.passes.steps import Take, step_of, take_or_keep
from pmlp_np.backends.numba.simd import Emitter, Value, fma
from pmlp_np.formulas.optimizers import RULES


class _Strip:
    """A strip of `count` vectors of hidden units from vector n on: of every row, and of every output's weights.

    Attributes are named like the arguments of the pass.
    """

    def __init__(self, e: Emitter, n: Any, count: int, a, d, stride, dz, ld, w, width) -> None:
        bld, lanes = e.builder, e.kind.lanes
        self.e, self.count = e, count
        self.a, self.d, self.stride, self.dz, self.ld, self.w = a, d, stride, dz, ld, w
        self.at = [bld.add(bld.mul(n, e.integer(lanes)), e.integer(j * lanes)) for j in range(count)]
        # Only the last vector of a strip can reach beyond the width.
        self.masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, self.at[-1]))]

    def sums(self, address: Any, after_first: Any) -> list[Any]:
        """Load the sums of previous blocks; zeros in the first block."""
        e = self.e
        return [e.masked(after_first, e.load(e.offset(address, column))).ir for column in self.at]

    def row(self, block: Any, r: Any) -> list[Any]:
        """Return the addresses of a row's vectors."""
        e, b = self.e, self.e.builder
        return [e.offset(block, b.add(b.mul(r, self.stride), column)) for column in self.at]

    def line(self, o: Any) -> list[Any]:
        """Return the offsets of an output's weights."""
        b = self.e.builder
        return [b.add(b.mul(o, self.stride), column) for column in self.at]

    def dz_of(self, o: Any, r: Any) -> Value:
        b = self.e.builder
        return self.e.broadcast(self.e.offset(self.dz, b.add(b.mul(o, self.ld), r)))

    def weights(self) -> list[Value]:
        """Load the weights of the first output."""
        return [self.e.load(self.e.offset(self.w, column)) for column in self.at]

    def products(self, r: Any, outputs: Any) -> list[Value]:
        """Compute the sum over outputs of dz[o, r] w[o, n]."""
        e = self.e

        def output(o: Any, *products: Any) -> list[Any]:
            dz, line = self.dz_of(o, r), e.offset(self.w, e.builder.mul(o, self.stride))
            return [
                fma(dz, e.load(e.offset(line, column)), Value(e, x)).ir
                for column, x in zip(self.at, products, strict=True)
            ]

        return [Value(e, x) for x in e.loop(outputs, output, *[e.constant(0.0).ir] * self.count)]

    def to_dz(self, r: Any, products: list[Value], totals: Any) -> list[Any]:
        """Replace a row's derivatives by dz of the hidden layer. Returns the totals with that row added."""
        e, results = self.e, []
        for d_at, product, total in zip(self.row(self.d, r), products, totals, strict=True):
            value = product * e.load(d_at)
            e.store(value, d_at)
            results.append((Value(e, total) + value).ir)
        return results

    def to_dw(self, r: Any, dz: Value, sums: Any) -> list[Any]:
        """Add a row to the sums of one output's gradient by weights."""
        e = self.e
        activations = [e.load(a_at) for a_at in self.row(self.a, r)]
        return [fma(dz, x, Value(e, s)).ir for x, s in zip(activations, sums, strict=True)]

    def store(self, totals: Sequence[Any], address: Any) -> None:
        for column, total in zip(self.at, totals, strict=True):
            self.e.store(Value(self.e, total), self.e.offset(address, column))


def _one_output(e: Emitter, strip: _Strip, rows, after_first, hidden_db, dw, take: Take, ends) -> None:
    """Emit the case of one output: one loop over the rows, with weights and both sums in registers."""
    weights, count, only = strip.weights(), strip.count, e.integer(0)

    def row(r: Any, *sums: Any) -> list[Any]:
        dz = strip.dz_of(e.integer(0), r)
        bias_sums = strip.to_dz(r, [dz * weight for weight in weights], sums[:count])
        return bias_sums + strip.to_dw(r, dz, sums[count:])

    sums = e.loop(rows, row, *strip.sums(hidden_db, after_first), *strip.sums(dw, after_first))
    strip.store(sums[:count], hidden_db)
    take_or_keep(e, ends, take, dw, strip.line(only), strip.masks, sums[count:])


def _many_outputs(
    e: Emitter, tiles: Tiles, strip: _Strip, rows, outputs, after_first, hidden_db, dw, take: Take, ends
) -> None:
    """Emit the case of several outputs: first dz, row by row; then the gradient by weights, some outputs at once."""
    count = strip.count
    totals = e.loop(
        rows, lambda r, *sums: strip.to_dz(r, strip.products(r, outputs), sums), *strip.sums(hidden_db, after_first)
    )
    strip.store(totals, hidden_db)

    def some_outputs(o: Any, at_once: int) -> None:
        some = [e.builder.add(o, e.integer(i)) for i in range(at_once)]

        def row(r: Any, *sums: Any) -> list[Any]:
            parts = [sums[i * count : (i + 1) * count] for i in range(at_once)]
            return [x for i, part in zip(some, parts, strict=True) for x in strip.to_dw(r, strip.dz_of(i, r), part)]

        start = [x for i in some for x in strip.sums(e.offset(dw, e.builder.mul(i, strip.stride)), after_first)]
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
        """Compute the output layer backward, from dz (outputs, rows), the gradient of the loss by raw outputs.

        d[r, n] *= sum over outputs of dz[o, r] w[o, n]: derivatives of the last hidden layer become its dz.
        hidden_db[n] += sum over rows of d[r, n]. dw[o, n] += sum over rows of dz[o, r] a[r, n].

        Reads dz by `ld`; a (rows, width) by `stride`, whole `vectors`; numbers (numbers, lanes).
        Writes d, like a; hidden_db (width,) and dw (outputs, width) by `stride`, starting from 0 with the first block.
        With the last block, the step: writes w, like dw, and slots (slots, like w) by `slot_stride`, and not dw.

        docs/kernels.md#the-way-back, docs/derivations.md#layers
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step_of(e, rule, w, slots, slot_stride, numbers)
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        after_first = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))

        def cover(n: Any, count: int) -> None:
            strip = _Strip(e, n, count, a, d, stride, dz, ld, w, width)
            with bld.if_else(bld.icmp_signed("==", outputs, e.integer(1))) as (one, many):
                with one:
                    _one_output(e, strip, rows, after_first, hidden_db, dw, take, ends)
                with many:
                    _many_outputs(e, tiles, strip, rows, outputs, after_first, hidden_db, dw, take, ends)

        e.blocks(vectors, tiles.strips, cover)


for _name in RULES:
    _output_backward_pass(_name)
