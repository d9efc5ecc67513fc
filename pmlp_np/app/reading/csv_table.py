"""CSV files as columns.

A file is read chunk by chunk by the conventions that its first cells suggest, and a second time if later cells
contradict them. Memory is that of the columns and of one chunk. A file that is read in parts is read twice: once to see
what all its cells say, without keeping any, and then part by part. Of a file with more rows than are to be read, those
that are drawn are kept as they are written, while all cells are seen in one pass over the file, and then read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pmlp_np.app.reading.column_builders import Column
from pmlp_np.app.reading.conventions import Conventions, decided
from pmlp_np.app.reading.csv_layout import Layout, check_names, layout_of
from pmlp_np.app.reading.lines import Source, encoding_of, head_of, lines_of
from pmlp_np.app.reading.reading_options import MissingWords, Reading
from pmlp_np.app.reading.records import like_a_number, records
from pmlp_np.app.reading.row_draw import RowDraw, RowLimit, kept, require_room
from pmlp_np.base.errors import DataError, compose, readable_bytes, show

_HEAD_BYTES = 1 << 17
_CHUNK_CELLS, _CHUNK_ROWS = 1 << 19, 1 << 15
# Cells for each byte of a packed file: more than of most files.
_CELLS_PER_PACKED_BYTE = 1
# A column of numbers with more distinct texts than this has no labels.
MOST_LABELS = 1000
# Largest number of lines below a table that are taken for notes.
_MOST_BELOW = 20
# First words of a last row with sums.
_SUMS = {"total", "totals", "grand total", "sum", "subtotal", "average", "mean", "gesamt", "summe", "mittelwert",
         "durchschnitt", "totale", "somme", "suma", "totaal"}  # fmt: skip


@dataclass
class FileColumns:
    """The columns of a file.

    columns: (name, pandas.Series) in order. A name may be "".
    lines: line number of each row; None if they are consecutive from first_line.
    spelled: texts of columns of numbers, if requested.
    taken: by column, words that were read as missing cells, with counts.
    draw: of these rows from the file's; None if all were read.
    """

    columns: list[tuple[str, Any]]
    lines: np.ndarray | None
    first_line: int
    conventions: Conventions
    notes: list[str]
    spelled: dict[str, Any] = field(default_factory=dict)
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    draw: RowDraw | None = None


@dataclass
class InParts:
    """A file that is read in parts.

    n_rows, notes, taken: of the whole file. parts: reads it from the beginning, each part with a FileColumns of its
    own.
    """

    n_rows: int
    notes: list[str]
    taken: dict[str, dict[str, int]]
    parts: Callable[[], Iterator[FileColumns]]


def read_csv(
    source: Source, reading: Reading, missing: tuple[str, ...], as_text: Collection[str], spelled: Collection[str],
    learned: Conventions | None, limit: RowLimit | None = None,
) -> FileColumns:  # fmt: skip
    """Read a CSV file.

    missing: words for missing cells, or COLUMN=WORD.
    as_text: columns whose cells are read as texts.
    spelled: columns whose texts are stored in addition to their numbers.
    learned: the conventions of the fit, for a table that is predicted.
    limit: how many rows are read. Default None: all.

    Raises DataError for files that are no tables, MemoryNeededError.
    """
    notes: list[str] = []
    encoding, layout, lines = _opened(source, reading, learned, notes)
    name, n_cells = f"{source.name} ({readable_bytes(source.size)})", _cells(source, lines, layout)
    draw = None
    if limit is None:
        require_room(name, n_cells)
    else:
        draw = limit.of(name, layout.n, n_cells)
    words = (learned.missing if learned else MissingWords()).and_of(missing, reading.not_missing, layout.names)
    looked = reader = _Pass(source, encoding, layout, words, as_text, spelled, learned, {}, keeps=draw is None)
    drawn = None if draw is None or limit is None else looked.drawn(draw, limit)
    if drawn is None:
        looked.run()
    conventions, marks = _decide(looked, reading, learned, notes)
    if drawn is not None or not all(column.fits(marks.get(key)) for key, column in looked.columns.items()):
        reader = _Pass(source, encoding, layout, words, as_text, spelled, learned, marks)
        reader.run(drawn)
    found = reader.result(replace(conventions, missing=words), notes)
    # What is said is said of all cells.
    return replace(found, notes=notes + looked.notes, taken=looked.taken(), draw=draw)


def read_csv_in_parts(
    source: Source, reading: Reading, missing: tuple[str, ...], as_text: Collection[str], spelled: Collection[str],
    learned: Conventions | None, most_cells: int,
) -> InParts:  # fmt: skip
    """Read a CSV file in parts of so many cells; the other arguments are those of `read_csv`.

    All errors that `read_csv` would raise are raised before the first part.
    """
    notes: list[str] = []
    encoding, layout, _ = _opened(source, reading, learned, notes)
    words = (learned.missing if learned else MissingWords()).and_of(missing, reading.not_missing, layout.names)
    looked = _Pass(source, encoding, layout, words, as_text, spelled, learned, {}, keeps=False)
    looked.run()
    conventions, marks = _decide(looked, reading, learned, notes)
    notes += looked.notes

    def parts() -> Iterator[FileColumns]:
        reader = _Pass(source, encoding, layout, words, as_text, spelled, learned, marks)
        for part in reader.parts(max(1, most_cells // layout.n)):
            yield part.result(replace(conventions, missing=words), [])

    return InParts(looked.n_rows, notes, looked.taken(), parts)


def _opened(
    source: Source, reading: Reading, learned: Conventions | None, notes: list[str]
) -> tuple[str, Layout, list[str]]:
    """Return a file's encoding, layout and first lines."""
    head = head_of(source, _HEAD_BYTES)
    if not head.strip():
        raise DataError(compose(source.name, "names of columns and rows", "nothing"))
    encoding = encoding_of(head, reading.encoding, source.name, notes)
    whole = len(head) < _HEAD_BYTES
    with source.opened() as file:
        lines = list(itertools.islice(_up_to(lines_of(file, encoding, source), _HEAD_BYTES), 2000))
    decimal = reading.decimal or (learned.decimal if learned else None)
    layout = layout_of(lines, whole, reading, learned.delimiter if learned else None, decimal, source.name)
    notes += layout.notes
    check_names(layout.names, source.name)
    return encoding, layout, lines


def _decide(
    done: _Pass, reading: Reading, learned: Conventions | None, notes: list[str]
) -> tuple[Conventions, dict[str, str | None]]:
    seen = {key: column.evidence for key, column in done.columns.items() if not column.as_text}
    delimiter = done.layout.dialect.delimiter
    return decided(seen, reading, delimiter, learned, done.source.name, "line", notes)


def _up_to(lines: Iterator[str], characters: int) -> Iterator[str]:
    total = 0
    for line in lines:
        total += len(line)
        yield line
        if total > characters:
            return


def _cells(source: Source, lines: list[str], layout: Layout) -> float:
    """Return about how many cells a file has, by the length of its first lines."""
    if source.packed:
        return source.size * _CELLS_PER_PACKED_BYTE
    rows = [line for line in lines[layout.lines :] if line.strip()]
    return source.size / max(sum(map(len, rows)) / len(rows), 1.0) * layout.n if rows else 0.0


# Records with their line numbers.
Drawn = list[tuple[int, str | list[str]]]


class _Pass:
    """One pass over all records.

    marks: decimal marks of the columns, None for texts; empty in the first pass. keeps: whether cells are kept.
    """

    def __init__(
        self, source: Source, encoding: str, layout: Layout, words: MissingWords, as_text: Collection[str],
        spelled: Collection[str], learned: Conventions | None, marks: dict[str, str | None], keeps: bool = True,
    ) -> None:  # fmt: skip
        self.source, self.encoding, self.layout, self.keeps = source, encoding, layout, keeps
        self.how = words, as_text, spelled, learned, marks
        self.notes: list[str] = []
        self.wrong: dict[str, tuple[int, int, list[str]]] = {}
        self.counts = {"few": 0, "many": 0}
        self._begin()

    def _begin(self) -> None:
        """Begin with new columns."""
        words, as_text, spelled, learned, marks = self.how
        self.columns: dict[str, Column] = {}
        for key, name in self._keys():
            style = learned.style(name) if learned else None
            mark = marks.get(key)
            texts = name in as_text or (key in marks and mark is None)
            affix = style.affix if style else None
            column = Column(
                name, words.of(name), texts, name in spelled, mark or (style.decimal if style else None), affix,
                MOST_LABELS if learned is None else None,
            )  # fmt: skip
            self.columns[key] = column
        self.first_line = self.n_rows = 0
        self.lines: list[np.ndarray] = []

    def _keys(self) -> list[tuple[str, str]]:
        """Return (a unique key, the name) of each column. Several names may be empty."""
        return [(name or f"\0{i}", name) for i, name in enumerate(self.layout.names)]

    @property
    def _chunk(self) -> int:
        """The number of records that are read at a time."""
        return max(1, min(_CHUNK_ROWS, _CHUNK_CELLS // max(1, self.layout.n)))

    def run(self, drawn: Drawn | None = None) -> None:
        """Read all records: those that were drawn, or those of the file."""
        if drawn is not None:
            for lines, rows in _chunks(iter(drawn), self._chunk):
                self._add(lines, rows)
            return
        with self.source.opened() as file:
            for lines, rows in _chunks(self._rows(file), self._chunk):
                self._add(lines, rows)

    def drawn(self, draw: RowDraw, limit: RowLimit) -> Drawn:
        """Return the records that are drawn from the file. All cells are seen, and none is kept."""
        found: Drawn = []
        with self.source.opened() as file:
            for lines, rows in _chunks(self._rows(file), self._chunk):
                self._add(lines, rows)
                found += [(lines[i], rows[i]) for i in draw.offer(len(lines)).tolist()]
                found = kept(found, draw.thinned())
                if not self.source.packed:
                    limit.report(file.tell() / self.source.size)
        return kept(found, draw.thinned(last=True))

    def parts(self, most_rows: int) -> Iterator[_Pass]:
        """Read all records, and yield this reader whenever it holds so many."""
        with self.source.opened() as file:
            for lines, rows in _chunks(self._rows(file), min(self._chunk, most_rows)):
                if self.n_rows + len(lines) > most_rows:
                    yield self
                    self._begin()
                self._add(lines, rows)
        if self.n_rows:
            yield self

    def _add(self, lines: list[int], rows: list[str | list[str]]) -> None:
        numbers = np.array(lines, np.int64)
        self.first_line = self.first_line or lines[0]
        self.n_rows += len(lines)
        if self.keeps:
            self.lines.append(numbers)
        for column, cells in zip(self.columns.values(), _transposed(rows, self.layout), strict=False):
            column.add(cells, numbers)
            if not self.keeps:
                column.forget()

    def taken(self) -> dict[str, dict[str, int]]:
        """Return by column the words that were read as missing cells, with counts."""
        return {column.name: dict(column.taken) for column in self.columns.values() if column.taken}

    def _rows(self, file: Any) -> Iterator[tuple[int, str | list[str]]]:
        """Yield (line number, record) of records with as many cells as there are names.

        Notes below the table are left out. Other records raise DataError, after all have been counted.
        """
        layout, name = self.layout, self.source.name
        n = layout.n
        lines = lines_of(file, self.encoding, self.source)
        for _ in range(layout.lines):
            next(lines)
        # Records with few cells that may stand below the table, with no row after them.
        below: list[tuple[int, list[str]]] = []
        blank, rows, apart = 0, False, False
        last: tuple[int, str | list[str]] = 0, ""
        delimiter = layout.dialect.delimiter
        for line, record in records(lines, layout.dialect, name, layout.lines):
            if isinstance(record, str):
                # Delimiters are counted here; lines are split later, a whole chunk at once.
                simple = not below and not blank and not layout.trailing and delimiter
                if simple and record.count(delimiter) == n - 1:
                    rows, last = True, (line, record)
                    yield last
                    continue
                cells = layout.dialect.split(record)
            else:
                cells = record
            if not cells:
                if n > 1:
                    apart = apart or not below
                    continue
                # In a table of one column a blank line is a missing cell, except at the end.
                blank += 1
                continue
            for i in range(blank):
                yield line - blank + i, [""]
            blank = 0
            if len(cells) != n or (layout.trailing and cells[-1].strip()):
                if len(cells) < n:
                    below.append((line, cells))
                else:
                    self._count("many", line, cells)
                continue
            for each in below:
                self._count("few", *each)
            below.clear()
            rows, apart, last = True, False, (line, cells)
            yield line, cells
        if blank:
            text = "1 blank line at the end is" if blank == 1 else f"{blank:,} blank lines at the end are"
            self.notes.append(f"{text} no cell")
        self._end(below, rows, apart)
        self._note_sum(*last)

    def _count(self, what: str, line: int, cells: list[str]) -> None:
        self.counts[what] += 1
        self.wrong.setdefault(what, (line, len(cells), cells))

    def _note_sum(self, line: int, record: str | list[str]) -> None:
        """Append a note if the last row may be a sum of the others."""
        cells = self.layout.dialect.split(record) if isinstance(record, str) else record
        if cells[0].strip(" :").casefold() in _SUMS:
            self.notes.append(f"line {line:,} begins with {show(cells[0])}: remove it if it is a sum and no row")

    def _end(self, below: list[tuple[int, list[str]]], rows: bool, apart: bool) -> None:
        notes = len(below) <= _MOST_BELOW and all(_is_note(cells, apart) for _, cells in below)
        if below and notes and not self.wrong and rows:
            line, cells = below[0]
            text = "1 line below the table is" if len(below) == 1 else f"{len(below)} lines below the table are"
            self.notes.append(f"{text} left out: {show(' '.join(filter(None, cells)))} in line {line:,}")
            return
        for each in below:
            self._count("few", *each)
        if not self.wrong:
            return
        kind, (line, n, cells) = min(self.wrong.items(), key=lambda each: each[1][0])
        total = self.counts[kind]
        more = f" ({show(cells[0])}, ...); {total:,} lines have too {kind} cells" if total > 1 else ""
        if kind == "many":
            hint = f"If a cell holds {self.layout.dialect.delimiter!r}, put it in quotes."
        else:
            delimiter = self.layout.dialect.delimiter
            hint = f"Add what is missing, a {delimiter!r} for each empty cell; remove lines that are no rows."
        expected = f"{self.layout.n} cells, as above"
        raise DataError(compose(f"{self.source.name}, line {line:,}", expected, f"{n}{more}", hint))

    def result(self, conventions: Conventions, notes: list[str]) -> FileColumns:
        """Return the columns."""
        lines = np.concatenate(self.lines) if self.lines else np.zeros(0, np.int64)
        regular = len(lines) == 0 or bool((np.diff(lines) == 1).all())
        columns = [(column.name, column.cells()) for column in self.columns.values()]
        spelled = {c.name: c.spelled.series() for c in self.columns.values() if c.spelled and c.spelled.kept}
        return FileColumns(
            columns, None if regular else lines, self.first_line, conventions, notes + self.notes, spelled, self.taken()
        )


def _is_note(cells: list[str], apart: bool) -> bool:
    """Return whether cells are a sentence. One that is apart, below a blank line, may have commas."""
    filled = [cell for cell in cells if cell.strip()]
    return 1 <= len(filled) <= (len(cells) if apart else 1) and not any(map(like_a_number, filled))


def _transposed(rows: list[str | list[str]], layout: Layout) -> list[Any]:
    """Return rows as columns, each an Arrow array of texts."""
    import pyarrow
    from pyarrow import csv

    dialect = layout.dialect
    simple = dialect.delimiter.isascii() and not any(dialect.pads) and layout.n > 1
    if simple and all(isinstance(row, str) for row in rows):
        text = "\n".join([*rows, ""]).encode("utf-8", "surrogatepass")  # type: ignore[list-item]
        names = [str(i) for i in range(layout.n)]
        table = csv.read_csv(
            pyarrow.BufferReader(text),
            csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=False
            ),
        )  # fmt: skip
        return [column.combine_chunks() for column in table.columns]
    split = [dialect.split(row) if isinstance(row, str) else row for row in rows]
    return [pyarrow.array(cells, pyarrow.string()) for cells in zip(*split, strict=True)]


def _chunks(
    rows: Iterator[tuple[int, str | list[str]]], size: int
) -> Iterator[tuple[list[int], list[str | list[str]]]]:
    while True:
        lines: list[int] = []
        cells: list[str | list[str]] = []
        for line, row in itertools.islice(rows, size):
            lines.append(line)
            cells.append(row)
        if not lines:
            return
        yield lines, cells
