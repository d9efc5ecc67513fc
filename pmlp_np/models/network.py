"""Networks as plain data: what exports and folding of preprocessing take. MLP and Ensemble give theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base.checks import all_finite
from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.labels import as_strings
from pmlp_np.formulas.losses import Loss


@dataclass(frozen=True, eq=False)
class Network:
    """A multi-layer perceptron.

    weights: (fan_in, fan_out) of each layer. biases: (fan_out,) of each layer, zeros where it has none (`bias` False).
    activation: a name for each hidden layer. features: the columns that it reads, or None for all. n_features: columns
    of X. names: of these columns, or None.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    bias: bool
    activation: tuple[str, ...]
    features: np.ndarray | None
    n_features: int
    names: tuple[Any, ...] | None

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(w.shape[1] for w in self.weights[:-1])

    @property
    def n_raw_outputs(self) -> int:
        return int(self.weights[-1].shape[1])

    @property
    def dtype(self) -> np.dtype:
        return self.weights[0].dtype

    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(w.size for w in self.weights) + self.bias * sum(b.size for b in self.biases)


@dataclass(frozen=True, eq=False)
class Networks:
    """One network, or several whose weighted mean a model is (`is_mean`).

    weights: how much each counts, of sum 1. loss: how raw outputs are read. names: of the columns of X, or None.
    description: the model, for people.
    """

    networks: tuple[Network, ...]
    weights: tuple[float, ...]
    is_mean: bool
    loss: Loss
    names: tuple[Any, ...] | None
    description: str

    @property
    def n_features(self) -> int:
        return self.networks[0].n_features

    @property
    def n_raw_outputs(self) -> int:
        return self.networks[0].n_raw_outputs

    @property
    def dtype(self) -> np.dtype:
        return self.networks[0].dtype

    @property
    def feature_names(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, or None."""
        return as_strings(self.names)

    def members(self) -> list[tuple[float, Network]]:
        """(weight, network) of those that count: whose weight is not 0."""
        return [(w, network) for w, network in zip(self.weights, self.networks, strict=True) if w > 0.0]

    def with_networks(self, networks: list[Network]) -> Networks:
        """The same model of other networks."""
        return replace(self, networks=tuple(networks))


def require_finite(name: str, network: Any, hint: str) -> None:
    """DataError, which speaks of `name`, unless all weights and biases of a network are finite."""
    for kind, arrays in (("weights", network.weights), ("biases", network.biases)):
        for k, array in enumerate(arrays):
            if not all_finite(array):
                got = "NaN or infinity, as of a member that diverged"
                raise DataError(compose(f"{kind}[{k}] of {name}", "finite numbers", got, hint))
