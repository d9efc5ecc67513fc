"""The data of a fit: training and validation data of all members, checked before training starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.base.errors import DataError, compose, require_memory, show
from pmlp_np.data import precision
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import EncodedTable, Features, expanded
from pmlp_np.data.index_sets import sets_of
from pmlp_np.data.inputs import Check, as_features, as_target_sets, as_targets, feature_sets
from pmlp_np.data.labels import names_of, require_same_rows, require_same_rows_of_each
from pmlp_np.data.weights import (
    EVALUATED,
    Weights,
    as_weights,
    first_without_weight,
    harmless,
    put_weights,
    times_class_weights,
)
from pmlp_np.state.plan import Plan
from pmlp_np.training.measuring import require_measurable
from pmlp_np.training.monitoring import Watch
from pmlp_np.training.settings import Settings


class OwnData(NamedTuple):
    """The arguments of `fit` that give each member its data. See Pool.fit for their meaning."""

    rows: Any = None
    features: Any = None
    targets: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    validation_rows: Any = None


_NAMES = ("X", "y", "sample_weight")


@dataclass(frozen=True)
class _Checks:
    """Checks of features and of targets, which receive the values before and after their cast.

    source: the expression that holds the names of the columns in order, for errors.
    """

    features: Check | None = None
    targets: Check | None = None
    source: str = "pool.feature_names_in_"


_NO_CHECKS = _Checks()


def rows_of(
    plan: Plan,
    ids: np.ndarray,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    names: tuple[str, str, str] = _NAMES,
    checks: _Checks = _NO_CHECKS,
) -> tuple[Dataset, Weights | None]:
    """Return X and y, which the members `ids` share, as a dataset for a backend, and the weights of rows, or None.

    The dataset does not hold the weights yet. names: of the three arguments, for errors.
    """
    x, weights = _features(plan, ids, X, sample_weight, names, checks)
    without = None if weights is None else weights.without_of_all
    kind = plan.n_outputs, plan.loss, plan.dtype
    lines = as_targets(harmless(y, without), len(x), *kind, names[1], checks.targets)
    require_same_rows(X, y, names[:2])
    return Dataset(feature_sets(x, plan.features), lines, len(lines)), weights


def fit_data(
    plan: Plan,
    ids: np.ndarray,
    X: Any,
    y: Any,
    validation_data: Any,
    member_data: OwnData,
    settings: Settings,
    first: bool = True,
) -> tuple[Dataset, Dataset | None]:
    """Return the training data and the validation data (or None) of a fit of the members `ids` with these settings.

    first: whether the members have seen no data before. Only then does the spread of each column's values tell how
        much of them the cast may round off.

    Raises DataError for arguments that don't fit each other, and MemoryNeededError where curves don't fit in memory.
    """
    data, weights = _training_rows(plan, ids, X, y, member_data, first)
    everyone, validation = np.arange(len(ids)), None
    if member_data.validation_rows is not None:
        if validation_data is not None:
            raise DataError(compose("validation_rows", "None where validation_data is given", "both"))
        row_sets = sets_of(member_data.validation_rows, ids, data.n, "validation_rows", "row")
        require_same_rows_of_each(X, member_data.validation_rows, "validation_rows")
        validation = Dataset(data.x, data.y, data.n_targets, row_sets, data.targets)
        if weights is not None:
            put_weights(validation, weights, ids, everyone, EVALUATED, " in validation_rows")
    elif validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise DataError(compose("validation_data", "(X, y) or (X, y, sample_weight)", show(validation_data)))
        names = "validation_data[0]", "validation_data[1]", "validation_data[2]"
        features, targets, sample_weight = (*validation_data, None)[:3]
        source = _NO_CHECKS.source if names_of(X) is None else "X.columns"
        checks = _Checks(None, _require_range, source)
        validation, weights = rows_of(plan, ids, features, targets, sample_weight, names, checks)
        if weights is not None:
            put_weights(validation, weights, ids, everyone, EVALUATED)
    elif settings.early_stopping:
        hint = "Pass validation_data=(X, y) or validation_rows: early stopping watches the loss on them."
        raise DataError(compose("validation_data", "data to stop early on", "None", hint))
    elif settings.metrics or settings.monitor:
        hint = "Pass validation_data=(X, y) or validation_rows: metrics and monitor are about them."
        raise DataError(compose("validation_data", "data to compute metrics on", "None", hint))
    if settings.validated_weights == "average":
        _check_averages(plan, settings)
    curves = 1
    if validation is not None:
        validation.x = [_in_form_of(x, trained) for x, trained in zip(validation.x, data.x, strict=True)]
        watch = watch_of(plan, settings)
        curves += len(watch.curves)
        source = "validation_data[1]" if validation.rows is None else "validation_rows"
        require_measurable(watch.metrics, plan, everyone, validation, "metrics", source, ids)
    hint = "The history takes 4 bytes per member, epoch and curve: train for fewer epochs."
    require_memory("epochs", 4 * len(ids) * curves * int(settings.epochs), hint)
    return data, validation


def _check_averages(plan: Plan, settings: Settings) -> None:
    if not plan.keeps_average:
        hint = "Averaged weights need members with this option: pm.Member(average=0.999)."
        raise DataError(compose("validated_weights", "'last'", "'average'", hint))
    if not settings.early_stopping:
        # Otherwise members would predict with other weights than those that were validated.
        hint = "With early stopping the best averaged weights are those that predict."
        raise DataError(
            compose("validated_weights", "early_stopping=True with 'average'", "early_stopping=False", hint)
        )


def _in_form_of(x: Features, trained: Features) -> Features:
    """Return validation features, with encoded columns only if those of training have the same encoding.

    During training a member's tables of encoded columns are those of its training data.
    """
    same = isinstance(x, EncodedTable) and isinstance(trained, EncodedTable) and x.encoding == trained.encoding
    return x if same else expanded(x)


def watch_of(plan: Plan, settings: Settings) -> Watch:
    """Return the loss, score and metrics to compute on validation data."""
    return Watch(plan.loss, tuple(settings.metrics), settings.monitor or "")


def _training_rows(
    plan: Plan, ids: np.ndarray, X: Any, y: Any, member_data: OwnData, first: bool
) -> tuple[Dataset, Weights | None]:
    """Return the training data, and the weights of rows (or None) without the weights of classes."""

    def require_features(values: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
        precision.require_digits(values, cast, columns, _read_columns(plan))

    checks = _Checks(require_features, _require_targets) if first else _Checks(None, _require_range)
    if member_data.targets is None:
        data, weights = rows_of(plan, ids, X, y, member_data.sample_weight, checks=checks)
    else:
        data, weights = _rows_of_each(plan, ids, X, y, member_data, checks)
    if member_data.rows is not None:
        data.rows = sets_of(member_data.rows, ids, data.n, "rows", "row")
        require_same_rows_of_each(X, member_data.rows, "rows")
    counted = weights
    if member_data.class_weight is not None:
        counted = times_class_weights(weights, member_data.class_weight, data, ids, plan.loss, plan.n_outputs)
    if counted is not None:
        put_weights(data, counted, ids, np.arange(len(ids)), plan.dtype)
    return data, weights


def _rows_of_each(
    plan: Plan, ids: np.ndarray, X: Any, y: Any, member_data: OwnData, checks: _Checks
) -> tuple[Dataset, Weights | None]:
    """Return the same as `rows_of`, with targets of each member."""
    x, weights = _features(plan, ids, X, member_data.sample_weight, _NAMES, checks)
    if y is not None:
        raise DataError(compose("y", "None where targets is given", show(y)))
    without = None if weights is None or weights.without is None else weights.without
    each = None if without is None else np.broadcast_to(without, (len(ids), len(x)))
    kind = plan.n_outputs, plan.loss, plan.dtype
    lines = as_target_sets(harmless(member_data.targets, each), ids, len(x), *kind, checks.targets)
    require_same_rows_of_each(X, member_data.targets, "targets")
    return Dataset(feature_sets(x, plan.features), lines, len(lines) // len(ids), None, np.arange(len(ids))), weights


def _features(
    plan: Plan, ids: np.ndarray, X: Any, sample_weight: Any, names: tuple[str, str, str], checks: _Checks
) -> tuple[Features, Weights | None]:
    """Return X and the weights of rows (or None), checked."""
    try:
        x = as_features(X, plan.n_features, plan.dtype, names[0], plan.names, checks.source, checks.features)
    except DataError:
        row = first_without_weight(X, sample_weight)
        if row is None:
            raise
        hint = f"A weight of 0 leaves out the target alone: drop such rows from {', '.join(names[:2])} and {names[2]}."
        expected = "finite numbers, also in rows of weight 0"
        raise DataError(compose(names[0], expected, f"others in row {row}", hint)) from None
    require_same_rows(X, sample_weight, (names[0], names[2]))
    require_same_rows_of_each(X, sample_weight, names[2])
    return x, as_weights(sample_weight, len(x), len(ids), names[2])


def _read_columns(plan: Plan) -> np.ndarray | None:
    """Return the columns of X that any member reads, None for all."""
    return None if plan.features is None else np.unique(np.concatenate(plan.features.arrays))


def _require_targets(values: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
    """Raise DataError unless targets survive the cast: their digits, and their squares without overflow."""
    precision.require_digits(values, cast, columns)
    _require_range(values, cast, columns)


def _require_range(values: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
    precision.require_range(values, cast.dtype, columns)
