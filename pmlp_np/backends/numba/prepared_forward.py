"""Small forward passes, prepared: predictions of a few rows by the same members, again and again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from pmlp_np.backends.numba import driver
from pmlp_np.backends.numba.job import DONE_STRIDE, FORWARD, VIEW_WORDS, JobBuilder, place_of
from pmlp_np.base.arrays import address

_OUT = place_of("out")


class PreparedForward:
    """The forward pass of some members, whose job is built once: it takes some microseconds to build, and the
    arithmetic of a row less than one."""

    def __init__(self, backend: Any, members: np.ndarray, weights: np.ndarray) -> None:
        self._backend, self._members, self._weights = backend, members, weights
        self.parameters = int(backend.layout.block_size[members].sum())
        self._one_at_a_time = threading.Lock()
        self._jobs: np.ndarray | None = None

    def serves(self, members: np.ndarray, weights: np.ndarray) -> bool:
        """Whether it is the forward pass of these members, the very same array, with these weights."""
        return members is self._members and weights is self._weights

    def _prepare(self) -> np.ndarray:
        backend = self._backend
        place = backend._largest_first(self._members)
        self._scratch = backend._new_scratch()
        self._counter, stop, done = (np.zeros(DONE_STRIDE, np.int64) for _ in range(3))
        self._view = np.zeros(VIEW_WORDS, np.int64)
        self._job = JobBuilder(backend._base(FORWARD, self._members)).put(
            parameters=self._weights, queue=self._members[place], n_queue=len(place), chunk=len(place), place=place,
            counter=self._counter, stop=stop, done=done, scratch=np.array([self._scratch.ctypes.data]),
            views=self._view,
        )  # fmt: skip
        return self._job.build()

    def run(self, x: np.ndarray, out: np.ndarray) -> bool:
        """Raw outputs of x into out, on this thread; False, and nothing done, where another thread is asking."""
        if not self._one_at_a_time.acquire(False):
            return False
        try:
            if self._jobs is None:
                self._jobs = self._prepare()
                self._fields = self._jobs.view(np.int64)
            view = self._view
            view[0], view[1], view[2] = address(x), x.strides[0] // x.itemsize, len(x)
            self._fields[_OUT] = address(out)
            self._counter[0] = 0
            driver.work(0, self._jobs)
        finally:
            self._one_at_a_time.release()
        return True
