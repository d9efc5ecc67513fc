"""Metrics: scikit-learn's usual ones by name, for many members at once, and the targets each is defined for.

A metric is computed from the results of `predict` and `predict_proba`, and has scikit-learn's value. With several
labels per row (binary cross-entropy) scikit-learn has no balanced accuracy and no log loss: here they are the mean over
the labels. Rows of weight 0 count as absent.

To add a metric, write its function of an `Outcome` under `@metric(...)`, whose arguments hold all else: whether larger
is better, targets, label, unit, aliases. Nothing else needs to change.

Apart from probabilities of several classes, metrics are sums and comparisons, and sums run over contiguous rows: a
member's value has the same bits whichever other members are scored with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, unknown_name
from pmlp_np.formulas.losses import LOSSES, Loss

# Members are scored in pieces whose raw outputs take this many bytes (at least one member a piece). With all temporary
# arrays a piece takes up to 24 times as much (measured; a test checks it).
PIECE_BYTES, BYTES_PER_OUTPUT_BYTE = 4 << 20, 24


class Outcome:
    """Raw outputs of some members on rows that they share, and the targets of these rows.

    raw: (members, rows, raw outputs). targets: (n_targets, rows), a line per output or one line of labels.
    weight: (rows,) float64, at least 0 and not all 0, or None where all rows weigh the same.
    """

    def __init__(self, loss: Loss, raw: np.ndarray, targets: np.ndarray, weight: np.ndarray | None = None) -> None:
        self.loss, self.raw, self.targets, self.weight = loss, raw, targets, weight

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.raw.shape[-1] if self.loss.targets == "labels" else 2

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted mean over rows, the last axis, which is contiguous: each sum has one order."""
        if self.weight is None:
            return values.sum(axis=-1) / values.shape[-1]
        return (values * self.weight).sum(axis=-1) / self.weight.sum()

    @cached_property
    def errors(self) -> np.ndarray:
        """Predictions minus targets, (members, outputs, rows) float64."""
        n_members, n_rows = self.raw.shape[:2]
        predicted = self.loss.predictions(self.raw).reshape(n_members, n_rows, -1)
        errors = np.empty((n_members, len(self.targets), n_rows))
        return np.subtract(predicted.transpose(0, 2, 1), self.targets, out=errors, dtype=np.float64)

    @cached_property
    def classes(self) -> np.ndarray:
        """Predicted classes, (members, labels per row, rows) int64."""
        n_members, n_rows = self.raw.shape[:2]
        classes = self.loss.labels(self.raw).reshape(n_members, n_rows, -1)
        return np.ascontiguousarray(classes.transpose(0, 2, 1))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities as from `predict_proba`, (members, rows, outputs)."""
        return self.loss.probabilities(self.raw)

    @cached_property
    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True positives, predicted positives and actual positives of each class: number of rows, or their weight.

        Each (members or 1, labels per row, classes).
        """
        true = self.targets.astype(np.int64)
        shape = (*self.classes.shape[:2], self.n_classes)
        predicted_bin = self.classes + self.n_classes * np.arange(shape[0] * shape[1]).reshape(*shape[:2], 1)
        true_bin = true + self.n_classes * np.arange(len(true))[:, None]

        def count(bins: np.ndarray, weight: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
            if weight is not None:
                weight = np.broadcast_to(weight, bins.shape).ravel()
            return np.bincount(bins.ravel(), weight, int(np.prod(shape))).reshape(shape).astype(np.float64)

        hit = (self.classes == true) * (1.0 if self.weight is None else self.weight)
        return (
            count(predicted_bin, hit, shape),
            count(predicted_bin, self.weight, shape),
            count(true_bin, self.weight, (1, *shape[1:])),
        )

    def recalls(self) -> np.ndarray:
        """Return the recall of each class, (members, labels per row, classes); NaN for classes without rows."""
        hits, _, true = self._counts
        return _ratio(hits, true, np.nan)

    def f1_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the F1 score of each class, and a mask of the classes among targets or predictions.

        F1 = 2 TP / (2 TP + FP + FN), 0 for the other classes. Both (members, labels per row, classes).
        """
        hits, predicted, true = self._counts
        return _ratio(2.0 * hits, predicted + true, 0.0), predicted + true > 0


def _ratio(a: np.ndarray, b: np.ndarray, otherwise: float) -> np.ndarray:
    """Return a / b, and `otherwise` where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, otherwise), where=b != 0.0)


def _mean_over_classes(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the mean over labels of the mean over the counted classes, (members,)."""
    sums = np.where(counted, values, 0.0).sum(axis=-1)
    return (sums / np.broadcast_to(counted, values.shape).sum(axis=-1)).mean(axis=-1)


def _mean_squares(o: Outcome) -> np.ndarray:
    return o.mean(o.errors * o.errors)


def _r2_of(mean_squares: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return R² = 1 - mean squared error / variance of the targets, by output, (..., outputs).

    With constant targets: 1 if the error is 0, else 0.
    """
    y = targets.astype(np.float64)
    center = np.average(y, axis=1, weights=weight)[:, None]
    variance = np.average((y - center) ** 2, axis=1, weights=weight)
    # The variance of constant targets is exactly 0, even if their mean was rounded.
    counted = y if weight is None else y[:, weight > 0.0]
    variance = np.where((counted == counted[:, :1]).all(axis=1), 0.0, variance)
    return np.where(variance != 0.0, 1.0 - _ratio(mean_squares, variance, 0.0), 0.0 + (mean_squares == 0.0))


def _itself(score: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    return score


def _r2_of_rmse(score: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    return _r2_of(score[:, None] ** 2, targets, weight)[:, 0]


_Check = Callable[[str, Loss, int, np.ndarray, "np.ndarray | None"], None]
_VALUES, _CLASSES = ("values",), ("labels", "probabilities")


def _two_rows(argument: str, loss: Loss, n_outputs: int, targets: np.ndarray, weight: np.ndarray | None) -> None:
    if (targets.shape[1] if weight is None else int((weight > 0.0).sum())) < 2:
        raise DataError(compose(argument, "at least two rows, to compute r2", "one"))


def _hard_labels(argument: str, loss: Loss, n_outputs: int, targets: np.ndarray, weight: np.ndarray | None) -> None:
    if loss.targets == "probabilities" and not ((targets == 0.0) | (targets == 1.0)).all():
        odd = targets[(targets != 0.0) & (targets != 1.0)][0].item()
        hint = "accuracy and log_loss take values between them."
        raise DataError(compose(argument, "labels 0 and 1, to count them in a metric", f"{odd:.6g}", hint))


def _every_class(argument: str, loss: Loss, n_outputs: int, targets: np.ndarray, weight: np.ndarray | None) -> None:
    _hard_labels(argument, loss, n_outputs, targets, weight)
    counted = targets if weight is None else targets[:, weight > 0.0]
    for k, line in enumerate(counted):
        missing = np.setdiff1d(np.arange(n_outputs if loss.targets == "labels" else 2), line)
        if len(missing):
            which = f"class {missing[0]}" + (f" of label {k}" if len(counted) > 1 else "")
            raise DataError(compose(argument, "rows of every class, to compute roc_auc", f"none of {which}"))


@dataclass(frozen=True)
class Metric:
    """A metric: its function, whether larger is better, the kinds of targets it is defined for, and its labels.

    function: from an Outcome to (members,) float64.
    grows: whether larger is better.
    label: a short name, for tables.
    long_label: the name in words, where the label is an abbreviation; "": the label.
    unit: "%" of shares, which are shown in percent, "target" of metrics in the target's unit, "" of other numbers.
    aliases: scikit-learn's names of the metric. Its scorers with a flipped sign ("neg_...") are aliases, too; the sign
        is not flipped.
    check: raises DataError for targets for which the metric is not defined.
    of_score: by the name of a loss's score, the function that computes the metric from it, (finished score, targets,
        weight) -> values, where there is one output or one label.
    of_losses: losses, with the parameters' defaults, whose mean is the metric.
    """

    function: Callable[[Outcome], np.ndarray]
    grows: bool
    targets: tuple[str, ...]
    label: str
    long_label: str = ""
    unit: str = ""
    aliases: tuple[str, ...] = ()
    check: _Check = lambda *arguments: None
    of_score: Mapping[str, Callable[..., np.ndarray]] = field(default_factory=dict)
    of_losses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def in_words(self) -> str:
        """The metric's name in words."""
        return self.long_label or self.label

    @property
    def is_share(self) -> bool:
        """Whether the metric is shown in percent."""
        return self.unit == "%"

    @property
    def needs_every_class(self) -> bool:
        """Whether the metric is defined only on rows that include every class."""
        return self.check is _every_class


METRICS: dict[str, Metric] = {}
METRIC_ALIASES: dict[str, str] = {}
_Function = Callable[[Outcome], np.ndarray]


def metric(grows: bool, targets: tuple[str, ...], label: str, **facts: Any) -> Callable[[_Function], _Function]:
    """Enter a function into the table of metrics under its name. The arguments are the fields of Metric."""

    def enter(function: _Function) -> _Function:
        entry = Metric(function, grows, targets, label, **facts)
        METRICS[entry.name] = entry
        METRIC_ALIASES.update(dict.fromkeys(entry.aliases, entry.name))
        return function

    return enter


@metric(True, _VALUES, "R²", aliases=("r2_score",), check=_two_rows, of_score={"rmse": _r2_of_rmse})
def r2(o: Outcome) -> np.ndarray:
    """1 - Σ (p - y)² / Σ (y - ȳ)², mean over outputs. sklearn.metrics.r2_score."""
    return _r2_of(_mean_squares(o), o.targets, o.weight).mean(axis=-1)


@metric(
    False,
    _VALUES,
    "RMSE",
    long_label="root-mean-square error",
    unit="target",
    aliases=("root_mean_squared_error", "neg_root_mean_squared_error"),
    of_score={"rmse": _itself},
)
def rmse(o: Outcome) -> np.ndarray:
    """√ mean (p - y)², mean over outputs. sklearn.metrics.root_mean_squared_error."""
    return np.sqrt(_mean_squares(o)).mean(axis=-1)


@metric(
    False,
    _VALUES,
    "MAE",
    long_label="mean absolute error",
    unit="target",
    aliases=("mean_absolute_error", "neg_mean_absolute_error"),
    of_score={"mae": _itself},
)
def mae(o: Outcome) -> np.ndarray:
    """Mean |p - y|, mean over outputs. sklearn.metrics.mean_absolute_error."""
    return o.mean(np.abs(o.errors)).mean(axis=-1)


@metric(True, _CLASSES, "accuracy", unit="%", aliases=("accuracy_score",), of_score={"accuracy": _itself})
def accuracy(o: Outcome) -> np.ndarray:
    """Share of rows whose labels are all correct. sklearn.metrics.accuracy_score."""
    return o.mean((np.abs(o.classes - o.targets) < 0.5).all(axis=1))


@metric(True, _CLASSES, "balanced accuracy", unit="%", aliases=("balanced_accuracy_score",), check=_hard_labels)
def balanced_accuracy(o: Outcome) -> np.ndarray:
    """Mean recall of the classes among the targets. sklearn.metrics.balanced_accuracy_score."""
    recalls = o.recalls()
    return _mean_over_classes(recalls, ~np.isnan(recalls))


@metric(True, _CLASSES, "F1", long_label="F1 score", aliases=("f1_score",), check=_hard_labels)
def f1(o: Outcome) -> np.ndarray:
    """2 TP / (2 TP + FP + FN): of class 1 with two classes, else the mean over the classes. sklearn.metrics.f1_score.

    The mean is over the classes among targets or predictions (average="macro"). Of several labels: the mean over them.
    """
    scores, counted = o.f1_scores()
    return scores[..., 1].mean(axis=-1) if o.n_classes == 2 else _mean_over_classes(scores, counted)


@metric(True, _CLASSES, "ROC AUC", aliases=("auc", "roc_auc_score", "roc_auc_ovr"), check=_every_class)
def roc_auc(o: Outcome) -> np.ndarray:
    """Area under the ROC curve: of class 1 with two classes, else the one-vs-rest mean. sklearn.metrics.roc_auc_score.

    It is the probability that a row of the class gets a higher score for it than a row of another class; ties count
    half. Of several labels: the mean over them.
    """
    p = o.probabilities
    if o.loss.targets == "labels":
        outputs = [1] if o.n_classes == 2 else list(range(o.n_classes))
        areas = [_area(p[..., k], o.targets[0] == k, o.weight) for k in outputs]
    else:
        areas = [_area(p[..., k], line > 0.5, o.weight) for k, line in enumerate(o.targets)]
    return np.mean(areas, axis=0)


@metric(False, _CLASSES, "log loss", aliases=("neg_log_loss",), of_losses=("cross_entropy", "binary_cross_entropy"))
def log_loss(o: Outcome) -> np.ndarray:
    """-mean log p(target), from raw outputs, so that nothing is clipped. sklearn.metrics.log_loss.

    Of several labels: the mean over them.
    """
    loss = LOSSES["cross_entropy" if o.loss.targets == "labels" else "binary_cross_entropy"]
    raw = np.ascontiguousarray(np.moveaxis(o.raw, -1, 0), np.float64)
    targets = o.targets[0] if o.loss.targets == "labels" else o.targets[:, None]
    return o.mean(loss.function(raw, targets.astype(np.float64))[0])


def _area(score: np.ndarray, positive: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the area under the ROC curve, (members,). score: (members, rows), positive: (rows,)."""
    # Sums of weights, unlike counts, depend on the order of ties in their last digit.
    order = np.argsort(score, axis=1, kind=None if weight is None else "stable")
    up = positive * (1.0 if weight is None else weight)
    down = ~positive * (1.0 if weight is None else weight)
    ranked = np.take_along_axis(score, order, axis=1)
    begins = np.ones(ranked.shape, bool)
    begins[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.ones(ranked.shape, bool)
    ends[:, :-1] = begins[:, 1:]
    up_ranked, down_ranked = up[order], down[order]
    through = np.cumsum(down_ranked, axis=1)
    # Weight of negatives with a lower score, and with a lower or equal one. Both never fall along a row, so that a
    # running maximum (minimum) spreads the value over each run of ties.
    lower = np.maximum.accumulate(np.where(begins, through - down_ranked, 0.0), axis=1)
    same = np.minimum.accumulate(np.where(ends, through, np.inf)[:, ::-1], axis=1)[:, ::-1]
    return (up_ranked * (lower + same)).sum(axis=1) / (2.0 * up.sum() * down.sum())


def canonical(argument: str, name: Any) -> str:
    """Return the name of the metric that has this name or alias. Raises DataError for an unknown one."""
    known = METRIC_ALIASES.get(name, name) if isinstance(name, str) else None
    if known not in METRICS:
        raise DataError(unknown_name(argument, name, METRICS, METRIC_ALIASES))
    return known


def require_fit(argument: str, name: str, loss: Loss, n_outputs: int) -> None:
    """Raise DataError unless the metric can be computed from predictions of members with this loss."""
    if loss.targets not in METRICS[name].targets:
        fitting = ", ".join(each for each, metric in METRICS.items() if loss.targets in metric.targets)
        raise DataError(compose(argument, f"a metric that fits loss {loss.name!r} ({fitting})", repr(name)))
    predicted = loss.predictions(np.zeros((1, 1, n_outputs * loss.heads)))
    if loss.targets == "values" and predicted.size != n_outputs:
        expected = "a loss that predicts one value per output"
        raise DataError(compose(f"{argument} {name!r}", expected, f"{loss.name!r}, which predicts {predicted.size}"))


def follows_from_means(name: str, loss: Loss, n_targets: int) -> bool:
    """Return whether the metric can be computed from the mean loss and score of an evaluation."""
    metric = METRICS[name]
    by_score = loss.score_name in metric.of_score and n_targets == 1 and not loss.registered
    return str(loss) in metric.of_losses or by_score


def known_from_means(
    name: str, loss: Loss, mean_loss: np.ndarray, mean_score: np.ndarray, targets: np.ndarray, weight: np.ndarray | None
) -> np.ndarray | None:
    """Return the metric, (members,) float64, if it follows from the mean loss and score, else None."""
    if not follows_from_means(name, loss, len(targets)):
        return None
    metric = METRICS[name]
    if str(loss) in metric.of_losses:
        return mean_loss
    values = metric.of_score[loss.score_name](loss.finish(mean_score), targets, weight)
    return np.where(np.isnan(mean_loss), np.nan, values)


def metric_values(
    names: list[str], loss: Loss, raw: np.ndarray, targets: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return metrics by name, (members,) float64; NaN for members with a NaN among their outputs.

    raw: raw outputs, (members, rows, raw outputs). targets: (n_targets, rows). weight: (rows,) or None.
    """
    with np.errstate(all="ignore"):
        outcome = Outcome(loss, raw, targets, weight)
        odd = np.isnan(raw).any(axis=(1, 2))
        return {name: np.where(odd, np.nan, METRICS[name].function(outcome)) for name in names}
