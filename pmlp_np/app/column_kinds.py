"""Columns: the kind of each column of a table (number, category, date, or left out), and the task of the target."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.app.date_columns import date_formats
from pmlp_np.app.reading.dates import formats_of
from pmlp_np.app.reading.numbers import affix_of
from pmlp_np.app.reading.records import like_a_number
from pmlp_np.app.row_numbers import verdict
from pmlp_np.app.tables import Table, as_texts, is_text, not_missing, plain_text, quoted
from pmlp_np.base.errors import DataError, compose, show

# Texts in fewer rows than this are rare, and so are all but so many of a column's.
RAREST_CATEGORY, MOST_CATEGORIES = 2, 100
# A column whose common texts cover less than this share of its rows holds names, ids or sentences.
_LEAST_COVERED = 0.5
# A target of whole numbers with up to this many distinct values, each in five rows on average, has classes.
_MOST_NUMBERED_CLASSES, _ROWS_PER_CLASS = 20, 5
_MOST_CLASSES = 1000
# Squares of larger numbers, which standard deviations need, come near the limit of float64. Tables have such numbers
# only as placeholders.
LARGEST_NUMBER = 1e100
_TASKS = ("regression", "classification")
# Cells in the sample that explains why a column of texts is left out; and the largest number of ways in which its
# numbers may be written: with more ways it holds, for instance, addresses.
_SAMPLE, _MOST_WAYS = 200, 3
_MAYBE_TIME = re.compile(r"\d{1,4}([:./-])\d{1,2}(\1\d{1,4})?([ T]\S+)?|\d{1,2}\.? [^\W\d]+\.?,? \d{2,4}")
# The reason for leaving a column out, or for a task, if the user chose it. It needs no note.
AS_CHOSEN = "as chosen"


@dataclass(frozen=True)
class Kind:
    """The kind of a column: "number", "category", "date" or "left out".

    reason: why the column is left out, or a note on its numbers or dates.
    date_format: of the texts of a column of dates.
    """

    kind: str
    reason: str = ""
    date_format: str = ""


@dataclass(frozen=True)
class Task:
    """The task: "regression" or "classification" (with the sorted classes), and the reason for the choice."""

    name: str
    reason: str
    classes: tuple[str | int | float, ...] = ()


def kinds_of(
    table: Table, target: str, categorical: Collection[str], drop: Collection[str], numeric: Collection[str] = (),
    aside: Mapping[str, str] | None = None,
) -> dict[str, Kind]:  # fmt: skip
    """Return the kind of each column but the target, from the table's current rows.

    categorical, drop, numeric: columns whose kind is chosen by the user.
    aside: columns with another purpose than prediction, and the purpose. They are left out unless the user chose a
        kind.

    Raises DataError for cells of mixed kinds, and if no column is left.
    """
    for name in (*categorical, *drop, *numeric):
        table.column_called(name)
    kinds = {}
    named = {target, *categorical, *drop, *numeric, *(aside or ())}
    dates = date_formats(table, [name for name in table.frame.columns if name not in named])
    for name in table.frame.columns:
        if name == target:
            continue
        if name in drop:
            kinds[name] = Kind("left out", AS_CHOSEN)
        elif aside and name in aside and name not in (*categorical, *numeric):
            kinds[name] = Kind("left out", aside[name])
        else:
            kinds[name] = _kind_of(table, name, name in categorical, name in numeric, dates)
    if all(kind.kind == "left out" for kind in kinds.values()):
        why = "; ".join(f"{name}: {kind.reason}" for name, kind in kinds.items()) or "no other column"
        raise DataError(compose(f"{table.name}", "columns to predict the target from", why))
    return kinds


def _kind_of(table: Table, name: str, categorical: bool, numeric: bool, dates: Mapping[str, tuple[str, str]]) -> Kind:
    cells = table.frame[name]
    known = cells.dropna()
    if not len(known):
        return Kind("left out", "all cells are empty")
    n_values = known.nunique()
    if n_values == 1 and len(known) == len(cells):
        value = known.iloc[0].item() if not is_text(known) else known.iloc[0]
        return Kind("left out", f"constant, {show(value)}{digits_lost(value)}")
    if categorical:
        return Kind("category")
    if cells.dtype.kind == "M" and not numeric:
        return Kind("date")
    numbers = as_numbers(table, name)
    if numbers is not None:
        refuse_infinite(table, name, numbers)
        seems = "" if numeric else verdict(name, numbers.to_numpy(np.float64, na_value=np.nan))
        if seems == "row numbers":
            return Kind("left out", f"it numbers the rows (--numeric {quoted(name)} keeps it)")
        may = f"its distinct whole numbers may number the rows: if they do, --drop {quoted(name)}"
        return Kind("number", may if seems == "maybe" else "")
    if numeric:
        first = int(table.numbers(name)[1].argmax())
        where = table.where(int(cells.index[first]))
        raise DataError(compose(f"--numeric {quoted(name)}, {where}", "numbers", show(str(cells.iloc[first]))))
    _refuse_mixed(table, f"column {name!r}", name, f"--categorical {quoted(name)}")
    if name in dates:
        date_format, note = dates[name]
        return Kind("date", note, date_format)
    if common_texts(known).sum() < _LEAST_COVERED * len(known):
        return Kind("left out", _why_no_categories(known, n_values))
    return Kind("category")


def _why_no_categories(known: Any, n_values: int) -> str:
    """Return why a column of many different texts is left out, perhaps numbers or dates in several formats."""
    sample = [cell.strip() for cell in known.iloc[:_SAMPLE]]
    summary = f"{n_values:,} different texts in {len(known):,} rows, such as {show(known.iloc[0])}"
    ways: dict[str, str] = {}
    for cell in sample:
        if like_a_number(cell) or affix_of(cell):
            ways.setdefault(str(affix_of(cell)), cell)
    n_numbers = sum(like_a_number(cell) or bool(affix_of(cell)) for cell in sample)
    if 2 <= len(ways) <= _MOST_WAYS and 2 * n_numbers > len(sample):
        one, other = list(ways.values())[:2]
        return f"its numbers are written in several ways, such as {show(one)} and {show(other)}: write them in one way"
    formats = [(cell, tuple(formats_of(cell))) for cell in sample]
    dates = [(cell, each) for cell, each in formats if each]
    different = [cell for cell, each in dates if not set(each) & set(dates[0][1])]
    if different and 2 * len(dates) > len(sample):
        one, other = show(dates[0][0]), show(different[0])
        return f"its dates are written in several ways, such as {one} and {other}: write them in one way"
    if 2 * sum(_MAYBE_TIME.fullmatch(cell) is not None for cell in sample) > len(sample):
        return f"{summary}; if they are dates, write them as 2026-01-31, and times of day as numbers"
    return f"{summary}, as ids, names or sentences have"


def digits_lost(value: object) -> str:
    """Return a note for numbers so large that different cells may be equal in float64, else ""."""
    large = isinstance(value, int | float) and abs(value) >= 2.0**53
    return ": cells may differ in digits that float64 can't tell" if large else ""


def as_numbers(table: Table, name: str) -> Any:
    """Return a column as numbers, pandas.Series with NaN for missing cells; None if a cell is not a number.

    A column of texts that are all numbers is one of numbers: a Parquet file may have such columns; in other files the
    other cells were missing, or in rows that were dropped.
    """
    import pandas

    cells = table.frame[name]
    if cells.dtype.kind == "M":
        return None
    if not is_text(cells):
        return cells
    values, odd = table.numbers(name)
    return None if odd.any() else pandas.Series(values, cells.index)


def first_row(table: Table, odd: np.ndarray) -> int:
    """Return the first row of a mask (n,), in the numbering of Table.where."""
    return int(table.frame.index[int(odd.argmax())])


def refuse_infinite(table: Table, name: str, numbers: Any) -> None:
    """Raise DataError for a column's first number that is infinite or too large."""
    values = numbers.to_numpy(np.float64, na_value=np.nan)
    beyond = np.abs(values) > LARGEST_NUMBER
    if beyond.any():
        hint = "Correct or empty the cell."
        first = int(beyond.argmax())
        where = table.where(int(table.frame.index[first]))
        expected, got = f"numbers up to {LARGEST_NUMBER:g}", f"{values[first]:g}"
        if np.isinf(values[first]):
            expected, got = "finite numbers", "infinity"
        raise DataError(compose(f"column {name!r}, {where}", expected, got, hint))


def _refuse_mixed(table: Table, name: str, column: str, instead: str) -> None:
    """Raise DataError for a column of mostly numbers with other texts: errors, or words for missing cells."""
    known = table.frame[column].dropna()
    odd = table.numbers(column)[1][table.frame[column].notna().to_numpy()]
    n_odd = int(odd.sum())
    if not n_odd or 2 * n_odd > len(known):
        return
    first = int(odd.argmax())
    cell = known.iloc[first]
    row = int(known.index[first])
    got = f"{len(known) - n_odd:,} numbers and {n_odd:,} other cells, such as {show(cell)} in {table.where(row)}"
    if int(known.value_counts().iloc[0]) < RAREST_CATEGORY:
        # Each would be a category of one row.
        instead = ""
    also = f", or {instead}." if instead else "."
    if like_a_number(cell):
        # --missing would lose a number.
        hint = f"Write it as the others are written ({table.conventions.described(column)}){also}"
    else:
        hint = f"Correct them, or say --missing {quoted(f'{column}={cell}')} if that means nothing is known{also}"
        if row == len(table) - 1 and n_odd == 1:
            hint = f"Remove the line if it is no row but a note or a sum below the table. {hint}"
    raise DataError(compose(name, "numbers or texts", got, hint))


def common_texts(known: Any) -> Any:
    """Return how often the common texts of a column come, pandas.Series, the most frequent first."""
    counts = as_texts(known).value_counts()
    return counts[counts >= RAREST_CATEGORY].iloc[:MOST_CATEGORIES]


def alike(texts: Collection[Any]) -> str:
    """Return a note on two labels that differ only in case or blanks; "" if there are none."""
    seen: dict[str, str] = {}
    for text in texts:
        if isinstance(text, str):
            other = seen.setdefault(" ".join(text.split()).casefold(), text)
            if other != text:
                return f"{show(other)} and {show(text)} are two, though they differ in case or blanks alone"
    return ""


def joined_spellings(table: Table, target: str, task: Task) -> str:
    """Return a note on a class that is a number written in two ways, as 1 and 01; "" if there is none."""
    labels = table.labels(target)
    numbers = as_numbers(table, target)
    if not task.classes or numbers is None or not is_text(labels):
        return ""
    seen: dict[float, str] = {}
    for label, number in dict(zip(labels, numbers.tolist(), strict=True)).items():
        other = seen.setdefault(number, label)
        if other != label:
            return f"{show(other)} and {show(label)} are the same number, and so one class"
    return ""


# The target.


def task_of(table: Table, target: str, requested: str | None = None) -> Task:
    """Return the task of a target: the requested one, or the one that its cells suggest.

    Raises DataError for a target with missing cells, with one value, with too many classes, or that does not suit the
    requested task.
    """
    if requested is not None and requested not in _TASKS:
        raise DataError(compose("--task", " or ".join(_TASKS), show(requested)))
    cells = table.frame[target]
    name = f"target {target!r}"
    missing = cells.isna()
    if missing.any():
        n = int(missing.sum())
        where = table.where(int(table.frame.index[missing.to_numpy().argmax()]))
        hint = "Fill them, or leave their rows out with --skip-missing-target."
        taken = table.taken.get(target, {})
        if taken and is_text(cells):
            words = " and ".join(f"{count:,} are {show(word)}" for word, count in list(taken.items())[:3])
            hint = f"{words}, read as missing: {not_missing(target, next(iter(taken)))} keeps that as a class. {hint}"
        elif taken:
            words = " and ".join(f"{count:,} are {show(word)}" for word, count in list(taken.items())[:3])
            hint = f"{words}, read as missing. {hint}"
        got = f"{n:,} missing of {len(cells):,}, the first in {where}"
        raise DataError(compose(name, "a value in every row", got, hint))
    if cells.nunique() == 1:
        _refuse_one_value(name, cells)
    if cells.dtype.kind == "M":
        hint = "Turn it into numbers (days since a day, say) or into texts."
        raise DataError(compose(name, "numbers or texts", "dates", hint))
    numbers = as_numbers(table, target)
    if numbers is None:
        return _task_of_texts(table, target, cells, requested)
    refuse_infinite(table, target, numbers)
    whole = bool((numbers == numbers.round()).all())
    word = "whole numbers" if whole else "numbers"
    n_values = numbers.nunique()
    if n_values == 1:
        _refuse_one_value(name, cells)
    is_few = n_values <= _MOST_NUMBERED_CLASSES and _ROWS_PER_CLASS * n_values <= len(cells)
    reason = f"{n_values:,} different {word}"
    if requested == "regression" or (requested is None and not (whole and is_few)):
        return Task("regression", AS_CHOSEN if requested else reason)
    _refuse_many(name, n_values)
    reason = AS_CHOSEN if requested else reason
    spelled = _spelled_classes(cells if is_text(cells) else table.spelled.get(target), numbers)
    if spelled:
        return Task("classification", reason, spelled)
    # Floats from 1e15 on, which can't hold each whole number, stay floats, as in plain_text.
    ordered = sorted(numbers.unique().tolist())
    classes = tuple(int(value) if whole and abs(value) < 1e15 else value for value in ordered)
    return Task("classification", reason, classes)


def _refuse_one_value(name: str, cells: Any) -> None:
    hint = "There is nothing to learn from it: choose another target, or add other rows."
    only = show(cells.iloc[0] if is_text(cells) else cells.iloc[0].item())
    raise DataError(compose(name, "at least two different values", f"{only} in all {len(cells):,} rows", hint))


def _task_of_texts(table: Table, target: str, cells: Any, requested: str | None) -> Task:
    name = f"target {target!r}"
    if requested == "regression":
        odd = table.numbers(target)[1]
        where = table.where(int(table.frame.index[odd.argmax()]))
        raise DataError(compose(f"{name}, {where}", "numbers, for regression", show(cells[odd].iloc[0])))
    if requested is None:
        _refuse_mixed(table, name, target, "--task classification")
    n_values = cells.nunique()
    _refuse_many(name, n_values)
    reason = AS_CHOSEN if requested else f"{n_values:,} different texts"
    return Task("classification", reason, tuple(sorted(cells.unique().tolist())))


def _spelled_classes(labels: Any, numbers: Any) -> tuple[str, ...]:
    """Return the classes of a target of numbers as texts, in the order of the numbers, if they are written unusually.

    Unusual are "007" or "5 %". Returns () for usual ones, and if a number is written in two ways.
    """
    if labels is None:
        return ()
    written = dict(zip(labels, numbers.tolist(), strict=True))
    usual = all("e" in label.lower() or label.strip() in (plain_text(float(value)), f"{float(value)}", f"{value}")
                for label, value in written.items())  # fmt: skip
    if usual or len(set(written.values())) != len(written):
        return ()
    return tuple(sorted(written, key=lambda label: (written[label], label)))


def _refuse_many(name: str, n_values: int) -> None:
    if n_values > _MOST_CLASSES:
        hint = "Join rare classes, or choose another target."
        raise DataError(compose(name, f"at most {_MOST_CLASSES:,} classes", f"{n_values:,}", hint))
