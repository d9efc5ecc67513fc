"""Options on the format of a table, which is otherwise detected."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from pmlp_np.base.errors import DataError, compose, show

# Words for missing cells in any column, unless --not-missing excepts them. A blank cell is always missing.
USUAL_MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_SPELLED = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|",
            "point": ".", "dot": ".", "apostrophe": "'", "blank": " "}  # fmt: skip
THOUSANDS = (",", ".", "'", " ")


@dataclass(frozen=True)
class Reading:
    """Options on the format of a table. None, 0 and (): detected.

    encoding: the name of a Python codec.
    delimiter: one character.
    decimal: "." or ",".
    thousands: one of , . ' and a space.
    day_first: whether 01/02 is the first of February.
    skip_lines: number of lines to skip at the top.
    not_missing: words such as "None" that are texts, not missing cells; "COLUMN=WORD" for one column.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    day_first: bool | None = None
    skip_lines: int = 0
    not_missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, encoding: str | None = None, delimiter: str | None = None, decimal: str | None = None,
        thousands: str | None = None, day_first: bool | None = None, skip_lines: int = 0,
        not_missing: tuple[str, ...] = (),
    ) -> Reading:  # fmt: skip
        """Return checked options. Characters may be given as words ("tab"). Raises DataError for invalid values."""
        if encoding is not None:
            try:
                codecs.lookup(encoding).incrementaldecoder("strict").decode(b"", True)
            except (LookupError, TypeError, AttributeError) as error:
                hint = "Say --encoding utf-8, cp1252, latin-1 or utf-16."
                raise DataError(compose("--encoding", "an encoding of text", show(encoding), hint)) from error
        delimiter, decimal, thousands = (_SPELLED.get(each or "", each) for each in (delimiter, decimal, thousands))
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0' or delimiter.isalnum()):
            raise DataError(compose("--delimiter", "one character, such as ';' or tab", show(delimiter)))
        if decimal not in (None, ".", ","):
            raise DataError(compose("--decimal", "a point or a comma", show(decimal)))
        if thousands == "’":
            thousands = "'"
        if thousands is not None and thousands not in THOUSANDS:
            raise DataError(compose("--thousands", "one of , . ' and space", show(thousands)))
        if thousands is not None and thousands == decimal:
            expected = "two different characters"
            raise DataError(compose("--decimal and --thousands", expected, f"{show(decimal)} for both"))
        if decimal is None and thousands in (",", "."):
            decimal = {",": ".", ".": ","}[thousands]
        return cls(encoding, delimiter, decimal, thousands, day_first, skip_lines, tuple(not_missing))


@dataclass(frozen=True)
class MissingWords:
    """Words for missing cells, besides and instead of the usual ones.

    everywhere: additional words, in any column.
    only: additional (column, word).
    kept: usual words that are texts, in any column.
    kept_in: usual words that are texts, (column, word).
    """

    everywhere: tuple[str, ...] = ()
    only: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()
    kept_in: tuple[tuple[str, str], ...] = ()

    def and_of(self, missing: tuple[str, ...], not_missing: tuple[str, ...], names: list[str]) -> MissingWords:
        """Return a copy with additional words: "WORD", or "COLUMN=WORD" if there is such a column."""
        everywhere, only = _parted(missing, names)
        kept, kept_in = _parted(not_missing, names)
        return MissingWords(
            tuple(dict.fromkeys((*self.everywhere, *everywhere))), tuple(dict.fromkeys((*self.only, *only))),
            tuple(dict.fromkeys((*self.kept, *kept))), tuple(dict.fromkeys((*self.kept_in, *kept_in))),
        )  # fmt: skip

    def said_of(self, column: str) -> set[str]:
        """Return the additional words of one column."""
        return {*self.everywhere, *(word for name, word in self.only if name == column)}

    def of(self, column: str) -> frozenset[str]:
        """Return the words of one column. Additional words take precedence over excepted ones."""
        additional = self.said_of(column)
        kept = {*self.kept, *(word for name, word in self.kept_in if name == column)}
        return frozenset((set(USUAL_MISSING) - kept) | additional)


def _parted(texts: tuple[str, ...], names: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return (words, pairs of column and word) of texts "WORD" or "COLUMN=WORD". A column's name may contain "="."""
    known, words, pairs = set(names), [], []
    for text in texts:
        columns = [text[:i] for i, character in enumerate(text) if character == "=" and text[:i] in known]
        if columns:
            pairs.append((columns[0], text[len(columns[0]) + 1 :].strip()))
        else:
            words.append(text.strip())
    return words, pairs
