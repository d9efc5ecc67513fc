"""The pass of means over members: sums of a part of raw outputs; lanes run across rows."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.registry import PASSES, Pass, Tiles, enter
from pmlp_np.backends.numba.simd import DOUBLE, Emitter, Value
from pmlp_np.formulas.losses import LOSSES, Loss
from pmlp_np.formulas.step_lists import part_steps
from pmlp_np.formulas.tracing import OUTPUT, RAW, digest


def part_pass(loss: Loss, part: str) -> str:
    """Return the name of the pass that adds up a part of a loss's raw outputs, entered into the table at first use.

    part: as in `Loss.part`. Of a user's loss, a hash of its formula is part of the name.
    """
    label = f"{loss.name}@{digest(part_steps(loss, part))}" if loss.registered else loss.name
    name = "add_part:raw" if part == "raw" else f"add_part:{part}:{label}"
    if name not in PASSES:
        enter(name)(_add_part_of(loss, part))
    return name


def _add_part_of(loss: Loss, part: str) -> Pass:
    def add_part(e: Emitter, tiles: Tiles, rows, first, last, out, line, raw, ld, outputs) -> None:
        """Add a part of raw outputs to sums over members: out[o, r] += part(raw)[o, r], in float64.

        Reads raw (outputs, rows) by `ld`. Writes out (parts, rows) by `line`, float64, whole groups
        of rows.

        docs/derivations.md#means-over-members
        """
        bld, steps = e.builder, part_steps(loss, part)
        wide = ir.VectorType(DOUBLE, e.kind.lanes)
        per_output = outputs if part == "raw" or loss.heads == 1 else bld.sdiv(outputs, e.integer(loss.heads))
        counts = {RAW: outputs, OUTPUT: per_output}

        def group(r: Any) -> None:
            def raw_at(o: Any) -> Value:
                value = e.load(e.offset(raw, bld.add(bld.mul(o, ld), r)))
                return value if e.kind.scalar is DOUBLE else Value(e, bld.fpext(value.ir, wide))

            (part_at,) = emit(e, steps, raw_at, counts=counts)

            def output(o: Any) -> None:
                at = e.pointer(e.offset(out, bld.add(bld.mul(o, line), r), 8))
                bld.store(bld.fadd(bld.load(at, typ=wide, align=8), part_at(o).ir), at, align=8)

            e.loop(per_output, output)

        e.loop(rows, group, step=e.kind.lanes)

    return add_part


for _loss in LOSSES.values():
    for _part in _loss.parts:
        part_pass(_loss, _part)
