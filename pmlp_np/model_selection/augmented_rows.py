"""Rows that a table might have had: each between two rows that are near each other.

Cells of numbers are interpolated, each by itself; categories, whole numbers and missing cells are taken from one of the
two rows. So no cell has a value that the column can't have, and combinations of cells are new. Close to MUNGE (Bucila,
Caruana, Niculescu-Mizil, Model compression, KDD 2006), which draws numbers around one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.data.preprocessing.raw_table import CATEGORY, RawColumn

# Of so many rows that are drawn, the nearest one is the second row.
_CANDIDATES = 8


def augmented_rows(
    table: Sequence[RawColumn], encoded: np.ndarray, count: int, draw: np.random.Generator
) -> tuple[list[RawColumn], np.ndarray]:
    """Return a table of new rows, and the number of the first row that each was made of, (count,) int64.

    table: at least two rows. encoded: (n, k), numbers for them by which rows are near each other.
    """
    n = len(encoded)
    first = draw.integers(0, n, count)
    second, least = first.copy(), np.full(count, np.inf)
    for _ in range(_CANDIDATES):
        # Any row but the first one.
        candidate = (first + draw.integers(1, n, count)) % n
        distance = np.square(encoded[candidate].astype(np.float64) - encoded[first]).sum(axis=1)
        nearer = distance < least
        second[nearer], least[nearer] = candidate[nearer], distance[nearer]
    made = [
        RawColumn(column.name, column.kind, _mixed(column, first, second, draw.uniform(size=count))) for column in table
    ]
    return made, first


def _mixed(column: RawColumn, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return a new cell for each pair of rows. share: how far it lies towards the second one, from 0 to 1."""
    a, b = column.cells[first], column.cells[second]
    one_of_them = np.where(share < 0.5, a, b)
    if column.kind == CATEGORY:
        return one_of_them
    known = column.cells[~np.isnan(column.cells)]
    if (known == np.floor(known)).all():
        return one_of_them
    between = (1.0 - share) * a + share * b
    return np.where(np.isnan(between), one_of_them, between)
