"""The fit: from a problem to a trained pool, its leaderboard and scores, and to a result folder."""

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
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.reading import reading_of
from pmlp_np.models.averaging import raw_of_mean

# Number of the best members whose mean is scored in addition to the best member.
ENSEMBLE = 10
# Numbers of members and rows in the measurement of training speed, which takes some hundredths of a second.
_MEASURED_MEMBERS, _MEASURED_ROWS = 16, 4096
# Means are computed in pieces of rows whose raw outputs take this many bytes as float64.
_PIECE_BYTES = 1 << 24


@dataclass
class Trained:
    """A pool that was trained on a problem, and its scores."""

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
    """Return (the pool to train, a text on how its members were chosen). Notes are appended to the problem's.

    A member's id is its position among all combinations of the choices, so that it does not depend on the time budget.
    """
    target, n_inputs = problem.preparation.target, problem.X.shape[1]
    require_metric(problem, metric_of(target.task, choices))
    specs, described = choices.specs()
    n = len(specs)
    ids = choices.chosen(n)
    size = len(problem.parts["training"]), n_inputs, len(target.classes)
    rate = RATE_OF_WORK * (choices.threads or available_threads())
    if len(ids) == n:
        if fitting(specs, *size, choices, rate)[1]:
            # By the lower bound of the speed, not all members can be trained: measure the speed.
            rate = measured_rate(specs, problem, choices)
        ids, note = fitting(specs, *size, choices, rate)
        if note:
            problem.notes.append(note)
    if len(ids) < n:
        described = f"{len(ids):,} of {n:,}: {described}"
    elif choices.members is None:
        described = f"{n:,}: {described}"
    return _pool(specs[ids], problem, choices, ids), described


def _pool(specs: pm.Specs, problem: Problem, choices: Choices, ids: np.ndarray | None = None) -> pm.Pool:
    target = problem.preparation.target
    loss, n_outputs = target_scores.LOSS_OF[target.task], len(target.classes) or 1
    return pm.Pool(specs, problem.X.shape[1], n_outputs, loss, seed=choices.seed, ids=ids)


def measured_rate(specs: pm.Specs, problem: Problem, choices: Choices) -> float:
    """Return the measured speed of training, in multiply-adds per second as `fitting` counts them."""
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
    """Return the metric that ranks members. Raises DataError for a metric that does not suit the task."""
    from pmlp_np.base.errors import unknown_name

    suitable = target_scores.choices(task)
    if choices.metric is not None and choices.metric not in suitable:
        raise DataError(unknown_name(f"--metric, for {task}", choices.metric, suitable))
    return choices.metric or target_scores.USUAL[task][0]


def warm_up(pool: pm.Pool, problem: Problem, choices: Choices) -> None:
    """Compile all code that the fit will use, so that the time budget is spent on training.

    Raises KeyboardInterrupt on Ctrl-C.
    """
    first: dict[Any, int] = {}
    for i in range(len(pool.specs)):
        member = pool.specs[i]
        first.setdefault((member.activation, len(member.hidden) > 0), i)
    few = pool.specs[list(first.values())]
    small = pm.Pool(few, pool.n_features, pool.n_outputs, pool.loss)
    rows = problem.of("training")[0][:4], problem.of("training")[1][:4]
    with _divergence_unsaid():
        small.fit(
            *rows, validation_data=rows, early_stopping=True, progress=False, n_threads=choices.threads,
            on_interrupt="raise",
        )  # fmt: skip


def _divergence_unsaid() -> contextlib.AbstractContextManager[Any]:
    """Suppress DivergedWarning: the command prints a note on diverged members, except on those of the warm-up."""
    return warnings.catch_warnings(action="ignore", category=pm.DivergedWarning)


def train(problem: Problem, choices: Choices, pool: pm.Pool, watcher: Callable[[pm.EpochEnd], Any]) -> Trained:
    """Train a pool and score its best members.

    Raises KeyboardInterrupt if Ctrl-C came before the first epoch, DataError if no member finished an epoch.
    """
    target = problem.preparation.target
    metric = metric_of(target.task, choices)
    epochs, patience = choices.epochs_and_patience()
    usual = target_scores.USUAL[target.task]
    score = target_scores.score_of(target.task)
    # If the loss's score ranks members, it is measured without being among the metrics.
    by_score = choices.metric in (None, score)
    more = [name for name in dict.fromkeys((*usual, metric)) if not (by_score and name == score)]
    began = time.perf_counter()
    # The command prints itself how training ended.
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
    """Return a leaderboard's record with scores in the target's units, named by their metrics."""
    score = target_scores.score_of(target.task)
    names = ("rank", "id", "architecture", "hidden", "activation", "optimizer", "learning_rate", "parameters", "epochs",
            "best_epoch", "status", "loss", "validation_loss")  # fmt: skip
    entry = {name: record[name] for name in names}
    if isinstance(entry["activation"], tuple):
        entry["activation"] = "/".join(entry["activation"])
    if record["metric"] == score:
        entry[f"validation_{score}"] = record["validation_score"]
    entry |= {name: value for name, value in record.items() if name.startswith("validation_") and name not in entry}
    del entry["validation_score"]
    for name in [name for name in entry if name.startswith("validation_")]:
        entry[name] = target_scores.in_target_units(name.removeprefix("validation_"), entry[name], target)
    return entry


def raw_mean(pool: pm.Pool, X: np.ndarray, ids: list[int]) -> np.ndarray:
    """Return raw outputs (n, n_raw) float64 of the members' mean, as `models.averaging` defines it."""
    if len(ids) == 1:
        return pool.forward(X, members=ids)[0].astype(np.float64)
    reading, weight = reading_of(LOSSES[pool.loss]), 1.0 / len(ids)
    step = max(1, _PIECE_BYTES // (8 * len(ids) * pool.n_outputs))
    pieces = []
    for start in range(0, max(len(X), 1), step):
        raw = pool.forward(X[start : start + step], members=ids)
        with np.errstate(all="ignore"):
            pieces.append(raw_of_mean(reading, [(weight, each) for each in raw]))
    return np.concatenate(pieces)


def scores_of(
    problem: Problem, pool: pm.Pool, records: list[dict[str, Any]], n_ensemble: int, names: tuple[str, ...]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return scores by predictor ("best", "ensemble", "guess"), part of the rows, and name."""
    target = problem.preparation.target
    ids = [records[0]["id"]]
    mean_of = folder.healthy(records)[:n_ensemble] or ids
    scores: dict[str, dict[str, dict[str, float]]] = {"best": {}, "ensemble": {}, "guess": {}}
    training, weight = problem.own_y[problem.parts["training"]], problem.weight_of("training")
    for name in PART_NAMES[1:]:
        X, own_y = problem.X[problem.parts[name]], problem.own_y[problem.parts[name]]
        weight_here = problem.weight_of(name)
        for key, members in (("best", ids), ("ensemble", mean_of)):
            scores[key][name] = target_scores.scored(target, raw_mean(pool, X, members), own_y, names, weight_here)
        # A prediction without features: the training rows' mean, or their shares of classes.
        if target.classes:
            with np.errstate(divide="ignore"):
                counts = np.bincount(training, weight, minlength=len(target.classes))
                line = np.log(counts / counts.sum())
        else:
            line = target.prepared(np.average(training, weights=weight))[None]
        scores["guess"][name] = target_scores.scored(target, np.tile(line, (len(own_y), 1)), own_y, names, weight_here)
    return scores


def report(trained: Trained, out: Path | None) -> dict[str, Any]:
    """Return the content of run.json and of --json."""
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
    """Return an upper bound of the bytes of a result folder: parameters, two slots, best weights, curves, plots."""
    parameters = sum(record["parameters"] for record in pool.leaderboard())
    return 4 * parameters * 4 + 4 * len(pool) * epochs * 6 + 600 * len(pool) + (2 << 20)


def write(
    trained: Trained, out: Path, overwrite: bool, draw: Callable[[pm.Pool, Target, Path], list[str]]
) -> dict[str, Any]:
    """Write the result folder. Returns the content of run.json. `draw` draws the plots and returns notes."""
    content: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        trained.pool.save(draft / folder.POOL)
        trained.pool.extract(trained.best["id"]).save(draft / folder.BEST)
        folder.write_text(draft / folder.LEADERBOARD, folder.as_csv(trained.records))
        folder.write_text(draft / folder.TABLE, folder.as_json(trained.problem.preparation.to_plain()))
        (draft / folder.PLOTS).mkdir()
        trained.problem.notes.extend(draw(trained.pool, trained.problem.preparation.target, draft / folder.PLOTS))
        content.update(report(trained, out))
        folder.write_run(draft, content)

    folder.write_folder(out, overwrite, fill)
    return content
