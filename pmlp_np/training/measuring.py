"""Measuring: metrics of a pool's members on data of which each may see its own part, within a bound of memory.

Weights of rows count in training alone: here, as in a backend's `evaluate`, all rows count the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pmlp_np.backends.base import Backend, Control, Plan, Rows
from pmlp_np.errors import require_memory
from pmlp_np.formulas.losses import Loss
from pmlp_np.training.metrics import (
    JUDGING,
    METRICS,
    PIECE_BYTES,
    follows_from_means,
    judge,
    known_from_means,
    require_fit,
)


def require_measurable(
    names: Iterable[str],
    plan: Plan,
    members: np.ndarray,
    data: Rows,
    argument: str,
    source: str,
    ids: np.ndarray | None = None,
) -> None:
    """Raise unless these metrics can be computed of these members on this data.

    DataError where one does not fit the loss (it names `argument`) or is not defined of targets (it names `source`, and
    the member where `ids` (n_members,) are given); MemoryNeededError.
    """
    names = list(names)
    for name in names:
        require_fit(argument, name, plan.loss, plan.n_outputs)
    for places in _alike(members, _row_sets(data), data.targets) if names else ():
        first = members[places[0]]
        whose = source if ids is None else f"{source} of member {ids[first]}"
        for name in names:
            METRICS[name].check(whose, plan.loss, plan.n_outputs, _targets_of(data, first), None)
    if all(follows_from_means(name, plan.loss, data.n_targets) for name in names):
        return
    itemsize = plan.dtype.itemsize
    n_rows = int(data.counts(plan.n_members)[members].max())
    of_one = n_rows * plan.n_raw_outputs * itemsize
    gathered = 0 if data.rows is None else n_rows * sum(x.shape[1] for x in data.x) * itemsize
    needed = gathered + JUDGING * min(len(members) * of_one, max(of_one, PIECE_BYTES))
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
    data: Rows,
    weights: str,
    control: Control,
    means: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    """Metrics by name, in order, of these members on data, (len(members),) float64.

    means: of their losses and scores, from an evaluation. Metrics that don't follow from them take raw outputs, of some
        members that share their rows at a time.
    """
    found = {name: np.empty(len(members)) for name in names}
    known = [name for name in found if follows_from_means(name, loss, data.n_targets)]
    rest = [name for name in found if name not in known]
    row_sets = _row_sets(data)
    for places in _alike(members, row_sets, data.targets) if known else ():
        y = _targets_of(data, members[places[0]])
        for name in known:
            found[name][places] = known_from_means(name, loss, means[0][places], means[1][places], y, None)
    for places in _alike(members, row_sets) if rest else ():
        for part, raw in _raw_outputs(backend, members, places, data, weights, control):
            for same in _alike(members[part], data.targets):
                y = _targets_of(data, members[part[same[0]]])
                theirs = raw if len(same) == len(raw) else raw[same]
                for name, values in judge(rest, loss, theirs, y).items():
                    found[name][part[same]] = values
    return found


def _raw_outputs(
    backend: Backend, members: np.ndarray, places: np.ndarray, data: Rows, weights: str, control: Control
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places, raw outputs (places, rows, raw outputs)) of those at these places, who share their rows, some at a
    time."""
    x = data.x
    if data.rows is not None:
        own = data.rows.arrays[data.rows.of[members[places[0]]]]
        x = [columns[own] for columns in x]
    n_rows, n_raw, dtype = len(x[0]), backend.plan.n_raw_outputs, backend.plan.dtype
    step = max(1, PIECE_BYTES // (n_rows * n_raw * dtype.itemsize))
    for start in range(0, len(places), step):
        part = places[start : start + step]
        raw = np.empty((len(part), n_rows, n_raw), dtype)
        backend.forward(members[part], x, raw, weights, control)
        yield part, raw


def _row_sets(data: Rows) -> np.ndarray | None:
    return None if data.rows is None else data.rows.of


def _alike(members: np.ndarray, *sets: np.ndarray | None) -> list[np.ndarray]:
    """Places of members in groups of whom each has the same of all these sets, (n_members,) numbers or None where there
    is one for all."""
    columns = [numbers[members] for numbers in sets if numbers is not None]
    if not len(members) or not columns:
        return [np.arange(len(members))] * bool(len(members))
    _, group = np.unique(np.stack(columns), axis=1, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1)


def _targets_of(data: Rows, member: int) -> np.ndarray:
    """Targets (n_targets, rows) of a member's rows."""
    assert data.y is not None
    first = 0 if data.targets is None else int(data.targets[member]) * data.n_targets
    y = data.y[first : first + data.n_targets]
    return y if data.rows is None else y[:, data.rows.arrays[data.rows.of[member]]]
