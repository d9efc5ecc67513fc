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

    def take(self, positions: np.ndarray, features: np.ndarray | None = None) -> Dataset:
        """What the members at these positions see, with what is their own: rows, targets, weights. What nobody sees any
        more is dropped.

        features: (n_members,) int64, the feature set of each member (`Sets.of` of the plan); None where there is one.
        """
        x = self.x if features is None else [self.x[i] for i in np.unique(features[positions])]
        rows = None if self.rows is None else self.rows.take(positions)
        y, targets = _taken(self.y, self.targets, positions, self.n_targets)
        weights, weight_of = _taken(self.weights, self.weight_of, positions, 1)
        mean = None if self.weight_mean is None else self.weight_mean[positions]
        return Dataset(x, y, self.n_targets, rows, targets, weights, weight_of, mean)

    def counts(self, n_members: int) -> np.ndarray:
        """Rows of each member, (n_members,) int64."""
        return np.full(n_members, self.n) if self.rows is None else self.rows.lengths


def _taken(
    lines: np.ndarray | None, of: np.ndarray | None, positions: np.ndarray, each: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Sets of so many lines each, (sets * each, n), that some members have, and which of them each has."""
    if lines is None or of is None:
        return lines, of
    used, found = np.unique(of[positions], return_inverse=True)
    kept = lines.reshape(-1, each, lines.shape[1])[used]
    return kept.reshape(-1, lines.shape[1]), found.ravel()
