"""Columns of numbers: what training rows say of them, and the encodings that members read.

Each encoding of a missing cell is 0, which is the training rows' center; a separate input marks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.data.encoded import MISSING_AT
from pmlp_np.formulas.initializers import DISTRIBUTIONS

# Quantiles of the map to a normal distribution, and the probability at which it ends.
_QUANTILES, _TAIL = 513, 1e-3
# Where the robust scale bends: a value of so many interquartile ranges.
BEND = 3.0
# Values end here where something is learned of them: their differences are still numbers, and so are reciprocals.
_LARGEST = 1e300
# Scaled values end here, whose squares are still numbers.
FARTHEST = 1e100


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, or of dates as days.

    Of one value, which some cells have and others miss, only the mark of missing cells is an input.

    median: of the training rows. factor: 1 / interquartile range, or 2 / range where that is 0.
    quantiles, normal: (k,) values of the column, and the quantiles of the standard normal distribution that they have.
    edges: for each name of a piecewise-linear encoding the edges of its bins, growing.
    centers: for each such name the means of its inputs over the training rows.
    frequencies, phases: (waves,) of the periodic encoding.
    marks_missing: whether training rows have missing cells.
    """

    median: float
    factor: float
    quantiles: np.ndarray
    normal: np.ndarray
    edges: dict[str, np.ndarray]
    centers: dict[str, np.ndarray]
    frequencies: np.ndarray
    phases: np.ndarray
    marks_missing: bool

    @classmethod
    def learn(cls, values: np.ndarray, bins: dict[str, int], waves: int, draw: np.random.Generator) -> NumberColumn:
        """Return the column that training rows have; they must have a value.

        values: (n,) float64, NaN for missing cells. bins: by name of an encoding, how many bins at most. waves: of the
        periodic encoding.
        """
        missing = np.isnan(values)
        known = np.clip(values[~missing], -_LARGEST, _LARGEST)
        if known.min() == known.max():
            value, none = known[:1], np.zeros(0)
            edges, centers = dict.fromkeys(bins, value), dict.fromkeys(bins, none)
            return cls(float(value[0]), 1.0, value, np.zeros(1), edges, centers, none, none, bool(missing.any()))
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
        spread = high - low
        factor = 1.0 / max(spread if spread > 0.0 else (known.max() - known.min()) / 2.0, 1.0 / _LARGEST)
        # A value that many rows have stands in the middle of its probabilities.
        grid = np.quantile(known, np.linspace(0.0, 1.0, min(_QUANTILES, len(known))))
        quantiles, first, count = np.unique(grid, return_index=True, return_counts=True)
        probability = (first + (count - 1) / 2.0) / max(len(grid) - 1, 1)
        normal = DISTRIBUTIONS["normal"](np.clip(probability, _TAIL, 1.0 - _TAIL))
        frequencies = draw.normal(size=waves) * np.exp(draw.uniform(np.log(0.1), 0.0, size=waves))
        column = cls(
            float(median), float(factor), quantiles, normal, {name: _edges(known, most) for name, most in bins.items()},
            {}, frequencies, draw.uniform(0.0, 2.0 * np.pi, size=waves), bool(missing.any()),
        )  # fmt: skip
        for name in bins:
            column.centers[name] = column._pieces(known, name).mean(axis=0)
        return column

    @property
    def is_constant(self) -> bool:
        """Whether training rows have one value."""
        return len(self.quantiles) == 1

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Return values over the interquartile range around the median, bent so that outliers stay near, (n,)."""
        with np.errstate(over="ignore"):
            z = np.clip((values - self.median) * self.factor, -FARTHEST, FARTHEST)
            return _known(z / np.sqrt(1.0 + np.square(z / BEND)), z)

    def quantile_normal(self, values: np.ndarray) -> np.ndarray:
        """Return values as quantiles of the standard normal distribution, (n,)."""
        return _known(np.interp(values, self.quantiles, self.normal), values)

    def bins_and_shares(self, values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the piecewise-linear encoding as `data.encoded` stores it, (n,) both: bins, and shares below values.

        Source: Gorishniy et al., On embeddings for numerical features in tabular deep learning, NeurIPS 2022.
        """
        edges = self.edges[name]
        n_bins = len(edges) - 1
        index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
        with np.errstate(over="ignore"):
            share = np.clip((values - edges[index]) / np.diff(edges)[index], 0.0, 1.0)
        missing = np.isnan(values)
        return np.where(missing, n_bins + MISSING_AT, index), np.where(missing, 0.0, share)

    def periodic(self, values: np.ndarray) -> np.ndarray:
        """Return cosines of random frequencies and phases of the scaled values, (n, waves)."""
        z = self.scaled(values)[:, None]
        return _known(np.cos(2.0 * np.pi * z * self.frequencies + self.phases), values[:, None])

    def _pieces(self, values: np.ndarray, name: str) -> np.ndarray:
        edges = self.edges[name]
        with np.errstate(over="ignore"):
            return np.clip((values[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)

    def to_plain(self) -> dict[str, Any]:
        """Return the column as values that JSON holds."""
        listed = {name: array.tolist() for name, array in self._arrays().items()}
        by_name = {name: {key: each.tolist() for key, each in getattr(self, name).items()} for name in _BY_NAME}
        return listed | by_name | {
            "median": self.median, "factor": self.factor, "marks_missing": self.marks_missing,
        }  # fmt: skip

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_plain(cls, plain: Any) -> NumberColumn:
        """Return the column of `to_plain`. Raises ValueError, TypeError or KeyError for anything else."""
        arrays = {name: _array(plain[name]) for name in _ARRAYS}
        by_name = {name: {str(key): _array(each) for key, each in plain[name].items()} for name in _BY_NAME}
        pairs = (("quantiles", "normal"), ("frequencies", "phases"))
        if any(len(arrays[a]) != len(arrays[b]) for a, b in pairs) or not len(arrays["quantiles"]):
            raise ValueError("arrays of one length")
        edges, centers = by_name["edges"], by_name["centers"]
        if edges.keys() != centers.keys() or any(len(edges[k]) != len(centers[k]) + 1 for k in edges):
            raise ValueError("a center for each bin")
        growing = [arrays["quantiles"], *edges.values()]
        if any((np.diff(each) <= 0.0).any() for each in growing):
            raise ValueError("numbers that grow")
        scale = _array([plain["median"], plain["factor"]])
        if type(plain["marks_missing"]) is not bool:
            raise ValueError("true or false")
        return cls(
            float(scale[0]), float(scale[1]), arrays["quantiles"], arrays["normal"], edges, centers,
            arrays["frequencies"], arrays["phases"], plain["marks_missing"],
        )  # fmt: skip


_ARRAYS, _BY_NAME = ("quantiles", "normal", "frequencies", "phases"), ("edges", "centers")


def _known(encoded: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return what is encoded, 0 where the value is missing."""
    return np.where(np.isnan(values), 0.0, encoded)


def _edges(known: np.ndarray, most: int) -> np.ndarray:
    """Return the edges of at most `most` bins: between all values where these are few, else at quantiles."""
    values = np.unique(known)
    if len(values) <= most:
        inner = values[:-1] + np.diff(values) / 2.0
    else:
        inner = np.unique(np.quantile(known, np.linspace(0.0, 1.0, most + 1)))[1:-1]
    return np.unique(np.concatenate([values[:1], inner, values[-1:]]))


def _array(plain: Sequence[float]) -> np.ndarray:
    """Return plain numbers as a float64 array; refused unless all are finite."""
    if not isinstance(plain, list) or not all(type(each) in (int, float) for each in plain):
        raise ValueError("a list of numbers")
    array = np.array(plain, np.float64)
    if not np.isfinite(array).all():
        raise ValueError("finite numbers")
    return array
