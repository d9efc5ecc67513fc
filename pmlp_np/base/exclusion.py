"""Exclusion: calls that change a pool come one at a time, and copies are taken of whole states.

A call that would meet a training under way, of another thread or from a callback, is refused by name: waiting could
take forever. What only reads (predictions, the leaderboard) is free at any time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from pmlp_np.base.errors import DataError, compose

_P = ParamSpec("_P")
_R = TypeVar("_R")
# A process and one of its threads. A forked child has the parent's attributes, but not its trainings.
Trainer = tuple[int, int]

# Held for some instructions, while one of several threads comes first.
first_come = threading.Lock()


def _after_fork() -> None:
    global first_come
    first_come = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Trained(Protocol):
    _trainer: Trainer | None


_S = TypeVar("_S", bound=_Trained)


def alone(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """A method during which no other such method of the same object may be called. DataError where one is."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        claimed = False
        try:
            with first_come:
                _refuse(name, self._trainer, own_too=True)
                self._trainer, claimed = _me(), True
            return method(self, *args, **kwargs)
        finally:
            if claimed:
                self._trainer = None

    return call


def require_whole(name: str, trainer: Trainer | None) -> None:
    """Raise DataError while another thread is training: what `name` reads would be half of an epoch."""
    _refuse(name, trainer, own_too=False)


def _me() -> Trainer:
    return os.getpid(), threading.get_ident()


def _refuse(name: str, trainer: Trainer | None, own_too: bool) -> None:
    if trainer is None or trainer[0] != os.getpid():
        return
    expected = "a pool that is not being trained"
    if trainer != _me():
        hint = "Wait until that has returned." if own_too else "Wait until that has returned, or do it in a callback."
        raise DataError(compose(name, expected, "one that another thread is training", hint))
    if own_too:
        hint = "Return first: EpochEnd.stop() ends training after this epoch."
        raise DataError(compose(name, expected, "a call from a callback of its training", hint))
