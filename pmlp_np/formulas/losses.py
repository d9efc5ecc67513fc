"""Losses: each one function from raw outputs and targets to (loss of the row, gradient), for arrays and for compiled
code.

`raw` holds one value per output and row; `target` likewise, or one label per row (losses on labels). The loss of a row
is its mean over the outputs, the gradient is the derivative of that row's loss by each raw output. The mean over rows,
and sample weights, are the caller's: the mean loss of a minibatch is PyTorch's `reduction="mean"`.

`score(raw, target)` is what people read instead of the loss, per row: its mean over rows, passed through `finish`.

To add a loss, write its functions here and its entry in LOSSES; nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.errors import DataError, compose
from pmlp_np.formulas import vocabulary as v


@dataclass(frozen=True)
class Loss:
    """A loss: its formulas, the targets it takes ("values", "probabilities" or "labels") and how raw outputs are
    read."""

    name: str
    function: Callable[[Any, Any], tuple[Any, Any]]
    targets: str
    link: Callable[[Any], Any]
    score_name: str
    score: Callable[[Any, Any], Any]
    finish: Callable[[np.ndarray], np.ndarray]
    score_grows: bool
    heads: int = 1

    @property
    def has_probabilities(self) -> bool:
        """Whether raw outputs stand for probabilities."""
        return self.targets != "values"

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities from raw outputs (..., outputs) on NumPy arrays, in their shape. DataError if there are
        none."""
        if not self.has_probabilities:
            mend = "Use predict, or a loss on classes (cross_entropy, binary_cross_entropy)."
            raise DataError(compose("loss", "one that defines probabilities", repr(self.name), mend))
        with np.errstate(all="ignore"):
            return np.moveaxis(self.link(np.moveaxis(raw, -1, 0)), 0, -1)

    def predictions(self, raw: np.ndarray) -> np.ndarray:
        """Predictions in the target's own space from raw outputs (..., outputs) on NumPy arrays.

        Labels are int64. One output: its axis is dropped.
        """
        if self.targets == "labels":
            return np.argmax(raw, axis=-1)
        found = raw if self.targets == "values" else (raw > 0.0).astype(np.int64)
        return found[..., 0] if found.shape[-1] == 1 else found


def squared_error(raw, target):
    """(raw - target)², mean over outputs. torch.nn.MSELoss."""
    error = raw - target
    return v.mean_outputs(error * error), 2.0 * error / v.n_outputs(raw)


def binary_cross_entropy(raw, target):
    """-t log σ(raw) - (1 - t) log(1 - σ(raw)), mean over outputs. torch.nn.BCEWithLogitsLoss, in its stable form."""
    e = v.exp(-v.absolute(raw))
    zero = 0.0 * target
    loss = v.where(raw > 0.0, raw, zero * raw) - raw * target + v.log1p(e)
    return v.mean_outputs(loss), (v.sigmoid(raw) - target) / v.n_outputs(raw)


def cross_entropy(raw, target):
    """-log softmax(raw)[target]. torch.nn.CrossEntropyLoss, by log-sum-exp."""
    shifted = raw - v.max_outputs(raw)
    e = v.exp(shifted)
    total = v.sum_outputs(e)
    hit = v.output_index(raw) == target
    loss = v.log(total) - v.sum_outputs(v.where(hit, shifted, 0.0))
    return loss, e / total - v.where(hit, v.ones_like(e), 0.0)


def _squared_score(raw, target):
    error = raw - target
    return v.mean_outputs(error * error)


def _accuracy(raw, target):
    found = v.argmax_outputs(raw)
    return v.where(found == target, v.ones_like(found), 0.0)


def _label_accuracy(raw, target):
    found = v.where(raw > 0.0, v.ones_like(raw), 0.0)
    return v.mean_outputs(v.where(v.absolute(found - target) < 0.5, v.ones_like(raw), 0.0))


def _identity_link(raw):
    return raw


def _softmax_link(raw):
    e = v.exp(raw - v.max_outputs(raw))
    return e / v.sum_outputs(e)


def _unchanged(mean: np.ndarray) -> np.ndarray:
    return mean


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("squared_error", squared_error, "values", _identity_link, "rmse", _squared_score, np.sqrt, False),
        Loss(
            "binary_cross_entropy",
            binary_cross_entropy,
            "probabilities",
            v.sigmoid,
            "accuracy",
            _label_accuracy,
            _unchanged,
            True,
        ),
        Loss("cross_entropy", cross_entropy, "labels", _softmax_link, "accuracy", _accuracy, _unchanged, True),
    )
}
LOSS_ALIASES = {
    "mse": "squared_error",
    "mean_squared_error": "squared_error",
    "bce": "binary_cross_entropy",
    "log_loss": "cross_entropy",
    "softmax": "cross_entropy",
}
