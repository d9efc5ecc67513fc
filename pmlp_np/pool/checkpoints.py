"""Checkpoints: a run in a folder, from which it goes on to the bits of a run that was never stopped.

    run/checkpoint.pmlp   pool and run, as of the last checkpoint: one archive (see `base.archive`)
    run/lock              locked while a process trains; holds the number of that process

The archive is that of a saved pool, with the arrays and values of the run added (`training.saved_run`). It is replaced
completely or not at all, so a process may be killed at any time: the last checkpoint stays. Data are in no checkpoint;
`resume` takes them again, and refuses others by their keys (`training.data_keys`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pmlp_np.base import checks
from pmlp_np.base.archive import Archive, open_archive, write_archive
from pmlp_np.base.console import say
from pmlp_np.base.errors import DataError, FileFormatError, MemoryNeededError, compose, show
from pmlp_np.base.persistence import kind_of
from pmlp_np.state.progress import Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.saved_run import plain_of, run_of
from pmlp_np.training.settings import Settings


class CheckpointError(DataError):
    """A folder for checkpoints that cannot be used. Raised before any training."""


KIND = "checkpoint"
# How a run ends that leaves nothing to do.
OVER = ("done", "stopped")
_FILE, LOCK = "checkpoint.pmlp", "lock"
# Keys of the header, and the beginning of names of arrays, that a saved pool does not have.
_RUN, _EVERY, _ARRAYS = "run", "checkpoint_every", "run/"


def file_of(folder: str | os.PathLike[str]) -> Path:
    """Return the path of the last checkpoint in a folder. Raises DataError for other values, and if there is none."""
    path = _as_path(folder) / _FILE
    try:
        missing = kind_of(path) is None
    except OSError as error:
        got = f"{show(folder)}: {error.strerror}"
        raise CheckpointError(compose("checkpoint", f"a folder with a file {_FILE}", got)) from error
    if missing:
        hint = "A fit writes one to this folder: pool.fit(..., checkpoint=folder)."
        raise CheckpointError(compose("checkpoint", f"a folder with a file {_FILE}", show(folder), hint))
    return path


def _as_path(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder) or "\0" in os.fsdecode(folder):
        raise CheckpointError(compose("checkpoint", "a path of a folder", show(folder)))
    # A callback may change the working directory.
    return Path(os.path.abspath(os.fsdecode(folder)))


def check_every(seconds: Any) -> None:
    """Raise DataError unless it is a number of seconds between checkpoints."""
    if not checks.is_number(seconds) or not 0 < seconds < math.inf:
        raise DataError(compose("checkpoint_every", "seconds, above 0", show(seconds)))


@contextlib.contextmanager
def run_folder(folder: Any, begins: bool, file: str = _FILE) -> Iterator[Path | None]:
    """Hold a folder for one run, and yield its path; None for None.

    begins: whether a run begins in it; then the folder is made where there is none, and may have no checkpoint.
    file: the name of a checkpoint.

    Raises DataError for a folder that another process trains in, that has a checkpoint already, or cannot be written.
    """
    if folder is None:
        yield None
        return
    path = _as_path(folder)
    try:
        if kind_of(path) not in (None, "a folder"):
            raise CheckpointError(compose("checkpoint", "a folder", f"{kind_of(path)}: {path}"))
        if begins:
            path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        got = f"{path}: {error.strerror}"
        raise CheckpointError(compose("checkpoint", "a folder that can be written to", got)) from error
    try:
        _lock(handle, path)
        if begins and kind_of(path / file) is not None:
            way = f"pm.resume({os.fspath(folder)!r}, X, y)" if file == _FILE else "resume=True"
            hint = f"{way} goes on with that run; a new one needs another folder."
            raise CheckpointError(compose("checkpoint", "a folder without a checkpoint", f"{path} with one", hint))
        yield path
    finally:
        # A process that was forked meanwhile has the handle, too.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """Lock a folder until the handle is closed. On file systems without locks nothing is locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        hint = "One run has one folder: wait until that process ends, or choose another folder."
        got = f"{path}, in which process {holder} trains"
        raise CheckpointError(compose("checkpoint", "a folder that no other process trains in", got, hint)) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)


@dataclass
class Checkpoints:
    """Writes the checkpoints of a run to its folder.

    every: seconds from the end of one to the next. archive_of: returns header and arrays of the pool's archive.
    """

    folder: Path
    every: float
    settings: Settings
    archive_of: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
    _written: float = field(default_factory=time.monotonic)
    _last: str = ""
    _failed: str = ""

    def due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return time.monotonic() - self._written >= self.every

    def write(self, state: TrainingState, last: bool = False) -> None:
        """Write a checkpoint. Raises DataError if it is the first one and cannot be written.

        Where a later one cannot be written, the one before stays, a line on stderr says so, and training goes on.
        last: whether training has ended.
        """
        header, arrays = self.archive_of()
        values, own = plain_of(state, self.settings)
        header |= {_RUN: values, _EVERY: float(self.every)}
        arrays |= {name: array for name, array in own.items() if name.startswith(_ARRAYS)}
        try:
            write_archive(self.folder / _FILE, KIND, header, arrays)
        except OSError as error:
            reason = error.strerror or str(error)
            if not self._last:
                got = f"{self.folder}: {reason}"
                raise CheckpointError(compose("checkpoint", "a folder that can be written to", got)) from error
            self._say_failed(reason, last)
        else:
            self._last, self._failed = time.strftime("%H:%M:%S"), ""
        self._written = time.monotonic()

    def _say_failed(self, reason: str, last: bool) -> None:
        # One line for each reason, not one for each attempt.
        if last or reason != self._failed:
            self._failed = reason
            what = "pool.save writes what was learned elsewhere" if last else "training goes on, and so do attempts"
            say(
                f"no checkpoint could be written to {self.folder}: {reason}. The one of {self._last} stays, the pool "
                f"has what it learned since; {what}"
            )


def remove_run(folder: Path) -> None:
    """Remove the files of a run, and its folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for name in (_FILE, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def seconds_of(folder: Path) -> float:
    """Return the seconds that the run in a folder has trained for, as of its last checkpoint; 0 without one."""
    if kind_of(folder / _FILE) is None:
        return 0.0
    with open_archive(folder / _FILE, KIND) as archive:
        values, _, _ = taken_apart(archive)
    seconds = values.get("seconds", 0.0) if isinstance(values, dict) else 0.0
    return float(seconds) if checks.is_number(seconds) and 0.0 <= seconds < math.inf else 0.0


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a run in a folder to go on with."""
    return kind_of(folder / _FILE) is not None


def taken_apart(archive: Archive) -> tuple[Any, dict[str, Any], float]:
    """Return the values and arrays of the run in a checkpoint, and the seconds between two; the pool's remain in it."""
    values, every = (archive.header.pop(name, None) for name in (_RUN, _EVERY))
    if not checks.is_number(every) or not 0 < every < math.inf:
        archive.refuse("seconds between two checkpoints", show(every))
    names = [name for name in archive.listed if name.startswith(_ARRAYS)]
    n_members = archive.listed["ids"].size if "ids" in archive.listed else 0
    for name in names:
        if archive.listed[name].shape != (n_members,):
            archive.refuse(f"array {name} of shape {(n_members,)}", str(archive.listed[name].shape))
    arrays = {name: archive.read(name) for name in names}
    for name in names:
        del archive.listed[name]
    return values, arrays, float(every)


def run_in(
    archive: Archive, values: Any, arrays: dict[str, Any], progress: Progress, callbacks: Sequence[Callback]
) -> tuple[TrainingState, Settings]:
    """Return the run of a checkpoint, whose progress is the pool's. Raises as `run_of`, naming the file."""
    own = {f"progress/{name}": column for name, column in vars(progress).items()}
    try:
        state, settings = run_of(values, arrays | own, len(progress.epoch), callbacks)
    except (FileFormatError, MemoryNeededError) as error:
        raise type(error)(f"{archive.name}, {error}") from error
    return replace(state, progress=progress), settings
