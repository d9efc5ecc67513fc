"""Passes of losses: a loss, its slopes by the raw outputs, and their sums; lanes run across rows."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from llvmlite import ir

from pmlp_np.backends.numba.outputs import PerOutput
from pmlp_np.backends.numba.passes.registry import PASSES, Pass, Tiles, digest, enter
from pmlp_np.backends.numba.simd import DOUBLE, Emitter, Value
from pmlp_np.formulas.losses import LOSSES, Loss

# Names of passes are literals of compiled code: longer texts of parameters become a hash.
_LONGEST_LABEL = 80


def _per_output(load: Any, e: Emitter, block: Any, ld: Any, r: Any, outputs: Any) -> PerOutput:
    bld = e.builder
    return PerOutput(e, outputs, lambda o: load(e.offset(block, bld.add(bld.mul(o, ld), r))))


def _raws_and_targets(e: Emitter, loss: Loss, raw, ld, target, ldt, r, outputs, mask) -> tuple[PerOutput, Any]:
    """Targets are read under the mask: they may end with the last row. `outputs` counts raw outputs."""
    labels, n_targets = loss.targets == "labels", _per_head(e, loss, outputs)

    def load_target(address: Any) -> Value:
        return e.load_masked(address, mask)

    targets = load_target(e.offset(target, r)) if labels else _per_output(load_target, e, target, ldt, r, n_targets)
    return _per_output(e.load, e, raw, ld, r, outputs), targets


class _Totals:
    """Float64 sums over rows, one per lane, kept at an address between blocks and folded to one number at the end."""

    def __init__(self, e: Emitter, lane_sums: Any, going_on: Any) -> None:
        self.e, self.address = e, lane_sums
        self.vector = ir.VectorType(DOUBLE, e.kind.lanes)
        held = e.builder.load(e.pointer(lane_sums), typ=self.vector, align=8)
        self.start = e.masked(going_on, Value(e, held)).ir

    def added(self, sums: Any, values: Value, mask: Any) -> Any:
        bld, values = self.e.builder, self.e.masked(mask, values)
        return bld.fadd(sums, values.ir if self.e.kind.scalar is DOUBLE else bld.fpext(values.ir, self.vector))

    def keep(self, sums: Any, finish: Any, total: Any) -> None:
        e = self.e
        e.builder.store(sums, e.pointer(self.address), align=8)
        e.when(finish, lambda: e.store_scalar(e.folded(Value(e, sums)), total))


def loss_pass(loss: Loss, task: str) -> str:
    """The name of a loss's pass for a task ("loss_train", "loss_evaluate"), which is entered at first need.

    "loss_train_weighted" is "loss_train" of rows that have weights.
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
        return f"{loss.name}@{digest(_evaluate_of(loss), _train_of(loss), of=f'loss {loss.name!r}')}"
    if len(label) > _LONGEST_LABEL:
        return f"{loss.name}#{hashlib.sha256(label.encode()).hexdigest()[:20]}"
    return label


def _per_head(e: Emitter, loss: Loss, outputs: Any) -> Any:
    return outputs if loss.heads == 1 else e.builder.sdiv(outputs, e.integer(loss.heads))


def _loss_passes(label: str, loss: Loss) -> None:
    enter(f"loss_train:{label}")(_train_of(loss))
    enter(f"loss_train_weighted:{label}")(_train_of(loss, weighted=True))
    enter(f"loss_evaluate:{label}")(_evaluate_of(loss))


def _train_of(loss: Loss, weighted: bool = False) -> Pass:
    def train(
        e: Emitter, tiles: Tiles, rows, first, last, target, ldt, scale, weights, raw, gradient, ld, outputs,
        bias_gradient, bias_sums, loss_sums, total,
    ) -> None:  # fmt: skip
        """gradient[o, r] = scale * d loss of row r / d raw[o, r], zero from `rows` on.

        Where rows have weights, both are multiplied by weights[r]; else `weights` is not read.

        Its sums over rows, one per lane, are kept in bias_sums[o] from the first block to the last; so are the rows'
        losses in loss_sums (float64). With the last block the sums are folded to bias_gradient[o] and the float64
        `total`. `scale` holds the bits of a float64.
        """
        bld, lanes = e.builder, e.kind.lanes
        factor = bld.bitcast(scale, DOUBLE)
        factor = e.splat(factor if e.kind.scalar is DOUBLE else bld.fptrunc(factor, e.kind.scalar))
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        totals = _Totals(e, loss_sums, e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes))))

        def sums_of(o: Any) -> Any:
            return e.offset(bias_sums, bld.mul(o, e.integer(lanes)))

        e.when(begins, lambda: e.loop(outputs, lambda o: e.store(e.constant(0.0), sums_of(o))))

        def group(r: Any, sums: Any) -> list[Any]:
            mask = e.first_lanes(bld.sub(rows, r))
            row_loss, slopes = loss.by_head(*_raws_and_targets(e, loss, raw, ld, target, ldt, r, outputs, mask))
            row_factor = factor
            if weighted:
                weight = e.load_masked(e.offset(weights, r), mask)
                row_loss, row_factor = weight * row_loss, weight * factor

            def output(o: Any) -> None:
                for h, slope in enumerate(slopes):
                    value = e.masked(mask, slope.at(o) * row_factor)
                    place = o if loss.heads == 1 else bld.add(bld.mul(o, e.integer(loss.heads)), e.integer(h))
                    e.store(value, e.offset(gradient, bld.add(bld.mul(place, ld), r)))
                    e.store(e.load(sums_of(place)) + value, sums_of(place))

            e.loop(_per_head(e, loss, outputs), output)
            return [totals.added(sums, row_loss, mask)]

        (sums,) = e.loop(rows, group, totals.start, step=lanes)
        totals.keep(sums, ends, total)

        def fold(o: Any) -> None:
            e.store_scalar(e.folded(e.load(sums_of(o))), e.offset(bias_gradient, o))

        e.when(ends, lambda: e.loop(outputs, fold))

    return train


def _evaluate_of(loss: Loss) -> Pass:
    def evaluate(e: Emitter, tiles: Tiles, rows, first, last, target, ldt, raw, ld, outputs, sums, totals) -> None:
        """Sums over rows of losses and of scores: in `sums` (2, lanes) from the first block to the last, then folded to
        totals (2,), all float64."""
        bld, lanes = e.builder, e.kind.lanes
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        going_on = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))
        both = [_Totals(e, e.offset(sums, i * lanes, 8), going_on) for i in range(2)]

        def group(r: Any, *so_far: Any) -> list[Any]:
            mask = e.first_lanes(bld.sub(rows, r))
            raws, targets = _raws_and_targets(e, loss, raw, ld, target, ldt, r, outputs, mask)
            row_loss, _ = loss.by_head(raws, targets)
            values = row_loss, loss.score(raws, targets)
            return [t.added(s, value, mask) for t, s, value in zip(both, so_far, values, strict=True)]

        for i, result in enumerate(e.loop(rows, group, *[t.start for t in both], step=lanes)):
            both[i].keep(result, ends, e.offset(totals, i, 8))

    return evaluate


for _loss in LOSSES.values():
    _loss_passes(_loss.name, _loss)
