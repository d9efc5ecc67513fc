"""A member's task as a program: passes over a block of rows and their arguments, written once, run for every block.

From minibatch to minibatch few arguments change: the addresses of rows and targets, and their number. So the passes are
written as instructions into the slot's scratch; a minibatch sets a few arguments and runs the instructions in order.
With all arguments computed anew for every call, small members would spend a third of their time on them.

    train:     schedule, scalars | layers, outputs, loss, output_backward, hidden layers, weights_backward | updates
    evaluate:                      layers, outputs, loss
    forward:                       layers, outputs, by_row
    mean:                          layers, outputs, add_part

Instructions between the bars run for every block of rows, the others once per minibatch. Options add to a training
program:

    dropout            `input_dropout` before the layers, `dropout` behind each hidden layer
    clipped gradients  weights take their step after all gradients:  | clip, update_rows (per layer), updates
    feature scales     the first layer reads weights times scales, and takes its step after all gradients:
                       | scales_backward, update_rows, updates, scale_features
    averaged weights   `average` behind the updates
    encoded columns    `encoded_start` before the first layer, `encoded_backward` before its gradient, and behind all
                       gradients  | encoded_gradient, update_rows, updates, encoded_tables

docs/kernels.md#the-program has the picture.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import BARRIERS_AT, CURSOR_AT, SUMS_AT, Encoded, frame_of
from pmlp_np.backends.numba.intrinsics import item, record_at
from pmlp_np.backends.numba.job import EVALUATE, MEAN, TRAIN
from pmlp_np.backends.numba.program.backward import put_backward
from pmlp_np.backends.numba.program.forward import (
    put_evaluation,
    put_forward,
    put_input_dropout,
    put_loss,
    put_part,
    put_result,
    uses,
)
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES, run
from pmlp_np.backends.numba.program.team import Team
from pmlp_np.backends.numba.program.updates import (
    has_scales,
    put_cleared_tables,
    put_encoded_tables,
    put_scalars,
    put_scale_features,
    put_schedule,
    put_step,
)
from pmlp_np.base.arrays import NOWHERE, Address


class Program(NamedTuple):
    """Addresses of a program's instructions, and of the memory that the driver reads and writes between them.

    `start` to `stop` are the instructions over a block of rows; weights take no step in those from `no_step_from` on
    (0: in all of them they do). `outcome` is the instruction behind raw outputs: the loss, in a forward pass `by_row`,
    in a mean `add_part`. `schedule` (0: constant rates) and `scalars` are run before a minibatch, those from `stop` to
    `end` after; those from `products` on compute what the first layer reads of the weights (see `prepare`).

    `rows`, `x`, `targets`, `weights` and `row_numbers` are the frame's: rows per block, and memory for gathered rows of
    `columns` numbers. `encodes` (1) says that rows have encoded columns, so that two passes read them, forward and
    backward. `sums` are the totals of the loss. `cursor` is read by dropout (0: no dropout); `inputs` are the features
    after dropout (0: no dropout of features). `barriers` counts the barriers that the slot has passed.
    """

    team: Team
    barriers: Address
    rows: int
    scalars: Address
    start: Address
    stop: Address
    no_step_from: Address
    products: Address
    end: Address
    outcome: Address
    schedule: Address
    columns: int
    encodes: int
    row_numbers: Address
    x: Address
    targets: Address
    weights: Address
    sums: Address
    cursor: Address
    inputs: Address


@kernel()
def prepare(program):
    """Compute what the first layer reads of a member's weights, before a program is run for the first time.

    Also after another program of the member, whose rows are stored in another way, has used the same scratch.
    """
    if program.team.part == 0:
        for at in range(program.products, program.end, INSTRUCTION_BYTES):
            run(at)
        if program.encodes != 0:
            run(program.end)


@kernel()
def write_program(job, team, m, batches):
    """Write the program of the job's task on member m into the scratch of the slot that runs it. `prepare` comes next.

    batches: minibatches per epoch.
    """
    frame, scratch = frame_of(job, team.slot, m), item(job.scratch, team.slot)
    # A slot of a team has its own program, on the frame of the first slot.
    slot_scratch = item(job.scratch, team.slot + team.part)
    columns, encodes = item(job.fan_in, frame.first_layer), 0
    if frame.encoding != 0:
        encoded = record_at(frame.encoding, Encoded)
        columns, encodes = encoded.plain + 2 * encoded.n, 1
    program = frame.evaluation_program if job.task == EVALUATE else frame.program
    at = scalars = slot_scratch + (program - scratch)
    no_step_from = schedule = inputs = cursor = NOWHERE
    scales = has_scales(job, m)
    if job.task == TRAIN:
        scalars = put_schedule(job, frame, at, batches)
        schedule = at if scalars != at else NOWHERE
        at = put_scalars(job, frame, scalars)
    start = at
    if uses(job, job.input_dropout, m):
        inputs = frame.x
        at = put_input_dropout(job, team, frame, at, slot_scratch + CURSOR_AT)
    if inputs != 0 or uses(job, job.dropout, m):
        cursor = slot_scratch + CURSOR_AT
    outcome = at = put_forward(job, team, frame, at, inputs, columns, cursor)
    if job.task == TRAIN:
        at = put_loss(job, team, frame, at, scratch)
        clips = uses(job, job.clip_norm, m)
        if clips:
            no_step_from = at
        stop = at = put_backward(job, team, frame, at)
        if (scales or encodes != 0) and not clips:
            # Weights of the first layer, which is the last instruction.
            no_step_from = stop - INSTRUCTION_BYTES
        at = put_step(job, frame, at, scalars, clips, uses(job, job.average, m))
    elif job.task == EVALUATE:
        stop = at = put_evaluation(job, frame, at, scratch)
    elif job.task == MEAN:
        stop = at = put_part(job, frame, at)
    else:
        stop = at = put_result(job, frame, at)
    products = at
    if scales:
        at = put_scale_features(job, frame, at)
    if encodes != 0:
        at = put_encoded_tables(job, frame, at)
        # Behind the program's end: each step leaves zeros itself.
        put_cleared_tables(job, frame, at)
    return Program(
        team=team, barriers=slot_scratch + BARRIERS_AT, rows=frame.rows, scalars=scalars, start=start, stop=stop,
        no_step_from=no_step_from, products=products, end=at, outcome=outcome, schedule=schedule, columns=columns,
        encodes=encodes,
        row_numbers=frame.row_numbers, x=frame.x, targets=frame.targets, weights=frame.weights, sums=scratch + SUMS_AT,
        cursor=cursor, inputs=inputs,
    )  # fmt: skip
