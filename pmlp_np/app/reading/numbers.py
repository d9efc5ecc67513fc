"""Numbers as people write them: decimal marks, thousands marks, signs, currencies, percent and units.

A column's cells are held against two readings, with a decimal point and with a decimal comma. "1.275,5" fits one of
them alone, "1.275" fits both: what it is belongs to the file (see `conventions`). Everything is done with Arrow's
kernels, a chunk of a column at a time; cells that C would read take the fast way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_BLANKS = "[ \u00a0\u2009\u202f]"
_APOSTROPHES = "['’]"
_MARKS = {"'": _APOSTROPHES, " ": _BLANKS}


def _pattern(decimal: str) -> str:
    """RE2 for all numbers with this decimal mark."""
    other = "," if decimal == "." else "."
    first = r"[1-9]\d{0,2}"
    groups = [rf"{first}(?:{mark}\d{{3}})+" for mark in (re.escape(other), _APOSTROPHES, _BLANKS)]
    # Of India: 12,34,567.
    groups += [r"[1-9]\d?(?:,\d\d)+,\d{3}"] if other == "," else []
    end = r"\.\d*" if decimal == "." else r",\d+"
    d = re.escape(decimal)
    return rf"^[+-]?(?:(?:\d+|{'|'.join(groups)})(?:{end})?|{d}\d+|(?i:inf(?:inity)?))(?:[eE][+-]?\d+)?$"


PATTERNS = {decimal: _pattern(decimal) for decimal in ".,"}

_CURRENCY = r"[$€£¥₹₽₩₺₪฿₫₴]|[A-Z]{1,2}\$|CHF|EUR|USD|GBP|JPY|SEK|NOK|DKK|PLN|CZK|AUD|CAD|INR|Fr\.|kr\.?|Rs\.?|zł"
_CORE = rf"\d(?:(?:[\d.,'’]|{_BLANKS})*\d)?[.]?"
# Units are letters and signs, without digits: "kg", "%", "°C", "km/h".
_UNIT = rf"(?:{_CURRENCY}|[%‰°µ€][A-Za-z/]{{0,6}}|[^\W\d_][^\W\d_./%²³ ]{{0,11}}(?:[/.²³ ][^\W\d_²³]{{0,8}}[²³]?)?)"
_DECORATED = re.compile(
    rf"\(?[+\-−]?\s?(?P<before>{_CURRENCY})?\s?[+\-−]?\s?{_CORE}(?P<after>\s?{_UNIT})?\s?-?\)?"
)  # fmt: skip


@dataclass(frozen=True)
class Affix:
    """What stands before and after the numbers of a column: ("$", ""), ("", "%"), ("", "kg")."""

    before: str = ""
    after: str = ""

    def __bool__(self) -> bool:
        return bool(self.before or self.after)

    def __str__(self) -> str:
        return self.before or self.after


NO_AFFIX = Affix()


def affix_of(cell: str) -> Affix:
    """What stands around the number of a cell; nothing where it is no such number."""
    found = _DECORATED.fullmatch(re.sub(r"(\d)[.,][-–—]{1,2}(\s|$)", r"\1\2", cell))
    return Affix(found["before"] or "", (found["after"] or "").strip()) if found else NO_AFFIX


def _arrow() -> Any:
    import pyarrow.compute

    return pyarrow.compute


def plain_floats(cells: Any) -> np.ndarray | None:
    """Cells (an Arrow array of texts) as C reads numbers, (n,) float64, NaN where empty; None where one is no number
    to C, or is called one ("nan")."""
    import pyarrow

    pc = _arrow()
    known = pc.if_else(pc.equal(cells, ""), None, cells)
    try:
        found = pc.cast(known, pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    values: np.ndarray = found.to_numpy(zero_copy_only=False)
    return values if int(np.isnan(values).sum()) == found.null_count else None


def _any(there: Any) -> bool:
    return bool(_arrow().any(there).as_py())


def normalized(cells: Any, affix: Affix) -> Any:
    """Numbers without what stands around them, a minus before them where they are negative: "(1,234)", "1,234-" and
    "−1,234" as accounts have them. Null where a cell lacks the affix."""
    pc = _arrow()
    found = cells
    # What is not there is not looked for in each cell.
    if _any(pc.match_substring_regex(cells, r"^\D?−|[-–—)]\D*$")):
        found = pc.replace_substring(found, "−", "-")
        # "5.-" and "5,--" are whole amounts.
        found = pc.replace_substring_regex(found, r"(\d)[.,][-–—]{1,2}(\s|$)", r"\1\2")
    if affix:
        before, after = re.escape(affix.before), re.escape(affix.after)
        blank = r"[ \x{00a0}\x{202f}]*"
        sign = r"([(]?[+-]?)" + blank
        pattern = f"^{sign}{before}{blank}([+-]?)(.*?){blank}{after}([-)]*)$" if after else (
            f"^{sign}{before}{blank}([+-]?)(.*)()$")  # fmt: skip
        fits = pc.match_substring_regex(found, pattern)
        found = pc.if_else(fits, pc.replace_substring_regex(found, pattern, r"\1\2\3\4"), None)
    if _any(pc.match_substring_regex(found, r"[-)]$")):
        found = pc.replace_substring_regex(found, r"^\(([^-+].*)\)$", r"-\1")
        found = pc.replace_substring_regex(found, r"^([^-+].*)-$", r"-\1")
    return found


def wrapped(cells: Any) -> np.ndarray:
    """Which cells (an Arrow array) have parentheses around or a minus behind, (n,) bool."""
    pc = _arrow()
    return np.asarray(pc.fill_null(pc.match_substring_regex(cells, r"\)$|\d-$"), False))


def converted(cells: Any, decimal: str, affix: Affix = NO_AFFIX) -> tuple[np.ndarray, np.ndarray]:
    """(numbers (n,) float64, NaN for null and for what is no number; which cells are no numbers, (n,) bool) of an Arrow
    array of texts without blanks around."""
    import pyarrow

    pc = _arrow()
    bare = normalized(cells, affix)
    fits = pc.fill_null(pc.match_substring_regex(bare, PATTERNS[decimal]), False)
    bare = pc.if_else(fits, bare, None)
    other = "," if decimal == "." else "."
    bare = pc.replace_substring_regex(bare, rf"[{other}'’ \x{{00a0}}\x{{2009}}\x{{202f}}]", "")
    if decimal == ",":
        bare = pc.replace_substring(bare, ",", ".")
    values = pc.cast(bare, pyarrow.float64()).to_numpy(zero_copy_only=False)
    odd = np.asarray(pc.invert(fits)) & np.asarray(pc.is_valid(cells))
    return values, odd


@dataclass
class Evidence:
    """What the cells of a column that were seen say of how its numbers are written.

    known: how many were no missing ones. reads: whether all of them are numbers with this decimal mark. has: which
    marks came in them. shown: (line, cell) of the first with each mark. wrapped: how many had parentheses or
    a minus behind, of which all would have no sense.
    """

    affix: Affix = NO_AFFIX
    known: int = 0
    reads: dict[str, bool] = field(default_factory=lambda: {".": True, ",": True})
    has: set[str] = field(default_factory=set)
    shown: dict[str, tuple[int, str]] = field(default_factory=dict)
    wrapped: int = 0

    @property
    def numbers(self) -> bool:
        return self.known > 0 and any(self.reads.values()) and self.wrapped < self.known

    @property
    def example(self) -> tuple[int, str]:
        """(line, cell) of the first with a point, or with a comma."""
        return self.shown.get(".") or self.shown.get(",") or (0, "")

    @property
    def ambiguous(self) -> bool:
        """Whether both readings fit, and differ."""
        return all(self.reads.values()) and bool(self.has & {".", ","})

    def thousands(self, decimal: str) -> set[str]:
        """Marks between thousands, if this is the decimal mark."""
        return self.has - {decimal}

    def see_plain(self, cells: Any, lines: np.ndarray) -> None:
        """See numbers as C reads them, some of the cells empty."""
        pc = _arrow()
        n = len(cells) - (pc.sum(pc.equal(cells, "")).as_py() or 0)
        if not n:
            return
        self.known += n
        if self.affix:
            self.reads = {".": False, ",": False}
        if not any(self.reads.values()) or ("." in self.has and not self.reads[","]):
            return
        dotted = pc.match_substring(cells, ".")
        if pc.any(dotted).as_py():
            self._show(cells, dotted, lines, ".")
            some = pc.filter(cells, dotted)
            self.reads[","] = self.reads[","] and all(
                pc.all(pc.match_substring_regex(part, PATTERNS[","])).as_py() for part in (some[:64], some)
            )
            self.has.add(".")

    def see(self, cells: Any, lines: np.ndarray, affixes: bool) -> None:
        """See cells: an Arrow array of texts, none null, no blanks around. affixes: whether the first one may say what
        stands around numbers."""
        if not len(cells):
            return
        pc = _arrow()
        first = self.known == 0
        self.known += len(cells)
        if not any(self.reads.values()):
            return
        # Most texts are no numbers by their first cells.
        if len(cells) > 256:
            trial = Evidence(self.affix, 0 if first else 1, dict(self.reads), set())
            trial.see(cells[:64], lines[:64], affixes)
            if not any(trial.reads.values()):
                self.reads = trial.reads
                return
        if first and affixes and not self.affix:
            self.affix = self._affix(cells)
        bare = normalized(cells, self.affix)
        for decimal in ".,":
            fits = pc.fill_null(pc.match_substring_regex(bare, PATTERNS[decimal]), False)
            self.reads[decimal] = self.reads[decimal] and bool(pc.all(fits).as_py())
        if not any(self.reads.values()):
            return
        if affixes:
            # Of a table that is predicted it is known what they mean.
            self.wrapped += int(wrapped(cells).sum())
        for mark, pattern in ((".", r"\."), (",", ","), ("'", _APOSTROPHES), (" ", r"[ \x{00a0}\x{2009}\x{202f}]")):
            if mark not in self.has:
                there = pc.match_substring_regex(bare, pattern)
                if pc.any(there).as_py():
                    self.has.add(mark)
                    self._show(cells, there, lines, mark)

    def _show(self, cells: Any, there: Any, lines: np.ndarray, mark: str) -> None:
        """Keep the first cell with a mark."""
        place = int(np.asarray(there.to_numpy(zero_copy_only=False), bool).argmax())
        self.shown.setdefault(mark, (int(lines[place]), cells[place].as_py()))

    @staticmethod
    def _affix(cells: Any) -> Affix:
        pc = _arrow()
        some = cells[:64]
        if any(pc.all(pc.fill_null(pc.match_substring_regex(normalized(some, NO_AFFIX), p), False)).as_py()
               for p in PATTERNS.values()):  # fmt: skip
            return NO_AFFIX
        return affix_of(cells[0].as_py())
