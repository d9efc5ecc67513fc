"""Folds: the rows that members train on and those that they are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, listed, show
from pmlp_np.data.preprocessing.raw_table import is_missing

# Folds by the least number of rows: with few rows each one counts, with many a few folds are enough.
_DEFAULT = ((6000, 4), (3000, 5), (1000, 8), (0, 10))


@dataclass(frozen=True)
class Folds:
    """Row numbers of each fold: `training` and `validation`, int64 arrays. A row is validated once at most."""

    training: tuple[np.ndarray, ...]
    validation: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.training)

    def only(self, kept: np.ndarray) -> Folds:
        """Return the folds of the rows of a mask, which are numbered anew."""
        number = np.cumsum(kept) - 1

        def rows(of: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            return tuple(number[each[kept[each]]] for each in of)

        return Folds(rows(self.training), rows(self.validation))

    @property
    def validated(self) -> np.ndarray:
        """Return the numbers of all rows that some fold validates, growing."""
        return np.sort(np.concatenate(self.validation))


def make_folds(
    cv: Any, n: int, draw: np.random.Generator, strata: np.ndarray | None, groups: Any, y: Any = None
) -> Folds:
    """Return the folds of n rows.

    cv: the number of folds; None: 10 for few rows, down to 4 for many; an object with `split(X, y, groups)`, as
        scikit-learn's; or pairs of row numbers (training, validation).
    strata: (n,) numbers of classes that folds share out evenly, or None. groups: (n,) labels of rows that stay in one
        fold.

    Raises DataError for more folds than rows or groups, for a pair without rows, and for a row that two folds validate.
    """
    if cv is not None and not checks.is_whole(cv):
        splits = hasattr(cv, "split") and not isinstance(cv, (str, bytes))
        return _of_pairs(cv.split(np.zeros((n, 1)), y, groups) if splits else cv, n)
    count = next(k for least, k in _DEFAULT if n >= least) if cv is None else int(cv)
    if groups is None:
        count = min(count, n) if cv is None else count
        if not 2 <= count <= n:
            raise DataError(compose("cv", f"2 to {n} folds, for {n} row(s) (n_samples={n})", str(count)))
        fold = _by_row(n, count, draw, strata)
    else:
        labels = np.asarray(groups)
        if labels.shape != (n,):
            raise DataError(compose("groups", f"a label for each of {n} rows", f"shape {labels.shape}"))
        if labels.dtype.kind == "O" and any(map(is_missing, labels)):
            row = next(i for i, label in enumerate(labels) if is_missing(label))
            raise DataError(compose(f"groups, row {row}", "a label", "a missing one"))
        try:
            _, group = np.unique(labels, return_inverse=True)
        except TypeError:
            types = listed(sorted({type(label).__name__ for label in labels}))
            raise DataError(compose("groups", "labels of one type", types)) from None
        n_groups = int(group.max()) + 1
        count = min(count, n_groups) if cv is None else count
        if not 2 <= count <= n_groups:
            hint = "A group stays together: choose fewer folds." if n_groups > 1 else "One group can't be parted."
            raise DataError(compose("cv", f"2 to {n_groups} folds, for {n_groups} group(s)", str(count), hint))
        fold = _by_group(group, n_groups, count, draw)
    rows = np.arange(n)
    return Folds(tuple(rows[fold != k] for k in range(count)), tuple(rows[fold == k] for k in range(count)))


def missing_classes(folds: Folds, numbers: np.ndarray, classes: Sequence[Any]) -> list[str]:
    """Return notes on classes that are missing in folds, as sentences. numbers: (n,) of the classes of rows."""
    notes = []
    counts = np.bincount(numbers, minlength=len(classes))
    few = [f"{show(classes[k])} ({counts[k]})" for k in np.flatnonzero(counts < len(folds)).tolist()]
    if few:
        notes.append(
            f"classes with fewer rows than the {len(folds)} folds, {listed(few)}: folds without a row of a class are "
            "evaluated without it"
        )
    for k, rows in enumerate(folds.training):
        unseen = np.flatnonzero((np.bincount(numbers[rows], minlength=len(classes)) == 0) & (counts > 0))
        if len(unseen):
            names = listed(show(classes[i]) for i in unseen.tolist())
            notes.append(f"members of fold {k} are trained without rows of the class {names}")
    return notes


def _by_row(n: int, count: int, draw: np.random.Generator, strata: np.ndarray | None) -> np.ndarray:
    order = draw.permutation(n)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % count
    return fold


def _by_group(group: np.ndarray, n_groups: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """Deal out groups, largest first, each to the fold with the fewest rows so far."""
    sizes = np.bincount(group, minlength=n_groups)
    order = draw.permutation(n_groups)
    order = order[np.argsort(-sizes[order], kind="stable")]
    rows, fold_of = np.zeros(count, np.int64), np.empty(n_groups, np.int64)
    for g in order.tolist():
        fold_of[g] = int(rows.argmin())
        rows[fold_of[g]] += sizes[g]
    return fold_of[group]


def _of_pairs(pairs: Any, n: int) -> Folds:
    expected = "a number of folds, an object with split, or pairs of row numbers (training, validation)"
    if not isinstance(pairs, Iterable) or isinstance(pairs, (str, bytes)):
        raise DataError(compose("cv", expected, show(pairs)))
    training: list[np.ndarray] = []
    validation: list[np.ndarray] = []
    for k, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(compose(f"cv[{k}]", "a pair of row numbers", show(pair)))
        for name, rows, into in (("training", pair[0], training), ("validation", pair[1], validation)):
            numbers = checks.whole_array(rows)
            if numbers is None or numbers.ndim != 1 or not len(numbers) or numbers.min() < 0 or numbers.max() >= n:
                raise DataError(compose(f"{name} rows of cv[{k}]", f"row numbers from 0 to {n - 1}", show(rows)))
            into.append(numbers.astype(np.int64))
    if not training:
        raise DataError(compose("cv", expected, "no pair"))
    times = np.bincount(np.concatenate(validation), minlength=n)
    if times.max() > 1:
        got = f"row {int(times.argmax())} in {int(times.max())}"
        raise DataError(compose("cv", "each row in at most one validation set", got))
    return Folds(tuple(training), tuple(validation))
