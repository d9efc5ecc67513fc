"""A minibatch: what a member sees of the data, block by block, and the member's program run on it.

Rows are read where they lie, or, where they have an order or are chosen, gathered into the frame first.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import bits_of, call, float_item, item, set_item
from pmlp_np.backends.numba.job import VIEW_WORDS
from pmlp_np.backends.numba.program.block_arguments import Block, Input, LossTrain, Targets
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES, run, set_block, set_field
from pmlp_np.backends.numba.program.step_arguments import GatherRows, GatherTargets, Scalars, Schedule
from pmlp_np.backends.numba.program.team import barrier
from pmlp_np.base.arrays import NOWHERE, Address


class Source(NamedTuple):
    """What a member sees of the data: features, how many rows, in which order (0: as they lie), which rows the order's
    places stand for (0: themselves), targets, and weights (float64; 0: none)."""

    x: Address
    x_stride: int
    n: int
    order: Address
    chosen: Address
    y: Address
    weights: Address


class BlockData(NamedTuple):
    """Where a block of rows lies, with its targets and weights (0: none)."""

    x: Address
    x_stride: int
    targets: Address
    targets_stride: int
    weights: Address


@kernel()
def set_input(at, x, x_stride):
    """Say where the rows lie that an instruction reads."""
    set_field(at, Input, "x", x)
    set_field(at, Input, "x_stride", x_stride)


@kernel()
def set_data(program, data):
    """Say where the rows of a block lie, with their targets and weights."""
    set_input(program.start, data.x, data.x_stride)
    set_field(program.outcome, Targets, "target", data.targets)
    set_field(program.outcome, Targets, "ldt", data.targets_stride)
    set_field(program.outcome, Targets, "weights", data.weights)


@kernel()
def run_block(job, program, rows, first, last):
    """Run the instructions for a block of rows."""
    at = program.start
    while at < program.stop:
        if at == program.no_step_from:
            last = 0
        if item(at, 0) != 0:
            set_block(at, Block(rows=rows, first=first, last=last))
            run(at)
        barrier(job, program)
        at += INSTRUCTION_BYTES


@kernel()
def source_of(job, m, k):
    """What member m sees of the data in the k-th epoch of the round."""
    place = 0 if job.view_of == 0 else item(job.view_of, m)
    if job.epoch_views > 1:
        place += k
    view = job.views + place * VIEW_WORDS * 8
    line = job.y_stride * job.itemsize
    y = item(view, 5) + (0 if job.targets == 0 else item(job.targets, m)) * job.n_targets * line
    weights = item(view, 6)
    if weights != NOWHERE and job.weight_of != 0:
        weights += item(job.weight_of, m) * job.y_stride * 8
    return Source(item(view, 0), item(view, 1), item(view, 2), item(view, 3), item(view, 4), y, weights)


@kernel()
def set_rates(program, epoch, done):
    """Set the learning rates of the member's next minibatch, by its cursor."""
    if program.schedule != 0 and program.team.part == 0:
        set_field(program.schedule, Schedule, "epoch", epoch)
        set_field(program.schedule, Schedule, "minibatch", done)
        run(program.schedule)


@kernel()
def in_order(source, order):
    """The same, read in an order."""
    return Source(source.x, source.x_stride, source.n, order, source.chosen, source.y, source.weights)


@kernel()
def _gather(job, program, source, start, rows):
    """Copy rows start ... start + rows of the member's order to the frame, with their targets and weights."""
    places = program.places
    for i in range(rows):
        place = start + i
        if source.order != 0:
            place = item(source.order, place)
        if source.chosen != 0:
            place = item(source.chosen, place)
        set_item(places, i, place)
    call(job.gather_rows_pass, GatherRows(
        out=program.x, source=source.x, row_stride=source.x_stride, order=places, rows=rows, columns=program.fan_in,
    ))  # fmt: skip
    if job.n_targets > 0:
        call(job.gather_targets_pass, GatherTargets(
            out=program.targets, ldo=program.rows, source=source.y, source_stride=job.y_stride, order=places, rows=rows,
            targets=job.n_targets,
        ))  # fmt: skip
    if source.weights != 0:
        call(job.gather_weights_pass, GatherTargets(
            out=program.weights, ldo=program.rows, source=source.weights, source_stride=job.y_stride, order=places,
            rows=rows, targets=1,
        ))  # fmt: skip


@kernel()
def data_of(job, program, source, start, rows):
    """Rows start ... start + rows as the member sees them: where they lie, or gathered."""
    size = job.itemsize
    if source.order == 0 and source.chosen == 0:
        weights = NOWHERE if source.weights == 0 else source.weights + start * 8
        return BlockData(
            x=source.x + start * source.x_stride * size, x_stride=source.x_stride, targets=source.y + start * size,
            targets_stride=job.y_stride, weights=weights,
        )  # fmt: skip
    if program.team.part == 0:
        _gather(job, program, source, start, rows)
    barrier(job, program)
    weights = NOWHERE if source.weights == 0 else program.weights
    return BlockData(
        x=program.x, x_stride=program.fan_in, targets=program.targets, targets_stride=program.rows, weights=weights
    )  # fmt: skip


@kernel()
def minibatch(job, program, source, start, rows, step):
    """Train on rows start ... start + rows of the member's order, as its step number `step` (from 1).

    Returns the minibatch's loss before the update.
    """
    leads = program.team.part == 0
    if leads:
        set_field(program.scalars, Scalars, "step", step)
        run(program.scalars)
    set_field(program.outcome, LossTrain, "scale", bits_of(1.0 / rows))
    done = 0
    while done < rows:
        count = min(program.rows, rows - done)
        data = data_of(job, program, source, start + done, count)
        set_data(program, data)
        x, x_stride = data.x, data.x_stride
        if program.position != 0:
            set_item(program.position, 0, start + done)
            if program.inputs != 0:
                x, x_stride = program.inputs, program.fan_in
        # The gradient by the first layer's weights comes last.
        set_input(program.stop - INSTRUCTION_BYTES, x, x_stride)
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= rows else 0)
        done += count
    if leads:
        for at in range(program.stop, program.end, INSTRUCTION_BYTES):
            run(at)
    barrier(job, program)
    return float_item(program.sums, 0) / rows
