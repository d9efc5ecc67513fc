"""Passes of losses: a loss, its gradient by the raw outputs, and sums over rows; lanes run across rows."""

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

# Names of passes are literals of compiled code: a longer text of parameters is replaced by its hash.
_LONGEST_LABEL = 80


def loss_pass(loss: Loss, task: str) -> str:
    """Return the name of a loss's pass for a task, entered into the table at first use.

    task: "loss_train" or "loss_evaluate"; with "_weighted" behind it, of rows that have weights.

    The loss's parameters are constants of the code and part of the name. Of a user's loss, a hash of its formula is
    part of the name too: compiled code is cached under the name.
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


# The rows of a group, one per lane: raw outputs, targets and weights.


def _per_output(load: Any, e: Emitter, block: Any, ld: Any, r: Any) -> ByOutput:
    bld = e.builder
    return lambda o: load(e.offset(block, bld.add(bld.mul(o, ld), r)))


def _raws_and_targets(e: Emitter, loss: Loss, raw, ld, target, ldt, r, mask) -> tuple[ByOutput, Value | ByOutput]:
    """Return the inputs of a loss's step list. Targets are read under the mask: they may end with the last row."""

    def load_target(address: Any) -> Value:
        return e.load_masked(address, mask)

    labels = loss.targets == "labels"
    targets = load_target(e.offset(target, r)) if labels else _per_output(load_target, e, target, ldt, r)
    return _per_output(e.load, e, raw, ld, r), targets


def _counts(e: Emitter, loss: Loss, outputs: Any) -> dict[str, Any]:
    """Return the length of each extent; `outputs` counts raw outputs."""
    return {RAW: outputs, OUTPUT: outputs if loss.heads == 1 else e.builder.sdiv(outputs, e.integer(loss.heads))}


def _weights_of_rows(e: Emitter, weights: Any, mean: Any, r: Any, mask: Any) -> tuple[Value, Any]:
    """Return (weights / mean of the rows, float64; the mask of rows with a weight above 0).

    Rows of weight 0 are masked out, not multiplied by it: their losses may be infinite.
    """
    weight = e.load_masked(e.offset(weights, r, 8), mask, DOUBLE)
    return weight / e.splat(e.builder.bitcast(mean, DOUBLE)), e.builder.and_(mask, (weight > 0.0).ir)


# Sums over rows, one per lane, kept in memory between blocks.


def _is_set(e: Emitter, flag: Any) -> Any:
    return e.builder.icmp_signed("==", flag, e.integer(1))


def _after_first(e: Emitter, begins: Any) -> Any:
    """Return a mask of all lanes, or of none in the first block, whose sums start from 0."""
    return e.first_lanes(e.builder.select(begins, e.integer(0), e.integer(e.kind.lanes)))


class _Totals:
    """Float64 sums over rows, one per lane, kept at an address between blocks and added up with the last block."""

    def __init__(self, e: Emitter, lane_sums: Any, after_first: Any) -> None:
        self.e, self.address = e, lane_sums
        self.vector = ir.VectorType(DOUBLE, e.kind.lanes)
        previous = e.builder.load(e.pointer(lane_sums), typ=self.vector, align=8)
        self.start = e.masked(after_first, Value(e, previous)).ir

    def added(self, sums: Any, values: Value, mask: Any) -> Any:
        bld, values = self.e.builder, self.e.masked(mask, values)
        return bld.fadd(sums, values.ir if values.dtype == "float64" else bld.fpext(values.ir, self.vector))

    def store(self, sums: Any, ends: Any, total: Any) -> None:
        e = self.e
        e.builder.store(sums, e.pointer(self.address), align=8)
        e.when(ends, lambda: e.store_scalar(e.folded(Value(e, sums)), total))


class _OutputSums:
    """The gradient by output biases: sums over rows of each output, one per lane, in db_lanes (outputs, lanes)."""

    def __init__(self, e: Emitter, db_lanes: Any, outputs: Any) -> None:
        self.e, self.address, self.outputs = e, db_lanes, outputs

    def _of(self, o: Any) -> Any:
        return self.e.offset(self.address, self.e.builder.mul(o, self.e.integer(self.e.kind.lanes)))

    def clear(self) -> None:
        self.e.loop(self.outputs, lambda o: self.e.store(self.e.constant(0.0), self._of(o)))

    def add(self, o: Any, value: Value) -> None:
        self.e.store(self.e.load(self._of(o)) + value, self._of(o))

    def fold(self, db: Any) -> None:
        """Write db (outputs,), the sums of all lanes."""
        e = self.e
        e.loop(self.outputs, lambda o: e.store_scalar(e.folded(e.load(self._of(o))), e.offset(db, o)))


# The passes.


def _train_of(loss: Loss, weighted: bool = False) -> Pass:
    def train(
        e: Emitter, tiles: Tiles, rows, first, last, target, ldt, weights, mean, scale, raw, dz, ld, outputs, db,
        db_lanes, loss_lanes, total,
    ) -> None:  # fmt: skip
        """Compute the gradient of the loss by raw outputs: dz[o, r] = scale d loss[r] / d raw[o, r], 0 from `rows` on.

        Reads raw (outputs, rows) by `ld`, target (targets, rows) by `ldt`, or labels (rows,). `scale` holds the bits of
        a float64. In `loss_train_weighted` the loss and gradient of a row are multiplied by weights[r] / mean, where
        weights (rows,) are float64 and `mean` holds the bits of a float64; `loss_train` reads neither.
        Writes dz (outputs, rows) by `ld`. With the last block, writes sums over all rows: the gradient by output
        biases db (outputs,), and the sum of losses `total`, a float64. Before, the sums of each lane are stored in
        db_lanes (outputs, lanes) and loss_lanes (lanes,), the latter float64.

        docs/derivations.md#losses, docs/kernels.md#the-way-back
        """
        bld = e.builder
        factor = bld.bitcast(scale, DOUBLE)
        factor = e.splat(factor if e.kind.scalar is DOUBLE else bld.fptrunc(factor, e.kind.scalar))
        begins, ends = _is_set(e, first), _is_set(e, last)
        totals, bias_sums = _Totals(e, loss_lanes, _after_first(e, begins)), _OutputSums(e, db_lanes, outputs)
        e.when(begins, bias_sums.clear)

        def group(r: Any, sums: Any) -> list[Any]:
            mask = e.first_lanes(bld.sub(rows, r))
            counts = _counts(e, loss, outputs)
            inputs = _raws_and_targets(e, loss, raw, ld, target, ldt, r, mask)
            row_loss, *gradients = emit(e, loss_steps(loss, e.kind.name), *inputs, counts=counts)
            row_factor = factor
            if weighted:
                wide, mask = _weights_of_rows(e, weights, mean, r, mask)
                weight = wide if e.kind.scalar is DOUBLE else Value(e, bld.fptrunc(wide.ir, e.kind.vector))
                row_loss, row_factor = weight * row_loss, weight * factor

            def output(o: Any) -> None:
                for h, gradient in enumerate(gradients):
                    value = e.masked(mask, gradient(o) * row_factor)
                    raw_output = o if loss.heads == 1 else bld.add(bld.mul(o, e.integer(loss.heads)), e.integer(h))
                    e.store(value, e.offset(dz, bld.add(bld.mul(raw_output, ld), r)))
                    bias_sums.add(raw_output, value)

            e.loop(counts[OUTPUT], output)
            return [totals.added(sums, row_loss, mask)]

        (sums,) = e.loop(rows, group, totals.start, step=e.kind.lanes)
        totals.store(sums, ends, total)
        e.when(ends, lambda: bias_sums.fold(db))

    return train


def _evaluate_of(loss: Loss, weighted: bool = False) -> Pass:
    def evaluate(
        e: Emitter, tiles: Tiles, rows, first, last, target, ldt, weights, mean, raw, ld, outputs, sums, totals,
    ) -> None:  # fmt: skip
        """Compute the sums over rows of losses and of scores.

        Reads raw (outputs, rows) by `ld`, target (targets, rows) by `ldt`, or labels (rows,). In
        `loss_evaluate_weighted` both are multiplied by weights[r] / mean, as in `loss_train_weighted`, and these
        factors have a third sum; `loss_evaluate` reads neither.
        Writes sums (2 or 3, lanes) from the first block to the last, then folded to totals (2 or 3,), all float64.

        docs/derivations.md#losses
        """

        def wide(value: Value) -> Value:
            vector = ir.VectorType(DOUBLE, e.kind.lanes)
            return value if e.kind.scalar is DOUBLE else Value(e, e.builder.fpext(value.ir, vector))

        def values(r: Any, mask: Any) -> tuple[list[Value], Any]:
            inputs, counts = _raws_and_targets(e, loss, raw, ld, target, ldt, r, mask), _counts(e, loss, outputs)
            (row_loss,) = emit(e, loss_steps(loss, e.kind.name).only("loss"), *inputs, counts=counts)
            (score,) = emit(e, score_steps(loss, e.kind.name), *inputs, counts=counts)
            if not weighted:
                return [row_loss, score], mask
            weight, counted = _weights_of_rows(e, weights, mean, r, mask)
            return [weight * wide(row_loss), weight * wide(score), weight], counted

        _sum_up(e, 3 if weighted else 2, values, rows, first, last, sums, totals)

    return evaluate


def _sum_up(e: Emitter, count: int, values: Any, rows, first, last, sums, totals) -> None:
    """Sum `count` values over rows. values(r, mask) returns the values of the rows from r on, and a mask of lanes."""
    after_first, ends = _after_first(e, _is_set(e, first)), _is_set(e, last)
    sums_of = [_Totals(e, e.offset(sums, i * e.kind.lanes, 8), after_first) for i in range(count)]

    def group(r: Any, *previous: Any) -> list[Any]:
        vectors, mask = values(r, e.first_lanes(e.builder.sub(rows, r)))
        return [t.added(s, vector, mask) for t, s, vector in zip(sums_of, previous, vectors, strict=True)]

    for i, result in enumerate(e.loop(rows, group, *[t.start for t in sums_of], step=e.kind.lanes)):
        sums_of[i].store(result, ends, e.offset(totals, i, 8))


for _loss in LOSSES.values():
    _loss_passes(_loss.name, _loss)
