"""`pmlp predict`: predictions of a raw table by a result's ensemble.

A large table is read, predicted and written part by part, so that memory has a bound; what is said of it is said of the
whole.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder, target_scores
from pmlp_np.app.column_kinds import first_row
from pmlp_np.app.columns import Column, Columns
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.run import predicted
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import Table, in_parts, plain_text
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.preprocessing.category_column import CategoryColumn
from pmlp_np.training.metrics import METRICS
from pmlp_np.training.progress_bar import ProgressBar

# Characters for stdout that are held in memory until all is predicted; more go to the disk.
_SPOOLED = 1 << 26
# Scores are taken of the first rows whose predictions have so many numbers.
_SCORED_NUMBERS = 1 << 27


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
    columns = result.columns
    _check_coverage(coverage, columns)
    known = [*result.run["source"]["missing"], *missing]
    names = _names(columns, coverage)
    work = _Work(result, coverage, keep, names)
    # Columns of --keep are read as texts.
    arguments = known, columns.text_columns(), reading, keep, columns.conventions
    with (
        in_parts(path, *arguments) as parts, _output(out, overwrite, to_stdout) as file,
        contextlib.closing(ProgressBar(False if json else "auto")) as bar,
    ):  # fmt: skip
        for table in parts.tables():
            is_first = work.n_rows == 0
            work.add(table).to_csv(file, index=False, lineterminator="\n", header=is_first)
            bar.show(work.n_rows / parts.n_rows, f"{work.n_rows:,} of {parts.n_rows:,} rows")
        notes, scores = work.notes(), work.scores()
    if scores and _same_file(result.run["table"], path):
        notes.append("these are the rows of the fit, most of which it was trained on: the score is optimistic")
    _say(result, out, work.n_rows, scores, notes, screen, to_stdout)
    screen.json = json
    screen.document({
        "folder": str(result.path), "table": path, "out": str(out), "rows": work.n_rows,
        "columns": [*keep, *names], "scores": scores, "notes": notes,
    })  # fmt: skip


@contextlib.contextmanager
def _output(out: Path, overwrite: bool, to_stdout: bool) -> Iterator[TextIO]:
    """Yield a file to write to. What it holds is at its place once all of it is written, and not before."""
    if to_stdout:
        with tempfile.SpooledTemporaryFile(_SPOOLED, "w+", encoding="utf-8", newline="") as file:
            yield file  # type: ignore[misc]
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout)
    else:
        with folder.whole_file(out, overwrite) as draft, folder.text_file(draft) as text:
            yield text


class _Work:
    """The predictions of a table, part by part, and what is found out about the whole."""

    def __init__(self, result: folder.Result, coverage: float | None, keep: Sequence[str], names: list[str]) -> None:
        self.result, self.coverage, self.keep, self.names = result, coverage, keep, names
        self.n_rows = 0
        self._of_file: list[str] = []
        self._unseen = [_Unseen(*each) for each in _learned(result.columns, result.model)]
        self._truth = _Truth(result.columns)

    def add(self, table: Table) -> Any:
        """Return the predictions of a part as a pandas.DataFrame. Raises DataError for a part without the columns."""
        columns = self.result.columns
        of_part = list(table.notes)
        for name in self.keep:
            table.column_called(name, "--keep")
            if name in self.names:
                raise DataError(compose("--keep", "a column that is called otherwise than a prediction", repr(name)))
        X = columns.frame(table, of_part)
        self._of_file += [note for note in of_part if note not in self._of_file]
        for each in self._unseen:
            each.add(X[each.name])
        truth = self._truth.read(table)
        kept = {name: ["" if cell != cell else plain_text(cell) for cell in table.labels(name)] for name in self.keep}
        found = predicted(self.result.model, columns.target, X)
        if truth is not None:
            self._truth.score(found, truth)
        self.n_rows += len(table)
        predictions = _predictions(self.result, X, found, self.coverage)
        return _frame({**kept, **dict(zip(self.names, predictions, strict=True))})

    def notes(self) -> list[str]:
        return [*self._of_file, *(note for each in self._unseen for note in each.notes()), *self._truth.notes()]

    def scores(self) -> dict[str, float] | None:
        return self._truth.scores()


def _check_coverage(coverage: float | None, columns: Columns) -> None:
    if coverage is None:
        return
    if columns.target.classes:
        hint = "Leave it out: classes come with probabilities."
        raise DataError(compose("--coverage", "a result of regression", "one of classification", hint))
    if not 0.0 < coverage < 1.0:
        raise DataError(compose("--coverage", "a share above 0 and below 1, such as 0.9", f"{coverage:g}"))


def _learned(columns: Columns, model: pm.TableModel) -> list[tuple[Column, Any]]:
    """Return the columns that are used, with what the model learned of them."""
    return [(columns.columns[i], used.learned) for i, used in model.views.columns.items()]


class _Unseen:
    """Cells of a column that training rows did not have: new categories, and missing ones in full columns."""

    def __init__(self, column: Column, learned: Any) -> None:
        self.name, self._learned = column.name, learned
        self._missing = self._new = 0
        # In order; a few are shown, with whether there are more.
        self._some: list[Any] = []

    def add(self, cells: Any) -> None:
        known = cells.dropna()
        self._missing += len(cells) - len(known)
        if isinstance(self._learned, CategoryColumn):
            new = known[~known.isin(self._learned.known)]
            self._new += len(new)
            if len(self._some) < 4:
                self._some += [each for each in new.unique()[:4] if each not in self._some]

    def notes(self) -> list[str]:
        notes = []
        if self._new:
            some = ", ".join(map(show, self._some[:3])) + (", ..." if len(self._some) > 3 else "")
            notes.append(f"column {self.name!r}: {self._new:,} cells of categories that were not learned ({some})")
        if self._missing and not self._learned.marks_missing:
            notes.append(f"column {self.name!r}: {self._missing:,} missing cells, which training rows had not")
        return notes


class _Truth:
    """The targets of a table that has them, and the scores of their rows.

    Cells that can't be scored (missing cells, placeholders, unknown classes) are noted: they are no reason not to
    predict.
    """

    def __init__(self, columns: Columns) -> None:
        self._target = columns.target
        self._rows = 0
        # Of cells without a target ("none") and odd ones: how many, and the first one in words.
        self._counts = {"none": 0, "odd": 0}
        self._first: dict[str, str] = {}
        self._scored: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_scored = self._n_known = 0

    def read(self, table: Table) -> np.ndarray | None:
        """Return a part's targets as from Target.read, NaN or below 0 where unknown; None without such a column."""
        target = self._target
        if target.name not in table.frame.columns:
            return None
        values, odd = target.read_known(table)
        self._rows += len(values)
        nothing = values == -1 if target.classes else np.isnan(values) & ~odd
        for kind, is_so in (("none", nothing), ("odd", odd)):
            if is_so.any():
                if kind not in self._first:
                    cell = table.frame[target.name].iloc[int(is_so.argmax())]
                    text = cell if isinstance(cell, str) else plain_text(cell)
                    such = "" if cell != cell else f" (such as {show(text)})"
                    self._first[kind] = f"the first in {table.where(first_row(table, is_so))}{such}"
                self._counts[kind] += int(is_so.sum())
        return values

    def score(self, found: np.ndarray, truth: np.ndarray) -> None:
        """Take note of predictions of rows with these targets."""
        known = truth >= 0 if self._target.classes else ~np.isnan(truth)
        self._n_known += int(known.sum())
        if known.any() and self._n_scored * max(1, found[:1].size) < _SCORED_NUMBERS:
            self._scored.append((found[known], truth[known]))
            self._n_scored += int(known.sum())

    def notes(self) -> list[str]:
        if not self._rows:
            return []
        name = f"target {self._target.name!r}"
        odd = "have classes that the fit did not know" if self._target.classes else (
            "have a target that is no finite number"
        )  # fmt: skip
        notes = [
            f"{name}: {self._counts[kind]:,} of {self._rows:,} rows {words}, {first}: no score is taken of them"
            for kind, words in (("none", "have no target"), ("odd", odd))
            if (first := self._first.get(kind))
        ]
        if not self._n_known:
            notes.append(f"{name}: no row could be scored")
        elif self._n_scored < self._n_known:
            notes.append(f"{name}: the score is that of the first {self._n_scored:,} rows with a target")
        return notes

    def scores(self) -> dict[str, float] | None:
        """Return the scores of the rows with a known target; None if there are none."""
        if not self._scored:
            return None
        found, truth = (np.concatenate(each) for each in zip(*self._scored, strict=True))
        task = self._target.task
        return {"rows": len(truth)} | target_scores.scored(task, target_scores.USUAL[task], found, truth)


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
