"""Some ninety small pools over all options, and a digest of what each is after training.

The digests are committed (`trained_bits.json`): a change that was not meant to change any member's bits shows at once,
and so does a machine on which they differ. `python tests/trained_bits.py` writes the file anew, after a change that
was meant to; its commit says which bits changed, and why.

Nothing here is taken from the library's tables: an entry that is added to them changes no digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from member_state import state_of

FILE = Path(__file__).with_suffix(".json")
DTYPES = ("float32", "float64")
N_ROWS, N_FEATURES, N_OUTPUTS = 75, 11, 3

LOSSES = {
    "squared_error": pm.SquaredError(),
    "squared_error weighted": pm.SquaredError(output_weight=(0.5, 0.0, 2.0)),
    "absolute_error": pm.AbsoluteError(),
    "huber": pm.Huber(delta=0.4),
    "quantile": pm.Quantile(levels=(0.05, 0.6)),
    "poisson": pm.Poisson(),
    "gaussian_nll": pm.GaussianNLL(),
    "cross_entropy": pm.CrossEntropy(),
    "cross_entropy smoothed": pm.CrossEntropy(label_smoothing=0.2),
    "binary_cross_entropy": pm.BinaryCrossEntropy(label_smoothing=0.1),
}
_ACTIVATIONS = (
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "selu", "hardshrink", "mish", "silu",
    "softplus", "softsign", "hard_tanh", "hard_sigmoid", "hard_swish", "gelu_tanh", "sin",
)  # fmt: skip
_OPTIMIZERS = {
    "sgd": pm.SGD(0.02),
    "sgd decay": pm.SGD(0.02, weight_decay=0.01),
    "sgd momentum": pm.SGD(0.01, momentum=0.9, weight_decay=1e-3),
    "sgd nesterov": pm.SGD(0.01, momentum=0.8, nesterov=True),
    "adam": pm.Adam(0.003, weight_decay=1e-3),
    "adamw": pm.AdamW(0.003),
    "rmsprop": pm.RMSprop(0.002, weight_decay=1e-3),
    "rmsprop momentum": pm.RMSprop(0.001, momentum=0.7),
    "nadam": pm.NAdam(0.003, momentum_decay=0.02),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "cosine": {"schedule": "cosine", "schedule_epochs": 1.3, "final_rate_factor": 0.1},
    "one_cycle": {"schedule": "one_cycle", "one_cycle_start": 0.1, "one_cycle_peak": 0.4},
    "linear warm-up": {"schedule": "linear", "warmup_epochs": 0.7},
    "coslog4": {"schedule": "coslog4", "schedule_epochs": 3.0},
    "step": {"schedule": "step", "schedule_interval": 0.6, "schedule_factor": 0.5},
    "exponential": {"schedule": "exponential", "schedule_factor": 0.7},
    "warm-up": {"warmup_epochs": 1.5},
    "plateau": {"plateau_patience": 1, "plateau_factor": 0.5, "optimizer": pm.Adam(0.3)},
    "ntk": {"parametrization": "ntk", "bias_rate_factor": 0.1},
    "layer rates": {"first_layer_rate_factor": 3.0, "last_layer_rate_factor": 0.3, "decay_biases": True},
    "l1": {"l1": 1e-3},
    "decoupled decay": {"decoupled_weight_decay": 0.1},
    "dropout": {"dropout": 0.3},
    "input dropout": {"input_dropout": 0.2},
    "average": {"average": 0.9},
    "clip_norm": {"clip_norm": 0.2},
    "feature_scale": {"feature_scale": True, "feature_scale_rate_factor": 6.0},
    "everything": {
        "feature_scale": True, "clip_norm": 0.3, "average": 0.8, "dropout": 0.2, "input_dropout": 0.1, "l1": 1e-3,
        "schedule": "cosine", "warmup_epochs": 0.3, "parametrization": "ntk", "plateau_patience": 1,
    },
    "seed": {"seed": 5},
    "batch_size": {"batch_size": 7},
    "no bias": {"bias": False},
    "zero_last": {"zero_last": True},
}  # fmt: skip
_INITIALIZERS = ("pytorch", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal")


def uniform(count: int, stream: int) -> np.ndarray:
    """Numbers from 0 to 1, float64, by SplitMix64 (Steele, Lea, Flood 2014): the same on every machine and with every
    version of NumPy."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stream << 32)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**53


def features(n_rows: int, stream: int, dtype: str) -> np.ndarray:
    return (2.0 * uniform(n_rows * N_FEATURES, stream).reshape(n_rows, N_FEATURES) - 1.0).astype(dtype)


def targets(loss: Any, n_rows: int, stream: int, dtype: str) -> np.ndarray:
    """What a loss takes: class numbers (rows,), or numbers from 0 to 1 (rows, outputs)."""
    if loss.name == "cross_entropy":
        return (uniform(n_rows, stream) * N_OUTPUTS).astype(np.int64)
    return uniform(n_rows * N_OUTPUTS, stream).reshape(n_rows, N_OUTPUTS).astype(dtype)


def members(**options: Any) -> list[pm.Member]:
    """Depths 0 to 3, widths that fill vectors and that don't."""
    plain = {"activation": "tanh", "optimizer": pm.Adam(0.003)} | options
    return [pm.Member(hidden=hidden, **plain) for hidden in ((), (1,), (17,), (33, 16), (5, 40, 8))]


class Case:
    """A pool and how it is trained. own: from (rows, members, dtype) to arguments of `fit` with data of their own."""

    def __init__(
        self,
        specs: Any,
        loss: Any = LOSSES["squared_error"],
        own: Callable[[int, int, str], dict[str, Any]] | None = None,
        validated: bool = False,
        parts: tuple[int, ...] = (2,),
        **arguments: Any,
    ) -> None:
        self.specs, self.loss, self.own, self.validated, self.parts = specs, loss, own, validated, parts
        self.arguments = {"batch_size": 32, "progress": False} | arguments

    def train(self, dtype: str, backend: str = "numba") -> pm.Pool:
        pool = pm.Pool(self.specs, N_FEATURES, N_OUTPUTS, self.loss, seed=7, dtype=dtype, backend=backend)
        arguments = dict(self.arguments)
        if self.validated:
            arguments["validation_data"] = features(40, 3, dtype), targets(self.loss, 40, 4, dtype)
        if self.own is not None:
            arguments |= self.own(N_ROWS, len(pool), dtype)
        y = None if "targets" in arguments else targets(self.loss, N_ROWS, 2, dtype)
        for call, epochs in zip((pool.fit, *(pool.partial_fit,) * len(self.parts)), self.parts, strict=False):
            call(features(N_ROWS, 1, dtype), y, epochs=epochs, **arguments)
        return pool


def _own_rows(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    drawn = [uniform(30 + 9 * (i % 3), 10 + i % 3) for i in range(n_members)]
    return {"rows": [np.floor(each * n_rows).astype(np.int64) for each in drawn]}


def _own_features(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    return {"features": [np.arange(i % 4, N_FEATURES, 1 + i % 2) for i in range(n_members)]}


def _own_targets(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    each = [uniform(n_rows * N_OUTPUTS, 20 + i).reshape(n_rows, N_OUTPUTS) for i in range(n_members)]
    return {"targets": np.array(each, dtype)}


def _weights(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    return {"sample_weight": np.floor(4.0 * uniform(n_rows, 30)) / 4.0}


def _own_weights(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    return {"sample_weight": uniform(n_rows * n_members, 31).reshape(n_members, n_rows)}


def _validation_rows(n_rows: int, n_members: int, dtype: str) -> dict[str, Any]:
    return {"validation_rows": [np.arange(i % 5, n_rows, 5) for i in range(n_members)]} | _own_rows(
        n_rows, n_members, dtype
    )


_STOPPING = {"early_stopping": True, "patience": 1, "parts": (6,), "validated": True}
_FAST = members(optimizer=pm.Adam(0.1))

CASES: dict[str, Case] = {
    **{f"loss: {name}": Case(members(optimizer=pm.AdamW(0.004)), loss) for name, loss in LOSSES.items()},
    **{f"activation: {name}": Case(members(activation=name)) for name in _ACTIVATIONS},
    "activations of layers": Case([pm.Member(hidden=(9, 20, 3), activation=("gelu", "relu", "elu"))]),
    **{f"optimizer: {name}": Case(members(optimizer=rule)) for name, rule in _OPTIMIZERS.items()},
    **{
        f"optimizer: {name}, shrinking": Case(members(optimizer=rule, l1=1e-3, decoupled_weight_decay=0.05))
        for name, rule in _OPTIMIZERS.items()
    },
    **{f"option: {name}": Case(members(**options)) for name, options in _OPTIONS.items()},
    "option: plateau, validated": Case(members(**_OPTIONS["plateau"]), validated=True, parts=(4,)),
    **{f"initializer: {name}": Case(members(initializer=name, optimizer=pm.SGD(0.05))) for name in _INITIALIZERS},
    "shuffle: member": Case(members(), shuffle="member"),
    "shuffle: None": Case(members(), shuffle=None),
    "batch of all rows": Case(members(), batch_size=1000),
    "batch of one": Case(members(), batch_size=1),
    "epochs in parts": Case(members(**_OPTIONS["one_cycle"]), parts=(1, 2, 1)),
    "rows": Case(members(), own=_own_rows),
    "rows, shuffled by member": Case(members(), own=_own_rows, shuffle="member"),
    "features": Case(members(), own=_own_features),
    "targets": Case(members(), own=_own_targets),
    "weights": Case(members(), own=_weights),
    "weights of each": Case(members(), LOSSES["cross_entropy"], own=_own_weights),
    "class weights": Case(members(), LOSSES["cross_entropy"], class_weight="balanced"),
    "validation": Case(members(), validated=True),
    "early stopping": Case(_FAST, **_STOPPING),
    "early stopping by score": Case(_FAST, LOSSES["cross_entropy"], monitor="score", **_STOPPING),
    "early stopping, min_delta": Case(_FAST, min_delta=0.01, **_STOPPING),
    "early stopping on rows": Case(
        _FAST, own=_validation_rows, early_stopping=True, patience=2, parts=(6,), shuffle="member"
    ),
    "early stopping, weights": Case(_FAST, own=_weights, **_STOPPING),
    "early stopping, trained on": Case(_FAST, **(_STOPPING | {"parts": (3, 4)})),
}


def digest(pool: pm.Pool) -> str:
    """Of all that training left: buffers in canonical order, curves, how far each member has come; and predictions.

    The sign of a NaN is left out: no computation decides it.
    """
    found = hashlib.sha256()
    arrays = state_of(pool._ready()) | {f"curve {name}": curve for name, curve in pool.history_.items()}
    progress = vars(pool._progress)
    arrays |= {name: progress[name] for name in ("epoch", "step", "status")}
    arrays["raw"] = pool.forward(features(9, 5, pool.dtype.name))
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.full((), np.nan, values.dtype), values)
        found.update(f"{name} {values.dtype} {values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()[:20]


def committed() -> dict[str, dict[str, str]]:
    """Digests by name of the case and dtype."""
    return json.loads(FILE.read_text("utf-8"))


def main() -> None:
    digests = {name: {dtype: digest(case.train(dtype)) for dtype in DTYPES} for name, case in CASES.items()}
    FILE.write_text(json.dumps(digests, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
