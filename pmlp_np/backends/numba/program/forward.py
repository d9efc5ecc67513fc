"""Instructions over a block of rows, forward: dropout of features, layers, raw outputs, the loss."""

from __future__ import annotations

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import ENCODED_BYTES, LANE_SUMS_AT, SUMS_AT, Encoded
from pmlp_np.backends.numba.intrinsics import bits_of, float_item, item, record_at
from pmlp_np.backends.numba.job import TRAIN
from pmlp_np.backends.numba.program.block_arguments import (
    AddPart,
    ByOutput,
    ByRow,
    Dropout,
    EncodedStart,
    InputDropout,
    Layer,
    LayerOnto,
    LayerTrain,
    LayerTrainOnto,
    LossEvaluate,
    LossTrain,
    Outputs,
)
from pmlp_np.backends.numba.program.instructions import LATER, put
from pmlp_np.backends.numba.program.team import alone, share
from pmlp_np.backends.numba.program.updates import has_scales
from pmlp_np.formulas import regularizers

_dropout_threshold = kernel()(regularizers.dropout_threshold)
_dropout_scale = kernel()(regularizers.dropout_scale)


@kernel()
def uses(job, table, m):
    """Whether member m trains with an option. table: the address of the option's values, 0 where no member uses it."""
    return job.task == TRAIN and table != 0 and float_item(table, m) > 0.0


@kernel()
def put_input_dropout(job, team, frame, at, cursor):
    """Write `input_dropout`, from the rows of a block to the frame's `x`."""
    m = frame.member
    share_of_zeros = float_item(job.input_dropout, m)
    return put(at, alone(team, job.input_dropout_pass), InputDropout(
        x=LATER, x_stride=LATER, out=frame.x, features=item(job.fan_in, frame.first_layer),
        threshold=_dropout_threshold(share_of_zeros), scale=bits_of(_dropout_scale(share_of_zeros)),
        key=item(job.stream_key, m), cursor=cursor,
    ))  # fmt: skip


@kernel()
def _put_dropout(job, frame, at, a, d, stride, vectors, unit, layer, cursor):
    """Write `dropout` of a hidden layer's units from number `unit` on."""
    m = frame.member
    share_of_zeros = float_item(job.dropout, m)
    return put(at, job.dropout_pass, Dropout(
        a=a, d=d, stride=stride, vectors=vectors, unit=unit,
        threshold=_dropout_threshold(share_of_zeros), scale=bits_of(_dropout_scale(share_of_zeros)),
        key=item(job.stream_key, m), layer=layer, cursor=cursor,
    ))  # fmt: skip


@kernel()
def _biases_of(job, frame, layer):
    """Return the address that a layer's sums start from: the biases, or zeros."""
    bias = item(job.bias_offset, layer)
    return frame.zeros if bias < 0 else frame.block + bias * job.itemsize


@kernel()
def _weights_of(job, frame, layer):
    """Return the address of a layer's weights: of a first layer with feature scales, the weights times scales."""
    if layer == frame.first_layer and has_scales(job, frame.member):
        return frame.scaled
    return frame.block + item(job.weight_offset, layer) * job.itemsize


@kernel()
def _put_encoded_start(job, team, frame, at, x, x_stride, out):
    """Write `encoded_start` of the first layer."""
    layer, encoded = frame.first_layer, record_at(frame.encoding, Encoded)
    before, _, vectors = share(job, team, item(job.fan_out, layer))
    part = before * job.itemsize
    return put(at, job.encoded_start_pass, EncodedStart(
        x=x, x_stride=x_stride, out=out + part, stride=item(job.row_stride, layer),
        start=_biases_of(job, frame, layer) + part, table=frame.tables + part,
        columns=frame.encoding + ENCODED_BYTES, plain=encoded.plain, n=encoded.n, vectors=vectors,
    ))  # fmt: skip


@kernel()
def _put_first_layer(job, team, frame, at, x, x_stride, a, d):
    """Write the first hidden layer of a member that reads encoded columns."""
    layer = frame.first_layer
    before, width, vectors = share(job, team, item(job.fan_out, layer))
    at = _put_encoded_start(job, team, frame, at, x, x_stride, a)
    stride, part, fan_in = item(job.row_stride, layer), before * job.itemsize, record_at(frame.encoding, Encoded).plain
    w, layer_pass = _weights_of(job, frame, layer) + part, item(job.layer_onto_pass, item(job.activation, layer))
    if job.task == TRAIN:
        return put(at, layer_pass, LayerTrainOnto(
            x=x, x_stride=x_stride, a=a + part, d=d + part, stride=stride, w=w, width=width, vectors=vectors,
            fan_in=fan_in,
        ))  # fmt: skip
    return put(at, layer_pass, LayerOnto(
        x=x, x_stride=x_stride, a=a + part, stride=stride, w=w, width=width, vectors=vectors, fan_in=fan_in,
    ))  # fmt: skip


@kernel()
def _put_layer(job, team, frame, at, layer, x, x_stride, a, d):
    """Write a hidden layer, from x to activations a and, in training, derivatives d."""
    padded = item(job.row_stride, layer)
    before, width, vectors = share(job, team, item(job.fan_out, layer))
    part = before * job.itemsize
    w, start = _weights_of(job, frame, layer) + part, _biases_of(job, frame, layer) + part
    layer_pass, fan_in = item(job.layer_pass, item(job.activation, layer)), item(job.fan_in, layer)
    if job.task == TRAIN:
        return put(at, layer_pass, LayerTrain(
            x=x, x_stride=x_stride, a=a + part, d=d + part, stride=padded, w=w, start=start,
            width=width, vectors=vectors, fan_in=fan_in,
        ))  # fmt: skip
    return put(at, layer_pass, Layer(
        x=x, x_stride=x_stride, a=a + part, stride=padded, w=w, start=start, width=width,
        vectors=vectors, fan_in=fan_in,
    ))  # fmt: skip


@kernel()
def _put_outputs(job, team, frame, at, layer, x, x_stride):
    """Write raw outputs (outputs, rows) from x, the last hidden layer's activations or the features."""
    padded = item(job.row_stride, layer)
    w, start = _weights_of(job, frame, layer), _biases_of(job, frame, layer)
    if frame.depth > 0:
        return put(at, alone(team, job.outputs_pass), Outputs(
            raw=frame.raw, ld=frame.rows, start=start, a=x, stride=padded, w=w,
            outputs=job.n_outputs, vectors=item(job.vectors, layer),
        ))  # fmt: skip
    before, width, vectors = share(job, team, item(job.fan_out, layer))
    part = before * job.itemsize
    if frame.encoding != 0:
        at = _put_encoded_start(job, team, frame, at, x, x_stride, frame.row_major)
        at = put(at, job.linear_onto_pass, LayerOnto(
            x=x, x_stride=x_stride, a=frame.row_major + part, stride=padded, w=w + part, width=width, vectors=vectors,
            fan_in=record_at(frame.encoding, Encoded).plain,
        ))  # fmt: skip
    else:
        at = put(at, job.linear_pass, Layer(
            x=x, x_stride=x_stride, a=frame.row_major + part, stride=padded, w=w + part,
            start=start + part, width=width, vectors=vectors, fan_in=item(job.fan_in, layer),
        ))  # fmt: skip
    return put(at, alone(team, job.by_output_pass), ByOutput(
        out=frame.raw, ldo=frame.rows, block=frame.row_major, ld=padded, outputs=job.n_outputs,
    ))  # fmt: skip


@kernel()
def put_forward(job, team, frame, at, x, x_stride, cursor):
    """Write the layers, from x, and raw outputs (outputs, rows). Returns the address of the next instruction."""
    size = job.itemsize
    a, d, drops = frame.activations, frame.derivatives, uses(job, job.dropout, frame.member)
    last = frame.first_layer + frame.depth
    for layer in range(frame.first_layer, last):
        padded = item(job.row_stride, layer)
        if layer == frame.first_layer and frame.encoding != 0:
            at = _put_first_layer(job, team, frame, at, x, x_stride, a, d)
        else:
            at = _put_layer(job, team, frame, at, layer, x, x_stride, a, d)
        if drops:
            before, _, vectors = share(job, team, item(job.fan_out, layer))
            part = before * size
            at = _put_dropout(job, frame, at, a + part, d + part, padded, vectors, before,
                              layer - frame.first_layer + 1, cursor)  # fmt: skip
        x, x_stride = a, padded
        a += frame.rows * padded * size
        d += frame.rows * padded * size
    return _put_outputs(job, team, frame, at, last, x, x_stride)


@kernel()
def _mean_weight(job, m):
    """Return the bits of the mean weight of member m's rows."""
    return bits_of(1.0 if job.weight_mean == 0 else float_item(job.weight_mean, m))


@kernel()
def put_loss(job, team, frame, at, scratch):
    """Write the loss and its gradient by raw outputs; targets are set block by block."""
    bias = item(job.bias_offset, frame.first_layer + frame.depth)
    db = frame.unused if bias < 0 else frame.gradient + bias * job.itemsize
    return put(at, alone(team, job.loss_pass), LossTrain(
        target=LATER, ldt=LATER, weights=LATER, mean=_mean_weight(job, frame.member), scale=LATER,
        raw=frame.raw, dz=frame.dz, ld=frame.rows, outputs=job.n_outputs, db=db, db_lanes=frame.lane_sums,
        loss_lanes=scratch + LANE_SUMS_AT, total=scratch + SUMS_AT,
    ))  # fmt: skip


@kernel()
def put_evaluation(job, frame, at, scratch):
    """Write sums of losses and scores; targets are set block by block."""
    return put(at, job.loss_pass, LossEvaluate(
        target=LATER, ldt=LATER, weights=LATER, mean=_mean_weight(job, frame.member),
        raw=frame.raw, ld=frame.rows, outputs=job.n_outputs, sums=scratch + LANE_SUMS_AT, totals=scratch + SUMS_AT,
    ))  # fmt: skip


@kernel()
def put_part(job, frame, at):
    """Write the sum of a part of raw outputs; its address is set block by block."""
    return put(at, job.add_part_pass, AddPart(
        out=LATER, line=job.sums_line, raw=frame.raw, ld=frame.rows, outputs=job.n_outputs,
    ))  # fmt: skip


@kernel()
def put_result(job, frame, at):
    """Write the transposition of raw outputs to rows; the address is set block by block."""
    return put(at, job.by_row_pass, ByRow(
        out=LATER, ldo=job.n_outputs, block=frame.raw, ld=frame.rows, outputs=job.n_outputs,
    ))  # fmt: skip
