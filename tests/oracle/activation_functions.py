"""Activations and their derivatives, with PyTorch's constants and its derivatives at kinks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array

LEAKY_SLOPE = 0.01
SHRINK = 0.5
# Klambauer, Unterthiner, Mayr, Hochreiter: "Self-Normalizing Neural Networks", 2017, equation 14
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def either(z: Array, condition: NDArray[np.bool_], yes: Any, no: Any) -> Array:
    """yes or no by the condition, and NaN where z is NaN, which a comparison alone would hide."""
    return np.where(np.isnan(z), np.nan, np.where(condition, yes, no))


def logistic(z: Array) -> Array:
    small: Array = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def softplus(z: Array) -> Array:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: Array) -> Array:
    """(1 + erf(z / sqrt 2)) / 2, as erfc(-z / sqrt 2) / 2, which stays exact far to the left."""
    twice: Array = np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2.0))
    return 0.5 * twice


def normal_density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return density


def gelu_argument(z: Array) -> Array:
    """sqrt(2 / pi) (z + 0.044715 z³), of which gelu_tanh takes the hyperbolic tangent: ±1 beyond |z| = 30."""
    z = np.clip(z, -30.0, 30.0)
    return math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)


def gelu_argument_slope(z: Array) -> Array:
    """The derivative of tanh of `gelu_argument`."""
    inner = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * np.clip(z, -30.0, 30.0) ** 2)
    twice = 2.0 * gelu_argument(z)
    return inner * 4.0 * logistic(twice) * logistic(-twice)


# name: (function, derivative), both element by element on float64 arrays
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (
        lambda z: z,
        lambda z: either(z, z == z, 1.0, 1.0),
    ),
    "sigmoid": (
        lambda z: logistic(z),
        lambda z: logistic(z) * logistic(-z),
    ),
    "tanh": (
        lambda z: np.tanh(z),
        lambda z: 1.0 - np.tanh(z) ** 2,
    ),
    "relu": (
        lambda z: either(z, z > 0, z, 0.0),
        lambda z: either(z, z > 0, 1.0, 0.0),
    ),
    "leaky_relu": (
        lambda z: either(z, z > 0, z, LEAKY_SLOPE * z),
        lambda z: either(z, z > 0, 1.0, LEAKY_SLOPE),
    ),
    "elu": (
        lambda z: either(z, z > 0, z, np.expm1(np.minimum(z, 0.0))),
        lambda z: either(z, z > 0, 1.0, np.exp(np.minimum(z, 0.0))),
    ),
    "gelu": (
        lambda z: z * normal_cdf(z),
        lambda z: normal_cdf(z) + z * normal_density(z),
    ),
    "selu": (
        lambda z: SELU_SCALE * either(z, z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0.0))),
        lambda z: SELU_SCALE * either(z, z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0.0))),
    ),
    "hardshrink": (
        lambda z: either(z, np.abs(z) > SHRINK, z, 0.0),
        lambda z: either(z, np.abs(z) > SHRINK, 1.0, 0.0),
    ),
    "mish": (
        lambda z: z * np.tanh(softplus(z)),
        lambda z: np.tanh(softplus(z)) + z * logistic(z) * (1.0 - np.tanh(softplus(z)) ** 2),
    ),
    "silu": (
        lambda z: z * logistic(z),
        lambda z: logistic(z) + z * logistic(z) * logistic(-z),
    ),
    "softplus": (
        lambda z: softplus(z),
        lambda z: logistic(z),
    ),
    "softsign": (
        lambda z: z / (1.0 + np.abs(z)),
        lambda z: 1.0 / (1.0 + np.abs(z)) ** 2,
    ),
    "hard_tanh": (
        lambda z: np.clip(z, -1.0, 1.0),
        lambda z: either(z, np.abs(z) < 1.0, 1.0, 0.0),
    ),
    "hard_sigmoid": (
        lambda z: np.clip(z + 3.0, 0.0, 6.0) / 6.0,
        lambda z: either(z, np.abs(z) < 3.0, 1.0 / 6.0, 0.0),
    ),
    "hard_swish": (
        lambda z: z * np.clip(z + 3.0, 0.0, 6.0) / 6.0,
        lambda z: either(z, np.abs(z) < 3.0, z / 3.0 + 0.5, either(z, z > 0.0, 1.0, 0.0)),
    ),
    "gelu_tanh": (
        # (1 + tanh u) / 2 is the logistic function of 2u, which keeps its digits where tanh u is nearly -1.
        lambda z: z * logistic(2.0 * gelu_argument(z)),
        lambda z: logistic(2.0 * gelu_argument(z)) + 0.5 * z * gelu_argument_slope(z),
    ),
    "sin": (
        lambda z: np.sin(z),
        lambda z: np.cos(z),
    ),
}

# Where a derivative jumps. ELU is not among them: with alpha = 1 its derivative is 1 on both sides of 0.
KINKS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "selu": (0.0,),
    "hardshrink": (-SHRINK, SHRINK),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_swish": (-3.0, 3.0),
}
