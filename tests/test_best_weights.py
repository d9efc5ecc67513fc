"""Best weights after more training: what members predict with, and what is shown, is what was learned last, or what was
best on the validation data that was given last."""

import copy

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires

F = 3
HOW = {"batch_size": 16, "progress": False}
SPECS = pm.grid(hidden=[2, 9], activation=["tanh", "relu"], learning_rate=[0.01, 0.3])
EVERYONE = list(range(len(SPECS)))


def drawn(n=60):
    rng = np.random.default_rng()
    X = rng.normal(size=(n, F))
    return X, np.sin(2 * X[:, 0]) + rng.normal(size=n) * 0.5


def bits(pool, weights="last"):
    mlps = [pool.extract(i, weights) for i in pool.ids_]
    return [b"".join(a.tobytes() for a in mlp.weights + mlp.biases) for mlp in mlps]


def stopped_early():
    """A pool in which some have stopped, whose best weights are other ones than the last; its training and its
    validation data. Drawn until it is one: nearly always at once."""
    for seed in np.random.default_rng().integers(2**32, size=20).tolist():
        data, A = drawn(), drawn(40)
        pool = pm.Pool(SPECS, F, seed=seed, dtype="float64")
        pool.fit(*data, epochs=12, validation_data=A, early_stopping=True, patience=3, **HOW)
        if pool.status_.count("stopped early") > 2:
            return pool, data, A
    raise AssertionError("no member stops early")


def by_id(pool):
    return {record["id"]: record for record in pool.leaderboard()}


def assert_all_doors_show(pool, weights, X, y):
    """All that speaks of the members speaks of these weights."""
    assert np.array_equal(pool.predict(X), pool.predict(X, weights=weights))
    assert np.array_equal(pool.forward(X, reduce="mean"), pool.forward(X, reduce="mean", weights=weights))
    assert np.array_equal(pool.evaluate(X, y), pool.evaluate(X, y, weights=weights))
    assert np.array_equal(pool.score(X, y, "mae"), pool.score(X, y, "mae", weights=weights))
    assert np.array_equal(pool.hidden(X, 1), pool.hidden(X, 1, weights=weights))
    assert bits(pool, None) == bits(pool, weights)
    mean = pm.Ensemble([pool.extract(i, weights) for i in pool.ids_])
    assert np.array_equal(pool.ensemble(pool.ids_).predict(X), mean.predict(X))


@pytest.mark.parametrize("way", ["plain", "file", "subset", "concat", "copy"])
def test_what_is_learned_without_validation_is_what_all_doors_show(way, tmp_path):
    pool, (X, y), _ = stopped_early()
    before = bits(pool, None)
    if way == "file":
        pool.save(tmp_path / "pool.pmlp")
        pool = pm.load(tmp_path / "pool.pmlp")
    elif way == "subset":
        pool, before = pool.subset(EVERYONE[::-1]), before[::-1]
    elif way == "concat":
        pool = pm.concat([pool.subset(EVERYONE[:3]), pool.subset(EVERYONE[3:])])
    elif way == "copy":
        pool = pool.subset(EVERYONE)
    pool.partial_fit(X, -y, epochs=2, **HOW)
    assert_all_doors_show(pool, "last", X, y)
    assert all(a != b for a, b in zip(bits(pool, None), before, strict=True))
    assert bits(pool, "best") == bits(pool)
    for record in pool.leaderboard():
        assert record["best_epoch"] == 0
        assert np.isnan(record["validation_loss"]) and np.isnan(record["validation_score"])
        position = pool.ids_.tolist().index(record["id"])
        assert record["loss"] == pool.history_["loss"][position, record["epochs"] - 1]
    pool.save(tmp_path / "again.pmlp")
    assert_all_doors_show(pm.load(tmp_path / "again.pmlp"), "last", X, y)


def test_the_bits_of_training_are_those_without_best_weights():
    pool, (X, y), _ = stopped_early()
    epochs = pool._progress.epoch.copy()
    pool.partial_fit(X, y, epochs=2, **HOW)
    plain = pm.Pool(SPECS, F, dtype="float64")
    plain._plan.stream_key, plain._plan.order_key = pool._plan.stream_key, pool._plan.order_key
    for i, n in enumerate(epochs.tolist()):
        plain.partial_fit(X, y, epochs=n + 2, members=[i], **HOW)
    assert bits(plain) == bits(pool, None)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_on_other_validation_data_the_old_best_is_measured_again(early_stopping):
    for _ in range(20):
        if check_on_other_data(early_stopping):
            return
    raise AssertionError("no example in which the old best stay, and do not")


def check_on_other_data(early_stopping):
    """Whether some old best ones stay the best on the new data, and some do not."""
    pool, (X, y), _ = stopped_early()
    B = drawn(30)
    old, old_best = pool.subset(EVERYONE), [record["best_epoch"] for _, record in sorted(by_id(pool).items())]
    history = {name: curve.copy() for name, curve in pool.history_.items()}
    on_B = [old.evaluate(*B)]
    step = old.subset(EVERYONE)
    for _ in range(4):
        # Epoch by epoch, what each member is worth on B.
        step.partial_fit(X, y, members=EVERYONE, **HOW)
        on_B.append(step.evaluate(*B, weights="last"))
    how = {"validation_data": B, "early_stopping": early_stopping, "patience": 9, **HOW}
    pool.partial_fit(X, y, epochs=4, members=EVERYONE, **how)
    assert np.array_equal(pool.evaluate(*B), np.min(on_B, axis=0)), "another one is better"
    chosen = np.argmin(on_B, axis=0)
    assert_all_doors_show(pool, "best", X, y)
    for i, record in by_id(pool).items():
        started = int(old._progress.epoch[i])
        assert record["best_epoch"] == (started + chosen[i] if chosen[i] else old_best[i])
        # All figures are of B, by which members can be compared.
        assert record["validation_loss"] == np.float32(np.min(on_B, axis=0)[i])
        assert record["validation_score"] == np.float32(np.sqrt(np.min(on_B, axis=0)[i]))
        # What was measured in its time stays.
        for name, curve in history.items():
            assert np.array_equal(pool.history_[name][i, :started], curve[i, :started], equal_nan=True)
    ranking = [record["validation_score"] for record in pool.leaderboard()]
    assert ranking == sorted(ranking)
    return 0 < (chosen == 0).sum() < len(SPECS)


def test_who_rests_is_measured_on_it_too():
    pool, (X, y), _ = stopped_early()
    B, before = drawn(30), bits(pool, "best")
    pool.partial_fit(X, y, members=[2, 5], validation_data=B, metrics=["mae"], early_stopping=True, **HOW)
    assert [bits(pool, "best")[i] for i in EVERYONE if i not in (2, 5)] == [
        before[i] for i in EVERYONE if i not in (2, 5)
    ]
    values = pool.evaluate(*B), pool.score(*B, "mae")
    for i, record in by_id(pool).items():
        assert record["validation_loss"] == np.float32(values[0][i])
        assert record["validation_mae"] == np.float32(values[1][i])


@pytest.mark.parametrize("kind", ["rows", "weights", "fold", "container"])
def test_validation_data_are_told_by_what_they_are(kind, monkeypatch):
    pool, (X, y), (Xv, yv) = stopped_early()
    measured = []
    evaluate = type(pool._backend).evaluate
    monkeypatch.setattr(type(pool._backend), "evaluate", lambda *a: measured.append(a[3]) or evaluate(*a))
    others = {
        "rows": {"validation_data": (Xv[::-1], yv[::-1])},
        "weights": {"validation_data": (Xv, yv, np.linspace(1, 2, len(yv)))},
        "fold": {"validation_rows": [np.arange(20)] * len(pool)},
        "container": {"validation_data": (np.asfortranarray(Xv), yv[:, None])},
    }[kind]
    for _ in range(2):
        measured.clear()
        pool.partial_fit(X, y, **others, **HOW)
        again, kind = kind != "container", "container"
        assert measured.count("best") == again


def test_a_pool_that_went_on_unvalidated_begins_where_it_stands():
    """Its weights then are measured first, and are its best until there are better ones; the old best are not."""
    pool, (X, y), _ = stopped_early()
    pool.partial_fit(X, -y, epochs=3, **HOW)
    assert not (pool._records.best_epoch >= 0).any()
    started, B = pool._progress.epoch.copy(), drawn(30)
    step, on_B = pool.subset(EVERYONE), [pool.evaluate(*B)]
    for _ in range(3):
        on_B.append(step.partial_fit(X, y, **HOW).evaluate(*B))
    pool.partial_fit(X, y, epochs=3, validation_data=B, early_stopping=True, patience=9, **HOW)
    assert np.array_equal(pool.evaluate(*B), np.min(on_B, axis=0))
    for i, record in by_id(pool).items():
        assert record["best_epoch"] == started[i] + np.argmin(on_B, axis=0)[i]
        assert record["validation_loss"] == np.float32(np.min(on_B, axis=0)[i])


def test_patience_counts_from_where_it_began():
    """A member that goes on by id, or after epochs that nobody validated, has all its patience before it."""
    pool, (X, y), A = stopped_early()
    stopped = [i for i, status in enumerate(pool.status_) if status == "stopped early"]
    how = {"validation_data": A, "early_stopping": True, "min_delta": 1e9, "patience": 4, **HOW}
    began = pool._progress.epoch.copy()
    by_hand = pool.subset(stopped)
    by_hand.partial_fit(X, y, epochs=9, members=stopped, **how)
    assert (by_hand._progress.epoch - began[stopped]).tolist() == [4] * len(stopped)
    # Also in several calls, of which the later ones find it going on.
    parts = pool.subset(stopped).partial_fit(X, y, members=stopped, **how)
    for _ in range(8):
        parts.partial_fit(X, y, **how)
    assert (parts._progress.epoch - began[stopped]).tolist() == [4] * len(stopped)
    pool.partial_fit(X, y, epochs=6, **HOW)
    began = pool._progress.epoch.copy()
    pool.partial_fit(X, y, epochs=9, **how)
    assert (pool._progress.epoch - began).tolist() == [4] * len(SPECS)


def test_of_a_joined_pool_each_half_keeps_to_its_own():
    pool, (X, y), A = stopped_early()
    other = pm.Pool(SPECS, F, dtype="float64", seed=9, ids=[20 + i for i in EVERYONE]).fit(X, y, epochs=3, **HOW)
    both = pm.concat([pool, other])
    assert bits(both, None) == bits(pool, "best") + bits(other)
    # With validation data the first half goes on with its best; the second has none.
    both.partial_fit(X, y, epochs=2, members=both.ids_, validation_data=A, **HOW)
    other.partial_fit(X, y, epochs=2, **HOW)
    assert bits(both, None)[len(SPECS) :] == bits(other)
    best = both._records.best_epoch
    assert (best[: len(SPECS)] >= 0).all() and (best[len(SPECS) :] < 0).all()
    record = by_id(both)[20]
    assert record["best_epoch"] == 0 and record["validation_loss"] == np.float32(other.evaluate(*A)[0])


def test_who_rests_keeps_its_best_and_its_figures():
    pool, (X, y), A = stopped_early()
    before, figures = bits(pool, "best"), by_id(pool)
    pool.partial_fit(X, y, epochs=2, members=[1, 4], **HOW)
    after = by_id(pool)
    for i in EVERYONE:
        assert (bits(pool, None)[i] == before[i]) == (i not in (1, 4))
        if i not in (1, 4):
            kept = {name: value for name, value in figures[i].items() if name not in ("rank", "status")}
            assert {name: after[i][name] for name in kept} == kept
    # A budget that is over at once trains nobody.
    pool.partial_fit(X, y, epochs=2, time_budget=1e-9, **HOW)
    assert [bits(pool, None)[i] for i in EVERYONE if i not in (1, 4)] == [
        before[i] for i in EVERYONE if i not in (1, 4)
    ]


@pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
def test_who_diverges_later_is_of_use_as_it_was():
    X, y = drawn()
    pool = pm.Pool([pm.Member(hidden=(), optimizer=pm.SGD(rate)) for rate in (1e-5, 0.1)], F)
    pool.fit(X, y, epochs=3, validation_data=drawn(20), early_stopping=True, **HOW)
    before = bits(pool, "best")
    # Rows that are larger by a factor: the second one's weights grow from step to step.
    watched = pool.subset([0, 1]).partial_fit(20 * X, y, epochs=20, callbacks=[lambda end: None], **HOW)
    pool.partial_fit(20 * X, y, epochs=20, **HOW)
    assert pool.status_ == ["ok", "diverged"] and pool._progress.epoch[1] > 4
    assert bits(pool, None)[0] == bits(pool)[0]
    assert bits(pool, None)[1] == before[1]
    assert np.isfinite(pool.forward(X, reduce="mean")).all() and np.isfinite(pool.ensemble([0, 1]).predict(X)).all()
    with pytest.raises(pm.DataError, match="^members: .* got id 1, diverged"):
        pool.predict(X, members=[0, 1], reduce="mean", weights="last")
    # Callbacks were to see what was learned last: of one that diverged after that nothing is left to be of use.
    with pytest.raises(pm.DataError, match="^ids: .* got id 1, diverged"):
        watched.ensemble([0, 1])


def test_callbacks_see_what_is_learned():
    pool, (X, y), _ = stopped_early()
    plain, seen = pool.subset(EVERYONE), []
    pool.partial_fit(X, -y, epochs=3, callbacks=[lambda end: seen.append(pool.predict(X))], **HOW)
    for predicted in seen:
        assert np.array_equal(predicted, plain.partial_fit(X, -y, **HOW).predict(X))
    assert len(seen) == 3 and bits(plain, None) == bits(pool, None)


def test_a_new_monitor_measures_the_best_by_it():
    pool, (X, y), A = stopped_early()
    pool.partial_fit(X, y, epochs=3, members=EVERYONE, validation_data=A, metrics=["mae"], monitor="mae", **HOW)
    assert_all_doors_show(pool, "best", X, y)
    for i, record in by_id(pool).items():
        assert record["metric"] == "mae"
        assert record["validation_score"] == record["validation_mae"] == np.float32(pool.score(*A, "mae")[i])


def test_exports_take_what_was_learned_last():
    requires("onnx")
    runtime = requires("onnxruntime")
    pool, (X, y), _ = stopped_early()
    pool.partial_fit(X, -y, epochs=2, **HOW)
    session = runtime.InferenceSession(pool.extract(0).to_onnx().SerializeToString())
    (found,) = session.run(["prediction"], {"X": X})
    np.testing.assert_allclose(found, pool.predict(X, weights="last")[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [3, [99], [], "all", [0.5]])
def test_members_to_train_are_ids_of_the_pool(bad):
    pool, (X, y), _ = stopped_early()
    before, status = bits(pool), pool.status_
    if bad == 3:
        assert (pool.partial_fit(X, y, members=3, **HOW)._progress.epoch - 0)[3] > 0
        return
    with pytest.raises(pm.DataError, match=r"^members: expected"):
        pool.partial_fit(X, y, members=bad, **HOW)
    assert bits(pool) == before and pool.status_ == status


def test_stopped_by_a_callback_goes_on_by_id_alone():
    X, y = drawn()
    pool = pm.Pool(SPECS, F)
    pool.fit(X, y, epochs=3, callbacks=[lambda end: end.stop(end.ids[4:]) if end.epoch == 1 else None], **HOW)
    assert pool.status_ == ["ok"] * 4 + ["stopped"] * 4
    assert "stopped" in str(pool.leaderboard())
    for how in ({}, {"validation_data": drawn(20)}, {"validation_data": drawn(20), "early_stopping": True}):
        pool.partial_fit(X, y, **how, **HOW)
        assert pool._progress.epoch[4:].tolist() == [1] * 4 and pool.status_[4:] == ["stopped"] * 4
    pool.partial_fit(X, y, members=[5, 6], **HOW)
    assert pool._progress.epoch.tolist() == [6] * 4 + [1, 2, 2, 1]
    assert pool.status_ == ["ok"] * 4 + ["stopped", "ok", "ok", "stopped"]
    plain = pm.Pool(SPECS, F).subset([5]).fit(X, y, epochs=2, **HOW)
    assert bits(plain)[0] == bits(pool)[5]
    # They are in again.
    pool.partial_fit(X, y, **HOW)
    assert pool._progress.epoch.tolist() == [7] * 4 + [1, 3, 3, 1]
    # fit begins anew with all.
    assert pool.fit(X, y, epochs=2, **HOW).status_ == ["ok"] * 8 and pool._progress.epoch.tolist() == [2] * 8


def test_a_callback_may_stop_who_has_just_stopped_early(tmp_path):
    """What it asks for holds: early stopping alone would bring the member back."""
    pool, (X, y), A = stopped_early()
    resting = [i for i, status in enumerate(pool.status_) if status == "stopped early"]
    pool.partial_fit(X, y, validation_data=A, early_stopping=True, members=[EVERYONE[-1]],
                     callbacks=[lambda end: end.stop(resting)], **HOW)  # fmt: skip
    assert all(pool.status_[i] == "stopped" for i in resting)
    pool.save(tmp_path / "pool.pmlp")
    pool, epochs = pm.load(tmp_path / "pool.pmlp"), pool._progress.epoch
    pool.partial_fit(X, y, **HOW)
    assert [pool._progress.epoch[i] - epochs[i] for i in resting] == [0] * len(resting)


# Averaged weights.


def averaging(backend, dtype="float64"):
    """Members 0 and 2 average, 1 does not."""
    specs = [pm.Member((9,), "tanh", learning_rate=0.1, average=a) for a in (0.9, 0.0, 0.6)]
    return pm.Pool(specs, F, seed=int(np.random.default_rng().integers(2**32)), dtype=dtype, backend=backend)


@pytest.mark.parametrize("metrics", [(), ("mae",)])
def test_averaged_weights_are_validated_and_become_the_best(backend, metrics):
    """Epoch by epoch: the curve is the loss of the averages, and what predicts are those of the best epoch."""
    data, A = drawn(), drawn(40)
    pool = averaging(backend)
    how = {"validation_data": A, "early_stopping": True, "patience": 100, "validated_weights": "average", **HOW}
    losses, averages = [], []
    for _ in range(6):
        pool.partial_fit(*data, metrics=metrics, **how)
        losses.append(pool.evaluate(*A, weights="average"))
        averages.append(bits(pool, "average"))
    np.testing.assert_allclose(pool.history_["validation_loss"].T, losses, rtol=1e-6)
    best = np.argmin(losses, axis=0)
    assert bits(pool, "best") == [averages[epoch][i] for i, epoch in enumerate(best)]
    assert_all_doors_show(pool, "best", *A)
    if metrics:
        np.testing.assert_allclose([r["validation_mae"] for r in sorted(pool.leaderboard(), key=lambda r: r["id"])],
                                   pool.score(*A, "mae", weights="best"), rtol=1e-6)  # fmt: skip
    at_once = copy.deepcopy(pool)
    at_once.fit(*data, epochs=6, metrics=metrics, **how)
    assert bits(at_once, "best") == bits(pool, "best")


def test_last_weights_are_measured_again_after_averaged_ones(backend):
    data, A = drawn(), drawn(40)
    pool = averaging(backend)
    how = {"validation_data": A, "early_stopping": True, "patience": 100, **HOW}
    pool.fit(*data, epochs=3, validated_weights="average", **how)
    best = bits(pool, "best")
    pool.partial_fit(*data, epochs=1, **{**how, "min_delta": 1e9})
    assert bits(pool, "best") == best
    shown = [r["validation_loss"] for r in sorted(pool.leaderboard(), key=lambda r: r["id"])]
    np.testing.assert_allclose(shown, pool.evaluate(*A), rtol=1e-6)


def test_members_that_rest_show_what_they_predict_with(backend):
    data, A = drawn(), drawn(40)
    pool = averaging(backend).fit(*data, epochs=2, **HOW)
    how = {"validation_data": A, "early_stopping": True, "validated_weights": "average", **HOW}
    pool.partial_fit(*data, members=[0], **how)
    shown = [r["validation_loss"] for r in sorted(pool.leaderboard(), key=lambda r: r["id"])]
    np.testing.assert_allclose(shown, pool.evaluate(*A), rtol=1e-6)


def test_averaged_weights_cannot_be_validated_without_any():
    X, y = drawn()
    plain = pm.Pool(SPECS, F)
    how = {"validation_data": (X, y), "validated_weights": "average", "progress": False}
    with pytest.raises(pm.DataError, match=r"validated_weights.*pm.Member\(average"):
        plain.fit(X, y, early_stopping=True, **how)
    with pytest.raises(pm.DataError, match="validated_weights.*early_stopping=True"):
        averaging("numba").fit(X, y, **how)
    for wrong in ("best", None, 1):
        with pytest.raises(pm.DataError, match="validated_weights.*'last' or 'average'"):
            averaging("numba").fit(X, y, validated_weights=wrong, progress=False)
