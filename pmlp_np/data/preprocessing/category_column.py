"""Columns of categories: one-hot inputs of the common ones, and the target's mean in each category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.data.preprocessing.raw_table import RawColumn

# Rows that a category needs for an input of its own, at most so many categories, and what a missing cell is.
RAREST, MOST_CATEGORIES = 3, 40
# A category's mean counts as so many rows of the mean of all.
_PRIOR_ROWS = 10.0


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories.

    categories: those with an input of their own, the most frequent first. Others, and new ones, are 0 in all inputs.
    centers: (categories,) the share of each among the training rows. known: all texts of the training rows, by which
    means of the target are looked up. marks_missing: whether training rows have missing cells.
    """

    categories: tuple[str, ...]
    centers: np.ndarray
    known: tuple[str, ...]
    marks_missing: bool

    @classmethod
    def learn(cls, cells: np.ndarray, most: int = MOST_CATEGORIES) -> CategoryColumn:
        """Return the column that training rows have. cells: (n,) texts, None for missing ones."""
        counts = Counter(cell for cell in cells if cell is not None)
        ordered = sorted(counts, key=lambda text: (-counts[text], text))
        common = [text for text in ordered if counts[text] >= min(RAREST, counts[ordered[0]])][:most]
        if len(common) == len(ordered) == 2 and not any(cell is None for cell in cells):
            # One input says which of the two it is.
            common = common[:1]
        centers = np.array([counts[text] / len(cells) for text in common])
        return cls(tuple(common), centers, tuple(sorted(counts)), any(cell is None for cell in cells))

    @property
    def is_wide(self) -> bool:
        """Whether there are more categories than inputs, so that the target's mean says more."""
        return len(self.known) > max(len(self.categories), 2)

    def one_hot(self, column: RawColumn) -> np.ndarray:
        """Return an input for each of `categories`, centered, (n, categories)."""
        n = len(self.categories)
        lines = np.concatenate([np.eye(n), np.zeros((1, n))]) - self.centers
        return lines[_numbered(column, self.categories, missing=n, new=n)]

    def codes(self, column: RawColumn) -> np.ndarray:
        """Return the number of each cell's text, (n,) int64: the number of all for a missing cell, one more for new."""
        n = len(self.known)
        return _numbered(column, self.known, missing=n, new=n + 1)

    def to_plain(self) -> dict[str, Any]:
        """Return the column as values that JSON holds."""
        return {
            "categories": list(self.categories), "centers": self.centers.tolist(), "known": list(self.known),
            "marks_missing": self.marks_missing,
        }  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Any) -> CategoryColumn:
        """Return the column of `to_plain`. Raises ValueError, TypeError or KeyError for anything else."""
        categories, known = plain["categories"], plain["known"]
        for texts in (categories, known):
            if not isinstance(texts, list) or len(set(texts)) != len(texts) or not all(type(t) is str for t in texts):
                raise ValueError("different texts")
        centers = np.array(plain["centers"], np.float64)
        if centers.shape != (len(categories),) or not np.isfinite(centers).all():
            raise ValueError("a number for each category")
        if type(plain["marks_missing"]) is not bool:
            raise ValueError("true or false")
        return cls(tuple(categories), centers, tuple(known), plain["marks_missing"])


def _numbered(column: RawColumn, texts: Sequence[str], missing: int, new: int) -> np.ndarray:
    """Return the place of each cell's text among the texts, (n,) int64."""
    codes, own = column.coded
    places = {text: i for i, text in enumerate(texts)}
    # The last one stands at -1, the code of a missing cell.
    return np.array([*(places.get(text, new) for text in own), missing], np.int64)[codes]


def target_means(codes: np.ndarray, targets: np.ndarray, n_codes: int) -> np.ndarray:
    """Return the mean of each target in each category, drawn towards the mean of all rows: (n_codes, targets).

    codes: (n,); targets: (n, targets). A category without rows has the mean of all. Source: Micci-Barreca, SIGKDD
    Explorations 3 (2001).
    """
    sums, counts = np.zeros((n_codes, targets.shape[1])), np.bincount(codes, minlength=n_codes)[:, None]
    np.add.at(sums, codes, targets)
    return (sums + _PRIOR_ROWS * targets.mean(axis=0)) / (counts + _PRIOR_ROWS)


def ordered_target_means(codes: np.ndarray, targets: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the mean of each target in a row's category over the rows before it in an order: (n, targets).

    So no row's own target is among its inputs. Source: Prokhorenkova et al., CatBoost, NeurIPS 2018.
    """
    n = len(codes)
    by_code = order[np.argsort(codes[order], kind="stable")]
    sorted_codes, sorted_targets = codes[by_code], targets[by_code]
    before = np.cumsum(sorted_targets, axis=0) - sorted_targets
    begins = np.searchsorted(sorted_codes, sorted_codes)
    sums, counts = before - before[begins], (np.arange(n) - begins)[:, None]
    result = np.empty_like(targets)
    result[by_code] = (sums + _PRIOR_ROWS * targets.mean(axis=0)) / (counts + _PRIOR_ROWS)
    return result
