"""Encoded tables: X with columns in piecewise-linear encoding, stored as two numbers each, not one for each input.

An encoded column with B bins stands for B inputs: those of the bins below the row's value are 1, that of the value's
bin is the share of the bin below the value, those above are 0; then each has its center subtracted, the mean over the
training rows. The two numbers are the bin's index and the share.

    numbers   | plain columns | index, share | index, share | ...
    inputs    | plain columns | B of the first encoded column | B of the second | ...

A first layer that knows this structure needs two rows of numbers for each encoded column, where a product with the
inputs needs B: docs/kernels.md#encoded-columns. Elsewhere the inputs are computed (`expanded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, require_memory, show

# Elements of the inputs that are computed at a time.
_PIECE = 1 << 18
# The index of a missing cell is this many above the number of bins: all its inputs are 0.
MISSING_AT = 1


@dataclass(frozen=True)
class Encoding:
    """How inputs are stored in the columns of an encoded table.

    plain: the number of plain columns. centers: of each encoded column, (bins,) float64.
    """

    plain: int
    centers: tuple[np.ndarray, ...]

    @property
    def bins(self) -> np.ndarray:
        """The number of bins of each encoded column, int64."""
        return np.array([len(each) for each in self.centers], np.int64)

    @property
    def n_inputs(self) -> int:
        return self.plain + int(self.bins.sum())

    @property
    def n_numbers(self) -> int:
        return self.plain + 2 * len(self.centers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Encoding):
            return NotImplemented
        same = self.plain == other.plain and len(self.centers) == len(other.centers)
        return same and all(map(np.array_equal, self.centers, other.centers))

    __hash__ = None  # type: ignore[assignment]

    def chosen(self, inputs: np.ndarray) -> tuple[np.ndarray, Encoding] | None:
        """Return the columns of numbers that hold these inputs, and their encoding; None if they have no such form.

        They have it if plain inputs come first, in any order, and then all inputs of one encoded column after another.
        """
        plain = int((inputs < self.plain).sum())
        if (inputs[plain:] < self.plain).any():
            return None
        starts = self.plain + np.cumsum([0, *self.bins])
        numbers, centers, at = [inputs[:plain]], [], plain
        while at < len(inputs):
            column = int(np.searchsorted(starts, inputs[at], side="right")) - 1
            size = len(self.centers[column])
            if not np.array_equal(inputs[at : at + size], starts[column] + np.arange(size)):
                return None
            numbers.append(self.plain + 2 * column + np.arange(2))
            centers.append(self.centers[column])
            at += size
        return np.concatenate(numbers).astype(np.int64), Encoding(plain, tuple(centers))


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """X in stored form: `numbers` (n, encoding.n_numbers), float32 or float64, each row contiguous.

    It takes the place of an array (n, encoding.n_inputs), which np.asarray makes of it.
    """

    numbers: np.ndarray
    encoding: Encoding

    @classmethod
    def checked(cls, numbers: np.ndarray, encoding: Encoding) -> EncodedTable:
        """Return a table of numbers whose indices and shares were checked: compiled code reads memory by them."""
        if numbers.ndim != 2 or numbers.shape[1] != encoding.n_numbers or (encoding.bins < 1).any():
            raise DataError(compose("numbers", f"{encoding.n_numbers} columns", show(numbers.shape)))
        for column, centers in enumerate(encoding.centers):
            if not np.isfinite(centers).all():
                raise DataError(compose(f"centers of encoded column {column}", "finite numbers", "others"))
        index, share = numbers[:, encoding.plain :: 2], numbers[:, encoding.plain + 1 :: 2]
        known = (index >= 0) & (index < encoding.bins) & (index == np.floor(index)) & (share >= 0) & (share <= 1)
        missing = (index == encoding.bins + MISSING_AT) & (share == 0)
        if not (known | missing).all():
            row, column = np.argwhere(~(known | missing))[0].tolist()
            got = f"{index[row, column]} and {share[row, column]} in row {row}"
            raise DataError(compose(f"encoded column {column}", "the index of a bin, and a share from 0 to 1", got))
        return cls(numbers, encoding)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.numbers), self.encoding.n_inputs

    ndim = 2

    @property
    def dtype(self) -> np.dtype:
        return self.numbers.dtype

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> EncodedTable:
        """Return the table of these rows: a slice, row numbers or a mask."""
        if isinstance(rows, tuple) or np.ndim(rows) > 1 or isinstance(rows, (int, np.integer)):
            raise DataError(compose("rows", "a slice, row numbers or a mask", show(rows)))
        return EncodedTable(self.numbers[rows], self.encoding)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = self.expanded()
        return found if dtype is None else found.astype(dtype, copy=False)

    def astype(self, dtype: np.dtype) -> EncodedTable:
        """Return the table in a dtype, with contiguous rows; copied only if necessary."""
        numbers = self.numbers
        if numbers.dtype == dtype and (numbers.shape[1] == 1 or numbers.strides[1] == dtype.itemsize):
            return self
        require_memory("X", numbers.size * np.dtype(dtype).itemsize, "Take fewer rows at a time.")
        return EncodedTable(np.ascontiguousarray(numbers, dtype), self.encoding)

    @cached_property
    def plain(self) -> np.ndarray:
        """The plain columns, (n, encoding.plain), a view."""
        return self.numbers[:, : self.encoding.plain]

    def expanded(self) -> np.ndarray:
        """Return all inputs, (n, encoding.n_inputs) of the table's dtype."""
        n, width = self.shape
        require_memory("X", n * width * self.dtype.itemsize, "Take fewer rows at a time.")
        out = np.empty((n, width), self.dtype)
        step = max(1, _PIECE // max(width, 1))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            at = self.encoding.plain
            out[rows, :at] = self.plain[rows]
            for column, centers in enumerate(self.encoding.centers):
                index, share = (self.numbers[rows, self.encoding.plain + 2 * column + k, None] for k in (0, 1))
                known = index < len(centers)
                pieces = np.clip(np.arange(len(centers)) < index, 0, 1).astype(self.dtype)
                pieces = np.where(np.arange(len(centers)) == index, share, pieces) - centers.astype(self.dtype)
                out[rows, at : at + len(centers)] = np.where(known, pieces, self.dtype.type(0.0))
                at += len(centers)
        return out

    def inputs(self, columns: np.ndarray) -> EncodedTable | np.ndarray:
        """Return these inputs: stored as here if they have that form and any is encoded, else as an array."""
        chosen = self.encoding.chosen(columns)
        if chosen is None:
            require_memory("features", len(self) * len(columns) * self.dtype.itemsize, "Choose whole columns.")
            return np.ascontiguousarray(self.expanded()[:, columns])
        numbers, encoding = chosen
        found = _columns(self.numbers, numbers)
        return EncodedTable(found, encoding) if encoding.centers else found

    @classmethod
    def concatenate(cls, parts: Sequence[EncodedTable]) -> EncodedTable:
        """Return the rows of all parts, which have one encoding."""
        return cls(np.concatenate([part.numbers for part in parts]), parts[0].encoding)


def _columns(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return columns of x, contiguous by rows: neighbors are copied together, some rows at a time."""
    found = np.empty((len(x), len(columns)), x.dtype)
    ends = np.flatnonzero(np.diff(columns, append=-2) != 1) + 1
    runs = [(int(a), int(b), int(columns[a])) for a, b in zip([0, *ends[:-1]], ends, strict=True)] if len(ends) else []
    step = max(1, _PIECE // max(len(columns), 1))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        for a, b, first in runs:
            found[rows, a:b] = x[rows, first : first + b - a]
    return found


# X as backends and searches take it.
Features = np.ndarray | EncodedTable


def stored(x: Features) -> np.ndarray:
    """Return the array that holds a table's numbers."""
    return x.numbers if isinstance(x, EncodedTable) else x


def expanded(x: Features) -> np.ndarray:
    """Return the inputs of a table as an array."""
    return x.expanded() if isinstance(x, EncodedTable) else x
