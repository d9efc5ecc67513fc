"""Training: epochs, validation, early stopping, callbacks, budgets and interrupts, on any backend.

Each member trains up to its target from where it stands. A round is one call of the backend, which trains some epochs
of all members that are still in, validates them after each, keeps their best and retires who has not improved (see
`epoch_rule`). Where callbacks are to be called after each epoch, or metrics need Python, a round is one epoch, and what
follows it is done here. A budget or Ctrl-C ends a round between minibatches: each member's cursor says where, and the
next call goes on from there (see `cursor`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.base import interrupts
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.schedules import needs_fit_epochs
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule, after_epoch
from pmlp_np.state.placed import Placed
from pmlp_np.state.progress import DIVERGED, READY, STOPPED
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import call_back
from pmlp_np.training.cursor import enter_epochs, leave_epochs, note_begun_with, require_begun_with
from pmlp_np.training.data_keys import DataKeys
from pmlp_np.training.history import History
from pmlp_np.training.monitoring import Watch, measure_again
from pmlp_np.training.progress_bar import ProgressBar
from pmlp_np.training.rounds import RoundLength
from pmlp_np.training.settings import Settings

# Changes the key of validation data on which averaged weights are measured: last weights are then measured anew.
_OF_AVERAGES = np.uint64(0x9E3779B97F4A7C15)


class Saver(Protocol):
    """Stores a run now and then, from which it can go on."""

    def due(self) -> bool:
        """Return whether it is time to."""

    def write(self, state: TrainingState, last: bool = False) -> None:
        """Store the run. last: whether training has ended."""


def train(
    backend: Backend,
    state: TrainingState,
    records: History,
    watch: Watch,
    data: Dataset,
    validation: Dataset | None,
    settings: Settings,
    ids: np.ndarray,
    keeps_best: bool,
    pause: Callable[[], bool] | None = None,
    saver: Saver | None = None,
) -> str:
    """Train the members of the state that are READY up to their targets.

    Returns "done", "stopped", "time budget", "interrupted" or "paused".

    keeps_best: whether the backend keeps best weights. They are the last of members without a best epoch when this
        returns or raises, and whenever callbacks are called.
    pause: asked now and then whether to pause. A run that has paused, ended or was interrupted goes on when this is
        called again with its state; that it was paused changes nothing.
    saver: stores the run at the start, when it is due, and at an end after which something is left to do. Default None.

    Raises DataError where a run that has paused is to go on with other data or validation data, or with batches that
    are larger than a member's rows.
    """
    return _Run(backend, state, records, watch, data, validation, settings, ids, keeps_best, pause, saver).run()


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        backend: Backend,
        state: TrainingState,
        records: History,
        watch: Watch,
        data: Dataset,
        validation: Dataset | None,
        settings: Settings,
        ids: np.ndarray,
        keeps_best: bool,
        pause: Callable[[], bool] | None,
        saver: Saver | None,
    ) -> None:
        self.began = time.monotonic()
        self.backend, self.state, self.progress = backend, state, state.progress
        self.records, self.watch, self.settings = records, watch, settings
        self.ids, self.keeps_best, self.pause, self.saver = ids, keeps_best, pause, saver
        self.placed: Placed = backend.place(data)
        self.validation: Placed | None = None if validation is None else backend.place(validation)
        self.keys = DataKeys(backend.plan, data)
        self.spent = state.seconds
        budget = settings.time_budget
        self.deadline = None if budget is None else self.began + budget - state.seconds
        # Cut short by Ctrl-C alone, as if never begun: the epoch is validated when training goes on, so that where
        # training is interrupted changes nothing, neither curves, nor who stops early.
        self.whole = Control(_heard, settings.n_threads)
        self.rule = self._rule()
        self.parameters = backend.plan.parameter_counts()
        self.batches = -(-self.placed.counts // state.batch_size)
        self.finished, self.this_round, self.shown, self.note, self.paused = 0.0, 0.0, 0.0, "", False

    def _rule(self) -> EpochRule | None:
        """Return the rule that the backend applies after each epoch; None: it is applied here."""
        settings = self.settings
        # Compiled code validates the weights that it trains.
        if settings.callbacks or settings.validated_weights != "last":
            return None
        if self.validation is None:
            return EpochRule()
        return self.watch.rule(self.validation, settings.early_stopping, settings.patience, settings.min_delta)

    def run(self) -> str:
        require_begun_with(self.state, self.ids, self.placed.counts, *self._about())
        self._enter_epochs()
        ended = ""
        try:
            ended = self._train()
            return ended
        finally:
            self._leave_epochs(for_good=ended != "paused")

    def _about(self) -> tuple[DataKeys, Dataset | None]:
        """Return what a run that has paused may go on with."""
        return self.keys, None if self.validation is None else self.validation.data

    def _enter_epochs(self) -> None:
        state = self.state
        enter_epochs(self.progress, state.asked, self.keys, state.batch_size, state.shuffle, self.batches)

    def _leave_epochs(self, for_good: bool) -> None:
        """Leave what others may read or go on with. for_good: not at a pause."""
        state = self.state
        self._settle(np.arange(len(self.ids)), for_good)
        leave_epochs(self.progress, state.asked, self.keys, state.batch_size, state.shuffle)
        if not for_good:
            note_begun_with(state, *self._about())
        state.seconds = self.spent + time.monotonic() - self.began

    def _save(self, last: bool = False) -> None:
        """Store the run as at a pause."""
        if self.saver is not None:
            self._leave_epochs(for_good=False)
            self.saver.write(self.state, last)
            self._enter_epochs()

    def _settle(self, members: np.ndarray, for_good: bool = True) -> None:
        unvalidated = self.validation is None and for_good
        settle(self.backend, self.state, self.records, members, self.keeps_best, unvalidated)

    # When to stop.

    def _over(self) -> bool:
        """Whether to stop between two minibatches, be it to go on later."""
        if interrupts.pressed() or (self.deadline is not None and time.monotonic() >= self.deadline):
            return True
        self.paused = self.paused or (self.pause is not None and self.pause())
        return self.paused

    def _save_is_due(self) -> bool:
        return self.saver is not None and self.saver.due()

    def _tick(self, share: float) -> bool:
        self._show(share)
        return self._over() or self._save_is_due()

    def _show(self, share: float) -> None:
        done = self.finished + share * self.this_round
        # A round may end after fewer epochs than were asked for: what is shown never goes back.
        self.shown = max(self.shown, done / max(self.finished + self.left, 1.0))
        self.bar.show(self.shown, self.note)

    def _work_left(self) -> float:
        """Multiply-adds, roughly, up to the target of every member that is still in."""
        progress, state = self.progress, self.state
        epochs = np.maximum(state.target - progress.epoch, 0) - progress.minibatch / self.batches
        return float((epochs * self.parameters * self.placed.counts)[state.asked & (progress.status == READY)].sum())

    def _train(self) -> str:
        state, stopped = self.state, False
        _fix_schedules(self.backend, state)
        names = ["loss"] + ([] if self.validation is None else self.watch.curves)
        self.records.make_room(names, int(state.target[self.progress.status == READY].max(initial=0)))
        self.left, self.length = self._work_left(), RoundLength(len(self.ids), self.deadline is not None)
        with contextlib.closing(ProgressBar(self.settings.progress)) as self.bar:
            if self.validation is not None:
                self._measure_again(self.validation)
            self._save()
            while not (stopped or self._over()):
                interrupts.raise_if_pressed()
                members = state.in_training()
                if not len(members) and not len(self._due()):
                    break
                try:
                    stopped = self._round(members)
                except interrupts.Abandoned:
                    break
                before, self.left = self.left, self._work_left()
                self.finished += min(self.this_round, before - self.left)
                self.note = self._note() if self.bar.wanted else ""
                self._show(0.0)
                if not stopped and self._save_is_due():
                    self._save()
            ended = self._ended(stopped)
            if ended in ("interrupted", "time budget"):
                self._save(last=True)
            return ended

    def _ended(self, stopped: bool) -> str:
        if interrupts.pressed():
            return "interrupted"
        if stopped:
            return "stopped"
        if self.paused:
            return "paused"
        return "time budget" if self._work_left() else "done"

    def _measure_again(self, validation: Placed) -> None:
        progress, records = self.progress, self.records
        records.follow(self.watch.monitor)
        keys = self.keys.like(validation.data).of(np.arange(len(self.ids)))
        state, weights = self.state, self.settings.validated_weights
        averages = (weights == "average") & (self.backend.plan.specs.option("average") > 0.0)
        # Members that rest predict with their last weights, or with best ones.
        averages &= state.asked | (records.best_epoch >= 0)
        self.validated_on = np.where(averages, keys ^ _OF_AVERAGES, keys)
        state.measured &= state.validation_key == keys
        pending = ~state.measured
        if not pending.any():
            return
        # Members whose last epoch is still to be validated come below.
        standing = (progress.step > 0) & (progress.status != DIVERGED) & (records.due == 0)
        # An epoch that is cut short leaves weights that no epoch ends with: they are no best ones.
        to_keep = self.settings.early_stopping & state.asked & (progress.status == READY)
        to_keep &= progress.minibatch == 0
        with contextlib.suppress(interrupts.Abandoned), interrupts.abandoning():
            measure_again(
                records, self.watch, self.backend, validation, self.validated_on, pending, standing, to_keep,
                progress.epoch, weights, self.whole,
            )  # fmt: skip
            state.measured[:], state.validation_key[:] = True, keys

    # Rounds.

    def _due(self) -> np.ndarray:
        """Positions of the members whose last epoch is still to be validated."""
        progress, due = self.progress, self.records.due != 0
        return np.flatnonzero(self.state.asked & (progress.status == READY) & due & (progress.epoch > 0))

    def _round(self, members: np.ndarray) -> bool:
        """Train these members for some epochs, or validate the members whose last epoch is due.

        Returns whether a callback ends training.
        """
        progress, records, state = self.progress, self.records, self.state
        due = self._due()
        if len(due):
            self.this_round = 0.0
            epoch = progress.epoch[due] - 1
            self._end_epoch(due, epoch, records.curves["loss"][due, epoch].astype(np.float64))
            # Callbacks hear at once of what an earlier run has left.
            return self._tell(due) if state.untold.any() else self._call_back(due)
        # Where a pause cut an epoch short that callbacks are told of, the others wait.
        members = members[~state.untold[members]]
        if not len(members):
            return self._tell(members)
        epoch = progress.epoch[members]
        left = int((state.target[members] - epoch).max())
        epochs = 1 if self.rule is None else min(self.length.epochs, left)
        record = records.record(epochs, progress.epoch, self.rule is not None and self.validation is not None)
        self._train_round(members, record, epochs)
        done = progress.epoch[members] > epoch
        if self.settings.callbacks:
            state.untold[members[done]] = True
        if self.rule is None:
            some = members[done & (progress.status[members] != DIVERGED)]
            records.due[some] = 1
            self._end_epoch(some, progress.epoch[some] - 1, record.loss[0, some])
        return self._tell(members)

    def _tell(self, members: np.ndarray) -> bool:
        """Call callbacks for an epoch, once all members in training have finished it.

        members: the members that trained in this round. Returns whether training ends.
        """
        state = self.state
        if not self.settings.callbacks:
            return False
        training = state.in_training()
        if not state.untold[training].all():
            return False
        told = np.union1d(np.flatnonzero(state.untold), members)
        state.untold[:] = False
        return self._call_back(told)

    def _train_round(self, members: np.ndarray, record: EpochRecord, epochs: int) -> None:
        state, progress = self.state, self.progress
        begun = progress.epoch[members]
        each = np.minimum(state.target[members] - begun, epochs) - progress.minibatch[members] / self.batches[members]
        self.this_round = float((self.parameters * self.placed.counts)[members] @ each)
        self.length.begin()
        try:
            with contextlib.suppress(interrupts.Abandoned), interrupts.abandoning():
                control = Control(self._tick, self.settings.n_threads)
                self.backend.train(members, state, self.placed, self.rule, epochs, record, control)
        finally:
            # Wherever Ctrl-C ended it, some may have finished their epoch.
            self._enter(members, record)
        self.length.end(int((progress.epoch[members] - begun).max()))

    def _enter(self, members: np.ndarray, record: EpochRecord) -> None:
        """Enter into the history what a round found out."""
        records, progress = self.records, self.progress
        records.enter_lines("loss", members, record.start, record.loss)
        if self.rule is None or self.validation is None:
            return
        # Members that finish an epoch and have diverged then are not validated.
        unusable = (progress.status[members] == DIVERGED) & (progress.minibatch[members] == 0)
        epochs = progress.epoch[members] - record.start[members]
        validated = epochs - (unusable & (epochs > 0)) - (records.due[members] != 0)
        curves = self._curves(members, record, validated)
        for curve, lines in curves.items():
            records.enter_lines(curve, members, record.start, lines)
        # Members with a best epoch show what they were measured at when they were at their best.
        best = records.best_epoch[members]
        line = np.where(best < 0, validated - 1, best - record.start[members])
        some, line = members[(validated > 0) & (line >= 0)], line[(validated > 0) & (line >= 0)]
        shown = {curve: lines[line, some] for curve, lines in curves.items()}
        records.show(some, shown, self.validated_on[some])

    def _curves(self, members: np.ndarray, record: EpochRecord, validated: np.ndarray) -> dict[str, np.ndarray]:
        """By validation curve its values in a round, (epochs, n_members), NaN where nothing is known.

        validated: (len(members),), how many epochs of each member have been validated.
        """
        found = [np.full_like(record.loss, np.nan) for _ in self.watch.curves]
        for k in range(int(validated.max(initial=0))):
            some = members[validated > k]
            means = record.validation_loss[k, some], record.validation_score[k, some]
            assert self.validation is not None
            values = self.watch.complete(means, self.backend, some, self.validation, "last", self.whole)
            for lines, line in zip(found, values.values(), strict=True):
                lines[k, some] = line
        return dict(zip(self.watch.curves, found, strict=True))

    def _show_latest(self, members: np.ndarray, epoch: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Show what members were validated at after an epoch; those that were better before show that."""
        records = self.records
        latest = (records.best_epoch[members] < 0) | (records.best_epoch[members] == epoch)
        at_latest = {curve: found[latest] for curve, found in values.items()}
        records.show(members[latest], at_latest, self.validated_on[members[latest]])

    def _end_epoch(self, members: np.ndarray, epoch: np.ndarray, losses: np.ndarray) -> None:
        """Validate members after an epoch, enter what is found, and do what follows from it."""
        values: dict[str, np.ndarray] = {}
        settings, decides, weights = self.settings, None, self.settings.validated_weights
        if self.validation is not None:
            with interrupts.abandoning():
                values = self.watch.measure(self.backend, members, self.validation, weights, self.whole)
            losses, decides = values["loss"], self.watch.oriented(values)
        rule = EpochRule(self.validation, settings.early_stopping, settings.patience, settings.min_delta)
        record = self.records.record(0, self.progress.epoch, False)
        for curve, found in self.watch.by_curve(values).items() if values else ():
            self.records.enter(curve, members, epoch, found)
        after_epoch(
            rule, self.backend.plan.specs, self.progress, record, members, epoch, losses, decides,
            lambda better: self.backend.store.keep(better, weights),
        )  # fmt: skip
        if values:
            self._show_latest(members, epoch, self.watch.by_curve(values))

    def _call_back(self, members: np.ndarray) -> bool:
        """Tell callbacks, if there are any, of an epoch of these members. Returns whether training is to end."""
        if not self.settings.callbacks:
            return False
        progress, state = self.progress, self.state
        state.rounds += 1
        self._settle(members)
        still_in = members[progress.status[members] == READY]
        with interrupts.released():
            leaving, stopped = call_back(
                self.settings.callbacks, self.records, self.ids, still_in, progress.epoch[still_in], state.rounds,
                self.spent + time.monotonic() - self.began,
            )  # fmt: skip
        progress.status[leaving & (progress.status != DIVERGED)] = STOPPED
        return stopped

    def _note(self) -> str:
        progress, target = self.progress, self.state.target
        curve = "loss" if self.validation is None else self.watch.shown
        latest = int(progress.epoch.max())
        values = self.records.curves[curve][:, max(latest - 1, 0)]
        active = int(((progress.status == READY) & (progress.epoch < target)).sum())
        text = f"epoch {latest}/{int(target.max())}, {active:,} members"
        if np.isfinite(values).any():
            # Scores may grow or shrink; the range is true of both.
            low, high = np.nanmin(values), np.nanmax(values)
            text += f", {curve.replace('_', ' ')} {low:.3g} to {high:.3g}"
        return text


def settle(
    backend: Backend, state: TrainingState, records: History, members: np.ndarray, keeps_best: bool, unvalidated: bool
) -> None:
    """Leave what these members predict with: members without a best epoch predict with their last weights.

    unvalidated: whether training has ended that had no validation data. Then members that it has changed have no best
        epoch any more, apart from those that have diverged in it.
    """
    progress = state.progress
    if unvalidated:
        lost = (progress.status[members] == DIVERGED) & (records.best_epoch[members] >= 0)
        changed = members[(progress.step[members] != state.first_step[members]) & ~lost]
        records.drop(changed, progress.epoch[changed])
    if keeps_best:
        backend.store.keep(members[records.best_epoch[members] < 0])


def _heard(share: float) -> bool:
    # What is done counts, also where Ctrl-C came meanwhile.
    if share < 1.0:
        interrupts.raise_if_pressed()
    return False


def _fix_schedules(backend: Backend, state: TrainingState) -> None:
    """Note the planned epochs of their first fit for those whose schedule goes by them."""
    specs, progress = backend.plan.specs, state.progress
    by_fit = needs_fit_epochs(specs.option("schedule"), specs.option("schedule_epochs"))
    first = state.asked & by_fit & (progress.fit_epochs == 0)
    progress.fit_epochs[first] = state.planned[first]
