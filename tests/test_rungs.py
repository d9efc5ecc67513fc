"""Rungs of successive halving are plain calls: members train up to targets of their own, schedules keep the length that
was planned, and members that are dropped rest with all that they have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from paused_runs import Run, begun
from pmlp_np.formulas.schedules import SCHEDULES
from pmlp_np.state.progress import STATUS_NAMES
from test_rounds import facts
from varied_pool import assert_same_bits

F, N = 3, 24
HOW: dict[str, Any] = {"batch_size": 8, "progress": False, "n_threads": 1}
RUNGS = (10, 20, 40)


def drawn(seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, F))
    return X, np.sin(2.0 * X[:, 0]) + 0.3 * rng.normal(size=n)


def planned_members(schedule: str) -> list[pm.Member]:
    """With a schedule that goes by a fit's length, where it goes by any."""
    options: list[dict[str, Any]] = [
        {}, {"warmup_epochs": 3.5}, {"plateau_patience": 2, "plateau_factor": 0.7}, {"schedule_epochs": 25.0},
        {"final_rate_factor": 0.1, "warmup_epochs": 12.0}, {"batch_size": 5},
    ]  # fmt: skip
    return [pm.Member(hidden=4, learning_rate=0.02, schedule=schedule, **more) for more in options]


def rungs(run: Run, halve: bool) -> dict[int, pm.Pool]:
    """Train in rungs, half of the members in each after the first, as a search does; by epochs the pool of those that
    were left."""
    run.state.target[:] = RUNGS[0]
    found = {}
    for rung, epochs in enumerate(RUNGS):
        assert run.go_on() == "done" and set(run.pool._progress.epoch.tolist()) == {epochs}
        found[epochs] = run.pool
        if epochs < RUNGS[-1]:
            run = run.take(run.pool.ids_[::2][::-1] if halve else run.pool.ids_)
            run.state.target[:] = RUNGS[rung + 1]
    return found


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_keep_their_planned_length_over_rungs(schedule: str, validated: bool, backend: str) -> None:
    """What is left after rungs of 10, 20 and 40 epochs has the bits of one fit of 40; of each rung, those of the epochs
    so far of such a fit."""
    pool = pm.Pool(planned_members(schedule), F, seed=3, backend=backend)
    how = HOW | ({"validation_data": drawn(1, 9)} if validated else {})
    # The reference's roundings depend on who is beside a member.
    halve = backend != "reference"
    found = rungs(begun(pool.subset(pool.ids_), *drawn(0), epochs=RUNGS[-1], **how), halve)
    whole = pool.fit(*drawn(0), epochs=RUNGS[-1], **how)
    left = found[RUNGS[-1]]
    assert len(left) == (2 if halve else len(whole))
    expected = whole.subset(left.ids_)
    assert_same_bits(left, expected)
    assert facts(left) == facts(expected)
    for epochs, part in found.items():
        for name, curve in part.history_.items():
            assert np.array_equal(curve[:, :epochs], whole.history_[name][whole._positions(part.ids_), :epochs]), name


@pytest.mark.parametrize("schedule", [name for name, entry in SCHEDULES.items() if entry.has_length])
def test_a_plan_of_another_length_would_be_noticed(schedule: str) -> None:
    pool = pm.Pool(pm.Member(hidden=4, learning_rate=0.02, schedule=schedule), F, backend="reference")
    run = begun(pool.subset([0]), *drawn(0), epochs=10, **HOW)
    run.go_on()
    whole = pool.fit(*drawn(0), epochs=40, **HOW)
    assert not np.array_equal(run.pool.history_["loss"], whole.history_["loss"][:, :10])


def test_targets_of_each_member(backend: str) -> None:
    """Members that are asked for train as long as each is to; the others stay as they are."""
    specs = [pm.Member(hidden=4, schedule="linear"), pm.Member(hidden=5), pm.Member(hidden=(3, 2), dropout=0.2)]
    pool = pm.Pool(specs, F, seed=1, backend=backend)
    epochs, asked = np.array([3, 5, 9]), np.array([True, True, False])
    run = begun(pool.subset(pool.ids_), *drawn(0), epochs=epochs, planned=7, asked=asked, **HOW)
    assert run.go_on() == "done" and run.pool._progress.epoch.tolist() == [3, 5, 0]
    alone = begun(pool.subset([0]), *drawn(0), epochs=3, planned=7, **HOW)
    alone.go_on()
    other = pool.subset([1]).fit(*drawn(0), epochs=5, **HOW)
    for part in (alone.pool, other):
        found, expected = run.pool.subset(part.ids_), part.history_["loss"]
        tolerance = 0.0 if backend == "numba" else 1e-5  # the reference's sums depend on who is beside a member
        np.testing.assert_allclose(found.history_["loss"][:, : expected.shape[1]], expected, rtol=tolerance)
        np.testing.assert_allclose(
            found.forward(drawn(3)[0]), part.forward(drawn(3)[0]), rtol=tolerance, atol=tolerance
        )


# Members that are dropped.


def half_dropped(backend: str = "reference") -> pm.Pool:
    specs = list(pm.grid(hidden=[3, (4, 2)], learning_rate=[0.01, 0.02, 0.05]))
    specs.append(pm.Member(hidden=2, activation="identity", optimizer=pm.SGD(1e30)))
    pool = pm.Pool(specs, F, seed=2, backend=backend, ids=[5, 3, 8, 1, 9, 2, 7])
    how = {"validation_data": drawn(1, 9), "early_stopping": True, **HOW}
    with pytest.warns(pm.DivergedWarning):
        pool.fit(*drawn(0), epochs=2, **how)
    pool._drop([8, 2, 7])
    return pool


DROPPED = ["ok", "ok", "dropped", "ok", "ok", "dropped", "diverged"]


def test_dropped_members_rest(backend: str) -> None:
    """In every call that doesn't name them, with and without early stopping; diverged ones stay diverged."""
    pool = half_dropped(backend)
    assert pool.status_ == DROPPED
    before = pool.subset([8, 2])
    for more in ({}, {"validation_data": drawn(1, 9)}, {"validation_data": drawn(1, 9), "early_stopping": True}):
        pool.partial_fit(*drawn(0), epochs=2, **HOW, **more)
        assert pool.status_ == DROPPED
    assert pool._progress.epoch[:6].tolist() == [8, 8, 2, 8, 8, 2]
    before._records.make_room([], 8)
    assert_same_bits(pool.subset([8, 2]), before)
    board = {record["id"]: record["status"] for record in pool.leaderboard()}
    assert [board[id] for id in pool.ids_.tolist()] == DROPPED and "dropped" in str(pool.leaderboard())
    # They predict as ever.
    X = drawn(3)[0]
    assert np.array_equal(pool.predict(X, members=[2, 8]), before.predict(X, members=[2, 8]))


def test_dropped_members_go_on_when_they_are_named(backend: str) -> None:
    pool, plain = half_dropped(backend), half_dropped(backend)
    plain._progress.status[plain._progress.status == STATUS_NAMES.index("dropped")] = 0
    for each in (pool, plain):
        each.partial_fit(*drawn(0), epochs=3, members=[2, 5], **HOW)
    assert pool.status_ == [*DROPPED[:5], "ok", "diverged"] and pool._progress.epoch[5] == 5
    assert_same_bits(pool, plain, [5, 2])
    # And fit begins anew with all.
    with pytest.warns(pm.DivergedWarning):
        pool.fit(*drawn(0), epochs=1, **HOW)
    assert pool.status_ == ["ok"] * 6 + ["diverged"] and (pool._progress.epoch[:6] == 1).all()


@pytest.mark.parametrize("way", ["file", "subset", "concat", "copy"])
def test_dropped_members_stay_dropped(way: str, tmp_path: Path) -> None:
    pool = half_dropped()
    pool.save(tmp_path / "pool.pmlp")
    again = {
        "file": lambda: pm.load(tmp_path / "pool.pmlp"),
        "subset": lambda: pool.subset(pool.ids_),
        "concat": lambda: pm.concat([pool.subset([5, 3, 8]), pool.subset([1, 9, 2, 7])]),
        "copy": lambda: pool.__copy__(),
    }[way]()
    assert again.status_ == DROPPED
    for each in (pool, again):
        each.partial_fit(*drawn(0), epochs=2, **HOW)
    assert again.status_ == DROPPED
    assert_same_bits(again, pool)


def test_dropped_members_keep_their_place_in_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in which they rest leave their cursor alone; named, they finish the epoch that a budget had cut short."""
    specs = [pm.Member(hidden=4), pm.Member(hidden=(3, 2))]
    pool = pm.Pool(specs, F, backend="reference")
    whole = pm.Pool(specs, F, backend="reference").fit(*drawn(0), epochs=2, **HOW)
    looks = iter([0.0] * 3)
    with monkeypatch.context() as patch:
        patch.setattr("pmlp_np.training.loop.time", SimpleNamespace(monotonic=lambda: next(looks, 1e9)))
        pool.fit(*drawn(0), epochs=2, time_budget=5.0, **HOW)
    (under_way,) = np.flatnonzero(pool._progress.minibatch)
    pool._drop([under_way])
    key = pool._progress.cursor_key[under_way]
    # What it is shown at is its last whole epoch's, which there is none of.
    record = next(record for record in pool.leaderboard() if record["id"] == under_way)
    assert (record["epochs"], record["minibatch"], record["status"]) == (0, 2, "dropped") and np.isnan(record["loss"])
    pool.partial_fit(-drawn(0)[0], drawn(0)[1], epochs=3, **HOW)
    assert pool._progress.cursor_key[under_way] == key != 0 and pool._progress.minibatch[under_way] == 2
    pool.partial_fit(*drawn(0), epochs=2, members=[under_way], **HOW)
    whole._records.make_room([], pool.history_["loss"].shape[1])
    assert_same_bits(pool, whole, [under_way])


@pytest.mark.parametrize("bad", [[4], "all", [1.5], []])
def test_only_members_of_the_pool_are_dropped(bad: Any) -> None:
    pool = half_dropped()
    with pytest.raises(pm.DataError, match=r"^members: expected "):
        pool._drop(bad)
    assert pool.status_ == DROPPED


def test_a_dropped_member_of_a_rung_is_left_alone(backend: str) -> None:
    """A search drops some between rungs and raises the target of the run: those that are left go on."""
    run = begun(pm.Pool(pm.grid(hidden=[3, 4, 5, (4, 2)]), F, seed=2, backend=backend), *drawn(0), epochs=8, **HOW)
    run.state.target[:] = 2
    run.go_on()
    run.state.progress.drop(np.array([0, 3]))
    run.state.target[:] = 8
    assert run.go_on() == "done"
    assert run.pool._progress.epoch.tolist() == [2, 8, 8, 2]
    assert run.pool.status_ == ["dropped", "ok", "ok", "dropped"]
    whole = pm.Pool(pm.grid(hidden=[3, 4, 5, (4, 2)]), F, seed=2, backend=backend).fit(*drawn(0), epochs=8, **HOW)
    assert_same_bits(run.pool, whole, [1, 2])
