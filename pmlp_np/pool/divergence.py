"""Members that diverged: who they are, that they count in no mean, and what users are told of them."""

from __future__ import annotations

import numpy as np

from pmlp_np.base.errors import DataError, DivergedWarning, UndefinedLabelError, compose, listed, warn
from pmlp_np.state.progress import DIVERGED, Progress
from pmlp_np.training.history import History

# How users name the members that did not, which every hint says.
OTHERS = "pool.ids_[np.array(pool.status_) != 'diverged']"


def diverged(progress: Progress, records: History, weights: str) -> np.ndarray:
    """A mask of the members whose weights of this kind ("last", "best", "average") are those of one that diverged: best
    ones that were kept before are not."""
    lost = progress.status == DIVERGED
    return lost & (records.best_epoch < 0) if weights == "best" else lost


def refuse_diverged(name: str, ids: np.ndarray, expected: str, hint: str) -> None:
    """DataError, which speaks of the argument `name`, where there are ids of diverged members."""
    if len(ids):
        raise DataError(compose(name, expected, f"{_members(ids)}, diverged", hint))


def who_counts(positions: np.ndarray, ids: np.ndarray, lost: np.ndarray, by_id: bool) -> np.ndarray:
    """Positions of those members of whom a mean can be taken. lost: a mask of the pool's members that diverged.

    Raises DataError where they were asked for by id, or where none is left; else warns of those that are left out.
    """
    out = lost[positions]
    if not out.any():
        return positions
    if by_id:
        hint = f"Those that did not: {OTHERS}."
        refuse_diverged("members", ids[positions[out]], "members that have not diverged, to take a mean of", hint)
    if out.all():
        hint = "Train with smaller learning rates, clip_norm=1.0, or scaled features."
        raise DataError(compose("members", "one that has not diverged, to take a mean of", "none", hint))
    warn(
        f"{int(out.sum()):,} of {len(out):,} members diverged and are left out of the mean: "
        f"{_members(ids[positions[out]])}. Name those that count to say so: members={OTHERS}.",
        DivergedWarning,
    )
    return positions[~out]


def say_diverged(ids: np.ndarray, n_members: int) -> None:
    """Warn of the members that diverged in a fit."""
    if len(ids):
        warn(
            f"{len(ids):,} of {n_members:,} members diverged: {_members(ids)}. They have stopped, and count in no "
            "mean. Smaller learning rates, clip_norm=1.0 or scaled features help.",
            DivergedWarning,
        )


def of_members(error: UndefinedLabelError, ids: np.ndarray, lost: np.ndarray) -> DataError:
    """The error about labels that cannot be made, with the ids of members. ids, lost: of those on axis 0 of raw
    outputs, their ids and whether they diverged."""
    odd = np.unique(error.places[:, 0])
    if not lost[odd].any():
        row = int(error.places[0, -1])
        hint = "No label can be made of them: see forward and predict_proba, and scale X as in training."
        got = f"NaN or infinity of {_members(ids[odd])}, first in row {row}"
        return DataError(compose("X", "rows of which members' outputs are numbers", got, hint))
    hint = f"NaN makes no label: ask the others, members={OTHERS}, or predict_proba, which returns NaN."
    got = f"{_members(ids[odd[lost[odd]]])}, diverged"
    return DataError(compose("members", "members that have not diverged, to predict labels", got, hint))


def _members(ids: np.ndarray) -> str:
    return f"id{'s' * (len(ids) > 1)} {listed(ids.tolist())}"
