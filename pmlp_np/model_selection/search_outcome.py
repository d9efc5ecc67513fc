"""The outcome of a search: weights of trials by their out-of-fold predictions, and the ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.model_selection.calibration import Spread, best_temperature, log_loss_of
from pmlp_np.model_selection.ensemble_selection import chooser
from pmlp_np.model_selection.scoring import Scoring
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import TableModel, tempered
from pmlp_np.model_selection.targets import REGRESSION
from pmlp_np.model_selection.trials import Trial
from pmlp_np.pool.pool import Pool

# Temperatures that are tried for probabilities.
_TEMPERATURES = tuple(float(t) for t in np.round(np.exp(np.linspace(-0.5, 0.9, 29)), 4)) + (1.0,)


def selected(problem: Problem, scoring: Scoring, trials: Sequence[Trial], select: str | int) -> np.ndarray:
    """Return the weight of each trial in the ensemble, (trials,) of sum 1. select: as for `search`.

    Trials that diverged, or were stopped before their last epoch, have 0, unless there are no others.
    """
    whole = selectable(trials)
    found = out_of_fold([trials[i] for i in whole])
    weights = np.zeros(len(trials))
    weights[whole] = chooser(select)(scoring.objective(found, *problem.validated))
    return weights


def selectable(trials: Sequence[Trial]) -> list[int]:
    """Return the numbers of the trials that may be selected."""
    done = [i for i, trial in enumerate(trials) if trial.status == "done"]
    finite = [i for i, trial in enumerate(trials) if trial.finite]
    return done or finite or list(range(len(trials)))


def ensemble(problem: Problem, trials: Sequence[Trial], weights: np.ndarray) -> tuple[TableModel, np.ndarray]:
    """Return the model that is the weighted mean of trials, and its out-of-fold predictions, (rows, outputs)."""
    targets, used = problem.targets, np.flatnonzero(weights).tolist()
    each = out_of_fold([trials[i] for i in used]).astype(np.float64)
    mean = np.tensordot(weights[used], each, 1)
    prepared, of_rows = problem.validated
    spread, temperature = None, 1.0
    if targets.task == REGRESSION:
        between = np.tensordot(weights[used], np.square(each - mean), 1)
        spread = Spread.learn(prepared - mean, between)
    else:
        losses = {
            t: log_loss_of(tempered(mean, t, targets.task), prepared, targets.task, of_rows) for t in _TEMPERATURES
        }
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
