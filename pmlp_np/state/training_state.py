"""The state of a training run, as data: what `fit` was asked for and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.base.copying import Independent
from pmlp_np.state.progress import READY, Progress


@dataclass
class TrainingState(Independent):
    """What members are to train, and how far they have come: all that a run needs to go on besides the backend, the
    history and the data.

    progress: of all members; it belongs to the pool, and outlives the run.
    asked: (n_members,) bool, the members that take part. Others stay as they are.
    target: (n_members,) int64, the epoch of its life at which each member is done.
    planned: (n_members,) int64, the epochs by which schedules go that go by a fit's length, for members without an
        earlier fit. Targets may be lower at first (rungs of successive halving): schedules keep their planned length.
    batch_size: (n_members,) int64, at most the member's number of rows.
    shuffle: the order in which an epoch visits rows, a code of `backends.contract`.
    first_step: (n_members,) int64, the optimizer steps of each member when the run began.
    rounds: epochs that callbacks have been told of. seconds: how long the run has taken, of its time budget.
    """

    progress: Progress
    asked: np.ndarray
    target: np.ndarray
    planned: np.ndarray
    batch_size: np.ndarray
    shuffle: int
    first_step: np.ndarray
    rounds: int = 0
    seconds: float = 0.0

    @classmethod
    def start(
        cls,
        progress: Progress,
        asked: np.ndarray,
        epochs: int | np.ndarray,
        batch_size: np.ndarray,
        shuffle: int,
        planned: int | np.ndarray | None = None,
    ) -> TrainingState:
        """A run in which the members `asked` (a mask) train for so many epochs more, each from where it stands: one
        number, or (n_members,)."""
        more = np.broadcast_to(np.asarray(epochs, np.int64), len(asked))
        target = np.where(asked, progress.epoch + more, progress.epoch)
        length = more if planned is None else np.broadcast_to(np.asarray(planned, np.int64), len(asked))
        return cls(progress, asked, target, length.copy(), batch_size, shuffle, progress.step.copy())

    def in_training(self) -> np.ndarray:
        """Positions of the members that are not done, int64."""
        return np.flatnonzero(self.asked & (self.progress.status == READY) & (self.progress.epoch < self.target))
