"""The cursor: a member's position within an epoch that a budget or an interrupt cut short.

`Progress.minibatch` is valid only for the batch size, the order of rows and the data with which the epoch was begun.
`Progress.cursor_key` is the key of these three. If the next call's key differs, the epoch restarts at its first
minibatch: no epoch mixes two datasets or two orders of rows. A paused run continues with the same data only.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.base.errors import DataError, compose, listed
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.progress import READY, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.data_keys import DataKeys


def _within_epoch(progress: Progress, requested: np.ndarray) -> np.ndarray:
    """Return the positions of the requested members (a mask) that are within an epoch and may continue it."""
    return np.flatnonzero(requested & (progress.status == READY) & (progress.minibatch > 0))


def enter_epochs(
    progress: Progress, requested: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int, batches: np.ndarray
) -> None:
    """Restart the epochs that were begun with other data, batch size or order of rows.

    batches: (n_members,), minibatches of an epoch. Keys are 0 while members train: an epoch that ends by an unexpected
    error restarts, too. Members that are not requested keep their keys.
    """
    members = _within_epoch(progress, requested)
    if len(members):
        # A cursor beyond the end of the epoch does not come from training: such an epoch restarts, too.
        beyond = progress.minibatch[members] >= batches[members]
        restarted = members[beyond | (progress.cursor_key[members] != keys.of(members, shuffle, batch_size))]
        progress.minibatch[restarted], progress.loss_sum[restarted] = 0, 0.0
        progress.cursor_key[members] = 0


def leave_epochs(
    progress: Progress, requested: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int
) -> None:
    """Store the keys of the epochs that were cut short."""
    members = _within_epoch(progress, requested)
    if len(members):
        progress.cursor_key[members] = keys.of(members, shuffle, batch_size)


def _begun_with(state: TrainingState, keys: DataKeys, validation: Dataset | None) -> tuple[np.ndarray, np.ndarray]:
    """Return two keys of a run, (n_members,) uint64: of data, order and batch size; and of validation data, or 0."""
    everyone = np.arange(len(state.asked))
    of_validation = np.zeros(len(everyone), np.uint64) if validation is None else keys.like(validation).of(everyone)
    return keys.of(everyone, state.shuffle, state.batch_size), of_validation


def note_begun_with(state: TrainingState, keys: DataKeys, validation: Dataset | None) -> None:
    """Store the keys of a run when it pauses for the first time."""
    if not state.data_key.any():
        state.data_key[:], state.validation_key[:] = _begun_with(state, keys, validation)


def require_begun_with(
    state: TrainingState, ids: np.ndarray, counts: np.ndarray, keys: DataKeys, validation: Dataset | None
) -> None:
    """Raise DataError if a paused run is to continue with other data, or if a batch size exceeds a member's rows.

    counts: (n_members,) int64, number of rows of each member.
    """
    too_large = np.flatnonzero(state.asked & (state.batch_size > counts))
    if len(too_large):
        m = too_large[0]
        raise DataError(
            compose(f"batch_size of member {ids[m]}", f"at most its {counts[m]:,} rows", f"{state.batch_size[m]:,}")
        )
    if not state.data_key.any():
        return
    current = _begun_with(state, keys, validation)
    stored = state.data_key, state.validation_key
    for what, noted, key in zip(("data", "validation data"), stored, current, strict=True):
        others = ids[state.asked & (noted != key)]
        if len(others):
            expected = "those that training began with before it paused (rows, their order, targets, weights)"
            got = f"others for {len(others):,} members: ids {listed(others.tolist())}"
            hint = "Hand over the same. With others, partial_fit trains on."
            raise DataError(compose(what, expected, got, hint))
