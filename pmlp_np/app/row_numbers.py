"""Row numbers: columns that number the rows and are no features.

If rows are sorted by the target, such a column predicts it perfectly in every part of the table, and not at all for new
rows. Columns that are row numbers by name and structure are left out. Columns that alone predict the target get a note
only: a salary, a year or a population may do that, too.
"""

from __future__ import annotations

import re

import numpy as np

# Names of row numbers as written by pandas, R and databases, in lower case and without separators of words.
_NAMES = {"id", "ids", "index", "idx", "row", "rows", "rowid", "rownum", "rownumber", "rowindex", "no", "nr", "num",
          "number", "nummer", "#", "level0", "indexlevel0", "unnamed0", "unnamed00", "unnamed01", "record", "recordid",
          "lfdnr", "pk", "serial", "seq", "sequence", "obs", "observation"}  # fmt: skip
# Last (or first) words in names of identifiers; and last words of names that may be identifiers.
_IDENTIFIERS = {"id", "ids", "uid", "guid", "uuid", "pk", "rowid", "identifier"}
_MAYBE = {"index", "idx", "no", "nr", "num", "nummer", "number", "row", "key", "serial", "seq", "sequence", "record"}
# Names that R and spreadsheets give to a nameless first column: row numbers only if they count 1, 2, 3, ...
_NAMELESS = {"x", "x1", "v1", "1", "column1"}
# Share of distinct values from which numbers count as distinct: there may be typing mistakes.
_DISTINCT = 0.98
# The least number of rows for the test `predicts_alone`, and its thresholds: explained share of the variance in
# regression, agreement beyond chance in classification.
_FEWEST_ROWS, _EXPLAINED, _AGREED = 20, 0.9, 0.8


def words_of(name: str) -> list[str]:
    """Return the words of a column's name, in lower case: "PassengerId" -> ["passenger", "id"]."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[^0-9a-zäöüßéèñóúí#]+", spaced.lower()) if word]


def called_identifier(name: str) -> bool:
    """Return whether a name is that of an identifier (of rows, patients, customers)."""
    words = words_of(name)
    return bool(words) and ("".join(words) in _NAMES or words[-1] in _IDENTIFIERS or words[0] in ("id", "uuid"))


def verdict(name: str, values: np.ndarray) -> str:
    """Return whether a column is one of row numbers, by name and structure: "row numbers", "maybe", or "" for no.

    values: (n,) float64, NaN for missing cells.
    """
    known = values[~np.isnan(values)]
    if len(known) < 2 or not is_whole(known):
        return ""
    distinct = len(np.unique(known)) >= _DISTINCT * len(known)
    dense = np.ptp(known) < 1.5 * len(known)
    words = words_of(name)
    joined = "".join(words)
    # In concatenated tables row numbers repeat.
    repeated_count = dense and joined in ("indexlevel0", "unnamed0", "level0") and len(np.unique(known)) > 2
    if called_identifier(name) and (distinct or repeated_count):
        return "row numbers"
    if joined in _NAMELESS and len(known) == len(values) and bool((np.diff(values) == 1.0).all()):
        return "row numbers"
    if words and words[-1] in _MAYBE and distinct:
        return "row numbers" if dense else "maybe"
    return ""


def is_whole(known: np.ndarray) -> bool:
    """Return whether all these numbers are whole."""
    return bool((known == np.round(known)).all())


def predicts_alone(values: np.ndarray, target: np.ndarray, classes: bool) -> bool:
    """Return whether a column of distinct whole numbers (n,) alone predicts the target (n,) almost perfectly.

    So it does if rows with neighboring numbers have the same class, or nearly the same value.
    """
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
