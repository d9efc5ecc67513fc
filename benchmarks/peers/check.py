"""Holds every peer to a plain float64 NumPy MLP: after a few SGD steps each weight must agree within float32 error.

python -m benchmarks.peers.check
"""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.common import ACTIVATIONS, Architecture, Weights, random_weights, regression_data
from benchmarks.peers.prototype import PrototypePool
from benchmarks.peers.pytorch_fused import FusedPool
from benchmarks.peers.pytorch_sequential import SequentialModels

# Float32 rounding over five steps gives about 1e-6; a wrong formula gives 1e-3 and more. Members within a rounding
# error of a kink (relu, hardshrink) could differ by more; none of those drawn here does.
TOLERANCE = 2e-5

BATCH_SIZE, N_ROWS, LEARNING_RATE = 32, 144, 0.02  # four full minibatches and one of 16 rows

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


def plain_training(architecture: Architecture, start: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    _, activation = architecture
    x, y = x.astype(np.float64), y.astype(np.float64)
    w1, b1, w2, b2 = (array.astype(np.float64) for array in start)
    for first in range(0, len(x), BATCH_SIZE):
        rows = slice(first, first + BATCH_SIZE)
        z = x[rows] @ w1 + b1
        hidden = FORMULAS[activation](z)
        d_out = 2 * (hidden @ w2 + b2 - y[rows, None]) / len(z)
        d_z = d_out @ w2.T * slope(activation, z)
        w2 -= LEARNING_RATE * hidden.T @ d_out
        b2 -= LEARNING_RATE * d_out.sum(axis=0)
        w1 -= LEARNING_RATE * x[rows].T @ d_z
        b1 -= LEARNING_RATE * d_z.sum(axis=0)
    return Weights(w1, b1, w2, b2)


def largest_difference(found: list[Weights], expected: list[Weights]) -> float:
    return max(
        float(np.max(np.abs(a - b)))
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def main() -> None:
    failed = []
    for n_features in (10, 100):
        architectures = [(width, activation) for width in (1, 7, 16, 33, 50, 100) for activation in ACTIVATIONS]
        start = random_weights(architectures, n_features)
        x, y = regression_data(n_features, N_ROWS)
        expected = [plain_training(a, w, x, y) for a, w in zip(architectures, start, strict=True)]
        moved = min(largest_difference([before], [after]) for before, after in zip(start, expected, strict=True))
        pools = {
            "prototype": PrototypePool(architectures, start, LEARNING_RATE),
            "pytorch_fused": FusedPool(architectures, start, LEARNING_RATE),
            "pytorch_sequential": SequentialModels(architectures, start, LEARNING_RATE),
        }
        print(f"F={n_features}: every member moved by at least {moved:.1e}")
        for name, pool in pools.items():
            pool.train(x, y, BATCH_SIZE, n_threads=2)
            found = pool.weights()
            difference = largest_difference(found, expected)
            print(f"  {name:20} largest difference of a weight {difference:.1e}")
            if not difference < TOLERANCE or not moved > 100 * TOLERANCE:
                failed.append(f"{name} at F={n_features}")
    if failed:
        raise SystemExit(f"differs from the plain MLP by more than {TOLERANCE}: {', '.join(failed)}")


if __name__ == "__main__":
    main()
