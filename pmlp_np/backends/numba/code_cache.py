"""The cache of compiled code: a folder of files that processes share.

The folder is named by a hash of Numba's version and every source file of the package, so that a changed formula is
compiled anew. It is in the user's cache directory, or in $PMLP_CACHE_DIR. Each compiled function is a file, named by a
hash of all that the code depends on: function, signature, processor, Python.

Machine code is executed as it is read. So a file is used only if its checksum is right, and a folder only if no other
user could have written to it. A damaged file is removed, compiled and written anew. Where nothing can be written, the
files that are there are used, and the rest is compiled in every process, which a line on stderr says.

Folders of other versions that no process has used for a month are removed. Each process marks its folder as used, by
the folder's modification time.

Numba's own cache has no checksums, ends a program when the disk is full, and may mix up the code of two processes that
write to an index at the same time.
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
# Folders with sources that no compiled code depends on.
_NEVER_COMPILED = ("app", "estimators", "export", "model_selection", "plots", "preprocessing", "report")
_MAGIC = b"pmlp_np compiled code 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_HINT = "Set PMLP_CACHE_DIR to a folder that only you can write to."
# Names of the folders of versions, and of the files in them. Nothing else is ever removed.
_HASH_DIGITS = 20
_VERSION = re.compile(rf"[0-9a-f]{{{_HASH_DIGITS}}}")
_FILE = re.compile(r".*\.(nbc|tmp)|compiled-.*")
_UNUSED_SECONDS = 30 * 24 * 3600


@cache
def source_hash() -> str:
    """Return a hash of Numba's version and of the package's sources that compiled code can depend on."""
    digest = hashlib.sha256(f"numba {numba.__version__}".encode())
    for path in sorted(path for path in _PACKAGE.rglob("*.py") if path.parent.name not in _NEVER_COMPILED):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:_HASH_DIGITS]


# Prints each message once in a process.
_say_once = cache(say)
_unwritable = False


def _default_folder() -> str | None:
    """Return the user's cache directory; None for a user without a home."""
    configured = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if configured:
        return os.path.join(configured, "pmlp_np")
    # For a user unknown to the system the home is "~", for an empty $HOME it is "/".
    if not os.path.isabs(home) or os.environ.get("HOME") == "":
        return None
    return os.path.join(home, ".cache", "pmlp_np")


def _why_not_trusted(folder: Path) -> str:
    """Say why another user could have written machine code into the folder; "" if none could."""
    if not hasattr(os, "geteuid"):
        return ""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (number {status.st_uid})"
    return "can be written by everybody" if status.st_mode & 0o002 else ""


@cache
def cache_folder() -> Path | None:
    """Return the folder of compiled code, which may be read-only; None where no folder can be used."""
    base = os.environ.get("PMLP_CACHE_DIR") or _default_folder()
    if base is None:
        say(f"compiled code can't be kept: there is no home folder; {_ANEW}. {_HINT}")
        return None
    folder = Path(base) / source_hash()
    try:
        folder = Path(os.path.abspath(folder))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = _why_not_trusted(folder)
    except (OSError, ValueError) as error:
        _report_not_kept(folder, error)
        return None
    if reason:
        say(f"compiled code in {folder} is not used: the folder {reason}; {_ANEW}. {_HINT}")
        return None
    # A read-only cache is used without these.
    with contextlib.suppress(OSError):
        os.utime(folder)
        _prune(folder)
    return folder


def _last_use(folder: Path) -> float:
    """Return the time at which a process last opened the folder, or read or wrote a file in it.

    Versions that do not mark the folder as used still read files, a time that most systems store once a day.
    """
    used = folder.stat().st_mtime
    for path in folder.iterdir():
        status = path.lstat()
        used = max(used, status.st_atime, status.st_mtime)
    return used


def _prune(mine: Path) -> None:
    """Remove the folders of other versions, beside this one, that no process has used for a month.

    A running process that still needs a removed folder compiles anew.
    """
    for folder in mine.parent.iterdir():
        if folder == mine or not _VERSION.fullmatch(folder.name) or folder.is_symlink():
            continue
        with contextlib.suppress(OSError):
            # The folder's modification time comes first: most folders are in use, and their files need not be listed.
            oldest = time.time() - _UNUSED_SECONDS
            if folder.stat().st_mtime < oldest and _last_use(folder) < oldest and not _why_not_trusted(folder):
                for path in folder.iterdir():
                    if _FILE.fullmatch(path.name):
                        path.unlink()
                folder.rmdir()


_ANEW = "it is compiled anew in every process"


def _report_not_kept(folder: Path, error: Exception) -> None:
    global _unwritable
    _unwritable = True
    reason = getattr(error, "strerror", None) or error
    _say_once(f"compiled code can't be kept in {folder} ({reason}); {_ANEW}. {_HINT}")


def can_write() -> bool:
    """Whether all code that was compiled so far could be stored."""
    return cache_folder() is not None and not _unwritable


def _checked(content: bytes, key: bytes) -> bytes | None:
    """Return the data stored under the key; None for a damaged file."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = memoryview(content)[start:]
    if content[:start] != _MAGIC + hashlib.sha256(body).digest() or body[: len(key)] != key:
        return None
    return bytes(body[len(key) :])


def _read(path: Path, key: bytes) -> bytes | None:
    try:
        # Reading a pipe would wait for a writer.
        content = path.read_bytes() if path.is_file() else None
    except OSError:
        return None
    if content is None:
        return None
    data = _checked(content, key)
    if data is None:
        _drop(path)
    return data


def _drop(path: Path) -> None:
    _say_once(f"compiled code in {path.parent} was damaged: it is compiled and written anew (some seconds)")
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
        _report_not_kept(path.parent, error)


class CodeCache(_Cache):
    """The compiled code of one function, as a cache of Numba's dispatchers. Ctrl-C is noticed between two functions."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str | None:
        folder = cache_folder()
        return None if folder is None else str(folder)

    def enable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def disable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def flush(self) -> None:
        """Do nothing: files are written at once."""

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the function compiled for a signature, or None."""
        interrupts.raise_if_pressed()
        target_context.refresh()
        file = self._file(signature, target_context.codegen())
        data = None if file is None else _read(*file)
        if file is None or data is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:
            _drop(file[0])
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Store the function compiled for a signature."""
        file = self._file(signature, compiled.codegen)
        if file is not None and not _unwritable and not compiled.library.has_dynamic_globals:
            _write(*file, dumps(compiled._reduce()))
        interrupts.raise_if_pressed()

    def _file(self, signature: Any, codegen: Any) -> tuple[Path, bytes] | None:
        """Return the file for a signature, and the key that its contents begin with."""
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
