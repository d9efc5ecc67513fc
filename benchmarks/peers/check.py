"""Holds every peer to a plain float64 NumPy MLP: after an epoch of a few steps each weight must agree.

python -m benchmarks.peers.check
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.common import ACTIVATIONS, Cell, Weights, random_weights, regression_data
from benchmarks.peers import METHODS
from benchmarks.peers.textbook import mean_losses, plain_training

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
WIDTHS = (1, 7, 16, 33, 100)


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


def cells(quick: bool) -> list[Cell]:
    """What peers are held to; the number of rows leaves a last minibatch that is short, or very nearly full."""
    first = Cell(10, 32, 144, LEARNING_RATE)
    if quick:
        return [first, Cell(5, 32, 80, LEARNING_RATE, n_outputs=3, depth=2), first._replace(optimizer="adam")]
    wide = Cell(100, 32, 144, LEARNING_RATE)
    several = [base._replace(n_outputs=outputs) for base in (first, wide) for outputs in (1, 10)]
    deep = [first._replace(depth=2), first._replace(depth=3, n_outputs=10)]
    adam = [cell._replace(optimizer="adam", learning_rate=1e-3) for cell in (first, *deep)]
    short = [Cell(10, 256, 100, 10 * LEARNING_RATE), Cell(10, 32, 31 * 32 + 8, 0.002)]
    return [*several, *deep, *adam, *short]


def verdicts(
    cell: Cell, names: Sequence[str], widths: Sequence[int] = WIDTHS, activations: Sequence[str] = ACTIVATIONS
) -> Iterator[tuple[str, str, bool]]:
    """For each peer that can train the cell: its name, what was found in words, and whether it passes."""
    everything = [(width, activation) for width in widths for activation in activations]
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
        of_textbook = mean_losses(wanted, [everything[m][1] for m in mine], x, y)
        losses = float(np.max(np.abs(pool.losses(x, y) / of_textbook - 1)))
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
