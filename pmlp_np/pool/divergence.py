"""Diverged members: a mask of them, their exclusion from means, and warnings and errors about them."""

from __future__ import annotations

import numpy as np

from pmlp_np.base.errors import DataError, DivergedWarning, UndefinedLabelError, compose, listed, warn
from pmlp_np.state.progress import DIVERGED, Progress
from pmlp_np.training.history import History

# Code that selects the members that have not diverged, for hints.
OTHERS = "pool.ids_[np.array(pool.status_) != 'diverged']"


def diverged(progress: Progress, records: History, weights: str) -> np.ndarray:
    """Return a mask of the members whose weights are those of a diverged member.

    weights: "last", "best" or "average". Best weights that were stored before a member diverged are not diverged.
    """
    lost = progress.status == DIVERGED
    return lost & (records.best_epoch < 0) if weights == "best" else lost


def refuse_diverged(name: str, ids: np.ndarray, expected: str, hint: str) -> None:
    """Raise DataError about the argument `name` if there are any ids of diverged members."""
    if len(ids):
        raise DataError(compose(name, expected, f"{_members(ids)}, diverged", hint))


def members_of_mean(positions: np.ndarray, ids: np.ndarray, lost: np.ndarray, by_id: bool) -> np.ndarray:
    """Return the positions of the members that a mean is taken of.

    lost: mask of the pool's diverged members. by_id: whether the user chose the members by id.

    Raises DataError if a chosen member diverged, or if all did; otherwise warns of diverged members, which are left
    out.
    """
    left_out = lost[positions]
    if not left_out.any():
        return positions
    if by_id:
        hint = f"Members that have not diverged: {OTHERS}."
        refuse_diverged("members", ids[positions[left_out]], "members that have not diverged, to take a mean of", hint)
    if left_out.all():
        hint = "Train with smaller learning rates, clip_norm=1.0, or scaled features."
        raise DataError(compose("members", "one that has not diverged, to take a mean of", "none", hint))
    warn(
        f"{int(left_out.sum()):,} of {len(left_out):,} members diverged and are left out of the mean: "
        f"{_members(ids[positions[left_out]])}. To avoid this warning, choose the others: members={OTHERS}.",
        DivergedWarning,
    )
    return positions[~left_out]


def warn_diverged(ids: np.ndarray, n_members: int) -> None:
    """Warn of the members that diverged in a fit."""
    if len(ids):
        warn(
            f"{len(ids):,} of {n_members:,} members diverged: {_members(ids)}. They have stopped, and count in no "
            "mean. Smaller learning rates, clip_norm=1.0 or scaled features help.",
            DivergedWarning,
        )


def undefined_label_error(error: UndefinedLabelError, ids: np.ndarray, lost: np.ndarray) -> DataError:
    """Return the error about undefined labels, with the ids of members.

    ids, lost: for the members on axis 0 of raw outputs, their ids and whether they diverged.
    """
    undefined = np.unique(error.places[:, 0])
    if not lost[undefined].any():
        row = int(error.places[0, -1])
        hint = "No label can be made of them: see forward and predict_proba, and scale X as in training."
        got = f"NaN or infinity of {_members(ids[undefined])}, first in row {row}"
        return DataError(compose("X", "rows with finite outputs of members", got, hint))
    hint = f"NaN defines no label: choose the other members, members={OTHERS}, or predict_proba, which returns NaN."
    got = f"{_members(ids[undefined[lost[undefined]]])}, diverged"
    return DataError(compose("members", "members that have not diverged, to predict labels", got, hint))


def _members(ids: np.ndarray) -> str:
    return f"id{'s' * (len(ids) > 1)} {listed(ids.tolist())}"
