"""Problems for tests of the oracle: an architecture with parameters and data, and comparisons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import oracle
from loss_variants import VARIANTS, heads, named, random_targets

# Double precision errs by about 1e-16 per operation; steps of Adam, which divides by small gradients, amplify that.
SAME = {"rtol": 1e-8, "atol": 1e-10}
# A mean loss beyond this is divergence, which amplifies rounding errors without bound.
DIVERGING = 100.0


@dataclass(frozen=True)
class Problem:
    """An architecture, and the seed of its parameters and data."""

    hidden: tuple[int, ...]
    activation: str | tuple[str, ...]
    n_features: int
    n_outputs: int
    loss: str
    bias: bool
    rows: int
    seed: int

    def network(
        self, optimizer: str = "sgd", options: dict[str, Any] | None = None, **hyperparameters: Any
    ) -> oracle.OracleMLP:
        mlp = oracle.OracleMLP(
            self.hidden,
            self.activation,
            self.n_features,
            self.n_outputs * heads(self.loss),
            named(self.loss, self.n_outputs)[0],
            optimizer,
            hyperparameters,
            bias=self.bias,
            options=options,
            loss_parameters=named(self.loss, self.n_outputs)[1],
        )
        rng = np.random.default_rng(self.seed)
        # Larger than usual initial weights, so that deep networks of units that shrink keep a signal.
        weights = [rng.normal(0.0, 1.5 / math.sqrt(len(w)), w.shape) for w in mlp.weights]
        if mlp.loss_name in ("poisson", "gaussian_nll"):
            # Exponentials of large raw outputs bend more than central differences can follow.
            weights[-1] *= 0.2
        mlp.set_state(weights, [rng.normal(0.0, 0.5, b.shape) * self.bias for b in mlp.biases])
        if mlp.options["feature_scale"]:
            mlp.set_state(mlp.weights, scales=[rng.normal(1.0, 0.5, self.n_features)])
        return mlp

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 1])
        X = rng.normal(size=(self.rows, self.n_features))
        if self.loss == "binary_cross_entropy":
            # scikit-learn takes labels only.
            return X, rng.integers(2, size=(self.rows, self.n_outputs)).astype(np.float64)
        return X, random_targets(self.loss, rng, self.rows, self.n_outputs)


@st.composite
def problems(
    draw: st.DrawFn,
    activations: Sequence[str] = tuple(oracle.ACTIVATIONS),
    losses: Sequence[str] = tuple(VARIANTS),
) -> Problem:
    hidden = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    one_for_all = st.sampled_from(activations)
    return Problem(
        hidden=hidden,
        activation=draw(one_for_all | st.tuples(*[st.sampled_from(activations)] * len(hidden))),
        n_features=draw(st.integers(1, 5)),
        n_outputs=draw(st.integers(1, 4)),
        loss=draw(st.sampled_from(losses)),
        bias=draw(st.booleans()),
        rows=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def assert_same_arrays(got: Sequence[np.ndarray], expected: Sequence[np.ndarray], rtol: float, atol: float) -> None:
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=rtol, atol=atol, strict=True)
