"""What the paper's grid is: its cells, how often and on how much each method is timed, and when losses agree."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import PAPER_REPEATS, PAPER_WIDTHS, Architecture, Cell
from benchmarks.peers import LIBRARY, METHODS

PAPER_TIMES = Path(__file__).resolve().parent / "reference" / "paper_times.csv"

ROWS, FEATURES, BATCHES = (100, 1000, 10_000), (5, 10, 50, 100), (32, 128, 256)
# Small enough for the widest linear member to stay finite through all epochs, large enough to move every loss.
LEARNING_RATES = {5: 2e-3, 10: 2e-3, 50: 1e-3, 100: 1e-3}

# By features, then batches: what compiles or is built for one number of features serves the cells that follow.
CELLS = [Cell(f, b, n, LEARNING_RATES[f]) for f in FEATURES for b in BATCHES for n in ROWS]
_BASES = [Cell(10, 32, 1000, LEARNING_RATES[10]), Cell(100, 128, 1000, LEARNING_RATES[100])]
EXTRA_CELLS = [
    base._replace(**change)
    for change in (
        {"n_outputs": 10},
        {"depth": 2},
        {"depth": 3},
        {"optimizer": "adam", "learning_rate": 1e-3},
    )
    for base in _BASES
]
QUICK_CELLS = [_BASES[0]._replace(n_rows=100), _BASES[0]]

# After an epoch float32 rounding makes 2e-7 of a loss for 99 members in 100. A rare one has a row on the other side of
# a kink: hardshrink's step of 0.5 in one of 100 rows makes up to 1e-2. GELU by tanh instead of erf makes 9e-6 for
# the 99.
LOSS_TOLERANCE_OF_99_PERCENT, LOSS_TOLERANCE = 2e-6, 1e-2
# Adam divides each gradient by its own size: where that is nearly zero, rounding moves a weight by up to a learning
# rate, and a unit to the other side of a kink more often than with SGD.
ADAM_TOLERANCE_OF_99_PERCENT, ADAM_TOLERANCE = 2e-5, 3e-2

# Agreement is looked at after an epoch of the first rows. That is enough: what could differ, the formulas and the last,
# shorter minibatch, has had its say.
AGREEMENT_ROWS = {100: 100, 1000: 500, 10_000: 500}
LOSS_ROWS = 100  # over which losses are averaged


class Effort(NamedTuple):
    """How a method is timed in a cell."""

    repeats: int
    rows: int  # timed; where fewer than the cell has, the seconds are multiplied up
    epochs: int  # of one call


# Members of which a method that trains one after another trains a sample: this many widths, spread evenly from 1 to 100
# (so that their mean is the pool's), each with every activation that the method has.
SAMPLE_WIDTHS = 10
# Slow methods on many rows: whole minibatches of every size, and each costs what the one before cost.
MOST_ROWS = {"jax": 2048, "pytorch_fused": 512}
MOST_ROWS_ONE_AFTER_ANOTHER = 1024
TRIAL_ROWS = 256  # on which such a method tries one thread and all of them


# Methods whose epoch of 100 rows is so short that what a call costs would be a part of it. Nobody trains for one epoch:
# these are asked for several, as users ask for hundreds.
SEVERAL_EPOCHS, ROWS_OF_A_CALL = (LIBRARY, "jax"), 1000


def effort(method: str, cell: Cell, quick: bool) -> Effort:
    epochs = max(1, ROWS_OF_A_CALL // cell.n_rows) if method in SEVERAL_EPOCHS else 1
    if method == LIBRARY:
        return Effort(5 if quick or cell.n_rows > 1000 else 7, cell.n_rows, epochs)
    most = MOST_ROWS_ONE_AFTER_ANOTHER if METHODS[method].one_after_another else MOST_ROWS[method]
    repeats = {"jax": 3 if quick or cell.n_rows > 100 else 5, "pytorch_fused": 1 if quick else 2}.get(method, 3)
    return Effort(repeats, min(most, cell.n_rows), epochs)


def applies(method: str, cell: Cell) -> bool:
    """Whether the method is timed in this cell."""
    if cell in EXTRA_CELLS:
        # Several outputs: the fused pool's products (rows, outputs, all units) take gigabytes at B=128.
        if method == "pytorch_fused" and cell.n_outputs > 1 and cell.batch_size > 32:
            return False
        if method == "pytorch_loader":
            return False
    return METHODS[method].applies(cell)


def sample_of(method: str, architectures: list[Architecture]) -> list[int] | None:
    """Positions of the members that the method trains; None for all."""
    peer = METHODS[method]
    if not peer.one_after_another:
        return None
    widths = set(np.linspace(PAPER_WIDTHS[0], PAPER_WIDTHS[-1], SAMPLE_WIDTHS).round().astype(int).tolist())
    first_repeat = range(0, len(architectures), PAPER_REPEATS)
    return [m for m in first_repeat if architectures[m][0] in widths and architectures[m][1] in peer.activations]


def agreement(found: np.ndarray, expected: np.ndarray, optimizer: str) -> dict[str, Any]:
    """How far losses lie from the library's, relative to them; a member that is not finite never agrees."""
    of_99, of_all = LOSS_TOLERANCE_OF_99_PERCENT, LOSS_TOLERANCE
    if optimizer == "adam":
        of_99, of_all = ADAM_TOLERANCE_OF_99_PERCENT, ADAM_TOLERANCE
    difference = np.abs(found - expected) / np.abs(expected)
    if not np.isfinite(difference).all():
        return {"of_99_percent": None, "largest": None, "agrees": False}
    nearly_all, largest = float(np.percentile(difference, 99, method="lower")), float(difference.max())
    return {"of_99_percent": nearly_all, "largest": largest, "agrees": nearly_all <= of_99 and largest <= of_all}


def cell_of(text: str) -> Cell:
    """The cell that "F,B,N" names, or "F,B,N,outputs=10", "F,B,N,depth=2", "F,B,N,adam"."""
    f, b, n, *extra = text.split(",")
    name = " ".join([f"F={f} B={b} N={n}", *extra])
    for cell in CELLS + EXTRA_CELLS:
        if cell.name() == name:
            return cell
    raise ValueError(f"no cell is {name!r}; there are {', '.join(c.name() for c in CELLS + EXTRA_CELLS)}")


def expected_seconds(cell: Cell) -> float:
    """Roughly what measuring the cell takes: for estimating what remains, where only proportions count."""
    extra = 20 * cell.depth if cell in EXTRA_CELLS else 0
    compiling = 25 if cell.n_rows == 100 else 5  # what JAX compiles for 100 rows, it has for more
    return compiling + extra + {100: 5, 1000: 60, 10_000: 60}[cell.n_rows] + cell.n_rows * cell.n_features * 5e-5


def paper_seconds() -> dict[tuple[str, str, int, int, int], float]:
    """The authors' own seconds per epoch, by (device, approach, rows, features, batch size)."""
    with PAPER_TIMES.open(encoding="utf-8", newline="") as file:
        return {
            (r["device"], r["approach"], int(r["samples"]), int(r["features"]), int(r["batch_size"])): float(
                r["seconds_per_epoch"]
            )
            for r in csv.DictReader(file)
        }
