"""Initial weights: the initializers, and the weights and biases of a member."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from .arrays import Array
from .philox import FOR_WEIGHTS, LOW_32, in_reading_order, key_words, philox4x32


def open_uniform(count: int, layer: int, tensor: int, key: int) -> Array:
    """The numbers in (0, 1) behind a layer's weights (tensor 0) or biases (tensor 1)."""
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counter = (blocks & LOW_32, blocks >> 32, 2 * layer + tensor, FOR_WEIGHTS)
    words = in_reading_order(philox4x32(counter, key_words(key)), count)
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def uniform(u: Array, bound: float) -> Array:
    return bound * (2.0 * u - 1.0)


def normal(u: Array, std: float) -> Array:
    inverse = NormalDist().inv_cdf
    return std * np.array([inverse(p) for p in u.tolist()])


# name: (distribution of the weights, its bound or standard deviation from fan_in and fan_out)
INITIALIZERS: dict[str, tuple[Callable[[Array, float], Array], Callable[[int, int], float]]] = {
    "pytorch": (uniform, lambda fan_in, fan_out: 1.0 / math.sqrt(fan_in)),
    "glorot_uniform": (uniform, lambda fan_in, fan_out: math.sqrt(6.0 / (fan_in + fan_out))),
    "glorot_normal": (normal, lambda fan_in, fan_out: math.sqrt(2.0 / (fan_in + fan_out))),
    "he_uniform": (uniform, lambda fan_in, fan_out: math.sqrt(6.0 / fan_in)),
    "he_normal": (normal, lambda fan_in, fan_out: math.sqrt(2.0 / fan_in)),
    "lecun_normal": (normal, lambda fan_in, fan_out: math.sqrt(1.0 / fan_in)),
}


class Spec(Protocol):
    """The part of a member's spec that its initial weights depend on."""

    hidden: Any
    bias: Any
    initializer: Any
    zero_last: Any
    parametrization: Any


def initial_weights(spec: Spec, n_features: int, n_raw_outputs: int, key: int) -> tuple[list[Array], list[Array]]:
    """Weights and biases of a member with this stream key, in float64 (the library casts them to the pool's dtype).

    Only PyTorch's initializer draws biases; without biases they are zeros. The NTK parametrization has its own start:
    weights from N(0, 1) and no biases.
    """
    divided = spec.parametrization == "ntk"
    distribution, scale = (normal, lambda fan_in, fan_out: 1.0) if divided else INITIALIZERS[spec.initializer]
    sizes = [n_features, *spec.hidden, n_raw_outputs]
    weights, biases = [], []
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        u = open_uniform(fan_in * fan_out, layer, 0, key)
        weights.append(distribution(u, scale(fan_in, fan_out)).reshape(fan_in, fan_out))
        if spec.bias and spec.initializer == "pytorch" and not divided:
            biases.append(uniform(open_uniform(fan_out, layer, 1, key), 1.0 / math.sqrt(fan_in)))
        else:
            biases.append(np.zeros(fan_out))
    if spec.zero_last:
        weights[-1], biases[-1] = np.zeros_like(weights[-1]), np.zeros_like(biases[-1])
    return weights, biases
