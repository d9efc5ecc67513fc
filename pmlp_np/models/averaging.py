"""The mean of several networks, defined once for ensembles and all exports.

With weights w_k of sum 1 a mean is Σ w_k part(network k). Values, quantiles and probabilities are averaged (never
logits). Standard deviations follow from the law of total variance: the variance of the mixture is the mean of variances
plus the variance of means. `Ensemble` computes means with the functions on arrays below; exports render `averages` and
`raw_steps` in their languages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.reading import Reading
from pmlp_np.formulas.tracing import OUTPUT, Input, StepList, traced


@dataclass(frozen=True)
class Average:
    """A mean over networks, finish(Σ w_k part_k).

    part: the formula of one network's part. Inputs: "raw" (all raw outputs), or "head_0", "head_1", ... of each output,
        and "center", the mean of the predictions.
    softmax: whether raw outputs go through a softmax first.
    finish: a formula applied to the sum; None for none.
    """

    part: StepList
    softmax: bool = False
    finish: StepList | None = None


def averages(reading: Reading, dtype: str) -> dict[str, Average]:
    """Return the means that a model of several networks predicts, by name.

    Names: "prediction", and "std" or "quantiles" if the loss has them, of values; "probabilities" of classes.
    """

    def of(*names: str, by: Any = lambda raw: raw) -> StepList:
        return traced(by, [Input(name, dtype) for name in names], ["part"], "a part of a mean")

    links = {"identity": lambda raw: raw, "softmax": lambda raw: raw, "exp": v.exp, "sigmoid": v.sigmoid}
    link = links[reading.link]
    if reading.has_probabilities:
        return {"probabilities": Average(of("raw", by=link), softmax=reading.link == "softmax")}
    means = {"prediction": Average(of(f"head_{reading.value_head}", by=link))}
    if reading.has_std:
        root = traced(v.sqrt, [Input("mean", dtype)], ["std"], "a root")
        means["std"] = Average(of("head_0", "head_1", "center", by=_spread), finish=root)
    if reading.levels:
        means["quantiles"] = Average(of("raw"))
    return means


def _spread(mean: Any, log_variance: Any, center: Any) -> Any:
    offset = mean - center
    return v.exp(log_variance) + offset * offset


def label_threshold(is_mean: bool) -> float:
    """Return the threshold above which a label is 1: 0.5 of a mean probability, 0 of one network's raw output.

    Raw outputs have more resolution than probabilities, which rounding may make equal.
    """
    return 0.5 if is_mean else 0.0


# Raw outputs of the mean: raw outputs with which one network would predict the mean. In these formulas the axis of
# outputs (`sum_outputs`) is that of networks.


def raw_steps(reading: Reading, dtype: str) -> StepList:
    """Return the formula from weights and raw outputs of several networks to raw outputs of their mean.

    Inputs: "w", and "raw", or "head_0" and "head_1" for a loss with a variance. With a softmax, `raw` are log
    probabilities.
    """
    heads = ["head_0", "head_1"] if reading.has_std else ["raw"]
    inputs = [Input(name, dtype, OUTPUT) for name in ("w", *heads)]
    return traced(_raw_formula(reading), inputs, heads, "the raw outputs of a mean")


def _raw_formula(reading: Reading) -> Any:
    if reading.has_std:
        return _raw_of_mixture
    return {"identity": _mean, "exp": _log_mean_exp, "sigmoid": _log_odds, "softmax": _log_mean_exp}[reading.link]


def _mean(w: Any, a: Any) -> Any:
    return v.sum_outputs(w * a)


def _raw_of_mixture(w: Any, mean: Any, log_variance: Any) -> tuple[Any, Any]:
    center = _mean(w, mean)
    return center, v.log(_mean(w, _spread(mean, log_variance, center)))


def _log_mean_exp(w: Any, a: Any) -> Any:
    """Return log Σ w e^a, without overflow."""
    most = v.max_outputs(a)
    finite = v.where(most - most == 0.0, most, 0.0)
    return finite + v.log(_mean(w, v.exp(a - finite)))


def _log_sigmoid(a: Any) -> Any:
    return v.where(a < 0.0, a, 0.0) - v.log1p(v.exp(-v.absolute(a)))


def _log_odds(w: Any, a: Any) -> Any:
    """Return log p / (1 - p) of the mean p of probabilities, however small."""
    return _log_mean_exp(w, _log_sigmoid(a)) - _log_mean_exp(w, _log_sigmoid(-a))


# On arrays.


def weighted_sum(parts: Iterable[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return Σ w a over pairs (w, a), float64, added up in their order."""
    total: Any = 0.0
    for w, a in parts:
        total = total + w * a.astype(np.float64)
    return total


def mixture_variance(parts: list[tuple[float, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the variance, float64, of a mixture. parts: (w, mean, logarithm of the variance) each."""
    wide = [(w, mean.astype(np.float64), log_variance.astype(np.float64)) for w, mean, log_variance in parts]
    center = weighted_sum((w, mean) for w, mean, _ in wide)
    return weighted_sum((w, _spread(mean, log_variance, center)) for w, mean, log_variance in wide)


def raw_of_mean(reading: Reading, parts: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return raw outputs (n_samples, n_raw_outputs), float64, with which one network would predict the mean.

    parts: (w, raw outputs (n_samples, n_raw_outputs)) of each network.
    """
    w = np.array([w for w, _ in parts]).reshape(-1, 1, 1)
    raw = np.stack([raw.astype(np.float64) for _, raw in parts])  # (networks, rows, raw outputs)
    formula = _raw_formula(reading)
    if reading.has_std:
        return np.stack(formula(w, raw[..., 0::2], raw[..., 1::2]), axis=-1).reshape(raw.shape[1:])
    if reading.link == "softmax":
        raw = raw - np.logaddexp.reduce(raw, axis=2, keepdims=True)
    return formula(w, raw)
