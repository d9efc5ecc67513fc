"""Isolation under fire: do members keep their bits beside members that go wrong in every way there is?

Random pools train twice: alone, and among members with learning rates up to 1e30, weights and gradients that overflow
float32, and other widths; on columns that are constant, targets that are all equal, rows sets of one row. Every bit of
weights and curves of those that were there both times is compared.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import pmlp_np as pm

_OPTIMIZERS = (pm.SGD, pm.Adam, pm.AdamW, pm.RMSprop, pm.NAdam)
_ACTIVATIONS = ("relu", "tanh", "identity", "mish", "elu", "hardshrink", "softplus", "squareplus")


def _member(draw: np.random.Generator, wild: bool) -> pm.Member:
    hidden = tuple(int(width) for width in draw.integers(1, 40, size=draw.integers(0, 4)))
    rate = float(10.0 ** draw.uniform(3, 30)) if wild else float(10.0 ** draw.uniform(-4, -1.5))
    names = [name for name in _ACTIVATIONS if name != "squareplus"]
    optimizer = _OPTIMIZERS[draw.integers(len(_OPTIMIZERS))](rate)
    return pm.Member(hidden, names[draw.integers(len(names))], optimizer=optimizer, seed=int(draw.integers(2**31)))


def one(draw: np.random.Generator) -> dict[str, int]:
    """Train a random pool alone and among wild members. Returns how many there were, and what became of them."""
    n, features = int(draw.integers(3, 120)), int(draw.integers(1, 9))
    X, y = draw.normal(size=(n, features)), draw.normal(size=n)
    if draw.random() < 0.3:
        X[:, draw.integers(features)] = 3.0
    if draw.random() < 0.3:
        y[:] = 2.0
    tame = [_member(draw, False) for _ in range(int(draw.integers(1, 12)))]
    wild = [_member(draw, True) for _ in range(int(draw.integers(1, 12)))]
    how: dict[str, Any] = {
        "epochs": int(draw.integers(1, 8)), "batch_size": int(draw.integers(1, 40)), "validation_data": (X, y),
        "early_stopping": bool(draw.random() < 0.5), "progress": False,
    }  # fmt: skip
    rows = [np.array([draw.integers(n)]) if draw.random() < 0.2 else draw.permutation(n) for _ in tame]
    places = draw.permutation(len(tame) + len(wild))
    members = [(tame + wild)[i] for i in places]
    all_rows = [rows[i] if i < len(tame) else np.arange(n) for i in places]
    alone = pm.Pool(tame, features).fit(X, y, rows=rows, **how)
    among = pm.Pool(members, features).fit(X, y, rows=all_rows, **how)
    changed = 0
    for i in range(len(tame)):
        at = int(np.flatnonzero(places == i)[0])
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(_bits(alone, i), _bits(among, at), strict=True))
        changed += not same
    statuses = among.status_
    return {"pools": 1, "members": len(tame), "wild": len(wild), "diverged": statuses.count("diverged"),
            "changed": changed}  # fmt: skip


def _bits(pool: pm.Pool, position: int) -> list[np.ndarray]:
    mlp = pool.extract(int(pool.ids_[position]), weights="last")
    curves = [curve[position] for curve in pool.history_.values()]
    return [*mlp.weights, *mlp.biases, *curves]


def under_fire(pools: int, seed: int) -> dict[str, Any]:
    """Return the sums over so many random pools."""
    total: dict[str, Any] = {"seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(pools):
            for name, value in one(np.random.default_rng([seed, i])).items():
                total[name] = total.get(name, 0) + value
    return total
