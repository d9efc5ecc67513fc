"""Compiled code, kept from process to process.

It lies in a folder named by a hash of every source file of the package and Numba's version: a formula that changes
takes its old machine code out of use. The folder is in the user's cache directory, or in $PMLP_CACHE_DIR. Each compiled
function is a file of its own, whose name is a hash of all that it depends on: function, signature, processor, Python.

Machine code is executed as it is read, so a file is used only where its checksum is right, and a folder only where
nobody else could have written to it. A file that is damaged is removed, compiled and written anew. Where nothing can be
written, what is there is used, and the rest is compiled in every process, which a line on stderr says.

Folders of other versions are removed when nobody has used them for a month: each process that looks for its folder
notes this as the folder's time of change.

Numba's own cache has no checksums, ends a program when the disk is full, and two processes that write to one of its
indexes at the same time may get each other's code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import sys
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from pmlp_np.base import interrupts
from pmlp_np.base.console import say

_PACKAGE = Path(__file__).parents[2]
# Folders whose sources no kernel depends on.
_NEVER_COMPILED = ("app", "export", "plots")
_MAGIC = b"pmlp_np compiled code 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_OWN_FOLDER = "Set PMLP_CACHE_DIR to a folder of your own that can be written."
# Names of versions' folders, and of what is kept in them; nothing else is ever removed.
_HASH_DIGITS = 20
_VERSION = re.compile(rf"[0-9a-f]{{{_HASH_DIGITS}}}")
_KEPT = re.compile(r".*\.(nbc|tmp)|compiled-.*")
_UNUSED_SECONDS = 30 * 24 * 3600


@cache
def source_hash() -> str:
    """A hash of Numba's version and the package's sources, but for those from which nothing compiled is made."""
    digest = hashlib.sha256(f"numba {numba.__version__}".encode())
    for path in sorted(path for path in _PACKAGE.rglob("*.py") if path.parent.name not in _NEVER_COMPILED):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:_HASH_DIGITS]


# Each is said once in a process.
_say_once = cache(say)
_unwritable = False


def _usual_place() -> str | None:
    """The user's cache directory; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if given:
        return os.path.join(given, "pmlp_np")
    # "~" is what comes of a user whom the system does not know, and "/" of an empty $HOME.
    if not os.path.isabs(home) or os.environ.get("HOME") == "":
        return None
    return os.path.join(home, ".cache", "pmlp_np")


def _why_not_trusted(folder: Path) -> str:
    """Who else could have put machine code into the folder; "" for nobody."""
    if not hasattr(os, "geteuid"):
        return ""
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (number {found.st_uid})"
    return "can be written by everybody" if found.st_mode & 0o002 else ""


@cache
def cache_folder() -> Path | None:
    """Where compiled code is kept, or None where no folder can be used. It may be one that can only be read."""
    base = os.environ.get("PMLP_CACHE_DIR") or _usual_place()
    if base is None:
        say(f"compiled code can't be kept: there is no home folder; {_ANEW}. {_OWN_FOLDER}")
        return None
    folder = Path(base) / source_hash()
    try:
        folder = Path(os.path.abspath(folder))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = _why_not_trusted(folder)
    except (OSError, ValueError) as error:
        _not_kept(folder, error)
        return None
    if reason:
        say(f"compiled code in {folder} is not used: the folder {reason}; {_ANEW}. {_OWN_FOLDER}")
        return None
    # A cache that can only be read is used without either.
    with contextlib.suppress(OSError):
        os.utime(folder)
        _prune(folder)
    return folder


def _last_use(folder: Path) -> float:
    """When a process last looked for the folder, or read or wrote what is in it. Versions that noted no use still read,
    which most systems note once a day."""
    used = folder.stat().st_mtime
    for path in folder.iterdir():
        found = path.lstat()
        used = max(used, found.st_atime, found.st_mtime)
    return used


def _prune(mine: Path) -> None:
    """Remove folders beside this one, of other versions, that nobody has used for long.

    A process that still runs and needs one again compiles anew.
    """
    for folder in mine.parent.iterdir():
        if folder == mine or not _VERSION.fullmatch(folder.name) or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            # The folder's own time first: most are in use, and need not be gone through.
            oldest = time.time() - _UNUSED_SECONDS
            if folder.stat().st_mtime < oldest and _last_use(folder) < oldest and not _why_not_trusted(folder):
                for path in folder.iterdir():
                    if _KEPT.fullmatch(path.name):
                        path.unlink()
                folder.rmdir()


_ANEW = "it is compiled anew in every process"


def _not_kept(folder: Path, error: Exception) -> None:
    global _unwritable
    _unwritable = True
    reason = getattr(error, "strerror", None) or error
    _say_once(f"compiled code can't be kept in {folder} ({reason}); {_ANEW}. {_OWN_FOLDER}")


def can_write() -> bool:
    """Whether all that was to be kept so far could be."""
    return cache_folder() is not None and not _unwritable


def _checked(content: bytes, key: bytes) -> bytes | None:
    """What was kept under the key; None for a damaged file."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = memoryview(content)[start:]
    if content[:start] != _MAGIC + hashlib.sha256(body).digest() or body[: len(key)] != key:
        return None
    return bytes(body[len(key) :])


def _read(path: Path, key: bytes) -> bytes | None:
    try:
        # A pipe would wait for somebody to write.
        content = path.read_bytes() if path.is_file() else None
    except OSError:
        return None
    if content is None:
        return None
    found = _checked(content, key)
    if found is None:
        _drop(path)
    return found


def _drop(path: Path) -> None:
    _say_once(f"compiled code in {path.parent} was damaged; what is, is compiled and written anew (some seconds)")
    with contextlib.suppress(OSError):
        path.unlink()


def _write(path: Path, key: bytes, data: bytes) -> None:
    body = key + data
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        _not_kept(path.parent, error)


class CodeCache(_Cache):
    """The compiled code of one function, as Numba's dispatchers ask for it. Ctrl-C is heard between two functions."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str | None:
        folder = cache_folder()
        return None if folder is None else str(folder)

    def enable(self) -> None:
        """Always on."""

    def disable(self) -> None:
        """Always on."""

    def flush(self) -> None:
        """Nothing is held back."""

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The function compiled for a signature, or None."""
        interrupts.raise_if_pressed()
        target_context.refresh()
        found = self._file(signature, target_context.codegen())
        data = None if found is None else _read(*found)
        if found is None or data is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:
            _drop(found[0])
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep the function compiled for a signature."""
        found = self._file(signature, compiled.codegen)
        if found is not None and not _unwritable and not compiled.library.has_dynamic_globals:
            _write(*found, dumps(compiled._reduce()))
        interrupts.raise_if_pressed()

    def _file(self, signature: Any, codegen: Any) -> tuple[Path, bytes] | None:
        """The file for a signature, and the key that it begins with."""
        folder = cache_folder()
        if folder is None:
            return None
        function = self._function
        cells = dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        facts = (
            function.__module__, function.__qualname__, function.__code__.co_firstlineno, function.__code__.co_code,
            cells, str(signature), codegen.magic_tuple(), sys.implementation.cache_tag, getattr(sys, "abiflags", ""),
            llvmlite.__version__,
        )  # fmt: skip
        key = hashlib.sha256(repr(facts).encode()).digest()
        name = function.__name__.strip("_<>")
        return folder / f"{name}-{key.hex()[:40]}.nbc", key
