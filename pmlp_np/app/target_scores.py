"""Scores of predictions, in the target's units."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.app.preparation import Target
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS, Outcome

LOSS_OF = {"regression": "squared_error", "classification": "cross_entropy"}
# The metrics reported for every fit. By default the first one ranks members.
USUAL = {"regression": ("rmse", "mae", "r2"), "classification": ("accuracy", "balanced_accuracy", "log_loss")}


def score_of(task: str) -> str:
    """Return the score of the task's loss, which is also a metric."""
    return LOSSES[LOSS_OF[task]].score_name


def choices(task: str) -> tuple[str, ...]:
    """Return the metrics that can rank members in a task."""
    kind = LOSSES[LOSS_OF[task]].targets
    return tuple(name for name, entry in METRICS.items() if kind in entry.targets)


def in_target_units(name: str, value: Any, target: Target) -> Any:
    """Return a metric on standardized targets in the target's units, if it has units."""
    return value * target.scale if name in METRICS and METRICS[name].unit == "target" else value


def shown(name: str, value: float | None) -> str:
    """Return a score as text, shares in percent."""
    if value is None or value != value:
        return "-"
    return f"{value:.2%}" if METRICS[name].is_share else f"{value:.4g}"


def scored(
    target: Target, raw: np.ndarray, y: np.ndarray, names: tuple[str, ...], weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return scores of raw outputs by name.

    raw: (n, n_raw). y: (n,) targets as from `Target.read`. weight: (n,) weights of rows, or None. A score that is not
    defined on these rows (ROC AUC without a class, R² of one row) is NaN.
    """
    loss = LOSSES[LOSS_OF[target.task]]
    truth = y[None] if target.classes else target.prepared(y)[None]
    scores = {}
    with np.errstate(all="ignore"):
        outcome = Outcome(loss, raw[None], truth, weight)
        for name in names:
            try:
                METRICS[name].check("rows", loss, raw.shape[1], truth, weight)
                value = float(METRICS[name].function(outcome)[0])
            except ValueError:
                value = float("nan")
            scores[name] = in_target_units(name, value, target)
    return scores
