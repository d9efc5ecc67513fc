"""Optimizers: what a member's weights become after a minibatch. Each rule once, for arrays and for compiled code.

A rule is two functions over the vocabulary. `scalars(h, step)` runs once per member and minibatch in float64: from the
hyperparameters `h` and the 1-based step count it derives the numbers that the update needs. `update(w, g, slots, s)`
runs once per parameter: from the parameter, its gradient, its slots and those numbers to the new parameter and slots.
Slots start at zero. The weight decay of biases is zero: the caller hands `scalars` an `h` that says so.

To add an optimizer, write its public class and its rule here, and re-export the class from the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pmlp_np.formulas.options import Range
from pmlp_np.formulas.vocabulary import fma, power, sqrt


@dataclass(frozen=True)
class Rule:
    """One update rule: its name, how many slots it keeps per parameter, and its two functions."""

    name: str
    slots: int
    scalars: Callable[[Any, Any], dict[str, Any]]
    update: Callable[[Any, Any, tuple, Any], tuple[Any, tuple]]


_RANGES = {
    "learning_rate": Range(0.0, open_low=True),
    "momentum": Range(0.0, 1.0),
    "nesterov": Range(0.0, 2.0),
    "beta1": Range(0.0, 1.0),
    "beta2": Range(0.0, 1.0),
    "eps": Range(0.0),
    "weight_decay": Range(0.0),
}
HYPERPARAMETERS = tuple(_RANGES)


def hyperparameter_range(name: str) -> Range:
    """The values that the hyperparameter `name` may take."""
    return _RANGES[name]


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum and Nesterov's variant (PyTorch's formulas, without dampening).

    g = gradient + weight_decay * w;  b = momentum * b + g;  w = w - learning_rate * d,
    where d is g (momentum 0), b (momentum), or g + momentum * b (Nesterov).
    Source: torch.optim.SGD; Sutskever et al., ICML 2013.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    name: ClassVar[str] = "sgd"


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; weight decay enters the gradient (PyTorch's formulas).

    g = gradient + weight_decay * w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²;
    w = w - learning_rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps).
    Source: Kingma and Ba, ICLR 2015, algorithm 1; torch.optim.Adam.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    name: ClassVar[str] = "adam"


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay: w = w - learning_rate * weight_decay * w before Adam's step without decay.

    Source: Loshchilov and Hutter, ICLR 2019, algorithm 2; torch.optim.AdamW.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"


Optimizer = SGD | Adam | AdamW
OPTIMIZERS: dict[str, type[Optimizer]] = {cls.name: cls for cls in (SGD, Adam, AdamW)}


def hyperparameter_names(optimizer: type[Optimizer]) -> tuple[str, ...]:
    """The hyperparameters that an optimizer class has."""
    return tuple(field.name for field in fields(optimizer))


def _sgd_scalars(h, step):
    return {"learning_rate": h.learning_rate, "weight_decay": h.weight_decay}


def _sgd_update(w, g, slots, s):
    return fma(-s.learning_rate, fma(s.weight_decay, w, g), w), ()


def _momentum_scalars(h, step):
    return {"learning_rate": h.learning_rate, "weight_decay": h.weight_decay, "momentum": h.momentum}


def _momentum_update(w, g, slots, s):
    (b,) = slots
    b = fma(s.momentum, b, fma(s.weight_decay, w, g))
    return fma(-s.learning_rate, b, w), (b,)


def _nesterov_update(w, g, slots, s):
    (b,) = slots
    g = fma(s.weight_decay, w, g)
    b = fma(s.momentum, b, g)
    return fma(-s.learning_rate, fma(s.momentum, b, g), w), (b,)


def _adam_scalars(h, step):
    return {
        "step_size": h.learning_rate / (1.0 - power(h.beta1, step)),
        "root_correction": 1.0 / sqrt(1.0 - power(h.beta2, step)),
        "beta1": h.beta1,
        "beta2": h.beta2,
        "one_minus_beta1": 1.0 - h.beta1,
        "one_minus_beta2": 1.0 - h.beta2,
        "eps": h.eps,
        "weight_decay": h.weight_decay,
        "shrink": 1.0 - h.learning_rate * h.weight_decay,
    }


def _adam_update(w, g, slots, s):
    return _adam_step(w, fma(s.weight_decay, w, g), slots, s)


def _adamw_update(w, g, slots, s):
    return _adam_step(w * s.shrink, g, slots, s)


def _adam_step(w, g, slots, s):
    m, v = slots
    m = fma(s.beta1, m, s.one_minus_beta1 * g)
    v = fma(s.beta2, v, s.one_minus_beta2 * (g * g))
    return w - s.step_size * m / fma(sqrt(v), s.root_correction, s.eps), (m, v)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("sgd", 0, _sgd_scalars, _sgd_update),
        Rule("momentum", 1, _momentum_scalars, _momentum_update),
        Rule("nesterov", 1, _momentum_scalars, _nesterov_update),
        Rule("adam", 2, _adam_scalars, _adam_update),
        Rule("adamw", 2, _adam_scalars, _adamw_update),
    )
}


def rule_name(optimizer: str, momentum: float, nesterov: bool) -> str:
    """The rule that an optimizer runs: plain SGD keeps no slot, so momentum 0 is a rule of its own."""
    if optimizer != SGD.name:
        return optimizer
    if momentum == 0.0:
        return "sgd"
    return "nesterov" if nesterov else "momentum"
