"""Continuing: the members of a table model are trained on new rows, with the views and the scale of y as they are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, DivergedWarning, compose
from pmlp_np.data.encoded import EncodedTable
from pmlp_np.data.preprocessing.raw_table import RawColumn
from pmlp_np.model_selection.search_problem import row_weights
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.pool.pool import Pool
from pmlp_np.pool.respecified import respecified

# The learning rate of new rows, as a share of a member's highest: low enough that one call does not undo a training.
RATE = 0.1


def continued(
    model: TableModel, table: Sequence[RawColumn], y: Any, sample_weight: Any, how: dict[str, Any]
) -> TableModel:
    """Return the model after an epoch of each of its members on these rows; the given model stays as it is.

    how: further arguments of `Pool.partial_fit`. The learning rate is RATE times the member's highest, and constant:
    schedules have ended. Weights of configurations, temperature and what is known of errors stay, too. Raises DataError
    for rows that don't suit the model.
    """
    prepared = model.targets.prepared(y)
    if len(prepared) != len(table[0].cells):
        raise DataError(compose("y", f"{len(table[0].cells)} rows, as X", f"{len(prepared)}"))
    weights = None if sample_weight is None else row_weights(sample_weight, len(prepared))
    wide = model.views.wide(table, model.blocks)
    pools = {id(pool): _trained_on(pool, wide, prepared, weights, how) for pool, _ in model.members}
    return replace(model, members=tuple((pools[id(pool)], ids) for pool, ids in model.members))


def _trained_on(
    pool: Pool, wide: EncodedTable, prepared: np.ndarray, weights: np.ndarray | None, how: dict[str, Any]
) -> Pool:
    if pool.specs.option("max_epochs").any():
        rates = RATE * pool.specs.hyperparameter("learning_rate")
        changes = {"max_epochs": 0, "schedule": "constant", "warmup_epochs": 0.0, "learning_rate": rates}
        pool = respecified(pool, pool.ids_, changes)
    else:
        pool = pool.subset(pool.ids_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergedWarning)
        return pool.partial_fit(wide, prepared, epochs=1, sample_weight=weights, **how)
