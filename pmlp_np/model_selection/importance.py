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


def by_unseen_members(model: TableModel, rows: ValidatedRows, table: Sequence[RawColumn]) -> np.ndarray:
    """Return the ensemble's predictions of rows by the members that have not seen them, (n, outputs) float64.

    table: the rows' columns, some of which may have other cells. Values are standardized; probabilities are those of
    temperature 1.
    """
    wide = model.views.wide(table, model.blocks)
    mean = np.zeros((len(wide), model.members[0][0].n_outputs))
    by_pool: dict[int, list[int]] = {}
    for i, (pool, _) in enumerate(model.members):
        by_pool.setdefault(id(pool), []).append(i)
    for numbers in by_pool.values():
        pool, weights = model.members[numbers[0]][0], model.weights[numbers]
        method = pool.predict if model.targets.task == REGRESSION else pool.predict_proba
        for k in np.unique(rows.fold):
            of_fold = rows.fold == k
            ids = [int(model.members[i][1][k]) for i in numbers]
            found = method(wide[of_fold], members=ids, weights=weights_of(pool))
            each = np.asarray(found, np.float64).reshape(len(ids), int(of_fold.sum()), -1)
            mean[of_fold] += np.tensordot(weights, each, 1)
    return mean


def _loss(model: TableModel, rows: ValidatedRows, table: Sequence[RawColumn]) -> float:
    mean = by_unseen_members(model, rows, table)
    if model.targets.task == REGRESSION:
        return float(np.mean(np.square(mean - rows.prepared)))
    return log_loss_of(mean, rows.prepared, model.targets.task)
