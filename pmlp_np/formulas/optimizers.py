"""Optimizers: update rules of weights after a minibatch, each written once for arrays and for compiled code.

A rule is two functions over the vocabulary. `scalars(h, step)` runs once per member and minibatch in float64: from the
hyperparameters `h` and the 1-based step count it computes the numbers of the update. `update(w, g, slots, s)` runs once
per parameter: from the parameter, its gradient, its slots and those numbers it computes the new parameter and slots.
Slots start at zero. The caller puts differences between a member's parameters (a layer's learning rate, biases without
decay) into `h` (see step_inputs), where the learning rate is the current one (see formulas.schedules).

Each rule has a variant for members with L1 or decoupled decay; members without both run the plain rule.

To add an optimizer, write its rule here and its public class under `@optimizer(rule)`, and re-export the class from the
package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from pmlp_np.formulas.options import Range
from pmlp_np.formulas.vocabulary import exp, expm1, fma, number, power, sqrt, where


@dataclass(frozen=True)
class Rule:
    """An update rule: name, number of slots per parameter, and its two functions.

    rate_power, decay_power: powers for a scaled parameter w = V / s. With the learning rate divided by s^rate_power,
        weight_decay multiplied by s^decay_power and eps multiplied by s, the rule changes w just as it would change V
        along the gradient of V. (A step proportional to the gradient has power 2, since both w and its gradient shrink
        by s; a step whose size does not depend on the gradient's has power 1.)
    """

    name: str
    slots: int
    scalars: Callable[[Any, Any], dict[str, Any]]
    update: Callable[[Any, Any, tuple, Any], tuple[Any, tuple]]
    rate_power: int
    decay_power: int = 2


_RANGES = {
    "learning_rate": Range(0.0, open_low=True),
    "momentum": Range(0.0, 1.0),
    "nesterov": Range(0.0, 2.0),
    "beta1": Range(0.0, 1.0),
    "beta2": Range(0.0, 1.0),
    "eps": Range(0.0),
    "weight_decay": Range(0.0),
    "alpha": Range(0.0, 1.0),
    "momentum_decay": Range(0.0),
}
HYPERPARAMETERS = tuple(_RANGES)
# Inputs of rules: hyperparameters, and the options that act on a step.
STEP_INPUTS = (*HYPERPARAMETERS, "l1", "decoupled_weight_decay")


def hyperparameter_range(name: str) -> Range:
    """Return the range of the hyperparameter `name`."""
    return _RANGES[name]


@dataclass(frozen=True)
class Optimizer:
    """Base class of optimizers: a frozen dataclass of hyperparameters, each with a default and a range in _RANGES."""

    name: ClassVar[str]

    @classmethod
    def _rule_name(cls, momentum: float, nesterov: bool) -> str:
        """Return the name of the rule for these hyperparameters, which are 0 for an optimizer that lacks them."""
        return cls.name


OPTIMIZERS: dict[str, type[Optimizer]] = {}
RULES: dict[str, Rule] = {}
_Class = TypeVar("_Class", bound=type[Optimizer])


def optimizer(*rules: Rule) -> Callable[[_Class], _Class]:
    """Enter an optimizer and its rules into the tables; each rule with its variant for L1 and decoupled decay."""

    def enter(cls: _Class) -> _Class:
        OPTIMIZERS[cls.name] = cls
        RULES.update({rule.name: rule for plain in rules for rule in (plain, _shrinking(plain))})
        return cls

    return enter


def hyperparameter_names(optimizer: type[Optimizer]) -> tuple[str, ...]:
    """Return the names of an optimizer class's hyperparameters."""
    return tuple(field.name for field in fields(optimizer))


def rule_name(optimizer: str, momentum: float, nesterov: bool, shrinking: bool = False) -> str:
    """Return the name of the rule that an optimizer runs.

    Without momentum, the rule has no slot for it. shrinking: whether a member has L1 or decoupled decay.
    """
    name = OPTIMIZERS[optimizer]._rule_name(momentum, nesterov)
    return shrinking_name(name) if shrinking else name


def _sign(w):
    return where(w > 0.0, 1.0, where(w < 0.0, -1.0, w))


def _shrinking(rule: Rule) -> Rule:
    """Return the rule's variant with L1, whose derivative is added to the gradient, and decoupled decay."""

    def scalars(h, step):
        shrinkage = h.learning_rate * h.decoupled_weight_decay
        return rule.scalars(h, step) | {"l1": h.l1, "shrinkage": shrinkage}

    def update(w, g, slots, s):
        moved, slots = rule.update(w, fma(s.l1, _sign(w), g), slots, s)
        return fma(-s.shrinkage, w, moved), slots

    name = shrinking_name(rule.name)
    return Rule(name, rule.slots, scalars, update, rule.rate_power, rule.decay_power)


def shrinking_name(rule: str) -> str:
    """Return the name of a rule's variant with L1 and decoupled decay."""
    return f"{rule}_shrinking"


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


@optimizer(
    Rule("sgd", 0, _sgd_scalars, _sgd_update, rate_power=2),
    Rule("momentum", 1, _momentum_scalars, _momentum_update, rate_power=2),
    Rule("nesterov", 1, _momentum_scalars, _nesterov_update, rate_power=2),
)
@dataclass(frozen=True)
class SGD(Optimizer):
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

    @classmethod
    def _rule_name(cls, momentum: float, nesterov: bool) -> str:
        return cls.name if momentum == 0.0 else "nesterov" if nesterov else "momentum"


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


def _adam_step(w, g, slots, s):
    m, v = slots
    m = fma(s.beta1, m, s.one_minus_beta1 * g)
    v = fma(s.beta2, v, s.one_minus_beta2 * (g * g))
    return w - s.step_size * m / fma(sqrt(v), s.root_correction, s.eps), (m, v)


@optimizer(Rule("adam", 2, _adam_scalars, _adam_update, rate_power=1))
@dataclass(frozen=True)
class Adam(Optimizer):
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


def _adamw_update(w, g, slots, s):
    return _adam_step(w * s.shrink, g, slots, s)


@optimizer(Rule("adamw", 2, _adam_scalars, _adamw_update, rate_power=1, decay_power=1))
@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: w = w - learning_rate * weight_decay * w before Adam's step without decay.

    Source: Loshchilov and Hutter, ICLR 2019, algorithm 2; torch.optim.AdamW.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    name: ClassVar[str] = "adamw"


def _rmsprop_scalars(h, step):
    return {
        "learning_rate": h.learning_rate,
        "alpha": h.alpha,
        "one_minus_alpha": 1.0 - h.alpha,
        "eps": h.eps,
        "weight_decay": h.weight_decay,
        "momentum": h.momentum,
    }


def _rmsprop_direction(w, g, v, s):
    g = fma(s.weight_decay, w, g)
    v = fma(s.alpha, v, s.one_minus_alpha * (g * g))
    return g / (sqrt(v) + s.eps), v


def _rmsprop_update(w, g, slots, s):
    direction, v = _rmsprop_direction(w, g, slots[0], s)
    return fma(-s.learning_rate, direction, w), (v,)


def _rmsprop_momentum_update(w, g, slots, s):
    direction, v = _rmsprop_direction(w, g, slots[0], s)
    b = fma(s.momentum, slots[1], direction)
    return fma(-s.learning_rate, b, w), (v, b)


@optimizer(
    Rule("rmsprop", 1, _rmsprop_scalars, _rmsprop_update, rate_power=1),
    Rule("rmsprop_momentum", 2, _rmsprop_scalars, _rmsprop_momentum_update, rate_power=1),
)
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by the root of a running mean of their squares (PyTorch's formulas, not centered).

    g = gradient + weight_decay * w;  v = alpha v + (1 - alpha) g²;  d = g / (sqrt(v) + eps);
    w = w - learning_rate * d, with momentum:  b = momentum * b + d;  w = w - learning_rate * b.
    Source: Tieleman and Hinton, Coursera lecture 6.5, 2012; torch.optim.RMSprop.
    """

    learning_rate: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    name: ClassVar[str] = "rmsprop"

    @classmethod
    def _rule_name(cls, momentum: float, nesterov: bool) -> str:
        return cls.name if momentum == 0.0 else "rmsprop_momentum"


_LOG_096 = math.log(0.96)
# Terms beyond these are at most (1/2)^k / k, which does not change the sum.
_PRODUCT_TERMS = 54


def _nadam_momentum(h, t):
    return h.beta1 * (1.0 - 0.5 * exp(h.momentum_decay * _LOG_096 * t))


def _nadam_product(h, step):
    """Return mu_1 ... mu_t as a function of t, so that no number is carried from step to step.

    With q = 0.96^momentum_decay it is beta1^t (1 - q/2) ... (1 - q^t/2). The logarithm of each factor is the series
    -(x + x²/2 + x³/3 + ...) of x = q^i / 2; summed over i, its k-th term is 2^-k / k q^k (1 - q^(kt)) / (1 - q^k).
    """
    t = number(step, h.beta1)
    exponent = h.momentum_decay * _LOG_096
    one_less, power_less = -expm1(exponent), -expm1(exponent * t)  # 1 - q, 1 - q^t
    q, q_t = 1.0 - one_less, 1.0 - power_less
    # If q is 1, each quotient is t.
    moving = one_less > 0.0
    one_less, power_less = where(moving, one_less, 1.0), where(moving, power_less, t)
    below, above, power_of_q, total = one_less, power_less, q, 0.0 * t
    for k in range(1, _PRODUCT_TERMS + 1):
        total = total + (0.5**k / k) * (power_of_q * (above / below))
        # 1 - q^(k+1) = 1 - q + q (1 - q^k): no digits cancel.
        below, above, power_of_q = one_less + q * below, power_less + q_t * above, power_of_q * q
    return power(h.beta1, step) * exp(-total)


def _nadam_scalars(h, step):
    t = number(step, h.beta1)
    mu, next_mu = _nadam_momentum(h, t), _nadam_momentum(h, t + 1.0)
    product = _nadam_product(h, step)
    return {
        "gradient_size": h.learning_rate * ((1.0 - mu) / (1.0 - product)),
        "momentum_size": h.learning_rate * (next_mu / (1.0 - product * next_mu)),
        "root_correction": 1.0 / sqrt(1.0 - power(h.beta2, step)),
        "beta1": h.beta1,
        "beta2": h.beta2,
        "one_minus_beta1": 1.0 - h.beta1,
        "one_minus_beta2": 1.0 - h.beta2,
        "eps": h.eps,
        "weight_decay": h.weight_decay,
    }


def _nadam_update(w, g, slots, s):
    m, v = slots
    g = fma(s.weight_decay, w, g)
    m = fma(s.beta1, m, s.one_minus_beta1 * g)
    v = fma(s.beta2, v, s.one_minus_beta2 * (g * g))
    direction = fma(s.gradient_size, g, s.momentum_size * m)
    return w - direction / fma(sqrt(v), s.root_correction, s.eps), (m, v)


@optimizer(Rule("nadam", 2, _nadam_scalars, _nadam_update, rate_power=1))
@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which grows toward beta1 over the steps (PyTorch's formulas).

    g = gradient + weight_decay * w;  m, v as in Adam;  mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);
    P = mu_1 ... mu_t;  d = sqrt(v / (1 - beta2^t)) + eps;
    w = w - learning_rate * ((1 - mu_t) / (1 - P) * g + mu_{t+1} / (1 - P mu_{t+1}) * m) / d.
    Source: Dozat, ICLR workshop 2016; torch.optim.NAdam.
    """

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    name: ClassVar[str] = "nadam"
