"""HeldMembers: a pool's members by id, their specs and progress, and the backend with their parameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from pmlp_np.backends.contract import Backend
from pmlp_np.base import checks
from pmlp_np.base.copying import Independent, attributes, ensure_owned, versioned
from pmlp_np.base.errors import DataError, FileFormatError, compose, require_memory, show, unknown_name
from pmlp_np.base.exclusion import Trainer, claim_lock, require_no_training
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
    """The state of a pool: the fields of `Contents`, as attributes."""

    # The process and thread that are training the pool, if any.
    _trainer: Trainer | None = None

    @classmethod
    def _from_contents(cls, contents: Contents) -> Any:
        """Return a pool of this class with these contents, which must be valid."""
        pool = object.__new__(cls)
        pool._set_contents(contents)
        return pool

    def _set_contents(self, contents: Contents) -> None:
        """Replace the contents."""
        contents.ids.setflags(write=False)
        # In this order: predictions in another thread use the plan, or the backend with the backend's plan.
        self._plan = contents.plan
        self._backend = contents.backend
        self.backend, self.device, self.ids_ = contents.backend_name, contents.device, contents.ids
        self._progress, self._records = contents.progress, contents.records
        self._assigned, self._assigned_names = contents.assigned, contents.assigned_names
        self._kept_best, self.ended_ = contents.kept_best, contents.ended
        self._everyone = np.arange(len(contents.ids))

    def _contents(self) -> Contents:
        """Return the contents, without copies."""
        return Contents(
            self._plan, self.ids_, self.backend, self.device, self._progress, self._records, self._backend,
            self._assigned, self._assigned_names, self._kept_best, self.ended_,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        require_no_training("copy or pickle", self._trainer)
        return versioned(vars(self._contents()))

    def __setstate__(self, state: Any) -> None:
        values = attributes("Pool", state)
        missing = {field.name for field in fields(Contents)} - values.keys()
        if missing:
            hint = "A pickle is for one version; for permanent storage, use files: save and load."
            got = f"one without {', '.join(sorted(missing))}"
            raise FileFormatError(compose("pickled Pool", "all parts of a pool of this version", got, hint))
        self._set_contents(Contents(**ensure_owned(values)))

    # Properties.

    def __len__(self) -> int:
        return len(self.ids_)

    @property
    def specs(self) -> Specs:
        """Specs of the members, in pool order."""
        return self._plan.specs

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return self._plan.n_features

    @property
    def feature_names_in_(self) -> np.ndarray | None:
        """Names of the columns of X, (n_features,) strings as objects, a copy; None if X of fit had no names."""
        return as_strings(self._plan.names)

    @property
    def n_outputs(self) -> int:
        """Number of values or classes to predict."""
        return self._plan.n_outputs

    @property
    def loss(self) -> str:
        """Name of the loss, with parameters that differ from their defaults: "huber(delta=1.35)"."""
        return str(self._plan.loss)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of weights and computations: float32 or float64."""
        return self._plan.dtype

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """Curves of training, (n_members, n_epochs) float32 by name; read-only."""
        return {name: frozen(curve) for name, curve in self._records.curves.items()}

    @property
    def status_(self) -> list[str]:
        """Status of each member.

        "ok", "diverged", "stopped early", "stopped" (by a callback), or "dropped" (by a search).
        """
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
        """Return the positions of members given by id; None: all. Raises DataError."""
        if members is None:
            return self._everyone
        ids = checks.whole_array(members)
        ids = None if ids is None else np.atleast_1d(ids)
        if ids is None or ids.ndim != 1 or not len(ids):
            hint = "They are whole numbers, as in pool.ids_."
            if getattr(members, "dtype", np.dtype(object)) == np.bool_:
                hint += " Of a mask: pool.ids_[mask]."
            raise DataError(compose("members", "a list of ids", show(members), hint))
        # In most pools, ids are 0, 1, 2, ...: then an id is the position, and no search is needed.
        positions = np.minimum(np.maximum(ids, 0), len(self) - 1)
        if not np.array_equal(self.ids_[positions], ids):
            order = np.argsort(self.ids_, kind="stable")
            positions = order[np.minimum(np.searchsorted(self.ids_, ids, sorter=order), len(self) - 1)]
        missing = self.ids_[positions] != ids
        if missing.any():
            existing = f"{len(self):,} from {self.ids_.min()} to {self.ids_.max()}"
            raise DataError(
                compose("members", f"ids of this pool ({existing})", show(ids[missing][0].item()), "See pool.ids_.")
            )
        return positions

    def _checked_weights(self, weights: str | None) -> str:
        """Return the kind of weights to use; None: the default. Raises DataError."""
        if weights is None:
            return "best" if self._kept_best else "last"
        if weights not in _WEIGHTS:
            raise DataError(unknown_name("weights", weights, _WEIGHTS))
        if weights == "best" and not self._kept_best:
            raise DataError(compose("weights", "'last'", "'best'", "Best weights need early_stopping=True in fit."))
        if weights == "average" and not self._plan.keeps_average:
            hint = "Averaged weights need members with this option: pm.Member(average=0.999)."
            raise DataError(compose("weights", "'last' or 'best'", "'average'", hint))
        return weights

    # Parameters.

    def extract(self, id: int, weights: str | None = None) -> MLP:
        """Return the member with this id as a standalone network, which needs only NumPy. weights: as for `forward`."""
        (position,) = self._positions([id])
        matrices, biases = self._ready().store.read(int(position), self._checked_weights(weights))
        member, features = self.specs[position], self._plan.features
        features_read = None if features is None else features.arrays[features.of[position]]
        return MLP(matrices, biases if member.bias else None, member.activation, self._plan.loss, features_read,
                   None if features_read is None else self.n_features, self._plan.names)  # fmt: skip

    def features_of(self, id: int) -> np.ndarray:
        """Return the columns of X that the member with this id reads, int64."""
        (position,) = self._positions([id])
        features = self._plan.features
        return np.arange(self.n_features) if features is None else features.arrays[features.of[position]].copy()

    def _ready(self) -> Backend:
        """Return the backend; the first call creates and initializes it."""
        if self._backend is not None:
            return self._backend
        contents = self._contents()
        require_room(contents.plan)
        backend = contents.create_backend()
        with claim_lock:
            # Two threads may create a backend at the same time: both must use the same one.
            if self._plan is contents.plan:
                self._backend = self._backend or backend
                return self._backend
        return backend


def require_room(plan: Plan, hint: str = "Train fewer or smaller members, or float32.") -> None:
    """Raise MemoryNeededError if the buffers of a plan do not fit in free memory."""
    slots = np.array([rule.slots for rule in RULES.values()])[plan.specs.rule]
    count = int((plan.parameter_counts() * (1 + slots + plan.keeps_average)).sum())
    require_memory("specs", count * plan.dtype.itemsize, hint)
