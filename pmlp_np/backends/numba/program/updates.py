"""Instructions run once per minibatch: learning rates, the rule's scalars, updates of parameters and of averages.

They work on the whole gradient, and only the first slot of a team runs them (see `team`).
"""

from __future__ import annotations

import numpy as np

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import ENCODED_BYTES, INPUT_BYTES, NUMBERS_BYTES, Encoded
from pmlp_np.backends.numba.intrinsics import (
    bits_of,
    float_item,
    item,
    record_at,
    set_float_item,
    set_items,
)
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES, LATER, field_address, put
from pmlp_np.backends.numba.program.step_arguments import (
    TENSOR_BYTES,
    Average,
    Clip,
    EncodedGradient,
    EncodedTables,
    Fill,
    Scalars,
    ScaleFeatures,
    ScalesBackward,
    Schedule,
    Tensor,
    Update,
    UpdateRows,
)
from pmlp_np.base.arrays import NOWHERE
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_AT, WARMUP_AT
from pmlp_np.state.step_inputs import MOST_SHARED_ROWS, RATE

_N_HYPERPARAMETERS, _N_INPUTS, _N_OPTIONS = len(HYPERPARAMETERS), len(STEP_INPUTS), len(OPTIONS)
_PARAMETRIZATION_AT = list(OPTIONS).index("parametrization")


@kernel()
def has_scales(job, m):
    """Whether the features of member m have scales."""
    return job.scale_offset != 0 and item(job.scale_offset, m) >= 0


@kernel()
def row_of_inputs(job, frame, layer):
    """Return the index of the inputs of a layer's weights; the inputs of the layer's biases are the next row."""
    return 2 * (layer - frame.first_layer) if item(job.input_count, frame.member) > MOST_SHARED_ROWS else 0


@kernel()
def _fill_inputs(job, frame):
    """Fill the frame's inputs of the member's rule, and its learning rates before any schedule."""
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
    """Write the learning rates of a step; nothing where they are constant. Returns the next instruction's address."""
    m = frame.member
    if job.options == 0:
        return at
    options = job.options + m * _N_OPTIONS * 8
    schedule = float_item(options, SCHEDULE_AT)
    if schedule == 0.0 and float_item(options, WARMUP_AT) == 0.0:
        return at
    return put(at, item(job.schedule_pass, int(schedule)), Schedule(
        inputs=frame.inputs, rates=frame.rates, n=item(job.input_count, m), options=options, minibatches=batches,
        fit_epochs=item(job.fit_epochs, m), epoch=LATER, minibatch=LATER,
    ))  # fmt: skip


@kernel()
def put_scalars(job, frame, at):
    """Write the scalars of the rule, from each row of inputs."""
    _fill_inputs(job, frame)
    return put(at, item(job.scalars_pass, item(job.rule, frame.member)), Scalars(
        out=frame.numbers, out_stride=NUMBERS_BYTES // job.itemsize, inputs=frame.inputs,
        n=item(job.input_count, frame.member), step=LATER,
    ))  # fmt: skip


@kernel()
def _put_update(job, frame, at, offset, widths, count, row):
    """Write the step of `count` vectors from an offset (in elements) on, with the scalars of a row of inputs."""
    m, size = frame.member, job.itemsize
    return put(at, item(job.update_pass, item(job.rule, m)), Update(
        w=frame.block + offset * size, dw=frame.gradient + offset * size,
        slots=job.slots + (item(job.slot_offset, m) + offset) * size, slot_stride=item(job.block_size, m),
        widths=widths, n=count, numbers=frame.numbers + row * NUMBERS_BYTES,
    ))  # fmt: skip


@kernel()
def _put_biases(job, frame, at):
    """Write the step of all biases, which are consecutive: in one pass, or layer by layer where their inputs differ."""
    if item(job.bias_offset, frame.first_layer) < 0:
        return at
    at_once = 1 if item(job.input_count, frame.member) > MOST_SHARED_ROWS else frame.depth + 1
    for layer in range(frame.first_layer, frame.first_layer + frame.depth + 1, at_once):
        at = _put_update(job, frame, at, item(job.bias_offset, layer), job.fan_out + layer * 8, at_once,
                         row_of_inputs(job, frame, layer) + 1)  # fmt: skip
    return at


@kernel()
def _put_rows(job, frame, at, layer, rows, width):
    """Write the step of a layer's weights, (rows, width) as stored, from their whole gradient."""
    m, offset, size = frame.member, item(job.weight_offset, layer), job.itemsize
    return put(at, item(job.update_rows_pass, item(job.rule, m)), UpdateRows(
        w=frame.block + offset * size, dw=frame.gradient + offset * size,
        slots=job.slots + (item(job.slot_offset, m) + offset) * size, slot_stride=item(job.block_size, m),
        stride=item(job.row_stride, layer), rows=rows, width=width,
        numbers=frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES,
    ))  # fmt: skip


@kernel()
def _put_scales_backward(job, frame, at):
    """Write the gradients by feature scales and by weights, from that by weights times scales."""
    layer, size = frame.first_layer, job.itemsize
    weights, scales = item(job.weight_offset, layer) * size, item(job.scale_offset, frame.member) * size
    return put(at, job.scales_backward_pass, ScalesBackward(
        dscales=frame.gradient + scales, dw=frame.gradient + weights, w=frame.block + weights,
        scales=frame.block + scales, stride=item(job.row_stride, layer), rows=item(job.fan_in, layer),
        width=item(job.fan_out, layer),
    ))  # fmt: skip


@kernel()
def put_scale_features(job, frame, at):
    """Write the product of the first layer's weights and feature scales, which that layer reads.

    Those of encoded columns go into their tables.
    """
    layer, size = frame.first_layer, job.itemsize
    rows = item(job.fan_in, layer) if frame.encoding == 0 else record_at(frame.encoding, Encoded).plain
    return put(at, job.scale_features_pass, ScaleFeatures(
        out=frame.scaled, w=frame.block + item(job.weight_offset, layer) * size,
        scales=frame.block + item(job.scale_offset, frame.member) * size, stride=item(job.row_stride, layer),
        rows=rows, width=item(job.fan_out, layer),
    ))  # fmt: skip


@kernel()
def put_encoded_tables(job, frame, at):
    """Write the tables of encoded columns, from the first layer's weights and the feature scales, if there are any."""
    layer, size, encoded = frame.first_layer, job.itemsize, record_at(frame.encoding, Encoded)
    stride = item(job.row_stride, layer)
    offset = item(job.weight_offset, layer) + encoded.plain * stride
    scales = NOWHERE
    if has_scales(job, frame.member):
        scales = frame.block + (item(job.scale_offset, frame.member) + encoded.plain) * size
    return put(at, job.encoded_tables_pass, EncodedTables(
        table=frame.tables, w=frame.block + offset * size, scales=scales, centers=encoded.centers,
        columns=frame.encoding + ENCODED_BYTES, n=encoded.n, stride=stride, vectors=item(job.vectors, layer),
    ))  # fmt: skip


@kernel()
def put_cleared_tables(job, frame, at):
    """Write the zeros that the gradient by tables starts from."""
    rows = record_at(frame.encoding, Encoded).table_rows
    return put(at, job.fill_pass, Fill(out=frame.dtables, n=rows * item(job.row_stride, frame.first_layer)))


@kernel()
def _put_encoded_gradient(job, frame, at):
    """Write the gradient by the weights of encoded columns, from that by tables."""
    layer, encoded = frame.first_layer, record_at(frame.encoding, Encoded)
    stride = item(job.row_stride, layer)
    offset = item(job.weight_offset, layer) + encoded.plain * stride
    return put(at, job.encoded_gradient_pass, EncodedGradient(
        dw=frame.gradient + offset * job.itemsize, dtable=frame.dtables, centers=encoded.centers,
        columns=frame.encoding + ENCODED_BYTES, n=encoded.n, stride=stride, vectors=item(job.vectors, layer),
    ))  # fmt: skip


@kernel()
def _add_tensor(at, tensor):
    """Write a line of the table that the pass `clip` reads. Returns the address of the next line."""
    set_items(at, tensor)
    return at + TENSOR_BYTES


@kernel()
def _put_clipped(job, frame, at):
    """Write the clipping of the whole gradient, and the step of all weights."""
    m, layers = frame.member, frame.depth + 1
    # The table comes behind all instructions: these, at most as many for biases, and those of scales, of encoded
    # columns and of averages.
    table = to = at + (2 * layers + 6) * INSTRUCTION_BYTES
    clip, at = at, at + INSTRUCTION_BYTES
    divided = float_item(job.options, m * _N_OPTIONS + _PARAMETRIZATION_AT) != 0.0
    one = bits_of(1.0)
    for layer in range(frame.first_layer, frame.first_layer + layers):
        rows, width = item(job.fan_in, layer), item(job.fan_out, layer)
        # Divided weights w = W / scale stand for W: the gradient by W is 1 / scale times the gradient by w.
        factor = 1.0 / np.sqrt(float(rows)) if divided else 1.0
        if frame.depth > 0 and layer == frame.first_layer + frame.depth:
            rows, width = width, rows
        to = _add_tensor(to, Tensor(offset=item(job.weight_offset, layer), stride=item(job.row_stride, layer),
                                    rows=rows, width=width, factor=bits_of(factor)))  # fmt: skip
        at = _put_rows(job, frame, at, layer, rows, width)
        bias = item(job.bias_offset, layer)
        if bias >= 0:
            to = _add_tensor(to, Tensor(offset=bias, stride=0, rows=1, width=item(job.fan_out, layer), factor=one))
    if has_scales(job, m):
        to = _add_tensor(to, Tensor(offset=item(job.scale_offset, m), stride=0, rows=1,
                                    width=item(job.fan_in, frame.first_layer), factor=one))  # fmt: skip
    put(clip, job.clip_norm_pass, Clip(gradient=frame.gradient, tensors=table, n=(to - table) // TENSOR_BYTES,
                                       limit=bits_of(float_item(job.clip_norm, m))))  # fmt: skip
    return at


@kernel()
def _put_average(job, frame, at, step):
    """Write the averaging of weights. step: the address of the step's number."""
    m = frame.member
    averages = job.averages + item(job.block_offset, m) * job.itemsize
    return put(at, job.average_pass, Average(
        average=averages, w=frame.block, n=item(job.block_size, m), decay=bits_of(float_item(job.average, m)),
        step=step,
    ))  # fmt: skip


@kernel()
def put_step(job, frame, at, scalars, clips, averages):
    """Write the steps taken with the whole gradient, and averages. Returns the address of the next instruction.

    scalars: the address of the instruction with the step's number.
    """
    m, first = frame.member, frame.first_layer
    scales = has_scales(job, m)
    if frame.encoding != 0:
        at = _put_encoded_gradient(job, frame, at)
    if scales:
        at = _put_scales_backward(job, frame, at)
    if clips:
        at = _put_clipped(job, frame, at)
    elif scales or frame.encoding != 0:
        at = _put_rows(job, frame, at, first, item(job.fan_in, first), item(job.fan_out, first))
    at = _put_biases(job, frame, at)
    if scales:
        # With the last row of inputs.
        at = _put_update(job, frame, at, item(job.scale_offset, m), job.fan_in + first * 8, 1,
                         item(job.input_count, m) - 1)  # fmt: skip
    if averages:
        at = _put_average(job, frame, at, field_address(scalars, Scalars, "step"))
    return at
