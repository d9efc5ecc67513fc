"""How raw outputs are read, as plain facts: which head is the prediction, and the link from it to what is predicted.

`Loss` reads raw outputs by methods on arrays. What writes a network down for other systems, or averages networks,
must know what these methods do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.formulas.loss_base import Loss
from pmlp_np.formulas.losses import GaussianNLL, Quantile


@dataclass(frozen=True)
class Reading:
    """How a loss's raw outputs are read.

    link: "identity" or "exp", from raw outputs to values; "sigmoid" or "softmax", from raw outputs to probabilities.
    heads: raw outputs per output; raw output o * heads + h is head h of output o.
    value_head: the head that is the prediction.
    levels: of quantiles, one per head; or none.
    has_std: whether head 1 is the logarithm of a variance, of which head 0 is the mean.
    """

    link: str
    heads: int = 1
    value_head: int = 0
    levels: tuple[float, ...] = ()
    has_std: bool = False

    @property
    def has_probabilities(self) -> bool:
        """Whether labels are predicted, and probabilities."""
        return self.link in ("sigmoid", "softmax")


def reading_of(loss: Loss) -> Reading:
    """The facts about a loss. DataError for one with a link of its own, which only its function knows."""
    link = loss.link_name
    if link is None:
        hint = "Register the loss without link=, or predict with pmlp_np."
        raise DataError(compose("loss", "one with a link that is known here", f"{loss.name!r} with its own", hint))
    # The one head that `values` keeps of each output.
    value_head = 0 if link != "identity" else int(loss.values(np.arange(float(loss.heads)))[0])
    levels = loss.levels if isinstance(loss, Quantile) else ()
    return Reading(link, loss.heads, value_head, levels, isinstance(loss, GaussianNLL))
