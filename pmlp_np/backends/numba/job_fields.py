"""The fields of a job, in groups, and the fields of a view.

Each is a 64-bit integer: a number, or an address in bytes (0: not needed). A table is given by the address of its first
element; tables are indexed by member, layer or code. Strides are in elements.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, TypedDict

import numpy as np

from pmlp_np.base.arrays import Address

# An array, which is stored as its address; None is stored as 0.
Table: TypeAlias = np.ndarray | Address | None


class View(NamedTuple):
    """The part of a dataset that a member reads; `views` has the meaning of each field."""

    x: Address
    x_stride: int
    n: int
    order: Address
    rows: Address
    y: Address
    weights: Address
    encoding: Address


# A view takes a cache line.
VIEW_WORDS = 8


class QueueFields(TypedDict, total=False):
    """The queue of members, and the memory that slots share.

    queue, positions: (n_queue,) members, and their positions in the caller's arrays. chunk: members taken at a time.
    counter: of members taken. stop: STOP or INTERRUPT. barrier_counter, stop_of_team: of a team (see `program.team`).
    yield_thread: the address of a function that lets another thread run. done: (slots, COUNTER_STRIDE) work done.
    scratch: (slots,) addresses.
    """

    task: int
    queue: Table
    n_queue: int
    chunk: int
    positions: Table
    counter: Table
    stop: Table
    barrier_counter: Table
    stop_of_team: Table
    yield_thread: Address
    done: Table
    scratch: Table


class DataFields(TypedDict, total=False):
    """The data: views, which view each member has (0: all have the first), targets, weights, and the order of rows.

    views: (n, VIEW_WORDS). orders: (slots, most_rows), room for an order of each slot's member.
    """

    views: Table
    view_of: Table
    epoch_views: int
    y_stride: int
    n_targets: int
    targets: Table
    weight_of: Table
    weight_mean: Table
    shuffle: int
    orders: Table
    most_rows: int


class ResultFields(TypedDict, total=False):
    """Results: raw outputs (members, rows, outputs), and the mean loss and score of each member.

    sums: (groups, n_parts, sums_line) float64, of a part of raw outputs over groups of the `n_summed` members in
    `queue`; threads take a group on `sums_rows` rows at a time.
    """

    out: Table
    sums: Table
    n_parts: int
    sums_line: int
    n_summed: int
    sums_rows: int
    loss: Table
    score: Table


class RoundFields(TypedDict, total=False):
    """A round of epochs, and the rule after each epoch: see `state.epoch_rule`.

    Tables of records are (epochs, n_members): line k is for epoch `round_start` + k of a member, which trains while its
    epoch is below `limit`.
    """

    round_start: Table
    limit: Table
    record_stride: int
    validation_loss: Table
    validation_score: Table
    has_rule: int
    early_stopping: int
    patience: int
    min_delta: Table
    by_score: int
    best: Table
    best_value: Table
    best_epoch: Table
    waits_from: Table
    due: Table
    plateau_patience: Table
    plateau_factor: Table
    plateau_loss: Table
    plateau_wait: Table


class LayoutFields(TypedDict, total=False):
    """Buffers, the size of their elements, and the offsets of members and layers: see `state.layout`."""

    itemsize: int
    lanes: int
    n_outputs: int
    parameters: Table
    slots: Table
    averages: Table
    first_layer: Table
    fan_in: Table
    fan_out: Table
    row_stride: Table
    vectors: Table
    stride_in: Table
    stride_out: Table
    weight_offset: Table
    bias_offset: Table
    scale_offset: Table
    activation: Table
    block_offset: Table
    block_size: Table
    slot_offset: Table


class MemberFields(TypedDict, total=False):
    """Keys of random numbers, hyperparameters and options of each member."""

    stream_key: Table
    hyperparameters: Table
    options: Table
    rule: Table
    distribution: Table
    weight_scale: Table
    bias_scale: Table
    batch_size: Table
    input_factors: Table
    first_input: Table
    input_count: Table
    dropout: Table
    input_dropout: Table
    clip_norm: Table
    average: Table


class ProgressFields(TypedDict, total=False):
    """The progress of each member: see `state.progress`."""

    epoch: Table
    minibatch: Table
    loss_sum: Table
    step: Table
    status: Table
    fit_epochs: Table
    rate_factor: Table


class PassFields(TypedDict, total=False):
    """Addresses of passes."""

    linear_pass: Table
    outputs_pass: Table
    hidden_backward_pass: Table
    column_sums_pass: Table
    by_output_pass: Table
    by_row_pass: Table
    add_part_pass: Table
    gather_rows_pass: Table
    gather_targets_pass: Table
    gather_weights_pass: Table
    fill_pass: Table
    scale_pass: Table
    finite_pass: Table
    loss_pass: Table
    dropout_pass: Table
    input_dropout_pass: Table
    clip_norm_pass: Table
    average_pass: Table
    scale_features_pass: Table
    scales_backward_pass: Table
    encoded_tables_pass: Table
    encoded_start_pass: Table
    encoded_backward_pass: Table
    encoded_gradient_pass: Table
    linear_onto_pass: Table


class PassTableFields(TypedDict, total=False):
    """Tables of addresses of passes, by code: of an activation, a schedule, a rule, a distribution."""

    layer_pass: Table
    layer_onto_pass: Table
    schedule_pass: Table
    scalars_pass: Table
    update_pass: Table
    update_rows_pass: Table
    weights_backward_pass: Table
    output_backward_pass: Table
    distribution_pass: Table


class JobFields(
    QueueFields, DataFields, ResultFields, RoundFields, LayoutFields, MemberFields, ProgressFields, PassFields,
    PassTableFields, total=False,
):  # fmt: skip
    """All fields of a job."""
