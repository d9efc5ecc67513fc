"""The outcome of a search: weights of trials by their out-of-fold predictions, and the ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.model_selection.calibration import Spread, best_temperature
from pmlp_np.model_selection.ensemble_selection import LogLosses, Objective, SquaredErrors, chooser
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import log_loss_of
from pmlp_np.model_selection.table_model import TableModel, tempered
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.model_selection.trials import Trial
from pmlp_np.pool.pool import Pool

# Temperatures that are tried for probabilities.
_TEMPERATURES = tuple(float(t) for t in np.round(np.exp(np.linspace(-0.5, 0.9, 29)), 4)) + (1.0,)


def selected(problem: Problem, trials: Sequence[Trial], select: str | int) -> np.ndarray:
    """Return the weight of each trial in the ensemble, (trials,) of sum 1. select: as for `search`."""
    validated = problem.folds.validated
    weights = None if problem.weights is None else problem.weights[validated]
    found, targets = out_of_fold(trials), problem.prepared[validated]
    if problem.targets.task == REGRESSION:
        objective: Objective = SquaredErrors(found, targets, weights)
    else:
        objective = LogLosses(likelihoods(found, targets, problem.targets.task), _by_label(weights, found))
    return chooser(select)(objective)


def ensemble(problem: Problem, trials: Sequence[Trial], weights: np.ndarray) -> tuple[TableModel, np.ndarray]:
    """Return the model that is the weighted mean of trials, and its out-of-fold predictions, (rows, outputs)."""
    targets, used = problem.targets, np.flatnonzero(weights).tolist()
    each = out_of_fold([trials[i] for i in used]).astype(np.float64)
    mean = np.tensordot(weights[used], each, 1)
    prepared = problem.prepared[problem.folds.validated]
    spread, temperature = None, 1.0
    if targets.task == REGRESSION:
        between = np.tensordot(weights[used], np.square(each - mean), 1)
        spread = Spread.learn(prepared - mean, between)
    else:
        losses = {t: log_loss_of(tempered(mean, t, targets.task), prepared, targets.task) for t in _TEMPERATURES}
        temperature = best_temperature(losses)
        mean = tempered(mean, temperature, targets.task)
    members = _members([trials[i] for i in used])
    return TableModel(problem.views, problem.blocks, targets, members, weights[used], spread, temperature), mean


def out_of_fold(trials: Sequence[Trial]) -> np.ndarray:
    """Return the out-of-fold predictions of trials, (trials, rows, outputs) float32."""
    return np.stack([trial.out_of_fold for trial in trials])


def _members(trials: Sequence[Trial]) -> tuple[tuple[Pool, np.ndarray], ...]:
    """Return a pool and ids of the members of these trials: of each pool only those."""
    pools = {id(trial.pool): trial.pool for trial in trials}
    kept = {}
    for key, pool in pools.items():
        kept[key] = pool.subset(np.concatenate([trial.ids for trial in trials if id(trial.pool) == key]))
    return tuple((kept[id(trial.pool)], trial.ids) for trial in trials)


def likelihoods(p: np.ndarray, targets: np.ndarray, task: str) -> np.ndarray:
    """Return the probability that each candidate gives to the targets: (candidates, rows), or rows times labels.

    p: (candidates, rows, outputs). targets: numbers of classes, or labels (rows, outputs).
    """
    if task == CLASSIFICATION:
        return np.asarray(p[:, np.arange(len(targets)), targets])
    return np.where(targets == 1.0, p, 1.0 - p).reshape(len(p), -1)


def _by_label(weights: np.ndarray | None, found: np.ndarray) -> np.ndarray | None:
    """Repeat weights of rows for each label, where likelihoods are of labels."""
    n = found.shape[1]
    if weights is None:
        return None
    return weights if len(weights) == n else np.repeat(weights, found.shape[2])
