"""Concatenation of pools."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.store import Store
from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.exclusion import require_no_training
from pmlp_np.data.labels import Names, agreed_names, require_equal_names
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.held_members import require_room
from pmlp_np.pool.pool import Pool
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.training.history import joined


def concat(pools: Sequence[Pool]) -> Pool:
    """Concatenate pools: all members in order, with all their state.

    The state is keys, weights, optimizer state, best and averaged weights, history, status, and the position in an
    epoch.

    Duplicate ids are replaced by new ones, above the highest id. If the pools' `monitor` differ, the members' best
    weights are kept, and measured again when training continues.

    Raises DataError if features or their names, outputs, loss, dtype or backend differ.
    """
    argument, pools = pools, list(pools) if isinstance(pools, Iterable) else []
    if not pools or not all(isinstance(pool, Pool) for pool in pools):
        raise DataError(compose("pools", "a list of at least one pm.Pool", show(argument)))
    for pool in pools:
        require_no_training("concat", pool._trainer)
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
    assigned_names = agreed_names([pool._assigned_names for pool in pools], "pools", "columns of weights given to")
    for i, pool in enumerate(pools):
        require_equal_names(names, pool._assigned_names, f"columns of weights given to pools[{i}]", "the pools")
    ids = first.ids_
    for pool in pools[1:]:
        new_ids = pool.ids_.copy()
        clash = np.isin(new_ids, ids)
        start = max(ids.max(), new_ids.max()) + 1
        new_ids[clash] = np.arange(start, start + clash.sum())
        ids = np.concatenate([ids, new_ids])
    parts = [pool._contents() for pool in pools]
    return Pool._from_contents(_joined(parts, checks.ids(ids, len(ids)), names, assigned_names))


def _joined(parts: Sequence[Contents], ids: np.ndarray, names: Names | None, assigned_names: Names | None) -> Contents:
    """Return the contents of all members, one pool after another, with these ids and names of columns."""
    first = parts[0]
    plan = Plan.concatenate([part.plan for part in parts], names)
    require_room(plan)
    starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    whole = Contents(
        plan, ids, first.backend_name, first.device, Progress.concatenate([part.progress for part in parts]),
        joined([part.records for part in parts]),
        assigned={start + i: pair for start, part in zip(starts, parts, strict=False)
                  for i, pair in part.assigned.items()},
        assigned_names=assigned_names,
        kept_best=any(part.kept_best for part in parts),
    )  # fmt: skip
    if all(part.backend is None for part in parts):
        return whole
    stores = [(part.backend or part.create_backend()).store for part in parts]
    whole.backend = backends.create(whole.backend_name, whole.device, plan)
    buffers = {"parameters": True, "slots": True, "best": whole.kept_best, "average": plan.keeps_average}
    for name in (name for name, exists in buffers.items() if exists):
        whole.backend.store.restore(name, _reader(stores, name))
    return whole


def _reader(stores: Sequence[Store], name: str) -> Callable[[int], np.ndarray]:
    """Return a function that reads the next n numbers of a buffer of all stores, one after another."""
    chunks = itertools.chain.from_iterable(store.stream(name) for store in stores)
    rest = np.zeros(0)

    def take(n: int) -> np.ndarray:
        nonlocal rest
        parts = [rest]
        while sum(map(len, parts)) < n:
            parts.append(next(chunks))
        values = np.concatenate(parts[len(rest) == 0 :]) if n else rest[:0]
        rest = values[n:]
        return values[:n]

    return take
