"""Messages on stderr, and the kind of stream that stderr is.

A stream may be missing (`pythonw`, services), closed, a pipe without a reader, or a custom object that has only
`write`. A message that cannot be written stops no computation.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from typing import Any


def say(text: str) -> None:
    """Print a line on stderr, with the library's name in front."""
    with contextlib.suppress(Exception):
        if sys.stderr is not None:
            print(f"pmlp_np: {text}", file=sys.stderr, flush=True)


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; False where the stream cannot tell."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel, whose stderr is no terminal but is shown to a user."""
    # IPython is already imported wherever its shell runs, so it is not imported here.
    modules = (sys.modules.get("IPython"), sys.modules.get("IPython.core.getipython"), builtins)
    for module in modules:
        try:
            shell = module.get_ipython()  # type: ignore[union-attr]
        except Exception:
            continue
        # By name: the classes of Colab and Spyder are subclasses of this one.
        if any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__):
            return True
    return False


class Tolerant:
    """A stream that drops text that cannot be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if possible. Returns its length."""
        with contextlib.suppress(Exception):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if the stream can."""
        with contextlib.suppress(Exception):
            self._stream.flush()

    def __eq__(self, other: object) -> bool:
        # tqdm compares streams to know which bars share one.
        return self._stream is (other._stream if isinstance(other, Tolerant) else other)

    def __hash__(self) -> int:
        return id(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
