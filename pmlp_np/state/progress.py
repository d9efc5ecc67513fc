"""Progress: the epochs, minibatches and steps of each member, and its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmlp_np.base.copying import Independent

# Status of a member. STOPPED: by a callback. DROPPED: by a search, which goes on without it.
READY, DIVERGED, STOPPED_EARLY, STOPPED, DROPPED = 0, 1, 2, 3, 4
STATUS_NAMES = ("ok", "diverged", "stopped early", "stopped", "dropped")
# Those who rest until they are asked to go on.
RESTING = (STOPPED_EARLY, STOPPED, DROPPED)


@dataclass
class Progress(Independent):
    """The progress of each member, all (n_members,).

    epoch, minibatch: int64, whole epochs, and minibatches of the current epoch. loss_sum: float64, the sum of the
        losses of these minibatches. step: int64, optimizer steps. status: int64, READY, DIVERGED, STOPPED_EARLY or
        STOPPED.
    cursor_key: uint64, a key of the data, order and batch size of an unfinished epoch (see `training.cursor`); 0
        without one.
    fit_epochs: int64, the epochs of the member's first fit, the length of its schedule; 0 before.
    rate_factor: float64, the product of all reductions of the learning rate on plateaus. plateau_loss, plateau_wait:
        float64, int64, the lowest loss, and the epochs since.
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
        def zeros() -> np.ndarray:
            return np.zeros(n_members, np.int64)

        ones, infinite = np.ones(n_members), np.full(n_members, np.inf)
        key = np.zeros(n_members, np.uint64)
        return cls(zeros(), zeros(), np.zeros(n_members), zeros(), zeros(), key, zeros(), ones, infinite, zeros())

    def restart(self, position: int) -> None:
        """Reset a member to the state before its first fit."""
        for name, values in vars(Progress.start(1)).items():
            getattr(self, name)[position] = values[0]

    def drop(self, members: np.ndarray) -> None:
        """Have the members at these positions rest where they stand; those that have diverged stay diverged."""
        self.status[members[self.status[members] != DIVERGED]] = DROPPED

    @classmethod
    def concatenate(cls, parts: Sequence[Progress]) -> Progress:
        """Return the progress of all members of several pools, one pool behind the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def put(self, positions: np.ndarray, part: Progress) -> None:
        """Take over the progress of the members at these positions from a shard's."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[positions] = getattr(part, name)

    def take(self, positions: np.ndarray) -> Progress:
        return Progress(*(getattr(self, name)[positions].copy() for name in self.__dataclass_fields__))
