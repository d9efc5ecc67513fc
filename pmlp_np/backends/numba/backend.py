"""The Numba backend: the driver's tables, and its jobs on the buffers of a store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, Control
from pmlp_np.backends.epoch_end import train_epoch
from pmlp_np.backends.numba import driver, threads, views
from pmlp_np.backends.numba.compiling import announce_compilation, note_compiled, pass_address
from pmlp_np.backends.numba.job import (
    BY_GROWING_SCORE,
    BY_LOSS,
    BY_SCORE,
    DONE_STRIDE,
    EVALUATE,
    FORWARD,
    INITIALIZE,
    TRAIN,
    JobBuilder,
    known,
    scratch_bytes,
)
from pmlp_np.backends.numba.passes.layers import layer_pass
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.backends.numba.prepared_forward import PreparedForward
from pmlp_np.backends.numba.simd import KINDS
from pmlp_np.backends.numba.views import PlacedInMemory
from pmlp_np.backends.store import Store, StoredBackend
from pmlp_np.base.arrays import allocate
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import DISTRIBUTIONS, INITIALIZERS
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.layout import PoolLayout, spread
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import READY
from pmlp_np.state.step_inputs import StepInputs
from pmlp_np.state.training_state import TrainingState

# Tasks of less than about this many multiply-adds are done by the calling thread: the helpers would still be waking up.
# One member keeps no more than one thread busy, so that it is worth it up to what a user does not notice: some
# milliseconds, in which Ctrl-C must wait.
_SMALL_WORK, _SMALL_WORK_OF_ONE = 1 << 22, 1 << 28
# Members are dealt out up to so many at a time (their entries in a table of 64-bit numbers fill a cache line), but in
# at least so many shares per thread, so that no thread waits long for the others at the end.
_MOST_AT_ONCE, _SHARES = 8, 64
_LAYOUT_TABLES = (
    "first_layer", "fan_in", "fan_out", "row_stride", "stride_in", "stride_out", "weight_offset", "bias_offset",
    "activation", "block_offset", "block_size",
)  # fmt: skip
_COMPUTING = (TRAIN, EVALUATE, FORWARD)
_ALL_DEPTHS, _NO_DEPTHS = frozenset((0, 1, 2)), frozenset[int]()
# What is needed where rows are not read as they lie.
_GATHERING = ("gather_rows", "gather_targets")
# The tasks that need a pass, and for members of which depths (2: two and more).
_PASS_NEEDS: dict[str, dict[int, AbstractSet[int]]] = {
    "outputs": dict.fromkeys(_COMPUTING, {1, 2}),
    "by_output": dict.fromkeys(_COMPUTING, {0}),
    "by_row": {FORWARD: _ALL_DEPTHS, TRAIN: {0}},
    "hidden_backward": {TRAIN: {2}},
    "column_sums": {TRAIN: {2}},
    "fill": dict.fromkeys((INITIALIZE, *_COMPUTING), _ALL_DEPTHS),
    "scale": {INITIALIZE: _ALL_DEPTHS},
    "finite": {TRAIN: _ALL_DEPTHS},
}


class NumbaBackend(StoredBackend):
    """A pool's members in main memory, trained by compiled code; operations as in `contract.Backend`."""

    def __init__(self, plan: Plan, device: str = "cpu") -> None:
        self.plan, self.device = plan, device
        self._kind = KINDS[plan.dtype.name]
        self.layout = layout = PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, self._kind.lanes)
        # `dots` reads whole groups of weight rows: what lies behind the last block must be readable.
        self.store = Store(plan, layout, slack=self._kind.lanes * layout.widest_row())
        self._rule = plan.specs.rule.astype(np.int64)
        names = list(DISTRIBUTIONS)
        by_initializer = np.array([names.index(entry.distribution) for entry in INITIALIZERS.values()], np.int64)
        self._distribution = by_initializer[plan.specs.start]
        self._inputs = StepInputs(plan.specs, layout)
        self._scratch_bytes = scratch_bytes(layout, self._kind.itemsize, int(self._inputs.count.max()))
        self._vectors = layout.vectors
        self._all = np.arange(layout.n_members)
        self._by_size = np.argsort(-layout.block_size, kind="stable")
        self._bases: dict[tuple[int | str, ...], JobBuilder] = {}
        self._whole: dict[tuple[int, bool, bool], JobBuilder] = {}
        self._idle_scratch: list[np.ndarray] = []
        self._prepared: PreparedForward | None = None

    def _arguments(self) -> tuple[Any, ...]:
        return (self.device,)

    # The contract.

    def initialize(self, members: np.ndarray) -> None:
        weight_scale, bias_scale = self._initial_scales()
        self._execute(INITIALIZE, members, Control(), weight_scale=weight_scale, bias_scale=bias_scale)
        self.store.start(members)

    def place(self, data: Dataset) -> PlacedInMemory:
        return PlacedInMemory(self.plan, data)

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
        fields: dict[str, Any] = {"batch_size": state.batch_size, "shuffle": state.shuffle}
        fields |= known(vars(state.progress)) | known(vars(record))
        fields |= {"round_start": record.start, "record_stride": self.plan.n_members}
        n_threads = threads.slots_of(control)
        if state.shuffle == MEMBER_ORDER:
            most = int(placed.counts[members].max(initial=0))
            fields["orders"], fields["most_rows"] = np.empty(min(n_threads, len(members)) * most, np.int64), most
        if rule is not None:
            fields |= self._rule_fields(rule, members, record)
        try:
            pieces = views.of_a_round(placed, members, record.start, epochs, state.shuffle, n_threads)
            for part, some_epochs, seen in pieces:
                limit = np.minimum(state.target, record.start + some_epochs)
                if not self._train_piece(part, state, seen, limit, rule, record, control, fields):
                    return
        finally:
            # However it ends, and whoever has read averages meanwhile.
            self.store.changed()

    def _rule_fields(self, rule: EpochRule, members: np.ndarray, record: EpochRecord) -> dict[str, Any]:
        """The job's fields that say what follows an epoch."""
        if rule.early_stopping and self.store.best is None:
            self.store.keep(members[:0])
        option = self.plan.specs.option
        falls = option("plateau_patience")[members].any()
        names = ("plateau_patience", "plateau_factor") if falls else ()
        return {name: np.ascontiguousarray(option(name)) for name in names} | {
            "has_rule": 1, "early_stopping": int(rule.early_stopping), "patience": rule.patience,
            "min_delta": np.array([rule.min_delta], np.float64), "best": self.store.best,
            "by_score": BY_LOSS if not rule.by_score else BY_GROWING_SCORE if rule.score_grows else BY_SCORE,
        }  # fmt: skip

    def _train_piece(
        self,
        members: np.ndarray,
        state: TrainingState,
        seen: views.Seen,
        limit: np.ndarray,
        rule: EpochRule | None,
        record: EpochRecord,
        control: Control,
        fields: dict[str, Any],
    ) -> bool:
        """Train members that see the same, or go through orders, up to their limits, (n_members,). Returns whether the
        control lets all go on.

        Members that are too large to be dealt out are trained by all threads together: epoch by epoch.
        """
        by_size = members[self._largest_first(members)]
        weight = self.layout.block_size[by_size]
        n_threads = 1 if _is_small(weight * seen.counts(by_size)) else threads.slots_of(control)
        n_together = threads.too_large_to_deal_out(weight, n_threads)
        validation = None if rule is None else rule.validation
        goes_on, large = True, by_size[:n_together]
        while goes_on and len(large):
            step = np.minimum(limit, state.progress.epoch + 1)

            def train(part: np.ndarray = large, step: np.ndarray = step) -> None:
                nonlocal goes_on
                alone = fields | {"limit": step, "has_rule": 0}
                goes_on = self._execute(TRAIN, part, control, seen, together=True, **alone)

            train_epoch(train, self, large, state, rule, record, control.n_threads)
            large = large[(state.progress.epoch < limit)[large] & (state.progress.status[large] == READY)]
        if not goes_on:
            return False
        rest = members if not n_together else by_size[n_together:]
        return self._execute(TRAIN, rest, control, seen, validation=validation, limit=limit, **fields)

    def evaluate(
        self, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        loss, score = np.full(self.plan.n_members, np.nan), np.full(self.plan.n_members, np.nan)
        self._execute(EVALUATE, members, control, _views(placed), weights, loss=loss, score=score)
        return loss[members], score[members]

    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str, control: Control) -> None:
        x = placed.data.x
        if len(x) == 1 and placed.data.rows is None:
            buffer = self.store.weights(weights)
            prepared = self._prepared
            if prepared is None or not prepared.serves(members, buffer):
                self._prepared = prepared = PreparedForward(self, members, buffer)
            if prepared.parameters * len(x[0]) < _SMALL_WORK and prepared.run(x[0], out):
                return
        self._execute(FORWARD, members, control, _views(placed), weights, out=out)

    # Running the driver.

    def _initial_scales(self) -> tuple[np.ndarray, np.ndarray]:
        layout = self.layout
        entries = list(INITIALIZERS.values())
        code = np.repeat(self.plan.specs.start, layout.depth + 1)
        weight, bias = np.zeros(len(code)), np.zeros(len(code))
        for i in np.unique(code):
            chosen = code == i
            fans = layout.fan_in[chosen].astype(np.float64), layout.fan_out[chosen].astype(np.float64)
            weight[chosen] = entries[i].weight_scale(*fans)
            bias[chosen] = entries[i].bias_scale(*fans)
        last = layout.first_layer[1:][self.plan.specs.option("zero_last") != 0.0] - 1
        weight[last], bias[last] = 0.0, 0.0
        return weight, bias

    def _base(self, task: int, members: np.ndarray, gathers: bool = False, weighted: bool = False) -> JobBuilder:
        """The part of a job that is the same each time: tables, and the passes that the members need.

        Passes that they don't need are not compiled; what all members need is found once. gathers: rows are not read as
        they lie. weighted: rows have weights.
        """
        kind = task, gathers, weighted
        if kind in self._whole:
            return self._whole[kind]
        plan, layout = self.plan, self.layout
        everything = len(members) == plan.n_members
        layers = slice(None) if everything else spread(layout.first_layer[members], layout.depth[members] + 1)
        of_layers = set(layout.activation[layers].tolist()) - {-1} if task != INITIALIZE else set()
        rules = set(self._rule[members].tolist()) if task == TRAIN else set()
        distributions = set(self._distribution[members].tolist()) if task == INITIALIZE else set()
        depths = set(np.minimum(layout.depth[members], 2).tolist())
        schedules = self._schedules(members) if task == TRAIN else set()
        needed = (sorted(of_layers), sorted(rules), sorted(distributions), sorted(depths), sorted(schedules))
        used = self._regularizers(members) if task == TRAIN else {}
        used |= self._feature_scales(members, task) if task in _COMPUTING else {}
        by_rows = self._stepping_by_rows(members) if task == TRAIN else set()
        key = (*kind, *(code for codes in (*needed, sorted(by_rows)) for code in (*codes, -1)), *used)
        if key not in self._bases:
            self._bases[key] = JobBuilder().put(
                task=task, itemsize=self._kind.itemsize, lanes=self._kind.lanes,
                n_outputs=plan.n_raw_outputs, slots=self.store.slots, slot_offset=self.store.slot_offset,
                stream_key=plan.stream_key, rule=self._rule, hyperparameters=plan.specs.hyperparameters,
                options=plan.specs.options if schedules or "clip_norm" in used else None,
                input_factors=self._inputs.factors, first_input=self._inputs.first, input_count=self._inputs.count,
                distribution=self._distribution, vectors=self._vectors,
                update_rows_pass=self._table(RULES, "update_rows", by_rows),
                **{name: getattr(layout, name) for name in _LAYOUT_TABLES}, **self._passes(kind, *needed), **used,
            )  # fmt: skip
        if everything:
            self._whole[kind] = self._bases[key]
        return self._bases[key]

    def _schedules(self, members: np.ndarray) -> set[int]:
        """The codes of schedules that run; a constant one does where there is a warm-up."""
        specs = self.plan.specs
        codes, warmup = specs.option("schedule")[members], specs.option("warmup_epochs")[members]
        return set(codes[(codes != 0.0) | (warmup != 0.0)].astype(np.int64).tolist())

    def _regularizers(self, members: np.ndarray) -> dict[str, Any]:
        """The tables of options that some of these members train with, and the addresses of passes for them."""
        specs, kind = self.plan.specs, self._kind.name
        passes = {"dropout": "dropout", "input_dropout": "input_dropout", "clip_norm": "clip", "average": "average"}
        used = [name for name in passes if specs.option(name)[members].any()]
        fields: dict[str, Any] = {name: np.ascontiguousarray(specs.option(name)) for name in used}
        fields |= {f"{name}_pass": pass_address(kind, passes[name]) for name in used}
        if "average" in used:
            fields["averages"] = self.store.average
        return fields

    def _feature_scales(self, members: np.ndarray, task: int) -> dict[str, Any]:
        """Where feature scales lie, and the addresses of passes for them, where some of these members have them."""
        if not (self.layout.scale_offset[members] >= 0).any():
            return {}
        names = ("scale_features", "scales_backward") if task == TRAIN else ("scale_features",)
        passes = {f"{name}_pass": pass_address(self._kind.name, name) for name in names}
        return {"scale_offset": self.layout.scale_offset, **passes}

    def _stepping_by_rows(self, members: np.ndarray) -> set[int]:
        """The codes of the rules of those members whose weights take their step, some or all, from their whole
        gradient."""
        chosen = (self.plan.specs.option("clip_norm")[members] > 0.0) | (self.layout.scale_offset[members] >= 0)
        return set(self._rule[members[chosen]].tolist())

    def _table(
        self, names: Iterable[str], prefix: str | Callable[[str], str], used: Iterable[int], kind: str = ""
    ) -> np.ndarray:
        """By code the addresses of those passes that are used: `prefix:name`, or what the prefix makes of a name."""
        names = list(names)
        addresses = np.zeros(len(names), np.int64)
        for code in used:
            name = f"{prefix}:{names[code]}" if isinstance(prefix, str) else prefix(names[code])
            addresses[code] = pass_address(kind or self._kind.name, name)
        return addresses

    def _passes(
        self,
        what: tuple[int, bool, bool],
        activations: list[int],
        rules: list[int],
        distributions: list[int],
        depths: list[int],
        schedules: list[int],
    ) -> dict[str, Any]:
        """Addresses of the passes that a task (gathering, weighted) needs, on members that have these codes and depths
        (2: two and more)."""
        kind, loss, table = self._kind.name, self.plan.loss, self._table
        task, gathers, weighted = what
        prefix = "layer_train" if task == TRAIN else "layer"
        linear = task in _COMPUTING and 0 in depths
        fixed = [name for name, needs in _PASS_NEEDS.items() if not needs.get(task, _NO_DEPTHS).isdisjoint(depths)]
        fixed += _GATHERING if gathers else ()
        loss_task = {TRAIN: "loss_train", EVALUATE: "loss_evaluate"}.get(task)
        loss_task = f"{loss_task}_weighted" if loss_task and weighted else loss_task
        return {f"{name}_pass": pass_address(kind, name) for name in fixed} | {
            "linear_pass": pass_address(kind, "layer:identity") if linear else 0,
            "loss_pass": pass_address(kind, loss_pass(loss, loss_task)) if loss_task else 0,
            "gather_weights_pass": pass_address("float64", "gather_targets") if gathers and weighted else 0,
            "layer_pass": table(ACTIVATIONS, partial(layer_pass, task=prefix), activations),
            "schedule_pass": table(SCHEDULES, "schedule", schedules, "float64"),
            "scalars_pass": table(RULES, "scalars", rules),
            "update_pass": table(RULES, "update", rules),
            "weights_backward_pass": table(RULES, "weights_backward", rules),
            "output_backward_pass": table(RULES, "output_backward", rules),
            "distribution_pass": table(DISTRIBUTIONS, "distribution", distributions, "float64"),
        }

    def _execute(
        self,
        task: int,
        members: np.ndarray,
        control: Control,
        seen: views.Seen | None = None,
        weights: str = "last",
        validation: Placed | None = None,
        together: bool = False,
        **fields: Any,
    ) -> bool:
        """Run a task on these members and what they see; `fields` are the job's fields that this task alone needs.
        Returns whether all of it was done.

        validation: what members are evaluated on after each epoch. together: whether all threads train each member.
        """
        if len(members) == 0:
            return True
        marker = announce_compilation(self._kind.name)
        weight = self.layout.block_size[members]
        total = int(weight.sum())
        n_rows: Any = 1 if seen is None else seen.counts(members)
        work = weight * n_rows
        if task == TRAIN:
            epochs = (fields["limit"] - fields["epoch"])[members]
            batches = -(-n_rows // fields["batch_size"][members])
            total = int((weight * (batches * epochs - fields["minibatch"][members])).sum())
            # Ctrl-C is heard while a member is validated, too.
            work = (work + (0 if validation is None else weight * validation.counts[members])) * epochs
        small = _is_small(work)
        # Nothing is watched while weights are drawn: helpers that others have are not waited for.
        small = not together and (small or (task == INITIALIZE and threads.are_busy()))
        n_threads = 1 if small else threads.slots_of(control)
        flags = np.zeros((4, DONE_STRIDE), np.int64)  # each on a cache line of its own
        done = np.zeros(n_threads * DONE_STRIDE, np.int64)
        gathers = seen is not None and (seen.goes_through_orders or fields.get("shuffle") == MEMBER_ORDER)
        weighted = seen is not None and seen.data.weights is not None
        job = JobBuilder(self._base(task, members, gathers, weighted)).put(
            done=done, counter=flags[0], stop=flags[1], meeting=flags[2], together=flags[3],
            give_way=threads.give_way(),
            parameters=self.store.weights(weights), **fields,
        )  # fmt: skip
        if seen is not None:
            job.put(**seen.job_fields())

        def tick() -> bool:
            return control.tick(min(int(done.sum()) / max(total, 1), 1.0))

        with self._scratch(n_threads) as scratch:
            job.put(scratch=scratch)
            evaluation = None if validation is None else self._evaluation(members, validation, scratch, flags[1])
            place = self._largest_first(members)
            while len(place):
                chunk = max(1, min(_MOST_AT_ONCE, len(place) // (_SHARES * n_threads)))
                job.put(queue=members[place], n_queue=len(place), chunk=chunk, place=place)
                jobs = job.build(evaluation)
                if small:
                    driver.work(0, jobs)
                    flags[1, 0] = control.tick(1.0)
                    break
                slots = n_threads if together else min(n_threads, len(place))
                flags[0, 0] = flags[2, 0] = 0
                if not threads.run(jobs, slots, together, flags, tick, gives_way=task == TRAIN):
                    break
                # Other threads wanted the helpers: on with what is not done.
                at = members[place]
                place = place[(fields["epoch"] < fields["limit"])[at] & (fields["status"][at] == READY)]
        if task == TRAIN:
            note_compiled(marker)
        return not flags[1, 0]

    def _evaluation(self, members: np.ndarray, placed: Placed, scratch: np.ndarray, stop: np.ndarray) -> JobBuilder:
        """The job of evaluations of these members that take turns with their training."""
        seen = _views(placed)
        base = self._base(EVALUATE, members, seen.goes_through_orders, placed.data.weights is not None)
        fixed = {"parameters": self.store.parameters, "scratch": scratch, "stop": stop}
        return JobBuilder(base).put(**fixed, **seen.job_fields())

    def _largest_first(self, members: np.ndarray) -> np.ndarray:
        """Places of members in the order in which they are dealt out."""
        if len(members) == len(self._by_size) and np.array_equal(members, self._all):
            return self._by_size
        return np.argsort(-self.layout.block_size[members], kind="stable")

    def _new_scratch(self) -> np.ndarray:
        # Written to before it is used: memory that is read before it was ever written is one and the same page of zeros
        # at every address, which the nearest cache holds for one address at a time. Passes do read what they then
        # drop, such as the gradient before a minibatch's first block, and took ten times as long.
        scratch = allocate(self._scratch_bytes // self._kind.itemsize, self.plan.dtype)
        scratch[:] = 0
        return scratch

    @contextlib.contextmanager
    def _scratch(self, n_threads: int) -> Iterator[np.ndarray]:
        """Addresses of a block of scratch for each thread, (n_threads,) int64; nobody else has them meanwhile.

        Two Python threads may ask one pool at the same time.
        """
        blocks: list[np.ndarray] = []
        while len(blocks) < n_threads:
            try:
                blocks.append(self._idle_scratch.pop())
            except IndexError:
                blocks.append(self._new_scratch())
        try:
            yield np.array([block.ctypes.data for block in blocks], np.int64)
        finally:
            self._idle_scratch += blocks


def _views(placed: Placed) -> views.Seen:
    """What members see of a dataset that this backend has placed."""
    assert isinstance(placed, PlacedInMemory)
    return placed.as_they_lie


def _is_small(work: np.ndarray) -> bool:
    """Whether a task of so many multiply-adds a member is done by the calling thread."""
    return int(work.sum()) < (_SMALL_WORK if len(work) > 1 else _SMALL_WORK_OF_ONE)
