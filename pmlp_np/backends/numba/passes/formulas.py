"""Passes that run a formula: activations, losses, the optimizers' rules, and initial distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.outputs import PerOutput
from pmlp_np.backends.numba.passes.matrices import multiply
from pmlp_np.backends.numba.passes.registry import Tiles, add_rows, enter, over_block
from pmlp_np.backends.numba.simd import DOUBLE, Emitter, Value
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, RULES


def _activation_passes(name: str) -> None:
    function = ACTIVATIONS[name].function

    @enter(f"activation_train:{name}")
    def train(e: Emitter, tiles: Tiles, z, derivative, rows, width) -> None:
        """z becomes its activation, in place; the derivative goes beside it."""

        def vector(place: Any, mask: Any) -> None:
            a, d = function(e.load(e.offset(z, place)))
            e.store(e.masked(mask, a), e.offset(z, place))
            e.store(e.masked(mask, d), e.offset(derivative, place))

        over_block(e, rows, width, vector)

    @enter(f"activation:{name}")
    def forward(e: Emitter, tiles: Tiles, z, rows, width) -> None:
        """z becomes its activation, in place."""

        def vector(place: Any, mask: Any) -> None:
            a, _ = function(e.load(e.offset(z, place)))
            e.store(e.masked(mask, a), e.offset(z, place))

        over_block(e, rows, width, vector)


def _per_output(e: Emitter, block: Any, ld: Any, r: Any, outputs: Any) -> PerOutput:
    bld = e.builder
    return PerOutput(e, outputs, lambda o: e.load(e.offset(block, bld.add(bld.mul(o, ld), r))))


def _loss_passes(name: str) -> None:
    loss = LOSSES[name]

    def target_of(e: Emitter, target: Any, ldt: Any, r: Any, outputs: Any) -> Any:
        return e.load(e.offset(target, r)) if loss.targets == "labels" else _per_output(e, target, ldt, r, outputs)

    @enter(f"loss_train:{name}")
    def train(e: Emitter, tiles: Tiles, raw, target, gradient, ld, rows, outputs, scale, loss_sum) -> None:
        """gradient[o, r] = scale * d loss of row r / d raw[o, r], zero from `rows` on; loss_sum (float64) grows by each
        row.

        `scale` holds the bits of a float64.
        """
        bld = e.builder
        factor = bld.bitcast(scale, DOUBLE)
        factor = e.splat(factor if e.kind.scalar is DOUBLE else bld.fptrunc(factor, e.kind.scalar))

        def group(r: Any) -> None:
            left = bld.sub(rows, r)
            mask = e.first_lanes(left)
            row_loss, slope = loss.function(_per_output(e, raw, ld, r, outputs), target_of(e, target, ld, r, outputs))

            def output(o: Any) -> None:
                e.store(e.masked(mask, slope.at(o) * factor), e.offset(gradient, bld.add(bld.mul(o, ld), r)))

            e.loop(outputs, output)
            add_rows(e, row_loss, left, loss_sum)

        e.loop(rows, group, step=e.kind.lanes)

    @enter(f"loss_evaluate:{name}")
    def evaluate(e: Emitter, tiles: Tiles, raw, target, ld, rows, outputs, loss_sum, score_sum) -> None:
        """loss_sum and score_sum (float64) grow by each row's loss and score."""
        bld = e.builder

        def group(r: Any) -> None:
            raws, targets = _per_output(e, raw, ld, r, outputs), target_of(e, target, ld, r, outputs)
            row_loss, _ = loss.function(raws, targets)
            left = bld.sub(rows, r)
            add_rows(e, row_loss, left, loss_sum)
            add_rows(e, loss.score(raws, targets), left, score_sum)

        e.loop(rows, group, step=e.kind.lanes)


class _Fields:
    """Names as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _rule_passes(name: str) -> None:
    rule = RULES[name]

    def scalars_of(e: Emitter, hyperparameters: Any, step: Any) -> dict[str, Value]:
        h = {
            key: Value(e, e.load_scalar(e.offset(hyperparameters, i, 8), DOUBLE))
            for i, key in enumerate(HYPERPARAMETERS)
        }
        return rule.scalars(_Fields(h), step)

    @enter(f"scalars:{name}")
    def scalars(e: Emitter, tiles: Tiles, out, hyperparameters, step) -> None:
        """The numbers of this step's update, from float64 hyperparameters; each fills a vector of `out`."""
        for i, value in enumerate(scalars_of(e, hyperparameters, step).values()):
            scalar = value.ir if e.kind.scalar is DOUBLE else e.builder.fptrunc(value.ir, e.kind.scalar)
            e.store(e.splat(scalar), e.offset(out, i * e.kind.lanes))

    def step(e: Emitter, numbers: Any, w: Any, slots: Any, slot_stride: Any) -> Callable[[Any, Value, Any], None]:
        """A function that takes the parameters at an offset one step along their gradient, under a lane mask."""
        s = _Fields({key: e.load(e.offset(numbers, i * e.kind.lanes)) for i, key in enumerate(scalar_names(name))})
        slot_at = [e.offset(slots, e.builder.mul(slot_stride, e.integer(i))) for i in range(rule.slots)]

        def take(place: Any, gradient: Value, mask: Any) -> None:
            old = tuple(e.load(e.offset(at, place)) for at in slot_at)
            new_w, new_slots = rule.update(e.load(e.offset(w, place)), gradient, old, s)
            e.store(e.masked(mask, new_w), e.offset(w, place))
            for at, slot in zip(slot_at, new_slots, strict=True):
                e.store(e.masked(mask, slot), e.offset(at, place))

        return take

    @enter(f"update:{name}")
    def update(e: Emitter, tiles: Tiles, w, gradient, slots, slot_stride, rows, width, numbers) -> None:
        """One step of the rule on a (rows, padded width) block and its slots, which lie `slot_stride` elements
        apart."""
        take = step(e, numbers, w, slots, slot_stride)
        over_block(e, rows, width, lambda place, mask: take(place, e.load(e.offset(gradient, place)), mask))

    @enter(f"gradient_step:{name}")
    def gradient_step(
        e: Emitter, tiles: Tiles, w, slots, slot_stride, start, start_stride, a, a_row, a_k, b, ldb, rows, width, depth,
        numbers,
    ) -> None:  # fmt: skip
        """One step along the gradient start + A B, which stays in registers; w is (rows, ldb), ldb the padded width.

        The same bits as `gemm` followed by `update`, without the gradient's way through memory.
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step(e, numbers, w, slots, slot_stride)

        def finish(row: list[Any], columns: Any, count: int, sums: list[Any]) -> None:
            at = [bld.add(columns, e.integer(j * lanes)) for j in range(count)]

            def store(masks: list[Any]) -> None:
                for i, r in enumerate(row):
                    for j in range(count):
                        take(bld.add(bld.mul(r, ldb), at[j]), Value(e, sums[i * count + j]), masks[j])

            end = bld.add(columns, e.integer(count * lanes))
            with bld.if_else(bld.icmp_signed(">", end, width)) as (ends_within, whole):
                with ends_within:
                    store([e.first_lanes(bld.sub(width, n)) for n in at])
                with whole:
                    store([None] * count)

        vectors = bld.sdiv(ldb, e.integer(lanes))
        multiply(e, tiles, start, start_stride, a, a_row, a_k, b, ldb, rows, vectors, depth, finish)


def scalar_names(rule: str) -> tuple[str, ...]:
    """The names of the numbers that a rule derives for each step."""
    one = dict.fromkeys(HYPERPARAMETERS, 0.5)
    return tuple(RULES[rule].scalars(_Fields(one), 1))


def _distribution_pass(name: str) -> None:
    function = DISTRIBUTIONS[name]

    @enter(f"distribution:{name}")
    def spread(e: Emitter, tiles: Tiles, values, count) -> None:
        """Draws from (0, 1), float64, become draws from the distribution, in place; whole vectors."""
        e.loop(count, lambda i: e.store(function(e.load(e.offset(values, i))), e.offset(values, i)), step=e.kind.lanes)


for _name in ACTIVATIONS:
    _activation_passes(_name)
for _name in LOSSES:
    _loss_passes(_name)
for _name in RULES:
    _rule_passes(_name)
for _name in DISTRIBUTIONS:
    _distribution_pass(_name)
