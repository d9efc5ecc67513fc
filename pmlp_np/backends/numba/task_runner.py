"""The task runner: it builds a task's job, allocates scratch for its threads, and calls the driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEMBER_ORDER, Control
from pmlp_np.backends.numba import driver, threads
from pmlp_np.backends.numba.compiling import announce_compilation, note_compiled
from pmlp_np.backends.numba.frame import scratch_bytes
from pmlp_np.backends.numba.job import COUNTER_STRIDE, EVALUATE, INITIALIZE, MEAN, TRAIN, JobBuilder
from pmlp_np.backends.numba.job_templates import JobTemplates
from pmlp_np.backends.numba.views import DataViews, PlacedInMemory
from pmlp_np.backends.store import Store
from pmlp_np.base.arrays import allocate
from pmlp_np.state.layout import PoolLayout
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import READY

# A task of fewer multiply-adds runs on the calling thread: waking the helper threads would take longer. A single member
# occupies one thread, so its limit is higher: some milliseconds, during which Ctrl-C must wait.
SMALL_WORK, _SMALL_WORK_OF_ONE = 1 << 22, 1 << 28
# A thread takes up to this many members from the queue at a time (their entries in a table of 64-bit numbers fill a
# cache line), but few enough that each thread takes this many shares: then no thread waits long for the last one.
_MOST_AT_ONCE, _SHARES = 8, 64


class TaskRunner:
    """Runs tasks (INITIALIZE, TRAIN, EVALUATE, FORWARD, MEAN) on members of a store."""

    def __init__(self, plan: Plan, layout: PoolLayout, store: Store) -> None:
        self._plan, self._layout, self._store = plan, layout, store
        self.templates = JobTemplates(plan, layout, store)
        # Elements of a thread's scratch, by the most numbers of a row of encoded columns and elements of their tables.
        self._scratch_items: dict[tuple[int, int], int] = {}
        self._all_members = np.arange(layout.n_members)
        self._all_by_size = np.argsort(-layout.block_size, kind="stable")
        self._idle_scratch: list[np.ndarray] = []

    def run(
        self,
        task: int,
        members: np.ndarray,
        control: Control,
        data_views: DataViews | None = None,
        weights: str = "last",
        validation: Placed | None = None,
        together: bool = False,
        entries: int | None = None,
        **fields: Any,
    ) -> bool:
        """Run a task on these members and their data. Returns whether the task was completed.

        weights: the buffer to compute with, as `Store.weights` names it. validation: the data on which members are
        evaluated after each epoch. together: whether all threads train each member. entries: how many entries of the
        queue threads take, where these are not the members (MEAN, for which members stay in their order). fields: the
        job's fields that this task alone needs.
        """
        if len(members) == 0:
            return True
        marker = announce_compilation(self._plan.dtype.name)
        work, total = self._work(task, members, data_views, validation, fields)
        # Drawing weights needs no control: it doesn't wait for helper threads that another job has.
        small = not together and (is_small(work) or (task == INITIALIZE and threads.are_busy()))
        n_threads = 1 if small else threads.slots_of(control)
        # Counters that threads share, each on a cache line of its own.
        queue_counter, stop, barrier_counter, stop_of_team = np.zeros((4, COUNTER_STRIDE), np.int64)
        done = np.zeros(n_threads * COUNTER_STRIDE, np.int64)
        gathers = data_views is not None and (data_views.gathers or fields.get("shuffle") == MEMBER_ORDER)
        weighted = data_views is not None and data_views.data.weights is not None
        encodes = data_views is not None and data_views.encodes
        job = JobBuilder(self.templates.template(task, members, gathers, weighted, encodes)).put(
            done=done, counter=queue_counter, stop=stop, barrier_counter=barrier_counter, stop_of_team=stop_of_team,
            yield_thread=threads.yield_thread_address(), parameters=self._store.weights(weights), **fields,
        )  # fmt: skip
        if data_views is not None:
            job.put(**data_views.job_fields())

        def tick() -> bool:
            return control.tick(min(int(done.sum()) / max(total, 1), 1.0))

        read = [data_views, None if validation is None else views_in_order(validation)]
        with self._scratch(n_threads, self.scratch_items(read, members)) as scratch:
            job.put(scratch=scratch)
            evaluation = None if validation is None else self._evaluation(members, validation, scratch, stop)
            positions = self.largest_first(members) if entries is None else np.arange(len(members))
            while len(positions):
                n_queue = len(positions) if entries is None else entries
                chunk = max(1, min(_MOST_AT_ONCE, n_queue // (_SHARES * n_threads)))
                job.put(queue=members[positions], n_queue=n_queue, chunk=chunk, positions=positions)
                jobs = job.build(evaluation)
                if small:
                    driver.work(0, jobs)
                    stop[0] = control.tick(1.0)
                    break
                slots = n_threads if together else min(n_threads, n_queue)
                queue_counter[0] = barrier_counter[0] = 0
                if not threads.run(jobs, slots, together, stop, tick, yields=task == TRAIN):
                    break
                # The helper threads went to another job: train the rest.
                at = members[positions]
                positions = positions[(fields["epoch"] < fields["limit"])[at] & (fields["status"][at] == READY)]
        if task == TRAIN:
            note_compiled(marker)
        return not stop[0]

    def _work(
        self,
        task: int,
        members: np.ndarray,
        data_views: DataViews | None,
        validation: Placed | None,
        fields: dict[str, Any],
    ) -> tuple[np.ndarray, int]:
        """Return the multiply-adds of each member, (members,) int64, and the total that the job's `done` counts to."""
        weight = self._layout.block_size[members]
        n_rows: Any = 1 if data_views is None else data_views.counts(members)
        work = weight * n_rows
        if task != TRAIN:
            pieces = -(-int(np.max(n_rows)) // fields["sums_rows"]) if task == MEAN else 1
            return work, int(weight.sum()) * pieces
        epochs = (fields["limit"] - fields["epoch"])[members]
        batches = -(-n_rows // fields["batch_size"][members])
        total = int((weight * (batches * epochs - fields["minibatch"][members])).sum())
        # Ctrl-C is noticed during validation, too.
        work = (work + (0 if validation is None else weight * validation.counts[members])) * epochs
        return work, total

    def _evaluation(self, members: np.ndarray, placed: Placed, scratch: np.ndarray, stop: np.ndarray) -> JobBuilder:
        """Return the job that evaluates these members between their epochs of training."""
        data_views = views_in_order(placed)
        weighted = placed.data.weights is not None
        base = self.templates.template(EVALUATE, members, data_views.gathers, weighted, data_views.encodes)
        fixed = {"parameters": self._store.parameters, "scratch": scratch, "stop": stop}
        return JobBuilder(base).put(**fixed, **data_views.job_fields())

    def scratch_items(self, read: Sequence[DataViews | None], members: np.ndarray) -> int:
        """Return the elements of a thread's scratch in which any of these members reads any of these views."""
        columns = tables = 0
        for views in read:
            if views is not None and views.encodes:
                numbers, rows = views.encoded(members)
                strides = self._layout.row_stride[self._layout.first_layer[members]]
                columns, tables = max(columns, int(numbers.max())), max(tables, int((rows * strides).max()))
        key = columns, tables
        if key not in self._scratch_items:
            most_rows, itemsize = self.templates.most_input_rows, self._plan.dtype.itemsize
            self._scratch_items[key] = scratch_bytes(self._layout, itemsize, most_rows, *key) // itemsize
        return self._scratch_items[key]

    def parameters(self, members: np.ndarray) -> int:
        """Return the number of parameters of these members, padding included."""
        return int(self._layout.block_size[members].sum())

    def largest_first(self, members: np.ndarray) -> np.ndarray:
        """Positions in `members`, (members,) int64, in the order of the queue."""
        if len(members) == len(self._all_by_size) and np.array_equal(members, self._all_members):
            return self._all_by_size
        return np.argsort(-self._layout.block_size[members], kind="stable")

    def new_scratch(self, items: int | None = None) -> np.ndarray:
        """Allocate a thread's scratch, and write to it. items: elements. Default None: enough without encoded columns.

        Memory that was never written is one page of zeros, mapped at every address, of which the nearest cache holds
        one address at a time. Passes read memory whose contents they drop, such as the gradient before a minibatch's
        first block: on such a page they took ten times as long.
        """
        scratch = allocate(self.scratch_items([], self._all_members) if items is None else items, self._plan.dtype)
        scratch[:] = 0
        return scratch

    @contextlib.contextmanager
    def _scratch(self, n_threads: int, items: int) -> Iterator[np.ndarray]:
        """Yield the addresses of a block of scratch, of so many elements at least, for each thread, (n_threads,) int64.

        Two Python threads may use one pool at the same time: each has its blocks.
        """
        blocks: list[np.ndarray] = []
        while len(blocks) < n_threads:
            try:
                idle = self._idle_scratch.pop()
            except IndexError:
                idle = self.new_scratch(items)
            if len(idle) >= items:
                blocks.append(idle)
        try:
            yield np.array([block.ctypes.data for block in blocks], np.int64)
        finally:
            self._idle_scratch += blocks


def views_in_order(placed: Placed) -> DataViews:
    """Return the unshuffled views of a dataset that this backend has placed."""
    assert isinstance(placed, PlacedInMemory)
    return placed.in_order


def is_small(work: np.ndarray) -> bool:
    """Whether the calling thread runs a task alone. work: multiply-adds of each member."""
    return int(work.sum()) < (SMALL_WORK if len(work) > 1 else _SMALL_WORK_OF_ONE)
