"""Helper threads: they compute while the calling thread shows progress and watches budgets and Ctrl-C."""

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
# Training yields the helper threads to a waiting job after this long, and resumes when they are free again.
_TURN_SECONDS = 0.2
# The pause in which the waiting thread acquires the lock.
_HAND_OVER_SECONDS = 0.002
# Elements of a member's block from which training by all threads together repays a barrier after every pass.
_LARGE_MEMBER = 1 << 18

# Held by the job that uses the helper threads.
_turn = threading.Lock()
_waiting: list[None] = []
_helpers: list[_Helper] = []


class _Helper:
    """A daemon thread that runs tasks for the life of the process.

    The driver takes members from an atomic counter and releases the GIL, so that Python's threads serve it as well as
    Numba's. They sleep between tasks, where OpenMP's threads spin: on a busy machine spinning stalls epochs of a few
    milliseconds. Waking a sleeping thread costs some 20 microseconds more.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="pmlp_np", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._tasks.get()()

    def start(self, task: Callable[[], None]) -> threading.Event:
        """Start a task, which must not raise. Returns an event that is set at its end."""
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
def yield_thread_address() -> Address:
    """Return the address of the system's `sched_yield`; 0 where there is none."""
    try:
        return Address(ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0)
    except (AttributeError, OSError, TypeError):
        return NOWHERE


def slots_of(control: Control) -> int:
    """Return the number of threads of a job: that of the control, at most the cores (or NUMBA_NUM_THREADS)."""
    default = numba.config.NUMBA_NUM_THREADS
    most = max(default, numba.config.NUMBA_DEFAULT_NUM_THREADS)
    return default if control.n_threads is None else min(control.n_threads, most)


def are_busy() -> bool:
    """Whether another job uses the helper threads."""
    return _turn.locked()


def n_trained_together(weight: np.ndarray, n_threads: int) -> int:
    """Return how many members, from the first on, all threads train together.

    Such a member is at least `_LARGE_MEMBER`, and alone on one thread it would take longer than all others on the other
    threads. weight: (members,) int64, their sizes, largest first.
    """
    left, count = int(weight.sum()), 0
    while count < len(weight) and weight[count] >= _LARGE_MEMBER and n_threads * int(weight[count]) > left:
        left -= int(weight[count])
        count += 1
    return count if n_threads > 1 else 0


@contextlib.contextmanager
def _in_turn(tick: Callable[[], bool]) -> Iterator[bool]:
    """Wait for the helper threads, and hold them. Yields False if `tick` asks to stop before they are free."""
    acquired = _turn.acquire(False)
    if not acquired:
        _waiting.append(None)
        try:
            while not acquired and not tick():
                interrupts.raise_if_pressed()
                acquired = _turn.acquire(timeout=_POLL_SECONDS)
        finally:
            _waiting.pop()
    try:
        yield acquired
    finally:
        if acquired:
            _turn.release()
            if _waiting:
                time.sleep(_HAND_OVER_SECONDS)


def run(jobs: np.ndarray, n_threads: int, together: bool, stop: np.ndarray, tick: Callable[[], bool],
        yields: bool = False) -> bool:  # fmt: skip
    """Run a job on helper threads; meanwhile this thread calls `tick`, and sets the stop flag for it or for Ctrl-C.

    jobs: see `driver.work`. together: whether all threads train each member. stop: (1 or more,) int64, the stop flag.
    yields: whether the job may stop early because another job waits for the helper threads.

    Returns True if the job stopped early for another job; the stop flag is not set then.
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

    # Compiled in this thread, where Ctrl-C is noticed.
    if together and not driver.work_together.overloads:
        driver.work_together.compile((types.int64, types.int64, numba.typeof(jobs)))
    elif not together and not driver.work.overloads:
        driver.work.compile((types.int64, numba.typeof(jobs)))
    began, stopped, yielded = time.monotonic(), False, False
    # A KeyboardInterrupt between two starts would free buffers that a helper thread works on.
    with interrupts.held(), _in_turn(tick) as acquired:
        if not acquired:
            stop[0] = STOP
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
                    yielded = yields and bool(_waiting) and time.monotonic() - began >= _TURN_SECONDS
                    if stopped or yielded:
                        stop[0] = STOP
        finally:
            # Buffers must outlive the tasks, also after an exception. Each task ends with its current minibatch.
            while not all(event.is_set() for event in ended):
                stop[0] = INTERRUPT
                with contextlib.suppress(KeyboardInterrupt):
                    next(event for event in ended if not event.is_set()).wait(_POLL_SECONDS)
        tick()
    if failure:
        raise failure[0]
    if yielded and not stopped:
        stop[0] = 0
    return yielded and not stopped
