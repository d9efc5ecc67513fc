"""The Numba backend: the verbs of the contract, as tasks of compiled code on the buffers of a store."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.backends.contract import MEAN_GROUP, Control
from pmlp_np.backends.numba import task_runner, threads
from pmlp_np.backends.numba.compiling import pass_address
from pmlp_np.backends.numba.job import EVALUATE, FORWARD, INITIALIZE, MEAN
from pmlp_np.backends.numba.passes.part_sums import part_pass
from pmlp_np.backends.numba.prepared_forward import PreparedForward
from pmlp_np.backends.numba.simd import KINDS
from pmlp_np.backends.numba.task_runner import TaskRunner, views_in_order
from pmlp_np.backends.numba.training_round import TrainingRound
from pmlp_np.backends.numba.views import PlacedInMemory
from pmlp_np.backends.store import Store, StoredBackend
from pmlp_np.base.arrays import in_turn
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.epoch_rule import EpochRecord, EpochRule
from pmlp_np.state.initial_scales import initial_scales
from pmlp_np.state.layout import PoolLayout
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.state.training_state import TrainingState

# Rows on which a thread adds up a group of members at a time: whole blocks of rows of any member.
_SUMS_ROWS, _LEAST_SUMS_ROWS = 1024, 128
# Shares of a mean for each thread, at least, so that no thread waits long for the last one.
_SHARES = 4


class NumbaBackend(StoredBackend):
    """A pool's members in main memory, trained by compiled code; operations as in `contract.Backend`."""

    def __init__(self, plan: Plan, device: str = "cpu") -> None:
        self.plan, self.device = plan, device
        lanes = KINDS[plan.dtype.name].lanes
        self.layout = layout = PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, lanes)
        # `hidden_backward` reads whole groups of weight rows: memory behind the last block must be readable.
        self.store = Store(plan, layout, slack=lanes * layout.widest_row())
        self.runner = TaskRunner(plan, layout, self.store)
        self._prepared: PreparedForward | None = None

    def _arguments(self) -> tuple[Any, ...]:
        return (self.device,)

    def initialize(self, members: np.ndarray) -> None:
        weight_scale, bias_scale = initial_scales(self.plan.specs, self.layout)
        self.runner.run(INITIALIZE, members, Control(), weight_scale=weight_scale, bias_scale=bias_scale)
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
        assert isinstance(placed, PlacedInMemory)
        TrainingRound(self, self.runner, state, rule, record, control).train(members, placed, epochs)

    def evaluate(
        self, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> tuple[np.ndarray, np.ndarray]:
        loss, score = np.full(self.plan.n_members, np.nan), np.full(self.plan.n_members, np.nan)
        self.runner.run(EVALUATE, members, control, views_in_order(placed), weights, loss=loss, score=score)
        return loss[members], score[members]

    def forward(self, members: np.ndarray, placed: Placed, out: np.ndarray, weights: str, control: Control) -> None:
        x = placed.data.x
        if len(x) == 1 and placed.data.rows is None and isinstance(x[0], np.ndarray):
            buffer = self.store.weights(weights)
            prepared = self._prepared
            if prepared is None or not prepared.serves(members, buffer):
                self._prepared = prepared = PreparedForward(self.runner, members, buffer)
            if prepared.parameters * len(x[0]) < task_runner.SMALL_WORK and prepared.run(x[0], out):
                return
        self.runner.run(FORWARD, members, control, views_in_order(placed), weights, out=out)

    def mean(
        self, members: np.ndarray, placed: Placed, part: str, out: np.ndarray, weights: str, control: Control
    ) -> None:
        n, n_parts = out.shape
        groups = -(-len(members) // MEAN_GROUP)
        rows = _SUMS_ROWS
        while rows > _LEAST_SUMS_ROWS and groups * -(-n // rows) < _SHARES * threads.slots_of(control):
            rows //= 2
        # Whole groups of rows: what lies behind the last row is written, too.
        line = -(-n // _LEAST_SUMS_ROWS) * _LEAST_SUMS_ROWS
        sums = np.zeros((groups, n_parts, line))
        add_part = pass_address(self.plan.dtype.name, part_pass(self.plan.loss, part))
        self.runner.run(
            MEAN, members, control, views_in_order(placed), weights, entries=groups * -(-n // rows), sums=sums,
            n_parts=n_parts, sums_line=line, n_summed=len(members), sums_rows=rows, add_part_pass=add_part,
        )  # fmt: skip
        out[...] = in_turn(sums)[:, :n].T / len(members)
