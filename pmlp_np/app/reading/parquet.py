"""A Parquet file as columns: numbers, dates and texts as it holds them; texts that are all numbers are numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.reading.column_builders import Column
from pmlp_np.app.reading.conventions import Conventions, decided, with_missing
from pmlp_np.app.reading.csv_layout import check_names
from pmlp_np.app.reading.csv_table import MOST_LABELS, Found
from pmlp_np.app.reading.reading_options import USUAL_MISSING, MissingWords, Reading
from pmlp_np.base.errors import DataError, compose


def read_parquet(
    path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None,
) -> Found:  # fmt: skip
    """Read a Parquet file, as `read_csv` a CSV file. Texts such as "NA" are texts there, unless they are said to stand
    for missing cells: Parquet has cells that are missing."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        hint = "Install it: pip install 'pmlp_np[app]'."
        raise DataError(compose(name, "pyarrow, to read Parquet", "none installed", hint)) from error
    try:
        check_names([str(column) for column in parquet.read_schema(path).names], name)
        found = parquet.read_table(path)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError) as error:
        got = " ".join(str(error).split())
        raise DataError(compose(name, "a whole Parquet file", got, "Write it again.")) from error
    names = [str(column) for column in found.column_names]
    words = (learned.missing if learned else MissingWords()).and_of(missing, reading.not_missing, names)
    columns: dict[str, Any] = {}
    texts: dict[str, Column] = {}
    for place, column in enumerate(names):
        cells = _simple(found.column(place), f"{name}, column {column!r}")
        said = words.of(column) - (set(USUAL_MISSING) - words.said_of(column))
        if arrow.types.is_string(cells.type) or arrow.types.is_large_string(cells.type):
            style = learned.style(column) if learned else None
            texts[column] = Column(
                column, said, column in as_text, column in spelled, style.decimal if style else None,
                style.affix if style else None, MOST_LABELS if learned is None else None,
            )  # fmt: skip
            # A chunk of Arrow's own holds less than 2 GB of text.
            texts[column].add(cells.cast(arrow.large_string()).combine_chunks(), np.arange(1, len(cells) + 1))
        else:
            columns[column] = _with_missing(cells.to_pandas(), said)
    notes: list[str] = []
    seen = {key: each.evidence for key, each in texts.items() if not each.as_text}
    conventions, marks = decided(seen, reading, None, learned, name, "row", notes)
    for key, each in list(texts.items()):
        if not each.fits(marks.get(key)):
            mark, most = marks[key], each.spelled.most if each.spelled else None
            again = Column(key, each.words, mark is None, key in spelled, mark, each.evidence.affix, most)
            again.add(found.column(key).cast(arrow.large_string()).combine_chunks(), np.arange(1, len(found) + 1))
            texts[key] = again
    ordered = [(key, texts[key].cells() if key in texts else columns[key]) for key in names]
    kept = {key: c.spelled.series() for key, c in texts.items() if c.spelled is not None and c.spelled.kept}
    taken = {key: dict(each.taken) for key, each in texts.items() if each.taken}
    return Found(ordered, None, 0, with_missing(conventions, words, None), notes, kept, taken)


def _simple(cells: Any, name: str) -> Any:
    """A column as one of the kinds that pandas takes without a loss. DataError for others."""
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
    """Numbers, dates without a zone, or booleans as texts; missing where a number is one of the words."""
    import pandas

    if isinstance(cells.dtype, pandas.DatetimeTZDtype):
        return cells.dt.tz_convert("UTC").dt.tz_localize(None)
    if cells.dtype.kind in "iuf":
        gone = []
        for word in words:
            try:
                gone.append(float(word))
            except ValueError:
                continue
        return cells.where(~cells.isin(gone)) if gone else cells
    if cells.dtype.kind == "M":
        return cells
    known = cells.notna()
    if not known.any():
        return cells.astype("float64")
    texts = cells.astype("object").where(~known, cells[known].map({True: "True", False: "False"}))
    texts = texts.where(known, np.nan)
    return texts.where(~texts.isin(list(words))) if words else texts
