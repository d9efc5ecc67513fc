"""Files and folders that appear whole or not at all: written as a draft beside their target, whose name they then take.

A draft is locked by the process that writes it. A lock ends with its process, however that ends: a draft that nobody
locks was left by a kill, and whoever writes to the same path next removes it.
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
# How drafts end, and folders that an old result steps into while the new one takes its name.
DRAFT, ASIDE = ".draft", ".old"
# Of a longer name a draft's name has only the beginning: file systems allow 255 bytes.
_LONGEST_NAME = 120


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What lies at a path, links followed: "a file", "a folder", "a pipe", "a device", "a socket"; None for nothing."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def require_file(path: str | os.PathLike[str]) -> None:
    """DataError where something lies at a path that no file can take the place of, and for what is no path."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise DataError(compose("file", "a path to write to", show(path)))
    kind = kind_of(path)
    if kind not in (None, "a file"):
        got = f"{kind} of that name"
        raise DataError(compose(f"file {os.fspath(path)}", "a file to write", got, "Choose another name."))


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write bytes to and to read them from, which takes its place at `path` when the block ends, or never
    where the block raises.

    The file at `path` is the old one or the new one, never a half. A new file keeps an old one's mode, and takes the
    place of what a link points to. DataError where a folder, a pipe or a device lies there.
    """
    with whole_path(path) as draft, open(draft, "r+b") as file:
        yield file
        file.flush()


@contextlib.contextmanager
def whole_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As `whole_file`, for what writes to a path: that of an empty file, whose name ends as that of `path`."""
    require_file(path)
    target = Path(os.path.realpath(path))
    remove_stale_drafts(target)
    with _locked(target, DRAFT + target.suffix[:20], _new_file) as draft:
        old = os.stat(target) if target.exists() else None
        if old is not None:
            # Meanwhile nobody may read it who may not read the old one.
            os.chmod(draft, stat.S_IMODE(old.st_mode) & 0o666 | 0o600)
        yield draft
        _on_disk(draft)
        require_file(path)
        if old is not None:
            _like(draft, old)
        os.replace(draft, target)
        _on_disk(target.parent)


@contextlib.contextmanager
def draft_folder(path: Path, ending: str = DRAFT) -> Iterator[Path]:
    """An empty folder beside `path`, to be filled and moved away; what is left of it is removed when the block ends.

    ending: DRAFT, or ASIDE for one that what lies at `path` steps into, which no other one removes.
    """
    if ending == DRAFT:
        remove_stale_drafts(path)
    with _locked(path, ending, lambda draft: os.mkdir(draft, 0o777)) as draft:
        yield draft


def remove_stale_drafts(target: Path, ending: str = DRAFT) -> None:
    """Remove the drafts of a file or folder that were left by processes which are no more."""
    pattern = re.compile(re.escape(_prefix(target)) + rf"[0-9a-f]{{12}}{re.escape(ending)}(\.[^/]*)?", re.DOTALL)
    with contextlib.suppress(OSError):
        for name in [each.name for each in os.scandir(target.parent) if pattern.fullmatch(each.name)]:
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
    """A draft that this process has made and locked; it is removed when the block ends, unless it has moved away."""
    while True:
        draft = target.parent / f"{_prefix(target)}{secrets.token_hex(6)}{ending}"
        try:
            make(draft)
        except OSError as error:
            error.filename = str(target)
            raise
        try:
            handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # someone took it for a stale one before it was locked, as below
            continue
        # Not every file system has locks: there a draft that is left is not found again.
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
    # The kernel takes the umask off: asking for it would mean to change it for a moment, for all threads.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _like(draft: Path, old: os.stat_result) -> None:
    """Give a draft an old file's owner, as far as that is allowed, and its mode."""
    with contextlib.suppress(PermissionError):
        os.chown(draft, old.st_uid, old.st_gid)
    os.chmod(draft, stat.S_IMODE(old.st_mode))


def _on_disk(path: Path) -> None:
    """Have a file, or a folder's names, on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        # Files may be made in a folder that may not be read.
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems have nothing to flush for a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        Path(draft).unlink(missing_ok=True)
