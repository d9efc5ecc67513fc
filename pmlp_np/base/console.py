"""What the library says on stderr, and what kind of stream stderr is.

A stream may be missing (`pythonw`, services), closed, a pipe that nobody reads any more, or an object of somebody's own
with `write` alone. What can't be said stops no work.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from typing import Any


def say(text: str) -> None:
    """Print a line of the library's own on stderr."""
    with contextlib.suppress(Exception):
        if sys.stderr is not None:
            print(f"pmlp_np: {text}", file=sys.stderr, flush=True)


def is_terminal(stream: Any) -> bool:
    """Whether people see what is written to a stream while it is written; False where it can't tell."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel: its stderr is no terminal, yet somebody is watching."""
    # IPython is loaded where its shell runs; it is not imported to find that out.
    places = (sys.modules.get("IPython"), sys.modules.get("IPython.core.getipython"), builtins)
    for place in places:
        try:
            shell = place.get_ipython()  # type: ignore[union-attr]
        except Exception:
            continue
        # By name: the classes of Colab and Spyder are made from this one.
        if any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__):
            return True
    return False


class Tolerant:
    """A stream that drops what can't be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if possible. Returns its length."""
        with contextlib.suppress(Exception):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, where the stream can."""
        with contextlib.suppress(Exception):
            self._stream.flush()

    def __eq__(self, other: object) -> bool:
        # As tqdm asks, to know which bars are on a stream.
        return self._stream is (other._stream if isinstance(other, Tolerant) else other)

    def __hash__(self) -> int:
        return id(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
