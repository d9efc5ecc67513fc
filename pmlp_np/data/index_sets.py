"""Index sets, one per member: rows to train on, features to read. Equal sets are stored once."""

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
    """Distinct index arrays (int64, in the user's order, repeats included), and the array of each member.

    arrays: the distinct arrays.   of: (n_members,) int64, indices into `arrays`.
    """

    arrays: list[np.ndarray]
    of: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Number of indices of each member, (n_members,) int64."""
        return np.array([len(array) for array in self.arrays], np.int64)[self.of]

    def take(self, positions: np.ndarray) -> Sets:
        """Return the sets of the members at these positions, without arrays that none of them uses."""
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
        """Make sets from a file's arrays: `of`; `indices`, all distinct arrays in one; and their `lengths`."""
        stops = np.cumsum(columns["lengths"])
        return cls(np.split(columns["indices"], stops[:-1]), columns["of"])

    @classmethod
    def concatenate(cls, parts: Sequence[Sets]) -> Sets:
        """Return the sets of all members of all parts, in order; equal arrays are stored once."""
        arrays = [array for part in parts for array in part.arrays]
        before = np.cumsum([0, *(len(part.arrays) for part in parts)])
        of = np.concatenate([part.of + start for part, start in zip(parts, before, strict=False)])
        distinct, new_number = _distinct(arrays)
        return cls(distinct, new_number[of])


def sets_of(value: Any, ids: np.ndarray, limit: int, name: str, what: str, least: int = 1) -> Sets:
    """Convert a user's argument to Sets: one index array (integers from 0 to limit - 1) or mask (limit,) per member.

    value: a list with one entry per member (members may share an entry), or an array (n_members, k) of indices or
        (n_members, limit) of booleans. name: the argument. what: the unit that indices count ("row", "feature"), for
        errors.

    Raises DataError, which names the member.
    """
    expected = f"one array of {what} numbers, or one mask of {limit} truth values, for each of the {len(ids)} members"
    hint = f"For example {name}=[first] * 5 + [second] * 5, or an array of shape ({len(ids)}, k)."
    is_sequence = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim)
    entries = list(value) if is_sequence else None
    if entries is None or len(entries) != len(ids):
        got = show(value) if entries is None else f"{len(entries)}"
        raise DataError(compose(name, expected, got, hint))
    # An object that several members share is checked once.
    first_of: dict[int, int] = {}
    arrays: list[np.ndarray] = []
    array_of = np.empty(len(entries), np.int64)
    for i, entry in enumerate(entries):
        if id(entry) not in first_of:
            first_of[id(entry)] = len(arrays)
            arrays.append(_indices(entry, limit, f"{name} of member {ids[i]}", what, least, expected, hint))
        array_of[i] = first_of[id(entry)]
    distinct, of = _distinct(arrays)
    return Sets(distinct, of[array_of])


def _distinct(arrays: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return (the distinct arrays, the index of each array among them)."""
    numbers: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    of = np.empty(len(arrays), np.int64)
    for i, array in enumerate(arrays):
        of[i] = numbers.setdefault(array.tobytes(), len(distinct))
        if of[i] == len(distinct):
            array.setflags(write=False)
            distinct.append(array)
    return distinct, of


def _indices(value: Any, limit: int, name: str, what: str, least: int, expected: str, hint: str) -> np.ndarray:
    """Return one member's indices, int64, copied.

    The copy is made first, because the caller could change its array during the checks.
    """
    require_plain(value, name)
    try:
        # Copied by NumPy, because tensors have no copy argument.
        array = np.array(np.asarray(value))
    except Exception:  # an object that can't become an array may raise anything
        array = np.zeros((), object)
    if array.ndim == 1 and (array.dtype.kind in "Of" or isinstance(value, (list, tuple))):
        array = _cast_cells(array, value, limit, name, expected)
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
        raise _mask_as_integers_error(name, limit, what)
    if len(array) < least:
        raise DataError(compose(name, f"at least {least} {what}", "none"))
    return np.ascontiguousarray(array, np.int64)


def _cast_cells(array: np.ndarray, value: Any, limit: int, name: str, expected: str) -> np.ndarray:
    """Cast objects that are all booleans, or all integers, to that type.

    Raises DataError for a missing value, for integers mixed with booleans (NumPy would make integers of all), and for
    floats.
    """
    cells = np.asarray(value, object) if array.dtype.kind in "Oiub" else array
    for i, cell in enumerate(cells.tolist()) if cells.dtype == object else ():
        if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
            hint = "Say of each, as with fillna(False)."
            raise DataError(compose(name, expected, f"a missing value, {show(cell)}, at {i}", hint))
    kinds = {isinstance(cell, (bool, np.bool_)) for cell in cells.tolist()}
    if len(kinds) > 1:
        raise DataError(compose(name, expected, f"truth values mixed with others: {show(value)}"))
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


def _mask_as_integers_error(name: str, limit: int, what: str) -> DataError:
    """Return the error about integers that look like a mask: as indices they would repeat rows 0 and 1."""
    hint = "Cast a mask: array.astype(bool)."
    if what == "row":
        hint += " Rows 0 and 1 alone: name them once each, and count them by sample_weight."
    expected = f"{what} numbers, or a mask of {limit} truth values"
    return DataError(compose(name, expected, f"{limit} whole numbers that are all 0 or 1", hint))
