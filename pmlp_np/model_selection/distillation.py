"""Distillation: one small network that predicts nearly what an ensemble predicts.

The network is trained on the ensemble's predictions mixed with y, and on rows between those of the table, which the
ensemble labels (Hinton, Vinyals, Dean, arXiv 1503.02531; for tables Fakoor et al., FAST-DAD, NeurIPS 2020).
Cross-entropy takes probabilities as rows that are there once for each class, weighted by its probability: the sum of
their losses is the cross-entropy with the probabilities.

What is lost is measured out of fold. For each fold, networks of the wanted size are trained on the fold's training
rows, labeled by those members of the ensemble that were trained on the same rows alone. On the fold's other rows they
are compared with these members, whose predictions there are the ensemble's out-of-fold predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, DivergedWarning, compose, require_memory, show
from pmlp_np.base.table import Table
from pmlp_np.data.encoded import EncodedTable
from pmlp_np.data.preprocessing.feature_views import BLOCKS, PLAIN
from pmlp_np.data.preprocessing.raw_table import part
from pmlp_np.model_selection.augmented_rows import augmented_rows
from pmlp_np.model_selection.calibration import Spread, log_loss_of
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_result import SearchResult
from pmlp_np.model_selection.soft_labels import as_weighted_labels
from pmlp_np.model_selection.table_model import TableModel, weights_of
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.pool.pool import Pool

# The ensemble's share in the targets of rows whose y is known.
_ENSEMBLE_SHARE = 0.7
# New rows: so many times the rows of the table, at most so many beyond its own number.
_TIMES, _MOST_NEW = 4, 20_000
# Epochs are such that a network sees about so many rows.
_VISITS, _LEAST_EPOCHS, _MOST_EPOCHS = 3_000_000, 10, 300
# At most so many folds measure what is lost; so many networks of the best configuration are trained on all rows, and
# so many new rows tell which of them is nearest to the ensemble.
_MOST_FOLDS, _SEEDS, _COMPARED_ROWS = 5, 4, 2000
_BATCH_SIZE = 64
_TRAINABLE = "a network that can be trained on this table"
_ACTIVATIONS, _LEARNING_RATES = ("relu", "silu", "tanh"), (1e-2, 3e-2)


@dataclass(frozen=True, repr=False)
class Distilled:
    """A small model, and what is lost by it.

    model: a pm.TableModel of one network.
    loss: of networks that were distilled alike, on rows that neither they nor the members that labeled their rows were
        trained on. ensemble_loss: of these members on the same rows. Mean squared errors of standardized values, or log
        losses.
    difference: between the model and the ensemble, on new rows that it was not trained on: the root of the mean squared
        difference of standardized values, or of probabilities.
    candidates: a record of each configuration that was tried, best first.
    n_parameters, ensemble_n_parameters: weights and biases.
    """

    model: TableModel
    loss: float
    ensemble_loss: float
    difference: float
    candidates: Table
    n_parameters: int
    ensemble_n_parameters: int

    def __repr__(self) -> str:
        return (
            f"Distilled({self.candidates[0]['configuration']}, {self.n_parameters:,} parameters instead of "
            f"{self.ensemble_n_parameters:,}; out-of-fold loss {self.loss:.4g} instead of {self.ensemble_loss:.4g})"
        )


@dataclass(frozen=True)
class _Lesson:
    """Rows to train on: (n, inputs) of the wide matrix, targets (n, outputs) of values or probabilities, weights."""

    wide: EncodedTable
    targets: np.ndarray
    weights: np.ndarray


def distill(
    result: SearchResult,
    hidden: int | Sequence[int] = (32,),
    view: str = "raw",
    activation: str | None = None,
    n_new_rows: int | None = None,
    max_epochs: int | None = None,
    n_threads: int | None = None,
    seed: int = 0,
    progress: bool | str = "auto",
) -> Distilled:
    """Distill the ensemble of a search into one network.

    Networks of a few activations and learning rates are trained on the ensemble's predictions, mixed with y, and on new
    rows between those of the table. The configuration is chosen out of fold, then the network by how near it is to the
    ensemble on further new rows.

    result: of `pm.search`. hidden: widths of the network's hidden layers; () for a linear model. Default (32,).
    view: the encodings of numbers that it reads, blocks joined by +: "raw" (default), which takes least code and
        constants in an export, "quant", "ple", "ple8", "per". Categories are read besides.
    activation: of hidden layers. Default None: the best of relu, silu and tanh.
    n_new_rows: how many rows are made. Default None: four times as many as the table has, at most 20,000 or as many.
    max_epochs: epochs of training. Default None: 300 for few rows, down to 10.
    seed: of new rows and initial weights; default 0. The result is the same on any machine. n_threads, progress: as for
        `Pool.fit`.

    Returns a result with `model`, a `pm.TableModel`, and with `loss` and `ensemble_loss`, which say what is lost.

    Raises DataError for an unknown view and for numbers that are not whole, SpecError for hidden layers or activations
    that members can't have.
    """
    problem, ensemble = result.problem, result.ensemble
    students = _configurations(hidden, view, activation)
    for name, value, least in (("n_new_rows", n_new_rows, 0), ("max_epochs", max_epochs, 1), ("seed", seed, 0)):
        if value is not None:
            checks.whole(name, value, least, 2**31)
    how = {"batch_size": _BATCH_SIZE, "n_threads": n_threads, "progress": progress}
    training = _Training(problem, n_new_rows, max_epochs, seed, how)

    folds = range(min(len(problem.folds), _MOST_FOLDS))
    held_out = np.concatenate([problem.folds.validation[k] for k in folds])
    found = np.concatenate([training.on_fold(ensemble, students, k) for k in folds], axis=1)
    losses = np.array([_loss_of(problem, each, held_out) for each in found])
    losses = np.where(np.isfinite(losses), losses, np.inf)
    if np.isinf(losses).all():
        raise DataError(compose("hidden", _TRAINABLE, f"{show(hidden)}, of which all diverged"))
    order = np.argsort(losses, kind="stable")
    best = int(order[0])
    candidates = Table(
        [{"configuration": students[i].text(), "loss": float(losses[i]), **students[i].member} for i in order],
        ("configuration", "learning_rate", "loss"),
    )

    pool, difference = training.on_all_rows(result, students[best])
    targets, spread = problem.targets, None
    if targets.task == REGRESSION:
        residuals = problem.prepared[held_out] - found[best]
        spread = Spread.learn(residuals, np.zeros_like(residuals))
    model = TableModel(problem.views, problem.blocks, targets, ((pool, pool.ids_),), np.ones(1), spread)
    place = np.full(len(problem.wide), -1)
    place[problem.folds.validated] = np.arange(len(problem.folds.validated))
    of_ensemble = _loss_of(problem, result.out_of_fold[place[held_out]], held_out)
    return Distilled(
        model, float(losses[best]), of_ensemble, difference, candidates, model.n_parameters(), ensemble.n_parameters()
    )


def _configurations(hidden: int | Sequence[int], view: str, activation: str | None) -> list[Configuration]:
    """Return the configurations to try. Raises DataError for a view, SpecError for members that can't be."""
    if not isinstance(view, str) or not set(view.split("+")) <= set(BLOCKS):
        raise DataError(compose("view", f"blocks of {', '.join(BLOCKS)}, joined by +", show(view)))
    shape: tuple[Any, ...] = tuple(hidden) if isinstance(hidden, Iterable) else (hidden,)
    plain = {
        "hidden": shape, "optimizer": "adam", "beta2": 0.95, "decoupled_weight_decay": 0.02, "schedule": "cosine",
        "average": 0.99,
    }  # fmt: skip
    activations = _ACTIVATIONS if activation is None else (activation,)
    # A linear model has no activation.
    kinds = [{"activation": name} for name in activations] if shape else [{}]
    found = [
        Configuration({**plain, **kind, "learning_rate": rate}, view) for kind in kinds for rate in _LEARNING_RATES
    ]
    for each in found:
        each.spec(1, 1)
    return found


def _loss_of(problem: Problem, predicted: np.ndarray, rows: np.ndarray) -> float:
    """Return the loss of predictions of these rows; NaN where they are not numbers."""
    prepared = problem.prepared[rows]
    if problem.targets.task == REGRESSION:
        return float(np.mean(np.square(predicted - prepared)))
    return log_loss_of(predicted, prepared, problem.targets.task) if np.isfinite(predicted).all() else float("nan")


@dataclass(frozen=True)
class _Training:
    """Trains networks on an ensemble's predictions. how: further arguments of `fit`."""

    problem: Problem
    n_new_rows: int | None
    max_epochs: int | None
    seed: int
    how: dict[str, Any]

    def on_fold(self, ensemble: TableModel, students: Sequence[Configuration], fold: int) -> np.ndarray:
        """Return predictions of a fold's validation rows by networks that learn from its members.

        They are (students, rows, outputs).
        """
        problem = self.problem
        teacher = replace(ensemble, members=tuple((pool, ids[fold : fold + 1]) for pool, ids in ensemble.members))
        rows = problem.folds.training[fold]
        draw = np.random.default_rng([self.seed, fold])
        lesson = self._lesson(teacher, teacher.means(problem.wide[rows]), rows, draw)
        pool = self._trained(lesson, students, fold, fold, draw)
        return _predicted(pool, problem, problem.wide[problem.folds.validation[fold]])

    def on_all_rows(self, result: SearchResult, student: Configuration) -> tuple[Pool, float]:
        """Return a pool of the network, trained on all rows, that is nearest to the ensemble, and how near it is."""
        problem, ensemble = self.problem, result.ensemble
        rows = np.arange(len(problem.wide))
        validated = problem.folds.validated
        means = np.empty((len(rows), problem.n_outputs))
        means[validated] = result.out_of_fold
        # Rows that no fold validates have only predictions by members that were trained on them.
        others = np.setdiff1d(rows, validated)
        if len(others):
            means[others] = ensemble.means(problem.wide[others])
        draw = np.random.default_rng([self.seed, len(problem.folds)])
        lesson = self._lesson(ensemble, means, rows, draw)
        pool = self._trained(lesson, [student] * _SEEDS, 0, len(problem.folds), draw)
        wide, _ = self._new_rows(rows, _COMPARED_ROWS, draw)
        found, expected = _predicted(pool, problem, wide), ensemble.means(wide)
        differences = np.sqrt(np.mean(np.square(found - expected), axis=(1, 2)))
        if not np.isfinite(differences).any():
            raise DataError(compose("hidden", _TRAINABLE, f"{student.text()}, which diverged"))
        nearest = int(np.nanargmin(differences))
        return pool.subset(pool.ids_[nearest : nearest + 1]), float(differences[nearest])

    def _lesson(self, teacher: TableModel, means: np.ndarray, rows: np.ndarray, draw: np.random.Generator) -> _Lesson:
        """Return the lesson of a teacher: rows with its means mixed with y, and new rows with its predictions."""
        problem, n = self.problem, len(rows)
        count = min(_TIMES * n, max(n, _MOST_NEW)) if self.n_new_rows is None else int(self.n_new_rows)
        own = _ENSEMBLE_SHARE * means + (1.0 - _ENSEMBLE_SHARE) * _columns_of(problem, rows)
        weights = np.ones(n) if problem.weights is None else problem.weights[rows]
        if not count or n < 2:
            return _Lesson(problem.wide[rows], own, weights)
        wide, first = self._new_rows(rows, count, draw)
        return _Lesson(
            EncodedTable.concatenate([problem.wide[rows], wide]),
            np.concatenate([own, teacher.means(wide)]),
            np.concatenate([weights, weights[first]]),
        )

    def _new_rows(self, rows: np.ndarray, count: int, draw: np.random.Generator) -> tuple[EncodedTable, np.ndarray]:
        """Return new rows of the wide matrix, between these, and the place in `rows` of the first of each two."""
        problem = self.problem
        near = np.concatenate([
            np.arange(width) + start for name, start, width in _starts(problem) if name in ("raw", PLAIN)
        ])  # fmt: skip
        made, first = augmented_rows(part(problem.table, rows), problem.wide.plain[rows][:, near], count, draw)
        return problem.views.wide(made, problem.blocks), first

    def _trained(
        self, lesson: _Lesson, students: Sequence[Configuration], fold: int, number: int, draw: np.random.Generator
    ) -> Pool:
        """Return a pool of networks that learned the lesson. fold: whose means of the target in categories are read."""
        problem, (wide, y, weights) = self.problem, self._examples(lesson, draw)
        planned = int(np.clip(_VISITS // len(wide), _LEAST_EPOCHS, _MOST_EPOCHS))
        epochs = planned if self.max_epochs is None else int(self.max_epochs)
        steps = epochs * -(-len(wide) // _BATCH_SIZE)
        specs = [student.spec(epochs, steps) for student in students]
        pool = Pool(specs, wide.shape[1], problem.n_outputs, problem.targets.loss, seed=self.seed + number)
        inputs = [problem.inputs_of(student.view, fold) for student in students]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergedWarning)
            return pool.fit(wide, y, epochs=epochs, features=inputs, sample_weight=weights, **self.how)

    def _examples(self, lesson: _Lesson, draw: np.random.Generator) -> tuple[EncodedTable, np.ndarray, np.ndarray]:
        """Return what members are trained on: rows of the wide matrix, targets, weights."""
        if self.problem.targets.task != CLASSIFICATION:
            return lesson.wide, lesson.targets, lesson.weights
        rows, labels, shares = as_weighted_labels(lesson.targets, draw)
        require_memory("n_new_rows", len(rows) * lesson.wide.nbytes // len(lesson.wide), "Make fewer new rows.")
        return lesson.wide[rows], labels, shares * lesson.weights[rows]


def _starts(problem: Problem) -> list[tuple[str, int, int]]:
    """Return (name, first column in the wide matrix, width) of each block."""
    widths = [problem.views.width(name) for name in problem.blocks]
    starts = np.cumsum([0, *widths[:-1]]).tolist()
    return list(zip(problem.blocks, starts, widths, strict=True))


def _columns_of(problem: Problem, rows: np.ndarray) -> np.ndarray:
    """Return y of rows as means are: values, or probabilities 0 and 1."""
    prepared = problem.prepared[rows]
    if problem.targets.task == CLASSIFICATION:
        return (prepared[:, None] == np.arange(problem.n_outputs)).astype(np.float64)
    return prepared


def _predicted(pool: Pool, problem: Problem, wide: EncodedTable) -> np.ndarray:
    """Return values or probabilities, (members, rows, outputs) float64."""
    method = pool.predict if problem.targets.task == REGRESSION else pool.predict_proba
    found = np.asarray(method(wide, weights=weights_of(pool)), np.float64)
    return found.reshape(len(pool), len(wide), -1)
