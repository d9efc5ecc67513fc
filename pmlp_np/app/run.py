"""The fit itself: from a problem to a trained pool, its leaderboard and scores, and from them to a result folder."""

from __future__ import annotations

import contextlib
import datetime
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder, target_scores
from pmlp_np.app.choices import RATE_OF_WORK, WORK_OF_A_ROW, Choices, as_list, fitting
from pmlp_np.app.environment import available_threads, version_of
from pmlp_np.app.parts import NAMES as PART_NAMES
from pmlp_np.app.parts import SHARE
from pmlp_np.app.preparation import Target
from pmlp_np.app.problem import Problem, require_metric
from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError, compose

# The best members, whose mean is scored beside the best one.
ENSEMBLE = 10
# On how many members and rows it is measured how fast members train: some hundredths of a second.
_MEASURED_MEMBERS, _MEASURED_ROWS = 16, 4096


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
    target = problem.preparation.target
    loss, n_outputs = target_scores.LOSS_OF[target.task], len(target.classes) or 1
    return pm.Pool(specs, problem.X.shape[1], n_outputs, loss, seed=choices.seed, ids=ids)


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
    from pmlp_np.base.errors import unknown_name

    fitting_ones = target_scores.choices(task)
    if choices.metric is not None and choices.metric not in fitting_ones:
        raise DataError(unknown_name(f"--metric, for {task}", choices.metric, fitting_ones))
    return choices.metric or target_scores.USUAL[task][0]


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
    """Train a pool and score its best members. KeyboardInterrupt where Ctrl-C came before anything was learned;
    DataError where no member learned anything."""
    target = problem.preparation.target
    metric = metric_of(target.task, choices)
    epochs, patience = choices.epochs_and_patience()
    usual = target_scores.USUAL[target.task]
    score = target_scores.score_of(target.task)
    # The loss's score is measured in any case where it ranks.
    by_score = choices.metric in (None, score)
    more = [name for name in dict.fromkeys((*usual, metric)) if not (by_score and name == score)]
    began = time.perf_counter()
    # The command says itself how training ended.
    with interrupts.unannounced(), _divergence_unsaid():
        pool.fit(
            *problem.of("training"), epochs=epochs, batch_size=choices.batch(len(problem.parts["training"])),
            validation_data=problem.weighted("validation"), early_stopping=True, patience=patience,
            time_budget=choices.seconds(), progress=False, n_threads=choices.threads, metrics=more,
            monitor=None if by_score else metric, callbacks=[watcher], sample_weight=problem.weight_of("training"),
        )  # fmt: skip
    seconds = time.perf_counter() - began
    if not np.isfinite(pool.history_["validation_loss"]).any():
        if pool.ended_ == "interrupted":
            raise KeyboardInterrupt
        if pool.ended_ == "time budget":
            hint = "Give more, or fewer or smaller members."
            raise DataError(
                compose("--time-budget", "time for an epoch of all members", f"{choices.seconds():g} s", hint)
            )
        hint = "Choose smaller --learning-rate values."
        raise DataError(compose("fit", "members that learn", f"{len(pool):,} that all diverged", hint))
    records = [_record(record, target) for record in pool.leaderboard()]
    n_ensemble = len(folder.healthy(records)[:ENSEMBLE])
    n_diverged = sum(record["status"] == "diverged" for record in records)
    if n_diverged:
        problem.notes.append(f"{n_diverged:,} of {len(pool):,} members diverged: they are in no mean of the best")
    scores = scores_of(problem, pool, records, n_ensemble, tuple(dict.fromkeys((metric, *usual))))
    return Trained(problem, choices, pool, metric, seconds, records, scores, n_ensemble)


def _record(record: dict[str, Any], target: Any) -> dict[str, Any]:
    """A leaderboard's record, its scores in the target's units and under their names."""
    score = target_scores.score_of(target.task)
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
        found[name] = target_scores.in_target_units(name.removeprefix("validation_"), found[name], target)
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


def scores_of(
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
            found[who][name] = target_scores.scored(target, raw_mean(pool, X, members), own_y, names, weight_here)
        # The guess of whoever knows no features: the training rows' mean, or their shares of classes.
        if target.classes:
            with np.errstate(divide="ignore"):
                counts = np.bincount(training, weight, minlength=len(target.classes))
                line = np.log(counts / counts.sum())
        else:
            line = target.prepared(np.average(training, weights=weight))[None]
        found["guess"][name] = target_scores.scored(target, np.tile(line, (len(own_y), 1)), own_y, names, weight_here)
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
        source[name] = SHARE if source[name] is None else source[name]
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
        folder.write_run(draft, found)

    folder.write_folder(out, overwrite, fill)
    return found
