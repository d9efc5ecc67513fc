"""A round of epochs: its pieces, and within a piece the members that all threads train together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, Backend, Control
from pmlp_np.backends.epoch_end import train_epoch
from pmlp_np.backends.numba import threads, views
from pmlp_np.backends.numba.job import BY_GROWING_SCORE, BY_LOSS, BY_SCORE, TRAIN, job_fields_of
from pmlp_np.backends.numba.task_runner import TaskRunner, is_small
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.placed import Placed
from pmlp_np.state.progress import READY
from pmlp_np.state.training_state import TrainingState


@dataclass
class TrainingRound:
    """A call of `Backend.train`: the arguments that all pieces of the round share."""

    backend: Backend
    runner: TaskRunner
    state: TrainingState
    rule: EpochRule | None
    record: EpochRecord
    control: Control

    def train(self, members: np.ndarray, placed: views.PlacedInMemory, epochs: int) -> None:
        """Train these members up to `epochs` epochs each, piece by piece (see `views`)."""
        state, start = self.state, self.record.start
        n_threads = threads.slots_of(self.control)
        fields = self._fields(members, placed, n_threads)
        try:
            for part, piece_epochs, data_views in views.pieces_of_round(
                placed, members, start, epochs, state.shuffle, n_threads
            ):
                limit = np.minimum(state.target, start + piece_epochs)
                if not self._train_piece(part, data_views, limit, fields):
                    return
        finally:
            # Also after an exception: averages that were read during the training are out of date.
            self.backend.store.changed()

    def _fields(self, members: np.ndarray, placed: Placed, n_threads: int) -> dict[str, Any]:
        state, record = self.state, self.record
        fields: dict[str, Any] = {"batch_size": state.batch_size, "shuffle": state.shuffle}
        fields |= job_fields_of(vars(state.progress)) | job_fields_of(vars(record))
        fields |= {"round_start": record.start, "record_stride": self.backend.plan.n_members}
        if state.shuffle == MEMBER_ORDER:
            most = int(placed.counts[members].max(initial=0))
            fields["orders"], fields["most_rows"] = np.empty(min(n_threads, len(members)) * most, np.int64), most
        return fields | ({} if self.rule is None else self._rule_fields(self.rule, members))

    def _rule_fields(self, rule: EpochRule, members: np.ndarray) -> dict[str, Any]:
        """Return the fields of the rule that is applied after each epoch."""
        store = self.backend.store
        if rule.early_stopping and store.best is None:
            store.keep(members[:0])
        option = self.backend.plan.specs.option
        reduces = option("plateau_patience")[members].any()
        names = ("plateau_patience", "plateau_factor") if reduces else ()
        return {name: np.ascontiguousarray(option(name)) for name in names} | {
            "has_rule": 1, "early_stopping": int(rule.early_stopping), "patience": rule.patience,
            "min_delta": np.array([rule.min_delta], np.float64), "best": store.best,
            "by_score": BY_LOSS if not rule.by_score else BY_GROWING_SCORE if rule.score_grows else BY_SCORE,
        }  # fmt: skip

    def _train_piece(
        self, members: np.ndarray, data_views: views.DataViews, limit: np.ndarray, fields: dict[str, Any]
    ) -> bool:
        """Train these members up to their limits, (n_members,) int64. Returns whether `control` lets the round go on.

        The largest members are trained first, each by all threads together (see `threads.n_trained_together`), and all
        of them epoch by epoch. The others then train from a queue, each on one thread.
        """
        state, rule, control, runner = self.state, self.rule, self.control, self.runner
        by_size = members[runner.largest_first(members)]
        weight = self.backend.store.layout.block_size[by_size]
        n_threads = 1 if is_small(weight * data_views.counts(by_size)) else threads.slots_of(control)
        n_together = threads.n_trained_together(weight, n_threads)
        goes_on, large = True, by_size[:n_together]
        while goes_on and len(large):
            step = np.minimum(limit, state.progress.epoch + 1)

            def train(part: np.ndarray = large, step: np.ndarray = step) -> None:
                nonlocal goes_on
                one_epoch = fields | {"limit": step, "has_rule": 0}
                goes_on = runner.run(TRAIN, part, control, data_views, together=True, **one_epoch)

            train_epoch(train, self.backend, large, state, rule, self.record, control.n_threads)
            large = large[(state.progress.epoch < limit)[large] & (state.progress.status[large] == READY)]
        if not goes_on:
            return False
        rest = members if not n_together else by_size[n_together:]
        validation = None if rule is None else rule.validation
        return runner.run(TRAIN, rest, control, data_views, validation=validation, limit=limit, **fields)
