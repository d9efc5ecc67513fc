"""Parquet files as columns: numbers, dates and texts. A column of texts that are all numbers is one of numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from pmlp_np.app.reading.column_builders import Column
from pmlp_np.app.reading.conventions import Conventions, decided, with_missing
from pmlp_np.app.reading.csv_layout import check_names
from pmlp_np.app.reading.csv_table import MOST_LABELS, FileColumns, InParts
from pmlp_np.app.reading.reading_options import USUAL_MISSING, MissingWords, Reading
from pmlp_np.base.errors import DataError, compose


def read_parquet(
    path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None,
) -> FileColumns:  # fmt: skip
    """Read a Parquet file; arguments as of `read_csv`.

    Parquet has missing cells, so texts such as "NA" are texts, except words of --missing.
    """
    file = _File(path, name, reading, missing, as_text, spelled, learned)
    with file.readable():
        table = file.parquet.read_table(path)
    texts = file.look(table, {}, 0)
    notes: list[str] = []
    conventions, marks = file.decide(texts, notes)
    for key, each in texts.items():
        if not each.fits(marks.get(key)):
            texts[key] = file.looked_again(table, key, each, marks[key])
    return file.columns(table, texts, conventions, notes)


def read_parquet_in_parts(
    path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None, most_cells: int,
) -> InParts:  # fmt: skip
    """Read a Parquet file in parts of so many cells, as `read_csv_in_parts`."""
    file = _File(path, name, reading, missing, as_text, spelled, learned)
    most_rows = max(1, most_cells // max(1, len(file.names)))
    texts: dict[str, Column] = {}
    rows = 0
    for table in file.batches(most_rows):
        texts = file.look(table, texts, rows)
        for column in texts.values():
            column.forget()
        rows += len(table)
    notes: list[str] = []
    conventions, marks = file.decide(texts, notes)
    taken = {key: dict(each.taken) for key, each in texts.items() if each.taken}

    def parts() -> Iterator[FileColumns]:
        for table in file.batches(most_rows):
            again = {key: file.looked_again(table, key, each, marks.get(key)) for key, each in texts.items()}
            yield file.columns(table, again, conventions, [])

    return InParts(rows, notes, taken, parts)


class _File:
    """A Parquet file, and how its cells are to be read. Arguments as of `read_parquet`."""

    def __init__(
        self, path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
        spelled: Collection[str], learned: Conventions | None,
    ) -> None:  # fmt: skip
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            hint = "Install it: pip install 'pmlp_np[app]'."
            raise DataError(compose(name, "pyarrow, to read Parquet", "none installed", hint)) from error
        self.arrow, self.parquet, self.path, self.name = arrow, parquet, path, name
        self.reading, self.as_text, self.spelled, self.learned = reading, as_text, spelled, learned
        with self.readable():
            self.names = [str(column) for column in parquet.read_schema(path).names]
            check_names(self.names, name)
        self.words = (learned.missing if learned else MissingWords()).and_of(missing, reading.not_missing, self.names)

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Run a block that reads the file. Raises DataError for a file that is damaged."""
        try:
            yield
        except (self.arrow.ArrowInvalid, self.arrow.ArrowNotImplementedError, OSError) as error:
            got = " ".join(str(error).split())
            raise DataError(compose(self.name, "a whole Parquet file", got, "Write it again.")) from error

    def batches(self, most_rows: int) -> Iterator[Any]:
        """Yield tables of so many rows."""
        with contextlib.ExitStack() as stack:
            with self.readable():
                file = stack.enter_context(self.parquet.ParquetFile(self.path))
                batches = file.iter_batches(batch_size=most_rows)
            while True:
                with self.readable():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield self.arrow.Table.from_batches([batch])

    def missing_words(self, column: str) -> frozenset[str]:
        return self.words.of(column) - (set(USUAL_MISSING) - self.words.said_of(column))

    def look(self, table: Any, texts: dict[str, Column], before: int) -> dict[str, Column]:
        """Return the columns of texts with the cells of a table added. before: rows before it."""
        for i, name in enumerate(self.names):
            cells = _simple(table.column(i), f"{self.name}, column {name!r}")
            if not self._is_text(cells):
                continue
            if name not in texts:
                style = self.learned.style(name) if self.learned else None
                texts[name] = Column(
                    name, self.missing_words(name), name in self.as_text, name in self.spelled,
                    style.decimal if style else None, style.affix if style else None,
                    MOST_LABELS if self.learned is None else None,
                )  # fmt: skip
            # large_string, because a chunk of the type string holds less than 2 GB.
            rows = np.arange(before + 1, before + len(cells) + 1)
            texts[name].add(cells.cast(self.arrow.large_string()).combine_chunks(), rows)
        return texts

    def looked_again(self, table: Any, name: str, seen: Column, mark: str | None) -> Column:
        """Return the column of texts of a table, now that its decimal mark is known (None: texts)."""
        most = seen.spelled.most if seen.spelled else None
        texts = seen.as_text or mark is None
        column = Column(name, seen.words, texts, name in self.spelled, mark, seen.evidence.affix, most)
        cells = _simple(table.column(name), f"{self.name}, column {name!r}")
        column.add(cells.cast(self.arrow.large_string()).combine_chunks(), np.arange(1, len(cells) + 1))
        return column

    def decide(self, texts: dict[str, Column], notes: list[str]) -> tuple[Conventions, dict[str, str | None]]:
        seen = {key: each.evidence for key, each in texts.items() if not each.as_text}
        return decided(seen, self.reading, None, self.learned, self.name, "row", notes)

    def columns(
        self, table: Any, texts: dict[str, Column], conventions: Conventions, notes: list[str]
    ) -> FileColumns:  # fmt: skip
        """Return the columns of a table. texts: those of texts."""
        ordered = []
        for i, name in enumerate(self.names):
            if name in texts:
                ordered.append((name, texts[name].cells()))
            else:
                cells = _simple(table.column(i), f"{self.name}, column {name!r}")
                ordered.append((name, _with_missing(cells.to_pandas(), self.missing_words(name))))
        spellings = {key: c.spelled.series() for key, c in texts.items() if c.spelled is not None and c.spelled.kept}
        taken = {key: dict(each.taken) for key, each in texts.items() if each.taken}
        return FileColumns(ordered, None, 0, with_missing(conventions, self.words, None), notes, spellings, taken)

    def _is_text(self, cells: Any) -> bool:
        types = self.arrow.types
        return bool(types.is_string(cells.type) or types.is_large_string(cells.type))


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
