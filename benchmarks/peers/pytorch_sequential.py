"""The same members as PyTorch models, one after another: on batches sliced beforehand, or through a DataLoader."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.common import Architecture, Cell, Weights
from benchmarks.peers import columns

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
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


class SequentialModels:
    """Minibatches are views of the data, made once for all models: a model pays for its training alone."""

    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None:
        self.batch_size = cell.batch_size
        self.models = [build(name, start) for (_, name), start in zip(architectures, weights, strict=True)]
        make = OPTIMIZERS[cell.optimizer]
        self.optimizers = [make(model.parameters(), lr=cell.learning_rate) for model in self.models]

    def batches(self, rows: torch.Tensor, targets: torch.Tensor) -> Batches:
        """What each model goes through in an epoch: (rows, n_features) and (rows, n_outputs) at a time."""
        return list(zip(rows.split(self.batch_size), targets.split(self.batch_size), strict=True))

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        torch.set_num_threads(n_threads)
        batches = self.batches(torch.from_numpy(x), torch.from_numpy(columns(y)))
        squared_error = nn.MSELoss()
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for rows, targets in (pair for _ in range(epochs) for pair in batches):
                optimizer.zero_grad()
                squared_error(model(rows), targets).backward()
                optimizer.step()

    @torch.no_grad()
    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rows, targets = torch.from_numpy(x), torch.from_numpy(columns(y))
        return np.array([(model(rows) - targets).double().square().mean().item() for model in self.models])

    def weights(self) -> list[Weights]:
        found = []
        for model in self.models:
            parameters = [p.detach().numpy().copy() for p in model.parameters()]
            found.append(Weights([w.T for w in parameters[::2]], parameters[1::2]))
        return found


class SequentialModelsWithLoader(SequentialModels):
    """Each model's minibatches come from a DataLoader, as in the paper: rows are fetched one by one and stacked."""

    def batches(self, rows: torch.Tensor, targets: torch.Tensor) -> Batches:
        return DataLoader(TensorDataset(rows, targets), batch_size=self.batch_size, shuffle=False)


def build(activation: str, start: Weights) -> nn.Sequential:
    layers: list[nn.Module] = []
    for matrix, bias in zip(*start, strict=True):
        linear = nn.Linear(*matrix.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(matrix.T))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
