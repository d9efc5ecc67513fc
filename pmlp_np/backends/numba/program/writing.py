"""A member's task as a program: the passes of a block of rows with their arguments, written once, run for every block.

Between two minibatches of a member little changes: where its rows and targets lie, and how many they are. So the passes
are laid out as instructions in the slot's scratch, and a minibatch sets a few arguments and calls one after another.
With the arguments worked out anew for every call, small members would spend a third of their time on that.

    train:     schedule, scalars |
                         layers ... outputs, loss, output_backward, hidden layers ..., weights_backward | updates
               (with dropout: input_dropout before the layers, dropout behind each hidden one; where gradients are
               clipped, no weights take their step in passing: | clip, update_rows ..., updates; where weights are
               averaged: average at the end; where features have scales, the first layer reads weights times these,
               made anew at the end, and takes no step in passing: | scales_backward, update_rows, updates)
    evaluate:            layers ... outputs, loss
    forward:             layers ... outputs, by_row

docs/kernels.md#the-program has the picture.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import item
from pmlp_np.backends.numba.job import (
    EVALUATE,
    MEETINGS_AT,
    POSITION_AT,
    SUMS_AT,
    TRAIN,
    frame_of,
    program_at,
)
from pmlp_np.backends.numba.program.backward import put_backward
from pmlp_np.backends.numba.program.forward import (
    put_evaluation,
    put_forward,
    put_input_dropout,
    put_loss,
    put_result,
    uses,
)
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES, run
from pmlp_np.backends.numba.program.team import Team
from pmlp_np.backends.numba.program.updates import (
    has_scales,
    put_scalars,
    put_scale_features,
    put_schedule,
    put_step,
)
from pmlp_np.base.arrays import NOWHERE, Address


class Program(NamedTuple):
    """Addresses of a program's instructions and of what they read.

    `start` to `stop` are the instructions for a block; from `no_step_from` on weights take no step in passing (0: all
    do). `outcome` is the one behind raw outputs: the loss, or what hands out results. `schedule` (0: constant rates)
    and `scalars` come before a minibatch, those from `stop` to `end` after it.

    `rows`, `x`, `fan_in`, `targets`, `weights`, `places` and `sums` are the frame's: rows per block, room for gathered
    rows (of `fan_in` features), targets, weights and their positions, and the totals of the loss. Dropout reads a
    block's place in the epoch's order at `position` (0: no dropout), and `inputs` is what it leaves of the features (0:
    all of them). At `meetings` a slot counts how often it has waited for its team.
    """

    team: Team
    meetings: Address
    rows: int
    scalars: Address
    start: Address
    stop: Address
    no_step_from: Address
    end: Address
    outcome: Address
    schedule: Address
    fan_in: int
    places: Address
    x: Address
    targets: Address
    weights: Address
    sums: Address
    position: Address
    inputs: Address


@kernel()
def write_program(job, team, m, batches):
    """The program of the job's task on member m, in the scratch of the slot that runs it; `batches` to an epoch."""
    frame, scratch = frame_of(job, team.slot, m), item(job.scratch, team.slot)
    mine = item(job.scratch, team.slot + team.part)
    fan_in = item(job.fan_in, frame.first_layer)
    at = scalars = mine + program_at(job, m)
    no_step_from = schedule = inputs = position = NOWHERE
    scales = has_scales(job, m)
    if job.task == TRAIN:
        scalars = put_schedule(job, frame, at, batches)
        schedule = at if scalars != at else NOWHERE
        at = put_scalars(job, frame, scalars)
    start = at
    if uses(job, job.input_dropout, m):
        inputs = frame.x
        at = put_input_dropout(job, team, frame, at, mine + POSITION_AT)
    if inputs != 0 or uses(job, job.dropout, m):
        position = mine + POSITION_AT
    outcome = at = put_forward(job, team, frame, at, inputs, fan_in, position)
    if job.task == TRAIN:
        at = put_loss(job, team, frame, at, scratch)
        clips = uses(job, job.clip_norm, m)
        if clips:
            no_step_from = at
        stop = at = put_backward(job, team, frame, at)
        if scales and not clips:
            # The first layer's.
            no_step_from = stop - INSTRUCTION_BYTES
        at = put_step(job, frame, at, scalars, clips, uses(job, job.average, m))
    elif job.task == EVALUATE:
        stop = at = put_evaluation(job, frame, at, scratch)
    else:
        stop = at = put_result(job, frame, at)
    if scales:
        # Once now; a step does it again at its end.
        scale, at = at, put_scale_features(job, frame, at)
        if team.part == 0:
            run(scale)
    return Program(
        team=team, meetings=mine + MEETINGS_AT, rows=frame.rows, scalars=scalars, start=start, stop=stop,
        no_step_from=no_step_from, end=at, outcome=outcome, schedule=schedule, fan_in=fan_in, places=frame.places,
        x=frame.x, targets=frame.targets, weights=frame.weights, sums=scratch + SUMS_AT, position=position,
        inputs=inputs,
    )  # fmt: skip
