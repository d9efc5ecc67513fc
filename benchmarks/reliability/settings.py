"""Threads, processes and places in which a pool trains: the bits must be the same in all of them.

    python -m benchmarks.reliability.settings            # all settings, a line each; exit status 1 if any is wrong
    python -m benchmarks.reliability.settings --only fork loky

Each setting is a process with variables of its own, which trains the same pool in its way, once or several times at
once, and prints hashes of all that the pool holds. They are compared with those of one plain fit. A setting that hangs
is ended after two minutes. Limits of control groups are tried where this process may make groups, as root may.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT

_SECONDS = 120.0
_AT_ONCE = 2


def trained(n_threads: int | None = None) -> str:
    """Return a hash of a trained pool's file."""
    import pmlp_np as pm

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 6)), rng.normal(size=300)
    specs = pm.grid(hidden=[(5,), (40, 17)], activation=["tanh", "mish"], dropout=[0.0, 0.3], optimizer=["adam", "sgd"])
    pool = pm.Pool(specs, 6, seed=4)
    pool.fit(X, y, epochs=6, validation_data=(X[:50], y[:50]), early_stopping=True, n_threads=n_threads, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        pool.save(Path(folder) / "pool.pmlp")
        return hashlib.sha256((Path(folder) / "pool.pmlp").read_bytes()).hexdigest()


def _again(_: int = 0) -> str:
    return trained()


def _threads() -> list[str]:
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        return list(executor.map(_again, range(_AT_ONCE)))


def _processes(method: str) -> list[str]:
    with ProcessPoolExecutor(_AT_ONCE, multiprocessing.get_context(method)) as executor:
        return list(executor.map(_again, range(_AT_ONCE)))


def _fork_after() -> list[str]:
    return [trained(), *_processes("fork"), trained()]


def _joblib(backend: str) -> list[str]:
    import joblib

    return list(joblib.Parallel(n_jobs=_AT_ONCE, backend=backend)(joblib.delayed(_again)() for _ in range(_AT_ONCE)))


def _dask() -> list[str]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=_AT_ONCE, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        return list(client.gather(client.map(_again, range(_AT_ONCE), pure=False)))


def _one_core() -> list[str]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return [trained()]


def _fork_with_threads() -> list[str]:
    """Fork while another thread trains, not while it imports: a lock of Python's would never be free in the child."""
    found = [trained()]
    worker = threading.Thread(target=lambda: found.extend(trained() for _ in range(5)))
    worker.start()
    forked = _processes("fork")
    worker.join()
    return [*found, *forked]


def _gil() -> list[str]:
    """Count in Python while a pool trains: the kernels hold no lock of the interpreter."""
    import pmlp_np as pm

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 20)), rng.normal(size=2000)
    pool = pm.Pool([pm.Member(100, seed=i) for i in range(60)], 20)
    ticks: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.005)

    worker = threading.Thread(target=tick)
    worker.start()
    pool.fit(X, y, epochs=10, n_threads=1, progress=False)
    ended.set()
    worker.join()
    longest = float(np.diff(ticks).max())
    # A thread that waits for the interpreter's lock would see gaps as long as a round of the kernels, some 0.3 s.
    return [trained()] if longest < 0.25 else [f"another thread waited for {longest:.2f} s"]


def _little_memory() -> list[str]:
    import pmlp_np  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
    return [trained()]


def _damaged_cache() -> list[str]:
    """Cut every file of the cache in half, between two processes."""
    folder = Path(os.environ["PMLP_CACHE_DIR"])
    first = _processes("spawn")
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    return [*first, *_processes("spawn")]


WAYS: dict[str, Callable[[], list[str]]] = {
    "plain": lambda: [trained()],
    "one thread": lambda: [trained(1)],
    "more threads than cores": lambda: [trained(64)],
    "two threads": _threads,
    "fork": lambda: _processes("fork"),
    "fork after a fit": _fork_after,
    "fork while another thread trains": _fork_with_threads,
    "spawn": lambda: _processes("spawn"),
    "forkserver": lambda: _processes("forkserver"),
    "joblib, loky": lambda: _joblib("loky"),
    "joblib, threading": lambda: _joblib("threading"),
    "Dask workers": _dask,
    "one core": _one_core,
    "another thread meanwhile": _gil,
    "a gigabyte of addresses": _little_memory,
    "two processes, empty cache": lambda: _processes("spawn"),
    "cache cut in half": _damaged_cache,
}


@dataclass(frozen=True)
class Limit:
    """A limit of a control group: the file and what is written to it, in version 1 (with its controller) and 2."""

    controller: str
    one: tuple[str, str]
    two: tuple[str, str]

    @property
    def folder(self) -> Path:
        """Where groups with this limit lie."""
        return Path("/sys/fs/cgroup", "" if Path("/sys/fs/cgroup/cgroup.procs").exists() else self.controller)

    @contextlib.contextmanager
    def entered(self) -> Iterator[Callable[[], None]]:
        """Make a group, and yield what a process calls to enter it. Raises OSError where that is not allowed."""
        folder = self.folder / f"pmlp_np-{os.getpid()}"
        folder.mkdir()
        try:
            name, value = self.one if (folder / self.one[0]).exists() else self.two
            (folder / name).write_text(value)
            yield lambda: (folder / "cgroup.procs").write_text(str(os.getpid())) and None
        finally:
            folder.rmdir()

    def is_allowed(self) -> bool:
        try:
            with self.entered():
                return True
        except OSError:
            return False


HALF_A_CORE = Limit("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"))
GIGABYTE = Limit("memory", ("memory.limit_in_bytes", str(1 << 30)), ("memory.max", str(1 << 30)))


@dataclass(frozen=True)
class Setting:
    """A way to train, and what is different around it. variables: None removes one. cache: an empty one, or none."""

    way: str
    variables: Mapping[str, str | None] | None = None
    cache: str = ""
    limit: Limit | None = None


SETTINGS: dict[str, Setting] = {name: Setting(name) for name in WAYS if "cache" not in name}
SETTINGS |= {
    "NUMBA_NUM_THREADS=1": Setting("plain", {"NUMBA_NUM_THREADS": "1"}),
    "OMP_NUM_THREADS=1": Setting("plain", {"OMP_NUM_THREADS": "1"}),
    "workqueue layer, two threads": Setting("two threads", {"NUMBA_THREADING_LAYER": "workqueue"}),
    "no HOME": Setting("plain", {"HOME": None, "PMLP_CACHE_DIR": None, "XDG_CACHE_HOME": None}),
    "HOME that is not there": Setting("plain", {"HOME": "/nowhere/at all", "PMLP_CACHE_DIR": None}),
    "python -O": Setting("plain", {"PYTHONOPTIMIZE": "2"}),
    "LC_ALL=C": Setting("plain", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    "cache that cannot be written": Setting("plain", None, "read-only"),
    "two processes, empty cache": Setting("two processes, empty cache", None, "empty"),
    "cache cut in half": Setting("cache cut in half", None, "empty"),
}


LIMITS = {"control group of half a core": HALF_A_CORE, "control group of a gigabyte": GIGABYTE}
SETTINGS |= {name: Setting("plain", limit=limit) for name, limit in LIMITS.items() if limit.is_allowed()}


def tried(name: str, expected: str | None = None) -> str:
    """Try a setting. Returns what is wrong, "" if nothing is; without an expected hash, the hash."""
    setting = SETTINGS[name]
    environment = dict(os.environ)
    for variable, value in (setting.variables or {}).items():
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = value
    with tempfile.TemporaryDirectory() as folder:
        if setting.cache:
            environment["PMLP_CACHE_DIR"] = folder
        if setting.cache == "read-only":
            # A file in its place: nobody, root included, can write there.
            place = Path(folder) / "file"
            place.touch()
            environment["PMLP_CACHE_DIR"] = str(place / "cache")
        command = [sys.executable, "-m", "benchmarks.reliability.settings", "--job", setting.way]
        try:
            with setting.limit.entered() if setting.limit else contextlib.nullcontext() as enter:
                done = subprocess.run(
                    command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=_SECONDS, check=False,
                    preexec_fn=enter,
                )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"no end after {_SECONDS:g} s"
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir(exist_ok=True)
    if done.returncode:
        return f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
    hashes = done.stdout.split("\n")[:-1]
    if expected is None:
        return hashes[0]
    return "" if hashes and set(hashes) == {expected} else f"{hashes}, not {expected}"


def compare(names: list[str] | None = None) -> dict[str, str]:
    """Try settings. Returns by name "" or what is wrong."""
    expected = tried("plain")
    return {name: tried(name, expected) for name in (names or SETTINGS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, metavar="SETTING")
    parser.add_argument("--job", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        found: list[Any] = WAYS[options.job]()
        print("\n".join(found))
        return
    wrong = 0
    for name, fault in compare(options.only).items():
        wrong += bool(fault)
        print(f"{name}: {fault or 'the same bits'}", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
