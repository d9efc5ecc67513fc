"""The interpretation of raw outputs as plain data: the head that is the prediction, and the link function.

`Loss` interprets raw outputs by methods on arrays. Exports and averages of networks need the same information as data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.formulas.loss_base import Loss
from pmlp_np.formulas.losses import GaussianNLL, Quantile


@dataclass(frozen=True)
class Reading:
    """The interpretation of a loss's raw outputs.

    link: "identity" or "exp", from raw outputs to values; "sigmoid" or "softmax", from raw outputs to probabilities.
    heads: raw outputs per output; raw output o * heads + h is head h of output o.
    value_head: the head that is the prediction.
    levels: levels of quantiles, one per head; or empty.
    has_std: whether head 0 is a mean and head 1 the logarithm of a variance.
    """

    link: str
    heads: int = 1
    value_head: int = 0
    levels: tuple[float, ...] = ()
    has_std: bool = False

    @property
    def has_probabilities(self) -> bool:
        """Whether predictions are labels, with probabilities."""
        return self.link in ("sigmoid", "softmax")


def reading_of(loss: Loss) -> Reading:
    """Return the interpretation of a loss's raw outputs. Raises DataError for a custom link."""
    link = loss.link_name
    if link is None:
        hint = "Register the loss without link=, or predict with pmlp_np."
        raise DataError(compose("loss", "one with a built-in link", f"{loss.name!r} with a custom link", hint))
    # The head that `values` selects.
    value_head = 0 if link != "identity" else int(loss.values(np.arange(float(loss.heads)))[0])
    levels = loss.levels if isinstance(loss, Quantile) else ()
    return Reading(link, loss.heads, value_head, levels, isinstance(loss, GaussianNLL))
