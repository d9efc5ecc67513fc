"""Training on a cluster: shards of a pool train on the workers of a Dask scheduler, each as a pool of its own.

What becomes of a member depends on nothing but its spec, its key and its data. So a pool that is cut into shards, which
train anywhere, and is joined again, has the bits of a pool that trained in one place.

A shard trains in pieces of some seconds, which begin where the piece before has paused: a pause changes no bits. After
each piece the client knows how far the shard has come. What a worker holds is lost with it; the scheduler then has the
pieces computed again elsewhere, from the last state of the shard that the client had. With checkpoints, that is the
state in the last checkpoint; without, the beginning.

Shards train on one thread each; a worker trains as many at a time as it has threads. Data go to each worker once, or
are read there: `data.mapped`.
"""

from __future__ import annotations

import copy
import heapq
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError, DivergedWarning, compose, show
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.mapped import by_path, opened
from pmlp_np.pool.checkpoints import Checkpoints
from pmlp_np.state.progress import READY
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.progress_bar import ProgressBar
from pmlp_np.training.settings import Settings

# Shards for each thread: so that all end at about the same time, and little is lost with a worker; fewer where shards
# would be shorter than so many seconds. A time budget counts from the start of a shard: with one, all train at once.
_PER_THREAD, _FEWEST_PER_THREAD, _SHORTEST = 8, 2, 15.0
# Parameters times rows that a thread trains in a second, a guess: members with some ten to a hundred units do.
_RATE = 6e9
# Seconds between two looks at what is done, and between two at how many threads there are.
_LOOK, _LOOK_AT_THREADS = 0.05, 5.0
# Seconds of a piece; how many times longer than its overhead it is at least; and how many pieces may end in a second on
# all threads: a scheduler handles some hundred tasks in a second.
_PIECE, _OVERHEADS, _ENDS = 10.0, 30.0, 100.0
# How often a piece is given to another worker.
_RETRIES = 3


def check_client(client: Any, callbacks: Sequence[Callback] = ()) -> None:
    """Raise DataError unless it is a client of Dask with workers, or None; and for callbacks, which no worker has."""
    if client is None:
        return
    if not all(hasattr(client, name) for name in ("submit", "scatter", "scheduler_info")):
        hint = "For example distributed.Client('tcp://scheduler:8786'); pip install 'pmlp_np[distributed]'."
        raise DataError(compose("client", "a distributed.Client, or None", show(client), hint))
    if callbacks:
        hint = "Shards train on other machines, which cannot call them."
        raise DataError(compose("callbacks", "none where there is a client", show(callbacks), hint))
    if not threads_of(client):
        raise DataError(compose("client", "a scheduler with workers", "one without any", "Start some: dask worker."))


def threads_of(client: Any) -> int:
    """Return the number of threads of all workers."""
    return sum(int(worker["nthreads"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())


def seconds_of_piece(threads: int) -> float:
    """Return the least seconds of a piece where so many threads train."""
    return max(_PIECE, threads / _ENDS)


def shards_per_thread(seconds: float) -> int:
    """Return the number of shards for each thread that has so many seconds of work."""
    return int(min(max(seconds / _SHORTEST, _FEWEST_PER_THREAD), _PER_THREAD))


def cut(cost: np.ndarray, n: int) -> list[np.ndarray]:
    """Return at most n sets of numbers of members, of nearly equal sums of cost, each in order.

    cost: (members,). The costliest goes first, always to the set that has least so far (Graham, 1969).
    """
    sets: list[list[int]] = [[] for _ in range(min(n, len(cost)))]
    heap = [(0.0, i) for i in range(len(sets))]
    for member in np.argsort(-cost, kind="stable").tolist():
        total, i = heapq.heappop(heap)
        sets[i].append(member)
        heapq.heappush(heap, (total + float(cost[member]), i))
    return [np.sort(np.array(members, np.int64)) for members in sets if members]


@dataclass
class Shard:
    """Members that train as a pool of their own. positions: theirs in the whole pool."""

    pool: Any
    state: TrainingState
    positions: np.ndarray


class Facts(NamedTuple):
    """What the client wants to know of a piece.

    ended: how it ended, as `training.loop.train` returns it. left: (members,), epochs to their targets. trained,
    overhead: seconds in which the shard trained, and in which it did not.
    """

    ended: str
    left: np.ndarray
    trained: float
    overhead: float


class Piece(NamedTuple):
    """A shard as a piece has left it."""

    shard: Shard
    facts: Facts


def train_piece(
    before: Shard | Piece,
    data: Dataset,
    validation: Dataset | None,
    features: np.ndarray | None,
    settings: Settings,
    seconds: float,
    budget: float | None,
) -> Piece:
    """Train a shard on a worker, for so many seconds or to its end.

    data, validation: of the whole pool. features: (n_members,), the feature set of each of its members, or None.
    budget: seconds from now on after which its training ends for good, or None.
    """
    began = time.monotonic()
    # What came from another task must not change: that task's result may be taken again.
    shard = copy.deepcopy(before.shard if isinstance(before, Piece) else before)
    # Copies have a progress of their own.
    state = shard.state
    state.progress = shard.pool._progress
    own = [None if each is None else opened(each).take(shard.positions, features) for each in (data, validation)]
    assert own[0] is not None
    so_far = state.seconds
    if budget is not None:
        settings = replace(settings, time_budget=so_far + budget, monitor=settings.monitor or None)
    with warnings.catch_warnings():
        # The one who asked for it warns.
        warnings.simplefilter("ignore", DivergedWarning)
        shard.pool._run(own[0], own[1], settings, state, pause=_after(seconds))
    progress = shard.pool._progress
    batches = -(-own[0].counts(len(shard.pool)) // state.batch_size)
    left = np.maximum(state.target - progress.epoch, 0) - progress.minibatch / batches
    left, trained = np.where(progress.status == READY, left, 0.0), state.seconds - so_far
    return Piece(shard, Facts(shard.pool.ended_, left, trained, time.monotonic() - began - trained))


def _after(seconds: float) -> Callable[[], bool]:
    """Return a function that is false at its first call, and until so many seconds after it."""
    end: float | None = None

    def over() -> bool:
        nonlocal end
        # Training asks when it begins: what comes before takes nothing from it, or it might never get on.
        now = time.monotonic()
        end = now + seconds if end is None else end
        return now > end

    return over


def facts_of(piece: Piece) -> Facts:
    """Return the facts of a piece: little is sent to the client, while the shard stays where it is."""
    return piece.facts


def _is_lost(error: Exception) -> bool:
    """Return whether the connection to the scheduler is lost, and with it all that was asked for."""
    # Only where there is a client is there its package.
    from distributed import CancelledError
    from distributed.comm import CommClosedError

    return isinstance(error, (CancelledError, CommClosedError))


@dataclass(eq=False)
class _Training:
    """A shard in training: the futures of its piece under way, of that piece's facts, and of the piece before.

    known: as the client last had it. losses: how often all that workers knew of it was lost.
    """

    known: Shard
    piece: Any
    facts: Any
    before: Any = None
    losses: int = 0

    @property
    def positions(self) -> np.ndarray:
        return self.known.positions


def train_sharded(
    client: Any,
    pool: Any,
    data: Dataset,
    validation: Dataset | None,
    settings: Settings,
    state: TrainingState,
    join: Callable[[list[Shard]], None],
    saver: Checkpoints | None = None,
) -> str:
    """Train the members of a pool that have something left to do. Returns how it ended, as `training.loop.train`.

    join: takes over what became of shards, into the pool and the state. saver: stores pool and state; they then have
        what shards had reached a little before.
    """
    return _Run(client, pool, data, validation, settings, state, join, saver).run()


@dataclass(eq=False)
class _Run:
    """One call of `train_sharded`."""

    client: Any
    pool: Any
    data: Dataset
    validation: Dataset | None
    settings: Settings
    state: TrainingState
    join: Callable[[list[Shard]], None]
    saver: Checkpoints | None
    # Positions of shards that wait. Only as many train as there are threads: the next piece of a shard finds one free.
    waiting: list[np.ndarray] = field(default_factory=list)
    training: list[_Training] = field(default_factory=list)
    # What came back and is not joined yet, by its first position: a later state of a shard takes the place of an
    # earlier one.
    back: dict[int, Shard] = field(default_factory=dict)
    ended: str = "done"
    # Until when pieces that end are collected for a checkpoint; None: not at present.
    collecting: float | None = None

    def run(self) -> str:
        self.began, self.so_far = time.monotonic(), self.state.seconds
        self.bar = ProgressBar(self.settings.progress)
        finished = False
        try:
            if self.saver is not None:
                self.saver.write(self.state)
            self._begin()
            while (self.training or self.waiting) and not interrupts.pressed():
                self._fill()
                ended = [each for each in self.training if each.facts.done()]
                if not ended:
                    time.sleep(_LOOK)
                for each in ended:
                    self._end_piece(each)
                self._show()
                self._save_when_due()
            finished = True
            if self.training or self.waiting:
                self.ended = "interrupted"
            return self.ended
        except Exception as error:
            if not _is_lost(error):
                raise
            # Nobody is there to cancel anything.
            self.training = []
            hint = "With fit(..., checkpoint=folder) a run can go on."
            if self.saver is not None:
                hint = f"pm.resume({os.fspath(self.saver.folder)!r}, ...) goes on with another one, or with none."
            got = " ".join(str(error).split())
            raise DataError(compose("client", "a scheduler that answers", f"none: {got}", hint)) from error
        finally:
            self.bar.close()
            self._stop(keep=finished)
            self._join()
            if self.saver is not None and self.ended in ("interrupted", "time budget"):
                self.saver.write(self.state, last=True)

    def _begin(self) -> None:
        """Cut the pool into shards."""
        plan, progress, state = self.pool._plan, self.state.progress, self.state
        active = np.flatnonzero(state.asked & (progress.status == READY) & (progress.epoch < state.target))
        # Multiply-adds of an epoch, roughly.
        self.of_epoch = (plan.parameter_counts() * self.data.counts(len(self.pool))).astype(np.float64)
        self.left = np.where(state.asked & (progress.status == READY), state.target - progress.epoch, 0.0)
        self.whole = max(float(self.left @ self.of_epoch), 1.0)
        self.features = None if plan.features is None else plan.features.of
        self.on_workers = replace(
            self.settings, progress=False, n_threads=1, time_budget=None, monitor=self.settings.monitor or None
        )
        self._send()
        self.threads, self.looked = threads_of(self.client), time.monotonic()
        self.piece = seconds_of_piece(self.threads)
        per_thread = 1
        if self.settings.time_budget is None:
            per_thread = shards_per_thread(self.whole / (_RATE * self.threads))
        self.waiting = [active[own] for own in cut((self.left * self.of_epoch)[active], per_thread * self.threads)]
        self.n_shards = len(self.waiting)
        # The last one goes first.
        self.waiting.reverse()

    def _send(self) -> None:
        """Send the data: once to each worker, however many shards it trains."""
        sent = [None if each is None else by_path(each) for each in (self.data, self.validation)]
        self.sent = self.client.scatter(sent, broadcast=True, hash=False)

    def _fill(self) -> None:
        """Give each thread a shard."""
        now = time.monotonic()
        if now - self.looked > _LOOK_AT_THREADS:
            self.threads, self.looked = threads_of(self.client), now
        while self.waiting and len(self.training) < max(self.threads, 1):
            at = self.waiting.pop()
            shard = Shard(self.pool.subset(self.pool.ids_[at]), self.state.take(at), at)
            self.training.append(_Training(shard, *self._submit(shard, self.piece)))

    def _submit(self, before: Any, seconds: float) -> tuple[Any, Any]:
        """Have a piece trained. before: a shard, or the future of the piece before. Returns two futures."""
        budget = self.settings.time_budget
        if budget is not None:
            # A piece that begins too late ends at once.
            budget = max(budget - self._seconds(), 1e-3)
        piece = self.client.submit(
            train_piece, before, *self.sent, self.features, self.on_workers, seconds, budget, pure=False,
            retries=_RETRIES,
        )  # fmt: skip
        return piece, self.client.submit(facts_of, piece, pure=False, retries=_RETRIES, priority=1)

    def _seconds(self) -> float:
        return self.so_far + time.monotonic() - self.began

    def _end_piece(self, each: _Training) -> None:
        """Take note of a piece that has ended, and begin the next one."""
        try:
            # Raises what a worker has raised.
            facts = each.facts.result()
        except Exception as error:
            if not _is_lost(error) or self.client.status != "running" or each.losses == _RETRIES:
                raise
            # The scheduler is there: workers have taken with them what was sent to them alone.
            each.losses, each.before = each.losses + 1, None
            if any(data.cancelled() for data in self.sent):
                self._send()
            each.piece, each.facts = self._submit(each.known, self.piece)
            return
        self.left[each.positions] = facts.left
        before: Any = each.piece
        if facts.ended != "paused":
            self._take(each.piece)
            self.training.remove(each)
            self.ended = facts.ended if facts.ended != "done" else self.ended
            return
        if self.collecting is not None:
            # From here on nothing before it is needed.
            before = each.known = self._take(each.piece)
        each.before = each.piece
        each.piece, each.facts = self._submit(before, max(self.piece, _OVERHEADS * facts.overhead))

    def _take(self, piece: Any) -> Shard:
        """Return the shard that a piece has left, brought to the client."""
        shard: Shard = piece.result().shard
        self.back[int(shard.positions[0])] = shard
        return shard

    def _show(self) -> None:
        done = 1.0 - float(self.left @ self.of_epoch) / self.whole
        ended = self.n_shards - len(self.training) - len(self.waiting)
        self.bar.show(done, f"{ended}/{self.n_shards} shards, {self.threads} threads")

    def _save_when_due(self) -> None:
        """Store what has come back, once the pieces that were under way when it was due have ended."""
        now = time.monotonic()
        if self.saver is None or not (self.training or self.waiting):
            return
        if self.collecting is None and self.saver.due():
            self.collecting = now + self.piece
        if self.collecting is not None and now >= self.collecting and self.back:
            self.collecting = None
            self._join()
            self.saver.write(self.state)

    def _stop(self, keep: bool) -> None:
        """End all pieces under way. keep: whether to take what the pieces before them have left."""
        for each in self.training:
            self.client.cancel([each.facts, each.piece])
        for each in self.training:
            if keep and each.before is not None and each.before.status == "finished":
                self._take(each.before)

    def _join(self) -> None:
        self.state.seconds = self._seconds()
        if self.back:
            self.join(list(self.back.values()))
            self.back = {}
