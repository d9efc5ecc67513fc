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
from pmlp_np.app.reporting import write_page
from pmlp_np.app.screen import Screen, leaderboard, table
from pmlp_np.base.console import Tolerant
from pmlp_np.base.errors import DataError, compose, unknown_name
from pmlp_np.training.metrics import METRICS

_TOP_AFTER_FIT, _TOP = 8, 20
# Room on the disk for a result: large ensembles of wide members take about this.
_ROOM = 1 << 27


def fit_table(source: Source, choices: Choices, out: Path, overwrite: bool, screen: Screen) -> str:
    """Run `pmlp fit`. Returns how the search ended."""
    try:
        return _fit_table(source, choices, out, overwrite, screen)
    except KeyboardInterrupt:
        # Ctrl-C before anything was trained, or a second time.
        print("pmlp: interrupted; nothing is written", file=Tolerant(sys.stderr))
        return "interrupted"


def _fit_table(source: Source, choices: Choices, out: Path, overwrite: bool, screen: Screen) -> str:
    folder.check_target(out, overwrite, _ROOM)
    if choices.checkpoint is not None and Path(choices.checkpoint).resolve() == out.resolve():
        hint = "The result takes the place of what is in its folder."
        raise DataError(compose("--checkpoint", "another folder than --out", str(out), hint))
    described = choices.described()
    with screen.busy(f"Reading {source.path}") as progress:
        problem = understand(source, choices.seed, choices.folds, progress)
    _check_metric(choices.metric, problem.task.name)
    _introduce(problem, described, screen)
    before = len(problem.notes)
    found = run.search(problem, choices, False if screen.json else "auto")
    with screen.busy(f"Writing {out}"):
        report = run.write(found, out, overwrite, illustrate)
    screen.notes(problem.notes[before:])
    _conclude(found, out, screen)
    screen.document(report)
    return found.result.ended


def illustrate(found: run.Fit, draft: Path) -> list[str]:
    return draw_all(found.records, draft / folder.PLOTS) + write_page(found, draft)


def _check_metric(metric: str | None, task: str) -> None:
    suitable = target_scores.choices(task)
    if metric is not None and metric not in suitable:
        raise DataError(unknown_name(f"--metric, for {task}", metric, suitable))


def _introduce(problem: Problem, described: str, screen: Screen) -> None:
    source, task, table = problem.source, problem.task, problem.table
    kinds: dict[str, int] = {}
    for column in problem.columns.columns:
        kinds[column.kind] = kinds.get(column.kind, 0) + 1
    words = {"number": "numeric", "category": "categorical", "date": "date"}
    columns = ", ".join(f"{n} {words[kind]}" for kind, n in kinds.items())
    if problem.columns.left_out:
        columns += f", {len(problem.columns.left_out)} left out"
    parts = {name: len(rows) for name, rows in problem.parts.items()}
    options = (("whole groups of", source.group), ("by the order of", source.order_by), ("by column", source.part),
            ("validation rows of", source.validation), ("test rows of", source.test),
            ("weighted by", source.weight))  # fmt: skip
    how = "".join(f"; {words} {value}" for words, value in options if value is not None)
    hint = "" if source.task else f" (--task {'regression' if task.classes else 'classification'} overrules)"
    folds = f"{problem.cv} folds" if problem.cv else "folds"
    validation = f" in {folds}" if problem.by_folds else f", {parts['validation']:,} validation"
    of_rows = "" if table.of_rows is None else f" of {table.of_rows:,}"
    screen.facts([
        ("Table", f"{source.path}, {len(table):,}{of_rows} rows"),
        ("Target", f"{source.target}, {task.reason}: {task.name}{hint}"),
        ("Columns", columns),
        ("Rows", f"{parts['training']:,} training{validation}, {parts['test']:,} test{how}"),
        ("Search", described),
    ])  # fmt: skip
    screen.notes(problem.notes)
    screen.say()


def _conclude(found: run.Fit, out: Path, screen: Screen) -> None:
    problem, result, records, scores = found.problem, found.result, found.records, found.scores
    folds = f" in {len(result.problem.folds)} folds" if problem.by_folds else ""
    ended = ", interrupted: what was trained is saved" if result.ended == "interrupted" else ""
    count = f"{len(records):,} configuration{'s' * (len(records) > 1)}"
    screen.say(f"Trained {count}{folds} in {result.seconds:.1f} s{ended}.", "")
    screen.say(leaderboard(records[:_TOP_AFTER_FIT], screen.out.width))
    more = len(records) - _TOP_AFTER_FIT
    if more > 0:
        screen.say(f"... {more:,} more: pmlp leaderboard {out}")
    screen.say()
    guess = "most frequent class" if problem.task.classes else "mean of target"
    columns = [("ensemble", "ensemble"), ("best", f"best, id {records[0]['id']}"), ("guess", guess)]
    names = found.metrics
    lines = [
        [f"{METRICS[name].label}, {part}",
         *(target_scores.shown(name, scores[key].get(part, {}).get(name)) for key, _ in columns)]
        for part, name in [("validation", names[0]), *(("test", name) for name in names)]
    ]  # fmt: skip
    screen.say(table([("", "left"), *((text, "right") for _, text in columns)], lines))
    if found.covered is not None:
        screen.say(f"Intervals of {run.COVERAGE:.0%} hold {found.covered:.0%} of the test targets.")
    first, *more_lines = fairness.verdict(problem.doubts)
    screen.say(f"The validation score is optimistic: by it the ensemble was picked. {first}", *more_lines, "")
    screen.say(f"Written to {out}: the ensemble, leaderboard, plots, report.html. Next:")
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
    """Return records sorted by a column: scores and weights best first, others smallest first, missing values last."""
    names = list(records[0])
    column = sort if sort in names else f"validation_{sort}"
    if column not in names:
        raise DataError(unknown_name("--sort", sort, names))
    metric = METRICS.get(column.removeprefix("validation_")) if column.startswith("validation_") else None
    sign = -1 if column == "weight" or (metric is not None and metric.grows) else 1

    def key(record: dict[str, Any]) -> tuple[bool, Any]:
        value = record[column]
        if isinstance(value, str):
            return False, value
        return value != value, sign * value

    return sorted(records, key=key)
