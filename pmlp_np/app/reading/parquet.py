"""Parquet files as columns: numbers, dates and texts. A column of texts that are all numbers is one of numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.reading.column_builders import Column
from pmlp_np.app.reading.conventions import Conventions, decided, with_missing
from pmlp_np.app.reading.csv_layout import check_names
from pmlp_np.app.reading.csv_table import MOST_LABELS, FileColumns
from pmlp_np.app.reading.reading_options import USUAL_MISSING, MissingWords, Reading
from pmlp_np.base.errors import DataError, compose


def read_parquet(
    path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None,
) -> FileColumns:  # fmt: skip
    """Read a Parquet file; arguments as of `read_csv`.

    Parquet has missing cells, so texts such as "NA" are texts, except words of --missing.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        hint = "Install it: pip install 'pmlp_np[app]'."
        raise DataError(compose(name, "pyarrow, to read Parquet", "none installed", hint)) from error
    try:
        check_names([str(column) for column in parquet.read_schema(path).names], name)
        table = parquet.read_table(path)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError) as error:
        got = " ".join(str(error).split())
        raise DataError(compose(name, "a whole Parquet file", got, "Write it again.")) from error
    names = [str(column) for column in table.column_names]
    words = (learned.missing if learned else MissingWords()).and_of(missing, reading.not_missing, names)
    columns: dict[str, Any] = {}
    texts: dict[str, Column] = {}
    for i, column in enumerate(names):
        cells = _simple(table.column(i), f"{name}, column {column!r}")
        missing_words = words.of(column) - (set(USUAL_MISSING) - words.said_of(column))
        if arrow.types.is_string(cells.type) or arrow.types.is_large_string(cells.type):
            style = learned.style(column) if learned else None
            texts[column] = Column(
                column, missing_words, column in as_text, column in spelled, style.decimal if style else None,
                style.affix if style else None, MOST_LABELS if learned is None else None,
            )  # fmt: skip
            # large_string, because a chunk of the type string holds less than 2 GB.
            texts[column].add(cells.cast(arrow.large_string()).combine_chunks(), np.arange(1, len(cells) + 1))
        else:
            columns[column] = _with_missing(cells.to_pandas(), missing_words)
    notes: list[str] = []
    seen = {key: each.evidence for key, each in texts.items() if not each.as_text}
    conventions, marks = decided(seen, reading, None, learned, name, "row", notes)
    for key, each in list(texts.items()):
        if not each.fits(marks.get(key)):
            mark, most = marks[key], each.spelled.most if each.spelled else None
            rebuilt = Column(key, each.words, mark is None, key in spelled, mark, each.evidence.affix, most)
            rebuilt.add(table.column(key).cast(arrow.large_string()).combine_chunks(), np.arange(1, len(table) + 1))
            texts[key] = rebuilt
    ordered = [(key, texts[key].cells() if key in texts else columns[key]) for key in names]
    spellings = {key: c.spelled.series() for key, c in texts.items() if c.spelled is not None and c.spelled.kept}
    taken = {key: dict(each.taken) for key, each in texts.items() if each.taken}
    return FileColumns(ordered, None, 0, with_missing(conventions, words, None), notes, spellings, taken)


def _simple(cells: Any, name: str) -> Any:
    """Return a column as a type that pandas holds without loss. Raises DataError for other types."""
    import pyarrow as arrow

    kinds, kind = arrow.types, cells.type
    if kinds.is_dictionary(kind):
        kind = kind.value_type
        cells = cells.cast(kind)
    if kinds.is_string_view(kind):
        return cells.cast(arrow.large_string())
    if kinds.is_decimal(kind):
        return cells.cast(arrow.float64())
    if kinds.is_date(kind):
        return cells.cast(arrow.timestamp("ms"))
    if not (
        kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) or kinds.is_null(kind)
        or kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_timestamp(kind)
    ):  # fmt: skip
        hint = "Turn it into one of these, or leave it out of the file."
        raise DataError(compose(name, "numbers, dates, texts or booleans", str(kind), hint))
    return cells


def _with_missing(cells: Any, words: frozenset[str]) -> Any:
    """Return numbers, dates without a zone, or booleans as texts. Cells equal to one of the words are missing."""
    import pandas

    if isinstance(cells.dtype, pandas.DatetimeTZDtype):
        return cells.dt.tz_convert("UTC").dt.tz_localize(None)
    if cells.dtype.kind in "iuf":
        numbers = []
        for word in words:
            try:
                numbers.append(float(word))
            except ValueError:
                continue
        return cells.where(~cells.isin(numbers)) if numbers else cells
    if cells.dtype.kind == "M":
        return cells
    known = cells.notna()
    if not known.any():
        return cells.astype("float64")
    texts = cells.astype("object").where(~known, cells[known].map({True: "True", False: "False"}))
    texts = texts.where(known, np.nan)
    return texts.where(~texts.isin(list(words))) if words else texts
