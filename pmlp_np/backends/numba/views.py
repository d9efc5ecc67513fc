"""Views: what of a table each member sees, as the driver reads it, and in which pieces an epoch is best run.

A view is a row of 64-bit numbers: address and stride of the features, number of rows, and up to two orders in which to
read them: the epoch's, which shuffles places, and the member's own rows, which places stand for. Where neither is given
rows are read where they lie.

Members that see the same rows in the same order may read a reordered copy, made once for all of them, or go through the
orders, which costs each a copy of every row block. Many members share a copy (cross-validation: one fold after the
other); where nearly every member sees other rows (bootstraps), all go through their orders at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, SHARED_ORDER
from pmlp_np.backends.numba.job import VIEW_WORDS
from pmlp_np.backends.numba.random_draws import shuffle as shuffle_rows
from pmlp_np.base.arrays import address
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress

# A reordered copy is made up to this size; larger tables are read through the order.
_REORDER_BYTES = 1 << 30
# Members per thread from which a copy of their own is made for members that see the same rows.
_WORTH_A_COPY = 32


@dataclass
class Seen:
    """What some members see: views, which of them each member has (None: the first), targets and weights.

    The arrays whose addresses stand in `views` are kept alive by `held`.
    """

    data: Dataset
    views: np.ndarray
    view_of: np.ndarray | None
    y: np.ndarray | None
    weights: np.ndarray | None
    held: list[Any] = field(default_factory=list)

    @property
    def goes_through_orders(self) -> bool:
        return bool(self.views[:, 3:5].any())

    def counts(self, members: np.ndarray) -> np.ndarray:
        """Rows of each of these members, (len(members),) int64."""
        n = self.views[:, 2]
        return np.full(len(members), n[0]) if self.view_of is None else n[self.view_of[members]]

    def job_fields(self) -> dict[str, Any]:
        """The job's fields that say all this."""
        data = self.data
        return {
            "views": self.views, "view_of": self.view_of, "y": self.y, "weights": self.weights,
            "y_stride": 0 if self.y is None else self.y.shape[1], "n_targets": 0 if self.y is None else data.n_targets,
            "targets": data.targets, "weight_of": data.weight_of, "weight_mean": data.weight_mean,
        }  # fmt: skip


def groups_of(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Members that agree in all columns form a group: (first member of each group, group of each member)."""
    n = len(columns[0])
    code = np.zeros(n, np.int64)
    for column in columns:
        if (column == column[:1]).all():
            continue
        values, inverse = np.unique(column, return_inverse=True)
        # Renumbered each time, so that codes never overflow.
        _, code = np.unique(code * len(values) + inverse.ravel(), return_inverse=True)
    if not code.any():
        return np.arange(min(n, 1)), code
    _, first = np.unique(code, return_index=True)
    return first, code


class _Table:
    """Views under construction."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.held: list[Any] = []

    def add(self, x: np.ndarray, n: int, order: np.ndarray | None = None, rows: np.ndarray | None = None) -> None:
        def place(array: np.ndarray | None) -> int:
            return 0 if array is None else address(array)

        row = [address(x), x.strides[0] // x.itemsize, n, place(order), place(rows)]
        self.rows.append(row + [0] * (VIEW_WORDS - len(row)))
        self.held += [x, order, rows]

    def seen(self, data: Dataset, view_of: np.ndarray | None, y: Any = None, weights: Any = None) -> Seen:
        views = np.array(self.rows, np.int64)
        return Seen(data, views, view_of, data.y if y is None else y,
                    data.weights if weights is None else weights, self.held)  # fmt: skip


def _set_columns(plan: Plan, data: Dataset, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The feature set and the row set of each of these members."""
    none = np.zeros(len(members), np.int64)
    features = none if plan.features is None else plan.features.of[members]
    return features, none if data.rows is None else data.rows.of[members]


def as_they_lie(plan: Plan, data: Dataset, members: np.ndarray) -> Seen:
    """What members see, unshuffled: for evaluation and forward passes."""
    features, rows = _set_columns(plan, data, members)
    first, group = groups_of([features, rows])
    table = _Table()
    for i in first.tolist():
        own = None if data.rows is None else data.rows.arrays[rows[i]]
        table.add(data.x[features[i]], data.n if own is None else len(own), None, own)
    return table.seen(data, _spread(plan, members, group))


def _spread(plan: Plan, members: np.ndarray, group: np.ndarray) -> np.ndarray | None:
    """Groups of these members as a column of all members; None where there is one group."""
    if not group.any():
        return None
    column = np.zeros(plan.n_members, np.int64)
    column[members] = group
    return column


def of_an_epoch(
    plan: Plan, data: Dataset, members: np.ndarray, progress: Progress, shuffle: int, n_threads: int
) -> Iterator[tuple[np.ndarray, Seen]]:
    """Members, and what they see in their current epoch, piece by piece."""
    features, rows = _set_columns(plan, data, members)
    columns = [features, rows]
    if shuffle == SHARED_ORDER:
        columns += [plan.order_key[members], progress.epoch[members]]
    first, group = groups_of(columns)
    orders: dict[tuple[int, int, int], np.ndarray] = {}

    def own_rows(i: int) -> np.ndarray | None:
        return None if data.rows is None else data.rows.arrays[rows[i]]

    def order_of(i: int) -> np.ndarray | None:
        """The epoch's order of places; drawn per member in compiled code where each has its own."""
        if shuffle != SHARED_ORDER:
            return None
        own, m = own_rows(i), members[i]
        n = data.n if own is None else len(own)
        key = int(plan.order_key[m].view(np.int64)), int(progress.epoch[m]), n
        if key not in orders:
            orders[key] = np.empty(n, np.int64)
            shuffle_rows(key[0], key[1], address(orders[key]), n)
        return orders[key]

    shared = data.targets is None and data.weight_of is None and shuffle != MEMBER_ORDER
    moves = shuffle == SHARED_ORDER or data.rows is not None
    alike = len(first) == 1 or len(members) >= _WORTH_A_COPY * n_threads * len(first)
    if moves and shared and alike and max(x.nbytes for x in data.x) <= _REORDER_BYTES:
        for g, i in enumerate(first.tolist()):
            order, own = order_of(i), own_rows(i)
            index = own if order is None else order if own is None else own[order]
            assert index is not None and data.y is not None
            table = _Table()
            table.add(data.x[features[i]][index], len(index))
            weights = None if data.weights is None else np.ascontiguousarray(data.weights[:, index])
            y = np.ascontiguousarray(data.y[:, index])
            yield members[group == g] if len(first) > 1 else members, table.seen(data, None, y, weights)
        return
    table = _Table()
    for i in first.tolist():
        own = own_rows(i)
        table.add(data.x[features[i]], data.n if own is None else len(own), order_of(i), own)
    yield members, table.seen(data, _spread(plan, members, group))
