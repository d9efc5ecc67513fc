"""Files: named arrays and a header of plain values in one zip archive. Written atomically; nothing in it is ever
executed.

The archive holds `header.json` and one `.npy` per array, as `numpy.load` reads them. No pickle, on either side.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from pmlp_np.errors import FileFormatError, compose, show

_FORMAT = "pmlp_np"
_VERSION = 1
_HEADER = "header.json"
_OPENED_WITH = {
    "pool": "Open it with pm.load.",
    "mlp": "Open it with pm.MLP.load.",
    "ensemble": "Open it with pm.Ensemble.load.",
}


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which takes its place at `path` when the block ends, or never where the block raises.

    The file at `path` is the old one or the new one, never a half.
    """
    path = Path(path)
    handle, draft = tempfile.mkstemp(prefix=path.name + ".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_archive(
    path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write an archive of a kind ("pool", "mlp", "ensemble"), whole or not at all."""
    head = {"format": _FORMAT, "version": _VERSION, "kind": kind, **header}
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(_HEADER, json.dumps(head))
        for name, array in arrays.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def read_archive(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays) of an archive.

    Raises FileNotFoundError, and FileFormatError for a file of another kind, a newer version, or a damaged one.
    """
    name = f"file {os.fspath(path)}"
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read(_HEADER))
            if not isinstance(head, dict) or head.get("format") != _FORMAT or head.get("kind") != kind:
                got = head.get("kind") if isinstance(head, dict) else None
                mend = _OPENED_WITH.get(str(got), "")
                raise FileFormatError(compose(name, f"a {_FORMAT} file of kind {kind!r}", show(got), mend))
            if head.get("version") != _VERSION:
                mend = "Open it with the version of pmlp_np that wrote it."
                raise FileFormatError(compose(name, f"format version {_VERSION}", show(head.get("version")), mend))
            arrays = {}
            for entry in archive.namelist():
                if entry.endswith(".npy"):
                    with archive.open(entry) as file:
                        arrays[entry.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
            return head, arrays
    except (FileFormatError, OSError, MemoryError):
        raise
    except Exception as error:  # damage shows itself in many ways, depending on the byte that it hits
        mend = "The file is damaged or was written by something else."
        raise FileFormatError(
            compose(name, f"a {_FORMAT} archive", str(error) or type(error).__name__, mend)
        ) from error


def unfit(path: str | os.PathLike[str], what: str, error: ValueError) -> FileFormatError:
    """The error for a file whose parts are there but don't make up what it should hold."""
    mend = "The file is damaged, or pm.register_loss or pm.register_activation must first enter what it names."
    return FileFormatError(compose(f"file {os.fspath(path)}", what, str(error).rstrip("."), mend))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
