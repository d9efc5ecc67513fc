"""The leaderboard: members from best to worst."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.base.table import Table
from pmlp_np.formulas.optimizers import OPTIMIZERS
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, STATUS_NAMES, Progress
from pmlp_np.training.history import History, ranker
from pmlp_np.training.monitoring import grows

_OWN_CURVES = ("loss", "validation_loss", "validation_score")


def leaderboard(plan: Plan, progress: Progress, records: History, ids: np.ndarray, kept_best: bool) -> Table:
    """The members ranked, as Pool.leaderboard describes it."""
    n = plan.n_members
    last = progress.epoch - 1
    has_best = kept_best & (records.best_epoch >= 0)
    best = np.where(has_best, records.best_epoch, last)
    # A diverged member's last figure stands at the epoch that it did not finish.
    latest = last + ((progress.minibatch > 0) & (progress.status == DIVERGED))
    loss = _at(records.curves.get("loss"), np.where(has_best, best, latest), n)
    figures = {name: column.astype(np.float64) for name, column in records.shown.items()}
    unknown = np.full(n, np.nan)
    validation = figures.get("validation_loss", unknown)
    ranks = ranker(records.monitor)
    score = figures.get(f"validation_{ranks}", unknown)
    keys = [-score if grows(ranks, plan.loss) else score, validation] if np.isfinite(score).any() else [loss]
    metrics = {name: figures.get(name, unknown) for name in records.curves if name not in _OWN_CURVES}
    # A diverged member is of use only where its best weights were kept.
    useless = (progress.status == DIVERGED) & ~(kept_best & (records.best_epoch >= 0))
    order = np.lexsort([np.where(np.isfinite(key) & ~useless, key, np.inf) for key in reversed(keys)])
    parameters = plan.parameter_counts()
    optimizers, metric = list(OPTIMIZERS), plan.loss.score_name if ranks == "score" else ranks
    rates = plan.specs.hyperparameter("learning_rate")
    # As they are now: training may go on before a record is read.
    epochs, minibatch, best_epoch = progress.epoch.copy(), progress.minibatch.copy(), records.best_epoch + 1
    status = np.where(progress.step == 0, -1, progress.status)
    described: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def record_of(place: int) -> dict[str, Any]:
        i = int(order[place])
        layers = slice(plan.specs.width_offsets[i], plan.specs.width_offsets[i + 1])
        columns = plan.specs.widths[layers], plan.specs.activations[layers], plan.specs.bias[i]
        key = tuple(column.tobytes() for column in columns)
        if key not in described:
            member = plan.specs[i]
            described[key] = plan.specs.describe(i), member.hidden, member.activation
        architecture, hidden, activation = described[key]
        record = {
            "rank": place + 1,
            "id": int(ids[i]),
            "architecture": architecture,
            "hidden": hidden,
            "activation": activation,
            "optimizer": optimizers[plan.specs.optimizer[i]],
            "learning_rate": float(rates[i]),
            "parameters": int(parameters[i]),
            "epochs": int(epochs[i]),
            "minibatch": int(minibatch[i]),
            "status": "untrained" if status[i] < 0 else STATUS_NAMES[status[i]],
            "loss": float(loss[i]),
            "validation_loss": float(validation[i]),
            "metric": metric,
            "validation_score": float(score[i]),
            "best_epoch": int(best_epoch[i]) if kept_best else None,
        }
        return record | {name: float(values[i]) for name, values in metrics.items()}

    shown = ["rank", "id", "architecture", "optimizer", "learning_rate", "parameters", "epochs", "status", "loss"]
    if "validation_loss" in records.curves:
        # What ranks is shown once, under its own name.
        shown += ["validation_loss", *(["validation_score"] if ranks == "score" else []), *metrics]
    return Table.made_at_need(n, record_of, tuple(shown))


def _at(curve: np.ndarray | None, epoch: np.ndarray, n_members: int) -> np.ndarray:
    """A curve's value at each member's epoch, float64; NaN where there is none."""
    if curve is None or not curve.shape[1]:
        return np.full(n_members, np.nan)
    known = (epoch >= 0) & (epoch < curve.shape[1])
    values = curve[np.arange(n_members), np.where(known, epoch, 0)].astype(np.float64)
    return np.where(known, values, np.nan)
