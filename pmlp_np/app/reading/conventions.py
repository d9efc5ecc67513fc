"""Conventions: how the numbers and dates of a file are written.

Conventions belong to the file, not to a column. They are detected once, from the cells of all columns, and stored in
the result folder for tables that are predicted later.

A column whose cells are numbers with one decimal mark only decides for ambiguous columns. If no column decides, a file
with commas between cells has decimal points, as most programs write it; another file raises an error that shows a cell
and the options to choose from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pmlp_np.app.reading.numbers import NO_AFFIX, Affix, Evidence
from pmlp_np.app.reading.reading_options import THOUSANDS, MissingWords, Reading
from pmlp_np.base.errors import DataError, compose, show

_CALLED = {".": "points", ",": "commas", "'": "apostrophes", " ": "blanks"}
_OTHER = {".": ",", ",": "."}
_SPELLED = {",": "comma", ".": "point", "'": "apostrophe", " ": "space"}


@dataclass(frozen=True)
class Style:
    """How the numbers of one column are written.

    decimal: "." or ",".
    thousands: separators of thousands in the cells.
    affix: the text around numbers.
    """

    decimal: str = "."
    thousands: tuple[str, ...] = ()
    affix: Affix = NO_AFFIX


@dataclass(frozen=True)
class Conventions:
    """How the numbers and dates of a file are written.

    decimal, thousands: decimal mark and separators of thousands of the file's numbers.
    day_first: whether 01/02 is the first of February; None if no date decides it.
    delimiter: between cells; "" for files without one.
    missing: words for missing cells.
    columns: styles of columns that differ, or have an affix.
    """

    decimal: str = "."
    thousands: tuple[str, ...] = ()
    day_first: bool | None = None
    delimiter: str = ""
    missing: MissingWords = field(default_factory=MissingWords)
    columns: dict[str, Style] = field(default_factory=dict)

    def style(self, column: str) -> Style:
        """Return how a column's numbers are written."""
        return self.columns.get(column, Style(self.decimal, self.thousands))

    def described(self, column: str) -> str:
        """Return how a column's numbers are written, in words."""
        style = self.style(column)
        marks = " or ".join(_CALLED[mark] for mark in style.thousands)
        parts = [f"decimal {_CALLED[style.decimal]}", *([f"{marks} between thousands"] if marks else [])]
        return ", ".join([*parts, *([str(style.affix)] if style.affix else [])])

    def to_plain(self) -> dict[str, Any]:
        """Return the conventions as plain values for JSON."""
        missing = {name: list(map(list, words)) if name.endswith(("only", "in")) else list(words)
                   for name, words in vars(self.missing).items()}  # fmt: skip
        columns = {
            name: {"decimal": style.decimal, "thousands": list(style.thousands), "before": style.affix.before,
                   "after": style.affix.after} for name, style in self.columns.items()
        }  # fmt: skip
        return {"decimal": self.decimal, "thousands": list(self.thousands), "day_first": self.day_first,
                "delimiter": self.delimiter, "missing": missing, "columns": columns}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Any) -> Conventions:
        """Return conventions from `to_plain`'s values. Raises TypeError, ValueError or KeyError for others."""
        if set(plain) != {"decimal", "thousands", "day_first", "delimiter", "missing", "columns"}:
            raise ValueError("conventions")
        missing = plain["missing"]
        words = MissingWords(
            _texts(missing["everywhere"]), _pairs(missing["only"]), _texts(missing["kept"]), _pairs(missing["kept_in"])
        )
        columns = {}
        for name, style in plain["columns"].items():
            affix = Affix(*_texts([style["before"], style["after"]]))
            columns[name] = Style(*_marks(style["decimal"], style["thousands"]), affix)
        day_first, delimiter = plain["day_first"], plain["delimiter"]
        if not (day_first is None or isinstance(day_first, bool)) or not isinstance(delimiter, str):
            raise TypeError("conventions")
        if len(delimiter) > 1:
            raise ValueError("delimiter")
        return cls(*_marks(plain["decimal"], plain["thousands"]), day_first, delimiter, words, columns)


def _marks(decimal: Any, thousands: Any) -> tuple[str, tuple[str, ...]]:
    marks = _texts(thousands)
    if decimal not in (".", ",") or not set(marks) <= set(THOUSANDS) - {decimal}:
        raise ValueError("decimal and thousands")
    return decimal, marks


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise TypeError("texts")
    return tuple(values)


def _pairs(values: Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple(_texts(each) for each in values)
    if not isinstance(values, list) or not all(len(each) == 2 for each in pairs):
        raise TypeError("pairs of texts")
    return tuple((each[0], each[1]) for each in pairs)


def decided(
    seen: Mapping[str, Evidence],
    reading: Reading,
    delimiter: str | None,
    learned: Conventions | None,
    name: str,
    where: str,
    notes: list[str],
) -> tuple[Conventions, dict[str, str | None]]:
    """Return (the file's conventions of numbers, the decimal mark of each column or None for a column of texts).

    seen: evidence of each column.
    delimiter: of cells; None for files without delimiters (Parquet).
    learned: the conventions of the fit, for a table that is predicted.
    where: "line" or "row", for errors and notes.

    Raises DataError for numbers that are ambiguous if no column decides. With `learned` such columns are texts.
    """
    alone = {d: [c for c, e in seen.items() if e.numbers and not e.ambiguous and not e.reads[_OTHER[d]]] for d in ".,"}
    unsure = [c for c, e in seen.items() if e.numbers and e.ambiguous]
    decimal, refused = _decimal_of_file(alone, unsure, reading, delimiter, learned, notes)
    requested = reading.decimal is not None
    marks: dict[str, str | None] = dict.fromkeys(seen)
    for column, evidence in seen.items():
        if evidence.numbers and column not in refused:
            marks[column] = _mark_of(column, evidence, decimal, learned, requested)
    if learned is not None:
        for column in unsure:
            new = _new_thousands(seen[column], marks[column] or decimal, learned.style(column))
            if new and not (alone[marks[column] or decimal] or requested):
                marks[column] = None
            elif new and not requested:
                _say_new(column, seen[column], marks[column] or decimal, where, notes)
    elif refused:
        raise _undecided(refused[0], seen[refused[0]], alone, name, where)
    if reading.thousands is not None:
        _refuse_other_marks(seen, marks, reading.thousands, name, where)
    thousands = sorted({m for c, d in marks.items() if d == decimal for m in seen[c].thousands(decimal)})
    odd = _odd_styles(seen, marks, decimal, learned)
    if learned is None:
        _say(seen, marks, odd, decimal, delimiter, where, notes)
    return Conventions(decimal, tuple(thousands), None, delimiter or "", columns=odd), marks


def _decimal_of_file(
    alone: dict[str, list[str]], unsure: list[str], reading: Reading, delimiter: str | None,
    learned: Conventions | None, notes: list[str],
) -> tuple[str, list[str]]:  # fmt: skip
    """Return (the decimal mark of most columns, the columns whose mark is undecided).

    alone: by decimal mark, the columns that are numbers with this mark only.
    unsure: ambiguous columns.
    """
    mark = reading.decimal
    if mark is None and learned is not None:
        mark = _by_the_fit(alone, learned, notes)
    elif mark is None and bool(alone["."]) != bool(alone[","]):
        mark = "." if alone["."] else ","
    elif mark is None and delimiter in (",", None) and not (alone["."] or alone[","]):
        mark = "."
    refused = unsure if mark is None else []
    return mark or ("," if len(alone[","]) > len(alone["."]) else "."), refused


def _mark_of(column: str, evidence: Evidence, decimal: str, learned: Conventions | None, requested: bool) -> str | None:
    """Return the decimal mark of a column of numbers. requested: whether an option sets the file's mark."""
    by_fit = learned.style(column).decimal if learned is not None and not requested else decimal
    if learned is not None and by_fit != learned.decimal and evidence.reads[by_fit]:
        # A column with another style than the others in the fit has it here, too.
        return by_fit
    if evidence.reads[decimal]:
        return decimal
    if learned is not None and learned.style(column).decimal == learned.decimal and not requested:
        # The column's style is neither that of the fit nor that of the file.
        return None
    return _OTHER[decimal]


def _new_thousands(evidence: Evidence, mark: str, style: Style) -> set[str]:
    """Return points or commas as separators of thousands that the fit did not have."""
    return evidence.thousands(mark) & {".", ","} - set(style.thousands)


def _odd_styles(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], decimal: str, learned: Conventions | None
) -> dict[str, Style]:
    """Return the styles of columns that differ from the file's, or have a unit."""
    odd = {
        c: Style(d, tuple(sorted(seen[c].thousands(d))), seen[c].affix)
        for c, d in marks.items() if d is not None and (d != decimal or seen[c].affix)
    }  # fmt: skip
    if learned is not None:
        for column in (c for c, mark in marks.items() if mark is None):
            style = learned.style(column)
            mark = decimal if style.decimal == learned.decimal else style.decimal
            odd[column] = Style(mark, style.thousands if style.decimal == mark else (), style.affix)
    return odd


def _by_the_fit(alone: dict[str, list[str]], learned: Conventions, notes: list[str]) -> str:
    """Return the decimal mark of a predicted file: the fit's, unless all numbers have the other one."""
    other = _OTHER[learned.decimal]
    with_same = [c for c in alone[learned.decimal] if learned.style(c).decimal == learned.decimal]
    with_other = [c for c in alone[other] if learned.style(c).decimal == learned.decimal]
    if not with_other or with_same:
        return learned.decimal
    notes.append(f"numbers have decimal {_CALLED[other]}, unlike those of the fit, by column {with_other[0]!r}")
    return other


def _reading_of(cell: str, decimal: str, affix: Affix) -> str:
    """Return a cell's number with this decimal mark, as text."""
    import pyarrow

    from pmlp_np.app.reading.numbers import converted

    value = float(converted(pyarrow.array([cell]), decimal, affix)[0][0])
    return f"{value:.15g}"


def _undecided(column: str, evidence: Evidence, alone: dict[str, list[str]], name: str, where: str) -> DataError:
    line, cell = evidence.example
    point, comma = (_reading_of(cell, d, evidence.affix) for d in ".,")
    hint = f"Say --decimal . for {point}, or --decimal , for {comma}."
    if alone["."] and alone[","]:
        got = f"{show(cell)}, beside decimal points in {alone['.'][0]!r} and decimal commas in {alone[','][0]!r}"
    else:
        got = f"{show(cell)}, and no cell of the table that tells a decimal mark from one between thousands"
    return DataError(compose(f"column {column!r} of {name}, {where} {line:,}", "numbers that read one way", got, hint))


def _say_new(column: str, evidence: Evidence, mark: str, where: str, notes: list[str]) -> None:
    """Append a note on separators of thousands that the fit did not have."""
    other = _OTHER[mark]
    line, cell = evidence.shown[other]
    read, instead = (_reading_of(cell, each, evidence.affix) for each in (mark, other))
    example = f"{show(cell)} in {where} {line:,} is {read} (--decimal {other} reads {instead})"
    notes.append(f"column {column!r} has {_CALLED[other]} between thousands, unlike in the fit: {example}")


def _refuse_other_marks(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], thousands: str, name: str, where: str
) -> None:
    for column, decimal in marks.items():
        if decimal is not None and (others := seen[column].thousands(decimal) - {thousands}):
            mark = sorted(others)[0]
            line, cell = seen[column].shown[mark]
            expected = f"{_CALLED[thousands]} between thousands, as in --thousands"
            hint = f"Say --thousands {_SPELLED[mark]} or leave the option out."
            raise DataError(compose(f"column {column!r} of {name}, {where} {line:,}", expected, show(cell), hint))


def _say(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], odd: dict[str, Style], decimal: str,
    delimiter: str | None, where: str, notes: list[str],
) -> None:  # fmt: skip
    """Append notes on numbers with unusual formats."""
    commas = [c for c, d in marks.items() if d == "," and "," in seen[c].has]
    if commas:
        notes.append(f"numbers have decimal commas in {_list(commas)}")
    points = [c for c, d in marks.items() if d == "." and "." in seen[c].has]
    if commas and points:
        notes.append(f"but decimal points in {_list(points)}")
    for column, mark in marks.items():
        if mark is None or not seen[column].thousands(mark):
            continue
        between = [c for c, d in marks.items() if d is not None and seen[c].thousands(d)]
        marked = sorted(seen[column].thousands(mark))[0]
        line, cell = seen[column].shown[marked]
        text = f"{_CALLED[marked]} between thousands in {_list(between)}"
        text += f": {show(cell)} in {where} {line:,} is {_reading_of(cell, mark, seen[column].affix)}"
        if seen[column].ambiguous:
            text += f" (--decimal {_OTHER[mark]} reads {_reading_of(cell, _OTHER[mark], seen[column].affix)})"
        notes.append(text)
        break
    affixed = [(c, s) for c, s in odd.items() if s.affix]
    if affixed:
        listed = _list([f"{c} ({s.affix})" for c, s in affixed])
        notes.append(f"read as numbers, without what stands beside them: {listed}; --categorical COLUMN keeps texts")
    wrapped = [c for c, d in marks.items() if d is not None and seen[c].wrapped]
    if wrapped:
        notes.append(f"numbers in parentheses, or with a minus behind, are negative in {_list(wrapped)}")


def _list(names: Collection[str]) -> str:
    first = list(names)[:8]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")


def with_missing(conventions: Conventions, missing: MissingWords, day_first: bool | None) -> Conventions:
    """Return a copy with these words for missing cells, and this order of dates."""
    return replace(conventions, missing=missing, day_first=day_first)
