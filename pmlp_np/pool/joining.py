"""Concatenation of pools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.exclusion import require_no_training
from pmlp_np.data.labels import agreed_names, require_equal_names
from pmlp_np.pool.joined_contents import joined_contents
from pmlp_np.pool.pool import Pool


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
    return Pool._from_contents(joined_contents(parts, checks.ids(ids, len(ids)), names, assigned_names))
