"""A table as a learning problem: the split of its rows, the kind of each column, and the target.

Errors in the data are raised here, before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pmlp_np.app import fairness, target_scores
from pmlp_np.app import parts as parts_of_rows
from pmlp_np.app.column_kinds import Kind, Task, alike, first_row, joined_spellings, kinds_of, task_of
from pmlp_np.app.parts import NAMES as PART_NAMES
from pmlp_np.app.parts import part
from pmlp_np.app.preparation import Preparation, Target, note_kinds
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.tables import Table, as_texts, plain_text, quoted, read_table
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.training.metrics import METRICS

# Smaller weights, as a share of their mean, are 0 in float32.
_LEAST_WEIGHT = 1e-37
# Fewer rows than this are too few for three parts.
_FEWEST_ROWS = 10


@dataclass(frozen=True)
class Source:
    """A table, and the options on its columns and rows.

    numeric, categorical, drop: columns whose kind is chosen by the user.
    group, order_by, part: the column by which rows are split.
    validation, test: separate files for these parts.
    weight: the column of sample weights.
    reading: options on the format of the files.
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

    parts: row numbers of each part, by name.
    X, y: of all rows, as for `fit`; rows of other files follow those of the table.
    own_y: the target as from Target.read.
    weight: of each row, or None.
    doubts: reasons to doubt the test score.
    spread: number of groups of --group with rows both in a separate file for the test and elsewhere, or in a separate
        file for validation and elsewhere.
    """

    source: Source
    table: Table
    task: Task
    preparation: Preparation
    parts: dict[str, np.ndarray]
    X: np.ndarray
    y: np.ndarray
    own_y: np.ndarray
    notes: list[str] = field(default_factory=list)
    weight: np.ndarray | None = None
    doubts: list[str] = field(default_factory=list)
    seed: int = 0
    spread: int = 0

    def counted(self, part: str) -> np.ndarray:
        """Return the row numbers of a part's rows of weight above 0."""
        rows = self.parts[part]
        return rows if self.weight is None else rows[self.weight[rows] > 0.0]

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (X, y) of a part."""
        return self.X[self.parts[part]], self.y[self.parts[part]]

    def weighted(self, part: str) -> tuple[np.ndarray, ...]:
        """Return (X, y) or, with weights, (X, y, weights) of a part, as for `validation_data`."""
        weight = self.weight_of(part)
        return self.of(part) if weight is None else (*self.of(part), weight)

    def weight_of(self, part: str) -> np.ndarray | None:
        """Return the weights of a part's rows, or None."""
        return None if self.weight is None else self.weight[self.parts[part]]


def understand(source: Source, seed: int) -> Problem:
    """Read a table, split its rows, determine the columns' kinds and the target's task, and prepare X and y."""
    shares = parts_of_rows.check_options(source.group, source.order_by, source.part, source.validation, source.test,
                                         source.validation_share, source.test_share)  # fmt: skip
    notes: list[str] = []
    table = _table(source, source.path, notes)
    if len(table) < _FEWEST_ROWS:
        n = f"{len(table):,}" if len(table) > 1 else ("none", "one")[len(table)]
        with_target = " with a target" if source.skip_missing_target else ""
        hint = "They are split into training, validation and test rows."
        raise DataError(compose(table.name, f"at least {_FEWEST_ROWS} rows{with_target}", n, hint))
    task = task_of(table, source.target, source.task)
    kinds = kinds_of(table, source.target, source.categorical, source.drop, source.numeric, source.aside())
    notes += note_kinds(kinds, table.frame, source.categorical)
    if same := alike(task.classes) or joined_spellings(table, source.target, task):
        notes.append(f"target {source.target!r}: {same}")
    target = Preparation.learn(table, np.arange(len(table)), {}, source.target, task).target
    own_y = target.read(table)
    parts = _parts(source, table, own_y, task, shares, seed, notes)
    _check_training(source, table, task, own_y[parts["training"]])
    preparation = Preparation.learn(table, parts["training"], kinds, source.target, task)
    notes += [f"column {name!r} is left out: {reason}" for name, reason in preparation.left_out.items()
              if kinds[name].kind != "left out"]  # fmt: skip
    if not preparation.columns:
        why = "; ".join(f"{name}: {reason}" for name, reason in preparation.left_out.items())
        raise DataError(compose(table.name, "columns to predict the target from", why, _other_rows(source)))
    inputs, targets = [preparation.inputs(table, [])], [own_y]
    weights = [parts_of_rows.weights_of(table, source.weight)] if source.weight else []
    others: dict[str, Table] = {}
    for name, path in (("validation", source.validation), ("test", source.test)):
        if path is not None:
            other = _table(source, path, notes, preparation)
            more: list[str] = []
            inputs.append(preparation.inputs(other, more))
            notes += [f"{other.name}: {note}" for note in more]
            targets.append(_known_target(preparation.target, other))
            weights += [parts_of_rows.weights_of(other, source.weight)] if source.weight else []
            n_rows = sum(map(len, targets))
            parts[name] = np.arange(n_rows - len(other), n_rows)
            others[name] = other
    X, own_y = preparation.features(np.concatenate(inputs)), np.concatenate(targets)
    if not np.isfinite(X).all():
        names = np.array(preparation.input_names())[~np.isfinite(X).all(axis=0)]
        raise DataError(compose(f"column {names[0]!r}", "numbers that float32 can hold, standardized", "larger ones"))
    y = preparation.target.prepared(own_y)
    y = y if task.classes else y.astype(np.float32)
    weight = np.concatenate(weights) if weights else None
    if weight is not None:
        # Scaled by a power of 2, so that sums of weights stay finite. A common factor has no effect.
        weight = np.ldexp(weight, -int(np.frexp(weight.max())[1]))
    problem = Problem(source, table, task, preparation, parts, X, y, own_y, notes, weight, seed=seed)
    problem.spread = _spread_groups(source, table, parts, others)
    _check_parts(problem)
    _check_weights(problem)
    problem.doubts = _doubts(problem, kinds)
    return problem


def _table(source: Source, path: str, notes: list[str], preparation: Preparation | None = None) -> Table:
    """Return a table of this fit, checked for the named columns; without rows that lack a target, if requested.

    preparation: of the fit's table, whose conventions apply to another file.
    """
    other = preparation is not None
    as_text = [*source.categorical, *filter(None, (source.group, source.part))]
    # Dropped columns are read as texts, so that ambiguous cells in them raise no error.
    as_text += [name for name in source.drop if name not in (source.order_by, source.weight)]
    as_text += preparation.text_columns() if preparation is not None else []
    learned = preparation.conventions if preparation is not None else None
    table = read_table(path, source.missing, as_text, source.reading, [source.target], learned)
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
            share = parts_of_rows.SHARE if source.validation_share is None else source.validation_share
            parts |= parts_of_rows.draw_validation(parts["training"], classes, share, seed)
            notes.append(f"column {source.part!r} names no validation rows: {share:.0%} of its training rows are drawn")
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
    """Raise DataError for a part with fewer rows than scores need: one, or two for validation in regression (R²)."""
    source = problem.source
    for name, needed in zip(PART_NAMES, (1, 1 if problem.task.classes else 2, 1), strict=True):
        n, counted = len(problem.parts[name]), len(problem.counted(name))
        if counted >= needed:
            continue
        number = "a" if needed == 1 else "two"
        if n >= needed:
            what, got = f"--weight {quoted(source.weight or '')}", f"{counted} of {n:,}"
            hint = f"Correct the weights, or leave out {what}."
            raise DataError(compose(what, f"{number} {name} row{'s' * (needed > 1)} of weight above 0", got, hint))
        file = {"validation": source.validation, "test": source.test}.get(name)
        hint = "Add rows of it."
        if file is None and source.part is None:
            share = _larger_share(problem, name, needed)
            hint = f"Say --{name}-share {share:g}, or add rows." if share else "Add rows."
        expected = f"rows enough to have {number} {name} row{'s' * (needed > 1)}"
        raise DataError(compose(f"table {file}" if file else problem.table.name, expected, f"{n}", hint))


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


def _larger_share(problem: Problem, name: str, needed: int) -> float | None:
    """Return a larger --validation-share or --test-share by which a random part has so many rows, or None."""
    source, n = problem.source, len(problem.table)
    if source.group is not None or source.order_by is not None:
        return None
    requested = {"validation": source.validation_share, "test": source.test_share}
    files = {"validation": source.validation, "test": source.test}
    default = {each: parts_of_rows.SHARE if requested[each] is None else requested[each] for each in requested}
    shares = {each: 0.0 if files[each] is not None else default[each] or 0.0 for each in requested}
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
    return fairness.doubts(parts, problem.X, problem.y, suspected, group, dates[0] if dates else "", problem.spread)


def require_metric(problem: Problem, metric: str) -> None:
    """Raise DataError if the metric that ranks members needs every class, and the validation rows lack one."""
    classes = problem.task.classes
    counts = np.bincount(problem.y[problem.counted("validation")], minlength=len(classes)) if classes else np.zeros(0)
    absent = [plain_text(classes[i]) for i in np.flatnonzero(counts == 0)] if classes else []
    if not METRICS[metric].needs_every_class or not absent:
        return
    source = problem.source
    named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
    n = len(problem.parts["validation"])
    expected, got = "validation rows of every class", f"{n:,} rows, and none of {named}"
    other = f"rank by --metric {target_scores.USUAL['classification'][1]}."
    larger = _share_with_every_class(problem) if source.validation is None and source.part is None else None
    hint = f"Say --validation-share {larger:g}, or {other}" if larger else f"Add rows of it, or {other}"
    raise DataError(compose(f"--metric {metric}", expected, got, hint))


def _share_with_every_class(problem: Problem) -> float | None:
    """Return a larger --validation-share by which every class has validation rows, or None."""
    source = problem.source
    if source.group is not None or source.order_by is not None:
        return None
    labels = problem.own_y[: len(problem.table)]
    test = 0.0 if source.test else parts_of_rows.SHARE if source.test_share is None else source.test_share
    for percent in range(5, 80, 5):
        share = percent / 100
        if share + test > 0.9:
            break
        rows = part(labels, len(labels), share, test, problem.seed)["validation"]
        weight = None if problem.weight is None else problem.weight[rows]
        rows = rows if weight is None else rows[weight > 0.0]
        if len(np.unique(labels[rows])) == len(problem.task.classes):
            return share
    return None
