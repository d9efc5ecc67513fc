"""What a pool's file holds: every array with its dtype, its shape and the range of its values, by which it is written
and read.

Shapes are functions of the plan. Nothing is made of a file before its header, its list of arrays, and the arrays that
describe members have been checked against each other; the buffers, which are large, then stream into the backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np import backends
from pmlp_np.backends.store import Store
from pmlp_np.base import checks
from pmlp_np.base.archive import Archive, Stream
from pmlp_np.base.errors import FileFormatError, show
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.labels import checked_names
from pmlp_np.formulas.losses import from_plain, to_plain
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.pool.contents import Contents, Given
from pmlp_np.specs.members import Specs
from pmlp_np.specs.storage import COLUMNS, name_tables
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import DIVERGED, STATUS_NAMES, Progress
from pmlp_np.training.history import History
from pmlp_np.training.metrics import METRICS
from pmlp_np.training.monitoring import MONITORS

# Numbers of rows of a table that are read at a time.
_ROWS = 1 << 15
_LONGEST_ENDING = 40


@dataclass(frozen=True)
class Entry:
    """One array of the file.

    dtype: "pool" for the pool's own. shape: by the names of `_Sizes`. low, below: the range of its values, where it has
    one, which NaN is not in; `below` may be a size.
    """

    dtype: str
    shape: tuple[str, ...]
    low: float | None = None
    below: float | str | None = None


_COUNT = 2**31
_PROGRESS = {
    "epoch": Entry("i8", ("members",), 0, "epochs + 1"),
    "minibatch": Entry("i8", ("members",), 0, _COUNT),
    "cursor_key": Entry("u8", ("members",)),
    "loss_sum": Entry("f8", ("members",)),
    "step": Entry("i8", ("members",), 0, 2**53),
    "status": Entry("i8", ("members",), 0, len(STATUS_NAMES)),
    "fit_epochs": Entry("i8", ("members",), 0, _COUNT),
    "rate_factor": Entry("f8", ("members",), 0.0, math.nextafter(1.0, 2.0)),
    "plateau_loss": Entry("f8", ("members",), -math.inf),
    "plateau_wait": Entry("i8", ("members",), 0, _COUNT),
}
_RECORDS = {
    "best_value": Entry("f8", ("members",)),
    "best_epoch": Entry("i8", ("members",), -1, "epochs"),
    "waits_from": Entry("i8", ("members",), -1, "epochs"),
    "validated_on": Entry("u8", ("members",)),
    "due": Entry("i8", ("members",), 0, 2),
}
_SHOWN = Entry("f4", ("members",))
_CURVE = Entry("f4", ("members", "epochs"))
_CURVES = ("loss", *(f"validation_{name}" for name in ("loss", "score", *METRICS)))
_KEYS = {
    "ids": Entry("i8", ("members",), 0),
    "stream_key": Entry("u8", ("members",)),
    "order_key": Entry("u8", ("members",)),
}
_FEATURES = {
    "features/of": Entry("i8", ("members",), 0, "feature_sets"),
    "features/lengths": Entry("i8", ("feature_sets",), 1),
    "features/indices": Entry("i8", ("feature_indices",), 0, "features"),
}
# Weights that set_weights gave: by position in the pool, and layer by layer, as they lie in the buffers.
_GIVEN = {
    "given/members": Entry("i8", ("given",), 0, "members"),
    "given/values": Entry("pool", ("given_values",)),
}
_BUFFERS = {
    "state/parameters": Entry("pool", ("parameters",)),
    "state/slots": Entry("pool", ("slots",)),
    "state/best": Entry("pool", ("parameters",)),
    "state/average": Entry("pool", ("parameters",)),
}
_HEADER = (
    "n_features", "n_outputs", "backend", "device", "loss", "dtype", "kept_best", "ended", "monitor", "feature_names",
)  # fmt: skip


# Writing.


def header_of(contents: Contents) -> dict[str, Any]:
    """The header's plain values."""
    plan = contents.plan
    names = None if plan.names is None else list(plan.names)
    values = (plan.n_features, plan.n_outputs, contents.backend_name, contents.device, to_plain(plan.loss),
              plan.dtype.name, contents.kept_best, contents.ended, contents.records.monitor, names)  # fmt: skip
    return dict(zip(_HEADER, values, strict=True))


def arrays_of(contents: Contents, store: Store) -> dict[str, np.ndarray | Stream]:
    """All arrays by name, in the types of the table above. Large ones are not made, but streamed."""
    plan, progress, records, given = contents.plan, contents.progress, contents.records, contents.given
    specs: dict[str, Any] = plan.specs.columns()
    if not specs["options"].strides[0]:
        # Where all members have the same options, one row stands for all.
        specs["options"] = specs["options"][:1]
    found: dict[str, Any] = {f"specs/{name}": column for name, column in specs.items()}
    found |= {"ids": contents.ids, "stream_key": plan.stream_key, "order_key": plan.order_key}
    if plan.features is not None:
        arrays = plan.features.arrays
        lengths = np.array([len(array) for array in arrays], np.int64)
        indices = Stream(np.dtype(np.int64), (int(lengths.sum()),), lambda: iter(arrays))
        found |= {"features/of": plan.features.of, "features/lengths": lengths, "features/indices": indices}
    found |= {f"progress/{name}": getattr(progress, name) for name in _PROGRESS}
    found |= {name: getattr(records, name) for name in _RECORDS}
    found |= {f"curves/{name}": curve for name, curve in records.curves.items()}
    found |= {f"shown/{name}": column for name, column in records.shown.items()}
    members = np.array(sorted(given), np.int64)
    found["given/members"] = members
    sizes = plan.parameter_counts()[members]
    found["given/values"] = Stream(plan.dtype, (int(sizes.sum()),), lambda: _tensors(given, members))
    for name, size in store.buffers().items():
        found[f"state/{name}"] = Stream(plan.dtype, (size,), lambda name=name: store.stream(name))  # type: ignore[misc]
    return found


def _tensors(given: Given, members: np.ndarray) -> Iterator[np.ndarray]:
    for m in members.tolist():
        weights, biases = given[m]
        for k, matrix in enumerate(weights):
            yield matrix.ravel()
            if biases:
                yield biases[k]


# Reading.


class PoolFile:
    """The parts of a pool's file, each checked before it is returned."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.header = head = archive.header
        self._refuse_others("header", set(head), set(_HEADER), set(_HEADER))
        checks.whole("n_features", head["n_features"], 1)
        if not isinstance(head["kept_best"], bool):
            archive.refuse("kept_best that is true or false", show(head["kept_best"]))
        if not isinstance(head["ended"], str) or len(head["ended"]) > _LONGEST_ENDING:
            archive.refuse("how training ended", show(head["ended"]))
        if not isinstance(head["monitor"], str) or head["monitor"] not in MONITORS:
            hint = "Open it with the version of pmlp_np that wrote it."
            archive.refuse("a metric to monitor", show(head["monitor"]), hint)
        self.names = checked_names("feature_names", head["feature_names"], head["n_features"])
        self.dtype = checks.dtype(head["dtype"])
        self.loss = from_plain(head["loss"])
        checks.whole("n_outputs", head["n_outputs"], 2 if self.loss.targets == "labels" else 1)
        self.loss.check_outputs(head["n_outputs"])
        self.backend, _ = backends.check(head["backend"], head["device"])
        self.curves, self.shown = (
            [name.removeprefix(prefix) for name in archive.listed if name.startswith(prefix)]
            for prefix in ("curves/", "shown/")
        )
        self.sizes = {"features": int(head["n_features"])}
        self._check_names()
        self._measure()

    def specs(self) -> Specs:
        """The members' specs, every value checked."""
        listed = self.archive.listed
        names = [name for name in listed if name.startswith("specs/")]
        columns = {name.removeprefix("specs/"): self.archive.read(name) for name in names}
        try:
            found = Specs.from_columns(columns, copy=False)
        except FileFormatError as error:
            raise FileFormatError(f"{self.archive.name}, {error}") from error
        tables = {name for name in columns if name not in COLUMNS}
        known = set(name_tables()) | {f"{name}_names" for name in columns["option_names"].tolist()}
        self._refuse_others("specs", tables, known, set())
        if len(found) != self.sizes["members"] or not len(found):
            self.archive.refuse(f"specs of {self.sizes['members']:,} members", f"{len(found):,}")
        return found

    def keys(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids, stream keys, order keys)."""
        ids, stream_key, order_key = (self._read(name, entry) for name, entry in _KEYS.items())
        return checks.ids(ids, len(ids)), stream_key, order_key

    def features(self) -> Sets | None:
        """The features that members read, None for all."""
        if "features/of" not in self.archive.listed:
            return None
        columns = {name.removeprefix("features/"): self._read(name, entry) for name, entry in _FEATURES.items()}
        stops = np.cumsum(columns["lengths"])
        # Of numbers below 2**63 a sum that is too large for 64 bits falls somewhere.
        if stops[-1] != len(columns["indices"]) or (np.diff(stops) <= 0).any():
            self.archive.refuse("features/lengths that add up to features/indices", "others")
        return Sets.from_columns(columns)

    def check_plan(self, plan: Plan) -> None:
        """The sizes of buffers, which follow from the plan: before anything is made of them."""
        counts = plan.parameter_counts()
        scaled = plan.specs.option("feature_scale") != 0.0
        sizes = counts + np.where(scaled, plan.fan_in, 0)
        slots = np.array([rule.slots for rule in RULES.values()], np.int64)[plan.specs.rule]
        self.sizes |= {"parameters": int(sizes.sum()), "slots": int((sizes * slots).sum())}
        members = self._read("given/members", _GIVEN["given/members"])
        if (np.diff(members) <= 0).any():
            self.archive.refuse("given/members in order", "others")
        self.sizes["given_values"] = int(counts[members].sum())
        expected = {"state/parameters": True, "state/slots": True, "state/best": self.header["kept_best"]}
        expected["state/average"] = plan.keeps_average
        for name, entry in (_BUFFERS | _GIVEN).items():
            there = name in self.archive.listed
            if not expected.get(name, True) and there:
                self.archive.refuse(f"no array {name} in such a pool", "one")
            if expected.get(name, True):
                self._check_listed(name, entry)

    def progress(self) -> Progress:
        """How far members have come."""
        return Progress(**{name: self._read(f"progress/{name}", entry) for name, entry in _PROGRESS.items()})

    def records(self) -> History:
        """Curves, and each member's best."""
        n, n_epochs = self.sizes["members"], self.sizes["epochs"]
        records = History(n)
        records.make_room(self.curves, n_epochs)
        for name in self.curves:
            with self.archive.elements(f"curves/{name}") as take:
                for start in range(0, n, rows := max(1, _ROWS * 64 // max(n_epochs, 64))):
                    part = slice(start, min(start + rows, n))
                    values = take((part.stop - part.start) * n_epochs)
                    records.put(name, part, values.reshape(part.stop - part.start, n_epochs))
        for name, entry in _RECORDS.items():
            setattr(records, name, self._read(name, entry))
        records.shown = {name: self._read(f"shown/{name}", _SHOWN) for name in self.shown}
        records.monitor = self.header["monitor"]
        return records

    def given(self, plan: Plan) -> Given:
        """Weights that set_weights gave."""
        found: Given = {}
        widths, fan_in = plan.specs, np.broadcast_to(plan.fan_in, plan.n_members)
        members = self.archive.read("given/members")
        with self.archive.elements("given/values") as take:
            for m in members.tolist():
                sizes = [int(fan_in[m]), *widths[m].hidden, plan.n_raw_outputs]
                weights, biases = found.setdefault(m, ([], []))
                for rows, columns in zip(sizes[:-1], sizes[1:], strict=True):
                    weights.append(take(rows * columns).reshape(rows, columns))
                    if plan.specs.bias[m]:
                        biases.append(take(columns))
                if not all(np.isfinite(each).all() for each in (*weights, *biases)):
                    self.archive.refuse("given/values that are finite", "others")
        return found

    def restore(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Fill the buffers."""
        counts = plan.parameter_counts() + np.where(plan.specs.option("feature_scale") != 0.0, plan.fan_in, 0)
        # An epoch ends with a look at a member's parameters: who has one that is no number has diverged.
        whole = (progress.status != DIVERGED) & (progress.minibatch == 0)
        for name in _BUFFERS:
            if name in self.archive.listed:
                with self.archive.elements(name) as take:
                    found = self._finite(take, np.cumsum(counts), whole) if name == "state/parameters" else take
                    store.restore(name.removeprefix("state/"), found)

    def _finite(self, take: Callable[[int], np.ndarray], ends: np.ndarray, whole: np.ndarray) -> Any:
        """`take`, which refuses what is no number in the parameters of members that are whole."""
        at = 0

        def checked(n: int) -> np.ndarray:
            nonlocal at
            values = take(n)
            if not np.isfinite(values).all():
                odd = at + np.flatnonzero(~np.isfinite(values))
                if whole[np.searchsorted(ends, odd, side="right")].any():
                    self.archive.refuse("finite parameters of members that have not diverged", "others")
            at += n
            return values

        return checked

    # The table.

    def _check_names(self) -> None:
        listed = {name for name in self.archive.listed if not name.startswith("specs/")}
        features = set(_FEATURES) & listed
        needed = {*_KEYS, *_RECORDS, *_GIVEN, *(f"progress/{name}" for name in _PROGRESS), "state/parameters"}
        needed |= {"state/slots"} | (set(_FEATURES) if features else set())
        known = needed | set(_BUFFERS) | {f"{kind}/{name}" for kind in ("curves", "shown") for name in _CURVES}
        self._refuse_others("arrays", listed, known, needed)
        columns = {name.removeprefix("specs/") for name in self.archive.listed if name.startswith("specs/")}
        self._refuse_others("specs", columns, columns, {*COLUMNS, "option_names"})

    def _refuse_others(self, what: str, found: set[str], known: set[str], needed: set[str]) -> None:
        for missing in sorted(needed - found):
            self.archive.refuse(f"{what} with {missing!r}", "none of that name")
        for extra in sorted(found - known):
            self.archive.refuse(f"{what} without {show(extra)}", "one of that name")

    def _measure(self) -> None:
        """The sizes that are free, each from the one array that tells it; dtypes and shapes of what goes by them."""
        sources = [("members", "ids", 0), ("feature_sets", "features/lengths", 0), ("given", "given/members", 0),
                   ("feature_indices", "features/indices", 0)]  # fmt: skip
        sources += [("epochs", f"curves/{name}", 1) for name in self.curves[:1]]
        for size, name, axis in sources:
            if name in self.archive.listed:
                shape = self.archive.listed[name].shape
                self.sizes[size] = shape[axis] if len(shape) > axis else -1
        self.sizes.setdefault("epochs", 0)
        # What is read into memory must be known to be no larger than a pool's.
        if self.sizes["epochs"] >= _COUNT or self.sizes.get("feature_sets", 1) > self.sizes["members"]:
            self.archive.refuse("curves and feature sets of its members", "more")
        for name, dtype in COLUMNS.items():
            place = self.archive.listed[f"specs/{name}"]
            if place.dtype != dtype or len(place.shape) != (2 if name in ("hyperparameters", "options") else 1):
                self.archive.refuse(f"array specs/{name} of {np.dtype(dtype)}", f"{place.dtype} {place.shape}")
        entries = {**_KEYS, **_RECORDS, **{f"progress/{name}": entry for name, entry in _PROGRESS.items()}}
        entries |= {f"curves/{name}": _CURVE for name in self.curves}
        entries |= {f"shown/{name}": _SHOWN for name in self.shown}
        entries |= _FEATURES if "features/of" in self.archive.listed else {}
        for name, entry in entries.items():
            self._check_listed(name, entry)

    def _check_listed(self, name: str, entry: Entry) -> None:
        place = self.archive.listed.get(name)
        dtype = self.dtype if entry.dtype == "pool" else np.dtype(entry.dtype)
        shape = tuple(self.sizes[size] for size in entry.shape)
        if place is None or place.dtype != dtype or place.shape != shape:
            got = "none" if place is None else f"{place.dtype} {place.shape}"
            self.archive.refuse(f"array {name} of {dtype}, shape {shape}", got)

    def _read(self, name: str, entry: Entry) -> np.ndarray:
        """An array whose dtype, shape and values are as the table says."""
        self._check_listed(name, entry)
        values = self.archive.read(name)
        below = entry.below
        if isinstance(below, str):
            below = self.sizes[below.removesuffix(" + 1")] + below.endswith(" + 1")
        good = entry.low is None or (values >= entry.low).all()
        if not good or (below is not None and not (values < below).all()):
            limits = f"from {entry.low}" + ("" if below is None else f" to below {below}")
            self.archive.refuse(f"array {name} of numbers {limits}", "others")
        return values
