"""The progress bar: the share of the work that is done, and the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from pmlp_np.base.console import Tolerant, in_notebook, is_terminal

# Work that ends sooner shows no bar.
_QUIET_SECONDS = 0.5
_PLAIN_EVERY_SECONDS = 10.0
_FORMAT = "{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"


class ProgressBar:
    """A progress bar: tqdm's where it is installed, otherwise a line on stderr every ten seconds.

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
            # Training goes on without a bar.
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
        options = {"total": 1.0, "bar_format": _FORMAT, "smoothing": 0, "dynamic_ncols": True}
        self._bar = self._widget(options) if self._in_notebook else None
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                self._plain = True
                return
            self._bar = tqdm(**options, file=self._stream)
        self._bar.start_t -= time.monotonic() - self._start

    def _widget(self, options: dict[str, Any]) -> Any:
        """Return tqdm's bar for notebooks; None if ipywidgets is missing or unusable."""
        try:
            from tqdm import notebook

            # Without ipywidgets; tqdm.auto would warn.
            if notebook.IProgress is None:
                return None

            class Widget(notebook.tqdm):
                def __del__(self) -> None:
                    # tqdm fails to close a widget whose creation failed, as with an old ipywidgets.
                    with contextlib.suppress(Exception):
                        super().__del__()

            return Widget(**options)
        except Exception:
            return None

    def close(self) -> None:
        """Close the bar and leave it on the screen."""
        if self._bar is None:
            return
        try:
            self._bar.refresh()
            self._bar.close()
        except Exception:
            # tqdm would close it again when Python deletes it.
            self._bar.disable = True
