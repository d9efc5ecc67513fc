"""Keys of data: 64-bit hashes by which two fits of a member can be compared, whatever the container of the data.

The numbers are hashed after the cast to the pool's dtype, as a backend reads them. Equal numbers in equal order have
equal keys; different ones collide with probability 2^-64. Each row of X is hashed once, so that a member's row set (a
bootstrap, a fold) costs eight bytes a row.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import EncodedTable, Encoding, stored
from pmlp_np.state.plan import Plan

# Rows are hashed in pieces of about this many bytes: fewer calls than for smaller ones, and still in a cache.
_PIECE_BYTES = 1 << 22
# The constants of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): odd multipliers, after which high bits reach low ones.
_START, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_FIRST_SHIFT, _SECOND_SHIFT = np.uint64(30), np.uint64(27)


class DataKeys:
    """Keys of the data that each member reads, computed on demand. Each part of the data is hashed once."""

    def __init__(self, plan: Plan, data: Dataset) -> None:
        self._plan, self._data = plan, data
        # By member: indices of its feature set, row set, targets and weights, and the mean of its weights.
        sets = (None if each is None else each.of for each in (plan.features, data.rows))
        mean = None if data.weight_mean is None else data.weight_mean.view(np.int64)
        self._read_by_member = (*sets, data.targets, data.weight_of, mean)
        self._features: dict[int, np.ndarray] = {}
        self._lines: dict[tuple[str, int], np.ndarray] = {}

    def like(self, data: Dataset) -> DataKeys:
        """Return keys of other data for the same members."""
        return DataKeys(self._plan, data)

    def of(self, members: np.ndarray, *extra: np.ndarray | int) -> np.ndarray:
        """Return the keys of these members, (len(members),) uint64, never 0.

        extra: whole numbers that enter the keys, too; each one number for all members, or an array (n_members,) int64.
        """
        columns = [0 if each is None else each for each in (*self._read_by_member, *extra)]
        columns = [column if isinstance(column, int) else column[members] for column in columns]
        if not len(members):
            return np.empty(0, np.uint64)
        if all(isinstance(column, int) or (column == column[0]).all() for column in columns):
            return np.full(len(members), self._key(*(int(np.ravel(column)[0]) for column in columns)), np.uint64)
        table = np.stack([np.broadcast_to(column, len(members)) for column in columns], axis=1)
        distinct, of = np.unique(table, axis=0, return_inverse=True)
        return np.array([self._key(*line) for line in distinct.tolist()], np.uint64)[of.ravel()]

    def _key(self, features: int, rows: int, targets: int, weights: int, mean: int, *extra: int) -> int:
        data = self._data
        lines = [self._of_features(features)]
        if data.y is not None:
            lines += [self._of_line("y", targets * data.n_targets + k) for k in range(data.n_targets)]
        if data.weights is not None:
            lines.append(self._of_line("weights", weights))
        digest = hashlib.blake2b(repr((len(lines), mean, extra)).encode(), digest_size=8)
        for line in lines:
            values = line if data.rows is None else line[data.rows.arrays[rows]]
            digest.update(values.data)
        return int.from_bytes(digest.digest(), "little") or 1

    def _of_features(self, feature_set: int) -> np.ndarray:
        if feature_set not in self._features:
            x = self._data.x[feature_set]
            keys = row_keys(stored(x))
            if isinstance(x, EncodedTable):
                keys ^= _encoding_key(x.encoding)
            self._features[feature_set] = keys
        return self._features[feature_set]

    def _of_line(self, kind: str, line: int) -> np.ndarray:
        """Return a line of targets or weights, contiguous. One number a row needs no hash."""
        if (kind, line) not in self._lines:
            self._lines[kind, line] = np.ascontiguousarray(getattr(self._data, kind)[line])
        return self._lines[kind, line]


def _encoding_key(encoding: Encoding) -> np.uint64:
    digest = hashlib.blake2b(repr((encoding.plain, encoding.bins.tolist())).encode(), digest_size=8)
    for centers in encoding.centers:
        digest.update(np.ascontiguousarray(centers).data)
    return np.uint64(int.from_bytes(digest.digest(), "little"))


def row_keys(x: np.ndarray) -> np.ndarray:
    """Return the keys of the rows of x, (n,) uint64. x: (n, k) float32 or float64, with contiguous rows."""
    keys = np.full(len(x), _START)
    step = max(1, _PIECE_BYTES // max(1, x.shape[1] * x.itemsize))
    for start in range(0, len(x), step):
        piece = np.ascontiguousarray(x[start : start + step])
        word = np.dtype(np.uint64 if piece.shape[1] * piece.itemsize % 8 == 0 else np.uint32)
        key = keys[start : start + step]
        for column in piece.view(word).T:
            key ^= column
            key *= _FIRST
            key ^= key >> _FIRST_SHIFT
            key *= _SECOND
            key ^= key >> _SECOND_SHIFT
    return keys
