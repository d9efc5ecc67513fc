"""Pools and timings that `scaling`, `inference` and `fresh_fit` share."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import cpu_seconds_of_others, seconds, spread

# Ten widths spread like the paper's 1 to 100, so that a hundred members already have its mean and its padding.
MIXED_WIDTHS = range(5, 101, 10)
BATCH_SIZE = 32
LEARNING_RATE = 1e-3


def mixed_specs(n_members: int, optimizer: str = "sgd", activations: Sequence[str] = pm.PAPER_ACTIVATIONS) -> pm.Specs:
    """Ten widths times the activations times repeats: the same distribution at every size."""
    kinds = len(MIXED_WIDTHS) * len(activations)
    if n_members % kinds:
        raise ValueError(f"expected a multiple of {kinds} members, got {n_members}")
    return pm.grid(hidden=MIXED_WIDTHS, activation=list(activations), optimizer=optimizer, learning_rate=LEARNING_RATE,
                   repeats=n_members // kinds)  # fmt: skip


def mixed_pool(n_members: int, n_features: int, optimizer: str = "sgd") -> pm.Pool:
    return pm.Pool(mixed_specs(n_members, optimizer), n_features=n_features)


def time_fit(pool: pm.Pool, x: np.ndarray, y: np.ndarray, repeats: int, epochs: int = 1, n_threads: int | None = None,
             shuffle: str | None = None, warm_rows: int | None = None) -> dict[str, Any]:  # fmt: skip
    """Seconds of `epochs` epochs that go on from where the pool stands, so that no initialization is timed.

    warm_rows: rows of the untimed first fit; default all. Raises RuntimeError where a member stopped training.
    """
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "shuffle": shuffle, "progress": False, "n_threads": n_threads}
    pool.fit(x[:warm_rows], y[:warm_rows], epochs=1, **settings)
    began, others = time.perf_counter(), cpu_seconds_of_others()
    values = [seconds(lambda: pool.partial_fit(x, y, epochs=epochs, **settings)) for _ in range(repeats)]
    busy = (cpu_seconds_of_others() - others) / (time.perf_counter() - began)
    if set(pool.status_) != {"ok"}:
        raise RuntimeError("a member stopped training: lower the learning rate")
    return spread(values) | {"epochs": epochs, "cores_busy_with_other_work": busy}
