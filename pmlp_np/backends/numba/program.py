"""A member's task as a program: the passes of a block of rows with their arguments, written once, run for every block.

Between two minibatches of a member little changes: where its rows and targets lie, and how many they are. So the passes
are laid out as instructions in the slot's scratch, and a minibatch patches a few words and calls one after another.
With the arguments worked out anew for every call, small members would spend a third of their time on that.

An instruction is a pass's address and its arguments. Passes over a block of rows take `rows`, `first` and `last` first,
and next what else may change from block to block (PATCHED_AT): rows and stride of the input, or those of the targets,
and with these the loss's scale and the rows' weights. What only passes of weighted rows read comes last.

    train:     schedule, scalars |
                         layers ... outputs, loss, output_backward, hidden layers ..., weights_backward | updates
               (with dropout: input_dropout before the layers, dropout behind each hidden one; where gradients are
               clipped, no weights take their step in passing: | clip, update_rows ..., updates; where weights are
               averaged: average at the end; where features have scales, the first layer reads weights times these,
               made anew at the end, and takes no step in passing: | scales_backward, update_rows, updates)
    evaluate:            layers ... outputs, loss
    forward:             layers ... outputs, by_row

A member that outweighs all others is trained by a team of slots: each has a program of its own that covers a part of
each layer's units, on the frame of the first slot, and they meet after every pass. What can't be parted the first slot
does alone. Every number is computed by the same instructions as before, only elsewhere: the bits are the same.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.backends.numba.compiling import bits_of, call_block, float_item, item, kernel, set_item, set_items
from pmlp_np.backends.numba.job import (
    EVALUATE,
    INSTRUCTION_BYTES,
    LANE_SUMS_AT,
    MEETINGS_AT,
    NUMBERS_BYTES,
    PLACE_AT,
    SUMS_AT,
    TRAIN,
    frame,
    program_at,
)
from pmlp_np.backends.numba.updates import (
    STEP_AT,
    has_scales,
    put_average,
    put_clipped,
    put_scalars,
    put_scale_features,
    put_scales_backward,
    put_schedule,
    put_update,
    put_update_rows,
    put_update_scales,
    row_of_inputs,
)
from pmlp_np.formulas import regularizers

_dropout_threshold = kernel()(regularizers.dropout_threshold)
_dropout_scale = kernel()(regularizers.dropout_scale)

# Words of an instruction: its pass, then rows, first and last, then what is patched.
ROWS_AT, PATCHED_AT = 1, 4
# Of a loss's instruction: where its scale and the rows' weights are when training, and the weights when evaluating.
SCALE_AT, WEIGHTS_AT, EVALUATED_WEIGHTS_AT = PATCHED_AT + 2, PATCHED_AT + 3, PATCHED_AT + 7


class Team(NamedTuple):
    """The slot whose frame is used, and which part of how many parts this program covers."""

    slot: int
    part: int
    parts: int


class Program(NamedTuple):
    """Addresses: of the instructions for a block, from the first to behind the last, and from which on no weights may
    take their step in passing (0: they do); of what comes before those of a minibatch and, from `stop` to `end`, after
    them (`schedule` is 0 where rates are constant); of those that are patched; of the frame's room for gathered rows
    (of `fan_in` features), targets and weights, and for their places; and where dropout looks for a block's place in
    the epoch's order, and the first layer for what it left of the features (0: no dropout)."""

    team: Team
    meetings: int
    rows: int
    prepare: int
    start: int
    stop: int
    keep: int
    end: int
    judge: int
    schedule: int
    fan_in: int
    places: int
    x: int
    targets: int
    weights: int
    sums: int
    place: int
    inputs: int


@kernel()
def _put(at, address, arguments):
    """Write an instruction over a block of rows; returns where the next one goes."""
    set_item(at, 0, address)
    set_items(at + 8 * PATCHED_AT, arguments)
    return at + INSTRUCTION_BYTES


@kernel()
def _alone(team, address):
    """The address of a pass that the first slot does alone; 0 for the others."""
    return address if team.part == 0 else 0


@kernel()
def _share(job, team, width):
    """A program's share of `width` units, in whole vectors: (elements before it, width, vectors)."""
    vectors = (width + job.lanes - 1) // job.lanes
    if team.parts == 1:
        return 0, width, vectors
    first, stop = vectors * team.part // team.parts, vectors * (team.part + 1) // team.parts
    before = first * job.lanes
    return before, min(width, stop * job.lanes) - before, stop - first


@kernel()
def _uses(job, table, m):
    """Whether member m trains with an option, given the address of its values (0: nobody does)."""
    return job.task == TRAIN and table != 0 and float_item(table, m) > 0.0


@kernel()
def _put_input_dropout(job, team, frame, at, place):
    """What dropout leaves of the features, in the frame's room for gathered rows."""
    m = frame.member
    share, features = float_item(job.input_dropout, m), item(job.fan_in, frame.first_layer)
    return _put(at, _alone(team, job.input_dropout_pass),
                (0, 0, frame.x, features, _dropout_threshold(share), bits_of(_dropout_scale(share)),
                 item(job.stream_key, m), item(job.epoch, m), place))  # fmt: skip


@kernel()
def _put_dropout(job, frame, at, a, d, stride, vectors, unit, layer, place):
    """Dropout of a hidden layer's units from number `unit` on."""
    m = frame.member
    share = float_item(job.dropout, m)
    return _put(at, job.dropout_pass,
                (a, d, stride, vectors, unit, _dropout_threshold(share), bits_of(_dropout_scale(share)),
                 item(job.stream_key, m), item(job.epoch, m), layer, place))  # fmt: skip


@kernel()
def _put_forward(job, team, frame, at, x, x_stride, place):
    """Layers, from x, and raw outputs (outputs, rows); returns where the next instruction goes."""
    size = job.itemsize
    a, d, drops = frame.activations, frame.derivatives, _uses(job, job.dropout, frame.member)
    for layer in range(frame.first_layer, frame.first_layer + frame.depth + 1):
        padded, fan_in = item(job.row_stride, layer), item(job.fan_in, layer)
        before, width, vectors = _share(job, team, item(job.fan_out, layer))
        part = before * size
        weights, bias = frame.block + item(job.weight_offset, layer) * size, item(job.bias_offset, layer)
        if layer == frame.first_layer and has_scales(job, frame.member):
            weights = frame.scaled
        start = frame.zeros if bias < 0 else frame.block + bias * size
        if layer < frame.first_layer + frame.depth:
            layer_pass = item(job.layer_pass, item(job.activation, layer))
            if job.task == TRAIN:
                at = _put(at, layer_pass, (x, x_stride, a + part, d + part, padded, weights + part, start + part, width,
                                           vectors, fan_in))  # fmt: skip
            else:
                at = _put(at, layer_pass, (x, x_stride, a + part, padded, weights + part, start + part, width, vectors,
                                           fan_in))  # fmt: skip
            if drops:
                at = _put_dropout(job, frame, at, a + part, d + part, padded, vectors, before,
                                  layer - frame.first_layer + 1, place)  # fmt: skip
            x, x_stride = a, padded
            a += frame.rows * padded * size
            d += frame.rows * padded * size
        elif frame.depth > 0:
            vectors = item(job.vectors, layer)
            at = _put(at, _alone(team, job.outputs_pass),
                      (frame.raw, frame.rows, start, x, padded, weights, job.n_outputs, vectors))  # fmt: skip
        else:
            at = _put(at, job.linear_pass, (x, x_stride, frame.row_major + part, padded, weights + part, start + part,
                                            width, vectors, fan_in))  # fmt: skip
            by_output = _alone(team, job.by_output_pass)
            at = _put(at, by_output, (frame.raw, frame.rows, frame.row_major, padded, job.n_outputs))
    return at


@kernel()
def _mean_weight(job, m):
    """The bits of the mean weight of member m's rows."""
    return bits_of(1.0 if job.weight_mean == 0 else float_item(job.weight_mean, m))


@kernel()
def _put_loss(job, team, frame, at, scratch):
    bias = item(job.bias_offset, frame.first_layer + frame.depth)
    bias_gradient = frame.unused if bias < 0 else frame.gradient + bias * job.itemsize
    return _put(at, _alone(team, job.loss_pass),
                (0, 0, 0, 0, frame.raw, frame.slope, frame.rows, job.n_outputs, bias_gradient, frame.lane_sums,
                 scratch + LANE_SUMS_AT, scratch + SUMS_AT, _mean_weight(job, frame.member)))  # fmt: skip


@kernel()
def _put_weights_backward(job, team, frame, at, layer, x, x_stride, slope):
    """The gradient of hidden weights from the slopes by their pre-activations, and their step."""
    size, m = job.itemsize, frame.member
    before, width, vectors = _share(job, team, item(job.fan_out, layer))
    offset = (item(job.weight_offset, layer) + before) * size
    slots, slot_stride = job.slots + item(job.slot_offset, m) * size + offset, item(job.block_size, m)
    return _put(at, item(job.weights_backward_pass, item(job.rule, m)),
                (x, x_stride, slope + before * size, frame.block + offset, frame.gradient + offset,
                 item(job.row_stride, layer), slots, slot_stride, item(job.fan_in, layer), width, vectors,
                 frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES))  # fmt: skip


@kernel()
def _put_output_backward(job, team, frame, at, a, d):
    """The output layer's gradient; the last hidden derivatives d become slopes, summed up for that layer's biases."""
    size, m = job.itemsize, frame.member
    layer = frame.first_layer + frame.depth
    before, width, vectors = _share(job, team, item(job.fan_in, layer))
    part, offset = before * size, (item(job.weight_offset, layer) + before) * size
    hidden_bias = item(job.bias_offset, layer - 1)
    sums = frame.unused if hidden_bias < 0 else frame.gradient + hidden_bias * size
    slots, slot_stride = job.slots + item(job.slot_offset, m) * size + offset, item(job.block_size, m)
    return _put(at, item(job.output_backward_pass, item(job.rule, m)),
                (a + part, d + part, item(job.row_stride, layer), sums + part, frame.slope, frame.rows,
                 frame.block + offset, frame.gradient + offset, slots, slot_stride, width, vectors, job.n_outputs,
                 frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES))  # fmt: skip


@kernel()
def _put_backward(job, team, frame, at):
    """Gradients, from the slopes of the loss; slopes of hidden layers overwrite derivatives.

    Weights take their step with the last block, each layer's after its old weights have passed the slopes on.
    """
    size = job.itemsize
    if frame.depth == 0:
        padded = item(job.row_stride, frame.first_layer)
        by_row = _alone(team, job.by_row_pass)
        at = _put(at, by_row, (frame.row_major, padded, frame.slope, frame.rows, job.n_outputs))
        return _put_weights_backward(job, team, frame, at, frame.first_layer, 0, 0, frame.row_major)
    before_last = 0
    for k in range(frame.depth - 1):
        before_last += frame.rows * item(job.row_stride, frame.first_layer + k) * size
    a, d = frame.activations + before_last, frame.derivatives + before_last
    at = _put_output_backward(job, team, frame, at, a, d)
    for k in range(frame.depth - 1, 0, -1):
        layer = frame.first_layer + k
        padded, below = item(job.row_stride, layer), item(job.row_stride, layer - 1)
        a -= frame.rows * below * size
        d_below = d - frame.rows * below * size
        before, width, vectors = _share(job, team, item(job.fan_in, layer))
        weights = frame.block + (item(job.weight_offset, layer) + before * padded) * size
        at = _put(at, job.hidden_backward_pass,
                  (d_below + before * size, below, d, weights, padded, width, item(job.vectors, layer)))  # fmt: skip
        at = _put_weights_backward(job, team, frame, at, layer, a, below, d)
        d = d_below
        bias = item(job.bias_offset, layer - 1)
        if bias >= 0:
            sums = frame.gradient + (bias + before) * size
            at = _put(at, job.column_sums_pass, (sums, d + before * size, below, vectors))
    return _put_weights_backward(job, team, frame, at, frame.first_layer, 0, 0, d)


@kernel()
def write_program(job, team, m, batches):
    """The program of the job's task on member m, in the scratch of the slot that runs it; `batches` to an epoch."""
    place, scratch = frame(job, team.slot, m), item(job.scratch, team.slot)
    own = item(job.scratch, team.slot + team.part)
    at = prepare = own + program_at(job, m)
    keep = schedule = 0
    scales = has_scales(job, m)
    if job.task == TRAIN:
        prepare = put_schedule(job, place, at, batches)
        schedule = at if prepare != at else 0
        at = put_scalars(job, place, prepare)
    start = at
    inputs = order_place = 0
    if _uses(job, job.input_dropout, m):
        inputs = place.x
        at = _put_input_dropout(job, team, place, at, own + PLACE_AT)
    if inputs != 0 or _uses(job, job.dropout, m):
        order_place = own + PLACE_AT
    judge = at = _put_forward(job, team, place, at, inputs, item(job.fan_in, place.first_layer), order_place)
    if job.task == TRAIN:
        at = _put_loss(job, team, place, at, scratch)
        clips, first = _uses(job, job.clip_norm, m), place.first_layer
        if clips:
            keep = at
        stop = at = _put_backward(job, team, place, at)
        if scales:
            # The last instruction is the first layer's.
            keep = keep if clips else stop - INSTRUCTION_BYTES
            at = put_scales_backward(job, place, at)
        if clips:
            at = put_clipped(job, place, at)
        elif scales:
            at = put_update_rows(job, place, at, first, item(job.fan_in, first), item(job.fan_out, first))
        if item(job.bias_offset, first) >= 0:
            at = put_update(job, place, at)
        if scales:
            at = put_update_scales(job, place, at)
        if _uses(job, job.average, m):
            at = put_average(job, place, at, prepare + 8 * STEP_AT)
    elif job.task == EVALUATE:
        at = _put(at, job.loss_pass, (0, 0, place.raw, place.rows, job.n_outputs, scratch + LANE_SUMS_AT,
                                      scratch + SUMS_AT, 0, _mean_weight(job, m)))  # fmt: skip
        stop = at
    else:
        stop = at = _put(at, job.by_row_pass, (0, job.n_outputs, place.raw, place.rows, job.n_outputs))
    if scales:
        # Once now; a step does it again at its end.
        scale, at = at, put_scale_features(job, place, at)
        if team.part == 0:
            call_block(item(scale, 0), scale + 8)
    return Program(team, own + MEETINGS_AT, place.rows, prepare, start, stop, keep, at, judge, schedule,
                   item(job.fan_in, place.first_layer), place.places, place.x, place.targets, place.weights,
                   scratch + SUMS_AT, order_place, inputs)  # fmt: skip
