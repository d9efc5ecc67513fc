"""Targets: what a task makes of y, and predictions in y's own terms."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, listed, show
from pmlp_np.data.containers import as_numbers, require_plain
from pmlp_np.data.preprocessing.raw_table import is_missing

REGRESSION, CLASSIFICATION, MULTILABEL = "regression", "classification", "multilabel"
TASKS = (REGRESSION, CLASSIFICATION, MULTILABEL)
# A target of whole numbers is one of classes if it has so few values, each in so many rows.
_MOST_NUMBERED_CLASSES, _ROWS_PER_CLASS = 20, 10


@dataclass(frozen=True)
class Targets:
    """A task's targets.

    task: one of TASKS. classes: of a classification, sorted, as y had them. mean, scale: (outputs,) of regression.
    flat: whether y had one dimension.
    """

    task: str
    classes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    flat: bool

    @classmethod
    def learn(cls, y: Any, task: str | None = None, classes: Any = None) -> tuple[Targets, np.ndarray]:
        """Return the targets of training rows, and what members are trained on.

        That are standardized values (n, outputs) float64; numbers of classes (n,) int64; or labels (n, outputs) 0 or 1.
        classes: all classes of a classification, if y may lack some. Raises DataError for a y that suits no task, or
        not this one.
        """
        if task is not None and task not in TASKS:
            raise DataError(compose("task", "one of " + ", ".join(map(repr, TASKS)), show(task)))
        values = as_targets(y)
        task = task or _task_of(values)
        none = np.zeros(0)
        if task == CLASSIFICATION:
            if classes is None:
                return _classes(values)
            targets, _ = _classes(as_targets(classes))
            return targets, targets.prepared(values)
        given, columns = _number_columns(values)
        if task == MULTILABEL:
            _require_labels(given)
            return cls(task, none, none, none, False), columns
        # By the largest number, so that no square overflows or vanishes.
        largest = np.abs(columns).max(axis=0)
        unit = np.where(largest > 0.0, largest, 1.0)
        deviation = (columns / unit).std(axis=0)
        mean, scale, varies = (columns / unit).mean(axis=0) * unit, deviation * unit, deviation > 1e-14
        if not varies.any():
            got = f"{show(float(columns[0, 0]))} in all {len(columns):,} rows"
            raise DataError(compose("y", "at least two different values", got, "There is nothing to learn from it."))
        scale = np.where(varies, scale, 1.0)
        targets = cls(task, none, mean, scale, given.ndim == 1)
        return targets, (columns - targets.mean) / scale

    def prepared(self, y: Any) -> np.ndarray:
        """Return what members are trained on, of other rows than those that targets were learned from.

        Raises DataError for a class that is not known, another number of outputs, and what `learn` refuses.
        """
        values = as_targets(y)
        if self.task == CLASSIFICATION:
            _require_classes(values)
            number = {each: i for i, each in enumerate(self.classes.tolist())}
            found = [number.get(each, -1) for each in values.tolist()]
            if -1 in found:
                row = found.index(-1)
                expected = "one of the classes " + listed(map(repr, self.classes.tolist()))
                hint = "All classes must be known at the first call."
                raise DataError(compose(f"y, row {row}", expected, show(values.tolist()[row]), hint))
            return np.array(found, np.int64)
        given, columns = _number_columns(values)
        if self.task == MULTILABEL:
            _require_labels(given)
            return columns
        if columns.shape[1] != len(self.mean):
            raise DataError(compose("y", f"{len(self.mean)} output(s), as before", f"{columns.shape[1]}"))
        return np.asarray((columns - self.mean) / self.scale)

    @property
    def loss(self) -> str:
        """Return the name of the loss that members are trained with."""
        return {REGRESSION: "squared_error", CLASSIFICATION: "cross_entropy", MULTILABEL: "binary_cross_entropy"}[
            self.task
        ]

    def n_outputs(self, prepared: np.ndarray) -> int:
        """Return the number of outputs. prepared: what members are trained on."""
        return len(self.classes) if self.task == CLASSIFICATION else int(prepared.shape[1])

    def columns(self, prepared: np.ndarray) -> np.ndarray:
        """Return targets as columns of numbers, whose means in categories say something: (n, columns) float64.

        Of two classes one column, of more than eight none.
        """
        if self.task != CLASSIFICATION:
            return prepared
        n = len(self.classes)
        wanted = {2: [1]}.get(n, list(range(n)) if n <= 8 else [])
        return (prepared[:, None] == np.array(wanted, np.int64)).astype(np.float64)

    def predictions(self, mean: np.ndarray) -> np.ndarray:
        """Return predictions in y's terms from means over members, (n, outputs): of values or of probabilities."""
        if self.task == CLASSIFICATION:
            return np.asarray(self.classes[mean.argmax(axis=1)])
        if self.task == MULTILABEL:
            return (mean > 0.5).astype(np.int64)
        values = mean * self.scale + self.mean
        return values[:, 0] if self.flat else values


def as_targets(y: Any) -> np.ndarray:
    """Return y as an array (n,) or (n, outputs); one column becomes (n,). Raises DataError for anything else."""
    if y is None:
        raise DataError(compose("y", "targets", "None (requires y to be passed, but the target y is None)"))
    require_plain(y, "y")
    array = np.asarray(y) if not hasattr(y, "to_numpy") else np.asarray(y.to_numpy())
    if array.dtype.kind == "c":
        raise DataError(compose("y", "real numbers", "Complex data not supported"))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or not len(array):
        raise DataError(compose("y", "targets of rows, (n_samples,) or (n_samples, n_outputs)", f"shape {array.shape}"))
    return array


def _task_of(y: np.ndarray) -> str:
    if y.ndim == 2:
        return MULTILABEL if y.dtype.kind in "biu" and np.isin(y, (0, 1)).all() else REGRESSION
    if y.dtype.kind in "OUSb":
        objects_are_numbers = y.dtype.kind == "O" and all(
            isinstance(each, (int, float, np.number, Decimal)) and not isinstance(each, bool) for each in y
        )
        if not objects_are_numbers:
            return CLASSIFICATION
        y = y.astype(np.float64)
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        return REGRESSION
    values = np.unique(y)
    few = len(values) <= _MOST_NUMBERED_CLASSES and _ROWS_PER_CLASS * len(values) <= len(y)
    return CLASSIFICATION if few else REGRESSION


def _number_columns(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return finite numbers as they are, and as columns, float64."""
    if values.dtype.kind == "O" and all(isinstance(each, Decimal) for each in values.flat):
        values = values.astype(np.float64)
    found = as_numbers(values, "y").astype(np.float64)
    if not np.isfinite(found).all():
        raise DataError(compose("y", "finite numbers", "NaN or infinity (Input contains NaN or infinity)"))
    return found, found.reshape(len(found), -1)


def _require_labels(given: np.ndarray) -> None:
    if given.ndim != 2 or not np.isin(given, (0.0, 1.0)).all():
        raise DataError(compose("y", "labels 0 and 1, (n_samples, n_labels)", f"shape {given.shape}"))


def _require_classes(values: np.ndarray) -> None:
    """Raise DataError unless every row has a class."""
    if values.ndim != 1:
        raise DataError(compose("y", "a class per row, (n_samples,)", f"shape {values.shape}"))
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DataError(compose("y", "a class in every row", "NaN or infinity (Input contains NaN or infinity)"))
        if not (values == np.floor(values)).all():
            raise DataError(compose("y", "classes", "numbers with fractions (Unknown label type: continuous)"))
    for row, each in enumerate(values if values.dtype.kind == "O" else ()):
        if is_missing(each):
            raise DataError(compose(f"y, row {row}", "a class", "a missing one (Input contains NaN)"))
    unusual = next((each for each in values.tolist() if not isinstance(each, (str, numbers.Real, np.bool_))), None)
    if unusual is not None:
        got = f"{show(unusual)}, of type {type(unusual).__name__}"
        raise DataError(compose("y", "classes that are texts, numbers or booleans", got, "Convert them to texts."))


def _classes(values: np.ndarray) -> tuple[Targets, np.ndarray]:
    _require_classes(values)
    try:
        classes, prepared = np.unique(values, return_inverse=True)
    except TypeError:
        types = listed(sorted({type(each).__name__ for each in values}))
        raise DataError(compose("y", "classes of one type", types)) from None
    if len(classes) < 2:
        got = f"one class, {show(values.tolist()[0])} (only 1 class)"
        raise DataError(compose("y", "at least two classes", got, "There is nothing to learn from it."))
    none = np.zeros(0)
    return Targets(CLASSIFICATION, classes, none, none, True), prepared.astype(np.int64)
