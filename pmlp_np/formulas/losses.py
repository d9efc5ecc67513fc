"""Losses: formulas from raw outputs and targets to (loss of the row, gradient), for arrays and for compiled code.

A loss is a class: its parameters are the fields of a frozen dataclass, and constants of its formula. See `loss_base`
for the parts of a formula and the interpretation of raw outputs.

To add a loss, write its class here under `@loss(...)`, with its other names; nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.loss_base import ByOutput, number, numbers, parameters
from pmlp_np.formulas.loss_base import Loss as Loss
from pmlp_np.formulas.options import Range

LOSSES: dict[str, Loss] = {}
LOSS_ALIASES: dict[str, str] = {}
_Class = TypeVar("_Class", bound=type[Loss])


def loss(*aliases: str) -> Callable[[_Class], _Class]:
    """Enter a loss, with default parameters, into the table of losses under its name and aliases."""

    def enter(cls: _Class) -> _Class:
        LOSSES[cls.name] = cls()
        LOSS_ALIASES.update(dict.fromkeys(aliases, cls.name))
        return cls

    return enter


@loss("mse", "mean_squared_error")
@dataclass(frozen=True)
class SquaredError(ByOutput):
    """(raw - target)², mean over outputs. Score: rmse. Source: torch.nn.MSELoss."""

    name = "squared_error"
    score_name = "rmse"

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        error = raw - target
        return error * error, 2.0 * error

    def finish(self, mean: Any) -> Any:
        return np.sqrt(mean)


@loss("bce")
@dataclass(frozen=True)
class BinaryCrossEntropy(ByOutput):
    """-t log σ(raw) - (1 - t) log(1 - σ(raw)), mean over outputs, in a stable form. Score: accuracy.

    label_smoothing: s; the target t becomes (1 - s) t + s / 2; at least 0, below 1. Default 0.0.
    Source: torch.nn.BCEWithLogitsLoss; smoothing of labels as in Szegedy et al., CVPR 2016, section 7.
    """

    label_smoothing: float = 0.0
    name = "binary_cross_entropy"
    score_name = "accuracy"
    targets = "probabilities"
    score_grows = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "label_smoothing", number("label_smoothing", self.label_smoothing, Range(0.0, 1.0)))

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        if self.label_smoothing:
            target = (1.0 - self.label_smoothing) * target + 0.5 * self.label_smoothing
        e = v.exp(-v.absolute(raw))
        zero = 0.0 * target
        loss = v.where(raw > 0.0, raw, zero * raw) - raw * target + v.log1p(e)
        return loss, v.sigmoid(raw) - target

    def score_formula(self, raw: Any, target: Any) -> Any:
        predicted = v.where(raw > 0.0, v.ones_like(raw), 0.0)
        return v.mean_outputs(v.where(v.absolute(predicted - target) < 0.5, v.ones_like(raw), 0.0))

    def link(self, raw: Any) -> Any:
        return v.sigmoid(raw)


@loss("log_loss", "softmax")
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log softmax(raw)[target], by log-sum-exp. Score: accuracy.

    label_smoothing: s, the share of the target's probability that is spread over all classes; at least 0, below 1.
        Default 0.0.
    Source: torch.nn.CrossEntropyLoss.
    """

    label_smoothing: float = 0.0
    name = "cross_entropy"
    score_name = "accuracy"
    targets = "labels"
    score_grows = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", number("label_smoothing", self.label_smoothing, Range(0.0, 1.0)))

    def formula(self, raw: Any, target: Any) -> tuple[Any, Any]:
        shifted = raw - v.max_outputs(raw)
        e = v.exp(shifted)
        total = v.sum_outputs(e)
        hit = v.output_index(raw) == target
        right = v.sum_outputs(v.where(hit, shifted, 0.0))
        if not self.label_smoothing:
            return v.log(total) - right, e / total - v.where(hit, v.ones_like(e), 0.0)
        spread, confidence = self.label_smoothing, 1.0 - self.label_smoothing
        loss = v.log(total) - (confidence * right + spread * v.mean_outputs(shifted))
        return loss, e / total - (v.where(hit, confidence * v.ones_like(e), 0.0) + spread / v.n_outputs(raw))

    def score_formula(self, raw: Any, target: Any) -> Any:
        predicted = v.argmax_outputs(raw)
        return v.where(predicted == target, v.ones_like(predicted), 0.0)

    def link(self, raw: Any) -> Any:
        e = v.exp(raw - v.max_outputs(raw))
        return e / v.sum_outputs(e)


@loss("mae", "l1", "mean_absolute_error")
@dataclass(frozen=True)
class AbsoluteError(ByOutput):
    """|raw - target|, mean over outputs; gradient 0 where they are equal. Score: mae. Source: torch.nn.L1Loss."""

    name = "absolute_error"
    score_name = "mae"

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        error = raw - target
        return v.absolute(error), v.where(error > 0.0, 1.0, v.where(error < 0.0, -1.0, error))


@loss()
@dataclass(frozen=True)
class Huber(ByOutput):
    """e² / 2 of an error e = raw - target up to delta, delta (|e| - delta / 2) beyond, mean over outputs. Score: mae.

    delta: above 0. Default 1.0.
    Source: Huber, Annals of Mathematical Statistics 35 (1964); torch.nn.HuberLoss.
    """

    delta: float = 1.0
    name = "huber"
    score_name = "mae"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "delta", number("delta", self.delta, Range(0.0, open_low=True)))

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        error, delta = raw - target, self.delta
        size = v.absolute(error)
        loss = v.where(size <= delta, 0.5 * (error * error), delta * (size - 0.5 * delta))
        return loss, v.where(error > delta, delta, v.where(error < -delta, -delta, error))

    def score_formula(self, raw: Any, target: Any) -> Any:
        return v.mean_outputs(v.absolute(raw - target))


@loss("pinball")
@dataclass(frozen=True)
class Quantile(ByOutput):
    """The pinball loss max(q (t - raw), (q - 1) (t - raw)), mean over levels q and outputs. Score: pinball, the same.

    The gradient is 0 where raw equals the target t.

    levels: numbers between 0 and 1, growing; each is a head of every output. Default (0.1, 0.5, 0.9). Predictions are
        those of the level nearest 0.5 (the lower of two); `predict_quantiles` returns all. Quantiles may cross.
    Source: Koenker and Bassett, Econometrica 46 (1978).
    """

    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    name = "quantile"
    score_name = "pinball"
    score_label = "pinball loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        as_tuple = (self.levels,) if isinstance(self.levels, Real) else self.levels
        levels = numbers("levels", as_tuple, Range(0.0, 1.0, open_low=True))
        if any(later <= earlier for earlier, later in zip(levels, levels[1:], strict=False)):
            raise DataError(compose("levels", "numbers that grow", show(levels)))
        object.__setattr__(self, "levels", levels)

    @property
    def heads(self) -> int:
        return len(self.levels)

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        loss, gradients, share = None, [], 1.0 / self.heads
        for level, head in zip(self.levels, raw if self.heads > 1 else (raw,), strict=True):
            above, below = share * level, share * (level - 1.0)
            error = target - head
            part = v.where(error > 0.0, above * error, below * error)
            loss = part if loss is None else loss + part
            gradients.append(v.where(error > 0.0, -above, v.where(error < 0.0, -below, error)))
        return loss, tuple(gradients) if self.heads > 1 else gradients[0]

    def values(self, raw: np.ndarray) -> np.ndarray:
        middle = int(np.argmin(np.round(np.abs(np.array(self.levels) - 0.5), 12)))
        return np.ascontiguousarray(raw[..., middle :: self.heads])

    def quantiles(self, raw: np.ndarray) -> np.ndarray:
        result = raw.reshape(*raw.shape[:-1], raw.shape[-1] // self.heads, self.heads)
        return result[..., 0, :] if result.shape[-2] == 1 else result


@loss("poisson_nll")
@dataclass(frozen=True)
class Poisson(ByOutput):
    """exp(raw) - target * raw, mean over outputs; raw outputs are logarithms of rates. Score: nll, the same.

    Predictions are rates. Targets are at least 0.
    Source: torch.nn.PoissonNLLLoss(log_input=True, full=False).
    """

    name = "poisson"
    score_name = "nll"
    score_label = "negative log likelihood"
    least_target = 0.0

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        rate = v.exp(raw)
        return rate - target * raw, rate - target

    @property
    def link_name(self) -> str:
        return "exp"

    def link(self, raw: Any) -> Any:
        return v.exp(raw)

    def values(self, raw: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(self.link(raw))


@loss("gaussian")
@dataclass(frozen=True)
class GaussianNLL(ByOutput):
    """(log_variance + (mean - target)² / variance) / 2, mean over outputs. Score: nll, the same.

    Each output has two heads, mean and log_variance. Predictions are means; `predict_std` returns standard deviations.

    Source: Nix and Weigend, ICNN 1994; torch.nn.GaussianNLLLoss(full=False), without its lower bound of variances.
    """

    name = "gaussian_nll"
    score_name = "nll"
    score_label = "negative log likelihood"

    @property
    def heads(self) -> int:
        return 2

    def elements(self, raw: Any, target: Any) -> tuple[Any, Any]:
        mean, log_variance = raw
        error = mean - target
        scaled = error * v.exp(-log_variance)
        square = error * scaled
        return 0.5 * (log_variance + square), (scaled, 0.5 - 0.5 * square)

    @property
    def parts(self) -> tuple[str, ...]:
        return (*super().parts, "deviation")

    def deviation(self, raw: Any) -> Any:
        _, log_variance = raw
        return v.exp(0.5 * log_variance)

    def values(self, raw: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(raw[..., ::2])

    def standard_deviations(self, raw: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            deviations = np.asarray(self.deviation((raw[..., ::2], raw[..., 1::2])))
        return deviations[..., 0] if deviations.shape[-1] == 1 else deviations


def as_loss(value: Any) -> Loss:
    """Return the loss of a name, with default parameters, or a Loss unchanged. Raises DataError for anything else."""
    if isinstance(value, Loss):
        return value
    name = LOSS_ALIASES.get(value, value) if isinstance(value, str) else None
    if isinstance(value, type) and issubclass(value, Loss):
        raise DataError(compose("loss", "a name or an object", show(value), f"Make one: pm.{value.__name__}()."))
    if name not in LOSSES:
        raise DataError(unknown_name("loss", value, LOSSES, LOSS_ALIASES))
    return LOSSES[name]


def to_plain(loss: Loss) -> str | dict[str, Any]:
    """Return a loss as stored in headers of files: its name, or a dictionary with the name and parameters."""
    changed = parameters(loss)
    return {"name": loss.name, **changed} if changed else loss.name


def from_plain(plain: Any) -> Loss:
    """Return the loss of a header; the inverse of `to_plain`. Raises DataError for an unknown loss."""
    if not isinstance(plain, dict):
        return as_loss(plain)
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    kind = type(as_loss(arguments.pop("name", None)))
    try:
        return kind(**arguments)
    except TypeError as error:
        raise DataError(compose("loss", f"parameters of {kind.__name__}", show(plain))) from error
