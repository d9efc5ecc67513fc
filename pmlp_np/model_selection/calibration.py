"""Calibration of an ensemble on out-of-fold predictions: residuals of values, temperatures of probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pmlp_np.model_selection.ensemble_selection import LEAST_PROBABILITY
from pmlp_np.model_selection.targets import CLASSIFICATION


@dataclass(frozen=True)
class Spread:
    """How far y is from predictions.

    The expected size of a residual is sqrt(noise² + between), where `between` is the variance between configurations.
    noise: (outputs,). ratios: (outputs, rows) growing, |residual| over its expected size, out of fold.
    """

    noise: np.ndarray
    ratios: np.ndarray

    @classmethod
    def learn(cls, residuals: np.ndarray, between: np.ndarray) -> Spread:
        """Return the spread of out-of-fold residuals, (rows, outputs), and of variances between configurations."""
        excess = np.maximum(np.mean(np.square(residuals) - between, axis=0), 0.0)
        # Where configurations differ by more than they are off, their variance alone says it, but for a little.
        noise = np.sqrt(np.maximum(excess, 1e-4 * np.mean(np.square(residuals), axis=0)))
        noise = np.maximum(noise, 1e-12)
        sizes = np.sqrt(np.square(noise) + between)
        return cls(noise, np.sort(np.abs(residuals) / sizes, axis=0).T)

    def _sizes(self, between: np.ndarray) -> np.ndarray:
        return np.sqrt(np.square(self.noise) + between)

    def deviation(self, between: np.ndarray) -> np.ndarray:
        """Return standard deviations, (n, outputs): expected sizes times the root of the mean of squared ratios."""
        return self._sizes(between) * np.sqrt(np.mean(np.square(self.ratios), axis=1))

    def half_width(self, between: np.ndarray, coverage: float) -> np.ndarray:
        """Return half-widths of intervals, (n, outputs).

        The quantile of split conformal prediction: of n ratios the number ceil((n + 1) coverage), the last if there are
        too few. Source: Lei et al., J. Am. Stat. Assoc. 113 (2018), section 2.2 and, for ratios, 5.2.
        """
        n = self.ratios.shape[1]
        k = min(math.ceil((n + 1) * coverage), n) - 1
        return self._sizes(between) * self.ratios[:, max(k, 0)]


def best_temperature(losses_at: dict[float, float]) -> float:
    """Return the temperature with the least loss; 1 unless another one is better by more than 0.1 %."""
    best = min(losses_at, key=lambda t: losses_at[t])
    return best if losses_at[best] < 0.999 * losses_at[1.0] else 1.0


def log_loss_of(p: np.ndarray, prepared: np.ndarray, task: str, weights: np.ndarray | None = None) -> float:
    """Return the log loss of probabilities (rows, outputs), of labels the mean over them.

    weights: (rows,), of rows in the mean. Default None: equal weights.
    """
    if task == CLASSIFICATION:
        found = p[np.arange(len(prepared)), prepared]
    else:
        found = np.where(prepared == 1.0, p, 1.0 - p)
    losses = -np.log(np.maximum(found, LEAST_PROBABILITY)).reshape(len(prepared), -1).mean(axis=1)
    return float(np.average(losses, weights=weights))
