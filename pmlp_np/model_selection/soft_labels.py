"""Probabilities as labels with weights, which the cross-entropy of classes takes."""

from __future__ import annotations

import numpy as np

# The most probable classes of a row are there as they are; one of the others stands for all of them.
_EXACT = 3
# Labels of less weight are left out.
_LEAST_WEIGHT = 1e-3


def as_weighted_labels(p: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (row numbers, labels, weights) whose weighted losses are, in expectation, those with probabilities.

    p: (n, classes). A row is there once for each of its three most probable classes, weighted by its probability; and
    once for one of the others, drawn by their probabilities and weighted by the sum of them. Weights below 0.001 are
    left out.
    """
    n, n_classes = p.shape
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    exact = min(_EXACT, n_classes)
    labels, weights = [order[:, :exact]], [ranked[:, :exact]]
    if n_classes > exact:
        sums = np.cumsum(ranked[:, exact:], axis=1)
        below = sums <= (draw.uniform(size=n) * sums[:, -1])[:, None]
        chosen = np.minimum(below.sum(axis=1), n_classes - exact - 1)
        labels.append(order[np.arange(n), exact + chosen][:, None])
        weights.append(sums[:, -1:])
    label, weight = np.concatenate(labels, axis=1), np.concatenate(weights, axis=1)
    rows, places = np.nonzero(weight >= _LEAST_WEIGHT)
    return rows, label[rows, places], weight[rows, places]
