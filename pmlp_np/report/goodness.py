"""How good predictions of unseen rows are, beside those of a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pmlp_np.formulas.losses import LOSSES
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.report.evidence import NORMAL_95, Evidence
from pmlp_np.training.metrics import METRICS, metric_values

_FOR_CLASSES = ("accuracy", "balanced_accuracy", "log_loss", "roc_auc")
_LEAST = np.finfo(np.float64).tiny


def scores(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the scores of predictions, with those of a constant.

    Records: name, unit ("%", "target" or ""), larger_is_better, target (its name, "" where there is one), value,
    constant (the score of the constant), low and high (a 95 % interval, where the score follows from a mean over rows,
    which are taken to be independent; else None).
    """
    if evidence.task == REGRESSION:
        n = len(evidence.targets)
        return [score for i in range(n) for score in _of_values(evidence, i, evidence.targets[i] if n > 1 else "")]
    loss = LOSSES["cross_entropy" if evidence.task == CLASSIFICATION else "binary_cross_entropy"]
    targets = evidence.true[None] if evidence.task == CLASSIFICATION else np.ascontiguousarray(evidence.true.T)
    names = [name for name in _FOR_CLASSES if not METRICS[name].needs_every_class or _has_every_class(evidence)]
    found, constant = (
        metric_values(names, loss, _raw(p, evidence.task)[None], targets)
        for p in (evidence.predicted, np.broadcast_to(evidence.constant, evidence.predicted.shape))
    )
    rows = {"accuracy": _hits(evidence), "log_loss": _surprise(evidence)}
    records = []
    for name in names:
        value = float(found[name][0])
        low, high = _interval(rows[name], _itself) if name in rows else (None, None)
        metric = METRICS[name]
        records.append(_record(metric.label, metric.unit, metric.grows, "", value, float(constant[name][0]), low, high))
    return records


def _record(name: str, unit: str, grows: bool, target: str, value: float, constant: float,
            low: float | None, high: float | None) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "unit": unit, "larger_is_better": grows, "target": target, "value": value, "constant": constant,
        "low": low, "high": high,
    }  # fmt: skip


def _itself(mean: float) -> float:
    return mean


def _interval(of_rows: np.ndarray, score: Callable[[float], float]) -> tuple[float, float] | tuple[None, None]:
    """Return the ends of a 95 % interval of a score of the mean over rows. of_rows: (n,)."""
    n = len(of_rows)
    if n < 2:
        return None, None
    mean, error = float(of_rows.mean()), NORMAL_95 * float(of_rows.std(ddof=1)) / n**0.5
    ends = sorted(score(max(mean + step, 0.0)) for step in (-error, error))
    return ends[0], ends[1]


def _of_values(evidence: Evidence, i: int, target: str) -> list[dict[str, Any]]:
    true = evidence.true[:, i]
    error, constant = np.abs(evidence.predicted[:, i] - true), np.abs(evidence.constant[i] - true)
    variance = float(np.mean(np.square(true - true.mean())))

    def r2(mean_square: float) -> float:
        return 1.0 - mean_square / variance

    def add(name: str, unit: str, of_rows: Callable[[np.ndarray], np.ndarray], score: Callable[[float], float],
            grows: bool = False) -> None:  # fmt: skip
        values = [score(float(of_rows(each).mean())) for each in (error, constant)]
        found.append(_record(name, unit, grows, target, values[0], values[1], *_interval(of_rows(error), score)))

    found: list[dict[str, Any]] = []
    if variance > 0.0:
        add(METRICS["r2"].label, "", np.square, r2, grows=True)
    add(METRICS["rmse"].label, "target", np.square, lambda mean: mean**0.5)
    add(METRICS["mae"].label, "target", np.abs, _itself)
    return found


def _raw(p: np.ndarray, task: str) -> np.ndarray:
    """Return raw outputs that have these probabilities, (n, outputs)."""
    log_p = np.log(np.maximum(p, _LEAST))
    return log_p if task == CLASSIFICATION else log_p - np.log(np.maximum(1.0 - p, _LEAST))


def _has_every_class(evidence: Evidence) -> bool:
    share = evidence.is_true.mean(axis=0)
    return bool(((share > 0.0) & (share < 1.0)).all())


def _hits(evidence: Evidence) -> np.ndarray:
    if evidence.task == CLASSIFICATION:
        return (evidence.predicted.argmax(axis=1) == evidence.true).astype(np.float64)
    return ((evidence.predicted > 0.5) == (evidence.true > 0.5)).all(axis=1).astype(np.float64)


def _surprise(evidence: Evidence) -> np.ndarray:
    """Return each row's log loss, (n,)."""
    p, is_true = np.maximum(evidence.predicted, _LEAST), evidence.is_true
    if evidence.task == CLASSIFICATION:
        return -np.log(p[np.arange(len(p)), evidence.true])
    return -np.mean(is_true * np.log(p) + (1.0 - is_true) * np.log(np.maximum(1.0 - evidence.predicted, _LEAST)), 1)
