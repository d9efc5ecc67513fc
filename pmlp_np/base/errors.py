"""The library's exceptions, and their messages: expected value, actual value, and a hint how to correct it."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

_LONGEST_SHOWN = 80
_PACKAGE = __name__.partition(".")[0]
# Allocations of up to this many bytes are not compared with free memory: the system calls take longer than one small
# prediction, and where a megabyte is missing, the allocation fails anyway.
SMALL_NEED = 1 << 20


class PmlpError(Exception):
    """Base class of all errors that this library raises."""


class SpecError(PmlpError, ValueError):
    """An invalid member specification, which cannot be trained."""


class DataError(PmlpError, ValueError):
    """Invalid data (X, y, sample weights) or another invalid argument."""


class MemoryNeededError(PmlpError, MemoryError):
    """Too little free memory; raised before anything is allocated."""


class DeviceError(PmlpError, RuntimeError):
    """A GPU that lacks what a pool needs, or that failed."""


class FileFormatError(PmlpError, ValueError):
    """A file, or columns from a file, that this version cannot read."""


class DivergedWarning(UserWarning):
    """Members diverged in a fit, or were left out of a mean because they had diverged."""


class UndefinedLabelError(DataError):
    """Labels requested from outputs that are NaN or infinite.

    places: (k, axes) int64, indices of these outputs without the last axis of raw outputs; the last index is the row.
    """

    def __init__(self, text: str, places: Any = ()) -> None:
        super().__init__(text)
        self.places = places


def warn(text: str, category: type[Warning]) -> None:
    """Issue a warning that points to the caller's line outside this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def show(value: object) -> str:
    """Return a value's repr for an error message: on one line, shortened where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        # Python does not print integers of more than 4,300 digits, and a user's object may raise anything.
        text = f"some {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def compose(name: str, expected: str, got: str, hint: str = "") -> str:
    """Compose the text of an error: `name: expected ..., got .... Hint`.

    name: the argument or member that is wrong. expected, got: text; `show(value)` turns a value into text.
    hint: complete sentences, or "".
    """
    return f"{name}: expected {expected}, got {got}. {hint}".rstrip()


def listed(values: Iterable[object], most: int = 5) -> str:
    """List the first values as text: 1, 2, 3 and 4 more."""
    shown = [str(value) for value in values]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def nearest(name: object, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` most likely misspells, or None if no candidate is similar."""
    if not isinstance(name, str):
        return None
    known = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.strip().lower(), known, n=1)
    return known[matches[0]] if matches else None


def unknown_name(name: str, got: object, known: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """Compose the text of an error about an unknown name, with the nearest known name or alias as hint."""
    known = tuple(known)
    suggestion = nearest(got, (*known, *aliases))
    hint = f"Did you mean {suggestion!r}?" if suggestion else ""
    return compose(name, f"one of {', '.join(known)}", show(got), hint)


def readable_bytes(n: float) -> str:
    """Format a number of bytes: 950 bytes, 1.2 kB, 20 GB."""
    if n < 1000:
        return f"{n:.0f} bytes"
    units = ("kB", "MB", "GB", "TB")
    step = next((k for k in range(len(units)) if n < 999.5 * 1000 ** (k + 1)), len(units) - 1)
    n /= 1000 ** (step + 1)
    return f"{n:,.0f} {units[step]}" if n >= 9.95 else f"{n:.1f} {units[step]}"


def free_memory() -> int:
    """Return the bytes that can be allocated without swapping.

    By the kernel's estimate, the container's limit (cgroups of either version) and the process's (ulimit -v and -d).
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return max(0, min([free, *_room_in_container(), *_room_by_ulimit()]))


# The folder of a container's memory, with the names of its limit, of what is used, and of used pages that hold files.
_CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _room_in_container() -> Iterator[int]:
    for folder, limit, used, of_files in _CONTAINERS:
        most, now = (_lines(f"{folder}/{name}") for name in (limit, used))
        if most and now and most[0].strip().isdigit():
            statistics = (line.split() for line in _lines(f"{folder}/memory.stat"))
            # The kernel takes pages of files back where memory is needed.
            returned = sum(int(each[1]) for each in statistics if each[0] == of_files)
            yield int(most[0]) - int(now[0]) + returned


def _room_by_ulimit() -> Iterator[int]:
    pages = _lines("/proc/self/statm")
    try:
        import resource
    except ImportError:
        return
    if not pages:
        return
    addresses, data = (int(pages[0].split()[i]) * os.sysconf("SC_PAGE_SIZE") for i in (0, 5))
    for limit, used in ((resource.RLIMIT_AS, addresses), (resource.RLIMIT_DATA, data)):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            yield most - used


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()
    except OSError:
        return []


def require_memory(name: str, needed: int, hint: str, free: int | None = None) -> None:
    """Raise MemoryNeededError unless `needed` bytes are free.

    free: free bytes. Default None: measured now, if `needed` is more than SMALL_NEED.
    """
    if free is None:
        if needed <= SMALL_NEED:
            return
        free = free_memory()
    if needed > free:
        expected = f"no more than the {readable_bytes(free)} of memory that are free"
        raise MemoryNeededError(compose(name, expected, f"a need of {readable_bytes(needed)}", hint))
