"""Parquet files as columns: numbers, dates and texts. A column of texts that are all numbers is one of numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.app.reading.column_builders import Column
from pmlp_np.app.reading.conventions import Conventions, decided, with_missing
from pmlp_np.app.reading.csv_layout import check_names
from pmlp_np.app.reading.csv_table import MOST_LABELS, FileColumns, InParts
from pmlp_np.app.reading.reading_options import USUAL_MISSING, MissingWords, Reading
from pmlp_np.app.reading.row_draw import RowDraw, RowLimit, require_room
from pmlp_np.base.errors import DataError, compose

# Cells that are read at a time where rows are drawn.
_BATCH_CELLS = 1 << 20


def read_parquet(
    path: str, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None, limit: RowLimit | None = None,
) -> FileColumns:  # fmt: skip
    """Read a Parquet file; arguments as of `read_csv`.

    Parquet has missing cells, so texts such as "NA" are texts, except words of --missing.
    """
    file = _File(path, name, reading, missing, as_text, spelled, learned)
    draw = None
    if limit is None:
        require_room(name, file.n_cells)
    else:
        draw = limit.of(name, len(file.names), file.n_cells)
    notes: list[str] = []
    if draw is None or limit is None:
        with file.readable():
            table = file.parquet.read_table(path)
        texts = file.look(table, {}, np.arange(1, len(table) + 1))
    else:
        table, texts = file.drawn(draw, limit)
    conventions, marks = file.decide(texts, notes)
    # What is said is said of all cells.
    taken = {key: dict(each.taken) for key, each in texts.items() if each.taken}
    for key, each in texts.items():
        if draw is not None or not each.fits(marks.get(key)):
            texts[key] = file.looked_again(table, key, each, marks.get(key))
    found = file.columns(table, texts, conventions, notes)
    return found if draw is None else replace(found, lines=draw.rows + 1, taken=taken, draw=draw)


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
        texts = file.look(table, texts, np.arange(rows + 1, rows + len(table) + 1))
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


def bytes_in_memory(path: str, name: str) -> int:
    """Return about how many bytes the cells of a Parquet file take, 8 each."""
    return 8 * _File(path, name, Reading(), (), (), (), None).n_cells


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
        with self.readable(), parquet.ParquetFile(path) as file:
            self.names = [str(column) for column in file.schema_arrow.names]
            self.n_rows = int(file.metadata.num_rows)
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

    @property
    def n_cells(self) -> int:
        return self.n_rows * len(self.names)

    def drawn(self, draw: RowDraw, limit: RowLimit) -> tuple[Any, dict[str, Column]]:
        """Return the rows that are drawn, a table, and the columns of texts: they have seen all cells and keep none."""
        tables: list[Any] = []
        texts: dict[str, Column] = {}
        for batch in self.batches(max(1, _BATCH_CELLS // max(1, len(self.names)))):
            texts = self.look(batch, texts, np.arange(draw.n_seen + 1, draw.n_seen + len(batch) + 1))
            for column in texts.values():
                column.forget()
            chosen = draw.offer(len(batch))
            # Of some types, Arrow cannot take rows.
            simple = [_simple(batch.column(i), self._called(name)) for i, name in enumerate(self.names)]
            tables.append(self.arrow.table(simple, self.names).take(self.arrow.array(chosen)))
            remain = draw.thinned()
            if remain is not None:
                tables = [self._filtered(tables, remain)]
            limit.report(draw.n_seen / max(self.n_rows, 1))
        remain = draw.thinned(last=True)
        return (self._filtered(tables, remain) if tables else self.parquet.read_table(self.path)), texts

    def _called(self, name: str) -> str:
        return f"{self.name}, column {name!r}"

    def _filtered(self, tables: list[Any], remain: np.ndarray | None) -> Any:
        whole = self.arrow.concat_tables(tables)
        return whole if remain is None else whole.filter(self.arrow.array(remain))

    def missing_words(self, column: str) -> frozenset[str]:
        return self.words.of(column) - (set(USUAL_MISSING) - self.words.said_of(column))

    def look(self, table: Any, texts: dict[str, Column], rows: np.ndarray) -> dict[str, Column]:
        """Return the columns of texts with the cells of a table added. rows: their numbers in the file, from 1."""
        for i, name in enumerate(self.names):
            cells = _simple(table.column(i), self._called(name))
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
            texts[name].add(self._checked(cells), rows)
        return texts

    def looked_again(self, table: Any, name: str, seen: Column, mark: str | None) -> Column:
        """Return the column of texts of a table, now that its decimal mark is known (None: texts)."""
        most = seen.spelled.most if seen.spelled else None
        texts = seen.as_text or mark is None
        column = Column(name, seen.words, texts, name in self.spelled, mark, seen.evidence.affix, most)
        cells = _simple(table.column(name), self._called(name))
        column.add(self._checked(cells), np.arange(1, len(cells) + 1))
        return column

    def _checked(self, cells: Any) -> Any:
        """Return texts as one array, after a look at their bytes. Raises DataError for those that are no UTF-8."""
        with self.readable():
            found = cells.cast(self.arrow.large_string()).combine_chunks()
            found.validate(full=True)
        return found

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
                cells = _simple(table.column(i), self._called(name))
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
