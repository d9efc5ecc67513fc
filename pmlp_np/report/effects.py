"""Which columns predictions depend on, and how: permutation importances and partial dependence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.data.preprocessing.raw_table import CATEGORY, RawColumn, part
from pmlp_np.model_selection.importance import ValidatedRows, by_unseen_members, permutation_importances
from pmlp_np.model_selection.table_model import TableModel, tempered
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.report.evidence import Evidence, Found, shortened

# Predicted rows of all importances, the fewest of one, and how often a column's cells change places.
_ROWS_IN_ALL, _LEAST_ROWS, _REPEATS = 40_000, 200, 3
_MOST_LISTED = 30
# Partial dependence: columns, rows, points of a curve or categories, and outputs.
_MOST_COLUMNS, _MOST_ROWS, _MOST_POINTS, _MOST_CATEGORIES, _MOST_OUTPUTS = 7, 200, 16, 10, 5
# Curves begin and end where few rows lie beyond.
_TAIL = 0.02
MISSING = "(missing)"


def effects(result: Found, evidence: Evidence, draw: np.random.Generator) -> dict[str, Any]:
    """Return importances and partial dependence, both by members that have not seen the rows.

    importances: records of at most 30 columns, most important first: column, kind, importance (growth of the loss when
    the column's cells change places, mean of three times), spread (standard deviation of the three). dependence: as
    `_dependence`, of the most important columns.
    """
    model, table = result.ensemble, result.problem.table
    rows = ValidatedRows.of(result.problem, table, draw)
    n_columns = max(1, len(model.views.columns))
    some = _some(rows, max(_LEAST_ROWS, _ROWS_IN_ALL // (_REPEATS * n_columns)), draw)
    each = np.stack([permutation_importances(model, some, draw) for _ in range(_REPEATS)])
    mean, spread = each.mean(axis=0), each.std(axis=0)
    order = sorted(model.views.columns, key=lambda i: (-mean[i], i))
    listed = [
        {"column": column_name(table[i], i), "kind": table[i].kind, "importance": float(mean[i]),
         "spread": float(spread[i])}
        for i in order[:_MOST_LISTED]
    ]  # fmt: skip
    few = _some(rows, _MOST_ROWS, draw)
    matter = [i for i in order if mean[i] > 0.0][:_MOST_COLUMNS]
    return {
        "importances": listed,
        "dependence": [_dependence(model, evidence, few, i, table[i]) for i in matter],
    }  # fmt: skip


def column_name(column: RawColumn, i: int) -> str:
    """Return a column's name; of an array's, "column 3"."""
    return shortened(f"column {i}" if column.name == str(i) else column.name)


def _some(rows: ValidatedRows, n: int, draw: np.random.Generator) -> ValidatedRows:
    if len(rows.fold) <= n:
        return rows
    chosen = np.sort(draw.choice(len(rows.fold), n, replace=False))
    return ValidatedRows(part(rows.table, chosen), rows.fold[chosen], rows.prepared[chosen])


def _dependence(
    model: TableModel, evidence: Evidence, rows: ValidatedRows, i: int, column: RawColumn
) -> dict[str, Any]:
    """Return the mean prediction of rows all of whose cells in a column are the same, for some cells.

    column, kind: its name and kind. at: the cells, numbers (dates as days since 1970) or texts. lines: records of some
    outputs: name, values (one for each of `at`), missing (the value at a missing cell, or None where there was none).
    Values are in y's units (of several columns of y in standard deviations from the mean), or probabilities. deciles:
    the column's, [] of categories. Source: Friedman, Ann. Stat. 29 (2001), section 8.2.
    """
    cells, names = _cells_of(column)
    has_missing = column.kind != CATEGORY and bool(np.isnan(column.cells).any())
    grid = np.concatenate([cells, [np.nan]]) if has_missing else cells
    found = _mean_predictions(model, rows, i, grid)
    if evidence.task == REGRESSION and len(evidence.targets) == 1:
        found = found * model.targets.scale + model.targets.mean
    shown = _shown_outputs(evidence)
    deciles: list[float] = []
    if column.kind != CATEGORY:
        deciles = [float(q) for q in np.nanquantile(column.cells, np.linspace(0.1, 0.9, 9))]
    lines = [
        {"name": evidence.outputs[k], "values": [float(v) for v in found[: len(cells), k]],
         "missing": float(found[-1, k]) if has_missing else None}
        for k in shown
    ]  # fmt: skip
    return {
        "column": column_name(column, i), "kind": column.kind, "at": names, "lines": lines, "deciles": deciles,
    }  # fmt: skip


def _mean_predictions(model: TableModel, rows: ValidatedRows, i: int, grid: np.ndarray) -> np.ndarray:
    """Return the mean prediction with each of these cells in column i, (cells, outputs)."""
    n, m = len(rows.fold), len(grid)
    everything = np.tile(np.arange(n), m)
    table = part(rows.table, everything)
    table[i] = replace(table[i], cells=np.repeat(grid, n))
    many = ValidatedRows(table, rows.fold[everything], rows.prepared[everything])
    found = by_unseen_members(model, many, many.table)
    return tempered(found, model.temperature, model.targets.task).reshape(m, n, -1).mean(axis=1)


def _shown_outputs(evidence: Evidence) -> Sequence[int]:
    """Return the outputs that are drawn: of two classes the second, else the first or the most frequent ones."""
    n = len(evidence.outputs)
    if evidence.task == CLASSIFICATION:
        if n == 2:
            return [1]
        shares = evidence.is_true.mean(axis=0)
        return sorted(np.argsort(-shares, kind="stable")[:_MOST_OUTPUTS].tolist())
    return range(min(n, _MOST_OUTPUTS))


def _cells_of(column: RawColumn) -> tuple[np.ndarray, list[Any]]:
    """Return the cells that predictions are computed at, and what they are called."""
    if column.kind == CATEGORY:
        counts = Counter(column.cells.tolist())
        common = sorted(counts, key=lambda cell: (-counts[cell], str(cell)))[:_MOST_CATEGORIES]
        cells = np.empty(len(common), object)
        cells[:] = common
        return cells, [MISSING if cell is None else shortened(cell) for cell in common]
    known = column.cells[~np.isnan(column.cells)]
    values = np.unique(known)
    if len(values) > _MOST_POINTS:
        values = np.unique(np.quantile(known, np.linspace(_TAIL, 1.0 - _TAIL, _MOST_POINTS)))
    return values, [float(value) for value in values]
