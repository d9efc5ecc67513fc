"""Weights of rows: how much each row counts for each member, whatever scale they are given in.

Only the ratio of a weight to the mean over the member's rows counts. Weights are kept in float64, each set scaled by
the power of two that brings its largest to between 1/2 and 1: an exact step, so that a common factor of any size
neither overflows nor changes a bit. Backends divide by the mean in float64, and cast to the pool's dtype then. What
that cast would make 0 is refused.

A row of weight 0 may have any target: it is neither checked nor read.
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

# What weighted means of an evaluation are computed in, whatever the pool's dtype is.
EVALUATED = np.dtype(np.float64)


@dataclass(frozen=True)
class Weights:
    """Checked weights of rows, before it is known which rows a member has.

    name: what errors call them. lines: (n_sets, n) float64, 0 ... 1. positive: (n_sets, n), where the weight that was
    given is above 0. of: (n_members,) int64, the set of each member; None where there is one for all.
    """

    name: str
    lines: np.ndarray
    positive: np.ndarray
    of: np.ndarray | None

    def line_of(self, member: int) -> int:
        """The set of a member."""
        return 0 if self.of is None else int(self.of[member])

    @property
    def without(self) -> np.ndarray | None:
        """(n_sets, n), the rows of weight 0; None where there are none."""
        zero: np.ndarray = ~self.positive
        return zero if zero.any() else None

    @property
    def without_of_all(self) -> np.ndarray | None:
        """(n,), the rows to which every set gives weight 0; None where some set has none of weight 0."""
        return None if self.without is None else np.logical_and.reduce(self.without)


def as_weights(given: Any, n: int, n_members: int, name: str = "sample_weight") -> Weights | None:
    """Weights (n,) for all members, or (n_members, n), checked; None where none are given.

    Raises DataError: shape, type, negative or not finite.
    """
    if given is None:
        return None
    values = as_numbers(given, name)
    require_memory(name, 9 * values.size, f"Weights that all members share, ({n},), take less.")
    if values.shape not in ((n,), (n_members, n)):
        expected = f"shape ({n},), or ({n_members}, {n}) for weights of each member"
        raise DataError(compose(name, expected, str(values.shape)))
    with np.errstate(over="ignore"):  # of long doubles
        weights = values.astype(np.float64).reshape(-1, n)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        place = np.argwhere(bad)[0]
        at = place[1:] if values.ndim == 1 else place
        got = f"{weights[tuple(place)]} at {at.tolist()}"
        raise DataError(compose(name, "finite numbers, at least 0", got))
    of, positive = None if len(weights) == 1 else np.arange(n_members), weights > 0
    return Weights(name, _scaled(weights), positive, of)


def _scaled(lines: np.ndarray) -> np.ndarray:
    """Each line times a power of two, in place: its largest number is between 1/2 and 1 then. Exact, unless a number
    becomes subnormal."""
    _, exponent = np.frexp(lines.max(axis=1, keepdims=True))
    return np.ldexp(lines, -exponent, out=lines)


def put_weights(
    rows: Dataset, weights: Weights, ids: np.ndarray, members: np.ndarray, dtype: np.dtype, source: str = ""
) -> None:
    """Put weights into `rows`, with their means over the rows of these members (places in `ids`). source: which rows
    these are, for errors, if not those that members train on.

    dtype: what weights are cast to in the end: the pool's for training; evaluation computes in float64.

    Raises DataError, which names the member: no row that counts, or weights that the dtype cannot tell from 0.
    """
    hint = "Weights count in validation, too: to leave rows out of training alone, use rows=." if source else ""
    rows.weights, rows.weight_of = np.ascontiguousarray(weights.lines), weights.of
    # From exact sums, so that no order matters.
    means: dict[tuple[int, int], float] = {}
    rows.weight_mean = np.full(len(ids), np.nan)
    for i in members.tolist():
        key = weights.line_of(i), 0 if rows.rows is None else int(rows.rows.of[i])
        if key not in means:
            own = None if rows.rows is None else rows.rows.arrays[key[1]]
            means[key] = _mean(weights, key[0], own, f"{weights.name}{source} of member {ids[i]}", dtype, hint)
        rows.weight_mean[i] = means[key]


def _mean(weights: Weights, line: int, rows: np.ndarray | None, name: str, dtype: np.dtype, hint: str) -> float:
    """The mean weight of these rows (None: all). hint: what to do where all are 0."""
    own, positive = weights.lines[line], weights.positive[line]
    if rows is not None:
        own, positive = own[rows], positive[rows]
    if not positive.any():
        hint = hint or "Give one of its rows a weight above 0."
        raise DataError(compose(name, "a row that counts", "zeros alone", hint))
    # Of equal weights the mean is the weight itself, also where n times it is rounded: they count as no weights do.
    low, high = float(own.min()), float(own.max())
    mean = low if low == high else math.fsum(own.tolist()) / len(own)
    # Compiled code takes numbers that are below the smallest normal one as 0; twice that is safe from rounding.
    least = 2.0 * float(np.finfo(dtype).tiny)
    lost = positive & ((own < np.finfo(np.float64).tiny) | (own < least * mean))
    if lost.any():
        place = int(np.argmax(lost))
        row = place if rows is None else int(rows[place])
        expected = f"weights that {dtype.name} can tell from 0, at least {least:.1e} times their mean, or 0"
        wider = dtype == np.float32 and own[place] >= np.finfo(np.float64).tiny
        hint = "Set it to 0" + (', or make the pool with dtype="float64".' if wider else ".")
        raise DataError(compose(name, expected, f"less in row {row}", hint))
    return mean


def times_class_weights(
    weights: Weights | None, class_weight: Any, rows: Dataset, ids: np.ndarray, loss: Loss, n_outputs: int
) -> Weights:
    """Weights (None: all 1) times those of the rows' classes.

    "balanced" is scikit-learn's: rows / (classes * rows of the class), over the rows that the member trains on and that
    have a weight above 0. DataError: unknown classes, weights that are none, another loss, targets of each member.
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
        own = np.arange(rows.n) if rows.rows is None else rows.rows.arrays[row_set]
        own = own[weights.positive[line][own]]
        counts = np.bincount(labels[own], minlength=n_outputs)
        present = max(1, np.count_nonzero(counts))
        np.multiply(weights.lines[line], (len(own) / (present * np.maximum(counts, 1)))[labels], out=into)
    positive = weights.positive[[line for line, _ in sets]]
    return Weights(name, _scaled(lines), positive, None if len(sets) == 1 else of)


def _class_table(class_weight: Any, n_outputs: int) -> np.ndarray:
    """The weight of each class."""
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
    """The first row of X that is not finite, where only rows of weight 0 are not; else None."""
    if sample_weight is None:
        return None
    try:
        require_plain(X, "X")
        odd = np.logical_not(np.logical_and.reduce(np.isfinite(np.asarray(X)), axis=1))
        counts = (np.asarray(sample_weight, np.float64).reshape(-1, len(odd)) > 0).any(axis=0)
    except Exception:
        # X or weights are none: the check of X has said so.
        return None
    return None if not odd.any() or (odd & counts).any() else int(np.argmax(odd))


def harmless(targets: Any, without: np.ndarray | None) -> Any:
    """Targets with others in the rows of weight 0 (`without`, a mask (n_samples,), or (n_members, n_samples) of targets
    of each member): a copy. What is no array of as many rows is returned as it is.

    What stands there then is the middle one of the targets that count: it is as valid as these, and changes neither
    their range nor how far they lie apart.
    """
    if without is None or not without.any():
        return targets
    try:
        if not isinstance(targets, np.ma.MaskedArray):
            require_plain(targets, "targets")
        # Copied by NumPy, not by the object: tensors know no keyword for it.
        found = np.array(np.asanyarray(targets), subok=True)
        if isinstance(targets, (list, tuple)) and found.dtype.kind in "USMm":
            # NumPy makes strings of numbers beside a string.
            found = np.array(targets, object)
        if found.shape[: without.ndim] != without.shape:
            return targets
        for part, mask in ((found, without),) if without.ndim == 1 else zip(found, without, strict=True):
            if mask.any():
                part[mask] = _middle(part[~mask])
        return found
    except Exception:
        # Whatever was given is no usable array: the check of targets says so by name.
        return targets


def _middle(values: Any) -> np.ndarray:
    """The lower median of the finite numbers among values (rows, ...), 0 where there are none; masked ones are not."""
    numbers = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    numbers = np.sort(np.where(np.isfinite(numbers), numbers, np.nan), axis=0)
    count = np.isfinite(numbers).sum(axis=0, keepdims=True)
    if not len(numbers):
        return np.zeros(numbers.shape[1:])
    middle = np.take_along_axis(numbers, np.maximum(count - 1, 0) // 2, axis=0)
    return np.where(count > 0, middle, 0.0)[0]
