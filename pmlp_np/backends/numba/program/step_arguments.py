"""Arguments of the other passes, by name: passes called once per minibatch, and passes outside any program.

Each class has the name of its pass, whose docstring explains the arguments.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.base.arrays import Address, Bits


class Schedule(NamedTuple):
    """Learning rates of a step."""

    inputs: Address
    rates: Address
    n: int
    options: Address
    minibatches: int
    fit_epochs: int
    epoch: int
    minibatch: int


class Scalars(NamedTuple):
    """Scalars of a rule's update in one step."""

    out: Address
    out_stride: int
    inputs: Address
    n: int
    step: int


class Update(NamedTuple):
    """A step of consecutive vectors."""

    w: Address
    dw: Address
    slots: Address
    slot_stride: int
    widths: Address
    n: int
    numbers: Address


class UpdateRows(NamedTuple):
    """A step of a matrix."""

    w: Address
    dw: Address
    slots: Address
    slot_stride: int
    stride: int
    rows: int
    width: int
    numbers: Address


class ScaleFeatures(NamedTuple):
    """Weights times feature scales."""

    out: Address
    w: Address
    scales: Address
    stride: int
    rows: int
    width: int


class ScalesBackward(NamedTuple):
    """Gradients by feature scales and by the weights that they multiply."""

    dscales: Address
    dw: Address
    w: Address
    scales: Address
    stride: int
    rows: int
    width: int


class EncodedTables(NamedTuple):
    """Tables of encoded columns."""

    table: Address
    w: Address
    scales: Address
    centers: Address
    columns: Address
    n: int
    stride: int
    vectors: int


class EncodedGradient(NamedTuple):
    """The gradient by the weights of encoded columns."""

    dw: Address
    dtable: Address
    centers: Address
    columns: Address
    n: int
    stride: int
    vectors: int


class Clip(NamedTuple):
    """Clipping of the whole gradient."""

    gradient: Address
    tensors: Address
    n: int
    limit: Bits


class Average(NamedTuple):
    """Averaged weights."""

    average: Address
    w: Address
    n: int
    decay: Bits
    step: Address


# Passes outside any program.


class GatherRows(NamedTuple):
    """Rows copied in an order."""

    out: Address
    source: Address
    row_stride: int
    order: Address
    rows: int
    columns: int


class GatherTargets(NamedTuple):
    """Lines of targets, or of weights, copied in an order."""

    out: Address
    ldo: int
    source: Address
    source_stride: int
    order: Address
    rows: int
    targets: int


class Fill(NamedTuple):
    """Zeros."""

    out: Address
    n: int


class Scale(NamedTuple):
    """Float64 numbers times a factor."""

    out: Address
    stride: int
    values: Address
    n: int
    factor: Bits


class Finite(NamedTuple):
    """Whether all numbers are finite."""

    block: Address
    n: int
    verdict: Address


class Distribution(NamedTuple):
    """Draws of a distribution from uniform draws."""

    values: Address
    n: int


class Tensor(NamedTuple):
    """A line of the table that `clip` reads: a part of the gradient, and its factor in the norm."""

    offset: int
    stride: int
    rows: int
    width: int
    factor: Bits


TENSOR_BYTES = 8 * len(Tensor._fields)


class Cursor(NamedTuple):
    """The numbers by which dropout draws: the epoch, and the position of a block's first row in the epoch's order."""

    epoch: int
    position: int
