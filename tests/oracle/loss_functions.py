"""Losses: of raw outputs and targets, the mean loss and its gradient with respect to the raw outputs.

With several heads an output's raw outputs stand side by side.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .activation_functions import logistic, softplus
from .arrays import Array


def targets_like(raw: Array, y: ArrayLike) -> Array:
    targets = np.asarray(y, dtype=np.float64).reshape(len(raw), -1)
    if targets.shape != raw.shape:
        raise ValueError(f"targets {np.shape(y)} don't fit raw outputs {raw.shape}")
    return targets


def weighted_mean(
    raw: Array, losses: Array, slopes: Array, output_weight: Sequence[float] | None
) -> tuple[float, Array]:
    """The mean over rows and outputs of losses (rows, outputs), and its gradient like raw from slopes (rows, outputs,
    heads); outputs count by their weights, scaled to mean 1."""
    n_rows, n_outputs = losses.shape
    weights = np.ones(n_outputs) if output_weight is None else np.array(output_weight, np.float64)
    weights = weights / weights.mean()
    gradient = (slopes * weights[:, np.newaxis]).reshape(raw.shape) / (n_rows * n_outputs)
    return float(np.mean(losses * weights)), gradient


def squared_error(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of (raw - y)²."""
    difference = raw - targets_like(raw, y)
    return weighted_mean(raw, difference**2, 2.0 * difference[..., np.newaxis], output_weight)


def binary_cross_entropy(
    raw: Array, y: ArrayLike, label_smoothing: float = 0.0, output_weight: Sequence[float] | None = None
) -> tuple[float, Array]:
    """Mean over rows and outputs of -y log p - (1 - y) log(1 - p), where p = sigmoid(raw)."""
    targets = targets_like(raw, y) * (1.0 - label_smoothing) + label_smoothing / 2.0
    slopes = logistic(raw) - targets
    return weighted_mean(raw, softplus(raw) - raw * targets, slopes[..., np.newaxis], output_weight)


def cross_entropy(raw: Array, y: ArrayLike, label_smoothing: float = 0.0) -> tuple[float, Array]:
    """Mean over rows of -sum q log p, for integer labels y of shape (rows,): p = softmax(raw), and q is 1 - smoothing
    at the label, plus smoothing shared out evenly."""
    labels = np.asarray(y)
    n_rows, n_classes = raw.shape
    integers = labels.shape == (n_rows,) and np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be {n_rows} integers in 0 ... {n_classes - 1}, not {y!r}")
    wanted = np.full(raw.shape, label_smoothing / n_classes)
    wanted[np.arange(n_rows), labels] += 1.0 - label_smoothing
    shifted = raw - raw.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(np.mean((-wanted * log_p).sum(axis=1))), (np.exp(log_p) - wanted) / n_rows


def weighted(
    loss: Callable[[Array, ArrayLike], tuple[float, Array]], raw: Array, y: ArrayLike, weights: Array
) -> tuple[float, Array]:
    """Mean over rows of weight times the row's loss, and its gradient: row by row, from the loss of one row."""
    rows = [loss(raw[i : i + 1], np.asarray(y)[i : i + 1]) for i in range(len(raw))]
    mean = sum(w * value for w, (value, _) in zip(weights.tolist(), rows, strict=True)) / len(raw)
    slopes = [w * slope for w, (_, slope) in zip(weights.tolist(), rows, strict=True)]
    return float(mean), np.concatenate(slopes) / len(raw)


def absolute_error(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of |raw - y|."""
    difference = raw - targets_like(raw, y)
    return weighted_mean(raw, np.abs(difference), np.sign(difference)[..., np.newaxis], output_weight)


def huber(
    raw: Array, y: ArrayLike, delta: float = 1.0, output_weight: Sequence[float] | None = None
) -> tuple[float, Array]:
    """Mean over rows and outputs of a parabola up to delta, and a line that goes on from it."""
    difference = raw - targets_like(raw, y)
    near = np.minimum(np.abs(difference), delta)
    losses = near**2 / 2.0 + delta * (np.abs(difference) - near)
    return weighted_mean(raw, losses, np.clip(difference, -delta, delta)[..., np.newaxis], output_weight)


def in_heads(raw: Array, y: ArrayLike, heads: int) -> tuple[Array, Array]:
    """Raw outputs (rows, outputs, heads), and targets (rows, outputs, 1)."""
    split = raw.reshape(len(raw), -1, heads)
    return split, targets_like(split[..., 0], y)[..., np.newaxis]


def quantile(
    raw: Array,
    y: ArrayLike,
    levels: Sequence[float] = (0.1, 0.5, 0.9),
    output_weight: Sequence[float] | None = None,
) -> tuple[float, Array]:
    """Mean over rows, outputs and levels q of q (y - raw) where raw is too low, else (1 - q) (raw - y)."""
    split, targets = in_heads(raw, y, len(levels))
    q, missing = np.array(levels), targets - split
    losses = np.where(missing > 0.0, q * missing, (q - 1.0) * missing).mean(axis=2)
    slopes = (1.0 - q) * (missing < 0.0) - q * (missing > 0.0) + 0.0 * missing
    return weighted_mean(raw, losses, slopes / len(levels), output_weight)


def poisson(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of rate - y log rate, where rate = exp(raw)."""
    targets, rates = targets_like(raw, y), np.exp(raw)
    return weighted_mean(raw, rates - targets * raw, (rates - targets)[..., np.newaxis], output_weight)


def gaussian_nll(raw: Array, y: ArrayLike, output_weight: Sequence[float] | None = None) -> tuple[float, Array]:
    """Mean over rows and outputs of (log v + (y - m)² / v) / 2, where an output's two raw outputs are m and log v."""
    split, targets = in_heads(raw, y, 2)
    mean, variance = split[..., 0], np.exp(split[..., 1])
    difference = mean - targets[..., 0]
    losses = 0.5 * (split[..., 1] + difference**2 / variance)
    slopes = np.stack([difference / variance, 0.5 * (1.0 - difference**2 / variance)], axis=2)
    return weighted_mean(raw, losses, slopes, output_weight)


LOSSES: dict[str, Callable[..., tuple[float, Array]]] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
    "absolute_error": absolute_error,
    "huber": huber,
    "quantile": quantile,
    "poisson": poisson,
    "gaussian_nll": gaussian_nll,
}
