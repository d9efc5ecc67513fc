"""The epoch rule, applied after each epoch of a member: best weights, early stopping, reduced learning rates.

This is the definition. Compiled code does the same, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pmlp_np.specs.members import Specs
from pmlp_np.state.placed import Placed
from pmlp_np.state.progress import STOPPED_EARLY, Progress


@dataclass(frozen=True)
class EpochRule:
    """The settings of validation and early stopping.

    validation: data on which loss and score are computed after each epoch of a member; None: without validation.
    early_stopping: whether the best weights of all members are stored, and a member stops after `patience` epochs
        without a value that is better than its best by more than `min_delta`. Best weights that a member has already
        are updated in any case.
    by_score: whether epochs are compared by the score instead of the loss. score_grows: whether larger scores are
        better.
    """

    validation: Placed | None = None
    early_stopping: bool = False
    patience: int = 1
    min_delta: float = 0.0
    by_score: bool = False
    score_grows: bool = False

    def oriented(self, loss: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return the values by which epochs are compared: smaller is better, NaN where the loss is NaN."""
        if not self.by_score:
            return loss
        return np.where(np.isnan(loss), np.nan, -score if self.score_grows else score)


def _no_values() -> np.ndarray:
    return np.empty((0, 0))


@dataclass
class EpochRecord:
    """The results of a call of `Backend.train`, epoch by epoch, and each member's best epoch.

    start: (n_members,) int64, the epoch of each member at the start of the call.
    loss: (epochs, n_members) float64; line k receives the mean minibatch loss of epoch start + k of the members that
        finished it or diverged in it.
    validation_loss, validation_score: likewise, of validation data.
    best_value, best_epoch, waits_from, due: (n_members,), columns of the history; see `training.history`.
    """

    start: np.ndarray
    loss: np.ndarray
    best_value: np.ndarray
    best_epoch: np.ndarray
    waits_from: np.ndarray
    due: np.ndarray
    validation_loss: np.ndarray = field(default_factory=_no_values)
    validation_score: np.ndarray = field(default_factory=_no_values)


def after_epoch(
    rule: EpochRule,
    specs: Specs,
    progress: Progress,
    record: EpochRecord,
    members: np.ndarray,
    epoch: np.ndarray,
    losses: np.ndarray,
    decides: np.ndarray | None,
    keep_best: Callable[[np.ndarray], None],
) -> None:
    """Apply the rule to members that have finished, and validated, an epoch.

    epoch: (len(members),) int64, the finished epoch, from 0. losses: (len(members),) float64, of the validation data if
        there are any, else of the epoch. decides: (len(members),) float64, the values of `EpochRule.oriented`; None
        without validation. keep_best: copies the parameters of members to their best parameters.
    """
    if decides is not None:
        tracked = rule.early_stopping | (record.best_epoch[members] >= 0)
        better = tracked & (decides < record.best_value[members] - rule.min_delta)
        if better.any():
            at_best = members[better]
            keep_best(at_best)
            record.best_value[at_best] = decides[better]
            record.best_epoch[at_best] = record.waits_from[at_best] = epoch[better]
        if rule.early_stopping:
            # Without any value but NaN, patience counts from epoch 0.
            waited = epoch - np.maximum(record.waits_from[members], 0)
            progress.status[members[~better & (waited >= rule.patience)]] = STOPPED_EARLY
    _reduce_rates(specs, progress, members, losses)
    record.due[members] = 0


def _reduce_rates(specs: Specs, progress: Progress, members: np.ndarray, losses: np.ndarray) -> None:
    """Multiply learning rates by plateau_factor after plateau_patience epochs without a lower loss."""
    patience = specs.option("plateau_patience")[members]
    watched = patience > 0.0
    if not watched.any():
        return
    members, losses, patience = members[watched], losses[watched], patience[watched]
    better = losses < progress.plateau_loss[members]
    progress.plateau_loss[members[better]] = losses[better]
    progress.plateau_wait[members] = np.where(better, 0, progress.plateau_wait[members] + 1)
    stuck = members[progress.plateau_wait[members] >= patience]
    progress.rate_factor[stuck] *= specs.option("plateau_factor")[stuck]
    progress.plateau_wait[stuck] = 0
