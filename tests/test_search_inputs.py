"""What users hand over to a search: names and labels of frames, unusual labels, extreme scales, and what fails late."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection import search_loop
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_outcome import selectable
from pmlp_np.model_selection.targets import Targets
from pmlp_np.model_selection.trials import Trial

SHORT = {"time_budget": None, "max_members": 3, "max_epochs": 3, "cv": 3, "progress": False}
N = 60


@pytest.fixture
def draw():
    return np.random.default_rng()


def frame_of(draw):
    pandas = requires("pandas")
    return pandas.DataFrame({"a": draw.normal(size=N), "b": draw.normal(size=N), "c": draw.choice(["x", "y"], N)})


def test_columns_have_the_names_of_training(draw):
    X = frame_of(draw)
    model = pm.search(X, X["a"].to_numpy(), **SHORT).ensemble
    expected = model.predict(X)
    assert np.array_equal(model.predict(X.to_numpy()), expected)
    for other in (X[["b", "a", "c"]], X.rename(columns={"b": "B"})):
        with pytest.raises(pm.DataError, match="of X: expected '.', as in training, got"):
            model.predict(other)
    assert np.array_equal(model.predict(X[["b", "a", "c"]][["a", "b", "c"]]), expected)
    # A model of an array takes columns by position.
    by_position = pm.search(X.to_numpy(), X["a"].to_numpy(), **SHORT).ensemble
    assert np.isfinite(by_position.predict(X)).all()


@pytest.mark.parametrize("name", ["y", "groups", "sample_weight"])
def test_rows_have_the_order_of_x(name, draw):
    pandas = requires("pandas")
    X = frame_of(draw)
    series = pandas.Series(draw.integers(1, 9, N).astype(float))
    given = {"y": series, "groups": series, "sample_weight": series}
    given[name] = series[::-1]
    arguments = {"groups": given["groups"], "sample_weight": given["sample_weight"]}
    with pytest.raises(pm.DataError, match=f"^{name}: expected rows in the order of X"):
        pm.search(X, given["y"], **SHORT, **arguments)


def test_exports_of_frames_without_names_take_such_frames(draw):
    pandas = requires("pandas")
    X = pandas.DataFrame(draw.normal(size=(N, 2)))
    model = pm.search(X, X[0].to_numpy(), **SHORT).ensemble
    namespace = {"__name__": "model"}
    exec(model.to_python(), namespace)
    np.testing.assert_allclose(namespace["predict"](X), model.predict(X), atol=1e-5)


@pytest.mark.parametrize("n", [300, 40, 7])
def test_proposals_of_lists_come_once_each(n, draw):
    space = {"hidden": [(i,) for i in range(1, n + 1)]}
    proposals = pm.Proposals("regression", space=space, seed=int(draw.integers(100)))
    found = []
    while asked := proposals.ask(int(draw.integers(1, 50))):
        found += [configuration.hidden for _, configuration in asked]
    assert sorted(found) == sorted(space["hidden"])


def test_proposals_of_several_spaces_come_once_each(draw):
    hidden = [(8,), (16,), (32,), (64,)]
    space = [
        {"optimizer": ["adam"], "hidden": hidden},
        {"optimizer": ["sgd"], "learning_rate": pm.log_uniform(0.001, 1)},
    ]
    proposals = pm.Proposals("regression", space=space)
    found = [proposals.ask(1)[0][1] for _ in range(10)]
    assert sorted(each.hidden for each in found if each.member["optimizer"] == "adam") == hidden


def test_a_metric_that_a_fold_lacks_is_not_a_number_there(draw):
    metrics = requires("sklearn.metrics")
    X, y = draw.normal(size=(N, 2)), np.repeat(["p", "q", "r"], [29, 29, 2])
    metric = pm.CustomMetric(metrics.log_loss, False, "predict_proba")
    result = pm.search(X, y, metric=metric, **SHORT)
    (record,) = result.records()
    assert np.isnan(record["fold_scores"]).any() and np.isfinite(record["score"])
    estimator = pm.MLPPoolClassifier(**SHORT, metric=metric, random_state=0).fit(X, y)
    assert estimator.best_member_["trial"] == 0


def test_ctrl_c_between_two_fits_keeps_what_was_trained(monkeypatch, draw):
    real, calls = search_loop.selected, []

    def pressed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(search_loop, "selected", pressed)
    X = draw.normal(size=(N, 2))
    result = pm.search(X, X[:, 0], **SHORT | {"max_members": 120})
    assert result.ended == "interrupted" and len(result.trials) == len(result.weights) > 10
    assert result.weights.sum() == pytest.approx(1.0)


def test_epochs_are_no_more_than_the_most(draw):
    X = draw.normal(size=(N, 2))
    result = pm.search(X, X[:, 0], {"epochs": [0.5, 5.0], "hidden": [(4,)]}, **SHORT | {"max_members": 6})
    assert sorted(record["epochs"] for record in result.records()) == [2, 3]


def test_a_search_of_which_all_diverges_says_so(draw):
    X = draw.normal(size=(N, 2))
    space = {"learning_rate": [1e30], "optimizer": ["sgd"]}
    with pytest.raises(pm.DataError, match="all diverged. Try smaller learning rates."):
        pm.search(X, X[:, 0], space, **SHORT)


def test_stopped_trials_are_better_than_diverged_ones():
    found = np.zeros((2, 1), np.float32)
    stopped = Trial(Configuration(), None, np.zeros(1), 1, found, True, 0.0, stopped=True)
    diverged = Trial(Configuration(), None, np.zeros(1), 1, found, False, 0.0)
    assert selectable([diverged, stopped]) == [1] and selectable([diverged]) == [0]


@pytest.mark.parametrize("scale", [1e-250, 1e160, 1e290])
def test_targets_of_any_scale(scale, draw):
    y = draw.normal(size=(50, 2))
    y[:, 1] = 3.0
    targets, prepared = Targets.learn(y * scale, "regression")
    np.testing.assert_allclose(prepared[:, 0], (y[:, 0] - y[:, 0].mean()) / y[:, 0].std(), rtol=1e-9)
    np.testing.assert_allclose(targets.predictions(prepared), y * scale, rtol=1e-9)


def test_targets_that_are_missing_or_unusual(draw):
    pandas = requires("pandas")
    texts = pandas.Series(["p", "q"] * 30, dtype="string")
    texts[3] = pandas.NA
    X = draw.normal(size=(N, 2))
    with pytest.raises(pm.DataError, match="y, row 3: expected a class, got a missing one"):
        pm.search(X, texts, **SHORT)
    for unusual in (b"p", datetime.date(2020, 1, 1)):
        y = np.array(
            [unusual, type(unusual)(b"q") if isinstance(unusual, bytes) else datetime.date(2021, 1, 1)] * 30, object
        )
        with pytest.raises(pm.DataError, match="y: expected classes that are texts, numbers or booleans, got .*type"):
            pm.search(X, y, **SHORT)
    decimals = np.array([Decimal(f"{value:.4f}") for value in X[:, 0]], object)
    assert pm.search(X, decimals, **SHORT).problem.targets.task == "regression"


@pytest.mark.parametrize(("label", "said"), [(None, "groups, row 2: expected a label, got a missing one"),
                                             (3, "groups: expected labels of one type")])  # fmt: skip
def test_groups_that_cannot_be_compared(label, said, draw):
    X = draw.normal(size=(N, 2))
    with pytest.raises(pm.DataError, match=said):
        pm.search(X, X[:, 0], groups=np.array(["u", "v", label] * 20, object), **SHORT)


def test_categories_may_be_numbers(draw):
    pandas = requires("pandas")
    frame = pandas.DataFrame({"shop": pandas.Categorical(draw.integers(1, 5, N)), "size": draw.normal(size=N)})
    assert [column.kind for column in raw_columns(frame)] == ["category", "number"]
    model = pm.search(frame, (frame["shop"].astype(int) == 2).to_numpy(), **SHORT).ensemble
    as_numbers = frame.assign(shop=frame["shop"].astype(float))
    assert np.array_equal(model.predict_proba(as_numbers), model.predict_proba(frame))


def test_folds_of_rows_without_weight_are_left_out(draw):
    model_selection = requires("sklearn.model_selection")
    X, weights = draw.normal(size=(N, 2)), (np.arange(N) >= 20).astype(float)
    result = pm.search(X, X[:, 0], sample_weight=weights, **SHORT | {"cv": model_selection.KFold(3)})
    assert len(result.problem.folds) == 2


def test_validation_rows_of_estimators_are_compared(draw):
    requires("sklearn")
    X = draw.normal(size=(N, 2))
    estimator = pm.MLPPoolRegressor(**SHORT | {"cv": None}, random_state=0)
    with pytest.raises(pm.DataError, match="y_val: expected 20 rows, as X_val, got 19"):
        estimator.fit(X, X[:, 0], X_val=X[:20], y_val=X[:19, 0])
    estimator.fit(X, X[:, 0], X_val=X[:20], y_val=X[:20, :1])
    assert np.isfinite(estimator.predict(X)).all()
