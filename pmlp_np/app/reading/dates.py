"""Dates as people write them: one format for all cells of a column, and day before month or after it.

A day above 12 tells the order; it then holds for the file's other dates that do not tell. Where nothing tells, dates
with points are day first, as is usual, with a note; others are refused with one of them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

ISO = "ISO8601"
_MONTHS = ("%b", "%B")
_FORMS = [
    *(f"%d{s}%m{s}{y}" for y in ("%Y", "%y") for s in "./-"), "%d. %m. %Y", "%d %m %Y",
    *(f"%m{s}%d{s}{y}" for y in ("%Y", "%y") for s in "./-"), "%m %d %Y",
    *(f"%Y{s}%m{s}%d" for s in "./"),
    *(f"%d{s}{m}{s}{y}" for y in ("%Y", "%y") for m in _MONTHS for s in (" ", "-", "/", ".")),
    *(f"{m} %d, %Y" for m in _MONTHS), *(f"{m} %d %Y" for m in _MONTHS), *(f"%d. {m} %Y" for m in _MONTHS),
    *(f"{w}, %d {m} %Y" for w in ("%a", "%A") for m in _MONTHS), *(f"%Y-{m}-%d" for m in _MONTHS),
]  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", "T%H:%M",
          "T%H:%M:%S")  # fmt: skip
# A cell that may be a date: it has a digit, and is short.
_LONGEST = 40
_GLANCE = 100
_LIKE_ISO = re.compile(r"\d{4}-\d\d?(?:-\d\d?)?(?:[T ].*)?")


@dataclass(frozen=True)
class Dated:
    """formats: in which all cells are dates, the most likely first; two where day and month may be either. odd: of
    cells that are mostly dates in the first format, which are none."""

    formats: tuple[str, ...]
    odd: np.ndarray | None = None

    @property
    def unsure(self) -> bool:
        """Whether the cells are dates with the day before the month, and behind it."""
        return len(self.formats) > 1

    def ordered(self, day_first: bool) -> str:
        """The format with this order, if there is one."""
        return next((f for f in self.formats if day_first_of(f) is day_first), self.formats[0])


def day_first_of(date_format: str) -> bool | None:
    """Whether a format has the day before a month that is a number; None where that can't be mistaken."""
    if date_format.startswith("%d") and "%m" in date_format:
        return True
    return False if date_format.startswith("%m") else None


def parsed(cells: Any, date_format: str) -> Any:
    """pandas.Series of datetime64 in UTC, NaT for missing ones and for what is no date in this format."""
    import pandas

    return pandas.to_datetime(cells.str.strip(), format=date_format, errors="coerce", utc=True)


def dated(known: Any) -> Dated | None:
    """In which formats these texts (a pandas.Series, none missing) are dates; None where they are none."""
    sample = known.iloc[:_GLANCE]
    # What is no date to a glance needs no parsing.
    like = sample.str.contains(r"\d", regex=True) & (sample.str.len() <= _LONGEST)
    if 2 * int(like.sum()) <= len(sample):
        return None
    shares: dict[str, float] = {}
    for date_format in dict.fromkeys(each for cell in sample[like].iloc[:3] for each in formats_of(cell.strip())):
        shares[date_format] = float(parsed(sample, date_format).notna().mean())
    likely = [each for each, share in shares.items() if 2 * share > 1.0]
    if not likely:
        return None
    unique = known.drop_duplicates()
    whole = [each for each in likely if shares[each] == 1.0 and bool(parsed(unique, each).notna().all())]
    if whole:
        # Of one order, the first: a time of day that may have a fraction, or not, is the same.
        orders: dict[bool | None, str] = {}
        for each in whole:
            orders.setdefault(day_first_of(each), each)
        return Dated((orders[None],) if None in orders else tuple(orders.values()))
    odd = {each: parsed(known, each).isna().to_numpy() for each in likely}
    best = min(odd, key=lambda each: int(odd[each].sum()))
    return Dated((best,), odd[best]) if 2 * int(odd[best].sum()) < len(known) else None


def formats_of(cell: str) -> list[str]:
    """Formats in which a cell is a date."""
    if _LIKE_ISO.fullmatch(cell):
        return [ISO]
    found = []
    for date_format in _BY_SHAPE.get(_shape(cell), ()):
        with contextlib.suppress(ValueError):
            datetime.strptime(cell, date_format)
            found.append(date_format)
    return found


def _shape(text: str) -> str:
    """A text with each number as 0 and each word as a, by which formats are found at once."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", text))


_BY_SHAPE: dict[str, list[str]] = {}
for _form in _FORMS:
    for _time in _TIMES:
        _plain = re.sub(r"%[dmYyHMSfI]", "0", re.sub(r"%[bBaAp]", "a", _form + _time))
        _BY_SHAPE.setdefault(_shape(_plain), []).append(_form + _time)


def shown(cell: str, date_format: str) -> str:
    """A cell's date in words: "1 February 1990"."""
    found = datetime.strptime(cell.strip(), date_format)
    return f"{found.day} {found:%B} {found.year}"
