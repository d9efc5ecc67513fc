"""The reference backend: M3 on NumPy or CuPy arrays, written to be read; other backends are tested against it.

step.py, on top of m3.py, computes a step. This module implements the contract's verbs with steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from pmlp_np.backends.contract import IN_ORDER, MEAN_GROUP, MEMBER_ORDER, SHARED_ORDER, Control
from pmlp_np.backends.epoch_end import train_epoch
from pmlp_np.backends.reference import step, step_options
from pmlp_np.backends.reference.chunks import MEMORY_CAP, Chunks
from pmlp_np.backends.reference.fused import FusedNetwork
from pmlp_np.backends.store import Store, StoredBackend
from pmlp_np.base import interrupts
from pmlp_np.base.arrays import device_namespace, in_turn, segment_sum, to_numpy
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import alike
from pmlp_np.formulas.initializers import DISTRIBUTIONS, INITIALIZERS
from pmlp_np.formulas.random import shuffled_order, uniforms
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.layout import PoolLayout
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, Progress
from pmlp_np.state.step_inputs import StepInputs
from pmlp_np.state.training_state import TrainingState

_without_warnings = np.errstate(all="ignore")


class ReferenceBackend(StoredBackend):
    """A pool's members on the CPU or a GPU; operations as in `contract.Backend`.

    device: "cpu" (NumPy) or "gpu" (CuPy, which must be installed). memory_cap: bytes of temporary arrays (chunks.py).
    """

    def __init__(self, plan: Plan, device: str = "cpu", memory_cap: int = MEMORY_CAP) -> None:
        self.plan, self.device, self.memory_cap = plan, device, memory_cap
        self.xp = device_namespace(device)
        self.layout = PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, lanes=1)
        self.store = Store(plan, self.layout, self.xp)
        self._inputs = StepInputs(plan.specs, self.layout)
        self._chunks = Chunks(self.store, self._inputs, memory_cap)

    def _arguments(self) -> tuple[Any, ...]:
        return self.device, self.memory_cap

    # The contract.

    def initialize(self, members: np.ndarray) -> None:
        layout, specs, initializers = self.layout, self.plan.specs, list(INITIALIZERS.values())
        for m in members.tolist():
            initializer, key = initializers[specs.start[m]], self.plan.stream_key[m]
            draw = DISTRIBUTIONS[initializer.distribution]
            weights, biases = [], []
            for k, at in enumerate(range(int(layout.first_layer[m]), int(layout.first_layer[m + 1]))):
                fans = int(layout.fan_in[at]), int(layout.fan_out[at])
                drawn = draw(uniforms(key, k, 0, fans[0] * fans[1])) * initializer.weight_scale(*fans)
                weights.append(drawn.reshape(fans))
                if layout.bias_offset[at] >= 0:
                    biases.append(draw(uniforms(key, k, 1, fans[1])) * initializer.bias_scale(*fans))
            if specs.option("zero_last")[m]:
                for tensors in (weights, biases):
                    tensors[-1:] = [np.zeros_like(tensor) for tensor in tensors[-1:]]
            self.store.write(m, weights, biases)

    def place(self, data: Dataset) -> Placed:
        return Placed(self.plan, data.expanded())

    def train(self, members: np.ndarray, state: TrainingState, placed: Placed, rule: EpochRule | None, epochs: int,
              record: EpochRecord, control: Control) -> None:  # fmt: skip
        progress = state.progress
        for k in range(epochs):
            ready = (progress.status[members] == READY) & (progress.epoch[members] < state.target[members])
            part = members[ready & (progress.epoch[members] == record.start[members] + k)]
            if not len(part):
                return
            stopped = False

            def tick(share: float, before: int = k) -> bool:
                nonlocal stopped
                stopped = control.tick((before + share) / epochs)
                return stopped

            train = partial(self._train_epoch, part, state, placed, record.loss[k], tick)
            train_epoch(train, self, part, state, rule, record, control.n_threads)
            if stopped:
                return

    @_without_warnings
    def _train_epoch(self, members: np.ndarray, state: TrainingState, placed: Placed, loss: np.ndarray,
                     watch: Callable[[float], bool]) -> None:  # fmt: skip
        """Train each member to the end of its epoch, or until `watch`, called with the share done, returns True."""
        progress, batch_size, shuffle = state.progress, state.batch_size, state.shuffle
        weight, done = self.layout.block_size, 0
        left = (weight * (-(-placed.counts // batch_size) - progress.minibatch))[members].sum()

        def tick(advanced: np.ndarray) -> bool:
            nonlocal done
            done += int(weight[advanced].sum())
            return watch(done / left)

        for group in self._in_step(members, progress, placed, batch_size, shuffle):
            table = self._table_of(group[0], placed)
            batch = min(int(batch_size[group[0]]), table.n)
            # With dropout of features, each member reads its own copy of the rows.
            drops_features = bool(self.plan.specs.option("input_dropout")[group[0]])
            shared_rows = shuffle != MEMBER_ORDER and not drops_features
            order = None if shuffle == MEMBER_ORDER else self._orders(group[:1], progress, table.n, shuffle)
            for part, rows in self._chunks.parts(group, batch, 0 if shared_rows else table.n):
                orders = self._orders(group[part], progress, table.n, shuffle) if order is None else order
                if drops_features and order is not None:
                    orders = order.take(self.xp.zeros(len(group[part]), np.int64), axis=1)
                if self._train(group[part], rows, table, orders, batch, progress, loss, tick):
                    return

    @_without_warnings
    def evaluate(self, members: np.ndarray, placed: Placed, weights: str,
                 control: Control) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        loss, score = np.full(len(members), np.nan), np.full(len(members), np.nan)
        total: Any = 0.0
        for group in placed.alike(members):
            table = self._table_of(members[group[0]], placed)
            for part, rows, raw in self._raw_outputs(members[group], table.x[0], weights, control):
                index = self.xp.arange(rows.start, rows.stop).reshape(-1, 1)
                target = self._targets(table, members[group][part], index)
                terms = self.plan.loss.function(raw, target)[0], self.plan.loss.score(raw, target)
                if table.weights is not None:
                    weight = self._weights(table, members[group][part], index)
                    terms = tuple(self._weighted(values, weight) for values in (*terms, self.xp.ones_like(terms[0])))
                sums = np.stack([to_numpy(values.sum(axis=0, dtype=np.float64)) for values in terms])
                total = sums if rows.start == 0 else total + sums
                if rows.stop == table.n:
                    counted = table.n if table.weights is None else total[2]
                    loss[group[part]], score[group[part]] = total[:2] / counted
        return loss, score

    @_without_warnings
    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str,
                control: Control) -> None:  # fmt: skip
        for group in placed.alike(members):
            x = self._table_of(members[group[0]], placed).x[0]
            for part, rows, raw in self._raw_outputs(members[group], x, weights, control):
                out[group[part], rows] = to_numpy(raw.transpose(2, 1, 0))

    @_without_warnings
    def mean(self, members: np.ndarray, placed: Placed, part: str, out: np.ndarray, weights: str,
             control: Control) -> None:  # fmt: skip
        sums = []
        for start in range(0, len(members), MEAN_GROUP):
            group = members[start : start + MEAN_GROUP]
            raw = np.empty((len(group), len(out), self.plan.n_raw_outputs), self.plan.dtype)
            self.forward(group, placed, raw, weights, control)
            parts = self.plan.loss.part(part, raw.astype(np.float64).transpose(2, 0, 1))
            sums.append(in_turn(parts.transpose(1, 2, 0)))
        out[...] = in_turn(sums) / len(members)

    # Rows, targets and weights of members.

    def _table_of(self, member: int, placed: Placed) -> Dataset:
        """Return a member's features and rows as a table on the device."""
        xp, data, rows = self.xp, placed.data, placed.rows_of(member)
        index = slice(None) if rows is None else rows

        def chosen(lines: np.ndarray | None) -> Any:
            return None if lines is None else xp.asarray(lines[:, index])

        return Dataset([xp.asarray(data.x[placed.feature_set[member]][index])], chosen(data.y), data.n_targets, None,
                    data.targets, chosen(data.weights), data.weight_of, data.weight_mean)  # fmt: skip

    def _targets(self, table: Any, members: np.ndarray, index: Any) -> Any:
        """Return the targets of some rows: values (outputs, rows, 1 or members), or labels (rows, 1 or members).

        index: (rows, 1 or members), the rows.
        """
        if table.targets is None:
            targets = table.y[..., index]
        else:
            sets = table.y.reshape(-1, table.n_targets, table.n)
            targets = sets[self.xp.asarray(table.targets[members]), :, index].transpose(2, 0, 1)
        return targets[0] if self.plan.loss.targets == "labels" else targets

    def _weights(self, table: Any, members: np.ndarray, index: Any) -> Any:
        """Return the weights of the rows `index`, (rows, 1 or members), over their mean: (rows, members) float64."""
        line = 0 if table.weight_of is None else self.xp.asarray(table.weight_of[members])
        return table.weights[line, index] / self.xp.asarray(table.weight_mean[members])

    def _weighted(self, values: Any, weight: Any) -> Any:
        """Multiply values (..., rows, members) by weights of rows; 0 where the weight is 0, also of infinite values."""
        return self.xp.where(weight == 0.0, self.xp.zeros((), values.dtype), values * weight)

    # Training.

    def _in_step(self, members: np.ndarray, progress: Progress, placed: Placed, batch_size: np.ndarray,
                 shuffle: int) -> list[np.ndarray]:  # fmt: skip
        """Return the members in groups that train as one network.

        The members of a group have the same depth, batch size, rows and minibatch within the epoch; dropout of features
        is used by all of them or by none.
        """
        columns = [self.layout.depth, batch_size, progress.minibatch, placed.feature_set, placed.row_set]
        columns.append(self.plan.specs.option("input_dropout") > 0.0)
        if shuffle == SHARED_ORDER:
            columns += [self.plan.order_key, progress.epoch]
        return [members[group] for group in alike(members, columns)]

    def _orders(self, members: np.ndarray, progress: Progress, n: int, shuffle: int) -> Any:
        """Return the orders of n rows in the members' epochs: (n, members), or (n, 1) for one order."""
        if shuffle == IN_ORDER:
            return self.xp.arange(n).reshape(-1, 1)
        keys = self.plan.order_key if shuffle == SHARED_ORDER else self.plan.stream_key
        orders = [shuffled_order(keys[m], int(progress.epoch[m]), n) for m in members]
        return self.xp.asarray(np.stack(orders, axis=1))

    def _train(self, members: np.ndarray, rows: int, data: Dataset, orders: Any, batch: int, progress: Progress,
               loss: np.ndarray, tick: Callable[[np.ndarray], bool]) -> bool:  # fmt: skip
        """Train a group of `_in_step` to the end of its epoch, or until `tick` asks to stop. Returns whether it did."""
        network = self._chunks.network(members, rows, orders)
        batches = -(-data.n // batch)
        stop = False
        for i in range(int(progress.minibatch[members[0]]), batches):
            if stop:
                return True
            interrupts.raise_if_pressed()
            position = i * batch
            losses = self._minibatch(network, data, orders[position : position + batch], position, progress, batches)
            progress.loss_sum[members] += losses
            progress.minibatch[members] += 1
            stop = tick(members)
            healthy = np.isfinite(losses)
            if healthy.all():
                continue
            diverged, members = members[~healthy], members[healthy]
            progress.status[diverged] = DIVERGED
            loss[diverged] = progress.loss_sum[diverged] / progress.minibatch[diverged]
            if not len(members):
                return stop
            orders = orders if orders.shape[1] == 1 else orders[:, self.xp.asarray(np.flatnonzero(healthy))]
            network = self._chunks.network(members, rows, orders)
        loss[members] = progress.loss_sum[members] / batches
        progress.epoch[members] += 1
        progress.minibatch[members] = 0
        progress.loss_sum[members] = 0.0
        not_finite = ~self.xp.isfinite(self.store.parameters[network.positions])
        counts = segment_sum(not_finite.astype(self.plan.dtype).reshape(1, -1), network.starts)
        progress.status[members[to_numpy(counts)[0] > 0]] = DIVERGED
        return stop

    def _minibatch(self, network: FusedNetwork, data: Dataset, index: Any, position: int, progress: Progress,
                   batches: int) -> np.ndarray:  # fmt: skip
        """Take a step of each member on the rows `index`, (batch, 1 or members). Returns the mean losses before it.

        position: of the first row in the order of the epoch. batches: minibatches of an epoch.
        """
        plan, store = self.plan, self.store
        w = store.parameters[network.positions]
        starts = range(0, len(index), network.rows)
        blocks = (
            self._row_block(network, data, index[start : start + network.rows], position + start, progress)
            for start in starts
        )
        dw, losses = step.gradient(network, w, blocks, len(index))
        dw = step_options.clipped(plan, network, dw)
        progress.step[network.members] += 1
        for same in network.rules:
            numbers = step_options.rule_numbers(plan, self._inputs, same, progress, batches, self.xp)
            step.update(same, w, dw, store.slots, numbers)
        store.parameters[network.positions] = w
        step_options.add_to_average(store, network, w, progress.step[network.members])
        store.changed()
        return to_numpy(losses)

    def _row_block(self, network: FusedNetwork, data: Dataset, index: Any, position: int,
                   progress: Progress) -> step.RowBlock:  # fmt: skip
        """Return the rows `index`, (rows, 1 or members), as a block; position: of the first in the epoch's order."""
        features: Any = data.x[0]
        x = features.take(index, axis=0).reshape(len(index), -1)

        def loss(raw: Any) -> tuple[Any, Any]:
            losses, draw = self.plan.loss.function(raw, self._targets(data, network.members, index))
            if data.weights is not None:
                weight = self._weights(data, network.members, index).astype(self.plan.dtype)
                losses, draw = self._weighted(losses, weight), self._weighted(draw, weight)
            return losses, draw

        return step.RowBlock(x, loss, step_options.dropout(self.plan, network, position, len(index), progress))

    def _raw_outputs(self, members: np.ndarray, x: Any, weights: str,
                     control: Control) -> Iterator[tuple[np.ndarray, slice, Any]]:  # fmt: skip
        """Yield (indices into members, rows, raw outputs (outputs, rows, members)), for all rows of all members."""
        x, buffer = self.xp.asarray(x), self.store.weights(weights)
        depths, weight, done = self.layout.depth[members], self.layout.block_size[members], 0
        for depth in np.unique(depths):
            same_depth = np.flatnonzero(depths == depth)
            for part, rows in self._chunks.parts(members[same_depth], len(x), 0):
                chunk = same_depth[part]
                network = self._chunks.network(members[chunk], rows)
                w = buffer[network.positions]
                w = w if network.scales is None else network.scales.applied(w)
                for start in range(0, len(x), rows):
                    interrupts.raise_if_pressed()
                    block = slice(start, min(start + rows, len(x)))
                    yield chunk, block, step.forward(network, w, x[block])[0]
                    done += int(weight[chunk].sum()) * (block.stop - block.start)
                    if control.tick(done / (int(weight.sum()) * len(x))):
                        return
