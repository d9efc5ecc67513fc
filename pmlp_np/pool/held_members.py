"""HeldMembers: the members that a pool holds, by id: what they are, how far they have come, and the backend that has
their parameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from pmlp_np.backends.contract import Backend
from pmlp_np.base import checks
from pmlp_np.base.copying import Independent, attributes, own, versioned
from pmlp_np.base.errors import DataError, FileFormatError, compose, require_memory, show, unknown_name
from pmlp_np.base.exclusion import Trainer, first_come, require_whole
from pmlp_np.data.labels import as_strings
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.models.mlp import MLP
from pmlp_np.pool.contents import Contents
from pmlp_np.specs.members import Specs
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import STATUS_NAMES
from pmlp_np.training.history import frozen

_WEIGHTS = ("last", "best", "average")


class HeldMembers(Independent):
    """What a pool is, apart from what it does. Its state is `Contents`, part by part as attributes."""

    # Who is training it, if anybody is.
    _trainer: Trainer | None = None

    @classmethod
    def _of(cls, contents: Contents) -> Any:
        """A pool of this class that holds these contents, which were checked."""
        pool = object.__new__(cls)
        pool._hold(contents)
        return pool

    def _hold(self, contents: Contents) -> None:
        """Hold these contents from now on."""
        contents.ids.setflags(write=False)
        # In this order: another thread that asks for predictions goes by the plan, or by the backend's own.
        self._plan = contents.plan
        self._backend = contents.backend
        self.backend, self.device, self.ids_ = contents.backend_name, contents.device, contents.ids
        self._progress, self._records = contents.progress, contents.records
        self._given, self._given_names = contents.given, contents.given_names
        self._kept_best, self.ended_ = contents.kept_best, contents.ended
        self._everyone = np.arange(len(contents.ids))

    def _contents(self) -> Contents:
        """What is held: no copies."""
        return Contents(
            self._plan, self.ids_, self.backend, self.device, self._progress, self._records, self._backend,
            self._given, self._given_names, self._kept_best, self.ended_,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        require_whole("copy or pickle", self._trainer)
        return versioned(vars(self._contents()))

    def __setstate__(self, state: Any) -> None:
        kept = attributes("Pool", state)
        missing = {field.name for field in fields(Contents)} - kept.keys()
        if missing:
            hint = "A pickle is for one version; what is to be kept goes into a file: save and load."
            got = f"one without {', '.join(sorted(missing))}"
            raise FileFormatError(compose("pickled Pool", "all parts of a pool of this version", got, hint))
        self._hold(Contents(**own(kept)))

    # What it is.

    def __len__(self) -> int:
        return len(self.ids_)

    @property
    def specs(self) -> Specs:
        """The members' specs, in pool order."""
        return self._plan.specs

    @property
    def n_features(self) -> int:
        """Columns that X must have."""
        return self._plan.n_features

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None where fit was given none."""
        return as_strings(self._plan.names)

    @property
    def n_outputs(self) -> int:
        """Values or classes that are predicted."""
        return self._plan.n_outputs

    @property
    def loss(self) -> str:
        """The loss's name, with those parameters that are not at their default: "huber(delta=1.35)"."""
        return str(self._plan.loss)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self._plan.dtype

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """Curves of training, (n_members, n_epochs) float32 by name; read-only."""
        return {name: frozen(curve) for name, curve in self._records.curves.items()}

    @property
    def status_(self) -> list[str]:
        """Each member's status: "ok", "diverged", "stopped early", "stopped" (by a callback) or "dropped" (by a search,
        which went on without it)."""
        return [STATUS_NAMES[code] for code in self._progress.status.tolist()]

    def __repr__(self) -> str:
        epochs = self._progress.epoch
        span = f"{epochs.min()}" if epochs.min() == epochs.max() else f"{epochs.min()}-{epochs.max()}"
        features, outputs = (
            f"{n:,} {name}{'s' * (n != 1)}" for n, name in ((self.n_features, "feature"), (self.n_outputs, "output"))
        )
        data = f"{features}, {outputs}, {self.loss}"
        return f"Pool({self.specs!r}; {data}, {self.dtype}, backend {self.backend!r}, {span} epochs)"

    # By id.

    def _positions(self, members: Any) -> np.ndarray:
        if members is None:
            return self._everyone
        ids = checks.whole_array(members)
        ids = None if ids is None else np.atleast_1d(ids)
        if ids is None or ids.ndim != 1 or not len(ids):
            hint = "They are whole numbers, as in pool.ids_."
            if getattr(members, "dtype", np.dtype(object)) == np.bool_:
                hint += " Of a mask: pool.ids_[mask]."
            raise DataError(compose("members", "a list of ids", show(members), hint))
        # Most pools number their members from 0: then an id is its own place, and nothing need be searched.
        found = np.minimum(np.maximum(ids, 0), len(self) - 1)
        if not np.array_equal(self.ids_[found], ids):
            order = np.argsort(self.ids_, kind="stable")
            found = order[np.minimum(np.searchsorted(self.ids_, ids, sorter=order), len(self) - 1)]
        missing = self.ids_[found] != ids
        if missing.any():
            some = f"{len(self):,} from {self.ids_.min()} to {self.ids_.max()}"
            raise DataError(
                compose("members", f"ids of this pool ({some})", show(ids[missing][0].item()), "See pool.ids_.")
            )
        return found

    def _checked_weights(self, weights: str | None) -> str:
        if weights is None:
            return "best" if self._kept_best else "last"
        if weights not in _WEIGHTS:
            raise DataError(unknown_name("weights", weights, _WEIGHTS))
        if weights == "best" and not self._kept_best:
            raise DataError(compose("weights", "'last'", "'best'", "Best weights are kept where early_stopping=True."))
        if weights == "average" and not self._plan.keeps_average:
            hint = "Averaged weights are kept of members that say so: pm.Member(average=0.999)."
            raise DataError(compose("weights", "'last' or 'best'", "'average'", hint))
        return weights

    # Their parameters.

    def extract(self, id: int, weights: str | None = None) -> MLP:
        """The member with this id as a standalone network that needs NumPy alone. weights: as for `forward`."""
        (position,) = self._positions([id])
        matrices, biases = self._ready().store.read(int(position), self._checked_weights(weights))
        member, features = self.specs[position], self._plan.features
        own = None if features is None else features.arrays[features.of[position]]
        return MLP(matrices, biases if member.bias else None, member.activation, self._plan.loss, own,
                   None if own is None else self.n_features, self._plan.names)  # fmt: skip

    def _ready(self) -> Backend:
        """The backend, made and initialized at first need."""
        if self._backend is not None:
            return self._backend
        contents = self._contents()
        require_room(contents.plan)
        backend = contents.create_backend()
        with first_come:
            # Two threads may ask at once: all go on with the same one.
            if self._plan is contents.plan:
                self._backend = self._backend or backend
                return self._backend
        return backend


def require_room(plan: Plan, hint: str = "Train fewer or smaller members, or float32.") -> None:
    """Raise MemoryNeededError where the buffers of a plan would not fit."""
    slots = np.array([rule.slots for rule in RULES.values()])[plan.specs.rule]
    count = int((plan.parameter_counts() * (1 + slots + plan.keeps_average)).sum())
    require_memory("specs", count * plan.dtype.itemsize, hint)
