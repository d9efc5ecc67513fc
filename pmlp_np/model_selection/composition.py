"""What a table model is made of: a record of each configuration in its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmlp_np.base.table import Table
from pmlp_np.data.preprocessing.feature_views import BLOCKS, FeatureViews
from pmlp_np.pool.pool import Pool

_SHOWN = ("weight", "architecture", "view", "members", "parameters", "epochs", "optimizer", "learning_rate")


def composition(
    members: Sequence[tuple[Pool, np.ndarray]], weights: np.ndarray, views: FeatureViews, blocks: Sequence[str]
) -> Table:
    """Return the table that `TableModel.composition` documents; arguments as the fields of TableModel."""
    boards = {id(pool): {record["id"]: record for record in pool.leaderboard()} for pool, _ in members}
    records: list[dict[str, Any]] = []
    for weight, (pool, ids) in zip(weights.tolist(), members, strict=True):
        record = boards[id(pool)][int(ids[0])]
        columns = pool.features_of(int(ids[0]))
        records.append({
            "weight": weight, "architecture": record["architecture"], "view": _view(columns, views, blocks),
            "members": len(ids), "inputs": len(columns), "parameters": record["parameters"],
            "epochs": record["epochs"], "optimizer": record["optimizer"], "learning_rate": record["learning_rate"],
        })  # fmt: skip
    return Table(sorted(records, key=lambda record: -record["weight"]), _SHOWN)


def _view(columns: np.ndarray, views: FeatureViews, blocks: Sequence[str]) -> str:
    """Return the names of the encodings that lie among these columns of the wide matrix."""
    start, read = 0, []
    for name in blocks:
        width = views.width(name)
        if name in BLOCKS and start in columns:
            read.append(name)
        start += width
    return "+".join(read) or "plain"
