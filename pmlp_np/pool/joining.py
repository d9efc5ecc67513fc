"""One pool of several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.store import Store
from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.exclusion import require_whole
from pmlp_np.data.labels import Names, agreed_names, require_equal_names
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.pool import Pool
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.training.history import joined


def concat(pools: Sequence[Pool]) -> Pool:
    """One pool of all members, in order, with all that they have: keys, weights, optimizer state, best and averaged
    weights, history, status, and how far they are in an epoch. Ids that clash are renumbered from the highest on.

    Where the pools' `monitor` differ, the members' best weights stay what they are, and are measured anew when training
    goes on. Raises DataError where features or their names, outputs, loss, dtype or backend differ.
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
                expected, got = f"{getattr(first, name)}, as in pools[0]", f"{getattr(pool, name)}"
                hint = "All members of a pool have the same: keep such pools apart."
                if name in ("backend", "device"):
                    hint = "All members of a pool have the same: save one, and load it where the other is."
                raise DataError(compose(f"pools[{i}].{name}", expected, got, hint))
    names = agreed_names([pool._plan.names for pool in pools], "pools")
    given_names = agreed_names([pool._given_names for pool in pools], "pools", "columns of weights given to")
    for i, pool in enumerate(pools):
        require_equal_names(names, pool._given_names, f"columns of weights given to pools[{i}]", "the pools")
    ids = first.ids_
    for pool in pools[1:]:
        own = pool.ids_.copy()
        clash = np.isin(own, ids)
        start = max(ids.max(), own.max()) + 1
        own[clash] = np.arange(start, start + clash.sum())
        ids = np.concatenate([ids, own])
    parts = [pool._contents() for pool in pools]
    return Pool._of(_joined(parts, checks.ids(ids, len(ids)), names, given_names))


def _joined(parts: Sequence[Contents], ids: np.ndarray, names: Names | None, given_names: Names | None) -> Contents:
    """The contents of all members, one part behind the other, with these ids and names of columns."""
    first = parts[0]
    plan = Plan.concatenate([part.plan for part in parts], names)
    require_room(plan)
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    whole = Contents(
        plan, ids, first.backend_name, first.device, Progress.concatenate([part.progress for part in parts]),
        joined([part.records for part in parts]),
        given={start + i: given for start, part in zip(starts, parts, strict=False) for i, given in part.given.items()},
        given_names=given_names,
        kept_best=any(part.kept_best for part in parts),
    )  # fmt: skip
    if all(part.backend is None for part in parts):
        return whole
    stores = [(part.backend or part.create_backend()).store for part in parts]
    whole.backend = backends.create(whole.backend_name, whole.device, plan)
    kept = {"parameters": True, "slots": True, "best": whole.kept_best, "average": plan.keeps_average}
    for name in (name for name, is_kept in kept.items() if is_kept):
        whole.backend.store.restore(name, _taker(stores, name))
    return whole


def _taker(stores: Sequence[Store], name: str) -> Callable[[int], np.ndarray]:
    """A function that returns so many next numbers of a buffer of all stores, one behind the other."""
    rest = itertools.chain.from_iterable(store.stream(name) for store in stores)
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
