"""The paper's fused pool in PyTorch (M3): hidden units side by side, a broadcast multiply and a scatter-add."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import Architecture, Cell, Weights
from benchmarks.peers import columns
from benchmarks.peers.pytorch_sequential import OPTIMIZERS

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "selu": functional.selu,
    "hardshrink": functional.hardshrink,
    "mish": functional.mish,
}


# Of the tensors: "cuda" where peers are measured on a GPU.
DEVICE = os.environ.get("PMLP_BENCH_DEVICE", "cpu")


class FusedPool(torch.nn.Module):
    """One hidden layer; any number of outputs."""

    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None:
        super().__init__()
        if cell.depth != 1:
            raise ValueError(f"expected one hidden layer, got {cell.depth}: the paper's layer is the only fused one")
        # Members lie by activation, so that each activation is applied once, to one contiguous slice.
        names = list(ACTIVATIONS)
        self.batch_size = cell.batch_size
        self.order = sorted(range(len(architectures)), key=lambda m: names.index(architectures[m][1]))
        ordered = [weights[m] for m in self.order]
        widths = np.array([architectures[m][0] for m in self.order])
        self.starts = np.concatenate([[0], np.cumsum(widths)])
        self.slices = [
            (name, int(sum(w for w, a in architectures if a == name)))
            for name in names
            if any(a == name for _, a in architectures)
        ]
        self.hidden = torch.nn.Linear(cell.n_features, int(widths.sum()))
        last = np.concatenate([w.matrices[1].T for w in ordered], axis=1)
        self.w2 = torch.nn.Parameter(torch.from_numpy(last))  # (outputs, units)
        self.b2 = torch.nn.Parameter(torch.from_numpy(np.stack([w.biases[1] for w in ordered], axis=1)))  # (o, members)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.from_numpy(np.concatenate([w.matrices[0].T for w in ordered])))
            self.hidden.bias.copy_(torch.from_numpy(np.concatenate([w.biases[0] for w in ordered])))
        self.register_buffer("member_of_unit", torch.from_numpy(np.repeat(np.arange(len(widths)), widths)))
        self.to(DEVICE)
        self.optimizer = OPTIMIZERS[cell.optimizer](self.parameters(), lr=cell.learning_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, n_features) to (rows, outputs, members), in the order of `self.order`."""
        parts = self.hidden(x).split([units for _, units in self.slices], dim=1)
        hidden = torch.cat([ACTIVATIONS[name](z) for (name, _), z in zip(self.slices, parts, strict=True)], dim=1)
        product = hidden[:, None, :] * self.w2
        outputs = torch.zeros(len(x), *self.b2.shape, device=x.device)
        return outputs.scatter_add_(2, self.member_of_unit.expand_as(product), product) + self.b2

    def batches(self, x: np.ndarray, y: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Minibatches of (rows, n_features) and (rows, outputs, 1), views of the data."""
        rows, targets = (torch.from_numpy(each).to(DEVICE) for each in (x, columns(y)[:, :, None]))
        return zip(rows.split(size), targets.split(size), strict=True)

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        torch.set_num_threads(n_threads)
        for rows, targets in (pair for _ in range(epochs) for pair in self.batches(x, y, self.batch_size)):
            self.optimizer.zero_grad()
            # The sum over members of each one's mean over rows and outputs: every gradient is that of one member alone.
            (self(rows) - targets).square().mean(dim=(0, 1)).sum().backward()
            self.optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = np.zeros(len(self.order))
        for rows, targets in self.batches(x, y, 64):
            total[self.order] += (self(rows) - targets).double().square().sum(dim=(0, 1)).cpu().numpy()
        return total / columns(y).size

    def weights(self) -> list[Weights]:
        w1, b1 = self.hidden.weight.detach().cpu().numpy().T, self.hidden.bias.detach().cpu().numpy()
        w2, b2 = self.w2.detach().cpu().numpy().T, self.b2.detach().cpu().numpy().T
        found: dict[int, Weights] = {}
        for i, m in enumerate(self.order):
            units = slice(self.starts[i], self.starts[i + 1])
            found[m] = Weights([w1[:, units].copy(), w2[units].copy()], [b1[units].copy(), b2[i].copy()])
        return [found[m] for m in range(len(self.order))]
