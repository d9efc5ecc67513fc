"""Ensemble selection: weights of candidates by their out-of-fold predictions.

`greedy` is forward selection with replacement (Caruana, Niculescu-Mizil, Crew, Ksikes, ICML 2004): it begins with the
best candidate, and adds in each step the one with which the mean of all that were added so far is best. Predictions are
averaged: values, or probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show

# Probabilities below this count as this in the logarithm of a loss.
LEAST_PROBABILITY = 1e-7
STEPS = 100
# A metric looks at every row of every mean: with many rows there are fewer steps, so that all of them see about so many
# numbers, some seconds of work.
_FEWEST_STEPS, _MOST_NUMBERS = 10, 10**8
# Bytes of the means that a metric sees at a time.
_PIECE_BYTES = 4 << 20


class Objective(Protocol):
    """A loss of means of candidates. n: candidates. steps: the most that greedy selection takes."""

    n: int
    steps: int

    def single(self) -> np.ndarray:
        """Return the loss of each candidate, (n,)."""

    def with_each(self, counts: np.ndarray) -> np.ndarray:
        """Return the loss of the mean of candidates that were added `counts` (n,) times, and each once more: (n,)."""


class SquaredErrors:
    """The weighted mean squared error, over rows and outputs.

    predictions: (candidates, rows, outputs); targets: (rows, outputs); row_weights: (rows,) of mean 1, or None.

    All means follow from the products of the candidates' residuals, (n, n), so that a step takes no look at rows.
    """

    steps = STEPS

    def __init__(self, predictions: np.ndarray, targets: np.ndarray, row_weights: np.ndarray | None = None) -> None:
        self.n = len(predictions)
        residuals = predictions.astype(np.float64) - targets
        if row_weights is not None:
            residuals *= np.sqrt(row_weights)[:, None]
        flat = residuals.reshape(self.n, -1)
        self._products = flat @ flat.T / flat.shape[1]

    def single(self) -> np.ndarray:
        return np.diag(self._products).copy()

    def with_each(self, counts: np.ndarray) -> np.ndarray:
        with_all = self._products @ counts
        return (counts @ with_all + 2.0 * with_all + self.single()) / (counts.sum() + 1.0) ** 2


class LogLosses:
    """The weighted mean of -log p(target), over rows (and labels).

    likelihoods: (candidates, rows), the probability that each gives to a row's target.
    """

    steps = STEPS

    def __init__(self, likelihoods: np.ndarray, row_weights: np.ndarray | None = None) -> None:
        self.n = len(likelihoods)
        self._p = np.ascontiguousarray(likelihoods, np.float64)
        n_rows = self._p.shape[1]
        self._weights = np.full(n_rows, 1.0 / n_rows) if row_weights is None else row_weights / row_weights.sum()

    def _loss(self, p: np.ndarray) -> np.ndarray:
        return np.asarray(-np.log(np.maximum(p, LEAST_PROBABILITY)) @ self._weights)

    def single(self) -> np.ndarray:
        return self._loss(self._p)

    def with_each(self, counts: np.ndarray) -> np.ndarray:
        return self._loss((self._p + counts @ self._p) / (counts.sum() + 1.0))


class MetricLosses:
    """Any function of predictions, computed from each mean.

    predictions: (candidates, rows, outputs). losses: from means (k, rows, outputs) to numbers (k,), less being better.
    """

    def __init__(self, predictions: np.ndarray, losses: Callable[[np.ndarray], np.ndarray]) -> None:
        self.n, self._predictions, self._losses = len(predictions), predictions, losses
        self.steps = int(np.clip(_MOST_NUMBERS // max(1, predictions.size), _FEWEST_STEPS, STEPS))

    def single(self) -> np.ndarray:
        return self._of_means(0.0, 1.0)

    def with_each(self, counts: np.ndarray) -> np.ndarray:
        return self._of_means(np.tensordot(counts, self._predictions, 1), counts.sum() + 1.0)

    def _of_means(self, added: np.ndarray | float, count: float) -> np.ndarray:
        of_one = max(1, self._predictions[0].size * 8)
        step = max(1, _PIECE_BYTES // of_one)
        pieces = (self._predictions[i : i + step].astype(np.float64) for i in range(0, self.n, step))
        return np.concatenate([self._losses((each + added) / count) for each in pieces])


def greedy(objective: Objective, steps: int | None = None) -> np.ndarray:
    """Return weights (n,) of sum 1: of the best mean among those after each step. Ties: the first candidate.

    steps: default None: the objective's.
    """
    counts, best, kept = np.zeros(objective.n), np.inf, None
    loss = objective.single()
    for _ in range(max(1, steps or objective.steps)):
        loss = np.where(np.isnan(loss), np.inf, loss)
        chosen = int(loss.argmin())
        counts[chosen] += 1.0
        # A mean that is as good as one of fewer candidates is not worth more of them.
        if kept is None or loss[chosen] < best - 1e-12:
            best, kept = float(loss[chosen]), counts.copy()
        loss = objective.with_each(counts)
    assert kept is not None
    return kept / kept.sum()


def top(objective: Objective, k: int) -> np.ndarray:
    """Return equal weights of the k best candidates, (n,) of sum 1."""
    loss = objective.single()
    order = np.argsort(np.where(np.isnan(loss), np.inf, loss), kind="stable")[:k]
    weights = np.zeros(objective.n)
    weights[order] = 1.0 / len(order)
    return weights


def chooser(select: str | int) -> Callable[[Objective], np.ndarray]:
    """Return the selection of a name: "greedy"; "all"; "best"; or a number k, of the k best. Raises DataError."""
    if select == "greedy":
        return greedy
    if select == "all":
        return lambda objective: top(objective, objective.n)
    if select == "best":
        return lambda objective: top(objective, 1)
    if checks.is_whole(select) and int(select) >= 1:
        return lambda objective: top(objective, int(select))
    raise DataError(compose("select", "'greedy', 'all', 'best' or a number of the best", show(select)))
