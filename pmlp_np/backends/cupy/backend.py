"""The CuPy backend: fused CUDA kernels on a GPU, a thread block per member, with the bits of the Numba backend.

A launch trains a group of members of like size for one or several epochs: what follows an epoch (validation, best
weights, early stopping, plateaus) happens on the device. Between launches Python looks at budgets and Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEAN_GROUP, MEMBER_ORDER, SHARED_ORDER, Control
from pmlp_np.backends.cupy.device import Device, Kernel, gpu, new_array, on_device
from pmlp_np.backends.cupy.formulas_text import VECTOR_BYTES, part_text, pool_text
from pmlp_np.backends.cupy.launch_job import REAL_COLUMNS, WHOLE_COLUMNS, JobBuilder
from pmlp_np.backends.cupy.program_text import (
    DRAW_ORDERS,
    DRAW_WEIGHTS,
    MIXED,
    MOST_THREADS,
    SHARED,
    infer_kernel,
    mean_kernel,
    program_text,
    train_kernel,
)
from pmlp_np.backends.cupy.regions import Placement, Sizes, gradient_starts, placed, sizes_of
from pmlp_np.backends.cupy.sources import PlacedOnDevice, SharedOrders
from pmlp_np.backends.store import Store, StoredBackend
from pmlp_np.base import interrupts
from pmlp_np.base.arrays import to_numpy
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas import regularizers
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.formulas.step_lists import scalar_steps
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.initial_scales import initial_distribution, initial_scales
from pmlp_np.state.layout import PoolLayout
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, READY, Progress
from pmlp_np.state.step_inputs import StepInputs
from pmlp_np.state.training_state import TrainingState

# A launch is to take about so long: budgets, progress and Ctrl-C wait for it.
_LAUNCH_SECONDS = 0.2
# Bytes of raw outputs, of which a mean is taken, on the device at a time.
_MEAN_BYTES = 1 << 28
# Members of a launch need about the same shared memory: of two groups one needs this much more than the other.
_CLASS_RATIO = 1.3
_MOST_NUMBERS = max(len(scalar_steps(rule).names) for rule in RULES)
_LAYOUT_FIELDS = (
    "first_layer", "fan_in", "fan_out", "row_stride", "vectors", "stride_in", "stride_out", "weight_offset",
    "bias_offset", "scale_offset", "activation", "block_offset", "block_size",
)  # fmt: skip
_REGULARIZERS = ("dropout", "input_dropout", "clip_norm", "average")


@dataclass(frozen=True)
class _Launch:
    """Members of one launch, largest first, the kernel that they need, and the memory of its thread blocks."""

    members: np.ndarray
    placement: Placement
    threads: int
    rule: str


class CupyBackend(StoredBackend):
    """A pool's members on a GPU; operations as in `contract.Backend`."""

    def __init__(self, plan: Plan, device: str = "gpu") -> None:
        self.plan, self.device = plan, device
        self._device = self._open()
        itemsize = plan.dtype.itemsize
        self.layout = PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, VECTOR_BYTES // itemsize)
        self.store = Store(plan, self.layout, self._device.xp)
        self._inputs = StepInputs(plan.specs, self.layout)
        self._rate = self._device.operations_per_second
        self._known: dict[str, Kernel] = {}

    def _open(self) -> Device:
        return gpu()

    def _arguments(self) -> tuple[Any, ...]:
        return (self.device,)

    # The contract.

    def initialize(self, members: np.ndarray) -> None:
        weight_scale, bias_scale = initial_scales(self.plan.specs, self.layout)
        job = JobBuilder(self._device, self._base).put(
            queue=members, parameters=self.store.parameters, distribution=initial_distribution(self.plan.specs),
            weight_scale=weight_scale, bias_scale=bias_scale,
        )  # fmt: skip
        self._run(self._kernel(DRAW_WEIGHTS, ()), len(members), 64, 0, job)
        self.store.start(members)

    def place(self, data: Dataset) -> PlacedOnDevice:
        return PlacedOnDevice(self.plan, data, self._device)

    def train(
        self,
        members: np.ndarray,
        state: TrainingState,
        placed: Placed,
        rule: EpochRule | None,
        epochs: int,
        record: EpochRecord,
        control: Control,
    ) -> None:
        assert isinstance(placed, PlacedOnDevice)
        if rule is not None and rule.early_stopping and self.store.best is None:
            self.store.keep(members[:0])
        progress = state.progress
        limit = np.minimum(state.target, record.start + epochs)
        work = self.layout.block_size * placed.counts
        total = int((work * (limit - progress.epoch))[members].sum())
        done = 0
        try:
            while len(
                left := members[(progress.status[members] == READY) & (progress.epoch[members] < limit[members])]
            ):
                for part, some_epochs in self._in_time(left, work, limit - progress.epoch):
                    before = progress.epoch[part]
                    until = np.minimum(limit, progress.epoch + some_epochs)
                    self._train_part(part, state, placed, rule, until, some_epochs, record)
                    done += int((work[part] * (progress.epoch[part] - before)).sum())
                    interrupts.raise_if_pressed()
                    if control.tick(min(done / max(total, 1), 1.0)):
                        return
        finally:
            self.store.changed()

    def evaluate(
        self, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        results = on_device(self._device, np.full((2, self.plan.n_members), np.nan))
        fields = {"loss": results[0], "score": results[1]}
        self._infer("evaluate", members, placed, weights, control, fields)
        found = to_numpy(results)
        return found[0, members], found[1, members]

    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str, control: Control) -> None:
        if not out.size:
            return
        results = new_array(self._device, out.shape, out.dtype)
        self._infer("predict", members, placed, weights, control, {"out": results})
        out[...] = to_numpy(results)

    def mean(
        self, members: np.ndarray, placed: Placed, part: str, out: np.ndarray, weights: str, control: Control
    ) -> None:
        (n, n_parts), n_raw = out.shape, self.plan.n_raw_outputs
        # A power of two: whole groups, or several launches for each group.
        most = 1 << max(0, (_MEAN_BYTES // (n * n_raw * self.plan.dtype.itemsize)).bit_length() - 1)
        kernel = self._kernel(mean_kernel(part), (), part)
        row_blocks = -(-n // MOST_THREADS)
        total = new_array(self._device, (n_parts, n), np.float64, zeros=True)
        for start in range(0, len(members), most):
            some = members[start : start + most]
            groups = -(-len(some) // MEAN_GROUP)
            if start % MEAN_GROUP == 0:
                sums = new_array(self._device, (groups, n_parts, n), np.float64, zeros=True)
            raw = new_array(self._device, (len(some), n, n_raw), self.plan.dtype)
            self._infer("predict", some, placed, weights, control, {"out": raw})
            job = JobBuilder(self._device, self._base).put(out=raw, sums=sums, sums_rows=n, n_summed=len(some))
            self._run(kernel, groups * row_blocks, MOST_THREADS, 0, job)
            if (start + len(some)) % MEAN_GROUP == 0 or start + most >= len(members):
                for group in range(groups):
                    total = total + sums[group]
        out[...] = to_numpy(total).T / len(members)

    # Kernels and jobs.

    @cached_property
    def _base(self) -> JobBuilder:
        """Return the fields that all jobs of this pool share."""
        plan, specs, store = self.plan, self.plan.specs, self.store
        used = {name: specs.option(name) for name in _REGULARIZERS if specs.option(name).any()}
        fields: dict[str, Any] = {name: np.ascontiguousarray(column) for name, column in used.items()}
        for name in ("dropout", "input_dropout"):
            if name in used:
                fields[f"{name}_threshold"] = np.array(
                    [regularizers.dropout_threshold(x) for x in used[name]], np.int64
                )
                fields[f"{name}_scale"] = regularizers.dropout_scale(used[name])
        for name in ("plateau_patience", "plateau_factor"):
            fields[name] = np.ascontiguousarray(specs.option(name))
        return JobBuilder(self._device).put(
            n_outputs=plan.n_raw_outputs, slots=store.slots, slot_offset=store.slot_offset, averages=store.average,
            stream_key=plan.stream_key.view(np.int64), hyperparameters=specs.hyperparameters,
            options=specs.options, input_factors=self._inputs.factors, first_input=self._inputs.first,
            input_count=self._inputs.count, **{name: getattr(self.layout, name) for name in _LAYOUT_FIELDS}, **fields,
        )  # fmt: skip

    def _kernel(self, name: str, rules: Iterable[str], part: str | None = None) -> Kernel:
        """Return a kernel, compiled on first use.

        rules: the optimizer rules that it contains. part: of raw outputs, that it adds up.
        """
        if name not in self._known:
            formulas, dtype = self._formulas(rules), self.plan.dtype.name
            if part is not None:
                formulas += part_text(self.plan.loss, part, dtype)
            text = program_text(dtype, formulas, [name])
            self._known[name] = self._device.compile(text, name)
        return self._known[name]

    def _formulas(self, rules: Iterable[str]) -> str:
        """Return the CUDA text of all formulas that the members need, with these rules."""
        specs, activations, schedules = self.plan.specs, list(ACTIVATIONS), list(SCHEDULES)
        codes = np.unique(self.layout.activation[self.layout.activation >= 0]).tolist()
        used = np.unique(specs.option("schedule").astype(np.int64)).tolist() if rules else []
        return pool_text(
            self.plan.loss, self.plan.dtype.name, [activations[code] for code in codes], rules,
            [schedules[code] for code in used],
        )  # fmt: skip

    def _run(self, kernel: Kernel, blocks: int, threads: int, shared: int, job: JobBuilder,
             evaluation: JobBuilder | None = None) -> None:  # fmt: skip
        if blocks:
            kernel.launch(blocks, threads, shared, job.built(evaluation))
            self._device.synchronize()

    # Launches.

    def _sizes(self, n_targets: int, rows: np.ndarray | None, gradient_start: np.ndarray | None) -> Sizes:
        return sizes_of(
            self.layout, self.plan.dtype.itemsize, n_targets, self.store.n_slots, self._inputs.count, _MOST_NUMBERS,
            rows, gradient_start, self.plan.specs.option("clip_norm"),
        )  # fmt: skip

    def _gradient_starts(self, batch_size: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return gradient_starts(self.layout, batch_size, rows, self.plan.specs.option("clip_norm"))

    def _launches(self, members: np.ndarray, sizes: Sizes, by_rule: bool) -> Iterator[_Launch]:
        """Yield groups of members, one per launch: same rule, similar size."""
        layout, names = self.layout, list(RULES)
        widest = np.maximum.reduceat(layout.fan_out, layout.first_layer[:-1])
        codes = self.plan.specs.rule[members] if by_rule else np.zeros(len(members), np.int64)
        for code in np.unique(codes):
            some = members[codes == code]
            needed = sizes.take(some).shared
            order = np.argsort(-needed, kind="stable")
            some, needed = some[order], needed[order]
            start = 0
            while start < len(some):
                stop = start + int(np.searchsorted(-needed[start:], -needed[start] / _CLASS_RATIO, side="right"))
                group = some[start:stop]
                threads = int(np.clip(-(-widest[group].max() // 32) * 32, 32, MOST_THREADS))
                yield _Launch(group, placed(sizes.take(group), threads, self._device), threads, names[code])
                start = stop

    def _run_launch(self, task: str, launch: _Launch, job: JobBuilder,
                    evaluation: JobBuilder | None = None) -> None:  # fmt: skip
        """Run a task on a group, in several launches if the scratch of all thread blocks takes too much memory."""
        placement = launch.placement
        most = len(launch.members)
        if placement.scratch_bytes:
            # So many blocks are at work at once at most; more would wait for scratch of their own.
            most = min(most, 32 * self._device.processors)
        scratch = new_array(self._device, (max(most * placement.scratch_bytes, 16),), np.uint8)
        memory = {"scratch": scratch, "scratch_bytes": placement.scratch_bytes, "regions": placement.offsets,
                  "in_shared": placement.in_shared}  # fmt: skip
        where = SHARED if placement.all_shared else MIXED
        if task == "train":
            kernel = self._kernel(train_kernel(launch.rule, where), [launch.rule])
        else:
            kernel = self._kernel(infer_kernel(task, where), ())
        for start in range(0, len(launch.members), most):
            queue = launch.members[start : start + most]
            ours = JobBuilder(self._device, job).put(queue=queue, **memory)
            theirs = None if evaluation is None else JobBuilder(self._device, evaluation).put(**memory)
            self._run(kernel, len(queue), launch.threads, placement.shared_bytes, ours, theirs)

    def _infer(self, task: str, members: np.ndarray, placed: Placed, weights: str, control: Control,
               fields: dict[str, Any]) -> None:  # fmt: skip
        assert isinstance(placed, PlacedOnDevice)
        n_targets = 0 if placed.data.y is None else placed.data.n_targets
        sizes = self._sizes(n_targets, None, None)
        place = np.zeros(self.plan.n_members, np.int64)
        place[members] = np.arange(len(members))
        base = JobBuilder(self._device, self._base).put(
            parameters=self.store.weights(weights), **placed.as_they_lie, **fields
        )
        done = 0
        for launch in self._launches(members, sizes, by_rule=False):
            interrupts.raise_if_pressed()
            job = JobBuilder(self._device, base).put(place=place)
            self._run_launch(task, launch, job)
            done += len(launch.members)
            if control.tick(done / len(members)):
                return

    # Training.

    def _in_time(self, members: np.ndarray, work: np.ndarray, epochs: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Yield members and a number of epochs per launch, so that a launch takes about `_LAUNCH_SECONDS`."""
        budget = self._rate * _LAUNCH_SECONDS
        each = work[members].astype(np.float64)
        some = int(np.clip(budget // max(each.sum(), 1.0), 1, epochs[members].max()))
        if some > 1 or each.sum() <= budget:
            yield members, some
            return
        order = members[np.argsort(-work[members], kind="stable")]
        ends = np.cumsum(work[order].astype(np.float64))
        start = 0
        while start < len(order):
            before = ends[start - 1] if start else 0.0
            stop = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
            yield order[start:stop], 1
            start = stop

    def _train_part(
        self,
        members: np.ndarray,
        state: TrainingState,
        placed: PlacedOnDevice,
        rule: EpochRule | None,
        limit: np.ndarray,
        epochs: int,
        record: EpochRecord,
    ) -> None:
        """Train members up to their limits, (n_members,), for at most `epochs` epochs, without a pause."""
        began = time.perf_counter()
        columns = _Columns(self._device, state.progress, record, epochs, rule)
        seen = placed.as_they_lie
        if state.shuffle == SHARED_ORDER:
            orders = SharedOrders(self.plan, placed, members, state.progress.epoch, epochs)
            draw = JobBuilder(self._device).put(**orders.fields())
            self._run(self._kernel(DRAW_ORDERS, ()), len(orders.keys), 32, 0, draw)
            seen = orders.views(placed, members)
        gradient_start = self._gradient_starts(state.batch_size, placed.counts)
        job = JobBuilder(self._device, self._base).put(
            parameters=self.store.parameters, best=self.store.best, shuffle=state.shuffle, limit=limit,
            batch_size=state.batch_size, gradient_start=gradient_start, fit_epochs=state.progress.fit_epochs, **seen,
            **columns.fields(),
        )  # fmt: skip
        validation = None if rule is None else rule.validation
        evaluation = None
        if rule is not None:
            job.put(
                has_rule=1, early_stopping=int(rule.early_stopping), patience=rule.patience, min_delta=rule.min_delta,
                by_score=int(rule.by_score), score_grows=int(rule.score_grows),
            )  # fmt: skip
        if validation is not None:
            assert isinstance(validation, PlacedOnDevice)
            evaluation = JobBuilder(self._device, self._base).put(
                parameters=self.store.parameters, **validation.as_they_lie
            )
        rows = placed.counts if state.shuffle == MEMBER_ORDER else None
        sizes = self._sizes(placed.data.n_targets, rows, gradient_start)
        for launch in self._launches(members, sizes, by_rule=True):
            self._run_launch("train", launch, job, evaluation)
        columns.read_back(members)
        operations = float((self.layout.block_size * placed.counts)[members].astype(np.float64).sum()) * epochs
        self._rate = 0.5 * (self._rate + operations / max(time.perf_counter() - began, 1e-6))


class _Columns:
    """The columns of progress and record that a launch changes, with one transfer per dtype in each direction."""

    def __init__(
        self, device: Device, progress: Progress, record: EpochRecord, epochs: int, rule: EpochRule | None
    ) -> None:
        self._progress, self._record, self._epochs = progress, record, epochs
        n = len(progress.epoch)
        self._start = progress.epoch.copy()
        self._lines = ("loss",) if rule is None or rule.validation is None else (
            "loss", "validation_loss", "validation_score"
        )  # fmt: skip
        self._whole = on_device(device, np.stack([self._column(name).astype(np.int64) for name in WHOLE_COLUMNS]))
        self._real = on_device(device, np.stack([self._column(name) for name in REAL_COLUMNS]))
        self._found = on_device(device, np.full((len(self._lines), epochs, n), np.nan))

    def _column(self, name: str) -> np.ndarray:
        column: np.ndarray = getattr(self._progress if hasattr(self._progress, name) else self._record, name)
        return column

    def fields(self) -> dict[str, Any]:
        return {
            **{name: self._whole[i] for i, name in enumerate(WHOLE_COLUMNS)},
            **{name: self._real[i] for i, name in enumerate(REAL_COLUMNS)},
            **{name: self._found[i] for i, name in enumerate(self._lines)},
            "round_start": self._start, "record_stride": len(self._start),
        }  # fmt: skip

    def read_back(self, members: np.ndarray) -> None:
        """Copy the results of the launch for these members to progress and record."""
        for names, values in ((WHOLE_COLUMNS, self._whole), (REAL_COLUMNS, self._real)):
            for name, column in zip(names, to_numpy(values), strict=True):
                self._column(name)[members] = column[members]
        found, progress, record = to_numpy(self._found), self._progress, self._record
        for i, name in enumerate(self._lines):
            for k in range(self._epochs):
                # An epoch that was finished, or in which the member diverged.
                at = self._start + k
                known = members[
                    (at < progress.epoch)[members]
                    | ((progress.status == DIVERGED) & (at == progress.epoch) & (progress.minibatch > 0))[members]
                ]
                line = at - record.start
                getattr(record, name)[line[known], known] = found[i, k, known]
