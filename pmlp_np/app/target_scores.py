"""Scores: how good predictions are, in the target's own units."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.app.preparation import Target
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS, Outcome

# What is said of every fit, the first of which ranks if nothing else is asked for.
USUAL = {"regression": ("rmse", "mae", "r2"), "classification": ("accuracy", "balanced_accuracy", "log_loss")}
CHOICES = {
    "regression": ("rmse", "mae", "r2"),
    "classification": ("accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss"),
}
# Those that are defined only of rows among which every class is.
OF_EVERY_CLASS = ("roc_auc",)
LABELS = {"rmse": "RMSE", "mae": "MAE", "r2": "R²", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
          "f1": "F1", "roc_auc": "ROC AUC", "log_loss": "log loss"}  # fmt: skip
_IN_UNITS = ("rmse", "mae")
_SHARES = ("accuracy", "balanced_accuracy")


def in_own_units(name: str, value: Any, target: Target) -> Any:
    """A score of what members learned, in the target's units."""
    return value * target.scale if name in _IN_UNITS else value


def shown(name: str, value: float | None) -> str:
    """A score as people read it: shares in percent."""
    if value is None or value != value:
        return "-"
    return f"{value:.2%}" if name in _SHARES else f"{value:.4g}"


def judged(
    target: Target, raw: np.ndarray, y: np.ndarray, names: tuple[str, ...], weight: np.ndarray | None = None
) -> dict[str, float]:
    """Scores by name of raw outputs (n, n_raw) on targets as `Target.read` gives them, rows weighted where weights (n,)
    are given; NaN where one is not defined of these rows (ROC AUC without a class, R² of one row)."""
    loss = LOSSES["cross_entropy" if target.classes else "squared_error"]
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
            found[name] = in_own_units(name, value, target)
    return found
