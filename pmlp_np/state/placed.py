"""A dataset in its place: on a backend's device, with the members grouped by what of it they share."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import alike
from pmlp_np.state.plan import Plan


class Placed:
    """A dataset as `Backend.place` returns it: once per fit for training and validation data, once per query else.

    What members share is found at first need. A backend with memory of its own keeps the dataset there.
    """

    def __init__(self, plan: Plan, data: Dataset) -> None:
        self.plan, self.data = plan, data

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows of each member, (n_members,) int64."""
        return self.data.counts(self.plan.n_members)

    @cached_property
    def feature_set(self) -> np.ndarray:
        """The feature set of each member, (n_members,) int64: which of `data.x` it reads."""
        features = self.plan.features
        return np.zeros(self.plan.n_members, np.int64) if features is None else features.of

    @cached_property
    def row_set(self) -> np.ndarray:
        """The row set of each member, (n_members,) int64: which of `data.rows.arrays` it reads."""
        rows = self.data.rows
        return np.zeros(self.plan.n_members, np.int64) if rows is None else rows.of

    def rows_of(self, member: int) -> np.ndarray | None:
        """The rows that a member has, int64; None where it has all."""
        return None if self.data.rows is None else self.data.rows.arrays[self.row_set[member]]

    def alike(self, members: np.ndarray) -> list[np.ndarray]:
        """Indices into `members` in groups that read the same features of the same rows."""
        return alike(members, (self.feature_set, self.row_set))
