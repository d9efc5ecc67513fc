"""What tests of monitoring share: validation data, pools and monitors, and patience by its definition."""

import math

import pytest

import pmlp_np as pm
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS
from small_pool import F, draw_x, draw_y

VALIDATION_X = draw_x(30, 2)
SETTINGS = {"batch_size": 8}


def validation(loss="squared_error", outputs=1):
    return VALIDATION_X, draw_y(loss, outputs, n=30, seed=3)


def fitting(loss):
    return [name for name, metric in METRICS.items() if LOSSES[loss].targets in metric.targets]


KINDS = [("squared_error", 1), ("squared_error", 2), ("cross_entropy", 2), ("cross_entropy", 3),
         ("binary_cross_entropy", 1), ("binary_cross_entropy", 2)]  # fmt: skip
every_kind = pytest.mark.parametrize(("loss", "outputs"), KINDS)
# Fast, slow, restless and overfitting members.
MANY = pm.grid(hidden=[2, 10, (6, 5)], activation=["tanh", "relu"], learning_rate=[1e-3, 0.03, 0.3])
MONITORS = [("squared_error", "r2"), ("squared_error", "mae"), ("squared_error", "score"),
            ("binary_cross_entropy", "balanced_accuracy"), ("binary_cross_entropy", "roc_auc"),
            ("binary_cross_entropy", "log_loss"), ("binary_cross_entropy", "loss")]  # fmt: skip
every_monitor = pytest.mark.parametrize(("loss", "monitor"), MONITORS)


def many(loss="squared_error"):
    return pm.Pool(MANY, F, loss=loss, dtype="float64")


def own(monitor):
    return [] if monitor in ("loss", "score") else [monitor]


def settings_of(loss, monitor, **others):
    return {"validation_data": validation(loss), "metrics": own(monitor), "monitor": monitor, **SETTINGS, **others}


def grows(loss, monitor):
    return METRICS[monitor].grows if monitor in METRICS else monitor == "score" and LOSSES[loss].score_grows


def measure(pool, monitor, data, weights="last"):
    if monitor == "loss":
        return pool.evaluate(*data, weights=weights)
    return pool.score(*data, metric=None if monitor == "score" else monitor, weights=weights)


def by_id(pool):
    return sorted(pool.leaderboard(), key=lambda record: record["id"])


def simulate(curve, patience, min_delta):
    """(epochs done, best epoch, both from 1) of a member with this curve, where smaller is better, by the definition of
    patience."""
    best, best_epoch = math.inf, -1
    for epoch, value in enumerate(curve):
        if value < best - min_delta:
            best, best_epoch = value, epoch
        elif epoch - best_epoch == patience:
            return epoch + 1, best_epoch + 1
    return len(curve), best_epoch + 1
