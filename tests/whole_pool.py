"""A pool that has all that a pool can have, and all of it as bytes."""

from __future__ import annotations

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.training import history


def pool_with_everything() -> pm.Pool:
    """Features, given weights, best and averaged ones, scales, members of every depth. By the reference backend, which
    compiles nothing."""
    rng = np.random.default_rng()
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    specs = [
        pm.Member(hidden=(3, 2), activation=("tanh", "relu"), average=0.9),
        pm.Member(hidden=(), optimizer=pm.SGD(0.01)),
        pm.Member(hidden=4, feature_scale=True, bias=False, optimizer=pm.SGD(0.01, momentum=0.9)),
        pm.Member(hidden=2, activation="identity", optimizer=pm.SGD(1e30)),
    ]
    pool = pm.Pool(specs, 3, seed=int(rng.integers(2**60)), ids=[5, 2, 9, 7], loss=pm.Huber(delta=2.0),
                   backend="reference")  # fmt: skip
    features = [[0, 1], [2], [0, 1], [1, 0, 2]]
    with pytest.warns(pm.DivergedWarning):
        pool.fit(X, y, features=features, progress=False)
    pool.set_weights(9, pool.extract(9))
    with pytest.warns(pm.DivergedWarning):
        pool.fit(X, y, epochs=3, features=features, validation_data=(X, y), early_stopping=True, progress=False)
    return pool


def everything(pool: pm.Pool) -> dict[str, bytes]:
    """All that a pool holds, by name."""
    store, plan, records = pool._ready().store, pool._plan, pool._records
    found = {name: np.concatenate(list(store.stream(name))) for name in store.buffers()}
    found |= vars(pool._progress) | pool.history_ | pool.specs.columns()
    found |= {f"given {m} {k}": a for m, pair in pool._assigned.items() for k, a in enumerate(sum(pair, []))}
    found |= {"ids": pool.ids_, "keys": plan.stream_key, "orders": plan.order_key}
    found |= {name: getattr(records, name) for name in history.COLUMNS} | records.shown
    assert plan.features is not None
    found |= {f"features of {m}": plan.features.arrays[set] for m, set in enumerate(plan.features.of.tolist())}
    texts = repr(pool), pool.loss, pool.ended_, str(pool._kept_best), records.monitor
    return {name: array.tobytes() for name, array in found.items()} | {"": repr(texts).encode()}
