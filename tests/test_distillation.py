"""Distillation: what a small network is trained on, that it comes near the ensemble, and what is said to be lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from exported_tables import FEW, draw_rows, targets
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection import distillation
from pmlp_np.model_selection.augmented_rows import augmented_rows
from pmlp_np.model_selection.soft_labels import as_weighted_labels


def searched(task, n=150, **arguments):
    draw = np.random.default_rng()
    rows = draw_rows(draw, n)
    X, y = np.array(rows, object), targets(draw, rows, task)
    how = {"time_budget": None, "max_members": 100, "max_epochs": 15, "cv": 3, "select": "all", "progress": False}
    return pm.search(X, y, FEW, **how | arguments), X, y


@pytest.fixture(scope="module")
def one_result():
    return searched("regression", 40)[0]


QUICK = {"max_epochs": 12, "progress": False, "activation": "tanh"}


# Labels.


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 2**32))
def test_weighted_labels_have_the_loss_of_probabilities(n, n_classes, seed):
    """The weights of a row's labels sum to 1, the most probable ones are exact, and the others are so on average."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(n_classes, 0.7), n)
    total, times = np.zeros_like(p), 300
    for _ in range(times):
        rows, labels, weights = as_weighted_labels(p, draw)
        found = np.zeros_like(p)
        np.add.at(found, (rows, labels), weights)
        assert (np.abs(found.sum(axis=1) - 1.0) < 1e-3 * n_classes).all() and (weights >= 1e-3).all()
        total += found
    exact = np.argsort(-p, axis=1)[:, :3]
    kept = np.where(p < 1e-3, 0.0, p)
    assert np.array_equal(np.take_along_axis(found, exact, 1), np.take_along_axis(kept, exact, 1))
    # The sum of the others is one of them: at most 1/2, so that the mean has a standard deviation of 1/4/sqrt(times).
    assert np.abs(total / times - p).max() < 6.0 * 0.25 / np.sqrt(times) + 1e-3


def test_a_certain_class_is_one_label():
    rows, labels, weights = as_weighted_labels(np.eye(5)[[3, 0]], np.random.default_rng())
    assert rows.tolist() == [0, 1] and labels.tolist() == [3, 0] and weights.tolist() == [1.0, 1.0]


# New rows.


def test_new_rows_lie_between_rows_of_the_table():
    draw = np.random.default_rng()
    table = raw_columns(np.array(draw_rows(draw, 40), object))
    encoded = draw.normal(size=(40, 3))
    made, first = augmented_rows(table, encoded, 1000, draw)
    assert set(first) == set(range(40)) and [c.kind for c in made] == [c.kind for c in table]
    for column, new in zip(table, made, strict=True):
        known = {str(cell) for cell in column.cells}
        if column.kind == "category" or column.name in ("1", "6"):
            assert {str(cell) for cell in new.cells} <= known
            assert len({str(cell) for cell in new.cells} - {"nan", "None"}) > 1
        else:
            old = column.cells[~np.isnan(column.cells)]
            assert np.nanmin(new.cells) >= old.min() and np.nanmax(new.cells) <= old.max()
            between = ~np.isin(new.cells, old) & ~np.isnan(new.cells)
            assert between.mean() > 0.7 and (np.isnan(new.cells).any() == np.isnan(column.cells).any())


def test_the_second_row_is_a_near_one():
    draw = np.random.default_rng()
    group = np.arange(60) % 2
    table = raw_columns(np.array([[float(g) * 100.0 + draw.uniform(0.1, 0.9)] for g in group], object))
    made, _ = augmented_rows(table, group[:, None] * 10.0, 400, draw)
    # Of eight rows that are drawn all would be of the other group in one case of 256.
    outside = (made[0].cells > 1.0) & (made[0].cells < 100.0)
    assert outside.mean() < 0.03


# Distilled models.


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_one_network_comes_near_the_ensemble(task, tmp_path):
    result, X, y = searched(task, 240)
    found = pm.distill(result, (24,), max_epochs=60, progress=False)
    model = found.model
    ((pool, ids),) = model.members
    assert len(pool) == len(ids) == 1 and pool.specs[0].hidden == (24,) and model.weights.tolist() == [1.0]
    assert found.n_parameters == model.n_parameters() == pool.extract(int(ids[0])).n_parameters()
    assert found.ensemble_n_parameters == result.ensemble.n_parameters()
    if task == "regression":
        scale, ensemble, small = y.std(), result.ensemble.predict(X), model.predict(X)
        apart = np.sqrt(np.mean((ensemble - small) ** 2)) / scale
        spread = np.std(ensemble) / scale
        assert model.predict_std(X).shape == y.shape
        low, high = model.predict_interval(X, 0.9).T
        assert (low < small).all() and (small < high).all()
    else:
        ensemble, small = result.ensemble.predict_proba(X), model.predict_proba(X)
        apart, spread = np.sqrt(np.mean((ensemble - small) ** 2)), ensemble.std()
    assert apart < 0.3 * spread and 0.0 < found.difference < 0.4 * spread
    model.save(tmp_path / "small.pmlp")
    again = pm.TableModel.load(tmp_path / "small.pmlp")
    assert np.array_equal(again.predict(X), model.predict(X))
    assert f"{found.n_parameters:,} parameters instead of" in repr(found) and repr(found).startswith("Distilled(24 ")


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_losses_are_those_of_rows_that_were_not_trained_on(task, monkeypatch):
    """Networks and members of a fold never see its validation rows: another y of them changes no prediction of them."""
    result, X, y = searched(task, 90)
    seen = []
    real = distillation._Training.on_fold

    def watched(self, *arguments):
        seen.append(real(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(distillation._Training, "on_fold", watched)
    found = pm.distill(result, (6,), **QUICK)
    folds = result.problem.folds
    assert len(seen) == 3 and all(a.shape[1] == len(rows) for a, rows in zip(seen, folds.validation, strict=True))
    rows = np.concatenate(folds.validation)
    losses = [_loss(result, predicted, rows) for predicted in np.concatenate(seen, axis=1)]
    assert found.loss == pytest.approx(min(losses)) and found.loss != pytest.approx(max(losses))
    assert found.ensemble_loss == pytest.approx(_loss(result, result.out_of_fold[rows], rows))
    assert found.candidates[0]["loss"] == pytest.approx(found.loss) and len(found.candidates) == 2
    assert [c["loss"] for c in found.candidates] == sorted(c["loss"] for c in found.candidates)
    # Another y of the first fold's rows.
    other = result.problem.prepared.copy()
    other[folds.validation[0]] = other[folds.validation[0]][::-1] if task == "regression" else 0
    changed = replace(result, problem=replace(result.problem, prepared=other))
    first, seen[:] = seen[0], []
    pm.distill(changed, (6,), **QUICK)
    assert np.array_equal(seen[0], first) and not np.array_equal(seen[1], first)


def _loss(result, predicted, rows):
    """Mean squared error or log loss, in a line each."""
    y = result.problem.prepared[rows]
    if result.problem.targets.task == "regression":
        return np.mean((predicted - y) ** 2)
    return np.mean([-np.log(max(p[c], 1e-7)) for p, c in zip(predicted, y, strict=True)])


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_a_fold_learns_from_its_own_members_and_the_nearest_network_is_returned(task, monkeypatch):
    result, _, _ = searched(task, 90)
    problem, teachers, pools, new_rows = result.problem, [], [], []
    lesson, trained, made = (getattr(distillation._Training, name) for name in ("_lesson", "_trained", "_new_rows"))
    monkeypatch.setattr(distillation, "_LEARNING_RATES", (1e-5, 3e-2, 1e-2))
    monkeypatch.setattr(
        distillation._Training, "_lesson", lambda self, t, *more: [teachers.append(t), lesson(self, t, *more)][1]
    )
    monkeypatch.setattr(
        distillation._Training, "_trained", lambda self, *all: [pools.append(trained(self, *all)), pools[-1]][1]
    )
    monkeypatch.setattr(
        distillation._Training, "_new_rows", lambda self, *all: [new_rows.append(made(self, *all)), new_rows[-1]][1]
    )
    found = pm.distill(result, (6,), **QUICK)
    assert teachers[-1] is result.ensemble and len(teachers) == 4
    for teacher, rows in zip(teachers[:3], problem.folds.validation, strict=True):
        np.testing.assert_allclose(teacher.means(problem.wide[rows]), result.out_of_fold[rows], rtol=0, atol=1e-6)
    # Four of the best configuration.
    spec, best = pools[-1].specs[0], found.candidates[0]
    assert len(pools[-1]) == 4 and all(each == spec for each in pools[-1].specs)
    assert (
        spec.optimizer.learning_rate == best["learning_rate"] > 1e-5 and spec.activation == best["activation"] == "tanh"
    )
    wide = new_rows[-1][0]
    assert len(wide) == 2000
    method = pools[-1].predict if task == "regression" else pools[-1].predict_proba
    networks = method(wide, weights="average").reshape(4, 2000, -1)
    apart = np.sqrt(((networks - result.ensemble.means(wide)) ** 2).mean(axis=(1, 2)))
    assert found.difference == pytest.approx(apart.min(), rel=1e-4) and apart.max() > apart.min()
    np.testing.assert_allclose(found.model.means(wide), networks[apart.argmin()], rtol=0, atol=1e-6)


def test_it_is_repeatable_with_a_seed():
    result, X, _ = searched("classification", 90)
    first, second = (pm.distill(result, (5,), n_threads=n, **QUICK) for n in (1, 2))
    p = first.model.predict_proba(X)
    assert np.array_equal(p, second.model.predict_proba(X)) and repr(first) == repr(second)
    assert not np.array_equal(p, pm.distill(result, (5,), seed=1, **QUICK).model.predict_proba(X))


def test_rows_that_no_fold_validates_are_trained_on_too(monkeypatch):
    result, _, _ = searched("regression", 90, cv=[(np.arange(60), np.arange(60, 90))])
    lessons = []
    real = distillation._Training._trained

    def watched(self, lesson, *arguments):
        lessons.append(lesson)
        return real(self, lesson, *arguments)

    monkeypatch.setattr(distillation._Training, "_trained", watched)
    pm.distill(result, (5,), n_new_rows=7, **QUICK)
    on_fold, on_all = lessons
    assert len(on_fold.wide) == 67 and len(on_all.wide) == 97
    y, model = result.problem.prepared, result.ensemble
    np.testing.assert_allclose(on_all.targets[60:90], 0.7 * result.out_of_fold + 0.3 * y[60:])
    np.testing.assert_allclose(on_all.targets[:60], 0.7 * model.means(result.problem.wide[:60]) + 0.3 * y[:60])
    np.testing.assert_allclose(on_all.targets[90:], model.means(on_all.wide[90:]))


def test_weights_of_rows_are_those_of_the_rows_they_are_near(monkeypatch):
    weights = np.random.default_rng().integers(1, 4, 90).astype(float)
    result, _, _ = searched("classification", 90, sample_weight=weights)
    lessons = []
    real = distillation._Training._examples

    def watched(self, lesson, draw):
        lessons.append((lesson, real(self, lesson, draw)))
        return lessons[-1][1]

    monkeypatch.setattr(distillation._Training, "_examples", watched)
    pm.distill(result, (5,), n_new_rows=50, **QUICK)
    lesson, (_, labels, shares) = lessons[-1]
    np.testing.assert_allclose(lesson.weights[:90], weights / weights.mean())
    own = np.eye(3)[result.problem.prepared]
    np.testing.assert_allclose(lesson.targets[:90], 0.7 * result.out_of_fold + 0.3 * own)
    assert len(lesson.weights) == 140 and set(lesson.weights[90:]) <= set(lesson.weights[:90])
    assert shares.sum() == pytest.approx(lesson.weights.sum(), rel=1e-2)
    for c in range(3):
        assert shares[labels == c].sum() == pytest.approx(lesson.weights @ lesson.targets[:, c], rel=0.02, abs=0.1)


def test_a_linear_model_other_views_and_no_new_rows():
    result, X, _ = searched("regression", 60)
    linear = pm.distill(result, (), view="quant+ple8", n_new_rows=0, max_epochs=5, progress=False)
    assert linear.model.members[0][0].specs[0].hidden == () and len(linear.candidates) == 2
    blocks = {each for each in linear.model.to_python().split() if each.startswith(("QUANT_", "PLE8_", "PLE_", "PER_"))}
    assert {each.split("_")[0] for each in blocks} == {"QUANT", "PLE8"}
    assert np.isfinite(linear.model.predict(X)).all()


def test_networks_that_all_diverge_are_refused(monkeypatch):
    result, _, _ = searched("regression", 60)
    monkeypatch.setattr(distillation, "_LEARNING_RATES", (1e25,))
    with pytest.raises(pm.DataError, match="hidden: expected a network that can be trained on this table, got .5,."):
        pm.distill(result, (5,), activation="relu", max_epochs=3, progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"view": "rawest"}, pm.DataError, "view: expected blocks of raw, quant, ple, ple8, per, joined by"),
        ({"view": "raw+plain"}, pm.DataError, "view: expected blocks"),
        ({"view": None}, pm.DataError, "view: expected blocks"),
        ({"hidden": (0,)}, pm.SpecError, "hidden: expected"),
        ({"hidden": None}, pm.SpecError, "hidden: expected"),
        ({"activation": "rellu"}, pm.SpecError, "relu"),
        ({"n_new_rows": -1}, pm.DataError, "n_new_rows: expected"),
        ({"max_epochs": 0}, pm.DataError, "max_epochs: expected"),
        ({"seed": 0.5}, pm.DataError, "seed: expected"),
    ],
)
def test_what_can_t_be_is_refused_before_any_training(one_result, arguments, error, said, monkeypatch):
    monkeypatch.setattr(distillation, "Pool", None)
    with pytest.raises(error, match=said):
        pm.distill(one_result, **arguments)
