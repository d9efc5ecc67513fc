"""The contract between a pool and a backend: a few coarse operations on flat buffers and columnar tables.

A backend has a `Store` of parameters, optimizer slots, best and averaged parameters. All other facts of the members are
in `Plan` (fixed) and `Progress` (epochs, minibatches, status), plain NumPy tables that a backend reads and updates.
Data are placed once and used in many calls. No operation is finer than an epoch of all its members, so that a device
behind a slow connection can implement the contract, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pmlp_np.backends.store import Store
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.training_state import TrainingState

# Members whose sum a mean begins with: sums of so many, one member after the other, are added up group after group.
MEAN_GROUP = 64
# The order of rows in an epoch.
IN_ORDER, SHARED_ORDER, MEMBER_ORDER = 0, 1, 2
SHUFFLES = {None: IN_ORDER, "shared": SHARED_ORDER, "member": MEMBER_ORDER}


@dataclass
class Control:
    """Progress and stopping of a running operation, and the number of its threads.

    tick: called with the share of work done, 0 to 1; returns True to stop the operation soon. n_threads: None: as many
    as there are cores.
    """

    tick: Callable[[float], bool] = field(default=lambda share: False)
    n_threads: int | None = None


class Backend(Protocol):
    """One pool's parameters on one device, and the operations on them. Members are positions in the pool, int64.

    Backends have no other public methods; a test compares their signatures with these.
    """

    plan: Plan
    store: Store

    def __init__(self, plan: Plan, device: str) -> None:
        """Create a backend of members that are not yet initialized.

        device: as `backends.BACKENDS` names it. Further arguments of a backend have defaults.
        """

    def initialize(self, members: np.ndarray) -> None:
        """Draw the initial weights of these members, and set their slots to 0."""

    def place(self, data: Dataset) -> Placed:
        """Move a dataset to this backend's device, and group members by the rows and features that they share."""

    def train(
        self,
        members: np.ndarray,
        state: TrainingState,
        placed: Placed,
        rule: EpochRule | None,
        epochs: int,
        record: EpochRecord,
        control: Control,
    ) -> None:
        """Train each member for up to `epochs` epochs, but not beyond its target; update the state's progress.

        rule: applied after each epoch (see `epoch_rule.after_epoch`); members that it stops train no more. None: the
            caller does what follows an epoch, and epochs is 1.
        record: receives losses, scores and best epochs.

        A backend may train fewer epochs, but at least one, where more would take too much memory. A member's
        `record.due` is 1 from the end of an epoch until the rule has been applied. When `control` asks to stop,
        training stops between minibatches, and a validation is finished. Ctrl-C (`interrupts.Abandoned`) stops
        validation, too, and leaves `due` at 1.
        """

    def evaluate(
        self, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (mean loss, mean score) of each member, (len(members),) float64; weighted where rows have weights."""

    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str, control: Control) -> None:
        """Compute raw outputs of all rows.

        out: (len(members), n, n_raw_outputs) of the pool's dtype, contiguous; receives the raw outputs.
        """

    def mean(
        self, members: np.ndarray, placed: Placed, part: str, out: np.ndarray, weights: str, control: Control
    ) -> None:
        """Compute the mean over members of a part of their outputs, in float64, summed up by `MEAN_GROUP`.

        part: as in `Loss.part`. All members have all rows. out: (n, n_parts) float64. Takes memory for float64 sums of
        every group, (groups, n_parts, n).
        """

    def take(self, plan: Plan, positions: np.ndarray) -> Backend:
        """Return a backend for a subset of the members, with copies of their buffers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        """Return an independent backend, made from copies of the plan and the buffers alone, as in pickles."""

    def free_memory(self) -> int:
        """Return the bytes that are free on the backend's device."""
