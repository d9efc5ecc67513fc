"""Halving: those that go on have the bits of a training without a break, and those that end are recorded."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection import halving, search_loop
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.halving import cost, shares, train_by_halving
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.trials import evaluated, train

HOW = {"batch_size": 16, "n_threads": 2, "progress": False, "on_interrupt": "keep"}


def problem(n=60, task="regression"):
    draw = np.random.default_rng()
    X = draw.normal(size=(n, 2))
    y = np.sin(2.0 * X[:, 0]) + 0.1 * draw.normal(size=n)
    return Problem.of(raw_columns(X), y if task == "regression" else (y > 0).astype(int), task, 2, None, None, 0)


def candidates(n):
    """Members of which no two are alike. (Other schedules, and plateaus, are in test_rungs.py.)"""
    draw, names = np.random.default_rng(), ["coslog4", "one_cycle"]
    sizes = 2 + draw.permutation(n)
    return [
        pm.Configuration(
            {
                "hidden": (int(sizes[i]),), "learning_rate": 0.01, "schedule": names[i % 2],
                "dropout": 0.1, "average": 0.9, "warmup_epochs": float(i % 3),
            },
            ("raw", "ple8")[i % 2], (1.0, 0.5)[i % 2],
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "factor", "stages"), [(9, 3, [9, 3, 1]), (7, 3, [7, 3]), (8, 2, [8, 4, 2])])
def test_survivors_have_the_bits_of_a_training_without_a_break(n, factor, stages):
    of, configurations = problem(), candidates(n)
    epochs = [max(1, round(12 * each.epochs)) for each in configurations]
    # One that is at its end at the first cut is no worse for being left behind.
    epochs[2] = 1
    seen, values = [], []

    def losses(trials):
        seen.append([(trial.configuration, trial.epochs) for trial in trials])
        # Any order will do; the one at its end comes last.
        found = np.random.default_rng(len(trials)).normal(size=len(trials))
        values.append(np.where([trial.configuration == configurations[2] for trial in trials], 9.0, found))
        return values[-1]

    trials, seconds, ended = train_by_halving(of, configurations, epochs, 5, HOW, factor, losses, lambda: None)
    assert ended == "done" and [t.configuration for t in trials] == configurations
    assert [len(each) for each in seen] == stages[: len(seen)]
    last = [trial for trial in trials if not trial.stopped]
    assert len(last) == math.ceil(len(seen[-1]) / factor) + 1 and configurations[2] in [t.configuration for t in last]
    assert sum(trial.seconds for trial in trials) == pytest.approx(seconds)
    whole, _ = train(of, configurations, epochs, 5, HOW)
    expected = evaluated(of, whole, configurations, epochs, 1.0)
    for trial, plain, most in zip(trials, expected, epochs, strict=True):
        assert trial.ids.tolist() == plain.ids.tolist()
        same = []
        for id in trial.ids.tolist():
            for weights in ("last", "average"):
                ours, theirs = trial.pool.extract(id, weights), whole.extract(id, weights)
                pairs = zip([*ours.weights, *ours.biases], [*theirs.weights, *theirs.biases], strict=True)
                same += [np.array_equal(a, b) for a, b in pairs]
        if trial.stopped:
            assert trial.epochs < most and not all(same) and len(trial.pool) == len(trial.ids)
            assert trial.status == "stopped"
        else:
            assert trial.epochs == most and all(same) and trial.status == "done"
            assert np.array_equal(trial.out_of_fold, plain.out_of_fold)
    # At each cut, those with the least losses go on, after the cut's share of their epochs.
    survivors = [trial.configuration for trial in last if trial.configuration != configurations[2]]
    following = [*([each for each, _ in stage] for stage in seen[1:]), survivors]
    for stage, share, losses, then in zip(seen, shares(n, factor), values, following, strict=True):
        for configuration, done in stage:
            assert done == max(1, math.ceil(share * epochs[configurations.index(configuration)]))
        least = np.argsort(losses)[: len(then)]
        assert [stage[i][0] for i in sorted(least.tolist())] == then


@given(n=st.integers(1, 60), factor=st.integers(2, 5))
def test_the_cost_of_halving(n, factor):
    """Against a walk through the epochs, one candidate at a time."""
    found = shares(n, factor)
    assert len(found) == min(2, int(math.log(n, factor) + 1e-9)) and list(found) == sorted(found)
    active, epochs, cuts = n, 0, [round(share * factor**2) for share in found]
    for k in range(1, factor**2 + 1):
        epochs += active
        if k in cuts:
            active = -(-active // factor)
    assert cost(n, factor) == pytest.approx(epochs / (n * factor**2))


def test_a_search_by_halving(monkeypatch):
    seen = []

    def watched(*arguments):
        *others, losses, until_end = arguments
        return train_by_halving(*others, lambda trials: seen.append((trials, losses(trials))) or seen[-1][1], until_end)

    monkeypatch.setattr(search_loop, "train_by_halving", watched)
    draw = np.random.default_rng()
    X = draw.normal(size=(60, 2))
    y = X[:, 0] + 0.1 * draw.normal(size=60)
    space = {"hidden": [(2,), (4,)], "learning_rate": [1e-4, 1e-3, 0.01, 0.03, 0.1]}
    how = {"time_budget": None, "max_members": 20, "max_epochs": 10, "cv": 2, "progress": False}
    result = pm.search(X, y, space, halving=3, **how)
    for trials, losses in seen:
        squares = [np.square(t.out_of_fold[:, 0] - result.problem.prepared[:, 0].astype(float)).mean() for t in trials]
        assert losses == pytest.approx(squares)
    records = result.records()
    assert len(seen) == 2 and [record["status"] for record in records] == ["done"] * 2 + ["stopped"] * 8
    assert {record["epochs"] for record in records[:2]} == {10}
    assert {record["epochs"] for record in records[2:]} == {2, 4}
    stopped = np.array([trial.stopped for trial in result.trials])
    assert (result.weights[stopped] == 0.0).all() and result.weights.sum() == pytest.approx(1.0)
    assert not result.trials[result.best].stopped and np.isfinite(result.ensemble.predict(X)).all()
    # What is picked by "all" are those that came to their end.
    everyone = pm.search(X, y, space, halving=3, select="all", **how)
    assert (everyone.weights > 0).sum() == 2
    again = pm.search(X, y, space, halving=3, **how)
    assert np.array_equal(result.ensemble.predict(X), again.ensemble.predict(X))
    for wrong in (1, 2.5, True, "three"):
        with pytest.raises(pm.DataError, match="halving: expected a whole number, at least 2, or None"):
            pm.search(X, y, halving=wrong, **how)


def test_a_clock_that_ends_a_cut_leaves_what_there_is(monkeypatch):
    of, configurations = problem(), candidates(9)
    real = halving.train

    def cut_short(*arguments):
        pool, seconds = real(*arguments)
        pool.ended_ = "time budget"
        return pool, seconds

    monkeypatch.setattr(halving, "train", cut_short)
    trials, _, ended = train_by_halving(of, configurations, [9] * 9, 0, HOW, 3, None, lambda: None)
    assert ended == "time budget" and len(trials) == 9
    assert all(not trial.stopped and trial.epochs == 1 for trial in trials)


def test_more_begin_than_could_be_finished():
    of = problem(task="classification")
    run = Search(of, Settings(100.0, progress=False, halving=3), Clock(1e9))
    plain = Search(of, Settings(100.0, progress=False), Clock(1e9))
    need = [run._seconds(each, 30) for each in run.queue]
    for share in (0.1, 0.4, 0.7, 0.99):
        chosen = run._fitting(need, share * sum(need), 99)
        spent = run._cost(len(chosen)) * sum(need[i] for i in chosen)
        assert spent <= share * sum(need) + 1e-9
        assert len(chosen) >= len(plain._fitting(need, share * sum(need), 99))
    assert len(run._fitting(need, 0.4 * sum(need), 99)) == len(need) > len(plain._fitting(need, 0.4 * sum(need), 99))
    assert run._round() == 3 * plain._round() == 3 * search_loop._ROUND
