"""Answers: raw outputs of many members, turned into predictions within a bound of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.base import checks, errors
from pmlp_np.base.errors import DataError, UndefinedLabelError, compose, require_memory, show
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.inputs import as_features, feature_sets
from pmlp_np.state.placed import Placed
from pmlp_np.state.plan import Plan

# Raw outputs of this many bytes are held at a time where a result is reduced or linked.
_CHUNK_BYTES = 64 << 20
UNWATCHED = Control()


def predictions(
    plan: Plan,
    ready: Callable[[], Backend],
    positions: np.ndarray,
    X: Any,
    out: np.ndarray | None,
    reduce: str | None,
    weights: str,
    link: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """What `link` makes of the raw outputs of the members at these positions, or the mean of that; see Pool.forward.

    ready: gives the backend once all else is checked. Raises UndefinedLabelError, its places counted among `positions`.
    """
    if reduce not in (None, "mean"):
        raise DataError(compose("reduce", "'mean' or None", show(reduce)))
    x, n_raw = as_features(X, plan.n_features, plan.dtype, names=plan.names), plan.n_raw_outputs
    # Labels, int64, take up to twice the bytes of raw outputs.
    most = 2 * len(positions) * len(x) * n_raw * plan.dtype.itemsize
    if out is None and reduce is None and most <= errors.SMALL_NEED:
        raw = np.empty((len(positions), len(x), n_raw), plan.dtype)
        backend = ready()
        # By the backend's plan: another thread may have trained on other features meanwhile.
        asked = backend.place(Dataset(feature_sets(x, backend.plan.features)))
        backend.forward(positions, asked, raw, weights, UNWATCHED)
        return _linked(link, raw)
    like = link(np.zeros((1, 1, n_raw), plan.dtype))
    shape = ((len(positions),) if reduce is None else ()) + (len(x),) + like.shape[2:]
    result_dtype = like.dtype
    if out is None:
        need = math.prod(shape) * result_dtype.itemsize
        require_memory("result", need, 'Ask for fewer members= or rows at a time, or reduce="mean".')
        out = np.empty(shape, result_dtype)
    checks.out(out, shape, result_dtype)
    if np.may_share_memory(x, out):
        require_memory("X", x.nbytes, "Give an out that shares no memory with X.")
        x = x.copy()
    backend = ready()
    asked = backend.place(Dataset(feature_sets(x, backend.plan.features)))
    in_place = reduce is None and out.flags.c_contiguous and out.flags.aligned
    if in_place and like.size == n_raw and like.dtype == plan.dtype:
        raw = out.reshape(len(positions), len(x), n_raw)
        backend.forward(positions, asked, raw, weights, UNWATCHED)
        for piece in _slices(len(out), out[:1].nbytes):
            linked = _linked(link, raw[piece], piece.start)
            # A view: raw outputs are the predictions, and lie where they belong.
            if not np.may_share_memory(linked, raw):
                out[piece] = linked
        return out
    total = np.zeros(shape, np.float64) if reduce else None
    for piece, raw in _raw_pieces(plan, backend, positions, asked, weights):
        if total is None:
            out[piece] = _linked(link, raw, piece.start)
        else:
            for values in link(raw):
                total += values
    if total is not None:
        out[...] = total / len(positions)
    return out


def _linked(link: Callable[[np.ndarray], np.ndarray], raw: np.ndarray, first: int = 0) -> np.ndarray:
    """What `link` makes of the raw outputs of the members from place `first` on."""
    try:
        return link(raw)
    except UndefinedLabelError as error:
        error.places[:, 0] += first
        raise


def _raw_pieces(
    plan: Plan, backend: Backend, positions: np.ndarray, asked: Placed, weights: str
) -> Iterator[tuple[slice, np.ndarray]]:
    """Raw outputs of some members at a time."""
    n = asked.data.n
    for piece in _slices(len(positions), n * plan.n_raw_outputs * plan.dtype.itemsize):
        raw = np.empty((piece.stop - piece.start, n, plan.n_raw_outputs), plan.dtype)
        backend.forward(positions[piece], asked, raw, weights, UNWATCHED)
        yield piece, raw


def out_of_fold(
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, rows: Sets, groups: Any
) -> np.ndarray:
    """For each group and row of x the answer of the group's one member that has the row in its row set; see
    Pool.out_of_fold. ask(x, positions): answers of these members, on axis 0."""
    n_members = len(rows.of)
    of = checks.whole_array(np.zeros(n_members, np.int64) if groups is None else groups)
    if of is None or of.shape != (n_members,) or (of < 0).any():
        raise DataError(compose("groups", f"{n_members} whole numbers, at least 0", show(groups)))
    asked = np.zeros((int(of.max()) + 1, len(x)), np.int64)
    for position, group in enumerate(of.tolist()):
        np.add.at(asked[group], rows.arrays[rows.of[position]], 1)
    if (asked != 1).any():
        group, row = np.argwhere(asked != 1)[0].tolist()
        got = f"{asked[group, row]} for row {row} of group {group}"
        raise DataError(compose("rows", "every row with one member of each group", got))
    result: np.ndarray | None = None
    for i, own in enumerate(rows.arrays):
        positions = np.flatnonzero(rows.of == i)
        part = ask(x[own], positions)
        if result is None:
            result = np.empty((len(asked), len(x), *part.shape[2:]), part.dtype)
        result[of[positions][:, None], own] = part
    assert result is not None
    return result


def _slices(count: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // max(row_bytes, 1))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
