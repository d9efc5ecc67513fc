"""Soak: half an hour of random fits, resumes, predictions, copies and estimators in one process.

    python -m benchmarks.reliability.soak                            # adds to results/reliability.json
    python -m benchmarks.reliability.soak --minutes 1 --output few.json

Memory, open files and threads are noted after each round, and the seconds that a round of the same work takes. Nothing
may grow: the last third is compared with the second one (the first fills caches).
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import pickle
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS, machine

JSON = RESULTS / "reliability.json"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _fit(draw: np.random.Generator, folder: Path) -> None:
    n, features = int(draw.integers(20, 400)), int(draw.integers(1, 20))
    X, y = draw.normal(size=(n, features)), draw.normal(size=n)
    hidden = [tuple(draw.integers(1, 60, size=draw.integers(0, 3)).tolist()) for _ in range(20)]
    pool = pm.Pool([pm.Member(h, learning_rate=0.01) for h in hidden], features, seed=int(draw.integers(99)))
    pool.fit(X, y, epochs=3, validation_data=(X, y), early_stopping=True, progress=False)
    pool.predict(X)
    pool.forward(X, reduce="mean")
    pool.leaderboard()
    pm.concat([copy.deepcopy(pool), pickle.loads(pickle.dumps(pool.subset(pool.ids_[:5])))]).partial_fit(
        X, y, progress=False
    )
    pool.save(folder / "pool.pmlp")
    pm.load(folder / "pool.pmlp").extract(3).predict(X)


def _resume(draw: np.random.Generator, folder: Path) -> None:
    X, y = draw.normal(size=(200, 5)), draw.normal(size=200)
    run = Path(tempfile.mkdtemp(dir=folder))
    pool = pm.Pool(pm.grid(hidden=[8, 16], activation=["tanh", "relu"]), 5)
    pool.fit(X, y, epochs=20, checkpoint=run, time_budget=0.01, progress=False)
    pm.resume(run, X, y, time_budget=60.0)


def _search(draw: np.random.Generator, folder: Path) -> None:
    X = draw.normal(size=(80, 3))
    how = {"time_budget": None, "max_members": 12, "max_epochs": 2, "cv": 3, "progress": False}
    model = pm.search(X, X[:, 0], **how).ensemble  # type: ignore[arg-type]
    model.save(folder / "model.pmlp")
    pm.TableModel.load(folder / "model.pmlp").predict(X)


def _estimate(draw: np.random.Generator, folder: Path) -> None:
    X = draw.normal(size=(80, 3))
    model = pm.MLPPoolClassifier(time_budget=None, max_members=8, max_epochs=2, cv=2, progress=False)
    model.fit(X, X[:, 0] > 0).predict_proba(X)
    pickle.loads(pickle.dumps(model)).predict(X)


def _threads(draw: np.random.Generator, folder: Path) -> None:
    workers = [threading.Thread(target=_fit, args=(np.random.default_rng(i), folder / f"{i}")) for i in range(2)]
    for i, worker in enumerate(workers):
        (folder / f"{i}").mkdir(exist_ok=True)
        worker.start()
    for worker in workers:
        worker.join()


WORK = (_fit, _fit, _resume, _search, _estimate, _threads)


def state() -> dict[str, int]:
    """Return what may leak: bytes of memory, open files, threads, temporary files."""
    gc.collect()
    return {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def soak(minutes: float, seed: int = 0) -> dict[str, Any]:
    """Do random work for so long. Returns each round's state and seconds."""
    rounds: list[dict[str, Any]] = []
    began, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() - began < 60.0 * minutes:
            # Every round does the same work with the same numbers: its seconds can be compared.
            draw, start = np.random.default_rng(seed), time.monotonic()
            for work in WORK:
                work(draw, Path(name))
            rounds.append({"seconds": round(time.monotonic() - start, 3), **state()})
            number += 1
    return {"machine": machine(), "minutes": minutes, "rounds": len(rounds), **summary(rounds), "sample": rounds[::20]}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of the second and the last third of the rounds."""
    third = len(rounds) // 3
    parts = {"second third": rounds[third : 2 * third], "last third": rounds[2 * third :]}
    names = ("memory", "files", "threads", "seconds")
    return {
        part: {name: float(np.median([each[name] for each in some])) for name in names}
        for part, some in parts.items()
        if some
    }


def line(found: dict[str, Any]) -> str:
    """Return the result as a line of the page."""
    before, after = (found[f"{part} third"] for part in ("second", "last"))
    return (
        f"- **Soak.** {found['minutes']:g} minutes of fits, resumed runs, searches, estimators, copies and two threads "
        f"in one process, {found['rounds']:,} rounds of the same work. Medians of the second and the last third: "
        f"{before['memory'] / 1e6:,.0f} and {after['memory'] / 1e6:,.0f} MB of memory, {before['files']:.0f} and "
        f"{after['files']:.0f} open files, {before['threads']:.0f} and {after['threads']:.0f} threads, "
        f"{before['seconds']:.2f} and {after['seconds']:.2f} s a round."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--output", type=Path, default=JSON)
    options = parser.parse_args()
    found = soak(options.minutes)
    whole = json.loads(options.output.read_text()) if options.output.exists() else {}
    whole["soak"] = found
    options.output.write_text(json.dumps(whole, indent=1) + "\n")
    print(line(found))


if __name__ == "__main__":
    main()
