"""One pool of several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.store import Store
from pmlp_np.base.errors import (
    DataError,
    compose,
    show,
)
from pmlp_np.base.exclusion import require_whole
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.labels import (
    agreed_names,
)
from pmlp_np.pool.pool import Pool
from pmlp_np.specs.members import Specs
from pmlp_np.training.history import joined


def concat(pools: Sequence[Pool]) -> Pool:
    """One pool of all members, in order, with their keys and states. Ids that clash are renumbered from the highest on.

    Raises DataError where features or their names, outputs, loss, dtype or backend differ.
    """
    given, pools = pools, list(pools) if isinstance(pools, Iterable) else []
    if not pools or not all(isinstance(pool, Pool) for pool in pools):
        raise DataError(compose("pools", "a list of at least one pm.Pool", show(given)))
    for pool in pools:
        require_whole("concat", pool._trainer)
    first = pools[0]
    for name in ("n_features", "n_outputs", "loss", "dtype", "backend", "device"):
        for i, pool in enumerate(pools):
            if getattr(pool, name) != getattr(first, name):
                raise DataError(
                    compose(f"pools[{i}].{name}", f"{getattr(first, name)}, as in pools[0]", f"{getattr(pool, name)}")
                )
    names = agreed_names([pool._plan.names for pool in pools], "pools")
    ids = first.ids_
    for pool in pools[1:]:
        own = pool.ids_.copy()
        clash = np.isin(own, ids)
        start = max(ids.max(), own.max()) + 1
        own[clash] = np.arange(start, start + clash.sum())
        ids = np.concatenate([ids, own])
    whole = Pool(Specs.concatenate([pool.specs for pool in pools]), first.n_features, first.n_outputs, first._plan.loss,
                 backend=first.backend, dtype=first.dtype, ids=ids, device=first.device)  # fmt: skip
    for name in ("stream_key", "order_key"):
        setattr(whole._plan, name, np.concatenate([getattr(pool._plan, name) for pool in pools]))
    if any(pool._plan.features is not None for pool in pools):
        everything = [np.arange(first.n_features)]
        whole._plan.features = Sets.concatenate(
            [pool._plan.features or Sets(everything, np.zeros(len(pool), np.int64)) for pool in pools]
        )
    whole._plan.names = names
    whole._given_names = next((pool._given_names for pool in pools if pool._given_names is not None), None)
    starts = np.cumsum([0, *(len(pool) for pool in pools)])
    whole._given = {
        int(start) + i: given for start, pool in zip(starts, pools, strict=False) for i, given in pool._given.items()
    }
    whole._kept_best = any(pool._kept_best for pool in pools)
    if all(pool._backend is None for pool in pools):
        return whole
    whole._records = joined([pool._records for pool in pools])
    for name in vars(first._progress):
        setattr(whole._progress, name, np.concatenate([getattr(pool._progress, name) for pool in pools]))
    backend, parts = backends.create(whole.backend, whole.device, whole._plan), [pool._ready().store for pool in pools]
    kept = {"parameters": True, "slots": True, "best": whole._kept_best, "average": whole._plan.keeps_average}
    for name in (name for name, is_kept in kept.items() if is_kept):
        backend.store.restore(name, _taker(parts, name))
    whole._backend = backend
    return whole


def _taker(parts: Sequence[Store], name: str) -> Callable[[int], np.ndarray]:
    """A function that returns so many next numbers of a buffer of all stores, one behind the other."""
    rest = itertools.chain.from_iterable(part.stream(name) for part in parts)
    left = np.zeros(0)

    def take(n: int) -> np.ndarray:
        nonlocal left
        found = [left]
        while sum(map(len, found)) < n:
            found.append(next(rest))
        values = np.concatenate(found[len(left) == 0 :]) if n else left[:0]
        left = values[n:]
        return values[:n]

    return take
