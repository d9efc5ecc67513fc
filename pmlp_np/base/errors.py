"""The few exceptions of the library, and how they speak: what was expected, what came, and a hint how to correct it."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

_LONGEST_SHOWN = 80
_PACKAGE = __name__.partition(".")[0]
# A need of up to this many bytes is not held against free memory: asking the kernel how much there is costs more time
# than one small prediction, and what is refused for a megabyte would have failed anyway.
SMALL_NEED = 1 << 20


class PmlpError(Exception):
    """Every error that this library raises by itself."""


class SpecError(PmlpError, ValueError):
    """A spec that describes no member that could be trained."""


class DataError(PmlpError, ValueError):
    """Data (X, y, sample weights) or another argument that cannot be used."""


class MemoryNeededError(PmlpError, MemoryError):
    """Something that would not fit into memory; raised before anything is allocated."""


class DeviceError(PmlpError, RuntimeError):
    """A GPU that cannot run what a pool needs, or that failed while it did."""


class FileFormatError(PmlpError, ValueError):
    """A file, or columns from one, that this version cannot read."""


class DivergedWarning(UserWarning):
    """Members diverged in a fit, or are left out of a mean because they had."""


class UndefinedLabelError(DataError):
    """Labels that would be made of outputs that are no numbers. places: (k, axes) of raw outputs but for the last
    axis, whose last number is the row."""

    def __init__(self, text: str, places: Any = ()) -> None:
        super().__init__(text)
        self.places = places


def warn(text: str, category: type[Warning]) -> None:
    """Warn, as from the line outside this package that called it."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def show(value: object) -> str:
    """The value as an error shows it: its repr on one line, cut where it gets long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        # Python refuses to print whole numbers of more than 4,300 digits, and a caller's object may refuse anything.
        text = f"some {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def compose(name: str, expected: str, got: str, hint: str = "") -> str:
    """The text of an error: `name: expected ..., got .... Hint`.

    name: the argument or member that is wrong. expected, got: text; `show(value)` turns a value into it.
    hint: whole sentences, or nothing.
    """
    return f"{name}: expected {expected}, got {got}. {hint}".rstrip()


def listed(values: Iterable[object], most: int = 5) -> str:
    """The first values as text: 1, 2, 3 and 4 more."""
    shown = [str(value) for value in values]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def nearest(name: object, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most likely misspells, or None if none is near."""
    if not isinstance(name, str):
        return None
    known = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.strip().lower(), known, n=1)
    return known[found[0]] if found else None


def unknown_name(name: str, got: object, known: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """The text of an error about a name that is none of `known`, with the nearest known name or alias as its hint."""
    known = tuple(known)
    suggestion = nearest(got, (*known, *aliases))
    hint = f"Did you mean {suggestion!r}?" if suggestion else ""
    return compose(name, f"one of {', '.join(known)}", show(got), hint)


def readable_bytes(n: float) -> str:
    """A number of bytes as people read it: 950 bytes, 1.2 kB, 20 GB."""
    if n < 1000:
        return f"{n:.0f} bytes"
    units = ("kB", "MB", "GB", "TB")
    step = next((k for k in range(len(units)) if n < 999.5 * 1000 ** (k + 1)), len(units) - 1)
    n /= 1000 ** (step + 1)
    return f"{n:,.0f} {units[step]}" if n >= 9.95 else f"{n:.1f} {units[step]}"


def free_memory() -> int:
    """Bytes that this process could still take without swapping, by the kernel's estimate and the container's limit."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].strip().isdigit():
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()
    except OSError:
        return []


def require_memory(name: str, needed: int, hint: str, free: int | None = None) -> None:
    """Raise MemoryNeededError unless `needed` bytes are free (measured now, where `free` is not given, for more than
    SMALL_NEED)."""
    if free is None:
        if needed <= SMALL_NEED:
            return
        free = free_memory()
    if needed > free:
        expected = f"no more than the {readable_bytes(free)} of memory that are free"
        raise MemoryNeededError(compose(name, expected, f"a need of {readable_bytes(needed)}", hint))
