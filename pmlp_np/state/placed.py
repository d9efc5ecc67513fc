"""A placed dataset: on a backend's device, with members grouped by the rows and features that they share."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import alike
from pmlp_np.state.plan import Plan


class Placed:
    """A dataset as returned by `Backend.place`: placed once per fit, or once per prediction or evaluation.

    Row sets and feature sets are computed at first use. A backend for a GPU copies the dataset to the device.
    """

    def __init__(self, plan: Plan, data: Dataset) -> None:
        self.plan, self.data = plan, data

    @cached_property
    def counts(self) -> np.ndarray:
        """The number of rows of each member, (n_members,) int64."""
        return self.data.counts(self.plan.n_members)

    @cached_property
    def feature_set(self) -> np.ndarray:
        """The feature set of each member, (n_members,) int64: its index in `data.x`."""
        features = self.plan.features
        return np.zeros(self.plan.n_members, np.int64) if features is None else features.of

    @cached_property
    def row_set(self) -> np.ndarray:
        """The row set of each member, (n_members,) int64: its index in `data.rows.arrays`."""
        rows = self.data.rows
        return np.zeros(self.plan.n_members, np.int64) if rows is None else rows.of

    def rows_of(self, member: int) -> np.ndarray | None:
        """Return the row numbers of a member's row set, int64; None for all rows."""
        return None if self.data.rows is None else self.data.rows.arrays[self.row_set[member]]

    def alike(self, members: np.ndarray) -> list[np.ndarray]:
        """Group members that read the same features of the same rows; groups are indices into `members`."""
        return alike(members, (self.feature_set, self.row_set))
