"""Progress that people see: how much is done, and how long the rest will take."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from pmlp_np.base.console import Tolerant, in_notebook, is_terminal

# Work that ends sooner than this shows nothing: a bar that flashes by helps nobody.
_QUIET_SECONDS = 0.5
_PLAIN_EVERY_SECONDS = 10.0
_FORMAT = "{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"


class ProgressBar:
    """A bar: tqdm's where it is installed, otherwise a line on stderr every ten seconds.

    In a notebook it is a widget where ipywidgets is installed, elsewhere text on stderr.

    enabled: True, False, or "auto": on a terminal or in a notebook, where the work takes longer than half a second.
    `wanted` says whether anything may be shown.
    """

    def __init__(self, enabled: bool | str) -> None:
        self._stream = Tolerant(sys.stderr)
        self._in_notebook = bool(enabled) and in_notebook()
        self.wanted = bool(enabled) and (enabled != "auto" or self._in_notebook or is_terminal(sys.stderr))
        if not self._in_notebook and (sys.stderr is None or getattr(sys.stderr, "closed", False)):
            self.wanted = False
        self._quiet = _QUIET_SECONDS if enabled == "auto" else 0.0
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._plain = False

    def show(self, share: float, note: str) -> None:
        """Show the share of all work that is done, from 0 to 1, and a note."""
        now = time.monotonic()
        if not self.wanted or now - self._start < self._quiet:
            return
        try:
            self._show(share, note, now)
        except Exception:
            # A bar that can't be drawn stops no training.
            self.wanted = False

    def _show(self, share: float, note: str, now: float) -> None:
        if self._bar is None and not self._plain:
            self._open()
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(share - self._bar.n)
        elif now - self._last >= _PLAIN_EVERY_SECONDS:
            self._last = now
            left = (now - self._start) * (1 - share) / share if share > 0 else float("inf")
            self._stream.write(f"{share:6.1%}, {left:.0f} s left, {note}\n")
            self._stream.flush()

    def _open(self) -> None:
        # The mean speed so far, not the latest: large members come first in each epoch.
        look = {"total": 1.0, "bar_format": _FORMAT, "smoothing": 0, "dynamic_ncols": True}
        self._bar = self._widget(look) if self._in_notebook else None
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                self._plain = True
                return
            self._bar = tqdm(**look, file=self._stream)
        self._bar.start_t -= time.monotonic() - self._start

    def _widget(self, look: dict[str, Any]) -> Any:
        """tqdm's bar of a notebook; None without what it needs."""
        try:
            from tqdm import notebook

            # Without ipywidgets; tqdm.auto would warn.
            if notebook.IProgress is None:
                return None

            class Widget(notebook.tqdm):
                def __del__(self) -> None:
                    # One that could not be made, as with an old ipywidgets, has nothing to close.
                    with contextlib.suppress(Exception):
                        super().__del__()

            return Widget(**look)
        except Exception:
            return None

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is None:
            return
        try:
            self._bar.refresh()
            self._bar.close()
        except Exception:
            # Python would close it again when it goes.
            self._bar.disable = True
