"""Training on a cluster: shards of a pool train on the workers of a Dask scheduler, each as a pool of its own.

What becomes of a member depends on nothing but its spec, its key and its data. So a pool that is cut into shards, which
train anywhere, and is joined again, has the bits of a pool that trained in one place. A worker that is lost takes its
shards with it and no more: the scheduler gives them to others.

Shards train on one thread each; a worker trains as many at a time as it has threads. Data go to each worker once.
"""

from __future__ import annotations

import heapq
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError, DivergedWarning, compose, show
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.progress import READY
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.loop import Saver
from pmlp_np.training.progress_bar import ProgressBar
from pmlp_np.training.settings import Settings

# Shards for each thread: so that all end at about the same time, and little is lost with a worker. A time budget counts
# from the start of a shard: with one, all train at once.
_PER_THREAD = 4
# Seconds between two looks at what is done.
_LOOK = 0.2
# How often a shard is given to another worker.
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


def train_shard(
    shard: Shard, data: Dataset, validation: Dataset | None, features: np.ndarray | None, settings: Settings
) -> tuple[Shard, str]:
    """Train a shard on a worker. Returns it as it is then, and how its training ended.

    data, validation: of the whole pool. features: (n_members,), the feature set of each of its members, or None.
    """
    own = [None if each is None else each.take(shard.positions, features) for each in (data, validation)]
    assert own[0] is not None
    # Copies have a progress of their own.
    shard.state.progress = shard.pool._progress
    with warnings.catch_warnings():
        # The one who asked for it warns.
        warnings.simplefilter("ignore", DivergedWarning)
        shard.pool._run(own[0], own[1], settings, shard.state, None)
    return shard, shard.pool.ended_


def train_sharded(
    client: Any,
    pool: Any,
    data: Dataset,
    validation: Dataset | None,
    settings: Settings,
    state: TrainingState,
    join: Callable[[list[Shard]], None],
    saver: Saver | None = None,
) -> str:
    """Train the members of a pool that have something left to do. Returns how it ended, as `training.loop.train`.

    join: takes over what became of shards, into the pool and the state. saver: stores pool and state; they then have
        the shards that are done.
    """
    plan, progress = pool._plan, state.progress
    features = None if plan.features is None else plan.features.of
    active = np.flatnonzero(state.asked & (progress.status == READY) & (progress.epoch < state.target))
    cost = (plan.parameter_counts() * data.counts(len(pool)) * (state.target - progress.epoch))[active].astype(float)
    per_thread = _PER_THREAD if settings.time_budget is None else 1
    shards = [
        Shard(pool.subset(pool.ids_[active[own]]), state.take(active[own]), active[own])
        for own in cut(cost, per_thread * threads_of(client))
    ]
    on_workers = replace(settings, progress=False, n_threads=1, monitor=settings.monitor or None)
    # Once to each worker, however many shards it trains.
    sent = client.scatter([data, validation], broadcast=True, hash=False)
    futures = {
        client.submit(train_shard, shard, *sent, features, on_workers, pure=False, retries=_RETRIES): shard
        for shard in shards
    }
    waiting, ended, total, done = set(futures), "done", max(float(cost.sum()), 1.0), 0.0
    ready: list[Shard] = []
    bar = ProgressBar(settings.progress)
    try:
        if saver is not None:
            saver.write(state)
        while waiting and not interrupts.pressed():
            finished = {future for future in waiting if future.done()}
            if not finished:
                time.sleep(_LOOK)
            for future in finished:
                waiting.discard(future)
                # Raises what a worker has raised.
                shard, how = future.result()
                ready.append(shard)
                done += float(cost[np.searchsorted(active, futures[future].positions)].sum())
                ended = how if how != "done" else ended
                future.release()
            bar.show(done / total, f"{len(shards) - len(waiting)}/{len(shards)} shards, {threads_of(client)} threads")
            if saver is not None and ready and saver.due():
                join(ready)
                ready = []
                saver.write(state)
        if waiting:
            client.cancel(list(waiting))
            ended = "interrupted"
        return ended
    finally:
        bar.close()
        if ready:
            join(ready)
        if saver is not None and ended in ("interrupted", "time budget"):
            saver.write(state, last=True)
