"""Training: epochs, validation, early stopping, callbacks, budgets and interrupts. It knows no backend, only the
contract.

Each member trains for the given number of epochs from where it stands. An epoch of all members that are still in is one
call of the backend; after it, members are validated, compared with their best, and leave when they have stopped or
diverged. A budget or Ctrl-C ends that call between minibatches: each member's cursor says where, and the next call goes
on from there (see `cursor`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np

from pmlp_np.backends.contract import SHUFFLES, Backend, Control
from pmlp_np.base import interrupts
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.schedules import needs_fit_epochs
from pmlp_np.state.progress import DIVERGED, READY, STOPPED, STOPPED_EARLY, Progress
from pmlp_np.training.callbacks import call_back
from pmlp_np.training.cursor import enter_epochs, leave_epochs
from pmlp_np.training.data_keys import DataKeys
from pmlp_np.training.history import History
from pmlp_np.training.monitoring import Watch, measure_again
from pmlp_np.training.progress_bar import ProgressBar
from pmlp_np.training.settings import Settings


def train(
    backend: Backend,
    progress: Progress,
    records: History,
    watch: Watch,
    batch_size: np.ndarray,
    data: Dataset,
    validation: Dataset | None,
    settings: Settings,
    ids: np.ndarray,
    asked: np.ndarray,
    keeps_best: bool,
) -> str:
    """Train those of the members `asked` (a mask) that are READY for `settings.epochs` epochs more. Returns "done",
    "stopped", "time budget" or "interrupted".

    keeps_best: whether the backend keeps best weights. They are the last of members without a best epoch when this
    returns or raises, and whenever callbacks are called.
    """
    began = time.monotonic()
    keys, first_step = DataKeys(backend.plan, data), progress.step.copy()
    begun_with = keys, batch_size, SHUFFLES[settings.shuffle]

    def settle(members: np.ndarray) -> None:
        """Have these members predict with what they learned last, where no validation says what is better. Who has
        diverged since it was settled last keeps its best."""
        if validation is None:
            lost = (progress.status[members] == DIVERGED) & (records.best_epoch[members] >= 0)
            changed = members[(progress.step[members] != first_step[members]) & ~lost]
            records.drop(changed, progress.epoch[changed])
        if keeps_best:
            backend.store.keep(members[records.best_epoch[members] < 0])

    enter_epochs(progress, asked, *begun_with)
    try:
        return _train(
            backend, progress, records, watch, batch_size, data, validation, settings, ids, asked, began, settle
        )
    finally:
        settle(np.arange(len(ids)))
        leave_epochs(progress, asked, *begun_with)


def _train(
    backend: Backend,
    progress: Progress,
    records: History,
    watch: Watch,
    batch_size: np.ndarray,
    data: Dataset,
    validation: Dataset | None,
    settings: Settings,
    ids: np.ndarray,
    asked: np.ndarray,
    began: float,
    settle: Callable[[np.ndarray], None],
) -> str:
    # Who is not asked is where it should be.
    target = np.where(asked, progress.epoch + settings.epochs, progress.epoch)
    _fix_schedules(backend, progress, asked, settings.epochs)
    names = ["loss"] + (watch.curves if validation is not None else [])
    shown = "loss" if validation is None else watch.shown
    records.make_room(names, int(target[progress.status == READY].max(initial=0)))
    counts = data.counts(len(batch_size))
    batches = -(-counts // batch_size)
    parameters = backend.plan.parameter_counts()
    deadline = None if settings.time_budget is None else began + settings.time_budget

    def work_left() -> float:
        """Multiply-adds, roughly, up to the target of every member that is still in."""
        epochs = np.maximum(target - progress.epoch, 0) - progress.minibatch / batches
        return float((epochs * parameters * counts)[asked & (progress.status == READY)].sum())

    left, finished, rounds, stopped = work_left(), 0.0, 0, False
    with contextlib.closing(ProgressBar(settings.progress)) as bar:
        this_epoch, note = 0.0, ""

        def over() -> bool:
            return interrupts.pressed() or (deadline is not None and time.monotonic() >= deadline)

        def tick(share: float) -> bool:
            bar.show((finished + share * this_epoch) / max(finished + left, 1.0), note)
            return over()

        def heard(share: float) -> bool:
            # What is done counts, also where Ctrl-C came meanwhile.
            if share < 1.0:
                interrupts.heed()
            return False

        control = Control(tick, settings.n_threads)
        # Not cut short by a budget. By Ctrl-C it is, as if never begun: the epoch is validated when training goes on,
        # so that where training is interrupted changes nothing, neither curves, nor who stops early.
        whole = Control(heard, settings.n_threads)
        if validation is not None:
            records.follow(watch.monitor)
            validation_keys = DataKeys(backend.plan, validation).of(np.arange(len(ids)))
            # Members whose last epoch is still to be validated come below.
            standing = (progress.step > 0) & (progress.status != DIVERGED) & (records.due == 0)
            # An epoch that is cut short leaves weights that no epoch ends with: they are no best ones.
            to_keep = settings.early_stopping & asked & (progress.status == READY) & (progress.minibatch == 0)
            with contextlib.suppress(interrupts.Abandoned), interrupts.abandoning():
                measure_again(
                    records, watch, backend, validation, validation_keys, standing, to_keep, progress.epoch, whole
                )
        while not (stopped or over()):
            interrupts.heed()
            members = np.flatnonzero((progress.status == READY) & (progress.epoch < target))
            if not len(members):
                break
            epoch = progress.epoch[members].copy()
            epoch_loss = np.full(records.n_members, np.nan)
            due = members[(records.due[members] != 0) & (epoch > 0)]
            if len(due):
                members, epoch, this_epoch = due, progress.epoch[due] - 1, 0.0
                epoch_loss[due] = records.curves["loss"][due, epoch]
            else:
                this_epoch = float((parameters * counts * (1 - progress.minibatch / batches))[members].sum())
                try:
                    with interrupts.abandoning():
                        backend.train_epoch(
                            members, progress, data, batch_size, SHUFFLES[settings.shuffle], epoch_loss, control
                        )
                except interrupts.Abandoned:
                    pass
                finally:
                    # Wherever Ctrl-C ended it, some may have finished their epoch.
                    records.enter("loss", members, epoch, epoch_loss[members])
            done = progress.epoch[members] > epoch
            healthy = done & (progress.status[members] != DIVERGED)
            watched = epoch_loss[members[healthy]]
            records.due[members[healthy]] = 1
            if validation is not None:
                try:
                    with interrupts.abandoning():
                        watched = _validate(
                            backend, progress, records, watch, members[healthy], epoch[healthy], validation,
                            validation_keys, settings, whole,
                        )  # fmt: skip
                except interrupts.Abandoned:
                    break
            _reduce_rates(backend, progress, members[healthy], watched)
            records.due[members[healthy]] = 0
            # Not after an epoch that was cut short: it is told of when it is finished.
            if settings.callbacks and not (~done & (progress.status[members] == READY)).any():
                rounds += 1
                settle(members)
                still_in = members[progress.status[members] == READY]
                with interrupts.released():
                    leaving, stopped = call_back(
                        settings.callbacks, records, ids, still_in, progress.epoch[still_in], rounds,
                        time.monotonic() - began,
                    )  # fmt: skip
                progress.status[leaving & (progress.status != DIVERGED)] = STOPPED
            finished, left = finished + this_epoch, work_left()
            note = _note(progress, records, target, shown) if bar.wanted else ""
            bar.show(finished / max(finished + left, 1.0), note)
        if interrupts.pressed():
            return "interrupted"
        if stopped:
            return "stopped"
        return "time budget" if work_left() else "done"


def _validate(
    backend: Backend,
    progress: Progress,
    records: History,
    watch: Watch,
    members: np.ndarray,
    epoch: np.ndarray,
    validation: Dataset,
    keys: np.ndarray,
    settings: Settings,
    control: Control,
) -> np.ndarray:
    """Validate members after an epoch; keep the best weights of those that have a best epoch, with early stopping of
    all, and then retire who has not improved. Returns their losses."""
    values = watch.measure(backend, members, validation, "last", control)
    for curve, found in watch.by_curve(values).items():
        records.enter(curve, members, epoch, found)
    found = watch.oriented(values)
    tracked = settings.early_stopping | (records.best_epoch[members] >= 0)
    better = tracked & (found < records.best_value[members] - settings.min_delta)
    if better.any():
        backend.store.keep(members[better])
        records.keep(members[better], found[better], epoch[better])
    # The others show what they were measured at when they were at their best.
    latest = better | (records.best_epoch[members] < 0)
    at_latest = {curve: each[latest] for curve, each in watch.by_curve(values).items()}
    records.show(members[latest], at_latest, keys[members[latest]])
    if settings.early_stopping:
        # Counted from the first validated epoch where no value was ever a number.
        waited = epoch - np.maximum(records.waits_from[members], 0)
        progress.status[members[~better & (waited >= settings.patience)]] = STOPPED_EARLY
    return values["loss"]


def _fix_schedules(backend: Backend, progress: Progress, asked: np.ndarray, epochs: int) -> None:
    """Note the epochs of their first fit for those whose schedule goes by them."""
    by_fit = needs_fit_epochs(backend.plan.specs.option("schedule"), backend.plan.specs.option("schedule_epochs"))
    progress.fit_epochs[asked & by_fit & (progress.fit_epochs == 0)] = epochs


def _reduce_rates(backend: Backend, progress: Progress, members: np.ndarray, losses: np.ndarray) -> None:
    """Multiply the learning rates of those whose loss after an epoch has not fallen for long by their
    plateau_factor."""
    specs = backend.plan.specs
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


def _note(progress: Progress, records: History, target: np.ndarray, curve: str) -> str:
    latest = int(progress.epoch.max())
    values = records.curves[curve][:, max(latest - 1, 0)]
    active = int(((progress.status == READY) & (progress.epoch < target)).sum())
    text = f"epoch {latest}/{int(target.max())}, {active:,} members"
    if np.isfinite(values).any():
        # Scores may grow or shrink; the range is true of both.
        low, high = np.nanmin(values), np.nanmax(values)
        text += f", {curve.replace('_', ' ')} {low:.3g} to {high:.3g}"
    return text
