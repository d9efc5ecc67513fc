"""Arguments of passes over a block of rows, by name, behind the `Block` that they all begin with.

Each class has the name of its pass: `LayerTrain` holds the arguments of `layer_train:relu`, whose docstring explains
them. Arguments that change from block to block come first: `Input`, `Targets` or `Result`.
"""

from __future__ import annotations

from typing import NamedTuple

from pmlp_np.base.arrays import Address, Bits


class Block(NamedTuple):
    """The number of rows, and whether (1) or not (0) they are the first or the last of the minibatch or task."""

    rows: int
    first: int
    last: int


class Input(NamedTuple):
    """The rows that the first pass of a program reads, and its last pass backward."""

    x: Address
    x_stride: int


class Targets(NamedTuple):
    """Targets of the rows, and their weights (0: none), for the pass of the loss."""

    target: Address
    ldt: int
    weights: Address


class Layer(NamedTuple):
    """A layer forward."""

    x: Address
    x_stride: int
    a: Address
    stride: int
    w: Address
    start: Address
    width: int
    vectors: int
    fan_in: int


class LayerTrain(NamedTuple):
    """A hidden layer forward, with the activation's derivative."""

    x: Address
    x_stride: int
    a: Address
    d: Address
    stride: int
    w: Address
    start: Address
    width: int
    vectors: int
    fan_in: int


class LayerOnto(NamedTuple):
    """A first layer forward, onto what encoded columns give."""

    x: Address
    x_stride: int
    a: Address
    stride: int
    w: Address
    width: int
    vectors: int
    fan_in: int


class LayerTrainOnto(NamedTuple):
    """The same with the activation's derivative."""

    x: Address
    x_stride: int
    a: Address
    d: Address
    stride: int
    w: Address
    width: int
    vectors: int
    fan_in: int


class EncodedStart(NamedTuple):
    """The products of encoded columns with their weights."""

    x: Address
    x_stride: int
    out: Address
    stride: int
    start: Address
    table: Address
    columns: Address
    plain: int
    n: int
    vectors: int


class EncodedBackward(NamedTuple):
    """The gradient by the tables of encoded columns."""

    x: Address
    x_stride: int
    dz: Address
    stride: int
    dtable: Address
    columns: Address
    plain: int
    n: int
    vectors: int


class Dropout(NamedTuple):
    """Dropout of a hidden layer's units."""

    a: Address
    d: Address
    stride: int
    vectors: int
    unit: int
    threshold: int
    scale: Bits
    key: int
    layer: int
    cursor: Address


class InputDropout(NamedTuple):
    """Dropout of features."""

    x: Address
    x_stride: int
    out: Address
    features: int
    threshold: int
    scale: Bits
    key: int
    cursor: Address


class Outputs(NamedTuple):
    """Raw outputs from the last hidden layer."""

    raw: Address
    ld: int
    start: Address
    a: Address
    stride: int
    w: Address
    outputs: int
    vectors: int


class ByOutput(NamedTuple):
    """Rows turned into lines of outputs."""

    out: Address
    ldo: int
    block: Address
    ld: int
    outputs: int


class Result(NamedTuple):
    """Where the results of the rows go: `ByRow` and `AddPart` begin with it."""

    out: Address


class ByRow(NamedTuple):
    """Lines of outputs turned into rows."""

    out: Address
    ldo: int
    block: Address
    ld: int
    outputs: int


class AddPart(NamedTuple):
    """Sums of a part of raw outputs over members."""

    out: Address
    line: int
    raw: Address
    ld: int
    outputs: int


class LossTrain(NamedTuple):
    """The loss, and its gradient by raw outputs."""

    target: Address
    ldt: int
    weights: Address
    mean: Bits
    scale: Bits
    raw: Address
    dz: Address
    ld: int
    outputs: int
    db: Address
    db_lanes: Address
    loss_lanes: Address
    total: Address


class LossEvaluate(NamedTuple):
    """Sums of losses and scores."""

    target: Address
    ldt: int
    weights: Address
    mean: Bits
    raw: Address
    ld: int
    outputs: int
    sums: Address
    totals: Address


class OutputBackward(NamedTuple):
    """The output layer backward."""

    a: Address
    d: Address
    stride: int
    hidden_db: Address
    dz: Address
    ld: int
    w: Address
    dw: Address
    slots: Address
    slot_stride: int
    width: int
    vectors: int
    outputs: int
    numbers: Address


class HiddenBackward(NamedTuple):
    """The gradient by pre-activations, from a hidden layer to the one below."""

    d: Address
    d_stride: int
    dz: Address
    w: Address
    stride: int
    fan_in: int
    vectors: int


class WeightsBackward(NamedTuple):
    """The gradient by hidden weights, and their step."""

    x: Address
    x_stride: int
    dz: Address
    w: Address
    dw: Address
    stride: int
    slots: Address
    slot_stride: int
    fan_in: int
    width: int
    vectors: int
    numbers: Address


class ColumnSums(NamedTuple):
    """The gradient by hidden biases."""

    out: Address
    block: Address
    stride: int
    vectors: int
