"""A disk that is full after some files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any


def full_after(n: int, write: Callable[..., Any]) -> Callable[..., None]:
    """Return a function that writes n files as `write` does, and then finds the disk full."""
    left = n

    def full(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments)

    return full
