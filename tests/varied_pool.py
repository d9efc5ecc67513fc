"""Members of every kind, the ways in which tests train them, and comparisons to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from loss_variants import VARIANTS, library_loss
from member_state import member_states
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import OPTIMIZERS
from pmlp_np.formulas.schedules import SCHEDULES
from strategies import random_data

DTYPES = ("float32", "float64")
SEED, N_ROWS, N_FEATURES, N_OUTPUTS, EPOCHS = 11, 90, 13, 3, 3


def varied_members() -> list[pm.Member]:
    """Members with every activation, rule, initializer and depth, of widths that fill vectors and that don't, and with
    every option of steps and schedules."""
    optimizers = [
        pm.SGD(0.01, weight_decay=1e-3),
        pm.SGD(0.01, momentum=0.9),
        pm.SGD(0.01, momentum=0.8, nesterov=True),
        pm.Adam(0.003, weight_decay=1e-3),
        pm.AdamW(0.003),
        pm.RMSprop(0.002, weight_decay=1e-3),
        pm.RMSprop(0.001, momentum=0.7),
        pm.NAdam(0.003, momentum_decay=0.02),
    ]
    # How long a schedule lasts is given: by the epochs of the first fit, parts of a fit would not be the whole.
    options = [
        {},
        {"schedule": "cosine", "schedule_epochs": 1.3, "final_rate_factor": 0.1},
        {"parametrization": "ntk", "bias_rate_factor": 0.1},
        {"schedule": "one_cycle", "schedule_epochs": 2.2, "warmup_epochs": 0.4},
        {"first_layer_rate_factor": 3.0, "decay_biases": True},
        {"schedule": "coslog4", "schedule_epochs": 3.0},
        {"schedule": "step", "schedule_interval": 0.6, "schedule_factor": 0.5, "last_layer_rate_factor": 0.3},
        {"schedule": "exponential", "schedule_factor": 0.7},
        {"schedule": "linear", "schedule_epochs": 2.0, "warmup_epochs": 1.0, "parametrization": "ntk"},
        {"plateau_patience": 1, "plateau_factor": 0.5},
        {"warmup_epochs": 1.5},
        {"feature_scale": True, "feature_scale_rate_factor": 6.0, "bias_rate_factor": 0.1},
        {"feature_scale": True, "parametrization": "ntk", "schedule": "exponential"},
    ]
    shrinking = {"l1": 1e-3, "decoupled_weight_decay": 0.1}
    widths = [1, 16, 5, 33, 8, 17, 64, 3, 31, 70]
    names, initializers = list(ACTIVATIONS), list(INITIALIZERS)
    members = []
    for i in range(10):
        for j in range(5):
            k = 5 * i + j
            depth, name = (i + j) % 5, names[i if j % 2 == 0 else (i + 10) % len(names)]
            hidden = tuple(widths[(3 * i + 7 * j + layer) % len(widths)] for layer in range(depth))
            several = tuple(names[(i + 10 + layer) % len(names)] for layer in range(depth))
            members.append(
                pm.Member(
                    hidden=hidden,
                    activation=several if j == 3 else name,
                    bias=(i + j) % 3 > 0,
                    initializer=initializers[(i + 2 * j) % len(initializers)],
                    optimizer=optimizers[k % len(optimizers)],
                    batch_size=(None, 7, N_ROWS + 1)[(i + j // 2) % 3],
                    seed=i if j == 4 else None,
                    **options[k % len(options)],
                    **(shrinking if k // len(optimizers) % 2 else {}),
                    dropout=(0.0, 0.0, 0.3)[(i + 2 * j) % 3],
                    input_dropout=(0.0, 0.0, 0.0, 0.2)[(2 * i + j) % 4],
                    average=(0.0, 0.9)[(i + j // 3) % 2],
                    clip_norm=(0.0, 0.0, 0.2)[(i + j // 2) % 3],
                )
            )
    # Whatever else the tables hold.
    used = {name for member in members for name in member.activation}
    members += [pm.Member(hidden=(17, 5), activation=name) for name in names if name not in used]
    others = [cls() for cls in OPTIMIZERS.values() if cls not in set(map(type, optimizers))]
    members += [pm.Member(hidden=(17, 5), optimizer=o, **more) for o in others for more in ({}, shrinking)]
    schedules = [name for name in SCHEDULES if name not in {member.schedule for member in members}]
    members += [pm.Member(hidden=(9,), schedule=name, schedule_epochs=2.0) for name in schedules]
    return members


MEMBERS = varied_members()
IDS = [i * i + (i % 2) * 2**40 for i in range(len(MEMBERS))]


@dataclass(frozen=True)
class Setting:
    """How the varied pool is trained. loss: a label of loss_variants."""

    dtype: str
    loss: str
    shuffle: str | None
    early_stopping: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}-{self.loss}-{self.shuffle}" + "-stopping" * self.early_stopping

    def pool(self, chosen: Any = slice(None)) -> pm.Pool:
        places = np.arange(len(MEMBERS))[chosen]
        members, ids = [MEMBERS[i] for i in places], [IDS[i] for i in places]
        loss = library_loss(self.loss, N_OUTPUTS)
        return pm.Pool(members, N_FEATURES, N_OUTPUTS, loss, seed=SEED, dtype=self.dtype, ids=ids)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        return self.some_data(N_ROWS, seed=1)

    def some_data(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        X, y = random_data(self.loss, n_rows, N_FEATURES, N_OUTPUTS, seed=seed, dtype=self.dtype)
        # Exponentials of raw outputs must not make members diverge.
        return (0.25 * X if self.loss in ("poisson", "gaussian_nll") else X), y

    def training(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"batch_size": 32, "shuffle": self.shuffle, "progress": False}
        if self.early_stopping:
            validation = self.some_data(40, seed=2)
            arguments |= {"validation_data": validation, "early_stopping": True, "patience": 1}
            arguments |= {"metrics": ["f1", "roc_auc"], "monitor": "f1"}
        return arguments

    def fit(self, pool: pm.Pool, epochs: int = EPOCHS, **changes: Any) -> pm.Pool:
        return pool.fit(*self.data(), epochs=epochs, **(self.training() | changes))

    def go_on(self, pool: pm.Pool, epochs: int, **changes: Any) -> pm.Pool:
        return pool.partial_fit(*self.data(), epochs=epochs, **(self.training() | changes))


SETTINGS = [
    Setting("float32", "squared_error", "shared"),
    Setting("float32", "cross_entropy", "member"),
    Setting("float32", "binary_cross_entropy", None),
    Setting("float64", "squared_error", "member"),
    Setting("float64", "cross_entropy", "shared", early_stopping=True),
    Setting("float64", "binary_cross_entropy", None),
    Setting("float32", "weighted levels", "member"),
    Setting("float32", "narrow huber", "shared"),
    Setting("float32", "gaussian_nll", None),
    Setting("float64", "absolute_error", "member"),
    Setting("float64", "poisson", "shared"),
]
SETTINGS += [
    Setting("float32", name, "member")
    for name, loss in LOSSES.items()
    if not loss.registered and name not in {VARIANTS[setting.loss][0] for setting in SETTINGS}
]
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


@cache
def trained(setting: Setting, epochs: int = EPOCHS) -> pm.Pool:
    """The whole varied pool; not to be changed."""
    return setting.fit(setting.pool(), epochs)


def assert_same_bits(pool: pm.Pool, other: pm.Pool, ids: Any = None) -> None:
    """Whether members have the same bits in both pools; by default all, which must be the same ones."""
    states, others = member_states(pool), member_states(other)
    assert ids is not None or set(states) == set(others)
    ids = list(states if ids is None else ids)
    assert ids
    for id in ids:
        differing = differing_bits(states[id].arrays(), others[id].arrays())
        assert not differing, f"member {id} differs in {differing}"


def differing_bits(arrays: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> list[str]:
    assert arrays.keys() == others.keys()
    return [name for name in arrays if not same_bits(arrays[name], others[name])]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
