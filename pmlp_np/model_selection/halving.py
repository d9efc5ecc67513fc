"""Halving: many configurations are trained for a part of their epochs, and the better ones go on from where they stand.

Members that go on keep weights and optimizer state, and their schedules have the length of the whole training: they
end with the bits of members that trained without a break. Source: Jamieson, Talwalkar, AISTATS 2016 (successive
halving), with two cuts at most: after fewer epochs losses say little of what becomes of a member.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.base.errors import DivergedWarning
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.trials import Trial, evaluated, multiply_adds, train
from pmlp_np.pool.pool import Pool
from pmlp_np.pool.respecified import respecified

_MOST_CUTS = 2


def shares(n: int, factor: int) -> tuple[float, ...]:
    """Return the shares of their epochs after which n configurations are cut to one in `factor`, growing."""
    cuts = min(_MOST_CUTS, sum(1 for k in range(1, _MOST_CUTS + 1) if factor**k <= n))
    return tuple(float(factor) ** -k for k in range(cuts, 0, -1))


def cost(n: int, factor: int) -> float:
    """Return what halving of n configurations costs, as a share of training them all."""
    trained, before, left = 0.0, 0.0, n
    for share in (*shares(n, factor), 1.0):
        trained += left * (share - before)
        before, left = share, math.ceil(left / factor)
    return trained / n


def train_by_halving(
    problem: Problem,
    configurations: Sequence[Configuration],
    epochs: Sequence[int],
    seed: int,
    how: dict[str, Any],
    factor: int,
    losses: Callable[[Sequence[Trial]], np.ndarray],
    until_end: Callable[[], float | None],
) -> tuple[list[Trial], float, str]:
    """Train configurations, and go on with the best one in `factor` at each cut.

    epochs: of each, in all. losses: of trials so far, (trials,). until_end: the seconds that are left, or None. Other
    arguments as for `train`. Returns (a trial of each configuration, in order; seconds; how training ended). If it was
    cut short by the clock or Ctrl-C, trials are what there is, and none of them counts as stopped.
    """
    cuts = shares(len(configurations), factor)
    active, began = list(range(len(configurations))), time.perf_counter()
    trials: dict[int, Trial] = {}
    pool: Pool | None = None
    for share in (*cuts, 1.0):
        upto = [max(1, math.ceil(share * epochs[i])) for i in active]
        if pool is None:
            pool, _ = train(problem, configurations, epochs, seed, how | {"time_budget": until_end()}, upto)
        else:
            pool = _go_on(problem, pool, [trials[i].ids for i in active], upto, how | {"time_budget": until_end()})
        chosen = [configurations[i] for i in active]
        trials |= dict(zip(active, evaluated(problem, pool, chosen, upto, 0.0), strict=True))
        if pool.ended_ != "done":
            break
        if share < 1.0:
            order = np.argsort(losses([trials[i] for i in active]), kind="stable")
            kept = sorted(active[i] for i in order[: math.ceil(len(active) / factor)].tolist())
            _stop(trials, set(active) - set(kept), epochs)
            active = kept
    seconds = time.perf_counter() - began
    costs = np.array([multiply_adds(problem, c, max(1, trials[i].epochs)) for i, c in enumerate(configurations)])
    share_of = seconds * costs / costs.sum()
    found = [replace(trials[i], seconds=float(share_of[i])) for i in range(len(configurations))]
    assert pool is not None
    return found, seconds, pool.ended_


def _stop(trials: dict[int, Trial], dropped: set[int], epochs: Sequence[int]) -> None:
    """Mark trials that end before their last epoch, and keep of their pool only their members."""
    for i in dropped:
        if trials[i].epochs < epochs[i]:
            trials[i] = replace(trials[i], stopped=True, pool=trials[i].pool.subset(trials[i].ids))


def _go_on(problem: Problem, pool: Pool, ids: Sequence[np.ndarray], upto: Sequence[int], how: dict[str, Any]) -> Pool:
    """Return a pool of the members of some configurations, trained on to so many epochs."""
    n_folds = len(problem.folds)
    pool = respecified(pool, np.concatenate(ids), {"max_epochs": np.repeat(upto, n_folds)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergedWarning)
        pool.partial_fit(
            problem.wide, problem.prepared, epochs=max(upto), rows=list(problem.folds.training) * len(ids),
            sample_weight=problem.weights, **how,
        )  # fmt: skip
    return pool
