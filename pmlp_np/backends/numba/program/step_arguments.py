"""Arguments of the other passes, by name: those called once per minibatch, and those that the driver calls alone.

Classes are called as the passes are, whose docstrings say what each argument means.
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
    """Numbers that the updates of a step need."""

    out: Address
    out_stride: int
    inputs: Address
    n: int
    step: int


class Update(NamedTuple):
    """A step of vectors that lie one behind the other."""

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
    """Gradients by feature scales and by the weights under them."""

    dscales: Address
    dw: Address
    w: Address
    scales: Address
    stride: int
    rows: int
    width: int


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


# Passes that the driver calls alone.


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
    """Uniform draws turned into draws of a distribution."""

    values: Address
    n: int


class Tensor(NamedTuple):
    """A line of the table that `clip` reads: where a part of the gradient lies, and what multiplies it for the norm."""

    offset: int
    stride: int
    rows: int
    width: int
    factor: Bits


TENSOR_BYTES = 8 * len(Tensor._fields)
