"""The contents of a pool as plain data.

Every pool is made from a Contents object: a new pool, a loaded or unpickled one, a subset, and a concatenation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.contract import Backend
from pmlp_np.data.labels import Names
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.training.history import History

# From a member's position to the (weights, biases) of a call of set_weights: weights (fan_in, fan_out) per layer, and
# an empty list for a member without biases.
Assigned = dict[int, tuple[list[np.ndarray], list[np.ndarray]]]


@dataclass
class Contents:
    """The contents of a pool.

    ids: (n_members,) int64. backend: with the members' parameters; None until they are needed. assigned: initial
        weights from set_weights. assigned_names: names of the columns that assigned weights are for. kept_best: whether
        best weights are stored. ended: as `Pool.ended_`.
    """

    plan: Plan
    ids: np.ndarray
    backend_name: str
    device: str
    progress: Progress
    records: History
    backend: Backend | None = None
    assigned: Assigned = field(default_factory=dict)
    assigned_names: Names | None = None
    kept_best: bool = False
    ended: str = ""

    @classmethod
    def untrained(cls, plan: Plan, ids: np.ndarray, backend_name: str, device: str) -> Contents:
        """Return the contents of a pool of untrained members."""
        return cls(plan, ids, backend_name, device, Progress.start(plan.n_members), History(plan.n_members))

    def started_afresh(self, plan: Plan) -> Contents:
        """Return the untrained contents of the same members with this plan; assigned weights stay."""
        fresh = Contents.untrained(plan, self.ids, self.backend_name, self.device)
        fresh.assigned, fresh.assigned_names = self.assigned, self.assigned_names
        if plan.features == self.plan.features and not self.progress.step.any() and not self.kept_best:
            # The backend's parameters are the initial ones.
            fresh.backend = self.backend
        return fresh

    def take(self, positions: np.ndarray, plan: Plan | None = None) -> Contents:
        """Return copies of the contents of the members at these positions. plan: theirs. Default None: as it was."""
        plan = self.plan.take(positions) if plan is None else plan
        assigned = {i: self.assigned[p] for i, p in enumerate(positions.tolist()) if p in self.assigned}
        return replace(
            self, plan=plan, ids=self.ids[positions], progress=self.progress.take(positions),
            records=self.records.take(positions), assigned=assigned,
            assigned_names=self.assigned_names if assigned else None,
            backend=None if self.backend is None else self.backend.take(plan, positions),
        )  # fmt: skip

    def create_backend(self) -> Backend:
        """Create a backend for the plan, with random or assigned initial weights."""
        backend = backends.create(self.backend_name, self.device, self.plan)
        backend.initialize(np.arange(self.plan.n_members))
        for position, (weights, biases) in self.assigned.items():
            backend.store.write(position, weights, biases)
        return backend
