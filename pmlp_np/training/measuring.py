"""Measuring: metrics of a pool's members on data of which each may see its own part, within a bound of memory.

Rows of weight 0 are left out; other weights are divided by their mean, as in a backend's `evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.base.errors import require_memory
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.grouping import alike
from pmlp_np.formulas.losses import Loss
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan
from pmlp_np.training.metrics import (
    BYTES_PER_OUTPUT_BYTE,
    METRICS,
    PIECE_BYTES,
    follows_from_means,
    known_from_means,
    metric_values,
    require_fit,
)


def require_measurable(
    names: Iterable[str],
    plan: Plan,
    members: np.ndarray,
    data: Dataset,
    argument: str,
    source: str,
    ids: np.ndarray,
) -> None:
    """Raise unless these metrics can be computed of these members on this data.

    DataError where one does not fit the loss (it names `argument`) or is not defined of targets (it names `source`, and
    the member, by its `ids` (n_members,), where each has rows or weights of its own); MemoryNeededError.
    """
    names = list(names)
    for name in names:
        require_fit(argument, name, plan.loss, plan.n_outputs)
    row_set = None if data.rows is None else data.rows.of
    for places in alike(members, (row_set, data.weight_of, data.targets)) if names else ():
        first = members[places[0]]
        rows, weight = _counted(data, first)
        whose = source if data.rows is None and data.weight_of is None else f"{source} of member {ids[first]}"
        for name in names:
            METRICS[name].check(whose, plan.loss, plan.n_outputs, _targets_of(data, first, rows), weight)
    if all(follows_from_means(name, plan.loss, data.n_targets) for name in names):
        return
    itemsize = plan.dtype.itemsize
    n_rows = int(data.counts(plan.n_members)[members].max())
    of_one = n_rows * plan.n_raw_outputs * itemsize
    picks = data.rows is not None or (data.weights is not None and not data.weights.all())
    gathered = n_rows * sum(x.shape[1] for x in data.x) * itemsize if picks else 0
    needed = gathered + BYTES_PER_OUTPUT_BYTE * min(len(members) * of_one, max(of_one, PIECE_BYTES))
    require_memory(argument, needed, "Compute them on fewer rows, or fewer of them.")


def finished_score(loss: Loss, means: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The loss's own score of members, (n,) float64, from the means of an evaluation; NaN where outputs are not all
    numbers: what is counted right there is no label."""
    return np.where(np.isnan(means[0]), np.nan, loss.finish(means[1]))


def measured(
    names: Iterable[str],
    loss: Loss,
    backend: Backend,
    members: np.ndarray,
    placed: Placed,
    weights: str,
    control: Control,
    means: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    """Metrics by name, in order, of these members on data, (len(members),) float64.

    means: of their losses and scores, from an evaluation. Metrics that don't follow from them take raw outputs, of some
        members that share their rows at a time.
    """
    data, found = placed.data, {name: np.empty(len(members)) for name in names}
    known = [name for name in found if follows_from_means(name, loss, data.n_targets)]
    rest = [name for name in found if name not in known]
    for places in alike(members, (placed.row_set, data.weight_of, data.targets)) if known else ():
        rows, weight = _counted(data, members[places[0]])
        y = _targets_of(data, members[places[0]], rows)
        for name in known:
            found[name][places] = known_from_means(name, loss, means[0][places], means[1][places], y, weight)
    for places in alike(members, (placed.row_set, data.weight_of)) if rest else ():
        rows, weight = _counted(data, members[places[0]])
        for part, raw in _raw_outputs(backend, members, places, data, rows, weights, control):
            for same in alike(members[part], (data.targets,)):
                y = _targets_of(data, members[part[same[0]]], rows)
                theirs = raw if len(same) == len(raw) else raw[same]
                for name, values in metric_values(rest, loss, theirs, y, weight).items():
                    found[name][part[same]] = values
    return found


def _raw_outputs(
    backend: Backend,
    members: np.ndarray,
    places: np.ndarray,
    data: Dataset,
    rows: np.ndarray | None,
    weights: str,
    control: Control,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places, raw outputs (places, rows, raw outputs)) of those at these places, of these rows (None: all), some at a
    time."""
    x = data.x if rows is None else [columns[rows] for columns in data.x]
    asked = backend.place(Dataset(x))
    n_rows, n_raw, dtype = len(x[0]), backend.plan.n_raw_outputs, backend.plan.dtype
    step = max(1, PIECE_BYTES // (n_rows * n_raw * dtype.itemsize))
    for start in range(0, len(places), step):
        control.tick(start / len(places))
        part = places[start : start + step]
        raw = np.empty((len(part), n_rows, n_raw), dtype)
        backend.forward(members[part], asked, raw, weights, control)
        yield part, raw


def _counted(data: Dataset, member: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The rows of a member that count (None: all), and their weights, of mean 1 over all its rows (None: all 1)."""
    rows = None if data.rows is None else data.rows.arrays[data.rows.of[member]]
    if data.weights is None or data.weight_mean is None:
        return rows, None
    line = data.weights[0 if data.weight_of is None else data.weight_of[member]]
    weight = (line if rows is None else line[rows]) / data.weight_mean[member]
    counts = weight > 0.0
    if counts.all():
        return rows, weight
    return np.flatnonzero(counts) if rows is None else rows[counts], weight[counts]


def _targets_of(data: Dataset, member: int, rows: np.ndarray | None) -> np.ndarray:
    """A member's targets (n_targets, rows) in these rows (None: all)."""
    assert data.y is not None
    first = 0 if data.targets is None else int(data.targets[member]) * data.n_targets
    y = data.y[first : first + data.n_targets]
    return y if rows is None else y[:, rows]
