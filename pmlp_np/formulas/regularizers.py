"""Regularizers: what keeps a member from fitting its rows too closely. Dropout, gradient clipping, averaged weights.

Each formula once, in operators and the vocabulary's words; where one is about random draws, these come from `random`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.formulas.random import dropout_words
from pmlp_np.formulas.vocabulary import fma, where

# As torch.nn.utils.clip_grad_norm_ adds to the norm before it divides.
_CLIP_EPS = 1e-6


def dropout_threshold(share):
    """Random words below this one drop: floor(share * 2^32). The product is exact, so no rounding decides."""
    return np.int64(share * 4294967296.0)


def dropout_scale(share):
    """What kept values are multiplied by, so that their expectation stays."""
    return 1.0 / (1.0 - share)


def dropout_factors(
    key: Any, epoch: int, layer: int, first: int, rows: int, units: int, share: float, dtype: np.dtype
) -> np.ndarray:
    """Factors (rows, units) of the dtype, 0 or `dropout_scale`: of the rows from place `first` of an epoch's order on.

    A factor depends on the member's key, the epoch, the row's place in its order, the layer (0: the features, k: the
    k-th hidden layer) and the unit, and on nothing else.
    """
    before = first // 4
    fours = np.arange(before, (first + rows + 3) // 4, dtype=np.uint64).reshape(-1, 1)
    words = dropout_words(fours, np.uint64(epoch), np.uint64(layer), np.arange(units, dtype=np.uint64), np.uint64(key))
    kept = np.stack([word >= np.uint64(dropout_threshold(share)) for word in words], axis=1).reshape(-1, units)
    return kept[first - 4 * before :][:rows] * np.dtype(dtype).type(dropout_scale(share))


def clip_factor(norm, limit):
    """What a gradient of this L2 norm (float64) is multiplied by, so that it is no longer than `limit`: at most 1.

    A norm that is not finite clips nothing: the member is to diverge as it would without, and not to stand still.
    """
    factor = limit / (norm + _CLIP_EPS)
    factor = where(factor < 1.0, factor, 1.0)
    return where(norm - norm == 0.0, factor, 1.0)


def averaged(average, w, decay, rest):
    """The average after a step that led to w; rest is 1 - decay. The first step's average is w itself."""
    return fma(decay, average, rest * w)
