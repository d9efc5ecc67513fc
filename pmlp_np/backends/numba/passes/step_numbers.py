"""Passes of a step's scalars: learning rates by a schedule, and the numbers that update rules derive."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import DOUBLE, Emitter, Value
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.formulas.step_lists import scalar_steps, schedule_steps


def _scalars_pass(name: str) -> None:
    @enter(f"scalars:{name}")
    def scalars(e: Emitter, tiles: Tiles, out, out_stride, inputs, n, step) -> None:
        """Compute the scalars of a rule's update, from hyperparameters and the step's number (from 1).

        Reads inputs (n, STEP_INPUTS), float64. Writes out (n, numbers, lanes), each number in all lanes of a
        vector, by `out_stride` from one row of inputs to the next.

        docs/derivations.md#optimizers
        """
        bld = e.builder

        def row(i: Any) -> None:
            to = e.offset(out, bld.mul(i, out_stride))
            inputs_at = e.offset(inputs, bld.mul(i, e.integer(len(STEP_INPUTS))), 8)
            h = [Value(e, e.load_scalar(e.offset(inputs_at, k, 8), DOUBLE)) for k in range(len(STEP_INPUTS))]
            for k, value in enumerate(emit(e, scalar_steps(name), *h, Value(e, step))):
                scalar = value.ir if e.kind.scalar is DOUBLE else bld.fptrunc(value.ir, e.kind.scalar)
                e.store(e.splat(scalar), e.offset(to, k * e.kind.lanes))

        e.loop(n, row)


def _schedule_pass(name: str) -> None:
    @enter(f"schedule:{name}")
    def schedule(
        e: Emitter, tiles: Tiles, inputs, rates, n, options, minibatches, fit_epochs, epoch, minibatch
    ) -> None:
        """Compute the learning rates of a step: the rates before any schedule, times the schedule's factor.

        Reads rates (n,), and the member's options (OPTIONS,), all float64. `minibatches` are those of an epoch,
        `fit_epochs` the epochs of the schedule; `epoch` and `minibatch` (from 0) are the cursor.
        Writes the learning rate in each row of inputs (n, STEP_INPUTS), float64.

        docs/derivations.md#learning-rates-over-time
        """
        steps, names = schedule_steps(name), list(OPTIONS)
        known = {"epoch": epoch, "minibatch": minibatch, "minibatches": minibatches, "fit_epochs": fit_epochs}
        for key, *_ in steps.inputs:
            if key not in known:
                known[key] = e.load_scalar(e.offset(options, names.index(key), 8), DOUBLE)
        (factor,) = emit(e, steps, *(Value(e, known[key]) for key, *_ in steps.inputs))

        def row(i: Any) -> None:
            rate = Value(e, e.load_scalar(e.offset(rates, i, 8), DOUBLE)) * factor
            start = e.builder.mul(i, e.integer(len(STEP_INPUTS)))
            rate_at = e.builder.add(start, e.integer(STEP_INPUTS.index("learning_rate")))
            e.store_scalar(rate.ir, e.offset(inputs, rate_at, 8))

        e.loop(n, row)


for _name in RULES:
    _scalars_pass(_name)
for _name in SCHEDULES:
    _schedule_pass(_name)
