"""The problem of a search: a table's feature views, targets and folds, in the form that pools are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.encoded import EncodedTable
from pmlp_np.data.preprocessing.feature_views import Bins, FeatureViews
from pmlp_np.data.preprocessing.raw_table import RawColumn, part
from pmlp_np.data.weights import as_weights
from pmlp_np.model_selection.folds import Folds, make_folds
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION, Targets, as_targets

# What an encoded column takes, and each of its bins, of what a plain input takes, at 64 rows a step: every row gathers
# for a column, and bins are work once a step. Fitted to benchmarks/results/encoded_columns.json (8 to 48 bins):
# (encoded - plain) / (inputs - plain) of the inputs.
_COLUMN_COST, _BIN_COST = 2.4, 0.32
# Of the piecewise-linear encoding: classes need fewer, which are faster.
_BINS_OF_CLASSES, _BINS_OF_VALUES = Bins(256, 32), Bins(480, 48)


@dataclass(frozen=True)
class Problem:
    """What a search works on.

    views, blocks: the feature views, and the names of the blocks of the wide matrix. wide: (n, inputs) float32, with
    encoded columns. table: the columns that it was made of. targets: the task's. prepared: what members are trained on
    (see Targets.learn). folds: of the rows. weights: (n,) float64 of the rows, of mean 1, or None.
    """

    views: FeatureViews
    blocks: tuple[str, ...]
    wide: EncodedTable
    table: Sequence[RawColumn]
    targets: Targets
    prepared: np.ndarray
    folds: Folds
    weights: np.ndarray | None

    @classmethod
    def of(
        cls,
        table: Sequence[RawColumn],
        y: Any,
        task: str | None,
        cv: Any,
        groups: Any,
        sample_weight: Any,
        seed: int,
        classes: Any = None,
    ) -> Problem:
        """Return the problem of a table; other arguments as for `search`. Raises DataError.

        Rows of weight 0 are left out. classes: of a classification, where y may lack some. Default None: those in y.
        """
        draw = np.random.default_rng(seed)
        n = len(table[0].cells)
        if n < 2:
            raise DataError(compose("X", "at least 2 rows", "1 sample (n_samples=1)"))
        y = as_targets(y)
        if len(y) != n:
            got = f"{len(y)} (Found input variables with inconsistent numbers of samples)"
            raise DataError(compose("y", f"{n} rows, as X", got))
        weights = None if sample_weight is None else row_weights(sample_weight, n)
        if weights is not None and not weights.all():
            counted = weights > 0.0
            if cv is not None and not checks.is_whole(cv):
                folds = make_folds(cv, n, draw, None, groups, y).only(counted)
                pairs = zip(folds.training, folds.validation, strict=True)
                cv = [pair for pair in pairs if len(pair[0]) and len(pair[1])]
            table, y, weights, n = part(table, counted), y[counted], weights[counted], int(counted.sum())
            weights = weights / weights.mean()
            groups = None if groups is None else np.asarray(groups)[counted]
        targets, prepared = Targets.learn(y, task, classes)
        strata = prepared if targets.task == CLASSIFICATION else None
        folds = make_folds(cv, n, draw, strata, groups, y)
        columns = targets.columns(prepared)
        has_columns = columns.shape[1] > 0
        bins = _BINS_OF_VALUES if targets.task == REGRESSION else _BINS_OF_CLASSES
        views = FeatureViews.learn(table, draw, bins, columns if has_columns else None, folds.training)
        blocks = views.names()
        wide = views.wide(table, blocks)
        start = 0
        for name in blocks:
            width = views.width(name)
            if name.startswith("target"):
                rows = folds.training[int(name.removeprefix("target"))]
                own = views.own_means(table, columns, rows, draw.permutation(len(rows)))
                wide.plain[rows, start : start + width] = own
            start += width
        return cls(views, blocks, wide, table, targets, prepared, folds, weights)

    @property
    def n_outputs(self) -> int:
        return self.targets.n_outputs(self.prepared)

    @property
    def validated(self) -> tuple[np.ndarray, np.ndarray | None]:
        """What members are to predict of the validated rows, and the weights of these rows or None."""
        rows = self.folds.validated
        return self.prepared[rows], None if self.weights is None else self.weights[rows]

    def sample(self, most: int) -> Problem:
        """Return the problem of so many rows, evenly spaced; this one if it has hardly more, or a fold few rows."""
        n = len(self.wide)
        kept = np.zeros(n, bool)
        kept[np.linspace(0, n - 1, most).astype(np.int64)] = True
        folds = self.folds.only(kept)
        if n < 2 * most or not all(map(len, folds.training)):
            return self
        weights = None if self.weights is None else self.weights[kept]
        return replace(self, wide=self.wide[kept], prepared=self.prepared[kept], folds=folds, weights=weights)

    def cost_of_inputs(self, view: str) -> float:
        """Return how many plain inputs take as long as those of a member's view."""
        chosen = self.wide.encoding.chosen(self.inputs_of(view, 0))
        assert chosen is not None
        encoding = chosen[1]
        return encoding.plain + _COLUMN_COST * len(encoding.centers) + _BIN_COST * float(encoding.bins.sum())

    def copied_bytes(self, views: Iterable[str]) -> int:
        """Return the bytes of the copies that training makes of the inputs of these views."""
        total = 0
        for view in views:
            # Without means of the target all folds read the same inputs.
            for fold in range(max(self.views.n_folds, 1)):
                chosen = self.wide.encoding.chosen(self.inputs_of(view, fold))
                assert chosen is not None
                total += len(self.wide) * chosen[1].n_numbers * self.wide.dtype.itemsize
        return total

    def inputs_of(self, view: str, fold: int) -> np.ndarray:
        """Return the columns of `wide` that a member of a fold reads."""
        return self.views.read_by(view, fold, self.blocks)


def row_weights(sample_weight: Any, n: int) -> np.ndarray:
    """Return weights of rows, (n,) float64 of mean 1. Raises DataError."""
    weights = as_weights(sample_weight, n, 1)
    assert weights is not None
    line = weights.lines[0]
    if not line.any():
        raise DataError(compose("sample_weight", "a weight above 0", "zeros alone"))
    return line / line.mean()
