"""A plain float64 NumPy MLP, written from the textbook: what every peer is held to."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.common import Adam, Architecture, Cell, Weights
from benchmarks.peers import columns

erf = np.vectorize(math.erf, otypes=[np.float64])


def normal_cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + erf(z / math.sqrt(2)))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
    "gelu": lambda z: z * normal_cdf(z),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(z)),
    "hardshrink": lambda z: np.where(np.abs(z) > 0.5, z, 0),
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
}


def slope(activation: str, z: np.ndarray) -> np.ndarray:
    """A central difference: no derivative formula to be wrong in the same way as a peer's."""
    step = 1e-6
    act = FORMULAS[activation]
    return (act(z + step) - act(z - step)) / (2 * step)


def gradients(activation: str, layers: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Of the mean squared error over rows and outputs; `layers`: matrix, bias, matrix, bias, ..., and so the result."""
    inputs, sums = [x], []
    for matrix, bias in zip(layers[::2], layers[1::2], strict=True):
        sums.append(inputs[-1] @ matrix + bias)
        inputs.append(FORMULAS[activation](sums[-1]))
    delta = 2 * (sums[-1] - y) / y.size
    found: list[np.ndarray] = []
    for layer in range(len(sums) - 1, -1, -1):
        found = [inputs[layer].T @ delta, delta.sum(axis=0), *found]
        if layer:
            delta = delta @ layers[2 * layer].T * slope(activation, sums[layer - 1])
    return found


def plain_training(cell: Cell, architecture: Architecture, start: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    """An epoch from the textbook, rows in order."""
    layers = [a.astype(np.float64) for pair in zip(*start, strict=True) for a in pair]
    first, second = [np.zeros_like(a) for a in layers], [np.zeros_like(a) for a in layers]
    rows, targets, h = x.astype(np.float64), columns(y).astype(np.float64), Adam()
    for step, begin in enumerate(range(0, len(rows), cell.batch_size), start=1):
        batch = slice(begin, begin + cell.batch_size)
        slopes = gradients(architecture[1], layers, rows[batch], targets[batch])
        for i, g in enumerate(slopes):
            if cell.optimizer == "sgd":
                layers[i] -= cell.learning_rate * g
                continue
            first[i] = h.beta1 * first[i] + (1 - h.beta1) * g
            second[i] = h.beta2 * second[i] + (1 - h.beta2) * g**2
            mean, variance = first[i] / (1 - h.beta1**step), second[i] / (1 - h.beta2**step)
            layers[i] -= cell.learning_rate * mean / (np.sqrt(variance) + h.eps)
    return Weights(layers[::2], layers[1::2])


def mean_losses(members: Sequence[Weights], activations: Sequence[str], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n_members,) mean squared error over rows and outputs."""
    found = []
    for weights, activation in zip(members, activations, strict=True):
        outputs = x.astype(np.float64)
        for layer, (matrix, bias) in enumerate(zip(*weights, strict=True)):
            outputs = (FORMULAS[activation](outputs) if layer else outputs) @ matrix + bias
        found.append(np.square(outputs - columns(y)).mean())
    return np.array(found)
