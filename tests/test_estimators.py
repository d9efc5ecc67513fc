"""The estimators: scikit-learn's own checks, pipelines, data frames, and what they add to a search."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.preprocessing.raw_table import raw_columns

# Without a clock, so that they are repeatable, and short.
SHORT = {"time_budget": None, "max_members": 6, "max_epochs": 25, "cv": 2, "random_state": 0, "progress": False}
# A row of weight 2 is not two rows: minibatches and folds are drawn of rows, and members are trained on them in steps.
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": "minibatches are made of rows, not of weights"}


@pytest.fixture(autouse=True, scope="module")
def installed():
    requires("sklearn")


def data(task="regression", n=150):
    draw = np.random.default_rng()
    X = draw.normal(size=(n, 3))
    signal = X[:, 0] + np.sin(2.0 * X[:, 1])
    if task == "regression":
        return X, 3.0 + 2.0 * signal + 0.1 * draw.normal(size=n)
    if task == "labels":
        return X, np.stack([signal > 0, X[:, 2] > 0], axis=1).astype(int)
    return X, np.array(["no", "yes"])[(signal > 0).astype(int)]


@pytest.mark.parametrize("name", ["MLPPoolRegressor", "MLPPoolClassifier"])
def test_scikit_learns_checks(name):
    checks = requires("sklearn.utils.estimator_checks")
    estimator = getattr(pm, name)(**SHORT | {"max_epochs": 60, "max_members": 8, "batch_size": 32})
    found = checks.check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] == "failed"}
    assert not failed, failed
    assert len(found) > 50


def test_a_regressor():
    X, y = data()
    model = pm.MLPPoolRegressor(**SHORT).fit(X[:100], y[:100])
    assert model.score(X[100:], y[100:]) > 0.5
    std, interval = model.predict_std(X[100:]), model.predict_interval(X[100:], coverage=0.8)
    assert std.shape == (50,) and (std > 0.0).all() and interval.shape == (50, 2)
    predicted = model.predict(X[100:])
    np.testing.assert_allclose(interval.mean(axis=1), predicted, rtol=1e-6, atol=1e-6)
    wide = model.predict_interval(X[100:], coverage=0.95)
    assert (wide[:, 0] <= interval[:, 0]).all() and (wide[:, 1] >= interval[:, 1]).all()
    for wrong in (0.0, 1.0, "most", None):
        with pytest.raises(pm.DataError, match="coverage: expected a number between 0 and 1"):
            model.predict_interval(X, wrong)
    two = pm.MLPPoolRegressor(**SHORT).fit(X, np.stack([y, -y], axis=1))
    assert two.predict(X).shape == (150, 2) and two.predict_std(X).shape == (150, 2)
    assert two.predict_interval(X).shape == (150, 2, 2)


def test_a_classifier():
    X, y = data("classes")
    model = pm.MLPPoolClassifier(**SHORT).fit(X[:100], y[:100])
    assert model.classes_.tolist() == ["no", "yes"] and model.score(X[100:], y[100:]) > 0.7
    p = model.predict_proba(X)
    assert p.shape == (150, 2) and np.array_equal(model.predict(X), model.classes_[p.argmax(axis=1)])
    labels = pm.MLPPoolClassifier(**SHORT).fit(*data("labels"))
    assert labels.predict(X).shape == (150, 2) and set(np.unique(labels.predict(X))) <= {0, 1}


def test_classes_have_weights():
    draw = np.random.default_rng()
    X = draw.normal(size=(400, 1))
    y = (X[:, 0] + draw.normal(size=400) > 1.8).astype(int)
    plain, balanced, by_hand = (
        pm.MLPPoolClassifier(**SHORT, class_weight=weight).fit(X, y)
        for weight in (None, "balanced", {0: 400 / (2 * (y == 0).sum()), 1: 400 / (2 * (y == 1).sum())})
    )
    assert balanced.predict(X).mean() > plain.predict(X).mean() + 0.05
    np.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), atol=1e-4)


def test_it_is_one_of_scikit_learns():
    base, selection, pipeline, preprocessing = (
        requires(f"sklearn.{name}") for name in ("base", "model_selection", "pipeline", "preprocessing")
    )
    X, y = data("classes")
    model = pm.MLPPoolClassifier(**SHORT)
    assert base.is_classifier(model) and base.is_regressor(pm.MLPPoolRegressor())
    assert base.clone(model.fit(X, y)).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X)) and len(again.leaderboard_) == 3
    chain = pipeline.make_pipeline(preprocessing.StandardScaler(), pm.MLPPoolClassifier(**SHORT))
    assert len(selection.cross_val_score(chain, X, y, cv=2)) == 2
    assert "MLPPoolClassifier" in model._repr_html_()


def test_data_frames_come_as_they_are():
    pandas = requires("pandas")
    draw, n = np.random.default_rng(), 160
    frame = pandas.DataFrame({
        "size": draw.normal(size=n), "color": pandas.Categorical(draw.choice(["red", "blue"], n)),
        "town": draw.choice([f"t{i}" for i in range(30)], n), "day": pandas.date_range("2021-01-01", periods=n),
        "odd": draw.normal(size=n), "always": 1,
    })  # fmt: skip
    y = frame["size"] + 2.0 * (frame["color"] == "red") + frame["town"].str[1:].astype(int) / 10.0
    frame.loc[::7, "size"] = np.nan
    frame.loc[3, "town"] = None
    model = pm.MLPPoolRegressor(**SHORT).fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame.columns) and model.n_features_in_ == 6
    assert model.ensemble_.views.left_out == {"always": "one value"}
    assert model.score(frame, y) > 0.5
    later = frame.assign(town="never seen", color="green")
    assert np.isfinite(model.predict(later)).all()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"size": "length"}))
    with pytest.raises(pm.DataError, match="column 'size' of X: expected numbers, as in training, got 'large'"):
        model.predict(frame.assign(size="large"))


def test_rows_to_judge_by_and_groups():
    X, y = data()
    how = SHORT | {"cv": None}
    held_out = pm.MLPPoolRegressor(**how).fit(X[:100], y[:100], X_val=X[100:], y_val=y[100:])
    assert len(held_out.out_of_fold_) == 50 and held_out.leaderboard_[0]["members"] == 1
    # What is evaluated is what new rows are told.
    own = held_out.ensemble_.predict(X[100:])
    np.testing.assert_allclose(held_out.out_of_fold_[:, 0] * y.std() + y.mean(), own, rtol=1e-4, atol=1e-4)
    grouped = pm.MLPPoolRegressor(**how | {"cv": 5}).fit(X, y, groups=np.arange(150) // 10)
    assert len(grouped.leaderboard_[0]["fold_losses"]) == 5
    for wrong in ({"X_val": X}, {"X_val": X, "y_val": y, "groups": np.arange(150)}):
        with pytest.raises(pm.DataError, match="X_val: expected"):
            pm.MLPPoolRegressor(**how).fit(X, y, **wrong)


def test_results_as_scikit_learns_searches_have_them():
    X, y = data()
    model = pm.MLPPoolRegressor(**SHORT).fit(X, y)
    results = model.cv_results_
    assert {len(column) for column in results.values()} == {3}
    best = int(np.argmin(results["rank_test_score"]))
    assert best == model.best_member_["trial"] == int(np.argmax(results["mean_test_score"]))
    assert results["weight"].sum() == pytest.approx(1.0) and "split1_test_score" in results


def test_the_size_of_the_ensemble():
    X, y = data()
    for size, expected in (("best", 1), (2, 2), ("all", 3)):
        model = pm.MLPPoolRegressor(**SHORT | {"ensemble_size": size}).fit(X, y)
        assert len(model.ensemble_.weights) == expected


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    import builtins
    import sys

    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("sklearn") or "pool_estimators" in (rest[2] or () if len(rest) > 2 else ()):
            raise ModuleNotFoundError("No module named 'sklearn'")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "pmlp_np.estimators.pool_estimators", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        pm.DataError, match=r"pm.MLPPoolRegressor: expected scikit-learn.*pip install 'pmlp_np\[sklearn\]'"
    ):
        _ = pm.MLPPoolRegressor
    with pytest.raises(AttributeError, match="no attribute 'MLPPoolTransformer'"):
        _ = pm.MLPPoolTransformer


def test_importances_are_of_columns_that_matter():
    draw = np.random.default_rng()
    X = draw.normal(size=(300, 4))
    X[:, 3] = 1.0
    y = 3.0 * X[:, 1] + X[:, 2]
    model = pm.MLPPoolRegressor(**SHORT | {"max_epochs": 40}).fit(X, y)
    found = model.feature_importances_
    assert found.shape == (4,) and found.sum() == pytest.approx(1.0) and found[3] == 0.0
    assert found[1] > 0.6 > found[2] > 0.02 and found[0] < 0.05
    assert np.array_equal(found, pickle.loads(pickle.dumps(model)).feature_importances_)
    classes = pm.MLPPoolClassifier(**SHORT).fit(X, np.where(y > 0, "a", "b"))
    assert classes.feature_importances_.argmax() == 1


# Going on with new rows.


def test_partial_fit_goes_on_from_the_ensemble():
    X, y = data(n=200)
    model = pm.MLPPoolRegressor(**SHORT).fit(X[:60], y[:60])
    before, ensemble = model.predict(X), model.ensemble_
    once = pickle.loads(pickle.dumps(model)).partial_fit(X[60:], y[60:])
    # By hand: each member of each pool, an epoch at a tenth of its rate, on rows that are encoded as before.
    wide = ensemble.views.wide(raw_columns(X[60:]), ensemble.blocks)
    prepared = (y[60:] - y[:60].mean()) / y[:60].std()
    for (pool, ids), (ours, _) in zip(ensemble.members, once.ensemble_.members, strict=True):
        for id in ids.tolist():
            member = pool.specs[pool._positions([id])[0]]
            alone = pm.Pool(
                pm.Member(
                    **{name: getattr(member, name) for name in ("hidden", "activation", "initializer", "bias")},
                    optimizer=replace(member.optimizer, learning_rate=0.1 * member.optimizer.learning_rate),
                    **{name: value for name, value in member.options if name not in ("max_epochs", "schedule")},
                ),
                wide.shape[1], seed=0, ids=[id],
            )  # fmt: skip
            alone.fit(wide, prepared, features=[pool.features_of(id)], batch_size=64, progress=False)
            # Weights, averages, and the optimizer's state, of which a fresh pool has none.
            for name in ("parameters", "slots", "average"):
                stream = pool.subset([id])._ready().store.stream(name)
                values = np.concatenate([part.copy() for part in stream])
                rest = [values]

                def take(n, rest=rest):
                    head, rest[0] = rest[0][:n], rest[0][n:]
                    return head

                alone._ready().store.restore(name, take)
            alone._progress.step[:] = pool._progress.step[pool._positions([id])]
            alone._progress.epoch[:] = pool._progress.epoch[pool._positions([id])]
            alone._plan.stream_key[:] = pool._plan.stream_key[pool._positions([id])]
            alone._plan.order_key[:] = pool._plan.order_key[pool._positions([id])]
            alone.partial_fit(wide, prepared, batch_size=64, progress=False)
            assert np.array_equal(alone.forward(wide)[0], ours.forward(wide, members=[id], weights="last")[0])
    assert np.array_equal(model.predict(X), before) and not np.array_equal(once.predict(X), before)
    # What is known of the first rows stays.
    assert once.leaderboard_ == model.leaderboard_ and np.array_equal(once.out_of_fold_, model.out_of_fold_)
    kept, as_it_was = once.ensemble_, once.predict(X)
    for _ in range(30):
        once.partial_fit(X[60:140], y[60:140])
    assert np.array_equal(kept.predict(X), as_it_was)
    assert once.score(X[60:140], y[60:140]) > model.score(X[60:140], y[60:140])
    with pytest.raises(ValueError, match="features"):
        once.partial_fit(X[:, :2], y)
    with pytest.raises(pm.DataError, match="output"):
        once.partial_fit(X, np.stack([y, y], axis=1))


def test_partial_fit_begins_with_fit_and_knows_its_classes():
    X, y = data("classes")
    y = np.where(X[:, 2] > 1.2, "perhaps", y)
    first = y != "perhaps"
    how = SHORT | {"max_epochs": 10}
    model = pm.MLPPoolClassifier(**how).partial_fit(X[first], y[first], classes=["yes", "no", "perhaps"])
    assert model.classes_.tolist() == ["no", "perhaps", "yes"] and model.predict_proba(X).shape == (150, 3)
    before = model.predict_proba(X)[~first, 1].mean()
    for _ in range(40):
        model.partial_fit(X, y)
    assert model.predict_proba(X)[~first, 1].mean() > before + 0.1
    again = pm.MLPPoolClassifier(**how).fit(X, y)
    assert np.array_equal(pm.MLPPoolClassifier(**how).partial_fit(X, y).predict_proba(X), again.predict_proba(X))
    with pytest.raises(
        pm.DataError, match=r"y, row 1: expected one of the classes 'no', 'perhaps', 'yes', got 'never'"
    ):
        model.partial_fit(X[:2], ["no", "never"])
    with pytest.raises(pm.DataError, match="classes: expected .*'yes'.*, as before, got"):
        model.partial_fit(X, y, classes=["no", "yes"])
    with pytest.raises(pm.DataError, match="class_weight: expected a dict or None, for partial_fit, got 'balanced'"):
        pm.MLPPoolClassifier(**how, class_weight="balanced").partial_fit(X, y)
    labels = data("labels")
    both = pm.MLPPoolClassifier(**how, class_weight={0: 1.0, 1: 2.0}).partial_fit(X, y == "no")
    assert both.partial_fit(X, y == "no", sample_weight=np.arange(150)).predict(X).dtype == bool
    assert pm.MLPPoolClassifier(**how).fit(*labels).partial_fit(*labels).predict(labels[0]).shape == (150, 2)


def test_a_metric_and_halving():
    X, y = data()
    model = pm.MLPPoolRegressor(**SHORT | {"max_members": 12}, metric="mae", halving=3, ensemble_size="best").fit(X, y)
    results = model.cv_results_
    mae = np.abs(model.out_of_fold_[:, 0] * y.std() + y.mean() - y).mean()
    assert results["mean_test_score"][model.best_member_["trial"]] == pytest.approx(-mae)
    assert model.best_member_["score"] == pytest.approx(mae) and results["rank_test_score"].min() == 1
    assert {record["status"] for record in model.leaderboard_} == {"done", "stopped"}
    assert results["split0_test_score"][model.best_member_["trial"]] == -model.best_member_["fold_scores"][0]
    with pytest.raises(pm.DataError, match="metric: expected a metric that fits loss 'squared_error'"):
        pm.MLPPoolRegressor(**SHORT, metric="accuracy").fit(X, y)
    space = {"hidden": [(2,), (3,)]}
    tried = pm.MLPPoolRegressor(**SHORT, space=space).fit(X, y)
    assert [each["hidden"] for each in sorted(tried.leaderboard_, key=lambda r: r["trial"])] == [(2,), (3,)]


def test_notebooks_show_what_the_ensemble_is_made_of():
    X, y = data()
    model = pm.MLPPoolRegressor(**SHORT, ensemble_size="all")
    assert "TableModel" not in model._repr_html_()
    model.fit(X, y)
    for shown in (model._repr_html_(), model._repr_mimebundle_()["text/html"]):
        assert "sk-top-container" in shown and "TableModel of regression: 3 columns are read." in shown
    records = model.ensemble_.composition()
    assert [record["weight"] for record in records] == pytest.approx([1 / 3] * 3) and len(records) == 3
    by_view = {record["view"]: record for record in records}
    for record in model.leaderboard_:
        blocks = record["view"].split("+")
        widths = sum(model.ensemble_.views.width(name) for name in blocks)
        made_of = by_view["+".join(name for name in ("raw", "quant", "ple", "ple8", "per") if name in blocks)]
        assert made_of["inputs"] == widths and made_of["members"] == 2
    assert "raw+ple" in model.ensemble_._repr_html_()
