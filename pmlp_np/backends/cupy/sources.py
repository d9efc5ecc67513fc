"""Sources: a dataset on the device, and views of it, what of a table each member sees.

A view is a row of 64-bit numbers: address and stride of the features, number of rows, up to two orders in which to
read them (the epoch's, which shuffles places, and the member's rows, for which places stand; null: as they lie);
addresses of targets and weights. Where epochs differ, a member has one view for each epoch of a launch, one behind the
other.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.backends.cupy.device import Device, new_array, on_device
from pmlp_np.backends.cupy.launch_job import LOAD_BYTES
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import expanded
from pmlp_np.data.grouping import groups_of
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan

# Bytes of a table that are copied to the device at a time where rows are padded on the way.
_PART_BYTES = 1 << 26


def _in_whole_loads(device: Device, x: np.ndarray) -> Any:
    """Copy features (rows, features) to the device, rows padded with zeros to whole loads of a kernel."""
    rows, features = x.shape
    width = LOAD_BYTES // x.itemsize
    padded = -(-features // width) * width
    if padded == features:
        return on_device(device, x)
    out = new_array(device, (rows, padded), x.dtype, zeros=True)
    step = max(1, _PART_BYTES // (padded * x.itemsize))
    for start in range(0, rows, step):
        out[start : start + step, :features] = on_device(device, x[start : start + step])
    return out


class PlacedOnDevice(Placed):
    """A dataset in the device's memory."""

    def __init__(self, plan: Plan, data: Dataset, device: Device) -> None:
        super().__init__(plan, data)
        self.device = device
        self._x = [_in_whole_loads(device, expanded(x)) for x in data.x]
        self._y = None if data.y is None else on_device(device, data.y)
        self._weights = None if data.weights is None else on_device(device, data.weights)
        self._rows = None if data.rows is None else [on_device(device, rows) for rows in data.rows.arrays]

    @cached_property
    def fixed_fields(self) -> dict[str, Any]:
        """Fields of a job that say how targets and weights are read."""
        data = self.data
        return {
            "y_stride": data.n, "n_targets": 0 if data.y is None else data.n_targets, "targets": data.targets,
            "weight_of": data.weight_of, "weight_mean": data.weight_mean,
        }  # fmt: skip

    def _view(self, member: int, order: int) -> list[int]:
        address, rows = self.device.address, self.rows_of(member)
        x = self._x[self.feature_set[member]]
        return [
            address(x), x.shape[1], self.data.n if rows is None else len(rows), order,
            0 if self._rows is None else address(self._rows[self.row_set[member]]),
            0 if self._y is None else address(self._y), 0 if self._weights is None else address(self._weights),
        ]  # fmt: skip

    @cached_property
    def as_they_lie(self) -> dict[str, Any]:
        """Fields of a job in which members read their rows unshuffled."""
        first, group = groups_of([self.feature_set, self.row_set])
        views = np.array([self._view(m, 0) for m in first.tolist()], np.int64)
        return self.fixed_fields | {"views": views, "view_of": group, "epoch_views": 1}


class SharedOrders:
    """The orders that members share, drawn on the device epoch by epoch.

    keys, epochs, lengths: (orders,) int64, of each order that is needed; offsets: where each begins in `room`.
    """

    def __init__(self, plan: Plan, placed: PlacedOnDevice, members: np.ndarray, epoch: np.ndarray, epochs: int) -> None:
        keys, counts = plan.order_key.view(np.int64), placed.counts
        columns = [placed.feature_set[members], placed.row_set[members], keys[members], epoch[members]]
        first, self.group = groups_of(columns)
        self.leaders = members[first]
        wanted = [
            (int(keys[m]), int(epoch[m]) + k, int(counts[m])) for m in self.leaders.tolist() for k in range(epochs)
        ]
        distinct = {key: i for i, key in enumerate(dict.fromkeys(wanted))}
        self.of = np.array([distinct[key] for key in wanted], np.int64).reshape(len(self.leaders), epochs)
        self.keys, self.epochs, self.lengths = (np.array(column, np.int64) for column in zip(*distinct, strict=True))
        self.offsets = np.cumsum(self.lengths) - self.lengths
        self.room = new_array(placed.device, (int(self.lengths.sum()),), np.int64)

    def fields(self) -> dict[str, Any]:
        """Fields of the job that draws them."""
        return {"order_keys": self.keys, "order_epochs": self.epochs, "order_lengths": self.lengths,
                "order_offsets": self.offsets, "orders": self.room}  # fmt: skip

    def views(self, placed: PlacedOnDevice, members: np.ndarray) -> dict[str, Any]:
        """Fields of a job in which these members read their rows in these orders."""
        start, epochs = placed.device.address(self.room), self.of.shape[1]
        views = [
            placed._view(m, start + 8 * int(self.offsets[place]))
            for m, places in zip(self.leaders.tolist(), self.of, strict=True)
            for place in places.tolist()
        ]
        view_of = np.zeros(placed.plan.n_members, np.int64)
        view_of[members] = self.group * epochs
        return placed.fixed_fields | {"views": np.array(views, np.int64), "view_of": view_of, "epoch_views": epochs}
