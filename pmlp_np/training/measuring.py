"""Measuring: metrics of a pool's members on data, each on its row set, within a bound of memory.

Rows of weight 0 are left out; other weights are divided by their mean, as in a backend's `evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.base.errors import require_memory
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import stored
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
    """Raise an error unless these metrics can be computed for these members on this data.

    DataError: a metric does not fit the loss (the error names `argument`), or is not defined for the targets (it names
        `source`, and, where members differ in rows or weights, the member by its id). ids: (n_members,).
    MemoryNeededError: they don't fit in memory.
    """
    names = list(names)
    for name in names:
        require_fit(argument, name, plan.loss, plan.n_outputs)
    row_set = None if data.rows is None else data.rows.of
    for positions in alike(members, (row_set, data.weight_of, data.targets)) if names else ():
        first = members[positions[0]]
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
    gathered = n_rows * sum(stored(x).shape[1] for x in data.x) * itemsize if picks else 0
    needed = gathered + BYTES_PER_OUTPUT_BYTE * min(len(members) * of_one, max(of_one, PIECE_BYTES))
    require_memory(argument, needed, "Compute them on fewer rows, or fewer of them.")


def finished_score(loss: Loss, means: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the loss's score of members, (n,) float64, from the mean losses and scores of an evaluation.

    NaN where a member's loss is NaN: labels from outputs that are no numbers mean nothing.
    """
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
    """Return metrics by name, in order, of these members on the data, (len(members),) float64.

    means: mean losses and scores from an evaluation. Metrics that don't follow from them are computed from raw outputs,
        for a few members at a time that share their rows.
    """
    data, values = placed.data, {name: np.empty(len(members)) for name in names}
    from_means = [name for name in values if follows_from_means(name, loss, data.n_targets)]
    from_outputs = [name for name in values if name not in from_means]
    for positions in alike(members, (placed.row_set, data.weight_of, data.targets)) if from_means else ():
        rows, weight = _counted(data, members[positions[0]])
        y = _targets_of(data, members[positions[0]], rows)
        for name in from_means:
            mean_loss, mean_score = means[0][positions], means[1][positions]
            values[name][positions] = known_from_means(name, loss, mean_loss, mean_score, y, weight)
    for positions in alike(members, (placed.row_set, data.weight_of)) if from_outputs else ():
        rows, weight = _counted(data, members[positions[0]])
        for part, raw in _raw_outputs(backend, members, positions, data, rows, weights, control):
            for same in alike(members[part], (data.targets,)):
                y = _targets_of(data, members[part[same[0]]], rows)
                raw_same = raw if len(same) == len(raw) else raw[same]
                for name, column in metric_values(from_outputs, loss, raw_same, y, weight).items():
                    values[name][part[same]] = column
    return values


def _raw_outputs(
    backend: Backend,
    members: np.ndarray,
    positions: np.ndarray,
    data: Dataset,
    rows: np.ndarray | None,
    weights: str,
    control: Control,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield raw outputs on these rows (None: all), for a few of the members at these positions at a time.

    Each item: (some of the positions, their raw outputs (positions, rows, raw outputs)).
    """
    x = data.x if rows is None else [columns[rows] for columns in data.x]
    placed = backend.place(Dataset(x))
    n_rows, n_raw, dtype = len(x[0]), backend.plan.n_raw_outputs, backend.plan.dtype
    step = max(1, PIECE_BYTES // (n_rows * n_raw * dtype.itemsize))
    for start in range(0, len(positions), step):
        control.tick(start / len(positions))
        part = positions[start : start + step]
        raw = np.empty((len(part), n_rows, n_raw), dtype)
        backend.forward(members[part], placed, raw, weights, control)
        yield part, raw


def _counted(data: Dataset, member: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the rows of a member that have weight (None: all), and their weights, of mean 1 (None: all 1)."""
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
    """Return a member's targets (n_targets, rows) in these rows (None: all)."""
    assert data.y is not None
    first = 0 if data.targets is None else int(data.targets[member]) * data.n_targets
    y = data.y[first : first + data.n_targets]
    return y if rows is None else y[:, rows]
