"""The contents of several pools as those of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.store import Store
from pmlp_np.data.labels import Names
from pmlp_np.pool.contents import Contents
from pmlp_np.pool.held_members import require_room
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.training.history import joined


def joined_contents(
    parts: Sequence[Contents], ids: np.ndarray, names: Names | None, assigned_names: Names | None
) -> Contents:
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
