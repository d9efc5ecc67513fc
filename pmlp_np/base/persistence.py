"""Files and folders that are written completely or not at all: as a draft beside the target, which then takes its name.

The process that writes a draft holds a lock on it. The lock ends with the process, even if it is killed: a draft
without a lock is stale, and the next process that writes to the same path removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pmlp_np.base.errors import DataError, compose, show

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
# Endings of names: of drafts, and of folders that hold an old result while the new one takes its name.
DRAFT, ASIDE = ".draft", ".old"
# A draft's name has only the beginning of a longer target name: file systems allow 255 bytes.
_LONGEST_NAME = 120


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return "a file", "a folder", "a pipe", "a device" or "a socket"; None if the path is missing. Follows links."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def require_file(path: str | os.PathLike[str]) -> None:
    """Raise DataError for a path that a file cannot replace (a folder, a pipe, a device), and for any other value."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise DataError(compose("file", "a path to write to", show(path)))
    kind = kind_of(path)
    if kind not in (None, "a file"):
        got = f"{kind} of that name"
        raise DataError(compose(f"file {os.fspath(path)}", "a file to write", got, "Choose another name."))


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a draft for reading and writing bytes; it replaces the file at `path` if the block ends without an error.

    At any time the file at `path` is the old or the new one, never a part. A new file gets an old one's mode. If `path`
    is a link, the file that it points to is replaced. Raises DataError for a folder, a pipe or a device.
    """
    with whole_path(path) as draft, open(draft, "r+b") as file:
        yield file
        file.flush()


@contextlib.contextmanager
def whole_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of an empty draft with the suffix of `path`; otherwise as `whole_file`."""
    require_file(path)
    target = Path(os.path.realpath(path))
    remove_stale_drafts(target)
    with _locked(target, DRAFT + target.suffix[:20], _new_file) as draft:
        old = os.stat(target) if target.exists() else None
        if old is not None:
            # Until then, the draft is readable only to users who can read the old file.
            os.chmod(draft, stat.S_IMODE(old.st_mode) & 0o666 | 0o600)
        yield draft
        _flush_to_disk(draft)
        require_file(path)
        if old is not None:
            _copy_owner_and_mode(draft, old)
        os.replace(draft, target)
        _flush_to_disk(target.parent)


@contextlib.contextmanager
def draft_folder(path: Path, ending: str = DRAFT) -> Iterator[Path]:
    """Make an empty folder beside `path`, to be filled and moved; it is removed at the end of the block if not moved.

    ending: DRAFT, or ASIDE for a folder that takes the old contents of `path`; other processes do not remove it.
    """
    if ending == DRAFT:
        remove_stale_drafts(path)
    with _locked(path, ending, lambda draft: os.mkdir(draft, 0o777)) as draft:
        yield draft


def remove_stale_drafts(target: Path, ending: str = DRAFT) -> None:
    """Remove drafts of a file or folder that ended processes have left behind."""
    pattern = re.compile(re.escape(_prefix(target)) + rf"[0-9a-f]{{12}}{re.escape(ending)}(\.[^/]*)?", re.DOTALL)
    with contextlib.suppress(OSError):
        for name in [item.name for item in os.scandir(target.parent) if pattern.fullmatch(item.name)]:
            draft = target.parent / name
            if draft.is_symlink() or kind_of(draft) not in ("a file", "a folder"):
                continue
            with contextlib.suppress(OSError):
                handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(draft)
                finally:
                    os.close(handle)


@contextlib.contextmanager
def _locked(target: Path, ending: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make and lock a draft; it is removed when the block ends, unless it was moved away."""
    while True:
        draft = target.parent / f"{_prefix(target)}{secrets.token_hex(6)}{ending}"
        try:
            make(draft)
        except OSError as error:
            error.filename = str(target)
            raise
        try:
            handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another process removed it as stale before it was locked; see below
            continue
        # Not every file system has locks: there, stale drafts are not removed.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(draft), os.fstat(handle)):
                break
        os.close(handle)
    try:
        yield draft
    finally:
        _remove(draft)
        os.close(handle)


def _prefix(target: Path) -> str:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        digest = hashlib.blake2b(os.fsencode(name), digest_size=6).hexdigest()
        name = f"{name[: _LONGEST_NAME // 4]}.{digest}"
    return f".{name}."


def _new_file(path: Path) -> None:
    # The kernel applies the umask. Reading the umask would need to change it for a moment, for all threads.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _copy_owner_and_mode(draft: Path, old: os.stat_result) -> None:
    """Give a draft the mode of an old file, and its owner where that is permitted."""
    with contextlib.suppress(PermissionError):
        os.chown(draft, old.st_uid, old.st_gid)
    os.chmod(draft, stat.S_IMODE(old.st_mode))


def _flush_to_disk(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        # Files can be made in a folder without permission to read it.
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot flush a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        Path(draft).unlink(missing_ok=True)
