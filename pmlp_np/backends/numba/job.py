"""The input of the driver: the job, a record of integers (see `job_fields`), and the frame, a member's part of a slot's
scratch.

With nothing but 64-bit integers in it (addresses, counts, strides) the driver compiles once for all types, and quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import numpy as np

from pmlp_np.backends.numba.compiling import kernel
from pmlp_np.backends.numba.intrinsics import call, item
from pmlp_np.backends.numba.job_fields import JobFields
from pmlp_np.backends.numba.passes.steps import scalar_names
from pmlp_np.backends.numba.program.instructions import INSTRUCTION_BYTES
from pmlp_np.backends.numba.program.step_arguments import Fill
from pmlp_np.base.arrays import Address, address
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS

INITIALIZE, TRAIN, EVALUATE, FORWARD = range(4)
# The stop flag: a budget ends training between minibatches; Ctrl-C ends also the validation of an epoch that is done.
STOP, INTERRUPT = 1, 2
# What decides which epoch is best: the loss, a score, or one that grows.
BY_LOSS, BY_SCORE, BY_GROWING_SCORE = range(3)

_FIELDS = list(JobFields.__annotations__)
JOB = np.dtype([(name, np.int64) for name in _FIELDS])
_PLACE_OF = {name: i for i, name in enumerate(_FIELDS)}

# Rows per block: as many as keep a member's activations and derivatives in this much of the nearest cache, within the
# bounds. A member whose parameters fill a core's own cache reads them from further away, once per block: it takes the
# most. Any multiple of 16 gives the same bits.
_ROW_BLOCK_BYTES = 24 * 1024
_LARGE_BLOCK_BYTES = 512 * 1024
_MIN_ROW_BLOCK, _MAX_ROW_BLOCK = 32, 128
VECTOR_BYTES = 64
# The most numbers that an optimizer's rule derives per step.
MAX_NUMBERS = max(len(scalar_names(rule)) for rule in RULES)
# Counters of two slots lie a cache line apart.
DONE_STRIDE = 8
# Random numbers drawn at a time, and room for the whole vector after them.
DRAWS = 256
# A view, in 64-bit words: see `views`.
VIEW_WORDS = 8
# Fixed places at the start of a slot's scratch, in bytes. Three sums (losses, scores, weights), how often the slot has
# met the others, and a row block's place in the epoch's order, where a pass asks for it.
SUMS_AT, MEETINGS_AT, POSITION_AT, LANE_SUMS_AT = 0, 24, 32, VECTOR_BYTES
# Three float64 sums for every lane, of which there are 16 at most.
DRAWS_AT = LANE_SUMS_AT + 3 * 16 * 8
PROGRAM_AT = DRAWS_AT + (DRAWS + 8) * 8
# For each row of a rule's inputs (see step_inputs) the numbers derived from it, the inputs, and their learning rate
# before any schedule.
NUMBERS_BYTES = MAX_NUMBERS * VECTOR_BYTES
INPUT_BYTES = 8 * len(STEP_INPUTS)
_ROW_BYTES = NUMBERS_BYTES + -(-(INPUT_BYTES + 8) // VECTOR_BYTES) * VECTOR_BYTES


def _program_bytes(depth):
    """Forward at most two passes per layer, backward at most three, biases at most one, and what comes before, between
    and after; for clipped gradients a pass and two lines of a table per layer."""
    return (8 * depth + 17) * INSTRUCTION_BYTES


def _evaluation_bytes(depth):
    """Forward at most two passes per layer, and what comes before and after."""
    return (2 * depth + 6) * INSTRUCTION_BYTES


_compiled_program_bytes = kernel()(_program_bytes)
_compiled_evaluation_bytes = kernel()(_evaluation_bytes)


@kernel()
def program_at(job, m):
    """Where a member's program lies in a slot's scratch, in bytes. An evaluation's has room of its own: it may take
    turns with training."""
    if job.task != EVALUATE:
        return PROGRAM_AT
    return PROGRAM_AT + _compiled_program_bytes(item(job.first_layer, m + 1) - 1 - item(job.first_layer, m))


def known(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a job has."""
    return {name: value for name, value in fields.items() if name in _PLACE_OF}


def place_of(name: str) -> int:
    """Where a field lies in a job."""
    return _PLACE_OF[name]


class JobBuilder:
    """A job under construction; it keeps alive the arrays whose addresses it holds."""

    def __init__(self, base: JobBuilder | None = None) -> None:
        self._numbers: np.ndarray = np.zeros(len(_FIELDS), np.int64) if base is None else base._numbers.copy()
        self._alive: list[Any] = [base]

    def put(self, **fields: Unpack[JobFields]) -> JobBuilder:
        """Set fields: numbers as they are, arrays (contiguous) by address, None as 0."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                self._alive.append(value)
                value = address(value)
            self._numbers[_PLACE_OF[name]] = value or 0
        return self

    def build(self, evaluation: JobBuilder | None = None) -> np.ndarray:
        """The job, and that of the evaluations which take turns with it (zeros where there are none): an array of two
        JOB. It lives as long as this builder."""
        other = np.zeros_like(self._numbers) if evaluation is None else evaluation._numbers
        jobs = np.concatenate([self._numbers, other])
        self._alive.append((jobs, evaluation))
        return jobs.view(JOB)


class Frame(NamedTuple):
    """Addresses in a slot's scratch, for one member; `rows` is its row block.

    `dz` is the gradient of the loss by raw outputs, `raw`; both are (outputs, rows). `derivatives` are those of hidden
    activations, which going backward become the gradient by pre-activations. `zeros` is a row to start sums from where
    a layer has no biases, and `unused` one to leave their gradient in; `scaled` holds the first layer's weights times
    feature scales, where the member has these.
    """

    member: int
    first_layer: int
    depth: int
    block: Address
    rows: int
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
    places: Address
    weights: Address
    x: Address
    activations: Address
    derivatives: Address
    scaled: Address


def _row_block(width, block_size, itemsize):
    """Rows per block of a member with `width` hidden units (padded) and `block_size` parameters."""
    if block_size * itemsize > _LARGE_BLOCK_BYTES:
        return _MAX_ROW_BLOCK
    rows = _ROW_BLOCK_BYTES // max(2 * width * itemsize, 1)
    return max(_MIN_ROW_BLOCK, min(_MAX_ROW_BLOCK, rows // 32 * 32))


_compiled_row_block = kernel()(_row_block)


def scratch_bytes(layout: Any, itemsize: int, input_rows: int = 2) -> int:
    """Bytes of scratch in which any member of a layout finds room, with so many rows of inputs of its rule: what
    `frame_of` hands out, at its largest."""
    hidden = np.where(layout.activation >= 0, layout.row_stride, 0)
    sizes = np.stack([np.add.reduceat(hidden, layout.first_layer[:-1]), layout.block_size])
    activations = max(2 * w * _row_block(w, size, itemsize) for w, size in np.unique(sizes, axis=1).T.tolist())
    outputs = -(-layout.n_raw_outputs // layout.lanes) * layout.lanes
    scaled = layout.first_layer[:-1][layout.scale_offset >= 0]
    elements = (
        activations
        + int((layout.fan_in[scaled] * layout.row_stride[scaled]).max(initial=0))
        + _MAX_ROW_BLOCK * (4 * outputs + layout.most_features)
        + int(layout.block_size.max())
        + 2 * max(layout.widest_row(), outputs)
        + outputs * layout.lanes
    )
    return (
        PROGRAM_AT
        + _program_bytes(int(layout.depth.max()))
        + _evaluation_bytes(int(layout.depth.max()))
        + elements * itemsize
        + input_rows * _ROW_BYTES
        + 4 * VECTOR_BYTES
        + 2 * 8 * _MAX_ROW_BLOCK
    )


@kernel()
def frame_of(job, slot, m):
    """The frame of member m in a slot's scratch."""
    size = job.itemsize
    first = item(job.first_layer, m)
    depth = item(job.first_layer, m + 1) - 1 - first
    width = widest = 0
    for k in range(depth + 1):
        if k < depth:
            width += item(job.row_stride, first + k)
        widest = max(widest, item(job.row_stride, first + k))
    rows = _compiled_row_block(width, item(job.block_size, m), size)
    outputs = (job.n_outputs + job.lanes - 1) // job.lanes * job.lanes
    widest = max(widest, outputs)
    per_output = outputs * rows * size
    programs = _compiled_program_bytes(depth) + _compiled_evaluation_bytes(depth)
    raw = item(job.scratch, slot) + PROGRAM_AT + programs
    dz = raw + per_output
    targets = dz + per_output
    row_major = targets + per_output
    zeros = row_major + per_output
    unused = zeros + widest * size
    numbers = unused + widest * size
    input_rows = item(job.input_count, m)
    inputs = numbers + input_rows * NUMBERS_BYTES
    rates = inputs + input_rows * INPUT_BYTES
    lane_sums = numbers + input_rows * _ROW_BYTES
    gradient = lane_sums + outputs * VECTOR_BYTES
    places = gradient + item(job.block_size, m) * size
    weights = places + rows * 8
    x = weights + rows * 8
    fan_in = item(job.fan_in, first)
    activations = x + (rows * fan_in * size + VECTOR_BYTES - 1) // VECTOR_BYTES * VECTOR_BYTES
    derivatives = activations + rows * width * size
    scaled = derivatives + rows * width * size
    call(job.fill_pass, Fill(out=zeros, n=widest))
    block = job.parameters + item(job.block_offset, m) * size
    return Frame(
        member=m, first_layer=first, depth=depth, block=block, rows=rows, raw=raw, dz=dz, targets=targets,
        row_major=row_major, zeros=zeros, unused=unused, numbers=numbers, inputs=inputs, rates=rates,
        lane_sums=lane_sums, gradient=gradient, places=places, weights=weights, x=x, activations=activations,
        derivatives=derivatives, scaled=scaled,
    )  # fmt: skip
