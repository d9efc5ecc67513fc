"""Training over time: early stopping, members that leave, budgets, interrupts, and what people see meanwhile."""

import math
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.training.progress_bar import ProgressBar

F = 3
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, F))
Y = np.sin(X[:, 0]) + DRAW.normal(size=60) * 0.5
VALIDATION = DRAW.normal(size=(40, F)), DRAW.normal(size=40)
SETTINGS = {"batch_size": 16, "validation_data": VALIDATION}
# Fast, slow, restless and overfitting members.
SPECS = pm.grid(hidden=[2, 10, (6, 5)], activation=["tanh", "relu"], learning_rate=[1e-3, 0.03, 0.3])


pytestmark = pytest.mark.usefixtures("ctrl_c_as_in_a_terminal")


def bits(pool, member_id, weights="last"):
    mlp = pool.extract(member_id, weights)
    return b"".join(array.tobytes() for array in mlp.weights + mlp.biases)


def by_id(pool):
    return {record["id"]: record for record in pool.leaderboard()}


# Early stopping.


@pytest.fixture(scope="module")
def curves():
    """Validation losses (members, epochs) in full precision, of members that train without early stopping."""
    pool = pm.Pool(SPECS, F, dtype="float64")
    return np.stack([pool.partial_fit(X, Y, **SETTINGS).evaluate(*VALIDATION) for _ in range(30)], axis=1)


def simulate(curve, patience, min_delta):
    """(epochs done, best epoch, both from 1) of a member with this curve, by the definition of patience."""
    best, best_epoch = math.inf, -1
    for epoch, loss in enumerate(curve):
        if loss < best - min_delta:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch == patience:
            return epoch + 1, best_epoch + 1
    return len(curve), best_epoch + 1


@pytest.mark.parametrize("min_delta", [0.0, 0.02])
@pytest.mark.parametrize("patience", [1, 4, 100])
def test_each_member_stops_as_its_own_curve_says(curves, patience, min_delta):
    pool = pm.Pool(SPECS, F, dtype="float64")
    pool.fit(X, Y, epochs=30, early_stopping=True, patience=patience, min_delta=min_delta, **SETTINGS)
    expected = [simulate(curve, patience, min_delta) for curve in curves]
    records = by_id(pool)
    assert [(records[i]["epochs"], records[i]["best_epoch"]) for i in range(len(SPECS))] == expected
    if patience < 100:
        assert len({epochs for epochs, _ in expected}) > 3, "they stop at once, nothing tested"
    for i, (epochs, best_epoch) in enumerate(expected):
        stopped = epochs - best_epoch == patience
        assert records[i]["status"] == ("stopped early" if stopped else "ok")
        validation = pool.history_["validation_loss"][i]
        assert np.array_equal(validation[:epochs], curves[i, :epochs].astype(np.float32))
        for name, curve in pool.history_.items():
            assert curve.shape == (len(SPECS), 30)
            assert np.isfinite(curve[i, :epochs]).all() and np.isnan(curve[i, epochs:]).all(), name
    assert pool.ended_ == "done"
    assert pool.status_ == [records[i]["status"] for i in range(len(SPECS))]


def test_best_and_last_weights_are_those_of_their_epochs(curves):
    pool = pm.Pool(SPECS, F, dtype="float64")
    pool.fit(X, Y, epochs=30, early_stopping=True, patience=4, **SETTINGS)
    plain = pm.Pool(SPECS, F, dtype="float64")
    at_epoch = []
    for _ in range(30):
        plain.partial_fit(X, Y, batch_size=16)
        at_epoch.append([bits(plain, i) for i in range(len(SPECS))])
    for i, record in by_id(pool).items():
        assert bits(pool, i, "best") == at_epoch[record["best_epoch"] - 1][i]
        assert bits(pool, i, "last") == at_epoch[record["epochs"] - 1][i]
    best = [curves[i, record["best_epoch"] - 1] for i, record in sorted(by_id(pool).items())]
    assert np.array_equal(pool.evaluate(*VALIDATION), best)


def count_work(pool, monkeypatch):
    """A list that grows by the members of each epoch: a round of several begins with those of its first."""
    calls, backend = [], pool._ready()
    train = backend.train

    def counted(members, state, *rest):
        before = state.progress.epoch.copy()
        train(members, state, *rest)
        calls.append(set(members.tolist()))
        for k in range(1, (state.progress.epoch - before).max()):
            calls.append(set(np.flatnonzero(state.progress.epoch > before + k).tolist()))

    monkeypatch.setattr(backend, "train", counted)
    return calls


def test_members_that_stopped_leave_the_compute(monkeypatch):
    pool = pm.Pool(SPECS, F)
    calls = count_work(pool, monkeypatch)
    pool.fit(X, Y, epochs=20, early_stopping=True, patience=2, **SETTINGS)
    epochs = [by_id(pool)[i]["epochs"] for i in range(len(SPECS))]
    assert calls == [{i for i, done in enumerate(epochs) if done > epoch} for epoch in range(max(epochs))]
    assert pool._progress.step.tolist() == [4 * done for done in epochs]
    stopped = [i for i, status in enumerate(pool.status_) if status == "stopped early"]
    assert stopped and len(stopped) < len(SPECS) or max(epochs) < 20
    before = [bits(pool, i) for i in range(len(SPECS))]

    pool.partial_fit(X, Y, epochs=2, early_stopping=True, patience=2, **SETTINGS)
    assert all(bits(pool, i) == before[i] for i in stopped), "stopped members stay where they are"
    # Without early stopping everybody goes on, from where they stopped.
    pool.partial_fit(X, Y, epochs=1, **SETTINGS)
    records = by_id(pool)
    assert pool.status_ == ["ok"] * len(SPECS)
    for i in stopped:
        assert records[i]["epochs"] == epochs[i] + 1
        plain = pm.Pool(SPECS, F).subset([i]).fit(X, Y, epochs=epochs[i] + 1, batch_size=16)
        assert bits(pool, i) == bits(plain, i)


def test_early_stopping_goes_on_where_it_stood():
    settings = {"early_stopping": True, "patience": 3, **SETTINGS}
    whole = pm.Pool(SPECS, F).fit(X, Y, epochs=12, **settings)
    parts = pm.Pool(SPECS, F).fit(X, Y, epochs=5, **settings).partial_fit(X, Y, epochs=7, **settings)
    for weights in ("last", "best"):
        assert [bits(parts, i, weights) for i in range(len(SPECS))] == [
            bits(whole, i, weights) for i in range(len(SPECS))
        ]
    # An epoch later for some: partial_fit counts from where a member stands.
    assert parts.status_ == whole.status_


def test_stopping_early_changes_nobody_else():
    plain = pm.Pool(SPECS, F).fit(X, Y, epochs=10, **SETTINGS)
    pool = pm.Pool(SPECS, F).fit(X, Y, epochs=10, early_stopping=True, patience=3, **SETTINGS)
    through = [i for i, record in by_id(pool).items() if record["epochs"] == 10]
    assert 0 < len(through) < len(SPECS)
    assert all(bits(pool, i) == bits(plain, i) for i in through)


# Members that diverge.


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_diverged_members_leave_the_compute(monkeypatch):
    rates = [0.01, 1e30, 0.1, 1e9]
    specs = [pm.Member(hidden=4, activation="relu", optimizer=pm.SGD(learning_rate=rate)) for rate in rates]
    pool = pm.Pool(specs, F)
    calls = count_work(pool, monkeypatch)
    pool.fit(X, Y, epochs=6, **SETTINGS)
    assert pool.status_ == ["ok", "diverged", "ok", "diverged"]
    assert calls[-1] == {0, 2} and calls[0] == {0, 1, 2, 3}
    records = by_id(pool)
    assert (records[0]["epochs"], records[2]["epochs"]) == (6, 6)
    for i in (1, 3):
        assert records[i]["epochs"] * 4 + records[i]["minibatch"] == pool._progress.step[i] < 24
        # The epoch in which it happened shows it; none after that.
        happened = records[i]["epochs"] - (records[i]["minibatch"] == 0)
        assert np.isfinite(pool.history_["loss"][i, :happened]).all()
        assert np.isnan(pool.history_["loss"][i, happened + 1 :]).all()
        assert np.isnan(pool.history_["validation_loss"][i, happened:]).all()
    without = pm.Pool([specs[0], specs[2]], F, ids=[0, 2]).fit(X, Y, epochs=6, **SETTINGS)
    assert all(bits(pool, i) == bits(without, i) for i in (0, 2))

    steps = pool._progress.step.copy()
    before = [bits(pool, i) for i in range(4)]
    pool.partial_fit(X, Y, epochs=2, **SETTINGS)
    assert (pool._progress.step - steps).tolist() == [8, 0, 8, 0]
    assert [bits(pool, i) == before[i] for i in range(4)] == [False, True, False, True]
    # From the start again, everybody has another chance.
    pool.fit(X, Y, epochs=1, **SETTINGS)
    assert calls and pool._progress.step[0] == 4


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_weights_that_overflow_after_an_epochs_last_loss_are_noticed():
    """Features of zero hide the weights from the loss, while weight decay of this size blows them up in three steps."""
    member = pm.Member(hidden=(), optimizer=pm.SGD(learning_rate=0.25, weight_decay=4e15))
    data = np.zeros((8, 1)), np.ones(8)
    pool = pm.Pool([member], 1)
    pool.fit(*data, epochs=5, batch_size=8, validation_data=data, early_stopping=True, patience=1)
    (record,) = pool.leaderboard()
    assert (record["status"], record["epochs"], record["best_epoch"]) == ("diverged", 3, 2)
    assert np.isfinite(pool.history_["loss"][0]).tolist() == [True, True, True, False, False]
    assert np.isfinite(pool.history_["validation_loss"][0]).tolist() == [True, True, False, False, False]
    assert np.isfinite(pool.predict(data[0])).all() and not np.isfinite(pool.extract(0, "last").weights[0]).any()


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_a_pool_in_which_everybody_diverged_ends():
    pool = pm.Pool([pm.Member(hidden=4, optimizer=pm.SGD(learning_rate=1e30))] * 3, F)
    pool.fit(X, Y, epochs=50, early_stopping=True, **SETTINGS)
    assert (pool.status_, pool.ended_) == (["diverged"] * 3, "done")
    assert pool._progress.step.max() < 12
    assert pool.partial_fit(X, Y).ended_ == "done"


# Budgets and interrupts. On one thread the long pool needs far longer for an epoch than between two looks at the clock.

LONG = pm.grid(hidden=[24, 17], activation=["tanh", "gelu"])
LONG_X = DRAW.normal(size=(100_000, F)).astype(np.float32)
LONG_Y = LONG_X[:, 0] * LONG_X[:, 1]
LONG_SETTINGS = {"batch_size": 1, "shuffle": None}


@pytest.fixture
def stopped_clock(monkeypatch):
    """A clock for budgets that stands still until training runs, and at the first look says that it is over."""
    looks = iter([0.0, 0.0])
    monkeypatch.setattr("pmlp_np.training.loop.time", SimpleNamespace(monotonic=lambda: next(looks, 1e9)))


@pytest.fixture(scope="module")
def long_pool():
    return pm.Pool(LONG, F).fit(LONG_X, LONG_Y, epochs=1, **LONG_SETTINGS)


@pytest.mark.parametrize("by_file", [False, True])
def test_a_budget_ends_training_between_minibatches_and_keeps_cursors(stopped_clock, long_pool, by_file, tmp_path):
    pool = pm.Pool(LONG, F)
    assert pool.fit(LONG_X, LONG_Y, epochs=1, time_budget=5.0, n_threads=1, **LONG_SETTINGS) is pool
    assert pool.ended_ == "time budget"
    cursors = [record["minibatch"] for record in pool.leaderboard()]
    assert any(0 < cursor < len(LONG_X) for cursor in cursors), "it ended between epochs, nothing tested"
    assert np.array_equal(pool._progress.step, pool._progress.epoch * len(LONG_X) + pool._progress.minibatch)
    assert np.array_equal(np.isfinite(pool.history_["loss"][:, 0]), pool._progress.epoch == 1)
    if by_file:
        pool.save(tmp_path / "cut.pmlp")
        pool = pm.load(tmp_path / "cut.pmlp")
        assert [record["minibatch"] for record in pool.leaderboard()] == cursors
    unfinished = [i for i, record in by_id(pool).items() if record["epochs"] == 0]
    part = pool.subset(unfinished)
    part.partial_fit(LONG_X, LONG_Y, epochs=1, **LONG_SETTINGS)
    assert part.ended_ == "done"
    # The epoch that was cut short is finished, and its loss is that of the whole epoch.
    for i in unfinished:
        assert bits(part, i) == bits(long_pool, i)
    assert np.array_equal(part.history_["loss"], long_pool.history_["loss"][unfinished])


def test_a_budget_that_is_over_at_once_trains_nothing():
    pool = pm.Pool(SPECS, F)
    before = [bits(pool, i) for i in range(len(SPECS))]
    pool.fit(X, Y, epochs=3, time_budget=1e-9)
    assert pool.ended_ == "time budget"
    assert [bits(pool, i) for i in range(len(SPECS))] == before
    assert {record["status"] for record in pool.leaderboard()} == {"untrained"}
    assert pool.history_["loss"].shape == (len(SPECS), 3) and np.isnan(pool.history_["loss"]).all()


def test_a_budget_that_is_not_used_up_changes_nothing():
    pools = [pm.Pool(SPECS, F).fit(X, Y, epochs=2, time_budget=budget) for budget in (None, 1000.0, math.inf)]
    assert {pool.ended_ for pool in pools} == {"done"}
    assert all(bits(pool, i) == bits(pools[0], i) for pool in pools for i in range(len(SPECS)))


def test_budgets_are_kept():
    pool = pm.Pool(LONG, F)
    start = time.monotonic()
    pool.fit(LONG_X, LONG_Y, epochs=100_000, time_budget=0.3, **LONG_SETTINGS)
    # Compiling and polling add to it; a hundred thousand epochs would take hours.
    assert 0.3 <= time.monotonic() - start < 20
    assert pool.ended_ == "time budget" and pool._progress.step.all()


def test_data_of_another_length_start_the_epoch_again(stopped_clock):
    pool = pm.Pool(LONG, F).fit(LONG_X, LONG_Y, epochs=1, time_budget=5.0, n_threads=1, **LONG_SETTINGS)
    steps = pool._progress.step.copy()
    pool.partial_fit(X, Y, epochs=1, **LONG_SETTINGS)
    assert all(record["minibatch"] == 0 for record in by_id(pool).values())
    assert (pool._progress.step - steps).tolist() == [len(X)] * len(LONG)


@pytest.fixture
def press_ctrl_c_once_something_is_learned(monkeypatch):
    """As soon as progress shows: a press before that ends a fit with nothing learned."""
    pressed = []

    def press(self, share, note):
        if share > 0 and not pressed:
            pressed.append(share)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "show", press)


@pytest.mark.usefixtures("press_ctrl_c_once_something_is_learned")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_ends_training_cleanly(early_stopping):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    pool = pm.Pool(LONG, F)
    settings = {**LONG_SETTINGS, "validation_data": VALIDATION, "early_stopping": early_stopping}
    assert pool.fit(LONG_X, LONG_Y, epochs=100_000, patience=100_000, **settings) is pool
    assert pool.ended_ == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Something was learned, and predictions are made from it.
    assert pool._progress.step.any()
    moved = np.flatnonzero(pool._progress.step)[0]
    assert bits(pool, moved) != bits(pm.Pool(LONG, F), moved)
    assert np.isfinite(pool.predict(X)).all()

    # Going on ends where training without an interrupt would have ended, for each member after its own epochs.
    pool.partial_fit(LONG_X, LONG_Y, epochs=1, patience=100_000, **settings)
    assert pool.ended_ == "done"
    for i, record in by_id(pool).items():
        plain = pm.Pool(LONG, F).subset([i])
        plain.fit(LONG_X, LONG_Y, epochs=record["epochs"], patience=100_000, **settings)
        for weights in ("last", "best") if early_stopping else ("last",):
            assert bits(pool, i, weights) == bits(plain, i, weights)
        for name, curve in plain.history_.items():
            assert np.array_equal(pool.history_[name][i, : record["epochs"]], curve[0]), name


@pytest.mark.usefixtures("press_ctrl_c_once_something_is_learned")
def test_a_fit_after_an_interrupted_one_is_a_new_one():
    pool = pm.Pool(LONG, F)
    pool.fit(LONG_X, LONG_Y, epochs=100_000, **LONG_SETTINGS)
    pool.fit(X, Y, epochs=2)
    plain = pm.Pool(LONG, F).fit(X, Y, epochs=2)
    assert pool.ended_ == "done"
    assert all(bits(pool, i) == bits(plain, i) for i in range(len(LONG)))


def test_a_second_ctrl_c_raises(monkeypatch):
    def press_twice(*arguments):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    pool = pm.Pool(LONG, F)
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "show", press_twice)
        with pytest.raises(KeyboardInterrupt):
            pool.fit(LONG_X, LONG_Y, epochs=100_000, **LONG_SETTINGS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    plain = pm.Pool(LONG, F).fit(X, Y)
    assert all(bits(pool.fit(X, Y), i) == bits(plain, i) for i in range(len(LONG)))


def test_a_handler_of_ones_own_is_left_alone():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *arguments: pressed.append(1))
    try:
        own = signal.getsignal(signal.SIGINT)
        pool = pm.Pool(SPECS, F).fit(X, Y, epochs=2)
        assert pool.ended_ == "done" and signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_another_thread():
    pool = pm.Pool(SPECS, F)
    thread = threading.Thread(target=lambda: pool.fit(X, Y, epochs=2))
    thread.start()
    thread.join()
    plain = pm.Pool(SPECS, F).fit(X, Y, epochs=2)
    assert all(bits(pool, i) == bits(plain, i) for i in range(len(SPECS)))


def test_pools_may_train_in_several_threads_at_once():
    pools = [pm.Pool(SPECS, F) for _ in range(3)]
    threads = [threading.Thread(target=pool.fit, args=(X, Y, 3)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plain = pm.Pool(SPECS, F).fit(X, Y, epochs=3)
    assert all(bits(pool, i) == bits(plain, i) for pool in pools for i in range(len(SPECS)))


def test_a_script_goes_on_after_ctrl_c_and_prints_no_traceback():
    script = """
import os, signal, threading, time
import numpy as np
import pmlp_np as pm

signal.signal(signal.SIGINT, signal.default_int_handler)

def press():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
threading.Thread(target=press, daemon=True).start()
pool = pm.Pool(pm.grid(hidden=[5, 6]), 3).fit(x, x[:, 0], epochs=1_000_000, batch_size=1, shuffle=None)
print(pool.ended_, pool.predict(x).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "interrupted (2, 1000)"), done.stderr
    assert "Traceback" not in done.stderr and "KeyboardInterrupt" not in done.stderr


# Progress.


@pytest.fixture
def pool():
    """A pool whose code is compiled, so that nothing but progress is printed."""
    return pm.Pool(SPECS, F).fit(X, Y, **SETTINGS)


def test_progress_with_tqdm(pool, capsys):
    requires("tqdm")
    pool.fit(X, Y, epochs=3, progress=True, **SETTINGS)
    printed = capsys.readouterr()
    last = printed.err.split("\r")[-1]
    assert not printed.out
    assert "100%" in last
    assert re.search(r" \d\d:\d\d, \d\d:\d\d left, ", last), "no time left"
    assert re.search(r"epoch 3/3, 0 members, validation score [0-9.e+-]+ to [0-9.e+-]+", last)


def test_progress_without_tqdm(pool, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    pool.fit(X, Y, epochs=3, progress=True, **SETTINGS)
    assert capsys.readouterr().err == "", "a short training prints no line"
    monkeypatch.setattr("pmlp_np.training.progress_bar._PLAIN_EVERY_SECONDS", 0.0)
    pool.fit(X, Y, epochs=3, progress=True, **SETTINGS)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"100\.0%, 0 s left, epoch 3/3, 0 members, validation score \S+ to \S+", lines[-1])
    assert any(re.match(r" *33\.3%, \d+ s left, epoch 1/3, 18 members", line) for line in lines)


@pytest.mark.parametrize("progress", [False, "auto"])
def test_no_progress(pool, capsys, progress):
    pool.fit(X, Y, epochs=3, progress=progress, **SETTINGS)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_when_it_takes_longer_than_a_moment(pool, capsys, monkeypatch):
    requires("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    pool.fit(X, Y, epochs=3, **SETTINGS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("pmlp_np.training.progress_bar._QUIET_SECONDS", 0.0)
    pool.fit(X, Y, epochs=3, **SETTINGS)
    assert "epoch 3/3" in capsys.readouterr().err
    pool.fit(X, Y, epochs=3, progress=False, **SETTINGS)
    assert capsys.readouterr().err == ""


def test_time_left_follows_from_what_is_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pmlp_np.training.progress_bar.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    bar = ProgressBar(True)
    for seconds, share in [(5, 0.05), (20, 0.1), (25, 0.101), (30, 0.75)]:
        now[0] = seconds
        bar.show(share, "note")
    bar.close()
    assert capsys.readouterr().err.splitlines() == [" 10.0%, 180 s left, note", " 75.0%, 10 s left, note"]


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_progress_never_goes_back_and_ends_at_the_whole(monkeypatch, early_stopping):
    """Also where members leave on the way, by divergence too, and the work that was left falls away."""
    shares = []
    monkeypatch.setattr("pmlp_np.training.rounds._ROUND_SECONDS", 0.0)
    monkeypatch.setattr(ProgressBar, "show", lambda self, share, note: shares.append(share))
    pool = pm.Pool(SPECS + pm.Member(hidden=4, optimizer=pm.SGD(learning_rate=1e30)), F)
    pool.fit(X, Y, epochs=20, early_stopping=early_stopping, patience=1, **SETTINGS)
    assert len(shares) > 10
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_an_interrupted_training_does_not_show_as_done(monkeypatch, stopped_clock):
    shares = []
    monkeypatch.setattr(ProgressBar, "show", lambda self, share, note: shares.append(share))
    pm.Pool(LONG, F).fit(LONG_X, LONG_Y, epochs=1, time_budget=5.0, n_threads=1, **LONG_SETTINGS)
    assert 0.0 < shares[0] < 1.0
