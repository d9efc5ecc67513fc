"""The end of an epoch on any backend: validation and the epoch rule, where no callback is called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule, after_epoch
from pmlp_np.state.progress import DIVERGED
from pmlp_np.state.training_state import TrainingState


def train_epoch(
    train: Callable[[], None],
    backend: Backend,
    members: np.ndarray,
    state: TrainingState,
    rule: EpochRule | None,
    record: EpochRecord,
    n_threads: int | None,
) -> None:
    """Train members for one epoch by `train`; then validate them and apply the rule.

    train: may stop before the end of the epoch. Members that did not finish the epoch, or diverged, are left out.
    """
    progress = state.progress
    epoch, done = progress.epoch[members], members[:0]
    try:
        train()
    finally:
        # After Ctrl-C, members that finished the epoch still have to be validated.
        done = members[(progress.epoch[members] > epoch) & (progress.status[members] != DIVERGED)]
        record.due[done] = rule is not None
        if rule is not None and rule.validation is None:
            _end_epoch(backend, done, state, rule, record, n_threads)
    if rule is not None and rule.validation is not None:
        _end_epoch(backend, done, state, rule, record, n_threads)


def _end_epoch(
    backend: Backend,
    members: np.ndarray,
    state: TrainingState,
    rule: EpochRule,
    record: EpochRecord,
    n_threads: int | None,
) -> None:
    """Validate members that have finished an epoch, and apply the rule."""
    epoch = state.progress.epoch[members] - 1
    line = epoch - record.start[members]
    losses, decides = record.loss[line, members], None
    if rule.validation is not None and len(members):
        losses, score = backend.evaluate(members, rule.validation, "last", Control(n_threads=n_threads))
        record.validation_loss[line, members], record.validation_score[line, members] = losses, score
        decides = rule.oriented(losses, score)
    after_epoch(
        rule, backend.plan.specs, state.progress, record, members, epoch, losses, decides, backend.store.keep
    )  # fmt: skip
