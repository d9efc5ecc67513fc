"""Threads: helpers that compute while the caller watches, and how the work of a job is shared among them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial

import numba
import numpy as np
from numba import types

from pmlp_np.backends.contract import Control
from pmlp_np.backends.numba import driver
from pmlp_np.backends.numba.job import INTERRUPT, STOP
from pmlp_np.base import interrupts
from pmlp_np.base.arrays import NOWHERE, Address

_POLL_SECONDS = 0.05
# Training that others wait for hands over the helpers after so long, and goes on when its turn has come again.
_TURN_SECONDS = 0.2
# Long enough for another thread to take what has been handed over.
_HAND_OVER_SECONDS = 0.002
# Elements of a member from which it is worth meeting after every pass.
_LARGE_MEMBER = 1 << 18

# One job at a time has the helpers.
_turn = threading.Lock()
_waiting: list[None] = []
_helpers: list[_Helper] = []


class _Helper:
    """A thread that stays, to compute while the caller watches.

    The driver deals members out by an atomic counter and holds no lock of Python's, so that plain threads serve it as
    well as Numba's. They wait asleep, where OpenMP's spin: on a machine with other work to do, spinning stalls epochs
    of a few milliseconds. Waking them costs some 20 microseconds more.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="pmlp_np", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._tasks.get()()

    def start(self, task: Callable[[], None]) -> threading.Event:
        """Begin a task, which must not raise. Returns the event of its end."""
        ended = threading.Event()

        def run() -> None:
            task()
            ended.set()

        self._tasks.put(run)
        return ended


def _after_fork() -> None:
    # The parent's threads do not exist in a forked child.
    global _turn
    _turn = threading.Lock()
    _waiting.clear()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def give_way() -> Address:
    """The address of the system's function that lets another thread have the core; 0 where there is none."""
    try:
        return Address(ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0)
    except (AttributeError, OSError, TypeError):
        return NOWHERE


def slots_of(control: Control) -> int:
    """Threads to work with: as many as asked for, but no more than there are cores (or than NUMBA_NUM_THREADS says)."""
    usual = numba.config.NUMBA_NUM_THREADS
    most = max(usual, numba.config.NUMBA_DEFAULT_NUM_THREADS)
    return usual if control.n_threads is None else min(control.n_threads, most)


def are_busy() -> bool:
    """Whether another job has the helpers."""
    return _turn.locked()


def too_large_to_deal_out(weight: np.ndarray, n_threads: int) -> int:
    """How many of the members, largest first, are trained by all threads together: those after which the others would
    be done before, however they were dealt out."""
    left, count = int(weight.sum()), 0
    while count < len(weight) and weight[count] >= _LARGE_MEMBER and n_threads * int(weight[count]) > left:
        left -= int(weight[count])
        count += 1
    return count if n_threads > 1 else 0


@contextlib.contextmanager
def _in_turn(tick: Callable[[], bool]) -> Iterator[bool]:
    """The helpers, when their turn has come; False where `tick` says to stop before."""
    mine = _turn.acquire(False)
    if not mine:
        _waiting.append(None)
        try:
            while not mine and not tick():
                interrupts.raise_if_pressed()
                mine = _turn.acquire(timeout=_POLL_SECONDS)
        finally:
            _waiting.pop()
    try:
        yield mine
    finally:
        if mine:
            _turn.release()
            if _waiting:
                time.sleep(_HAND_OVER_SECONDS)


def run(jobs: np.ndarray, n_threads: int, together: bool, flags: np.ndarray, tick: Callable[[], bool],
        gives_way: bool = False) -> bool:  # fmt: skip
    """Run a job on helper threads, its members dealt out or each by all threads together, while this one watches:
    progress, budgets and Ctrl-C set the stop flag.

    gives_way: whether it may stop early because others wait for the helpers; True is returned then, and the stop flag
        is not set.
    """
    failure: list[BaseException] = []

    def compute(slot: int) -> None:
        try:
            if together:
                driver.work_together(slot, n_threads, jobs)
            else:
                driver.work(slot, jobs)
        except BaseException as error:
            failure.append(error)

    # Compiled by this thread, which Ctrl-C can reach.
    if together and not driver.work_together.overloads:
        driver.work_together.compile((types.int64, types.int64, numba.typeof(jobs)))
    elif not together and not driver.work.overloads:
        driver.work.compile((types.int64, numba.typeof(jobs)))
    began, stopped, gave_way = time.monotonic(), False, False
    # KeyboardInterrupt between two starts would free buffers that a helper works on.
    with interrupts.held(), _in_turn(tick) as mine:
        if not mine:
            flags[1, 0] = STOP
            return False
        while len(_helpers) < n_threads:
            _helpers.append(_Helper())
        slots = [partial(compute, slot) for slot in range(n_threads)]
        ended = [helper.start(slot) for helper, slot in zip(_helpers, slots, strict=False)]
        try:
            for event in ended:
                while not event.wait(_POLL_SECONDS):
                    interrupts.raise_if_pressed()
                    stopped = stopped or tick()
                    gave_way = gives_way and bool(_waiting) and time.monotonic() - began >= _TURN_SECONDS
                    if stopped or gave_way:
                        flags[1, 0] = STOP
        finally:
            # Buffers must outlive the tasks, whatever came up; they end with the minibatch they are at.
            while not all(event.is_set() for event in ended):
                flags[1, 0] = INTERRUPT
                with contextlib.suppress(KeyboardInterrupt):
                    next(event for event in ended if not event.is_set()).wait(_POLL_SECONDS)
        tick()
    if failure:
        raise failure[0]
    if gave_way and not stopped:
        flags[1, 0] = 0
    return gave_way and not stopped
