"""Scoring: what a search goes by, computed from values or probabilities: the loss of its task, or a metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.losses import as_loss
from pmlp_np.model_selection.ensemble_selection import (
    LEAST_PROBABILITY,
    LogLosses,
    MetricLosses,
    Objective,
    SquaredErrors,
)
from pmlp_np.model_selection.targets import CLASSIFICATION, MULTILABEL, REGRESSION, Targets
from pmlp_np.training.metrics import METRICS, Outcome, canonical, require_fit

_RESPONSES = ("predict", "predict_proba")


@dataclass(frozen=True)
class CustomMetric:
    """A metric of one's own, to search by.

    function: from (y_true, y_pred) to a number, both in y's terms, as a function of sklearn.metrics. It is called with
        sample_weight=..., too, if the search has weights of rows.
    greater_is_better: whether larger numbers are better.
    response_method: what y_pred is, "predict" (default) or "predict_proba": probabilities (n_samples, n_classes).

    Raises DataError for anything else.

        pm.CustomMetric(lambda y, p: abs(y - p).max(), greater_is_better=False)
    """

    function: Callable[..., float]
    greater_is_better: bool
    response_method: str = "predict"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise DataError(compose("function", "a function of (y_true, y_pred)", show(self.function)))
        if not isinstance(self.greater_is_better, (bool, np.bool_)):
            raise DataError(compose("greater_is_better", "True or False", show(self.greater_is_better)))
        if self.response_method not in _RESPONSES:
            expected = " or ".join(map(repr, _RESPONSES))
            raise DataError(compose("response_method", expected, show(self.response_method)))


@dataclass(frozen=True)
class Scoring:
    """The loss or metric of a search.

    targets: of the task. metric: the name of a metric, a CustomMetric, or None: the mean squared error of standardized
    values, or the log loss.
    """

    targets: Targets
    metric: str | CustomMetric | None = None

    @classmethod
    def of(cls, metric: Any, targets: Targets, prepared: np.ndarray, weights: np.ndarray | None) -> Scoring:
        """Return the scoring by the argument of `search`, for these validated rows.

        prepared, weights: of the rows, see Problem. Raises DataError for a metric that does not fit the task or is not
        defined on the rows.
        """
        if metric is None:
            return cls(targets)
        if isinstance(metric, CustomMetric):
            if metric.response_method == "predict_proba" and targets.task == REGRESSION:
                raise DataError(compose("metric", "one of values", "one of probabilities, for regression"))
            if weights is not None and not _takes_weights(metric.function):
                hint = "The search has weights of rows."
                raise DataError(compose("metric", "a function that takes sample_weight=", show(metric.function), hint))
            scoring = cls(targets, metric)
            # A function that can't be computed is found out before any training.
            scoring.scores(_of_no_skill(targets, prepared)[np.newaxis], prepared, weights)
            return scoring
        if callable(metric):
            hint = "Say which way is better: pm.CustomMetric(function, greater_is_better=True)."
            raise DataError(compose("metric", "a name, a pm.CustomMetric or None", show(metric), hint))
        name, loss, n_outputs = canonical("metric", metric), as_loss(targets.loss), targets.n_outputs(prepared)
        require_fit("metric", name, loss, n_outputs)
        scoring = cls(targets, name)
        METRICS[name].check("y", loss, n_outputs, scoring._targets(prepared), weights)
        return scoring

    @property
    def name(self) -> str:
        """The metric's name."""
        if self.metric is None:
            return "squared_error" if self.targets.task == REGRESSION else "log_loss"
        return self.metric if isinstance(self.metric, str) else getattr(self.metric.function, "__name__", "metric")

    @property
    def grows(self) -> bool:
        """Whether a larger score is better."""
        if isinstance(self.metric, CustomMetric):
            return bool(self.metric.greater_is_better)
        return self.metric is not None and METRICS[self.metric].grows

    def objective(self, found: np.ndarray, prepared: np.ndarray, weights: np.ndarray | None) -> Objective:
        """Return what ensemble selection minimizes. found: (candidates, rows, outputs), values or probabilities."""
        if self.metric is not None:
            return MetricLosses(found, lambda each: self.losses(each, prepared, weights))
        if self.targets.task == REGRESSION:
            return SquaredErrors(found, prepared, weights)
        labels = found.shape[2] if self.targets.task == MULTILABEL else 1
        each = None if weights is None else np.repeat(weights, labels)
        return LogLosses(likelihoods(found, prepared, self.targets.task), each)

    def losses(self, found: np.ndarray, prepared: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Return the scores of candidates, less being better, (candidates,) float64."""
        scores = self.scores(found, prepared, weights)
        return -scores if self.grows else scores

    def scores(self, found: np.ndarray, prepared: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """Return the scores of candidates, (candidates,) float64. found: (candidates, rows, outputs)."""
        found = found.astype(np.float64)
        if self.metric is None:
            return self.objective(found, prepared, weights).single()
        if isinstance(self.metric, CustomMetric):
            return np.array([self._custom(self.metric, each, prepared, weights) for each in found])
        with np.errstate(all="ignore"):
            outcome = _Means(self.targets, found, self._targets(prepared), weights)
            return np.asarray(METRICS[self.metric].function(outcome), np.float64)

    def _targets(self, prepared: np.ndarray) -> np.ndarray:
        """Return targets as metrics take them, (n_targets, rows)."""
        if self.targets.task == CLASSIFICATION:
            return prepared[np.newaxis]
        values = prepared * self.targets.scale + self.targets.mean if self.targets.task == REGRESSION else prepared
        return np.ascontiguousarray(values.T)

    def _custom(
        self, metric: CustomMetric, mean: np.ndarray, prepared: np.ndarray, weights: np.ndarray | None
    ) -> float:
        targets = self.targets
        y_true = targets.classes[prepared] if targets.task == CLASSIFICATION else targets.predictions(prepared)
        y_pred = targets.predictions(mean)
        if metric.response_method == "predict_proba":
            # Means of float32 numbers: functions want a sum of 1 to the last digits of float64.
            y_pred = mean / mean.sum(axis=1, keepdims=True) if targets.task == CLASSIFICATION else mean
        value = metric.function(y_true, y_pred, **({} if weights is None else {"sample_weight": weights}))
        try:
            return float(value)
        except (TypeError, ValueError):
            raise DataError(compose("metric", "a function that returns a number", show(value))) from None


class _Means(Outcome):
    """An outcome of which values or probabilities are known: (candidates, rows, outputs) float64."""

    def __init__(self, targets: Targets, found: np.ndarray, of_rows: np.ndarray, weight: np.ndarray | None) -> None:
        loss = as_loss(targets.loss)
        if targets.task == REGRESSION:
            super().__init__(loss, found * targets.scale + targets.mean, of_rows, weight)
            return
        raw = np.log(np.maximum(found, LEAST_PROBABILITY))
        if targets.task != CLASSIFICATION:
            raw -= np.log(np.maximum(1.0 - found, LEAST_PROBABILITY))
        super().__init__(loss, raw, of_rows, weight)
        # As they are, so that no rounding makes or parts ties.
        self.probabilities = found


def likelihoods(p: np.ndarray, targets: np.ndarray, task: str) -> np.ndarray:
    """Return the probability that each candidate gives to the targets: (candidates, rows), or rows times labels.

    p: (candidates, rows, outputs). targets: numbers of classes, or labels (rows, outputs).
    """
    if task == CLASSIFICATION:
        return np.asarray(p[:, np.arange(len(targets)), targets])
    return np.where(targets == 1.0, p, 1.0 - p).reshape(len(p), -1)


def _of_no_skill(targets: Targets, prepared: np.ndarray) -> np.ndarray:
    """Return predictions that are the same in every row, (rows, outputs)."""
    shape = len(prepared), targets.n_outputs(prepared)
    return np.zeros(shape) if targets.task == REGRESSION else np.full(shape, 1.0 / shape[1])


def _takes_weights(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.name == "sample_weight" or each.kind is each.VAR_KEYWORD for each in parameters)
