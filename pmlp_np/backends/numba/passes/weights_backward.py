"""The pass of hidden weights, backward: a product in register tiles, and the step from sums that are in registers."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.passes.matrices import block_of, multiply
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.passes.steps import step_of, take_or_keep
from pmlp_np.backends.numba.simd import Emitter, Value
from pmlp_np.formulas.optimizers import RULES


def _weights_backward_pass(rule: str) -> None:
    @enter(f"weights_backward:{rule}")
    def weights_backward(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, dz, w, dw, stride, slots, slot_stride, fan_in, width,
        vectors, numbers,
    ) -> None:  # fmt: skip
        """Compute the gradient by hidden weights, and take their step: dw[i, n] += sum over rows of x[r, i] dz[r, n].

        Reads x (rows, fan_in) by `x_stride`; dz (rows, width) by `stride`, whole `vectors`; numbers (numbers, lanes).
        Writes dw (fan_in, width) by `stride`, starting from 0 with the first block. With the last block, whose sums are
        the gradient, the step: writes w, like dw, and slots (slots, like w) by `slot_stride`, and not dw.

        docs/kernels.md#the-way-back, docs/derivations.md#layers
        """
        bld, lanes = e.builder, e.kind.lanes
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        after_first = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))
        take = step_of(e, rule, w, slots, slot_stride, numbers)
        previous = block_of(e, dw, stride)

        def begin(r: Any, height: int, columns: Any, count: int) -> list[Any]:
            return [e.masked(after_first, Value(e, x)).ir for x in previous(r, height, columns, count)]

        def finish(r: Any, height: int, columns: Any, count: int, sums: list[Any]) -> None:
            at = [bld.add(columns, e.integer(j * lanes)) for j in range(count)]
            # Only the last vector of a strip can reach beyond the width.
            masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, at[-1]))]
            row = bld.mul(r, stride)
            offsets = []
            for _ in range(height):
                offsets += [bld.add(row, column) for column in at]
                row = bld.add(row, stride)
            take_or_keep(e, ends, take, dw, offsets, masks * height, sums)

        one = e.integer(1)
        multiply(e, tiles.product, begin, x, one, x_stride, dz, stride, fan_in, vectors, rows, finish)


for _name in RULES:
    _weights_backward_pass(_name)
