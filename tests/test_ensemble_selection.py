"""Ensemble selection against brute force, folds, targets and calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from pmlp_np.model_selection.calibration import Spread, log_loss_of
from pmlp_np.model_selection.ensemble_selection import LogLosses, SquaredErrors, chooser, greedy, top
from pmlp_np.model_selection.folds import make_folds
from pmlp_np.model_selection.scoring import likelihoods
from pmlp_np.model_selection.table_model import tempered
from pmlp_np.model_selection.targets import Targets

# Selection.


def problem(seed, task, n, rows, weighted):
    """(predictions, targets, weights of rows, the objective, a plain loss of a mean of predictions)."""
    draw = np.random.default_rng(seed)
    weights = draw.integers(1, 5, rows) / 2.0 if weighted else None
    if task == "regression":
        targets = draw.normal(size=(rows, 2))
        predictions = targets + draw.normal(size=(n, rows, 2)) * draw.uniform(0.2, 2.0, size=(n, 1, 1))

        def loss(mean):
            return np.average(((mean - targets) ** 2).mean(axis=1), weights=weights)

        scaled = None if weights is None else weights / weights.mean()
        return predictions, SquaredErrors(predictions, targets, scaled), loss
    targets = draw.integers(0, 3, rows)
    raw = draw.normal(size=(n, rows, 3)) + 1.5 * (np.arange(3) == targets[:, None])
    predictions = np.exp(raw) / np.exp(raw).sum(axis=2, keepdims=True)

    def log_loss(mean):
        return np.average(-np.log(np.maximum(mean[np.arange(rows), targets], 1e-7)), weights=weights)

    return predictions, LogLosses(likelihoods(predictions, targets, "classification"), weights), log_loss


def brute_force(predictions, loss, steps):
    """Caruana's selection by its words: add what makes the mean best, keep the best mean of all steps."""
    bag, found = [], []
    for _ in range(steps):
        losses = [loss(predictions[[*bag, i]].mean(axis=0)) for i in range(len(predictions))]
        bag.append(int(np.argmin(losses)))
        found.append(min(losses))
    best = next(k for k in range(steps) if found[k] <= min(found) + 1e-12)
    return np.bincount(bag[: best + 1], minlength=len(predictions)) / (best + 1)


@given(
    seed=st.integers(0, 2**32), task=st.sampled_from(["regression", "classification"]), n=st.integers(1, 7),
    rows=st.integers(2, 40), weighted=st.booleans(), steps=st.integers(1, 12),
)  # fmt: skip
def test_greedy_selection_is_brute_force(seed, task, n, rows, weighted, steps):
    predictions, objective, loss = problem(seed, task, n, rows, weighted)
    single = [loss(each) for each in predictions]
    np.testing.assert_allclose(objective.single(), single, rtol=1e-9)
    counts = np.random.default_rng(seed).integers(0, 3, n).astype(float)
    bag = np.repeat(np.arange(n), counts.astype(int))
    expected = [loss(predictions[[*bag, i]].mean(axis=0)) for i in range(n)]
    np.testing.assert_allclose(objective.with_each(counts), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(greedy(objective, steps), brute_force(predictions, loss, steps), atol=1e-12)
    assert np.flatnonzero(top(objective, 1)).tolist() == [int(np.argmin(single))]
    everyone = chooser("all")(objective)
    assert np.allclose(everyone, 1.0 / n)
    k = min(2, n)
    assert set(np.flatnonzero(chooser(k)(objective))) == set(np.argsort(single, kind="stable")[:k])


def test_what_diverged_is_never_picked():
    draw = np.random.default_rng()
    targets = draw.normal(size=(30, 1))
    predictions = targets + draw.normal(size=(4, 30, 1))
    predictions[2] = 1e6
    for select in ("greedy", "best", 3):
        assert chooser(select)(SquaredErrors(predictions, targets))[2] == 0.0
    predictions[2] = np.nan
    with np.errstate(invalid="ignore"):
        assert chooser("best")(SquaredErrors(predictions, targets))[2] == 0.0
    for wrong in ("some", 0, 2.5, None):
        with pytest.raises(pm.DataError, match="select: expected 'greedy', 'all', 'best' or a number"):
            chooser(wrong)


# Folds.


@given(seed=st.integers(0, 2**32), n=st.integers(2, 80), data=st.data())
def test_folds_part_the_rows(seed, n, data):
    draw = np.random.default_rng(seed)
    count = data.draw(st.integers(2, n))
    strata = draw.integers(0, 3, n) if data.draw(st.booleans()) else None
    folds = make_folds(count, n, draw, strata, None)
    assert len(folds) == count and folds.validated.tolist() == list(range(n))
    sizes = [len(rows) for rows in folds.validation]
    assert max(sizes) - min(sizes) <= 1
    for training, validation in zip(folds.training, folds.validation, strict=True):
        assert sorted([*training, *validation]) == list(range(n))
    if strata is not None:
        for label in range(3):
            shares = [(strata[rows] == label).sum() for rows in folds.validation]
            assert max(shares) - min(shares) <= 1


@given(seed=st.integers(0, 2**32), n=st.integers(4, 60), data=st.data())
def test_groups_stay_together(seed, n, data):
    draw = np.random.default_rng(seed)
    groups = np.array([f"g{i}" for i in draw.integers(0, max(2, n // 3), n)])
    groups[:2] = ["g0", "g1"]
    count = data.draw(st.integers(2, len(set(groups))))
    folds = make_folds(count, n, draw, None, groups)
    assert len(folds) == count and folds.validated.tolist() == list(range(n))
    for training, validation in zip(folds.training, folds.validation, strict=True):
        assert len(validation) and not set(groups[training]) & set(groups[validation])


def test_folds_of_others():
    splits = requires("sklearn.model_selection")
    draw, y = np.random.default_rng(), np.arange(30) % 3
    folds = make_folds(splits.StratifiedKFold(5, shuffle=True, random_state=1), 30, draw, y, None, y)
    theirs = list(splits.StratifiedKFold(5, shuffle=True, random_state=1).split(np.zeros((30, 1)), y))
    for (training, validation), ours, judged in zip(theirs, folds.training, folds.validation, strict=True):
        assert np.array_equal(training, ours) and np.array_equal(validation, judged)
    holdout = make_folds([(np.arange(20), np.arange(20, 30))], 30, draw, None, None)
    assert holdout.validated.tolist() == list(range(20, 30))
    kept = np.arange(30) % 2 == 0
    fewer = holdout.only(kept)
    assert fewer.training[0].tolist() == list(range(10)) and fewer.validation[0].tolist() == list(range(10, 15))


@pytest.mark.parametrize(
    ("cv", "groups", "said"),
    [
        (1, None, r"cv: expected 2 to 10 folds"),
        (11, None, r"cv: expected 2 to 10 folds"),
        (3, ["a"] * 5 + ["b"] * 5, r"2 to 2 folds, for 2 group\(s\), got 3. A group stays together"),
        (None, ["a"] * 10, "One group can't be parted"),
        (2, ["a"], "a label for each of 10 rows"),
        ("five", None, "a number of folds, an object with split"),
        ([], None, "got no pair"),
        ([(np.arange(5), np.arange(4, 12))], None, r"validation rows of cv\[0\]: expected row numbers from 0 to 9"),
        ([(np.arange(5), np.array([], int))], None, r"validation rows of cv\[0\]"),
        ([([0, 1], [2, 3]), ([2, 4], [3, 5])], None, "each row in at most one validation set, got row 3 in 2"),
        ([([0, 1],)], None, r"cv\[0\]: expected a pair"),
    ],
)
def test_bad_folds_are_refused(cv, groups, said):
    with pytest.raises(pm.DataError, match=said):
        make_folds(cv, 10, np.random.default_rng(), None, groups)


# Targets.


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.random.default_rng(0).normal(size=40), "regression"),
        (np.arange(400) % 3, "classification"),
        (np.arange(40) % 30, "regression"),
        (["yes", "no"] * 5, "classification"),
        (np.array([True, False] * 5), "classification"),
        (np.array([1.0, 2.0] * 20), "classification"),
        (np.array([0.5, 2.0] * 20), "regression"),
        (np.array([[0, 1], [1, 1]] * 9), "multilabel"),
        (np.array([[0.5, 1.0], [1.0, 1.0]]), "regression"),
        (np.array([1, 2, 3.5] * 9, object), "regression"),
    ],
)
def test_the_task_is_what_y_suggests(y, task):
    targets, prepared = Targets.learn(y)
    assert targets.task == task
    if task == "classification":
        assert np.array_equal(targets.classes[prepared], np.asarray(y))
        assert np.array_equal(targets.predictions(np.eye(len(targets.classes))[prepared]), np.asarray(y))
    if task == "regression":
        assert np.allclose(prepared.mean(axis=0), 0.0) and set(prepared.std(axis=0).round(9)) <= {0.0, 1.0}
        np.testing.assert_allclose(targets.predictions(prepared), np.asarray(y, float), rtol=1e-12)


@pytest.mark.parametrize(
    ("y", "task", "said"),
    [
        (["a"] * 5, None, r"at least two classes, got one class, 'a' \(only 1 class\)"),
        ([2.5] * 4, None, "at least two different values, got 2.5 in all 4 rows. There is nothing to learn"),
        ([1.0, np.nan], "regression", "finite numbers"),
        ([1.0, np.nan], "classification", "a class in every row"),
        ([1.5, 2.5], "classification", "Unknown label type"),
        (["a", None], None, "y, row 1: expected a class"),
        ([[0, 2]], "multilabel", "labels 0 and 1"),
        ([1, 2], "guess", "task: expected one of 'regression'"),
        (None, None, "requires y to be passed"),
        (np.zeros((2, 2, 2)), None, "targets of rows"),
        (np.array([1j, 2.0]), None, "Complex data"),
        (np.array(["a", 1], object), None, "classes of one type"),
    ],
)
def test_targets_that_suit_nothing_are_refused(y, task, said):
    with pytest.raises(pm.DataError, match=said):
        Targets.learn(y, task)


# Calibration.


@given(seed=st.integers(0, 2**32), task=st.sampled_from(["classification", "multilabel"]))
def test_temperatures_divide_logits(seed, task):
    draw = np.random.default_rng(seed)
    raw, t = 3.0 * draw.normal(size=(20, 4)), float(draw.uniform(0.3, 3.0))

    def link(z):
        e = np.exp(z)
        return e / e.sum(axis=1, keepdims=True) if task == "classification" else e / (1.0 + e)

    np.testing.assert_allclose(tempered(link(raw), t, task), link(raw / t), rtol=1e-9)
    assert tempered(link(raw), 1.0, task) is not None and np.array_equal(tempered(link(raw), 1.0, task), link(raw))


@pytest.mark.parametrize("weighted", [False, True])
def test_log_losses_are_scikit_learns(weighted):
    metrics = requires("sklearn.metrics")
    draw = np.random.default_rng()
    p = draw.dirichlet(np.ones(3), size=50)
    y, labels = draw.integers(0, 3, 50), draw.integers(0, 2, (50, 3)).astype(float)
    y[:3] = range(3)
    weights = draw.uniform(0.0, 2.0, 50) if weighted else None
    expected = metrics.log_loss(y, p, sample_weight=weights)
    assert log_loss_of(p, y, "classification", weights) == pytest.approx(expected, rel=1e-9)
    each = [metrics.log_loss(labels[:, k], p[:, k], sample_weight=weights, labels=[0, 1]) for k in range(3)]
    assert log_loss_of(p, labels, "multilabel", weights) == pytest.approx(np.mean(each), rel=1e-9)


def test_the_temperature_is_that_of_the_weighted_rows():
    """Half of the rows are predicted too boldly, half too timidly: the temperature is that of the half that counts."""
    draw = np.random.default_rng()
    X = draw.normal(size=(120, 2))
    bold = np.arange(120) % 2 == 0
    y = np.where(bold & (draw.random(120) < 0.4), X[:, 0] < 0.0, X[:, 0] > 0.0).astype(int)
    how = {"time_budget": None, "max_members": 6, "max_epochs": 15, "cv": 3, "progress": False, "seed": 1}
    for half in (bold, ~bold):
        weights = np.where(half, 1.0, 1e-6)
        result = pm.search(X, y, task="classification", sample_weight=weights, **how)
        used = np.flatnonzero(result.weights)
        mean = np.tensordot(result.weights[used], [result.trials[i].out_of_fold for i in used], 1)
        of_rows = result.problem.weights
        losses = {
            float(t): log_loss_of(tempered(mean, float(t), "classification"), y, "classification", of_rows)
            for t in [1.0, *np.round(np.exp(np.linspace(-0.5, 0.9, 29)), 4)]
        }
        best = min(losses, key=losses.get)
        assert result.ensemble.temperature == (best if losses[best] < 0.999 * losses[1.0] else 1.0)


@given(seed=st.integers(0, 2**32), coverage=st.floats(0.5, 0.95))
def test_intervals_cover_what_they_promise(seed, coverage):
    """Residuals of one distribution: of many new ones that share lies inside, but for what 400 rows can tell."""
    draw = np.random.default_rng(seed)

    def sample(n):
        between = draw.gamma(2.0, 0.05, size=(n, 1))
        return draw.standard_t(5, size=(n, 1)) * np.sqrt(0.1 + between), between

    spread = Spread.learn(*sample(400))
    residuals, between = sample(4000)
    inside = (np.abs(residuals) <= spread.half_width(between, coverage)).mean()
    # Five standard deviations of what both samples leave open.
    open_ = 5.0 * np.sqrt(coverage * (1.0 - coverage) * (1.0 / 400 + 1.0 / 4000))
    assert abs(inside - coverage) < open_ + 1.0 / 401
    deviation = spread.deviation(between)
    assert 0.7 < np.sqrt(np.mean(np.square(residuals / deviation))) < 1.5
