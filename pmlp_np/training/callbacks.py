"""Callbacks: what they are told after an epoch, and what they may ask for."""

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
    """What a callback of `fit` is told after an epoch; nothing in it can be changed.

    epoch: epochs that this call of `fit` or `partial_fit` has trained, from 1.
    ids: (k,) int64, the ids of the members that trained in this epoch and are still in, in pool order.
    epochs: (k,) int64, the epochs that each of them has trained in its life.
    curves: this epoch's values, (k,) float32, by the names of `Pool.history_`.
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
        kept = attributes("EpochEnd", state)
        curves = {name: frozen(np.array(curve)) for name, curve in kept["curves"].items()}
        arrays = {name: frozen(np.array(kept[name])) for name in ("ids", "epochs", "_pool_ids")}
        vars(self).update(kept | arrays | {"curves": MappingProxyType(curves)})

    def __copy__(self) -> EpochEnd:
        return copy.deepcopy(self)

    def stop(self, ids: Any = None) -> None:
        """Have these members leave; without ids, end training after this epoch.

        Members that leave have the status "stopped". They stay out of later calls of `partial_fit` but for those that
        name them in `members`. Raises DataError for ids that are none of the pool's.
        """
        if ids is not None:
            if not np.size(ids):
                return
            found = checks.whole_array(ids)
            if found is None or not np.isin(found, self._pool_ids).all():
                raise DataError(compose("ids", "ids of this pool", show(ids), "See EpochEnd.ids."))
            ids = found
        self._wishes.append(ids)

    def _leaving(self) -> tuple[np.ndarray, bool]:
        """Whom callbacks want to leave, a mask of the pool's members, and whether everything is to end."""
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
    """Tell callbacks of an epoch of these members, who have now trained for so many `epochs`. Returns (who is to leave,
    whether all is to end)."""
    curves = {name: frozen(curve[members, epochs - 1]) for name, curve in records.curves.items()}
    end = EpochEnd(
        epoch, frozen(pool_ids[members]), frozen(epochs), MappingProxyType(curves), elapsed, frozen(pool_ids)
    )
    for callback in callbacks:
        callback(end)
    return end._leaving()
