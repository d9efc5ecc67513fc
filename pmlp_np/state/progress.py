"""Progress: how far each member has come, and its status."""

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
        def zeros() -> np.ndarray:
            return np.zeros(n_members, np.int64)

        ones, infinite = np.ones(n_members), np.full(n_members, np.inf)
        key = np.zeros(n_members, np.uint64)
        return cls(zeros(), zeros(), np.zeros(n_members), zeros(), zeros(), key, zeros(), ones, infinite, zeros())

    def restart(self, position: int) -> None:
        """Set a member back to before its first fit."""
        for name, values in vars(Progress.start(1)).items():
            getattr(self, name)[position] = values[0]

    def drop(self, members: np.ndarray) -> None:
        """Have the members at these positions rest where they stand; those that have diverged stay diverged."""
        self.status[members[self.status[members] != DIVERGED]] = DROPPED

    @classmethod
    def concatenate(cls, parts: Sequence[Progress]) -> Progress:
        """Of all members, one part behind the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def take(self, positions: np.ndarray) -> Progress:
        return Progress(*(getattr(self, name)[positions].copy() for name in self.__dataclass_fields__))
