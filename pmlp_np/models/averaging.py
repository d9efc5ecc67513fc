"""The mean of several networks, defined once: what is averaged, and what is made of the mean.

With weights w_k of sum 1 a mean is Σ w_k part(network k). Values, quantiles and probabilities are averaged as they are
predicted (probabilities, never logits). Standard deviations follow from the law of total variance: the variance of the
mixture is the mean of variances plus the variance of means. `Ensemble` computes it here; exports write it down in their
language from `averages`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.reading import Reading
from pmlp_np.formulas.tracing import Input, StepList, traced


@dataclass(frozen=True)
class Average:
    """Σ w_k part_k, of which `finish` is taken (None: as it is).

    softmax: whether raw outputs go through a softmax first. part: from "raw" (all raw outputs), or "head_0", "head_1",
    ... of each output, and "center", the mean that "prediction" is, to the part of one network.
    """

    part: StepList
    softmax: bool = False
    finish: StepList | None = None


def averages(reading: Reading, dtype: str) -> dict[str, Average]:
    """What a model of several networks predicts: "prediction" and "std" or "quantiles", of values; or
    "probabilities"."""

    def of(*names: str, by: Any = lambda raw: raw) -> StepList:
        return traced(by, [Input(name, dtype) for name in names], ["part"], "a part of a mean")

    links = {"identity": lambda raw: raw, "softmax": lambda raw: raw, "exp": v.exp, "sigmoid": v.sigmoid}
    link = links[reading.link]
    if reading.has_probabilities:
        return {"probabilities": Average(of("raw", by=link), softmax=reading.link == "softmax")}
    found = {"prediction": Average(of(f"head_{reading.value_head}", by=link))}
    if reading.has_std:
        root = traced(v.sqrt, [Input("mean", dtype)], ["std"], "a root")
        found["std"] = Average(of("head_0", "head_1", "center", by=_spread), finish=root)
    if reading.levels:
        found["quantiles"] = Average(of("raw"))
    return found


def _spread(mean: Any, log_variance: Any, center: Any) -> Any:
    offset = mean - center
    return v.exp(log_variance) + offset * offset


def label_threshold(is_mean: bool) -> float:
    """What the score of a label is compared with: a mean probability with a half, a network's raw output with 0, which
    decides more sharply than probabilities that rounding made equal."""
    return 0.5 if is_mean else 0.0


# On arrays.


def weighted_sum(parts: Iterable[tuple[float, np.ndarray]]) -> np.ndarray:
    """Σ w a of (w, a), in float64, one after another."""
    total = None
    for w, a in parts:
        term = w * a.astype(np.float64)
        total = np.zeros(a.shape) + term if total is None else total + term
    assert total is not None
    return total


def mixture(parts: list[tuple[float, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance), float64, of a mixture of (w, mean, logarithm of the variance)."""
    wide = [(w, mean.astype(np.float64), log_variance.astype(np.float64)) for w, mean, log_variance in parts]
    center = weighted_sum((w, mean) for w, mean, _ in wide)
    return center, weighted_sum((w, _spread(mean, log_variance, center)) for w, mean, log_variance in wide)


def raw_of_mean(reading: Reading, parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Raw outputs (n_samples, n_raw_outputs), float64, of which one network would predict what the mean of (w, raw
    outputs) predicts: the link's inverse of the mean, by logarithms, which no probability is too small for."""
    parts = [(w, raw.astype(np.float64)) for w, raw in parts]
    if reading.has_std:
        found = np.empty_like(parts[0][1])
        found[:, 0::2], variance = mixture([(w, raw[:, 0::2], raw[:, 1::2]) for w, raw in parts])
        found[:, 1::2] = np.log(variance)
        return found
    if reading.link == "identity":
        return weighted_sum(parts)
    if reading.link == "exp":
        return _log_mean_exp(parts)
    if reading.link == "sigmoid":
        yes = _log_mean_exp([(w, -np.logaddexp(0.0, -raw)) for w, raw in parts])
        return yes - _log_mean_exp([(w, -np.logaddexp(0.0, raw)) for w, raw in parts])
    return _log_mean_exp([(w, raw - np.logaddexp.reduce(raw, axis=1, keepdims=True)) for w, raw in parts])


def _log_mean_exp(parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """log Σ w e^a of (w, a), without overflow."""
    return np.logaddexp.reduce([np.log(w) + a for w, a in parts], axis=0)
