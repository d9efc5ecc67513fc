"""Networks as plain data, for exports and for folding of preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base.checks import all_finite
from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.labels import as_strings
from pmlp_np.formulas.losses import Loss


class Layers:
    """Sizes of a network, from its weights and biases."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    bias: bool

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(w.shape[1] for w in self.weights[:-1])

    @property
    def n_raw_outputs(self) -> int:
        """Number of columns that `forward` returns."""
        return int(self.weights[-1].shape[1])

    @property
    def dtype(self) -> np.dtype:
        """The network's dtype, float32 or float64."""
        return self.weights[0].dtype

    def n_parameters(self) -> int:
        """Return the number of weights and biases."""
        return sum(w.size for w in self.weights) + self.bias * sum(b.size for b in self.biases)


@dataclass(frozen=True, eq=False)
class Network(Layers):
    """A multi-layer perceptron.

    weights: (fan_in, fan_out) of each layer.
    biases: (fan_out,) of each layer, zeros for a network without biases.
    bias: whether the network has biases.
    activation: a name for each hidden layer.
    features: columns of X that the network reads, or None for all.
    n_features: number of columns of X.
    names: of the columns of X, or None.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    bias: bool
    activation: tuple[str, ...]
    features: np.ndarray | None
    n_features: int
    names: tuple[Any, ...] | None


@dataclass(frozen=True, eq=False)
class Networks:
    """A model: one network, or the weighted mean of several.

    weights: of the mean, of sum 1.
    is_mean: whether the model is a mean (perhaps of one network).
    loss: the loss, by which raw outputs are read.
    names: of the columns of X, or None.
    description: the model in words.
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
        """Return (weight, network) of each network with a weight above 0."""
        return [(w, network) for w, network in zip(self.weights, self.networks, strict=True) if w > 0.0]

    def with_networks(self, networks: list[Network]) -> Networks:
        """Return the same model with other networks."""
        return replace(self, networks=tuple(networks))


def require_finite(name: str, network: Any, hint: str) -> None:
    """Raise DataError, which calls the network `name`, unless all its weights and biases are finite."""
    for kind, arrays in (("weights", network.weights), ("biases", network.biases)):
        for k, array in enumerate(arrays):
            if not all_finite(array):
                got = "NaN or infinity, as of a member that diverged"
                raise DataError(compose(f"{kind}[{k}] of {name}", "finite numbers", got, hint))
