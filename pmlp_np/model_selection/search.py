"""`search`: from a table to the best ensemble of members that a time allows."""

from __future__ import annotations

import os
from typing import Any

from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.labels import require_same_rows
from pmlp_np.data.preprocessing.raw_table import raw_columns
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.scoring import CustomMetric
from pmlp_np.model_selection.search_checkpoints import FILE, SearchFolder, has_search
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.search_settings import BATCH_SIZE, Settings
from pmlp_np.model_selection.space import Space
from pmlp_np.pool.checkpoints import check_every, run_folder


def search(
    X: Any,
    y: Any,
    space: Any = None,
    task: str | None = None,
    time_budget: float | None = 60.0,
    cv: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    max_members: int | None = None,
    max_epochs: int | None = None,
    select: str | int = "greedy",
    metric: str | CustomMetric | None = None,
    halving: int | None = None,
    batch_size: int = BATCH_SIZE,
    n_threads: int | None = None,
    seed: int = 0,
    progress: bool | str = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    client: Any = None,
) -> SearchResult:
    """Search for the best ensemble of multi-layer perceptrons on a table.

    A portfolio of configurations is trained first, as much of it as time allows, then neighbors of those that the
    ensemble picked. A configuration is a member for each fold; it is evaluated by predictions of rows that the member
    has not seen, and predicts the mean of its members. No row is set aside, and nothing is trained again at the end.

    X: an array or data frame (n_samples, n_features). Columns are numbers, dates or categories by their dtype; cells
        may be missing.
    y: values or classes (n_samples,), or values or labels 0 and 1 (n_samples, n_outputs).
    space: what to try instead of the portfolio and its neighbors, see below. Default None.
    task: "regression", "classification" or "multilabel". Default None: as y suggests.
    time_budget: seconds for all of it. Default 60. None: no clock; then the result is the same anywhere.
    cv: number of folds, an object with `split` as scikit-learn's, or pairs of row numbers (training, validation).
        Default None: 10 folds for few rows, down to 4.
    groups: (n_samples,) labels of rows that stay in one fold. Default None.
    sample_weight: (n_samples,) weight of each row, in training and selection. Default None: equal weights.
    max_members: the most members to train, but for one configuration in any case; needed without a time budget.
        max_epochs: the most epochs of a member.
    select: "greedy" forward selection with replacement (default), "all", "best", or a number of the best.
    metric: what the ensemble is selected by and records are ordered by. Default None: the squared error or log loss. A
        name as for `Pool.fit`: "r2", "rmse", "mae"; "accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss"; or
        scikit-learn's names of these; or a pm.CustomMetric. (Members are trained by the same losses with any metric.)
    halving: a number of at least 2: in each round more configurations begin, and only the best one in so many goes on
        after a part of its epochs (at two cuts at most), from where it stands. Those that end there are in the records
        as "stopped", with their epochs, and never in the ensemble. Default None: all are trained to their last epoch.
    batch_size: rows per minibatch. Default 64. n_threads, progress: as for `Pool.fit`.
    seed: of folds, initial weights, and neighbors. Default 0.
    checkpoint: a folder for checkpoints, without one so far; its process may end in any way. Default None: none.
        checkpoint_every: seconds between them. Default 60.0.
    resume: whether the search in the folder goes on, with the same arguments and data (time_budget, which counts the
        seconds so far, and n_threads may be others); a folder without one begins. Default False.
    client: a `distributed.Client` of Dask, on whose workers members train. Default None: here.

    A space is a list of pm.Configuration, tried in this order; or a mapping of names to choices, as of pm.grid and
    pm.sample: arguments of pm.Member, "view" and "epochs" of pm.Configuration. If all choices are lists, all
    combinations are tried, in random order where time or max_members does not allow all; with distributions
    (pm.uniform, pm.log_uniform, pm.integers) combinations are drawn. A list of mappings is tried one after the other,
    so that a choice may exist only beside another one. Names that are left out have the values of the portfolio's first
    configuration, but for hyperparameters of the optimizer if that is named.

        pm.search(X, y, {"hidden": [(64,), (128, 128)], "learning_rate": pm.log_uniform(1e-3, 1e-1)})
        pm.search(X, y, [{"optimizer": ["adam"]}, {"optimizer": ["sgd"], "momentum": [0.5, 0.9]}])

    Ctrl-C ends the search with what it has. Raises DataError before any training.
    """
    settings = Settings(
        time_budget, max_members, max_epochs, select, batch_size, n_threads, seed, progress,
        None if space is None else Space.of(space), metric, halving, client,
    )  # fmt: skip
    clock = Clock(time_budget)
    for name, of_rows in (("y", y), ("groups", groups), ("sample_weight", sample_weight)):
        require_same_rows(X, of_rows, ("X", name))
    check_every(checkpoint_every)
    if checkpoint is None and resume:
        hint = "For example checkpoint='run/'."
        raise DataError(compose("checkpoint", "the folder of a search to resume", "None", hint))
    with run_folder(checkpoint, begins=not resume or not has_search(checkpoint), file=FILE) as path:
        problem = Problem.of(raw_columns(X), y, task, cv, groups, sample_weight, seed)
        folder = None if path is None else SearchFolder(path, checkpoint_every)
        return Search(problem, settings, clock, folder=folder).run()
