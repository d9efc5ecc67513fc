"""Fairness: reasons to doubt a test score.

A test score is fair if the test rows are as new to the members as the rows that will be predicted later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.app.column_kinds import Kind, as_numbers
from pmlp_np.app.row_numbers import called_identifier, predicts_alone
from pmlp_np.app.tables import Table, quoted

# With fewer test rows the error of a score is about a tenth.
_FEW_ROWS = 30
# Names of columns that may group rows, besides names of identifiers.
_GROUPS = {"patient", "subject", "participant", "person", "customer", "user", "household", "family", "animal", "group"}


def suspects(table: Table, kinds: dict[str, Kind], rows: np.ndarray, target: np.ndarray, classes: bool) -> list[str]:
    """Return the columns of distinct whole numbers that alone predict the target (n,), as row numbers may."""
    names = []
    for name, kind in kinds.items():
        numbers = as_numbers(table, name) if kind.kind == "number" else None
        if numbers is not None:
            values = numbers.to_numpy(np.float64, na_value=np.nan)[rows]
            if predicts_alone(values, target[rows], classes):
                names.append(name)
    return names


def grouped(table: Table, kinds: dict[str, Kind], parts: dict[str, np.ndarray]) -> str:
    """Return a column that by its name groups rows, with groups both in training and test; else ""."""
    for name in kinds:
        cells = table.frame[name]
        if called_identifier(name) or name.lower() in _GROUPS:
            known = cells.dropna()
            n, n_values = len(known), known.nunique()
            # Several rows per value, and many values.
            if n >= 20 and n_values >= 5 and 1.5 * n_values <= n <= 100 * n_values:
                some, others = (set(cells.iloc[parts[each]].dropna()) for each in ("test", "training"))
                if some & others:
                    return name
    return ""


def rows_in_both(X: np.ndarray, y: np.ndarray, some: np.ndarray, others: np.ndarray) -> int:
    """Return how many of the rows `some` equal one of the rows `others`, in inputs and target."""

    def key(row: int) -> bytes:
        # Adding 0 turns -0 into 0.
        return (X[row] + 0.0).tobytes() + y[row].tobytes()

    keys = {key(row) for row in some.tolist()}
    common = {each for row in others.tolist() if (each := key(row)) in keys}
    return sum(key(row) in common for row in some.tolist()) if common else 0


def doubts(
    parts: dict[str, np.ndarray], X: np.ndarray, y: np.ndarray, suspected: Sequence[str], group: str, date: str,
    spread: int = 0,
) -> list[str]:  # fmt: skip
    """Return the reasons to doubt the test score, a clause each.

    suspected: columns that may be row numbers.
    group: a column whose values lie in several parts, or "".
    date: a column of dates if rows are drawn at random, or "".
    spread: number of groups of --group that test rows and other files have in common.
    """
    reasons = []
    n_test = len(parts["test"])
    n_trained = rows_in_both(X, y, parts["test"], parts["training"])
    if n_trained:
        reasons.append(f"{n_trained:,} of {n_test:,} test rows are also among the training rows, cell by cell")
    n_chosen = rows_in_both(X, y, parts["test"], parts["validation"])
    if n_chosen and n_chosen > n_trained:
        count = f"{n_chosen:,} of {n_test:,} test rows"
        reasons.append(f"{count} are also among the validation rows, which chose the ensemble")
    if spread:
        groups = "1 group of the test rows is" if spread == 1 else f"{spread:,} groups of the test rows are"
        reasons.append(f"{groups} also in training or validation: --group can't part rows of other files")
    if group:
        hint = f"--group {quoted(group)} keeps them together"
        reasons.append(f"rows of the same {group!r} are in training and test ({hint})")
    if date:
        hint = f"--order-by {quoted(date)} tests on the last ones"
        reasons.append(f"rows are drawn at random, not by date: what comes later may be harder to predict ({hint})")
    for name in suspected:
        hint = f"--drop {quoted(name)}"
        reasons.append(f"column {name!r} alone predicts the target, as a number of the row does ({hint})")
    if n_test < _FEW_ROWS:
        reasons.append(f"{_counted(n_test)}: another few might give another score")
    return reasons


def _counted(n: int) -> str:
    return "there is one test row" if n == 1 else f"there are {n} test rows"


def verdict(reasons: Sequence[str]) -> list[str]:
    """Return the lines to print about the test score: that it is fair, or the reasons for doubt."""
    if not reasons:
        return ["The test score is fair."]
    return ["Against the test score speaks:", *(f"  - {each}" for each in reasons)]
