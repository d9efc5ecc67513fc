"""The contract between a pool and a backend: a few coarse operations on flat buffers and columnar tables.

A backend has a `Store`, which holds parameters, optimizer slots, best and averaged parameters. All else that a member
is lives in `Plan` (what it is) and `Progress` (how far it has come), plain NumPy tables that a backend reads and
advances. No operation is finer than an epoch of all given members, so that a backend behind a slow connection serves
the contract as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pmlp_np.backends.store import Store
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress

# Orders in which an epoch visits the rows.
IN_ORDER, SHARED_ORDER, MEMBER_ORDER = 0, 1, 2
SHUFFLES = {None: IN_ORDER, "shared": SHARED_ORDER, "member": MEMBER_ORDER}


@dataclass
class Control:
    """How a caller watches and stops a running operation: `tick(share of its work that is done)`, True to stop soon."""

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

    def train_epoch(
        self,
        members: np.ndarray,
        progress: Progress,
        data: Dataset,
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
        self, members: np.ndarray, data: Dataset, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        """(mean loss, mean score) of each member, float64; weighted means where rows have weights."""

    def forward(
        self, members: np.ndarray, x: list[np.ndarray], out: np.ndarray, weights: str, control: Control
    ) -> None:
        """Raw outputs into out, (len(members), n, n_raw_outputs) of the pool's dtype, contiguous; x as in Dataset."""

    def take(self, plan: Plan, positions: np.ndarray) -> Backend:
        """A backend for a subset of the members, with copies of their buffers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        """An independent backend; as with pickles, of the plan and the buffers alone."""

    def free_memory(self) -> int:
        """Bytes that are free on the backend's device."""
