"""Instructions of a step's end: learning rates, the numbers that updates need, and what moves parameters and averages.

They are called once per minibatch, on the whole gradient, by one slot alone (see `program`).
"""

from __future__ import annotations

import numpy as np

from pmlp_np.backends.numba.compiling import bits_of, float_item, item, kernel, set_float_item, set_items
from pmlp_np.backends.numba.job import INPUT_BYTES, INSTRUCTION_BYTES, NUMBERS_BYTES
from pmlp_np.backends.numba.passes.regularizer_passes import TENSOR_WORDS
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_AT, WARMUP_AT
from pmlp_np.state.step_inputs import MOST_SHARED_ROWS, RATE

_N_HYPERPARAMETERS, _N_INPUTS, _N_OPTIONS = len(HYPERPARAMETERS), len(STEP_INPUTS), len(OPTIONS)
_PARAMETRIZATION_AT = list(OPTIONS).index("parametrization")

# Words of an instruction (its pass is the first): the step is the last argument of `scalars`, and the minibatch the
# last of `schedule`, after the epoch.
STEP_AT, EPOCH_AT, MINIBATCH_AT = 5, 7, 8


@kernel()
def has_scales(job, m):
    """Whether the features of member m have scales."""
    return job.scale_offset != 0 and item(job.scale_offset, m) >= 0


@kernel()
def row_of_inputs(job, frame, layer):
    """The number of the row with the inputs of a layer's weights; that of its biases comes next."""
    return 2 * (layer - frame.first_layer) if item(job.input_count, frame.member) > MOST_SHARED_ROWS else 0


@kernel()
def _fill_inputs(job, frame):
    """The rows of inputs of the member's rule, and the learning rate of each before any schedule."""
    m = frame.member
    factors = job.input_factors + item(job.first_input, m) * INPUT_BYTES
    for row in range(item(job.input_count, m)):
        for i in range(_N_INPUTS):
            value = float_item(factors, row * _N_INPUTS + i)
            if i < _N_HYPERPARAMETERS:
                value *= float_item(job.hyperparameters, m * _N_HYPERPARAMETERS + i)
            if i == RATE:
                value *= float_item(job.rate_factor, m)
                set_float_item(frame.rates, row, value)
            set_float_item(frame.inputs, row * _N_INPUTS + i, value)


@kernel()
def put_schedule(job, frame, at, batches):
    """The learning rates of a step; nothing where they are constant. Returns where the next instruction goes."""
    m = frame.member
    if job.options == 0:
        return at
    options = job.options + m * _N_OPTIONS * 8
    schedule = float_item(options, SCHEDULE_AT)
    if schedule == 0.0 and float_item(options, WARMUP_AT) == 0.0:
        return at
    count, fit_epochs = item(job.input_count, m), item(job.fit_epochs, m)
    set_items(at, (item(job.schedule_pass, int(schedule)), frame.inputs, frame.rates, count, options, batches,
                   fit_epochs, 0, 0))  # fmt: skip
    return at + INSTRUCTION_BYTES


@kernel()
def put_scalars(job, frame, at):
    """The numbers that the updates of a step need, from each row of inputs."""
    _fill_inputs(job, frame)
    scalars = item(job.scalars_pass, item(job.rule, frame.member))
    count = item(job.input_count, frame.member)
    set_items(at, (scalars, frame.numbers, NUMBERS_BYTES // job.itemsize, frame.inputs, count, 0))
    return at + INSTRUCTION_BYTES


@kernel()
def put_update(job, frame, at):
    """The step of all biases, which lie together at the end of the block, from their whole gradient: at once, or layer
    by layer where their inputs differ. Returns where the next instruction goes."""
    size, m = job.itemsize, frame.member
    at_once = 1 if item(job.input_count, m) > MOST_SHARED_ROWS else frame.depth + 1
    update, slots = item(job.update_pass, item(job.rule, m)), job.slots + item(job.slot_offset, m) * size
    for layer in range(frame.first_layer, frame.first_layer + frame.depth + 1, at_once):
        offset = item(job.bias_offset, layer) * size
        numbers = frame.numbers + (row_of_inputs(job, frame, layer) + 1) * NUMBERS_BYTES
        set_items(at, (update, frame.block + offset, frame.gradient + offset, slots + offset, item(job.block_size, m),
                       job.fan_out + layer * 8, at_once, numbers))  # fmt: skip
        at += INSTRUCTION_BYTES
    return at


@kernel()
def _put_tensor(at, offset, stride, rows, width, factor):
    """A line of the table that the pass `clip` reads."""
    set_items(at, (offset, stride, rows, width, bits_of(factor)))
    return at + 8 * TENSOR_WORDS


@kernel()
def put_update_rows(job, frame, at, layer, rows, width):
    """The step of a layer's weights, stored as so many rows, from their whole gradient."""
    m, offset, size = frame.member, item(job.weight_offset, layer), job.itemsize
    slots = job.slots + (item(job.slot_offset, m) + offset) * size
    numbers = frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES
    set_items(at, (item(job.update_rows_pass, item(job.rule, m)), frame.block + offset * size,
                   frame.gradient + offset * size, slots, item(job.block_size, m), item(job.row_stride, layer), rows,
                   width, numbers))  # fmt: skip
    return at + INSTRUCTION_BYTES


@kernel()
def put_scales_backward(job, frame, at):
    """The gradient of feature scales, and that of weights from that of weights times scales."""
    layer, size, m = frame.first_layer, job.itemsize, frame.member
    weights, scales = item(job.weight_offset, layer) * size, item(job.scale_offset, m) * size
    set_items(at, (job.scales_backward_pass, frame.gradient + scales, frame.gradient + weights, frame.block + weights,
                   frame.block + scales, item(job.row_stride, layer), item(job.fan_in, layer),
                   item(job.fan_out, layer)))  # fmt: skip
    return at + INSTRUCTION_BYTES


@kernel()
def put_update_scales(job, frame, at):
    """The step of feature scales, by the last row of inputs."""
    m, offset = frame.member, item(job.scale_offset, frame.member) * job.itemsize
    numbers = frame.numbers + (item(job.input_count, m) - 1) * NUMBERS_BYTES
    set_items(at, (item(job.update_pass, item(job.rule, m)), frame.block + offset, frame.gradient + offset,
                   job.slots + item(job.slot_offset, m) * job.itemsize + offset, item(job.block_size, m),
                   job.fan_in + frame.first_layer * 8, 1, numbers))  # fmt: skip
    return at + INSTRUCTION_BYTES


@kernel()
def put_scale_features(job, frame, at):
    """The first layer's weights times feature scales, to where that layer reads them."""
    layer, size = frame.first_layer, job.itemsize
    set_items(at, (job.scale_features_pass, frame.scaled, frame.block + item(job.weight_offset, layer) * size,
                   frame.block + item(job.scale_offset, frame.member) * size, item(job.row_stride, layer),
                   item(job.fan_in, layer), item(job.fan_out, layer)))  # fmt: skip
    return at + INSTRUCTION_BYTES


@kernel()
def put_clipped(job, frame, at):
    """Clipping of the whole gradient, and the step of all weights."""
    m, layers = frame.member, frame.depth + 1
    # The table lies behind all instructions: these, at most as many for biases, and those of scales and averages.
    table = to = at + (2 * layers + 4) * INSTRUCTION_BYTES
    clip, at = at, at + INSTRUCTION_BYTES
    divided = float_item(job.options, m * _N_OPTIONS + _PARAMETRIZATION_AT) != 0.0
    for layer in range(frame.first_layer, frame.first_layer + layers):
        offset, stride, width = item(job.weight_offset, layer), item(job.row_stride, layer), item(job.fan_out, layer)
        rows = item(job.fan_in, layer)
        # Of weights w = W / scale, which stand for W, the gradient by W is 1 / scale times that by w.
        factor = 1.0 / np.sqrt(float(rows)) if divided else 1.0
        if frame.depth > 0 and layer == frame.first_layer + frame.depth:
            rows, width = width, rows
        to = _put_tensor(to, offset, stride, rows, width, factor)
        at = put_update_rows(job, frame, at, layer, rows, width)
        if item(job.bias_offset, layer) >= 0:
            to = _put_tensor(to, item(job.bias_offset, layer), 0, 1, item(job.fan_out, layer), 1.0)
    if has_scales(job, m):
        to = _put_tensor(to, item(job.scale_offset, m), 0, 1, item(job.fan_in, frame.first_layer), 1.0)
    set_items(clip, (job.clip_norm_pass, frame.gradient, table, (to - table) // (8 * TENSOR_WORDS),
                     bits_of(float_item(job.clip_norm, m))))  # fmt: skip
    return at


@kernel()
def put_average(job, frame, at, step):
    """Averaged weights after the step whose number lies at an address."""
    m = frame.member
    averages = job.averages + item(job.block_offset, m) * job.itemsize
    set_items(at, (job.average_pass, averages, frame.block, item(job.block_size, m),
                   bits_of(float_item(job.average, m)), step))  # fmt: skip
    return at + INSTRUCTION_BYTES
