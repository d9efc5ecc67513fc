"""The state of a training run: the arguments of `fit`, as far as training needs them, and the progress."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.base.copying import Independent
from pmlp_np.state.progress import READY, Progress


@dataclass
class TrainingState(Independent):
    """The members that train, and their progress: with backend, history and data, all that a run needs to resume.

    progress: of all members; it belongs to the pool.
    asked: (n_members,) bool, the members that take part; others are not changed.
    target: (n_members,) int64, the number of epochs, since the member was made, at which it is done.
    planned: (n_members,) int64, the length of schedules of members without an earlier fit, in epochs. Targets may be
        lower at first (rungs of successive halving), without any effect on schedules.
    batch_size: (n_members,) int64, at most the member's number of rows.
    shuffle: the order of rows in an epoch, a code of `backends.contract`.
    first_step: (n_members,) int64, the optimizer steps of each member at the start of the run.
    rounds: epochs of which callbacks have been called. seconds: time since the start of the run, for the time budget.
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
        """Return the state of a new run.

        asked: (n_members,) bool, the members that train. epochs: the epochs of this run, one number or (n_members,).
        """
        more = np.broadcast_to(np.asarray(epochs, np.int64), len(asked))
        target = np.where(asked, progress.epoch + more, progress.epoch)
        length = more if planned is None else np.broadcast_to(np.asarray(planned, np.int64), len(asked))
        return cls(progress, asked, target, length.copy(), batch_size, shuffle, progress.step.copy())

    def in_training(self) -> np.ndarray:
        """Return the positions of the members that still train, int64."""
        return np.flatnonzero(self.asked & (self.progress.status == READY) & (self.progress.epoch < self.target))
