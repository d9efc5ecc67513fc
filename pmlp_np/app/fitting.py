"""`pmlp fit` and `pmlp leaderboard`: their steps, and what they print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pmlp_np.app import fairness, folder, run, target_scores
from pmlp_np.app.choices import Choices
from pmlp_np.app.plotting import draw_all
from pmlp_np.app.problem import Problem, Source, understand
from pmlp_np.app.screen import Screen, Watching, leaderboard, table
from pmlp_np.base.console import Tolerant
from pmlp_np.base.errors import DataError, compose, unknown_name
from pmlp_np.training.metrics import METRICS

_TOP_AFTER_FIT, _TOP = 8, 20
_ENDINGS = {
    "done": "all have stopped or done their epochs",
    "time budget": "the time budget is spent; a longer --time-budget may find better ones",
    "interrupted": "interrupted; training so far is saved",
    "stopped": "stopped",
}


def fit_table(source: Source, choices: Choices, out: Path, overwrite: bool, screen: Screen) -> str:
    """Run `pmlp fit`. Returns how training ended."""
    try:
        return _fit_table(source, choices, out, overwrite, screen)
    except KeyboardInterrupt:
        # Ctrl-C before the first epoch, or a second time.
        print("pmlp: interrupted; nothing is written", file=Tolerant(sys.stderr))
        return "interrupted"


def _fit_table(source: Source, choices: Choices, out: Path, overwrite: bool, screen: Screen) -> str:
    folder.check_target(out, overwrite)
    with screen.busy(f"Reading {source.path}"):
        problem = understand(source, choices.seed)
    with screen.busy("Choosing members"):
        pool, described = run.pool_of(problem, choices)
    folder.check_target(out, overwrite, run.room_needed(pool, choices.epochs_and_patience()[0]))
    _introduce(problem, choices, described, screen)
    with screen.busy("Preparing to train (the first time compiles, some seconds)"):
        run.warm_up(pool, problem, choices)
    target = problem.preparation.target
    metric = run.metric_of(target.task, choices)
    scale = target_scores.in_target_units(metric, 1.0, target)
    epochs, _ = choices.epochs_and_patience()
    before = len(problem.notes)
    with Watching(screen, pool, epochs, choices.seconds(), metric, scale, METRICS[metric].grows) as watching:
        trained = run.train(problem, choices, pool, watching)
    with screen.busy(f"Writing {out}"):
        report = run.write(trained, out, overwrite, draw_all)
    screen.notes(problem.notes[before:])
    _conclude(trained, out, screen)
    screen.document(report)
    return pool.ended_


def _introduce(problem: Problem, choices: Choices, described: str, screen: Screen) -> None:
    source, task, table = problem.source, problem.task, problem.table
    kinds: dict[str, int] = {}
    for column in problem.preparation.columns:
        kinds[column.kind] = kinds.get(column.kind, 0) + 1
    words = {"number": "numeric", "category": "categorical", "date": "date"}
    columns = ", ".join(f"{n} {words[kind]}" for kind, n in kinds.items())
    if problem.preparation.left_out:
        columns += f", {len(problem.preparation.left_out)} left out"
    epochs, patience = choices.epochs_and_patience()
    seconds = choices.seconds()
    limit = f", at most {seconds:g} s" if seconds else ""
    parts = {name: len(rows) for name, rows in problem.parts.items()}
    batch = choices.batch(parts["training"])
    options = (("whole groups of", source.group), ("by the order of", source.order_by), ("by column", source.part),
            ("validation rows of", source.validation), ("test rows of", source.test),
            ("weighted by", source.weight))  # fmt: skip
    how = "".join(f"; {words} {value}" for words, value in options if value is not None)
    hint = "" if source.task else f" (--task {'regression' if task.classes else 'classification'} overrules)"
    screen.facts([
        ("Table", f"{source.path}, {len(table):,} rows"),
        ("Target", f"{source.target}, {task.reason}: {task.name}{hint}"),
        ("Columns", f"{columns}: {problem.X.shape[1]} input{'s' * (problem.X.shape[1] > 1)}"),
        ("Rows", f"{parts['training']:,} training, {parts['validation']:,} validation, {parts['test']:,} test{how}"),
        ("Members", described),
        ("Training", f"up to {epochs} epochs of {batch} rows a step, patience {patience}{limit}"),
    ])  # fmt: skip
    screen.notes(problem.notes)
    screen.say()


def _conclude(trained: run.Trained, out: Path, screen: Screen) -> None:
    pool, metric, scores = trained.pool, trained.metric, trained.scores
    seconds = f"{trained.seconds:.1f}" if trained.seconds >= 1.0 else f"{trained.seconds:.1g}"
    screen.say(f"Trained {len(pool):,} networks in {seconds} s: {_ENDINGS[pool.ended_]}.", "")
    screen.say(leaderboard(trained.records[:_TOP_AFTER_FIT], screen.out.width))
    more = len(trained.records) - _TOP_AFTER_FIT
    if more > 0:
        screen.say(f"... {more:,} more: pmlp leaderboard {out}")
    screen.say()
    classes = trained.problem.preparation.target.classes
    columns = [("best", f"best, id {trained.best['id']}")]
    if trained.n_ensemble > 1:
        columns.append(("ensemble", f"mean of {trained.n_ensemble} best"))
    columns.append(("guess", "most frequent class" if classes else "mean of target"))
    names = list(dict.fromkeys((metric, *target_scores.USUAL[trained.problem.task.name])))
    lines = [
        [
            f"{METRICS[name].label}, {part}",
            *(target_scores.shown(name, scores[key][part][name]) for key, _ in columns),
        ]
        for part, name in [("validation", metric), *(("test", name) for name in names)]
    ]
    screen.say(table([("", "left"), *((text, "right") for _, text in columns)], lines))
    first, *more_lines = fairness.verdict(trained.problem.doubts)
    screen.say(f"The validation score is optimistic: it chose the best of {len(pool):,}. {first}", *more_lines, "")
    screen.say(f"Written to {out}: pool, best member, leaderboard, plots. Next:")
    screen.say(f"  pmlp predict {out} TABLE --out predictions.csv", f"  pmlp export {out} --out model.onnx")


def show_leaderboard(result: folder.Result, top: int | None, sort: str, csv: bool, screen: Screen) -> None:
    """Run `pmlp leaderboard`."""
    if csv and screen.json:
        raise DataError(compose("--csv and --json", "one of them", "both"))
    records = ordered(result.records, sort)
    if csv or screen.json:
        records = records[:top]
        if csv:
            sys.stdout.write(folder.as_csv(records))
        screen.document(records)
        return
    top = top or _TOP
    screen.say(leaderboard(records[:top], screen.out.width))
    if len(records) > top:
        screen.say(f"... {len(records) - top:,} more: --top {len(records)}")


def ordered(records: Sequence[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """Return records sorted by a column: scores best first, other columns smallest first, missing values last."""
    names = list(records[0])
    column = sort if sort in names else f"validation_{sort}"
    if column not in names:
        raise DataError(unknown_name("--sort", sort, names))
    metric = METRICS.get(column.removeprefix("validation_")) if column.startswith("validation_") else None
    sign = -1 if metric is not None and metric.grows else 1

    def key(record: dict[str, Any]) -> tuple[bool, Any]:
        value = record[column]
        if isinstance(value, str):
            return False, value
        return value != value, sign * value

    return sorted(records, key=key)
