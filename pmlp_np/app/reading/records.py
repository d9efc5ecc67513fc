"""CSV records: cells as they are written, the line each record begins on, and no record that swallows others.

Tried on small files with faults (short lines, stray quotes, blank lines, notes above and below): pyarrow's reader drops
blank lines, joins what follows a closing quote, and names no line; DuckDB's (strict_mode, store_rejects) keeps blank
lines and names short ones, but keeps no line of those that are well, reads a title as a table of one column, and both
let two stray quotes swallow the lines between. Python's csv module parses quoted cells, streams, and needs nothing
else; here it gets the lines one by one, so that their numbers and their ends are known, and what it forgives is checked
after it: text behind a closing quote, and quoted cells that hold what must be whole records."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pmlp_np.base.errors import DataError, compose, show

_LONGEST_CELL = 1 << 24
# A cell that looks like a number to a glance, whatever marks it has.
_NUMERIC = re.compile(r"[^\w\s]{0,3}\s?\d[\d.,'’\s]*(?:[eE][+-]?\d+)?\s?[^\w\s]{0,2}")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Dialect:
    """How records are separated. delimiter: one character, or "" where a line is one cell. pads: whether blanks that
    follow a delimiter, or precede one, belong to it. numeric: places of columns that hold numbers to a glance."""

    delimiter: str
    pads: tuple[bool, bool] = (False, False)
    n: int = 1
    numeric: tuple[int, ...] = ()
    cell: re.Pattern[str] = field(default=re.compile(""), compare=False)

    @classmethod
    def of(cls, delimiter: str, pads: tuple[bool, bool], n: int = 1, numeric: tuple[int, ...] = ()) -> Dialect:
        d = re.escape(delimiter) if delimiter else r"(?!)"
        blank = r"[ \t]*" if delimiter != "\t" else " *"
        before = blank if pads[0] else ""
        # A quoted cell, or one that does not begin with a quote and ends with its line.
        pattern = rf'{before}"[^"]*(?:""[^"]*)*"{blank}(?={d}|\Z)|(?!{before}")(?:(?!{d})[^\r\n])*'
        return cls(delimiter, pads, n, numeric, re.compile(pattern))

    def split(self, line: str) -> list[str]:
        """The cells of a line without quotes, whose end is cut off."""
        cells = line.split(self.delimiter) if self.delimiter else [line]
        return self._bare(cells)

    def _bare(self, cells: list[str]) -> list[str]:
        if self.pads[0]:
            cells = [cell.lstrip(" ") for cell in cells]
        if self.pads[1]:
            cells = [cell.rstrip(" ") for cell in cells]
        return cells

    def take_record(self, lines: Iterator[str]) -> None:
        """Take the lines of the next record, with quotes. csv.Error for what can't be one."""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        # A delimiter that can't occur: lines have no \r but at their ends.
        next(csv.reader(lines, delimiter=self.delimiter or "\x1f", skipinitialspace=self.pads[0]))

    def content(self, cell: str) -> str:
        """What a cell holds that was found by the pattern: without its quotes, and what stands around them."""
        quoted = cell.strip(" \t")
        if not quoted.startswith('"') or (cell[0] != '"' and not self.pads[0]):
            return self._bare([cell])[0]
        return quoted[1:-1].replace('""', '"')


def records(lines: Iterator[str], dialect: Dialect, name: str, number: int) -> Iterator[tuple[int, str | list[str]]]:
    """(the line it begins on, its cells) of each record, blank lines included as []. number: of the lines before. A
    line without quotes comes as it is, without its end, for `split`.

    DataError for quotes that are not in pairs, for text behind a closing one, and for quoted cells that hold records.
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
    """Lines of one record, which are kept in `taken`."""
    taken.append(line)
    yield line
    for more in rest:
        taken.append(more)
        yield more


def _quoted_cells(taken: list[str], dialect: Dialect, name: str, begins: int) -> list[str]:
    """The cells of a record. DataError where it is not cells in whole quotes, or without them, between delimiters."""
    text = "".join(taken).rstrip("\r\n")
    place, cells = 0, []
    while True:
        found = dialect.cell.match(text, place)
        if found is None or (found.end() < len(text) and not text.startswith(dialect.delimiter or "\0", found.end())):
            raise _odd_quotes(text, place, name, begins)
        cells.append(dialect.content(found[0]))
        place = found.end()
        if place >= len(text):
            return cells
        place += 1
        if place == len(text):
            # A record that ends with a delimiter ends with an empty cell.
            return [*cells, ""]


def _odd_quotes(text: str, place: int, name: str, begins: int) -> DataError:
    begun = begins + len(_LINE_END.findall(text, 0, place))
    closed = re.compile(r'\s*"[^"]*(?:""[^"]*)*"').match(text, place)
    end = closed.end() if closed else len(text)
    n = len(_LINE_END.findall(text, place, end)) + 1
    hint = f"{_well(begun)}Remove the quote, or write one that belongs to the text twice and the cell in quotes."
    if n > 1:
        got = f"a cell that a quote opens there and that runs over {n:,} lines, to line {begun + n - 1:,}"
        got += ", where text follows the closing quote" if closed else ", the end of the file"
    else:
        after = " ".join(text[end : end + 20].split())
        got = f"text behind the closing quote of a cell ({show(after)})" if closed else "a quote that nothing closes"
    return DataError(compose(f"{name}, line {begun:,}", "quotes in pairs around whole cells", got, hint))


def _well(line: int) -> str:
    return "" if line < 2 else f"Lines 1 to {line - 1:,} are well. " if line > 2 else "Line 1 is well. "


def _check_swallowed(taken: list[str], dialect: Dialect, name: str, begins: int) -> None:
    """DataError where most lines of one record are records themselves: two stray quotes make a cell of all between.

    An address or a comment may well hold lines and delimiters; it rarely has as many cells as the table on each line,
    with numbers where the table has numbers.
    """
    alike = [line for line in taken if _like_a_record(line, dialect)]
    # Without a column of numbers to tell by, more lines are needed.
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
    numbers = [cells[place].strip() for place in dialect.numeric]
    return all(not cell or _NUMERIC.fullmatch(cell) for cell in numbers) and (any(numbers) or not dialect.numeric)


def numeric_places(rows: Sequence[Sequence[str]], n: int) -> tuple[int, ...]:
    """Places of the columns in which nearly all cells look like numbers."""
    found = []
    for place in range(n):
        cells = [row[place].strip() for row in rows]
        known = [cell for cell in cells if cell]
        if len(known) >= 2 and sum(_NUMERIC.fullmatch(cell) is not None for cell in known) >= 0.8 * len(known):
            found.append(place)
    return tuple(found)


def like_a_number(cell: str) -> bool:
    """Whether a cell looks like a number to a glance."""
    return _NUMERIC.fullmatch(cell.strip()) is not None
