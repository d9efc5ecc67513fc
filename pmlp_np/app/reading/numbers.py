"""Formats of numbers: decimal marks, separators of thousands, signs, currencies, percent and units.

A column's cells are matched with two patterns, for a decimal point and for a decimal comma. "1.275,5" matches one of
them, "1.275" matches both and is decided for the whole file (see `conventions`). All of it runs in Arrow's kernels, a
chunk of a column at a time; plain numbers, as C reads them, take a faster path.
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
    """Return the regular expression (RE2) of numbers with this decimal mark."""
    other = "," if decimal == "." else "."
    first = r"[1-9]\d{0,2}"
    groups = [rf"{first}(?:{mark}\d{{3}})+" for mark in (re.escape(other), _APOSTROPHES, _BLANKS)]
    # As in India: 12,34,567.
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
    """Text before and after the numbers of a column: ("$", ""), ("", "%"), ("", "kg")."""

    before: str = ""
    after: str = ""

    def __bool__(self) -> bool:
        return bool(self.before or self.after)

    def __str__(self) -> str:
        return self.before or self.after


NO_AFFIX = Affix()


def affix_of(cell: str) -> Affix:
    """Return the affix of a cell's number, empty if the cell is no number with an affix."""
    match = _DECORATED.fullmatch(re.sub(r"(\d)[.,][-–—]{1,2}(\s|$)", r"\1\2", cell))
    return Affix(match["before"] or "", (match["after"] or "").strip()) if match else NO_AFFIX


def _arrow() -> Any:
    import pyarrow.compute

    return pyarrow.compute


def plain_floats(cells: Any) -> np.ndarray | None:
    """Return cells (an Arrow array of texts) as plain numbers, (n,) float64, NaN for empty ones.

    None if a cell is no plain number as C reads it, or is "nan".
    """
    import pyarrow

    pc = _arrow()
    known = pc.if_else(pc.equal(cells, ""), None, cells)
    try:
        numbers = pc.cast(known, pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    values: np.ndarray = numbers.to_numpy(zero_copy_only=False)
    return values if int(np.isnan(values).sum()) == numbers.null_count else None


def _any(mask: Any) -> bool:
    return bool(_arrow().any(mask).as_py())


def normalized(cells: Any, affix: Affix) -> Any:
    """Return numbers without the affix, null for cells that lack it.

    Negative numbers get a minus in front, also those in accounting formats: "(1,234)", "1,234-" and "−1,234".
    """
    pc = _arrow()
    result = cells
    # Replacements run only if a cell needs them.
    if _any(pc.match_substring_regex(cells, r"^\D?−|[-–—)]\D*$")):
        result = pc.replace_substring(result, "−", "-")
        # "5.-" and "5,--" are whole amounts.
        result = pc.replace_substring_regex(result, r"(\d)[.,][-–—]{1,2}(\s|$)", r"\1\2")
    if affix:
        before, after = re.escape(affix.before), re.escape(affix.after)
        blank = r"[ \x{00a0}\x{202f}]*"
        sign = r"([(]?[+-]?)" + blank
        pattern = f"^{sign}{before}{blank}([+-]?)(.*?){blank}{after}([-)]*)$" if after else (
            f"^{sign}{before}{blank}([+-]?)(.*)()$")  # fmt: skip
        fits = pc.match_substring_regex(result, pattern)
        result = pc.if_else(fits, pc.replace_substring_regex(result, pattern, r"\1\2\3\4"), None)
    if _any(pc.match_substring_regex(result, r"[-)]$")):
        result = pc.replace_substring_regex(result, r"^\(([^-+].*)\)$", r"-\1")
        result = pc.replace_substring_regex(result, r"^([^-+].*)-$", r"-\1")
    return result


def wrapped(cells: Any) -> np.ndarray:
    """Return a mask of cells (an Arrow array) in parentheses or with a minus at the end, (n,) bool."""
    pc = _arrow()
    return np.asarray(pc.fill_null(pc.match_substring_regex(cells, r"\)$|\d-$"), False))


def converted(cells: Any, decimal: str, affix: Affix = NO_AFFIX) -> tuple[np.ndarray, np.ndarray]:
    """Return (numbers (n,) float64, NaN for null and for other texts; a mask of the other texts, (n,) bool).

    cells: an Arrow array of texts without spaces around.
    """
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
    """Evidence from a column's cells on the format of its numbers.

    known: number of cells that are not missing.
    reads: by decimal mark, whether all cells are numbers with it.
    has: the marks in the cells.
    shown: by mark, (line, cell) of the first cell with it.
    wrapped: number of cells in parentheses or with a minus at the end. If all are, they are no negative numbers.
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
        """(line, cell) of the first cell with a point, or else with a comma."""
        return self.shown.get(".") or self.shown.get(",") or (0, "")

    @property
    def ambiguous(self) -> bool:
        """Whether all cells are numbers with either decimal mark, and the numbers differ."""
        return all(self.reads.values()) and bool(self.has & {".", ","})

    def thousands(self, decimal: str) -> set[str]:
        """Return the separators of thousands if this is the decimal mark."""
        return self.has - {decimal}

    def see_plain(self, cells: Any, lines: np.ndarray) -> None:
        """Add cells that are plain numbers, as C reads them, or empty."""
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
        """Add cells, an Arrow array of texts without nulls and without spaces around.

        affixes: whether the affix may be detected from the first cell.
        """
        if not len(cells):
            return
        pc = _arrow()
        first = self.known == 0
        self.known += len(cells)
        if not any(self.reads.values()):
            return
        # Columns of texts are recognized by their first cells.
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
            # Only in a fit: for a table that is predicted the meaning is known.
            self.wrapped += int(wrapped(cells).sum())
        for mark, pattern in ((".", r"\."), (",", ","), ("'", _APOSTROPHES), (" ", r"[ \x{00a0}\x{2009}\x{202f}]")):
            if mark not in self.has:
                has_mark = pc.match_substring_regex(bare, pattern)
                if pc.any(has_mark).as_py():
                    self.has.add(mark)
                    self._show(cells, has_mark, lines, mark)

    def _show(self, cells: Any, mask: Any, lines: np.ndarray, mark: str) -> None:
        """Store the first cell with a mark."""
        i = int(np.asarray(mask.to_numpy(zero_copy_only=False), bool).argmax())
        self.shown.setdefault(mark, (int(lines[i]), cells[i].as_py()))

    @staticmethod
    def _affix(cells: Any) -> Affix:
        pc = _arrow()
        first = cells[:64]
        if any(pc.all(pc.fill_null(pc.match_substring_regex(normalized(first, NO_AFFIX), p), False)).as_py()
               for p in PATTERNS.values()):  # fmt: skip
            return NO_AFFIX
        return affix_of(cells[0].as_py())
