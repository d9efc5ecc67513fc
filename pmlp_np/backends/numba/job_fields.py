"""The fields of a job, by what they are about: whatever compiled code is told of a task.

Each is a 64-bit integer: a number, or an address in bytes. Of a table it is that of the first element (0: not needed);
tables are indexed by member, layer or code. Strides are in elements.
"""

from __future__ import annotations

from typing import TypeAlias, TypedDict

import numpy as np

from pmlp_np.base.arrays import Address

# What becomes an address, or 0 for None.
Table: TypeAlias = np.ndarray | Address | None


class QueueFields(TypedDict, total=False):
    """The members of the task in the order in which they are dealt out, and `place`, their places in the caller's
    arrays; what slots share: the queue's counter, the flag to stop, waits of a team, work done; and their scratch."""

    task: int
    queue: Table
    n_queue: int
    chunk: int
    place: Table
    counter: Table
    stop: Table
    meeting: Table
    together: Table
    give_way: Address
    done: Table
    scratch: Table


class DataFields(TypedDict, total=False):
    """What members see of the data (see `views`), and in which order."""

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
    """Where results go: raw outputs, and for each member its mean loss and score."""

    out: Table
    loss: Table
    score: Table


class RoundFields(TypedDict, total=False):
    """A round of epochs, and what follows each: see `state.epoch_rule`. Tables of records are (epochs, n_members), line
    k for epoch `round_start` + k of a member, which trains while its epoch is below `limit`."""

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
    """Buffers, the size of their elements, and where each member's and layer's parameters lie in them."""

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
    """What members are told to do: keys of random numbers, hyperparameters, options."""

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
    """How far members have come."""

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


class PassTableFields(TypedDict, total=False):
    """Tables of addresses of passes, by code: of an activation, a schedule, a rule, a distribution."""

    layer_pass: Table
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
