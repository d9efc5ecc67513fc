"""Views: what of a table each member sees, as the driver reads it, and in which pieces a round of epochs is best run.

A view is a row of 64-bit numbers: address and stride of the features, number of rows, up to two orders in which to read
them (the epoch's, which shuffles places, and the member's own rows, which places stand for; where neither is given rows
are read where they lie), and the addresses of targets and weights. Where epochs differ in what is seen, a member has
one view for each epoch of the round, one behind the other.

Members that see the same rows in the same order may read reordered copies, made once for all of them, or go through the
orders, which costs each a copy of every row block. Many members share a copy (cross-validation: one fold after the
other); where nearly every member sees other rows (bootstraps), all go through their orders at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, SHARED_ORDER
from pmlp_np.backends.numba.job import VIEW_WORDS
from pmlp_np.backends.numba.random_draws import shuffle as shuffle_rows
from pmlp_np.base.arrays import address
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import groups_of
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan

# A reordered copy is made up to this size; larger tables are read through the order.
_REORDER_BYTES = 1 << 30
# Copies and orders for the epochs of a round take no more than this, but for those of one epoch.
_ROUND_BYTES = 1 << 24
# Members per thread from which a copy of their own is made for members that see the same rows.
_WORTH_A_COPY = 32


@dataclass
class Seen:
    """What some members see: views, which of them each member has (None: the first), targets and weights.

    epoch_views: how many views each group has, for as many epochs; 1: all epochs see the same. The arrays whose
    addresses stand in `views` are kept alive by `held`.
    """

    data: Dataset
    views: np.ndarray
    view_of: np.ndarray | None
    y_stride: int
    epoch_views: int = 1
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
            "views": self.views, "view_of": self.view_of, "epoch_views": self.epoch_views, "y_stride": self.y_stride,
            "n_targets": 0 if data.y is None else data.n_targets, "targets": data.targets,
            "weight_of": data.weight_of, "weight_mean": data.weight_mean,
        }  # fmt: skip


class _Table:
    """Views under construction."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.held: list[Any] = []

    def add(
        self,
        x: np.ndarray,
        n: int,
        y: np.ndarray | None,
        weights: np.ndarray | None,
        order: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        arrays = (order, rows, y, weights)
        places = [0 if array is None else address(array) for array in arrays]
        row = [address(x), x.strides[0] // x.itemsize, n, *places]
        self.rows.append(row + [0] * (VIEW_WORDS - len(row)))
        self.held += [x, *arrays]

    def seen(self, data: Dataset, view_of: np.ndarray | None, y_stride: int, epoch_views: int = 1) -> Seen:
        return Seen(data, np.array(self.rows, np.int64), view_of, y_stride, epoch_views, self.held)


class PlacedInMemory(Placed):
    """A dataset in main memory, and views of it."""

    @cached_property
    def as_they_lie(self) -> Seen:
        """What members see, unshuffled: for evaluation and forward passes."""
        data = self.data
        first, group = groups_of([self.feature_set, self.row_set])
        table = _Table()
        for i in first.tolist():
            own = self.rows_of(i)
            n = data.n if own is None else len(own)
            table.add(data.x[self.feature_set[i]], n, data.y, data.weights, None, own)
        return table.seen(data, group if group.any() else None, data.n)


class _Orders:
    """The orders of places in epochs, each drawn once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._drawn: dict[tuple[int, int, int], np.ndarray] = {}

    def of(self, member: int, epoch: int, n: int) -> np.ndarray:
        key = int(self._plan.order_key[member].view(np.int64)), epoch, n
        if key not in self._drawn:
            self._drawn[key] = np.empty(n, np.int64)
            shuffle_rows(key[0], key[1], address(self._drawn[key]), n)
        return self._drawn[key]


def of_a_round(
    placed: Placed, members: np.ndarray, epoch: np.ndarray, epochs: int, shuffle: int, n_threads: int
) -> Iterator[tuple[np.ndarray, int, Seen]]:
    """Members, for how many epochs, and what they see in them from their current ones, (n_members,), on, piece by
    piece: `epochs`, or as many as there is room for."""
    columns = [placed.feature_set[members], placed.row_set[members]]
    if shuffle == SHARED_ORDER:
        columns += [placed.plan.order_key[members], epoch[members]]
    first, group = groups_of(columns)
    data, leaders = placed.data, members[first]
    shared = data.targets is None and data.weight_of is None and shuffle != MEMBER_ORDER
    moves = shuffle == SHARED_ORDER or data.rows is not None
    alike = len(first) == 1 or len(members) >= _WORTH_A_COPY * n_threads * len(first)
    if moves and shared and alike and max(x.nbytes for x in data.x) <= _REORDER_BYTES:
        for g, m in enumerate(leaders.tolist()):
            part = members[group == g] if len(first) > 1 else members
            yield part, *_reordered(placed, m, int(epoch[m]), epochs, shuffle)
        return
    yield members, *_through_orders(placed, members, leaders, group, epoch, epochs, shuffle)


def _reordered(placed: Placed, member: int, epoch: int, epochs: int, shuffle: int) -> tuple[int, Seen]:
    """Copies of what a member sees in its epochs from `epoch` on, and for how many there is room."""
    data, own, x = placed.data, placed.rows_of(member), placed.data.x[placed.feature_set[member]]
    n = data.n if own is None else len(own)
    assert data.y is not None
    row_bytes = x.shape[1] * x.itemsize + sum(
        len(lines) * lines.itemsize for lines in (data.y, data.weights) if lines is not None
    )
    if shuffle == SHARED_ORDER:
        epochs = copies = max(1, min(epochs, _ROUND_BYTES // (n * row_bytes)))
    else:
        copies = 1
    table, orders = _Table(), _Orders(placed.plan)
    for k in range(copies):
        index = own
        if shuffle == SHARED_ORDER:
            order = orders.of(member, epoch + k, n)
            index = order if own is None else own[order]
        assert index is not None
        weights = None if data.weights is None else np.ascontiguousarray(data.weights[:, index])
        table.add(x[index], n, np.ascontiguousarray(data.y[:, index]), weights)
    return epochs, table.seen(data, None, n, copies)


def _through_orders(
    placed: Placed,
    members: np.ndarray,
    leaders: np.ndarray,
    group: np.ndarray,
    epoch: np.ndarray,
    epochs: int,
    shuffle: int,
) -> tuple[int, Seen]:
    """Views that read rows where they lie, through the epochs' orders and the members' own rows, and for how many
    epochs there is room. leaders: a member of each group."""
    data, table, orders = placed.data, _Table(), _Orders(placed.plan)
    counts, copies = placed.counts[leaders], 1
    if shuffle == SHARED_ORDER:
        keys = zip(placed.plan.order_key[leaders].tolist(), epoch[leaders].tolist(), counts.tolist(), strict=True)
        order_bytes = 8 * sum(n for _, _, n in set(keys)) + 8 * VIEW_WORDS * len(leaders)
        epochs = copies = max(1, min(epochs, _ROUND_BYTES // order_bytes))
    for m, n in zip(leaders.tolist(), counts.tolist(), strict=True):
        x, own = data.x[placed.feature_set[m]], placed.rows_of(m)
        for k in range(copies):
            order = orders.of(m, int(epoch[m]) + k, n) if shuffle == SHARED_ORDER else None
            table.add(x, n, data.y, data.weights, order, own)
    view_of = None
    if group.any():
        view_of = np.zeros(placed.plan.n_members, np.int64)
        view_of[members] = group * copies
    return epochs, table.seen(data, view_of, data.n, copies)
