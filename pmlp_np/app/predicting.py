"""`pmlp predict`: predictions of a raw table by a result's ensemble."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder, target_scores
from pmlp_np.app.column_kinds import first_row
from pmlp_np.app.columns import Columns
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.run import predicted
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import Table, plain_text, read_table
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.preprocessing.category_column import CategoryColumn
from pmlp_np.training.metrics import METRICS


def predict_table(
    result: folder.Result,
    path: str,
    out: Path,
    coverage: float | None,
    keep: Sequence[str],
    missing: Sequence[str],
    overwrite: bool,
    screen: Screen,
    json: bool,
    reading: Reading | None = None,
) -> None:
    """Run `pmlp predict`."""
    to_stdout = str(out) == "-"
    if to_stdout and json:
        raise DataError(compose("--json", "a file as --out", "--out -, which is stdout"))
    if not to_stdout:
        folder.check_file(out, overwrite, [*result.files(), *([] if path == "-" else [Path(path)])])
    columns, model = result.columns, result.model
    _check_coverage(coverage, columns)
    known = [*result.run["source"]["missing"], *missing]
    # Columns of --keep are read as texts.
    table = read_table(path, known, columns.text_columns(), reading, keep, columns.conventions)
    notes = list(table.notes)
    for name in keep:
        table.column_called(name, "--keep")
    X = columns.frame(table, notes)
    notes += unseen(columns, model, X)
    # All errors are raised before the work is done.
    truth = _truth(columns, table, notes)
    names = _names(columns, coverage)
    for name in keep:
        if name in names:
            raise DataError(compose("--keep", "a column that is called otherwise than a prediction", repr(name)))
    kept_columns = {name: ["" if cell != cell else plain_text(cell) for cell in table.labels(name)] for name in keep}
    found = predicted(model, columns.target, X)
    scores = _score(columns, truth, found)
    frame = _frame({**kept_columns, **dict(zip(names, _predictions(result, X, found, coverage), strict=True))})
    text = frame.to_csv(index=False, lineterminator="\n")
    if to_stdout:
        sys.stdout.write(text)
    else:
        with folder.whole_file(out, overwrite) as draft:
            folder.write_text(draft, text)
    if scores and _same_file(result.run["table"], path):
        notes.append("these are the rows of the fit, most of which it was trained on: the score is optimistic")
    _say(result, out, len(table), scores, notes, screen, to_stdout)
    screen.json = json
    screen.document({
        "folder": str(result.path), "table": path, "out": str(out), "rows": len(table),
        "columns": list(frame.columns), "scores": scores, "notes": notes,
    })  # fmt: skip


def _check_coverage(coverage: float | None, columns: Columns) -> None:
    if coverage is None:
        return
    if columns.target.classes:
        hint = "Leave it out: classes come with probabilities."
        raise DataError(compose("--coverage", "a result of regression", "one of classification", hint))
    if not 0.0 < coverage < 1.0:
        raise DataError(compose("--coverage", "a share above 0 and below 1, such as 0.9", f"{coverage:g}"))


def unseen(columns: Columns, model: pm.TableModel, X: Any) -> list[str]:
    """Return notes on cells that training rows did not have: new categories, and missing ones in full columns."""
    notes = []
    for i, used in model.views.columns.items():
        column, learned = columns.columns[i], used.learned
        cells = X[column.name]
        known = cells.dropna()
        if isinstance(learned, CategoryColumn):
            new = known[~known.isin(learned.known)]
            if len(new):
                some = ", ".join(map(show, new.unique()[:3])) + (", ..." if new.nunique() > 3 else "")
                notes.append(f"column {column.name!r}: {len(new):,} cells of categories that were not learned ({some})")
        if len(known) < len(cells) and not learned.marks_missing:
            n = len(cells) - len(known)
            notes.append(f"column {column.name!r}: {n:,} missing cells, which training rows had not")
    return notes


def _names(columns: Columns, coverage: float | None) -> list[str]:
    """Return the names of the columns of predictions."""
    intervals = [] if coverage is None else ["low", "high"]
    return ["prediction", *intervals, *(f"probability of {plain_text(each)}" for each in columns.target.classes)]


def _predictions(result: folder.Result, X: Any, found: np.ndarray, coverage: float | None) -> list[np.ndarray]:
    """Return the columns of predictions. found: as from `run.predicted`."""
    classes = result.columns.target.classes
    if classes:
        return [np.array(classes, dtype=object)[found.argmax(axis=1)], *found.T]
    return [found] if coverage is None else [found, *result.model.predict_interval(X, coverage).T]


def _frame(columns: dict[str, Any]) -> Any:
    import pandas

    frame = pandas.DataFrame(columns)
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            # Seven significant digits: the precision of float32.
            frame[name] = [float(f"{value:.7g}") for value in frame[name]]
    return frame


def _truth(columns: Columns, table: Table, notes: list[str]) -> np.ndarray | None:
    """Return the table's targets as from Target.read; None without such a column.

    Cells that can't be scored (missing cells, placeholders, unknown classes) are NaN, or -1 or -2 for classes, with a
    note: they are no reason not to predict.
    """
    target = columns.target
    if target.name not in table.frame.columns:
        return None
    values, odd = target.read_known(table)
    name = f"target {target.name!r}"
    for is_so, words in (
        (values == -1 if target.classes else np.isnan(values) & ~odd, "have no target"),
        (odd, "have classes that the fit did not know" if target.classes else "have a target that is no finite number"),
    ):
        if is_so.any():
            first = first_row(table, is_so)
            cell = table.frame[target.name].iloc[int(is_so.argmax())]
            such = "" if cell != cell else f" (such as {show(cell if isinstance(cell, str) else plain_text(cell))})"
            n = int(is_so.sum())
            notes.append(f"{name}: {n:,} of {len(values):,} rows {words}, the first in {table.where(first)}{such}: "
                         "no score is taken of them")  # fmt: skip
    if not (values >= 0 if target.classes else ~np.isnan(values)).any():
        notes.append(f"{name}: no row could be scored")
    return values


def _score(columns: Columns, truth: np.ndarray | None, found: np.ndarray) -> dict[str, float] | None:
    """Return the scores of the rows with a known target; None if there are none."""
    if truth is None:
        return None
    target = columns.target
    known = truth >= 0 if target.classes else ~np.isnan(truth)
    if not known.any():
        return None
    return {"rows": int(known.sum())} | target_scores.scored(
        target.task, target_scores.USUAL[target.task], found[known], truth[known]
    )


def _say(
    result: folder.Result, out: Path, n: int, scores: dict[str, float] | None, notes: list[str], screen: Screen,
    to_stdout: bool,
) -> None:  # fmt: skip
    if to_stdout:
        # Predictions go to stdout; notes go to stderr, even with --json.
        screen.json = False
        screen.notes(notes)
        return
    screen.notes(notes)
    screen.say(f"Written to {out}: {n:,} predictions of {result.columns.target.name}.")
    if scores:
        shown = target_scores.shown
        listed = ", ".join(f"{METRICS[name].label} {shown(name, scores[name])}" for name in scores if name != "rows")
        screen.say(f"The table has the target: {listed} on {scores['rows']:,} rows.")


def _same_file(one: str, other: str) -> bool:
    return "-" not in (one, other) and Path(one).exists() and Path(one).samefile(other)
