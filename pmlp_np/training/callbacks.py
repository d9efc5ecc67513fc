"""Callbacks: the record each receives after an epoch, and the requests it may make."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.copying import attributes, versioned
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.training.history import History, frozen


@dataclass(frozen=True, eq=False)
class EpochEnd:
    """The record that a callback of `fit` receives after an epoch. It is read-only.

    epoch: number of epochs trained by this call of `fit` or `partial_fit`, from 1.
    ids: (k,) int64, ids of the members that trained in this epoch and are still in training, in pool order.
    epochs: (k,) int64, total number of epochs that each of these members has trained, in all calls.
    curves: values of this epoch, (k,) float32, by the names of `Pool.history_`.
    elapsed: seconds since training began.

        def halve(end):
            if end.epoch == 5:
                order = np.argsort(end.curves["validation_loss"])
                end.stop(end.ids[order[len(order) // 2 :]])

        pool.fit(X, y, epochs=20, validation_data=(Xv, yv), callbacks=[halve])
    """

    epoch: int
    ids: np.ndarray
    epochs: np.ndarray
    curves: Mapping[str, np.ndarray]
    elapsed: float
    _pool_ids: np.ndarray = field(repr=False)
    _wishes: list[np.ndarray | None] = field(repr=False, default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return versioned(vars(self) | {"curves": dict(self.curves)})

    def __setstate__(self, state: Any) -> None:
        fields = attributes("EpochEnd", state)
        curves = {name: frozen(np.array(curve)) for name, curve in fields["curves"].items()}
        arrays = {name: frozen(np.array(fields[name])) for name in ("ids", "epochs", "_pool_ids")}
        vars(self).update(fields | arrays | {"curves": MappingProxyType(curves)})

    def __copy__(self) -> EpochEnd:
        return copy.deepcopy(self)

    def stop(self, ids: Any = None) -> None:
        """Stop training these members; without ids, end training of all after this epoch.

        These members get the status "stopped". Later calls of `partial_fit` train them only if `members` names them.
        Raises DataError for ids that are not in the pool.
        """
        if ids is not None:
            if not np.size(ids):
                return
            requested_ids = checks.whole_array(ids)
            if requested_ids is None or not np.isin(requested_ids, self._pool_ids).all():
                raise DataError(compose("ids", "ids of this pool", show(ids), "See EpochEnd.ids."))
            ids = requested_ids
        self._wishes.append(ids)

    def _leaving(self) -> tuple[np.ndarray, bool]:
        """Return a mask of the pool's members that callbacks have stopped, and whether training is to end."""
        leaving = np.zeros(len(self._pool_ids), bool)
        for ids in self._wishes:
            if ids is not None:
                leaving |= np.isin(self._pool_ids, ids)
        return leaving, any(ids is None for ids in self._wishes)


Callback = Callable[[EpochEnd], Any]


def call_back(
    callbacks: Iterable[Callback],
    records: History,
    pool_ids: np.ndarray,
    members: np.ndarray,
    epochs: np.ndarray,
    epoch: int,
    elapsed: float,
) -> tuple[np.ndarray, bool]:
    """Call the callbacks after an epoch of `members`.

    epochs: (len(members),), total number of epochs that each of these members has trained.

    Returns (mask of the pool's members to stop, whether training is to end).
    """
    curves = {name: frozen(curve[members, epochs - 1]) for name, curve in records.curves.items()}
    end = EpochEnd(
        epoch, frozen(pool_ids[members]), frozen(epochs), MappingProxyType(curves), elapsed, frozen(pool_ids)
    )
    for callback in callbacks:
        callback(end)
    return end._leaving()
