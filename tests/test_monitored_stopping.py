"""What decides: early stopping, best weights and the leaderboard follow the monitored metric."""

import numpy as np
import pytest

import pmlp_np as pm
from monitored import (
    MANY,
    MONITORS,
    SETTINGS,
    by_id,
    every_monitor,
    grows,
    many,
    measure,
    own,
    settings_of,
    simulate,
    validation,
)
from pmlp_np.formulas.losses import LOSSES
from small_pool import F, X, bits, draw_y


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
