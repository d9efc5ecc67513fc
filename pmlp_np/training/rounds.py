"""Rounds: the number of epochs that a backend trains in one call."""

from __future__ import annotations

import time

# Seconds that a round aims at: long enough that a member trains for several epochs while its weights are in the cache.
# Rounds are shorter under a time budget, so that all members train about the same number of epochs. The progress bar
# and Ctrl-C act within a round.
_ROUND_SECONDS, _BUDGETED_SECONDS = 2.0, 0.3
# Limit of the growth of a round over the one before: the speed of a short round is a poor estimate.
_GROWTH = 4
# Limit of the memory of a round's record, if it has more than one epoch. Each epoch of a member takes three float64
# numbers, and three more for the curves computed from them.
_RECORD_BYTES = 1 << 24
_BYTES_PER_EPOCH = 6 * 8


class RoundLength:
    """The number of epochs of the next round, chosen by the measured speed of the last one.

    The first round has one epoch. The trained weights do not depend on the length of rounds.
    """

    def __init__(self, n_members: int, budgeted: bool) -> None:
        self._seconds = _BUDGETED_SECONDS if budgeted else _ROUND_SECONDS
        self._most = max(1, _RECORD_BYTES // (_BYTES_PER_EPOCH * n_members))
        self.epochs = 1
        self._began = 0.0

    def begin(self) -> None:
        """Start the clock of a round."""
        self._began = time.perf_counter()

    def end(self, epochs: int) -> None:
        """Choose the length of the next round. epochs: the largest number that a member trained in this round."""
        if epochs:
            seconds_per_epoch = (time.perf_counter() - self._began) / epochs
            fitting = int(self._seconds / max(seconds_per_epoch, 1e-9))
            self.epochs = max(1, min(fitting, _GROWTH * epochs, self._most))
