"""The driver: the queue of members, and each member's task from start to end.

A member trains for some epochs; each ends with validation, comparison with the best epoch, early stopping and a
learning rate that is reduced on a plateau. All of this runs while the member's parameters are in a core's cache; the
driver returns to Python at the end of the round.

Every thread calls `work` with the number of its slot, and takes members from the queue, largest first, by an atomic
counter. In a long queue it takes a few neighbors at a time, whose entries in the tables share cache lines. A member
stays in its slot for the whole task, so that its parameters, gradient and activations stay in the core's cache. A
member that is too large for this is trained by all slots together.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.backends.contract import MEAN_GROUP, MEMBER_ORDER
from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import BARRIERS_AT
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
    COUNTER_STRIDE,
    EVALUATE,
    FORWARD,
    INTERRUPT,
    MEAN,
    STOP,
    TRAIN,
)
from pmlp_np.backends.numba.minibatch import (
    data_of,
    in_order,
    minibatch,
    run_block,
    set_data,
    set_rates,
    set_rows,
    view_of,
)
from pmlp_np.backends.numba.program.block_arguments import Result
from pmlp_np.backends.numba.program.instructions import set_field
from pmlp_np.backends.numba.program.step_arguments import Finite
from pmlp_np.backends.numba.program.team import Team, barrier
from pmlp_np.backends.numba.program.writing import prepare, write_program
from pmlp_np.backends.numba.random_draws import initialize, shuffle
from pmlp_np.backends.numba.simd import VECTOR_BYTES
from pmlp_np.state.progress import DIVERGED, READY, STOPPED_EARLY

# Bytes of the next member's parameters that are prefetched; the processor's own prefetching continues from there.
_FETCH_BYTES = 16 * 1024


@kernel()
def count_work(job, slot, m):
    """Count a minibatch, or another task, as done: by the size of the member's block."""
    i = slot * COUNTER_STRIDE
    set_item(job.done, i, item(job.done, i) + item(job.block_size, m))


@kernel()
def _stop_requested(job, program):
    """Whether to stop between two minibatches; the same for all slots of a team."""
    if program.team.parts == 1:
        return read_now(job.stop) != 0
    if program.team.part == 0:
        set_item(job.stop_of_team, 0, read_now(job.stop))
    barrier(job, program)
    return read_now(job.stop_of_team) != 0


@kernel()
def _train(job, evaluation, team, m):
    """Train a member up to its limit, applying the rule after each epoch.

    Stops between minibatches when the stop flag is set or a loss is not finite. A team trains one epoch, and the caller
    applies the rule.
    """
    # The cursor is in local variables and written once: other slots train neighbors, whose cursors share cache lines.
    epoch, done, step = item(job.epoch, m), item(job.minibatch, m), item(job.step, m)
    loss_sum, status = float_item(job.loss_sum, m), READY
    start, limit = item(job.round_start, m), item(job.limit, m)
    n, batch = view_of(job, m, 0).n, item(job.batch_size, m)
    batches = (n + batch - 1) // batch
    leads, follows = team.part == 0, job.has_rule != 0
    program = write_program(job, team, m, batches)
    validation = program
    if follows and evaluation.views != 0:
        validation = write_program(evaluation, team, m, 0)
    prepare(program)
    due = 0
    while epoch < limit and status == READY and due == 0:
        view = view_of(job, m, epoch - start)
        if job.shuffle == MEMBER_ORDER:
            view = in_order(view, job.orders + team.slot * job.most_rows * 8)
            if leads:
                shuffle(item(job.stream_key, m), epoch, view.order, n)
        before = done
        done, loss_sum, healthy = _minibatches(job, program, view, m, epoch, done, step, loss_sum)
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
        if leads and not _is_finite(job, program, m):
            status = DIVERGED
        elif follows:
            if validation.start != program.start:
                mean_loss, status, due = _validate(job, evaluation, program, validation, m, epoch - 1, line)
            if due == 0 and _reduce_rate(job, m, mean_loss) and epoch < limit:
                # Learning rates are part of the program.
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
def _minibatches(job, program, view, m, epoch, done, step, loss_sum):
    """Train the minibatches of an epoch from number `done` on, until the stop flag is set or a loss is not finite.

    Returns (minibatches done, the sum of their losses, whether all losses are finite).
    """
    batch = item(job.batch_size, m)
    batches = (view.n + batch - 1) // batch
    healthy = True
    barrier(job, program)
    while healthy and done < batches and not _stop_requested(job, program):
        step += 1
        set_rates(program, epoch, done)
        loss = minibatch(job, program, view, epoch, done * batch, min(batch, view.n - done * batch), step)
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


# The rule that is applied after an epoch; state/epoch_rule.py defines it.


@kernel()
def _validate(job, evaluation, training, program, m, epoch, line):
    """Evaluate a member after an epoch by a program, and compare the epoch with its best one.

    If validation rows are stored as training rows are, the scratch already has what the program reads of the weights.

    Returns (validation loss, status, due): due is 1 if Ctrl-C came before the last row, so that the epoch still has to
    be validated.
    """
    if program.encodes != training.encodes:
        prepare(program)
    loss, score, complete = _means(evaluation, program, view_of(evaluation, m, 0), INTERRUPT)
    if program.encodes != training.encodes:
        prepare(training)
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
    """Copy a member's parameters to its best parameters, which have the same layout."""
    offset = item(job.block_offset, m) * job.itemsize
    last, best = job.parameters + offset, job.best + offset
    for i in range(item(job.block_size, m) * job.itemsize // 8):
        set_item(best, i, item(last, i))


@kernel()
def _reduce_rate(job, m, loss):
    """Multiply a member's learning rate by plateau_factor after plateau_patience epochs without a lower loss.

    Returns whether the rate was reduced.
    """
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
def _means(job, program, view, stop):
    """Return (mean loss, mean score, True) over the rows of a view, weighted where rows have weights.

    (NaN, NaN, False) if the stop flag reaches `stop` before the last row.
    """
    done = 0
    while done < view.n and read_now(job.stop) < stop:
        count = min(program.rows, view.n - done)
        set_data(program, data_of(job, program, view, done, count))
        run_block(job, program, count, 1 if done == 0 else 0, 1 if done + count >= view.n else 0)
        done += count
    if done < view.n:
        return np.nan, np.nan, False
    total = 1.0 * view.n
    if view.weights != 0:
        total = float_item(program.sums, 2)
    return float_item(program.sums, 0) / total, float_item(program.sums, 1) / total, True


@kernel()
def _evaluate(job, slot, m):
    """Write the member's mean loss and mean score; nothing if the stop flag is set before the last row."""
    program = write_program(job, Team(slot, 0, 1), m, 0)
    prepare(program)
    loss, score, complete = _means(job, program, view_of(job, m, 0), STOP)
    if complete:
        set_float_item(job.loss, m, loss)
        set_float_item(job.score, m, score)


@kernel()
def _run(job, program, view, start, stop, out, row_bytes):
    """Run a program on rows start ... stop of a view, on fewer if the stop flag is set; their results go to `out`.

    row_bytes: from a row's result to the next row's.
    """
    done = start
    while done < stop and read_now(job.stop) == 0:
        count = min(program.rows, stop - done)
        data = data_of(job, program, view, done, count)
        set_rows(program, data)
        set_field(program.outcome, Result, "out", out + (done - start) * row_bytes)
        run_block(job, program, count, 1 if done == start else 0, 1 if done + count >= stop else 0)
        done += count


@kernel()
def _forward(job, slot, m, i):
    """Write raw outputs of all rows to out[i]; of fewer rows if the stop flag is set."""
    program, view = write_program(job, Team(slot, 0, 1), m, 0), view_of(job, m, 0)
    prepare(program)
    row_bytes = job.n_outputs * job.itemsize
    _run(job, program, view, 0, view.n, job.out + i * view.n * row_bytes, row_bytes)


@kernel()
def _add_parts(job, slot, i):
    """Add a part of raw outputs on some rows to the sums of a group of members, in the order of `queue`."""
    n = view_of(job, item(job.queue, 0), 0).n
    pieces = (n + job.sums_rows - 1) // job.sums_rows
    group, start = i // pieces, i % pieces * job.sums_rows
    sums = job.sums + (group * job.n_parts * job.sums_line + start) * 8
    for k in range(group * MEAN_GROUP, min((group + 1) * MEAN_GROUP, job.n_summed)):
        m = item(job.queue, k)
        program, view = write_program(job, Team(slot, 0, 1), m, 0), view_of(job, m, 0)
        prepare(program)
        _run(job, program, view, start, min(start + job.sums_rows, n), sums, 8)
        count_work(job, slot, m)


@kernel()
def _fetch(job, m):
    """Prefetch a member's parameters while another member is computed."""
    at = job.parameters + item(job.block_offset, m) * job.itemsize
    stop = at + min(item(job.block_size, m) * job.itemsize, _FETCH_BYTES)
    while at < stop:
        prefetch(at)
        at += VECTOR_BYTES


@kernel()
def _work_on(job, evaluation, slot, i):
    """Run the task on the member that is entry i of the queue."""
    m = item(job.queue, i)
    _fetch(job, item(job.queue, min(i + 1, job.n_queue - 1)))
    if job.task == TRAIN:
        _train(job, evaluation, Team(slot, 0, 1), m)
        return
    if job.task == EVALUATE:
        _evaluate(job, slot, m)
    elif job.task == FORWARD:
        _forward(job, slot, m, item(job.positions, i))
    else:
        initialize(job, slot, m)
    count_work(job, slot, m)


@kernel(entry=True)
def work(slot, jobs):
    """Run the task on members from the queue until it is empty or the stop flag is set.

    jobs: (2,) JOB, the task and the evaluations between epochs of training.
    """
    job, evaluation = jobs[0], jobs[1]
    mode = set_float_mode(FLUSH_DENORMALS)
    i = stop = 0
    while read_now(job.stop) == 0:
        if i == stop:
            i = fetch_and_add(job.counter, job.chunk)
            stop = min(i + job.chunk, job.n_queue)
            if i >= stop:
                break
        if job.task == MEAN:
            _add_parts(job, slot, i)
        else:
            _work_on(job, evaluation, slot, i)
        i += 1
    set_float_mode(mode)


@kernel(entry=True)
def work_together(slot, slots, jobs):
    """Train the members of the queue one after another, each by all slots together."""
    job, evaluation = jobs[0], jobs[1]
    mode = set_float_mode(FLUSH_DENORMALS)
    set_item(item(job.scratch, slot) + BARRIERS_AT, 0, 0)
    for i in range(job.n_queue):
        _train(job, evaluation, Team(0, slot, slots), item(job.queue, i))
    set_float_mode(mode)
