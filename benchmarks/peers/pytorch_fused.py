"""The paper's fused pool in PyTorch (M3): hidden units side by side, a broadcast multiply and a scatter-add."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import Architecture, Weights

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


def batches(x: np.ndarray, y: np.ndarray, batch_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Minibatches of (rows, n_features) and (rows, 1), views of the data."""
    rows, targets = torch.from_numpy(x), torch.from_numpy(y)[:, None]
    return list(zip(rows.split(batch_size), targets.split(batch_size), strict=True))


class FusedPool(torch.nn.Module):
    def __init__(self, architectures: Sequence[Architecture], weights: Sequence[Weights], learning_rate: float) -> None:
        super().__init__()
        # Members lie by activation, so that each activation is applied once, to one contiguous slice.
        names = list(ACTIVATIONS)
        self.order = sorted(range(len(architectures)), key=lambda m: names.index(architectures[m][1]))
        ordered = [weights[m] for m in self.order]
        widths = np.array([architectures[m][0] for m in self.order])
        self.starts = np.concatenate([[0], np.cumsum(widths)])
        self.slices = [
            (name, int(sum(w for w, a in architectures if a == name)))
            for name in names
            if any(a == name for _, a in architectures)
        ]
        self.hidden = torch.nn.Linear(len(weights[0].w1), int(widths.sum()))
        self.w2 = torch.nn.Parameter(torch.from_numpy(np.concatenate([w.w2.T for w in ordered], axis=1)))  # (1, units)
        self.b2 = torch.nn.Parameter(torch.from_numpy(np.stack([w.b2 for w in ordered], axis=1)))  # (1, members)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.from_numpy(np.concatenate([w.w1.T for w in ordered])))
            self.hidden.bias.copy_(torch.from_numpy(np.concatenate([w.b1 for w in ordered])))
        self.register_buffer("member_of_unit", torch.from_numpy(np.repeat(np.arange(len(widths)), widths)))
        self.optimizer = torch.optim.SGD(self.parameters(), lr=learning_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, n_features) to (rows, 1, members), in the order of `self.order`."""
        parts = self.hidden(x).split([units for _, units in self.slices], dim=1)
        hidden = torch.cat([ACTIVATIONS[name](z) for (name, _), z in zip(self.slices, parts, strict=True)], dim=1)
        product = hidden[:, None, :] * self.w2
        outputs = torch.zeros(len(x), 1, self.b2.shape[1])
        return outputs.scatter_add_(2, self.member_of_unit.expand_as(product), product) + self.b2

    def train(self, x: np.ndarray, y: np.ndarray, batch_size: int, n_threads: int) -> None:
        """One epoch from the present weights, rows in order."""
        torch.set_num_threads(n_threads)
        for rows, targets in batches(x, y, batch_size):
            self.optimizer.zero_grad()
            # The sum over members of each one's mean over rows and outputs: every gradient is that of one member alone.
            (self(rows) - targets[:, :, None]).square().mean(dim=(0, 1)).sum().backward()
            self.optimizer.step()

    @torch.no_grad()
    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_members,) mean squared error."""
        total = np.zeros(len(self.order))
        for rows, targets in batches(x, y, 64):
            total[self.order] += (self(rows) - targets[:, :, None]).double().square().sum(dim=(0, 1)).numpy()
        return total / len(x)

    def weights(self) -> list[Weights]:
        w1, b1 = self.hidden.weight.detach().numpy().T, self.hidden.bias.detach().numpy()
        w2, b2 = self.w2.detach().numpy().T, self.b2.detach().numpy().T
        found: dict[int, Weights] = {}
        for i, m in enumerate(self.order):
            units = slice(self.starts[i], self.starts[i + 1])
            found[m] = Weights(w1[:, units].copy(), b1[units].copy(), w2[units].copy(), b2[i].copy())
        return [found[m] for m in range(len(self.order))]
