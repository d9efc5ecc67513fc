"""The contract between a pool and a backend: a few coarse operations on flat buffers and columnar tables.

A backend owns parameters, optimizer slots and the snapshots of best and averaged parameters. All else that a member is
lives in `Plan` (what it is) and `Progress` (how far it has come), plain NumPy tables that a backend reads and advances.
No operation is finer than an epoch of all given members, so that a backend behind a slow connection serves the contract
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pmlp_np.copying import Independent
from pmlp_np.data.labels import Names
from pmlp_np.data.sets import Sets
from pmlp_np.formulas.losses import Loss
from pmlp_np.specs.members import Specs

# Status of a member. STOPPED: by a callback.
READY, DIVERGED, STOPPED_EARLY, STOPPED = 0, 1, 2, 3
STATUS_NAMES = ("ok", "diverged", "stopped early", "stopped")

# Orders in which an epoch visits the rows.
IN_ORDER, SHARED_ORDER, MEMBER_ORDER = 0, 1, 2
SHUFFLES = {None: IN_ORDER, "shared": SHARED_ORDER, "member": MEMBER_ORDER}


@dataclass
class Plan(Independent):
    """What the members are: fixed when the pool is made. Keys are uint64.

    n_features: columns of X. features: the columns that each member reads, None where all read all. names: what the
    columns are called, None where fit was given none.
    """

    specs: Specs
    n_features: int
    n_outputs: int
    loss: Loss
    dtype: np.dtype
    stream_key: np.ndarray
    order_key: np.ndarray
    features: Sets | None = None
    names: Names | None = None

    @property
    def n_raw_outputs(self) -> int:
        return self.n_outputs * self.loss.heads

    @property
    def fan_in(self) -> int | np.ndarray:
        """How many features members read: one number, or (n_members,) int64."""
        return self.n_features if self.features is None else self.features.lengths

    def take(self, positions: np.ndarray) -> Plan:
        """The plan of some members."""
        features = None if self.features is None else self.features.take(positions)
        return Plan(self.specs[positions], self.n_features, self.n_outputs, self.loss, self.dtype,
                    self.stream_key[positions], self.order_key[positions], features, self.names)  # fmt: skip

    @property
    def n_members(self) -> int:
        return len(self.specs)

    @property
    def keeps_average(self) -> bool:
        """Whether any member averages its weights."""
        return bool(self.specs.option("average").any())

    def parameter_counts(self) -> np.ndarray:
        """Weights and biases of each member, int64."""
        return self.specs.parameter_counts(self.fan_in, self.n_raw_outputs)


@dataclass
class Progress(Independent):
    """How far each member has come: whole epochs, minibatches of the current one and their summed losses, steps,
    status.

    cursor_key: (n_members,) uint64, any value: what the epoch under way was begun with, data, order and batch size (see
    `training.cursor`); 0 where none is. fit_epochs: the epochs of its first fit, by which its schedule goes; 0 before.
    rate_factor: what reductions on a plateau have left of its learning rate; plateau_loss, plateau_wait: its lowest
    loss, and epochs since.
    """

    epoch: np.ndarray
    minibatch: np.ndarray
    loss_sum: np.ndarray
    step: np.ndarray
    status: np.ndarray
    cursor_key: np.ndarray
    fit_epochs: np.ndarray
    rate_factor: np.ndarray
    plateau_loss: np.ndarray
    plateau_wait: np.ndarray

    @classmethod
    def start(cls, n_members: int) -> Progress:
        def zeros():
            return np.zeros(n_members, np.int64)

        ones, infinite = np.ones(n_members), np.full(n_members, np.inf)
        key = np.zeros(n_members, np.uint64)
        return cls(zeros(), zeros(), np.zeros(n_members), zeros(), zeros(), key, zeros(), ones, infinite, zeros())

    def restart(self, position: int) -> None:
        """Set a member back to before its first fit."""
        for name, values in vars(Progress.start(1)).items():
            getattr(self, name)[position] = values[0]

    def take(self, positions: np.ndarray) -> Progress:
        return Progress(*(getattr(self, name)[positions].copy() for name in self.__dataclass_fields__))


@dataclass
class Rows:
    """Training or evaluation data as backends take it: a table, and what of it each member sees.

    x: for each of the plan's feature sets (one, where it has none) its columns, (n, features) of the pool's dtype, each
        row contiguous.
    y: (n_target_sets * n_targets, n) of the pool's dtype, contiguous; n_targets is 1 for labels. None where there is
        nothing to compare with.
    rows: the rows of each member, in order, repeats included; None where all have all.
    targets: (n_members,) int64, the target set of each member; None where there is one for all.
    weights: (n_weight_sets, n) float64, contiguous: how much each row counts; None where all count alike.
    weight_of: (n_members,) int64, the weight set of each member; None where there is one for all.
    weight_mean: (n_members,) float64, the mean weight of each member's rows: a row's weight is divided by it in float64
        and then cast to the pool's dtype. A row of weight 0 adds exactly 0, whatever its loss is.
    """

    x: list[np.ndarray]
    y: np.ndarray | None = None
    n_targets: int = 1
    rows: Sets | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    weight_of: np.ndarray | None = None
    weight_mean: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Rows of the table."""
        return len(self.x[0])

    def counts(self, n_members: int) -> np.ndarray:
        """Rows of each member, (n_members,) int64."""
        return np.full(n_members, self.n) if self.rows is None else self.rows.lengths


@dataclass
class Control:
    """How a caller watches and stops a running operation: `tick(share of its work that is done)`, True to stop soon."""

    tick: Callable[[float], bool] = field(default=lambda share: False)
    n_threads: int | None = None


class Backend(Protocol):
    """One pool's parameters on one device, and the operations on them. Members are given by position, int64."""

    plan: Plan

    def initialize(self, members: np.ndarray) -> None:
        """Draw the initial weights of these members and clear their slots."""

    def train_epoch(
        self,
        members: np.ndarray,
        progress: Progress,
        data: Rows,
        batch_size: np.ndarray,
        shuffle: int,
        loss: np.ndarray,
        control: Control,
    ) -> None:
        """Finish one epoch of each member, or as much as `control` allows; advance `progress`.

        batch_size (n_members,) is at most the member's number of rows. loss (n_members,) float64 receives the epoch's
        mean minibatch loss of those that finished it or diverged.
        """

    def evaluate(
        self, members: np.ndarray, data: Rows, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean loss, mean score) of each member, float64; weighted means where rows have weights."""

    def forward(
        self, members: np.ndarray, x: list[np.ndarray], out: np.ndarray, weights: str, control: Control
    ) -> None:
        """Raw outputs into out, (len(members), n, n_raw_outputs) of the pool's dtype, contiguous; x as in Rows."""

    def keep_best(self, members: np.ndarray) -> None:
        """Copy the current parameters of these members to the snapshot "best" (made at first use, of all members)."""

    def read(self, member: int, weights: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Copies of the member's (weights, biases), weights as (fan_in, fan_out); no biases where it has none."""

    def write(self, member: int, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        """Replace a member's parameters, and its average by them, and clear its slots."""

    def buffers(self) -> dict[str, int]:
        """How many numbers each buffer holds in canonical order (layout.PoolLayout.canonical): "parameters", "slots",
        maybe "best", and "average" where a member averages; that of members that don't are their parameters."""

    def stream(self, name: str) -> Iterator[np.ndarray]:
        """The numbers of one of these buffers in canonical order, in parts of a few megabytes at most."""

    def restore(self, name: str, take: Callable[[int], np.ndarray]) -> None:
        """The inverse of `stream`, which makes the buffer where there is none: take(n) returns the next n numbers."""

    def take(self, plan: Plan, positions: np.ndarray) -> Any:
        """A backend for a subset of the members, with copies of their buffers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """An independent backend; as with pickles, of the plan and the buffers alone."""
