"""Callbacks: what they are told after each epoch, and what they may do."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from monitored import MANY, SETTINGS, validation
from small_pool import F, X, bits, draw_y, pool_of, same_history


class Watcher:
    """Keeps what it is told; does as it is asked to."""

    def __init__(self, does=lambda end: None):
        self.ends, self.does = [], does

    def __call__(self, end):
        self.ends.append(end)
        self.does(end)


def test_callbacks_are_told_of_each_epoch():
    pool, watcher = pool_of(), Watcher()
    pool.fit(X, draw_y(), epochs=3, validation_data=validation(), metrics=["r2"], callbacks=[watcher], **SETTINGS)
    plain = pool_of().fit(X, draw_y(), epochs=3, validation_data=validation(), metrics=["r2"], **SETTINGS)
    assert bits(pool) == bits(plain) and same_history(pool.history_, plain.history_)
    assert [end.epoch for end in watcher.ends] == [1, 2, 3]
    elapsed = [end.elapsed for end in watcher.ends]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0.0
    for end in watcher.ends:
        assert isinstance(end, pm.EpochEnd)
        assert end.ids.tolist() == [10, 7, 30, 20] and end.epochs.tolist() == [end.epoch] * 4
        assert list(end.curves) == list(pool.history_)
        for name, values in end.curves.items():
            assert np.array_equal(values, pool.history_[name][:, end.epoch - 1])
    pool.partial_fit(X, draw_y(), epochs=2, callbacks=[watcher])
    assert [(end.epoch, end.epochs.tolist()) for end in watcher.ends[3:]] == [(1, [4] * 4), (2, [5] * 4)]
    # Curves that this call does not measure are there, without values.
    assert np.isnan(watcher.ends[-1].curves["validation_r2"]).all()


def test_what_callbacks_are_told_can_not_be_changed():
    watcher = Watcher()
    pool_of().fit(X, draw_y(), callbacks=[watcher])
    (end,) = watcher.ends
    for array in (end.ids, end.epochs, end.curves["loss"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        end.epoch = 5
    with pytest.raises(TypeError):
        end.curves["loss"] = None


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_callbacks_see_who_is_still_in(early_stopping):
    watcher = Watcher()
    pool = pm.Pool(MANY + pm.Member(hidden=4, optimizer=pm.SGD(learning_rate=1e30)), F)
    settings = {"validation_data": validation(), "early_stopping": early_stopping, "patience": 2, **SETTINGS}
    pool.fit(X, draw_y(), epochs=12, callbacks=[watcher], **settings)
    epochs = pool._progress.epoch
    assert pool.status_[-1] == "diverged"
    for end in watcher.ends:
        stopped = np.array([status == "stopped early" for status in pool.status_])
        stays = (epochs > end.epoch) | ((epochs == end.epoch) & ~stopped)
        stays[-1] = False
        assert end.ids.tolist() == np.flatnonzero(stays).tolist()
    assert (len(watcher.ends[0].ids) > len(watcher.ends[-1].ids)) == early_stopping


def test_members_that_are_stopped_leave_and_nobody_else_notices():
    def halve(end):
        if end.epoch in (2, 4):
            order = np.argsort(end.curves["loss"])
            end.stop(end.ids[order[len(order) // 2 :]])
        end.stop([])

    watcher = Watcher(halve)
    pool = pm.Pool(MANY, F, ids=np.arange(18) * 5).fit(X, draw_y(), epochs=6, callbacks=[watcher], **SETTINGS)
    assert [len(end.ids) for end in watcher.ends] == [18, 18, 9, 9, 4, 4]
    assert pool.ended_ == "done"
    assert sorted(pool._progress.epoch.tolist()) == [2] * 9 + [4] * 5 + [6] * 4
    for i, status, epochs in zip(pool.ids_.tolist(), pool.status_, pool._progress.epoch.tolist(), strict=True):
        assert status == ("ok" if epochs == 6 else "stopped")
        alone = pm.Pool(MANY, F, ids=np.arange(18) * 5).subset([i]).fit(X, draw_y(), epochs=epochs, **SETTINGS)
        assert bits(alone)[i] == bits(pool)[i]
        assert np.isnan(pool.history_["loss"][i // 5, epochs:]).all()
    # They stay out of the next call, too, which is not so with early stopping.
    pool.partial_fit(X, draw_y(), epochs=1, **SETTINGS)
    assert sorted(pool._progress.epoch.tolist()) == [2] * 9 + [4] * 5 + [7] * 4


def test_everything_may_be_stopped():
    watcher = Watcher(lambda end: end.stop() if end.epoch == 2 else None)
    pool = pool_of().fit(X, draw_y(), epochs=9, callbacks=[watcher], **SETTINGS)
    assert (pool.ended_, len(watcher.ends), pool.status_) == ("stopped", 2, ["ok"] * 4)
    assert bits(pool) == bits(pool_of().fit(X, draw_y(), epochs=2, **SETTINGS))
    pool.partial_fit(X, draw_y(), epochs=1, **SETTINGS)
    assert pool.ended_ == "done" and bits(pool) == bits(pool_of().fit(X, draw_y(), epochs=3, **SETTINGS))


def test_a_pool_of_which_all_are_stopped_is_done():
    watcher = Watcher(lambda end: end.stop(end.ids))
    pool = pool_of().fit(X, draw_y(), epochs=9, callbacks=[watcher])
    assert (pool.ended_, len(watcher.ends), pool.status_) == ("done", 1, ["stopped"] * 4)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_that_raises_ends_training_with_what_was_learned(early_stopping):
    def fail(end):
        if end.epoch == 2:
            raise ZeroDivisionError("my own")

    settings = {"validation_data": validation(), "early_stopping": early_stopping, **SETTINGS}
    before = signal.getsignal(signal.SIGINT)
    pool, later = pool_of(), Watcher()
    with pytest.raises(ZeroDivisionError, match="my own"):
        pool.fit(X, draw_y(), epochs=5, callbacks=[fail, later], **settings)
    assert signal.getsignal(signal.SIGINT) is before
    assert (pool.ended_, len(later.ends)) == ("interrupted", 1)
    two, five = (pool_of().fit(X, draw_y(), epochs=n, **settings) for n in (2, 5))
    for weights in ("last", "best") if early_stopping else ("last",):
        assert bits(pool, weights) == bits(two, weights)
    assert np.isfinite(pool.history_["loss"]).sum() == 8
    pool.partial_fit(X, draw_y(), epochs=3, **settings)
    assert bits(pool) == bits(five) and pool.ended_ == "done"


@pytest.mark.parametrize("ids", [5, [10, 5], "all", [1.5], [10.0], [True]])
def test_only_members_may_be_stopped(ids):
    with pytest.raises(pm.DataError, match=r"^ids: expected ids of this pool, got .*See EpochEnd\.ids"):
        pool_of().fit(X, draw_y(), epochs=3, callbacks=[lambda end: end.stop(ids)])


def test_a_pool_may_be_asked_and_saved_meanwhile(tmp_path):
    pool, asked = pool_of(), []
    settings = {"validation_data": validation(), "metrics": "r2", "monitor": "r2", "early_stopping": True, **SETTINGS}

    def look(end):
        asked.append((pool.leaderboard()[0]["validation_r2"], pool.score(*validation(), metric="r2").max()))
        if end.epoch == 3:
            pool.save(tmp_path / "third.pmlp")

    pool.fit(X, draw_y(), epochs=6, callbacks=[look], **settings)
    assert len(asked) == 6 and all(best == pytest.approx(score, rel=1e-6) for best, score in asked)
    again = pm.load(tmp_path / "third.pmlp").partial_fit(X, draw_y(), epochs=3, **settings)
    for weights in ("last", "best"):
        assert bits(again, weights) == bits(pool, weights)


def test_an_epoch_that_is_cut_short_is_told_of_when_it_is_finished(monkeypatch):
    """The clock says that the budget is over at the first look within an epoch."""
    rows = np.random.default_rng(0).normal(size=(100_000, F)).astype(np.float32)
    pool, watcher = pm.Pool(pm.grid(hidden=[24, 17], activation=["tanh", "gelu"]), F), Watcher()
    settings = {"batch_size": 1, "shuffle": None, "callbacks": [watcher]}
    with monkeypatch.context() as patch:
        looks = iter([0.0, 0.0])
        patch.setattr("pmlp_np.training.loop.time", SimpleNamespace(monotonic=lambda: next(looks, 1e9)))
        pool.fit(rows, rows[:, 0], epochs=1, time_budget=5.0, n_threads=1, **settings)
    assert pool.ended_ == "time budget" and pool._progress.minibatch.any(), "it ended between epochs, nothing tested"
    assert not watcher.ends
    pool.partial_fit(rows, rows[:, 0], epochs=1, **settings)
    assert [end.epoch for end in watcher.ends][0] == 1 and pool.ended_ == "done"
