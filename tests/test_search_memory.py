"""The memory of a search: what it is expected to take, and that rounds do not copy too many views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection import search_loop, search_memory
from pmlp_np.model_selection.configurations import portfolio
from pmlp_np.model_selection.search_memory import bytes_of_search, within_memory
from pmlp_np.model_selection.search_problem import Problem

FOLDS = 3


def random_problem(rng: np.random.Generator, n: int = 400) -> tuple[Problem, int, list[int]]:
    """A problem, its number of columns of numbers, and of each other one that of its categories."""
    n_numeric, sizes = int(rng.integers(0, 6)), rng.choice([2, 5, 30, 90], size=rng.integers(0, 4)).tolist()
    n_numeric = n_numeric or (not sizes)
    table = [rng.normal(size=n).astype(object) for _ in range(n_numeric)]
    table += [np.array([f"c{k}" for k in rng.permutation(np.arange(n) % size)], object) for size in sizes]
    X = np.stack(table, axis=1)
    return Problem.of(raw_columns(X), rng.normal(size=n), None, FOLDS, None, None, 0), n_numeric, sizes


def copied(problem: Problem, views: set[str]) -> int:
    """The bytes that are really copied: each different set of inputs once."""
    sets = {tuple(problem.inputs_of(view, fold).tolist()) for view in views for fold in range(FOLDS)}
    found = [problem.wide.inputs(np.array(each)) for each in sets]
    return sum(each.nbytes for each in found)


def test_copies_are_those_that_are_made() -> None:
    rng = np.random.default_rng()
    for _ in range(20):
        problem, _, _ = random_problem(rng)
        for views in ({"raw"}, {"raw+ple", "quant"}, {"per+raw+ple", "quant+ple8", "raw"}):
            expected = problem.copied_bytes(views)
            # Where there are no numbers, all views are the same.
            assert copied(problem, views) <= expected
            assert "raw" not in problem.blocks or copied(problem, views) == expected


def test_an_estimate_is_enough_and_not_far_too_much() -> None:
    rng = np.random.default_rng()
    for _ in range(20):
        problem, n_numeric, sizes = random_problem(rng)
        most = max(problem.copied_bytes({c.view}) for c in portfolio(False, len(problem.wide)))
        taken = 2 * problem.wide.numbers.nbytes + most
        expected = bytes_of_search(len(problem.wide), n_numeric, sizes, FOLDS)
        assert taken <= expected <= 12 * taken


def test_rounds_copy_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng()
    X, y = rng.normal(size=(120, 4)), rng.normal(size=120)
    how: dict[str, Any] = {"time_budget": None, "max_members": 3 * 14, "max_epochs": 1, "cv": 3, "progress": False}
    rounds: list[set[str]] = []
    train = search_loop.train

    def watched(problem: Problem, configurations: Any, *arguments: Any, **more: Any) -> Any:
        rounds.append({c.view for c in configurations})
        return train(problem, configurations, *arguments, **more)

    monkeypatch.setattr(search_loop, "train", watched)
    whole = pm.search(X, y, **how)
    problem = whole.problem
    limit = max(problem.copied_bytes({trial.configuration.view}) for trial in whole.trials)
    assert any(problem.copied_bytes(views) > limit for views in rounds)
    rounds.clear()
    monkeypatch.setattr(search_memory, "MOST_COPIED", limit)
    few = pm.search(X, y, **how)
    assert all(problem.copied_bytes(views) <= limit for views in rounds)
    assert len(few.trials) == len(whole.trials) == 14
    # Nothing is too large for a round of its own.
    monkeypatch.setattr(search_memory, "MOST_COPIED", 0)
    queue = [trial.configuration for trial in whole.trials]
    kept = within_memory(problem, queue, range(len(queue)))
    assert {queue[i].view for i in kept} == {queue[0].view} and kept[0] == 0
    assert kept == [i for i, each in enumerate(queue) if each.view == queue[0].view]
