"""Groups: which members agree in what they see, so that work for it is done once for all of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def groups_of(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Members that agree in all columns, (n,) each, form a group: (first member of each group, group of each member).

    Groups are in the order of their values, the first column's first.
    """
    n = len(columns[0])
    code = np.zeros(n, np.int64)
    for column in columns:
        if (column == column[:1]).all():
            continue
        values, inverse = np.unique(column, return_inverse=True)
        # Renumbered each time, so that codes never overflow.
        _, code = np.unique(code * len(values) + inverse.ravel(), return_inverse=True)
    if not code.any():
        return np.arange(min(n, 1)), code
    _, first = np.unique(code, return_index=True)
    return first, code


def alike(members: np.ndarray, columns: Iterable[np.ndarray | None]) -> list[np.ndarray]:
    """Indices into `members` in groups that agree in all these columns, (n_members,) each, or None where all members
    have the same."""
    given = [column[members] for column in columns if column is not None]
    if not len(members) or not given:
        return [np.arange(len(members))] * bool(len(members))
    _, group = groups_of(given)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
