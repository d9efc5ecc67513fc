"""Progress that people see: how much is done, and how long the rest will take."""

from __future__ import annotations

import sys
import time
from typing import Any

# Work that ends sooner than this shows nothing: a bar that flashes by helps nobody.
_QUIET_SECONDS = 0.5
_PLAIN_EVERY_SECONDS = 10.0
_FORMAT = "{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"


class ProgressBar:
    """A bar on stderr: tqdm's where it is installed, otherwise a line every ten seconds.

    enabled: True, False, or "auto": where stderr is a terminal and the work takes longer than half a second.
    `wanted` says whether anything may be shown.
    """

    def __init__(self, enabled: bool | str) -> None:
        self.wanted = sys.stderr.isatty() if enabled == "auto" else bool(enabled)
        self._quiet = _QUIET_SECONDS if enabled == "auto" else 0.0
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._plain = False

    def show(self, share: float, note: str) -> None:
        """Show the share of all work that is done, from 0 to 1, and a note."""
        now = time.monotonic()
        if not self.wanted or now - self._start < self._quiet:
            return
        if self._bar is None and not self._plain:
            self._open()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(share - self._bar.n)
        elif now - self._last >= _PLAIN_EVERY_SECONDS:
            self._last = now
            left = (now - self._start) * (1 - share) / share if share > 0 else float("inf")
            print(f"{share:6.1%}, {left:.0f} s left, {note}", file=sys.stderr, flush=True)

    def _open(self) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            self._plain = True
            return
        # The mean speed so far, not the latest: large members come first in each epoch.
        self._bar = tqdm(total=1.0, bar_format=_FORMAT, smoothing=0, dynamic_ncols=True, file=sys.stderr)
        self._bar.start_t -= time.monotonic() - self._start

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
