"""Regularizers: dropout, gradient clipping, averaged weights.

Each formula is written once, in operators and the vocabulary's words; random draws are those of `random`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.formulas.random import dropout_words
from pmlp_np.formulas.vocabulary import fma, where

# torch.nn.utils.clip_grad_norm_ adds this number to the norm before it divides.
_CLIP_EPS = 1e-6
# Sums that make up a gradient's norm in the compiled backends, per lane: rows of a matrix go to them in turns. A GPU's
# threads add them up side by side, and a processor need not wait for one multiply-add before the next.
NORM_STRANDS = 8


def dropout_threshold(share):
    """Return the threshold below which random words drop a unit: floor(share * 2^32).

    The product is exact, so that no rounding affects the result.
    """
    return np.int64(share * 4294967296.0)


def dropout_scale(share):
    """Return the factor of values that are not dropped, by which the expectation stays the same."""
    return 1.0 / (1.0 - share)


def dropout_factors(
    key: Any, epoch: int, layer: int, first: int, rows: int, units: int, share: float, dtype: np.dtype
) -> np.ndarray:
    """Return dropout's factors (rows, units) of the dtype: 0 or `dropout_scale`.

    The rows are those from position `first` of an epoch's order on.

    A factor depends only on the member's key, the epoch, the row's position in the epoch's order, the layer (0: the
    features, k: the k-th hidden layer) and the unit.
    """
    before = first // 4
    fours = np.arange(before, (first + rows + 3) // 4, dtype=np.uint64).reshape(-1, 1)
    words = dropout_words(fours, np.uint64(epoch), np.uint64(layer), np.arange(units, dtype=np.uint64), np.uint64(key))
    kept = np.stack([word >= np.uint64(dropout_threshold(share)) for word in words], axis=1).reshape(-1, units)
    return kept[first - 4 * before :][:rows] * np.dtype(dtype).type(dropout_scale(share))


def clip_factor(norm, limit):
    """Return the factor of a gradient with this L2 norm (float64) that limits the norm to `limit`: at most 1.

    For a norm that is not finite the factor is 1: the member diverges as it would without clipping.
    """
    factor = limit / (norm + _CLIP_EPS)
    factor = where(factor < 1.0, factor, 1.0)
    return where(norm - norm == 0.0, factor, 1.0)


def averaged(average, w, decay, rest):
    """Return the average after a step that led to w; rest is 1 - decay. The first step's average is w."""
    return fma(decay, average, rest * w)
