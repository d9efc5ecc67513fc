"""Checks of probabilities and classes: reliability, and which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.model_selection.targets import CLASSIFICATION
from pmlp_np.report.evidence import NORMAL_95, Evidence

_BINS = 10
# Classes of a confusion matrix; the others are one.
_MOST_CLASSES = 10
OTHERS = "(other classes)"


def class_checks(evidence: Evidence, temperature: float) -> dict[str, Any]:
    """Return checks of classes or labels.

    reliability: records by bin of probability that has rows: mean (of probabilities), share (of rows where it is the
    case), low, high (a 95 % interval of the share), rows. Of two classes it is the probability of the second, of more
    that of the predicted class, of labels those of all labels. about: whose probability it is.
    calibration_error, calibration_error_before: expected calibration errors, after and before the temperature.
    confusion: {"classes": names, "rows": counts [true][predicted]}, for labels None.
    """
    found, is_so = _probabilities(evidence, evidence.predicted)
    before, _ = _probabilities(evidence, evidence.raw)
    bins = _bins(found, is_so)
    return {
        "about": _about(evidence), "reliability": bins, "temperature": float(temperature),
        "calibration_error": calibration_error(bins),
        "calibration_error_before": calibration_error(_bins(before, is_so)),
        "confusion": _confusion(evidence) if evidence.task == CLASSIFICATION else None,
    }  # fmt: skip


def _about(evidence: Evidence) -> str:
    if evidence.task != CLASSIFICATION:
        return "of each label"
    return f"of {evidence.classes[1]}" if len(evidence.classes) == 2 else "of the predicted class"


def _probabilities(evidence: Evidence, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and whether what they are of is the case, (k,) each."""
    if evidence.task != CLASSIFICATION:
        return p.ravel(), evidence.true.ravel()
    if len(evidence.classes) == 2:
        return p[:, 1], (evidence.true == 1).astype(np.float64)
    return p.max(axis=1), (evidence.predicted.argmax(axis=1) == evidence.true).astype(np.float64)


def _bins(p: np.ndarray, is_so: np.ndarray) -> list[dict[str, float]]:
    number = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
    records = []
    for k in np.unique(number):
        inside = number == k
        n, share = int(inside.sum()), float(is_so[inside].mean())
        low, high = wilson(share, n)
        records.append({"mean": float(p[inside].mean()), "share": share, "low": low, "high": high, "rows": n})
    return records


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the ends of a 95 % interval of a share of n rows. Source: Wilson, J. Am. Stat. Assoc. 22 (1927)."""
    z = NORMAL_95 * NORMAL_95 / n
    center = (share + z / 2.0) / (1.0 + z)
    half = (share * (1.0 - share) * z + z * z / 4.0) ** 0.5 / (1.0 + z)
    # Of a share of 0 or 1 an end is the share itself, but for rounding.
    return max(min(center - half, share), 0.0), min(max(center + half, share), 1.0)


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Return the expected calibration error: mean |share - mean probability| over bins, weighted by rows.

    Source: Guo, Pleiss, Sun, Weinberger, ICML 2017, equation 3.
    """
    n = sum(each["rows"] for each in bins)
    return float(sum(each["rows"] * abs(each["share"] - each["mean"]) for each in bins) / n)


def _confusion(evidence: Evidence) -> dict[str, Any]:
    n = len(evidence.classes)
    counts = np.zeros((n, n), np.int64)
    np.add.at(counts, (evidence.true, evidence.predicted.argmax(axis=1)), 1)
    names = list(evidence.classes)
    if n > _MOST_CLASSES:
        kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: _MOST_CLASSES - 1])
        group = np.full(n, len(kept))
        group[kept] = np.arange(len(kept))
        pooled = np.zeros((len(kept) + 1,) * 2, np.int64)
        np.add.at(pooled, (group[:, None], group[None, :]), counts)
        counts, names = pooled, [*(names[i] for i in kept), OTHERS]
    return {"classes": names, "rows": counts.tolist()}
