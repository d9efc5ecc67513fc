"""Holds every peer to a plain float64 NumPy MLP: after an epoch of a few steps each weight must agree.

python -m benchmarks.peers.check
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import ACTIVATIONS, Adam, Architecture, Cell, Weights, random_weights, regression_data
from benchmarks.peers import METHODS, Method, columns

# Float32 rounding over five steps gives about 1e-6; a wrong formula gives 1e-3 and more. Members within a rounding
# error of a kink (relu, hardshrink) could differ by more; none of those drawn here does.
TOLERANCE = 2e-5
# Adam divides a gradient by its own size: where a gradient is nearly zero, rounding moves the weight by a good part of
# the learning rate. So it is held by all but a few weights; the rest can't differ by more than the steps add up to.
ADAM_NEARLY_ALL = 99.5  # percent

# Losses are relative; with the weights within tolerance, they are too.
LOSS_TOLERANCE = 2e-5
# The least that a member must learn, in its weights: otherwise agreement would say nothing.
MOVED = 1e-3

LEARNING_RATE = 0.02
# Widths below, at and above a whole vector, and of several buckets.
WIDTHS = (1, 7, 16, 33, 50, 100)

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


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([a.ravel() for a in (*weights.matrices, *weights.biases)])


class Difference(NamedTuple):
    nearly_all: float  # the percentile of Adam's rule
    largest: float

    def within(self, optimizer: str) -> bool:
        return (self.nearly_all if optimizer == "adam" else self.largest) < TOLERANCE


def difference(found: Sequence[Weights], expected: Sequence[Weights]) -> Difference:
    distance = np.abs(np.concatenate([flat(a) - flat(b) for a, b in zip(found, expected, strict=True)]))
    return Difference(float(np.percentile(distance, ADAM_NEARLY_ALL)), float(distance.max()))


def largest_loss_difference(pool: Method, expected: Sequence[Weights], names: Sequence[str], x: Any, y: Any) -> float:
    """Relative: a peer's own losses beside those of the weights it should have."""
    wanted = []
    for weights, activation in zip(expected, names, strict=True):
        outputs = x.astype(np.float64)
        for layer, (matrix, bias) in enumerate(zip(*weights, strict=True)):
            outputs = (FORMULAS[activation](outputs) if layer else outputs) @ matrix + bias
        wanted.append(np.square(outputs - columns(y)).mean())
    return float(np.max(np.abs(pool.losses(x, y) / wanted - 1)))


def cells(quick: bool) -> list[Cell]:
    """What peers are held to; the number of rows leaves a last minibatch that is short, or very nearly full."""
    first = Cell(10, 32, 144, LEARNING_RATE)
    if quick:
        return [first, Cell(5, 32, 80, LEARNING_RATE, n_outputs=3, depth=2), first._replace(optimizer="adam")]
    wide = Cell(100, 32, 144, LEARNING_RATE)
    several = [base._replace(n_outputs=outputs) for base in (first, wide) for outputs in (1, 10)]
    deep = [base._replace(depth=depth) for base in several for depth in (2, 3)]
    adam = [cell._replace(optimizer="adam", learning_rate=1e-3) for cell in (first, several[3], deep[0])]
    short = [Cell(10, 256, 100, LEARNING_RATE), Cell(10, 32, 31 * 32 + 8, 0.002)]
    return [*several, *deep, *adam, *short]


def verdicts(cell: Cell, names: Sequence[str], widths: Sequence[int] = WIDTHS) -> Iterator[tuple[str, str, bool]]:
    """For each peer that can train the cell: its name, what was found in words, and whether it passes."""
    everything = [(width, activation) for width in widths for activation in ACTIVATIONS]
    start = random_weights(everything, cell.n_features, 0, cell.n_outputs, cell.depth)
    x, y = regression_data(cell.n_features, cell.n_rows, n_outputs=cell.n_outputs)
    expected = [plain_training(cell, a, w, x, y) for a, w in zip(everything, start, strict=True)]
    moved = min(difference([before], [after]).largest for before, after in zip(start, expected, strict=True))
    for name in names:
        peer = METHODS[name]
        if not peer.applies(cell):
            continue
        mine = [m for m, (_, activation) in enumerate(everything) if activation in peer.activations]
        pool = peer.make(cell, [everything[m] for m in mine], [start[m] for m in mine])
        pool.train(x, y, 2)
        wanted = [expected[m] for m in mine]
        found = difference(pool.weights(), wanted)
        losses = largest_loss_difference(pool, wanted, [everything[m][1] for m in mine], x, y)
        words = f"weights within {found.largest:.1e} (nearly all {found.nearly_all:.1e}), losses within {losses:.1e}"
        passes = found.within(cell.optimizer) and losses < LOSS_TOLERANCE and moved > MOVED
        yield name, f"{words}; every member moved by {moved:.1e}", passes


def main() -> None:
    failed = []
    installed = [name for name, peer in METHODS.items() if peer.installed()]
    for cell in cells(quick=False):
        print(cell.name())
        for name, words, passes in verdicts(cell, installed):
            print(f"  {name:20} {words}")
            failed += [] if passes else [f"{name} at {cell.name()}"]
    if failed:
        raise SystemExit(f"differs from the plain MLP: {', '.join(failed)}")


if __name__ == "__main__":
    main()
