"""Builders of columns: cells are added chunk by chunk, and stored as numbers or as dictionary-encoded texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.reading.numbers import NO_AFFIX, Affix, Evidence, _arrow, converted, plain_floats

_OTHER = {".": ",", ",": "."}
# Signs that change a number: 5 is 500 %.
NEEDED_AFFIXES = ("%", "‰")
# float64 is exact for whole numbers up to this.
_MOST_EXACT = 2.0**53


class Texts:
    """Dictionary-encoded texts, 4 bytes a cell.

    most: limit of the number of distinct texts, above which none are stored (`kept` is False). None: no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self.code_of: dict[str, int] = {}
        self.codes: list[np.ndarray] = []
        self.most = most
        self.kept = True

    def add(self, cells: Any) -> None:
        """Add an Arrow array of texts, null for missing cells."""
        if not self.kept:
            return
        coded = _arrow().dictionary_encode(cells)
        code_of = self.code_of
        recoded = np.array([code_of.setdefault(text, len(code_of)) for text in coded.dictionary.to_pylist()], np.int32)
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        self.codes.append(np.where(codes < 0, np.int32(-1), recoded[codes] if len(recoded) else np.int32(-1)))
        if self.most is not None and len(code_of) > self.most:
            self.kept, self.codes, self.code_of = False, [], {}

    def series(self) -> Any:
        """Return a pandas.Series of str, NaN for missing cells. Equal texts are one object."""
        import pandas

        texts = np.array([*self.code_of, None], object)
        texts[-1] = np.nan
        codes = np.concatenate(self.codes) if self.codes else np.zeros(0, np.int32)
        return pandas.Series(texts[codes], dtype=object)


class Column:
    """A column under construction.

    words: words for missing cells.
    as_text: whether cells are texts in any case.
    spelled: whether texts are stored in addition to numbers, because they may be labels.
    decimal: the expected decimal mark; None: detected from the cells.
    affix: the text around numbers; None: detected from the cells.
    most_spelled: limit of distinct texts of `spelled`, or None.
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
        # Decimal marks by which ambiguous cells were read; and whether texts came after numbers, which are then lost.
        self.used: set[str] = set()
        self.lost = False
        self._numbers = as_numbers(words)

    def add(self, cells: Any, lines: np.ndarray) -> None:
        """Add an Arrow array of texts as written, and their line numbers."""
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
            self._add_missing(len(values))
            return
        if not self.evidence.known and self.evidence.affix.after not in NEEDED_AFFIXES:
            # The unit of the fit, as "kg", may be absent.
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

    def _add_missing(self, n: int) -> None:
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
            self._add_missing(len(bare))
            return
        if self.spelled is not None:
            self.spelled.add(cells)
        if self.as_text:
            self.texts.add(cells)
            return
        known = np.asarray(pc.is_valid(bare))
        present = pc.drop_null(bare)
        if not self.evidence.known and self.evidence.affix and self.evidence.affix.after not in NEEDED_AFFIXES:
            plain, odd = converted(present, self.decimal)
            self.evidence.affix = NO_AFFIX if not odd.any() else self.evidence.affix
        self.evidence.see(present, lines[known], self.free)
        if self.is_text:
            self.texts.add(cells)
        elif any(self.evidence.reads.values()):
            self._add_numbers(bare, cells)
        else:
            self._turn_to_texts(cells)

    def _among_numbers(self, bare: Any) -> Any:
        """Return a mask of cells that are numbers for missing cells, in any spelling: -999 is also -999,00."""
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
        """Turn the column into one of texts. Numbers read before are lost, missing cells are not."""
        self.is_text = True
        for values in self.floats:
            self.lost = self.lost or not bool(np.isnan(values).all())
            import pyarrow

            self.texts.add(pyarrow.nulls(len(values), pyarrow.string()))
        self.floats = []
        self.texts.add(cells)

    def forget(self) -> None:
        """Drop all cells, and keep what they say of the column."""
        self.floats, self.texts = [], Texts()
        if self.spelled is not None:
            self.spelled = Texts(self.spelled.most)

    def fits(self, mark: str | None) -> bool:
        """Return whether the stored cells are right for the decided decimal mark (None for texts)."""
        if self.as_text:
            return True
        if mark is None:
            return self.is_text and not self.lost if self.evidence.known else True
        return not self.is_text and self.used <= {mark}

    def cells(self) -> Any:
        """Return the column as a pandas.Series: int64 or float64, or str as object."""
        import pandas

        if self.is_text and self.texts.code_of:
            return self.texts.series()
        if self.is_text:
            return pandas.Series(np.full(sum(map(len, self.texts.codes)), np.nan))
        values = np.concatenate(self.floats) if self.floats else np.zeros(0)
        self.floats = []
        return pandas.Series(whole_numbers(values))


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """Return float64 numbers as int64 if all are whole and exact."""
    with np.errstate(invalid="ignore"):
        exact = (np.abs(values) < _MOST_EXACT) & (values == np.floor(values))
    return values.astype(np.int64) if len(values) and exact.all() else values


def as_numbers(words: Collection[str]) -> list[float]:
    """Return the words for missing cells that are numbers. Cells equal to one are missing, in any spelling."""
    return sorted(float(word) for word in words if _is_plain(word))


def _is_plain(word: str) -> bool:
    try:
        return np.isfinite(float(word)) and "_" not in word
    except ValueError:
        return False
