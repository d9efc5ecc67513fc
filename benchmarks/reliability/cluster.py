"""A cluster: what it costs on this machine, and a simulation of a thousand machines with the times measured here.

    python -m benchmarks.reliability.cluster                  # adds to results/reliability.json, draws docs/cluster.md
    python -m benchmarks.reliability.cluster --minutes 0.1 --output few.json

Measured: the same pool on two threads of one process and on two worker processes of one thread each, in shards of a
minute of work; the share of both workers' time in which members trained; what the scheduler and the client need for a
piece; how much is sent for a member. Twenty minutes, half of them for each of the two.

Simulated: 10^8 members, in pools of 10^6, on 1,000 machines of 16 threads. Events are pieces that end: each waits for
the scheduler, which handles one task at a time, and shards that end wait for the client, which takes in one at a time
through a network of 10 Gbit/s. Machines differ in speed as runs did here. They fail at random moments; a shard then
goes on from its last checkpoint. Times of service are those measured; the number of machines, their network and how
often they fail are assumptions, and stand in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import pickle
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS, ROOT, machine
from benchmarks.rendering import between_markers
from pmlp_np.pool import sharded

JSON, PAGE = RESULTS / "reliability.json", ROOT / "docs" / "cluster.md"
ROWS, FEATURES = 1000, 10
QUIET = {"progress": False}
HOUR, DAY, YEAR = 3600.0, 86400.0, 365.25 * 86400.0
NETWORK = 10e9 / 8


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return X, X[:, 0] * X[:, 1]


def new_pool(n: int) -> pm.Pool:
    widths = np.random.default_rng(0).integers(1, 101, size=n)
    return pm.Pool([pm.Member(int(width), learning_rate=0.001) for width in widths], FEATURES, seed=1)


def seconds_of(pool: pm.Pool, epochs: int, **more: Any) -> float:
    X, y = data()
    began = time.perf_counter()
    pool.fit(X, y, epochs=epochs, **QUIET, **more)
    return time.perf_counter() - began


@contextlib.contextmanager
def trained_seconds() -> Iterator[list[float]]:
    """Yield a list to which the seconds are appended in which members trained in each piece."""
    seconds: list[float] = []
    end_piece = sharded._Run._end_piece

    def noted(self: Any, each: Any) -> None:
        seconds.append(each.facts.result().trained)
        end_piece(self, each)

    sharded._Run._end_piece = noted  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        sharded._Run._end_piece = end_piece  # type: ignore[method-assign]


def overhead(minutes: float) -> dict[str, Any]:
    """Return the seconds of a pool on two threads of one process and on two workers, and whether bits agree.

    minutes: of a shard.
    """
    from distributed import Client, LocalCluster

    n, threads = 2000, 2
    seconds_of(new_pool(n), 1, n_threads=threads)
    epoch = seconds_of(new_pool(n), 8, n_threads=threads) / 8
    epochs = max(8, round(60 * minutes * sharded._PER_THREAD / epoch))
    with (
        LocalCluster(n_workers=threads, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        seconds_of(new_pool(n), 1, client=client)
        alone, together = new_pool(n), new_pool(n)
        with trained_seconds() as trained:
            there = seconds_of(together, epochs, client=client)
        here = seconds_of(alone, epochs, n_threads=threads)
        times = service_times(client)
    X, _ = data()
    equal = bool(np.array_equal(alone.predict(X), together.predict(X)))
    share = sum(trained) / (threads * there)
    return {
        "members": n, "epochs": epochs, "shards": threads * sharded._PER_THREAD, "one process": here,
        "two workers": there, "share trained": share, "equal bits": equal,
    } | times  # fmt: skip


def service_times(client: Any) -> dict[str, float]:
    """Return what a piece costs the scheduler and the client, and what members take to send."""
    X, y = data()
    pool = new_pool(1000).fit(X, y, epochs=1, **QUIET)
    shard = sharded.Shard(pool, None, np.arange(len(pool)))  # type: ignore[arg-type]
    piece = sharded.Piece(shard, sharded.Facts("paused", np.zeros(len(pool)), 0.0, 0.0))
    sent = pickle.dumps(piece)
    fresh = pickle.dumps(sharded.Shard(new_pool(1000), None, np.arange(1000)))  # type: ignore[arg-type]
    # Tasks that do nothing, in chains as pieces are: the seconds of a task in scheduler and client together.
    counted, began = 2000, time.perf_counter()
    futures = [client.submit(abs, i, pure=False) for i in range(counted)]
    futures = [client.submit(abs, future, pure=False) for future in futures]
    client.gather(futures)
    task = (time.perf_counter() - began) / (2 * counted)
    taken, whole = [], new_pool(1000).fit(X, y, epochs=1, **QUIET)
    for _ in range(9):
        began = time.perf_counter()
        brought = pickle.loads(sent).shard
        whole._put_members(brought.positions, brought.pool._contents())
        taken.append(time.perf_counter() - began)
    rates = []
    for _ in range(12):
        began = time.perf_counter()
        seconds_of(new_pool(200), 5, n_threads=1)
        rates.append(time.perf_counter() - began)
    epoch = seconds_of(new_pool(1000), 5, n_threads=1) / 5000
    return {
        "seconds of a task": task, "seconds to take in a member": float(np.median(taken)) / 1000,
        "bytes of a member, trained": len(sent) / 1000, "bytes of a member, fresh": len(fresh) / 1000,
        "seconds of an epoch": epoch, "spread of speed": float(np.std(rates) / np.mean(rates)),
    }  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is simulated: pools of members, each on the machines of one of the schedulers.

    work: epochs of a member. mtbf: seconds between failures of a machine, inf for none; restart: those until its
    threads work again.
    """

    members: int = 10**6
    pools: int = 100
    schedulers: int = 10
    machines: int = 1000
    threads: int = 16
    work: int = 1000
    checkpoint_every: float = 60.0
    mtbf: float = float("inf")
    restart: float = 120.0


def simulate(setting: Setting, times: dict[str, float]) -> dict[str, float]:
    """Simulate the pools. All are alike, and so are the clusters: three pools are simulated, for their mean."""
    runs = [_pool(setting, times, np.random.default_rng(i)) for i in range(3)]
    return {name: float(np.mean([each[name] for each in runs])) for name in runs[0]}


def _pool(setting: Setting, times: dict[str, float], draw: np.random.Generator) -> dict[str, float]:
    machines = setting.machines // setting.schedulers
    threads = machines * setting.threads
    seconds = setting.members * setting.work * times["seconds of an epoch"]
    n_shards = min(sharded.shards_per_thread(seconds / threads) * threads, setting.members)
    members, work = setting.members / n_shards, seconds / n_shards
    piece = sharded.seconds_of_piece(threads)
    speed = np.maximum(1.0 + times["spread of speed"] * draw.normal(size=machines), 0.2)
    service = 2 * times["seconds of a task"]
    send = members * times["bytes of a member, fresh"] / NETWORK
    take_in = members * (times["seconds to take in a member"] + times["bytes of a member, trained"] / NETWORK)
    left, since = np.full(n_shards, work), np.zeros(n_shards)
    waiting = list(range(n_shards - 1, -1, -1))
    scheduler = client = lost = 0.0
    pieces = 0
    # (when a piece may begin, thread, shard)
    events: list[tuple[float, int, int]] = []

    def begin(thread: int) -> None:
        nonlocal scheduler
        if waiting:
            scheduler += service + send
            heapq.heappush(events, (scheduler, thread, waiting.pop()))

    for thread in range(threads):
        begin(thread)
    while events:
        now, thread, shard = heapq.heappop(events)
        pace = speed[thread // setting.threads]
        run = min(piece, left[shard] / pace)
        pieces += 1
        if draw.random() < run / setting.mtbf:
            # What came since the last checkpoint is computed again, by the threads of a machine that is back.
            ran = run * draw.random()
            lost += since[shard] + ran * pace
            left[shard] += since[shard]
            since[shard] = 0.0
            heapq.heappush(events, (now + ran + setting.restart, thread, shard))
            continue
        left[shard] -= run * pace
        since[shard] += run * pace
        if since[shard] >= setting.checkpoint_every:
            since[shard] = 0.0
        scheduler = max(scheduler, now + run) + service
        if left[shard] > 1e-9 * work:
            heapq.heappush(events, (scheduler, thread, shard))
        else:
            client = max(client, scheduler) + take_in
            begin(thread)
    ideal = n_shards * work / (threads * float(speed.mean()))
    per_member = times["bytes of a member, trained"] + times["bytes of a member, fresh"]
    return {
        "members of a shard": members, "seconds of a shard": work, "seconds of a piece": piece,
        "hours": setting.pools / setting.schedulers * client / HOUR, "efficiency": ideal / client,
        "scheduler": pieces * service / client, "client": n_shards * take_in / client,
        "lost": lost / (n_shards * work), "terabytes": setting.pools * setting.members * per_member / 1e12,
    }  # fmt: skip


SETTINGS = {
    "one scheduler": Setting(schedulers=1),
    "ten schedulers, each with 100 machines": Setting(),
    "the same, a machine fails once a year": Setting(mtbf=YEAR),
    "the same, once in thirty days": Setting(mtbf=30 * DAY),
    "the same, once a day": Setting(mtbf=DAY),
    "ten schedulers, 100 epochs": Setting(work=100),
    "ten schedulers, 10,000 epochs, once in thirty days": Setting(work=10_000, mtbf=30 * DAY),
}


def section(found: dict[str, Any]) -> str:
    where, here, there = found["machine"], found["one process"], found["two workers"]
    lines = [
        f"- **Overhead.** {found['members']:,} members for {found['epochs']:,} epochs, in {found['shards']} shards of "
        f"about {2 * there / found['shards']:.0f} s, on {where['processor']}, {where['cores']} cores: members trained "
        f"in {found['share trained']:.1%} of the time of two workers of one thread. It took {there:.1f} s; two threads "
        f"of one process took {here:.1f} s. {'The same bits' if found['equal bits'] else 'OTHER BITS'}.",
        f"- **Measured for the simulation.** A task takes scheduler and client {found['seconds of a task'] * 1e3:.2f} "
        f"ms. A member (width 1 to 100, {FEATURES} features, Adam) is {found['bytes of a member, fresh'] / 1e3:.1f} kB "
        f"when it is sent and {found['bytes of a member, trained'] / 1e3:.1f} kB when it comes back, and is taken in "
        f"in {found['seconds to take in a member'] * 1e6:.0f} µs; its epoch of {ROWS:,} rows takes "
        f"{found['seconds of an epoch'] * 1e3:.2f} ms.",
        "- **Simulated**: 10⁸ members in 100 pools of 10⁶ on 1,000 machines of 16 threads; each scheduler has its "
        "machines, its client with 10 Gbit/s, and its pools, one after another. Efficiency is the time that the "
        "threads alone would need, by that which it takes.",
        "",
        "| 1,000 epochs each, if not said otherwise | hours | efficiency | shard | piece | scheduler busy | "
        "client busy | computed again | sent |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in found["simulated"].items():
        lines.append(
            f"| {name} | {each['hours']:.1f} | {each['efficiency']:.0%} | {each['seconds of a shard']:.0f} s | "
            f"{each['seconds of a piece']:.0f} s | "
            f"{each['scheduler']:.1%} | {each['client']:.1%} | {each['lost']:.2%} | {each['terabytes']:.1f} TB |"
        )
    lines += ["", "By `python -m benchmarks.reliability.cluster`: "
              "[reliability.json](../benchmarks/results/reliability.json)."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="of a shard")
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--render", action="store_true", help="simulate and draw, without measuring")
    options = parser.parse_args()
    whole = json.loads(options.output.read_text()) if options.output.exists() else {}
    if not options.render:
        warnings.simplefilter("ignore")
        whole["cluster"] = {"machine": machine(), **overhead(options.minutes)}
    found = whole["cluster"]
    found["simulated"] = {name: simulate(each, found) for name, each in SETTINGS.items()}
    options.output.write_text(json.dumps(whole, indent=1) + "\n")
    if options.output == JSON:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(between_markers(text, "cluster", section(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
