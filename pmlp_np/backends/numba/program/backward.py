"""Instructions over a block of rows, backward: gradients, and with the last block the step of the weights.

`dz` is the gradient by pre-activations. It overwrites the derivatives `d` of a hidden layer.
"""

from __future__ import annotations

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.frame import ENCODED_BYTES, NUMBERS_BYTES, Encoded
from pmlp_np.backends.numba.intrinsics import item, record_at
from pmlp_np.backends.numba.program.block_arguments import (
    ByRow,
    ColumnSums,
    EncodedBackward,
    HiddenBackward,
    OutputBackward,
    WeightsBackward,
)
from pmlp_np.backends.numba.program.instructions import LATER, put
from pmlp_np.backends.numba.program.team import alone, share
from pmlp_np.backends.numba.program.updates import row_of_inputs


@kernel()
def _put_weights_backward(job, team, frame, at, layer, x, x_stride, dz, fan_in):
    """Write `weights_backward`: the gradient by hidden weights from dz of the layer, and the step of the weights."""
    size, m = job.itemsize, frame.member
    before, width, vectors = share(job, team, item(job.fan_out, layer))
    offset = (item(job.weight_offset, layer) + before) * size
    return put(at, item(job.weights_backward_pass, item(job.rule, m)), WeightsBackward(
        x=x, x_stride=x_stride, dz=dz + before * size, w=frame.block + offset,
        dw=frame.gradient + offset, stride=item(job.row_stride, layer),
        slots=job.slots + item(job.slot_offset, m) * size + offset, slot_stride=item(job.block_size, m),
        fan_in=fan_in, width=width, vectors=vectors,
        numbers=frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES,
    ))  # fmt: skip


@kernel()
def _put_output_backward(job, team, frame, at, a, d):
    """Write `output_backward`, from a and d of the last hidden layer: the gradient and step of the output weights.

    d becomes dz of the last hidden layer, which is also summed up for the biases of that layer.
    """
    size, m = job.itemsize, frame.member
    layer = frame.first_layer + frame.depth
    before, width, vectors = share(job, team, item(job.fan_in, layer))
    part, offset = before * size, (item(job.weight_offset, layer) + before) * size
    bias = item(job.bias_offset, layer - 1)
    hidden_db = (frame.unused if bias < 0 else frame.gradient + bias * size) + part
    return put(at, item(job.output_backward_pass, item(job.rule, m)), OutputBackward(
        a=a + part, d=d + part, stride=item(job.row_stride, layer),
        hidden_db=hidden_db, dz=frame.dz, ld=frame.rows, w=frame.block + offset, dw=frame.gradient + offset,
        slots=job.slots + item(job.slot_offset, m) * size + offset, slot_stride=item(job.block_size, m), width=width,
        vectors=vectors, outputs=job.n_outputs,
        numbers=frame.numbers + row_of_inputs(job, frame, layer) * NUMBERS_BYTES,
    ))  # fmt: skip


@kernel()
def _put_hidden_backward(job, team, frame, at, layer, dz, d):
    """Write `hidden_backward`: from dz of a layer, the derivatives d of the layer below become the dz of that one."""
    size, padded, below = job.itemsize, item(job.row_stride, layer), item(job.row_stride, layer - 1)
    before, width, _ = share(job, team, item(job.fan_in, layer))
    return put(at, job.hidden_backward_pass, HiddenBackward(
        d=d + before * size, d_stride=below, dz=dz,
        w=frame.block + (item(job.weight_offset, layer) + before * padded) * size, stride=padded, fan_in=width,
        vectors=item(job.vectors, layer),
    ))  # fmt: skip


@kernel()
def _put_bias_sums(job, team, frame, at, layer, dz):
    """Write `column_sums`, the gradient by a hidden layer's biases; nothing where the layer has no biases."""
    bias = item(job.bias_offset, layer)
    if bias < 0:
        return at
    size = job.itemsize
    before, _, vectors = share(job, team, item(job.fan_out, layer))
    return put(at, job.column_sums_pass, ColumnSums(
        out=frame.gradient + (bias + before) * size, block=dz + before * size,
        stride=item(job.row_stride, layer), vectors=vectors,
    ))  # fmt: skip


@kernel()
def _put_first_backward(job, team, frame, at, dz):
    """Write the gradients by the first layer's weights: of encoded columns, then of all others."""
    layer, fan_in = frame.first_layer, item(job.fan_in, frame.first_layer)
    if frame.encoding != 0:
        encoded = record_at(frame.encoding, Encoded)
        before, _, vectors = share(job, team, item(job.fan_out, layer))
        part = before * job.itemsize
        at = put(at, job.encoded_backward_pass, EncodedBackward(
            x=LATER, x_stride=LATER, dz=dz + part, stride=item(job.row_stride, layer), dtable=frame.dtables + part,
            columns=frame.encoding + ENCODED_BYTES, plain=encoded.plain, n=encoded.n,
            vectors=vectors,
        ))  # fmt: skip
        fan_in = encoded.plain
    return _put_weights_backward(job, team, frame, at, layer, LATER, LATER, dz, fan_in)


@kernel()
def put_backward(job, team, frame, at):
    """Write all gradients, from that of the loss by raw outputs. The last instruction is the first layer's.

    With the last block of a minibatch the weights take their step: in each layer after dz of the layer below has been
    computed with the old weights.
    """
    size, first = job.itemsize, frame.first_layer
    if frame.depth == 0:
        at = put(at, alone(team, job.by_row_pass), ByRow(
            out=frame.row_major, ldo=item(job.row_stride, first), block=frame.dz, ld=frame.rows,
            outputs=job.n_outputs,
        ))  # fmt: skip
        return _put_first_backward(job, team, frame, at, frame.row_major)
    before_last = 0
    for k in range(frame.depth - 1):
        before_last += frame.rows * item(job.row_stride, first + k) * size
    a, d = frame.activations + before_last, frame.derivatives + before_last
    at = _put_output_backward(job, team, frame, at, a, d)
    for layer in range(first + frame.depth - 1, first, -1):
        below = item(job.row_stride, layer - 1)
        a -= frame.rows * below * size
        d_below = d - frame.rows * below * size
        at = _put_hidden_backward(job, team, frame, at, layer, d, d_below)
        at = _put_weights_backward(job, team, frame, at, layer, a, below, d, item(job.fan_in, layer))
        d = d_below
        at = _put_bias_sums(job, team, frame, at, layer - 1, d)
    return _put_first_backward(job, team, frame, at, d)
