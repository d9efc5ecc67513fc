"""Tables with more rows than are to be read: rows drawn at random, in one pass, in memory for those that are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base import errors
from pmlp_np.base.errors import SMALL_NEED, require_memory
from pmlp_np.model_selection.search_memory import bytes_of_search

# Memory of a cell while a table is read, and as a column.
_BYTES_PER_CELL = 40
# The share of free memory that a search may take: compiled code, plots and the report take some, too.
_SHARE = 0.7
# A table of which memory has no room for so many rows is refused.
_FEWEST = 1000
# Kept rows may be more than are drawn by this share, before those that fell out are dropped.
_SURPLUS = 0.25


@dataclass(frozen=True)
class RowLimit:
    """How many rows of a table are read. All, if they are no more and there is memory for them.

    most: the most, or None for as many as memory has room for. seed: of the draw. progress: takes the share of the file
    that has been read. n_folds: of the search.
    """

    most: int | None = None
    seed: int = 0
    progress: Callable[[float], None] | None = None
    n_folds: int = 5

    def of(self, name: str, n_columns: int, n_cells: float) -> RowDraw | None:
        """Return a draw for a table, or None to read all rows.

        n_cells: of the table, an estimate. Raises MemoryNeededError.
        """
        each = int(max(n_columns, 1) * _BYTES_PER_CELL / _SHARE)
        needed = int(n_cells * _BYTES_PER_CELL / _SHARE)
        if self.most is not None:
            needed = min(needed, self.most * each)
            fits = _rounded(errors.free_memory() // each)
            require_memory(f"{self.most:,} rows of {name}", needed, f"Say --max-rows {fits}.")
            return RowDraw(self.most, self.seed)
        if needed <= SMALL_NEED or needed <= (free := errors.free_memory()):
            return None
        fits = _rounded(free // each)
        if fits < _FEWEST:
            require_memory(name, needed, "Take fewer columns.", free)
        return RowDraw(fits, self.seed)

    def for_search(self, name: str, n_rows: int, n_numeric: int, n_categories: Sequence[int], free: int) -> int | None:
        """Return how many of the rows that were read a search has memory for; None for all.

        n_numeric, n_categories: as of `bytes_of_search`. free: bytes that were free before the table was read. Raises
        MemoryNeededError if there is no room for `most` rows, or for a few.
        """

        def needed(n: int) -> int:
            cells = n * (n_numeric + len(n_categories)) * _BYTES_PER_CELL
            return int((cells + bytes_of_search(n, n_numeric, n_categories, self.n_folds)) / _SHARE)

        if needed(n_rows) <= max(free, SMALL_NEED):
            return None
        fits = n_rows
        while fits and needed(fits) > free:
            fits = _rounded(fits - 1)
        if self.most is not None or fits < _FEWEST:
            hint = "Take fewer columns." if fits < _FEWEST else f"Say --max-rows {fits}."
            require_memory(f"a search on {n_rows:,} rows of {name}", needed(n_rows), hint, free)
        return fits

    def report(self, share: float) -> None:
        """Report the share of the file that has been read."""
        if self.progress is not None:
            self.progress(share)


def require_room(name: str, n_cells: float) -> None:
    """Raise MemoryNeededError if so many cells don't fit in memory."""
    require_memory(name, int(n_cells * _BYTES_PER_CELL), "Take a part of its rows, or fewer columns.")


def _rounded(n: int) -> int:
    """Return the largest number 1, 2 or 5 times a power of ten that is no more than n: easily said again."""
    power = 10 ** (len(str(n)) - 1)
    return next((factor * power for factor in (5, 2, 1) if factor * power <= n), 0)


class RowDraw:
    """A draw of at most `most` rows of a stream without replacement, all with the same chance.

    Each row gets a random number; the rows with the smallest ones are drawn. So rows depend on the seed and on their
    place alone, not on how the stream is cut.

    n_seen: rows of the stream so far. rows: numbers, from 0, of those that are kept, in order.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.n_seen = most, 0
        self.rows = np.zeros(0, np.int64)
        self._random = np.random.default_rng([seed, 2])
        self._keys = np.zeros(0)
        self._bound = 1.0

    def offer(self, n: int) -> np.ndarray:
        """Take note of the next n rows. Returns the numbers among them, from 0, of those that are kept."""
        keys = self._random.random(n)
        chosen = np.flatnonzero(keys < self._bound)
        self.rows = np.concatenate([self.rows, self.n_seen + chosen])
        self._keys = np.concatenate([self._keys, keys[chosen]])
        self.n_seen += n
        return chosen

    def fewer(self, most: int) -> np.ndarray:
        """Draw fewer of the rows that were drawn: those that a draw of `most` would have. Returns which, a mask."""
        self.most = most
        remain = self.thinned(last=True)
        return np.ones(len(self.rows), bool) if remain is None else remain

    def thinned(self, last: bool = False) -> np.ndarray | None:
        """Drop rows that have fallen out, if they are many or it is the last call.

        Returns which of the rows that were kept remain, a mask; None for all.
        """
        if len(self.rows) <= self.most * (1.0 if last else 1.0 + _SURPLUS):
            return None
        smallest = np.argpartition(self._keys, self.most)
        self._bound = float(self._keys[smallest[self.most]])
        remain = np.zeros(len(self.rows), bool)
        remain[smallest[: self.most]] = True
        self.rows, self._keys = self.rows[remain], self._keys[remain]
        return remain


def kept(values: list[Any], remain: np.ndarray | None) -> list[Any]:
    """Return what remains of a list, by a mask; all for None."""
    return values if remain is None else [value for value, stays in zip(values, remain.tolist(), strict=True) if stays]
