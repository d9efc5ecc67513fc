"""Scores: how good predictions are, in the target's units."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.app.preparation import Target
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS, Outcome

LOSS_OF = {"regression": "squared_error", "classification": "cross_entropy"}
# What is reported of every fit; the first ranks members where no other is asked for.
USUAL = {"regression": ("rmse", "mae", "r2"), "classification": ("accuracy", "balanced_accuracy", "log_loss")}


def score_of(task: str) -> str:
    """The score of the task's loss, which is a metric too."""
    return LOSSES[LOSS_OF[task]].score_name


def choices(task: str) -> tuple[str, ...]:
    """The metrics that a task may be ranked by."""
    kind = LOSSES[LOSS_OF[task]].targets
    return tuple(name for name, entry in METRICS.items() if kind in entry.targets)


def in_target_units(name: str, value: Any, target: Target) -> Any:
    """A metric or loss of members that learned standardized targets, in the target's units where it has them."""
    return value * target.scale if name in METRICS and METRICS[name].unit == "target" else value


def shown(name: str, value: float | None) -> str:
    """A score as people read it: shares in percent."""
    if value is None or value != value:
        return "-"
    return f"{value:.2%}" if METRICS[name].is_share else f"{value:.4g}"


def scored(
    target: Target, raw: np.ndarray, y: np.ndarray, names: tuple[str, ...], weight: np.ndarray | None = None
) -> dict[str, float]:
    """Scores by name of raw outputs (n, n_raw) on targets as `Target.read` gives them, rows weighted where weights (n,)
    are given; NaN where one is not defined of these rows (ROC AUC without a class, R² of one row)."""
    loss = LOSSES[LOSS_OF[target.task]]
    truth = y[None] if target.classes else target.prepared(y)[None]
    found = {}
    with np.errstate(all="ignore"):
        outcome = Outcome(loss, raw[None], truth, weight)
        for name in names:
            try:
                METRICS[name].check("rows", loss, raw.shape[1], truth, weight)
                value = float(METRICS[name].function(outcome)[0])
            except ValueError:
                value = float("nan")
            found[name] = in_target_units(name, value, target)
    return found
