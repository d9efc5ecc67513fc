"""Chunks: the members that are fused into one network, and the rows computed at once, under a cap of memory.

The largest arrays of a fused network are (rows, pairs), where a layer has fan_in * fan_out pairs per member. Members
are computed in chunks, and minibatches in blocks of rows whose gradients are added up, so that all memory other than
data, parameters, slots and snapshots stays under `memory_cap` bytes. The smallest chunk is one member and one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pmlp_np.backends.reference.fused import FusedNetwork, SameRule, first_of
from pmlp_np.backends.store import Store
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.state.layout import PoolLayout, spread
from pmlp_np.state.step_inputs import MOST_SHARED_ROWS, StepInputs

MEMORY_CAP = 256 * 2**20
# More rows at once are not faster, and make chunks smaller.
_ROWS_AT_ONCE = 512
# The memory of a member, counted in the code of step.py and checked by a test. Once: bytes of tables per parameter, and
# arrays of all parameters. Per row: arrays of all units, of the widest layer's units, and of the layer with the most
# pairs.
_TABLE_BYTES, _UPDATE_ARRAYS = 96, 18
_UNIT_ARRAYS, _WIDEST_ARRAYS, _PAIR_ARRAYS = 3, 10, 3
# Bytes of tables per parameter of a member with feature scales, which also takes two arrays.
_SCALE_BYTES = 32
# Bytes for dropout per row and unit of the widest layer: eight arrays of four words for four rows.
_DROPOUT_BYTES = 48


class Chunks:
    """The chunks of the members in a store. The store's layout has no padding."""

    def __init__(self, store: Store, inputs: StepInputs, memory_cap: int) -> None:
        self.store, self.plan, self.layout, self.inputs = store, store.plan, store.layout, inputs
        self.memory_cap = memory_cap

    def parts(self, members: np.ndarray, rows: int, order_rows: int) -> Iterator[tuple[slice, int]]:
        """Yield chunks of members of one depth, as slices, and the rows to compute at once, at most `rows`.

        order_rows: the length of each member's own order of rows, 0 where members share one.
        """
        layout, size = self.layout, self.plan.dtype.itemsize
        features = int(layout.fan_in[layout.first_layer[members[0]]])
        layers = layout.first_layer[members][:, None] + np.arange(layout.depth[members[0]] + 1)
        units = layout.fan_out[layers]
        pairs = layout.fan_in[layers] * units
        pairs[:, 0] *= order_rows > 0
        once = layout.block_size[members] * (_TABLE_BYTES + _UPDATE_ARRAYS * size) + 8 * order_rows
        once += layout.block_size[members] * (_SCALE_BYTES + 2 * size) * (layout.scale_offset[members] >= 0)
        per_row = _UNIT_ARRAYS * units.sum(axis=1) + _WIDEST_ARRAYS * units.max(axis=1)
        per_row += _PAIR_ARRAYS * pairs.max(axis=1) + 2 * features * (order_rows > 0)
        per_row *= size
        for name, widest in (("dropout", units.max(axis=1)), ("input_dropout", features)):
            per_row += _DROPOUT_BYTES * widest * (self.plan.specs.option(name)[members] > 0.0)
        row = size * 2 * (features + self.plan.n_outputs)
        rows = max(1, min(rows, _ROWS_AT_ONCE, self.memory_cap // 4 // row))
        room = self.memory_cap - rows * row
        total = np.cumsum(once + rows * per_row)
        start = 0
        while start < len(members):
            before = total[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(total, before + room, side="right")))
            alone = (room - once[start]) // per_row[start]
            yield slice(start, stop), max(1, min(rows, int(alone)))
            start = stop

    def network(self, members: np.ndarray, rows: int, orders: Any = None) -> FusedNetwork:
        """Return the fused network of these members.

        rows: computed at once. orders: of rows, (rows, 1 or members), for training; None: for forward passes only.
        """
        layout = self.layout
        fan_in = int(layout.fan_in[layout.first_layer[members[0]]])
        chunk_layout = PoolLayout(self.plan.specs[members], fan_in, self.plan.n_raw_outputs, lanes=1)
        positions = spread(layout.block_offset[members], layout.block_size[members])
        shared_rows = orders is None or orders.shape[1] == 1
        network = FusedNetwork(self.store.xp, chunk_layout, members, positions, rows, shared_rows)
        if orders is not None:
            network.rules = self._rules(members, chunk_layout)
        return network

    def _rules(self, members: np.ndarray, layout: PoolLayout) -> list[SameRule]:
        xp, rules, codes = self.store.xp, list(RULES.values()), self.plan.specs.rule[members]
        groups = []
        for code in np.unique(codes):
            chosen = np.flatnonzero(codes == code)
            sizes, offsets = layout.block_size[chosen], self.store.slot_offset[members[chosen]]
            parameters = xp.asarray(spread(layout.block_offset[chosen], sizes))
            slots = [xp.asarray(spread(offsets + k * sizes, sizes)) for k in range(rules[code].slots)]
            input_row = xp.asarray(self._rows_of_inputs(members, chosen, layout))
            groups.append(SameRule(rules[code], members[chosen], parameters, slots, input_row))
        return groups

    def _rows_of_inputs(self, members: np.ndarray, chosen: np.ndarray, layout: PoolLayout) -> np.ndarray:
        """Return, for each parameter of the chosen members, its row among their rows of inputs, int64."""
        count = self.inputs.count[members[chosen]]
        rows, sizes = [], []
        for m, first, n_rows in zip(chosen, first_of(count), count, strict=True):
            at = np.arange(layout.first_layer[m], layout.first_layer[m + 1])
            step = 2 * (at - at[0]) if n_rows > MOST_SHARED_ROWS else np.zeros_like(at)
            # In a member's block, weights come before biases, both layer by layer, and feature scales are last.
            rows += [first + step, first + step + 1, [first + n_rows - 1]]
            biases = np.where(layout.bias_offset[at] >= 0, layout.fan_out[at], 0)
            scales = layout.fan_in[at[:1]] * (layout.scale_offset[m] >= 0)
            sizes += [layout.fan_in[at] * layout.fan_out[at], biases, scales]
        return np.repeat(np.concatenate(rows), np.concatenate(sizes))
