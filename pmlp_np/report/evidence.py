"""What a report is made from: a search's result, and its validated rows in y's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.table_model import TableModel
from pmlp_np.model_selection.targets import CLASSIFICATION, MULTILABEL, REGRESSION
from pmlp_np.model_selection.trials import Trial

# Longer names are cut: a page shows them side by side.
_LONGEST_NAME = 60
# Half the width of a 95 % interval of a mean, in standard errors.
NORMAL_95 = 1.959964


class Found(Protocol):
    """What a report reads of a search's result (`SearchResult`)."""

    @property
    def problem(self) -> Problem: ...
    @property
    def trials(self) -> tuple[Trial, ...]: ...
    @property
    def weights(self) -> np.ndarray: ...
    @property
    def ensemble(self) -> TableModel: ...
    @property
    def out_of_fold(self) -> np.ndarray: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def ended(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    def records(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Evidence:
    """Validated rows, with what is true, and what was predicted by members that have not seen them.

    targets: a name for each column of y. classes: names of the classes of a classification, else ().
    fold: (n,) the fold that validates a row. true: (n, outputs) values or labels, or (n,) numbers of classes.
    predicted: (n, outputs) values or probabilities. between: (n, outputs) variance between configurations, in
    standardized units. raw: as predicted, before the temperature. constant: (outputs,) what is predicted without any
    column of X: the mean of y, or the shares of classes.
    """

    task: str
    targets: tuple[str, ...]
    classes: tuple[str, ...]
    fold: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    raw: np.ndarray
    between: np.ndarray
    constant: np.ndarray

    @classmethod
    def of(cls, result: Found, names: str | Sequence[str] | None = None) -> Evidence:
        """Return the evidence of a result. names: as for `report_contents`."""
        problem, targets = result.problem, result.problem.targets
        rows = problem.folds.validated
        used = np.flatnonzero(result.weights)
        each = np.stack([result.trials[i].out_of_fold for i in used]).astype(np.float64)
        weights = result.weights[used]
        raw = np.tensordot(weights, each, 1)
        between = np.tensordot(weights, np.square(each - raw), 1)
        fold = np.empty(len(problem.wide), np.int64)
        for k, validation in enumerate(problem.folds.validation):
            fold[validation] = k
        fold = fold[rows]
        true, predicted, constant = problem.prepared[rows], result.out_of_fold, _constant(problem)
        if targets.task == REGRESSION:
            true, predicted, raw, constant = (
                each * targets.scale + targets.mean for each in (true, predicted, raw, constant)
            )
        classes = tuple(class_name(each) for each in targets.classes.tolist()) if _has_classes(problem) else ()
        n_targets = 1 if targets.task == CLASSIFICATION else problem.n_outputs
        return cls(
            targets.task, _names(names, n_targets), classes, fold, true, predicted, raw, between, constant
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.true)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return a name for each column of `predicted`: of targets, or of classes."""
        return self.classes if self.task == CLASSIFICATION else self.targets

    @property
    def is_true(self) -> np.ndarray:
        """Return whether each output is the case, (n, outputs) of 0 and 1, for classes and labels."""
        if self.task == MULTILABEL:
            return self.true
        return (self.true[:, None] == np.arange(len(self.classes))).astype(np.float64)


def _has_classes(problem: Problem) -> bool:
    return problem.targets.task == CLASSIFICATION


def _constant(problem: Problem) -> np.ndarray:
    """Return the mean of targets over all rows, or the share of each class, (outputs,)."""
    if _has_classes(problem):
        return np.bincount(problem.prepared, minlength=problem.n_outputs) / len(problem.prepared)
    return np.asarray(problem.prepared.mean(axis=0))


def class_name(value: Any) -> str:
    """Return a class as text: whole numbers without a point, long texts cut."""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return shortened(text)


def shortened(text: str) -> str:
    """Return a text of at most 60 characters."""
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _names(names: str | Sequence[str] | None, n: int) -> tuple[str, ...]:
    if names is None:
        return ("y",) if n == 1 else tuple(f"y {i}" for i in range(n))
    found = (names,) if isinstance(names, str) else tuple(names)
    if len(found) != n or not all(isinstance(name, str) and name for name in found):
        raise DataError(compose("names", f"{n} text(s), one for each column of y", show(names)))
    return tuple(shortened(name) for name in found)
