"""Hypothesis strategies: pools of every kind, data, ways to train; small enough to follow member by member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import pmlp_np as pm
from loss_variants import VARIANTS, heads, library_loss, random_targets
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.optimizers import OPTIMIZERS, Optimizer, hyperparameter_names
from pmlp_np.formulas.options import SCHEDULE_NAMES

MAX_WIDTH, MAX_DEPTH, MAX_FEATURES, MAX_OUTPUTS, MAX_ROWS = 130, 4, 70, 12, 80

# On both sides of whole vectors (8 or 16 lanes), of tiles of vectors, and of a row block of the driver.
WIDTHS = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130])
ROWS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65])
# Up to where members stay bounded, which keeps two ways of rounding together.
LEARNING_RATES = st.floats(1e-4, 1e-2)
# beta1² stays below beta2: otherwise a step has no bound where gradients vanish, and no two ways of rounding agree.
BETAS = st.sampled_from([(0.9, 0.999), (0.9, 0.99), (0.5, 0.9), (0.0, 0.9)])
HYPERPARAMETERS = {
    "learning_rate": LEARNING_RATES,
    "weight_decay": st.sampled_from([0.0, 1e-4, 1e-2, 0.1]),
    "momentum": st.sampled_from([0.0, 0.5, 0.9]),
    "nesterov": st.booleans(),
    "eps": st.sampled_from([1e-8, 1e-6, 1e-3]),
    "alpha": st.sampled_from([0.9, 0.99]),
}


@dataclass(frozen=True)
class Case:
    """A pool, data for it and a way to train it. loss: a label of loss_variants."""

    members: list[pm.Member]
    ids: list[int]
    seed: int
    n_features: int
    n_outputs: int
    loss: str
    n_rows: int
    data_seed: int
    batch_size: int
    shuffle: str | None
    epochs: int

    def pool(self, dtype: str, backend: str = "numba") -> pm.Pool:
        return pm.Pool(
            self.members,
            self.n_features,
            self.n_outputs,
            library_loss(self.loss, self.n_outputs),
            self.seed,
            backend=backend,
            dtype=dtype,
            ids=self.ids,
        )

    @property
    def n_raw_outputs(self) -> int:
        return self.n_outputs * heads(self.loss)

    def data(self, dtype: str, n_rows: int | None = None, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Features and targets in the dtype; other parts hold other numbers."""
        shape = n_rows or self.n_rows, self.n_features, self.n_outputs
        return random_data(self.loss, *shape, seed=[self.data_seed, part], dtype=dtype)

    def training(self) -> dict[str, object]:
        """Arguments of fit."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "shuffle": self.shuffle, "progress": False}


def random_data(
    loss: str, n_rows: int, n_features: int, n_outputs: int, seed: int | list[int] = 0, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets that a loss takes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features)).astype(dtype)
    y = random_targets(loss, rng, n_rows, n_outputs)
    return X, y if y.dtype.kind == "i" else y.astype(dtype)


def widths() -> st.SearchStrategy[int]:
    return WIDTHS | st.integers(1, MAX_WIDTH)


@st.composite
def optimizers(draw: st.DrawFn) -> Optimizer:
    kind = draw(st.sampled_from(list(OPTIMIZERS.values())))
    known = hyperparameter_names(kind)
    chosen = {name: draw(values) for name, values in HYPERPARAMETERS.items() if name in known}
    return kind(**chosen, **(dict(zip(("beta1", "beta2"), draw(BETAS), strict=True)) if "beta1" in known else {}))


# What changes steps, a group at a time: most members have one or none.
STEP_OPTIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "l1": st.sampled_from([1e-4, 1e-2]),
            "decoupled_weight_decay": st.sampled_from([1e-2, 0.3]),
            "decay_biases": st.booleans(),
            "feature_scale": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "bias_rate_factor": st.sampled_from([0.0, 0.1, 3.0]),
            "first_layer_rate_factor": st.sampled_from([0.3, 2.0]),
            "last_layer_rate_factor": st.sampled_from([0.3, 2.0]),
            "parametrization": st.sampled_from(["standard", "ntk"]),
            "feature_scale": st.booleans(),
            "feature_scale_rate_factor": st.sampled_from([0.0, 0.5, 6.0]),
            "l1": st.sampled_from([0.0, 1e-2]),
            "decoupled_weight_decay": st.sampled_from([0.0, 1e-2]),
        },
    ),
)
SCHEDULE_OPTIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"schedule": st.sampled_from(SCHEDULE_NAMES)},
        optional={
            "schedule_epochs": st.sampled_from([0.0, 0.7, 1.0, 2.5]),
            "schedule_interval": st.sampled_from([0.5, 1.0, 1.7]),
            "schedule_factor": st.sampled_from([0.1, 0.6]),
            "final_rate_factor": st.sampled_from([0.0, 0.2]),
            "one_cycle_peak": st.sampled_from([0.0, 0.3, 0.6]),
            "one_cycle_start": st.sampled_from([0.0, 0.04]),
            "warmup_epochs": st.sampled_from([0.0, 0.3, 1.0, 4.0]),
        },
    ),
    st.fixed_dictionaries({"plateau_patience": st.just(1.0), "plateau_factor": st.sampled_from([0.1, 0.5])}),
)
REGULARIZER_OPTIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "dropout": st.sampled_from([0.1, 0.3, 0.5]),
            "input_dropout": st.sampled_from([0.1, 0.3, 0.5]),
            "average": st.sampled_from([0.3, 0.9, 0.999]),
            "clip_norm": st.sampled_from([0.01, 0.3, 3.0, 1e4]),
        },
    ),
)


@st.composite
def members(draw: st.DrawFn, max_depth: int = MAX_DEPTH, own_batches: bool = True) -> pm.Member:
    hidden = tuple(draw(st.lists(widths(), max_size=max_depth)))
    name = st.sampled_from(list(ACTIVATIONS))
    return pm.Member(
        hidden=hidden,
        activation=draw(name | st.tuples(*[name] * len(hidden))),
        bias=draw(st.booleans()),
        initializer=draw(st.sampled_from(list(INITIALIZERS))),
        optimizer=draw(optimizers()),
        batch_size=draw(st.none() | st.integers(1, MAX_ROWS + 20)) if own_batches else None,
        seed=draw(st.none() | st.integers(0, 2**64 - 1)),
        zero_last=draw(st.sampled_from([False, False, True])),
        **draw(STEP_OPTIONS),
        **draw(SCHEDULE_OPTIONS),
        **draw(REGULARIZER_OPTIONS),
    )


@st.composite
def cases(draw: st.DrawFn, max_members: int = 5, own_batches: bool = True) -> Case:
    pool_members = draw(st.lists(members(own_batches=own_batches), min_size=1, max_size=max_members))
    n = len(pool_members)
    loss = draw(st.sampled_from(list(VARIANTS)))
    return Case(
        members=pool_members,
        ids=draw(st.just(list(range(n))) | st.lists(st.integers(0, 2**63 - 1), min_size=n, max_size=n, unique=True)),
        seed=draw(st.integers(0, 2**64 - 1)),
        n_features=draw(st.integers(1, MAX_FEATURES)),
        n_outputs=draw(st.integers(2 if VARIANTS[loss][0] == "cross_entropy" else 1, MAX_OUTPUTS)),
        loss=loss,
        n_rows=draw(ROWS | st.integers(1, MAX_ROWS)),
        data_seed=draw(st.integers(0, 2**32 - 1)),
        batch_size=draw(ROWS | st.integers(1, MAX_ROWS + 20)),
        shuffle=draw(st.sampled_from(["shared", "member", None])),
        epochs=draw(st.integers(1, 3)),
    )
