"""Exclusion: calls that change a pool run one at a time, and copies are never taken in the middle of an epoch.

A call that comes during a training of the same pool, from another thread or from a callback, raises an error; waiting
could take forever. Calls that only read (predictions, the leaderboard) are allowed at any time.
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
# Process id and thread id. A forked child inherits the parent's attributes, but not the trainings under way.
Trainer = tuple[int, int]

# Locked for a few instructions, while one of several threads claims a pool.
claim_lock = threading.Lock()


def _after_fork() -> None:
    global claim_lock
    claim_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Trained(Protocol):
    _trainer: Trainer | None


_S = TypeVar("_S", bound=_Trained)


def exclusive(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Decorate a method so that no other decorated method of the same object may run during it.

    The decorated method raises DataError where another one is running.
    """
    name = method.__name__

    @functools.wraps(method)
    def call(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        claimed = False
        try:
            with claim_lock:
                _refuse(name, self._trainer, same_thread=True)
                self._trainer, claimed = _this_thread(), True
            return method(self, *args, **kwargs)
        finally:
            if claimed:
                self._trainer = None

    return call


def require_no_training(name: str, trainer: Trainer | None) -> None:
    """Raise DataError while another thread is training: method `name` would read a half-finished epoch."""
    _refuse(name, trainer, same_thread=False)


def _this_thread() -> Trainer:
    return os.getpid(), threading.get_ident()


def _refuse(name: str, trainer: Trainer | None, same_thread: bool) -> None:
    """Raise DataError while the object is being trained by another thread, or, if `same_thread`, by this one."""
    if trainer is None or trainer[0] != os.getpid():
        return
    expected = "a pool that is not being trained"
    if trainer != _this_thread():
        hint = "Wait until it has returned" + ("." if same_thread else ", or call this in a callback.")
        raise DataError(compose(name, expected, "one that another thread is training", hint))
    if same_thread:
        hint = "Return first: EpochEnd.stop() ends training after this epoch."
        raise DataError(compose(name, expected, "a call from a callback of its training", hint))
