"""The driver: members dealt out to slots, and each member's task from start to end.

Every thread calls `work` with a slot of its own. Members are dealt out from a queue, largest first, by an atomic
counter: a few neighbors at a time where there are many, whose entries in the tables share cache lines. A slot takes a
member and keeps it for the whole task, so that parameters, gradient and activations of that member stay in its core's
cache. Members too large to be dealt out are trained by all slots together.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER
from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import (
    FLUSH_DENORMALS,
    call,
    fetch_and_add,
    float_item,
    item,
    prefetch,
    read_now,
    set_float_item,
    set_float_mode,
    set_item,
)
from pmlp_np.backends.numba.job import DONE_STRIDE, EVALUATE, FORWARD, MEETINGS_AT, TRAIN, VECTOR_BYTES
from pmlp_np.backends.numba.minibatch import (
    data_of,
    in_order,
    minibatch,
    run_block,
    set_data,
    set_input,
    set_rates,
    source_of,
)
from pmlp_np.backends.numba.program.block_arguments import ByRow
from pmlp_np.backends.numba.program.instructions import set_field
from pmlp_np.backends.numba.program.step_arguments import Finite
from pmlp_np.backends.numba.program.team import Team, barrier
from pmlp_np.backends.numba.program.writing import write_program
from pmlp_np.backends.numba.random_draws import initialize, shuffle
from pmlp_np.state.progress import DIVERGED

# As much of a member's parameters is fetched ahead: the processor itself goes on with what follows.
_FETCH_BYTES = 16 * 1024


@kernel()
def count_work(job, slot, m):
    """Count a minibatch, or another task done, at what the member weighs."""
    place = slot * DONE_STRIDE
    set_item(job.done, place, item(job.done, place) + item(job.block_size, m))


@kernel()
def _told_to_stop(job, program):
    """Whether to stop between two minibatches; all slots of a team hear the same."""
    if program.team.parts == 1:
        return read_now(job.stop) != 0
    if program.team.part == 0:
        set_item(job.together, 0, read_now(job.stop))
    barrier(job, program)
    return read_now(job.together) != 0


@kernel()
def _train(job, team, m):
    """Finish the member's current epoch, or stop between minibatches when told to or when a loss is not finite."""
    source = source_of(job, m)
    n, batch = source.n, item(job.batch_size, m)
    batches = (n + batch - 1) // batch
    leads = team.part == 0
    program = write_program(job, team, m, batches)
    if job.shuffle == MEMBER_ORDER:
        source = in_order(source, job.orders + team.slot * job.most_rows * 8)
        if leads:
            shuffle(item(job.stream_key, m), item(job.epoch, m), source.order, n)
    # The cursor is kept here and written once: neighbors' cursors share cache lines, and other slots train neighbors.
    epoch, done, step = item(job.epoch, m), item(job.minibatch, m), item(job.step, m)
    loss_sum = float_item(job.loss_sum, m)
    healthy = True
    barrier(job, program)
    while healthy and done < batches and not _told_to_stop(job, program):
        step += 1
        set_rates(program, epoch, done)
        loss = minibatch(job, program, source, done * batch, min(batch, n - done * batch), step)
        done += 1
        loss_sum += loss
        if leads:
            count_work(job, team.slot, m)
        healthy = np.isfinite(loss)
    barrier(job, program)
    if not leads:
        return
    if not healthy:
        set_float_item(job.loss, m, loss_sum / done)
    elif done == batches:
        set_float_item(job.loss, m, loss_sum / batches)
        epoch, done, loss_sum = epoch + 1, 0, 0.0
        block = job.parameters + item(job.block_offset, m) * job.itemsize
        call(job.finite_pass, Finite(block=block, n=item(job.block_size, m), verdict=program.sums))
        healthy = np.isfinite(float_item(program.sums, 0))
    set_item(job.epoch, m, epoch)
    set_item(job.minibatch, m, done)
    set_item(job.step, m, step)
    set_float_item(job.loss_sum, m, loss_sum)
    if not healthy:
        set_item(job.status, m, DIVERGED)


@kernel()
def _evaluate(job, slot, m):
    """Mean loss and mean score over the member's rows, by their weights where they have any; nothing where the stop
    flag is set before the last row."""
    program, source = write_program(job, Team(slot, 0, 1), m, 0), source_of(job, m)
    done = 0
    while done < source.n and read_now(job.stop) == 0:
        count = min(program.rows, source.n - done)
        set_data(program, data_of(job, program, source, done, count))
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= source.n else 0)
        done += count
    if done < source.n:
        return
    total = 1.0 * source.n
    if source.weights != 0:
        total = float_item(program.sums, 2)
    set_float_item(job.loss, m, float_item(program.sums, 0) / total)
    set_float_item(job.score, m, float_item(program.sums, 1) / total)


@kernel()
def _forward(job, slot, m, i):
    """Raw outputs of all rows, to place i of the result, or of some where the stop flag is set."""
    program, source = write_program(job, Team(slot, 0, 1), m, 0), source_of(job, m)
    out, row = job.out + i * source.n * job.n_outputs * job.itemsize, job.n_outputs * job.itemsize
    done = 0
    while done < source.n and read_now(job.stop) == 0:
        count = min(program.rows, source.n - done)
        data = data_of(job, program, source, done, count)
        set_input(program.start, data.x, data.x_stride)
        set_field(program.outcome, ByRow, "out", out + done * row)
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= source.n else 0)
        done += count


@kernel()
def _fetch(job, m):
    """Have a member's parameters brought into the caches while another is being worked on."""
    at = job.parameters + item(job.block_offset, m) * job.itemsize
    stop = at + min(item(job.block_size, m) * job.itemsize, _FETCH_BYTES)
    while at < stop:
        prefetch(at)
        at += VECTOR_BYTES


@kernel(entry=True)
def work(slot, jobs):
    """Take members from the queue until it is empty or the stop flag is set; jobs is a one-element array of
    `job.JOB`."""
    job = jobs[0]
    mode = set_float_mode(FLUSH_DENORMALS)
    i = stop = 0
    while read_now(job.stop) == 0:
        if i == stop:
            i = fetch_and_add(job.counter, job.chunk)
            stop = min(i + job.chunk, job.n_queue)
            if i >= stop:
                break
        m = item(job.queue, i)
        _fetch(job, item(job.queue, min(i + 1, job.n_queue - 1)))
        if job.task == TRAIN:
            _train(job, Team(slot, 0, 1), m)
        elif job.task == EVALUATE:
            _evaluate(job, slot, m)
        elif job.task == FORWARD:
            _forward(job, slot, m, item(job.place, i))
        else:
            initialize(job, slot, m)
        if job.task != TRAIN:
            count_work(job, slot, m)
        i += 1
    set_float_mode(mode)


@kernel(entry=True)
def work_together(slot, slots, jobs):
    """Train the members of the queue one after another, each by all slots."""
    job = jobs[0]
    mode = set_float_mode(FLUSH_DENORMALS)
    set_item(item(job.scratch, slot) + MEETINGS_AT, 0, 0)
    for i in range(job.n_queue):
        _train(job, Team(0, slot, slots), item(job.queue, i))
    set_float_mode(mode)
