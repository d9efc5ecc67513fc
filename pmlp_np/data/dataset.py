"""A dataset as backends take it: a table, and what of it each member sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.data.index_sets import Sets


@dataclass
class Dataset:
    """Training or evaluation data as backends take it: a table, and what of it each member sees.

    x: for each of the plan's feature sets (one, where it has none) its columns, (n, features) of the pool's dtype, each
        row contiguous.
    y: (n_target_sets * n_targets, n) of the pool's dtype, contiguous; n_targets is 1 for labels. None where there is
        nothing to compare with.
    rows: the rows of each member, in order, repeats included; None where all have all.
    targets: (n_members,) int64, the target set of each member; None where there is one for all.
    weights: (n_weight_sets, n) float64, contiguous: how much each row counts; None where all count alike.
    weight_of: (n_members,) int64, the weight set of each member; None where there is one for all.
    weight_mean: (n_members,) float64, the mean weight of each member's rows: a row's weight is divided by it in float64
        and then cast to the pool's dtype. A row of weight 0 adds exactly 0, whatever its loss is.
    """

    x: list[np.ndarray]
    y: np.ndarray | None = None
    n_targets: int = 1
    rows: Sets | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    weight_of: np.ndarray | None = None
    weight_mean: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Rows of the table."""
        return len(self.x[0])

    def counts(self, n_members: int) -> np.ndarray:
        """Rows of each member, (n_members,) int64."""
        return np.full(n_members, self.n) if self.rows is None else self.rows.lengths
