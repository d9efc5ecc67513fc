"""A slot's scratch, and the frame: the addresses of a member's arrays in it during training or evaluation.

`_lay_out` is the one description of the scratch. Compiled code calls it with a member's extents and gets addresses;
`scratch_bytes` calls it with the largest extents of a pool and gets the size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import call, item, record_at
from pmlp_np.backends.numba.job_fields import VIEW_WORDS, View
from pmlp_np.backends.numba.passes.steps import scalar_names
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES
from pmlp_np.backends.numba.program.step_arguments import Fill
from pmlp_np.backends.numba.simd import VECTOR_BYTES
from pmlp_np.base.arrays import Address
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS

# Rows per block: as many as keep a member's activations and derivatives in this much of the nearest cache, within the
# bounds. A member whose parameters are larger than a core's caches reads them from main memory once per block: it takes
# the most rows. Any multiple of 16 gives the same bits.
_ROW_BLOCK_BYTES = 24 * 1024
_LARGE_BLOCK_BYTES = 512 * 1024
_MIN_ROW_BLOCK, _MAX_ROW_BLOCK = 32, 128
# The most numbers that an optimizer's rule derives per step.
MAX_NUMBERS = max(len(scalar_names(rule)) for rule in RULES)
# Random numbers drawn at a time; behind them is room for the rest of a vector.
DRAWS = 256
# Fixed offsets at the start of a slot's scratch, in bytes: three sums (losses, scores, weights), how many barriers the
# slot has passed, and the cursor of dropout (`step_arguments.Cursor`).
SUMS_AT, BARRIERS_AT, CURSOR_AT, LANE_SUMS_AT = 0, 24, 32, VECTOR_BYTES
# Three float64 sums for every lane, of which there are 16 at most.
DRAWS_AT = LANE_SUMS_AT + 3 * 16 * 8
PROGRAM_AT = DRAWS_AT + (DRAWS + 8) * 8
# A row of a rule's inputs (see state.step_inputs), and the numbers derived from it.
INPUT_BYTES = 8 * len(STEP_INPUTS)
NUMBERS_BYTES = MAX_NUMBERS * VECTOR_BYTES
# The longest programs, in instructions. Training, per layer: forward at most two passes, backward at most three, one
# for biases; with clipped gradients one more, and two lines of a table. Evaluation, per layer: at most two. Both: the
# passes before, between and after the layers.
_TRAIN_PER_LAYER, _TRAIN_ONCE = 8, 22
_EVALUATE_PER_LAYER, _EVALUATE_ONCE = 2, 8


class Extents(NamedTuple):
    """The numbers that the sizes of a frame's regions depend on: a region never shrinks when one of them grows."""

    depth: int  # hidden layers
    rows: int  # of a block
    activations: int  # elements of a row block's hidden activations, padded
    outputs: int  # raw outputs, padded to whole vectors
    widest: int  # elements of the longest row of weights, or of raw outputs
    parameters: int  # elements of the member's block
    features: int  # numbers of a row, at least the inputs of encoded columns
    input_rows: int  # rows of inputs of the member's rule
    scaled: int  # elements of the first layer's weights where features have scales, else 0
    tables: int  # elements of the tables of encoded columns


class Frame(NamedTuple):
    """Addresses in a slot's scratch, for one member.

    `encoding` is the address of an `Encoded`, or 0. Regions, in order; `rows` counts the rows of a block, shapes are
    padded to whole vectors, elements are of the pool's dtype unless the dtype is given:

        program, evaluation_program   instructions; evaluations may take turns with training
        raw, dz          (outputs, rows)   raw outputs, and the gradient of the loss by raw outputs
        targets          (targets, rows)   of gathered rows
        row_major        (rows, outputs)   raw outputs of a member without hidden layers, or their gradient
        zeros, unused    (widest,)         of a layer without biases: initial sums, and the gradient, which is not read
        numbers          (input_rows, numbers, lanes)   scalars of the rule
        inputs, rates    (input_rows, STEP_INPUTS), (input_rows,)   float64; learning rates before any schedule
        lane_sums        (outputs, lanes)  the gradient by output biases, before the last block
        gradient         (parameters,)
        row_numbers      (rows,)           int64, of gathered rows
        weights          (rows,)           float64, of gathered rows
        x                (rows, features)  gathered rows, not padded
        activations, derivatives   (rows, units) of every hidden layer; derivatives become the gradient by
                         pre-activations on the way back
        scaled           (features, units) the first layer's weights times feature scales
        tables, dtables  (rows of tables, units) of encoded columns, and the gradient by them
    """

    member: int
    first_layer: int
    depth: int
    block: Address
    rows: int
    encoding: Address
    program: Address
    evaluation_program: Address
    raw: Address
    dz: Address
    targets: Address
    row_major: Address
    zeros: Address
    unused: Address
    numbers: Address
    inputs: Address
    rates: Address
    lane_sums: Address
    gradient: Address
    row_numbers: Address
    weights: Address
    x: Address
    activations: Address
    derivatives: Address
    scaled: Address
    tables: Address
    dtables: Address
    end: Address


def _lay_out(scratch, extents, itemsize, member, first_layer, block, encoding):
    """Return the frame in a slot's scratch, which starts at an address that is a multiple of a vector's bytes."""
    per_output = extents.outputs * extents.rows * itemsize
    program = scratch + PROGRAM_AT
    evaluation_program = program + (_TRAIN_PER_LAYER * extents.depth + _TRAIN_ONCE) * INSTRUCTION_BYTES
    raw = evaluation_program + (_EVALUATE_PER_LAYER * extents.depth + _EVALUATE_ONCE) * INSTRUCTION_BYTES
    dz = raw + per_output
    targets = dz + per_output
    row_major = targets + per_output
    zeros = row_major + per_output
    unused = zeros + extents.widest * itemsize
    numbers = unused + extents.widest * itemsize
    inputs = numbers + extents.input_rows * NUMBERS_BYTES
    rates = inputs + extents.input_rows * INPUT_BYTES
    rates_end = rates + extents.input_rows * 8
    lane_sums = (rates_end + VECTOR_BYTES - 1) // VECTOR_BYTES * VECTOR_BYTES
    gradient = lane_sums + extents.outputs * VECTOR_BYTES
    row_numbers = gradient + extents.parameters * itemsize
    weights = row_numbers + extents.rows * 8
    x = weights + extents.rows * 8
    x_end = x + extents.rows * extents.features * itemsize
    activations = (x_end + VECTOR_BYTES - 1) // VECTOR_BYTES * VECTOR_BYTES
    derivatives = activations + extents.activations * itemsize
    scaled = derivatives + extents.activations * itemsize
    tables = scaled + extents.scaled * itemsize
    dtables = tables + extents.tables * itemsize
    end = dtables + extents.tables * itemsize
    return Frame(
        member=member, first_layer=first_layer, depth=extents.depth, block=block, rows=extents.rows, program=program,
        evaluation_program=evaluation_program, raw=raw, dz=dz, targets=targets, row_major=row_major, zeros=zeros,
        unused=unused, numbers=numbers, inputs=inputs, rates=rates, lane_sums=lane_sums, gradient=gradient,
        row_numbers=row_numbers, weights=weights, x=x, activations=activations, derivatives=derivatives, scaled=scaled,
        tables=tables, dtables=dtables, end=end, encoding=encoding,
    )  # fmt: skip


def _row_block(units, block_size, itemsize):
    """Return the rows per block of a member. units: hidden units, padded; block_size: parameters, padded."""
    if block_size * itemsize > _LARGE_BLOCK_BYTES:
        return _MAX_ROW_BLOCK
    rows = _ROW_BLOCK_BYTES // max(2 * units * itemsize, 1)
    return max(_MIN_ROW_BLOCK, min(_MAX_ROW_BLOCK, rows // 32 * 32))


_compiled_lay_out, _compiled_row_block = kernel()(_lay_out), kernel()(_row_block)


class Encoded(NamedTuple):
    """What compiled code knows of encoded columns (`passes.encoded_columns`), at the address in a view.

    plain: columns of numbers before them. n: encoded columns. centers: (bins of all columns,) of the pool's dtype. The
    words behind describe each column.
    """

    plain: int
    n: int
    table_rows: int
    centers: Address


ENCODED_BYTES = 8 * len(Encoded._fields)


@kernel()
def encoding_of(job, m):
    """Return the address of what encoded columns member m reads, an `Encoded`; 0 if it reads none."""
    if job.views == 0:
        return 0
    index = 0 if job.view_of == 0 else item(job.view_of, m)
    return record_at(job.views + index * VIEW_WORDS * 8, View).encoding


@kernel()
def frame_of(job, slot, m):
    """Return the frame of member m in a slot's scratch."""
    size = job.itemsize
    first = item(job.first_layer, m)
    depth = item(job.first_layer, m + 1) - 1 - first
    units = widest = 0
    for k in range(depth + 1):
        if k < depth:
            units += item(job.row_stride, first + k)
        widest = max(widest, item(job.row_stride, first + k))
    outputs = (job.n_outputs + job.lanes - 1) // job.lanes * job.lanes
    rows = _compiled_row_block(units, item(job.block_size, m), size)
    features = item(job.fan_in, first)
    scaled = tables = 0
    if job.scale_offset != 0 and item(job.scale_offset, m) >= 0:
        scaled = features * item(job.row_stride, first)
    encoding = encoding_of(job, m)
    if encoding != 0:
        encoded = record_at(encoding, Encoded)
        features = max(features, encoded.plain + 2 * encoded.n)
        tables = encoded.table_rows * item(job.row_stride, first)
    extents = Extents(
        depth=depth, rows=rows, activations=rows * units, outputs=outputs, widest=max(widest, outputs),
        parameters=item(job.block_size, m), features=features, input_rows=item(job.input_count, m), scaled=scaled,
        tables=tables,
    )  # fmt: skip
    block = job.parameters + item(job.block_offset, m) * size
    frame = _compiled_lay_out(item(job.scratch, slot), extents, size, m, first, block, encoding)
    call(job.fill_pass, Fill(out=frame.zeros, n=extents.widest))
    return frame


def scratch_bytes(layout: Any, itemsize: int, input_rows: int = 2, columns: int = 0, tables: int = 0) -> int:
    """Return the bytes of scratch in which the frame of any member of a layout fits.

    input_rows: the most rows of inputs of any member's rule. columns, tables: of members that read encoded columns, the
    most numbers of a row and elements of tables.
    """
    hidden = np.where(layout.activation >= 0, layout.row_stride, 0)
    sizes = np.stack([np.add.reduceat(hidden, layout.first_layer[:-1]), layout.block_size])
    outputs = -(-layout.n_raw_outputs // layout.lanes) * layout.lanes
    scaled = layout.first_layer[:-1][layout.scale_offset >= 0]
    largest = Extents(
        depth=int(layout.depth.max()),
        rows=_MAX_ROW_BLOCK,
        activations=max(_row_block(u, size, itemsize) * u for u, size in np.unique(sizes, axis=1).T.tolist()),
        outputs=outputs,
        widest=max(layout.widest_row(), outputs),
        parameters=int(layout.block_size.max()),
        features=max(layout.most_features, columns),
        input_rows=input_rows,
        scaled=int((layout.fan_in[scaled] * layout.row_stride[scaled]).max(initial=0)),
        tables=tables,
    )
    return int(_lay_out(0, largest, itemsize, 0, 0, 0, 0).end)
