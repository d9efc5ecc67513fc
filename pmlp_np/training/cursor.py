"""The cursor: a member's position within an epoch that a budget or an interrupt cut short.

`Progress.minibatch` is valid only for the batch size, the order of rows and the data with which the epoch was begun.
`Progress.cursor_key` is the key of these three. If the next call's key differs, the epoch restarts at its first
minibatch: no epoch mixes two datasets or two orders of rows.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.state.progress import READY, Progress
from pmlp_np.training.data_keys import DataKeys


def _within_epoch(progress: Progress, requested: np.ndarray) -> np.ndarray:
    """Return the positions of the requested members (a mask) that are within an epoch and may continue it."""
    return np.flatnonzero(requested & (progress.status == READY) & (progress.minibatch > 0))


def enter_epochs(
    progress: Progress, requested: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int
) -> None:
    """Restart the epochs that were begun with other data, batch size or order of rows.

    Keys are 0 while members train: an epoch that ends by an unexpected error restarts, too.
    """
    members = _within_epoch(progress, requested)
    if len(members):
        restarted = members[progress.cursor_key[members] != keys.of(members, shuffle, batch_size)]
        progress.minibatch[restarted], progress.loss_sum[restarted] = 0, 0.0
    progress.cursor_key[requested] = 0


def leave_epochs(
    progress: Progress, requested: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int
) -> None:
    """Store the keys of the epochs that were cut short."""
    members = _within_epoch(progress, requested)
    if len(members):
        progress.cursor_key[members] = keys.of(members, shuffle, batch_size)
