"""Pools whose members go on with other options: another length, or another learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.formulas.optimizers import HYPERPARAMETERS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.pool.pool import Pool

# What may change under way: no shape, no slot and no random number depends on these.
CHANGEABLE = ("max_epochs", "schedule", "schedule_epochs", "warmup_epochs", "learning_rate")


def respecified(pool: Pool, ids: Any, changes: Mapping[str, Any]) -> Pool:
    """Return a pool of these members, as `Pool.subset` does, with other values of CHANGEABLE.

    changes: by name one value for all members, or (len(ids),) numbers. Weights, optimizer state, keys, epochs and
        history stay.
    """
    assert set(changes) <= set(CHANGEABLE), changes
    positions = pool._positions(ids)
    contents = pool._contents()
    plan = contents.plan.take(positions)
    options, hyperparameters = plan.specs.options.copy(), plan.specs.hyperparameters.copy()
    for name, value in changes.items():
        if name in OPTIONS:
            encoded = OPTIONS[name].encoded(value) if isinstance(value, str) else value
            options[:, list(OPTIONS).index(name)] = encoded
        else:
            hyperparameters[:, HYPERPARAMETERS.index(name)] = value
    specs = replace(plan.specs, options=np.array(options), hyperparameters=hyperparameters)
    return Pool._from_contents(contents.take(positions, replace(plan, specs=specs)))
