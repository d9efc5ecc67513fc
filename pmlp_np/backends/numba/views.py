"""Views: the rows, targets and weights that each member reads, and the pieces in which a round of epochs is run.

A view (`job_fields.View`) is a row of 64-bit numbers: the address and stride of the features `x`, the number of rows
`n`, an `order` of the rows (0: none), a row set `rows` (row numbers in the table; 0: all rows), the addresses of
targets and weights, and that of a description of encoded columns (`frame.Encoded`; 0: none). Row i of the view is row
rows[order[i]] of the table. Where views differ from epoch to epoch, a member has one for each epoch of the round, one
behind the other.

Members with the same rows in the same order can read a reordered copy, made once for all of them, or gather each row
block through order and row set, which costs every member a copy of the block. A copy is made where many members share
it (cross-validation: one fold after the other). Where nearly every member has its own rows (bootstraps), all gather
their rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, SHARED_ORDER
from pmlp_np.backends.numba.frame import Encoded
from pmlp_np.backends.numba.job_fields import VIEW_WORDS, View
from pmlp_np.backends.numba.passes.encoded_columns import ROWS_BEYOND_BINS
from pmlp_np.backends.numba.random_draws import shuffle as shuffle_rows
from pmlp_np.base.arrays import address
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import EncodedTable, Features, expanded, stored
from pmlp_np.data.grouping import groups_of
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan

# The largest table of which a reordered copy is made; rows of larger tables are gathered.
_REORDER_BYTES = 1 << 30
# The most bytes of copies and orders for the epochs of a round, unless one epoch takes more.
_ROUND_BYTES = 1 << 24
# Members per thread from which a reordered copy is made for members that share their rows.
_WORTH_A_COPY = 32


@dataclass
class DataViews:
    """Views of a dataset for some members.

    views: (n, VIEW_WORDS) int64, a `View` in each row. view_of: (n_members,) int64, the first view of each member;
    None: 0 for all. y_stride: elements from one target to the next. numbers_of_row, table_rows: (n,) int64, of views
    with encoded columns the numbers of a row and the rows of tables, else 0. epoch_views: consecutive views of a
    member, one for each epoch; 1: all epochs read the same view. arrays: keeps alive the arrays whose addresses are in
    `views`.
    """

    data: Dataset
    views: np.ndarray
    view_of: np.ndarray | None
    y_stride: int
    numbers_of_row: np.ndarray
    table_rows: np.ndarray
    epoch_views: int = 1
    arrays: list[Any] = field(default_factory=list)

    def _column(self, name: str) -> np.ndarray:
        return self.views[:, View._fields.index(name)]

    @cached_property
    def encodes(self) -> bool:
        """Whether any view has encoded columns."""
        return bool(self._column("encoding").any())

    def encoded(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of a row and the rows of tables of each of these members, (len(members),) int64 both.

        They are 0 for members that read no encoded columns.
        """
        first = np.zeros(len(members), np.int64) if self.view_of is None else self.view_of[members]
        return self.numbers_of_row[first], self.table_rows[first]

    @property
    def gathers(self) -> bool:
        """Whether any view has an order or a row set, so that its rows are gathered."""
        return bool(self._column("order").any() or self._column("rows").any())

    def counts(self, members: np.ndarray) -> np.ndarray:
        """Return the number of rows of each of these members, (len(members),) int64."""
        n = self._column("n")
        return np.full(len(members), n[0]) if self.view_of is None else n[self.view_of[members]]

    def job_fields(self) -> dict[str, Any]:
        """Return the fields of a job that reads these views."""
        data = self.data
        return {
            "views": self.views, "view_of": self.view_of, "epoch_views": self.epoch_views, "y_stride": self.y_stride,
            "n_targets": 0 if data.y is None else data.n_targets, "targets": data.targets,
            "weight_of": data.weight_of, "weight_mean": data.weight_mean,
        }  # fmt: skip


class _Table:
    """A table of views under construction."""

    def __init__(self) -> None:
        self._views: list[list[int]] = []
        self._encoded: list[tuple[int, int]] = []
        self._arrays: list[Any] = []

    def add(
        self,
        x: Features,
        n: int,
        y: np.ndarray | None,
        weights: np.ndarray | None,
        order: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        """Add a view of n rows of x, y and weights: in an order (None: as stored), of a row set (None: all rows)."""

        def at(array: np.ndarray | None) -> Any:
            return 0 if array is None else address(array)

        numbers, encoding = stored(x), self._described(x)
        stride = numbers.strides[0] // numbers.itemsize
        view = View(address(numbers), stride, n, at(order), at(rows), at(y), at(weights), at(encoding))
        self._views.append([*view] + [0] * (VIEW_WORDS - len(view)))
        self._arrays += [numbers, order, rows, y, weights]

    def _described(self, x: Features) -> np.ndarray | None:
        """Return what compiled code knows of the encoded columns of x (see `frame.Encoded`); None without any."""
        if not isinstance(x, EncodedTable):
            self._encoded.append((0, 0))
            return None
        bins = x.encoding.bins
        rows = bins + ROWS_BEYOND_BINS
        centers = np.concatenate(x.encoding.centers).astype(x.dtype)
        self._encoded.append((x.encoding.n_numbers, int(rows.sum())))
        known = Encoded(x.encoding.plain, len(bins), int(rows.sum()), address(centers))
        columns = np.stack([np.cumsum(rows) - rows, bins], axis=1)
        described = np.concatenate([np.array(known, np.int64), columns.ravel()])
        self._arrays += [centers, described]
        return described

    def data_views(self, data: Dataset, view_of: np.ndarray | None, y_stride: int, epoch_views: int = 1) -> DataViews:
        """Return the views that were added."""
        numbers_of_row, table_rows = np.array(self._encoded, np.int64).T
        views = np.array(self._views, np.int64)
        return DataViews(data, views, view_of, y_stride, numbers_of_row, table_rows, epoch_views, self._arrays)


class PlacedInMemory(Placed):
    """A dataset in main memory, and views of it.

    tables: the features that members read; `feature_set` has the index of each member's. Members that drop features
    read each input of encoded columns as a number.
    """

    def __init__(self, plan: Plan, data: Dataset) -> None:
        super().__init__(plan, data)
        self.tables = list(data.x)
        encoded = [isinstance(x, EncodedTable) for x in data.x]
        if not any(encoded):
            return
        drops = plan.specs.option("input_dropout") > 0.0
        of = self.feature_set
        for i in np.unique(of[drops & np.array(encoded)[of]]).tolist():
            of = np.where(drops & (of == i), len(self.tables), of)
            self.tables.append(expanded(data.x[i]))
        self.feature_set = of

    @cached_property
    def in_order(self) -> DataViews:
        """Views of all members' rows, not shuffled: for evaluation and forward passes."""
        data = self.data
        first, group = groups_of([self.feature_set, self.row_set])
        table = _Table()
        for i in first.tolist():
            rows = self.rows_of(i)
            n = data.n if rows is None else len(rows)
            table.add(self.tables[self.feature_set[i]], n, data.y, data.weights, rows=rows)
        return table.data_views(data, group if group.any() else None, data.n)


class _Orders:
    """The orders in which epochs read n rows, each drawn once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._drawn: dict[tuple[int, int, int], np.ndarray] = {}

    def of(self, member: int, epoch: int, n: int) -> np.ndarray:
        key = int(self._plan.order_key[member].view(np.int64)), epoch, n
        if key not in self._drawn:
            self._drawn[key] = np.empty(n, np.int64)
            shuffle_rows(key[0], key[1], address(self._drawn[key]), n)
        return self._drawn[key]


def pieces_of_round(
    placed: PlacedInMemory, members: np.ndarray, epoch: np.ndarray, epochs: int, shuffle: int, n_threads: int
) -> Iterator[tuple[np.ndarray, int, DataViews]]:
    """Yield the pieces of a round: members, a number of epochs, and the members' views in these epochs.

    epoch: (n_members,) int64, the epoch at which each member's round starts. epochs: the most epochs of a piece; it has
    fewer where copies and orders of more would take too much memory.
    """
    columns = [placed.feature_set[members], placed.row_set[members]]
    if shuffle == SHARED_ORDER:
        columns += [placed.plan.order_key[members], epoch[members]]
    first, group = groups_of(columns)
    data, leaders = placed.data, members[first]
    shared = data.targets is None and data.weight_of is None and shuffle != MEMBER_ORDER
    moves = shuffle == SHARED_ORDER or data.rows is not None
    alike = len(first) == 1 or len(members) >= _WORTH_A_COPY * n_threads * len(first)
    if moves and shared and alike and max(x.nbytes for x in placed.tables) <= _REORDER_BYTES:
        for g, m in enumerate(leaders.tolist()):
            part = members[group == g] if len(first) > 1 else members
            yield part, *_reordered(placed, m, int(epoch[m]), epochs, shuffle)
        return
    yield members, *_gathering(placed, members, leaders, group, epoch, epochs, shuffle)


def _reordered(placed: PlacedInMemory, member: int, epoch: int, epochs: int, shuffle: int) -> tuple[int, DataViews]:
    """Return the number of epochs of a piece, from `epoch` on, and views of reordered copies of a member's rows."""
    data, rows, x = placed.data, placed.rows_of(member), placed.tables[placed.feature_set[member]]
    n = data.n if rows is None else len(rows)
    assert data.y is not None
    row_bytes = x.nbytes // data.n + sum(
        len(lines) * lines.itemsize for lines in (data.y, data.weights) if lines is not None
    )
    if shuffle == SHARED_ORDER:
        epochs = copies = max(1, min(epochs, _ROUND_BYTES // (n * row_bytes)))
    else:
        copies = 1
    table, orders = _Table(), _Orders(placed.plan)
    for k in range(copies):
        index = rows
        if shuffle == SHARED_ORDER:
            order = orders.of(member, epoch + k, n)
            index = order if rows is None else rows[order]
        assert index is not None
        weights = None if data.weights is None else np.ascontiguousarray(data.weights[:, index])
        table.add(x[index], n, np.ascontiguousarray(data.y[:, index]), weights)
    return epochs, table.data_views(data, None, n, copies)


def _gathering(
    placed: PlacedInMemory,
    members: np.ndarray,
    leaders: np.ndarray,
    group: np.ndarray,
    epoch: np.ndarray,
    epochs: int,
    shuffle: int,
) -> tuple[int, DataViews]:
    """Return the number of epochs of a piece, and views with the epochs' orders and the members' row sets.

    group: (len(members),) int64, the group of each member, which share rows and order. leaders: a member of each group.
    """
    data, table, orders = placed.data, _Table(), _Orders(placed.plan)
    counts, copies = placed.counts[leaders], 1
    if shuffle == SHARED_ORDER:
        keys = zip(placed.plan.order_key[leaders].tolist(), epoch[leaders].tolist(), counts.tolist(), strict=True)
        order_bytes = 8 * sum(n for _, _, n in set(keys)) + 8 * VIEW_WORDS * len(leaders)
        epochs = copies = max(1, min(epochs, _ROUND_BYTES // order_bytes))
    for m, n in zip(leaders.tolist(), counts.tolist(), strict=True):
        x, rows = placed.tables[placed.feature_set[m]], placed.rows_of(m)
        for k in range(copies):
            order = orders.of(m, int(epoch[m]) + k, n) if shuffle == SHARED_ORDER else None
            table.add(x, n, data.y, data.weights, order, rows)
    view_of = None
    if group.any():
        view_of = np.zeros(placed.plan.n_members, np.int64)
        view_of[members] = group * copies
    return epochs, table.data_views(data, view_of, data.n, copies)
