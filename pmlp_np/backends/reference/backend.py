"""The reference backend: M3 (see `m3`) on NumPy or CuPy arrays, readable, the model of all others.

Memory: the largest arrays are (rows, pairs), where a layer has fan_in * fan_out pairs per member. Members are taken in
chunks, and minibatches in blocks of rows whose gradients are added up, so that all that is neither data nor parameters,
slots or snapshot stays under `memory_cap` bytes. Less than one member and one row at a time it cannot do.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from pmlp_np.backends.contract import IN_ORDER, MEMBER_ORDER, SHARED_ORDER, Control
from pmlp_np.backends.epoch_end import train_epoch
from pmlp_np.backends.reference.m3 import Chunk, Drop, SameRule, first_of
from pmlp_np.base import interrupts
from pmlp_np.base.arrays import device_namespace, segment_sum, to_numpy
from pmlp_np.base.copying import attributes, versioned
from pmlp_np.base.errors import free_memory
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import alike
from pmlp_np.formulas.initializers import DISTRIBUTIONS, INITIALIZERS
from pmlp_np.formulas.optimizers import RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_NAMES
from pmlp_np.formulas.random import shuffled_order, uniforms
from pmlp_np.formulas.regularizers import averaged, clip_factor, dropout_factors
from pmlp_np.formulas.schedules import rate_factor
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.layout import PoolLayout, block_parts, spread
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, Progress
from pmlp_np.state.step_inputs import MOST_SHARED_ROWS, StepInputs, step_inputs
from pmlp_np.state.training_state import TrainingState

MEMORY_CAP = 256 * 2**20
# More rows at once make nothing faster, and chunks smaller.
_ROWS_AT_ONCE = 512
# What a member needs, counted on the code below and held by a test. Once: bytes of tables per parameter, and arrays of
# all parameters. Per row: arrays of all units, of the widest layer's units, and of the layer with the most pairs.
_TABLE_BYTES, _UPDATE_ARRAYS = 96, 18
_UNIT_ARRAYS, _WIDEST_ARRAYS, _PAIR_ARRAYS = 3, 10, 3
# Bytes of tables per parameter of a member with feature scales, which also takes two arrays.
_SCALE_BYTES = 32
# Bytes that drawing dropout takes per row and unit of the widest layer: of four words for four rows, eight arrays.
_DROPOUT_BYTES = 48

_without_warnings = np.errstate(all="ignore")


class ReferenceBackend:
    """Parameters, slots and best snapshot of a pool, on the CPU or a GPU; operations as in `backends.base.Backend`.

    device: "cpu" (NumPy) or "gpu" (CuPy, which must be installed). memory_cap: bytes for all that a call needs besides.
    """

    def __init__(self, plan: Plan, device: str = "cpu", memory_cap: int = MEMORY_CAP) -> None:
        self.plan, self.device, self.memory_cap = plan, device, memory_cap
        self.xp = device_namespace(device)
        self.layout = PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, lanes=1)
        self._n_slots = np.array([rule.slots for rule in RULES.values()], np.int64)[plan.specs.rule]
        self._slot_offset = first_of(self.layout.block_size * self._n_slots)
        self._inputs = StepInputs(plan.specs, self.layout)
        self.parameters = self.xp.zeros(self.layout.size, plan.dtype)
        self.slots = self.xp.zeros(int((self.layout.block_size * self._n_slots).sum()), plan.dtype)
        self.best: Any = None
        self.average: Any = self.xp.zeros(self.layout.size, plan.dtype) if plan.keeps_average else None

    def __getstate__(self) -> dict[str, Any]:
        # In main memory, and without the module whose arrays they are.
        buffers = {name: None if buffer is None else to_numpy(buffer) for name, buffer in self._buffers().items()}
        kept = {"plan": self.plan, "device": self.device, "memory_cap": self.memory_cap, "buffers": buffers}
        return versioned(kept)

    def __setstate__(self, state: Any) -> None:
        kept = attributes("ReferenceBackend", state)
        self.__init__(kept["plan"], kept["device"], kept["memory_cap"])  # type: ignore[misc]
        if kept["buffers"]["best"] is not None:
            self.best = self.xp.empty_like(self.parameters)
        for mine, values in zip(self._buffers().values(), kept["buffers"].values(), strict=True):
            if mine is not None:
                mine[...] = self.xp.asarray(values)

    def __deepcopy__(self, memo: dict[int, Any]) -> ReferenceBackend:
        copied = object.__new__(ReferenceBackend)
        # The buffers are copied once, into those of the copy.
        kept = attributes("ReferenceBackend", self.__getstate__())
        copied.__setstate__(versioned(kept | {"plan": copy.deepcopy(self.plan, memo)}))
        return copied

    def _buffers(self) -> dict[str, Any]:
        """What a pool holds."""
        return {name: getattr(self, name) for name in ("parameters", "best", "average", "slots")}

    # The contract.

    def initialize(self, members: np.ndarray) -> None:
        layout, initializers = self.layout, list(INITIALIZERS.values())
        for m in members.tolist():
            initializer, key = initializers[self.plan.specs.start[m]], self.plan.stream_key[m]
            draw = DISTRIBUTIONS[initializer.distribution]
            values = []
            for k, at in enumerate(range(int(layout.first_layer[m]), int(layout.first_layer[m + 1]))):
                fans = int(layout.fan_in[at]), int(layout.fan_out[at])
                values.append(draw(uniforms(key, k, 0, fans[0] * fans[1])) * initializer.weight_scale(*fans))
                if layout.bias_offset[at] >= 0:
                    values.append(draw(uniforms(key, k, 1, fans[1])) * initializer.bias_scale(*fans))
            if self.plan.specs.option("zero_last")[m]:
                last = 1 + bool(self.plan.specs.bias[m])
                values[-last:] = [np.zeros_like(tensor) for tensor in values[-last:]]
            self._replace(m, values)

    def place(self, data: Dataset) -> Placed:
        return Placed(self.plan, data)

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
        """Finish one epoch of each member, or as much as `watch` allows."""
        progress, batch_size, shuffle = state.progress, state.batch_size, state.shuffle
        weight, done = self.layout.block_size, 0
        left = (weight * (-(-placed.counts // batch_size) - progress.minibatch))[members].sum()

        def tick(advanced: np.ndarray) -> bool:
            nonlocal done
            done += int(weight[advanced].sum())
            return watch(done / left)

        for group in self._in_step(members, progress, placed, batch_size, shuffle):
            table = self._seen_by(group[0], placed)
            batch = min(int(batch_size[group[0]]), table.n)
            # Where features drop out, each member reads a copy of its own.
            own_inputs = bool(self.plan.specs.option("input_dropout")[group[0]])
            own_rows = shuffle == MEMBER_ORDER or own_inputs
            order = None if shuffle == MEMBER_ORDER else self._orders(group[:1], progress, table.n, shuffle)
            for part, rows in self._parts(group, batch, table.n if own_rows else 0):
                orders = self._orders(group[part], progress, table.n, shuffle) if order is None else order
                if own_inputs and order is not None:
                    orders = order.take(self.xp.zeros(len(group[part]), np.int64), axis=1)
                if self._train(group[part], rows, table, orders, batch, progress, loss, tick):
                    return

    @_without_warnings
    def evaluate(self, members: np.ndarray, placed: Placed, weights: str,
                 control: Control) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        loss, score = np.full(len(members), np.nan), np.full(len(members), np.nan)
        total: Any = 0.0
        for group in placed.alike(members):
            table = self._seen_by(members[group[0]], placed)
            for places, rows, raw in self._raw_outputs(members[group], table.x[0], weights, control):
                index = self.xp.arange(rows.start, rows.stop).reshape(-1, 1)
                target = self._targets(table, members[group][places], index)
                found = self.plan.loss.function(raw, target)[0], self.plan.loss.score(raw, target)
                if table.weights is not None:
                    weight = self._weights(table, members[group][places], index)
                    found = tuple(self._weighted(values, weight) for values in (*found, self.xp.ones_like(found[0])))
                sums = np.stack([to_numpy(values.sum(axis=0, dtype=np.float64)) for values in found])
                total = sums if rows.start == 0 else total + sums
                if rows.stop == table.n:
                    counted = table.n if table.weights is None else total[2]
                    loss[group[places]], score[group[places]] = total[:2] / counted
        return loss, score

    @_without_warnings
    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str,
                control: Control) -> None:  # fmt: skip
        for group in placed.alike(members):
            own = self._seen_by(members[group[0]], placed).x[0]
            for places, rows, raw in self._raw_outputs(members[group], own, weights, control):
                out[group[places], rows] = to_numpy(raw.transpose(2, 1, 0))

    def keep_best(self, members: np.ndarray) -> None:
        if self.best is None:
            self.best = self.parameters.copy()
            return
        place = self.xp.asarray(self._blocks(members))
        self.best[place] = self.parameters[place]

    def read(self, member: int, weights: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        values = self._on_host(self._buffer(weights), self.layout.canonical(np.array([member])))
        shapes = [shape for _, shape, _ in self.layout.tensors(member)]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = np.split(values[: ends[-1]], ends[:-1])
        tensors = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        matrices, biases = ([t for t in tensors if t.ndim == n] for n in (2, 1))
        if self.layout.scale_offset[member] >= 0:
            matrices[0] = matrices[0] * values[ends[-1] :, None]
        return matrices, biases

    def write(self, member: int, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        layers = zip(weights, biases, strict=True) if biases else zip(weights, strict=True)
        self._replace(member, [tensor for layer in layers for tensor in layer])

    def buffers(self) -> dict[str, int]:
        sizes = self.layout.canonical_sizes()
        n, n_slots = int(sizes.sum()), int((sizes * self._n_slots).sum())
        found = {"parameters": n, "slots": n_slots}
        found |= {"best": n} if self.best is not None else {}
        return found | ({"average": n} if self.average is not None else {})

    def stream(self, name: str) -> Iterator[np.ndarray]:
        buffer = self.slots if name == "slots" else self._buffer("last" if name == "parameters" else name)
        for positions in self._canonical_parts(name):
            yield self._on_host(buffer, positions)

    def restore(self, name: str, take: Callable[[int], np.ndarray]) -> None:
        if name == "best" and self.best is None:
            self.best = self.xp.empty_like(self.parameters)
        buffer = getattr(self, name)
        for positions in self._canonical_parts(name):
            buffer[self.xp.asarray(positions)] = self.xp.asarray(take(len(positions)))

    def take(self, plan: Plan, positions: np.ndarray) -> ReferenceBackend:
        part = ReferenceBackend(plan, self.device, self.memory_cap)
        part.best = None if self.best is None else self.xp.empty_like(part.parameters)
        for name in ("parameters", "slots", "best", "average"):
            source, target, at = getattr(self, name), getattr(part, name), 0
            if source is None or target is None:
                continue
            starts, sizes = self._parts_of(name)
            for block in block_parts(starts[positions], sizes[positions]):
                values = source[block if isinstance(block, slice) else self.xp.asarray(block)]
                target[at : at + len(values)] = values
                at += len(values)
        return part

    def free_memory(self) -> int:
        if self.device == "cpu":
            return free_memory()
        pool = self.xp.get_default_memory_pool()
        return int(self.xp.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())

    def _parts_of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Where each member's part of a buffer starts, and its size."""
        layout = self.layout
        if name == "slots":
            return self._slot_offset, layout.block_size * self._n_slots
        return layout.block_offset, layout.block_size

    def _canonical_parts(self, name: str) -> Iterator[np.ndarray]:
        return self.layout.canonical_parts(self._parts_of(name)[0], self._n_slots if name == "slots" else None)

    # What members see.

    def _seen_by(self, member: int, placed: Placed) -> Dataset:
        """The table as this member, and those like it, see it: on the device, its rows in their order."""
        xp, data, rows = self.xp, placed.data, placed.rows_of(member)
        own = slice(None) if rows is None else rows

        def chosen(lines: np.ndarray | None) -> Any:
            return None if lines is None else xp.asarray(lines[:, own])

        return Dataset([xp.asarray(data.x[placed.feature_set[member]][own])], chosen(data.y), data.n_targets, None,
                    data.targets, chosen(data.weights), data.weight_of, data.weight_mean)  # fmt: skip

    def _targets(self, table: Any, members: np.ndarray, index: Any) -> Any:
        """Targets of the rows `index`, (rows, 1 or members), as losses take them: values (outputs first), or labels."""
        if table.targets is None:
            found = table.y[..., index]
        else:
            sets = table.y.reshape(-1, table.n_targets, table.n)
            found = sets[self.xp.asarray(table.targets[members]), :, index].transpose(2, 0, 1)
        return found[0] if self.plan.loss.targets == "labels" else found

    def _weights(self, table: Any, members: np.ndarray, index: Any) -> Any:
        """How much the rows `index`, (rows, 1 or members), count, (rows, members) float64; their mean over all is 1."""
        line = 0 if table.weight_of is None else self.xp.asarray(table.weight_of[members])
        return table.weights[line, index] / self.xp.asarray(table.weight_mean[members])

    def _weighted(self, values: Any, weight: Any) -> Any:
        """Values (..., rows, members) times the rows' weights; 0 where the weight is, also where the value is
        infinite."""
        return self.xp.where(weight == 0.0, self.xp.zeros((), values.dtype), values * weight)

    # Training.

    def _in_step(self, members: np.ndarray, progress: Progress, placed: Placed, batch_size: np.ndarray,
                 shuffle: int) -> list[np.ndarray]:  # fmt: skip
        """Members in groups that march in step: of one depth, at the same place in an epoch of the same rows, all of
        them with dropout of features or none."""
        columns = [self.layout.depth, batch_size, progress.minibatch, placed.feature_set, placed.row_set]
        columns.append(self.plan.specs.option("input_dropout") > 0.0)
        if shuffle == SHARED_ORDER:
            columns += [self.plan.order_key, progress.epoch]
        return [members[group] for group in alike(members, columns)]

    def _orders(self, members: np.ndarray, progress: Progress, n: int, shuffle: int) -> Any:
        """The orders in which members' epochs visit n rows: (n, members), or (n, 1) if there is but one."""
        if shuffle == IN_ORDER:
            return self.xp.arange(n).reshape(-1, 1)
        keys = self.plan.order_key if shuffle == SHARED_ORDER else self.plan.stream_key
        orders = [shuffled_order(keys[m], int(progress.epoch[m]), n) for m in members]
        return self.xp.asarray(np.stack(orders, axis=1))

    def _train(self, members: np.ndarray, rows: int, data: Dataset, orders: Any, batch: int, progress: Progress,
               loss: np.ndarray, tick: Callable[[np.ndarray], bool]) -> bool:  # fmt: skip
        """Finish the epoch of members that march in step, or stop between minibatches. Returns whether to stop."""
        chunk = self._chunk(members, rows, orders)
        batches = -(-data.n // batch)
        stop = False
        for i in range(int(progress.minibatch[members[0]]), batches):
            if stop:
                return True
            interrupts.heed()
            place = i * batch
            found = self._minibatch(chunk, data, orders[place : place + batch], place, progress, batches)
            progress.loss_sum[members] += found
            progress.minibatch[members] += 1
            stop = tick(members)
            healthy = np.isfinite(found)
            if healthy.all():
                continue
            lost, members = members[~healthy], members[healthy]
            progress.status[lost] = DIVERGED
            loss[lost] = progress.loss_sum[lost] / progress.minibatch[lost]
            if not len(members):
                return stop
            orders = orders if orders.shape[1] == 1 else orders[:, self.xp.asarray(np.flatnonzero(healthy))]
            chunk = self._chunk(members, rows, orders)
        loss[members] = progress.loss_sum[members] / batches
        progress.epoch[members] += 1
        progress.minibatch[members] = 0
        progress.loss_sum[members] = 0.0
        unusable = ~self.xp.isfinite(self.parameters[chunk.place])
        counts = segment_sum(unusable.astype(self.plan.dtype).reshape(1, -1), chunk.starts)
        progress.status[members[to_numpy(counts)[0] > 0]] = DIVERGED
        return stop

    def _minibatch(self, chunk: Chunk, data: Dataset, index: Any, place: int, progress: Progress,
                   batches: int) -> np.ndarray:  # fmt: skip
        """One step of each member on the rows `index`, (batch, 1 or members), from this place of its epoch of `batches`
        on. Returns the mean losses before it."""
        w = self.parameters[chunk.place]
        effective = chunk.effective(w)
        gradient, total = self.xp.zeros_like(w), self.xp.zeros(len(chunk.members), np.float64)
        for start in range(0, len(index), chunk.rows):
            block = index[start : start + chunk.rows]
            drop = self._dropout(chunk, place + start, len(block), progress)
            raw, inputs, derivatives = chunk.forward(
                effective, data.x[0].take(block, axis=0).reshape(len(block), -1), drop
            )
            losses, slope = self.plan.loss.function(raw, self._targets(data, chunk.members, block))
            if data.weights is not None:
                weight = self._weights(data, chunk.members, block).astype(self.plan.dtype)
                losses, slope = self._weighted(losses, weight), self._weighted(slope, weight)
            total += losses.sum(axis=0, dtype=np.float64)
            chunk.add_gradient(gradient, effective, slope / len(index), inputs, derivatives)
        if chunk.scales is not None:
            chunk.scales.add_gradient(gradient, w)
        gradient = self._clipped(chunk, gradient)
        progress.step[chunk.members] += 1
        for group in chunk.rules:
            self._update(group, w, gradient, progress, batches)
        self.parameters[chunk.place] = w
        self._add_to_average(chunk, w, progress.step[chunk.members])
        return to_numpy(total) / len(index)

    def _dropout(self, chunk: Chunk, place: int, rows: int, progress: Progress) -> Drop | None:
        """Dropout of the chunk's members in some rows, from this place of their epoch on; None where nobody uses it."""
        members, specs = chunk.members, self.plan.specs
        features, hidden = (specs.option(name)[members] for name in ("input_dropout", "dropout"))
        if not features.any() and not hidden.any():
            return None

        def drop(layer: int, arrays: tuple[Any, ...]) -> None:
            shares = hidden if layer else features
            for i in np.flatnonzero(shares).tolist():
                own, m = chunk.units_of(i, layer), members[i]
                key, epoch = self.plan.stream_key[m], int(progress.epoch[m])
                factors = self.xp.asarray(
                    dropout_factors(key, epoch, layer, place, rows, own.stop - own.start, shares[i], self.plan.dtype)
                )
                for array in arrays:
                    array[:, own] *= factors

        return drop

    def _clipped(self, chunk: Chunk, gradient: Any) -> Any:
        """The gradient, scaled down for members whose own is longer than they allow."""
        xp, limits = self.xp, self.plan.specs.option("clip_norm")[chunk.members]
        if not limits.any():
            return gradient
        trained = gradient.astype(np.float64) * self._gradient_factors(chunk)
        norm = xp.sqrt(segment_sum((trained * trained).reshape(1, -1), chunk.starts))[0]
        factor = clip_factor(norm, xp.asarray(np.where(limits > 0.0, limits, np.inf)))
        own = xp.asarray(np.repeat(np.arange(len(limits)), chunk.layout.block_size))
        return gradient * factor.astype(self.plan.dtype)[own]

    def _gradient_factors(self, chunk: Chunk) -> Any:
        """What the gradient by each of the chunk's parameters is multiplied by to be that by what is trained, float64:
        1 / scale for weights w = W / scale that stand for W."""
        layout = chunk.layout
        divided = np.repeat(self.plan.specs.option("parametrization")[chunk.members] != 0.0, layout.depth + 1)
        sizes = (layout.fan_in * layout.fan_out)[divided]
        start = (np.repeat(layout.block_offset, layout.depth + 1) + layout.weight_offset)[divided]
        factors = np.ones(layout.size)
        factors[spread(start, sizes)] = np.repeat(1.0 / np.sqrt(layout.fan_in[divided].astype(np.float64)), sizes)
        return self.xp.asarray(factors)

    def _add_to_average(self, chunk: Chunk, w: Any, step: np.ndarray) -> None:
        """Averaged weights of the members that keep them, after these steps that led to w."""
        decays = self.plan.specs.option("average")[chunk.members]
        chosen = np.flatnonzero(decays)
        if not len(chosen):
            return
        sizes, dtype = chunk.layout.block_size[chosen], self.plan.dtype
        own = self.xp.asarray(spread(chunk.layout.block_offset[chosen], sizes))
        place = self.xp.asarray(self._blocks(chunk.members[chosen]))
        # The first average is the weights themselves.
        decay = np.where(step[chosen] == 1, 0.0, decays[chosen])
        numbers = [self.xp.asarray(np.repeat(x.astype(dtype), sizes)) for x in (decay, 1.0 - decay)]
        self.average[place] = averaged(self.average[place], w[own], *numbers)

    def _update(self, group: SameRule, w: Any, gradient: Any, progress: Progress, batches: int) -> None:
        """Replace the parameters in w by what the members' rule makes of them, and their slots in the pool's."""
        factors, owner = self._inputs.rows(group.members)
        members = group.members[owner]
        rates = (progress.rate_factor[group.members] * self._schedule_factors(group.members, progress, batches))[owner]
        inputs = step_inputs(factors, self.plan.specs.hyperparameters[members], rates)
        by_name = SimpleNamespace(**dict(zip(STEP_INPUTS, inputs.T, strict=True)))
        numbers = group.rule.scalars(by_name, progress.step[members])
        moved = {name: self.xp.asarray(value.astype(self.plan.dtype)) for name, value in numbers.items()}
        scalars = SimpleNamespace(**{name: value[group.run] for name, value in moved.items()})
        slots = tuple(self.slots[place] for place in group.slots)
        w[group.own], slots = group.rule.update(w[group.own], gradient[group.own], slots, scalars)
        for place, values in zip(group.slots, slots, strict=True):
            self.slots[place] = values

    def _schedule_factors(self, members: np.ndarray, progress: Progress, batches: int) -> np.ndarray:
        """What these members' schedules make of their learning rates in the minibatch that each is at."""
        codes, factors = self.plan.specs.option("schedule")[members], np.ones(len(members))
        for code in np.unique(codes):
            some = members[codes == code]
            options = SimpleNamespace(**dict(zip(OPTIONS, self.plan.specs.options[some].T, strict=True)))
            cursor = progress.epoch[some], progress.minibatch[some], batches, progress.fit_epochs[some]
            factors[codes == code] = rate_factor(SCHEDULE_NAMES[int(code)], options, *cursor)
        return factors

    # Chunks.

    def _raw_outputs(self, members: np.ndarray, x: Any, weights: str,
                     control: Control) -> Iterator[tuple[np.ndarray, slice, Any]]:  # fmt: skip
        """(places among the members, rows, raw outputs (outputs, rows, members)), until all rows of all are done."""
        x, buffer = self.xp.asarray(x), self._buffer(weights)
        depths, weight, done = self.layout.depth[members], self.layout.block_size[members], 0
        for depth in np.unique(depths):
            same_depth = np.flatnonzero(depths == depth)
            for part, rows in self._parts(members[same_depth], len(x), 0):
                places = same_depth[part]
                chunk = self._chunk(members[places], rows)
                w = chunk.effective(buffer[chunk.place])
                for start in range(0, len(x), rows):
                    interrupts.heed()
                    block = slice(start, min(start + rows, len(x)))
                    yield places, block, chunk.forward(w, x[block])[0]
                    done += int(weight[places].sum()) * (block.stop - block.start)
                    if control.tick(done / (int(weight.sum()) * len(x))):
                        return

    def _parts(self, members: np.ndarray, rows: int, order_rows: int) -> Iterator[tuple[slice, int]]:
        """Members of one depth in parts, and how many of so many rows to take at once, such that the memory cap holds.

        order_rows: the length of each member's own order of rows, 0 where they share one.
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

    def _chunk(self, members: np.ndarray, rows: int, orders: Any = None) -> Chunk:
        """The fused network of these members; for training by these orders of rows, or for forward passes only."""
        fan_in = int(self.layout.fan_in[self.layout.first_layer[members[0]]])
        layout = PoolLayout(self.plan.specs[members], fan_in, self.plan.n_raw_outputs, lanes=1)
        own_rows = orders is not None and orders.shape[1] > 1
        chunk = Chunk(self.xp, layout, members, self._blocks(members), rows, own_rows)
        if orders is not None:
            chunk.rules = self._rules(members, layout)
        return chunk

    def _rules(self, members: np.ndarray, layout: PoolLayout) -> list[SameRule]:
        xp, rules, codes = self.xp, list(RULES.values()), self.plan.specs.rule[members]
        groups = []
        for code in np.unique(codes):
            chosen = np.flatnonzero(codes == code)
            sizes, offsets = layout.block_size[chosen], self._slot_offset[members[chosen]]
            own = xp.asarray(spread(layout.block_offset[chosen], sizes))
            slots = [xp.asarray(spread(offsets + k * sizes, sizes)) for k in range(rules[code].slots)]
            run = xp.asarray(self._rows_of_inputs(members, chosen, layout))
            groups.append(SameRule(rules[code], members[chosen], own, slots, run))
        return groups

    def _rows_of_inputs(self, members: np.ndarray, chosen: np.ndarray, layout: PoolLayout) -> np.ndarray:
        """For each parameter of the chosen members its row among all these members' rows of inputs."""
        count = self._inputs.count[members[chosen]]
        rows, sizes = [], []
        for m, first, own in zip(chosen, first_of(count), count, strict=True):
            at = np.arange(layout.first_layer[m], layout.first_layer[m + 1])
            step = 2 * (at - at[0]) if own > MOST_SHARED_ROWS else np.zeros_like(at)
            # Weights lie before biases, both layer by layer, and then feature scales.
            rows += [first + step, first + step + 1, [first + own - 1]]
            biases = np.where(layout.bias_offset[at] >= 0, layout.fan_out[at], 0)
            scales = layout.fan_in[at[:1]] * (layout.scale_offset[m] >= 0)
            sizes += [layout.fan_in[at] * layout.fan_out[at], biases, scales]
        return np.repeat(np.concatenate(rows), np.concatenate(sizes))

    # Buffers.

    def _buffer(self, weights: str) -> Any:
        if weights == "average" and self.average is not None:
            place = self.xp.asarray(self._blocks(np.flatnonzero(self.plan.specs.option("average") == 0.0)))
            self.average[place] = self.parameters[place]
            return self.average
        return self.best if weights == "best" and self.best is not None else self.parameters

    def _blocks(self, members: np.ndarray) -> np.ndarray:
        """Positions of these members' parameters."""
        return spread(self.layout.block_offset[members], self.layout.block_size[members])

    def _on_host(self, buffer: Any, positions: np.ndarray) -> np.ndarray:
        return to_numpy(buffer[self.xp.asarray(positions)])

    def _replace(self, member: int, tensors: list[np.ndarray]) -> None:
        """Replace a member's parameters by these, in canonical order, and clear its slots."""
        scales = np.ones(len(self.layout.scale_positions(np.array([member]))))
        values = np.concatenate([*(np.ravel(tensor) for tensor in tensors), scales]).astype(self.plan.dtype)
        place = self.xp.asarray(self.layout.canonical(np.array([member])))
        self.parameters[place] = self.xp.asarray(values)
        if self.average is not None:
            self.average[place] = self.parameters[place]
        start = int(self._slot_offset[member])
        self.slots[start : start + int(self.layout.block_size[member] * self._n_slots[member])] = 0
