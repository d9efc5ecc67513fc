"""Small forward passes with a prepared job: repeated predictions of a few rows by the same members."""

from __future__ import annotations

import threading

import numpy as np

from pmlp_np.backends.numba import driver
from pmlp_np.backends.numba.job import COUNTER_STRIDE, FORWARD, JobBuilder, field_index
from pmlp_np.backends.numba.job_fields import VIEW_WORDS, View
from pmlp_np.backends.numba.task_runner import TaskRunner
from pmlp_np.base.arrays import address

_OUT = field_index("out")
_X, _X_STRIDE, _N = (View._fields.index(name) for name in ("x", "x_stride", "n"))


class PreparedForward:
    """The forward pass of some members, whose job is built once.

    Building a job takes some microseconds, the arithmetic of a row less than one.
    """

    def __init__(self, runner: TaskRunner, members: np.ndarray, weights: np.ndarray) -> None:
        self._runner, self._members, self._weights = runner, members, weights
        self.parameters = runner.parameters(members)
        self._lock = threading.Lock()
        self._jobs: np.ndarray | None = None

    def serves(self, members: np.ndarray, weights: np.ndarray) -> bool:
        """Whether this is the forward pass of these members (the same array object) with these weights."""
        return members is self._members and weights is self._weights

    def _prepare(self) -> np.ndarray:
        positions = self._runner.largest_first(self._members)
        self._scratch = self._runner.new_scratch()
        self._counter, stop, done = (np.zeros(COUNTER_STRIDE, np.int64) for _ in range(3))
        self._view = np.zeros(VIEW_WORDS, np.int64)
        self._job = JobBuilder(self._runner.templates.template(FORWARD, self._members)).put(
            parameters=self._weights, queue=self._members[positions], n_queue=len(positions), chunk=len(positions),
            positions=positions, counter=self._counter, stop=stop, done=done,
            scratch=np.array([self._scratch.ctypes.data]), views=self._view,
        )  # fmt: skip
        return self._job.build()

    def run(self, x: np.ndarray, out: np.ndarray) -> bool:
        """Compute raw outputs of x into out, on this thread. Returns False, without computing, if another thread is.

        x: (rows, features); out: (members, rows, outputs).
        """
        if not self._lock.acquire(False):
            return False
        try:
            if self._jobs is None:
                self._jobs = self._prepare()
                self._fields = self._jobs.view(np.int64)
            view = self._view
            view[_X], view[_X_STRIDE], view[_N] = address(x), x.strides[0] // x.itemsize, len(x)
            self._fields[_OUT] = address(out)
            self._counter[0] = 0
            driver.work(0, self._jobs)
        finally:
            self._lock.release()
        return True
