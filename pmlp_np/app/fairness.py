"""Fairness: reasons to doubt a test score. It is fair if the test rows are as new to the members as the rows that will
be predicted later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pmlp_np.app.column_kinds import Kind, as_numbers
from pmlp_np.app.row_numbers import called_identifier, predicts_alone
from pmlp_np.app.tables import Table, quoted

# Of fewer test rows a score is hardly known to a tenth.
_FEW_ROWS = 30
# Names, besides those of identifiers, of what rows may be of.
_GROUPS = {"patient", "subject", "participant", "person", "customer", "user", "household", "family", "animal", "group"}


def suspects(table: Table, kinds: dict[str, Kind], rows: np.ndarray, target: np.ndarray, classes: bool) -> list[str]:
    """Columns of distinct whole numbers that alone tell the target (n,) of these rows, as row numbers may."""
    found = []
    for name, kind in kinds.items():
        numbers = as_numbers(table, name) if kind.kind == "number" else None
        if numbers is not None:
            values = numbers.to_numpy(np.float64, na_value=np.nan)[rows]
            if predicts_alone(values, target[rows], classes):
                found.append(name)
    return found


def grouped(table: Table, kinds: dict[str, Kind], parts: dict[str, np.ndarray]) -> str:
    """A column that by its name identifies something of which rows are in training and test, or ""."""
    for name in kinds:
        cells = table.frame[name]
        if called_identifier(name) or name.lower() in _GROUPS:
            known = cells.dropna()
            n, n_values = len(known), known.nunique()
            # Several rows of each; not one, and not a few kinds of rows.
            if n >= 20 and n_values >= 5 and 1.5 * n_values <= n <= 100 * n_values:
                some, others = (set(cells.iloc[parts[each]].dropna()) for each in ("test", "training"))
                if some & others:
                    return name
    return ""


def rows_in_both(X: np.ndarray, y: np.ndarray, some: np.ndarray, others: np.ndarray) -> int:
    """How many of the rows `some` are the same as one of `others`, inputs and target."""

    def key(row: int) -> bytes:
        # 0 is added so that -0 is 0.
        return (X[row] + 0.0).tobytes() + y[row].tobytes()

    asked = {key(row) for row in some.tolist()}
    there = {each for row in others.tolist() if (each := key(row)) in asked}
    return sum(key(row) in there for row in some.tolist()) if there else 0


def doubts(
    parts: dict[str, np.ndarray], X: np.ndarray, y: np.ndarray, suspected: Sequence[str], group: str, date: str,
    spread: int = 0,
) -> list[str]:  # fmt: skip
    """Reasons to doubt the test score, a clause each.

    suspected: columns that may number the rows. group: a column whose values lie in several parts, date: one of dates,
    where rows are drawn at random; "" for none. spread: how many groups of --group other files have in common with the
    test rows.
    """
    found = []
    n_test = len(parts["test"])
    twice = rows_in_both(X, y, parts["test"], parts["training"])
    if twice:
        found.append(f"{twice:,} of {n_test:,} test rows are also among the training rows, cell by cell")
    chose = rows_in_both(X, y, parts["test"], parts["validation"])
    if chose and chose > twice:
        found.append(f"{chose:,} of {n_test:,} test rows are also among the validation rows, which chose the member")
    if spread:
        groups = "1 group of the test rows is" if spread == 1 else f"{spread:,} groups of the test rows are"
        found.append(f"{groups} also in training or validation: --group can't part rows of other files")
    if group:
        how = f"--group {quoted(group)} keeps them together"
        found.append(f"rows of the same {group!r} are in training and test ({how})")
    if date:
        how = f"--order-by {quoted(date)} tests on the last ones"
        found.append(f"rows are drawn at random, not by date: what comes later may be harder to predict ({how})")
    for name in suspected:
        found.append(f"column {name!r} alone predicts the target, as a number of the row does (--drop {quoted(name)})")
    if n_test < _FEW_ROWS:
        found.append(f"{_counted(n_test)}: another few might give another score")
    return found


def _counted(n: int) -> str:
    return "there is one test row" if n == 1 else f"there are {n} test rows"


def said(found: Sequence[str]) -> list[str]:
    """The lines to print about the test score: that it is fair, or why not."""
    if not found:
        return ["The test score is fair."]
    return ["Against the test score speaks:", *(f"  - {each}" for each in found)]
