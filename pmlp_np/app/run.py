"""The fit itself: from a table to a trained pool, its leaderboard and its scores, and from them to a result folder."""

from __future__ import annotations

import contextlib
import datetime
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder, scores
from pmlp_np.app.choices import RATE_OF_WORK, WORK_OF_A_ROW, Choices, fitting
from pmlp_np.app.columns import Task, kinds_of, task_of
from pmlp_np.app.machine import available_threads, version_of
from pmlp_np.app.preparation import Preparation, Target, note_kinds
from pmlp_np.app.reading.options import Reading
from pmlp_np.app.tables import Table, plain_text, read_table
from pmlp_np.errors import DataError, compose

# Fewer rows than this can't be parted into three and teach anything.
_FEWEST_ROWS = 10
# The best members whose mean is judged beside the best one.
ENSEMBLE = 10
# On how many members and rows it is measured how fast members train: some hundredths of a second.
_MEASURED_MEMBERS, _MEASURED_ROWS = 16, 4096
_PART_NAMES = ("training", "validation", "test")


@dataclass(frozen=True)
class Source:
    """The table and how it is to be understood."""

    path: str
    target: str
    task: str | None = None
    missing: Sequence[str] = ()
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    skip_missing_target: bool = False
    validation_share: float = 0.2
    test_share: float = 0.2
    reading: Reading = field(default_factory=Reading)


@dataclass
class Problem:
    """A table that is understood and parted. parts: row numbers of each part by name. X, y: of all rows, as `fit`
    takes them; own_y: as Target.read gives it."""

    source: Source
    table: Table
    task: Task
    preparation: Preparation
    parts: dict[str, np.ndarray]
    X: np.ndarray
    y: np.ndarray
    own_y: np.ndarray
    notes: list[str] = field(default_factory=list)

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        return self.X[self.parts[part]], self.y[self.parts[part]]


def understand(source: Source, seed: int) -> Problem:
    """Read a table, find its columns' kinds and its target's task, part its rows, and prepare them."""
    for name, share in (("--validation-share", source.validation_share), ("--test-share", source.test_share)):
        if not 0.0 < share < 0.8:
            raise DataError(compose(name, "a share of the rows, above 0 and below 0.8", f"{share:g}"))
    if source.validation_share + source.test_share > 0.9:
        got = f"{source.validation_share:g} and {source.test_share:g}"
        raise DataError(compose("--validation-share and --test-share", "at most 0.9 together", got))
    # What is left out is not asked how it is to be read.
    texts = [*source.categorical, *source.drop]
    table = read_table(source.path, source.missing, texts, source.reading, [source.target])
    notes = list(table.notes)
    table.column_called(source.target, "--target")
    for option, names in (("--categorical", source.categorical), ("--drop", source.drop)):
        for name in names:
            table.column_called(name, option)
            if name == source.target:
                raise DataError(compose(option, "another column than the target", repr(name)))
    if len(table) < _FEWEST_ROWS:
        n = f"{len(table):,}" if len(table) > 1 else "one"
        mend = "They are parted into training, validation and test rows."
        raise DataError(compose(table.name, f"at least {_FEWEST_ROWS} rows", n, mend))
    if source.skip_missing_target:
        there = table.frame[source.target].notna()
        if not there.all():
            notes.append(f"{int((~there).sum()):,} rows without a target are left out")
            table.keep_rows(there)
            if len(table) < _FEWEST_ROWS:
                got = f"{len(table):,}"
                raise DataError(compose(table.name, f"at least {_FEWEST_ROWS} rows with a target", got))
    task = task_of(table, source.target, source.task)
    kinds = kinds_of(table, source.target, source.categorical, source.drop)
    notes += note_kinds(kinds, table.frame, source.categorical)
    target = Preparation.learn(table, np.arange(len(table)), {}, source.target, task).target
    own_y = target.read(table)
    parts = part(own_y if task.classes else None, len(table), source.validation_share, source.test_share, seed)
    for name in _PART_NAMES[1:]:
        if not len(parts[name]):
            mend = f"Give a larger --{name}-share, or more rows."
            raise DataError(compose(table.name, f"rows enough to have {name} rows", f"{len(table):,} rows", mend))
    if task.classes:
        counts = np.bincount(own_y, minlength=len(task.classes))
        rare = [plain_text(task.classes[i]) for i in np.flatnonzero(counts < 3)]
        if rare:
            notes.append(f"too few rows of {', '.join(rare[:5])} for every part: they are trained on first")
    preparation = Preparation.learn(table, parts["training"], kinds, source.target, task)
    inputs = preparation.inputs(table, [])
    if not inputs.shape[1]:
        mend = "Say --categorical COLUMN for one that should count."
        raise DataError(
            compose(table.name, "columns to predict the target from", "none that training rows teach", mend)
        )
    X = preparation.features(inputs)
    if not np.isfinite(X).all():
        names = np.array(preparation.input_names())[~np.isfinite(X).all(axis=0)]
        raise DataError(compose(f"column {names[0]!r}", "numbers that float32 can hold, standardized", "larger ones"))
    y = preparation.target.prepared(own_y)
    if any(kind.kind == "date" for kind in kinds.values()):
        notes.append("rows are parted at random, not by date: what comes later may be harder to predict")
    y = y if task.classes else y.astype(np.float32)
    return Problem(source, table, task, preparation, parts, X, y, own_y, notes)


def part(classes: np.ndarray | None, n: int, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Row numbers of the three parts, drawn at random, sorted; each class (numbers (n,)) in its proportion, and in the
    training rows before all others."""
    rng = np.random.default_rng(seed)
    found: list[list[np.ndarray]] = [[], [], []]
    groups = [np.arange(n)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    # What rounding gives one class too much is taken from the next, so that the parts have their shares of all rows.
    owed = np.zeros(2)
    for group in groups:
        rows = rng.permutation(group)
        owed += np.array([validation, test]) * len(rows)
        n_validation, n_test = np.floor(owed + 0.5).astype(int)
        n_validation = min(n_validation, len(rows) - 1)
        n_test = min(n_test, len(rows) - 1 - n_validation)
        owed -= (n_validation, n_test)
        ends = n_validation, n_validation + n_test
        for place, piece in zip((1, 2, 0), np.split(rows, ends), strict=True):
            found[place].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in zip(_PART_NAMES, found, strict=True)}


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
    """(the pool to train, how its members came about); notes join the problem's."""
    target, n_inputs = problem.preparation.target, problem.X.shape[1]
    metric_of(target.task, choices)
    specs, said = choices.specs()
    n = len(specs)
    size = len(problem.parts["training"]), n_inputs, len(target.classes)
    rate = RATE_OF_WORK * (choices.threads or available_threads())
    if fitting(specs, *size, choices, rate)[1]:
        # By what is certain they don't all fit: measure.
        rate = measured_rate(specs, problem, choices)
    specs, note = fitting(specs, *size, choices, rate)
    if note:
        problem.notes.append(note)
        said = f"{len(specs):,} of {n:,}: {said}"
    elif choices.members is None:
        said = f"{n:,}: {said}"
    return _pool(specs, problem, choices), said


def _pool(specs: pm.Specs, problem: Problem, choices: Choices) -> pm.Pool:
    classes = problem.preparation.target.classes
    loss, n_outputs = ("cross_entropy", len(classes)) if classes else ("squared_error", 1)
    return pm.Pool(specs, problem.X.shape[1], n_outputs, loss, seed=choices.seed)


def measured_rate(specs: pm.Specs, problem: Problem, choices: Choices) -> float:
    """Multiply-adds per second, as `fitting` counts them, at which some of these members train on some of the rows."""
    some = np.random.default_rng(choices.seed).permutation(len(specs))[:_MEASURED_MEMBERS]
    pool = _pool(specs[np.sort(some)], problem, choices)
    X, y = (part[:_MEASURED_ROWS] for part in problem.of("training"))
    batch = choices.batch(len(problem.parts["training"]))
    warm_up(pool, problem, choices)
    with _interruptible():
        began = time.perf_counter()
        pool.fit(X, y, batch_size=batch, validation_data=(X[::3], y[::3]), progress=False, n_threads=choices.threads)
        seconds = time.perf_counter() - began
    if pool.ended_ == "interrupted":
        raise KeyboardInterrupt
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
    with _interruptible():
        small.fit(*rows, validation_data=rows, early_stopping=True, progress=False, n_threads=choices.threads)
    if small.ended_ == "interrupted":
        # A fit ends quietly on Ctrl-C; whoever pressed it did not mean this one.
        raise KeyboardInterrupt


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """KeyboardInterrupt on Ctrl-C although Numba compiles. That calls Python back from where nothing can be raised:
    there Ctrl-C is lost, after a traceback on stderr, or comes out as another error."""
    default = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not default:
        yield
        return
    pressed, hook = threading.Event(), sys.unraisablehook

    def handle(number: int, frame: Any) -> None:
        pressed.set()
        default(number, frame)

    def drop(what: Any) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            hook(what)

    signal.signal(signal.SIGINT, handle)
    sys.unraisablehook = drop
    try:
        yield
    except Exception as error:
        if pressed.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, default)
        sys.unraisablehook = hook
    if pressed.is_set():
        raise KeyboardInterrupt


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
    pool.fit(
        *problem.of("training"), epochs=epochs, batch_size=choices.batch(len(problem.parts["training"])),
        validation_data=problem.of("validation"), early_stopping=True, patience=patience,
        time_budget=choices.seconds(), progress=False, n_threads=choices.threads, metrics=more,
        monitor=None if own else metric, callbacks=[watcher],
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
    n_ensemble = min(ENSEMBLE, sum(record["status"] != "untrained" for record in records))
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
    ids = [record["id"] for record in records]
    found: dict[str, dict[str, dict[str, float]]] = {"best": {}, "ensemble": {}, "guess": {}}
    training = problem.own_y[problem.parts["training"]]
    for name in _PART_NAMES[1:]:
        X, own_y = problem.X[problem.parts[name]], problem.own_y[problem.parts[name]]
        for who, members in (("best", ids[:1]), ("ensemble", ids[:n_ensemble])):
            found[who][name] = scores.judged(target, raw_mean(pool, X, members), own_y, names)
        # What one could say without looking: the training rows' mean, or their shares of classes.
        if target.classes:
            with np.errstate(divide="ignore"):
                line = np.log(np.bincount(training, minlength=len(target.classes)) / len(training))
        else:
            line = np.zeros(1)
        found["guess"][name] = scores.judged(target, np.tile(line, (len(own_y), 1)), own_y, names)
    return found


def report(trained: Trained, out: Path | None) -> dict[str, Any]:
    """What run.json keeps and --json prints."""
    problem, pool = trained.problem, trained.pool
    packages = ("numpy", "numba", "pandas", "scikit-learn")
    versions: dict[str, str | None] = {"pmlp_np": pm.__version__, "python": platform.python_version()}
    versions |= {name: version_of(name) for name in packages}
    settings = asdict(trained.choices.filled(len(problem.parts["training"]))) | {"metric": trained.metric}
    return folder.plain({
        "format": folder.RUN_FORMAT,
        "version": folder.RUN_VERSION,
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **({"folder": str(out)} if out else {}),
        "table": problem.source.path,
        "rows": {"all": len(problem.table), **{name: len(rows) for name, rows in problem.parts.items()}},
        "target": problem.source.target,
        "task": problem.task.name,
        "task_reason": problem.task.reason,
        "classes": list(problem.task.classes),
        "inputs": problem.preparation.input_names(),
        "members": len(pool),
        "ended": pool.ended_,
        "seconds": round(trained.seconds, 3),
        "metric": trained.metric,
        "best": trained.best,
        "n_ensemble": trained.n_ensemble,
        "scores": trained.scores,
        "notes": problem.notes,
        "source": asdict(problem.source),
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
