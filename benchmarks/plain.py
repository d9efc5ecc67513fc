"""The forward pass of a member in plain float64 NumPy, which shares no code with the library."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.common import Architecture, Weights

_erf = np.vectorize(math.erf, otypes=[np.float64])
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z * 0.5 * (1 + _erf(z / math.sqrt(2))),
    "selu": lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    "hardshrink": lambda z: np.where(np.abs(z) > 0.5, z, 0),
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
}


def plain_forward(architecture: Architecture, weights: Weights, x: np.ndarray) -> np.ndarray:
    """Outputs (rows,) of a member with one output, all of whose hidden layers have one activation."""
    a = x.astype(np.float64)
    *hidden, last = zip(weights.matrices, weights.biases, strict=True)
    for w, b in hidden:
        a = FORMULAS[architecture[1]](a @ w.astype(np.float64) + b)
    return (a @ last[0].astype(np.float64) + last[1])[:, 0]
