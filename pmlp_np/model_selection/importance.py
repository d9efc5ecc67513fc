"""Importance of columns: how much worse predictions become when a column's cells change places.

Rows are predicted by the members that have not seen them, so that what was learned by heart counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmlp_np.data.preprocessing.raw_table import RawColumn, part
from pmlp_np.model_selection.calibration import log_loss_of
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import TableModel, weights_of
from pmlp_np.model_selection.targets import REGRESSION

# Rows that importances are computed on, at most.
MOST_ROWS = 1000


@dataclass(frozen=True)
class ValidatedRows:
    """Some rows that folds validate: their columns, the fold of each, and what members are trained on."""

    table: Sequence[RawColumn]
    fold: np.ndarray
    prepared: np.ndarray

    @classmethod
    def of(cls, problem: Problem, table: Sequence[RawColumn], draw: np.random.Generator) -> ValidatedRows:
        """Return at most MOST_ROWS rows of a problem, chosen at random. table: its columns."""
        rows = problem.folds.validated
        if len(rows) > MOST_ROWS:
            rows = np.sort(draw.choice(rows, MOST_ROWS, replace=False))
        fold = np.full(len(problem.wide), -1)
        for k, validation in enumerate(problem.folds.validation):
            fold[validation] = k
        return cls(part(table, rows), fold[rows], problem.prepared[rows])


def permutation_importances(model: TableModel, rows: ValidatedRows, draw: np.random.Generator) -> np.ndarray:
    """Return by how much the out-of-fold loss grows when each column's cells change places, (columns of X,).

    The loss is the mean squared error of standardized values, or the log loss. Columns that are left out have 0.
    Source: Breiman, Machine Learning 45 (2001), section 10.
    """
    before = _loss(model, rows, rows.table)
    result = np.zeros(len(rows.table))
    for i in model.views.columns:
        column = rows.table[i]
        shuffled = replace(column, cells=column.cells[draw.permutation(len(column.cells))])
        result[i] = _loss(model, rows, [*rows.table[:i], shuffled, *rows.table[i + 1 :]]) - before
    return result


def _loss(model: TableModel, rows: ValidatedRows, table: Sequence[RawColumn]) -> float:
    wide = model.views.wide(table, model.blocks)
    mean = np.zeros((len(wide), model.members[0][0].n_outputs))
    for weight, (pool, ids) in zip(model.weights, model.members, strict=True):
        method = pool.predict if model.targets.task == REGRESSION else pool.predict_proba
        for k in np.unique(rows.fold):
            of_fold = rows.fold == k
            found = method(np.ascontiguousarray(wide[of_fold]), members=[int(ids[k])], weights=weights_of(pool))[0]
            mean[of_fold] += weight * found.reshape(int(of_fold.sum()), -1)
    if model.targets.task == REGRESSION:
        return float(np.mean(np.square(mean - rows.prepared)))
    return log_loss_of(mean, rows.prepared, model.targets.task)
