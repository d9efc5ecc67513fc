"""What a user may say about how a table is written; all else is found."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from pmlp_np.base.errors import DataError, compose, show

# Texts that stand for a missing cell in any column, unless --not-missing says otherwise. A blank cell always does.
USUAL_MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_SPELLED = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|",
            "point": ".", "dot": ".", "apostrophe": "'", "blank": " "}  # fmt: skip
THOUSANDS = (",", ".", "'", " ")


@dataclass(frozen=True)
class Reading:
    """Options on how a table is written. None, 0 and (): to be detected.

    encoding: a name that Python's codecs know. delimiter: one character. decimal: "." or ",". thousands: one of , . '
    and a blank. day_first: whether 01/02 is the first of February. skip_lines: lines to skip at the top. not_missing:
    words such as "None" that are kept as texts; "COLUMN=WORD" in one column alone.
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
        """Of what the command line says: characters may be spelled as words ("tab"). DataError for what is none."""
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
    """Which texts stand for a missing cell. everywhere: in any column. only: beside them, in one column. kept: usual
    ones that are texts all the same. kept_in: in one column."""

    everywhere: tuple[str, ...] = ()
    only: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()
    kept_in: tuple[tuple[str, str], ...] = ()

    def and_of(self, missing: tuple[str, ...], not_missing: tuple[str, ...], names: list[str]) -> MissingWords:
        """With additional words: "WORD", or "COLUMN=WORD" where a column is called so."""
        everywhere, only = _parted(missing, names)
        kept, kept_in = _parted(not_missing, names)
        return MissingWords(
            tuple(dict.fromkeys((*self.everywhere, *everywhere))), tuple(dict.fromkeys((*self.only, *only))),
            tuple(dict.fromkeys((*self.kept, *kept))), tuple(dict.fromkeys((*self.kept_in, *kept_in))),
        )  # fmt: skip

    def said_of(self, column: str) -> set[str]:
        """The additional words for one column."""
        return {*self.everywhere, *(word for name, word in self.only if name == column)}

    def of(self, column: str) -> frozenset[str]:
        """The words of one column. Additional words take precedence over the usual ones."""
        said = self.said_of(column)
        kept = {*self.kept, *(word for name, word in self.kept_in if name == column)}
        return frozenset((set(USUAL_MISSING) - kept) | said)


def _parted(texts: tuple[str, ...], names: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """(words, pairs of a column and a word) of texts: "COLUMN=WORD", whose column may itself hold "=", or "WORD"."""
    known, words, pairs = set(names), [], []
    for text in texts:
        columns = [text[:place] for place, character in enumerate(text) if character == "=" and text[:place] in known]
        if columns:
            pairs.append((columns[0], text[len(columns[0]) + 1 :].strip()))
        else:
            words.append(text.strip())
    return words, pairs
