"""Scores of predictions, in the target's units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.formulas.losses import LOSSES
from pmlp_np.model_selection.scoring import Scoring
from pmlp_np.model_selection.targets import Targets
from pmlp_np.training.metrics import METRICS

_LOSS_OF = {"regression": "squared_error", "classification": "cross_entropy"}
# The metrics of every fit. The first one stands for all of them.
USUAL = {"regression": ("rmse", "mae", "r2"), "classification": ("accuracy", "balanced_accuracy", "log_loss")}


def choices(task: str) -> tuple[str, ...]:
    """Return the metrics that suit a task."""
    kind = LOSSES[_LOSS_OF[task]].targets
    return tuple(name for name, entry in METRICS.items() if kind in entry.targets)


def names_of(task: str, metric: str | None) -> tuple[str, ...]:
    """Return the metrics of a fit: the one that the ensemble is selected by, if one is chosen, and the usual ones."""
    return tuple(dict.fromkeys([*([metric] if metric else []), *USUAL[task]]))


def shown(name: str, value: float | None) -> str:
    """Return a score as text, shares in percent."""
    if value is None or value != value:
        return "-"
    return f"{value:.2%}" if METRICS[name].is_share else f"{value:.4g}"


def scored(
    task: str, names: Sequence[str], predicted: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return scores by name.

    predicted: values (n,), or probabilities (n, classes). truth: values (n,), or numbers of classes (n,). weight: (n,)
    weights of rows, or None. A score that is not defined on these rows (R² of one row) is NaN.
    """
    found = np.asarray(predicted, np.float64).reshape(len(truth), -1)
    has_classes = task == "classification"
    classes = np.arange(found.shape[1] if has_classes else 0)
    targets, prepared = Targets(task, classes, np.zeros(1), np.ones(1), True), truth if has_classes else truth[:, None]
    scores = {}
    for name in names:
        try:
            scoring = Scoring.of(name, targets, prepared, weight)
            scores[name] = float(scoring.scores(found[np.newaxis], prepared, weight)[0])
        except ValueError:
            scores[name] = float("nan")
    return scores
