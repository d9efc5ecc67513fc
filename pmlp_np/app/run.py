"""The fit itself: from a table to a trained pool, its leaderboard and its scores, and from them to a result folder."""

from __future__ import annotations

import contextlib
import datetime
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np import interrupts
from pmlp_np.app import fairness, folder, scores
from pmlp_np.app import parts as parts_of_rows
from pmlp_np.app.choices import RATE_OF_WORK, WORK_OF_A_ROW, Choices, as_list, fitting
from pmlp_np.app.columns import Kind, Task, first_row, kinds_of, quoted, task_of
from pmlp_np.app.machine import available_threads, version_of
from pmlp_np.app.parts import NAMES as PART_NAMES
from pmlp_np.app.parts import part
from pmlp_np.app.preparation import Preparation, Target, note_kinds
from pmlp_np.app.tables import Table, plain_text, read_table
from pmlp_np.errors import DataError, compose, show

# Fewer rows than this can't be parted into three and teach anything.
_FEWEST_ROWS = 10
# The best members whose mean is judged beside the best one.
ENSEMBLE = 10
# On how many members and rows it is measured how fast members train: some hundredths of a second.
_MEASURED_MEMBERS, _MEASURED_ROWS = 16, 4096


@dataclass(frozen=True)
class Source:
    """The table and how it is to be understood.

    numeric, categorical, drop: columns of which the user says what they are. group, order_by, part: a column by which
    rows are parted; validation, test: files that are parts. weight: a column of how much each row counts.
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

    def aside(self) -> dict[str, str]:
        """Columns that serve something else than the prediction, and what, as a reason to leave them out."""
        uses = ((self.group, "it groups the rows"), (self.part, "it parts the rows"),
                (self.weight, "it weighs the rows"))  # fmt: skip
        return {name: use for name, use in uses if name is not None}

    def named_columns(self) -> list[tuple[str, str]]:
        """(option, column) of each column that is named."""
        lists = (("--categorical", self.categorical), ("--numeric", self.numeric), ("--drop", self.drop))
        single = (("--group", self.group), ("--order-by", self.order_by), ("--part", self.part),
                  ("--weight", self.weight))  # fmt: skip
        return [(option, name) for option, names in lists for name in names] + [
            (option, name) for option, name in single if name is not None
        ]

    def check_columns(self, table: Table) -> None:
        """DataError for columns that the table hasn't, and for two things said of one column."""
        table.column_called(self.target, "--target")
        said: dict[str, str] = {}
        for option, name in self.named_columns():
            table.column_called(name, option)
            if name == self.target:
                raise DataError(compose(option, "another column than the target", repr(name)))
            before = said.setdefault(name, option)
            if before != option and not _agree(before, option):
                mend = f"Leave out {option} {quoted(name)}."
                raise DataError(compose(f"{before} and {option}", "different columns", f"{name!r} for both", mend))


def _agree(one: str, other: str) -> bool:
    """Whether two options may name one column: what groups, orders or weighs rows may count as well, or be dropped."""
    roles, kinds = {"--group", "--order-by", "--weight"}, {"--categorical", "--numeric", "--drop"}
    both = {one, other}
    return bool(both & kinds and both & roles) or both == {"--part", "--drop"} or both == {"--order-by", "--weight"}


@dataclass
class Problem:
    """A table that is understood and parted. parts: row numbers of each part by name. X, y: of all rows, as `fit`
    takes them, those of other files below the table's; own_y: as Target.read gives it; weight: of each row, or None.
    doubts: what speaks against the test score."""

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

    def counted(self, part: str) -> np.ndarray:
        """Numbers of a part's rows of weight above 0."""
        rows = self.parts[part]
        return rows if self.weight is None else rows[self.weight[rows] > 0.0]

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        return self.X[self.parts[part]], self.y[self.parts[part]]

    def weight_of(self, part: str) -> np.ndarray | None:
        """The weights of a part's rows, or None."""
        return None if self.weight is None else self.weight[self.parts[part]]


def understand(source: Source, seed: int) -> Problem:
    """Read a table, part its rows, find its columns' kinds and its target's task, and prepare them."""
    shares = parts_of_rows.check_options(source.group, source.order_by, source.part, source.validation, source.test,
                                         source.validation_share, source.test_share)  # fmt: skip
    notes: list[str] = []
    table = _table(source, source.path, notes, other=False)
    if len(table) < _FEWEST_ROWS:
        n = f"{len(table):,}" if len(table) > 1 else "one"
        with_target = " with a target" if source.skip_missing_target else ""
        mend = "They are parted into training, validation and test rows."
        raise DataError(compose(table.name, f"at least {_FEWEST_ROWS} rows{with_target}", n, mend))
    task = task_of(table, source.target, source.task)
    kinds = kinds_of(table, source.target, source.categorical, source.drop, source.numeric, source.aside())
    notes += note_kinds(kinds, table.frame, source.categorical)
    target = Preparation.learn(table, np.arange(len(table)), {}, source.target, task).target
    own_y = target.read(table)
    parts = _parts(source, table, own_y, task, shares, seed, notes)
    _check_training(source, table, task, own_y[parts["training"]])
    preparation = Preparation.learn(table, parts["training"], kinds, source.target, task)
    notes += [f"column {name!r} is left out: {reason}" for name, reason in preparation.left_out.items()
              if kinds[name].kind != "left out"]  # fmt: skip
    if not preparation.columns:
        mend = "Say --categorical COLUMN for one that should count."
        raise DataError(
            compose(table.name, "columns to predict the target from", "none that training rows teach", mend)
        )
    inputs, targets = [preparation.inputs(table, [])], [own_y]
    weights = [parts_of_rows.weights_of(table, source.weight)] if source.weight else []
    for name, path in (("validation", source.validation), ("test", source.test)):
        if path is not None:
            other = _table(source, path, notes, other=True)
            more: list[str] = []
            inputs.append(preparation.inputs(other, more))
            notes += [f"{other.name}: {note}" for note in more]
            targets.append(_known_target(preparation.target, other))
            weights += [parts_of_rows.weights_of(other, source.weight)] if source.weight else []
            n_rows = sum(map(len, targets))
            parts[name] = np.arange(n_rows - len(other), n_rows)
    X, own_y = preparation.features(np.concatenate(inputs)), np.concatenate(targets)
    if not np.isfinite(X).all():
        names = np.array(preparation.input_names())[~np.isfinite(X).all(axis=0)]
        raise DataError(compose(f"column {names[0]!r}", "numbers that float32 can hold, standardized", "larger ones"))
    y = preparation.target.prepared(own_y)
    y = y if task.classes else y.astype(np.float32)
    weight = np.concatenate(weights) if weights else None
    problem = Problem(source, table, task, preparation, parts, X, y, own_y, notes, weight, seed=seed)
    _check_weights(problem)
    problem.doubts = _doubts(problem, kinds)
    return problem


def _table(source: Source, path: str, notes: list[str], other: bool) -> Table:
    """A table of this fit, with the columns that are named, and without rows that have no target where that is
    asked."""
    as_text = [*source.categorical, *filter(None, (source.group, source.part))]
    table = read_table(path, source.missing, as_text)
    prefix = f"{table.name}: " if other else ""
    notes += [f"{prefix}{note}" for note in table.notes]
    if other:
        for option, name in (("--target", source.target), *((("--weight", source.weight),) if source.weight else ())):
            table.column_called(name, f"{option}, which the other file needs too")
    else:
        source.check_columns(table)
    if source.skip_missing_target:
        there = table.frame[source.target].notna()
        if not there.all():
            notes.append(f"{prefix}{int((~there).sum()):,} rows without a target are left out")
            table.frame = table.frame[there]
    return table


def _known_target(target: Target, table: Table) -> np.ndarray:
    """The targets of another file, as Target.read gives them. DataError for rows without one, and for classes that the
    fit's table has not."""
    values = target.read(table)
    missing = values == -1 if target.classes else np.isnan(values)
    name = f"target {target.name!r} of {table.name}"
    if missing.any():
        mend = "Fill it, or leave such rows out with --skip-missing-target."
        raise DataError(compose(f"{name}, {table.where(first_row(table, missing))}", "a value", "none", mend))
    unknown = values == -2 if target.classes else np.zeros(len(values), bool)
    if unknown.any():
        cell = show(table.frame[target.name].iloc[int(unknown.argmax())])
        mend = "Leave its rows out of that file, or add rows of it to the table."
        where = table.where(first_row(table, unknown))
        raise DataError(compose(f"{name}, {where}", "a class that the table has", cell, mend))
    if not len(values):
        raise DataError(compose(name, "rows", "none"))
    return values


def _parts(
    source: Source, table: Table, own_y: np.ndarray, task: Task, shares: tuple[float, float], seed: int,
    notes: list[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Row numbers of the table's parts; none of those that other files hold."""
    n, (validation, test) = len(table), shares
    classes = own_y if task.classes else None
    if source.part is not None:
        parts = parts_of_rows.part_by_column(table, source.part)
        if not len(parts["validation"]):
            share = parts_of_rows.SHARE if source.validation_share is None else source.validation_share
            parts |= parts_of_rows.draw_validation(parts["training"], classes, share, seed)
            notes.append(f"column {source.part!r} names no validation rows: {share:.0%} of its training rows are drawn")
    elif source.group is not None:
        groups = parts_of_rows.groups_of(table, source.group, f"--group {source.group}")
        parts = parts_of_rows.part_by_group(groups, classes, *shares, seed, f"--group {source.group}")
    elif source.order_by is not None:
        values = parts_of_rows.order_of(table, source.order_by)
        parts = parts_of_rows.part_by_order(values, *shares, f"--order-by {source.order_by}")
    else:
        parts = part(classes, n, validation, test, seed)
    for name, share, file in (("validation", validation, source.validation), ("test", test, source.test)):
        if share and not file and not len(parts[name]):
            mend = f"Give a larger --{name}-share, or more rows."
            raise DataError(compose(table.name, f"rows enough to have {name} rows", f"{n:,} rows", mend))
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
    """DataError where all training rows have the same target."""
    if len(np.unique(own_y)) > 1:
        return
    only = task.classes[int(own_y[0])] if task.classes else float(own_y[0])
    at_random = source.part is None and source.order_by is None
    mend = "Draw others by another --seed, or add rows." if at_random else "Let other rows train."
    expected, got = "at least two different values in the training rows", f"{plain_text(only)} in all {len(own_y):,}"
    raise DataError(compose(f"target {source.target!r} of {table.name}", expected, got, mend))


def _check_weights(problem: Problem) -> None:
    for name in PART_NAMES:
        weight = problem.weight_of(name)
        if weight is not None and not (weight > 0.0).any():
            got = f"0 in all {len(weight):,}"
            raise DataError(compose(f"--weight {problem.source.weight}", f"a {name} row of weight above 0", got))


def _doubts(problem: Problem, kinds: dict[str, Kind]) -> list[str]:
    """What speaks against the test score; columns that may number the rows are noted, too."""
    source, table, parts = problem.source, problem.table, problem.parts
    classes = bool(problem.task.classes)
    of_table = parts["training"][parts["training"] < len(table)]
    suspected = fairness.suspects(table, kinds, of_table, problem.own_y, classes)
    for name in suspected:
        problem.notes.append(
            f"column {name!r} holds distinct whole numbers and alone predicts the target almost perfectly: if it "
            f"numbers the rows, --drop {quoted(name)}"
        )
    one_table = source.validation is None and source.test is None
    group = fairness.grouped(table, kinds, parts) if one_table and source.group is None else ""
    at_random = source.order_by is None and source.part is None and source.test is None
    dates = [name for name, kind in kinds.items() if kind.kind == "date"] if at_random else []
    return fairness.doubts(parts, problem.X, problem.y, suspected, group, dates[0] if dates else "")


@dataclass
class Trained:
    """A pool that was trained on a problem, and what it is worth."""

    problem: Problem
    choices: Choices
    pool: pm.Pool
    metric: str
    seconds: float
    records: list[dict[str, Any]]
    scores: dict[str, dict[str, dict[str, float]]]
    n_ensemble: int

    @property
    def best(self) -> dict[str, Any]:
        return self.records[0]


def pool_of(problem: Problem, choices: Choices) -> tuple[pm.Pool, str]:
    """(the pool to train, how its members came about); notes join the problem's. A member's id is its place among all
    that the choices describe, so that it is the same member whatever a time budget leaves out."""
    target, n_inputs = problem.preparation.target, problem.X.shape[1]
    require_metric(problem, metric_of(target.task, choices))
    specs, said = choices.specs()
    n = len(specs)
    ids = choices.chosen(n)
    size = len(problem.parts["training"]), n_inputs, len(target.classes)
    rate = RATE_OF_WORK * (choices.threads or available_threads())
    if len(ids) == n:
        if fitting(specs, *size, choices, rate)[1]:
            # By what is certain they don't all fit: measure.
            rate = measured_rate(specs, problem, choices)
        ids, note = fitting(specs, *size, choices, rate)
        if note:
            problem.notes.append(note)
    if len(ids) < n:
        said = f"{len(ids):,} of {n:,}: {said}"
    elif choices.members is None:
        said = f"{n:,}: {said}"
    return _pool(specs[ids], problem, choices, ids), said


def _pool(specs: pm.Specs, problem: Problem, choices: Choices, ids: np.ndarray | None = None) -> pm.Pool:
    classes = problem.preparation.target.classes
    loss, n_outputs = ("cross_entropy", len(classes)) if classes else ("squared_error", 1)
    return pm.Pool(specs, problem.X.shape[1], n_outputs, loss, seed=choices.seed, ids=ids)


def require_metric(problem: Problem, metric: str) -> None:
    """DataError where the validation rows can't tell the metric that ranks, because they lack a class."""
    classes = problem.task.classes
    there = np.bincount(problem.y[problem.counted("validation")], minlength=len(classes)) if classes else np.zeros(0)
    absent = [plain_text(classes[i]) for i in np.flatnonzero(there == 0)] if classes else []
    if metric not in scores.OF_EVERY_CLASS or not absent:
        return
    source = problem.source
    named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
    n = len(problem.parts["validation"])
    expected, got = "validation rows of every class", f"{n:,} rows, and none of {named}"
    mend = f"Rank by --metric {scores.USUAL['classification'][1]}."
    larger = _share_with_every_class(problem) if source.validation is None and source.part is None else None
    if larger:
        mend = f"Say --validation-share {larger:g}, or rank by --metric {scores.USUAL['classification'][1]}."
    raise DataError(compose(f"--metric {metric}", expected, got, mend))


def _share_with_every_class(problem: Problem) -> float | None:
    """A larger --validation-share by which every class has validation rows, or None."""
    source = problem.source
    if source.group is not None or source.order_by is not None:
        return None
    own = problem.own_y[: len(problem.table)]
    test = 0.0 if source.test else parts_of_rows.SHARE if source.test_share is None else source.test_share
    for percent in range(5, 80, 5):
        share = percent / 100
        if share + test > 0.9:
            break
        rows = part(own, len(own), share, test, problem.seed)["validation"]
        weight = None if problem.weight is None else problem.weight[rows]
        rows = rows if weight is None else rows[weight > 0.0]
        if len(np.unique(own[rows])) == len(problem.task.classes):
            return share
    return None


def measured_rate(specs: pm.Specs, problem: Problem, choices: Choices) -> float:
    """Multiply-adds per second, as `fitting` counts them, at which some of these members train on some of the rows."""
    some = np.random.default_rng(choices.seed).permutation(len(specs))[:_MEASURED_MEMBERS]
    pool = _pool(specs[np.sort(some)], problem, choices)
    X, y = (part[:_MEASURED_ROWS] for part in problem.of("training"))
    batch = choices.batch(len(problem.parts["training"]))
    warm_up(pool, problem, choices)
    began = time.perf_counter()
    with _divergence_unsaid():
        pool.fit(
            X, y, batch_size=batch, validation_data=(X[::3], y[::3]), progress=False, n_threads=choices.threads,
            on_interrupt="raise",
        )  # fmt: skip
    seconds = time.perf_counter() - began
    parameters = sum(record["parameters"] for record in pool.leaderboard())
    return parameters * WORK_OF_A_ROW * len(X) / seconds


def metric_of(task: str, choices: Choices) -> str:
    """What ranks members. DataError for what does not suit the task."""
    from pmlp_np.errors import unknown_name

    fitting_ones = scores.CHOICES[task]
    if choices.metric is not None and choices.metric not in fitting_ones:
        raise DataError(unknown_name(f"--metric, for {task}", choices.metric, fitting_ones))
    return choices.metric or scores.USUAL[task][0]


def warm_up(pool: pm.Pool, problem: Problem, choices: Choices) -> None:
    """Have everything compiled that the fit will use, so that the time budget is spent on training. KeyboardInterrupt
    on Ctrl-C."""
    first: dict[Any, int] = {}
    for place in range(len(pool.specs)):
        member = pool.specs[place]
        first.setdefault((member.activation, len(member.hidden) > 0), place)
    few = pool.specs[list(first.values())]
    small = pm.Pool(few, pool.n_features, pool.n_outputs, pool.loss)
    rows = problem.of("training")[0][:4], problem.of("training")[1][:4]
    with _divergence_unsaid():
        small.fit(
            *rows, validation_data=rows, early_stopping=True, progress=False, n_threads=choices.threads,
            on_interrupt="raise",
        )  # fmt: skip


def _divergence_unsaid() -> contextlib.AbstractContextManager[Any]:
    """The command says itself, in a note, which members diverged, and nothing of those that only warm it up."""
    return warnings.catch_warnings(action="ignore", category=pm.DivergedWarning)


def train(problem: Problem, choices: Choices, pool: pm.Pool, watcher: Callable[[pm.EpochEnd], Any]) -> Trained:
    """Train a pool and judge it. KeyboardInterrupt where Ctrl-C came before anything was learned; DataError where no
    member learned anything."""
    target = problem.preparation.target
    metric = metric_of(target.task, choices)
    epochs, patience = choices.epochs_and_patience()
    usual = scores.USUAL[target.task]
    own = choices.metric in (None, "rmse", "accuracy")
    # The loss's own score, RMSE or accuracy, is measured in any case where it ranks.
    more = [name for name in dict.fromkeys((*usual, metric)) if not (own and name in ("rmse", "accuracy"))]
    began = time.perf_counter()
    # The command says itself how training ended.
    with interrupts.unannounced(), _divergence_unsaid():
        pool.fit(
            *problem.of("training"), epochs=epochs, batch_size=choices.batch(len(problem.parts["training"])),
            validation_data=problem.of("validation"), early_stopping=True, patience=patience,
            time_budget=choices.seconds(), progress=False, n_threads=choices.threads, metrics=more,
            monitor=None if own else metric, callbacks=[watcher], sample_weight=problem.weight_of("training"),
        )  # fmt: skip
    seconds = time.perf_counter() - began
    if not np.isfinite(pool.history_["validation_loss"]).any():
        if pool.ended_ == "interrupted":
            raise KeyboardInterrupt
        if pool.ended_ == "time budget":
            mend = "Give more, or fewer or smaller members."
            raise DataError(
                compose("--time-budget", "time for an epoch of all members", f"{choices.seconds():g} s", mend)
            )
        mend = "Choose smaller --learning-rate values."
        raise DataError(compose("fit", "members that learn", f"{len(pool):,} that all diverged", mend))
    records = [_record(record, target) for record in pool.leaderboard()]
    n_ensemble = len(folder.healthy(records)[:ENSEMBLE])
    n_diverged = sum(record["status"] == "diverged" for record in records)
    if n_diverged:
        problem.notes.append(f"{n_diverged:,} of {len(pool):,} members diverged: they are in no mean of the best")
    judged = judge(problem, pool, records, n_ensemble, tuple(dict.fromkeys((metric, *usual))))
    return Trained(problem, choices, pool, metric, seconds, records, judged, n_ensemble)


def _record(record: dict[str, Any], target: Any) -> dict[str, Any]:
    """A leaderboard's record, its scores in the target's own units and under their names."""
    score = "rmse" if target.task == "regression" else "accuracy"
    kept = ("rank", "id", "architecture", "hidden", "activation", "optimizer", "learning_rate", "parameters", "epochs",
            "best_epoch", "status", "loss", "validation_loss")  # fmt: skip
    found = {name: record[name] for name in kept}
    if isinstance(found["activation"], tuple):
        found["activation"] = "/".join(found["activation"])
    if record["metric"] == score:
        found[f"validation_{score}"] = record["validation_score"]
    found |= {name: value for name, value in record.items() if name.startswith("validation_") and name not in found}
    del found["validation_score"]
    for name in [name for name in found if name.startswith("validation_")]:
        found[name] = scores.in_own_units(name.removeprefix("validation_"), found[name], target)
    return found


def raw_mean(pool: pm.Pool, X: np.ndarray, ids: list[int]) -> np.ndarray:
    """Raw outputs (n, n_raw) float64 that stand for the members' mean: of values, or logarithms of the mean of
    probabilities."""
    if len(ids) == 1:
        return pool.forward(X, members=ids)[0].astype(np.float64)
    if pool.loss == "cross_entropy":
        with np.errstate(divide="ignore"):
            return np.log(pool.predict_proba(X, members=ids, reduce="mean").astype(np.float64))
    return pool.forward(X, members=ids, reduce="mean").astype(np.float64)


def judge(
    problem: Problem, pool: pm.Pool, records: list[dict[str, Any]], n_ensemble: int, names: tuple[str, ...]
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by who ("best", "ensemble", "guess"), part of the rows, and name."""
    target = problem.preparation.target
    ids = [records[0]["id"]]
    mean_of = folder.healthy(records)[:n_ensemble] or ids
    found: dict[str, dict[str, dict[str, float]]] = {"best": {}, "ensemble": {}, "guess": {}}
    training, weight = problem.own_y[problem.parts["training"]], problem.weight_of("training")
    for name in PART_NAMES[1:]:
        X, own_y = problem.X[problem.parts[name]], problem.own_y[problem.parts[name]]
        weight_here = problem.weight_of(name)
        for who, members in (("best", ids), ("ensemble", mean_of)):
            found[who][name] = scores.judged(target, raw_mean(pool, X, members), own_y, names, weight_here)
        # What one could say without looking: the training rows' mean, or their shares of classes.
        if target.classes:
            with np.errstate(divide="ignore"):
                counts = np.bincount(training, weight, minlength=len(target.classes))
                line = np.log(counts / counts.sum())
        else:
            line = target.prepared(np.average(training, weights=weight))[None]
        found["guess"][name] = scores.judged(target, np.tile(line, (len(own_y), 1)), own_y, names, weight_here)
    return found


def report(trained: Trained, out: Path | None) -> dict[str, Any]:
    """What run.json keeps and --json prints."""
    problem, pool = trained.problem, trained.pool
    packages = ("numpy", "numba", "pandas", "scikit-learn")
    versions: dict[str, str | None] = {"pmlp_np": pm.__version__, "python": platform.python_version()}
    versions |= {name: version_of(name) for name in packages}
    ids = sorted(pool.ids_.tolist())
    settings = asdict(trained.choices.filled(len(problem.parts["training"])))
    settings |= {"metric": trained.metric, "ids": as_list(ids)}
    n_all = len(trained.choices.specs()[0])
    source = asdict(problem.source)
    for name in ("validation_share", "test_share"):
        source[name] = parts_of_rows.SHARE if source[name] is None else source[name]
    return folder.plain({
        "format": folder.RUN_FORMAT,
        "version": folder.RUN_VERSION,
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **({"folder": str(out)} if out else {}),
        "table": problem.source.path,
        "rows": {"all": len(problem.own_y), **{name: len(rows) for name, rows in problem.parts.items()}},
        "target": problem.source.target,
        "task": problem.task.name,
        "task_reason": problem.task.reason,
        "classes": list(problem.task.classes),
        "inputs": problem.preparation.input_names(),
        "members": len(pool),
        "combinations": n_all,
        "not_trained": as_list(np.setdiff1d(np.arange(n_all), ids).tolist()),
        "ended": pool.ended_,
        "seconds": round(trained.seconds, 3),
        "metric": trained.metric,
        "best": trained.best,
        "n_ensemble": trained.n_ensemble,
        "scores": trained.scores,
        "notes": problem.notes,
        "doubts": problem.doubts,
        "source": source,
        "settings": settings,
        "versions": versions,
    })  # fmt: skip


def room_needed(pool: pm.Pool, epochs: int) -> int:
    """Bytes that a result folder takes at most: parameters with two slots and the best ones, curves, and pictures."""
    parameters = sum(record["parameters"] for record in pool.leaderboard())
    return 4 * parameters * 4 + 4 * len(pool) * epochs * 6 + 600 * len(pool) + (2 << 20)


def write(
    trained: Trained, out: Path, overwrite: bool, draw: Callable[[pm.Pool, Target, Path], list[str]]
) -> dict[str, Any]:
    """Write the result folder. Returns what run.json holds. `draw` draws the pictures and returns notes."""
    found: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        trained.pool.save(draft / folder.POOL)
        trained.pool.extract(trained.best["id"]).save(draft / folder.BEST)
        folder.write_text(draft / folder.LEADERBOARD, folder.as_csv(trained.records))
        folder.write_text(draft / folder.TABLE, folder.as_json(trained.problem.preparation.to_plain()))
        (draft / folder.PLOTS).mkdir()
        trained.problem.notes.extend(draw(trained.pool, trained.problem.preparation.target, draft / folder.PLOTS))
        found.update(report(trained, out))
        folder.write_text(draft / folder.RUN, folder.as_json(found))

    folder.write_folder(out, overwrite, fill)
    return found
