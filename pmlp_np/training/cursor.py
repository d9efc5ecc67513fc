"""The cursor: how far a member is in an epoch that a budget or an interrupt cut short, and whether to go on from there.

`Progress.minibatch` means something only with the batch size, the order of rows and the data that the epoch was begun
with. Their key stands beside it (`Progress.cursor_key`). Where a call comes with others, the epoch begins anew: none is
half of one and half of another. A run that has paused is to end as if it had not, and takes no others at all.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.base.errors import DataError, compose, listed
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.progress import READY, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.data_keys import DataKeys


def _under_way(progress: Progress, asked: np.ndarray) -> np.ndarray:
    """Positions of the members among those asked (a mask) that are within an epoch and may go on."""
    return np.flatnonzero(asked & (progress.status == READY) & (progress.minibatch > 0))


def enter_epochs(
    progress: Progress, asked: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int, batches: np.ndarray
) -> None:
    """Have epochs that were begun with something else begin anew. batches: (n_members,), of an epoch.

    No key stands while members train: an epoch that ends by an error nobody foresaw begins anew, too. Those that rest
    keep theirs.
    """
    members = _under_way(progress, asked)
    if len(members):
        # A cursor behind the epoch's end is none that training left.
        beyond = progress.minibatch[members] >= batches[members]
        anew = members[beyond | (progress.cursor_key[members] != keys.of(members, shuffle, batch_size))]
        progress.minibatch[anew], progress.loss_sum[anew] = 0, 0.0
        progress.cursor_key[members] = 0


def leave_epochs(progress: Progress, asked: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int) -> None:
    """Note what epochs that are cut short were begun with."""
    members = _under_way(progress, asked)
    if len(members):
        progress.cursor_key[members] = keys.of(members, shuffle, batch_size)


def _begun_with(state: TrainingState, keys: DataKeys, validation: Dataset | None) -> tuple[np.ndarray, np.ndarray]:
    """Keys, (n_members,) uint64, of what a run is about: of data, order and batch size, and of validation data, 0
    without."""
    everyone = np.arange(len(state.asked))
    of_validation = np.zeros(len(everyone), np.uint64) if validation is None else keys.like(validation).of(everyone)
    return keys.of(everyone, state.shuffle, state.batch_size), of_validation


def note_begun_with(state: TrainingState, keys: DataKeys, validation: Dataset | None) -> None:
    """Note what a run is about, when it pauses for the first time."""
    if not state.data_key.any():
        state.data_key[:], state.validation_key[:] = _begun_with(state, keys, validation)


def require_begun_with(
    state: TrainingState, ids: np.ndarray, counts: np.ndarray, keys: DataKeys, validation: Dataset | None
) -> None:
    """Raise DataError where a run that has paused is to go on with something else, or where a member's minibatches have
    more rows than it has. counts: (n_members,) int64, the rows of each member."""
    too_large = np.flatnonzero(state.asked & (state.batch_size > counts))
    if len(too_large):
        m = too_large[0]
        raise DataError(
            compose(f"batch_size of member {ids[m]}", f"at most its {counts[m]:,} rows", f"{state.batch_size[m]:,}")
        )
    if not state.data_key.any():
        return
    found = _begun_with(state, keys, validation)
    for what, noted, key in (("data", state.data_key, found[0]), ("validation data", state.validation_key, found[1])):
        others = ids[state.asked & (noted != key)]
        if len(others):
            expected = "those that training began with before it paused (rows, their order, targets, weights)"
            got = f"others for {len(others):,} members: ids {listed(others.tolist())}"
            hint = "Hand over the same. With others, partial_fit trains on."
            raise DataError(compose(what, expected, got, hint))
