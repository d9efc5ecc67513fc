"""What pmlp_np is measured against: each peer trains the same members from the same initial weights."""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.common import ACTIVATIONS, Architecture, Cell, Weights


class Method(Protocol):
    """The face that the library and every peer show to the benchmark."""

    def __init__(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> None: ...

    def train(self, x: np.ndarray, y: np.ndarray, n_threads: int, epochs: int = 1) -> None:
        """Epochs from the present weights: minibatches of `cell.batch_size`, rows in order, the rest as the last."""

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n_members,) mean squared error over rows and outputs."""

    def weights(self) -> list[Weights]:
        """The present weights."""


def columns(y: np.ndarray) -> np.ndarray:
    """Targets as (n_rows, n_outputs)."""
    return y[:, None] if y.ndim == 1 else y


class Peer(NamedTuple):
    """Where a method is, and what it can do."""

    title: str  # in tables
    short: str  # in sentences
    module: str  # of benchmarks.peers; imported late, for it needs the package
    class_name: str
    package: str  # what must be installed, by the name that is imported
    one_after_another: bool = False  # of such methods a sample of members is trained
    activations: Sequence[str] = ACTIVATIONS
    any_depth: bool = True
    optimizers: Sequence[str] = ("sgd", "adam")

    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def applies(self, cell: Cell) -> bool:
        return cell.optimizer in self.optimizers and (self.any_depth or cell.depth == 1)

    def make(self, cell: Cell, architectures: Sequence[Architecture], weights: Sequence[Weights]) -> Method:
        module = importlib.import_module(f"benchmarks.peers.{self.module}")
        made: Method = getattr(module, self.class_name)(cell, architectures, weights)
        return made


LIBRARY = "pmlp_np"
METHODS = {
    LIBRARY: Peer("pmlp_np", "pmlp_np", "library", "LibraryPool", "pmlp_np"),
    "jax": Peer("JAX, vmap over buckets", "JAX", "jax_buckets", "BucketedPool", "jax"),
    "pytorch_fused": Peer(
        "PyTorch, the paper's fused pool", "the fused pool", "pytorch_fused", "FusedPool", "torch", any_depth=False
    ),
    "pytorch_sequential": Peer(
        "PyTorch, one after another", "PyTorch", "pytorch_sequential", "SequentialModels", "torch",
        one_after_another=True,
    ),
    "pytorch_loader": Peer(
        "PyTorch, one after another, DataLoader", "with DataLoader", "pytorch_sequential",
        "SequentialModelsWithLoader", "torch", one_after_another=True, optimizers=("sgd",),
    ),
    "sklearn": Peer(
        "scikit-learn, one after another", "scikit-learn", "sklearn_sequential", "SklearnModels", "sklearn",
        one_after_another=True, activations=("identity", "sigmoid", "tanh", "relu"), optimizers=("sgd",),
    ),
}  # fmt: skip
