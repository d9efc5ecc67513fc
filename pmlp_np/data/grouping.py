"""Groups of members with equal data, so that common work is done once per group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def groups_of(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Group members that agree in all columns, (n,) each: (first member of each group, group of each member).

    Groups are sorted by their values, by the first column first.
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
    """Return indices into `members`, grouped by equal values in all columns.

    columns: (n_members,) each, or None if all members have the same value.
    """
    keys = [column[members] for column in columns if column is not None]
    if not len(members) or not keys:
        return [np.arange(len(members))] * bool(len(members))
    _, group = groups_of(keys)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
