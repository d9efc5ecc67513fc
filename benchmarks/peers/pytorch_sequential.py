"""The same members as PyTorch models trained one after another, on batches sliced beforehand."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.common import Architecture, Weights
from benchmarks.peers.pytorch_fused import batches

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "hardshrink": nn.Hardshrink,
    "mish": nn.Mish,
}


class SequentialModels:
    def __init__(self, architectures: Sequence[Architecture], weights: Sequence[Weights], learning_rate: float) -> None:
        self.models = [build(a, w) for a, w in zip(architectures, weights, strict=True)]
        self.optimizers = [torch.optim.SGD(model.parameters(), lr=learning_rate) for model in self.models]

    def train(self, x: np.ndarray, y: np.ndarray, batch_size: int, n_threads: int) -> None:
        """One epoch of each model from its present weights, rows in order."""
        torch.set_num_threads(n_threads)
        sliced = batches(x, y, batch_size)
        squared_error = nn.MSELoss()
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for rows, targets in sliced:
                optimizer.zero_grad()
                squared_error(model(rows), targets).backward()
                optimizer.step()

    @torch.no_grad()
    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_models,) mean squared error."""
        rows, targets = torch.from_numpy(x), torch.from_numpy(y)[:, None]
        return np.array([(model(rows) - targets).double().square().mean().item() for model in self.models])

    def weights(self) -> list[Weights]:
        found = []
        for model in self.models:
            w1, b1, w2, b2 = (p.detach().numpy().copy() for p in model.parameters())
            found.append(Weights(w1.T, b1, w2.T, b2))
        return found


def build(architecture: Architecture, start: Weights) -> nn.Sequential:
    width, activation = architecture
    model = nn.Sequential(nn.Linear(len(start.w1), width), ACTIVATIONS[activation](), nn.Linear(width, 1))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (start.w1.T, start.b1, start.w2.T, start.b2), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return model
