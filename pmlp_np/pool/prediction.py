"""Prediction and evaluation by a pool's members, within a bound of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.contract import MEAN_GROUP, Backend, Control
from pmlp_np.base import checks, errors
from pmlp_np.base.errors import DataError, UndefinedLabelError, compose, require_memory, show
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import Features, stored
from pmlp_np.data.index_sets import Sets, sets_of
from pmlp_np.data.inputs import as_features, feature_sets
from pmlp_np.data.labels import require_same_rows_of_each
from pmlp_np.data.weights import EVALUATED, put_weights
from pmlp_np.models.mlp import hidden_layer
from pmlp_np.pool.divergence import diverged, members_of_mean, undefined_label_error
from pmlp_np.pool.held_members import HeldMembers
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.training.fit_data import rows_of
from pmlp_np.training.measuring import finished_score, measured, require_measurable
from pmlp_np.training.metrics import canonical

# Bytes of raw outputs, or of sums over members, in memory at a time.
_CHUNK_BYTES = 64 << 20
# Rows of which the mean is computed at a time, at least.
_LEAST_ROWS = 256
UNWATCHED = Control()


class _Asked(NamedTuple):
    """What is predicted.

    of_member: from raw outputs (members, n_samples, n_raw_outputs) to predictions. part: what the mean over members is
    taken of, as in `Loss.part`. of_mean: from that mean, (n_samples, n_parts), to the prediction.
    """

    of_member: Callable[[np.ndarray], np.ndarray]
    part: str
    of_mean: Callable[[np.ndarray], np.ndarray]


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


def _by_output(values: np.ndarray) -> np.ndarray:
    """Drop the axis of outputs if there is one output."""
    return values[..., 0] if values.shape[-1] == 1 else values


class Predicting(HeldMembers):
    """The methods of a pool for prediction and evaluation. All may be called during training."""

    def forward(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Compute raw outputs, before any link: (n_members, n_samples, n_raw_outputs) of the pool's dtype.

        members: ids of members, in the order of the result. Default: all, in pool order.
        out: an array of the result's shape and dtype to write to.
        reduce: None, or "mean": the mean over members, (n_samples, n_raw_outputs), summed in float64. With the default
            for `members`, diverged members are left out of the mean, with a pm.DivergedWarning; chosen by id they raise
            DataError.
        weights: "last", "best" or "average"; default "best" after early stopping, else "last". Members without best or
            averaged weights use their last.

        Raises DataError, and MemoryNeededError if memory is too small for the result.
        """
        return self._predict(X, members, out, reduce, weights, _Asked(_unchanged, "raw", _unchanged))

    def predict(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predict on the scale of the targets, members on axis 0; the arguments are those of `forward`.

        Values: (n_members, n_samples) for one output, else (..., n_outputs). Labels, int64: (n_members, n_samples)
        classes for cross-entropy; 0 or 1, in the shape of values, for binary cross-entropy. reduce="mean" removes the
        first axis: means of values, or labels by the mean of probabilities.

        Predictions are rates for a Poisson loss, means for a Gaussian loss, and for a quantile loss the quantiles of
        the level nearest 0.5.

        Values of diverged members may be NaN. Labels of NaN raise DataError, which names the members, or rows of X that
        are too large. The other members are `members=pool.ids_[np.array(pool.status_) != "diverged"]`.
        """
        loss = self._plan.loss
        if reduce is not None and loss.has_probabilities:
            # The mean probability of one label minus 1/2 has the sign of the label's raw output.
            shift = 0.0 if loss.targets == "labels" else 0.5
            result = loss.predictions(self.predict_proba(X, members, None, reduce, weights) - shift)
            return result if out is None else checks.out(out, result.shape, result.dtype, result)
        linked = "link" in loss.parts
        asked = _Asked(loss.predictions, *("link", _by_output) if linked else ("raw", loss.predictions))
        return self._predict(X, members, out, reduce, weights, asked)

    def predict_proba(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                      weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predict probabilities (n_members, n_samples, n_outputs): of the classes, or of each label being 1.

        Arguments as for `forward`. Raises DataError for losses without probabilities.
        """
        probabilities = self._plan.loss.probabilities
        probabilities(np.zeros((1, self.n_outputs)))
        return self._predict(X, members, out, reduce, weights, _Asked(probabilities, "link", _unchanged))

    def predict_std(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                    weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predict standard deviations, in the shape of values of `predict`; arguments as for `forward`.

        With reduce="mean" the mean of the members' standard deviations, which does not include the spread of their
        predictions. Raises DataError for losses without a variance; "gaussian_nll" has one.
        """
        deviations = self._plan.loss.standard_deviations
        deviations(np.zeros((1, self._plan.n_raw_outputs)))
        return self._predict(X, members, out, reduce, weights, _Asked(deviations, "deviation", _by_output))

    def predict_quantiles(self, X: Any, members: Any = None, out: np.ndarray | None = None, reduce: str | None = None,
                          weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predict the quantiles of all levels; arguments as for `forward`.

        Returns (n_members, n_samples, n_levels) for one output, else (..., n_outputs, n_levels). Each level is fitted
        separately, so quantiles may cross. Raises DataError for losses without quantiles; "quantile" has them.
        """
        quantiles = self._plan.loss.quantiles
        quantiles(np.zeros((1, self._plan.n_raw_outputs)))
        return self._predict(X, members, out, reduce, weights, _Asked(quantiles, "raw", quantiles))

    def evaluate(self, X: Any, y: Any, members: Any = None, weights: str | None = None, rows: Any = None,
                 sample_weight: Any = None) -> np.ndarray:  # fmt: skip
        """Compute the mean loss over rows, (n_members,) float64. members, weights: as for `forward`.

        rows: the rows of X that each of these members is evaluated on, as for `fit`. Default: all.
        sample_weight: weight of each row in the mean, (n_samples,), or (n_members, n_samples) for each of these
            members; as for `fit`. Default: equal weights.
        """
        positions, weights = self._positions(members), self._checked_weights(weights)
        data = self._evaluation_data(X, y, positions, rows, sample_weight)
        backend = self._ready()
        return backend.evaluate(positions, backend.place(data), weights, UNWATCHED)[0]

    def _evaluation_data(self, X: Any, y: Any, positions: np.ndarray, rows: Any, sample_weight: Any) -> Dataset:
        """Return the dataset of X and y, with the rows and weights of these members, if any."""
        ids = self.ids_[positions]
        data, row_weights = rows_of(self._plan, ids, X, y, sample_weight)
        if rows is not None:
            row_sets = sets_of(rows, ids, data.n, "rows", "row")
            require_same_rows_of_each(X, rows, "rows")
            data.rows = Sets(row_sets.arrays, self._column(positions, row_sets.of, "rows"))
        if row_weights is not None:
            if row_weights.of is not None:
                row_weights = replace(row_weights, of=self._column(positions, row_weights.of, "sample_weight"))
            put_weights(data, row_weights, self.ids_, positions, EVALUATED)
        return data

    def _column(self, positions: np.ndarray, of: np.ndarray, name: str) -> np.ndarray:
        """Return numbers of these members as a column of all members, (n_members,) int64.

        name: the argument, for errors.
        """
        column = np.zeros(len(self), np.int64)
        column[positions] = of
        if (column[positions] != of).any():
            twice = self.ids_[positions[np.argmax(column[positions] != of)]]
            raise DataError(compose("members", f"each id once: members have separate {name}", f"{twice} again"))
        return column

    def out_of_fold(self, X: Any, rows: Any, groups: Any = None, method: str = "predict",
                    weights: str | None = None) -> np.ndarray:  # fmt: skip
        """Predict every row of X by the member of a group that has the row in its `rows`.

        rows: as for `fit`, such as the validation_rows of a cross-validation.
        groups: (n_members,) whole numbers from 0: the group of each member, such as the same architecture trained on
            different folds. Default: one group.
        method: "predict" (default), "predict_proba" or "forward". weights: as for `forward`.

        Returns (n_groups, n_samples, ...), rows in the order of X. Raises DataError if a row of a group has no member,
        or more than one.
        """
        if method not in ("predict", "predict_proba", "forward"):
            raise DataError(compose("method", "'predict', 'predict_proba' or 'forward'", show(method)))
        x = as_features(X, self.n_features, self.dtype, names=self._plan.names)
        row_sets = sets_of(rows, self.ids_, len(x), "rows", "row")
        require_same_rows_of_each(X, rows, "rows")

        def predict(part: Features, positions: np.ndarray) -> np.ndarray:
            return np.asarray(getattr(self, method)(part, members=self.ids_[positions], weights=weights))

        return _out_of_fold(predict, x, row_sets, groups)

    def score(self, X: Any, y: Any, metric: str | None = None, members: Any = None,
              weights: str | None = None, rows: Any = None, sample_weight: Any = None) -> np.ndarray:  # fmt: skip
        """Compute a metric of each member, (n_members,) float64; NaN for members with outputs that are not finite.

        metric: a name as for `metrics` of `fit`. Default: the loss's score, as in "validation_score".
        members, weights: as for `forward`. rows, sample_weight: as for `evaluate`.

        Raises DataError for metrics that don't fit the loss, or are undefined for these targets, and MemoryNeededError.
        """
        positions, weights = self._positions(members), self._checked_weights(weights)
        names = [] if metric is None else [canonical("metric", metric)]
        data = self._evaluation_data(X, y, positions, rows, sample_weight)
        source = "y" if rows is None else "rows"
        require_measurable(names, self._plan, positions, data, "metric", source, self.ids_)
        backend = self._ready()
        placed = backend.place(data)
        means = backend.evaluate(positions, placed, weights, UNWATCHED)
        if not names:
            return finished_score(self._plan.loss, means)
        return measured(names, self._plan.loss, backend, positions, placed, weights, UNWATCHED, means)[names[0]]

    def hidden(self, X: Any, id: int, layer: int = -1, weights: str | None = None) -> np.ndarray:
        """Compute a hidden layer's activations in the member with this id, (n_samples, width) of the pool's dtype.

        layer: index of the layer, from 0 for the layer next to the features, or backward from -1 for the last.
            Default -1.
        weights: as for `forward`.

        The extracted member computes them with NumPy: they agree with those of training up to rounding.
        Raises DataError if there is no such member or layer.
        """
        (position,) = self._positions([id])
        widths = self.specs[position].hidden
        width = widths[hidden_layer(widths, layer, f"layer of member {id}")]
        x = as_features(X, self.n_features, self.dtype, names=self._plan.names)
        require_memory("result", len(x) * width * self.dtype.itemsize, "Ask for fewer rows at a time.")
        return self.extract(id, weights).hidden_activations(x, layer)

    def _predict(self, X: Any, members: Any, out: np.ndarray | None, reduce: str | None, weights: str | None,
                 asked: _Asked) -> np.ndarray:  # fmt: skip
        """Compute what is asked for; the other arguments are those of `forward`."""
        positions, weights = self._positions(members), self._checked_weights(weights)
        if reduce == "mean":
            lost = diverged(self._progress, self._records, weights)
            positions = members_of_mean(positions, self.ids_, lost, members is not None)
        try:
            return _predictions(self._plan, self._ready, positions, X, out, reduce, weights, asked)
        except UndefinedLabelError as error:
            lost = diverged(self._progress, self._records, weights)
            raise undefined_label_error(error, self.ids_[positions], lost[positions]) from None


def _predictions(
    plan: Plan,
    ready: Callable[[], Backend],
    positions: np.ndarray,
    X: Any,
    out: np.ndarray | None,
    reduce: str | None,
    weights: str,
    asked: _Asked,
) -> np.ndarray:
    """Compute what is asked for, of the members at these positions or of their mean; see Pool.forward.

    ready: returns the backend, called when all arguments are checked. Raises UndefinedLabelError, whose places count
        among `positions`.
    """
    if reduce not in (None, "mean"):
        raise DataError(compose("reduce", "'mean' or None", show(reduce)))
    link = asked.of_member
    x, n_raw = as_features(X, plan.n_features, plan.dtype, names=plan.names), plan.n_raw_outputs
    # Labels, int64, take up to twice the bytes of raw outputs.
    max_bytes = 2 * len(positions) * len(x) * n_raw * plan.dtype.itemsize
    if out is None and reduce is None and max_bytes <= errors.SMALL_NEED:
        raw = np.empty((len(positions), len(x), n_raw), plan.dtype)
        backend = ready()
        # The backend's plan, because another thread may have started to train on other features.
        placed = backend.place(Dataset(feature_sets(x, backend.plan.features)))
        backend.forward(positions, placed, raw, weights, UNWATCHED)
        return _linked(link, raw)
    example = link(np.zeros((1, 1, n_raw), plan.dtype))
    shape = ((len(positions),) if reduce is None else ()) + (len(x),) + example.shape[2:]
    result_dtype = example.dtype
    if out is None:
        needed = math.prod(shape) * result_dtype.itemsize
        require_memory("result", needed, 'Ask for fewer members= or rows at a time, or reduce="mean".')
        out = np.empty(shape, result_dtype)
    checks.out(out, shape, result_dtype)
    if np.may_share_memory(stored(x), out):
        require_memory("X", x.nbytes, "Give an out that shares no memory with X.")
        x = x[np.arange(len(x))]
    backend = ready()
    if reduce:
        for rows, mean in _means(backend, positions, x, weights, asked.part):
            out[rows] = asked.of_mean(mean)
        return out
    placed = backend.place(Dataset(feature_sets(x, backend.plan.features)))
    in_place = out.flags.c_contiguous and out.flags.aligned
    if in_place and example.size == n_raw and example.dtype == plan.dtype:
        raw = out.reshape(len(positions), len(x), n_raw)
        backend.forward(positions, placed, raw, weights, UNWATCHED)
        for block in _slices(len(out), out[:1].nbytes):
            linked = _linked(link, raw[block], block.start)
            # If the result is a view, raw outputs are the predictions, and already in `out`.
            if not np.may_share_memory(linked, raw):
                out[block] = linked
        return out
    for block, raw in _raw_blocks(plan, backend, positions, placed, weights):
        out[block] = _linked(link, raw, block.start)
    return out


def _means(
    backend: Backend, positions: np.ndarray, x: Features, weights: str, part: str
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of rows, the mean of a part of raw outputs over members, (rows, n_parts) float64) in blocks."""
    plan = backend.plan
    n_parts = plan.n_raw_outputs // (1 if part == "raw" else plan.loss.heads)
    row_bytes = -(-len(positions) // MEAN_GROUP) * n_parts * 8
    for rows in _slices(len(x), row_bytes, least=_LEAST_ROWS):
        some = np.ascontiguousarray(x[rows]) if isinstance(x, np.ndarray) else x[rows]
        mean = np.empty((len(some), n_parts))
        placed = backend.place(Dataset(feature_sets(some, plan.features)))
        backend.mean(positions, placed, part, mean, weights, UNWATCHED)
        yield rows, mean


def _linked(link: Callable[[np.ndarray], np.ndarray], raw: np.ndarray, first: int = 0) -> np.ndarray:
    """Compute `link` of the raw outputs of the members from position `first` on."""
    try:
        return link(raw)
    except UndefinedLabelError as error:
        error.places[:, 0] += first
        raise


def _raw_blocks(
    plan: Plan, backend: Backend, positions: np.ndarray, placed: Placed, weights: str
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of members, their raw outputs) in blocks."""
    n = placed.data.n
    for block in _slices(len(positions), n * plan.n_raw_outputs * plan.dtype.itemsize):
        raw = np.empty((block.stop - block.start, n, plan.n_raw_outputs), plan.dtype)
        backend.forward(positions[block], placed, raw, weights, UNWATCHED)
        yield block, raw


def _out_of_fold(
    predict: Callable[[Features, np.ndarray], np.ndarray], x: Features, rows: Sets, groups: Any
) -> np.ndarray:
    """Predict each row of x, for each group, by the group's member with this row; see Pool.out_of_fold.

    predict(x, positions): predictions of these members, on axis 0.
    """
    n_members = len(rows.of)
    group_of = checks.whole_array(np.zeros(n_members, np.int64) if groups is None else groups)
    if group_of is None or group_of.shape != (n_members,) or (group_of < 0).any():
        raise DataError(compose("groups", f"{n_members} whole numbers, at least 0", show(groups)))
    covered = np.zeros((int(group_of.max()) + 1, len(x)), np.int64)
    for position, group in enumerate(group_of.tolist()):
        np.add.at(covered[group], rows.arrays[rows.of[position]], 1)
    if (covered != 1).any():
        group, row = np.argwhere(covered != 1)[0].tolist()
        got = f"{covered[group, row]} for row {row} of group {group}"
        raise DataError(compose("rows", "every row with one member of each group", got))
    result: np.ndarray | None = None
    for i, row_set in enumerate(rows.arrays):
        positions = np.flatnonzero(rows.of == i)
        part = predict(x[row_set], positions)
        if result is None:
            result = np.empty((len(covered), len(x), *part.shape[2:]), part.dtype)
        result[group_of[positions][:, None], row_set] = part
    assert result is not None
    return result


def _slices(count: int, row_bytes: int, least: int = 1) -> Iterator[slice]:
    """Return slices of blocks of at most _CHUNK_BYTES, but of `least` rows at least."""
    step = max(least, _CHUNK_BYTES // max(row_bytes, 1))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
