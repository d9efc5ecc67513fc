"""The fit: from a problem to a search, its leaderboard and scores, and to a result folder."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder, target_scores
from pmlp_np.app.choices import Choices, client_of
from pmlp_np.app.columns import Target
from pmlp_np.app.environment import version_of
from pmlp_np.app.problem import Problem
from pmlp_np.base import interrupts
from pmlp_np.model_selection.search_result import SearchResult

# The coverage of the intervals that are checked on the test rows.
COVERAGE = 0.9


@dataclass(frozen=True)
class Fit:
    """A search on a problem, and what came of it. scores: by predictor ("ensemble", "best", "guess"), part and name."""

    problem: Problem
    choices: Choices
    result: SearchResult

    @property
    def model(self) -> pm.TableModel:
        return self.result.ensemble

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the scores."""
        return target_scores.names_of(self.problem.task.name, self.choices.metric)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """A record of each configuration, best first, with scores out of fold in the target's units."""
        result, task = self.result, self.problem.task.name
        truth, weight = _in_units(self.model, result.problem.prepared), result.problem.weights
        validated = result.problem.folds.validated
        records = []
        for rank, found in enumerate(result.records(), 1):
            number = found["trial"]
            record = {
                "rank": rank, "id": number, "configuration": found["configuration"], "hidden": found.get("hidden", ()),
                "activation": found.get("activation", ""), "view": found["view"],
                "learning_rate": found.get("learning_rate"), "parameters": found["parameters"],
                "epochs": found["epochs"], "members": found["members"], "weight": found["weight"],
                "seconds": round(found["seconds"], 3), "status": found["status"], "loss": found["loss"],
                "loss_spread": found["loss_spread"],
            }  # fmt: skip
            predicted = _in_units(self.model, result.trials[number].out_of_fold)
            scores = target_scores.scored(task, self.metrics, predicted, truth[validated], _of(weight, validated))
            lost = found["status"] == "diverged"
            records.append(record | {f"validation_{k}": float("nan") if lost else v for k, v in scores.items()})
        return records

    @cached_property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by predictor ("ensemble", "best" configuration, "guess"), part of the rows, and name."""
        problem, result = self.problem, self.result
        task, target, names = problem.task.name, problem.columns.target, self.metrics
        test, weight = problem.parts["test"], problem.weight_of("test")
        X, truth = problem.frame.iloc[test], problem.own_y[test]
        best = result.trials[self.records[0]["id"]]
        alone = replace(self.model, members=((best.pool, best.ids),), weights=np.ones(1), temperature=1.0)
        scores: dict[str, dict[str, dict[str, float]]] = {}
        validated = result.problem.folds.validated
        own = _in_units(self.model, result.problem.prepared)[validated]
        weight_there = _of(result.problem.weights, validated)
        for name, model, found in (("ensemble", self.model, result.out_of_fold), ("best", alone, best.out_of_fold)):
            scores[name] = {
                "validation": target_scores.scored(task, names, _in_units(self.model, found), own, weight_there),
                "test": target_scores.scored(task, names, predicted(model, target, X), truth, weight),
            }
        # A prediction without features: the training rows' mean, or their shares of classes.
        known = problem.parts["training"]
        line = _without_features(problem.own_y[known], problem.weight_of("training"), len(problem.task.classes))
        guess = np.tile(line, (len(test), 1))
        scores["guess"] = {"test": target_scores.scored(task, names, guess, truth, weight)}
        return scores

    @cached_property
    def covered(self) -> float | None:
        """The share of test rows (by weight) whose target lies in its interval of COVERAGE; None for classes."""
        problem = self.problem
        if problem.task.classes:
            return None
        test = problem.parts["test"]
        low, high = self.model.predict_interval(problem.frame.iloc[test], COVERAGE).T
        inside = (low <= problem.own_y[test]) & (problem.own_y[test] <= high)
        return float(np.average(inside, weights=problem.weight_of("test")))


def search(problem: Problem, choices: Choices, progress: bool | str = "auto") -> Fit:
    """Search for the best ensemble.

    Raises KeyboardInterrupt if Ctrl-C came before anything was trained, DataError if all members diverged.
    """
    # The command prints itself how the search ended.
    with interrupts.unannounced(), client_of(choices.scheduler) as client:
        result = pm.search(**problem.for_search(), **choices.for_search(), progress=progress, client=client)
    if result.ended == "interrupted" and not any(record["epochs"] for record in result.records()):
        raise KeyboardInterrupt
    problem.notes += result.notes
    problem.notes += [f"column {name!r} is left out: {why}" for name, why in result.problem.views.left_out.items()]
    n_lost = sum(not trial.finite for trial in result.trials)
    if n_lost:
        problem.notes.append(
            f"{n_lost:,} of {len(result.trials):,} configurations diverged: they are not in the ensemble"
        )
    return Fit(problem, choices, result)


def predicted(model: pm.TableModel, target: Target, X: Any) -> np.ndarray:
    """Return predicted values (n,), or probabilities of the target's classes (n, classes)."""
    if not target.classes:
        return model.predict(X)
    found = model.predict_proba(X)
    # Classes without training rows are unknown to the model.
    place = {each: i for i, each in enumerate(model.targets.classes.tolist())}
    result = np.zeros((len(found), len(target.classes)))
    for i, each in enumerate(target.classes):
        if each in place:
            result[:, i] = found[:, place[each]]
    return result


def _in_units(model: pm.TableModel, prepared: np.ndarray) -> np.ndarray:
    """Return standardized values (n, 1) in the target's units, (n,); anything else as it is."""
    if model.targets.task != "regression":
        return prepared
    return np.asarray(prepared[:, 0] * model.targets.scale + model.targets.mean)


def _of(weight: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if weight is None else weight[rows]


def _without_features(own_y: np.ndarray, weight: np.ndarray | None, n_classes: int) -> np.ndarray:
    if not n_classes:
        return np.array([np.average(own_y, weights=weight)])
    counts = np.bincount(own_y, weight, minlength=n_classes)
    return np.asarray(counts / counts.sum())


def report(fit: Fit, out: Path | None) -> dict[str, Any]:
    """Return the content of run.json and of --json."""
    problem, result = fit.problem, fit.result
    versions: dict[str, str | None] = {"pmlp_np": pm.__version__, "python": platform.python_version()}
    versions |= {name: version_of(name) for name in ("numpy", "numba", "pandas")}
    best = fit.records[0]
    return folder.plain({
        "format": folder.RUN_FORMAT,
        "version": folder.RUN_VERSION,
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **({"folder": str(out)} if out else {}),
        "table": problem.source.path,
        "rows": {"all": len(problem.own_y), **{name: len(rows) for name, rows in problem.parts.items()}},
        **({} if problem.table.of_rows is None else {"of_rows": problem.table.of_rows}),
        "target": problem.source.target,
        "task": problem.task.name,
        "task_reason": problem.task.reason,
        "classes": list(problem.task.classes),
        "columns": problem.columns.names,
        "left_out": problem.columns.left_out,
        "folds": len(result.problem.folds) if problem.by_folds else 0,
        "configurations": len(fit.records),
        "members": sum(record["members"] for record in fit.records),
        "in_ensemble": int(np.count_nonzero(result.weights)),
        "ended": result.ended,
        "seconds": round(result.seconds, 3),
        "metric": fit.choices.metric,
        "best": best,
        "scores": fit.scores,
        **({} if fit.covered is None else {"coverage": {"expected": COVERAGE, "test": fit.covered}}),
        "notes": problem.notes,
        "doubts": problem.doubts,
        "source": asdict(problem.source),
        "settings": asdict(fit.choices),
        "versions": versions,
    })  # fmt: skip


def write(fit: Fit, out: Path, overwrite: bool, illustrate: Callable[[Fit, Path], list[str]]) -> dict[str, Any]:
    """Write the result folder. Returns the content of run.json.

    illustrate: writes plots and the report into the folder, and returns notes.
    """
    content: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        fit.model.save(draft / folder.MODEL)
        folder.write_text(draft / folder.LEADERBOARD, folder.as_csv(fit.records))
        folder.write_text(draft / folder.TABLE, folder.as_json(fit.problem.columns.to_plain()))
        fit.problem.notes.extend(illustrate(fit, draft))
        content.update(report(fit, out))
        folder.write_run(draft, content)

    folder.write_folder(out, overwrite, fill)
    return content
