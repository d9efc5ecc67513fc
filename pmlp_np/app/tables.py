"""Tables: CSV and Parquet files as columns of numbers, dates or texts, with missing cells.

The format of a CSV file (encoding, delimiter, decimal comma) is detected, see `reading`. Errors name the file, line or
column. `column_kinds` decides whether a column of texts holds dates or categories.
"""

from __future__ import annotations

import contextlib
import gzip
import shlex
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pmlp_np.app.reading.column_builders import whole_numbers
from pmlp_np.app.reading.conventions import Conventions
from pmlp_np.app.reading.csv_table import FileColumns, read_csv, read_csv_in_parts
from pmlp_np.app.reading.lines import Source, rewound
from pmlp_np.app.reading.numbers import converted, wrapped
from pmlp_np.app.reading.parquet import bytes_in_memory, read_parquet, read_parquet_in_parts
from pmlp_np.app.reading.reading_options import USUAL_MISSING, Reading
from pmlp_np.app.reading.row_draw import RowDraw, RowLimit
from pmlp_np.base import errors
from pmlp_np.base.errors import DataError, compose, nearest, show

# A table to predict that has more bytes when it is unpacked is read in parts of so many cells.
_WHOLE_BYTES, _PART_CELLS = 1 << 26, 1 << 22
# A packed file may hold a thousand times its bytes: only small ones are read as a whole.
_UNPACKED = 64
# A table from a pipe is stored in memory up to this size, above it on the disk.
_SPOOLED_BYTES = 1 << 26
_OTHER = {".": ",", ",": "."}


@dataclass
class Table:
    """A table as read from a file.

    frame: pandas.DataFrame of columns that are numbers (NaN for missing), datetime64 without a zone (NaT), or str as
        written (NaN).
    name: name of the table in errors.
    first_line: line number of the first row; 0 for files without lines.
    notes: notes for the user on the format.
    lines: line number of each row, unless they are consecutive.
    conventions: how numbers are written.
    spelled: texts of columns of numbers that may be labels.
    taken: by column, words that were read as missing cells, with counts.
    as_text: columns that are texts in any case.
    predicted: whether the table is to be predicted, not fitted.
    before: number of rows before it, of a table that is part of another.
    of_rows: number of rows of the file, of a table whose rows were drawn from them.
    """

    frame: Any
    name: str
    first_line: int = 0
    notes: list[str] = field(default_factory=list)
    lines: np.ndarray | None = None
    conventions: Conventions = field(default_factory=Conventions)
    spelled: dict[str, Any] = field(default_factory=dict)
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    as_text: Collection[str] = ()
    predicted: bool = False
    before: int = 0
    of_rows: int | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, row: int) -> str:
        """Return the position of a row, counted from 0, in words: "line 12", or "row 11" of a file without lines."""
        number = row + (self.first_line or self.before + 1) if self.lines is None else int(self.lines[row])
        return f"{'line' if self.first_line else 'row'} {number:,}"

    def column_called(self, name: str, what: str = "column") -> str:
        """Return the name if the table has such a column. Raises DataError, with the nearest name, if not."""
        if name in self.frame.columns:
            return name
        columns = [str(column) for column in self.frame.columns]
        guess = nearest(name, columns)
        listed = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
        if guess:
            hint = f"Did you mean {guess!r}?"
        elif all(_is_number(column) for column in columns):
            hint = "The first line holds numbers; names of columns are expected there: add a line with them."
        elif len(columns) == 1 and self.first_line:
            hint = "If it has more columns, say --delimiter with the character between them."
        else:
            hint = ""
        raise DataError(compose(what, f"a column of {self.name} ({listed})", show(name), hint))

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (a column's cells as numbers, (n,) float64; a mask of cells that are no numbers, (n,) bool).

        Texts are read by the table's conventions. Missing cells, and cells that are no numbers, are NaN.
        """
        cells = self.frame[name]
        if cells.dtype.kind == "M":
            return np.full(len(cells), np.nan), cells.notna().to_numpy()
        if not is_text(cells):
            return cells.to_numpy(np.float64, na_value=np.nan), np.zeros(len(cells), bool)
        import pyarrow
        import pyarrow.compute

        texts = pyarrow.array(cells.astype("object").where(cells.notna(), None), pyarrow.large_string())
        style = self.conventions.style(name)
        texts = pyarrow.compute.utf8_trim_whitespace(texts)
        values, odd = converted(texts, style.decimal, style.affix)
        other = _OTHER[style.decimal]
        marked = pyarrow.compute.fill_null(pyarrow.compute.match_substring(texts, other), False)
        unseen = odd | np.asarray(marked)
        if other not in style.thousands and (unseen & ~odd).any():
            # A separator of thousands that no cell of the fit had may be a decimal mark.
            odd, values = unseen, np.where(unseen, np.nan, values)
        known = cells.notna().to_numpy()
        if not self.predicted and known.any() and wrapped(texts)[known].all():
            # Parentheses mean a minus only if other numbers have none.
            odd, values = known, np.full(len(cells), np.nan)
        return values, odd

    def labels(self, name: str) -> Any:
        """Return a column's cells as texts, as written if that is known; NaN for missing ones."""
        cells = self.frame[name]
        return self.spelled[name] if name in self.spelled and not is_text(cells) else as_texts(cells)

    def keep_rows(self, rows: Any) -> None:
        """Keep only these rows (a mask). A column of texts with only numbers left becomes one of numbers."""
        self.frame = self.frame[rows]
        self.spelled = {name: cells[rows] for name, cells in self.spelled.items()}
        for name in self.frame.columns:
            cells = self.frame[name]
            if name not in self.as_text and is_text(cells) and cells.notna().any():
                style = self.conventions.style(name)
                marked = replace(style, thousands=(*style.thousands, _OTHER[style.decimal]))
                conventions = self.conventions
                self.conventions = replace(conventions, columns=conventions.columns | {name: marked})
                values, odd = self.numbers(name)
                if odd.any() or not cells.dropna().str.contains(_OTHER[style.decimal], regex=False).any():
                    # No new separator of thousands.
                    self.conventions = conventions
                if not odd.any():
                    frame = self.frame.copy()
                    self.spelled[name] = cells
                    frame[name] = whole_numbers(values)
                    self.frame = frame


def read_table(
    path: str, missing: Collection[str] = (), as_text: Collection[str] = (), reading: Reading | None = None,
    spelled: Collection[str] = (), learned: Conventions | None = None, limit: RowLimit | None = None,
) -> Table:  # fmt: skip
    """Read a CSV file (any of , ; tab | between cells; .gz too), a Parquet file, or "-": CSV from stdin.

    missing: words for missing cells, besides the usual ones (blank, NA, NaN, null, None, ...); "COLUMN=TEXT" for one
        column.
    as_text: columns whose cells are read as texts: "007" stays "007".
    reading: options on the format.
    spelled: columns whose texts are stored in addition to their numbers.
    learned: the conventions of the fit, for a table that is predicted.
    limit: how many rows are read; where the table has more, they are drawn at random. Default None: all.

    Raises DataError for files that are no tables, FileNotFoundError, and MemoryNeededError, before the file is read, if
    the rows do not fit in memory.
    """
    arguments = reading or Reading(), tuple(missing), as_text, spelled, learned
    free = errors.free_memory()
    with _opened(path) as (name, source, _):
        if source is None:
            file = read_parquet(path, name, *arguments, limit)
        else:
            file = read_csv(source, *arguments, limit)
        table = _table(file, name, *arguments)
    if limit is not None:
        _draw_rows(table, file.draw, limit, free)
    return table


def _draw_rows(table: Table, draw: RowDraw | None, limit: RowLimit, free: int) -> None:
    """Keep as many rows as a search has memory for, and note that rows were drawn from more.

    draw: of the rows that were read. free: bytes that were free before the table was read.
    """
    texts = [name for name in table.frame.columns if is_text(table.frame[name])]
    categories = [table.frame[name].nunique() for name in texts]
    n_numeric = table.frame.shape[1] - len(texts)
    fits = limit.for_search(table.name, len(table), n_numeric, categories, free)
    if fits is not None:
        if draw is None:
            draw = RowDraw(len(table), limit.seed)
            draw.offer(len(table))
        table.keep_rows(draw.fewer(fits))
    if draw is None or draw.n_seen <= len(table):
        return
    table.of_rows = draw.n_seen
    why = "by --max-rows" if limit.most else f"as memory has no room for all; --max-rows {len(table)} draws them again"
    table.notes.append(f"{len(table):,} of {draw.n_seen:,} rows are used, drawn at random {why}")


@dataclass(frozen=True)
class Parts:
    """A table to predict that is read in parts. n_rows: of the whole. tables: reads them from the beginning, in order.

    Notes on the file as a whole are those of the first part.
    """

    n_rows: int
    tables: Callable[[], Iterator[Table]]


@contextlib.contextmanager
def in_parts(
    path: str, missing: Collection[str], as_text: Collection[str], reading: Reading | None, spelled: Collection[str],
    learned: Conventions,
) -> Iterator[Parts]:  # fmt: skip
    """Read a table as `read_table` does, to be predicted, with a bound on memory: a large one is read in parts.

    Raises DataError as `read_table`, before the first part.
    """
    arguments = reading or Reading(), tuple(missing), as_text, spelled, learned
    with _opened(path) as (name, source, size):
        unpacked = bytes_in_memory(path, name) if source is None else size * (_UNPACKED if source.packed else 1)
        if unpacked <= _WHOLE_BYTES:
            table = _table(
                read_parquet(path, name, *arguments) if source is None else read_csv(source, *arguments), name,
                *arguments,
            )  # fmt: skip
            yield Parts(len(table), lambda: iter([table]))
            return
        if source is None:
            file = read_parquet_in_parts(path, name, *arguments, _PART_CELLS)
        else:
            file = read_csv_in_parts(source, *arguments, _PART_CELLS)

        if not file.n_rows:
            raise _no_rows(name)

        def tables() -> Iterator[Table]:
            before, notes, taken = 0, file.notes, file.taken
            for part in file.parts():
                part.notes, part.taken = notes, taken
                table = _table(part, name, *arguments, before)
                yield table
                before += len(table)
                notes, taken = [], {}

        yield Parts(file.n_rows, tables)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[str, Source | None, int]]:
    """Yield a table's name in errors, its bytes as a Source (None for Parquet), and its size in bytes."""
    if path == "-" or not Path(path).is_file() and Path(path).exists() and not Path(path).is_dir():
        with _kept(path) as file:
            size = file.seek(0, 2)
            name = "stdin" if path == "-" else f"table {path}"
            yield name, Source(name, size, lambda: rewound(file)), size
        return
    name, size = f"table {path}", _size(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        yield name, None, size
    elif start[:2] == b"PK":
        raise DataError(compose(name, "a CSV or Parquet file", "an archive, as of Excel", "Save the sheet as CSV."))
    elif start[:2] == b"\x1f\x8b":
        try:
            yield name, Source(name, size, lambda: _unpacked(path), packed=True), size
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(compose(name, "a whole .gz file", str(error), "Fetch or pack it again.")) from error
    else:
        yield name, Source(name, size, lambda: open(path, "rb")), size  # noqa: SIM115


@contextlib.contextmanager
def _kept(path: str) -> Iterator[BinaryIO]:
    """Yield the content of stdin or a pipe as a file that can be read twice."""
    with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as file:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            with open(path, "rb") as pipe:
                shutil.copyfileobj(pipe, file)
        yield file  # type: ignore[misc]


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[BinaryIO]:
    with gzip.open(path) as file:
        yield file  # type: ignore[misc]


def _size(path: str) -> int:
    """Return a file's size. Raises DataError for a folder or an empty file, FileNotFoundError with a similar name."""
    where = Path(path)
    if where.is_dir():
        raise DataError(compose(f"table {path}", "a CSV or Parquet file", "a folder"))
    if not where.exists():
        folder = where.parent
        if not folder.is_dir():
            raise FileNotFoundError(compose(f"table {path}", "a file", "none", f"There is no folder {folder}."))
        tables = [each.name for each in folder.iterdir() if each.suffix in (".csv", ".tsv", ".txt", ".parquet", ".gz")]
        guess = nearest(where.name, tables)
        hint = f"Did you mean {folder / guess}?" if guess else ""
        raise FileNotFoundError(compose(f"table {path}", "a file", "none", hint))
    size = where.stat().st_size
    if not size:
        raise DataError(compose(f"table {path}", "names of columns and rows", "an empty file (0 bytes)"))
    return size


def _table(
    file: FileColumns, name: str, reading: Reading, missing: tuple[str, ...], as_text: Collection[str],
    spelled: Collection[str], learned: Conventions | None, before: int = 0,
) -> Table:  # fmt: skip
    import pandas

    names = [column for column, _ in file.columns]
    day_first = reading.day_first if reading.day_first is not None or learned is None else learned.day_first
    conventions = replace(file.conventions, day_first=day_first)
    frame = pandas.DataFrame({i: cells for i, (_, cells) in enumerate(file.columns)}, copy=False)
    frame.columns = names
    table = Table(
        frame, name, file.first_line, file.notes, file.lines, conventions, file.spelled, file.taken, as_text,
        learned is not None, before,
    )  # fmt: skip
    _drop_row_numbers(table, None if file.draw is None else file.draw.rows)
    if not len(table.frame):
        raise _no_rows(table.name)
    _note_missing(table, missing, learned is not None)
    return table


def _no_rows(name: str) -> DataError:
    return DataError(compose(name, "rows below the names of columns", "none"))


def _drop_row_numbers(table: Table, drawn: np.ndarray | None) -> None:
    """Drop a nameless first column of row numbers, as written by pandas. Raises DataError for other nameless ones.

    drawn: numbers of the rows in the file; None for neighbors.
    """
    nameless = [i for i, column in enumerate(table.frame.columns) if not str(column).strip()]
    for i in nameless:
        values = table.frame.iloc[:, i]
        steps = 1 if drawn is None else np.diff(drawn)
        counts = values.dtype.kind in "iu" and len(values) > 0 and (np.diff(values.to_numpy()) == steps).all()
        if values.isna().all() or (i == 0 and counts):
            continue
        hint = "Name it; where the names stand in a later line, say --skip-lines with how many lines are above it."
        expected, hint = ("a name in the line of names", hint) if table.first_line else ("a name", "Name it.")
        raise DataError(compose(f"{table.name}, column {i + 1}", expected, "none", hint))
    if nameless:
        named = [i for i in range(table.frame.shape[1]) if i not in nameless]
        table.frame = table.frame.iloc[:, named].copy()
        table.notes.append("a column without a name is left out: it numbers the rows or is empty")


def _note_missing(table: Table, requested: tuple[str, ...], predicted: bool) -> None:
    """Append notes on words that were read as missing cells, and on words of --missing that no cell holds.

    requested: the words of --missing.
    """
    words: dict[str, dict[str, int]] = {}
    for column, taken in table.taken.items():
        for word, count in taken.items():
            words.setdefault(word, {})[column] = count
    listed = []
    for word, counts in list(words.items())[:4]:
        counted = [f"{column} ({count:,})" for column, count in list(counts.items())[:4]]
        listed.append(f"{show(word)} in {', '.join(counted)}" + (", ..." if len(counts) > len(counted) else ""))
    if not predicted and table.first_line:
        seen = {text for word, counts in words.items() for text in (word, *(f"{c}={word}" for c in counts))}
        absent = [text for text in requested if text.strip() and text.strip() not in seen and not _is_number(text)]
        table.notes += [f"--missing {quoted(text)}: no cell holds it" for text in absent]
    if not listed:
        return
    note = f"read as missing: {'; '.join(listed)}" + ("; ..." if len(words) > len(listed) else "")
    texts = {name for name in table.frame.columns if is_text(table.frame[name])}
    usual = set(USUAL_MISSING) - set(requested)
    ambiguous = [
        (column, word) for word, counts in words.items() if word in usual for column in counts if column in texts
    ]
    if ambiguous and not predicted:
        column, word = ambiguous[0]
        note += f". {not_missing(column, word)} keeps such a word as a text"
    table.notes.append(note)


def not_missing(column: str, word: str) -> str:
    """Return the option by which a word is a text of a column, not a missing cell."""
    return f"--not-missing {quoted(f'{column}={word}')}"


def quoted(text: str) -> str:
    """Return a text quoted for a shell."""
    return shlex.quote(text)


# Cells.


def is_text(series: Any) -> bool:
    """Return whether a column of a Table holds texts."""
    return series.dtype.kind not in "iufM"


def as_texts(series: Any) -> Any:
    """Return a column of a Table as texts: whole numbers without a decimal point, dates in ISO 8601."""
    if is_text(series):
        return series
    return series.astype("object").where(series.isna(), series[series.notna()].map(plain_text)).astype("object")


def plain_text(value: Any) -> str:
    """Return a number or a date as text, whole numbers without a decimal point: 3.0 is "3"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
