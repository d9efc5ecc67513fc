"""Columns: the kind of each column of a table (number, category, date, or left out), and the task that
the target sets."""

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

# Texts that come in fewer rows than this are not learned as categories of their own, nor are more than so many.
RAREST_CATEGORY, MOST_CATEGORIES = 2, 100
# A column whose categories cover less than this share of its rows holds names, ids or sentences.
_LEAST_COVERED = 0.5
# Whole numbers with up to this many values, each in five rows on average, are classes.
_MOST_NUMBERED_CLASSES, _ROWS_PER_CLASS = 20, 5
_MOST_CLASSES = 1000
# Squares of larger numbers, of which standard deviations are made, come near to the end of float64. Tables have such
# numbers only to say that there is none.
_LARGEST_NUMBER = 1e100
_TASKS = ("regression", "classification")
# Cells that are looked at to say why a column of texts is left out, and ways to write numbers beyond which it holds no
# numbers but addresses, say.
_SAMPLE, _MOST_WAYS = 200, 3
_MAYBE_TIME = re.compile(r"\d{1,4}([:./-])\d{1,2}(\1\d{1,4})?([ T]\S+)?|\d{1,2}\.? [^\W\d]+\.?,? \d{2,4}")
# The reason for which a column is left out that needs no word.
AS_ASKED = "as you asked"


@dataclass(frozen=True)
class Kind:
    """What a column is: "number", "category", "date" (with the format of its texts) or "left out".

    reason: why it is left out, or what users should know of its numbers or dates.
    """

    kind: str
    reason: str = ""
    date_format: str = ""


@dataclass(frozen=True)
class Task:
    """What is to be predicted: "regression" or "classification" (of these classes, sorted), and how that was found."""

    name: str
    reason: str
    classes: tuple[str | int | float, ...] = ()


def kinds_of(
    table: Table, target: str, categorical: Collection[str], drop: Collection[str], numeric: Collection[str] = (),
    aside: Mapping[str, str] | None = None,
) -> dict[str, Kind]:  # fmt: skip
    """The kind of each column but the target, by the rows that the table has now.

    categorical, drop, numeric: columns of which the user says what they are. aside: columns that serve something else
    than the prediction, and what; left out unless the user says what they are. DataError for cells of mixed kinds, and
    where nothing is left.
    """
    for name in (*categorical, *drop, *numeric):
        table.column_called(name)
    found = {}
    asked = {target, *categorical, *drop, *numeric, *(aside or ())}
    dates = date_formats(table, [name for name in table.frame.columns if name not in asked])
    for name in table.frame.columns:
        if name == target:
            continue
        if name in drop:
            found[name] = Kind("left out", AS_ASKED)
        elif aside and name in aside and name not in (*categorical, *numeric):
            found[name] = Kind("left out", aside[name])
        else:
            found[name] = _kind_of(table, name, name in categorical, name in numeric, dates)
    if all(kind.kind == "left out" for kind in found.values()):
        why = "; ".join(f"{name}: {kind.reason}" for name, kind in found.items()) or "no other column"
        raise DataError(compose(f"{table.name}", "columns to predict the target from", why))
    return found


def _kind_of(table: Table, name: str, categorical: bool, numeric: bool, dates: Mapping[str, tuple[str, str]]) -> Kind:
    cells = table.frame[name]
    known = cells.dropna()
    if not len(known):
        return Kind("left out", "no cell holds anything")
    n_values = known.nunique()
    if n_values == 1 and len(known) == len(cells):
        only = known.iloc[0].item() if not is_text(known) else known.iloc[0]
        return Kind("left out", f"constant, {show(only)}{digits_lost(only)}")
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
    counts = known.value_counts()
    kept = counts[counts >= RAREST_CATEGORY].iloc[:MOST_CATEGORIES]
    if kept.sum() < _LEAST_COVERED * len(known):
        return Kind("left out", _why_no_categories(known, n_values))
    return Kind("category")


def _why_no_categories(known: Any, n_values: int) -> str:
    """Why a column of many different texts is left out: it may hold numbers or dates written in more than one way."""
    sample = [cell.strip() for cell in known.iloc[:_SAMPLE]]
    some = f"{n_values:,} different texts in {len(known):,} rows, such as {show(known.iloc[0])}"
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
        return f"{some}; if they are dates, write them as 2026-01-31, and times of day as numbers"
    return f"{some}, as ids, names or sentences have"


def digits_lost(value: object) -> str:
    """What is to be said of a number that may be the same as others for want of digits alone."""
    large = isinstance(value, int | float) and abs(value) >= 2.0**53
    return ": cells may differ in digits that float64 can't tell" if large else ""


def as_numbers(table: Table, name: str) -> Any:
    """A column as numbers, pandas.Series with NaN where missing; None where a cell is no number. Texts that
    are all numbers are numbers: so a Parquet file may hold them, and so they are where a word meant that a cell is
    missing, or where rows are out that held others."""
    import pandas

    cells = table.frame[name]
    if cells.dtype.kind == "M":
        return None
    if not is_text(cells):
        return cells
    values, odd = table.numbers(name)
    return None if odd.any() else pandas.Series(values, cells.index)


def first_row(table: Table, odd: np.ndarray) -> int:
    """The row, as Table.where counts them, of the first of these rows (n,) bool."""
    return int(table.frame.index[int(odd.argmax())])


def refuse_infinite(table: Table, name: str, numbers: Any) -> None:
    """DataError for the first of a column's numbers that is none to compute with."""
    values = numbers.to_numpy(np.float64, na_value=np.nan)
    beyond = np.abs(values) > _LARGEST_NUMBER
    if beyond.any():
        hint = "Correct or empty the cell."
        first = int(beyond.argmax())
        where = table.where(int(table.frame.index[first]))
        expected, got = f"numbers up to {_LARGEST_NUMBER:g}", f"{values[first]:g}"
        if np.isinf(values[first]):
            expected, got = "finite numbers", "infinity"
        raise DataError(compose(f"column {name!r}, {where}", expected, got, hint))


def _refuse_mixed(table: Table, name: str, column: str, instead: str) -> None:
    """Mostly numbers beside other texts is a mistake, or another word for a missing cell."""
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
        # As categories they would teach nothing.
        instead = ""
    also = f", or {instead}." if instead else "."
    if like_a_number(cell):
        # To call it missing would lose a number.
        hint = f"Write it as the others are written ({table.conventions.described(column)}){also}"
    else:
        hint = f"Correct them, or say --missing {quoted(f'{column}={cell}')} if that means nothing is known{also}"
        if row == len(table) - 1 and n_odd == 1:
            hint = f"Remove the line if it is no row but a note or a sum below the table. {hint}"
    raise DataError(compose(name, "numbers or texts", got, hint))


def category_texts(cells: Any) -> tuple[list[str], int]:
    """The texts that are learned as categories, sorted, and how many rarer ones are not."""
    counts = as_texts(cells).dropna().value_counts()
    kept = counts[counts >= RAREST_CATEGORY].iloc[:MOST_CATEGORIES]
    return sorted(kept.index.tolist()), len(counts) - len(kept)


def alike(texts: Collection[Any]) -> str:
    """What is to be said of labels of which two differ in nothing but case or blanks; "" where none do."""
    seen: dict[str, str] = {}
    for text in texts:
        if isinstance(text, str):
            other = seen.setdefault(" ".join(text.split()).casefold(), text)
            if other != text:
                return f"{show(other)} and {show(text)} are two, though they differ in case or blanks alone"
    return ""


def joined_spellings(table: Table, target: str, task: Task) -> str:
    """A note on classes that are numbers of which one is written in two ways, as 1 and 01; "" where none
    is."""
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


def task_of(table: Table, target: str, asked: str | None = None) -> Task:
    """The task that a target sets, or the one that is asked for.

    DataError for a target with missing cells, with one value, with too many classes, or that does not suit what is
    asked for.
    """
    if asked is not None and asked not in _TASKS:
        raise DataError(compose("--task", " or ".join(_TASKS), show(asked)))
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
        return _task_of_texts(table, target, cells, asked)
    refuse_infinite(table, target, numbers)
    whole = bool((numbers == numbers.round()).all())
    word = "whole numbers" if whole else "numbers"
    n_values = numbers.nunique()
    if n_values == 1:
        _refuse_one_value(name, cells)
    few = n_values <= _MOST_NUMBERED_CLASSES and _ROWS_PER_CLASS * n_values <= len(cells)
    reason = f"{n_values:,} different {word}"
    if asked == "regression" or (asked is None and not (whole and few)):
        return Task("regression", AS_ASKED if asked else reason)
    _refuse_many(name, n_values)
    reason = AS_ASKED if asked else reason
    spelled = _spelled_classes(cells if is_text(cells) else table.spelled.get(target), numbers)
    if spelled:
        return Task("classification", reason, spelled)
    # Floats that don't tell each whole number from the next stay what they are, as texts of cells do (plain_text).
    ordered = sorted(numbers.unique().tolist())
    classes = tuple(int(value) if whole and abs(value) < 1e15 else value for value in ordered)
    return Task("classification", reason, classes)


def _refuse_one_value(name: str, cells: Any) -> None:
    hint = "There is nothing to learn from it: choose another target, or add other rows."
    only = show(cells.iloc[0] if is_text(cells) else cells.iloc[0].item())
    raise DataError(compose(name, "at least two different values", f"{only} in all {len(cells):,} rows", hint))


def _task_of_texts(table: Table, target: str, cells: Any, asked: str | None) -> Task:
    name = f"target {target!r}"
    if asked == "regression":
        odd = table.numbers(target)[1]
        where = table.where(int(table.frame.index[odd.argmax()]))
        raise DataError(compose(f"{name}, {where}", "numbers, for regression", show(cells[odd].iloc[0])))
    if asked is None:
        _refuse_mixed(table, name, target, "--task classification")
    n_values = cells.nunique()
    _refuse_many(name, n_values)
    reason = AS_ASKED if asked else f"{n_values:,} different texts"
    return Task("classification", reason, tuple(sorted(cells.unique().tolist())))


def _spelled_classes(labels: Any, numbers: Any) -> tuple[str, ...]:
    """The classes of a target of numbers as they are written, in the numbers' order, where that is not how programs
    write numbers ("007", "5 %"); none where one number is written in two ways."""
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
