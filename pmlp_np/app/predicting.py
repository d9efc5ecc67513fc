"""`pmlp predict`: predictions of a raw table by a result's preparation and members."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.app import folder, target_scores
from pmlp_np.app.column_kinds import first_row
from pmlp_np.app.preparation import Preparation
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.run import raw_mean
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import Table, plain_text, read_table
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.training.metrics import METRICS


def predict_table(
    result: folder.Result,
    path: str,
    out: Path,
    member: int | None,
    ensemble: int | None,
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
    notes: list[str] = []
    preparation, ids = result.preparation, result.ids(member, ensemble, notes)
    known = [*result.run["source"]["missing"], *missing]
    # Columns of --keep are read as texts.
    table = read_table(path, known, preparation.text_columns(), reading, keep, preparation.conventions)
    notes += table.notes
    for name in keep:
        table.column_called(name, "--keep")
    inputs = preparation.inputs(table, notes)
    # All errors are raised before the work is done.
    target, truth = preparation.target, _truth(preparation, table, notes)
    names = ["prediction", *(f"probability of {plain_text(each)}" for each in target.classes)]
    for name in keep:
        if name in names:
            raise DataError(compose("--keep", "a column that is called otherwise than a prediction", repr(name)))
    X = preparation.features(inputs)
    if not np.isfinite(X).all():
        row, k = np.argwhere(~np.isfinite(X))[0]
        expected = "a number that float32 can hold, standardized as in training"
        name = f"column {preparation.input_names()[k]!r} of {table.name}, {table.where(int(row))}"
        raise DataError(compose(name, expected, f"{inputs[row, k]:g}"))
    raw = raw_mean(result.pool, X, ids)
    kept_columns = {name: ["" if cell != cell else plain_text(cell) for cell in table.labels(name)] for name in keep}
    scores = _score(preparation, truth, raw)
    frame = _frame({**kept_columns, **predictions(preparation, raw)})
    text = frame.to_csv(index=False, lineterminator="\n")
    if to_stdout:
        sys.stdout.write(text)
    else:
        with folder.whole_file(out, overwrite) as draft:
            folder.write_text(draft, text)
    if scores and _same_file(result.run["table"], path):
        notes.append("these are the rows of the fit, most of which it was trained on: the score is optimistic")
    _say(result, ids, out, len(table), scores, notes, screen, to_stdout)
    screen.json = json
    screen.document({
        "folder": str(result.path), "table": path, "out": str(out), "rows": len(table), "members": ids,
        "columns": list(frame.columns), "scores": scores, "notes": notes,
    })  # fmt: skip


def predictions(preparation: Preparation, raw: np.ndarray) -> dict[str, Any]:
    """Return the columns of predictions: "prediction", and "probability of CLASS" for each class."""
    target = preparation.target
    loss = LOSSES[target_scores.LOSS_OF[target.task]]
    columns: dict[str, Any] = {"prediction": target.in_own_units(loss.predictions(raw))}
    if target.classes:
        probabilities = loss.probabilities(raw)
        columns |= {f"probability of {plain_text(c)}": probabilities[:, i] for i, c in enumerate(target.classes)}
    return columns


def _frame(columns: dict[str, Any]) -> Any:
    import pandas

    frame = pandas.DataFrame(columns)
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            # Seven significant digits: the precision of float32.
            frame[name] = [float(f"{value:.7g}") for value in frame[name]]
    return frame


def _truth(preparation: Preparation, table: Table, notes: list[str]) -> np.ndarray | None:
    """Return the table's targets as from Target.read; None without such a column.

    Cells that can't be scored (missing cells, placeholders, unknown classes) are NaN, or -1 or -2 for classes, with a
    note: they are no reason not to predict.
    """
    target = preparation.target
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


def _score(preparation: Preparation, truth: np.ndarray | None, raw: np.ndarray) -> dict[str, float] | None:
    """Return the scores of the rows with a known target; None if there are none."""
    if truth is None:
        return None
    target = preparation.target
    known = truth >= 0 if target.classes else ~np.isnan(truth)
    if not known.any():
        return None
    usual = target_scores.USUAL[target.task]
    return {"rows": int(known.sum())} | target_scores.scored(target, raw[known], truth[known], usual)


def _say(
    result: folder.Result, ids: list[int], out: Path, n: int, scores: dict[str, float] | None, notes: list[str],
    screen: Screen, to_stdout: bool,
) -> None:  # fmt: skip
    if to_stdout:
        # Predictions go to stdout; notes go to stderr, even with --json.
        screen.json = False
        screen.notes(notes)
        return
    screen.notes(notes)
    subject = f"member {ids[0]}" if len(ids) == 1 else f"the mean of {len(ids)} members"
    screen.say(f"Written to {out}: {n:,} predictions of {result.preparation.target.name} by {subject}.")
    if scores:
        shown = target_scores.shown
        listed = ", ".join(f"{METRICS[name].label} {shown(name, scores[name])}" for name in scores if name != "rows")
        screen.say(f"The table has the target: {listed} on {scores['rows']:,} rows.")


def _same_file(one: str, other: str) -> bool:
    return "-" not in (one, other) and Path(one).exists() and Path(one).samefile(other)
