"""The search: trials against pools of their own, selection, budgets, what is refused, and the model that comes out."""

import pickle

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection import search_loop as searching
from pmlp_np.model_selection.configurations import Configuration, portfolio
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.table_model import tempered, weights_of

SMALL = {"hidden": (8,), "learning_rate": 0.01, "decoupled_weight_decay": 0.1, "dropout": 0.0, "average": 0.9}
FEW = [
    Configuration({**SMALL, "activation": "relu"}, "raw"),
    Configuration({**SMALL, "hidden": (6, 5), "activation": "tanh", "schedule": "cosine"}, "quant+ple", 0.5),
    Configuration({**SMALL, "hidden": ()}, "raw+ple8"),
]


def table(task="regression", n=120):
    draw = np.random.default_rng()
    X = np.array([[float(a), float(b), str(c)] for a, b, c in zip(
        draw.normal(size=n), draw.normal(size=n), draw.choice(["u", "v", "w"], n), strict=True)], object)  # fmt: skip
    signal = np.sin(2.0 * X[:, 0].astype(float)) + X[:, 1].astype(float) * (X[:, 2] == "u")
    y = signal + 0.2 * draw.normal(size=n)
    if task == "classification":
        y = np.array(["low", "middle", "high"])[np.digitize(y, [-0.7, 0.7])]
    elif task == "multilabel":
        y = np.stack([y > 0.0, signal > 0.5], axis=1).astype(int)
    return X, y


def found(task="regression", n=120, **arguments):
    X, y = table(task, n)
    plain = {"space": FEW, "time_budget": None, "max_members": 100, "max_epochs": 12, "cv": 3, "progress": False}
    return pm.search(X, y, **plain | arguments), X, y


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_trials_are_pools_of_their_own(task):
    """Out-of-fold predictions of each configuration by one pool for each fold, trained on that fold's rows alone."""
    result, X, y = found(task)
    problem = result.problem
    assert problem.targets.task == task and len(result.trials) == 3 and result.ended == "done"
    for number, trial in enumerate(result.trials):
        assert trial.epochs == (6 if number == 1 else 12)
        for fold, (training, validation) in enumerate(
            zip(problem.folds.training, problem.folds.validation, strict=True)
        ):
            columns = problem.inputs_of(trial.configuration.view, fold)
            alone = pm.Pool(
                trial.configuration.spec(trial.epochs, trial.epochs * -(-len(training) // 64)), len(columns),
                problem.n_outputs, problem.targets.loss, ids=[int(trial.ids[fold])], seed=1,
            )  # fmt: skip
            part = problem.wide.inputs(columns)
            alone.fit(part, problem.prepared, rows=[training], epochs=trial.epochs, batch_size=64, progress=False)
            method = alone.predict if task == "regression" else alone.predict_proba
            expected = method(part[validation], weights="average")[0].reshape(len(validation), -1)
            assert np.array_equal(trial.out_of_fold[validation], expected.astype(np.float32))


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_the_ensemble_is_the_weighted_mean_of_its_members(task):
    result, X, y = found(task)
    model, problem = result.ensemble, result.problem
    assert model.weights.sum() == pytest.approx(1.0) and result.weights[result.weights > 0].tolist() == list(
        model.weights
    )
    # By networks that need NumPy alone.
    mean = model.networks()
    by_networks = (mean.predict if task == "regression" else mean.predict_proba)(problem.wide).reshape(len(X), -1)
    by_networks = by_networks.astype(np.float64)
    if task == "regression":
        values = by_networks[:, 0] * y.std() + y.mean()
        np.testing.assert_allclose(model.predict(X), values, rtol=1e-4, atol=1e-4)
        with pytest.raises(pm.DataError, match="task: expected one with probabilities, got regression"):
            model.predict_proba(X)
        return
    expected_p = tempered(by_networks, model.temperature, task)
    np.testing.assert_allclose(model.predict_proba(X), expected_p, rtol=1e-3, atol=1e-5)
    p = model.predict_proba(X)
    if task == "classification":
        assert p.sum(axis=1) == pytest.approx(np.ones(len(X))) and list(model.targets.classes) == [
            "high",
            "low",
            "middle",
        ]
        assert np.array_equal(model.predict(X), model.targets.classes[p.argmax(axis=1)])
    else:
        assert np.array_equal(model.predict(X), (p > 0.5).astype(int))
    for ask in (model.predict_std, model.predict_interval):
        with pytest.raises(pm.DataError, match="task: expected one with"):
            ask(X)


def test_without_a_clock_it_is_repeatable_and_predictions_depend_on_no_other_row():
    X, y = table("classification")
    how = {"space": None, "time_budget": None, "max_members": 9, "max_epochs": 4, "cv": 3, "progress": False}
    first, second = (pm.search(X, y, **how, seed=7, n_threads=n) for n in (1, 2))
    assert len(first.trials) == 3
    p = first.ensemble.predict_proba(X)
    assert np.array_equal(p, second.ensemble.predict_proba(X))
    assert np.array_equal(first.ensemble.predict_proba(X[10:13]), p[10:13])
    assert not np.array_equal(p, pm.search(X, y, **how, seed=8).ensemble.predict_proba(X))
    again = pickle.loads(pickle.dumps(first.ensemble))
    assert np.array_equal(again.predict_proba(X), p)


def test_members_without_averaged_weights_predict_with_their_last():
    plain = Configuration({k: v for k, v in SMALL.items() if k != "average"} | {"activation": "relu"}, "raw")
    result, X, y = found(space=[plain])
    assert np.isfinite(result.ensemble.predict(X)).all()
    networks = result.ensemble.networks().predict(result.problem.wide) * y.std() + y.mean()
    np.testing.assert_allclose(result.ensemble.predict(X), networks, rtol=1e-4, atol=1e-4)


def test_records_say_what_was_tried():
    result, _, _ = found()
    records = result.records()
    losses = [record["loss"] for record in records]
    assert losses == sorted(losses) and {record["trial"] for record in records} == {0, 1, 2}
    assert records[0]["trial"] == result.best and sum(record["weight"] for record in records) == pytest.approx(1.0)
    for record in records:
        trial = result.trials[record["trial"]]
        residual = trial.out_of_fold[:, 0] - result.problem.prepared[:, 0]
        assert record["loss"] == pytest.approx(np.mean(residual.astype(float) ** 2))
        folds = [np.mean(residual[rows].astype(float) ** 2) for rows in result.problem.folds.validation]
        assert record["fold_losses"] == pytest.approx(folds) and record["members"] == 3
    assert "8 relu raw" in str(records) and "3 configurations" in repr(result)
    requires("pandas")
    assert len(records.to_pandas()) == 3
    assert result.loss <= min(losses) + 1e-9


def test_weights_of_rows_and_rows_without_one():
    X, y = table(n=90)
    weights = np.random.default_rng().integers(0, 3, 90).astype(float)
    how = {"space": FEW[:1], "time_budget": None, "max_members": 3, "max_epochs": 5, "cv": 3, "progress": False}
    y_wrong = np.where(weights == 0.0, 1e6, y)
    weighted, harmless = (pm.search(X, target, sample_weight=weights, **how) for target in (y, y_wrong))
    assert np.array_equal(weighted.ensemble.predict(X), harmless.ensemble.predict(X))
    assert len(weighted.problem.wide) == (weights > 0.0).sum()
    plain = pm.search(X[weights > 0], y[weights > 0], **how)
    assert not np.array_equal(plain.ensemble.predict(X), weighted.ensemble.predict(X))
    pairs = [(np.arange(0, 60), np.arange(60, 90))]
    found_by_pairs = pm.search(X, y, sample_weight=weights, **how | {"cv": pairs})
    assert len(found_by_pairs.out_of_fold) == (weights[60:] > 0.0).sum()


def test_groups_and_holdouts():
    X, y = table(n=90)
    how = {"space": FEW[:1], "time_budget": None, "max_members": 3, "max_epochs": 3, "progress": False}
    groups = np.arange(90) // 9
    result = pm.search(X, y, groups=groups, **how)
    assert len(result.problem.folds) == 10
    for training, validation in zip(result.problem.folds.training, result.problem.folds.validation, strict=True):
        assert not set(groups[training]) & set(groups[validation])
    holdout = pm.search(X, y, cv=[(np.arange(70), np.arange(70, 90))], **how)
    assert holdout.out_of_fold.shape == (20, 1) and len(holdout.trials[0].ids) == 1


def test_a_member_that_diverges_ranks_last_and_is_not_picked():
    wild = Configuration({**SMALL, "optimizer": "sgd", "learning_rate": 1e12, "activation": "relu"}, "raw")
    result, X, _ = found(space=[wild, *FEW[:2]])
    record = next(each for each in result.records() if each["trial"] == 0)
    assert record["status"] == "diverged" and result.weights[0] == 0.0 and result.records()[-1] is not None
    assert result.records()[-1]["trial"] == 0 and np.isfinite(result.ensemble.predict(X)).all()


class Stopped(searching.Clock):
    """A clock that a test sets."""

    seconds_spent = 0.0

    def spent(self):
        return self.seconds_spent


def test_what_time_allows_is_trained_next():
    X, y = table("classification", n=60)
    run = Search(Problem.of(raw_columns(X), y, None, 3, None, None, 0), Settings(100.0, progress=False), Stopped(100.0))
    run.clock.rate = 1e6
    costs = [searching.multiply_adds(run.problem, c, run._epochs_of(c, 40)) / 1e6 for c in run.queue]
    run.clock.budget = sum(costs)
    # Not all of it: of the first round's share, in order, what fits.
    before = list(run.queue)
    batch, epochs = run._next_batch(40)
    left = 0.6 * run.clock.left()
    for configuration, cost in zip(before, costs, strict=True):
        fits = cost <= left
        assert (configuration in batch) is fits
        left -= cost if fits else 0.0
    assert [*batch, *run.queue] != before and set(map(repr, [*batch, *run.queue])) == set(map(repr, before))
    assert epochs == [run._epochs_of(c, 40) for c in batch]
    # All of it.
    run = Search(run.problem, run.settings, Stopped(1e9))
    run.clock.rate = 1e6
    assert run._next_batch(40)[0] == before and not run.queue
    # Not one: fewer epochs of the first.
    run = Search(run.problem, run.settings, Stopped(100.0))
    run.clock.rate = costs[0] * 1e6 / 40.0
    run.clock.budget = 20.0 / 0.93
    ((first,), (shorter,)) = run._next_batch(40)
    assert first == before[0] and 10 <= shorter <= 20 and not run.notes
    # Nothing: one epoch, with a note.
    run = Search(run.problem, run.settings, Stopped(100.0))
    run.clock.seconds_spent, run.clock.rate = 99.9, 1e3
    assert run._next_batch(40)[1] == [1] and "too short for one epoch" in run.notes[0]


def test_a_search_ends_when_its_time_is_over(monkeypatch):
    """The clock of time itself, at twenty times its speed: more than the portfolio is not tried."""
    X, y = table(n=60)
    result = pm.search(X, y, time_budget=1e-3, cv=3, progress=False)
    assert len(result.trials) == 1 and result.notes and np.isfinite(result.ensemble.predict(X)).all()


def test_it_is_said_that_the_time_went_by_compiling(monkeypatch):
    X, y = table(n=60)
    run = Search(Problem.of(raw_columns(X), y, None, 3, None, None, 0), Settings(10.0, progress=False), Stopped(10.0))
    real, seconds = searching.train, iter([9.0, 0.1, 0.1, 0.1])
    monkeypatch.setattr(searching, "train", lambda *arguments: (real(*arguments)[0], next(seconds)))
    run._pilot()
    assert run.notes == [
        "the first 9 of 10 seconds went by compiling, which a machine does once: another search has them for training"
    ]
    run.notes.clear()
    run._pilot()
    assert not run.notes


def test_ctrl_c_ends_a_search_with_what_it_has(monkeypatch):
    real, calls = searching.train, []

    def pressed(*arguments):
        pool, seconds = real(*arguments)
        calls.append(pool)
        if len(calls) == 2:
            pool.ended_ = "interrupted"
        return pool, seconds

    monkeypatch.setattr(searching, "train", pressed)
    X, y = table("classification", n=60)
    how = {"time_budget": None, "max_members": 3 * 40, "max_epochs": 1, "cv": 3, "progress": False}
    result = pm.search(X, y, **how)
    assert result.ended == "interrupted" and len(calls) == 2 and 16 < len(result.trials) < 40
    assert np.isfinite(result.ensemble.predict_proba(X)).all()


def test_the_pilot_reads_few_rows_of_a_large_table(monkeypatch):
    real, seen = searching.train, []

    def watched(problem, *arguments):
        seen.append(problem)
        return real(problem, *arguments)

    monkeypatch.setattr(searching, "train", watched)
    monkeypatch.setattr(searching, "_PILOT_ROWS", 40)
    X, y = table("classification", n=200)
    weights = np.random.default_rng().uniform(0.5, 2.0, 200)
    problem = Problem.of(raw_columns(X), y, None, 4, None, weights, 0)
    run = Search(problem, Settings(100.0, progress=False), searching.Clock(100.0))
    run._pilot()
    assert len(seen) == 2 and seen[0] is seen[1] and len(seen[0].wide) == 40
    for training, validation in zip(seen[0].folds.training, seen[0].folds.validation, strict=True):
        assert np.array_equal(np.sort(np.concatenate([training, validation])), np.arange(40))
    numbers = problem.wide.numbers
    rows = [int(np.flatnonzero((numbers == row).all(axis=1))[0]) for row in seen[0].wide.numbers]
    assert np.array_equal(problem.prepared[rows], seen[0].prepared) and rows == sorted(rows)
    assert np.array_equal(problem.weights[rows], seen[0].weights)
    of_fold = [np.isin(rows, problem.folds.validation[k]) for k in range(4)]
    assert all(np.array_equal(np.flatnonzero(of_fold[k]), seen[0].folds.validation[k]) for k in range(4))
    assert problem.sample(150) is problem


def test_ctrl_c_before_anything_is_known_ends_all(monkeypatch):
    real = searching.train

    def pressed(*arguments):
        pool, seconds = real(*arguments)
        pool.ended_ = "interrupted"
        return pool, seconds

    monkeypatch.setattr(searching, "train", pressed)
    X, y = table(n=60)
    with pytest.raises(KeyboardInterrupt):
        pm.search(X, y, time_budget=5.0, cv=3, progress=False)


def test_neighbors_come_after_the_portfolio():
    X, y = table("classification", n=60)
    problem = Problem.of(raw_columns(X), y, None, 3, None, None, 0)
    run = Search(problem, Settings(None, 3 * 20, 1, progress=False), searching.Clock(None))
    known = len(run.queue)
    assert known <= len(portfolio(True, 60))
    result = run.run()
    assert len(result.trials) == 20
    texts = [trial.configuration for trial in result.trials]
    assert texts[:known] == list(portfolio(True, 60))[:known] or known == 20
    later = texts[known:]
    assert later and all(each not in texts[:known] for each in later)


def test_every_portfolio_is_of_different_members_that_are_possible():
    for has_classes in (True, False):
        for n in (100, 100_000):
            configurations = portfolio(has_classes, n)
            assert len({repr(each) for each in configurations}) == len(configurations) >= 15
            for each in configurations:
                spec = each.spec(7, 2000)
                assert spec.max_epochs == 7 and spec.average == 0.99
                assert each.spec(7, 200).average == pytest.approx(0.95) and each.spec(2, 4).average == 0.0
            draw = np.random.default_rng()
            for each in configurations:
                near = each.near(draw)
                near.spec(3, 30)
                assert near != each


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"time_budget": -1}, "time_budget: expected seconds, above 0, or None, got -1"),
        ({"time_budget": None, "max_members": None}, "max_members: expected a number of members"),
        ({"max_members": 0}, "max_members: expected a whole number"),
        ({"max_epochs": 2.5}, "max_epochs: expected a whole number"),
        ({"select": "some"}, "select: expected 'greedy'"),
        ({"task": "clustering"}, "task: expected one of"),
        ({"cv": 500}, "cv: expected 2 to 120 folds"),
        ({"groups": [1, 2]}, "a label for each of 120 rows"),
        ({"sample_weight": np.zeros(120)}, "sample_weight: expected a weight above 0"),
        ({"sample_weight": -np.ones(120)}, "sample_weight: expected finite numbers, at least 0"),
    ],
)
def test_what_can_t_be_is_refused_before_any_training(arguments, said):
    X, y = table()
    with pytest.raises(pm.DataError, match=said):
        pm.search(X, y, **{"time_budget": None, "max_members": 30, "progress": False} | arguments)


def test_rows_that_don_t_match_are_refused():
    X, y = table()
    with pytest.raises(pm.DataError, match="inconsistent numbers of samples"):
        pm.search(X, y[:-1], progress=False)


@pytest.mark.parametrize("n_rare", [1, 2])
def test_classes_that_folds_lack_are_noted(n_rare):
    """More folds than rows of a class, and a fold that trains without one."""
    draw = np.random.default_rng()
    X, y = draw.normal(size=(60, 2)), np.array(["a"] * 30 + ["b"] * (30 - n_rare) + ["c"] * n_rare)
    how = {"space": FEW[:1], "time_budget": None, "max_members": 5, "max_epochs": 2, "progress": False}
    result = pm.search(X, y, cv=5, **how)
    few, *without = result.notes
    assert few == (
        f"classes with fewer rows than the 5 folds, 'c' ({n_rare}): folds without a row of a class are evaluated "
        "without it"
    )
    folds = [k for k, rows in enumerate(result.problem.folds.training) if "c" not in y[rows]]
    assert len(folds) == len(without) == (n_rare == 1)
    for k, note in zip(folds, without, strict=True):
        assert note.startswith(f"members of fold {k} are trained without rows of the class 'c'")
    assert np.isfinite(result.ensemble.predict_proba(X)).all() and result.ensemble.predict_proba(X).shape == (60, 3)
    # Groups that part the classes: nobody sees both.
    parted = pm.search(X, y, groups=(y == "a").astype(int), cv=2, **how)
    assert sum("are trained without rows of the class" in note for note in parted.notes) == 2
    assert not pm.search(X, np.where(y == "a", "a", "b"), cv=5, **how).notes


def test_bad_input_of_every_kind():
    """What a search refuses, or does instead, by a note in its result; see also the tests of folds and of metrics."""
    X, y = table()
    how = {"space": FEW[:1], "time_budget": None, "max_members": 6, "max_epochs": 2, "progress": False}
    for arguments, said in (
        ({"y": np.full(120, 2.5)}, "y: expected at least two different values"),
        ({"y": np.array(["a"] * 120)}, "y: expected at least two classes"),
        ({"cv": [(np.arange(60), np.arange(0))]}, r"validation rows of cv\[0\]: expected row numbers"),
        ({"groups": np.zeros(120), "cv": 2}, "One group can't be parted"),
        ({"groups": np.arange(120) % 3, "cv": 4}, "A group stays together: choose fewer folds"),
        ({"metric": "accuracy"}, "metric: expected a metric that fits loss 'squared_error'"),
        ({"X": np.zeros((120, 2))}, "X: expected"),
    ):
        with pytest.raises(pm.DataError, match=said):
            pm.search(**{"X": X, "y": y} | how | arguments)
    short = pm.search(X, y, **how | {"time_budget": 1e-3})
    assert any("the time budget is too short for one epoch" in note for note in short.notes)
    model = pm.search(X, y, **how).ensemble
    for columns in (X[:, :2], np.concatenate([X, X], axis=1)):
        with pytest.raises(pm.DataError, match="X: expected "):
            model.predict(columns)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_one_trial_is_a_model_of_its_own(task, tmp_path):
    """It takes raw columns, is saved and exported, and is the mean of its members."""
    rng = np.random.default_rng()
    X = np.empty((90, 2), object)
    X[:, 0], X[:, 1] = rng.normal(size=90), rng.choice(["red", "green"], size=90)
    y = X[:, 0].astype(float) + (X[:, 1] == "red")
    y = y if task == "regression" else np.where(y > 0.5, "high", "low")
    result = pm.search(X, y, time_budget=None, max_members=9, max_epochs=4, cv=3, progress=False)
    for number, trial in enumerate(result.trials):
        model = result.extract(number)
        wide = result.problem.views.wide(raw_columns(X, result.problem.views.kinds), result.problem.blocks)
        method = trial.pool.predict if task == "regression" else trial.pool.predict_proba
        own = np.mean([method(wide, members=[id], weights=weights_of(trial.pool))[0] for id in trial.ids], axis=0)
        if task == "regression":
            np.testing.assert_allclose(
                model.predict(X), model.targets.predictions(own.reshape(len(X), -1)), rtol=1e-4, atol=1e-5
            )
            low, high = model.predict_interval(X, 0.8).T
            assert (low < high).all()
        else:
            assert (model.predict_proba(X).argmax(axis=1) == own.argmax(axis=1)).all()
        model.save(tmp_path / "one.pmlp")
        assert np.array_equal(pm.TableModel.load(tmp_path / "one.pmlp").predict(X), model.predict(X))
    assert result.extract(result.best).composition()[0]["weight"] == 1.0
    assert "def predict" in result.extract(0).to_python()
    for odd in (len(result.trials), -1, 1.0, "0", None):
        with pytest.raises(pm.DataError, match=r"trial: expected a number from 0 to 2, as in records\(\)"):
            result.extract(odd)
