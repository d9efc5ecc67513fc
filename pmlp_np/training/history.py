"""History: what training leaves behind, curves and each member's best so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pmlp_np.base.copying import Independent
from pmlp_np.state.epoch_rule import EpochRecord

# Members whose curves are copied at a time.
_AT_ONCE = 1 << 12


class History(Independent):
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

    def enter_lines(self, name: str, members: np.ndarray, start: np.ndarray, lines: np.ndarray) -> None:
        """Note values of some epochs in a row, (epochs, n_members), from the epoch `start`, (n_members,), of each of
        these members on. Epochs for which there is no room are left out."""
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
        """Room for what so many epochs of all members find out, from the epochs `start`, (n_members,), on; with the
        columns of the best so far, which it shares."""
        best = self.best_value, self.best_epoch, self.waits_from, self.due
        lines = [np.full((epochs, self.n_members), np.nan) for _ in range(3 if validated else 1)]
        return EpochRecord(start.copy(), lines[0], *best, *lines[1:])

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

    def take(self, positions: np.ndarray) -> History:
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

    def follow(self, monitor: str) -> None:
        """Have another curve decide from now on: what was best by the old one is still, until it is measured anew."""
        if decider(monitor) != decider(self.monitor):
            self.best_value[self.best_epoch >= 0] = np.nan
        self.monitor = monitor


# What is kept of each member, besides curves and what is shown.
COLUMNS = ("best_value", "best_epoch", "waits_from", "validated_on", "due")


def joined(parts: list[History]) -> History:
    """The records of all members, one part behind the other. Parts that were measured by different curves are followed
    by none any more: what was best by another one than the loss is measured anew when it is needed."""
    measured = [part for part in parts if part.validated_on.any()] or [part for part in parts if part.curves]
    agreed = {part.monitor for part in measured}
    monitor = agreed.pop() if len(agreed) == 1 else ""
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
    """What decides which epoch is best."""
    return monitor or "loss"


def ranker(monitor: str) -> str:
    """What members are ranked by."""
    return monitor or "score"


def frozen(values: np.ndarray) -> np.ndarray:
    """The array as a view that cannot be written to."""
    values = values.view()
    values.flags.writeable = False
    return values
