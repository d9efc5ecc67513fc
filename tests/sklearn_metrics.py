"""scikit-learn's functions for the library's metrics, by name.

VALUES: function(sk, true, predicted, weight) on (rows, outputs); CLASSES: function(sk, true, predicted, p, weight,
average) of one label per row, p (rows,) of class 1 or (rows, classes). `sk` is sklearn.metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

VALUES: dict[str, Callable[..., Any]] = {
    "r2": lambda sk, true, predicted, w: sk.r2_score(true, predicted, sample_weight=w),
    "rmse": lambda sk, true, predicted, w: sk.root_mean_squared_error(true, predicted, sample_weight=w),
    "mae": lambda sk, true, predicted, w: sk.mean_absolute_error(true, predicted, sample_weight=w),
}
CLASSES: dict[str, Callable[..., Any]] = {
    "accuracy": lambda sk, true, predicted, p, w, average: sk.accuracy_score(true, predicted, sample_weight=w),
    "balanced_accuracy": lambda sk, true, predicted, p, w, average: sk.balanced_accuracy_score(
        true, predicted, sample_weight=w
    ),
    "f1": lambda sk, true, predicted, p, w, average: sk.f1_score(true, predicted, average=average, sample_weight=w),
    "roc_auc": lambda sk, true, predicted, p, w, average: sk.roc_auc_score(
        true, p, sample_weight=w, multi_class="ovr", labels=labels_of(p)
    ),
    "log_loss": lambda sk, true, predicted, p, w, average: sk.log_loss(true, p, sample_weight=w, labels=labels_of(p)),
}


def labels_of(p: np.ndarray) -> Any:
    return [0, 1] if p.ndim == 1 else np.arange(p.shape[1])
