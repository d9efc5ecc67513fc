"""Passes of losses: a loss, its gradient by the raw outputs, and their sums; lanes run across rows."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.emitting import ByOutput, emit
from pmlp_np.backends.numba.passes.registry import PASSES, Pass, Tiles, enter
from pmlp_np.backends.numba.simd import DOUBLE, KINDS, Emitter, Value
from pmlp_np.formulas.losses import LOSSES, Loss
from pmlp_np.formulas.step_lists import loss_steps, score_steps
from pmlp_np.formulas.tracing import OUTPUT, RAW, digest

# Names of passes are literals of compiled code: longer texts of parameters become a hash.
_LONGEST_LABEL = 80


def _per_output(load: Any, e: Emitter, block: Any, ld: Any, r: Any) -> ByOutput:
    bld = e.builder
    return lambda o: load(e.offset(block, bld.add(bld.mul(o, ld), r)))


def _raws_and_targets(e: Emitter, loss: Loss, raw, ld, target, ldt, r, mask) -> tuple[ByOutput, Value | ByOutput]:
    """Targets are read under the mask: they may end with the last row."""

    def load_target(address: Any) -> Value:
        return e.load_masked(address, mask)

    labels = loss.targets == "labels"
    targets = load_target(e.offset(target, r)) if labels else _per_output(load_target, e, target, ldt, r)
    return _per_output(e.load, e, raw, ld, r), targets


def _counts(e: Emitter, loss: Loss, outputs: Any) -> dict[str, Any]:
    """How many values there are of each extent; `outputs` counts raw outputs."""
    return {RAW: outputs, OUTPUT: outputs if loss.heads == 1 else e.builder.sdiv(outputs, e.integer(loss.heads))}


class _Totals:
    """Float64 sums over rows, one per lane, kept at an address between blocks and folded to one number at the end."""

    def __init__(self, e: Emitter, lane_sums: Any, going_on: Any) -> None:
        self.e, self.address = e, lane_sums
        self.vector = ir.VectorType(DOUBLE, e.kind.lanes)
        held = e.builder.load(e.pointer(lane_sums), typ=self.vector, align=8)
        self.start = e.masked(going_on, Value(e, held)).ir

    def added(self, sums: Any, values: Value, mask: Any) -> Any:
        bld, values = self.e.builder, self.e.masked(mask, values)
        return bld.fadd(sums, values.ir if values.dtype == "float64" else bld.fpext(values.ir, self.vector))

    def keep(self, sums: Any, finish: Any, total: Any) -> None:
        e = self.e
        e.builder.store(sums, e.pointer(self.address), align=8)
        e.when(finish, lambda: e.store_scalar(e.folded(Value(e, sums)), total))


def loss_pass(loss: Loss, task: str) -> str:
    """The name of a loss's pass for a task ("loss_train", "loss_evaluate"), which is entered at first need.

    "loss_train_weighted" and "loss_evaluate_weighted" are those of rows that have weights.
    Parameters are constants of the code and a part of the name; of a user's loss so is a hash of what it compiles to:
    under its name compiled code is kept from one process to the next.
    """
    label = _label(loss)
    if f"{task}:{label}" not in PASSES:
        _loss_passes(label, loss)
    return f"{task}:{label}"


@cache
def _label(loss: Loss) -> str:
    label = str(loss)
    if loss.registered:
        lists = [steps(loss, kind) for steps in (loss_steps, score_steps) for kind in KINDS]
        return f"{loss.name}@{digest(*lists)}"
    if len(label) > _LONGEST_LABEL:
        return f"{loss.name}#{hashlib.sha256(label.encode()).hexdigest()[:20]}"
    return label


def _loss_passes(label: str, loss: Loss) -> None:
    for suffix, weighted in (("", False), ("_weighted", True)):
        enter(f"loss_train{suffix}:{label}")(_train_of(loss, weighted))
        enter(f"loss_evaluate{suffix}:{label}")(_evaluate_of(loss, weighted))


def _weights_of_rows(e: Emitter, weights: Any, mean: Any, r: Any, mask: Any) -> tuple[Value, Any]:
    """(weights / mean of the rows from r on, in float64; the mask of the rows that count).

    Rows of weight 0 are masked out, not multiplied by it: their losses may be infinite.
    """
    weight = e.load_masked(e.offset(weights, r, 8), mask, DOUBLE)
    return weight / e.splat(e.builder.bitcast(mean, DOUBLE)), e.builder.and_(mask, (weight > 0.0).ir)


def _train_of(loss: Loss, weighted: bool = False) -> Pass:
    def train(
        e: Emitter, tiles: Tiles, rows, first, last, target, ldt, weights, mean, scale, raw, dz, ld, outputs, db,
        db_lanes, loss_lanes, total,
    ) -> None:  # fmt: skip
        """The gradient of the loss by raw outputs: dz[o, r] = scale d loss of row r / d raw[o, r], zero from `rows` on.

        Reads raw (outputs, rows) by `ld`, target (targets, rows) by `ldt`, or labels (rows,). `scale` holds the bits of
        a float64. In `loss_train_weighted` losses and gradients of a row are multiplied by weights[r] / mean, where
        weights (rows,) are float64 and `mean` holds the bits of one; `loss_train` reads neither.
        Writes dz (outputs, rows) by `ld`; with the last block, folded from sums over rows, the gradient by output
        biases db (outputs,), and the sum of losses `total`, a float64. Until then, from the first block on, the sums
        are kept, one per lane, in db_lanes (outputs, lanes) and loss_lanes (lanes,), which is float64.

        docs/derivations.md#losses, docs/kernels.md#the-way-back
        """
        bld, lanes = e.builder, e.kind.lanes
        factor = bld.bitcast(scale, DOUBLE)
        factor = e.splat(factor if e.kind.scalar is DOUBLE else bld.fptrunc(factor, e.kind.scalar))
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        totals = _Totals(e, loss_lanes, e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes))))

        def sums_of(o: Any) -> Any:
            return e.offset(db_lanes, bld.mul(o, e.integer(lanes)))

        e.when(begins, lambda: e.loop(outputs, lambda o: e.store(e.constant(0.0), sums_of(o))))

        def group(r: Any, sums: Any) -> list[Any]:
            mask = e.first_lanes(bld.sub(rows, r))
            counts, given = _counts(e, loss, outputs), _raws_and_targets(e, loss, raw, ld, target, ldt, r, mask)
            row_loss, *gradients = emit(e, loss_steps(loss, e.kind.name), *given, counts=counts)
            row_factor = factor
            if weighted:
                wide, mask = _weights_of_rows(e, weights, mean, r, mask)
                weight = wide if e.kind.scalar is DOUBLE else Value(e, bld.fptrunc(wide.ir, e.kind.vector))
                row_loss, row_factor = weight * row_loss, weight * factor

            def output(o: Any) -> None:
                for h, gradient in enumerate(gradients):
                    value = e.masked(mask, gradient(o) * row_factor)
                    place = o if loss.heads == 1 else bld.add(bld.mul(o, e.integer(loss.heads)), e.integer(h))
                    e.store(value, e.offset(dz, bld.add(bld.mul(place, ld), r)))
                    e.store(e.load(sums_of(place)) + value, sums_of(place))

            e.loop(counts[OUTPUT], output)
            return [totals.added(sums, row_loss, mask)]

        (sums,) = e.loop(rows, group, totals.start, step=lanes)
        totals.keep(sums, ends, total)

        def fold(o: Any) -> None:
            e.store_scalar(e.folded(e.load(sums_of(o))), e.offset(db, o))

        e.when(ends, lambda: e.loop(outputs, fold))

    return train


def _loss_of(e: Emitter, loss: Loss, given: tuple[Any, Any], counts: dict[str, Any]) -> Value:
    (row_loss,) = emit(e, loss_steps(loss, e.kind.name).only("loss"), *given, counts=counts)
    return row_loss


def _score_of(e: Emitter, loss: Loss, given: tuple[Any, Any], counts: dict[str, Any]) -> Value:
    (score,) = emit(e, score_steps(loss, e.kind.name), *given, counts=counts)
    return score


def _evaluate_of(loss: Loss, weighted: bool = False) -> Pass:
    def evaluate(
        e: Emitter, tiles: Tiles, rows, first, last, target, ldt, weights, mean, raw, ld, outputs, sums, totals,
    ) -> None:  # fmt: skip
        """Sums over rows of losses and of scores.

        Reads raw (outputs, rows) by `ld`, target (targets, rows) by `ldt`, or labels (rows,). In
        `loss_evaluate_weighted` both are multiplied by weights[r] / mean, as in `loss_train_weighted`, and the sum of
        these factors is a third one; `loss_evaluate` reads neither.
        Writes sums (2 or 3, lanes) from the first block to the last, then folded to totals (2 or 3,), all float64.

        docs/derivations.md#losses
        """

        def wide(value: Value) -> Value:
            vector = ir.VectorType(DOUBLE, e.kind.lanes)
            return value if e.kind.scalar is DOUBLE else Value(e, e.builder.fpext(value.ir, vector))

        def values(r: Any, mask: Any) -> tuple[list[Value], Any]:
            given, counts = _raws_and_targets(e, loss, raw, ld, target, ldt, r, mask), _counts(e, loss, outputs)
            if not weighted:
                return [_loss_of(e, loss, given, counts), _score_of(e, loss, given, counts)], mask
            weight, counted = _weights_of_rows(e, weights, mean, r, mask)
            weighted_loss = weight * wide(_loss_of(e, loss, given, counts))
            return [weighted_loss, weight * wide(_score_of(e, loss, given, counts)), weight], counted

        _sum_up(e, 3 if weighted else 2, values, rows, first, last, sums, totals)

    return evaluate


def _sum_up(e: Emitter, count: int, values: Any, rows, first, last, sums, totals) -> None:
    """Sum up what `values(r, mask)` gives of the rows from r on, in the lanes of the mask that it gives beside."""
    bld, lanes = e.builder, e.kind.lanes
    begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
    going_on = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))
    kept = [_Totals(e, e.offset(sums, i * lanes, 8), going_on) for i in range(count)]

    def group(r: Any, *so_far: Any) -> list[Any]:
        found, mask = values(r, e.first_lanes(bld.sub(rows, r)))
        return [t.added(s, value, mask) for t, s, value in zip(kept, so_far, found, strict=True)]

    for i, result in enumerate(e.loop(rows, group, *[t.start for t in kept], step=lanes)):
        kept[i].keep(result, ends, e.offset(totals, i, 8))


for _loss in LOSSES.values():
    _loss_passes(_loss.name, _loss)
