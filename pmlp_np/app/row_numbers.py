"""Row numbers: columns that number the rows and are no features. If the rows are sorted by the target, such a column
predicts it perfectly in every part of the table, and not at all for new rows.

Columns that are row numbers by name and structure are left out. Columns that alone predict the target cause a warning
only: a salary, a year or a population may do that, too.
"""

from __future__ import annotations

import re

import numpy as np

# Names that say so by themselves, in lower case and without what separates words: what pandas, R and databases write.
_NAMES = {"id", "ids", "index", "idx", "row", "rows", "rowid", "rownum", "rownumber", "rowindex", "no", "nr", "num",
          "number", "nummer", "#", "level0", "indexlevel0", "unnamed0", "unnamed00", "unnamed01", "record", "recordid",
          "lfdnr", "pk", "serial", "seq", "sequence", "obs", "observation"}  # fmt: skip
# Last (or first) words of names that hold an identifier, and last words that may.
_IDENTIFIERS = {"id", "ids", "uid", "guid", "uuid", "pk", "rowid", "identifier"}
_MAYBE = {"index", "idx", "no", "nr", "num", "nummer", "number", "row", "key", "serial", "seq", "sequence", "record"}
# Names that R and spreadsheets give a first column without one: they number rows only where they count.
_NAMELESS = {"x", "x1", "v1", "1", "column1"}
# Whole numbers of which a larger share is distinct are as distinct as typing mistakes leave them.
_DISTINCT = 0.98
# Fewer rows than this show nothing, and by how much a neighbor must tell the target: of regressions the share of the
# variance, of classifications the agreement beyond chance.
_FEWEST_ROWS, _EXPLAINED, _AGREED = 20, 0.9, 0.8


def words_of(name: str) -> list[str]:
    """The words of a column's name, in lower case: "PassengerId" -> ["passenger", "id"]."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[^0-9a-zäöüßéèñóúí#]+", spaced.lower()) if word]


def called_identifier(name: str) -> bool:
    """Whether a name says that its cells tell one thing (a row, a patient, a customer) from another."""
    words = words_of(name)
    return bool(words) and ("".join(words) in _NAMES or words[-1] in _IDENTIFIERS or words[0] in ("id", "uuid"))


def verdict(name: str, values: np.ndarray) -> str:
    """What a column of numbers (n,) float64, NaN where missing, seems to be: "row numbers" by name and structure,
    "maybe", or "" for neither."""
    known = values[~np.isnan(values)]
    if len(known) < 2 or not is_whole(known):
        return ""
    distinct = len(np.unique(known)) >= _DISTINCT * len(known)
    dense = np.ptp(known) < 1.5 * len(known)
    words = words_of(name)
    joined = "".join(words)
    # Tables that were joined, each with its own count, repeat it.
    repeated_count = dense and joined in ("indexlevel0", "unnamed0", "level0") and len(np.unique(known)) > 2
    if called_identifier(name) and (distinct or repeated_count):
        return "row numbers"
    if joined in _NAMELESS and len(known) == len(values) and bool((np.diff(values) == 1.0).all()):
        return "row numbers"
    if words and words[-1] in _MAYBE and distinct:
        return "row numbers" if dense else "maybe"
    return ""


def is_whole(known: np.ndarray) -> bool:
    """Whether all these numbers are whole."""
    return bool((known == np.round(known)).all())


def predicts_alone(values: np.ndarray, target: np.ndarray, classes: bool) -> bool:
    """Whether distinct whole numbers (n,) alone predict the target (n,) almost perfectly: rows with neighboring numbers
    have the same class, or nearly the same value."""
    known = ~np.isnan(values)
    values, target = values[known], target[known]
    n = len(values)
    if n < _FEWEST_ROWS or not is_whole(values) or len(np.unique(values)) < _DISTINCT * n:
        return False
    y = target[np.argsort(values, kind="stable")]
    if classes:
        agreed = float((y[1:] == y[:-1]).mean())
        chance = float(((np.unique(y, return_counts=True)[1] / n) ** 2).sum())
        return chance < 1.0 and (agreed - chance) / (1.0 - chance) >= _AGREED
    variance = float(y.var())
    errors = y[1:-1] - 0.5 * (y[:-2] + y[2:])
    return variance > 0.0 and 1.0 - float((errors**2).mean()) / variance >= _EXPLAINED
