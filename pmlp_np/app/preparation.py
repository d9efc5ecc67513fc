"""Preparation: from a table's columns to X and y, and from predictions back to the target's units.

The preparation learns from training rows the same as scikit-learn's SimpleImputer (median), StandardScaler and
OneHotEncoder. It is stored as numbers and texts in a JSON file. Nothing in the file is executed, and it does not depend
on the version of scikit-learn, as pickles and skops files with an estimator's attributes do.

There are two matrices. The *inputs* (n, k) float64 are the prepared columns in the table's units: numbers with missing
cells filled, dates as days, categories and "is missing" as 0 and 1. Members train on X = (inputs - shift) / scale. This
map is affine, so that it can be folded into exported models, which take the inputs.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from pmlp_np.app.column_kinds import AS_CHOSEN, Kind, Task, alike, category_texts, digits_lost
from pmlp_np.app.reading.conventions import Conventions
from pmlp_np.app.reading.dates import ISO, day_first_of, formats_of, parsed
from pmlp_np.app.reading.numbers import affix_of
from pmlp_np.app.reading.records import like_a_number
from pmlp_np.app.tables import Table, as_texts, is_text, plain_text, quoted
from pmlp_np.app.typed import typed
from pmlp_np.base.errors import DataError, FileFormatError, compose, nearest, show

_FORMAT, _VERSION = "pmlp_np table", 1
_DAY = np.timedelta64(1, "D")
# The scale of an input that is to be 0 in X: far above the numbers of tables, yet finite in JSON and in exports.
_NOTHING = 2.0**1000
# Rounding error of sines and cosines of angles of a century of days.
_ROUNDING = 1e-9
# Lengths of the cycles of dates, in days. The year is the mean year of the Gregorian calendar.
CYCLES = {"day": 1.0, "week": 7.0, "year": 365.2425}


def _filled(values: np.ndarray, median: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (values with NaN replaced by the median, mask of NaN)."""
    missing = np.isnan(values)
    return np.where(missing, median, values), missing


@dataclass(frozen=True)
class Number:
    """A column of numbers. Missing cells become the median; if training rows have any, a second input marks them.

    mean, scale: mean and standard deviation of the training rows, missing cells filled. A scale of 0 becomes 1.
    marks_missing: whether there is the second input.
    """

    name: str
    median: float
    mean: float
    scale: float
    marks_missing: bool
    kind: ClassVar[str] = "number"

    @classmethod
    def learn(cls, name: str, values: np.ndarray) -> Number:
        """Return the column learned from the training rows' values, (n,) float64, NaN for missing cells."""
        known = values[~np.isnan(values)]
        median = float(np.median(known)) if len(known) else 0.0
        filled, missing = _filled(values, median)
        std = float(filled.std())
        # The standard deviation of equal numbers may be a rounding error instead of 0.
        constant = std <= 1e-14 * abs(median) or len(known) == 0
        return cls(name, median, float(filled.mean()), 1.0 if constant else std, bool(missing.any()))

    def input_names(self) -> list[str]:
        return [self.name] + [f"{self.name} is missing"] * self.marks_missing

    def affine(self) -> tuple[list[float], list[float]]:
        """Return (shift, scale) of each input."""
        return [self.mean] + [0.0] * self.marks_missing, [self.scale] + [1.0] * self.marks_missing

    def inputs(self, values: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return (the inputs, mask of missing cells) for values (n,) float64."""
        filled, missing = _filled(values, self.median)
        return [filled] + [missing.astype(np.float64)] * self.marks_missing, missing

    def read(self, table: Table) -> np.ndarray:
        """Return the column's cells, (n,) float64, NaN for missing ones. Raises DataError for other texts."""
        cells = table.frame[self.name]
        if cells.dtype.kind == "M":
            raise DataError(compose(f"column {self.name!r} of {table.name}", "numbers", "dates"))
        values, odd = table.numbers(self.name)
        _refuse_first(table, self.name, odd, f"numbers, as in training ({table.conventions.described(self.name)})")
        _refuse_first(table, self.name, np.isinf(values), "finite numbers")
        return values


@dataclass(frozen=True)
class Date:
    """A column of dates, as days since 1970 and as sines and cosines of the cycles that the training rows span.

    date_format: of the texts; "" if the file's cells are dates.
    days: the preparation of the days.
    cycles: names out of "day", "week", "year".
    """

    name: str
    date_format: str
    days: Number
    cycles: tuple[str, ...]
    kind: ClassVar[str] = "date"

    @classmethod
    def learn(cls, name: str, date_format: str, values: np.ndarray) -> Date:
        """Return the column learned from days since 1970 of the training rows, (n,) float64, NaN for missing cells."""
        known = values[~np.isnan(values)]
        span = float(np.ptp(known)) if len(known) else 0.0
        has_times = bool((known % 1.0 != 0.0).any())
        cycles = [each for each, days in CYCLES.items() if span >= days and (each != "day" or has_times)]
        return cls(name, date_format, Number.learn(f"{name} (days since 1970)", values), tuple(cycles))

    def input_names(self) -> list[str]:
        waves = [f"{self.name} ({wave} of the {cycle})" for cycle in self.cycles for wave in ("sine", "cosine")]
        return [*self.days.input_names(), *waves]

    def affine(self) -> tuple[list[float], list[float]]:
        shift, scale = self.days.affine()
        return shift + [0.0] * 2 * len(self.cycles), scale + [1.0] * 2 * len(self.cycles)

    def inputs(self, values: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        inputs, missing = self.days.inputs(values)
        for cycle in self.cycles:
            angle = 2.0 * np.pi * inputs[0] / CYCLES[cycle]
            inputs += [np.sin(angle), np.cos(angle)]
        return inputs, missing

    def read(self, table: Table) -> np.ndarray:
        """Return the column's cells as days since 1970, (n,) float64, NaN if missing. Raises DataError for others."""
        cells = table.frame[self.name]
        if cells.isna().all():
            return np.full(len(cells), np.nan)
        if cells.dtype.kind != "M":
            date_format = self.date_format or ISO
            dates = parsed(as_texts(cells), date_format)
            example = "2026-01-31" if date_format == ISO else datetime.date(2026, 1, 31).strftime(date_format)
            odd = dates.isna() & cells.notna()
            _refuse_first(table, self.name, odd, f"dates such as {example}, as in training", dates=True)
            cells = dates.dt.tz_localize(None)
        stamps = cells.to_numpy("datetime64[us]")
        return np.where(np.isnat(stamps), np.nan, (stamps - np.datetime64(0, "D")) / _DAY)


@dataclass(frozen=True)
class Category:
    """A column of texts, one-hot encoded: an input for each category. Rare and new texts are 0 in all inputs.

    categories: sorted.
    marks_missing: whether a last input marks missing cells.
    """

    name: str
    categories: tuple[str, ...]
    marks_missing: bool
    kind: ClassVar[str] = "category"

    @classmethod
    def learn(cls, name: str, cells: Any) -> Category:
        """Return the column learned from the training rows' cells, a pandas.Series."""
        categories, _ = category_texts(cells)
        return cls(name, tuple(categories), bool(cells.isna().any()))

    def input_names(self) -> list[str]:
        return [f"{self.name} = {text}" for text in self.categories] + [f"{self.name} is missing"] * self.marks_missing

    def affine(self) -> tuple[list[float], list[float]]:
        n = len(self.categories) + self.marks_missing
        return [0.0] * n, [1.0] * n

    def inputs(self, texts: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        missing = np.array([text is None for text in texts], bool)
        inputs = [(texts == text).astype(np.float64) for text in self.categories]
        return inputs + [missing.astype(np.float64)] * self.marks_missing, missing

    def read(self, table: Table) -> np.ndarray:
        """Return the column's cells, (n,) str or None. Booleans match in any case: programs differ in it."""
        cells = as_texts(table.frame[self.name])
        truths = {text.lower(): text for text in self.categories}
        if len(truths) == len(self.categories) and self.categories and set(truths) <= {"true", "false"}:
            spelled = {text: truths.get(text.strip().lower(), text) for text in cells.dropna().unique()}
            cells = cells.map(spelled)
        return cells.astype("object").where(cells.notna(), None).to_numpy(object)


Column = Number | Date | Category


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
    """The target, and its preparation.

    classes: sorted, for classification.
    mean, scale: mean and standard deviation of the training rows, for regression.
    """

    name: str
    classes: tuple[str | int | float | bool, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def task(self) -> str:
        return "classification" if self.classes else "regression"

    @classmethod
    def learn(cls, name: str, task: Task, values: np.ndarray) -> Target:
        """Return the target learned from the training rows' values, (n,) float64 (unused for classification)."""
        if task.name == "classification":
            return cls(name, task.classes)
        std = float(values.std())
        return cls(name, (), float(values.mean()), std if std > 0.0 else 1.0)

    def read(self, table: Table) -> np.ndarray:
        """Return the target's cells: numbers (n,) float64, NaN for missing ones; or indices of classes (n,) int64.

        Index -1 stands for missing cells, -2 for unknown classes.
        """
        if not self.classes:
            return Number(self.name, 0.0, 0.0, 1.0, False).read(table)
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

    def prepared(self, values: np.ndarray) -> np.ndarray:
        """Return values as members are trained on: standardized, or indices of classes."""
        return values if self.classes else (values - self.mean) / self.scale

    def in_own_units(self, predicted: np.ndarray) -> np.ndarray:
        """Return a member's predictions in the target's units, float64, or as an array of classes."""
        if self.classes:
            return np.array(self.classes, dtype=object)[predicted]
        return predicted.astype(np.float64) * self.scale + self.mean


@dataclass(frozen=True)
class Preparation:
    """The preparation of a table: from its columns to inputs and X.

    columns: in the table's order.
    left_out: names of the other columns, and the reasons.
    constant: positions of inputs that are the same in all training rows (for instance the sine of the day for times at
        noon and midnight). They are 0 in X: otherwise untrained initial weights would act on rows with other values. A
        column with only such inputs is left out.
    conventions: how numbers and dates are written in the table, and in tables that are predicted later.
    """

    target: Target
    columns: tuple[Column, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    constant: tuple[int, ...] = ()
    conventions: Conventions = field(default_factory=Conventions)

    @classmethod
    def learn(cls, table: Table, training: np.ndarray, kinds: dict[str, Kind], target: str, task: Task) -> Preparation:
        """Return the preparation learned from the training rows (row numbers). kinds: of all columns but the target."""
        columns: list[Column] = []
        constant: list[int] = []
        left_out: dict[str, str] = {}
        n_inputs = 0
        for name, kind in kinds.items():
            if kind.kind == "left out":
                left_out[name] = kind.reason
                continue
            column, values = _learned(name, kind, table, training)
            same = _constant_inputs(column, values)
            if all(same):
                left_out[name] = _teaches_nothing(column, values)
                continue
            columns.append(column)
            constant += [n_inputs + i for i, each in enumerate(same) if each]
            n_inputs += len(same)
        known = Target(target, task.classes)
        values = known.read(table)[training]
        orders = {day_first_of(column.date_format) for column in columns if isinstance(column, Date)} - {None}
        conventions = replace(table.conventions, day_first=orders.pop() if len(orders) == 1 else None)
        known_target = Target.learn(target, task, values)
        return cls(known_target, tuple(columns), left_out, tuple(constant), conventions)

    def input_names(self) -> list[str]:
        """Return the inputs' names, all different: "age", "age is missing", "color = red", ...

        Equal names get a number, "color = red (2)", for instance if a column has the name of another one's category.
        """
        names: dict[str, None] = {}
        for name in (name for column in self.columns for name in column.input_names()):
            unique, count = name, 1
            while unique in names:
                count += 1
                unique = f"{name} ({count})"
            names[unique] = None
        return list(names)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (shift, scale), each (k,) float64: X = (inputs - shift) / scale."""
        pairs = [column.affine() for column in self.columns]
        shift, scale = np.array(sum((p[0] for p in pairs), [])), np.array(sum((p[1] for p in pairs), []))
        scale[list(self.constant)] = _NOTHING
        return shift, scale

    def text_columns(self) -> list[str]:
        """Return the columns whose cells must be read as texts."""
        names = [column.name for column in self.columns if isinstance(column, Category)]
        return names + [self.target.name] * any(isinstance(each, str) for each in self.target.classes)

    def inputs(self, table: Table, notes: list[str]) -> np.ndarray:
        """Return the table's prepared columns in its units, (n, k) float64.

        notes: gets notes for the user, on ignored columns and new categories.

        Raises DataError for columns that are missing, and for cells of another kind than in training.
        """
        self._check_columns(table, notes)
        columns = []
        for column in self.columns:
            values = column.read(table)
            if isinstance(column, Category):
                self._note_new(column, values, notes)
            inputs, missing = column.inputs(values)
            marks = column.days.marks_missing if isinstance(column, Date) else column.marks_missing
            if missing.any() and not marks:
                notes.append(
                    f"column {column.name!r}: {int(missing.sum()):,} missing cells, which training rows had not"
                )
            columns += inputs
        return np.column_stack(columns) if columns else np.empty((len(table), 0))

    def features(self, inputs: np.ndarray) -> np.ndarray:
        """Return X, (n, k) float32, for these inputs."""
        shift, scale = self.affine()
        with np.errstate(over="ignore"):
            X = ((inputs - shift) / scale).astype(np.float32)
        X[:, list(self.constant)] = 0.0
        return X

    def _check_columns(self, table: Table, notes: list[str]) -> None:
        present = [str(name) for name in table.frame.columns]
        absent = [column.name for column in self.columns if column.name not in present]
        known = {column.name for column in self.columns}
        extra = [name for name in present if name not in known and name not in self.left_out]
        extra = [name for name in extra if name != self.target.name]
        if absent:
            guesses = {name: nearest(name, extra) for name in absent}
            renamed = [f"{guess!r} to {name!r}" for name, guess in guesses.items() if guess]
            hint = f"Rename {', '.join(renamed[:3])}?" if renamed else ""
            expected = f"the columns that it was fitted on ({', '.join(column.name for column in self.columns)})"
            raise DataError(compose(table.name, expected, f"no {', '.join(map(repr, absent))}", hint))
        if extra:
            notes.append(f"ignored columns that the fit did not have: {', '.join(extra)}")

    @staticmethod
    def _note_new(column: Category, texts: np.ndarray, notes: list[str]) -> None:
        new = [text for text in texts if text is not None and text not in column.categories]
        if new:
            some = ", ".join(map(show, list(dict.fromkeys(new))[:3])) + (", ..." if len(set(new)) > 3 else "")
            notes.append(f"column {column.name!r}: {len(new):,} cells of categories that were not learned ({some})")

    # Files.

    def to_plain(self) -> dict[str, Any]:
        """Return the preparation as plain values for JSON."""
        columns = [{"kind": column.kind, **_plain(column)} for column in self.columns]
        return {"format": _FORMAT, "version": _VERSION, "target": _plain(self.target), "columns": columns,
                "left_out": self.left_out, "constant": list(self.constant),
                "conventions": self.conventions.to_plain()}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: Any, name: str) -> Preparation:
        """Return the preparation from `to_plain`'s values. Raises FileFormatError, with the file's name, for others."""
        if not isinstance(plain, dict) or plain.get("format") != _FORMAT or plain.get("version") != _VERSION:
            got = plain.get("version") if isinstance(plain, dict) else plain
            hint = "Open the folder with the version of pmlp_np that wrote it."
            raise FileFormatError(compose(name, f"a table's preparation, version {_VERSION}", show(got), hint))
        try:
            columns = tuple(_column(dict(each)) for each in plain["columns"])
            target = typed(Target, plain["target"])
            # Folders of earlier versions have no conventions.
            conventions = Conventions.from_plain(plain["conventions"]) if "conventions" in plain else Conventions()
            constant = tuple(plain.get("constant", ()))
            preparation = cls(target, columns, dict(plain["left_out"]), constant, conventions)
            preparation._check_parts()
            return preparation
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            got = f"none named {error}" if isinstance(error, KeyError) else str(error)
            raise FileFormatError(compose(name, "all parts of a preparation", got, "The file is damaged.")) from error

    def _check_parts(self) -> None:
        """Raise TypeError or ValueError for values that `to_plain` never writes."""
        if not self.columns:
            raise ValueError("columns")
        n_inputs = len(self.input_names())
        if not all(type(i) is int and 0 <= i < n_inputs for i in self.constant):
            raise ValueError(f"constant {show(self.constant)}")
        names = [*(column.name for column in self.columns), self.target.name]
        classes = [plain_text(each) for each in self.target.classes]
        sets = {"columns": names, "classes": classes}
        of_texts = [column for column in self.columns if isinstance(column, Category)]
        sets |= {f"categories of {column.name}": list(column.categories) for column in of_texts}
        for kind, texts in sets.items():
            if len(set(texts)) != len(texts):
                raise ValueError(f"{kind} of which two are the same")
        if len(classes) == 1:
            raise ValueError(f"one class {show(classes[0])}")
        scales = [self.target.scale]
        for column in self.columns:
            if isinstance(column, Date) and not set(column.cycles) <= set(CYCLES):
                raise ValueError(f"cycles {show(column.cycles)}")
            scales += [] if isinstance(column, Category) else [column.affine()[1][0]]
        if not min(scales) > 0.0:
            raise ValueError(f"scale {show(min(scales))}")
        if not all(isinstance(text, str) for pair in self.left_out.items() for text in pair):
            raise TypeError(f"left_out {show(self.left_out)}")


def _learned(name: str, kind: Kind, table: Table, training: np.ndarray) -> tuple[Column, np.ndarray]:
    """Return (the column learned from the training rows, its values there)."""
    column: Column
    if kind.kind == "number":
        values = Number(name, 0, 0, 1, False).read(table)[training]
        column = Number.learn(name, values)
    elif kind.kind == "date":
        values = Date(name, kind.date_format, Number(name, 0, 0, 1, False), ()).read(table)[training]
        column = Date.learn(name, kind.date_format, values)
    else:
        column = Category.learn(name, table.frame[name].iloc[training])
        values = column.read(table)[training]
    return column, values


def _constant_inputs(column: Column, values: np.ndarray) -> list[bool]:
    """Return, for each input of a column, whether it is constant in the training rows.

    The tolerance is for sines and cosines of equal angles; other inputs are of magnitude 1 after scaling.
    """
    inputs, _ = column.inputs(values)
    return [bool(np.ptp(each) <= _ROUNDING * scale) for each, scale in zip(inputs, column.affine()[1], strict=True)]


def _teaches_nothing(column: Column, values: np.ndarray) -> str:
    """Return the reason for leaving out a column whose inputs are constant in the training rows."""
    texts = column.kind == "category"
    known = [each for each in values.tolist() if (each is not None if texts else each == each)]
    if not known:
        return "all cells of the training rows are empty"
    if len(set(known)) > 1:
        return "no category comes twice in the training rows"
    value = np.datetime64(0, "D") + np.timedelta64(1, "D") * int(known[0]) if column.kind == "date" else known[0]
    return f"constant in the training rows, {plain_text(value)}{digits_lost(value)}"


def _plain(part: Any) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, Number) else value for name, value in vars(part).items()}


def _column(plain: dict[str, Any]) -> Column:
    kind = plain.pop("kind")
    for each in (Number, Date, Category):
        if kind == each.kind:
            return typed(each, plain)  # type: ignore[return-value]
    raise TypeError(f"kind {show(kind)}")


def note_kinds(kinds: dict[str, Kind], frame: Any, categorical: Collection[str]) -> list[str]:
    """Return notes on columns that are left out, on dates and row numbers, and on rare categories."""
    notes = [f"column {name!r} is left out: {kind.reason}" for name, kind in kinds.items()
             if kind.kind == "left out" and kind.reason != AS_CHOSEN]  # fmt: skip
    notes += [kind.reason for kind in kinds.values() if kind.kind == "date" and kind.reason]
    for name, kind in kinds.items():
        if kind.kind == "number" and kind.reason:
            notes.append(f"column {name!r}: {kind.reason}")
        if kind.kind == "category":
            common, n_rare = category_texts(frame[name])
            if same := alike(common):
                notes.append(f"column {name!r}: {same}")
            if n_rare:
                notes.append(f"column {name!r}: {len(common):,} categories; {n_rare:,} rare ones count as other")
    return notes
