"""Optimizers: of a parameter, its gradient, its slots, the number of this step (from 1) and hyperparameters h, the new
parameter and the new slots."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .arrays import Array

Slots = dict[str, Array]
Update = Callable[[Array, Array, Slots, int, Mapping[str, Any]], tuple[Array, Slots]]


def sgd(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    momentum = h["momentum"] * slots["momentum"] + g
    direction = g + h["momentum"] * momentum if h["nesterov"] else momentum
    return w - h["learning_rate"] * direction, {"momentum": momentum}


def adam_without_decay(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    m = h["beta1"] * slots["m"] + (1.0 - h["beta1"]) * g
    v = h["beta2"] * slots["v"] + (1.0 - h["beta2"]) * g**2
    unbiased_m = m / (1.0 - h["beta1"] ** step)
    unbiased_v = v / (1.0 - h["beta2"] ** step)
    return w - h["learning_rate"] * unbiased_m / (np.sqrt(unbiased_v) + h["eps"]), {"m": m, "v": v}


def adam(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    return adam_without_decay(w, g + h["weight_decay"] * w, slots, step, h)


def adamw(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    return adam_without_decay(w - h["learning_rate"] * h["weight_decay"] * w, g, slots, step, h)


def rmsprop(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    square = h["alpha"] * slots["square"] + (1.0 - h["alpha"]) * g**2
    momentum = h["momentum"] * slots["momentum"] + g / (np.sqrt(square) + h["eps"])
    return w - h["learning_rate"] * momentum, {"square": square, "momentum": momentum}


def nadam(w: Array, g: Array, slots: Slots, step: int, h: Mapping[str, Any]) -> tuple[Array, Slots]:
    g = g + h["weight_decay"] * w
    mus = [h["beta1"] * (1.0 - 0.5 * 0.96 ** (t * h["momentum_decay"])) for t in range(1, step + 2)]
    m = h["beta1"] * slots["m"] + (1.0 - h["beta1"]) * g
    v = h["beta2"] * slots["v"] + (1.0 - h["beta2"]) * g**2
    ahead = (1.0 - mus[-2]) * g / (1.0 - math.prod(mus[:-1])) + mus[-1] * m / (1.0 - math.prod(mus))
    unbiased_v = v / (1.0 - h["beta2"] ** step)
    return w - h["learning_rate"] * ahead / (np.sqrt(unbiased_v) + h["eps"]), {"m": m, "v": v}


ADAM_DEFAULTS = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}

# name: (update, slot names, hyperparameters with their defaults)
OPTIMIZERS: dict[str, tuple[Update, tuple[str, ...], dict[str, Any]]] = {
    "sgd": (sgd, ("momentum",), {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
    "adam": (adam, ("m", "v"), ADAM_DEFAULTS),
    "adamw": (adamw, ("m", "v"), {**ADAM_DEFAULTS, "weight_decay": 0.01}),
    "rmsprop": (
        rmsprop,
        ("square", "momentum"),
        {"learning_rate": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    ),
    "nadam": (nadam, ("m", "v"), {**ADAM_DEFAULTS, "learning_rate": 2e-3, "momentum_decay": 4e-3}),
}

# Of slots, the power of a gradient that they grow with. (RMSprop's momentum adds up gradients divided by their size.)
SLOT_POWERS = {"momentum": 1, "m": 1, "v": 2, "square": 2}
