"""CSV records: cells as written, the line number of each record, and a check for records swallowed by stray quotes.

Other readers were tried on small files with errors (short lines, stray quotes, blank lines, notes above and below).
pyarrow's reader drops blank lines, appends text after a closing quote to the cell, and gives no line numbers. DuckDB's
(strict_mode, store_rejects) has blank lines and the numbers of short lines, but no numbers of valid lines, and reads a
title as a table of one column. Both let two stray quotes swallow the lines between them. Python's csv module parses
quoted cells, streams, and needs no package. Here it gets the lines one by one, so that their numbers are known, and its
tolerance is checked afterwards: text after a closing quote, and quoted cells that contain whole records.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pmlp_np.base.errors import DataError, compose, show

_LONGEST_CELL = 1 << 24
# A cell that is roughly a number, with any marks.
_NUMERIC = re.compile(r"[^\w\s]{0,3}\s?\d[\d.,'’\s]*(?:[eE][+-]?\d+)?\s?[^\w\s]{0,2}")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Dialect:
    """How cells are separated.

    delimiter: one character, or "" if a line is one cell.
    pads: whether spaces after a delimiter, and before one, are no part of cells.
    n: number of cells of a row.
    numeric: indices of the columns of numbers, roughly.
    cell: pattern of a cell.
    """

    delimiter: str
    pads: tuple[bool, bool] = (False, False)
    n: int = 1
    numeric: tuple[int, ...] = ()
    cell: re.Pattern[str] = field(default=re.compile(""), compare=False)

    @classmethod
    def of(cls, delimiter: str, pads: tuple[bool, bool], n: int = 1, numeric: tuple[int, ...] = ()) -> Dialect:
        """Return a dialect with the pattern of its cells."""
        d = re.escape(delimiter) if delimiter else r"(?!)"
        blank = r"[ \t]*" if delimiter != "\t" else " *"
        before = blank if pads[0] else ""
        # A quoted cell, or one without a quote at the beginning, which ends with the line.
        pattern = rf'{before}"[^"]*(?:""[^"]*)*"{blank}(?={d}|\Z)|(?!{before}")(?:(?!{d})[^\r\n])*'
        return cls(delimiter, pads, n, numeric, re.compile(pattern))

    def split(self, line: str) -> list[str]:
        """Return the cells of a line without quotes and without a line end."""
        cells = line.split(self.delimiter) if self.delimiter else [line]
        return self._bare(cells)

    def _bare(self, cells: list[str]) -> list[str]:
        if self.pads[0]:
            cells = [cell.lstrip(" ") for cell in cells]
        if self.pads[1]:
            cells = [cell.rstrip(" ") for cell in cells]
        return cells

    def take_record(self, lines: Iterator[str]) -> None:
        """Consume the lines of the next record, with quotes. Raises csv.Error if it is invalid."""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        # Without a delimiter: a character that does not occur in tables.
        next(csv.reader(lines, delimiter=self.delimiter or "\x1f", skipinitialspace=self.pads[0]))

    def content(self, cell: str) -> str:
        """Return the content of a cell that matches the pattern, without quotes and spaces around them."""
        quoted = cell.strip(" \t")
        if not quoted.startswith('"') or (cell[0] != '"' and not self.pads[0]):
            return self._bare([cell])[0]
        return quoted[1:-1].replace('""', '"')


def records(lines: Iterator[str], dialect: Dialect, name: str, number: int) -> Iterator[tuple[int, str | list[str]]]:
    """Yield (line number, cells) of each record; [] for blank lines.

    A line without quotes is yielded as a text without its end, for `split`. number: number of the lines before.

    Raises DataError for quotes that are not in pairs, for text after a closing quote, and for quoted cells that contain
    records.
    """
    iterator = iter(lines)
    blanks = " " if dialect.delimiter == "\t" else " \t"
    for line in iterator:
        number += 1
        bare = line.rstrip("\r\n")
        if '"' not in bare:
            yield number, bare if bare.strip(blanks) else []
            continue
        taken: list[str] = []
        begins = number
        try:
            dialect.take_record(_taking(line, iterator, taken))
        except csv.Error as error:
            hint = "Remove the quote that opens it."
            got = f"one of more than {_LONGEST_CELL:,} characters ({error})"
            raise DataError(compose(f"{name}, line {begins:,}", "a cell of a table", got, hint)) from error
        number += len(taken) - 1
        cells = _quoted_cells(taken, dialect, name, begins)
        if len(taken) > 1:
            _check_swallowed(taken, dialect, name, begins)
        yield begins, cells


def _taking(line: str, rest: Iterator[str], taken: list[str]) -> Iterator[str]:
    """Yield lines, and append them to `taken`, for as long as a record needs them."""
    taken.append(line)
    yield line
    for more in rest:
        taken.append(more)
        yield more


def _quoted_cells(taken: list[str], dialect: Dialect, name: str, begins: int) -> list[str]:
    """Return the cells of a record. Raises DataError for quotes that do not enclose whole cells."""
    text = "".join(taken).rstrip("\r\n")
    position, cells = 0, []
    while True:
        match = dialect.cell.match(text, position)
        if match is None or (match.end() < len(text) and not text.startswith(dialect.delimiter or "\0", match.end())):
            raise _odd_quotes(text, position, name, begins)
        cells.append(dialect.content(match[0]))
        position = match.end()
        if position >= len(text):
            return cells
        position += 1
        if position == len(text):
            # A record that ends with a delimiter ends with an empty cell.
            return [*cells, ""]


def _odd_quotes(text: str, position: int, name: str, begins: int) -> DataError:
    line = begins + len(_LINE_END.findall(text, 0, position))
    closed = re.compile(r'\s*"[^"]*(?:""[^"]*)*"').match(text, position)
    end = closed.end() if closed else len(text)
    n = len(_LINE_END.findall(text, position, end)) + 1
    hint = f"{_well(line)}Remove the quote, or write one that belongs to the text twice and the cell in quotes."
    if n > 1:
        got = f"a cell that a quote opens there and that runs over {n:,} lines, to line {line + n - 1:,}"
        got += ", where text follows the closing quote" if closed else ", the end of the file"
    else:
        after = " ".join(text[end : end + 20].split())
        got = f"text behind the closing quote of a cell ({show(after)})" if closed else "a quote that nothing closes"
    return DataError(compose(f"{name}, line {line:,}", "quotes in pairs around whole cells", got, hint))


def _well(line: int) -> str:
    return "" if line < 2 else f"Lines 1 to {line - 1:,} are well. " if line > 2 else "Line 1 is well. "


def _check_swallowed(taken: list[str], dialect: Dialect, name: str, begins: int) -> None:
    """Raise DataError if most lines of a record are themselves records: two stray quotes make one cell of them.

    An address or a comment may have several lines with delimiters. But its lines rarely have as many cells as the
    table, with numbers in the same columns.
    """
    alike = [line for line in taken if _like_a_record(line, dialect)]
    # Without a column of numbers more lines are needed as evidence.
    fewest = 2 if dialect.numeric else 3
    if dialect.n < 2 and not dialect.numeric:
        return
    if len(alike) < fewest or 2 * len(alike) < len(taken):
        return
    end = begins + len(taken) - 1
    got = f"a quote there and one in line {end:,} that make one cell of {len(taken):,} lines, most of them like rows"
    hint = f"{_well(begins)}Remove the two quotes."
    raise DataError(compose(f"{name}, line {begins:,}", "quotes around single cells", got, hint))


def _like_a_record(line: str, dialect: Dialect) -> bool:
    cells = dialect.split(line.rstrip("\r\n").replace('"', ""))
    if len(cells) != dialect.n:
        return False
    numbers = [cells[i].strip() for i in dialect.numeric]
    return all(not cell or _NUMERIC.fullmatch(cell) for cell in numbers) and (any(numbers) or not dialect.numeric)


def numeric_places(rows: Sequence[Sequence[str]], n: int) -> tuple[int, ...]:
    """Return the indices of the columns in which nearly all cells are numbers, roughly."""
    columns = []
    for i in range(n):
        cells = [row[i].strip() for row in rows]
        known = [cell for cell in cells if cell]
        if len(known) >= 2 and sum(_NUMERIC.fullmatch(cell) is not None for cell in known) >= 0.8 * len(known):
            columns.append(i)
    return tuple(columns)


def like_a_number(cell: str) -> bool:
    """Return whether a cell is roughly a number."""
    return _NUMERIC.fullmatch(cell.strip()) is not None
