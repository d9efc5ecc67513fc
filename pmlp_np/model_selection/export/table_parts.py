"""What all exports of table models are made of: the columns that members read, their encodings, and the members.

Only blocks that some member reads are kept, and only the columns that have inputs in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.preprocessing.category_column import CategoryColumn
from pmlp_np.data.preprocessing.feature_views import CYCLES, PLAIN, FeatureViews
from pmlp_np.data.preprocessing.number_column import NumberColumn
from pmlp_np.data.preprocessing.raw_table import CATEGORY, RawColumn
from pmlp_np.model_selection.targets import CLASSIFICATION, Targets
from pmlp_np.models.network import Networks

_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class TextTable:
    """An encoding of categories.

    rows: (texts + 2, inputs) float64; row k is that of texts[k], the last but one that of a missing cell, the last that
    of any other text.
    """

    texts: tuple[str, ...]
    rows: np.ndarray


@dataclass(frozen=True)
class ExportedColumn:
    """A column of the raw table.

    position: in the table. kind: NUMBER, DATE or CATEGORY. learned: of numbers and dates (days), else None. cycles:
    lengths, in days, of those of dates. known: of categories, all texts of the training rows. texts: of categories, an
    encoding for each block that has one.
    """

    name: str
    position: int
    kind: str
    learned: NumberColumn | None
    cycles: tuple[float, ...]
    known: tuple[str, ...]
    texts: dict[str, TextTable]

    def numbers(self) -> NumberColumn:
        """Return what was learned of a column of numbers or dates."""
        assert self.learned is not None
        return self.learned


@dataclass(frozen=True)
class Inputs:
    """Inputs `start` to `start + width` of the networks: a block's encoding of a column."""

    column: ExportedColumn
    block: str
    start: int
    width: int


@dataclass(frozen=True)
class TableParts:
    """A table model, as exports take it.

    networks: the members, of the inputs in `inputs` alone. columns: of the raw table, those that are read. n_columns:
    of the table that the model was trained on. labels: of a classification, texts or whole numbers (booleans are 0 and
    1), else None.
    """

    networks: Networks
    inputs: tuple[Inputs, ...]
    columns: tuple[ExportedColumn, ...]
    n_columns: int
    targets: Targets
    temperature: float
    labels: list[str] | list[int] | None

    @property
    def width(self) -> int:
        """The number of inputs of the networks."""
        return sum(each.width for each in self.inputs)


def parts_of(model: Any) -> TableParts:
    """Return the parts of a `TableModel`. Raises DataError for columns with one name, and for labels beyond int64."""
    views: FeatureViews = model.views
    networks: Networks = model.networks()._networks()
    read = np.zeros(sum(map(views.width, model.blocks)), bool)
    for _, network in networks.members():
        read[slice(None) if network.features is None else network.features] = True
    kept, start = np.zeros(len(read), bool), 0
    blocks = []
    for name in model.blocks:
        end = start + views.width(name)
        if read[start:end].any():
            kept[start:end] = True
            blocks.append(name)
        start = end
    columns = {i: found for i in views.columns if (found := _column(views, i, blocks)) is not None}
    names = [column.name for column in columns.values()]
    for name in names:
        if names.count(name) > 1:
            got = f"{names.count(name)} called {name!r}"
            raise DataError(compose("columns of X", "names that differ as texts, for an export", got))
    n_parameters = sum(network.n_parameters() for network in networks.networks)
    description = (
        f"TableModel({len(networks.networks)} network{'s' * (len(networks.networks) > 1)}, {len(columns)} columns, "
        f"{int(kept.sum())} inputs, "
        f"{networks.loss}, {n_parameters:,} parameters, {networks.dtype})"
    )
    return TableParts(
        networks=replace(_reduced(networks, kept), description=description),
        inputs=tuple(_inputs(views, columns, blocks)),
        columns=tuple(columns.values()),
        n_columns=len(views.kinds),
        targets=model.targets,
        temperature=float(model.temperature),
        labels=_labels(model.targets),
    )


def _width(views: FeatureViews, i: int, block: str) -> int:
    return FeatureViews((views.kinds[i],), {0: views.columns[i]}).width(block)


def _column(views: FeatureViews, i: int, blocks: list[str]) -> ExportedColumn | None:
    """Return column i, or None if it has no inputs in these blocks."""
    own = [block for block in blocks if _width(views, i, block)]
    if not own:
        return None
    column, kind = views.columns[i], views.kinds[i]
    if kind != CATEGORY:
        cycles = tuple(CYCLES[name] for name in getattr(column, "cycles", ()))
        assert isinstance(column.learned, NumberColumn)
        return ExportedColumn(column.name, i, kind, column.learned, cycles, (), {})
    learned = column.learned
    assert isinstance(learned, CategoryColumn)
    alone = FeatureViews((kind,), {0: column})
    other = "other"
    while other in learned.known or other in learned.categories:
        other += "?"
    texts = {}
    for block in own:
        known = learned.categories if block == PLAIN else learned.known
        cells = np.array([*known, None, other], object)
        texts[block] = TextTable(known, alone.wide([RawColumn(column.name, kind, cells)], [block], np.float64).plain)
    return ExportedColumn(column.name, i, kind, None, (), learned.known, texts)


def _inputs(views: FeatureViews, columns: dict[int, ExportedColumn], blocks: list[str]) -> Iterator[Inputs]:
    start = 0
    for block in blocks:
        for i, column in columns.items():
            width = _width(views, i, block)
            if width:
                yield Inputs(column, block, start, width)
                start += width


def _reduced(networks: Networks, kept: np.ndarray) -> Networks:
    """Return networks of the inputs of a mask."""
    place, n = np.cumsum(kept) - 1, int(kept.sum())
    reduced = []
    for network in networks.networks:
        features = place if network.features is None else place[network.features]
        every = np.array_equal(features, np.arange(n))
        reduced.append(replace(network, features=None if every else features, n_features=n, names=None))
    return replace(networks, networks=tuple(reduced), names=None)


def _labels(targets: Targets) -> list[str] | list[int] | None:
    if targets.task != CLASSIFICATION:
        return None
    labels = targets.classes.tolist()
    if isinstance(labels[0], str):
        return [str(label) for label in labels]
    whole = [int(label) for label in labels]
    for label in whole:
        if not _INT64.min <= label <= _INT64.max:
            expected = "texts, or numbers within 64 bits, for an export"
            raise DataError(compose("labels of y", expected, show(label), "Train on texts: y.astype(str)."))
    return whole
