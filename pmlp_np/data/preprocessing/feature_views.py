"""Feature views: blocks of columns of one wide matrix, each an encoding of the whole table.

A member reads the blocks that its view names ("raw+ple"), and those that every member reads: categories, missing cells,
cycles of dates, and the target's means in categories. Views are learned from training rows alone, in float64; the last
cast is to the members' dtype.

    raw    numbers, scaled robustly          quant  numbers, by quantiles of the normal distribution
    ple    piecewise-linear encodings        ple8   the same with at most 8 bins
    per    periodic encodings                plain  categories, missing cells, cycles (read by all)
    target0, target1, ...                    means of the target by category, of each fold (read by its members)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.base.errors import DataError, FileFormatError, compose, require_memory, show
from pmlp_np.data.encoded import EncodedTable, Encoding
from pmlp_np.data.labels import names_of
from pmlp_np.data.preprocessing.category_column import CategoryColumn, ordered_target_means, target_means
from pmlp_np.data.preprocessing.number_column import NumberColumn
from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE, NUMBER, RawColumn

BLOCKS = ("raw", "quant", "ple", "ple8", "per")
# Blocks whose inputs are stored as encoded columns, behind all others: `data.encoded`.
ENCODED = ("ple", "ple8")
PLAIN = "plain"
# Lengths of the cycles of dates, in days, and how many of them the training rows must span.
CYCLES = {"day": 1.0, "week": 7.0, "year": 365.2425}
# The most inputs of an encoding, and bins of a column in the encoding of few. A column has 4 bins if that many fit, and
# 2 in any case.
_MOST_IN_ALL, _FEW_BINS, _FEWEST_BINS = 256, 8, 4


class Bins(NamedTuple):
    """How many inputs the encoding "ple" has at most: in all, and of a column."""

    in_all: int = _MOST_IN_ALL
    of_column: int = 48

    def for_columns(self, n: int) -> int:
        """Return the bins of each of n columns."""
        return max(2, min(_FEWEST_BINS, _MOST_IN_ALL // n), min(self.of_column, self.in_all // n))


_DEFAULT_BINS = Bins()
_LEAST_WAVES, _MOST_WAVES = 4, 16


@dataclass(frozen=True)
class _Numeric:
    """A column of numbers or dates: `name`, `kind`, what was learned, and the cycles of its dates."""

    name: str
    kind: str
    learned: NumberColumn
    cycles: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Categorical:
    """A column of categories.

    means: for each fold the target's means by code, (codes, targets), centered; None where inputs say it all. scale: of
    them.
    """

    name: str
    learned: CategoryColumn
    means: tuple[np.ndarray, ...] = ()
    scale: float = 1.0
    kind: str = CATEGORY


@dataclass(frozen=True)
class FeatureViews:
    """What was learned of a table's columns, and the wide matrix made of them.

    kinds: of all columns of X, in its order. columns: by position in X, those that are used. left_out: by name of
    another column, the reason.
    """

    kinds: tuple[str, ...]
    columns: dict[int, _Numeric | _Categorical]
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        table: Sequence[RawColumn],
        draw: np.random.Generator,
        most_bins: Bins = _DEFAULT_BINS,
        targets: np.ndarray | None = None,
        folds: Sequence[np.ndarray] = (),
    ) -> FeatureViews:
        """Return the views that training rows have.

        table: the columns of these rows. most_bins: of the encoding "ple". targets: (n, targets) numbers,
        whose means by category become inputs. folds: the rows that the members of each fold train on.

        Raises DataError if no column has two different values.
        """
        left_out: dict[str, str] = {}
        used: dict[int, RawColumn] = {}
        for i, column in enumerate(table):
            reason = useless(column)
            if reason:
                left_out[column.name] = reason
            else:
                used[i] = column
        if not used:
            raise DataError(compose("X", "a column with two different values", "none"))
        n_numeric = max(sum(column.kind != CATEGORY for column in used.values()), 1)
        bins = {
            "ple": most_bins.for_columns(n_numeric),
            "ple8": min(_FEW_BINS, max(2, _MOST_IN_ALL // n_numeric)),
        }
        waves = waves_of(n_numeric)
        columns: dict[int, _Numeric | _Categorical] = {}
        for i, column in used.items():
            if column.kind == CATEGORY:
                columns[i] = _learned_category(column, targets, folds)
            else:
                learned = NumberColumn.learn(column.cells, bins, waves, draw)
                cycles = _cycles(column.cells) if column.kind == DATE else ()
                columns[i] = _Numeric(column.name, column.kind, learned, cycles)
        return cls(tuple(column.kind for column in table), columns, left_out)

    def require_names(self, X: Any) -> None:
        """Raise DataError for a data frame whose columns have other names, or another order, than those of training."""
        names = names_of(X)
        if names is None or all(column.name == str(i) for i, column in self.columns.items()):
            return
        for i, column in self.columns.items():
            if str(names[i]) != column.name:
                hint = (
                    "Columns are taken by position: X[names] with the names in the order of training, or X.to_numpy()."
                )
                raise DataError(compose(f"column {i} of X", f"{column.name!r}, as in training", show(names[i]), hint))

    # Which inputs there are.

    @property
    def n_folds(self) -> int:
        """Return for how many folds there are means of the target; 0 where no column has them."""
        return max((len(c.means) for c in self.columns.values() if isinstance(c, _Categorical)), default=0)

    def names(self) -> tuple[str, ...]:
        """Return the names of all blocks that have inputs, in the order of the wide matrix."""
        targets = [f"target{fold}" for fold in range(self.n_folds)]
        has_numbers = any(isinstance(column, _Numeric) for column in self.columns.values())
        numbers = [*(name for name in BLOCKS if name not in ENCODED), PLAIN, *targets, *ENCODED]
        return tuple(name for name in numbers if (has_numbers or name not in BLOCKS) and self.width(name))

    def width(self, name: str) -> int:
        """Return the number of inputs of a block."""
        return sum(self._width_of(column, name) for column in self.columns.values())

    @staticmethod
    def _width_of(column: _Numeric | _Categorical, name: str) -> int:
        learned = column.learned
        if name == PLAIN:
            if isinstance(learned, CategoryColumn):
                return len(learned.categories) + learned.marks_missing
            assert isinstance(column, _Numeric)
            return learned.marks_missing + 2 * len(column.cycles)
        if isinstance(column, _Categorical):
            return column.means[0].shape[1] if name.startswith("target") and column.means else 0
        if name.startswith("target"):
            return 0
        assert isinstance(learned, NumberColumn)
        if learned.is_constant:
            return 0
        return {"raw": 1, "quant": 1, "per": len(learned.frequencies)}.get(name) or len(learned.centers[name])

    def read_by(self, view: str, fold: int, blocks: Sequence[str]) -> np.ndarray:
        """Return the columns of the wide matrix of these blocks that a member reads, int64.

        view: names of blocks, joined by +; blocks that have no inputs are skipped. fold: the member's.
        """
        wanted = {*view.split("+"), PLAIN, f"target{fold}"}
        start, found = 0, [np.zeros(0, np.int64)]
        for name in blocks:
            width = self.width(name)
            if name in wanted:
                found.append(np.arange(start, start + width))
            start += width
        return np.concatenate(found)

    # The wide matrix.

    def wide(self, table: Sequence[RawColumn], blocks: Sequence[str], dtype: Any = np.float32) -> EncodedTable:
        """Return these blocks of the rows of a table, side by side: (n, inputs) of the dtype.

        blocks: encoded ones come last.
        """
        n = len(table[0].cells)
        plain = [name for name in blocks if name not in ENCODED]
        if list(blocks[: len(plain)]) != plain:
            raise ValueError(f"encoded blocks come last, unlike in {blocks}")
        n_plain = sum(map(self.width, plain))
        encoded = [
            (i, column.learned, name) for name in blocks[len(plain) :] for i, column in self.columns.items()
            if self._width_of(column, name)
        ]  # fmt: skip
        width = n_plain + 2 * len(encoded)
        require_memory("X", n * width * np.dtype(dtype).itemsize, "Take fewer rows at a time.")
        out, at = np.empty((n, width), dtype), 0
        for name in plain:
            for i, column in self.columns.items():
                size = self._width_of(column, name)
                if size:
                    out[:, at : at + size] = _encoded(column, table[i], name)
                    at += size
        centers = []
        for i, learned, name in encoded:
            assert isinstance(learned, NumberColumn)
            out[:, at], out[:, at + 1] = learned.bins_and_shares(table[i].cells, name)
            centers.append(learned.centers[name])
            at += 2
        return EncodedTable(out, Encoding(n_plain, tuple(centers)))

    def own_means(
        self, table: Sequence[RawColumn], targets: np.ndarray, rows: np.ndarray, order: np.ndarray
    ) -> np.ndarray:
        """Return the block of the target's means for rows that members train on, without their own targets.

        rows: row numbers of the table; order: a permutation of them, by which a row sees those before it. Returns
        (len(rows), inputs of a target block), float64.
        """
        found = [np.zeros((len(rows), 0))]
        for i, column in self.columns.items():
            if isinstance(column, _Categorical) and column.means:
                codes = column.learned.codes(table[i])[rows]
                means = ordered_target_means(codes, targets[rows], order)
                found.append((means - targets[rows].mean(axis=0)) / column.scale)
        return np.concatenate(found, axis=1)

    # Files.

    def to_plain(self) -> dict[str, Any]:
        """Return the views as values that JSON holds."""
        columns = []
        for i, column in self.columns.items():
            plain: dict[str, Any] = {"position": i, "name": column.name, "learned": column.learned.to_plain()}
            if isinstance(column, _Numeric):
                plain["cycles"] = list(column.cycles)
            else:
                plain |= {"means": [each.tolist() for each in column.means], "scale": column.scale}
            columns.append(plain)
        return {"kinds": list(self.kinds), "columns": columns, "left_out": dict(self.left_out)}

    @classmethod
    def from_plain(cls, plain: Any) -> FeatureViews:
        """Return the views of `to_plain`. Raises FileFormatError for anything else."""
        try:
            kinds = tuple(plain["kinds"])
            if not kinds or not set(kinds) <= {NUMBER, DATE, CATEGORY}:
                raise ValueError("known kinds of columns")
            columns: dict[int, _Numeric | _Categorical] = {}
            for each in plain["columns"]:
                i, name = each["position"], each["name"]
                if type(i) is not int or not 0 <= i < len(kinds) or i in columns or type(name) is not str:
                    raise ValueError("columns of the table")
                columns[i] = _categorical_of(each) if kinds[i] == CATEGORY else _numeric_of(each, kinds[i])
            left_out = {str(name): str(reason) for name, reason in plain["left_out"].items()}
            if not columns or len({len(c.means) for c in columns.values() if isinstance(c, _Categorical)} - {0}) > 1:
                raise ValueError("columns with as many folds")
            return cls(kinds, columns, left_out)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            expected = "what feature views are made of"
            raise FileFormatError(compose("views", expected, f"{type(error).__name__}: {error}")) from error


def waves_of(n_numeric: int) -> int:
    """Return the inputs of each of n columns of numbers in the block "per"."""
    return min(_MOST_WAVES, max(_LEAST_WAVES, _MOST_IN_ALL // max(n_numeric, 1)))


def useless(column: RawColumn) -> str:
    """Return why a column says nothing; "" if it does."""
    if column.kind == CATEGORY:
        codes, texts = column.coded
        if len(texts) + bool((codes < 0).any()) < 2:
            return "one value" if texts else "no value"
        return "a different text in every row" if len(texts) == len(column.cells) else ""
    missing = np.isnan(column.cells)
    if missing.all():
        return "no value"
    known = column.cells[~missing]
    # Of one value it says something where it is missing.
    return "one value" if known.min() == known.max() and not missing.any() else ""


def _cycles(days: np.ndarray) -> tuple[str, ...]:
    """Return the cycles that dates span."""
    known = days[~np.isnan(days)]
    has_times = bool((known % 1.0 != 0.0).any())
    span = float(np.ptp(known))
    return tuple(name for name, length in CYCLES.items() if span >= length and (name != "day" or has_times))


def _learned_category(column: RawColumn, targets: np.ndarray | None, folds: Sequence[np.ndarray]) -> _Categorical:
    learned = CategoryColumn.learn(column.cells)
    if targets is None or not learned.is_wide:
        return _Categorical(column.name, learned)
    codes, n_codes = learned.codes(column), len(learned.known) + 2
    means = []
    for rows in folds:
        found = target_means(codes[rows], targets[rows], n_codes)
        means.append(found - targets[rows].mean(axis=0))
    spread = float(np.concatenate([each[codes] for each in means]).std())
    return _Categorical(column.name, learned, tuple(m / (spread or 1.0) for m in means), spread or 1.0)


def _encoded(column: _Numeric | _Categorical, raw: RawColumn, name: str) -> np.ndarray:
    """Return a block's inputs of a column, (n, inputs) float64."""
    learned, cells = column.learned, raw.cells
    if isinstance(column, _Categorical):
        assert isinstance(learned, CategoryColumn)
        if name != PLAIN:
            return np.asarray(column.means[int(name.removeprefix("target"))][learned.codes(raw)])
        parts = [learned.one_hot(raw)] if learned.categories else []
        missing = (raw.coded[0] < 0).astype(np.float64)[:, None]
        return np.concatenate([*parts, missing] if learned.marks_missing else parts, axis=1)
    assert isinstance(learned, NumberColumn)
    if name == PLAIN:
        return _marks(column, cells)
    if name == "raw":
        return learned.scaled(cells)[:, None]
    if name == "quant":
        return learned.quantile_normal(cells)[:, None]
    return learned.periodic(cells)


def _marks(column: _Numeric, cells: np.ndarray) -> np.ndarray:
    """Return whether cells are missing, and sines and cosines of cycles, which are 0 then."""
    missing = np.isnan(cells)
    parts = [missing.astype(np.float64)] if column.learned.marks_missing else []
    for cycle in column.cycles:
        angle = 2.0 * np.pi * cells / CYCLES[cycle]
        parts += [np.where(missing, 0.0, wave) for wave in (np.sin(angle), np.cos(angle))]
    return np.stack(parts, axis=1)


def _numeric_of(plain: Any, kind: str) -> _Numeric:
    cycles = tuple(plain["cycles"])
    if not set(cycles) <= CYCLES.keys() or (cycles and kind != DATE):
        raise ValueError("known cycles of dates")
    learned = NumberColumn.from_plain(plain["learned"])
    if not {"ple", "ple8"} <= learned.edges.keys():
        raise ValueError("edges of each encoding")
    return _Numeric(plain["name"], kind, learned, cycles)


def _categorical_of(plain: Any) -> _Categorical:
    learned = CategoryColumn.from_plain(plain["learned"])
    means = tuple(np.array(each, np.float64) for each in plain["means"])
    scale = plain["scale"]
    shapes = {each.shape for each in means}
    if len(shapes) > 1 or any(len(shape) != 2 or shape[0] != len(learned.known) + 2 for shape in shapes):
        raise ValueError(f"means of each category, not {show(shapes)}")
    if type(scale) is not float or not scale > 0.0 or not all(np.isfinite(each).all() for each in means):
        raise ValueError("finite numbers")
    return _Categorical(plain["name"], learned, means, scale)
