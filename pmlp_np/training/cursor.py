"""The cursor: how far a member is in an epoch that a budget or an interrupt cut short, and whether to go on from there.

`Progress.minibatch` means something only with the batch size, the order of rows and the data that the epoch was begun
with. Their key stands beside it (`Progress.cursor_key`). Where a call comes with others, the epoch begins anew: none is
half of one and half of another.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.state.progress import READY, Progress
from pmlp_np.training.data_keys import DataKeys


def _under_way(progress: Progress, asked: np.ndarray) -> np.ndarray:
    """Positions of the members among those asked (a mask) that are within an epoch and may go on."""
    return np.flatnonzero(asked & (progress.status == READY) & (progress.minibatch > 0))


def enter_epochs(progress: Progress, asked: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int) -> None:
    """Have epochs that were begun with something else begin anew.

    No key stands while members train: an epoch that ends by an error nobody foresaw begins anew, too.
    """
    members = _under_way(progress, asked)
    if len(members):
        anew = members[progress.cursor_key[members] != keys.of(members, shuffle, batch_size)]
        progress.minibatch[anew], progress.loss_sum[anew] = 0, 0.0
    progress.cursor_key[asked] = 0


def leave_epochs(progress: Progress, asked: np.ndarray, keys: DataKeys, batch_size: np.ndarray, shuffle: int) -> None:
    """Note what epochs that are cut short were begun with."""
    members = _under_way(progress, asked)
    if len(members):
        progress.cursor_key[members] = keys.of(members, shuffle, batch_size)
