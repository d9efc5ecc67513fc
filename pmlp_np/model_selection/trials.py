"""Trials: configurations that were trained, one member for each fold, and their out-of-fold predictions."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.base.errors import DivergedWarning
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import weights_of
from pmlp_np.model_selection.targets import REGRESSION
from pmlp_np.pool.checkpoints import has_checkpoint
from pmlp_np.pool.pool import Pool
from pmlp_np.pool.resuming import resume

# What a member that diverged is taken to predict: so bad that no selection wants it.
_LOST = {True: 1e6, False: 0.0}


@dataclass(frozen=True)
class Trial:
    """A configuration that was trained.

    ids: its members in `pool`, one for each fold. epochs: what all of them were trained for. out_of_fold: (rows,
    outputs) float32, of the validated rows: values or probabilities. finite: whether all members predict numbers.
    seconds: its share of the time of training. stopped: whether halving ended it before its last epoch.
    """

    configuration: Configuration
    pool: Pool
    ids: np.ndarray
    epochs: int
    out_of_fold: np.ndarray
    finite: bool
    seconds: float
    stopped: bool = False

    @property
    def status(self) -> str:
        """Whether it is "done", "stopped" by halving, or "diverged"."""
        return "diverged" if not self.finite else "stopped" if self.stopped else "done"


def multiply_adds(problem: Problem, configuration: Configuration, epochs: int) -> float:
    """Return the multiply-adds of a trial, of all folds, by which its time is predicted."""
    rows = sum(map(len, problem.folds.training))
    inputs = problem.cost_of_inputs(configuration.view)
    return configuration.multiply_adds(inputs, problem.n_outputs) * rows * epochs


def train(
    problem: Problem,
    configurations: Sequence[Configuration],
    epochs: Sequence[int],
    seed: int,
    how: dict[str, Any],
    upto: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 60.0,
) -> tuple[Pool, float]:
    """Train configurations for so many epochs each, in one pool. Returns (the pool, seconds that it took).

    how: further arguments of `fit`. upto: the epochs of each so far, where others follow. Default None: all epochs.
    checkpoint, checkpoint_every: as for `fit`; a run that is there goes on.
    Member c * folds + k has configuration c and fold k.
    """
    folds, wide = problem.folds, problem.wide
    n_folds = len(folds)
    rows = min(map(len, folds.training))
    specs = [
        c.spec(e, e * -(-rows // (c.member.get("batch_size") or how["batch_size"])), None if upto is None else upto[i])
        for i, (c, e) in enumerate(zip(configurations, epochs, strict=True)) for _ in range(n_folds)
    ]  # fmt: skip
    pool = Pool(specs, wide.shape[1], problem.n_outputs, problem.targets.loss, seed=seed)
    most = max(epochs if upto is None else upto)
    data: dict[str, Any] = {"rows": list(folds.training) * len(configurations), "sample_weight": problem.weights}
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergedWarning)
        if checkpoint is not None and has_checkpoint(checkpoint):
            # Which batches there are was decided when the run began.
            own = {name: value for name, value in how.items() if name != "batch_size"}
            # Without a budget now, whatever there was before.
            own["time_budget"] = math.inf if own.get("time_budget") is None else own["time_budget"]
            pool = resume(checkpoint, wide, problem.prepared, **data, **own)
        else:
            pool.fit(
                wide, problem.prepared, epochs=most,
                features=[problem.inputs_of(c.view, k) for c in configurations for k in range(n_folds)],
                checkpoint=checkpoint, checkpoint_every=checkpoint_every, **data, **how,
            )  # fmt: skip
    return pool, time.perf_counter() - began


def evaluated(problem: Problem, pool: Pool, configurations: Sequence[Configuration], epochs: Sequence[int],
           seconds: float) -> list[Trial]:  # fmt: skip
    """Return the trials of a trained pool, with predictions of every row by the members that have not seen it.

    epochs: what each configuration was to train for. seconds: what all of it took.
    """
    n_folds, validated = len(problem.folds), problem.folds.validated
    place = np.full(len(problem.wide), -1)
    place[validated] = np.arange(len(validated))
    is_values = problem.targets.task == REGRESSION
    found = pool.out_of_fold(
        problem.wide[validated], [place[rows] for rows in problem.folds.validation] * len(configurations),
        groups=np.repeat(np.arange(len(configurations)), n_folds), method="predict" if is_values else "predict_proba",
        weights=weights_of(pool),
    )  # fmt: skip
    found = found.reshape(len(configurations), len(validated), problem.n_outputs).astype(np.float32)
    lost = ~np.isfinite(found)
    found[lost] = _LOST[is_values]
    costs = np.array([multiply_adds(problem, c, e) for c, e in zip(configurations, epochs, strict=True)])
    shares = seconds * costs / costs.sum()
    # The clock may have ended some of them earlier.
    done = epochs_done(pool).reshape(-1, n_folds).min(axis=1).tolist()
    ids = pool.ids_.reshape(-1, n_folds)
    return [
        Trial(c, pool, ids[i], done[i], found[i], not lost[i].any(), float(share))
        for i, (c, share) in enumerate(zip(configurations, shares, strict=True))
    ]


def epochs_done(pool: Pool) -> np.ndarray:
    """Return the epochs that each member of a pool has finished, (n_members,) int64."""
    by_id = {record["id"]: record["epochs"] for record in pool.leaderboard()}
    return np.array([by_id[id] for id in pool.ids_.tolist()], np.int64)
