"""Rounds: however many epochs a call of a backend takes, members learn the same, to the last bit, and the history tells
the same; also where validation, early stopping and plateaus happen in compiled code."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from conftest import BACKENDS
from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.backends.numba import task_runner, threads, views
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.progress import Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training import loop, rounds
from pmlp_np.training.fit_data import watch_of
from pmlp_np.training.progress_bar import ProgressBar
from pmlp_np.training.settings import Settings
from trained_bits import CASES, committed, digest
from varied_pool import MEMBERS, N_FEATURES, N_OUTPUTS, N_ROWS, SETTINGS, Setting, assert_same_bits

on_numba = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")
EPOCHS = 7


@pytest.fixture
def of_length(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have all rounds take so many epochs."""

    def fix(epochs: int) -> None:
        length = SimpleNamespace(epochs=epochs, begin=lambda: None, end=lambda done: None)
        monkeypatch.setattr(loop, "RoundLength", lambda *arguments: length)

    return fix


@on_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_long_rounds_leave_the_committed_bits(name: str, dtype: str, of_length: Any) -> None:
    of_length(100)
    assert digest(CASES[name].train(dtype)) == committed()[name][dtype]


# With validation, and what decides which epoch is best.
WAYS: dict[str, dict[str, Any]] = {
    "loss": {},
    "loss, min_delta": {"min_delta": 0.02},
    "score": {"monitor": "score"},
    "not stopping": {"early_stopping": False},
}


def validated(setting: Setting, way: dict[str, Any], **changes: Any) -> pm.Pool:
    """The varied pool, trained in two calls, so that some members begin where others have stopped."""
    pool = setting.pool()
    how = {"validation_data": setting.some_data(40, seed=2), "early_stopping": True, "patience": 2} | way | changes
    # Rates that make some members better and others worse.
    pool = setting.fit(pool, EPOCHS, **how)
    return setting.go_on(pool, 3, **how)


def facts(pool: pm.Pool) -> dict[str, Any]:
    """What training leaves beside bits that `assert_same_bits` compares."""
    records = pool._records
    found = {name: getattr(records, name).tolist() for name in ("best_value", "best_epoch", "waits_from", "due")}
    shown = {name: column.tobytes() for name, column in records.shown.items()}
    return found | shown | {"keys": records.validated_on.tolist(), "table": str(pool.leaderboard())}


def plain(setting: Setting) -> Setting:
    return replace(setting, early_stopping=False)


VALIDATED = [plain(SETTINGS[0]), plain(SETTINGS[1]), replace(SETTINGS[4], early_stopping=False), plain(SETTINGS[2])]


@on_numba
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("setting", VALIDATED, ids=str)
def test_compiled_rounds_do_what_the_rule_says(setting: Setting, way: str, of_length: Any) -> None:
    """A callback has every epoch end in Python, by the one definition of what follows it."""
    expected = validated(setting, WAYS[way], callbacks=[lambda end: None])
    stops = WAYS[way].get("early_stopping", True)
    assert ("stopped early" in expected.status_) == stops
    assert len(set(expected._progress.epoch.tolist())) > 2 or not stops
    for epochs in (1, 3, 100):
        of_length(epochs)
        pool = validated(setting, WAYS[way])
        assert_same_bits(pool, expected)
        assert facts(pool) == facts(expected)


@on_numba
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_metrics_that_follow_from_means_are_those_of_every_epoch(loss: str, of_length: Any) -> None:
    rng = np.random.default_rng()
    X, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    y, n_outputs = (y, 1) if loss == "squared_error" else ((y > 0).astype(int), 2)
    metrics = ["r2", "rmse"] if loss == "squared_error" else ["accuracy", "log_loss"]
    how = {"validation_rows": [np.arange(i, 60, 5) for i in range(4)], "epochs": 9, "metrics": metrics}
    pools = []
    for callbacks in ([lambda end: None], []):
        of_length(4)
        pool = pm.Pool(pm.grid(hidden=[(3,), (17,)], repeats=2), 4, n_outputs, loss, seed=3)
        pools.append(pool.fit(X, y, early_stopping=True, patience=1, callbacks=callbacks, **how))
    assert_same_bits(*pools)
    assert facts(pools[0]) == facts(pools[1])


@on_numba
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_rounds_on_rows_targets_and_weights_of_members(shuffle: str | None, of_length: Any) -> None:
    """Members of the same rows share copies of an epoch, few of them go through orders; both, one epoch after another
    and several at once."""
    rng = np.random.default_rng()
    specs = pm.grid(hidden=[(3,), (17,), (5, 4)], learning_rate=[0.01, 0.3], plateau_patience=[0, 1], repeats=8)
    X, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    parts = [rng.integers(0, 60, 30 + 7 * (i % 3)) for i in range(3)]
    own = {
        "rows": {"rows": [parts[i % 3] for i in range(len(specs))]},
        "many rows": {"rows": [rng.integers(0, 60, 40) for _ in specs]},
        "targets": {"targets": rng.normal(size=(len(specs), 60))},
        "weights": {"sample_weight": rng.uniform(size=60)},
        "weights of each": {"sample_weight": rng.uniform(size=(len(specs), 60))},
    }
    for given in own.values():
        found = []
        for epochs in (1, 100):
            of_length(epochs)
            how = {"validation_rows": [np.arange(i % 4, 60, 4) for i in range(len(specs))]} | given
            pool = pm.Pool(specs, 4, seed=3)
            pool.fit(X, None if "targets" in given else y, epochs=6, shuffle=shuffle, early_stopping=True, patience=1,
                     batch_size=8, n_threads=1, **how)  # fmt: skip
            found.append(pool)
        assert_same_bits(*found)
        assert facts(found[0]) == facts(found[1])


@on_numba
def test_copies_of_a_round_are_bounded(of_length: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch at a time where there is no room for copies of more; the bits are the same."""
    of_length(100)
    expected = VALIDATED[0].fit(VALIDATED[0].pool(), EPOCHS)
    made: list[int] = []
    reordered = views._reordered

    def counted(*arguments: Any) -> Any:
        epochs, seen = reordered(*arguments)
        made.append(epochs)
        assert len(seen.views) == epochs
        return epochs, seen

    monkeypatch.setattr(views, "_reordered", counted)
    for room, each in ((1 << 24, EPOCHS), (2 * N_ROWS * 4 * (N_FEATURES + N_OUTPUTS), 2), (1, 1)):
        made.clear()
        monkeypatch.setattr(views, "_ROUND_BYTES", room)
        assert_same_bits(VALIDATED[0].fit(VALIDATED[0].pool(), EPOCHS), expected)
        assert max(made) == each and sum(made) == EPOCHS


@on_numba
def test_large_members_end_their_epochs_as_others_do(of_length: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads train each member, and some of them alone."""
    of_length(100)
    expected = validated(VALIDATED[0], {})
    monkeypatch.setattr(task_runner, "SMALL_WORK", 0)
    for share in (1.0, 0.3):
        monkeypatch.setattr(
            threads, "n_trained_together", lambda weight, n_threads, share=share: int(share * len(weight))
        )
        pool = validated(VALIDATED[0], {}, n_threads=2)
        assert_same_bits(pool, expected)
        assert facts(pool) == facts(expected)


# Cut short in a round.


class Watched:
    """Does something once when the share of a round that is done reaches one, while its last validation goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: Any) -> None:
        self.done = False
        monkeypatch.setattr(threads, "_POLL_SECONDS", 1e-3)

        def show(bar: Any, share: float, note: str) -> None:
            if share >= 1.0 and not self.done:
                self.done = True
                then()

        monkeypatch.setattr(ProgressBar, "show", show)


def long_validation() -> tuple[pm.Pool, dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(16, 3)), rng.normal(size=16)
    many = rng.normal(size=(1_500_000, 3)).astype(np.float32)
    pool = pm.Pool(pm.Member(hidden=(64, 64)), 3, seed=1)
    how = {"validation_data": (many, many[:, 0]), "early_stopping": True, "batch_size": 8, "progress": False}
    return pool, how, (X, y)


@on_numba
@pytest.mark.usefixtures("ctrl_c_as_in_a_terminal")
def test_ctrl_c_leaves_an_epoch_that_is_being_validated_due(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, how, data = long_validation()
    with monkeypatch.context() as patch:
        watched = Watched(patch, lambda: signal.raise_signal(signal.SIGINT))
        pool.fit(*data, epochs=1, **how)
    assert watched.done and pool.ended_ == "interrupted"
    assert pool._records.due.tolist() == [1] and pool._progress.epoch.tolist() == [1]
    assert np.isnan(pool.history_["validation_loss"]).all() and np.isfinite(pool.history_["loss"]).all()
    pool.partial_fit(*data, epochs=1, **how)
    expected = long_validation()[0].fit(*data, epochs=2, **how)
    assert_same_bits(pool, expected)
    assert facts(pool) == facts(expected)


@on_numba
def test_a_budget_cuts_no_validation_short(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, how, data = long_validation()
    now = [0.0]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
        watched = Watched(patch, lambda: now.__setitem__(0, 1e9))
        pool.fit(*data, epochs=3, time_budget=5.0, **how)
    assert watched.done or pool.ended_ == "time budget"
    assert pool._records.due.tolist() == [0]
    done = int(pool._progress.epoch[0])
    assert np.isfinite(pool.history_["validation_loss"][0, :done]).all()


# The state of a run.


def data_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(1, 40)).astype(np.float32)


class Run:
    """A run of a pool's members, by its state."""

    def __init__(self, backend: str, epochs: Any, planned: Any = None, **how: Any) -> None:
        specs = [pm.Member(hidden=4, schedule="cosine"), pm.Member(hidden=(5, 3), plateau_patience=1),
                 pm.Member(hidden=6, batch_size=7, learning_rate=0.1)]  # fmt: skip
        self.pool = pm.Pool(specs, 3, seed=4, backend=backend)
        self.pool._ready()
        batch_size = np.array([8, 8, 7])
        self.state = TrainingState.start(
            self.pool._progress, np.ones(3, bool), epochs, batch_size, SHUFFLES["shared"], planned
        )
        self.how = {"early_stopping": True, "patience": 3} | how

    def go_on(self, pause: Any = None) -> str:
        how = {"min_delta": 0.0, "time_budget": None, "progress": False, "n_threads": 2} | self.how
        settings = Settings(1, 8, "shared", **how)
        pool = self.pool
        (x, y), (xv, yv) = data_of(0), data_of(1)
        return loop.train(
            pool._ready(), self.state, pool._records, watch_of(pool._plan, settings), Dataset([x], y),
            Dataset([xv], yv), settings, pool.ids_, settings.early_stopping, pause,
        )  # fmt: skip


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_a_run_that_pauses_goes_on_from_its_saved_state(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every look of the reference backend, after every minibatch; at the ends of rounds of the other."""
    monkeypatch.setattr(rounds, "_ROUND_SECONDS", 0.0)
    whole = Run(backend, 9)
    assert whole.go_on() == "done"
    run, looks = Run(backend, 9), 0

    def every_other_time() -> bool:
        nonlocal looks
        looks += 1
        return looks % 2 == 0

    pauses = 0
    while run.go_on(every_other_time) == "paused":
        pauses += 1
        run.pool, run.state = pickle.loads(pickle.dumps((run.pool, run.state)))
        # A pickle keeps that both have the same progress.
        assert run.state.progress is run.pool._progress
    assert pauses >= (20 if backend == "reference" else 4)
    assert_same_bits(run.pool, whole.pool)
    assert facts(run.pool) == facts(whole.pool)
    assert run.state.seconds > 0


def test_each_member_has_its_target(backend: str) -> None:
    run = Run(backend, np.array([2, 5, 0]), early_stopping=False)
    assert run.go_on() == "done"
    assert run.pool._progress.epoch.tolist() == [2, 5, 0]
    # The next rung.
    run.state = TrainingState.start(run.pool._progress, np.array([False, True, False]), 3, run.state.batch_size, 1)
    assert run.go_on() == "done"
    assert run.pool._progress.epoch.tolist() == [2, 8, 0]


def test_schedules_keep_their_planned_length_over_rungs(backend: str) -> None:
    whole, rungs = Run(backend, 6), Run(backend, 2, planned=6)
    whole.go_on()
    rungs.go_on()
    assert rungs.pool._progress.fit_epochs[0] == 6 and (rungs.pool._progress.epoch == 2).all()
    rungs.state.target[:] = 6
    rungs.go_on()
    assert_same_bits(rungs.pool, whole.pool)
    short = Run(backend, 2)
    short.go_on()
    assert short.pool._progress.fit_epochs[0] == 2


def test_a_copy_of_a_state_is_a_copy() -> None:
    state = TrainingState.start(Progress.start(2), np.ones(2, bool), 3, np.ones(2, np.int64), 1)
    other = copy.deepcopy(state)
    state.target[0], state.progress.epoch[0] = 9, 9
    assert other.target.tolist() == [3, 3] and other.progress.epoch.tolist() == [0, 0]


# How long a round is.


def test_how_many_epochs_a_round_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(rounds, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def after(seconds: float, epochs: int, length: rounds.RoundLength) -> int:
        length.begin()
        now[0] += seconds
        length.end(epochs)
        return length.epochs

    length = rounds.RoundLength(10, budgeted=True)
    assert length.epochs == 1
    # Fast epochs: four times as many as before, then as many as take three tenths of a second.
    assert after(0.001, 1, length) == 4 and after(0.004, 4, length) == 16
    assert after(0.16, 16, length) == 30
    assert after(1.0, 20, rounds.RoundLength(10, budgeted=False)) == 40
    # Slow ones: never less than one; a round that did nothing says nothing.
    assert after(10.0, 1, length) == 1 and after(5.0, 0, length) == 1
    # What a round finds out of very many members takes its room.
    many = rounds.RoundLength(150_000, budgeted=False)
    assert after(0.0, 1, many) == 2


def test_members_are_those_of_the_varied_pool() -> None:
    """Dropout, clipping, averages, schedules and plateaus: what changes from epoch to epoch is tried in rounds."""
    specs = pm.Pool(MEMBERS, N_FEATURES, N_OUTPUTS).specs
    for name in ("dropout", "input_dropout", "average", "clip_norm", "schedule", "plateau_patience", "feature_scale"):
        assert specs.option(name).any(), name
