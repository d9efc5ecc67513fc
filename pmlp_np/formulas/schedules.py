"""Schedules: the learning rate over time. Each formula is written once, for arrays and for compiled code.

Time is counted per member: at the start of a step, p = epoch + minibatch / minibatches per epoch, both counted from 0.
The rate of the step is learning_rate times

    p < warmup_epochs:  f(0) min(1, (p + 1 / minibatches per epoch) / warmup_epochs)
    else:               f of e = p - warmup_epochs, the epochs since the warm-up, and of t = e / length, at most 1,

where length is `schedule_epochs`, or by default the epochs of the member's first fit (or partial_fit, if that came
first) minus the warm-up. Any further epochs have t = 1 (cosine: starts again), so a loop of calls of partial_fit needs
`schedule_epochs`. The warm-up counts the current step, so that the rate of the first step is not 0. Reductions on a
plateau are applied in addition (see training).

A schedule is `function(time, o)`: from the Time and the member's options `o` to the factor. To add one, write it here
under `@schedule(...)`, with the names of the options that it reads. New options are entered in `options`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.formulas.vocabulary import absolute, exp, log, number, polynomial, where

# float64: adding and subtracting this number rounds to an integer.
_ROUNDING = 1.5 * 2.0**52
# cos(2 pi x) on |x| <= 1/4 by powers of x²: the Taylor series, whose next term is below 2e-17.
_COSINE = tuple((-1) ** k * (2.0 * math.pi) ** (2 * k) / math.factorial(2 * k) for k in range(12))


@dataclass(frozen=True)
class Time:
    """A member's time: epochs since the warm-up, cycles (epochs / the schedule's length), and t = min(cycles, 1)."""

    epochs: Any
    cycles: Any
    t: Any


@dataclass(frozen=True)
class Schedule:
    """A schedule: `function(time, o) -> factor`, and the options that it reads from `o`.

    has_length: whether the schedule depends on its length.
    """

    name: str
    function: Callable[[Time, Any], Any]
    options: tuple[str, ...] = ()
    has_length: bool = True


SCHEDULES: dict[str, Schedule] = {}


def schedule(options: tuple[str, ...] = (), has_length: bool = True):
    """Enter the decorated function into the table of schedules under its name."""

    def enter(function):
        SCHEDULES[function.__name__] = Schedule(function.__name__, function, options, has_length)
        return function

    return enter


def floor(x):
    """Return the largest integer that is not above x, |x| < 2^51."""
    nearest = (x + _ROUNDING) - _ROUNDING
    return where(nearest > x, nearest - 1.0, nearest)


def cos_turns(x):
    """Return cos(2 pi x), exact at multiples of a half."""
    x = absolute(x - floor(x + 0.5))
    inner = where(x > 0.25, 0.5 - x, x)
    value = polynomial(inner * inner, _COSINE)
    return where(x > 0.25, -value, value)


def _raised(base, exponent):
    return exp(log(base) * exponent)


def _between(start, end, fraction):
    """Interpolate from start to end along half a cosine."""
    return end + (start - end) * (0.5 + 0.5 * cos_turns(0.5 * fraction))


@schedule(has_length=False)
def constant(time, o):
    return 0.0 * time.t + 1.0


@schedule(options=("schedule_interval", "schedule_factor"), has_length=False)
def step(time, o):
    return _raised(o.schedule_factor, floor(time.epochs / o.schedule_interval))


@schedule(options=("schedule_interval", "schedule_factor"), has_length=False)
def exponential(time, o):
    return _raised(o.schedule_factor, time.epochs / o.schedule_interval)


@schedule(options=("final_rate_factor",))
def cosine(time, o):
    return _between(1.0, o.final_rate_factor, time.cycles - floor(time.cycles))


@schedule(options=("final_rate_factor", "one_cycle_start", "one_cycle_peak"))
def one_cycle(time, o):
    rising = time.t < o.one_cycle_peak
    up = time.t / where(rising, o.one_cycle_peak, 1.0)
    down = (time.t - o.one_cycle_peak) / (1.0 - o.one_cycle_peak)
    return where(rising, _between(o.one_cycle_start, 1.0, up), _between(1.0, o.final_rate_factor, down))


@schedule(options=("final_rate_factor",))
def linear(time, o):
    return 1.0 + (o.final_rate_factor - 1.0) * time.t


@schedule()
def coslog4(time, o):
    return 0.5 - 0.5 * cos_turns(log(1.0 + 15.0 * time.t) * (1.0 / math.log(2.0)))


# Options of every schedule: its length, and the warm-up before it.
_READ_BY_ALL = ("schedule_epochs", "warmup_epochs")


def options_read(schedule: str) -> tuple[str, ...]:
    """Return the names of the options that `rate_factor` reads for this schedule."""
    return (*_READ_BY_ALL, *SCHEDULES[schedule].options)


def needs_fit_epochs(schedule: np.ndarray, schedule_epochs: np.ndarray) -> np.ndarray:
    """Return a mask, (n,) bool, of the members whose schedule depends on the epochs of the first fit.

    schedule, schedule_epochs: columns of these options.
    """
    has_length = np.array([entry.has_length for entry in SCHEDULES.values()])
    return has_length[schedule.astype(np.int64)] & (schedule_epochs == 0.0)


def rate_factor(schedule: str, o, epoch, minibatch, minibatches, fit_epochs):
    """Return the factor of the learning rate in minibatch `minibatch` of `minibatches`, in epoch number `epoch`.

    o: the member's options, float64, as attributes. fit_epochs: the epochs of the first fit. Integers, counted from 0;
        for arrays, all may be columns with one entry per member.
    """
    like = o.warmup_epochs
    minibatches = number(minibatches, like)
    now = number(epoch, like) + number(minibatch, like) / minibatches
    warming = now < o.warmup_epochs
    epochs = where(warming, 0.0, now - o.warmup_epochs)
    length = where(o.schedule_epochs > 0.0, o.schedule_epochs, number(fit_epochs, like) - o.warmup_epochs)
    length = where(warming, 1.0, length)
    lasting = length > 0.0
    cycles = where(lasting, epochs / where(lasting, length, 1.0), 1.0)
    factor = SCHEDULES[schedule].function(Time(epochs, cycles, where(cycles < 1.0, cycles, 1.0)), o)
    share = (now + 1.0 / minibatches) / where(warming, o.warmup_epochs, 1.0)
    return where(warming, factor * where(share < 1.0, share, 1.0), factor)
