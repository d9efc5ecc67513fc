"""The contract between a pool and a backend: a few coarse operations on flat buffers and columnar tables.

A backend has a `Store`, which holds parameters, optimizer slots, best and averaged parameters. All else that a member
is lives in `Plan` (what it is) and `Progress` (how far it has come), plain NumPy tables that a backend reads and
advances. Data are placed once and used in many calls. No operation is finer than an epoch of all given members, so that
a backend behind a slow connection serves the contract as well.
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

# Orders in which an epoch visits the rows.
IN_ORDER, SHARED_ORDER, MEMBER_ORDER = 0, 1, 2
SHUFFLES = {None: IN_ORDER, "shared": SHARED_ORDER, "member": MEMBER_ORDER}


@dataclass
class Control:
    """How a caller watches and stops a running operation: `tick(share of its work that is done)`, True to stop soon, be
    it for good or to go on later."""

    tick: Callable[[float], bool] = field(default=lambda share: False)
    n_threads: int | None = None


class Backend(Protocol):
    """One pool's parameters on one device, and the operations on them. Members are given by position, int64.

    The methods here are all that a backend has beside private ones; a test holds every backend's signatures to these.
    """

    plan: Plan
    store: Store

    def __init__(self, plan: Plan, device: str) -> None:
        """A backend of members that are not yet initialized; device as `backends.BACKENDS` names it. Further arguments
        have defaults."""

    def initialize(self, members: np.ndarray) -> None:
        """Draw the initial weights of these members and clear their slots."""

    def place(self, data: Dataset) -> Placed:
        """The dataset where this backend computes, with what members share found once."""

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
        """Train up to `epochs` epochs of each member, none beyond its target, or as much as `control` allows; advance
        the state's progress, and enter what is found into `record`.

        rule: what follows each epoch (see `epoch_rule.after_epoch`); members that stop early by it leave. None: nothing
            follows, as the caller sees to it, and epochs is 1.

        Fewer epochs may be done where more would take too much memory, but at least one. A member's `record.due` is 1
        from the end of an epoch until the rule has been applied. A tick cuts short the training of an epoch, not its
        validation; Ctrl-C (`interrupts.Abandoned`) both, and a validation that is cut short leaves `due` at 1.
        """

    def evaluate(
        self, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean loss, mean score) of each member, float64; weighted means where rows have weights."""

    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str, control: Control) -> None:
        """Raw outputs for all rows into out, (len(members), n, n_raw_outputs) of the pool's dtype, contiguous."""

    def take(self, plan: Plan, positions: np.ndarray) -> Backend:
        """A backend for a subset of the members, with copies of their buffers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        """An independent backend; as with pickles, of the plan and the buffers alone."""

    def free_memory(self) -> int:
        """Bytes that are free on the backend's device."""
