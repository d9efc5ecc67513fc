"""A minibatch: what a member sees of the data, block by block, and the member's program run on it.

Rows are read where they lie, or, where they have an order or are chosen, gathered into the frame first.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import (
    bits_of,
    call,
    call_block,
    fetch_and_add,
    float_item,
    item,
    kernel,
    pause,
    read_now,
    set_item,
    set_items,
)
from pmlp_np.backends.numba.job import INSTRUCTION_BYTES, VIEW_WORDS
from pmlp_np.backends.numba.program import PATCHED_AT, ROWS_AT, SCALE_AT, WEIGHTS_AT
from pmlp_np.backends.numba.updates import EPOCH_AT, MINIBATCH_AT, STEP_AT

# Looks at the others before a waiting slot lets other threads have its core: some 10 microseconds.
_SPINS = 500


class Source(NamedTuple):
    """What a member sees of the data: features, how many rows, in which order (0: as they lie), which rows the order's
    places stand for (0: themselves), targets, and weights (float64; 0: none)."""

    x: int
    x_stride: int
    n: int
    order: int
    chosen: int
    y: int
    weights: int


class Block(NamedTuple):
    """Where a block of rows lies, with its targets and weights (0: none)."""

    x: int
    x_stride: int
    targets: int
    targets_stride: int
    weights: int


@kernel()
def meet(job, program):
    """Wait until all slots of a team are here."""
    if program.team.parts > 1:
        times = item(program.meetings, 0) + 1
        set_item(program.meetings, 0, times)
        fetch_and_add(job.meeting, 1)
        waited = 0
        while read_now(job.meeting) < times * program.team.parts:
            waited += 1
            if waited < _SPINS or job.give_way == 0:
                pause()
            else:
                # The one waited for may need this core.
                call(job.give_way, (0,))


@kernel()
def patch(at, address, stride):
    """Say where what changes lies: an input, targets, or a result."""
    set_item(at, PATCHED_AT, address)
    set_item(at, PATCHED_AT + 1, stride)


@kernel()
def run_block(job, program, rows, first, last):
    """Run the instructions for a block of rows."""
    at = program.start
    while at < program.stop:
        if at == program.keep:
            last = 0
        if item(at, 0) != 0:
            set_items(at + 8 * ROWS_AT, (rows, first, last))
            call_block(item(at, 0), at + 8)
        meet(job, program)
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
    if weights != 0 and job.weight_of != 0:
        weights += item(job.weight_of, m) * job.y_stride * 8
    return Source(item(view, 0), item(view, 1), item(view, 2), item(view, 3), item(view, 4), y, weights)


@kernel()
def set_rates(program, epoch, done):
    """Set the learning rates of the member's next minibatch, by its cursor."""
    if program.schedule != 0 and program.team.part == 0:
        set_item(program.schedule, EPOCH_AT, epoch)
        set_item(program.schedule, MINIBATCH_AT, done)
        call_block(item(program.schedule, 0), program.schedule + 8)


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
    call(job.gather_rows_pass, (program.x, source.x, source.x_stride, places, rows, program.fan_in))
    if job.n_targets > 0:
        call(job.gather_targets_pass,
             (program.targets, program.rows, source.y, job.y_stride, places, rows, job.n_targets))  # fmt: skip
    if source.weights != 0:
        call(job.gather_weights_pass,
             (program.weights, program.rows, source.weights, job.y_stride, places, rows, 1))  # fmt: skip


@kernel()
def block_of(job, program, source, start, rows):
    """Rows start ... start + rows as the member sees them: where they lie, or gathered."""
    size = job.itemsize
    if source.order == 0 and source.chosen == 0:
        weights = 0 if source.weights == 0 else source.weights + start * 8
        return Block(source.x + start * source.x_stride * size, source.x_stride, source.y + start * size, job.y_stride,
                     weights)  # fmt: skip
    if program.team.part == 0:
        _gather(job, program, source, start, rows)
    meet(job, program)
    weights = 0 if source.weights == 0 else program.weights
    return Block(program.x, program.fan_in, program.targets, program.rows, weights)


@kernel()
def minibatch(job, program, source, start, rows, step):
    """Train on rows start ... start + rows of the member's order, as its step number `step` (from 1).

    Returns the minibatch's loss before the update.
    """
    leads = program.team.part == 0
    if leads:
        set_item(program.prepare, STEP_AT, step)
        call_block(item(program.prepare, 0), program.prepare + 8)
    set_item(program.judge, SCALE_AT, bits_of(1.0 / rows))
    done = 0
    while done < rows:
        count = min(program.rows, rows - done)
        block = block_of(job, program, source, start + done, count)
        patch(program.start, block.x, block.x_stride)
        patch(program.judge, block.targets, block.targets_stride)
        set_item(program.judge, WEIGHTS_AT, block.weights)
        x, x_stride = block.x, block.x_stride
        if program.place != 0:
            set_item(program.place, 0, start + done)
            if program.inputs != 0:
                x, x_stride = program.inputs, program.fan_in
        patch(program.stop - INSTRUCTION_BYTES, x, x_stride)
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= rows else 0)
        done += count
    if leads:
        for at in range(program.stop, program.end, INSTRUCTION_BYTES):
            call_block(item(at, 0), at + 8)
    meet(job, program)
    return float_item(program.sums, 0) / rows
