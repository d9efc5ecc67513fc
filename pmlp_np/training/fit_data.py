"""What a fit is given: training and validation data of all members, checked before any work starts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.base import Plan, Rows
from pmlp_np.data import precision
from pmlp_np.data.labels import names_of, require_same_rows
from pmlp_np.data.sets import sets_of
from pmlp_np.data.tables import Check, as_features, as_rows, as_target_sets, as_targets, feature_sets, weigh
from pmlp_np.errors import DataError, compose, require_memory, show
from pmlp_np.training.epochs import Settings
from pmlp_np.training.measuring import require_measurable
from pmlp_np.training.monitoring import Watch


class OwnData(NamedTuple):
    """The arguments of `fit` that give members data of their own. See Pool.fit for their meaning."""

    rows: Any = None
    features: Any = None
    targets: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    validation_rows: Any = None


def rows_of(
    plan: Plan,
    X: Any,
    y: Any,
    names: tuple[str, str] = ("X", "y"),
    source: str = "pool.feature_names_in_",
    check: Check | None = None,
) -> Rows:
    """X and y, the same for all members, as a backend takes them; errors call them by these names. source: what gives
    the names of columns in their order, for errors; check: of targets."""
    kind = plan.n_outputs, plan.loss, plan.dtype
    found = as_rows(X, y, plan.n_features, *kind, names, plan.names, source, check)
    found.x = feature_sets(found.x[0], plan.features)
    return found


def fit_data(
    plan: Plan,
    ids: np.ndarray,
    X: Any,
    y: Any,
    validation_data: Any,
    own: OwnData,
    settings: Settings,
    first: bool = True,
) -> tuple[Rows, Rows | None]:
    """Training and, where there is any, validation data of a fit of the members `ids` with these settings.

    first: whether this is all data that the members have seen. Only then do its columns show how far their values lie
    apart, beside which the rounding of a cast is measured.

    Raises DataError where something doesn't fit, and MemoryNeededError where curves would not.
    """
    data = _training_rows(plan, ids, X, y, own, first)
    validation = None
    if own.validation_rows is not None:
        if validation_data is not None:
            raise DataError(compose("validation_rows", "None where validation_data is given", "both"))
        found = sets_of(own.validation_rows, ids, data.n, "validation_rows", "row")
        validation = Rows(data.x, data.y, data.n_targets, found, data.targets)
    elif validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise DataError(compose("validation_data", "a pair (X, y)", show(validation_data)))
        features, targets = validation_data
        names = "validation_data[0]", "validation_data[1]"
        source = "pool.feature_names_in_" if names_of(X) is None else "X.columns"
        validation = rows_of(plan, features, targets, names, source, _require_range)
    elif settings.early_stopping:
        mend = "Pass validation_data=(X, y) or validation_rows: early stopping watches the loss on them."
        raise DataError(compose("validation_data", "data to stop early on", "None", mend))
    elif settings.metrics or settings.monitor:
        mend = "Pass validation_data=(X, y) or validation_rows: metrics and monitor are about them."
        raise DataError(compose("validation_data", "data to compute metrics on", "None", mend))
    curves = 1
    if validation is not None:
        watch = watch_of(plan, settings)
        curves += len(watch.curves)
        source, asked = ("validation_data[1]", None) if validation.rows is None else ("validation_rows", ids)
        require_measurable(watch.metrics, plan, np.arange(len(ids)), validation, "metrics", source, asked)
    mend = "The history takes 4 bytes per member, epoch and curve: train for fewer epochs."
    require_memory("epochs", 4 * len(ids) * curves * int(settings.epochs), mend)
    return data, validation


def watch_of(plan: Plan, settings: Settings) -> Watch:
    """What is watched on validation data."""
    return Watch(plan.loss, tuple(settings.metrics), settings.monitor or "")


def _training_rows(plan: Plan, ids: np.ndarray, X: Any, y: Any, own: OwnData, first: bool) -> Rows:
    """What members train on: all the same, or what `own` says."""

    def features_kept(given: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
        precision.require_digits(given, cast, columns, _read_columns(plan))

    x = as_features(X, plan.n_features, plan.dtype, names=plan.names, check=features_kept if first else None)
    kind = plan.n_outputs, plan.loss, plan.dtype
    check = _require_targets if first else _require_range
    if own.targets is None:
        lines = as_targets(y, len(x), *kind, check=check)
        require_same_rows(X, y, ("X", "y"))
        target_sets = None
    elif y is not None:
        raise DataError(compose("y", "None where targets is given", show(y)))
    else:
        lines = as_target_sets(own.targets, ids, len(x), *kind, check)
        target_sets = np.arange(len(ids))
    n_targets = len(lines) if target_sets is None else len(lines) // len(ids)
    rows = None if own.rows is None else sets_of(own.rows, ids, len(x), "rows", "row")
    found = Rows(feature_sets(x, plan.features), lines, n_targets, rows, target_sets)
    require_same_rows(X, own.sample_weight, ("X", "sample_weight"))
    weigh(found, own.sample_weight, own.class_weight, ids, plan.loss, plan.n_outputs, plan.dtype)
    return found


def _read_columns(plan: Plan) -> np.ndarray | None:
    """The columns of X that any member reads, None for all."""
    return None if plan.features is None else np.unique(np.concatenate(plan.features.arrays))


def _require_targets(given: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
    """Of the values that members learn: digits and squares."""
    precision.require_digits(given, cast, columns)
    _require_range(given, cast, columns)


def _require_range(given: np.ndarray, cast: np.ndarray, columns: precision.Columns) -> None:
    precision.require_range(given, cast.dtype, columns)
