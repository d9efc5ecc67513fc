"""Rounds: how many epochs members train before Python enters what they found, and looks at budgets and callbacks."""

from __future__ import annotations

import time

# A round is to take about so long: long enough that members, once fetched, train for several epochs. Under a time
# budget it is shorter, so that all members come about as far. A progress bar and Ctrl-C wait for no round.
_ROUND_SECONDS, _BUDGETED_SECONDS = 2.0, 0.3
# A round may have so many times the epochs of the round before: the first ones say little about those that come.
_GROWTH = 4
# What a round finds out takes about so much, but for that of one epoch: three float64 numbers of each epoch and member,
# and as many of the curves that are made of them.
_RECORD_BYTES = 1 << 24
_BYTES_OF_EACH = 6 * 8


class RoundLength:
    """Epochs of the next round, by the measured speed of the last one. The first has one epoch. What members learn does
    not depend on it."""

    def __init__(self, n_members: int, budgeted: bool) -> None:
        self._seconds = _BUDGETED_SECONDS if budgeted else _ROUND_SECONDS
        self._most = max(1, _RECORD_BYTES // (_BYTES_OF_EACH * n_members))
        self.epochs = 1
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.perf_counter()

    def end(self, epochs: int) -> None:
        """The round is over, in which members trained for up to so many epochs."""
        if epochs:
            each = (time.perf_counter() - self._began) / epochs
            fitting = int(self._seconds / max(each, 1e-9))
            self.epochs = max(1, min(fitting, _GROWTH * epochs, self._most))
