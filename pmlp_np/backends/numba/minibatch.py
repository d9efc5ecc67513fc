"""A minibatch: a member's program, run on the member's rows block by block.

Rows are read from the table, or gathered into the frame first where an order or a row set is given.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import bits_of, call, float_item, item, record_at, set_item, set_items
from pmlp_np.backends.numba.job_fields import VIEW_WORDS, View
from pmlp_np.backends.numba.program.block_arguments import Block, Input, LossTrain, Targets
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES, run, set_block, set_field
from pmlp_np.backends.numba.program.step_arguments import Cursor, GatherRows, GatherTargets, Scalars, Schedule
from pmlp_np.backends.numba.program.team import barrier
from pmlp_np.base.arrays import NOWHERE, Address


class BlockData(NamedTuple):
    """The addresses of a block of rows, of their targets and their weights (0: none)."""

    x: Address
    x_stride: int
    targets: Address
    targets_stride: int
    weights: Address


@kernel()
def set_input(at, x, x_stride):
    """Set the rows that an instruction reads."""
    set_field(at, Input, "x", x)
    set_field(at, Input, "x_stride", x_stride)


@kernel()
def set_rows(program, data):
    """Set the rows of a block that the first passes of a program read."""
    set_input(program.start, data.x, data.x_stride)
    if program.encodes != 0:
        set_input(program.start + INSTRUCTION_BYTES, data.x, data.x_stride)


@kernel()
def set_data(program, data):
    """Set the rows of a block, with their targets and weights, in a program."""
    set_rows(program, data)
    set_field(program.outcome, Targets, "target", data.targets)
    set_field(program.outcome, Targets, "ldt", data.targets_stride)
    set_field(program.outcome, Targets, "weights", data.weights)


@kernel()
def run_block(job, program, rows, first, last):
    """Run the instructions over a block of rows."""
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
def view_of(job, m, k):
    """Return the view of member m in the k-th epoch of the round, with the member's own targets and weights."""
    index = 0 if job.view_of == 0 else item(job.view_of, m)
    if job.epoch_views > 1:
        index += k
    view = record_at(job.views + index * VIEW_WORDS * 8, View)
    line = job.y_stride * job.itemsize
    y = view.y + (0 if job.targets == 0 else item(job.targets, m)) * job.n_targets * line
    weights = view.weights
    if weights != NOWHERE and job.weight_of != 0:
        weights += item(job.weight_of, m) * job.y_stride * 8
    return View(view.x, view.x_stride, view.n, view.order, view.rows, y, weights, view.encoding)


@kernel()
def set_rates(program, epoch, done):
    """Set the learning rates of the member's next minibatch: minibatch number `done` of an epoch, from 0."""
    if program.schedule != 0 and program.team.part == 0:
        set_field(program.schedule, Schedule, "epoch", epoch)
        set_field(program.schedule, Schedule, "minibatch", done)
        run(program.schedule)


@kernel()
def in_order(view, order):
    """Return the view, read in an order."""
    return View(view.x, view.x_stride, view.n, order, view.rows, view.y, view.weights, view.encoding)


@kernel()
def _gather(job, program, view, start, rows):
    """Copy rows start ... start + rows of a view to the frame, with their targets and weights."""
    row_numbers = program.row_numbers
    for i in range(rows):
        row = start + i
        if view.order != 0:
            row = item(view.order, row)
        if view.rows != 0:
            row = item(view.rows, row)
        set_item(row_numbers, i, row)
    call(job.gather_rows_pass, GatherRows(
        out=program.x, source=view.x, row_stride=view.x_stride, order=row_numbers, rows=rows, columns=program.columns,
    ))  # fmt: skip
    if job.n_targets > 0:
        call(job.gather_targets_pass, GatherTargets(
            out=program.targets, ldo=program.rows, source=view.y, source_stride=job.y_stride, order=row_numbers,
            rows=rows, targets=job.n_targets,
        ))  # fmt: skip
    if view.weights != 0:
        call(job.gather_weights_pass, GatherTargets(
            out=program.weights, ldo=program.rows, source=view.weights, source_stride=job.y_stride, order=row_numbers,
            rows=rows, targets=1,
        ))  # fmt: skip


@kernel()
def data_of(job, program, view, start, rows):
    """Return rows start ... start + rows of a view: their addresses in the table, or gathered."""
    size = job.itemsize
    if view.order == 0 and view.rows == 0:
        weights = NOWHERE if view.weights == 0 else view.weights + start * 8
        return BlockData(
            x=view.x + start * view.x_stride * size, x_stride=view.x_stride, targets=view.y + start * size,
            targets_stride=job.y_stride, weights=weights,
        )  # fmt: skip
    if program.team.part == 0:
        _gather(job, program, view, start, rows)
    barrier(job, program)
    weights = NOWHERE if view.weights == 0 else program.weights
    return BlockData(
        x=program.x, x_stride=program.columns, targets=program.targets, targets_stride=program.rows, weights=weights
    )  # fmt: skip


@kernel()
def minibatch(job, program, view, epoch, start, rows, step):
    """Train on rows start ... start + rows of a view in an epoch, as the member's step number `step` (from 1).

    Returns the minibatch's mean loss before the update.
    """
    leads = program.team.part == 0
    if leads:
        set_field(program.scalars, Scalars, "step", step)
        run(program.scalars)
    set_field(program.outcome, LossTrain, "scale", bits_of(1.0 / rows))
    done = 0
    while done < rows:
        count = min(program.rows, rows - done)
        data = data_of(job, program, view, start + done, count)
        set_data(program, data)
        x, x_stride = data.x, data.x_stride
        if program.cursor != 0:
            set_items(program.cursor, Cursor(epoch=epoch, position=start + done))
            if program.inputs != 0:
                x, x_stride = program.inputs, program.columns
        # The last instruction, the gradient by the first layer's weights, reads the rows again.
        set_input(program.stop - INSTRUCTION_BYTES, x, x_stride)
        if program.encodes != 0:
            set_input(program.stop - 2 * INSTRUCTION_BYTES, x, x_stride)
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= rows else 0)
        done += count
    if leads:
        for at in range(program.stop, program.end, INSTRUCTION_BYTES):
            run(at)
    barrier(job, program)
    return float_item(program.sums, 0) / rows
