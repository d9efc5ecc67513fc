"""Passes of the optimizers' rules: the numbers of a step, and steps along gradients that are still in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.matrices import block_of, multiply
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import DOUBLE, I64, Emitter, Value, fma
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.formulas.step_lists import scalar_steps, schedule_steps, update_steps


def _rule_passes(name: str) -> None:
    rule = RULES[name]

    def scalars_of(e: Emitter, inputs: Any, step: Any) -> list[Value]:
        given = [Value(e, e.load_scalar(e.offset(inputs, i, 8), DOUBLE)) for i in range(len(STEP_INPUTS))]
        return emit(e, scalar_steps(name), *given, Value(e, step))

    @enter(f"scalars:{name}")
    def scalars(e: Emitter, tiles: Tiles, out, out_stride, inputs, count, step) -> None:
        """The numbers of this step's update, each filling a vector of `out`, from each of `count` rows of STEP_INPUTS
        (float64); `out_stride` elements from one row's numbers to the next."""

        def row(i: Any) -> None:
            bld = e.builder
            to = e.offset(out, bld.mul(i, out_stride))
            given = e.offset(inputs, bld.mul(i, e.integer(len(STEP_INPUTS))), 8)
            for k, value in enumerate(scalars_of(e, given, step)):
                scalar = value.ir if e.kind.scalar is DOUBLE else bld.fptrunc(value.ir, e.kind.scalar)
                e.store(e.splat(scalar), e.offset(to, k * e.kind.lanes))

        e.loop(count, row)

    def step(e: Emitter, numbers: Any, w: Any, slots: Any, slot_stride: Any) -> Callable[[Any, Value, Any], None]:
        """A function that takes the parameters at an offset one step along their gradient, under a lane mask."""
        s = [e.load(e.offset(numbers, i * e.kind.lanes)) for i in range(len(scalar_names(name)))]
        slot_at = [e.offset(slots, e.builder.mul(slot_stride, e.integer(i))) for i in range(rule.slots)]

        def take(place: Any, gradient: Value, mask: Any) -> None:
            old = tuple(e.load(e.offset(at, place)) for at in slot_at)
            held = e.load(e.offset(w, place))
            new_w, *new_slots = emit(e, update_steps(name, e.kind.name), held, gradient, *old, *s)
            e.store(e.masked(mask, new_w), e.offset(w, place))
            for at, slot in zip(slot_at, new_slots, strict=True):
                e.store(e.masked(mask, slot), e.offset(at, place))

        return take

    @enter(f"update:{name}")
    def update(e: Emitter, tiles: Tiles, w, gradient, slots, slot_stride, widths, count, numbers) -> None:
        """One step of the rule on `count` vectors, of widths[i] (int64) elements, which lie one behind the other, each
        padded; their slots lie `slot_stride` elements apart."""
        bld, lanes = e.builder, e.kind.lanes
        take = step(e, numbers, w, slots, slot_stride)

        def vector(i: Any, start: Any) -> list[Any]:
            width = e.load_scalar(e.offset(widths, i, 8), I64)

            def part(n: Any) -> None:
                place = bld.add(start, n)
                take(place, e.load(e.offset(gradient, place)), e.first_lanes(bld.sub(width, n)))

            e.loop(width, part, step=lanes)
            return [bld.add(start, bld.and_(bld.add(width, e.integer(lanes - 1)), e.integer(-lanes)))]

        e.loop(count, vector, e.integer(0))

    @enter(f"update_rows:{name}")
    def update_rows(
        e: Emitter, tiles: Tiles, w, gradient, slots, slot_stride, stride, rows, width, numbers
    ) -> None:  # fmt: skip
        """One step of the rule on a matrix of `rows` rows, `stride` elements apart, of `width` elements each."""
        bld, lanes = e.builder, e.kind.lanes
        take = step(e, numbers, w, slots, slot_stride)

        def row(r: Any) -> None:
            start = bld.mul(r, stride)

            def part(n: Any) -> None:
                place = bld.add(start, n)
                take(place, e.load(e.offset(gradient, place)), e.first_lanes(bld.sub(width, n)))

            e.loop(width, part, step=lanes)

        e.loop(rows, row)

    @enter(f"weights_backward:{name}")
    def weights_backward(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, slope, w, gradient, stride, slots, slot_stride,
        fan_in, width, vectors, numbers,
    ) -> None:  # fmt: skip
        """The gradient of hidden weights W (fan_in, units), from zero with the first block: += sum over rows of
        x[r, i] slope[r, n]. With the last block the weights take their step instead of the gradient being kept.

        `stride` is that of the rows of W, its gradient, and the slopes.
        """
        bld, lanes = e.builder, e.kind.lanes
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        going_on = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))
        take = step(e, numbers, w, slots, slot_stride)
        held = block_of(e, gradient, stride)

        def begin(r: Any, height: int, columns: Any, count: int) -> list[Any]:
            return [e.masked(going_on, Value(e, x)).ir for x in held(r, height, columns, count)]

        def finish(r: Any, height: int, columns: Any, count: int, sums: list[Any]) -> None:
            at = [bld.add(columns, e.integer(j * lanes)) for j in range(count)]
            masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, at[-1]))]
            row = bld.mul(r, stride)
            places = []
            for _ in range(height):
                places += [bld.add(row, place) for place in at]
                row = bld.add(row, stride)
            with bld.if_else(ends) as (done, not_yet):
                with done:
                    for place, mask, total in zip(places, masks * height, sums, strict=True):
                        take(place, Value(e, total), mask)
                with not_yet:
                    for place, total in zip(places, sums, strict=True):
                        e.store(Value(e, total), e.offset(gradient, place))

        one = e.integer(1)
        multiply(e, tiles.product, begin, x, one, x_stride, slope, stride, fan_in, vectors, rows, finish)

    @enter(f"output_backward:{name}")
    def output_backward(
        e: Emitter, tiles: Tiles, rows, first, last, a, d, stride, hidden_sums, slope, ld, w, w_gradient, slots,
        slot_stride, width, vectors, outputs, numbers,
    ) -> None:  # fmt: skip
        """The output layer, backward, from slope[o, r] of the loss by its raw outputs.

        d[r, n] *= sum over outputs of slope[o, r] W[o, n]: derivatives of the last hidden layer become slopes;
        hidden_sums[n] += d[r, n], and w_gradient[o, n] += sum over rows of slope[o, r] a[r, n], from zero with the
        first block; with the last block the weights W take their step instead of w_gradient being kept.
        """
        bld, lanes = e.builder, e.kind.lanes
        take = step(e, numbers, w, slots, slot_stride)
        begins, ends = (bld.icmp_signed("==", flag, e.integer(1)) for flag in (first, last))
        going_on = e.first_lanes(bld.select(begins, e.integer(0), e.integer(lanes)))

        def strip(n: Any, count: int) -> None:
            at = [bld.add(bld.mul(n, e.integer(lanes)), e.integer(j * lanes)) for j in range(count)]
            # Only the last vector of a strip can reach beyond the width.
            masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, at[-1]))]

            def held(address: Any) -> list[Any]:
                return [e.masked(going_on, e.load(e.offset(address, place))).ir for place in at]

            def row_of(block: Any, r: Any) -> list[Any]:
                return [e.offset(block, bld.add(bld.mul(r, stride), place)) for place in at]

            def slope_of(o: Any, r: Any) -> Value:
                return e.broadcast(e.offset(slope, bld.add(bld.mul(o, ld), r)))

            def turned(r: Any, weighted: list[Value], totals: Any) -> list[Any]:
                """Derivatives of a row become slopes; the totals with them added."""
                results = []
                for here, weight, total in zip(row_of(d, r), weighted, totals, strict=True):
                    value = weight * e.load(here)
                    e.store(value, here)
                    results.append((Value(e, total) + value).ir)
                return results

            def gathered(r: Any, s: Value, gradients: Any) -> list[Any]:
                """The gradient of one output's weights with a row added."""
                activations = [e.load(here) for here in row_of(a, r)]
                return [fma(s, x, Value(e, g)).ir for x, g in zip(activations, gradients, strict=True)]

            def keep_hidden(totals: Any) -> None:
                for place, total in zip(at, totals, strict=True):
                    e.store(Value(e, total), e.offset(hidden_sums, place))

            def keep(o: Any, gradients: Any) -> None:
                line = [bld.add(bld.mul(o, stride), place) for place in at]
                with bld.if_else(ends) as (done, not_yet):
                    with done:
                        for place, mask, g in zip(line, masks, gradients, strict=True):
                            take(place, Value(e, g), mask)
                    with not_yet:
                        for place, g in zip(line, gradients, strict=True):
                            e.store(Value(e, g), e.offset(w_gradient, place))

            def one_output() -> None:
                weights = [e.load(e.offset(w, place)) for place in at]

                def row(r: Any, *sums: Any) -> list[Any]:
                    s = slope_of(e.integer(0), r)
                    return turned(r, [s * weight for weight in weights], sums[:count]) + gathered(r, s, sums[count:])

                sums = e.loop(rows, row, *held(hidden_sums), *held(w_gradient))
                keep_hidden(sums[:count])
                keep(e.integer(0), sums[count:])

            def many_outputs() -> None:
                def weighted(r: Any) -> list[Value]:
                    def output(o: Any, *products: Any) -> list[Any]:
                        s, line = slope_of(o, r), e.offset(w, bld.mul(o, stride))
                        return [
                            fma(s, e.load(e.offset(line, place)), Value(e, x)).ir
                            for place, x in zip(at, products, strict=True)
                        ]

                    return [Value(e, x) for x in e.loop(outputs, output, *[e.constant(0.0).ir] * count)]

                keep_hidden(e.loop(rows, lambda r, *sums: turned(r, weighted(r), sums), *held(hidden_sums)))

                def gradient(o: Any, at_once: int) -> None:
                    some = [bld.add(o, e.integer(i)) for i in range(at_once)]

                    def row(r: Any, *sums: Any) -> list[Any]:
                        parts = [sums[i * count : (i + 1) * count] for i in range(at_once)]
                        return [
                            x for i, part in zip(some, parts, strict=True) for x in gathered(r, slope_of(i, r), part)
                        ]

                    start = [x for i in some for x in held(e.offset(w_gradient, bld.mul(i, stride)))]
                    sums = e.loop(rows, row, *start)
                    for i, part in enumerate(some):
                        keep(part, sums[i * count : (i + 1) * count])

                e.blocks(outputs, tiles.outputs, gradient)

            with bld.if_else(bld.icmp_signed("==", outputs, e.integer(1))) as (one, many):
                with one:
                    one_output()
                with many:
                    many_outputs()

        e.blocks(vectors, tiles.strips, strip)


def scalar_names(rule: str) -> tuple[str, ...]:
    """The names of the numbers that a rule derives for each step."""
    return scalar_steps(rule).names


def _schedule_pass(name: str) -> None:
    @enter(f"schedule:{name}")
    def schedule(
        e: Emitter, tiles: Tiles, inputs, rates, count, options, minibatches, fit_epochs, epoch, minibatch
    ) -> None:
        """The learning rates of a step, into each of `count` rows of STEP_INPUTS, from the rates before any schedule;
        options: a member's row of all OPTIONS, float64."""
        steps, places = schedule_steps(name), list(OPTIONS)
        given = {"epoch": epoch, "minibatch": minibatch, "minibatches": minibatches, "fit_epochs": fit_epochs}
        for key, *_ in steps.inputs:
            if key not in given:
                given[key] = e.load_scalar(e.offset(options, places.index(key), 8), DOUBLE)
        (factor,) = emit(e, steps, *(Value(e, given[key]) for key, *_ in steps.inputs))

        def row(i: Any) -> None:
            rate = Value(e, e.load_scalar(e.offset(rates, i, 8), DOUBLE)) * factor
            place = e.builder.mul(i, e.integer(len(STEP_INPUTS)))
            own = e.offset(inputs, e.builder.add(place, e.integer(STEP_INPUTS.index("learning_rate"))), 8)
            e.store_scalar(rate.ir, own)

        e.loop(count, row)


for _name in RULES:
    _rule_passes(_name)
for _name in SCHEDULES:
    _schedule_pass(_name)
