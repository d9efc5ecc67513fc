"""Checks of predicted values: beside the true ones, their errors, and how many rows intervals hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.model_selection.calibration import Spread
from pmlp_np.report.evidence import Evidence

COVERAGES = (0.5, 0.8, 0.9, 0.95)
# Points, bins of errors, and the share of rows that the bins hold (the ends hold the others, too).
_MOST_POINTS, _BINS, _SHARE = 800, 25, 0.99
# Columns of y that are drawn.
_MOST_TARGETS = 3
# Where there is one fold, its rows are split at random, so that intervals are not checked on what they are made of.
_PARTS = 5


def value_checks(evidence: Evidence, target_scale: np.ndarray, draw: np.random.Generator) -> list[dict[str, Any]]:
    """Return a record for each of the first columns of y.

    target: its name. points: [true, predicted] of at most 800 rows. errors: [low, high, rows] by bin of predicted minus
    true. within: the absolute errors that half and nine tenths of the rows don't exceed. coverage: records with the
    coverage that was asked for, the one found, and the intervals' mean width. target_scale: (outputs,) of y.
    """
    n, found = len(evidence), []
    shown = np.sort(draw.choice(n, min(n, _MOST_POINTS), replace=False))
    covered = _coverage(evidence, target_scale, draw)
    for i, name in enumerate(evidence.targets[:_MOST_TARGETS]):
        true, predicted = evidence.true[:, i], evidence.predicted[:, i]
        error = predicted - true
        found.append({
            "target": name,
            "points": [[float(true[row]), float(predicted[row])] for row in shown],
            "errors": _histogram(error),
            "within": [float(q) for q in np.quantile(np.abs(error), (0.5, 0.9))],
            "coverage": [
                {"asked": c, "found": float(inside[:, i].mean()), "width": float(width[:, i].mean())}
                for c, (inside, width) in covered.items()
            ],
        })  # fmt: skip
    return found


def _histogram(error: np.ndarray) -> list[list[float]]:
    tail = (1.0 - _SHARE) / 2.0
    low, high = (float(q) for q in np.quantile(error, (tail, 1.0 - tail)))
    if not low < high:
        return [[low, high, float(len(error))]]
    edges = np.linspace(low, high, min(_BINS, max(5, len(error) // 8)) + 1)
    counts, _ = np.histogram(np.clip(error, low, high), edges)
    return [[float(a), float(b), float(c)] for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)]


def _coverage(
    evidence: Evidence, scale: np.ndarray, draw: np.random.Generator
) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Return by coverage whether intervals hold y, and their widths, (n, outputs) each.

    The intervals of a fold's rows are made of the residuals of the other folds.
    """
    part = evidence.fold
    if len(np.unique(part)) < 2:
        part = draw.permutation(len(evidence)) % min(_PARTS, len(evidence))
    residuals = (evidence.true - evidence.predicted) / scale
    inside = {c: np.zeros(residuals.shape, bool) for c in COVERAGES}
    width = {c: np.zeros(residuals.shape) for c in COVERAGES}
    for k in np.unique(part):
        rows, others = part == k, part != k
        spread = Spread.learn(residuals[others], evidence.between[others])
        for c in COVERAGES:
            half = spread.half_width(evidence.between[rows], c)
            inside[c][rows] = np.abs(residuals[rows]) <= half
            width[c][rows] = 2.0 * half * scale
    return {c: (inside[c], width[c]) for c in COVERAGES}
