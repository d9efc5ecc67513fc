"""The input of the driver: the job, a record of 64-bit integers (see `job_fields`).

All fields are addresses, counts and strides, so that the driver compiles once for all dtypes, and quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from pmlp_np.backends.numba.job_fields import JobFields
from pmlp_np.base.arrays import address

INITIALIZE, TRAIN, EVALUATE, FORWARD, MEAN = range(5)
# The stop flag: a budget ends training between minibatches; Ctrl-C also ends the validation of an epoch that is done.
STOP, INTERRUPT = 1, 2
# What the best epoch is chosen by: the loss, a score, or a score that grows.
BY_LOSS, BY_SCORE, BY_GROWING_SCORE = range(3)
# Counters that several threads write lie a cache line apart, in 64-bit numbers.
COUNTER_STRIDE = 8

_FIELDS = list(JobFields.__annotations__)
JOB = np.dtype([(name, np.int64) for name in _FIELDS])
_INDEX_OF = {name: i for i, name in enumerate(_FIELDS)}


def job_fields_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names are fields of a job."""
    return {name: value for name, value in values.items() if name in _INDEX_OF}


def field_index(name: str) -> int:
    """Return the index of a field among the 64-bit numbers of a job."""
    return _INDEX_OF[name]


class JobBuilder:
    """A job under construction; it keeps alive the arrays whose addresses it holds."""

    def __init__(self, base: JobBuilder | None = None) -> None:
        self._numbers: np.ndarray = np.zeros(len(_FIELDS), np.int64) if base is None else base._numbers.copy()
        self._alive: list[Any] = [base]

    def put(self, **fields: Unpack[JobFields]) -> JobBuilder:
        """Set fields: numbers as they are, arrays (contiguous) by address, None as 0."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                self._alive.append(value)
                value = address(value)
            self._numbers[_INDEX_OF[name]] = value or 0
        return self

    def build(self, evaluation: JobBuilder | None = None) -> np.ndarray:
        """Return the job and the job of evaluations between its epochs, (2,) JOB; the second is zeros without any.

        The array must not outlive this builder.
        """
        other = np.zeros_like(self._numbers) if evaluation is None else evaluation._numbers
        jobs = np.concatenate([self._numbers, other])
        self._alive.append((jobs, evaluation))
        return jobs.view(JOB)
