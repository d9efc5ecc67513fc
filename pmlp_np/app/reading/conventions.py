"""Conventions: how the numbers and dates of a file are written. They belong to the file, not to a column; they are
found once, from all columns' cells, kept in the result folder, and hold for the tables that are predicted later.

A column whose cells read as numbers in one way alone decides for those that read both ways. Where nothing decides, a
file whose cells are separated by commas has decimal points, as most programs write it; any other file is refused with
one cell of it, and the option that says how it is to be read.
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
    """How the numbers of one column are written. decimal: "." or ",". thousands: marks that were seen between groups of
    three digits. affix: what stands around them."""

    decimal: str = "."
    thousands: tuple[str, ...] = ()
    affix: Affix = NO_AFFIX


@dataclass(frozen=True)
class Conventions:
    """decimal, thousands: of the file's numbers, "." and none where nothing says more. day_first: whether 01/02 is the
    first of February; None where no date told. delimiter: between cells; "" for files that have none. missing: words
    that stand for missing cells. columns: styles of the columns whose numbers have another, or something around
    them."""

    decimal: str = "."
    thousands: tuple[str, ...] = ()
    day_first: bool | None = None
    delimiter: str = ""
    missing: MissingWords = field(default_factory=MissingWords)
    columns: dict[str, Style] = field(default_factory=dict)

    def style(self, column: str) -> Style:
        """How a column's numbers are written."""
        return self.columns.get(column, Style(self.decimal, self.thousands))

    def described(self, column: str) -> str:
        """How a column's numbers are written, in words."""
        style = self.style(column)
        marks = " or ".join(_CALLED[mark] for mark in style.thousands)
        said = [f"decimal {_CALLED[style.decimal]}", *([f"{marks} between thousands"] if marks else [])]
        return ", ".join([*said, *([str(style.affix)] if style.affix else [])])

    def to_plain(self) -> dict[str, Any]:
        """What JSON keeps of it."""
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
        """The inverse. TypeError, ValueError or KeyError for what `to_plain` never wrote."""
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
    found = _texts(thousands)
    if decimal not in (".", ",") or not set(found) <= set(THOUSANDS) - {decimal}:
        raise ValueError("decimal and thousands")
    return decimal, found


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise TypeError("texts")
    return tuple(values)


def _pairs(values: Any) -> tuple[tuple[str, str], ...]:
    found = tuple(_texts(each) for each in values)
    if not isinstance(values, list) or not all(len(each) == 2 for each in found):
        raise TypeError("pairs of texts")
    return tuple((each[0], each[1]) for each in found)


def decided(
    seen: Mapping[str, Evidence],
    reading: Reading,
    delimiter: str | None,
    learned: Conventions | None,
    name: str,
    where: str,
    notes: list[str],
) -> tuple[Conventions, dict[str, str | None]]:
    """(the file's conventions of numbers, the decimal mark of each column; None for one that holds no numbers).

    seen: by column. delimiter: what separates cells; None for files whose texts are separated without one. learned: the
    conventions of the fit. where: how a line of the file is called ("line", "row").

    DataError for numbers that read both ways where nothing decides; not with `learned`: such columns are no numbers.
    """
    alone = {d: [c for c, e in seen.items() if e.numbers and not e.ambiguous and not e.reads[_OTHER[d]]] for d in ".,"}
    unsure = [c for c, e in seen.items() if e.numbers and e.ambiguous]
    decimal, refused = _decimal_of_file(alone, unsure, reading, delimiter, learned, notes)
    asked = reading.decimal is not None
    marks: dict[str, str | None] = dict.fromkeys(seen)
    for column, evidence in seen.items():
        if evidence.numbers and column not in refused:
            marks[column] = _mark_of(column, evidence, decimal, learned, asked)
    if learned is not None:
        for column in unsure:
            new = _new_thousands(seen[column], marks[column] or decimal, learned.style(column))
            if new and not (alone[marks[column] or decimal] or asked):
                marks[column] = None
            elif new and not asked:
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
    """(the decimal mark of most columns, the columns of which nothing decides it).

    alone: the columns that read in one way only, by that way's mark. unsure: those that read both ways.
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


def _mark_of(column: str, evidence: Evidence, decimal: str, learned: Conventions | None, asked: bool) -> str | None:
    """The decimal mark of a column of numbers. asked: whether the caller names the file's mark."""
    by_fit = learned.style(column).decimal if learned is not None and not asked else decimal
    if learned is not None and by_fit != learned.decimal and evidence.reads[by_fit]:
        # A column that the fit's file wrote in another way than its others is still written so.
        return by_fit
    if evidence.reads[decimal]:
        return decimal
    if learned is not None and learned.style(column).decimal == learned.decimal and not asked:
        # Neither as in the fit nor as the rest of the file.
        return None
    return _OTHER[decimal]


def _new_thousands(evidence: Evidence, mark: str, style: Style) -> set[str]:
    """Points or commas between thousands, which the fit did not have: they are not guessed."""
    return evidence.thousands(mark) & {".", ","} - set(style.thousands)


def _odd_styles(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], decimal: str, learned: Conventions | None
) -> dict[str, Style]:
    """The styles of columns that are not written as most of the file, or hold a unit."""
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
    """The decimal mark of a file that is predicted: that of the fit, unless its numbers all read in the other way."""
    other = _OTHER[learned.decimal]
    ours = [c for c in alone[learned.decimal] if learned.style(c).decimal == learned.decimal]
    theirs = [c for c in alone[other] if learned.style(c).decimal == learned.decimal]
    if not theirs or ours:
        return learned.decimal
    notes.append(f"numbers have decimal {_CALLED[other]}, unlike those of the fit, by column {theirs[0]!r}")
    return other


def _reading_of(cell: str, decimal: str, affix: Affix) -> str:
    """A cell's number under a reading, as text."""
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
    """Note of thousands as the fit had none, which other columns of the file tell from decimals."""
    other = _OTHER[mark]
    line, cell = evidence.shown[other]
    read, instead = (_reading_of(cell, each, evidence.affix) for each in (mark, other))
    said = f"{show(cell)} in {where} {line:,} is {read} (--decimal {other} reads {instead})"
    notes.append(f"column {column!r} has {_CALLED[other]} between thousands, unlike in the fit: {said}")


def _refuse_other_marks(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], thousands: str, name: str, where: str
) -> None:
    for column, decimal in marks.items():
        if decimal is not None and (others := seen[column].thousands(decimal) - {thousands}):
            mark = sorted(others)[0]
            line, cell = seen[column].shown[mark]
            expected = f"{_CALLED[thousands]} between thousands, as is said"
            hint = f"Say --thousands {_SPELLED[mark]} or leave the option out."
            raise DataError(compose(f"column {column!r} of {name}, {where} {line:,}", expected, show(cell), hint))


def _say(
    seen: Mapping[str, Evidence], marks: dict[str, str | None], odd: dict[str, Style], decimal: str,
    delimiter: str | None, where: str, notes: list[str],
) -> None:  # fmt: skip
    """Notes of what is no plain number."""
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
        said = f"{_CALLED[marked]} between thousands in {_list(between)}"
        said += f": {show(cell)} in {where} {line:,} is {_reading_of(cell, mark, seen[column].affix)}"
        if seen[column].ambiguous:
            said += f" (--decimal {_OTHER[mark]} reads {_reading_of(cell, _OTHER[mark], seen[column].affix)})"
        notes.append(said)
        break
    affixed = [(c, s) for c, s in odd.items() if s.affix]
    if affixed:
        listed = _list([f"{c} ({s.affix})" for c, s in affixed])
        notes.append(f"read as numbers, without what stands beside them: {listed}; --categorical COLUMN keeps texts")
    wrapped = [c for c, d in marks.items() if d is not None and seen[c].wrapped]
    if wrapped:
        notes.append(f"numbers in parentheses, or with a minus behind, are negative in {_list(wrapped)}")


def _list(names: Collection[str]) -> str:
    some = list(names)[:8]
    return ", ".join(some) + (", ..." if len(names) > len(some) else "")


def with_missing(conventions: Conventions, missing: MissingWords, day_first: bool | None) -> Conventions:
    """The same with these words for missing cells, and the order of dates."""
    return replace(conventions, missing=missing, day_first=day_first)
