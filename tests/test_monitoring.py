"""Monitoring: metrics per member and epoch, what decides, callbacks, and the records that all this leaves."""

import math
import signal
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.base.errors import free_memory
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.history import History
from pmlp_np.training.metrics import METRICS, metric_values
from small_pool import F, X, bits, draw_x, draw_y, pool_of, same_history

VALIDATION_X = draw_x(30, 2)
SETTINGS = {"batch_size": 8}


def validation(loss="squared_error", outputs=1):
    return VALIDATION_X, draw_y(loss, outputs, n=30, seed=3)


def fitting(loss):
    return [name for name, metric in METRICS.items() if LOSSES[loss].targets in metric.targets]


KINDS = [("squared_error", 1), ("squared_error", 2), ("cross_entropy", 2), ("cross_entropy", 3),
         ("binary_cross_entropy", 1), ("binary_cross_entropy", 2)]  # fmt: skip
every_kind = pytest.mark.parametrize(("loss", "outputs"), KINDS)


# Metrics in fit and score.


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_curves_hold_every_metric_of_every_epoch(backend, loss, outputs, dtype):
    y, data = draw_y(loss, outputs), validation(loss, outputs)
    names = fitting(loss)
    pool = pool_of(loss, outputs, dtype, backend=backend)
    pool.fit(X, y, epochs=3, validation_data=data, metrics=names, **SETTINGS)
    plain = pool_of(loss, outputs, dtype, backend=backend)
    assert list(pool.history_) == ["loss", "validation_loss", "validation_score", *(f"validation_{n}" for n in names)]
    for epoch in range(3):
        plain.partial_fit(X, y, **SETTINGS)
        raw, targets = plain.forward(data[0]), np.atleast_2d(data[1].T)
        expected = metric_values(names, LOSSES[loss], raw, targets.astype(dtype))
        for name in names:
            # What follows from the evaluation is summed and rounded elsewhere than what follows from raw outputs.
            score = plain.score(*data, metric=name)
            np.testing.assert_allclose(score, expected[name], rtol=1e-5, atol=1e-5)
            assert score.dtype == np.float64
            assert np.array_equal(pool.history_[f"validation_{name}"][:, epoch], score.astype(np.float32)), name
        assert np.array_equal(pool.history_["validation_score"][:, epoch], plain.score(*data).astype(np.float32))
    assert bits(pool) == bits(plain), "metrics changed the training"


def test_one_name_may_stand_alone_and_aliases_are_known():
    pools = [
        pool_of().fit(X, draw_y(), validation_data=validation(), metrics=metrics)
        for metrics in ("mae", ["mae"], ("mean_absolute_error", "mae"), "neg_mean_absolute_error")
    ]
    for pool in pools:
        assert list(pool.history_)[3:] == ["validation_mae"]
        assert same_history(pool.history_, pools[0].history_)
    assert list(pool_of().fit(X, draw_y(), validation_data=validation(), metrics=None).history_)[3:] == []


def test_scores_of_some_members_and_of_their_best_weights():
    data, y = validation(), draw_y()
    pool = pool_of().fit(X, y, epochs=20, validation_data=data, early_stopping=True, patience=2, **SETTINGS)
    for metric in (None, "r2", "mae"):
        best, last = (pool.score(*data, metric=metric, weights=weights) for weights in ("best", "last"))
        assert np.array_equal(pool.score(*data, metric=metric), best) and not np.array_equal(best, last)
        assert np.array_equal(pool.score(*data, metric=metric, members=[20, 10]), best[[3, 0]])


def test_pieces_change_nothing(monkeypatch):
    """Raw outputs of all members at once, or of one at a time."""
    data, y = validation("cross_entropy", 3), draw_y("cross_entropy", 3)
    arguments = {"epochs": 2, "validation_data": data, "metrics": fitting("cross_entropy"), **SETTINGS}
    whole = pool_of("cross_entropy", 3).fit(X, y, **arguments)
    monkeypatch.setattr("pmlp_np.training.measuring.PIECE_BYTES", 1)
    assert same_history(pool_of("cross_entropy", 3).fit(X, y, **arguments).history_, whole.history_)


def test_the_bound_of_memory_is_kept():
    """A thousand members' raw outputs on these rows would take 400 MB, and what is made of them far more."""
    pool = pm.Pool(pm.grid(hidden=range(1, 11), repeats=100), F, loss="binary_cross_entropy")
    data = np.tile(draw_x(1000), (100, 1)), np.arange(100_000) % 2
    pool.score(data[0][:10], data[1][:10])
    tracemalloc.start()
    try:
        scores = pool.score(*data, metric="roc_auc", members=np.arange(0, 1000, 25))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6 and np.isfinite(scores).all()


def test_what_the_evaluation_says_is_asked_no_second_time(monkeypatch):
    pool = pool_of()
    backend = pool._ready()
    forward = backend.forward
    calls = []
    monkeypatch.setattr(backend, "forward", lambda *arguments: calls.append(1) or forward(*arguments))
    pool.partial_fit(X, draw_y(), epochs=2, validation_data=validation(), metrics=["rmse", "r2"])
    assert not calls
    pool.partial_fit(X, draw_y(), epochs=2, validation_data=validation(), metrics=["rmse", "mae"])
    assert len(calls) == 2


# Rows, features and targets of each member's own.


@every_kind
def test_each_member_is_measured_on_its_own_rows(backend, loss, outputs, monkeypatch):
    y = draw_y(loss, outputs)
    draw = np.random.default_rng(0)
    one, other = draw.permutation(50)[:20], np.repeat(draw.permutation(50)[:15], 2)
    own = [one, other, one, other]
    features = [[0, 1, 2, 3], [1, 3], [1, 3], [2, 3]]
    names = fitting(loss)
    settings = {"validation_rows": own, "features": features, "metrics": names, **SETTINGS}
    pool = pool_of(loss, outputs, backend=backend).fit(X, y, epochs=2, **settings)
    for name in [None, *names]:
        scores = pool.score(X, y, name, rows=own)
        for i, rows in enumerate(own):
            # Another order of sums where rows are gathered in the evaluation or before it.
            expected = pool.score(X[rows], y[rows], name, members=pool.ids_[i])[0]
            assert scores[i] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert np.array_equal(pool.history_[f"validation_{name or 'score'}"][:, -1], scores.astype(np.float32))
        assert np.array_equal(pool.score(X, y, name, members=pool.ids_[[3, 0]], rows=[other, one]), scores[[3, 0]])
    history = pool.history_
    monkeypatch.setattr("pmlp_np.training.measuring.PIECE_BYTES", 1)
    assert same_history(pool_of(loss, outputs, backend=backend).fit(X, y, epochs=2, **settings).history_, history)


@pytest.mark.parametrize("own_rows", [False, True])
def test_each_member_is_measured_by_its_own_targets(own_rows):
    draw = np.random.default_rng(1)
    targets = draw.normal(size=(4, 50))
    rows = [np.arange(30), np.arange(20, 50), np.arange(30), np.arange(50)] if own_rows else [np.arange(50)] * 4
    pool = pool_of()
    pool.fit(X, targets=targets, epochs=2, validation_rows=rows, metrics=["r2", "mae", "rmse"], **SETTINGS)
    predicted = pool.predict(X)
    for name in ("r2", "mae", "rmse"):
        for i, own in enumerate(rows):
            raw, y = predicted[i, own].reshape(1, -1, 1), targets[i, own][None].astype(np.float32)
            (expected,) = metric_values([name], LOSSES["squared_error"], raw, y).values()
            np.testing.assert_allclose(pool.history_[f"validation_{name}"][i, -1], expected[0], rtol=1e-5)


def test_rows_that_do_not_define_a_metric_are_refused_by_member():
    y = np.arange(50) % 3
    pool = pool_of("cross_entropy", 3)
    rows = [np.arange(9), np.arange(9), np.arange(0, 50, 3), np.arange(9)]
    text = " of member 30: expected rows of every class, to compute roc_auc, got none of class 1"
    with pytest.raises(pm.DataError, match="^validation_rows" + text):
        pool.fit(X, y, validation_rows=rows, metrics=["roc_auc"])
    assert pool.history_ == {}
    with pytest.raises(pm.DataError, match="^rows" + text):
        pool.score(X, y, "roc_auc", rows=rows)
    with pytest.raises(pm.DataError, match="^rows" + text):
        pool.score(X, y, "roc_auc", members=[30], rows=rows[2:3])
    assert np.isfinite(pool.score(X, y, "roc_auc", members=[10, 20], rows=[rows[0]] * 2)).all()


def test_early_stopping_follows_a_metric_on_own_rows():
    y, own = draw_y(), [np.arange(20), np.arange(30, 50), np.arange(10, 40), np.arange(5)]
    settings = {"validation_rows": own, "metrics": ["mae"], "monitor": "mae", "early_stopping": True, "patience": 2}
    pool = pool_of(dtype="float64").fit(X, y, epochs=15, **settings, **SETTINGS)
    plain, curves = pool_of(dtype="float64"), []
    for _ in range(15):
        curves.append(plain.partial_fit(X, y, **SETTINGS).score(X, y, "mae", rows=own))
    simulated = [simulate(curve, 2, 0.0) for curve in np.stack(curves, axis=1)]
    expected = dict(zip(pool.ids_.tolist(), simulated, strict=True))
    assert {r["id"]: (r["epochs"], r["best_epoch"]) for r in pool.leaderboard()} == expected


# What decides.


# Fast, slow, restless and overfitting members.
MANY = pm.grid(hidden=[2, 10, (6, 5)], activation=["tanh", "relu"], learning_rate=[1e-3, 0.03, 0.3])
MONITORS = [("squared_error", "r2"), ("squared_error", "mae"), ("squared_error", "score"),
            ("binary_cross_entropy", "balanced_accuracy"), ("binary_cross_entropy", "roc_auc"),
            ("binary_cross_entropy", "log_loss"), ("binary_cross_entropy", "loss")]  # fmt: skip
every_monitor = pytest.mark.parametrize(("loss", "monitor"), MONITORS)


def many(loss="squared_error"):
    return pm.Pool(MANY, F, loss=loss, dtype="float64")


def own(monitor):
    return [] if monitor in ("loss", "score") else [monitor]


def settings_of(loss, monitor, **others):
    return {"validation_data": validation(loss), "metrics": own(monitor), "monitor": monitor, **SETTINGS, **others}


def grows(loss, monitor):
    return METRICS[monitor].grows if monitor in METRICS else monitor == "score" and LOSSES[loss].score_grows


def measure(pool, monitor, data, weights="last"):
    if monitor == "loss":
        return pool.evaluate(*data, weights=weights)
    return pool.score(*data, metric=None if monitor == "score" else monitor, weights=weights)


@pytest.fixture(scope="module")
def curves():
    """Each monitored curve (members, epochs) in full precision, of members that train without early stopping."""
    found = {}
    for loss in dict(MONITORS):
        pool = many(loss)
        for _ in range(20):
            pool.partial_fit(X, draw_y(loss), **SETTINGS)
            for monitor in [monitor for name, monitor in MONITORS if name == loss]:
                found.setdefault((loss, monitor), []).append(measure(pool, monitor, validation(loss)))
    return {key: np.stack(values, axis=1) for key, values in found.items()}


def by_id(pool):
    return sorted(pool.leaderboard(), key=lambda record: record["id"])


def simulate(curve, patience, min_delta):
    """(epochs done, best epoch, both from 1) of a member with this curve, where smaller is better, by the definition of
    patience."""
    best, best_epoch = math.inf, -1
    for epoch, value in enumerate(curve):
        if value < best - min_delta:
            best, best_epoch = value, epoch
        elif epoch - best_epoch == patience:
            return epoch + 1, best_epoch + 1
    return len(curve), best_epoch + 1


@every_monitor
@pytest.mark.parametrize("min_delta", [0.0, 0.02])
def test_early_stopping_follows_the_monitor(curves, loss, monitor, min_delta):
    curve = curves[loss, monitor]
    settings = settings_of(loss, monitor, early_stopping=True, patience=4, min_delta=min_delta)
    pool = many(loss).fit(X, draw_y(loss), epochs=20, **settings)
    expected = [simulate(-each if grows(loss, monitor) else each, 4, min_delta) for each in curve]
    assert [(record["epochs"], record["best_epoch"]) for record in by_id(pool)] == expected
    assert len({epochs for epochs, _ in expected}) > 3, "they stop at once, nothing tested"
    # The best weights are those of the best epoch.
    best = [curve[i, epoch - 1] for i, (_, epoch) in enumerate(expected)]
    assert np.array_equal(measure(pool, monitor, validation(loss), "best"), best)


def test_the_default_follows_the_loss(curves):
    plain, losses = many(), []
    for _ in range(20):
        losses.append(plain.partial_fit(X, draw_y(), **SETTINGS).evaluate(*validation()))
    expected = [simulate(curve, 4, 0.0) for curve in np.stack(losses, axis=1)]
    settings = {"validation_data": validation(), "early_stopping": True, "patience": 4, **SETTINGS}
    for others in ({}, {"metrics": ["mae"]}, {"monitor": "loss"}, {"monitor": "validation_loss"}):
        pool = many().fit(X, draw_y(), epochs=20, **settings, **others)
        assert [(record["epochs"], record["best_epoch"]) for record in by_id(pool)] == expected


@every_monitor
def test_the_leaderboard_ranks_by_the_monitor(loss, monitor):
    pool = many(loss).fit(X, draw_y(loss), epochs=3, **settings_of(loss, monitor))
    board = pool.leaderboard()
    sign = -1 if grows(loss, monitor) else 1
    ranking = [(sign * record["validation_score"], record["validation_loss"]) for record in board]
    assert ranking == sorted(ranking) and len(set(ranking)) > 5
    assert {record["metric"] for record in board} == {LOSSES[loss].score_name if monitor == "score" else monitor}
    curve = pool.history_[f"validation_{monitor}"][:, -1]
    assert [record["validation_score"] for record in board] == curve[[record["id"] for record in board]].tolist()
    header = str(board).splitlines()[0].split()
    if own(monitor):
        assert [record[f"validation_{monitor}"] for record in board] == [r["validation_score"] for r in board]
        assert header[-2:] == ["validation_loss", f"validation_{monitor}"]
    else:
        assert header[-1] == f"validation_{monitor}"


def test_metrics_stand_beside_the_score():
    pool = many().fit(X, draw_y(), epochs=2, validation_data=validation(), metrics=["mae", "r2"])
    board = pool.leaderboard()
    assert str(board).splitlines()[0].split()[-4:] == [
        "validation_loss", "validation_score", "validation_mae", "validation_r2"
    ]  # fmt: skip
    for name in ("mae", "r2"):
        values = pool.history_[f"validation_{name}"][:, -1]
        assert [record[f"validation_{name}"] for record in board] == values[[record["id"] for record in board]].tolist()


@pytest.mark.parametrize("way", ["object", "file", "subset", "concat"])
@pytest.mark.parametrize("monitor", ["r2", "mae"])
def test_training_goes_on_with_the_best_of_the_monitored_metric(monitor, way, tmp_path):
    settings = settings_of("squared_error", monitor, early_stopping=True, patience=3)
    whole = many().fit(X, draw_y(), epochs=12, **settings)
    parts = many().fit(X, draw_y(), epochs=5, **settings)
    if way == "file":
        parts.save(tmp_path / "pool.pmlp")
        parts = pm.load(tmp_path / "pool.pmlp")
    if way == "subset":
        parts, whole = parts.subset(np.arange(17, 3, -2)), whole.subset(np.arange(17, 3, -2))
    if way == "concat":
        parts = pm.concat([parts.subset([3, 2, 9]), parts.subset([0, 17])])
        whole = whole.subset([3, 2, 9, 0, 17])
    assert parts._records.monitor == monitor
    board = [(r["id"], r["best_epoch"], r["metric"]) for r in parts.leaderboard()]
    assert len({epoch for _, epoch, _ in board}) > 1 and {metric for _, _, metric in board} == {monitor}
    parts.partial_fit(X, draw_y(), epochs=7, **settings)
    for weights in ("last", "best"):
        assert bits(parts, weights) == bits(whole, weights)
    assert parts.status_ == whole.status_
    for name in ("best_value", "best_epoch"):
        assert np.array_equal(getattr(parts._records, name), getattr(whole._records, name))


@pytest.mark.parametrize("way", ["object", "file", "concat"])
def test_another_monitor_measures_the_best_anew(way, tmp_path):
    """What was best by the loss stays the best until an epoch is better by the metric."""
    y, data = draw_y(), validation()
    settings = {"validation_data": data, "metrics": ["mae"], "early_stopping": True, "patience": 100, **SETTINGS}
    pool = many().fit(X, y, epochs=6, **settings)
    before = pool.score(*data, metric="mae", weights="best")
    chosen = [record["best_epoch"] for record in by_id(pool)]
    if way == "file":
        pool.save(tmp_path / "pool.pmlp")
        pool = pm.load(tmp_path / "pool.pmlp")
    if way == "concat":
        other = many().fit(X, y, epochs=6, monitor="mae", **settings)
        both = pm.concat([pool, other])
        assert both._records.monitor == ""
        assert np.isnan(both._records.best_value).tolist() == [False] * len(MANY) + [True] * len(MANY)
        pool = both.subset(np.arange(len(MANY)))
    pool.partial_fit(X, y, epochs=6, monitor="mae", **settings)
    plain, later = many().fit(X, y, epochs=6, **SETTINGS), []
    for _ in range(6):
        later.append(plain.partial_fit(X, y, **SETTINGS).score(*data, metric="mae"))
    later = np.stack(later, axis=1)
    improved = later.min(axis=1) < before
    assert improved.any() and not improved.all()
    assert np.array_equal(pool.score(*data, metric="mae", weights="best"), np.minimum(before, later.min(axis=1)))
    expected = np.where(improved, 7 + later.argmin(axis=1), chosen)
    assert [record["best_epoch"] for record in by_id(pool)] == expected.tolist()


def test_a_call_without_validation_keeps_the_monitor():
    settings = settings_of("squared_error", "mae", early_stopping=True)
    pool = many().fit(X, draw_y(), epochs=3, **settings)
    pool.partial_fit(X, draw_y(), epochs=1)
    assert pool._records.monitor == "mae" and np.isinf(pool._records.best_value).all()
    assert {record["metric"] for record in pool.leaderboard()} == {"mae"}
    pool.fit(X, draw_y(), epochs=1)
    assert pool._records.monitor == "" and {record["metric"] for record in pool.leaderboard()} == {"rmse"}


def test_a_metric_that_is_no_number_is_never_better():
    """Raw outputs that overflow on validation rows alone."""
    data = np.full((4, F), 3e38), np.arange(4.0)
    settings = {"validation_data": data, "metrics": ["mae"], "monitor": "mae", "early_stopping": True, "patience": 3}
    member = pm.Member(hidden=8, activation="identity", optimizer=pm.SGD(1e-3))
    pool = pm.Pool([member] * 30, F).fit(X, draw_y(), epochs=9, **settings)
    curve = pool.history_["validation_mae"][:, :4]
    never = ~np.isfinite(curve).any(axis=1)
    assert np.isnan(curve[never]).any() and never.any() and not never.all()
    assert ((pool._records.best_epoch < 0) == never).all()
    assert {pool.status_[i] for i in np.flatnonzero(never)} == {"stopped early"}
    assert (pool._progress.epoch[never] == 4).all()


# Callbacks.


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


# Refusals.


BAD = [
    ({"metrics": ["r2", "maee"]}, r"^metrics: expected one of r2, .*, got 'maee'\. Did you mean 'mae'"),
    ({"metrics": 5}, r"^metrics: expected a list of names, got 5\. There are r2, rmse, "),
    ({"metrics": ["f1"]}, r"^metrics: expected a metric that fits loss 'squared_error' \(r2, rmse, mae\), got 'f1'"),
    ({"metrics": ["r2"], "validation_data": None}, r"^validation_data: expected data to compute metrics on, got None"),
    ({"monitor": "loss", "validation_data": None}, r"^validation_data: expected data to compute metrics on, got None"),
    ({"monitor": "mae"}, r"^monitor: expected one of loss, score, got 'mae'\. Have it computed: metrics=\['mae'\]"),
    (
        {"monitor": "mae", "metrics": ["r2"]},
        r"^monitor: expected one of loss, score, r2, got 'mae'\. Have it computed: metrics=\['r2', 'mae'\]",
    ),
    ({"monitor": "r", "metrics": "r2"}, r"^monitor: expected one of loss, score, r2, got 'r'"),
    ({"monitor": 3}, r"^monitor: expected one of loss, score, got 3"),
    ({"monitor": ["loss"]}, r"^monitor: expected one of loss, score, got \['loss'\]"),
    ({"callbacks": print}, r"^callbacks: expected a list of functions, got .*pm\.EpochEnd"),
    ({"callbacks": ["print"]}, r"^callbacks: expected a list of functions, got \['print'\]"),
]


@pytest.mark.parametrize(("bad", "text"), BAD)
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_bad_arguments_are_refused_before_training(call, bad, text):
    pool = pool_of().fit(X, draw_y(), epochs=2, validation_data=validation())
    before, history = bits(pool), pool.history_
    with pytest.raises(pm.DataError, match=text):
        getattr(pool, call)(X, draw_y(), **({"validation_data": validation()} | bad))
    assert bits(pool) == before and same_history(pool.history_, history) and pool.ended_ == "done"


ABSENT = "rows of every class, to compute roc_auc, got none of class "


@pytest.mark.parametrize(
    ("loss", "outputs", "metric", "y", "text"),
    [
        ("cross_entropy", 3, "roc_auc", [0, 2, 2], ABSENT + "1"),
        ("cross_entropy", 2, "roc_auc", [0, 0, 0], ABSENT + "1"),
        ("binary_cross_entropy", 1, "roc_auc", [1, 1, 1], ABSENT + "0"),
        ("binary_cross_entropy", 2, "roc_auc", [[0, 1], [1, 1], [1, 1]], ABSENT + "0 of label 1"),
        *[
            ("binary_cross_entropy", 1, metric, [0, 0.25, 1], r"labels 0 and 1, to count them in a metric, got 0\.25")
            for metric in ("roc_auc", "f1", "balanced_accuracy")
        ],
        ("squared_error", 1, "r2", [0.5], "at least two rows, to compute r2, got one"),
    ],
)  # fmt: skip
def test_metrics_that_the_rows_do_not_define_are_refused(loss, outputs, metric, y, text):
    pool = pool_of(loss, outputs)
    before = bits(pool)
    rows = VALIDATION_X[: len(y)], np.array(y)
    with pytest.raises(pm.DataError, match=r"^validation_data\[1\]: expected " + text):
        pool.fit(X, draw_y(loss, outputs), validation_data=rows, metrics=[metric])
    assert bits(pool) == before and pool.history_ == {}
    with pytest.raises(pm.DataError, match="^y: expected " + text):
        pool.score(*rows, metric=metric)


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(pm.DataError, match=r"^metric: expected one of r2, .*, got 'r3'"):
        pool_of().score(X, draw_y(), metric="r3")
    with pytest.raises(pm.DataError, match="^metric: expected a metric that fits loss 'squared_error'"):
        pool_of().score(X, draw_y(), metric="accuracy")


def test_metrics_that_do_not_fit_memory_are_refused(monkeypatch):
    """Judging four members on 30 rows takes up to 24 times their 480 bytes."""
    pool, data = pool_of(), validation()
    pool.fit(X, draw_y().astype("float32"), validation_data=data)
    before = bits(pool)
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 11_519)
    for ask in (
        lambda: pool.partial_fit(X, draw_y(), validation_data=data, metrics=["r2", "mae"]),
        lambda: pool.score(*data, metric="mae"),
    ):
        with pytest.raises(pm.MemoryNeededError, match=r"^metrics?: .* got a need of 12 kB\. Compute them on fewer"):
            ask()
    assert bits(pool) == before
    pool.partial_fit(X, draw_y(), validation_data=data, metrics=["r2"])
    monkeypatch.setattr("pmlp_np.training.measuring.PIECE_BYTES", 1)
    pool.score(*data, metric="mae")


def test_soft_labels_have_accuracy_and_log_loss():
    pool = pool_of("binary_cross_entropy")
    y = np.linspace(0, 1, 30)
    pool.fit(X, draw_y("binary_cross_entropy"), validation_data=(VALIDATION_X, y), metrics=["accuracy", "log_loss"])
    assert np.isfinite(pool.history_["validation_accuracy"]).all()
    assert np.array_equal(pool.history_["validation_log_loss"], pool.history_["validation_loss"])


def test_files_that_monitor_something_unknown_are_refused(tmp_path):
    pool = pool_of().fit(X, draw_y(), validation_data=validation(), metrics=["r2"], monitor="r2")
    pool._records.monitor = "r3"
    pool.save(tmp_path / "pool.pmlp")
    with pytest.raises(pm.FileFormatError, match=r"expected a metric to monitor, got 'r3'\. Open it with the version"):
        pm.load(tmp_path / "pool.pmlp")


# History.


def test_curves_grow_by_doubling_and_show_the_epochs_there_are():
    records, members = History(3), np.arange(3)
    rooms = set()
    for epoch in range(100):
        before = records.curves
        records.make_room(["loss"], epoch + 1)
        for name, curve in before.items():
            assert curve.shape == (3, epoch) and np.array_equal(curve, records.curves[name][:, :epoch])
        assert records.curves["loss"].shape == (3, epoch + 1)
        assert np.isnan(records.curves["loss"][:, -1]).all()
        records.enter("loss", members, np.full(3, epoch), members + epoch)
        rooms.add(len(records._rooms["loss"]))
    assert sorted(rooms) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert np.array_equal(records.curves["loss"], np.arange(3)[:, None] + np.arange(100))
    # One fit takes no more than it needs; a curve that comes late is as long as the others.
    exact = History(3)
    exact.make_room(["loss"], 100)
    assert len(exact._rooms["loss"]) == 100
    records.make_room(["late"], 50)
    assert records.curves["late"].shape == (3, 100) and np.isnan(records.curves["late"]).all()


@pytest.mark.parametrize("way", ["file", "subset", "concat"])
def test_room_that_is_spare_is_nowhere_seen(way, tmp_path):
    y, data = draw_y(), validation()
    pool = pool_of()
    for _ in range(5):
        pool.partial_fit(X, y, validation_data=data, **SETTINGS)
    assert len(pool._records._rooms["loss"]) > 5
    whole = pool_of().fit(X, y, epochs=5, validation_data=data, **SETTINGS)
    assert same_history(pool.history_, whole.history_)
    if way == "file":
        pool.save(tmp_path / "pool.pmlp")
        whole.save(tmp_path / "whole.pmlp")
        assert (tmp_path / "pool.pmlp").stat().st_size == (tmp_path / "whole.pmlp").stat().st_size
        pool = pm.load(tmp_path / "pool.pmlp")
    if way == "subset":
        pool, whole = pool.subset([7, 20]), whole.subset([7, 20])
    if way == "concat":
        pool, whole = (pm.concat([each.subset([7]), each.subset([30, 20])]) for each in (pool, whole))
    assert same_history(pool.history_, whole.history_)
    for each in (pool, whole):
        each.partial_fit(X, y, epochs=2, validation_data=data, **SETTINGS)
    assert same_history(pool.history_, whole.history_) and pool.history_["loss"].shape[1] == 7
    pool.set_weights(7, pool.extract(7))
    for curve in pool.history_.values():
        assert np.isnan(curve[list(pool.ids_).index(7)]).all() and np.isfinite(curve).sum() == curve[1:].size


# Hidden activations.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", ["last", "best"])
def test_hidden_activations(dtype, weights):
    pool = pool_of(dtype=dtype)
    pool.fit(X, draw_y(), epochs=9, validation_data=validation(), early_stopping=True, patience=1)
    mlp = pool.extract(10, weights)
    first = np.tanh(X.astype(dtype) @ mlp.weights[0] + mlp.biases[0])
    second = np.maximum(first @ mlp.weights[1] + mlp.biases[1], 0)
    rounding = 1e-5 if dtype == "float32" else 1e-13
    for layer, expected in ((0, first), (-2, first), (1, second), (-1, second)):
        found = pool.hidden(X, 10, layer, weights)
        assert found.dtype == dtype and found.shape == (len(X), expected.shape[1])
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)
        assert np.array_equal(found, mlp.hidden_activations(X, layer))
    assert np.array_equal(pool.hidden(X, 10, weights=weights), pool.hidden(X, 10, -1, weights))
    np.testing.assert_allclose(second @ mlp.weights[2] + mlp.biases[2], mlp.forward(X), rtol=rounding, atol=rounding)
    assert np.array_equal(pool.hidden(X, 10), pool.hidden(X, 10, weights="best"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((X, 99), r"^members: expected ids of this pool"),
        ((X, 7), r"^layer of member 7: expected a network with hidden layers, got one without"),
        ((X, 10, 2), r"^layer of member 10: expected a whole number from -2 to 1, got 2"),
        ((X, 10, -3), r"^layer of member 10: expected a whole number from -2 to 1, got -3"),
        ((X, 10, 0.5), r"^layer of member 10: expected a whole number from -2 to 1, got 0\.5"),
        ((X, 10, True), r"^layer of member 10: expected a whole number from -2 to 1, got True"),
        ((X[:, 1:], 10), r"^X: expected 4 features"),
        ((X, 10, 0, "best"), r"^weights: expected 'last', got 'best'"),
    ],
)
def test_hidden_activations_that_do_not_exist_are_refused(arguments, text):
    with pytest.raises(pm.DataError, match=text):
        pool_of().hidden(*arguments)


def test_a_standalone_network_refuses_them_as_well():
    mlp = pool_of().extract(10)
    with pytest.raises(pm.DataError, match=r"^layer: expected a whole number from -2 to 1, got 5"):
        mlp.hidden_activations(X, 5)
    with pytest.raises(pm.DataError, match=r"^X: expected shape \(n_samples, 4\)"):
        mlp.hidden_activations(X[0])


def test_hidden_activations_that_do_not_fit_memory_are_refused(monkeypatch):
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 3999)
    assert free_memory() > 3999
    with pytest.raises(pm.MemoryNeededError, match=r"^result: .* got a need of 4\.0 kB"):
        pool_of().subset([30]).hidden(X, 30)
