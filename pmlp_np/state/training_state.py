"""The state of a training run, as data: what `fit` was asked for and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    untold: (n_members,) bool, the members that have finished an epoch of which callbacks are told when all others have.
    data_key: (n_members,) uint64, what each member sees of the data, in which order and batches (see
        `training.data_keys`): noted at the first pause, 0 before. A run that has paused goes on with no others.
    validation_key: (n_members,) uint64, the same of the validation data; 0 where there are none.
    measured: whether what was learned before the run has been measured on these validation data.
    rounds: epochs that callbacks have been told of. seconds: how long the run has taken, of its time budget.
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
    measured: bool = False
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
        keys = np.zeros((2, len(asked)), np.uint64)
        untold = np.zeros(len(asked), bool)
        return cls(progress, asked, target, length.copy(), batch_size, shuffle, progress.step.copy(), untold, *keys)

    def take(self, positions: np.ndarray, progress: Progress | None = None) -> TrainingState:
        """The state of the members at these positions, as of a shard: copies, but for their `progress`, where the pool
        that holds them has it already."""
        own = {name: getattr(self, name)[positions] for name in _of_members(self)}
        rest = {name: value for name, value in vars(self).items() if name not in own}
        return TrainingState(**rest | own | {"progress": progress or self.progress.take(positions)})

    @classmethod
    def concatenate(cls, parts: Sequence[TrainingState], progress: Progress | None = None) -> TrainingState:
        """The state of all members, one part behind the other: of shards of one run, which took as long as the slowest.
        progress: as for `take`."""
        first = parts[0]
        own = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _of_members(first)}
        progress = progress or Progress.concatenate([part.progress for part in parts])
        measured = all(part.measured for part in parts)
        rounds, seconds = max(part.rounds for part in parts), max(part.seconds for part in parts)
        return cls(progress, shuffle=first.shuffle, measured=measured, rounds=rounds, seconds=seconds, **own)

    def in_training(self) -> np.ndarray:
        """Positions of the members that are not done, int64."""
        return np.flatnonzero(self.asked & (self.progress.status == READY) & (self.progress.epoch < self.target))


def _of_members(state: TrainingState) -> list[str]:
    """The fields that have an entry for each member, apart from `progress`."""
    return [field.name for field in fields(state) if isinstance(getattr(state, field.name), np.ndarray)]
