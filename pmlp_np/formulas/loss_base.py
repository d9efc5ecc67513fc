"""What every loss is: parts of a formula, how raw outputs are read, and parameters.

`raw` holds one value per output and row; with several heads (a mean and a variance, quantiles) it is a tuple of them,
and so is the gradient. `target` holds one value per output, or one label per row (losses on labels). The loss of a row
is its mean over the outputs, the gradient is the derivative of that row's loss by each raw output. The mean over rows,
and sample weights, are the caller's: the mean loss of a minibatch is PyTorch's `reduction="mean"`.

The score is what people read instead of the loss, per row: its mean over rows, passed through `finish`. It knows no
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
    """What every loss is: its formulas, the targets it takes ("values", "probabilities" or "labels"), and how raw
    outputs are read.

    least_target: values must be no less, where it is given. score_name, score_label: the score, for programs and in
    words; a score that is a metric too needs no label.
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
        """How `values` or `probabilities` read raw outputs: "identity", "exp", "sigmoid" or "softmax"; None where only
        a function of the loss's own knows."""
        return {"values": "identity", "probabilities": "sigmoid", "labels": "softmax"}[self.targets]

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """(loss of the row, gradient) from `raw` and `target`."""
        raise NotImplementedError

    def score_formula(self, raw: Any, target: Any) -> Any:
        """The row's score from `raw` and `target`."""
        raise NotImplementedError

    def finish(self, mean: Any) -> Any:
        """From the mean score of rows to the score that is shown."""
        return mean

    def by_head(self, raw: Any, target: Any) -> tuple[Any, tuple[Any, ...]]:
        """(loss of the row, gradients by each head) of all raw outputs together."""
        loss, gradient = self.formula(v.split_heads(raw, self.heads), target)
        return loss, gradient if self.heads > 1 else (gradient,)

    def function(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """(loss of each row, gradient like raw) on arrays; axis 0 of raw is the raw output."""
        loss, gradients = self.by_head(raw, target)
        return loss, v.join_heads(gradients)

    def score(self, raw: Any, target: Any) -> Any:
        """The score of each row; raw as in `by_head`."""
        return self.score_formula(v.split_heads(raw, self.heads), target)

    def check_outputs(self, n_outputs: int) -> None:
        """Raise DataError where the parameters don't fit the number of outputs."""

    # Reading raw outputs, on NumPy arrays (..., raw outputs).

    @property
    def has_probabilities(self) -> bool:
        """Whether raw outputs stand for probabilities."""
        return self.targets != "values"

    def link(self, raw: Any) -> Any:
        """Probabilities from raw outputs on axis 0."""
        raise NotImplementedError

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Predicted values (..., outputs), of losses on values."""
        return raw

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Probabilities, in the shape of raw. DataError if there are none."""
        if not self.has_probabilities:
            self._lacks("probabilities", "Use predict, or a loss on classes (cross_entropy, binary_cross_entropy).")
        with np.errstate(all="ignore"):
            return np.moveaxis(self.link(np.moveaxis(raw, -1, 0)), 0, -1)

    def predictions(self, raw: np.ndarray) -> np.ndarray:
        """Predictions in the target's own space. Labels are int64. One output: its axis is dropped.

        Raises UndefinedLabelError where labels would be made of outputs of which no probabilities can be made.
        """
        if self.has_probabilities:
            self._require_labels(raw)
            return self.labels(raw)
        found = self.values(raw)
        return found[..., 0] if found.shape[-1] == 1 else found

    def labels(self, raw: np.ndarray) -> np.ndarray:
        """Labels as `predictions` returns them, of losses on labels; any where outputs are no numbers."""
        if self.targets == "labels":
            return np.argmax(raw, axis=-1)
        found = (raw > 0.0).astype(np.int64)
        return found[..., 0] if found.shape[-1] == 1 else found

    def _require_labels(self, raw: np.ndarray) -> None:
        # Of a softmax the largest output must be a number, which NaN and infinity are not: NaN is the maximum of any.
        undefined = ~np.isfinite(raw.max(axis=-1)) if self.targets == "labels" else np.isnan(raw).any(axis=-1)
        if undefined.any():
            places = np.argwhere(undefined)
            rows = np.unique(places[:, -1])
            got = f"NaN or infinity in {len(rows):,} of {raw.shape[-2]:,} rows ({listed(rows.tolist())})"
            hint = "No label can be made of them: see forward and predict_proba, and scale X as in training."
            raise UndefinedLabelError(compose("outputs", "numbers, to make labels of", got, hint), places)

    def standard_deviations(self, raw: np.ndarray) -> np.ndarray:
        """Predicted standard deviations, shaped like predictions. DataError if there are none."""
        self._lacks("a variance", "Use a loss with one: gaussian_nll.")

    def quantiles(self, raw: np.ndarray) -> np.ndarray:
        """Predicted quantiles (..., outputs, levels); one output: its axis is dropped. DataError if there are none."""
        self._lacks("quantiles", "Use a loss with them: quantile, or pm.Quantile(levels=...).")

    def _lacks(self, what: str, hint: str) -> NoReturn:
        raise DataError(compose("loss", f"one that defines {what}", repr(str(self)), hint))

    def __str__(self) -> str:
        given = [f"{each}={value!r}" for each, value in parameters(self).items()]
        return f"{self.name}({', '.join(given)})" if given else self.name


def parameters(loss: Loss) -> dict[str, Any]:
    """The parameters that are not at their default, by name."""
    if loss.registered:
        return {}
    by_own_first = sorted(fields(loss), key=lambda each: bool(each.kw_only))  # type: ignore[arg-type]
    pairs = ((each, getattr(loss, each.name)) for each in by_own_first)
    return {each.name: value for each, value in pairs if value != each.default}


@dataclass(frozen=True)
class ByOutput(Loss):
    """A mean over outputs of `elements`, the loss of each output and its gradient, weighted by `output_weight`.

    output_weight: a number for each output, at least 0, scaled to mean 1. Default None: all the same.
    """

    output_weight: tuple[float, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.output_weight is not None:
            weights = numbers("output_weight", self.output_weight, Range(0.0))
            if not any(weights):
                raise DataError(compose("output_weight", "a number above 0 among them", show(weights)))
            object.__setattr__(self, "output_weight", weights)

    def check_outputs(self, n_outputs: int) -> None:
        given = n_outputs if self.output_weight is None else len(self.output_weight)
        if given != n_outputs:
            expected = f"a number for each of {n_outputs} outputs"
            raise DataError(compose("output_weight", expected, str(given)))

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        """(loss, gradient) of each output by itself, from `raw` and `target`."""
        raise NotImplementedError

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        loss, gradient = self.elements(raw, target)
        gradients = gradient if self.heads > 1 else (gradient,)
        if self.output_weight is not None:
            # By the largest first: a sum must not overflow.
            shares = [each / max(self.output_weight) for each in self.output_weight]
            weight = v.output_constants(loss, tuple(len(shares) * each / sum(shares) for each in shares))
            loss, gradients = weight * loss, tuple(weight * each for each in gradients)
        n = v.n_outputs(loss)
        gradients = tuple(each / n for each in gradients)
        return v.mean_outputs(loss), gradients if self.heads > 1 else gradients[0]

    def score_formula(self, raw: Any, target: Any) -> Any:
        return v.mean_outputs(self.elements(raw, target)[0])


def number(name: str, value: Any, limits: Range) -> float:
    """The value as a float. DataError unless it is a number within the limits."""
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) else math.nan
    except OverflowError:  # of a whole number
        found = math.inf
    if found not in limits:
        raise DataError(compose(name, f"a finite number, {limits}", show(value)))
    return found


def numbers(name: str, values: Any, limits: Range) -> tuple[float, ...]:
    """The values as a tuple of floats, at least one. DataError unless all are numbers within the limits."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(compose(name, "a tuple of numbers", show(values)))
    found = tuple(number(f"{name}[{i}]", value, limits) for i, value in enumerate(values))
    if not found:
        raise DataError(compose(name, "at least one number", "none"))
    return found
