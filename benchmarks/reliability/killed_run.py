"""A process that trains with checkpoints, to be killed.

    python -m benchmarks.reliability.killed_run FOLDER RESULT SECONDS

It begins, or goes on where it stands, and saves the whole pool to RESULT at the end. It prints a line once all is
imported. SECONDS: between checkpoints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

import pmlp_np as pm

N, F = 160, 5
HOW = {"epochs": 40, "batch_size": 16, "early_stopping": True, "patience": 12, "metrics": ["mae", "r2"]}


def data() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N + 60, F))
    y = np.sin(X[:, 0]) + 0.3 * rng.normal(size=len(X))
    return X[:N], y[:N], X[N:], y[N:]


def new_pool(backend: str = "numba") -> pm.Pool:
    specs = pm.grid(
        hidden=[(7,), (30, 11)], activation=["tanh", "relu"], learning_rate=[0.001, 0.03], dropout=[0.0, 0.2],
        schedule="cosine",
    )  # fmt: skip
    return pm.Pool([*specs, *(pm.Member(12, average=0.9, batch_size=b) for b in (3, 50))], F, seed=3, backend=backend)


def main() -> None:
    folder, result, seconds = sys.argv[1:4]
    X, y, *validation = data()
    print("ready", flush=True)
    if os.path.exists(os.path.join(folder, "checkpoint.pmlp")):
        pool = pm.resume(folder, X, y, validation_data=tuple(validation))
    else:
        how = {"checkpoint": folder, "checkpoint_every": float(seconds), "progress": False}
        pool = new_pool().fit(X, y, validation_data=tuple(validation), **HOW, **how)
    if pool.ended_ == "done":
        pool.save(Path(result))


if __name__ == "__main__":
    main()
