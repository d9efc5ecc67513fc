"""A pool for the prototype's kernels: packs members' weights, trains them, and gives weights and losses back."""

from collections.abc import Sequence

import numba
import numpy as np

from benchmarks.common import Architecture, Weights
from benchmarks.peers.prototype.kernels import STRIDE, pool_losses, train_pool
from benchmarks.peers.prototype.simd import LANES

# The library's names, in the order of the branches of `kernels.activate`.
ACTIVATION_CODES = {
    name: code
    for code, name in enumerate(
        ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "selu", "hardshrink", "mish"]
    )
}


class PrototypePool:
    def __init__(self, architectures: Sequence[Architecture], weights: Sequence[Weights], learning_rate: float) -> None:
        self.learning_rate = np.float32(learning_rate)
        self.widths = np.array([width for width, _ in architectures], dtype=np.int64)
        self.codes = np.array([ACTIVATION_CODES[activation] for _, activation in architectures], dtype=np.int64)
        if not 1 <= self.widths.min() <= self.widths.max() <= STRIDE:
            raise ValueError(
                f"the prototype trains widths 1 to {STRIDE}, got {self.widths.min()} to {self.widths.max()}"
            )
        n_members, n_features = len(self.widths), weights[0].w1.shape[0]
        self.n_features = n_features
        self.padded = -(-self.widths // LANES) * LANES
        self.w1_at = np.concatenate([[0], np.cumsum(self.padded * n_features)[:-1]])
        self.w1 = np.zeros(int((self.padded * n_features).sum()), dtype=np.float32)
        self.b1 = np.zeros(n_members * STRIDE, dtype=np.float32)
        self.w2 = np.zeros(n_members * STRIDE, dtype=np.float32)
        self.b2 = np.zeros(n_members, dtype=np.float32)
        self.masks = np.tril(np.ones((LANES, LANES), dtype=np.float32)).ravel()
        self.order = np.argsort(-self.widths, kind="stable")  # the dearest first, dealt out in turn
        for m, member in enumerate(weights):
            w1, b1, w2 = self._views(m)
            w1[:], b1[:], w2[:], self.b2[m] = member.w1, member.b1, member.w2[:, 0], member.b2[0]

    def _views(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width, padded, at = self.widths[m], self.padded[m], self.w1_at[m]
        w1 = self.w1[at : at + self.n_features * padded].reshape(self.n_features, padded)
        vectors = slice(m * STRIDE, m * STRIDE + width)
        return w1[:, :width], self.b1[vectors], self.w2[vectors]

    def train(self, x: np.ndarray, y: np.ndarray, batch_size: int, n_threads: int, epochs: int = 1) -> None:
        """Epochs from the present weights, rows in order; x (n, n_features) and y (n,) are contiguous float32."""
        numba.set_num_threads(n_threads)
        train_pool(
            x.reshape(-1), y, len(x), self.n_features, batch_size, self.widths, self.padded, self.codes, self.w1,
            self.w1_at, self.b1, self.w2, self.b2, self.learning_rate, epochs, self.order, self.masks,
        )  # fmt: skip

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_members,) mean squared error."""
        return pool_losses(
            x.reshape(-1), y, len(x), self.n_features, 32, self.padded, self.codes, self.w1, self.w1_at, self.b1,
            self.w2, self.b2,
        )  # fmt: skip

    def weights(self) -> list[Weights]:
        return [
            Weights(w1.copy(), b1.copy(), w2[:, None].copy(), self.b2[m : m + 1].copy())
            for m, (w1, b1, w2) in ((m, self._views(m)) for m in range(len(self.widths)))
        ]
