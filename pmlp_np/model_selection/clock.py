"""The clock of a search: what is left of the time budget, and what training costs."""

from __future__ import annotations

import time

# A first guess of multiply-adds a second, before anything was measured: below what any core does.
_FIRST_RATE = 5e9
# The share of the time that training may be planned for; the rest is for selection and for what is slower than planned.
_PLANNED = 0.93


class Clock:
    """Seconds since the start, against a budget (None: none), and the measured speed of training."""

    def __init__(self, budget: float | None) -> None:
        self.budget, self._began = budget, time.perf_counter()
        self.rate = _FIRST_RATE

    def spent(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._began

    def go_on(self, spent: float, rate: float) -> None:
        """Add the seconds of an earlier process, and take over the speed that it measured."""
        self._began -= spent
        self.rate = rate

    def left(self) -> float:
        """Return the seconds that training may still be planned for."""
        return float("inf") if self.budget is None else _PLANNED * self.budget - self.spent()

    def until_end(self) -> float | None:
        """Return the seconds after which training must end, at least a little; None without a budget."""
        return None if self.budget is None else max(0.05, 0.98 * self.budget - self.spent())

    def seconds(self, multiply_adds: float) -> float:
        """Return what training takes, at the measured speed."""
        return multiply_adds / self.rate

    def measured(self, multiply_adds: float, seconds: float) -> None:
        """Note what a part of the training has taken."""
        if multiply_adds > 0.0 and seconds > 0.0:
            self.rate = multiply_adds / seconds
