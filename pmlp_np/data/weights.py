"""Sample weights: how much each row counts for each member, on any scale.

Only the ratio of a weight to the mean over the member's rows counts. Weights are stored in float64, each set scaled by
the power of two that brings its maximum to between 1/2 and 1. This scaling is exact, so a common factor of any size
neither overflows nor changes a bit. Backends divide by the mean in float64, and then cast to the pool's dtype. A
positive weight that this cast would make 0 is refused.

A row of weight 0 may have any target: its target is neither checked nor read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, require_memory, show
from pmlp_np.data.containers import as_numbers, require_plain
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas.losses import Loss

# The dtype of weighted means in an evaluation, for pools of any dtype.
EVALUATED = np.dtype(np.float64)


@dataclass(frozen=True)
class Weights:
    """Checked weights, before the rows of each member are known.

    name: of the argument, for errors. lines: (n_sets, n) float64, 0 ... 1. positive: (n_sets, n) bool, whether the
        user's weight is above 0. of: (n_members,) int64, the set of each member; None if all members share one.
    """

    name: str
    lines: np.ndarray
    positive: np.ndarray
    of: np.ndarray | None

    def line_of(self, member: int) -> int:
        """Return the number of a member's set."""
        return 0 if self.of is None else int(self.of[member])

    @property
    def without(self) -> np.ndarray | None:
        """Mask (n_sets, n) of the rows of weight 0; None if there are none."""
        zero: np.ndarray = ~self.positive
        return zero if zero.any() else None

    @property
    def without_of_all(self) -> np.ndarray | None:
        """Mask (n,) of the rows with weight 0 in every set; None if no row has weight 0."""
        return None if self.without is None else np.logical_and.reduce(self.without)


def as_weights(sample_weight: Any, n: int, n_members: int, name: str = "sample_weight") -> Weights | None:
    """Return checked weights, (n,) for all members or (n_members, n); None for None.

    Raises DataError: shape, type, negative or not finite.
    """
    if sample_weight is None:
        return None
    values = as_numbers(sample_weight, name)
    require_memory(name, 9 * values.size, f"Weights that all members share, ({n},), take less.")
    if values.shape not in ((n,), (n_members, n)):
        expected = f"shape ({n},), or ({n_members}, {n}) for weights of each member"
        raise DataError(compose(name, expected, str(values.shape)))
    with np.errstate(over="ignore"):  # of long doubles
        weights = values.astype(np.float64).reshape(-1, n)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        index = np.argwhere(bad)[0]
        shown_index = index[1:] if values.ndim == 1 else index
        got = f"{weights[tuple(index)]} at {shown_index.tolist()}"
        raise DataError(compose(name, "finite numbers, at least 0", got))
    of, positive = None if len(weights) == 1 else np.arange(n_members), weights > 0
    return Weights(name, _scaled(weights), positive, of)


def _scaled(lines: np.ndarray) -> np.ndarray:
    """Multiply each line in place by the power of two that brings its maximum to between 1/2 and 1.

    This is exact, unless a number becomes subnormal.
    """
    _, exponent = np.frexp(lines.max(axis=1, keepdims=True))
    return np.ldexp(lines, -exponent, out=lines)


def put_weights(
    rows: Dataset, weights: Weights, ids: np.ndarray, members: np.ndarray, dtype: np.dtype, source: str = ""
) -> None:
    """Store weights in `rows`, with their means over the rows of these members (positions in `ids`).

    dtype: the dtype to which weights are finally cast: the pool's for training, float64 for evaluation. source: the
        rows, for errors, if not those that members train on.

    Raises DataError, which names the member: no row that counts, or weights that the dtype cannot tell from 0.
    """
    hint = "Weights count in validation, too: to leave rows out of training alone, use rows=." if source else ""
    rows.weights, rows.weight_of = np.ascontiguousarray(weights.lines), weights.of
    # From exact sums: their order does not matter.
    means: dict[tuple[int, int], float] = {}
    rows.weight_mean = np.full(len(ids), np.nan)
    for i in members.tolist():
        key = weights.line_of(i), 0 if rows.rows is None else int(rows.rows.of[i])
        if key not in means:
            member_rows = None if rows.rows is None else rows.rows.arrays[key[1]]
            means[key] = _mean(weights, key[0], member_rows, f"{weights.name}{source} of member {ids[i]}", dtype, hint)
        rows.weight_mean[i] = means[key]


def _mean(weights: Weights, line: int, rows: np.ndarray | None, name: str, dtype: np.dtype, hint: str) -> float:
    """Return the mean weight of these rows (None: all). hint: advice for the case that all weights are 0."""
    values, positive = weights.lines[line], weights.positive[line]
    if rows is not None:
        values, positive = values[rows], positive[rows]
    if not positive.any():
        hint = hint or "Give one of its rows a weight above 0."
        raise DataError(compose(name, "a row that counts", "only zeros", hint))
    # The mean of equal weights must be the weight itself, even if n times the weight is rounded: equal weights must
    # give the same bits as no weights.
    low, high = float(values.min()), float(values.max())
    mean = low if low == high else math.fsum(values.tolist()) / len(values)
    # Compiled code flushes subnormal numbers to 0; twice the smallest normal number is safe from rounding.
    least = 2.0 * float(np.finfo(dtype).tiny)
    lost = positive & ((values < np.finfo(np.float64).tiny) | (values < least * mean))
    if lost.any():
        index = int(np.argmax(lost))
        row = index if rows is None else int(rows[index])
        expected = f"weights that {dtype.name} can tell from 0, at least {least:.1e} times their mean, or 0"
        wider = dtype == np.float32 and values[index] >= np.finfo(np.float64).tiny
        hint = "Set it to 0" + (', or make the pool with dtype="float64".' if wider else ".")
        raise DataError(compose(name, expected, f"less in row {row}", hint))
    return mean


def times_class_weights(
    weights: Weights | None, class_weight: Any, rows: Dataset, ids: np.ndarray, loss: Loss, n_outputs: int
) -> Weights:
    """Multiply weights (None: all 1) by the weights of the rows' classes.

    "balanced" is scikit-learn's formula: rows / (classes * rows of the class), over the member's training rows with a
    weight above 0. Raises DataError: unknown classes, invalid weights, a loss without classes, separate targets of
    members.
    """
    if loss.targets != "labels" or rows.targets is not None or rows.y is None:
        hint = "Use sample_weight."
        raise DataError(compose("class_weight", "cross-entropy and targets that all members share", loss.name, hint))
    labels = rows.y[0].astype(np.int64)
    name = "class_weight" if weights is None else f"{weights.name} times class_weight"
    if weights is None:
        weights = Weights(name, np.ones((1, rows.n)), np.ones((1, rows.n), bool), None)
    if not (isinstance(class_weight, str) and class_weight == "balanced"):
        table = _class_table(class_weight, n_outputs)
        positive = weights.positive & (table > 0)[labels]
        table = _scaled(table[None])[0]
        return Weights(name, _scaled(weights.lines * table[labels]), positive, weights.of)
    sets: dict[tuple[int, int], int] = {}
    of = np.empty(len(ids), np.int64)
    for i in range(len(ids)):
        key = weights.line_of(i), 0 if rows.rows is None else int(rows.rows.of[i])
        of[i] = sets.setdefault(key, len(sets))
    require_memory(name, 9 * len(sets) * rows.n, "A dict of class weights takes one line for all members.")
    lines = np.empty((len(sets), rows.n))
    for (line, row_set), into in zip(sets, lines, strict=True):
        member_rows = np.arange(rows.n) if rows.rows is None else rows.rows.arrays[row_set]
        member_rows = member_rows[weights.positive[line][member_rows]]
        counts = np.bincount(labels[member_rows], minlength=n_outputs)
        present = max(1, np.count_nonzero(counts))
        np.multiply(weights.lines[line], (len(member_rows) / (present * np.maximum(counts, 1)))[labels], out=into)
    positive = weights.positive[[line for line, _ in sets]]
    return Weights(name, _scaled(lines), positive, None if len(sets) == 1 else of)


def _class_table(class_weight: Any, n_outputs: int) -> np.ndarray:
    """Return the weight of each class, (n_outputs,) float64."""
    table = np.ones(n_outputs)
    pairs = class_weight.items() if isinstance(class_weight, dict) else None
    expected = "'balanced', or a dict from class numbers to numbers of at least 0"
    if pairs is None:
        raise DataError(compose("class_weight", expected, show(class_weight)))
    for label, weight in pairs:
        good = checks.is_whole(label) and 0 <= label < n_outputs and checks.is_number(weight)
        if not good or not 0.0 <= float(weight) < math.inf:
            got = f"{show(label)}: {show(weight)}"
            raise DataError(compose("class_weight", f"{expected}; classes are 0 to {n_outputs - 1}", got))
        table[label] = weight
    return table


def first_without_weight(X: Any, sample_weight: Any) -> int | None:
    """Return the first row of X that is not finite, if all such rows have weight 0; otherwise None."""
    if sample_weight is None:
        return None
    try:
        require_plain(X, "X")
        not_finite = np.logical_not(np.logical_and.reduce(np.isfinite(np.asarray(X)), axis=1))
        counted = (np.asarray(sample_weight, np.float64).reshape(-1, len(not_finite)) > 0).any(axis=0)
    except Exception:
        # X or the weights are invalid; their checks raise the error.
        return None
    return None if not not_finite.any() or (not_finite & counted).any() else int(np.argmax(not_finite))


def harmless(targets: Any, without: np.ndarray | None) -> Any:
    """Return a copy of the targets with valid values in the rows of weight 0.

    without: mask (n_samples,), or (n_members, n_samples) for separate targets of members. An object that is no array of
        as many rows is returned unchanged.

    The new value is the median of the targets that count: it is as valid as they are, and changes neither their range
    nor their spread.
    """
    if without is None or not without.any():
        return targets
    try:
        if not isinstance(targets, np.ma.MaskedArray):
            require_plain(targets, "targets")
        # Copied by NumPy, because tensors have no copy argument.
        result = np.array(np.asanyarray(targets), subok=True)
        if isinstance(targets, (list, tuple)) and result.dtype.kind in "USMm":
            # NumPy casts numbers beside a string to strings.
            result = np.array(targets, object)
        if result.shape[: without.ndim] != without.shape:
            return targets
        for part, mask in ((result, without),) if without.ndim == 1 else zip(result, without, strict=True):
            if mask.any():
                part[mask] = _lower_median(part[~mask])
        return result
    except Exception:
        # No usable array: the check of targets raises the error.
        return targets


def _lower_median(values: Any) -> np.ndarray:
    """Return the lower median of the finite values, (rows, ...), ignoring masked ones; 0 if there are none."""
    numbers = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    numbers = np.sort(np.where(np.isfinite(numbers), numbers, np.nan), axis=0)
    count = np.isfinite(numbers).sum(axis=0, keepdims=True)
    if not len(numbers):
        return np.zeros(numbers.shape[1:])
    middle = np.take_along_axis(numbers, np.maximum(count - 1, 0) // 2, axis=0)
    return np.where(count > 0, middle, 0.0)[0]
