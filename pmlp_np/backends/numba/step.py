"""A member's minibatch: blocks of rows forward, loss and backward, then one update. Every number is computed in a
pass."""

from __future__ import annotations

from pmlp_np.backends.numba.compiling import bits_of, call, float_item, item, kernel, set_float_item
from pmlp_np.backends.numba.job import HYPERPARAMETERS_AT, SUMS_AT
from pmlp_np.formulas.optimizers import HYPERPARAMETERS

_N_HYPERPARAMETERS = len(HYPERPARAMETERS)
_WEIGHT_DECAY = HYPERPARAMETERS.index("weight_decay")


@kernel()
def _hidden_forward(job, frame, layer, out, x, x_stride, rows):
    """Pre-activations of a layer that is stored like hidden weights: x W + b, rows padded to whole vectors."""
    size = job.itemsize
    padded, bias = item(job.row_stride, layer), item(job.bias_offset, layer)
    start = frame.zeros if bias < 0 else frame.block + bias * size
    weights = frame.block + item(job.weight_offset, layer) * size
    vectors, fan_in = item(job.vectors, layer), item(job.fan_in, layer)
    call(job.gemm_pass, (out, padded, start, 0, x, x_stride, 1, weights, padded, rows, vectors, fan_in))


@kernel()
def forward_block(job, frame, x, x_stride, rows, training):
    """Raw outputs (outputs, rows) of a block of rows; activations stay in the frame, and derivatives where training is
    1."""
    size = job.itemsize
    a, d = frame.activations, frame.derivatives
    for k in range(frame.depth):
        layer = frame.first_layer + k
        _hidden_forward(job, frame, layer, a, x, x_stride, rows)
        activation = item(job.activation_pass, item(job.activation, layer))
        if training == 1:
            call(activation, (a, d, rows, item(job.fan_out, layer)))
        else:
            call(activation, (a, rows, item(job.fan_out, layer)))
        x, x_stride = a, item(job.row_stride, layer)
        a += frame.rows * x_stride * size
        d += frame.rows * x_stride * size
    layer = frame.first_layer + frame.depth
    padded, outputs = item(job.row_stride, layer), job.n_outputs
    if frame.depth > 0:
        bias = item(job.bias_offset, layer)
        start = 0 if bias < 0 else frame.block + bias * size
        weights, vectors = frame.block + item(job.weight_offset, layer) * size, item(job.vectors, layer)
        call(job.dots_pass, (frame.raw, frame.rows, start, x, x_stride, weights, padded, rows, outputs, vectors, 0))
    else:
        _hidden_forward(job, frame, layer, frame.row_major, x, x_stride, rows)
        call(job.transpose_pass, (frame.raw, frame.rows, frame.row_major, padded, rows, outputs))


@kernel()
def _weights(job, frame, layer, a, a_row, a_k, b, ldb, rows, width, depth, first, last):
    """Add A B to the gradient of a layer's weights, stored (rows, ldb); with the last block they take their step."""
    size, m = job.itemsize, frame.member
    offset = item(job.weight_offset, layer) * size
    gradient = frame.gradient + offset
    start, start_stride = (frame.zeros, 0) if first == 1 else (gradient, ldb)
    if last == 1:
        step = item(job.gradient_step_pass, item(job.rule, m))
        slots, slot_stride = job.slots + item(job.slot_offset, m) * size + offset, item(job.block_size, m)
        call(step, (frame.block + offset, slots, slot_stride, start, start_stride, a, a_row, a_k, b, ldb, rows, width,
                    depth, frame.numbers))  # fmt: skip
    else:
        vectors = item(job.vectors, layer)
        call(job.gemm_pass, (gradient, ldb, start, start_stride, a, a_row, a_k, b, ldb, rows, vectors, depth))


@kernel()
def _hidden_weights(job, frame, layer, inputs, input_stride, slope, rows, first, last):
    """The gradient of hidden-oriented weights from the slopes by their pre-activations."""
    padded, fan_in, fan_out = item(job.row_stride, layer), item(job.fan_in, layer), item(job.fan_out, layer)
    _weights(job, frame, layer, inputs, 1, input_stride, slope, padded, fan_in, fan_out, rows, first, last)


@kernel()
def _hidden_biases(job, frame, layer, slope, rows, first):
    """The gradient of hidden-oriented biases from the slopes by their pre-activations."""
    bias = item(job.bias_offset, layer)
    if bias >= 0:
        gradient = frame.gradient + bias * job.itemsize
        call(job.column_sums_pass, (gradient, slope, rows, item(job.vectors, layer), 1 - first))


@kernel()
def _output_layer(job, frame, a, d, rows, first, last):
    """The output layer's gradient; the last hidden derivatives d become slopes, summed up for that layer's biases."""
    size = job.itemsize
    layer = frame.first_layer + frame.depth
    outputs, ld, slope = job.n_outputs, frame.rows, frame.slope
    bias, hidden_bias = item(job.bias_offset, layer), item(job.bias_offset, layer - 1)
    if bias >= 0:
        gradient = frame.gradient + bias * size
        call(job.row_sums_pass, (gradient, frame.lane_sums, slope, ld, rows, outputs, 1 - first, last))
    weights = frame.block + item(job.weight_offset, layer) * size
    sums = 0 if hidden_bias < 0 else frame.gradient + hidden_bias * size
    call(job.output_slopes_pass, (d, slope, ld, weights, rows, item(job.vectors, layer), outputs, sums, 1 - first))
    padded, width = item(job.row_stride, layer), item(job.fan_in, layer)
    _weights(job, frame, layer, slope, ld, 1, a, padded, outputs, width, rows, first, last)


@kernel()
def _backward_block(job, frame, x, x_stride, rows, first, last):
    """Add a block's part to the gradient, from the slopes of the loss; slopes of hidden layers overwrite derivatives.

    With the last block weights take their step, each layer's after its old weights have passed the slopes on.
    """
    size = job.itemsize
    layer = frame.first_layer + frame.depth
    if frame.depth == 0:
        padded = item(job.row_stride, layer)
        call(job.fill_pass, (frame.row_major, frame.rows * padded))
        call(job.transpose_pass, (frame.row_major, padded, frame.slope, frame.rows, job.n_outputs, rows))
        _hidden_biases(job, frame, layer, frame.row_major, rows, first)
        _hidden_weights(job, frame, layer, x, x_stride, frame.row_major, rows, first, last)
        return
    before_last = 0
    for k in range(frame.depth - 1):
        before_last += frame.rows * item(job.row_stride, frame.first_layer + k) * size
    a, d = frame.activations + before_last, frame.derivatives + before_last
    _output_layer(job, frame, a, d, rows, first, last)
    for k in range(frame.depth - 1, 0, -1):
        layer = frame.first_layer + k
        padded, before = item(job.row_stride, layer), item(job.row_stride, layer - 1)
        a -= frame.rows * before * size
        d_before = d - frame.rows * before * size
        weights = frame.block + item(job.weight_offset, layer) * size
        fan_in, vectors = item(job.fan_in, layer), item(job.vectors, layer)
        call(job.dots_pass, (d_before, before, 0, weights, padded, d, padded, fan_in, rows, vectors, d_before))
        _hidden_weights(job, frame, layer, a, before, d, rows, first, last)
        d = d_before
        _hidden_biases(job, frame, layer - 1, d, rows, first)
    _hidden_weights(job, frame, frame.first_layer, x, x_stride, d, rows, first, last)


@kernel()
def split_hyperparameters(job, scratch, m):
    """Two rows of the member's hyperparameters in the slot's scratch: those of weights, and those of biases."""
    for i in range(_N_HYPERPARAMETERS):
        value = float_item(job.hyperparameters, m * _N_HYPERPARAMETERS + i)
        set_float_item(scratch + HYPERPARAMETERS_AT, i, value)
        set_float_item(scratch + HYPERPARAMETERS_AT, _N_HYPERPARAMETERS + i, 0.0 if i == _WEIGHT_DECAY else value)


@kernel()
def _prepare_step(job, frame, scratch, step):
    """Derive the numbers that the updates of a step need; steps count from 1."""
    scalars = item(job.scalars_pass, item(job.rule, frame.member))
    call(scalars, (frame.numbers, scratch + HYPERPARAMETERS_AT, step))
    call(scalars, (frame.bias_numbers, scratch + HYPERPARAMETERS_AT + 8 * _N_HYPERPARAMETERS, step))


@kernel()
def _update_biases(job, frame):
    """The biases' step, from their whole gradient."""
    size, m = job.itemsize, frame.member
    update = item(job.update_pass, item(job.rule, m))
    slots = job.slots + item(job.slot_offset, m) * size
    for layer in range(frame.first_layer, frame.first_layer + frame.depth + 1):
        if item(job.bias_offset, layer) >= 0:
            offset = item(job.bias_offset, layer) * size
            call(update, (frame.block + offset, frame.gradient + offset, slots + offset, item(job.block_size, m), 1,
                          item(job.fan_out, layer), frame.bias_numbers))  # fmt: skip


@kernel()
def minibatch(job, frame, scratch, start, rows, order, step):
    """Train on rows start ... start + rows of the order (0: as they lie), as the member's step number `step`.

    Returns the minibatch's loss before the update.
    """
    size, sums = job.itemsize, scratch + SUMS_AT
    set_float_item(sums, 0, 0.0)
    _prepare_step(job, frame, scratch, step)
    done = 0
    while done < rows:
        count = min(frame.rows, rows - done)
        first, last = (1 if done == 0 else 0), (1 if done + count >= rows else 0)
        x, x_stride, places = job.x + (start + done) * job.x_stride * size, job.x_stride, 0
        if order != 0:
            x, x_stride, places = frame.x, job.n_features, order + (start + done) * 8
            call(job.gather_rows_pass, (x, job.x, job.x_stride, places, count, job.n_features))
        call(job.gather_targets_pass, (frame.targets, frame.rows, job.y, job.y_stride, start + done, places, count,
                                       job.n_targets))  # fmt: skip
        forward_block(job, frame, x, x_stride, count, 1)
        scale = bits_of(1.0 / rows)
        call(job.loss_pass, (frame.raw, frame.targets, frame.slope, frame.rows, count, job.n_outputs, scale, sums))
        _backward_block(job, frame, x, x_stride, count, first, last)
        done += count
    _update_biases(job, frame)
    return float_item(sums, 0) / rows
