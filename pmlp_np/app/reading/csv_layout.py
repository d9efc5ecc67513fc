"""The layout of a CSV file, detected from its first lines: the delimiter, the names, and lines above them."""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.reading.records import Dialect, like_a_number, numeric_places, records
from pmlp_np.base.errors import DataError, compose, show

_DELIMITERS = ",;\t|"
_WORDS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
# Number of lines from which the delimiter is detected; largest number of lines above the names.
_SAMPLE, _MOST_ABOVE = 100, 50
_DECIMAL_COMMA = re.compile(r"[+-]?[\d.'’ ]*\d,\d+")


@dataclass(frozen=True)
class Layout:
    """The layout of a CSV file.

    names: of the columns, stripped.
    lines: number of lines up to the end of the names; rows begin below.
    trailing: whether each row has an empty cell more than there are names.
    """

    dialect: Dialect
    names: list[str]
    lines: int
    trailing: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of cells of a row."""
        return len(self.names) + self.trailing


def layout_of(
    lines: Sequence[str], whole: bool, reading: Reading, learned: str | None, decimal: str | None, name: str
) -> Layout:
    """Return the layout from the first lines of a file.

    whole: whether these are all lines.
    learned: the delimiter of the fit's table, or None.
    decimal: the decimal mark of the option or the fit, or None.
    """
    notes: list[str] = []
    skipped = reading.skip_lines
    if skipped >= len(lines):
        got = f"{len(lines):,}" if whole else f"names below line {skipped:,}"
        raise DataError(compose("--skip-lines", f"fewer lines than {name} has", f"{skipped:,} of {got}"))
    # Excel may name the delimiter in an additional first line.
    separator = re.fullmatch(r'"?sep=(.)"?\s*', lines[skipped])
    skipped += 1 if separator else 0
    rest = list(lines[skipped:])
    if not any(line.strip() for line in rest):
        raise DataError(compose(name, "names of columns and rows", "nothing"))
    delimiter = reading.delimiter or (separator[1] if separator else None)
    if delimiter is None:
        delimiter = _delimiter(rest, whole, learned, decimal)
    if delimiter not in (",", ""):
        notes.append(f"cells are separated by {_WORDS.get(delimiter, repr(delimiter))}")
    pads = _pads(rest, delimiter)
    body = [line for line in rest if line.strip()]
    body = ([line for line in body if not line.startswith("#")] or body)[:_SAMPLE]
    n = _usual(body, delimiter, whole)
    simple = Dialect.of(delimiter, pads, n)
    rows = [row for row in (_cells(line, delimiter) for line in body[1:]) if row is not None and len(row) == n]
    dialect = Dialect.of(delimiter, pads, n, numeric_places(rows, n))
    number, names, above = _names(rest, simple, n, rows, skipped, name)
    if above:
        text = "1 line above the names of columns is" if len(above) == 1 else f"{len(above)} lines above the names are"
        notes.append(f"{text} left out: {show(above[0])}")
    trailing = len(names) + 1 == n and len(rows) > 0 and all(not row[-1].strip() for row in rows)
    if names and not names[-1] and len(names) == n + 1:
        # The line of names ends with a delimiter, rows do not.
        names = names[:-1]
    dialect = Dialect.of(delimiter, pads, len(names) + trailing, dialect.numeric if n == len(names) + trailing else ())
    return Layout(dialect, names, number, trailing, notes)


def check_names(names: list[str], name: str) -> None:
    """Raise DataError for a name that occurs twice."""
    twice = [column for column, count in Counter(names).items() if count > 1 and column]
    if twice:
        raise DataError(compose(name, "each column's name once", f"{twice[0]!r} {names.count(twice[0])} times"))


def _delimiter(lines: list[str], whole: bool, learned: str | None, decimal: str | None) -> str:
    """Return the character that divides the first lines, the names among them, most evenly."""
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    body = (body or [line for line in lines if line.strip()])[:_SAMPLE]
    candidates: list[tuple[tuple[bool, float, int, bool, bool], str]] = []
    for delimiter in dict.fromkeys([*_DELIMITERS, *([learned] if learned else [])]):
        n = _usual(body, delimiter, whole)
        rows = [_cells(line, delimiter) for line in body]
        counts = [len(row) for row in rows if row is not None]
        if n < 2 or not counts:
            continue
        first = next((row for row in rows if row is not None), [])
        headed = len(first) in (n, n - 1, n + 1) and len(first) > 1
        if not headed:
            # A title above: the first line of n cells must hold names.
            top = next(row for row in rows if row is not None and len(row) == n)
            if any(like_a_number(cell) for cell in top):
                continue
        share = counts.count(n) / len(counts)
        if headed or share >= 0.5:
            candidates.append(((headed, share, n, delimiter == learned, delimiter == ","), delimiter))
    if candidates:
        return max(candidates)[1]
    # One column. Commas in its cells may be decimal commas.
    if decimal == "," and all(_DECIMAL_COMMA.fullmatch(line.strip()) for line in body[1:] if "," in line):
        return learned if learned and learned != "," else ""
    return learned or ","


def _cells(line: str, delimiter: str) -> list[str] | None:
    """Return the cells of a line; None if its quotes are not in pairs."""
    if line.count('"') % 2:
        return None
    with contextlib.suppress(csv.Error, StopIteration):
        return next(csv.reader([line], delimiter=delimiter or "\x1f", skipinitialspace=True))
    return None


def _usual(body: list[str], delimiter: str, whole: bool) -> int:
    """Return the number of cells that most lines have. The last line may be incomplete."""
    sample = body if whole or len(body) < 2 else body[:-1]
    counts = Counter(len(row) for row in (_cells(line, delimiter) for line in sample) if row is not None)
    if not counts:
        return 1
    return max(counts, key=lambda n: (counts[n], n))


def _pads(lines: list[str], delimiter: str) -> tuple[bool, bool]:
    """Return whether spaces after each delimiter, and before each, are no part of cells."""
    if not delimiter or delimiter.isspace():
        return False, False
    body = [line.rstrip("\r\n") for line in lines[:_SAMPLE] if delimiter in line]
    d = re.escape(delimiter)
    after = bool(body) and all(not re.search(rf"{d}(?! |$)", line) for line in body)
    after = after or _opens_after_space(lines[:_SAMPLE], d)
    before = bool(body) and all(not re.search(rf"(?<! ){d}", line) for line in body)
    return after, before


def _opens_after_space(lines: list[str], d: str) -> bool:
    """Return whether a quote after a delimiter and a space opens a cell, so that the space is no part of the cell.

    d: pattern of the delimiter. Within a quoted cell, which may go over lines, neither means anything.
    """
    opens = re.compile(rf'{d}(?= +"[^"]*"\s*(?:{d}|$))')
    quotes = 0
    for line in lines:
        text = line.rstrip("\r\n")
        if any((quotes + text.count('"', 0, match.start())) % 2 == 0 for match in opens.finditer(text)):
            return True
        quotes += text.count('"')
    return False


def _names(
    lines: list[str], dialect: Dialect, n: int, rows: list[list[str]], skipped: int, name: str
) -> tuple[int, list[str], list[str]]:
    """Return (the line number of the end of the names, the names, the lines above them)."""
    counted = _Counting(lines, skipped)
    above: list[str] = []
    lines_of_cells = []
    for begins, record in records(counted, dialect, name, skipped):
        cells = dialect.split(record) if isinstance(record, str) else record
        if any(cell.strip() for cell in cells):
            lines_of_cells.append((begins, counted.number, [cell.strip() for cell in cells]))
        if len(lines_of_cells) > _MOST_ABOVE:
            break
    for i, (begins, ends, cells) in enumerate(lines_of_cells):
        following = lines_of_cells[i + 1][2] if i + 1 < len(lines_of_cells) else None
        if not _above(cells, following, n):
            _check_count(cells, begins, lines_of_cells[i + 1 :], n, rows, name)
            return ends, cells, above
        above.append(" ".join(cell for cell in cells if cell))
    return lines_of_cells[0][1], lines_of_cells[0][2], []


def _above(cells: list[str], following: list[str] | None, n: int) -> bool:
    """Return whether a line is not the names but a title or a comment above them."""
    if following is None:
        return False
    names_follow = len(following) == n and not any(like_a_number(cell) for cell in following)
    if cells[0].startswith("#"):
        # "#id,value" may be the names.
        return len(cells) != n or names_follow or following[0].startswith("#")
    filled = sum(bool(cell) for cell in cells)
    if filled != 1 or n < 2 or (len(cells) == n and n == 2 and not names_follow):
        return False
    if len(cells) == n and not cells[0]:
        return False
    return names_follow or len(following) < n or following[0].startswith("#") or sum(map(bool, following)) == 1


def _check_count(
    names: list[str], line: int, below: list[tuple[int, int, list[str]]], n: int, rows: list[list[str]], name: str
) -> None:
    """Raise DataError if most rows have the same number of cells, which differs from the number of names."""
    agree = len(rows) > 1 and 2 * sum(len(cells) == n for _, _, cells in below) > len(below)
    # Rows or names may end with a delimiter.
    trailing = len(names) + 1 == n and all(not row[-1].strip() for row in rows)
    if not agree or len(names) == n or trailing or (len(names) == n + 1 and not names[-1]):
        return
    headed = [begins for begins, _, cells in below[:5] if len(cells) == n and not any(map(like_a_number, cells))]
    if headed:
        hint = f"If the names are in line {headed[0]:,}, say --skip-lines {headed[0] - 1}."
    elif len(names) + 1 == n:
        hint = "Add the name that is missing; the first column may hold numbers of rows."
    else:
        hint = "Add the names that are missing, or remove the line if it holds none."
    got = f"{len(names):,}, beginning with {show(names[0])}"
    raise DataError(compose(f"{name}, line {line:,}", f"names of the {n:,} columns below", got, hint))


class _Counting:
    """An iterator over lines that counts them."""

    def __init__(self, lines: list[str], number: int) -> None:
        self.lines, self.number = iter(lines), number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        return line
