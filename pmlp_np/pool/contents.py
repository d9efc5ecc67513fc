"""Contents: all that a pool holds, as plain data. Every pool is made of one, be it new, loaded, a subset, joined of
others, or unpickled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.contract import Backend
from pmlp_np.data.labels import Names
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.training.history import History

# By position of a member the (weights, biases) that set_weights gave it: weights (fan_in, fan_out), no biases where it
# has none.
Given = dict[int, tuple[list[np.ndarray], list[np.ndarray]]]


@dataclass
class Contents:
    """What a pool holds.

    ids: (n_members,) int64. backend: with the members' parameters; None until they are needed. given_names: names of
    the columns that given weights are for. kept_best: whether best weights are kept. ended: as `Pool.ended_`.
    """

    plan: Plan
    ids: np.ndarray
    backend_name: str
    device: str
    progress: Progress
    records: History
    backend: Backend | None = None
    given: Given = field(default_factory=dict)
    given_names: Names | None = None
    kept_best: bool = False
    ended: str = ""

    @classmethod
    def untrained(cls, plan: Plan, ids: np.ndarray, backend_name: str, device: str) -> Contents:
        """Of members that have not trained."""
        return cls(plan, ids, backend_name, device, Progress.start(plan.n_members), History(plan.n_members))

    def started_afresh(self, plan: Plan) -> Contents:
        """Of the same members with this plan, before any training; weights that were given stay."""
        fresh = Contents.untrained(plan, self.ids, self.backend_name, self.device)
        fresh.given, fresh.given_names = self.given, self.given_names
        if plan.features == self.plan.features and not self.progress.step.any() and not self.kept_best:
            # Its parameters are the initial ones.
            fresh.backend = self.backend
        return fresh

    def take(self, positions: np.ndarray) -> Contents:
        """Of the members at these positions, copies."""
        plan = self.plan.take(positions)
        given = {i: self.given[p] for i, p in enumerate(positions.tolist()) if p in self.given}
        return replace(
            self, plan=plan, ids=self.ids[positions], progress=self.progress.take(positions),
            records=self.records.take(positions), given=given, given_names=self.given_names if given else None,
            backend=None if self.backend is None else self.backend.take(plan, positions),
        )  # fmt: skip

    def create_backend(self) -> Backend:
        """A backend for the plan, with the initial weights of its members, drawn or given."""
        backend = backends.create(self.backend_name, self.device, self.plan)
        backend.initialize(np.arange(self.plan.n_members))
        for position, (weights, biases) in self.given.items():
            backend.store.write(position, weights, biases)
        return backend
