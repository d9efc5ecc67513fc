"""The same members as scikit-learn MLPRegressors, one after another, an epoch of each by `partial_fit`.

scikit-learn has four of the paper's ten activations. Its loss is half the squared error, summed over outputs: the
learning rate is multiplied by 2 / n_outputs, which makes the steps of plain SGD those of everyone else. Its Adam puts
eps elsewhere than PyTorch does, so it is not compared.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from benchmarks.common import Architecture, Cell, Weights
from benchmarks.peers import columns

ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


class SklearnModels:
    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None:
        if cell.optimizer != "sgd":
            raise ValueError(f'expected the optimizer "sgd", got {cell.optimizer!r}')
        self.cell = cell
        self.models = [self._build(a, w) for a, w in zip(architectures, weights, strict=True)]

    def _build(self, architecture: Architecture, start: Weights) -> MLPRegressor:
        cell, (width, activation) = self.cell, architecture
        model = MLPRegressor(
            hidden_layer_sizes=(width,) * cell.depth, activation=ACTIVATIONS[activation], solver="sgd",
            alpha=0.0, batch_size=1, learning_rate_init=cell.learning_rate * 2 / cell.n_outputs,
            shuffle=False, momentum=0.0, nesterovs_momentum=False, random_state=0,
        )  # fmt: skip
        # Its arrays come into being with the first call; one row is enough. Plain SGD keeps no state but the weights.
        model.partial_fit(np.zeros((1, cell.n_features), np.float32), self._targets(np.zeros((1, cell.n_outputs))))
        for mine, given in zip(model.coefs_ + model.intercepts_, start.matrices + start.biases, strict=True):
            mine[...] = given
        return model

    def _targets(self, y: np.ndarray) -> np.ndarray:
        y = columns(y).astype(np.float32, copy=False)
        return y[:, 0] if y.shape[1] == 1 else y

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        targets, size = self._targets(y), min(self.cell.batch_size, len(x))
        with threadpool_limits(n_threads):
            for model in self.models:
                model.batch_size = size  # a larger one than there are rows is warned about
                for _ in range(epochs):
                    model.partial_fit(x, targets)

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        targets = self._targets(y)
        return np.array([np.square(np.float64(model.predict(x)) - targets).mean() for model in self.models])

    def weights(self) -> list[Weights]:
        return [Weights([w.copy() for w in m.coefs_], [b.copy() for b in m.intercepts_]) for m in self.models]
