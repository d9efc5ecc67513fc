"""The dataset that training and evaluation give to a backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pmlp_np.data.encoded import Features, expanded
from pmlp_np.data.index_sets import Sets


@dataclass
class Dataset:
    """Training or evaluation data: a table, and the rows, targets and weights of each member.

    x: one array (n, features), or encoded table, per feature set of the plan (one if the plan has none), in the pool's
        dtype, each row contiguous.
    y: (n_target_sets * n_targets, n), in the pool's dtype, contiguous; n_targets is 1 for labels. None if there are no
        targets.
    rows: the rows of each member, in order, repeats included; None if every member has all rows.
    targets: (n_members,) int64, the target set of each member; None if all members share one.
    weights: (n_weight_sets, n) float64, contiguous, the weight of each row; None if all rows count equally.
    weight_of: (n_members,) int64, the weight set of each member; None if all members share one.
    weight_mean: (n_members,) float64, the mean weight of each member's rows. A row's weight is divided by it in float64
        and then cast to the pool's dtype. A row of weight 0 adds exactly 0, whatever its loss is.
    """

    x: list[Features]
    y: np.ndarray | None = None
    n_targets: int = 1
    rows: Sets | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    weight_of: np.ndarray | None = None
    weight_mean: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Number of rows of the table."""
        return len(self.x[0])

    def take(self, positions: np.ndarray, features: np.ndarray | None = None) -> Dataset:
        """Return the dataset of the members at these positions, without arrays that none of them uses.

        features: (n_members,) int64, the feature set of each member (`Sets.of` of the plan); None if there is only one.
        """
        x = self.x if features is None else [self.x[i] for i in np.unique(features[positions])]
        rows = None if self.rows is None else self.rows.take(positions)
        y, targets = _take_sets(self.y, self.targets, positions, self.n_targets)
        weights, weight_of = _take_sets(self.weights, self.weight_of, positions, 1)
        mean = None if self.weight_mean is None else self.weight_mean[positions]
        return Dataset(x, y, self.n_targets, rows, targets, weights, weight_of, mean)

    def expanded(self) -> Dataset:
        """Return the dataset with all features as arrays."""
        return replace(self, x=[expanded(x) for x in self.x])

    def counts(self, n_members: int) -> np.ndarray:
        """Return the number of rows of each member, (n_members,) int64."""
        return np.full(n_members, self.n) if self.rows is None else self.rows.lengths


def _take_sets(
    lines: np.ndarray | None, set_of: np.ndarray | None, positions: np.ndarray, n_lines: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the sets that the members at these positions use, and each member's set among them.

    lines: (n_sets * n_lines, n), the sets. set_of: (n_members,) int64, the set of each member.
    """
    if lines is None or set_of is None:
        return lines, set_of
    used, new_of = np.unique(set_of[positions], return_inverse=True)
    used_lines = lines.reshape(-1, n_lines, lines.shape[1])[used]
    return used_lines.reshape(-1, lines.shape[1]), new_of.ravel()
