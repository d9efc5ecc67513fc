"""Columns under way: cells come chunk by chunk, and are kept as numbers, or as texts of which each is kept once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.reading.numbers import NO_AFFIX, Affix, Evidence, _arrow, converted, plain_floats

_OTHER = {".": ",", ",": "."}
# Signs without which a number is another one: 5 may be 500 %.
NEEDED_AFFIXES = ("%", "‰")
# Whole numbers up to this are told from their neighbors by float64.
_MOST_EXACT = 2.0**53


class Texts:
    """Texts by their place in a list of the different ones: 4 bytes a cell. At most `most` different ones, if given;
    beyond that nothing is kept."""

    def __init__(self, most: int | None = None) -> None:
        self.places: dict[str, int] = {}
        self.codes: list[np.ndarray] = []
        self.most = most
        self.kept = True

    def add(self, cells: Any) -> None:
        """Add an Arrow array of texts; null where missing."""
        if not self.kept:
            return
        coded = _arrow().dictionary_encode(cells)
        places = self.places
        there = np.array([places.setdefault(text, len(places)) for text in coded.dictionary.to_pylist()], np.int32)
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        self.codes.append(np.where(codes < 0, np.int32(-1), there[codes] if len(there) else np.int32(-1)))
        if self.most is not None and len(places) > self.most:
            self.kept, self.codes, self.places = False, [], {}

    def series(self) -> Any:
        """pandas.Series of str, NaN where missing, whose equal texts are one object."""
        import pandas

        texts = np.array([*self.places, None], object)
        texts[-1] = np.nan
        codes = np.concatenate(self.codes) if self.codes else np.zeros(0, np.int32)
        return pandas.Series(texts[codes], dtype=object)


class Column:
    """A column whose cells are read.

    words: texts that stand for missing cells. as_text: whether cells are kept as they are written in any case. spelled:
    whether texts are kept beside numbers, because they may be labels. decimal: the mark that is expected; None to go by
    the cells. affix: what stands around numbers; None to go by the cells.
    """

    def __init__(
        self, name: str, words: frozenset[str], as_text: bool, spelled: bool, decimal: str | None, affix: Affix | None,
        most_spelled: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.words, self.as_text = name, words, as_text
        self.decimal, self.free = decimal or ".", affix is None
        self.evidence = Evidence(affix or NO_AFFIX)
        self.taken: Counter[str] = Counter()
        self.floats: list[np.ndarray] = []
        self.texts = Texts()
        self.spelled = Texts(most_spelled) if spelled and not as_text else None
        self.is_text = as_text
        # Marks under which cells were read that another one reads otherwise, and whether texts came after numbers.
        self.used: set[str] = set()
        self.lost = False
        self._numbers = as_numbers(words)

    def add(self, cells: Any, lines: np.ndarray) -> None:
        """Add an Arrow array of texts as they are written, and the lines on which they stand."""
        if not self.as_text:
            values = plain_floats(cells)
            if values is not None:
                if self._numbers and np.isin(values, self._numbers).any():
                    values = None
                else:
                    self._add_plain(cells, values, lines)
                    return
        self._add_any(cells, lines)

    def _add_plain(self, cells: Any, values: np.ndarray, lines: np.ndarray) -> None:
        if np.isnan(values).all():
            self._keep_missing(len(values))
            return
        if not self.evidence.known and self.evidence.affix.after not in NEEDED_AFFIXES:
            # What the fit read in kilograms may come without "kg".
            self.evidence.affix = NO_AFFIX
        self.evidence.see_plain(cells, lines)
        if self.spelled is not None:
            pc = _arrow()
            self.spelled.add(pc.if_else(pc.equal(cells, ""), None, cells))
        if self.is_text:
            pc = _arrow()
            self.texts.add(pc.if_else(pc.equal(cells, ""), None, cells))
        elif self.decimal == "." and self.evidence.reads["."]:
            if "." in self.evidence.has:
                self.used.add(".")
            self.floats.append(values)
        else:
            self._add_numbers(_arrow().if_else(_arrow().equal(cells, ""), None, cells), cells)

    def _keep_missing(self, n: int) -> None:
        import pyarrow

        nothing = pyarrow.nulls(n, pyarrow.string())
        if self.spelled is not None:
            self.spelled.add(nothing)
        if self.is_text:
            self.texts.add(nothing)
        else:
            self.floats.append(np.full(n, np.nan))

    def _add_any(self, cells: Any, lines: np.ndarray) -> None:
        import pyarrow

        pc = _arrow()
        bare = pc.utf8_trim_whitespace(cells)
        gone = pc.is_in(bare, pyarrow.array(["", *self.words]))
        if self._numbers and not self.as_text:
            gone = pc.or_(gone, self._among_numbers(bare))
        if pc.any(gone).as_py():
            for text, count in zip(*pc.value_counts(pc.filter(bare, gone)).flatten(), strict=True):
                if text.as_py():
                    self.taken[text.as_py()] += count.as_py()
            bare, cells = pc.if_else(gone, None, bare), pc.if_else(gone, None, cells)
        if bare.null_count == len(bare):
            self._keep_missing(len(bare))
            return
        if self.spelled is not None:
            self.spelled.add(cells)
        if self.as_text:
            self.texts.add(cells)
            return
        known = np.asarray(pc.is_valid(bare))
        there = pc.drop_null(bare)
        if not self.evidence.known and self.evidence.affix and self.evidence.affix.after not in NEEDED_AFFIXES:
            plain, odd = converted(there, self.decimal)
            self.evidence.affix = NO_AFFIX if not odd.any() else self.evidence.affix
        self.evidence.see(there, lines[known], self.free)
        if self.is_text:
            self.texts.add(cells)
        elif any(self.evidence.reads.values()):
            self._add_numbers(bare, cells)
        else:
            self._turn_to_texts(cells)

    def _among_numbers(self, bare: Any) -> Any:
        """Which cells are numbers that stand for missing ones, however they are written: -999 is -999,00 too."""
        import pyarrow

        mark = self._mark()
        values, odd = converted(bare, mark, self.evidence.affix)
        values = np.where(odd, converted(bare, _OTHER[mark], self.evidence.affix)[0], values)
        return pyarrow.array(np.isin(values, self._numbers))

    def _mark(self) -> str:
        return self.decimal if self.evidence.reads[self.decimal] else _OTHER[self.decimal]

    def _add_numbers(self, bare: Any, cells: Any) -> None:
        mark = self._mark()
        if self.evidence.has & {".", ","}:
            self.used.add(mark)
        values, odd = converted(bare, mark, self.evidence.affix)
        if odd.any():
            self._turn_to_texts(cells)
        else:
            self.floats.append(values)

    def _turn_to_texts(self, cells: Any) -> None:
        """From now on texts: what was read as numbers before is lost, unless it was missing."""
        self.is_text = True
        for values in self.floats:
            self.lost = self.lost or not bool(np.isnan(values).all())
            import pyarrow

            self.texts.add(pyarrow.nulls(len(values), pyarrow.string()))
        self.floats = []
        self.texts.add(cells)

    def fits(self, mark: str | None) -> bool:
        """Whether what is kept is what the decided mark (None for texts) asks for."""
        if self.as_text:
            return True
        if mark is None:
            return self.is_text and not self.lost if self.evidence.known else True
        return not self.is_text and self.used <= {mark}

    def cells(self) -> Any:
        """pandas.Series of the column: int64 or float64, or str as object."""
        import pandas

        if self.is_text and self.texts.places:
            return self.texts.series()
        if self.is_text:
            return pandas.Series(np.full(sum(map(len, self.texts.codes)), np.nan))
        values = np.concatenate(self.floats) if self.floats else np.zeros(0)
        self.floats = []
        return pandas.Series(whole_numbers(values))


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """float64 as int64 where all are whole and exact."""
    with np.errstate(invalid="ignore"):
        exact = (np.abs(values) < _MOST_EXACT) & (values == np.floor(values))
    return values.astype(np.int64) if len(values) and exact.all() else values


def as_numbers(words: Collection[str]) -> list[float]:
    """The words for missing cells that are numbers: cells that are equal to one are missing, however written."""
    return sorted(float(word) for word in words if _is_plain(word))


def _is_plain(word: str) -> bool:
    try:
        return np.isfinite(float(word)) and "_" not in word
    except ValueError:
        return False
