"""Tables: CSV and Parquet as columns of three kinds of cells, numbers, dates and texts, each with missing ones.

How a CSV file is written (encoding, delimiter, decimal comma) is found out and not asked for. What can't be read is
refused by file, line or column. Whether a column of texts holds dates or categories is decided in `columns`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import re
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmlp_np.errors import DataError, compose, nearest, readable_bytes, require_memory, show

# Bytes at the beginning of a file from which its way of writing is found.
_HEAD_BYTES = 1 << 16
# Memory that a fit takes for each byte of a table: cells as read, as numbers, and as members read them. Measured on
# tables of numbers and of texts, rounded up; a compressed file grows besides.
_BYTES_PER_BYTE = {"csv": 6, "gzip": 40, "parquet": 20}
_DELIMITERS = ",;\t|"
_NUMBER_WITH_COMMA = r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?(?:[eE][+-]?\d+)?"
_TEXT_OF_TRUTH = {"true": "True", "false": "False"}


@dataclass
class Table:
    """A table as it was read.

    frame: pandas.DataFrame of columns that are numbers (NaN for missing), datetime64 without a zone (NaT), or str
        (NaN). name: what errors call it. first_line: the line on which the first row stands; 0 where files have no
        lines. notes: what users should know about how it was read. may_have_commas: whether its numbers may have
    decimal commas, because other characters are between its cells.
    """

    frame: Any
    name: str
    first_line: int = 0
    notes: list[str] = field(default_factory=list)
    may_have_commas: bool = False

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, row: int) -> str:
        """Where a row, counted from 0, stands: "line 12", or "row 11" of a file without lines."""
        return f"line {row + self.first_line}" if self.first_line else f"row {row + 1}"

    def has_decimal_commas(self, cells: Any) -> bool:
        """Whether these texts are numbers, some of them with decimal commas."""
        return self.may_have_commas and _has_decimal_commas(cells)

    def column_called(self, name: str, what: str = "column") -> str:
        """The name, if the table has such a column. DataError, with the nearest name, if it has none."""
        if name in self.frame.columns:
            return name
        columns = [str(column) for column in self.frame.columns]
        guess = nearest(name, columns)
        listed = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
        if guess:
            mend = f"Did you mean {guess!r}?"
        elif all(_is_number(column) for column in columns):
            mend = "The first line holds numbers; names of columns are expected there: add a line with them."
        else:
            mend = ""
        raise DataError(compose(what, f"a column of {self.name} ({listed})", show(name), mend))


def read_table(path: str, missing: Collection[str] = (), as_text: Collection[str] = ()) -> Table:
    """Read a CSV file (any of , ; tab | between cells; .gz too), a Parquet file, or "-": CSV from stdin.

    missing: texts that stand for a missing cell, beside the usual ones (nothing, NA, NaN, null, None, ...).
    as_text: columns whose cells are taken as they are written: "007" stays "007".

    Raises DataError for what is no table, FileNotFoundError, and MemoryNeededError, before anything is read, where it
    would not fit.
    """
    if path == "-":
        return _read_csv(io.BytesIO(sys.stdin.buffer.read()), "stdin", missing, as_text)
    name, size = f"table {path}", _size(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        _require_room(name, size, "parquet")
        return _read_parquet(path, name, missing, as_text)
    if start[:2] == b"PK":
        raise DataError(compose(name, "a CSV or Parquet file", "an archive, as of Excel", "Save the sheet as CSV."))
    if start[:2] == b"\x1f\x8b":
        _require_room(name, size, "gzip")
        try:
            with gzip.open(path) as unpacked:
                return _read_csv(io.BytesIO(unpacked.read()), name, missing, as_text)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(compose(name, "a whole .gz file", str(error), "Fetch or pack it again.")) from error
    _require_room(name, size, "csv")
    with open(path, "rb") as file:
        return _read_csv(file, name, missing, as_text)


def _size(path: str) -> int:
    """A file's size. Errors that say what lies beside it."""
    where = Path(path)
    if where.is_dir():
        raise DataError(compose(f"table {path}", "a CSV or Parquet file", "a folder"))
    if not where.exists():
        folder = where.parent
        if not folder.is_dir():
            raise FileNotFoundError(compose(f"table {path}", "a file", "none", f"There is no folder {folder}."))
        tables = [each.name for each in folder.iterdir() if each.suffix in (".csv", ".tsv", ".txt", ".parquet", ".gz")]
        guess = nearest(where.name, tables)
        mend = f"Did you mean {folder / guess}?" if guess else ""
        raise FileNotFoundError(compose(f"table {path}", "a file", "none", mend))
    size = where.stat().st_size
    if where.is_file() and not size:
        raise DataError(compose(f"table {path}", "names of columns and rows", "an empty file (0 bytes)"))
    return size


def _require_room(name: str, size: int, kind: str) -> None:
    packed = {"csv": "", "gzip": ", packed", "parquet": ", packed"}[kind]
    mend = "Take a part of its rows, or fewer columns."
    require_memory(f"{name} ({readable_bytes(size)}{packed})", _BYTES_PER_BYTE[kind] * size, mend)


# CSV.


def _read_csv(file: Any, name: str, missing: Collection[str], as_text: Collection[str]) -> Table:
    import pandas

    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head.strip():
        raise DataError(compose(name, "names of columns and rows", "nothing"))
    notes: list[str] = []
    encoding = _encoding(head, name, notes)
    text = head.decode(encoding, errors="ignore")
    if "\0" in text:
        size = (
            f" ({readable_bytes(os.fstat(file.fileno()).st_size)})" if hasattr(file, "fileno") and _real(file) else ""
        )
        raise DataError(compose(f"{name}{size}", "a CSV or Parquet file", "bytes that are no text"))
    # As the csv module reads lines: those that quoted cells hold belong to them, and only \r and \n end one.
    lines = list(io.StringIO(text, newline=""))
    # Excel may say in a first line of its own by what cells are separated.
    told = re.fullmatch(r'"?sep=(.)"?\s*', lines[0])
    del lines[: 1 if told else 0]
    delimiter = told[1] if told else _delimiter(lines)
    if delimiter != ",":
        word = {";": "semicolons", "\t": "tabs", "|": "bars"}.get(delimiter, repr(delimiter))
        notes.append(f"cells are separated by {word}")
    header = next(csv.reader(_lines_of(lines), delimiter=delimiter, skipinitialspace=True), [])
    names = [cell.strip() for cell in header]
    _check_names(names, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                file, sep=delimiter, encoding=encoding, header=0, names=_unique(names), index_col=False,
                na_values=list(missing), dtype={each: str for each in as_text if each in names}, low_memory=False,
                skipinitialspace=True, skiprows=1 if told else 0,
            )  # fmt: skip
    except pandas.errors.ParserWarning as error:
        raise DataError(compose(name, f"{len(names)} cells in each line, as in the first", "more in some")) from error
    except pandas.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if not found:
            raise DataError(compose(name, "a CSV file", " ".join(str(error).split()))) from error
        expected, line, saw = found.groups()
        mend = f"If a cell holds {delimiter!r}, put it in quotes."
        raise DataError(compose(f"{name}, line {line}", f"{expected} cells, as above", saw, mend)) from error
    except UnicodeDecodeError as error:
        mend = "Save it as UTF-8."
        got = f"byte {error.object[error.start]:#x} at {error.start:,}"
        raise DataError(compose(name, f"text in {encoding}", got, mend)) from error
    frame.columns = names
    table = Table(frame, name, 3 if told else 2, notes)
    _drop_row_numbers(table)
    table.may_have_commas = delimiter != ","
    with_comma = []
    for place, column in enumerate(table.frame.columns):
        series = table.frame.iloc[:, place]
        cells = _cells(series)
        if is_text(cells) and column not in as_text and table.has_decimal_commas(cells):
            cells = numbers_of(cells, True)
            with_comma.append(str(column))
        if cells is not series:
            table.frame[column] = cells
    if with_comma:
        notes.append(f"numbers have decimal commas in {', '.join(with_comma)}")
    _check_rows(table)
    return table


def _real(file: Any) -> bool:
    with contextlib.suppress(io.UnsupportedOperation, OSError):
        return file.fileno() >= 0
    return False


def _encoding(head: bytes, name: str, notes: list[str]) -> str:
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        # A character may be cut in two by the end of the head.
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            notes.append("text is not UTF-8: read as Windows-1252 (Latin-1)")
            return "cp1252"
    return "utf-8"


def _delimiter(lines: list[str]) -> str:
    """The character that most evenly divides the first lines; a comma where none does."""
    sample = [line for line in lines[:50] if line.strip()][: max(1, len(lines) - 1)]

    def fields(delimiter: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True)]
        common, times = Counter(counts).most_common(1)[0]
        return (times / len(counts) if common > 1 and counts[0] == common else 0.0), common

    return max(_DELIMITERS, key=lambda delimiter: (*fields(delimiter), delimiter == ","))


def _lines_of(lines: Sequence[str]) -> Iterable[str]:
    return (line for line in lines if line.strip())


def _check_names(names: list[str], name: str) -> None:
    twice = [column for column, count in Counter(names).items() if count > 1 and column]
    if twice:
        raise DataError(compose(name, "each column's name once", f"{twice[0]!r} {names.count(twice[0])} times"))


def _unique(names: list[str]) -> list[str]:
    """Names that are all different, for pandas; those without a name keep their place."""
    return [column or f"\0{place}" for place, column in enumerate(names)]


def _drop_row_numbers(table: Table) -> None:
    """A first column without a name that counts the rows is what pandas writes of its index; others need a name."""
    import numpy as np

    nameless = [place for place, column in enumerate(table.frame.columns) if not str(column).strip()]
    for place in nameless:
        values = table.frame.iloc[:, place]
        counts = values.dtype.kind in "iu" and len(values) > 0 and (np.diff(values.to_numpy()) == 1).all()
        if values.isna().all() or (place == 0 and counts):
            continue
        raise DataError(compose(f"{table.name}, column {place + 1}", "a name in the first line", "none"))
    if nameless:
        keep = [place for place in range(table.frame.shape[1]) if place not in nameless]
        table.frame = table.frame.iloc[:, keep].copy()
        table.notes.append("a column without a name is left out: it numbers the rows or is empty")


def _has_decimal_commas(cells: Any) -> bool:
    known = cells.dropna()
    return bool(len(known)) and bool(known.str.fullmatch(_NUMBER_WITH_COMMA).all()) and known.str.contains(",").any()


# Parquet.


def _read_parquet(path: str, name: str, missing: Collection[str], as_text: Collection[str]) -> Table:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        mend = "Install it: pip install 'pmlp_np[app]'."
        raise DataError(compose(name, "pyarrow, to read Parquet", "none installed", mend)) from error
    try:
        _check_names([str(column) for column in parquet.read_schema(path).names], name)
        found = parquet.read_table(path)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError) as error:
        got = " ".join(str(error).split())
        raise DataError(compose(name, "a whole Parquet file", got, "Write it again.")) from error
    kinds = arrow.types
    names = [str(column) for column in found.column_names]
    for place, column in enumerate(names):
        kind = found.schema.field(place).type
        if kinds.is_dictionary(kind):
            kind = kind.value_type
            found = found.set_column(place, column, found.column(place).cast(kind))
        if kinds.is_decimal(kind):
            found = found.set_column(place, column, found.column(place).cast(arrow.float64()))
        elif kinds.is_date(kind):
            found = found.set_column(place, column, found.column(place).cast(arrow.timestamp("ms")))
        elif not (
            kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) or kinds.is_null(kind)
            or kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_timestamp(kind)
        ):  # fmt: skip
            mend = "Turn it into one of these, or leave it out of the file."
            raise DataError(compose(f"{name}, column {column!r}", "numbers, dates, texts or truths", str(kind), mend))
    frame = found.to_pandas(ignore_metadata=True)
    frame.columns = names
    table = Table(frame, name)
    for column in names:
        cells = _cells(frame[column])
        if missing and cells.dtype.kind != "M":
            # As in CSV, where a text stands for a number too.
            gone = list(missing) if is_text(cells) else [float(text) for text in missing if _is_number(text)]
            cells = cells.where(~cells.isin(gone))
        frame[column] = as_texts(cells) if column in as_text else cells
    _check_rows(table)
    return table


# Cells.


def _check_rows(table: Table) -> None:
    if not len(table.frame):
        raise DataError(compose(table.name, "rows below the names of columns", "none"))


def _cells(series: Any) -> Any:
    """A column as numbers, dates without a zone, or str."""
    import pandas

    if series.dtype.kind == "b":
        return series.map({True: "True", False: "False"}).astype("object")
    if isinstance(series.dtype, pandas.DatetimeTZDtype):
        return series.dt.tz_convert("UTC").dt.tz_localize(None)
    if series.dtype.kind in "iufM":
        return series
    known = series.notna()
    if not known.any():
        return series.astype("float64")
    # Truths beside missing cells are objects; what else pandas calls an object holds texts.
    texts = series.astype("object").where(~known, series[known].map(_text))
    texts = texts.where(texts != "")
    return texts if texts.notna().any() else texts.astype("float64")


def _text(cell: Any) -> str:
    text = str(cell).strip()
    return _TEXT_OF_TRUTH.get(text.lower(), text)


def is_text(series: Any) -> bool:
    """Whether a column of a Table holds texts."""
    return series.dtype.kind not in "iufM"


def numbers_of(cells: Any, with_commas: bool) -> Any:
    """Texts as numbers, float64; NaN for what is none."""
    import pandas

    if with_commas:
        cells = cells.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return pandas.to_numeric(cells, errors="coerce")


def as_texts(series: Any) -> Any:
    """A column of a Table as texts: whole numbers without a point, dates as ISO 8601 writes them."""
    if is_text(series):
        return series
    return series.astype("object").where(series.isna(), series[series.notna()].map(plain_text)).astype("object")


def plain_text(value: Any) -> str:
    """A number or a date as people write it: 3.0 is "3"."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
