"""`pmlp predict`: the rows of a raw table through a result's preparation and members."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.app import folder, scores
from pmlp_np.app.preparation import Preparation
from pmlp_np.app.reading.options import Reading
from pmlp_np.app.run import raw_mean
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import Table, plain_text, read_table
from pmlp_np.errors import DataError, compose
from pmlp_np.formulas.losses import LOSSES


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
    """Do all of `pmlp predict`."""
    to_stdout = str(out) == "-"
    if to_stdout and json:
        raise DataError(compose("--json", "a file as --out", "--out -, which is stdout"))
    if not to_stdout:
        folder.check_file(out, overwrite)
    preparation, ids = result.preparation, result.ids(member, ensemble)
    known = [*result.run["source"]["missing"], *missing]
    # Kept as they are written.
    table = read_table(path, known, preparation.text_columns(), reading, keep, preparation.conventions)
    notes = list(table.notes)
    for name in keep:
        table.column_called(name, "--keep")
    inputs = preparation.inputs(table, notes)
    X = preparation.features(inputs)
    if not np.isfinite(X).all():
        row, place = np.argwhere(~np.isfinite(X))[0]
        expected = "a number that float32 can hold, standardized as in training"
        name = f"column {preparation.input_names()[place]!r} of {table.name}, {table.where(int(row))}"
        raise DataError(compose(name, expected, f"{inputs[row, place]:g}"))
    raw = raw_mean(result.pool, X, ids)
    kept = {name: ["" if cell != cell else plain_text(cell) for cell in table.labels(name)] for name in keep}
    columns = predictions(preparation, raw)
    for name in columns.keys() & kept.keys():
        raise DataError(compose("--keep", "a column that is called otherwise than a prediction", repr(name)))
    frame = _frame({**kept, **columns})
    text = frame.to_csv(index=False, lineterminator="\n")
    if to_stdout:
        sys.stdout.write(text)
    else:
        with folder.whole_file(out, overwrite) as draft:
            folder.write_text(draft, text)
    found = _score(preparation, table, raw, notes)
    if found and _same_file(result.run["table"], path):
        notes.append("these are the rows of the fit, most of which it was trained on: the score flatters")
    _say(result, ids, out, len(table), found, notes, screen, to_stdout)
    screen.json = json
    screen.document({
        "folder": str(result.path), "table": path, "out": str(out), "rows": len(table), "members": ids,
        "columns": list(frame.columns), "scores": found, "notes": notes,
    })  # fmt: skip


def predictions(preparation: Preparation, raw: np.ndarray) -> dict[str, Any]:
    """Columns of predictions: "prediction", and "probability of CLASS" for each class."""
    target = preparation.target
    loss = LOSSES["cross_entropy" if target.classes else "squared_error"]
    found: dict[str, Any] = {"prediction": target.in_own_units(loss.predictions(raw))}
    if target.classes:
        probabilities = loss.probabilities(raw)
        found |= {f"probability of {plain_text(c)}": probabilities[:, i] for i, c in enumerate(target.classes)}
    return found


def _frame(columns: dict[str, Any]) -> Any:
    import pandas

    frame = pandas.DataFrame(columns)
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            # What float32 can tell, without the digits that it can't.
            frame[name] = [float(f"{value:.7g}") for value in frame[name]]
    return frame


def _score(preparation: Preparation, table: Table, raw: np.ndarray, notes: list[str]) -> dict[str, float] | None:
    """Scores where the table has the target; rows without it, or with a class that is not known, count for nothing."""
    target = preparation.target
    if target.name not in table.frame.columns:
        return None
    values = target.read(table)
    known = values >= 0 if target.classes else ~np.isnan(values)
    if target.classes and (values == -2).any():
        n = int((values == -2).sum())
        notes.append(f"{n:,} rows have classes that the fit did not know: no score is taken of them")
    if not known.any():
        return None
    return {"rows": int(known.sum())} | scores.judged(target, raw[known], values[known], scores.USUAL[target.task])


def _say(
    result: folder.Result, ids: list[int], out: Path, n: int, found: dict[str, float] | None, notes: list[str],
    screen: Screen, to_stdout: bool,
) -> None:  # fmt: skip
    if to_stdout:
        # Notes belong to people, predictions to the pipe.
        screen.json = False
        screen.notes(notes)
        return
    screen.notes(notes)
    who = f"member {ids[0]}" if len(ids) == 1 else f"the mean of {len(ids)} members"
    screen.say(f"Written to {out}: {n:,} predictions of {result.preparation.target.name} by {who}.")
    if found:
        told = ", ".join(f"{scores.LABELS[name]} {scores.shown(name, found[name])}" for name in found if name != "rows")
        screen.say(f"The table has the target: {told} on {found['rows']:,} rows.")


def _same_file(one: str, other: str) -> bool:
    return "-" not in (one, other) and Path(one).exists() and Path(one).samefile(other)
