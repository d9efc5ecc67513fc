"""A table as a learning problem: the split of its rows, the kind of each column, and the target.

Errors in the data are raised here, before training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.app import fairness
from pmlp_np.app import parts as parts_of_rows
from pmlp_np.app.column_kinds import Kind, Task, alike, first_row, joined_spellings, kinds_of, task_of
from pmlp_np.app.columns import Columns, Target, note_kinds
from pmlp_np.app.parts import NAMES as PART_NAMES
from pmlp_np.app.parts import part
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.reading.row_draw import RowLimit
from pmlp_np.app.tables import Table, as_texts, plain_text, quoted, read_table
from pmlp_np.base.errors import DataError, compose, show

# Smaller weights, as a share of their mean, are 0 in float32.
_LEAST_WEIGHT = 1e-37
# Fewer rows than this are too few for parts and folds.
_FEWEST_ROWS = 10
# Folds of a large table, unless said otherwise.
_FOLDS = 5


@dataclass(frozen=True)
class Source:
    """A table, and the options on its columns and rows.

    numeric, categorical, drop: columns whose kind is chosen by the user.
    group, order_by, part: the column by which rows are split.
    validation, test: separate files for these parts.
    weight: the column of sample weights.
    reading: options on the format of the files.
    max_rows: the most rows to read of a file. Default None: as many as memory has room for.
    """

    path: str
    target: str
    task: str | None = None
    missing: Sequence[str] = ()
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    skip_missing_target: bool = False
    validation_share: float | None = None
    test_share: float | None = None
    numeric: Sequence[str] = ()
    group: str | None = None
    order_by: str | None = None
    part: str | None = None
    validation: str | None = None
    test: str | None = None
    weight: str | None = None
    reading: Reading = field(default_factory=Reading)
    max_rows: int | None = None

    def aside(self) -> dict[str, str]:
        """Return the columns with another purpose than prediction, each with the reason for leaving it out."""
        uses = ((self.group, "it groups the rows"), (self.part, "it parts the rows"),
                (self.weight, "it weighs the rows"))  # fmt: skip
        return {name: use for name, use in uses if name is not None}

    def named_columns(self) -> list[tuple[str, str]]:
        """Return (option, column) of each column that an option names."""
        lists = (("--categorical", self.categorical), ("--numeric", self.numeric), ("--drop", self.drop))
        single = (("--group", self.group), ("--order-by", self.order_by), ("--part", self.part),
                  ("--weight", self.weight))  # fmt: skip
        return [(option, name) for option, names in lists for name in names] + [
            (option, name) for option, name in single if name is not None
        ]

    def check_columns(self, table: Table) -> None:
        """Raise DataError for columns that the table lacks, and for contradicting options on a column."""
        table.column_called(self.target, "--target")
        options: dict[str, str] = {}
        for option, name in self.named_columns():
            table.column_called(name, option)
            if name == self.target:
                raise DataError(compose(option, "another column than the target", repr(name)))
            other = options.setdefault(name, option)
            if other != option and not _agree(other, option):
                hint = f"Leave out {option} {quoted(name)}."
                raise DataError(compose(f"{other} and {option}", "different columns", f"{name!r} for both", hint))


def _agree(one: str, other: str) -> bool:
    """Return whether two options may name one column, as an option on rows and one on kinds may."""
    roles, kinds = {"--group", "--order-by", "--weight"}, {"--categorical", "--numeric", "--drop"}
    both = {one, other}
    return bool(both & kinds and both & roles) or both == {"--part", "--drop"} or both == {"--order-by", "--weight"}


@dataclass
class Problem:
    """A table as a learning problem.

    parts: row numbers of each part, by name. Without validation rows there are folds of the training rows.
    frame: the cells of all rows, a pandas.DataFrame; rows of other files follow those of the table.
    own_y: the target as from Target.read.
    groups: (n,) texts of the column of --group, or None.
    weight: of each row, or None.
    cv: the number of folds, or None.
    doubts: reasons to doubt the test score.
    spread: number of groups of --group with rows both in a separate file for the test and elsewhere, or in a separate
        file for validation and elsewhere.
    """

    source: Source
    table: Table
    task: Task
    columns: Columns
    parts: dict[str, np.ndarray]
    frame: Any
    own_y: np.ndarray
    notes: list[str] = field(default_factory=list)
    groups: np.ndarray | None = None
    weight: np.ndarray | None = None
    cv: int | None = None
    doubts: list[str] = field(default_factory=list)
    seed: int = 0
    spread: int = 0

    @property
    def by_folds(self) -> bool:
        """Whether configurations are evaluated by folds of the training rows, not on validation rows."""
        return not len(self.parts["validation"])

    @property
    def y(self) -> np.ndarray:
        """The target in its own terms: numbers, or classes."""
        return self.columns.target.labels[self.own_y] if self.task.classes else self.own_y

    def counted(self, part: str) -> np.ndarray:
        """Return the row numbers of a part's rows of weight above 0."""
        rows = self.parts[part]
        return rows if self.weight is None else rows[self.weight[rows] > 0.0]

    def weight_of(self, part: str) -> np.ndarray | None:
        """Return the weights of a part's rows, or None."""
        return None if self.weight is None else self.weight[self.parts[part]]

    def for_search(self) -> dict[str, Any]:
        """Return the arguments of a search: the training and validation rows, and how they are split."""
        parts = [self.parts["training"], self.parts["validation"]]
        rows = np.concatenate(parts)
        numbers = np.split(np.arange(len(rows)), [len(parts[0])])
        return {
            "X": self.frame.iloc[rows], "y": self.y[rows], "task": self.task.name,
            "cv": self.cv if self.by_folds else [tuple(numbers)],
            "groups": self.groups[rows] if self.groups is not None and self.by_folds else None,
            "sample_weight": None if self.weight is None else self.weight[rows],
        }  # fmt: skip


def understand(
    source: Source, seed: int, cv: int | None = None, progress: Callable[[float], None] | None = None
) -> Problem:
    """Read a table, split its rows, and determine the columns' kinds and the target's task.

    cv: number of folds. progress: as of RowLimit.
    """
    shares = parts_of_rows.check_options(source.group, source.order_by, source.part, source.validation, source.test,
                                         source.validation_share, source.test_share)  # fmt: skip
    notes: list[str] = []
    limit = RowLimit(source.max_rows, seed, progress, cv or _FOLDS)
    table = _table(source, source.path, limit, notes)
    if len(table) < _FEWEST_ROWS:
        n = f"{len(table):,}" if len(table) > 1 else ("none", "one")[len(table)]
        with_target = " with a target" if source.skip_missing_target else ""
        hint = "They are split into training and test rows."
        raise DataError(compose(table.name, f"at least {_FEWEST_ROWS} rows{with_target}", n, hint))
    task = task_of(table, source.target, source.task)
    kinds = kinds_of(table, source.target, source.categorical, source.drop, source.numeric, source.aside())
    notes += note_kinds(kinds, table.frame)
    if same := alike(task.classes) or joined_spellings(table, source.target, task):
        notes.append(f"target {source.target!r}: {same}")
    own_y = Target(source.target, task.classes).read(table)
    parts = _parts(source, table, own_y, task, shares, seed, notes)
    _check_training(source, table, task, own_y[parts["training"]])
    columns = Columns.learn(table, parts["training"], kinds, source.target, task)
    notes += [f"column {name!r} is left out: {reason}" for name, reason in columns.left_out.items()
              if kinds[name].kind != "left out"]  # fmt: skip
    if not columns.columns:
        why = "; ".join(f"{name}: {reason}" for name, reason in columns.left_out.items())
        raise DataError(compose(table.name, "columns to predict the target from", why, _other_rows(source)))
    others = _other_files(source, columns, limit, notes)
    problem = _joined(source, table, task, columns, parts, own_y, others, notes)
    problem.seed, problem.cv = seed, cv
    problem.spread = _spread_groups(source, table, parts, others)
    _check_parts(problem)
    _check_folds(problem)
    _check_weights(problem)
    problem.doubts = _doubts(problem, kinds)
    return problem


def _other_files(source: Source, columns: Columns, limit: RowLimit, notes: list[str]) -> dict[str, Table]:
    """Return the tables of --validation and --test, by part."""
    files = {"validation": source.validation, "test": source.test}
    return {part: _table(source, path, limit, notes, columns) for part, path in files.items() if path is not None}


def _joined(
    source: Source, table: Table, task: Task, columns: Columns, parts: dict[str, np.ndarray], own_y: np.ndarray,
    others: dict[str, Table], notes: list[str],
) -> Problem:  # fmt: skip
    """Return the problem of a table and the other files' rows below its own. `parts` gets their row numbers."""
    import pandas

    frames, targets = [columns.frame(table, [])], [own_y]
    weights = [parts_of_rows.weights_of(table, source.weight)] if source.weight else []
    for name, other in others.items():
        more: list[str] = []
        frames.append(columns.frame(other, more))
        notes += [f"{other.name}: {note}" for note in more]
        targets.append(_known_target(columns.target, other))
        weights += [parts_of_rows.weights_of(other, source.weight)] if source.weight else []
        n_rows = sum(map(len, targets))
        parts[name] = np.arange(n_rows - len(other), n_rows)
    weight = np.concatenate(weights) if weights else None
    if weight is not None:
        # Scaled by a power of 2, so that sums of weights stay finite. A common factor has no effect.
        weight = np.ldexp(weight, -int(np.frexp(weight.max())[1]))
    frame = pandas.concat(frames, ignore_index=True) if others else frames[0]
    groups = parts_of_rows.groups_of(table, source.group) if source.group is not None else None
    return Problem(source, table, task, columns, parts, frame, np.concatenate(targets), notes, groups, weight)


def _table(source: Source, path: str, limit: RowLimit, notes: list[str], columns: Columns | None = None) -> Table:
    """Return a table of this fit, checked for the named columns; without rows that lack a target, if requested.

    columns: of the fit's table, whose conventions apply to another file.
    """
    other = columns is not None
    as_text = [*source.categorical, *filter(None, (source.group, source.part))]
    # Dropped columns are read as texts, so that ambiguous cells in them raise no error.
    as_text += [name for name in source.drop if name not in (source.order_by, source.weight)]
    as_text += columns.text_columns() if columns is not None else []
    learned = columns.conventions if columns is not None else None
    table = read_table(path, source.missing, as_text, source.reading, [source.target], learned, limit)
    prefix = f"{table.name}: " if other else ""
    notes += [f"{prefix}{note}" for note in table.notes]
    if other:
        for option, name in (("--target", source.target), *((("--weight", source.weight),) if source.weight else ())):
            table.column_called(name, f"{option}, which the other file needs too")
    else:
        source.check_columns(table)
    if source.skip_missing_target:
        has_target = table.frame[source.target].notna()
        if not has_target.all():
            notes.append(f"{prefix}{int((~has_target).sum()):,} rows without a target are left out")
            table.keep_rows(has_target)
    return table


def _spread_groups(source: Source, table: Table, parts: dict[str, np.ndarray], others: dict[str, Table]) -> int:
    """Return how many groups of the test rows are also among those of the training or validation rows.

    With separate files there may be such groups: files are not split.
    """
    if source.group is None or not others:
        return 0
    groups = {}
    for name in PART_NAMES:
        source_table = others.get(name, table)
        if source.group not in source_table.frame.columns:
            return 0
        cells = as_texts(source_table.frame[source.group])
        groups[name] = set(cells.dropna() if name in others else cells.iloc[parts[name]].dropna())
    return len(groups["test"] & (groups["training"] | groups["validation"]))


def _known_target(target: Target, table: Table) -> np.ndarray:
    """Return the targets of another file, as from Target.read.

    Raises DataError for missing targets, and for classes that the fit's table lacks.
    """
    values = target.read(table)
    missing = values == -1 if target.classes else np.isnan(values)
    name = f"target {target.name!r} of {table.name}"
    if missing.any():
        hint = "Fill it, or leave such rows out with --skip-missing-target."
        raise DataError(compose(f"{name}, {table.where(first_row(table, missing))}", "a value", "none", hint))
    unknown = values == -2 if target.classes else np.zeros(len(values), bool)
    if unknown.any():
        cell = show(table.frame[target.name].iloc[int(unknown.argmax())])
        hint = "Leave its rows out of that file, or add rows of it to the table."
        where = table.where(first_row(table, unknown))
        raise DataError(compose(f"{name}, {where}", "a class that the table has", cell, hint))
    if not len(values):
        raise DataError(compose(name, "rows", "none"))
    return values


def _parts(
    source: Source, table: Table, own_y: np.ndarray, task: Task, shares: tuple[float, float], seed: int,
    notes: list[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the row numbers of the table's parts; parts in separate files are empty."""
    n, (validation, test) = len(table), shares
    classes = own_y if task.classes else None
    if source.part is not None:
        parts = parts_of_rows.part_by_column(table, source.part)
        if len(parts["validation"]) and source.validation_share is not None:
            got, hint = f"both, and validation rows in column {source.part!r}", "Leave out --validation-share."
            raise DataError(compose("--part and --validation-share", "one of them", got, hint))
        if not len(parts["validation"]):
            parts |= parts_of_rows.draw_validation(parts["training"], classes, validation, seed)
    elif source.group is not None:
        groups = parts_of_rows.groups_of(table, source.group)
        parts = parts_of_rows.part_by_group(groups, classes, *shares, seed, f"--group {quoted(source.group)}")
    elif source.order_by is not None:
        values = parts_of_rows.order_of(table, source.order_by)
        parts = parts_of_rows.part_by_order(values, *shares, f"--order-by {quoted(source.order_by)}")
    else:
        parts = part(classes, n, validation, test, seed)
    if task.classes:
        at_random = source.part is None and source.group is None and source.order_by is None
        if at_random and not (source.validation and source.test):
            counts = np.bincount(own_y, minlength=len(task.classes))
            rare = [plain_text(task.classes[i]) for i in np.flatnonzero(counts < 3)]
            if rare:
                notes.append(f"too few rows of {', '.join(rare[:5])} for every part: they are trained on first")
        trained = np.bincount(own_y[parts["training"]], minlength=len(task.classes))
        absent = [plain_text(task.classes[i]) for i in np.flatnonzero(trained == 0)]
        if absent:
            notes.append(f"no training row is of {', '.join(absent[:5])}: no member learns to predict that")
    return parts


def _check_training(source: Source, table: Table, task: Task, own_y: np.ndarray) -> None:
    """Raise DataError if all training rows have the same target."""
    if len(np.unique(own_y)) > 1:
        return
    only = task.classes[int(own_y[0])] if task.classes else float(own_y[0])
    expected, got = "at least two different values in the training rows", f"{plain_text(only)} in all {len(own_y):,}"
    raise DataError(compose(f"target {source.target!r} of {table.name}", expected, got, _other_rows(source)))


def _other_rows(source: Source) -> str:
    """Return a hint on how to get other training rows."""
    if source.part is not None:
        return "Mark other rows for training."
    if source.order_by is not None:
        return f"Leave out --order-by {quoted(source.order_by)}, so that rows are drawn at random."
    return "Draw others by another --seed, or add rows."


def _check_parts(problem: Problem) -> None:
    """Raise DataError for a part with fewer rows than scores and folds need.

    That is one; two of training if there are folds; two of validation in regression (R²).
    """
    source, validated = problem.source, not problem.by_folds or bool(_shares(problem)["validation"])
    needed = {"training": 1 if validated else 2, "test": 1}
    if validated:
        needed["validation"] = 1 if problem.task.classes else 2
    for name, least in needed.items():
        n, counted = len(problem.parts[name]), len(problem.counted(name))
        if counted >= least:
            continue
        number = "a" if least == 1 else "two"
        if n >= least:
            what, got = f"--weight {quoted(source.weight or '')}", f"{counted} of {n:,}"
            hint = f"Correct the weights, or leave out {what}."
            raise DataError(compose(what, f"{number} {name} row{'s' * (least > 1)} of weight above 0", got, hint))
        file = {"validation": source.validation, "test": source.test}.get(name)
        hint = "Add rows of it."
        if file is None and source.part is None:
            share = _larger_share(problem, name, least)
            hint = f"Say --{name}-share {share:g}, or add rows." if share else "Add rows."
        expected = f"rows enough to have {number} {name} row{'s' * (least > 1)}"
        raise DataError(compose(f"table {file}" if file else problem.table.name, expected, f"{n}", hint))


def _check_folds(problem: Problem) -> None:
    """Raise DataError for more folds than rows or groups to split, and for folds beside validation rows."""
    cv, groups, rows = problem.cv, problem.groups, problem.counted("training")
    if not problem.by_folds:
        if cv is not None:
            n = len(problem.parts["validation"])
            raise DataError(compose("--cv", "rows without a part for validation", f"{n:,} in one", "Leave out --cv."))
        return
    most = len(rows) if groups is None else len(np.unique(groups[rows]))
    units = "training rows" if groups is None else f"groups of {problem.source.group!r} in the training rows"
    if groups is not None and most < 2:
        hint = f"Leave out --group {quoted(problem.source.group or '')}."
        raise DataError(compose("--group", "at least 3 groups, two of them for folds", f"{most + 1}", hint))
    if cv is not None and not 2 <= cv <= most:
        hint = f"Say --cv {min(max(cv, 2), most)}."
        raise DataError(compose("--cv", f"2 to {most:,} folds, for {most:,} {units}", f"{cv}", hint))


def _check_weights(problem: Problem) -> None:
    """Raise DataError for training rows whose weight is so far below the mean that it is 0 in float32."""
    if problem.weight is None:
        return
    rows = problem.parts["training"]
    weight = problem.weight[rows]
    tiny = (weight > 0.0) & (weight < _LEAST_WEIGHT * weight.mean())
    if tiny.any():
        row = int(rows[int(tiny.argmax())])
        option = f"--weight {quoted(problem.source.weight or '')}"
        where = problem.table.where(int(problem.table.frame.index[row]))
        expected = f"weights of at least {_LEAST_WEIGHT:g} times the training rows' mean, or 0"
        hint = "Set it to 0, or correct the largest weights."
        raise DataError(compose(f"{option}, {where}", expected, f"{weight[tiny][0] / weight.mean():.2g} times", hint))


def _shares(problem: Problem) -> dict[str, float]:
    """Return the shares of the table's rows for validation and test, 0 for parts by a column or a file."""
    source = problem.source
    validation, test = parts_of_rows.check_options(
        source.group, source.order_by, source.part, source.validation, source.test, source.validation_share,
        source.test_share,
    )  # fmt: skip
    return {"validation": validation, "test": 0.0 if source.part is not None else test}


def _larger_share(problem: Problem, name: str, needed: int) -> float | None:
    """Return a larger --validation-share or --test-share by which a random part has so many rows, or None."""
    source, n = problem.source, len(problem.table)
    if source.group is not None or source.order_by is not None or name == "training":
        return None
    shares = _shares(problem)
    classes = problem.own_y[:n] if problem.task.classes else None
    for percent in range(5, 80, 5):
        shares[name] = percent / 100
        drawn = part(classes, n, shares["validation"], shares["test"], problem.seed)
        if sum(shares.values()) <= 0.9 and len(drawn[name]) >= needed:
            return shares[name]
    return None


def _doubts(problem: Problem, kinds: dict[str, Kind]) -> list[str]:
    """Return the reasons to doubt the test score. Columns that may be row numbers also get a note."""
    source, table, parts = problem.source, problem.table, problem.parts
    classes = bool(problem.task.classes)
    of_table = parts["training"][parts["training"] < len(table)]
    # Columns of --numeric are known to be numbers.
    unsure = {name: kind for name, kind in kinds.items() if name not in source.numeric}
    suspected = fairness.suspects(table, unsure, of_table, problem.own_y, classes)
    for name in suspected:
        problem.notes.append(
            f"column {name!r} holds distinct whole numbers and alone predicts the target almost perfectly: if it "
            f"numbers the rows, --drop {quoted(name)}"
        )
    one_table = source.validation is None and source.test is None
    group = fairness.grouped(table, kinds, parts) if one_table and source.group is None else ""
    at_random = source.order_by is None and source.part is None and source.test is None
    dates = [name for name, kind in kinds.items() if kind.kind == "date"] if at_random else []
    cells, date = _coded(problem.frame), dates[0] if dates else ""
    n_seen = (
        0 if problem.by_folds else fairness.rows_in_both(cells, problem.own_y, parts["validation"], parts["training"])
    )
    if n_seen:
        problem.notes.append(
            f"{n_seen:,} of {len(parts['validation']):,} validation rows are also among the training rows, cell by "
            "cell: by them the ensemble is chosen for what it remembers"
        )
    return fairness.doubts(parts, cells, problem.own_y, suspected, group, date, problem.spread)


def _coded(frame: Any) -> np.ndarray:
    """Return cells as numbers (n, columns) float64, equal for equal cells."""
    codes = [
        cells.to_numpy() if cells.dtype.kind == "f" else cells.factorize()[0].astype(np.float64)
        for cells in (frame[name] for name in frame.columns)
    ]
    return np.column_stack(codes)
