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
    """One pool's parameters on one device, and the operations on them. Members are given by position, int64."""

    plan: Plan

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
