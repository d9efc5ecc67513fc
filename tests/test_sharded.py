"""Training on a cluster: shards on workers, which may be lost, end with the bits of one machine."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_one_machine(client: Any, dtype: str, tmp_path: Path) -> None:
    X, y = data()
    how: dict[str, Any] = {"epochs": 3, "validation_data": data(40), "early_stopping": True, "patience": 1, **QUIET}
    one = new_pool(dtype=dtype).fit(X, y, **how)
    assert as_file(new_pool(dtype=dtype).fit(X, y, client=client, **how), tmp_path) == as_file(one, tmp_path)


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


def test_members_that_diverge_are_told_of(client: Any, tmp_path: Path) -> None:
    X, y = data()
    specs = [*varied_members()[:6], pm.Member(3, optimizer=pm.SGD(1e30))]
    pools = [pm.Pool(specs, F, 3, seed=5) for _ in range(2)]
    for pool, cluster in zip(pools, ({}, {"client": client}), strict=True):
        with pytest.warns(pm.DivergedWarning, match="6"):
            pool.fit(X, y, **QUIET, **cluster)
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)


# Losses.


def test_a_worker_that_is_killed_takes_nothing_with_it(client: Any, tmp_path: Path) -> None:
    X, y = data(2000)
    pools = [pm.Pool([pm.Member(60, seed=i) for i in range(24)], F, 3, seed=1) for _ in range(2)]
    pools[0].fit(X, y, epochs=40, **QUIET)
    killed = []
    scheduler_looks = 0

    def kill_one() -> int:
        """In the middle of the work: at the third look at how many threads there are."""
        nonlocal scheduler_looks
        scheduler_looks += 1
        if scheduler_looks == 3:
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        return 2

    from pmlp_np.pool import sharded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "threads_of", lambda client: kill_one())
        pools[1].fit(X, y, epochs=40, client=client, **QUIET)
    assert killed
    assert as_file(pools[0], tmp_path) == as_file(pools[1], tmp_path)
    client.wait_for_workers(2, timeout=60)


def test_a_run_goes_on_from_the_shards_that_were_done(client: Any, tmp_path: Path) -> None:
    X, y = data()
    one = new_pool().fit(X, y, epochs=3, **QUIET)
    write, count = Checkpoints.write, 0

    class KilledError(BaseException):
        pass

    def die_at_the_third(self: Checkpoints, state: Any, last: bool = False) -> None:
        nonlocal count
        write(self, state, last)
        count += 1
        if count == 3:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "write", die_at_the_third)
        patch.setattr(Checkpoints, "due", lambda self: True)
        with pytest.raises(KilledError):
            new_pool().fit(X, y, epochs=3, client=client, checkpoint=tmp_path / "run", **QUIET)
    resumed = pm.resume(tmp_path / "run", X, y, client=client)
    assert as_file(resumed, tmp_path) == as_file(one, tmp_path)
    assert as_file(pm.resume(tmp_path / "run"), tmp_path) == as_file(one, tmp_path)


def test_a_budget_ends_all_shards(client: Any) -> None:
    X, y = data(5000)
    pool = pm.Pool([pm.Member(200, seed=i) for i in range(16)], F, 3, seed=1)
    began = time.monotonic()
    pool.fit(X, y, epochs=10**6, time_budget=1.0, client=client, **QUIET)
    assert pool.ended_ == "time budget"
    assert pool.leaderboard()[0]["epochs"] > 0 and time.monotonic() - began < 60


def test_errors_of_workers_reach_the_caller(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmlp_np.pool import sharded

    monkeypatch.setattr(sharded, "_RETRIES", 0)
    X, y = data()
    pool = new_pool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded, "train_shard", _fails)
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
