"""Passes of a rule's step with a whole gradient: for consecutive vectors, and for matrices."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.passes.steps import step_of
from pmlp_np.backends.numba.simd import I64, Emitter
from pmlp_np.formulas.optimizers import RULES


def _update_pass(rule: str) -> None:
    @enter(f"update:{rule}")
    def update(e: Emitter, tiles: Tiles, w, dw, slots, slot_stride, widths, n, numbers) -> None:
        """Take a step of `n` consecutive vectors, such as biases, each padded.

        Reads dw, like w; widths (n,), int64; numbers (numbers, lanes), as `scalars` writes them.
        Writes w, and slots (slots, like w) by `slot_stride`.

        docs/derivations.md#optimizers
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step_of(e, rule, w, slots, slot_stride, numbers)

        def vector(i: Any, start: Any) -> list[Any]:
            width = e.load_scalar(e.offset(widths, i, 8), I64)

            def part(k: Any) -> None:
                offset = bld.add(start, k)
                take(offset, e.load(e.offset(dw, offset)), e.first_lanes(bld.sub(width, k)))

            e.loop(width, part, step=lanes)
            return [bld.add(start, bld.and_(bld.add(width, e.integer(lanes - 1)), e.integer(-lanes)))]

        e.loop(n, vector, e.integer(0))


def _update_rows_pass(rule: str) -> None:
    @enter(f"update_rows:{rule}")
    def update_rows(e: Emitter, tiles: Tiles, w, dw, slots, slot_stride, stride, rows, width, numbers) -> None:
        """Take a step of a matrix.

        Reads dw (rows, width) by `stride`, like w; numbers (numbers, lanes), as `scalars` writes them.
        Writes w, and slots (slots, like w) by `slot_stride`.

        docs/derivations.md#optimizers
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step_of(e, rule, w, slots, slot_stride, numbers)

        def row(r: Any) -> None:
            start = bld.mul(r, stride)

            def part(n: Any) -> None:
                offset = bld.add(start, n)
                take(offset, e.load(e.offset(dw, offset)), e.first_lanes(bld.sub(width, n)))

            e.loop(width, part, step=lanes)

        e.loop(rows, row)


for _name in RULES:
    _update_pass(_name)
    _update_rows_pass(_name)
