"""Metrics per member and epoch: in fit, in score, on rows of each member's own; and what is refused."""

import tracemalloc

import numpy as np
import pytest

import pmlp_np as pm
from monitored import SETTINGS, VALIDATION_X, every_kind, fitting, simulate, validation
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import metric_values
from small_pool import F, X, bits, draw_x, draw_y, pool_of, same_history

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
