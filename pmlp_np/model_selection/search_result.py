"""What a search has found: records of all trials, the ensemble, and its out-of-fold predictions."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.persistence import require_file
from pmlp_np.base.table import Table
from pmlp_np.model_selection.ensemble_selection import chooser
from pmlp_np.model_selection.scoring import Scoring
from pmlp_np.model_selection.search_outcome import ensemble as ensemble_of
from pmlp_np.model_selection.search_outcome import out_of_fold, selectable
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.model_selection.trials import Trial


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The result of a search.

    trials, weights: what was tried, and the weight of each in the ensemble, (trials,) of sum 1. ensemble: the model
    that predicts. out_of_fold: (rows, outputs), the ensemble's predictions of the validated rows by members that have
    not seen them: standardized values, or probabilities. notes: what a user should know. ended: "done" or
    "interrupted". seconds: what the search took. scoring: its loss or metric. select: how the ensemble was selected.
    """

    problem: Problem
    trials: tuple[Trial, ...]
    weights: np.ndarray
    ensemble: TableModel
    out_of_fold: np.ndarray
    notes: tuple[str, ...]
    ended: str
    seconds: float
    scoring: Scoring
    select: str | int

    @cached_property
    def loss(self) -> float:
        """The ensemble's out-of-fold loss: mean squared error of standardized values, or log loss."""
        return self._of(Scoring(self.problem.targets), self.out_of_fold)

    @cached_property
    def score(self) -> float:
        """The ensemble's out-of-fold value of the search's metric; without one, its loss."""
        return self._of(self.scoring, self.out_of_fold)

    @property
    def best(self) -> int:
        """The number of the best trial by the search's loss or metric."""
        return int(self.records()[0]["trial"])

    @cached_property
    def optimism(self) -> float:
        """How much better the best trial looks than it is, for having been picked among others, in units of the score.

        The score of the best trial, compared with that of picks that are each made on all folds but one and scored on
        that fold. NaN with one fold. Source: nested cross-validation, Varma, Simon, BMC Bioinformatics 7:91 (2006).
        """
        return self._optimism("best")

    @cached_property
    def ensemble_optimism(self) -> float:
        """How much better the ensemble looks than it is, as `optimism`, for its selection."""
        return self._optimism(self.select)

    def _optimism(self, select: str | int) -> float:
        folds = [self._places(rows) for rows in self.problem.folds.validation]
        if len(folds) < 2:
            return float("nan")
        found, choose = out_of_fold([self.trials[i] for i in selectable(self.trials)]), chooser(select)
        prepared, weights = self.problem.validated

        def mean_picked_on(rows: np.ndarray) -> np.ndarray:
            of_rows = None if weights is None else weights[rows]
            picked = choose(self.scoring.objective(found[:, rows], prepared[rows], of_rows))
            return np.tensordot(picked, found.astype(np.float64), 1)

        everywhere = np.arange(len(prepared))
        nested = np.empty(found.shape[1:])
        for fold in folds:
            nested[fold] = mean_picked_on(np.setdiff1d(everywhere, fold))[fold]
        picked, honest = self.scoring.losses(np.stack([mean_picked_on(everywhere), nested]), prepared, weights)
        return float(honest - picked)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of rows among the validated rows."""
        return np.searchsorted(self.problem.folds.validated, rows)

    def _of(self, scoring: Scoring, predicted: np.ndarray, places: np.ndarray | None = None) -> float:
        prepared, weights = self.problem.validated
        if places is not None:
            predicted, prepared = predicted[places], prepared[places]
            weights = None if weights is None else weights[places]
        return float(scoring.scores(predicted[np.newaxis], prepared, weights)[0])

    def _on_fold(self, predicted: np.ndarray, places: np.ndarray) -> float:
        """Return the score on a fold; NaN where it is not defined there, say for a class that the fold lacks."""
        try:
            return self._of(self.scoring, predicted, places)
        except Exception:
            # The function is a user's, and was computed on all rows before.
            return float("nan")

    @cached_property
    def _by_number(self) -> list[dict[str, Any]]:
        places = [self._places(rows) for rows in self.problem.folds.validation]
        plain = Scoring(self.problem.targets)
        sizes = _parameters(self.trials)
        records: list[dict[str, Any]] = []
        for number, trial in enumerate(self.trials):
            losses = [self._of(plain, trial.out_of_fold, fold) for fold in places]
            record: dict[str, Any] = {
                "trial": number, "configuration": trial.configuration.text(),
                "loss": self._of(plain, trial.out_of_fold), "loss_spread": float(np.std(losses)),
                "fold_losses": tuple(losses),
            }  # fmt: skip
            if self.scoring.metric is not None:
                scores = [self._on_fold(trial.out_of_fold, fold) for fold in places]
                record |= {
                    "metric": self.scoring.name, "score": self._of(self.scoring, trial.out_of_fold),
                    "score_spread": float(np.std(scores)), "fold_scores": tuple(scores),
                }  # fmt: skip
            record |= {
                "weight": float(self.weights[number]), "epochs": trial.epochs, "members": len(trial.ids),
                "parameters": sizes[number], "seconds": trial.seconds, "status": trial.status,
                "view": trial.configuration.view,
            }  # fmt: skip
            records.append(record | dict(trial.configuration.member))
        return records

    def records(self) -> Table:
        """Return a record of each trial, best first; it prints as a table, and `to_pandas()` converts it.

        Keys: trial (its number), configuration (in words), loss (out of fold), loss_spread (standard deviation over
        folds), fold_losses; for a search with a metric also metric (its name), score, score_spread and fold_scores (NaN
        where it is not defined on a fold); weight (in the ensemble), epochs (that were finished), members, parameters
        (weights and biases of a member), seconds, status ("done", "stopped" by halving, or "diverged"), view, and the
        arguments of its members. Trials that are not done are last.
        """
        key = "loss" if self.scoring.metric is None else "score"
        sign = -1.0 if self.scoring.grows else 1.0

        def place(record: dict[str, Any]) -> tuple[int, float]:
            value = sign * record[key]
            return ("done", "stopped", "diverged").index(record["status"]), value if value == value else np.inf

        shown = ["trial", "configuration", "loss", "loss_spread", "weight", "epochs", "seconds", "status"]
        if key == "score":
            shown[2:4] = ["score", "score_spread", "loss"]
        return Table([dict(record) for record in sorted(self._by_number, key=place)], tuple(shown))

    def extract(self, trial: int) -> TableModel:
        """Return one trial as a model of its own: the mean of its members, one for each fold, with what they read.

        As the ensemble it takes raw columns, is saved and exported; intervals and the temperature are its own, learned
        from its out-of-fold predictions. trial: its number, as in `records`; that of the best is `best`.

        Raises DataError for a number that no trial has, and for a trial that diverged.
        """
        n = len(self.trials)
        if not checks.is_whole(trial) or not 0 <= trial < n:
            raise DataError(compose("trial", f"a number from 0 to {n - 1}, as in records()", show(trial)))
        if not self.trials[trial].finite:
            hint = f"The best one is {self.best}."
            raise DataError(compose("trial", "one that has not diverged", str(trial), hint))
        weights = np.zeros(n)
        weights[trial] = 1.0
        return ensemble_of(self.problem, self.trials, weights)[0]

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

    def __repr__(self) -> str:
        used = int((self.weights > 0.0).sum())
        score = "" if self.scoring.metric is None else f"{self.scoring.name} {self.score:.4g}, "
        return (
            f"SearchResult({len(self.trials)} configurations, {used} of them in the ensemble, "
            f"{score}loss {self.loss:.4g}, {self.seconds:.1f} s)"
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<p>{html.escape(repr(self))}</p>{notes}{self.records()._repr_html_()}"


def _parameters(trials: tuple[Trial, ...]) -> list[int]:
    """Return the number of weights and biases of a member of each trial; the first fold's, where folds differ."""
    by_pool: dict[int, dict[int, int]] = {}
    for trial in trials:
        if id(trial.pool) not in by_pool:
            by_pool[id(trial.pool)] = {record["id"]: record["parameters"] for record in trial.pool.leaderboard()}
    return [by_pool[id(trial.pool)][int(trial.ids[0])] for trial in trials]
