"""What a search has found: records of all trials, the ensemble, and its out-of-fold predictions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.base.persistence import require_file
from pmlp_np.base.table import Table
from pmlp_np.model_selection.calibration import log_loss_of
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.model_selection.targets import REGRESSION
from pmlp_np.model_selection.trials import Trial


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The result of a search.

    trials, weights: what was tried, and the weight of each in the ensemble, (trials,) of sum 1. ensemble: the model
    that predicts. out_of_fold: (rows, outputs), the ensemble's predictions of the validated rows by members that have
    not seen them: standardized values, or probabilities. notes: what a user should know. ended: "done" or
    "interrupted". seconds: what the search took.
    """

    problem: Problem
    trials: tuple[Trial, ...]
    weights: np.ndarray
    ensemble: TableModel
    out_of_fold: np.ndarray
    notes: tuple[str, ...]
    ended: str
    seconds: float

    @cached_property
    def loss(self) -> float:
        """The ensemble's out-of-fold loss: mean squared error of standardized values, or log loss."""
        return self._loss_of(self.out_of_fold, np.arange(len(self.out_of_fold)))

    @property
    def best(self) -> int:
        """The number of the trial with the least loss."""
        return int(np.argmin([record["loss"] if record["status"] == "done" else np.inf for record in self._by_number]))

    @cached_property
    def _by_number(self) -> list[dict[str, Any]]:
        folds = self.problem.folds
        place = np.full(len(self.problem.wide), -1)
        place[folds.validated] = np.arange(len(folds.validated))
        records: list[dict[str, Any]] = []
        for number, trial in enumerate(self.trials):
            losses = [self._loss_of(trial.out_of_fold, place[rows]) for rows in folds.validation]
            everything = self._loss_of(trial.out_of_fold, np.arange(len(folds.validated)))
            record: dict[str, Any] = {
                "trial": number, "configuration": trial.configuration.text(), "loss": everything,
                "loss_spread": float(np.std(losses)), "fold_losses": tuple(losses),
                "weight": float(self.weights[number]), "epochs": trial.epochs, "members": len(trial.ids),
                "seconds": trial.seconds, "status": "done" if trial.finite else "diverged",
                "view": trial.configuration.view,
            }  # fmt: skip
            records.append(record | dict(trial.configuration.member))
        return records

    def records(self) -> Table:
        """Return a record of each trial, best first; it prints as a table, and `to_pandas()` converts it.

        Keys: trial (its number), configuration (in words), loss (out of fold), loss_spread (standard deviation over
        folds), fold_losses, weight (in the ensemble), epochs, members, seconds, status ("done" or "diverged"), view,
        and the arguments of its members.
        """
        ordered = sorted(self._by_number, key=lambda record: (record["status"] != "done", record["loss"]))
        shown = ("trial", "configuration", "loss", "loss_spread", "weight", "epochs", "seconds", "status")
        return Table([dict(record) for record in ordered], shown)

    def report(self, path: str | os.PathLike[str], title: str = "", names: str | Sequence[str] | None = None) -> None:
        """Write an HTML file that says what was found, how good it is, how sure, and why. It takes a few seconds.

        The file needs no network. It holds up to 800 pairs of true and predicted values, and names of columns, classes
        and categories.

        path: of the file; an old one is replaced. title: of the page. names: the name of y, or one for each of its
        columns. Raises DataError for names that don't fit y, and for a path that is no file's.
        """
        from pmlp_np.report import report_contents, write_report

        require_file(path)
        write_report(report_contents(self, title, names), path)

    def _loss_of(self, predicted: np.ndarray, places: np.ndarray) -> float:
        prepared = self.problem.prepared[self.problem.folds.validated][places]
        if self.problem.targets.task == REGRESSION:
            return float(np.mean(np.square(predicted[places].astype(np.float64) - prepared)))
        return log_loss_of(predicted[places].astype(np.float64), prepared, self.problem.targets.task)

    def __repr__(self) -> str:
        used = int((self.weights > 0.0).sum())
        return (
            f"SearchResult({len(self.trials)} configurations, {used} of them in the ensemble, "
            f"loss {self.loss:.4g}, {self.seconds:.1f} s)"
        )
