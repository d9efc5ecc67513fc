"""Axes of charts: from values to positions, and ticks at round values."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_MOST_DIGITS = 4
# The room beside the outermost values, as a share of their range.
_MARGIN = 0.04
# Smaller ranges than this share of the values are rounding.
_LEAST_RANGE = 1e-12
# Positive values get a logarithmic axis from this ratio on.
_RATIO_FOR_LOG = 30.0
_DAYS_OF_YEAR = 365.2425


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, drawn from position `start` to `end`.

    kind: "linear", "log", or "date" (days since 1970).
    """

    low: float
    high: float
    start: float
    end: float
    kind: str = "linear"

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, kind: str = "linear") -> Axis:
        """Return an axis that holds these values, with a margin on both sides."""
        found = list(values)
        low, high = min(found), max(found)
        if kind == "log":
            low, high = math.log(low), math.log(high)
        room = _MARGIN * (high - low)
        if room <= _LEAST_RANGE * max(abs(low), abs(high)) or room < sys.float_info.min:
            room = 0.5 * abs(high) or 0.5
        low, high = low - room, high + room
        if kind == "log":
            low, high = math.exp(low), math.exp(high)
        return cls(low, high, start, end, kind)

    def __call__(self, value: float) -> float:
        """Return a value's position."""
        low, high = self.low, self.high
        if self.kind == "log":
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Return values and texts of at most about so many ticks."""
        if self.kind == "date":
            return _dates(self.low, self.high, most)
        if self.kind == "log":
            ticks = _powers(self.low, self.high, most)
            if len(ticks) >= 2:
                return [(value, compact(value)) for value in ticks]
        step = round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(k * step, compact(k * step, step)) for k in range(first, last + 1)]


def kind_for(values: Iterable[float]) -> str:
    """Return "log" for positive values that span a large ratio, else "linear"."""
    found = list(values)
    return "log" if min(found) > 0.0 and max(found) / min(found) >= _RATIO_FOR_LOG else "linear"


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 or 5 times a power of ten that is at least so large."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1.0 - 1e-9))


def compact(value: float, step: float | None = None) -> str:
    """Return a tick's value: 0.25, 1,500, 20k, 3M, 1e−6. step: between ticks, which says how many decimals matter."""
    size = abs(value)
    if value == 0.0 or (step is not None and size < step * 1e-6):
        return "0"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= (1e4 if unit == "k" else factor) and size < 1e12:
            return _trimmed(value / factor, None if step is None else step / factor) + unit
    if not 1e-4 <= size < 1e12:
        return _scientific(value, step)
    return _trimmed(value, step)


def _trimmed(value: float, step: float | None) -> str:
    digits = _MOST_DIGITS if step is None else max(0, -math.floor(math.log10(step) + 1e-9) + 1)
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _scientific(value: float, step: float | None) -> str:
    digits = 1 if step is None else math.floor(math.log10(abs(value))) - math.floor(math.log10(step)) + 1
    mantissa, exponent = f"{value:.{min(max(digits, 0), 15)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def _powers(low: float, high: float, most: int) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between the ends; fewer of them where they are too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**k for k in range(first, last + 1) for f in factors if low <= f * 10.0**k <= high]
        if len(ticks) <= most + 1:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def _dates(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Return ticks at the first days of years where there are enough of them, else at equal distances."""
    years = range(*(int(day / _DAYS_OF_YEAR) + 1970 for day in (low, high + _DAYS_OF_YEAR)))
    starts = [(float(np.datetime64(year - 1970, "Y").astype("datetime64[D]").astype(int)), str(year)) for year in years]
    inside = [each for each in starts if low <= each[0] <= high]
    if len(inside) >= 2:
        return inside[:: -(-len(inside) // most)]
    days = np.linspace(low, high, 5)[1:-1:2].round()
    return [(float(day), date_text(day)) for day in days]


def date_text(day: float) -> str:
    """Return a day since 1970 as 2024-01-31."""
    return str(np.datetime64(int(math.floor(day)), "D"))
