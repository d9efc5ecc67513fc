"""Sets of indices, one for each member: rows to train on, features to read. Equal ones are kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base.checks import is_whole
from pmlp_np.base.copying import Independent
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.containers import require_plain


@dataclass(frozen=True)
class Sets(Independent):
    """Distinct index arrays (int64, in the order given, repeats included), and which of them each member has.

    arrays: the distinct ones.   of: (n_members,) int64, places in `arrays`.
    """

    arrays: list[np.ndarray]
    of: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """How many indices each member has, (n_members,) int64."""
        return np.array([len(array) for array in self.arrays], np.int64)[self.of]

    def take(self, positions: np.ndarray) -> Sets:
        """Those of some members; what nobody has any more is dropped."""
        used, of = np.unique(self.of[positions], return_inverse=True)
        return Sets([self.arrays[i] for i in used], of.ravel())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sets):
            return NotImplemented
        if len(self.of) != len(other.of):
            return False
        pairs = set(zip(self.of.tolist(), other.of.tolist(), strict=True))
        return all(np.array_equal(self.arrays[a], other.arrays[b]) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_columns(cls, columns: dict[str, np.ndarray]) -> Sets:
        """Of the arrays of a file: `of`; `indices`, all distinct arrays side by side; and their `lengths`."""
        stops = np.cumsum(columns["lengths"])
        return cls(np.split(columns["indices"], stops[:-1]), columns["of"])

    @classmethod
    def concatenate(cls, parts: Sequence[Sets]) -> Sets:
        """The sets of all members of all parts, in order, equal ones once."""
        arrays = [array for part in parts for array in part.arrays]
        before = np.cumsum([0, *(len(part.arrays) for part in parts)])
        of = np.concatenate([part.of + start for part, start in zip(parts, before, strict=False)])
        found = _distinct(arrays)
        return cls(found[0], found[1][of])


def sets_of(value: Any, ids: np.ndarray, limit: int, name: str, what: str, least: int = 1) -> Sets:
    """One index array (whole numbers from 0 to limit - 1) or boolean mask (limit,) for each member, as Sets.

    value: a list of one per member, of which the same may serve many, or an array (n_members, k) of indices or
        (n_members, limit) of truth values. name: the argument, what: what is counted ("row", "feature"), for errors.

    Raises DataError, which names the member.
    """
    expected = f"one array of {what} numbers, or one mask of {limit} truth values, for each of the {len(ids)} members"
    hint = f"For example {name}=[first] * 5 + [second] * 5, or an array of shape ({len(ids)}, k)."
    given = list(value) if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim) else None
    if given is None or len(given) != len(ids):
        got = show(value) if given is None else f"{len(given)}"
        raise DataError(compose(name, expected, got, hint))
    # One object is looked at once, however many members share it.
    first_of: dict[int, int] = {}
    arrays: list[np.ndarray] = []
    place = np.empty(len(given), np.int64)
    for i, one in enumerate(given):
        if id(one) not in first_of:
            first_of[id(one)] = len(arrays)
            arrays.append(_indices(one, limit, f"{name} of member {ids[i]}", what, least, expected, hint))
        place[i] = first_of[id(one)]
    distinct, of = _distinct(arrays)
    return Sets(distinct, of[place])


def _distinct(arrays: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Equal arrays once, and which of those each was."""
    found: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    of = np.empty(len(arrays), np.int64)
    for i, array in enumerate(arrays):
        of[i] = found.setdefault(array.tobytes(), len(distinct))
        if of[i] == len(distinct):
            array.setflags(write=False)
            distinct.append(array)
    return distinct, of


def _indices(value: Any, limit: int, name: str, what: str, least: int, expected: str, hint: str) -> np.ndarray:
    """One member's indices, int64, as a copy: a caller may write to what it gave, also while it is being checked."""
    require_plain(value, name)
    try:
        # Copied by NumPy, not by the object: tensors know no keyword for it.
        array = np.array(np.asarray(value))
    except Exception:  # whatever an object raises that can't become an array
        array = np.zeros((), object)
    if array.ndim == 1 and (array.dtype.kind in "Of" or isinstance(value, (list, tuple))):
        array = _of_one_kind(array, value, limit, name, expected)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise DataError(compose(name, expected, show(value), hint))
    if array.dtype.kind == "b":
        if len(array) != limit:
            raise DataError(compose(name, f"a mask of {limit} truth values", f"one of {len(array)}"))
        array = np.flatnonzero(array)
    elif len(array) and not (array.min() >= 0 and array.max() < limit):
        bad = array[(array < 0) | (array >= limit)][0]
        raise DataError(compose(name, f"{what} numbers from 0 to {limit - 1}", str(bad)))
    elif limit > 2 and len(array) == limit and array.max() <= 1:
        raise _taken_for_a_mask(name, limit, what)
    if len(array) < least:
        raise DataError(compose(name, f"at least {least} {what}", "none"))
    return np.ascontiguousarray(array, np.int64)


def _of_one_kind(array: np.ndarray, value: Any, limit: int, name: str, expected: str) -> np.ndarray:
    """Objects that are all truth values, or all whole numbers, as an array of those. DataError for a missing value, for
    numbers beside truth values (which NumPy makes numbers of), and for floats."""
    cells = np.asarray(value, object) if array.dtype.kind in "Oiub" else array
    for i, cell in enumerate(cells.tolist()) if cells.dtype == object else ():
        if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
            hint = "Say of each, as with fillna(False)."
            raise DataError(compose(name, expected, f"a missing value, {show(cell)}, at {i}", hint))
    kinds = {isinstance(cell, (bool, np.bool_)) for cell in cells.tolist()}
    if len(kinds) > 1:
        raise DataError(compose(name, expected, f"truth values beside others: {show(value)}"))
    if array.dtype.kind == "f" and len(array):
        hint = "Cast whole numbers: array.astype(int)." if (array == np.floor(array)).all() else ""
        if len(array) == limit and np.isin(array, (0.0, 1.0)).all():
            hint = "Cast a mask: array.astype(bool)."
        raise DataError(compose(name, expected, f"floats, {show(array.tolist())}", hint))
    if array.dtype.kind == "O" and all(isinstance(cell, (bool, np.bool_)) or is_whole(cell) for cell in cells.tolist()):
        try:
            return array.astype(bool if kinds == {True} else np.int64)
        except OverflowError:
            return array
    return array


def _taken_for_a_mask(name: str, limit: int, what: str) -> DataError:
    """The error about whole numbers that look like a mask: as numbers they would be rows 0 and 1, again and again."""
    hint = "Cast a mask: array.astype(bool)."
    if what == "row":
        hint += " Rows 0 and 1 alone: name them once each, and count them by sample_weight."
    expected = f"{what} numbers, or a mask of {limit} truth values"
    return DataError(compose(name, expected, f"{limit} whole numbers that are all 0 or 1", hint))
