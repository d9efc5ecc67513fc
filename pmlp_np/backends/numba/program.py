"""A member's task as a program: the passes of a block of rows with their arguments, written once, run for every block.

Between two minibatches of a member little changes: where its rows and targets lie, and how many they are. So the passes
are laid out as instructions in the slot's scratch, and a minibatch patches a few words and calls one after another.
With the arguments worked out anew for every call, small members would spend a third of their time on that.

An instruction is a pass's address and its arguments. Passes over a block of rows take `rows`, `first` and `last` first,
and next what else may change from block to block (PATCHED_AT): rows and stride of the input, or those of the targets.

    train:     scalars | layers ... outputs, loss, output_backward, hidden layers ..., weights_backward | update
    evaluate:            layers ... outputs, loss
    forward:             layers ... outputs, by_row
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import (
    bits_of,
    call,
    call_block,
    float_item,
    item,
    kernel,
    set_float_item,
    set_item,
    set_items,
)
from pmlp_np.backends.numba.job import (
    EVALUATE,
    HYPERPARAMETERS_AT,
    INSTRUCTION_BYTES,
    LANE_SUMS_AT,
    SUMS_AT,
    TRAIN,
    frame,
)
from pmlp_np.formulas.optimizers import HYPERPARAMETERS

_N_HYPERPARAMETERS = len(HYPERPARAMETERS)
_WEIGHT_DECAY = HYPERPARAMETERS.index("weight_decay")

# Words of an instruction: its pass, then rows, first and last, then what is patched. The step is the last argument of
# `scalars`, which is not over rows.
_ROWS_AT, PATCHED_AT, _STEP_AT = 1, 4, 5


class Program(NamedTuple):
    """Addresses: of the instructions for a block, from the first to behind the last; of what comes before and after
    those of a minibatch; of those that are patched; and of the frame's room for gathered rows and targets."""

    rows: int
    prepare: int
    start: int
    stop: int
    judge: int
    update: int
    x: int
    targets: int
    sums: int


@kernel()
def _put(at, address, arguments):
    """Write an instruction over a block of rows; returns where the next one goes."""
    set_item(at, 0, address)
    set_items(at + 8 * PATCHED_AT, arguments)
    return at + INSTRUCTION_BYTES


@kernel()
def _put_forward(job, frame, at):
    """Layers, and raw outputs (outputs, rows); returns where the next instruction goes."""
    size = job.itemsize
    a, d, x, x_stride = frame.activations, frame.derivatives, 0, 0
    for layer in range(frame.first_layer, frame.first_layer + frame.depth + 1):
        padded, vectors = item(job.row_stride, layer), item(job.vectors, layer)
        fan_in, fan_out = item(job.fan_in, layer), item(job.fan_out, layer)
        weights, bias = frame.block + item(job.weight_offset, layer) * size, item(job.bias_offset, layer)
        start = frame.zeros if bias < 0 else frame.block + bias * size
        if layer < frame.first_layer + frame.depth:
            layer_pass = item(job.layer_pass, item(job.activation, layer))
            if job.task == TRAIN:
                at = _put(at, layer_pass, (x, x_stride, a, d, padded, weights, start, fan_out, vectors, fan_in))
            else:
                at = _put(at, layer_pass, (x, x_stride, a, padded, weights, start, fan_out, vectors, fan_in))
            x, x_stride = a, padded
            a += frame.rows * padded * size
            d += frame.rows * padded * size
        elif frame.depth > 0:
            at = _put(at, job.outputs_pass, (frame.raw, frame.rows, start, x, padded, weights, job.n_outputs, vectors))
        else:
            at = _put(at, job.linear_pass,
                      (x, x_stride, frame.row_major, padded, weights, start, fan_out, vectors, fan_in))  # fmt: skip
            at = _put(at, job.by_output_pass, (frame.raw, frame.rows, frame.row_major, padded, job.n_outputs))
    return at


@kernel()
def _put_loss(job, frame, at, scratch):
    bias = item(job.bias_offset, frame.first_layer + frame.depth)
    bias_gradient = frame.unused if bias < 0 else frame.gradient + bias * job.itemsize
    return _put(at, job.loss_pass, (0, 0, 0, frame.raw, frame.slope, frame.rows, job.n_outputs, bias_gradient,
                                    frame.lane_sums, scratch + LANE_SUMS_AT, scratch + SUMS_AT))  # fmt: skip


@kernel()
def _put_weights_backward(job, frame, at, layer, x, x_stride, slope):
    """The gradient of hidden weights from the slopes by their pre-activations, and their step."""
    size, m = job.itemsize, frame.member
    offset = item(job.weight_offset, layer) * size
    slots, slot_stride = job.slots + item(job.slot_offset, m) * size + offset, item(job.block_size, m)
    return _put(at, item(job.weights_backward_pass, item(job.rule, m)),
                (x, x_stride, slope, frame.block + offset, frame.gradient + offset, item(job.row_stride, layer), slots,
                 slot_stride, item(job.fan_in, layer), item(job.fan_out, layer), item(job.vectors, layer),
                 frame.numbers))  # fmt: skip


@kernel()
def _put_output_backward(job, frame, at, a, d):
    """The output layer's gradient; the last hidden derivatives d become slopes, summed up for that layer's biases."""
    size, m = job.itemsize, frame.member
    layer = frame.first_layer + frame.depth
    offset, hidden_bias = item(job.weight_offset, layer) * size, item(job.bias_offset, layer - 1)
    sums = frame.unused if hidden_bias < 0 else frame.gradient + hidden_bias * size
    slots, slot_stride = job.slots + item(job.slot_offset, m) * size + offset, item(job.block_size, m)
    return _put(at, item(job.output_backward_pass, item(job.rule, m)),
                (a, d, item(job.row_stride, layer), sums, frame.slope, frame.rows, frame.block + offset,
                 frame.gradient + offset, slots, slot_stride, item(job.fan_in, layer), item(job.vectors, layer),
                 job.n_outputs, frame.numbers))  # fmt: skip


@kernel()
def _put_backward(job, frame, at):
    """Gradients, from the slopes of the loss; slopes of hidden layers overwrite derivatives.

    Weights take their step with the last block, each layer's after its old weights have passed the slopes on.
    """
    size = job.itemsize
    if frame.depth == 0:
        padded = item(job.row_stride, frame.first_layer)
        at = _put(at, job.by_row_pass, (frame.row_major, padded, frame.slope, frame.rows, job.n_outputs))
        return _put_weights_backward(job, frame, at, frame.first_layer, 0, 0, frame.row_major)
    before_last = 0
    for k in range(frame.depth - 1):
        before_last += frame.rows * item(job.row_stride, frame.first_layer + k) * size
    a, d = frame.activations + before_last, frame.derivatives + before_last
    at = _put_output_backward(job, frame, at, a, d)
    for k in range(frame.depth - 1, 0, -1):
        layer = frame.first_layer + k
        padded, before = item(job.row_stride, layer), item(job.row_stride, layer - 1)
        a -= frame.rows * before * size
        d_before = d - frame.rows * before * size
        weights = frame.block + item(job.weight_offset, layer) * size
        fan_in, vectors = item(job.fan_in, layer), item(job.vectors, layer)
        at = _put(at, job.hidden_backward_pass, (d_before, before, d, weights, padded, fan_in, vectors))
        at = _put_weights_backward(job, frame, at, layer, a, before, d)
        d = d_before
        bias = item(job.bias_offset, layer - 1)
        if bias >= 0:
            sums, vectors = frame.gradient + bias * size, item(job.vectors, layer - 1)
            at = _put(at, job.column_sums_pass, (sums, d, before, vectors))
    return _put_weights_backward(job, frame, at, frame.first_layer, 0, 0, d)


@kernel()
def _split_hyperparameters(job, scratch, m):
    """Two rows of the member's hyperparameters in the slot's scratch: those of weights, and those of biases."""
    for i in range(_N_HYPERPARAMETERS):
        value = float_item(job.hyperparameters, m * _N_HYPERPARAMETERS + i)
        set_float_item(scratch + HYPERPARAMETERS_AT, i, value)
        set_float_item(scratch + HYPERPARAMETERS_AT, _N_HYPERPARAMETERS + i, 0.0 if i == _WEIGHT_DECAY else value)


@kernel()
def _put_scalars(job, frame, at, scratch):
    """The numbers that the updates of a step need, for weights and for biases."""
    _split_hyperparameters(job, scratch, frame.member)
    stride = (frame.bias_numbers - frame.numbers) // job.itemsize
    scalars = item(job.scalars_pass, item(job.rule, frame.member))
    set_items(at, (scalars, frame.numbers, stride, scratch + HYPERPARAMETERS_AT, 2, 0))
    return at + INSTRUCTION_BYTES


@kernel()
def _put_update(job, frame, at):
    """The step of all biases, which lie together at the end of the block, from their whole gradient."""
    size, m = job.itemsize, frame.member
    bias = item(job.bias_offset, frame.first_layer)
    update, offset = item(job.update_pass, item(job.rule, m)), bias * size
    slots = job.slots + item(job.slot_offset, m) * size + offset
    set_items(at, (update, frame.block + offset, frame.gradient + offset, slots, item(job.block_size, m),
                   job.fan_out + frame.first_layer * 8, frame.depth + 1, frame.bias_numbers))  # fmt: skip


@kernel()
def write_program(job, slot, m):
    """The program of the job's task on member m, in a slot's scratch."""
    place, scratch = frame(job, slot, m), item(job.scratch, slot)
    at = prepare = place.program
    update = 0
    if job.task == TRAIN:
        at = _put_scalars(job, place, at, scratch)
    start = at
    judge = at = _put_forward(job, place, at)
    if job.task == TRAIN:
        at = _put_backward(job, place, _put_loss(job, place, at, scratch))
        if item(job.bias_offset, place.first_layer) >= 0:
            update = at
            _put_update(job, place, at)
    elif job.task == EVALUATE:
        at = _put(at, job.loss_pass, (0, 0, place.raw, place.rows, job.n_outputs, scratch + LANE_SUMS_AT,
                                      scratch + SUMS_AT))  # fmt: skip
    else:
        at = _put(at, job.by_row_pass, (0, job.n_outputs, place.raw, place.rows, job.n_outputs))
    return Program(place.rows, prepare, start, at, judge, update, place.x, place.targets, scratch + SUMS_AT)


@kernel()
def patch(at, address, stride):
    """Say where what changes lies: an input, targets, or a result."""
    set_item(at, PATCHED_AT, address)
    set_item(at, PATCHED_AT + 1, stride)


@kernel()
def run_block(program, rows, first, last):
    """Run the instructions for a block of rows."""
    at = program.start
    while at < program.stop:
        set_items(at + 8 * _ROWS_AT, (rows, first, last))
        call_block(item(at, 0), at + 8)
        at += INSTRUCTION_BYTES


@kernel()
def minibatch(job, program, start, rows, order, step):
    """Train on rows start ... start + rows of the order (0: as they lie), as the member's step number `step` (from 1).

    Returns the minibatch's loss before the update.
    """
    size = job.itemsize
    set_item(program.prepare, _STEP_AT, step)
    call_block(item(program.prepare, 0), program.prepare + 8)
    set_item(program.judge, PATCHED_AT + 2, bits_of(1.0 / rows))
    done = 0
    while done < rows:
        count = min(program.rows, rows - done)
        if order == 0:
            x, x_stride = job.x + (start + done) * job.x_stride * size, job.x_stride
            targets, targets_stride = job.y + (start + done) * size, job.y_stride
        else:
            x, x_stride, places = program.x, job.n_features, order + (start + done) * 8
            call(job.gather_rows_pass, (x, job.x, job.x_stride, places, count, job.n_features))
            targets, targets_stride = program.targets, program.rows
            call(job.gather_targets_pass, (targets, targets_stride, job.y, job.y_stride, places, count, job.n_targets))
        patch(program.start, x, x_stride)
        patch(program.judge, targets, targets_stride)
        patch(program.stop - INSTRUCTION_BYTES, x, x_stride)
        run_block(program, count, 1 if done == 0 else 0, 1 if done + count >= rows else 0)
        done += count
    if program.update != 0:
        call_block(item(program.update, 0), program.update + 8)
    return float_item(program.sums, 0) / rows
