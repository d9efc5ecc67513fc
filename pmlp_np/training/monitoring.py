"""What is watched while members train: curves and each member's best, metrics on validation data, and callbacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from pmlp_np import checks
from pmlp_np.backends.base import Backend, Control, Rows
from pmlp_np.copying import Independent, attributes, versioned
from pmlp_np.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas.losses import Loss
from pmlp_np.training.measuring import finished_score, measured
from pmlp_np.training.metrics import METRIC_ALIASES, METRICS, canonical

# What is measured in any case, and may be monitored as metrics may.
_OWN = ("loss", "score")
_PREFIX = "validation_"
# Members whose curves are copied at a time.
_AT_ONCE = 1 << 12
# What `Watch.monitor` may be.
MONITORS = ("", *_OWN, *METRICS)


class Records(Independent):
    """What training leaves behind, by position: curves by name, and each member's best so far.

    best_value: (n_members,) float64, what was best of the monitored curve, negated where it grows: smaller is better,
        infinity where there is none yet. NaN where another curve chose the best, to be measured when it is needed.
    best_epoch: (n_members,) int64, -1 where there is none: such a member predicts with its last weights. waits_from:
        (n_members,) int64, at least -1: the epoch from which patience counts, the best one or a later one.
    shown: by validation curve (n_members,) float32, what the weights that a member predicts with (its best, else its
        last) were measured at, NaN where they were not. validated_on: (n_members,) uint64, any value: the key of the
        validation data that this was measured on, 0 where there is none.
    due: (n_members,) int64, 1 for those whose last epoch has not been validated, because Ctrl-C came first, else 0.
    monitor: as `Watch` has it.
    """

    def __init__(self, n_members: int) -> None:
        self.n_members = n_members
        self.n_epochs = 0
        # (room for epochs, n_members): an epoch's values lie side by side, and there may be room for more.
        self._rooms: dict[str, np.ndarray] = {}
        self.best_value = np.full(n_members, np.inf)
        self.best_epoch = np.full(n_members, -1, np.int64)
        self.waits_from = np.full(n_members, -1, np.int64)
        self.shown: dict[str, np.ndarray] = {}
        self.validated_on = np.zeros(n_members, np.uint64)
        self.due = np.zeros(n_members, np.int64)
        self.monitor = ""

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Curves (n_members, n_epochs) float32 by name, NaN where nothing is known: views of what is kept."""
        return {name: room[: self.n_epochs].T for name, room in self._rooms.items()}

    def make_room(self, names: Iterable[str], n_epochs: int) -> None:
        """Curves of these names, and all at least n_epochs long.

        One that grows again and again, as with `partial_fit`, doubles its room, so that few calls copy it.
        """
        self.n_epochs = max(self.n_epochs, n_epochs)
        for name in dict.fromkeys([*self._rooms, *names]):
            room = self._rooms.get(name, np.zeros((0, self.n_members), np.float32))
            if len(room) < self.n_epochs or name not in self._rooms:
                larger = np.full((max(self.n_epochs, 2 * len(room)), self.n_members), np.nan, np.float32)
                larger[: len(room)] = room
                self._rooms[name] = larger

    def enter(self, name: str, members: np.ndarray, epoch: np.ndarray, values: np.ndarray) -> None:
        """Note one value of each of these members; one too large for float32 becomes infinity."""
        with np.errstate(over="ignore"):
            self._rooms[name][epoch, members] = values

    def show(self, members: np.ndarray, values: Mapping[str, np.ndarray], keys: np.ndarray) -> None:
        """Note what the weights that these members predict with were measured at, by curve, on data of these keys."""
        for name in values.keys() - self.shown.keys():
            self.shown[name] = np.full(self.n_members, np.nan, np.float32)
        with np.errstate(over="ignore"):
            for name, column in self.shown.items():
                column[members] = values.get(name, np.nan)
        self.validated_on[members] = keys

    def keep(self, members: np.ndarray, value: np.ndarray, epoch: np.ndarray) -> None:
        """These members are at their best, at the end of this epoch."""
        self.best_value[members], self.best_epoch[members], self.waits_from[members] = value, epoch, epoch

    def drop(self, members: np.ndarray, epochs: np.ndarray) -> None:
        """Forget the best of members whose weights have changed since, unmeasured, in so many `epochs` of their
        life."""
        self.best_value[members], self.best_epoch[members], self.waits_from[members] = np.inf, -1, epochs - 1
        self.show(members, {}, np.zeros(len(members), np.uint64))

    def forget(self, member: int) -> None:
        """A member that starts afresh."""
        for room in self._rooms.values():
            room[:, member] = np.nan
        self.drop(np.array([member]), np.array([0]))
        self.due[member] = 0

    def put(self, name: str, members: slice, curve: np.ndarray) -> None:
        """Some members' values of a curve, (members, epochs)."""
        self._rooms[name][: curve.shape[1], members] = curve.T

    def take(self, positions: np.ndarray) -> Records:
        part = Records(len(positions))
        part.make_room(self._rooms, self.n_epochs)
        for name, curve in self.curves.items():
            for start in range(0, len(positions), _AT_ONCE):
                some = positions[start : start + _AT_ONCE]
                part.put(name, slice(start, start + len(some)), curve[some])
        for name in COLUMNS:
            setattr(part, name, getattr(self, name)[positions])
        part.shown = {name: column[positions] for name, column in self.shown.items()}
        part.monitor = self.monitor
        return part

    def follow(self, monitor: str) -> None:
        """Have another curve decide from now on: what was best by the old one is still, until it is measured anew."""
        if decider(monitor) != decider(self.monitor):
            self.best_value[self.best_epoch >= 0] = np.nan
        self.monitor = monitor


# What is kept of each member, besides curves and what is shown.
COLUMNS = ("best_value", "best_epoch", "waits_from", "validated_on", "due")


def joined(parts: list[Records]) -> Records:
    """The records of all members, one part behind the other. Parts that followed different curves are followed no
    more."""
    agreed = {part.monitor for part in parts if part.curves}
    monitor = agreed.pop() if len(agreed) == 1 else ""
    whole, start = Records(sum(part.n_members for part in parts)), 0
    whole.make_room([name for part in parts for name in part.curves], max(part.n_epochs for part in parts))
    for part in parts:
        members = slice(start, start := start + part.n_members)
        for name, curve in part.curves.items():
            whole.put(name, members, curve)
        best = Records(part.n_members)
        best.best_value, best.best_epoch, best.monitor = part.best_value.copy(), part.best_epoch, part.monitor
        best.follow(monitor)
        for name in COLUMNS:
            getattr(whole, name)[members] = getattr(best if name == "best_value" else part, name)
        for name, column in part.shown.items():
            whole.shown.setdefault(name, np.full(whole.n_members, np.nan, np.float32))[members] = column
    whole.monitor = monitor
    return whole


def decider(monitor: str) -> str:
    """What decides which epoch is best."""
    return monitor or "loss"


def ranker(monitor: str) -> str:
    """What members are ranked by."""
    return monitor or "score"


def grows(name: str, loss: Loss) -> bool:
    """Whether larger is better."""
    return METRICS[name].grows if name in METRICS else name == "score" and loss.score_grows


def metric_names(metrics: Any) -> tuple[str, ...]:
    """The argument `metrics` as the metrics' own names, each once. DataError for unknown ones."""
    if metrics is None or isinstance(metrics, str):
        metrics = () if metrics is None else (metrics,)
    if not isinstance(metrics, (tuple, list)):
        raise DataError(compose("metrics", "a list of names", show(metrics), f"There are {', '.join(METRICS)}."))
    return tuple(dict.fromkeys(canonical("metrics", name) for name in metrics))


def monitor_name(monitor: Any, metrics: tuple[str, ...]) -> str:
    """The argument `monitor` as a name of `Watch`. DataError for what is not computed."""
    if monitor is None:
        return ""
    name = monitor.removeprefix(_PREFIX) if isinstance(monitor, str) else monitor
    name = METRIC_ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in METRICS and name not in metrics:
        mend = f"Have it computed: metrics={[*metrics, name]}."
        raise DataError(compose("monitor", f"one of {', '.join([*_OWN, *metrics])}", show(monitor), mend))
    if not isinstance(name, str) or name not in (*_OWN, *metrics):
        raise DataError(unknown_name("monitor", monitor, (*_OWN, *metrics)))
    return name


@dataclass(frozen=True)
class Watch:
    """What is measured on validation data after each epoch, and which of it decides.

    metrics: names besides the loss and its own score. monitor: "loss", "score" or a metric by which best epochs are
    found and members are ranked; "" for the loss and the score.
    """

    loss: Loss
    metrics: tuple[str, ...] = ()
    monitor: str = ""

    @property
    def curves(self) -> list[str]:
        """Names of what is measured, as in the history."""
        return [_PREFIX + name for name in (*_OWN, *self.metrics)]

    def by_curve(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What `measure` found, by the curves' names."""
        return dict(zip(self.curves, values.values(), strict=True))

    @property
    def shown(self) -> str:
        """The curve that people look at first."""
        return _PREFIX + ranker(self.monitor)

    def measure(
        self, backend: Backend, members: np.ndarray, data: Rows, weights: str, control: Control
    ) -> dict[str, np.ndarray]:
        """Loss, score and metrics of these members, (len(members),) float64 by name."""
        means = backend.evaluate(members, data, weights, control)
        values = {"loss": means[0], "score": finished_score(self.loss, means)}
        return values | measured(self.metrics, self.loss, backend, members, data, weights, control, means)

    def oriented(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """What decides, negated where it grows: smaller is better."""
        name = decider(self.monitor)
        return -values[name] if grows(name, self.loss) else values[name]


def measure_again(
    records: Records,
    watch: Watch,
    backend: Backend,
    validation: Rows,
    keys: np.ndarray,
    standing: np.ndarray,
    to_keep: np.ndarray,
    epochs: np.ndarray,
    control: Control,
) -> None:
    """Before members train: measure on this validation data what was measured on other data, or never, so that all that
    is kept and shown can be compared with what comes.

    keys: (n_members,) of the validation data. standing: a mask of the members that have trained, and whose last weights
    are usable; those without a best one among `to_keep` (a mask) are at their best where they stand, after so many
    `epochs` (n_members,) of their life.
    """
    other, has_best = records.validated_on != keys, records.best_epoch >= 0
    members = np.flatnonzero(has_best & (other | np.isnan(records.best_value)))
    if len(members):
        values = watch.measure(backend, members, validation, "best", control)
        found = watch.oriented(values)
        records.best_value[members] = np.where(np.isnan(found), np.inf, found)
        records.show(members, watch.by_curve(values), keys[members])
    members = np.flatnonzero(~has_best & standing & (other | to_keep))
    if len(members):
        values = watch.measure(backend, members, validation, "last", control)
        records.show(members, watch.by_curve(values), keys[members])
        found = watch.oriented(values)
        kept = to_keep[members] & (found < np.inf)
        if kept.any():
            backend.keep_best(members[kept])
            records.keep(members[kept], found[kept], epochs[members[kept]] - 1)


def frozen(values: np.ndarray) -> np.ndarray:
    """The array as a view that cannot be written to."""
    values = values.view()
    values.flags.writeable = False
    return values


@dataclass(frozen=True, eq=False)
class EpochEnd:
    """What a callback of `fit` is told after an epoch; nothing in it can be changed.

    epoch: epochs that this call of `fit` or `partial_fit` has trained, from 1.
    ids: (k,) int64, the ids of the members that trained in this epoch and are still in, in pool order.
    epochs: (k,) int64, the epochs that each of them has trained in its life.
    curves: this epoch's values, (k,) float32, by the names of `Pool.history_`.
    elapsed: seconds since training began.

        def halve(end):
            if end.epoch == 5:
                order = np.argsort(end.curves["validation_loss"])
                end.stop(end.ids[order[len(order) // 2 :]])

        pool.fit(X, y, epochs=20, validation_data=(Xv, yv), callbacks=[halve])
    """

    epoch: int
    ids: np.ndarray
    epochs: np.ndarray
    curves: Mapping[str, np.ndarray]
    elapsed: float
    _pool_ids: np.ndarray = field(repr=False)
    _wishes: list[np.ndarray | None] = field(repr=False, default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return versioned(vars(self) | {"curves": dict(self.curves)})

    def __setstate__(self, state: Any) -> None:
        kept = attributes("EpochEnd", state)
        curves = {name: frozen(np.array(curve)) for name, curve in kept["curves"].items()}
        arrays = {name: frozen(np.array(kept[name])) for name in ("ids", "epochs", "_pool_ids")}
        vars(self).update(kept | arrays | {"curves": MappingProxyType(curves)})

    def __copy__(self) -> EpochEnd:
        return copy.deepcopy(self)

    def stop(self, ids: Any = None) -> None:
        """Have these members leave; without ids, end training after this epoch.

        Members that leave have the status "stopped". They stay out of later calls of `partial_fit` but for those that
        name them in `members`. Raises DataError for ids that are none of the pool's.
        """
        if ids is not None:
            if not np.size(ids):
                return
            found = checks.whole_array(ids)
            if found is None or not np.isin(found, self._pool_ids).all():
                raise DataError(compose("ids", "ids of this pool", show(ids), "See EpochEnd.ids."))
            ids = found
        self._wishes.append(ids)

    def _leaving(self) -> tuple[np.ndarray, bool]:
        """Whom callbacks want to leave, a mask of the pool's members, and whether everything is to end."""
        leaving = np.zeros(len(self._pool_ids), bool)
        for ids in self._wishes:
            if ids is not None:
                leaving |= np.isin(self._pool_ids, ids)
        return leaving, any(ids is None for ids in self._wishes)


Callback = Callable[[EpochEnd], Any]


def call_back(
    callbacks: Iterable[Callback],
    records: Records,
    pool_ids: np.ndarray,
    members: np.ndarray,
    epochs: np.ndarray,
    epoch: int,
    elapsed: float,
) -> tuple[np.ndarray, bool]:
    """Tell callbacks of an epoch of these members, who have now trained for so many `epochs`. Returns (who is to leave,
    whether all is to end)."""

    curves = {name: frozen(curve[members, epochs - 1]) for name, curve in records.curves.items()}
    end = EpochEnd(
        epoch, frozen(pool_ids[members]), frozen(epochs), MappingProxyType(curves), elapsed, frozen(pool_ids)
    )
    for callback in callbacks:
        callback(end)
    return end._leaving()
