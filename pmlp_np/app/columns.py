"""Columns: what a table's columns and its target are, and how later tables with the same columns are read.

A fit decides the kind of each column (number, date or category) and the conventions of the file. They are stored as
numbers and texts in table.json. What a model makes of the cells is learned elsewhere, by `data.preprocessing`.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pmlp_np.app.column_kinds import AS_CHOSEN, LARGEST_NUMBER, Kind, Task, alike, common_texts, digits_lost
from pmlp_np.app.reading.conventions import Conventions
from pmlp_np.app.reading.dates import ISO, day_first_of, formats_of, parsed
from pmlp_np.app.reading.numbers import affix_of
from pmlp_np.app.reading.records import like_a_number
from pmlp_np.app.tables import Table, as_texts, is_text, plain_text, quoted
from pmlp_np.app.typed import typed
from pmlp_np.base.errors import DataError, FileFormatError, compose, nearest, show
from pmlp_np.data.preprocessing.feature_views import useless
from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE, NUMBER, raw_columns

_FORMAT, _VERSION = "pmlp_np table", 2
_TRUTHS = {"true": "True", "false": "False"}


@dataclass(frozen=True)
class Column:
    """A column that predictions are made from.

    kind: NUMBER, DATE or CATEGORY. date_format: of the texts of dates; "" if the file's cells are dates. truths:
    whether its categories are true and false, whose case programs write differently.
    """

    name: str
    kind: str
    date_format: str = ""
    truths: bool = False

    def read(self, table: Table) -> np.ndarray:
        """Return the column's cells: float64, datetime64 or texts, NaN, NaT or None where missing.

        Raises DataError for cells of another kind.
        """
        return {NUMBER: self._numbers, DATE: self._dates, CATEGORY: self._texts}[self.kind](table)

    def _numbers(self, table: Table) -> np.ndarray:
        cells = table.frame[self.name]
        if cells.dtype.kind == "M":
            raise DataError(compose(f"column {self.name!r} of {table.name}", "numbers", "dates"))
        values, odd = table.numbers(self.name)
        _refuse_first(table, self.name, odd, f"numbers, as in training ({table.conventions.described(self.name)})")
        _refuse_first(table, self.name, np.abs(values) > LARGEST_NUMBER, f"numbers up to {LARGEST_NUMBER:g}")
        return values

    def _dates(self, table: Table) -> np.ndarray:
        cells = table.frame[self.name]
        if cells.isna().all():
            return np.full(len(cells), np.datetime64("NaT", "us"))
        if cells.dtype.kind != "M":
            date_format = self.date_format or ISO
            dates = parsed(as_texts(cells), date_format)
            example = "2026-01-31" if date_format == ISO else datetime.date(2026, 1, 31).strftime(date_format)
            odd = dates.isna() & cells.notna()
            _refuse_first(table, self.name, odd, f"dates such as {example}, as in training", dates=True)
            cells = dates.dt.tz_localize(None)
        return np.asarray(cells.to_numpy("datetime64[us]"))

    def _texts(self, table: Table) -> np.ndarray:
        cells = as_texts(table.frame[self.name])
        if self.truths:
            cells = cells.map({text: _TRUTHS.get(text.strip().lower(), text) for text in cells.dropna().unique()})
        return np.asarray(cells.astype("object").where(cells.notna(), None).to_numpy(object))


def days_of(table: Table, name: str, date_format: str) -> np.ndarray:
    """Return a column's dates as days since 1970, (n,) float64, NaN for missing cells. Raises DataError for others."""
    stamps = Column(name, DATE, date_format).read(table)
    return np.where(np.isnat(stamps), np.nan, (stamps - np.datetime64(0, "us")) / np.timedelta64(1, "D"))


def _refuse_first(table: Table, name: str, odd: Any, expected: str, dates: bool = False) -> None:
    """Raise DataError, with the first cell of the mask `odd`, if there is one."""
    odd = np.asarray(odd)
    if odd.any():
        row = int(odd.argmax())
        where = table.where(int(table.frame.index[row]))
        cell = table.frame[name].iloc[row]
        got = show(cell if isinstance(cell, str) else cell.item())
        hint = _how_to_read(table, name, str(cell), dates) if isinstance(cell, str) or dates else ""
        raise DataError(compose(f"column {name!r} of {table.name}, {where}", expected, got, hint))


def _how_to_read(table: Table, name: str, cell: str, dates: bool) -> str:
    """Return a hint on a cell that can't be read by the fit's conventions. dates: whether the column holds dates."""
    style = table.conventions.style(name)
    if dates and (formats_of(cell.strip()) or re.search(r"\d", cell)):
        # --missing would lose a date.
        return "Write it as the dates of the fit are written."
    if not dates and affix_of(cell.strip()):
        return f"Write it as the numbers of the fit are written ({table.conventions.described(name)})."
    if not like_a_number(cell) and not formats_of(cell.strip()):
        return f"Correct it, or say --missing {quoted(f'{name}={cell.strip()}')} if it means that nothing is known."
    if re.fullmatch(r"[\d.,+-]+", cell.strip()) and not style.affix:
        return f"If the table is not written as that of the fit, say --decimal {',' if style.decimal == '.' else '.'}."
    return f"Write it as the numbers of the fit are written ({table.conventions.described(name)})."


@dataclass(frozen=True)
class Target:
    """The target. classes: sorted, for classification."""

    name: str
    classes: tuple[str | int | float | bool, ...] = ()

    @property
    def task(self) -> str:
        return "classification" if self.classes else "regression"

    @property
    def labels(self) -> np.ndarray:
        """The classes as an array, of numbers if all of them are numbers."""
        named = any(isinstance(each, str) for each in self.classes)
        return np.array(self.classes, object if named else None)

    def read(self, table: Table) -> np.ndarray:
        """Return the target's cells: numbers (n,) float64, NaN for missing ones; or indices of classes (n,) int64.

        Index -1 stands for missing cells, -2 for unknown classes.
        """
        if not self.classes:
            return Column(self.name, NUMBER).read(table)
        named = any(isinstance(each, str) for each in self.classes)
        cells = table.labels(self.name) if named else table.frame[self.name]
        known = {plain_text(value): i for i, value in enumerate(self.classes)}
        texts = as_texts(cells).astype("object").where(cells.notna(), None)
        if is_text(cells) and not named:
            # Spellings of a number, as 1.0 and 01, are the same class.
            numbers, odd = table.numbers(self.name)
            texts = texts.where(odd | cells.isna(), [plain_text(float(value)) for value in numbers])
        return np.array([-1 if text is None else known.get(text, -2) for text in texts], np.int64)

    def read_known(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Return (the target's cells as from `read`; a mask of cells that are no numbers or no known classes).

        Masked cells are NaN or -2; they raise no error.
        """
        if self.classes:
            numbers = self.read(table)
            return numbers, numbers == -2
        values, odd = table.numbers(self.name)
        odd = odd | np.isinf(values)
        return np.where(odd, np.nan, values), odd


@dataclass(frozen=True)
class Columns:
    """The columns of a table, as a fit found them.

    columns: those that predictions are made from, in the table's order. left_out: names of the other columns, and the
    reasons. conventions: how numbers and dates are written in the table, and in tables that are predicted later.
    """

    target: Target
    columns: tuple[Column, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    conventions: Conventions = field(default_factory=Conventions)

    @classmethod
    def learn(cls, table: Table, training: np.ndarray, kinds: dict[str, Kind], target: str, task: Task) -> Columns:
        """Return the columns of a table. kinds: of all columns but the target.

        training: row numbers of the training rows. Columns that say nothing there are left out.
        """
        columns: list[Column] = []
        left_out: dict[str, str] = {}
        for name, kind in kinds.items():
            if kind.kind == "left out":
                left_out[name] = kind.reason
                continue
            column = Column(name, kind.kind, kind.date_format)
            cells = column.read(table)[training]
            column = replace(column, truths=kind.kind == CATEGORY and _are_truths(cells))
            reason = useless(raw_columns(cells[:, None], [kind.kind])[0])
            if reason:
                large = digits_lost(float(np.nanmax(cells))) if reason == "one value" and kind.kind == NUMBER else ""
                left_out[name] = f"in the training rows: {reason}{large}"
            else:
                columns.append(column)
        orders = {day_first_of(column.date_format) for column in columns if column.kind == DATE} - {None}
        conventions = replace(table.conventions, day_first=orders.pop() if len(orders) == 1 else None)
        return cls(Target(target, task.classes), tuple(columns), left_out, conventions)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def text_columns(self) -> list[str]:
        """Return the columns whose cells must be read as texts."""
        names = [column.name for column in self.columns if column.kind == CATEGORY]
        return names + [self.target.name] * any(isinstance(each, str) for each in self.target.classes)

    def frame(self, table: Table, notes: list[str]) -> Any:
        """Return the columns as a pandas.DataFrame of float64, datetime64 and texts.

        notes: gets a note on ignored columns.

        Raises DataError for columns that are missing, and for cells of another kind than in training.
        """
        import pandas

        self._check_columns(table, notes)
        return pandas.DataFrame({column.name: column.read(table) for column in self.columns})

    def _check_columns(self, table: Table, notes: list[str]) -> None:
        present = [str(name) for name in table.frame.columns]
        absent = [name for name in self.names if name not in present]
        known = {*self.names, *self.left_out, self.target.name}
        extra = [name for name in present if name not in known]
        if absent:
            guesses = {name: nearest(name, extra) for name in absent}
            renamed = [f"{guess!r} to {name!r}" for name, guess in guesses.items() if guess]
            hint = f"Rename {', '.join(renamed[:3])}?" if renamed else ""
            expected = f"the columns that it was fitted on ({', '.join(self.names)})"
            raise DataError(compose(table.name, expected, f"no {', '.join(map(repr, absent))}", hint))
        if extra:
            notes.append(f"ignored columns that the fit did not have: {', '.join(extra)}")

    # Files.

    def to_plain(self) -> dict[str, Any]:
        """Return the columns as plain values for JSON."""
        return {"format": _FORMAT, "version": _VERSION, "target": asdict(self.target),
                "columns": [asdict(column) for column in self.columns], "left_out": self.left_out,
                "conventions": self.conventions.to_plain()}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Any, name: str) -> Columns:
        """Return the columns from `to_plain`'s values. Raises FileFormatError, with the file's name, for others."""
        if not isinstance(plain, dict) or plain.get("format") != _FORMAT or plain.get("version") != _VERSION:
            got = plain.get("version") if isinstance(plain, dict) else plain
            hint = "Open the folder with the version of pmlp_np that wrote it."
            raise FileFormatError(compose(name, f"a table's columns, version {_VERSION}", show(got), hint))
        try:
            columns = tuple(typed(Column, each) for each in plain["columns"])
            found = cls(typed(Target, plain["target"]), columns, dict(plain["left_out"]),
                        Conventions.from_plain(plain["conventions"]))  # fmt: skip
            found._check_parts()
            return found
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            got = f"none named {error}" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(compose(name, "all parts of the columns", got, "The file is damaged.")) from error

    def _check_parts(self) -> None:
        """Raise TypeError or ValueError for values that `to_plain` never writes."""
        classes = [plain_text(each) for each in self.target.classes]
        for kind, texts in {"columns": [*self.names, self.target.name], "classes": classes}.items():
            if len(set(texts)) != len(texts):
                raise ValueError(f"{kind} of which two are the same")
        if not self.columns or len(classes) == 1:
            raise ValueError(f"{len(self.columns)} columns, {len(classes)} classes")
        if not {column.kind for column in self.columns} <= {NUMBER, DATE, CATEGORY}:
            raise ValueError("kinds of columns")
        if not all(isinstance(text, str) for pair in self.left_out.items() for text in pair):
            raise TypeError(f"left_out {show(self.left_out)}")


def _are_truths(cells: np.ndarray) -> bool:
    """Return whether texts are true and false, each written in one way."""
    texts = {text for text in cells if text is not None}
    lowered = [text.strip().lower() for text in texts]
    return bool(texts) and set(lowered) <= set(_TRUTHS) and len(set(lowered)) == len(texts)


def note_kinds(kinds: dict[str, Kind], frame: Any) -> list[str]:
    """Return notes on columns that are left out, on dates and row numbers, and on categories that look the same."""
    notes = [f"column {name!r} is left out: {kind.reason}" for name, kind in kinds.items()
             if kind.kind == "left out" and kind.reason != AS_CHOSEN]  # fmt: skip
    notes += [kind.reason for kind in kinds.values() if kind.kind == "date" and kind.reason]
    for name, kind in kinds.items():
        if kind.kind == "number" and kind.reason:
            notes.append(f"column {name!r}: {kind.reason}")
        if kind.kind == "category" and (same := alike(sorted(common_texts(frame[name].dropna()).index))):
            notes.append(f"column {name!r}: {same}")
    return notes
