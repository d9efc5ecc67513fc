"""Metrics of a search against scikit-learn's, greedy selection by them against brute force, and what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from pmlp_np.model_selection import ensemble_selection
from pmlp_np.model_selection.ensemble_selection import MetricLosses, chooser, greedy
from pmlp_np.model_selection.scoring import Scoring
from pmlp_np.model_selection.search_outcome import selected
from pmlp_np.model_selection.targets import Targets

VALUES = {"mean_absolute_error": "mean_absolute_error", "r2": "r2_score", "rmse": "root_mean_squared_error"}
CLASSES = {"accuracy": "accuracy_score", "balanced_accuracy": "balanced_accuracy_score", "log_loss": "log_loss",
           "roc_auc": "roc_auc_score", "f1": "f1_score"}  # fmt: skip


def drawn(task, seed, weighted=False, rows=40, n=4):
    """(targets, prepared, weights, predictions of candidates, y)."""
    draw = np.random.default_rng(seed)
    weights = draw.integers(1, 5, rows).astype(float) if weighted else None
    if task == "regression":
        y = 10.0 + 3.0 * draw.normal(size=(rows, 2))
        targets, prepared = Targets.learn(y, task)
        found = prepared + draw.normal(size=(n, rows, 2)) * draw.uniform(0.1, 2.0, (n, 1, 1))
        return targets, prepared, weights, found.astype(np.float32), y
    k = {"binary": 2, "classification": 3, "multilabel": 2}[task]
    if task == "multilabel":
        y = (draw.random((rows, k)) < 0.5).astype(int)
        y[:2] = [[0, 0], [1, 1]]
        targets, prepared = Targets.learn(y, task)
        found = 1.0 / (1.0 + np.exp(-draw.normal(size=(n, rows, k)) - y + 0.5))
        return targets, prepared, weights, found.astype(np.float32), y
    y = np.array(["a", "b", "c"])[np.concatenate([np.arange(k), draw.integers(0, k, rows - k)])]
    targets, prepared = Targets.learn(y, "classification")
    raw = draw.normal(size=(n, rows, k)) + 1.5 * (np.arange(k) == prepared[:, None])
    found = np.exp(raw) / np.exp(raw).sum(axis=2, keepdims=True)
    return targets, prepared, weights, found.astype(np.float32), y


def by_scikit_learn(name, targets, y, predicted, weights):
    metrics = requires("sklearn.metrics")
    function = getattr(metrics, (VALUES | CLASSES)[name])
    if name in VALUES:
        return function(y, predicted * targets.scale + targets.mean, sample_weight=weights)
    p = predicted / predicted.sum(axis=1, keepdims=True)
    if name == "log_loss":
        return function(y, p, sample_weight=weights)
    if name == "roc_auc":
        p = p[:, 1] if p.shape[1] == 2 else p
        return function(y, p, sample_weight=weights, multi_class="ovr") if weights is None or p.ndim == 1 else None
    labels = targets.classes[predicted.argmax(axis=1)]
    if name == "f1":
        how = {"pos_label": "b"} if len(targets.classes) == 2 else {"average": "macro"}
        return function(y, labels, sample_weight=weights, **how)
    return function(y, labels, sample_weight=weights)


@given(
    seed=st.integers(0, 2**32), weighted=st.booleans(),
    of=st.sampled_from([("regression", name) for name in VALUES]
                       + [(task, name) for task in ("binary", "classification") for name in CLASSES]),
)  # fmt: skip
def test_scores_are_scikit_learns(seed, weighted, of):
    task, name = of
    targets, prepared, weights, found, y = drawn(task, seed, weighted)
    scoring = Scoring.of(name, targets, prepared, weights)
    scores = scoring.scores(found, prepared, weights)
    for score, predicted in zip(scores, found.astype(np.float64), strict=True):
        expected = by_scikit_learn(name, targets, y, predicted, weights)
        assert expected is None or score == pytest.approx(expected, rel=1e-6, abs=1e-9)
    losses = scoring.losses(found, prepared, weights)
    assert np.array_equal(losses, -scores if name not in ("mean_absolute_error", "rmse", "log_loss") else scores)


@given(seed=st.integers(0, 2**32))
def test_scores_of_labels(seed):
    """By hand: scikit-learn has no mean over labels of most of them."""
    targets, prepared, _, found, _ = drawn("multilabel", seed)
    right = np.where(prepared == 1.0, found, 1.0 - found)
    hits = (found > 0.5) & (prepared == 1.0)
    f1 = 2.0 * hits.sum(axis=1) / ((found > 0.5).sum(axis=1) + prepared.sum(axis=0))
    expected = {
        "accuracy": (right > 0.5).all(axis=2).mean(axis=1), "log_loss": -np.log(right).mean(axis=(1, 2)),
        "f1": f1.mean(axis=1),
    }  # fmt: skip
    for name, values in expected.items():
        scores = Scoring.of(name, targets, prepared, None).scores(found, prepared, None)
        np.testing.assert_allclose(scores, values, rtol=1e-5)


def test_ties_of_probabilities_are_ties():
    """Whatever the other classes have: by counting pairs of rows."""
    draw = np.random.default_rng()
    prepared = np.arange(60) % 3
    targets, _ = Targets.learn(np.array(["a", "b", "c"])[prepared], "classification")
    tenths = draw.multinomial(10, [0.3, 0.3, 0.4], size=(5, 60)) / 10.0
    found = Scoring.of("roc_auc", targets, prepared, None).scores(tenths, prepared, None)
    for score, p in zip(found, tenths, strict=True):
        areas = []
        for k in range(3):
            higher = np.sign(p[prepared == k, k][:, None] - p[prepared != k, k])
            areas.append((higher.mean() + 1.0) / 2.0)
        assert score == pytest.approx(np.mean(areas), abs=1e-12)


@given(
    seed=st.integers(0, 2**32), weighted=st.booleans(), steps=st.integers(1, 9), n=st.integers(1, 5),
    of=st.sampled_from([("regression", "mae"), ("regression", "r2"), ("binary", "roc_auc"), ("multilabel", "roc_auc"),
                        ("classification", "accuracy"), ("classification", "balanced_accuracy"), ("multilabel", "f1"),
                        ("multilabel", None), ("regression", None), ("classification", None)]),
)  # fmt: skip
def test_greedy_selection_by_a_metric_is_brute_force(seed, weighted, steps, n, of):
    task, name = of
    targets, prepared, weights, found, _ = drawn(task, seed, weighted, rows=25, n=n)
    scoring = Scoring.of(name, targets, prepared, weights)

    def loss(bag):
        mean = found[bag].astype(np.float64).sum(axis=0) / len(bag)
        return scoring.losses(mean[np.newaxis], prepared, weights)[0]

    bag, best = [], []
    for _ in range(steps):
        losses = [loss([*bag, i]) for i in range(n)]
        # Ties go to the first, and sums that differ in their last digits are ties.
        bag.append(next(i for i in range(n) if losses[i] <= min(losses) + 1e-12))
        best.append(min(losses))
    length = 1 + next(k for k in range(steps) if best[k] <= min(best) + 1e-12)
    picked = greedy(scoring.objective(found, prepared, weights), steps)
    expected = np.bincount(bag[:length], minlength=n) / length
    mean = np.tensordot(picked, found.astype(np.float64), 1)
    # As good as brute force's; and the same where no two means are as good.
    assert scoring.losses(mean[np.newaxis], prepared, weights)[0] == pytest.approx(min(best), rel=1e-7, abs=1e-9)
    if name is None or task == "regression":
        np.testing.assert_allclose(picked, expected, atol=1e-12)


def test_pieces_and_steps_of_many_rows(monkeypatch):
    draw = np.random.default_rng()
    found = draw.normal(size=(7, 30, 2))

    def losses(means):
        return np.abs(means).sum(axis=(1, 2))

    whole = MetricLosses(found, losses)
    monkeypatch.setattr(ensemble_selection, "_PIECE_BYTES", 1000)
    counts = draw.integers(0, 3, 7).astype(float)
    in_pieces = MetricLosses(found, losses)
    assert np.array_equal(whole.with_each(counts), in_pieces.with_each(counts)) and whole.steps == 100
    monkeypatch.setattr(ensemble_selection, "_MOST_NUMBERS", 42 * found.size)
    assert MetricLosses(found, losses).steps == 42
    monkeypatch.setattr(ensemble_selection, "_MOST_NUMBERS", 1)
    assert MetricLosses(found, losses).steps == 10


# Searches.

SPACE = [pm.Configuration({"hidden": (h,), "learning_rate": rate}, "raw") for h in (2, 5) for rate in (3e-3, 0.03)]
SHORT = {"space": SPACE, "time_budget": None, "max_members": 100, "max_epochs": 8, "cv": 3, "progress": False}


def table(n=90):
    draw = np.random.default_rng()
    X = draw.normal(size=(n, 2))
    return X, X[:, 0] + np.abs(X[:, 1]) + 0.3 * draw.normal(size=n)


@pytest.mark.parametrize("metric", ["mae", "r2", "custom"])
def test_a_search_goes_by_its_metric(metric):
    X, y = table()
    weights = np.random.default_rng().integers(1, 4, 90).astype(float)
    seen = []

    def largest(y_true, y_pred, sample_weight):
        seen.append((y_true.shape, sample_weight / sample_weight[0]))
        return np.abs(y_true - y_pred).max()

    chosen = pm.CustomMetric(largest, greater_is_better=False) if metric == "custom" else metric
    result = pm.search(X, y, metric=chosen, select="best", sample_weight=weights, **SHORT)
    values = [each.out_of_fold[:, 0].astype(float) * y.std() + y.mean() for each in result.trials]
    expected = {
        "mae": [np.average(np.abs(y - each), weights=weights) for each in values],
        "r2": [1.0 - np.average((y - each) ** 2, weights=weights)
               / np.average((y - np.average(y, weights=weights)) ** 2, weights=weights) for each in values],
        "custom": [np.abs(y - each).max() for each in values],
    }[metric]  # fmt: skip
    records = result.records()
    by_trial = {record["trial"]: record for record in records}
    assert [by_trial[i]["score"] for i in range(4)] == pytest.approx(expected, rel=1e-5)
    order = np.argsort(expected)[:: -1 if metric == "r2" else 1]
    assert [record["trial"] for record in records] == order.tolist() and result.best == order[0]
    assert result.weights[order[0]] == 1.0 and result.score == pytest.approx(expected[order[0]], rel=1e-5)
    assert records[0]["metric"] == ("largest" if metric == "custom" else metric) and len(records[0]["fold_scores"]) == 3
    if metric == "custom":
        shapes, of_weights = zip(*seen, strict=True)
        assert (90,) in shapes and any(
            np.allclose(each, weights / weights[0]) for each in of_weights if len(each) == 90
        )


def test_metrics_of_classes():
    X, y = table()
    y = np.where(y > 1.0, "up", "down")
    result = pm.search(X, y, metric="roc_auc", **SHORT)
    auc = requires("sklearn.metrics").roc_auc_score(y == "up", result.out_of_fold[:, 1])
    assert result.score == pytest.approx(auc) and "roc_auc" in repr(result)
    seen = []
    how = {"greater_is_better": True, "response_method": "predict_proba"}
    pm.search(X, y, metric=pm.CustomMetric(lambda *both: seen.append(both) or 0.0, **how), **SHORT)
    assert {each[0].dtype.kind for each in seen} == {"U"} and {each[1].shape[1] for each in seen} == {2}


def test_what_diverged_is_in_no_ensemble_by_a_metric():
    """Zeros for probabilities would be class 0, which most rows have."""
    X, _ = table()
    y = (np.arange(90) % 9 == 0).astype(int)
    result = pm.search(X, y, metric="accuracy", **SHORT)
    lost = np.full_like(result.trials[0].out_of_fold, 0.0)
    trials = (_with(_with(result.trials[0], finite=False), lost), *result.trials[1:])
    for select in ("all", "best", "greedy"):
        assert selected(result.problem, result.scoring, trials, select)[0] == 0.0
    assert _with(result, trials=trials).records()[-1]["status"] == "diverged"
    # Unless there is nothing else.
    assert selected(result.problem, result.scoring, trials[:1], "best").tolist() == [1.0]


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        ("regression", "accuracy", r"metric: expected a metric that fits loss 'squared_error' \(r2, rmse, mae\)"),
        ("classification", "r2", "metric: expected a metric that fits loss 'cross_entropy'"),
        ("regression", "r2_scor", "metric: expected one of r2, .*Did you mean 'r2_score'"),
        ("regression", len, "Say which way is better: pm.CustomMetric"),
        ("regression", 3, "metric: expected one of r2"),
        ("regression", pm.CustomMetric(len, True, "predict_proba"), "metric: expected one of values, got one of prob"),
        ("regression", pm.CustomMetric(lambda y, p: "good", True), "a function that returns a number, got 'good'"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(task, metric, said):
    X, y = table()
    y = y if task == "regression" else (y > 0.5).astype(int)
    with pytest.raises(pm.DataError, match=said):
        pm.search(X, y, task=task, metric=metric, **SHORT | {"max_members": None, "time_budget": 1e9})


def test_metrics_that_are_not_defined_are_refused():
    X, y = table()
    with pytest.raises(pm.DataError, match="metric: expected a function that takes sample_weight="):
        pm.search(X, y, metric=pm.CustomMetric(lambda y, p: 0.0, True), sample_weight=np.arange(90) + 1.0, **SHORT)
    labels = np.stack([y > 0.5, np.zeros(90)], axis=1).astype(int)
    with pytest.raises(
        pm.DataError, match="y: expected rows of every class, to compute roc_auc, got none of class 1 of"
    ):
        pm.search(X, labels, metric="roc_auc", **SHORT)
    for wrong in ((3, True), (len, 1), (len, True, "score")):
        with pytest.raises(pm.DataError, match="function: |greater_is_better: |response_method: "):
            pm.CustomMetric(*wrong)


def test_labels_have_weights_of_rows():
    X, y = table()
    labels = np.stack([y > 0.5, X[:, 0] > 0], axis=1).astype(int)
    weights = np.random.default_rng().integers(1, 4, 90).astype(float)
    result = pm.search(X, labels, sample_weight=weights, **SHORT)
    p = np.where(labels == 1, result.out_of_fold, 1.0 - result.out_of_fold)
    assert result.loss == pytest.approx(np.average(-np.log(p).mean(axis=1), weights=weights), rel=1e-6)


# Optimism.


@given(seed=st.integers(0, 2**32))
def test_optimism_is_that_of_picks_without_a_fold(seed):
    """Candidates that are noise: the best of many looks better than it is."""
    X, y = table(60)
    result = _searched(X, y)
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(4, 60, 1)).astype(np.float32)
    trials = tuple(_with(trial, noise[i]) for i, trial in enumerate(result.trials))
    result = _with(result, trials=trials)
    squares = (noise[:, :, 0].astype(float) - result.problem.prepared[:, 0]) ** 2
    total = 0.0
    for fold in result.problem.folds.validation:
        others = np.setdiff1d(np.arange(60), fold)
        total += squares[squares[:, others].mean(axis=1).argmin()][fold].sum()
    assert result.optimism == pytest.approx(total / 60 - squares.mean(axis=1).min(), abs=1e-12)
    assert np.isfinite(result.ensemble_optimism)


def test_optimism_needs_two_folds():
    X, y = table()
    result = pm.search(X, y, **SHORT | {"cv": [(np.arange(60), np.arange(60, 90))]})
    assert np.isnan(result.optimism) and np.isnan(result.ensemble_optimism)
    one = pm.search(X, y, **SHORT | {"space": SPACE[:1]})
    assert one.optimism == one.ensemble_optimism == 0.0
    assert len(chooser("best")(MetricLosses(np.zeros((2, 3, 1)), lambda each: each.sum(axis=(1, 2))))) == 2


_KEPT = {}


def _searched(X, y):
    """One search for all examples."""
    if not _KEPT:
        _KEPT["result"] = pm.search(X, y, **SHORT)
    return _KEPT["result"]


def _with(of, out_of_fold=None, **changes):
    from dataclasses import replace

    return replace(of, **(changes if out_of_fold is None else {"out_of_fold": out_of_fold}))
