"""Proposals: ask and tell; and Optuna as another who asks."""

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.model_selection.configurations import portfolio

EXAMPLE = Path(__file__).parent.parent / "examples" / "optuna_search.py"


def rate_of(configuration):
    return configuration.member["learning_rate"]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_portfolio_then_neighbors_of_the_best(task):
    proposals, known = pm.Proposals(task), list(portfolio(task != "regression", 1000))
    asked = [*proposals.ask(5), *proposals.ask(len(known) - 5)]
    assert [id for id, _ in asked] == list(range(len(known))) and [each for _, each in asked] == known
    # Without a score, neighbors are those of the portfolio.
    later = [each for _, each in proposals.ask(60)]
    assert all(each not in known for each in later)
    for each in later:
        pm.Member(**each.member)


def test_only_neighbors_of_what_was_told():
    for grows in (True, False):
        proposals = pm.Proposals("classification", greater_is_better=grows)
        asked = proposals.ask(40)
        # The best of them has a learning rate that no other one is near.
        (id, best), *_ = [pair for pair in asked if "parametrization" in pair[1].member]
        proposals.tell([id], [0.5])
        assert all("parametrization" in each.member for _, each in proposals.ask(10))
        other = next(pair for pair in asked if "parametrization" not in pair[1].member)
        proposals.tell([id, other[0]], [np.nan, 2.0])
        assert not any("parametrization" in each.member for _, each in proposals.ask(10))
        proposals.tell([id], [3.0 if grows else 1.0])
        records = proposals.records()
        assert [records[0]["id"], records[1]["id"]] == [id, other[0]] and len(records) == 60
        assert records[0]["score"] == (3.0 if grows else 1.0) and records[-1]["score"] is None
        assert best.text() in str(records)


def test_the_same_scores_lead_to_the_same_proposals():
    def run(seed):
        proposals = pm.Proposals("regression", seed=seed)
        for _ in range(6):
            asked = proposals.ask(7)
            proposals.tell([id for id, _ in asked], [rate_of(each) for _, each in asked])
        return [record["configuration"] for record in proposals.records()], proposals.records()[0]["learning_rate"]

    assert run(1) == run(1) != run(2)
    # Rates fall, as the score asks for: each round's best are near the best so far.
    assert run(3)[1] < 0.5 * min(rate_of(each) for each in portfolio(False, 1000))


def test_a_space_of_ones_own():
    lists = {"hidden": [(2,), (3,)], "learning_rate": [0.1, 0.2, 0.3]}
    proposals = pm.Proposals("regression", lists)
    found = [*proposals.ask(4), *proposals.ask(4)]
    assert [(c.member["hidden"], c.member["learning_rate"]) for _, c in found] == list(product(*lists.values()))
    assert proposals.ask() == []
    rates = {"learning_rate": pm.log_uniform(1e-3, 1e-1)}
    in_parts, whole = pm.Proposals("regression", rates, seed=4), pm.Proposals("regression", rates, seed=4)
    assert [*in_parts.ask(3), *in_parts.ask(5)] == whole.ask(8)
    assert len({rate_of(each) for _, each in whole.ask(50)}) == 50


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: pm.Proposals("guess"), "task: expected one of 'regression'"),
        (lambda p: pm.Proposals("regression", {"hiden": [3]}), "Did you mean 'hidden'"),
        (lambda p: pm.Proposals("regression", {"hidden": [0]}), "hidden: expected a layer's width"),
        (lambda p: pm.Proposals("regression", greater_is_better=1), "greater_is_better: expected True or False"),
        (lambda p: p.ask(0), "n: expected a whole number from 1"),
        (lambda p: p.tell([7], [1.0]), "ids: expected ids that ask returned, below 3, got 7"),
        (lambda p: p.tell("all", [1.0]), r"ids: expected ids that ask returned, \(n,\), got 'all'"),
        (lambda p: p.tell([0, 1], [1.0]), r"scores: expected 2 numbers, one for each id, got shape \(1,\)"),
        (lambda p: p.tell([0], ["good"]), "scores: expected an array of real numbers"),
    ],
)
def test_bad_calls_are_refused(call, said):
    proposals = pm.Proposals("regression")
    proposals.ask(3)
    with pytest.raises((pm.DataError, pm.SpecError), match=said):
        call(proposals)


def test_optuna_asks_for_many_trials_at_once():
    optuna = requires("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = importlib.util.spec_from_file_location("optuna_search", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    draw = np.random.default_rng()
    X = draw.normal(size=(80, 2))
    y = X[:, 0]
    study = example.search(X, y, rounds=2, trials=12, epochs=4, progress=False)
    assert [trial.number for trial in study.trials] == list(range(24))
    # Each has the score of a pool of its own.
    trial = study.best_trial
    member = example.proposed(optuna.trial.FixedTrial(trial.params))
    alone = pm.Pool(member, 2, seed=trial.number // 12, ids=[trial.number % 12])
    held_out = np.arange(80) % 4 == 0
    alone.fit(X[~held_out], y[~held_out], epochs=4, progress=False)
    residual = alone.predict(X[held_out])[0] - y[held_out]
    r2 = 1.0 - np.mean(residual**2) / y[held_out].var()
    assert trial.value == pytest.approx(r2, abs=1e-5)
