"""Formats of dates: one format for all cells of a column, with the day before or after the month.

A day above 12 decides the order, also for ambiguous dates in other columns of the file. If no cell decides it, dates
with points are day first, as is usual, with a note; others raise an error that shows one of them.
"""

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
# A cell that may be a date has a digit, and at most so many characters.
_LONGEST = 40
_GLANCE = 100
_LIKE_ISO = re.compile(r"\d{4}-\d\d?(?:-\d\d?)?(?:[T ].*)?")


@dataclass(frozen=True)
class Dated:
    """A column of dates.

    formats: formats in which all cells are dates; two if the order of day and month is ambiguous.
    odd: a mask of cells that are no dates, if most cells are dates in the first format; else None.
    """

    formats: tuple[str, ...]
    odd: np.ndarray | None = None

    @property
    def unsure(self) -> bool:
        """Whether the order of day and month is ambiguous."""
        return len(self.formats) > 1

    def ordered(self, day_first: bool) -> str:
        """Return the format with this order, if there is one, else the first."""
        return next((f for f in self.formats if day_first_of(f) is day_first), self.formats[0])


def day_first_of(date_format: str) -> bool | None:
    """Return whether a format has the day before the month, both as numbers; None for unambiguous formats."""
    if date_format.startswith("%d") and "%m" in date_format:
        return True
    return False if date_format.startswith("%m") else None


def parsed(cells: Any, date_format: str) -> Any:
    """Return a pandas.Series of datetime64 in UTC, NaT for missing cells and cells of another format."""
    import pandas

    return pandas.to_datetime(cells.str.strip(), format=date_format, errors="coerce", utc=True)


def dated(known: Any) -> Dated | None:
    """Return the formats in which texts (a pandas.Series, none missing) are dates; None if they are no dates."""
    sample = known.iloc[:_GLANCE]
    # A cheap test first.
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
        # The first format of each order: formats that differ in the fraction of seconds only are equivalent.
        orders: dict[bool | None, str] = {}
        for each in whole:
            orders.setdefault(day_first_of(each), each)
        return Dated((orders[None],) if None in orders else tuple(orders.values()))
    odd = {each: parsed(known, each).isna().to_numpy() for each in likely}
    best = min(odd, key=lambda each: int(odd[each].sum()))
    return Dated((best,), odd[best]) if 2 * int(odd[best].sum()) < len(known) else None


def formats_of(cell: str) -> list[str]:
    """Return the formats in which a cell is a date."""
    if _LIKE_ISO.fullmatch(cell):
        return [ISO]
    formats = []
    for date_format in _BY_SHAPE.get(_shape(cell), ()):
        with contextlib.suppress(ValueError):
            datetime.strptime(cell, date_format)
            formats.append(date_format)
    return formats


def _shape(text: str) -> str:
    """Return a text with each number replaced by 0 and each word by a, the key of `_BY_SHAPE`."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", text))


_BY_SHAPE: dict[str, list[str]] = {}
for _form in _FORMS:
    for _time in _TIMES:
        _plain = re.sub(r"%[dmYyHMSfI]", "0", re.sub(r"%[bBaAp]", "a", _form + _time))
        _BY_SHAPE.setdefault(_shape(_plain), []).append(_form + _time)


def shown(cell: str, date_format: str) -> str:
    """Return a cell's date in words: "1 February 1990"."""
    date = datetime.strptime(cell.strip(), date_format)
    return f"{date.day} {date:%B} {date.year}"
