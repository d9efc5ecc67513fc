"""Training on a cluster: shards on workers, which may be lost, end with the bits of one machine."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.base import interrupts
from pmlp_np.data.mapped import InFile, in_file
from pmlp_np.pool import sharded
from pmlp_np.pool.checkpoints import Checkpoints
from pmlp_np.pool.sharded import cut
from varied_pool import varied_members

QUIET = {"progress": False}
F = 13
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    requires("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
            Client(cluster) as client,
        ):
            yield client


def data(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng()
    X = rng.normal(size=(n, F))
    return X, X[:, :3] + rng.normal(size=(n, 3))


def as_file(pool: pm.Pool, folder: Path) -> bytes:
    pool.save(folder / "whole.pmlp")
    return (folder / "whole.pmlp").read_bytes()


def new_pool(**more: Any) -> pm.Pool:
    members = varied_members()
    ids = np.random.default_rng(3).permutation(1000)[: len(members)]
    return pm.Pool(members, F, 3, seed=5, ids=ids, **more)


# Cutting.


def test_shards_are_all_members_once_and_nearly_equal() -> None:
    rng = np.random.default_rng()
    cost = rng.exponential(size=200)
    shards = cut(cost, 8)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(200))
    sums = [cost[each].sum() for each in shards]
    # Never further apart than the costliest member.
    assert max(sums) - min(sums) <= cost.max()
    assert [len(each) for each in cut(cost[:3], 8)] == [1, 1, 1]
    assert cut(cost[:0], 8) == []


# The same bits.


@pytest.fixture(params=["in one piece", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards pause as often as they can, or never."""
    if request.param == "in pieces":
        monkeypatch.setattr(sharded, "_PIECE", 0.002)
        monkeypatch.setattr(sharded, "_OVERHEADS", 0.0)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_one_machine(client: Any, dtype: str, tmp_path: Path) -> None:
    X, y = data()
    how: dict[str, Any] = {"epochs": 3, "validation_data": data(40), "early_stopping": True, "patience": 1, **QUIET}
    one = new_pool(dtype=dtype).fit(X, y, **how)
    assert as_file(new_pool(dtype=dtype).fit(X, y, client=client, **how), tmp_path) == as_file(one, tmp_path)


@pytest.mark.usefixtures("pieces")
def test_data_of_each_member_and_more_calls(client: Any, tmp_path: Path) -> None:
    """Rows, features, targets and weights of each member; then some members alone, further data, without validation."""
    X, _ = data()
    rng, pools = np.random.default_rng(), (new_pool(), new_pool())
    n = len(pools[0])
    own: dict[str, Any] = {
        "rows": [rng.permutation(90)[: rng.integers(20, 90)] for _ in range(n)],
        "features": [rng.permutation(F)[: rng.integers(1, F)] for _ in range(n)],
        "targets": rng.normal(size=(n, 90, 3)), "sample_weight": rng.random((n, 90)), "shuffle": "member",
    }  # fmt: skip
    for pool, cluster in zip(pools, ({}, {"client": client}), strict=True):
        pool.fit(X, epochs=2, **own, **QUIET, **cluster)
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)
    more, some = data(), pools[0].ids_[[3, 7, 8, 20]]
    for pool, cluster in zip(pools, ({}, {"client": client}), strict=True):
        pool.partial_fit(*more, epochs=2, members=some, **QUIET, **cluster)
        pool.partial_fit(*more, validation_data=(X, more[1]), metrics=["mae"], **QUIET, **cluster)
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)


@pytest.mark.usefixtures("pieces")
def test_members_that_diverge_are_told_of(client: Any, tmp_path: Path) -> None:
    X, y = data()
    specs = [*varied_members()[:6], pm.Member(3, optimizer=pm.SGD(1e30))]
    pools = [pm.Pool(specs, F, 3, seed=5) for _ in range(2)]
    for pool, cluster in zip(pools, ({}, {"client": client}), strict=True):
        with pytest.warns(pm.DivergedWarning, match="6"):
            pool.fit(X, y, **QUIET, **cluster)
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)


# Losses.


@contextlib.contextmanager
def short_pieces(seconds: float) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "_PIECE", seconds)
        patch.setattr(sharded, "_OVERHEADS", 0.0)
        yield patch


@pytest.mark.parametrize("n_killed", [1, 2])
def test_workers_that_are_killed_take_nothing_with_them(client: Any, n_killed: int, tmp_path: Path) -> None:
    """Nor does the last of those that hold the data."""
    X, y = data(2000)
    pools = [pm.Pool([pm.Member(60, seed=i) for i in range(24)], F, 3, seed=1) for _ in range(2)]
    pools[0].fit(X, y, epochs=40, **QUIET)
    killed, looks, pressed = [], 0, interrupts.pressed

    def kill_one() -> bool:
        """In the middle of the work: at the fourth look at what is done."""
        nonlocal looks
        looks += 1
        if looks == 4:
            for pid in list(client.run(os.getpid).values())[:n_killed]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        return pressed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded.interrupts, "pressed", kill_one)
        pools[1].fit(X, y, epochs=40, client=client, **QUIET)
    assert killed
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)
    client.wait_for_workers(2, timeout=60)


class KilledError(BaseException):
    pass


class Done:
    """A future that is done; what it holds is sent to and fro."""

    status = "finished"

    def __init__(self, value: Any) -> None:
        self._pickled = pickle.dumps(value)

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return pickle.loads(self._pickled)


class OneWorker:
    """A client whose two threads do at once what they are asked for."""

    def submit(self, function: Any, *arguments: Any, **how: Any) -> Done:
        return Done(function(*(each.result() if isinstance(each, Done) else each for each in arguments)))

    def scatter(self, values: list[Any], **how: Any) -> list[Any]:
        return values

    def cancel(self, futures: list[Any]) -> None:
        pass

    def scheduler_info(self, **how: Any) -> dict[str, Any]:
        return {"workers": {"one": {"nthreads": 2}}}


@pytest.mark.parametrize("draw", range(8))
def test_a_run_goes_on_from_what_shards_had_reached(draw: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after some checkpoint; goes on here or on workers. Some members were trained and validated before."""
    rng, worker = np.random.default_rng(), OneWorker()
    X, y = data(400)
    how: dict[str, Any] = {"epochs": int(rng.integers(2, 31)), "batch_size": int(rng.integers(3, 30)), **QUIET}
    again = {"validation_data": data(40)} if draw % 2 else {}
    how |= again | ({"early_stopping": bool(rng.random() < 0.5)} if again else {})
    before = new_pool().fit(*data(), validation_data=data(30), early_stopping=True, **QUIET)
    before = before.partial_fit(*data(), members=before.ids_[:5], validation_data=data(20), **QUIET)
    one = as_file(copy.copy(before).partial_fit(X, y, **how), tmp_path)
    write, count, at = Checkpoints.write, 0, int(rng.integers(1, 20))

    def die(self: Checkpoints, state: Any, last: bool = False) -> None:
        nonlocal count
        write(self, state, last)
        count += 1
        if count == at:
            raise KilledError

    monkeypatch.setattr(sharded, "_PIECE", float(10.0 ** rng.uniform(-3, -1)))
    monkeypatch.setattr(sharded, "_OVERHEADS", 0.0)
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    with monkeypatch.context() as patch, contextlib.suppress(KilledError):
        patch.setattr(Checkpoints, "write", die)
        copy.copy(before).partial_fit(X, y, client=worker, checkpoint=tmp_path / "here", **how)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    resumed = pm.resume(tmp_path / "here", X, y, **again)
    assert as_file(resumed, tmp_path) == one
    resumed = pm.resume(tmp_path / "there", X, y, client=worker, **again)
    assert as_file(resumed, tmp_path) == one
    assert as_file(pm.resume(tmp_path / "there"), tmp_path) == one


def test_a_client_that_is_lost(client: Any, tmp_path: Path) -> None:
    X, y = data(400)
    how: dict[str, Any] = {"epochs": 30, "batch_size": 5, **QUIET}
    one = new_pool().fit(X, y, **how)
    write = Checkpoints.write

    def die(self: Checkpoints, state: Any, last: bool = False) -> None:
        write(self, state, last)
        if (state.progress.epoch > 0).any():
            raise KilledError

    with short_pieces(0.05) as patch:
        patch.setattr(Checkpoints, "write", die)
        patch.setattr(Checkpoints, "due", lambda self: True)
        with pytest.raises(KilledError):
            new_pool().fit(X, y, client=client, checkpoint=tmp_path / "run", **how)
    resumed = pm.resume(tmp_path / "run", X, y, client=client)
    assert as_file(resumed, tmp_path) == as_file(one, tmp_path)


# Programs.


class Programs:
    """`dask scheduler` and `dask worker` as programs of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        self.address = folder / "scheduler.json"

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *map(str, arguments)]
        out = (self.folder / f"{len(self.processes)}.log").open("wb")
        with out:
            self.processes.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder))
        return self.processes[-1]

    def scheduler(self) -> subprocess.Popen[bytes]:
        self.address.unlink(missing_ok=True)
        return self.start("scheduler", "--port", 0, "--no-dashboard", "--scheduler-file", self.address)

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker", "--scheduler-file", self.address, "--nthreads", 1, "--no-nanny", "--no-dashboard",
                          "--local-directory", self.folder / f"worker {len(self.processes)}")  # fmt: skip

    def client(self) -> Any:
        from distributed import Client

        end = time.monotonic() + 60
        while not self.address.exists() and time.monotonic() < end:
            time.sleep(0.05)
        found = Client(scheduler_file=str(self.address), timeout=60)
        found.wait_for_workers(2, timeout=60)
        return found


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    requires("distributed")
    found = Programs(tmp_path)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


def test_programs_that_are_killed(programs: Programs, tmp_path: Path) -> None:
    """A worker in the middle of a shard, then the scheduler and all; others go on from the checkpoints."""
    X, y = data(1000)
    np.save(tmp_path / "X.npy", X.astype("float32"))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    how: dict[str, Any] = {"epochs": 60, "batch_size": 5, **QUIET}
    one = new_pool().fit(X, y, **how)
    scheduler, (first, second) = programs.scheduler(), (programs.worker(), programs.worker())
    client, write = programs.client(), Checkpoints.write

    def kill(self: Checkpoints, state: Any, last: bool = False) -> None:
        write(self, state, last)
        if (state.progress.epoch > 0).any() and first.poll() is None:
            first.kill()
            first.wait()
        elif first.poll() is not None:
            for each in (second, scheduler):
                each.kill()
            raise KilledError

    with short_pieces(0.1) as patch:
        patch.setattr(Checkpoints, "write", kill)
        patch.setattr(Checkpoints, "due", lambda self: True)
        with pytest.raises(KilledError):
            new_pool().fit(X, y, client=client, checkpoint=tmp_path / "run", **how)
    client.close(timeout=5)
    programs.scheduler(), programs.worker(), programs.worker()
    with programs.client() as client:
        resumed = pm.resume(tmp_path / "run", X, y, client=client)
    assert as_file(resumed, tmp_path) == as_file(one, tmp_path)


def test_a_scheduler_that_is_lost_is_named(programs: Programs, tmp_path: Path) -> None:
    X, y = data(400)
    scheduler, _, _ = programs.scheduler(), programs.worker(), programs.worker()
    client, looks, pressed = programs.client(), 0, interrupts.pressed

    def kill() -> bool:
        nonlocal looks
        looks += 1
        if looks == 20:
            scheduler.kill()
        return pressed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded.interrupts, "pressed", kill)
        with pytest.raises(
            pm.DataError, match=r"client: expected a scheduler that answers.*pm\.resume\('.*run', \.\.\.\)"
        ):
            new_pool().fit(X, y, epochs=10**4, client=client, checkpoint=tmp_path / "run", **QUIET)
    client.close(timeout=1)


# Data in files.


def test_memory_maps_are_sent_by_path(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    whole = rng.normal(size=(50, 2 * F)).astype("float32")
    np.save(tmp_path / "X.npy", whole)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for view in (mapped, mapped[7:], mapped[3:40, 2:9], np.asarray(mapped)[5:], mapped[:, 1], mapped[::3]):
        where = in_file(view)
        assert where is not None and len(pickle.dumps(where)) < 500
        assert np.array_equal(pickle.loads(pickle.dumps(where)).array(), view)
    for other in (whole, np.array(mapped), whole[::-1], mapped[::-1]):
        assert in_file(other) is None
    copied = np.memmap(tmp_path / "X.npy", "float32", "c", 128, (10,))
    assert in_file(copied) is None, "what is written to it is in no file"


def test_members_learn_from_memory_maps(tmp_path: Path) -> None:
    X, y = data(200)
    np.save(tmp_path / "X.npy", np.concatenate([X, X], axis=1).astype("float32"))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")[:, :F]
    sent: list[Any] = []

    class Watched(OneWorker):
        def scatter(self, values: list[Any], **how: Any) -> list[Any]:
            sent.extend(values)
            return values

    own = {"features": [np.arange(1 + i % F) for i in range(len(new_pool()))], **QUIET}
    for more in ({}, own):
        there = new_pool().fit(mapped, y, validation_data=(mapped, y), client=Watched(), **{**QUIET, **more})
        here = new_pool().fit(X, y, validation_data=(X, y), **{**QUIET, **more})
        assert as_file(there, tmp_path) == as_file(here, tmp_path)
    tables = [x for each in sent for x in each.x]
    assert tables and all(isinstance(x, InFile) for x in tables)


def test_other_files_under_the_path_are_found_out(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    np.save(path, data(20)[0])
    where = in_file(np.load(path, mmap_mode="r"))
    assert where is not None
    np.save(path, data(20)[0])
    with pytest.raises(pm.DataError, match=r"X\.npy: expected the contents that the client has"):
        where.array()
    np.save(path, data(10)[0])
    with pytest.raises(pm.DataError, match=r"X\.npy: expected 2,208 bytes, got 1,168"):
        where.array()
    path.unlink()
    with pytest.raises(pm.DataError, match=r"X\.npy: expected the data of the client, got No such file.*in memory"):
        where.array()


def test_what_is_interrupted_keeps_what_shards_had_reached(client: Any, tmp_path: Path) -> None:
    """Members that had best weights before predict with their last, as after an interruption on one machine."""
    X, y = data(400)
    pool = new_pool().fit(*data(), validation_data=data(30), early_stopping=True, **QUIET)
    ended, pressed, end_piece = 0, interrupts.pressed, sharded._Run._end_piece

    def counted(run: Any, each: Any) -> None:
        nonlocal ended
        ended += 1
        end_piece(run, each)

    with short_pieces(0.05) as patch:
        patch.setattr(sharded._Run, "_end_piece", counted)
        patch.setattr(sharded.interrupts, "pressed", lambda: ended > 12 or pressed())
        pool.partial_fit(X, y, epochs=10**4, batch_size=5, client=client, checkpoint=tmp_path / "run", **QUIET)
    assert pool.ended_ == "interrupted"
    trained = pool._progress.step > 0
    assert trained.any() and (pool._records.best_epoch[pool._progress.epoch > 1] < 0).all()
    some = pool.ids_[pool._progress.epoch > 1]
    assert len(some) and np.array_equal(pool.predict(X, members=some), pool.predict(X, members=some, weights="last"))


def test_a_budget_ends_all_shards(client: Any) -> None:
    X, y = data(5000)
    pool = pm.Pool([pm.Member(200, seed=i) for i in range(16)], F, 3, seed=1)
    began = time.monotonic()
    pool.fit(X, y, epochs=10**6, time_budget=1.0, client=client, **QUIET)
    assert pool.ended_ == "time budget"
    assert pool.leaderboard()[0]["epochs"] > 0 and time.monotonic() - began < 60


def test_errors_of_workers_reach_the_caller(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "_RETRIES", 0)
    X, y = data()
    pool = new_pool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "train_piece", _fails)
        with pytest.raises(ZeroDivisionError):
            pool.fit(X, y, client=client, **QUIET)


def _fails(*arguments: Any) -> Any:
    return 1 // 0


@pytest.mark.parametrize("odd", [3, "tcp://127.0.0.1:8786", object()])
def test_what_is_no_client_is_refused(odd: Any) -> None:
    with pytest.raises(pm.DataError, match="client: expected a distributed.Client"):
        new_pool().fit(*data(), client=odd, **QUIET)


def test_callbacks_are_refused(client: Any) -> None:
    with pytest.raises(pm.DataError, match="callbacks: expected none where there is a client"):
        new_pool().fit(*data(), client=client, callbacks=[lambda end: None], **QUIET)


# Searches.


def test_a_search_on_a_cluster_has_the_result_of_one_machine(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng()
    X = rng.normal(size=(60, 3))
    how: dict[str, Any] = {"time_budget": None, "max_members": 18, "max_epochs": 3, "cv": 3, "progress": False}
    found = []
    for more in ({}, {"client": client}, {"client": client, "halving": 2}, {"halving": 2}):
        pm.search(X, X[:, 0], **how, **more).ensemble.save(tmp_path / "model.pmlp")
        found.append((tmp_path / "model.pmlp").read_bytes())
    assert found[0] == found[1] and found[2] == found[3]
    within = pm.search(X, X[:, 0], **how | {"time_budget": 5.0, "max_members": None}, client=client)
    assert within.trials and within.seconds < 20


def test_the_command_line_on_a_cluster(client: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from command_line import PENGUINS, refused, run

    fit = ("fit", PENGUINS, "--target", "species", "--cv", "3", "--max-members", "9", "--max-epochs", "3", "--json")
    found = []
    for name, more in (("a", ()), ("b", ("--scheduler", client.scheduler.address))):
        said = run(capsys, *fit, "--out", tmp_path / name, *more)
        assert said.code == 0, said.err
        found.append(json.loads(said.out)["scores"])
    assert found[0] == found[1]
    refused(run(capsys, *fit, "--out", tmp_path / "c", "--scheduler", "no address"), "--scheduler", "no address")
