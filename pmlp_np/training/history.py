"""History: the records of training, which are curves and each member's best epoch so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pmlp_np.base.copying import Independent
from pmlp_np.state.epoch_rule import EpochRecord

# Members whose curves are copied at a time.
_AT_ONCE = 1 << 12


class History(Independent):
    """Records of training by a member's position in the pool: curves by name, and each member's best epoch so far.

    best_value: (n_members,) float64, the best value of the monitored curve, negated if larger is better: smaller is
        always better here. Infinity before the first; NaN where another curve chose the best epoch (measured on
        demand).
    best_epoch: (n_members,) int64, -1 where there is none: such a member predicts with its last weights.
    waits_from: (n_members,) int64, at least -1: the epoch from which patience counts, the best one or a later one.
    shown: by validation curve (n_members,) float32, the values of the weights that a member predicts with (best or
        last); NaN where they were not measured.
    validated_on: (n_members,) uint64, the key of the validation data behind `shown`, 0 where there is none.
    due: (n_members,) int64, 1 where Ctrl-C came before the last epoch was validated, else 0.
    monitor: as in `Watch`.
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
        """Curves (n_members, n_epochs) float32 by name, NaN where there is no value. Views, not copies."""
        return {name: room[: self.n_epochs].T for name, room in self._rooms.items()}

    def make_room(self, names: Iterable[str], n_epochs: int) -> None:
        """Add curves of these names where they are missing, and make all curves at least n_epochs long.

        A curve that grows in many calls, as with `partial_fit`, doubles its capacity, so that few calls copy it.
        """
        self.n_epochs = max(self.n_epochs, n_epochs)
        for name in dict.fromkeys([*self._rooms, *names]):
            room = self._rooms.get(name, np.zeros((0, self.n_members), np.float32))
            if len(room) < self.n_epochs or name not in self._rooms:
                larger = np.full((max(self.n_epochs, 2 * len(room)), self.n_members), np.nan, np.float32)
                larger[: len(room)] = room
                self._rooms[name] = larger

    @property
    def extent(self) -> tuple[int, tuple[str, ...]]:
        """The number of epochs, and the names of curves, that there is room for."""
        return self.n_epochs, tuple(self._rooms)

    def shorten(self, n_epochs: int, names: Iterable[str]) -> None:
        """Take back room that nothing was entered into: to an earlier `extent`."""
        self.n_epochs, self._rooms = n_epochs, {name: self._rooms[name] for name in names}

    def enter(self, name: str, members: np.ndarray, epoch: np.ndarray, values: np.ndarray) -> None:
        """Store one value of each of these members. A value too large for float32 becomes infinity."""
        with np.errstate(over="ignore"):
            self._rooms[name][epoch, members] = values

    def enter_lines(self, name: str, members: np.ndarray, start: np.ndarray, lines: np.ndarray) -> None:
        """Store the values of consecutive epochs of these members.

        lines: (epochs, n_members), start: (n_members,), each member's epoch of the first line. Epochs for which there
        is no room are left out.
        """
        room, (first, last) = self._rooms[name], (int(start[members].min()), int(start[members].max()))
        with np.errstate(over="ignore"):
            if first == last:
                n = min(len(lines), self.n_epochs - first)
                if len(members) == self.n_members:
                    room[first : first + n] = lines[:n]
                else:
                    room[first : first + n, members] = lines[:n, members]
                return
            for k, line in enumerate(lines):
                some = members[start[members] + k < self.n_epochs]
                room[start[some] + k, some] = line[some]

    def record(self, epochs: int, start: np.ndarray, validated: bool) -> EpochRecord:
        """Return an empty record of a round of so many epochs, for the backend to fill.

        start: (n_members,), each member's first epoch of the round. The record shares the columns of the best epochs.
        """
        best = self.best_value, self.best_epoch, self.waits_from, self.due
        lines = [np.full((epochs, self.n_members), np.nan) for _ in range(3 if validated else 1)]
        return EpochRecord(start.copy(), lines[0], *best, *lines[1:])

    def show(self, members: np.ndarray, values: Mapping[str, np.ndarray], keys: np.ndarray) -> None:
        """Store, by curve, the values of the weights that these members predict with, on data of these keys."""
        # In their order: a set's order is another in every process, and so would files be.
        for name in values:
            self.shown.setdefault(name, np.full(self.n_members, np.nan, np.float32))
        with np.errstate(over="ignore"):
            for name, column in self.shown.items():
                column[members] = values.get(name, np.nan)
        self.validated_on[members] = keys

    def keep(self, members: np.ndarray, value: np.ndarray, epoch: np.ndarray) -> None:
        """Store the best value of these members, and its epoch."""
        self.best_value[members], self.best_epoch[members], self.waits_from[members] = value, epoch, epoch

    def drop(self, members: np.ndarray, epochs: np.ndarray) -> None:
        """Drop the best epochs of members whose weights have changed since without validation.

        epochs: (len(members),), total number of epochs that each of these members has trained.
        """
        self.best_value[members], self.best_epoch[members], self.waits_from[members] = np.inf, -1, epochs - 1
        self.show(members, {}, np.zeros(len(members), np.uint64))

    def forget(self, member: int) -> None:
        """Clear all records of a member that restarts from its initial weights."""
        for room in self._rooms.values():
            room[:, member] = np.nan
        self.drop(np.array([member]), np.array([0]))
        self.due[member] = 0

    def put(self, name: str, members: slice, curve: np.ndarray) -> None:
        """Store the values of some members' curve, (members, epochs)."""
        self._rooms[name][: curve.shape[1], members] = curve.T

    def take(self, positions: np.ndarray) -> History:
        """Return a copy of the records of the members at these positions."""
        part = History(len(positions))
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

    def put_members(self, positions: np.ndarray, part: History) -> None:
        """Take over the records of the members at these positions from a shard's, and follow its monitor."""
        self.follow(part.monitor)
        self.make_room(part._rooms, part.n_epochs)
        for name, room in self._rooms.items():
            curve = part._rooms.get(name)
            room[:, positions] = np.nan
            if curve is not None:
                room[: part.n_epochs, positions] = curve[: part.n_epochs]
        for name in COLUMNS:
            getattr(self, name)[positions] = getattr(part, name)
        for name in part.shown:
            self.shown.setdefault(name, np.full(self.n_members, np.nan, np.float32))
        for name, column in self.shown.items():
            column[positions] = part.shown.get(name, np.nan)

    def follow(self, monitor: str) -> None:
        """Monitor another curve from now on. Best epochs stay; their values are measured again on demand."""
        if decider(monitor) != decider(self.monitor):
            self.best_value[self.best_epoch >= 0] = np.nan
        self.monitor = monitor


# The columns with one value per member, besides curves and `shown`.
COLUMNS = ("best_value", "best_epoch", "waits_from", "validated_on", "due")


def joined(parts: list[History]) -> History:
    """Return the records of all parts, concatenated. Parts that monitored different curves join without a monitor.

    Best values by another curve than the loss are then measured again on demand.
    """
    measured = [part for part in parts if part.validated_on.any()] or [part for part in parts if part.curves]
    monitors = {part.monitor for part in measured}
    monitor = monitors.pop() if len(monitors) == 1 else ""
    whole, start = History(sum(part.n_members for part in parts)), 0
    whole.make_room([name for part in parts for name in part.curves], max(part.n_epochs for part in parts))
    for part in parts:
        members = slice(start, start := start + part.n_members)
        for name, curve in part.curves.items():
            whole.put(name, members, curve)
        best = History(part.n_members)
        best.best_value, best.best_epoch, best.monitor = part.best_value.copy(), part.best_epoch, part.monitor
        best.follow(monitor)
        for name in COLUMNS:
            getattr(whole, name)[members] = getattr(best if name == "best_value" else part, name)
        for name, column in part.shown.items():
            whole.shown.setdefault(name, np.full(whole.n_members, np.nan, np.float32))[members] = column
    whole.monitor = monitor
    return whole


def decider(monitor: str) -> str:
    """Return the name of the curve that decides which epoch is best."""
    return monitor or "loss"


def ranker(monitor: str) -> str:
    """Return the name of the curve by which members are ranked."""
    return monitor or "score"


def frozen(values: np.ndarray) -> np.ndarray:
    """Return a read-only view of the array."""
    values = values.view()
    values.flags.writeable = False
    return values
