"""The base class of losses: parts of a formula, interpretation of raw outputs, and parameters.

`raw` has one value per output and row; with several heads (a mean and a variance, quantiles) it is a tuple of such
values, and so is the gradient. `target` has one value per output, or one label per row (losses on labels). The loss of
a row is its mean over the outputs; the gradient is the derivative of this loss by each raw output. The caller computes
the mean over rows, with sample weights: the mean loss of a minibatch is PyTorch's `reduction="mean"`.

The score is a value per row for people to read; its mean over rows, passed through `finish`, is shown. It uses no
output weights and no label smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, NoReturn

import numpy as np

from pmlp_np.base.errors import DataError, UndefinedLabelError, compose, listed, show
from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.options import Range


class Loss:
    """Base class of losses: formulas, the kind of targets, and the interpretation of raw outputs.

    targets: "values", "probabilities" or "labels". least_target: lower bound of targets, if any. score_name,
        score_label: the score's name in code and in text; a score that is a metric needs no label. score_grows: whether
        a larger score is better.
    """

    name: str
    score_name: str
    score_label: str = ""
    targets: str = "values"
    least_target: float | None = None
    score_grows: bool = False
    registered: bool = False

    @property
    def heads(self) -> int:
        """Raw outputs per output; raw output o * heads + h is head h of output o."""
        return 1

    @property
    def link_name(self) -> str | None:
        """Name of the function from raw outputs to values or probabilities: "identity", "exp", "sigmoid" or "softmax".

        None for a custom function of a registered loss.
        """
        return {"values": "identity", "probabilities": "sigmoid", "labels": "softmax"}[self.targets]

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """Return (loss of the row, gradient) from `raw` and `target`."""
        raise NotImplementedError

    def score_formula(self, raw: Any, target: Any) -> Any:
        """Return the row's score from `raw` and `target`."""
        raise NotImplementedError

    def finish(self, mean: Any) -> Any:
        """Convert the mean score of rows to the score that is shown."""
        return mean

    def by_head(self, raw: Any, target: Any) -> tuple[Any, tuple[Any, ...]]:
        """Return (loss of the row, gradients by each head) from all raw outputs in one value."""
        loss, gradient = self.formula(v.split_heads(raw, self.heads), target)
        return loss, gradient if self.heads > 1 else (gradient,)

    def function(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """Return (loss of each row, gradient in the shape of raw) on arrays; axis 0 of raw is the raw output."""
        loss, gradients = self.by_head(raw, target)
        return loss, v.join_heads(gradients)

    def score(self, raw: Any, target: Any) -> Any:
        """Return the score of each row; raw as in `by_head`."""
        return self.score_formula(v.split_heads(raw, self.heads), target)

    def check_outputs(self, n_outputs: int) -> None:
        """Raise DataError where the parameters don't fit the number of outputs."""

    # Interpretation of raw outputs, on NumPy arrays (..., raw outputs).

    @property
    def has_probabilities(self) -> bool:
        """Whether raw outputs encode probabilities."""
        return self.targets != "values"

    @property
    def parts(self) -> tuple[str, ...]:
        """What the mean of members can be taken of, of `part`."""
        return ("raw",) if self.link_name == "identity" else ("raw", "link")

    def part(self, name: str, raw: Any) -> Any:
        """Return a part of what raw outputs predict, outputs on axis 0.

        name: "raw", the raw outputs; "link", probabilities, or values that are a function of raw outputs; "deviation",
            standard deviations.
        """
        if name == "raw":
            return raw
        formula = {"link": self.link, "deviation": self.deviation}[name]
        return formula(v.split_heads(raw, self.heads))

    def link(self, raw: Any) -> Any:
        """Return probabilities, or values where they aren't raw outputs, from `raw`, outputs on axis 0."""
        raise NotImplementedError

    def deviation(self, raw: Any) -> Any:
        """Return standard deviations from `raw`."""
        raise NotImplementedError

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Return predicted values (..., outputs), for losses on values."""
        return raw

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Return probabilities in the shape of raw. Raises DataError for a loss without probabilities."""
        if not self.has_probabilities:
            self._lacks("probabilities", "Use predict, or a loss on classes (cross_entropy, binary_cross_entropy).")
        with np.errstate(all="ignore"):
            return np.moveaxis(self.link(np.moveaxis(raw, -1, 0)), 0, -1)

    def predictions(self, raw: np.ndarray) -> np.ndarray:
        """Return predictions on the scale of the targets; labels are int64. With one output, its axis is dropped.

        Raises UndefinedLabelError for labels of outputs that define no probabilities.
        """
        if self.has_probabilities:
            self._require_labels(raw)
            return self.labels(raw)
        values = self.values(raw)
        return values[..., 0] if values.shape[-1] == 1 else values

    def labels(self, raw: np.ndarray) -> np.ndarray:
        """Return labels as in `predictions`, for losses on labels; arbitrary labels where outputs are NaN."""
        if self.targets == "labels":
            return np.argmax(raw, axis=-1)
        labels = (raw > 0.0).astype(np.int64)
        return labels[..., 0] if labels.shape[-1] == 1 else labels

    def _require_labels(self, raw: np.ndarray) -> None:
        """Raise UndefinedLabelError where outputs define no label."""
        # The maximum input of a softmax must be finite; NumPy's maximum of values with NaN is NaN.
        undefined = ~np.isfinite(raw.max(axis=-1)) if self.targets == "labels" else np.isnan(raw).any(axis=-1)
        if undefined.any():
            indices = np.argwhere(undefined)
            rows = np.unique(indices[:, -1])
            got = f"NaN or infinity in {len(rows):,} of {raw.shape[-2]:,} rows ({listed(rows.tolist())})"
            hint = "No label can be made of them: see forward and predict_proba, and scale X as in training."
            raise UndefinedLabelError(compose("outputs", "numbers, to make labels of", got, hint), indices)

    def standard_deviations(self, raw: np.ndarray) -> np.ndarray:
        """Return predicted standard deviations in the shape of predictions.

        Raises DataError for a loss without standard deviations.
        """
        self._lacks("a variance", "Use a loss with one: gaussian_nll.")

    def quantiles(self, raw: np.ndarray) -> np.ndarray:
        """Return predicted quantiles (..., outputs, levels); with one output, its axis is dropped.

        Raises DataError for a loss without quantiles.
        """
        self._lacks("quantiles", "Use a loss with them: quantile, or pm.Quantile(levels=...).")

    def _lacks(self, missing: str, hint: str) -> NoReturn:
        raise DataError(compose("loss", f"one that defines {missing}", repr(str(self)), hint))

    def __str__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in parameters(self).items()]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


def parameters(loss: Loss) -> dict[str, Any]:
    """Return the parameters that differ from their defaults, by name."""
    if loss.registered:
        return {}
    ordered = sorted(fields(loss), key=lambda parameter: bool(parameter.kw_only))  # type: ignore[arg-type]
    pairs = ((parameter, getattr(loss, parameter.name)) for parameter in ordered)
    return {parameter.name: value for parameter, value in pairs if value != parameter.default}


@dataclass(frozen=True)
class ByOutput(Loss):
    """A mean over outputs of `elements`, the loss of each output and its gradient, weighted by `output_weight`.

    output_weight: a number for each output, at least 0, scaled to mean 1. Default None: equal weights.
    """

    output_weight: tuple[float, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.output_weight is not None:
            weights = numbers("output_weight", self.output_weight, Range(0.0))
            if not any(weights):
                raise DataError(compose("output_weight", "a number above 0 among them", show(weights)))
            object.__setattr__(self, "output_weight", weights)

    def check_outputs(self, n_outputs: int) -> None:
        count = n_outputs if self.output_weight is None else len(self.output_weight)
        if count != n_outputs:
            expected = f"a number for each of {n_outputs} outputs"
            raise DataError(compose("output_weight", expected, str(count)))

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """Return (loss, gradient) of each output separately, from `raw` and `target`."""
        raise NotImplementedError

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        loss, gradient = self.elements(raw, target)
        gradients = gradient if self.heads > 1 else (gradient,)
        if self.output_weight is not None:
            # Divided by the largest first, so that the sum does not overflow.
            shares = [each / max(self.output_weight) for each in self.output_weight]
            weight = v.output_constants(loss, tuple(len(shares) * each / sum(shares) for each in shares))
            loss, gradients = weight * loss, tuple(weight * each for each in gradients)
        n = v.n_outputs(loss)
        gradients = tuple(each / n for each in gradients)
        return v.mean_outputs(loss), gradients if self.heads > 1 else gradients[0]

    def score_formula(self, raw: Any, target: Any) -> Any:
        return v.mean_outputs(self.elements(raw, target)[0])


def number(name: str, value: Any, limits: Range) -> float:
    """Return the value as a float. Raises DataError unless it is a number within the limits."""
    try:
        result = float(value) if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) else math.nan
    except OverflowError:  # an integer too large for a float
        result = math.inf
    if result not in limits:
        raise DataError(compose(name, f"a finite number, {limits}", show(value)))
    return result


def numbers(name: str, values: Any, limits: Range) -> tuple[float, ...]:
    """Return the values as a tuple of floats.

    Raises DataError unless there is at least one value, and all are numbers within the limits.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(compose(name, "a tuple of numbers", show(values)))
    result = tuple(number(f"{name}[{i}]", value, limits) for i, value in enumerate(values))
    if not result:
        raise DataError(compose(name, "at least one number", "none"))
    return result
