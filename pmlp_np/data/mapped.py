"""Memory-mapped arrays, sent by their path: a worker on another machine maps the file, and nothing is copied to it.

    X = np.load("X.npy", mmap_mode="r"); pool.fit(X, y, client=client)

The file must lie under the same path on all machines, as on a shared disk. A checksum of the array travels with the
path, so that a machine with another file under that path is found out.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.dataset import Dataset

# Bytes that are hashed at a time.
_PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class InFile:
    """An array in a file: path, position of its first byte, and what NumPy needs to know. digest: of its bytes."""

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    digest: bytes

    def __len__(self) -> int:
        return self.shape[0]

    def array(self) -> np.ndarray:
        """Return the array, mapped into memory, read-only.

        Raises DataError where there is no such file, or one with other contents.
        """
        return _mapped(self)


def by_path(data: Dataset) -> Dataset:
    """Return the dataset with each table that is mapped from a file as an InFile."""
    return replace(data, x=[in_file(x) or x for x in data.x])  # type: ignore[misc]


def opened(data: Dataset) -> Dataset:
    """Return the dataset of `by_path` with its tables as arrays."""
    return replace(data, x=[x.array() if isinstance(x, InFile) else x for x in data.x])


def in_file(x: Any) -> InFile | None:
    """Return where in a file an array lies; None for one that is in no file."""
    root = x
    while isinstance(root, np.ndarray) and not (isinstance(root, np.memmap) and not isinstance(root.base, np.ndarray)):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c" or min(x.strides) < 0:
        return None
    address = x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    path = os.path.abspath(os.fsdecode(root.filename))
    return InFile(path, root.offset + address, x.dtype.str, x.shape, x.strides, _digest(x))


def _digest(x: np.ndarray) -> bytes:
    digest, rows = hashlib.blake2b(digest_size=16), max(1, _PIECE_BYTES // max(1, x[:1].nbytes))
    for start in range(0, len(x), rows):
        digest.update(np.ascontiguousarray(x[start : start + rows]).data)
    return digest.digest()


@functools.lru_cache(maxsize=64)
def _mapped(where: InFile) -> np.ndarray:
    """Return the array. Its contents are compared once in a process."""
    last = sum((n - 1) * step for n, step in zip(where.shape, where.strides, strict=True))
    size = last + np.dtype(where.dtype).itemsize
    hint = "Workers map the file under the client's path: put it on a disk that all share, or hand over X in memory."
    try:
        held = os.stat(where.path).st_size
        if held < where.offset + size:
            raise DataError(compose(f"file {where.path}", f"{where.offset + size:,} bytes", f"{held:,}", hint))
        memory = np.memmap(where.path, np.uint8, "r", where.offset, (size,))
    except OSError as error:
        raise DataError(compose(f"file {where.path}", "the data of the client", str(error.strerror), hint)) from error
    found = np.ndarray(where.shape, where.dtype, memory, 0, where.strides)
    if _digest(found) != where.digest:
        raise DataError(compose(f"file {where.path}", "the contents that the client has", "others", hint))
    return found
