"""The state of a training run: the arguments of `fit`, as far as training needs them, and the progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    untold: (n_members,) bool, members with a finished epoch of which callbacks have not been called yet.
    data_key: (n_members,) uint64, key of each member's data, order and batch sizes (see `training.data_keys`), set at
        the first pause, 0 before. A paused run resumes with the same keys only.
    validation_key: (n_members,) uint64, key of the validation data; 0 where there are none.
    measured: (n_members,) bool, whether the weights from before the run have been evaluated on the validation data.
    rounds: epochs of which callbacks have been called. seconds: time since the start of the run, for the time budget.
    """

    progress: Progress
    asked: np.ndarray
    target: np.ndarray
    planned: np.ndarray
    batch_size: np.ndarray
    shuffle: int
    first_step: np.ndarray
    untold: np.ndarray
    data_key: np.ndarray
    validation_key: np.ndarray
    measured: np.ndarray
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
        keys = np.zeros((2, len(asked)), np.uint64)
        untold, measured = np.zeros(len(asked), bool), np.zeros(len(asked), bool)
        first_step = progress.step.copy()
        return cls(
            progress, asked, target, length.copy(), batch_size, shuffle, first_step, untold, keys[0], keys[1], measured
        )  # fmt: skip

    def take(self, positions: np.ndarray, progress: Progress | None = None) -> TrainingState:
        """Return the state of the members at these positions, as copies: the state of a shard.

        progress: the shard's progress, if its pool already has it.
        """
        own = {name: getattr(self, name)[positions] for name in _of_members(self)}
        rest = {name: value for name, value in vars(self).items() if name not in own}
        return TrainingState(**rest | own | {"progress": progress or self.progress.take(positions)})

    @classmethod
    def concatenate(cls, parts: Sequence[TrainingState], progress: Progress | None = None) -> TrainingState:
        """Concatenate the states of shards of one run. `seconds` is the maximum.

        progress: as for `take`.
        """
        first = parts[0]
        own = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _of_members(first)}
        progress = progress or Progress.concatenate([part.progress for part in parts])
        rounds, seconds = max(part.rounds for part in parts), max(part.seconds for part in parts)
        return cls(progress, shuffle=first.shuffle, rounds=rounds, seconds=seconds, **own)

    def put(self, positions: np.ndarray, part: TrainingState) -> None:
        """Take over the state of the members at these positions from a shard's. `progress` stays as it is."""
        for name in _of_members(self):
            getattr(self, name)[positions] = getattr(part, name)

    def in_training(self) -> np.ndarray:
        """Return the positions of the members that still train, int64."""
        return np.flatnonzero(self.asked & (self.progress.status == READY) & (self.progress.epoch < self.target))


def _of_members(state: TrainingState) -> list[str]:
    """Return the names of fields with one entry per member, without `progress`."""
    return [field.name for field in fields(state) if isinstance(getattr(state, field.name), np.ndarray)]
