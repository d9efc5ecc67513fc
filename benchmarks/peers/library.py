"""pmlp_np behind the peers' face: `fit` for the first epoch, `partial_fit` from then on."""

from collections.abc import Sequence

import numpy as np

import pmlp_np as pm
from benchmarks.common import Architecture, Cell, Weights

# Weights are set member by member, which takes seconds for 10,000. A pool is therefore kept for the next cell: `fit`
# starts it afresh from the same weights.
_kept: dict[tuple[object, ...], pm.Pool] = {}


class LibraryPool:
    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None:
        self.cell = cell
        key = (*cell._replace(batch_size=0, n_rows=0), len(architectures))
        if key not in _kept:
            _kept.clear()
            _kept[key] = _pool(cell, architectures, weights)
        self.pool = _kept[key]
        self.fitted = False

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        fit = self.pool.partial_fit if self.fitted else self.pool.fit
        fit(x, y, epochs=epochs, batch_size=self.cell.batch_size, shuffle=None, progress=False, n_threads=n_threads)
        self.fitted = True

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.pool.evaluate(x, y)

    def weights(self) -> list[Weights]:
        members = (self.pool.extract(int(i)) for i in self.pool.ids_)
        return [Weights(m.weights, m.biases) for m in members]


def _pool(cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> pm.Pool:
    optimizer = (pm.SGD if cell.optimizer == "sgd" else pm.Adam)(learning_rate=cell.learning_rate)
    specs = [
        pm.Member(hidden=(width,) * cell.depth, activation=name, optimizer=optimizer) for width, name in architectures
    ]
    pool = pm.Pool(specs, n_features=cell.n_features, n_outputs=cell.n_outputs)
    for i, ((_, name), start) in enumerate(zip(architectures, weights, strict=True)):
        pool.set_weights(int(pool.ids_[i]), pm.MLP(start.matrices, start.biases, activation=name))
    return pool
