"""The driver: members dealt out to slots, and each member's task from start to end.

Training is some epochs of a member, each with validation on its own rows, comparison with its best, early stopping and
a rate that falls on a plateau. All of it happens while the member's parameters are in its core's cache; Python is told
when the round is over.

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
from pmlp_np.backends.numba.job import (
    BY_GROWING_SCORE,
    DONE_STRIDE,
    EVALUATE,
    FORWARD,
    INTERRUPT,
    MEETINGS_AT,
    STOP,
    TRAIN,
    VECTOR_BYTES,
)
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
from pmlp_np.state.progress import DIVERGED, READY, STOPPED_EARLY

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
def _train(job, evaluation, team, m):
    """Train a member up to its limit, epoch by epoch with what follows each; stop between minibatches when told to or
    when a loss is not finite. A team trains one epoch, and nothing follows it here."""
    # The cursor is kept here and written once: neighbors' cursors share cache lines, and other slots train neighbors.
    epoch, done, step = item(job.epoch, m), item(job.minibatch, m), item(job.step, m)
    loss_sum, status = float_item(job.loss_sum, m), READY
    start, limit = item(job.round_start, m), item(job.limit, m)
    n, batch = source_of(job, m, 0).n, item(job.batch_size, m)
    batches = (n + batch - 1) // batch
    leads, follows = team.part == 0, job.has_rule != 0
    program = write_program(job, team, m, batches)
    validation = program
    if follows and evaluation.views != 0:
        validation = write_program(evaluation, team, m, 0)
    due = 0
    while epoch < limit and status == READY and due == 0:
        source = source_of(job, m, epoch - start)
        if job.shuffle == MEMBER_ORDER:
            source = in_order(source, job.orders + team.slot * job.most_rows * 8)
            if leads:
                shuffle(item(job.stream_key, m), epoch, source.order, n)
        before = done
        done, loss_sum, healthy = _minibatches(job, program, source, m, epoch, done, step, loss_sum)
        step += done - before
        if healthy and done < batches:
            break
        line = (epoch - start) * job.record_stride + m
        if leads:
            set_float_item(job.loss, line, loss_sum / done)
        if not healthy:
            status = DIVERGED
            break
        mean_loss = loss_sum / batches
        epoch, done, loss_sum = epoch + 1, 0, 0.0
        stale = program.position != 0
        if leads and not _is_finite(job, program, m):
            status = DIVERGED
        elif follows:
            if validation.start != program.start:
                mean_loss, status, due = _validate(job, evaluation, validation, m, epoch - 1, line)
            stale |= due == 0 and _reduce_rate(job, m, mean_loss)
        if stale and epoch < limit:
            # Rates stand in the program, and where units drop out the epoch, by which draws are made.
            set_item(job.epoch, m, epoch)
            program = write_program(job, team, m, batches)
    if leads:
        set_item(job.epoch, m, epoch)
        set_item(job.minibatch, m, done)
        set_item(job.step, m, step)
        set_float_item(job.loss_sum, m, loss_sum)
        set_item(job.status, m, status)
        if follows:
            set_item(job.due, m, due)


@kernel()
def _minibatches(job, program, source, m, epoch, done, step, loss_sum):
    """The minibatches of an epoch that are left, up to the last one, one whose loss is not finite, or being told to
    stop. Returns (minibatches done, the sum of their losses, whether all are finite)."""
    batch = item(job.batch_size, m)
    batches = (source.n + batch - 1) // batch
    healthy = True
    barrier(job, program)
    while healthy and done < batches and not _told_to_stop(job, program):
        step += 1
        set_rates(program, epoch, done)
        loss = minibatch(job, program, source, done * batch, min(batch, source.n - done * batch), step)
        done += 1
        loss_sum += loss
        if program.team.part == 0:
            count_work(job, program.team.slot, m)
        healthy = np.isfinite(loss)
    barrier(job, program)
    return done, loss_sum, healthy


@kernel()
def _is_finite(job, program, m):
    """Whether all parameters of a member are finite."""
    block = job.parameters + item(job.block_offset, m) * job.itemsize
    call(job.finite_pass, Finite(block=block, n=item(job.block_size, m), verdict=program.sums))
    return np.isfinite(float_item(program.sums, 0))


# What follows an epoch: as in state/epoch_rule.py, which defines it.


@kernel()
def _validate(job, evaluation, program, m, epoch, line):
    """Measure a member after an epoch, and compare it with its best. Returns its loss, its status, and 1 where Ctrl-C
    came before the last row, so that it is still due, else 0."""
    loss, score, complete = _means(evaluation, program, source_of(evaluation, m, 0), INTERRUPT)
    if not complete:
        return loss, READY, 1
    set_float_item(job.validation_loss, line, loss)
    set_float_item(job.validation_score, line, score)
    value = loss
    if job.by_score != 0 and not np.isnan(loss):
        value = -score if job.by_score == BY_GROWING_SCORE else score
    tracked = job.early_stopping != 0 or item(job.best_epoch, m) >= 0
    if tracked and value < float_item(job.best_value, m) - float_item(job.min_delta, 0):
        _keep_best(job, m)
        set_float_item(job.best_value, m, value)
        set_item(job.best_epoch, m, epoch)
        set_item(job.waits_from, m, epoch)
    elif job.early_stopping != 0 and epoch - max(item(job.waits_from, m), 0) >= job.patience:
        return loss, STOPPED_EARLY, 0
    return loss, READY, 0


@kernel()
def _keep_best(job, m):
    """Copy a member's parameters to its best, which lie as they do. Blocks are whole vectors."""
    offset = item(job.block_offset, m) * job.itemsize
    last, best = job.parameters + offset, job.best + offset
    for i in range(item(job.block_size, m) * job.itemsize // 8):
        set_item(best, i, item(last, i))


@kernel()
def _reduce_rate(job, m, loss):
    """Multiply a member's learning rate by its plateau_factor where its loss has not fallen for long. Returns whether
    it was."""
    if job.plateau_patience == 0:
        return False
    patience = float_item(job.plateau_patience, m)
    if not patience > 0.0:
        return False
    wait = 0
    if loss < float_item(job.plateau_loss, m):
        set_float_item(job.plateau_loss, m, loss)
    else:
        wait = item(job.plateau_wait, m) + 1
    stuck = wait >= patience
    if stuck:
        set_float_item(job.rate_factor, m, float_item(job.rate_factor, m) * float_item(job.plateau_factor, m))
        wait = 0
    set_item(job.plateau_wait, m, wait)
    return stuck


@kernel()
def _means(job, program, source, stop):
    """(mean loss, mean score, True) over the rows of a source, by their weights where they have any; (NaN, NaN, False)
    where the stop flag reaches `stop` before the last row."""
    done = 0
    while done < source.n and read_now(job.stop) < stop:
        count = min(program.rows, source.n - done)
        set_data(program, data_of(job, program, source, done, count))
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= source.n else 0)
        done += count
    if done < source.n:
        return np.nan, np.nan, False
    total = 1.0 * source.n
    if source.weights != 0:
        total = float_item(program.sums, 2)
    return float_item(program.sums, 0) / total, float_item(program.sums, 1) / total, True


@kernel()
def _evaluate(job, slot, m):
    """Mean loss and mean score over the member's rows; nothing where the stop flag is set before the last row."""
    program = write_program(job, Team(slot, 0, 1), m, 0)
    loss, score, complete = _means(job, program, source_of(job, m, 0), STOP)
    if complete:
        set_float_item(job.loss, m, loss)
        set_float_item(job.score, m, score)


@kernel()
def _forward(job, slot, m, i):
    """Raw outputs of all rows, to place i of the result, or of some where the stop flag is set."""
    program, source = write_program(job, Team(slot, 0, 1), m, 0), source_of(job, m, 0)
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
    """Take members from the queue until it is empty or the stop flag is set; jobs is an array of two `job.JOB`: the
    task, and evaluations that take turns with training."""
    job, evaluation = jobs[0], jobs[1]
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
            _train(job, evaluation, Team(slot, 0, 1), m)
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
    job, evaluation = jobs[0], jobs[1]
    mode = set_float_mode(FLUSH_DENORMALS)
    set_item(item(job.scratch, slot) + MEETINGS_AT, 0, 0)
    for i in range(job.n_queue):
        _train(job, evaluation, Team(0, slot, slots), item(job.queue, i))
    set_float_mode(mode)
