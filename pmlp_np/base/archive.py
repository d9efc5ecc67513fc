"""Archives: named arrays and a header of plain values in one file, every byte of it covered by a checksum.

The file is an uncompressed zip archive: one `.npy` entry per array, which `numpy.load` can read, then `header.json`.
The header lists each array with its dtype, shape, offset and checksum. The archive's comment is a seal: the position of
the header, and the checksum of all bytes outside the arrays. No pickle is written or read.

    | x.npy | y.npy | ... | header.json | zip's directory | seal |

Arrays are written and read in parts, so no array has to fit in memory as a whole. The reader ignores zip's directory:
the arrays that the header lists must lie within the file, one after another, so no file can request more memory than
its length. The header is checked before any array is read, and each array's checksum before the array is used.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, Any, NoReturn

import numpy as np

from pmlp_np.base.checks import is_whole
from pmlp_np.base.errors import FileFormatError, compose, show
from pmlp_np.base.persistence import kind_of, whole_file

_FORMAT = "pmlp_np"
_VERSION = 2
_HEADER = "header.json"
_OPENED_WITH = {
    "pool": "Open it with pm.load.",
    "checkpoint": "Go on with it by pm.resume(folder, X, y).",
    "search": "Go on with it by pm.search(..., checkpoint=folder, resume=True).",
    "mlp": "Open it with pm.MLP.load.",
    "ensemble": "Open it with pm.Ensemble.load.",
    "table model": "Open it with pm.TableModel.load.",
}
_DAMAGED = "The file is damaged or was written by something else."
_OTHER_VERSION = "Open it with the version of pmlp_np that wrote it."
# Bytes per read or write.
_PART = 1 << 20
# "pmlp_np 2 header 0000000000001234 0000000000000100 seal 64 hexadecimal digits"
_SEAL = re.compile(rb"pmlp_np (\d{1,3}) header ([0-9a-f]{16}) ([0-9a-f]{16}) seal ([0-9a-f]{64})")
_SEAL_LENGTH, _END_LENGTH = 120, 22
# Zip's earliest date. A constant date, so that the same arrays give the same bytes.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_DTYPES = {np.dtype(name).str for name in ("?", "u1", "i2", "i4", "i8", "u8", "f4", "f8")}
_LONGEST_TEXT = 1024
# Exceptions that the parts of a file may raise when they do not fit together.
MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True)
class Stream:
    """An array too large for memory: its dtype, its shape, and a function that yields its elements in parts."""

    dtype: np.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Listed:
    """The header's entry for one array.

    offset: position in the file where the array's `.npy` entry begins.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    checksum: str

    def plain(self) -> dict[str, Any]:
        """Return the entry as JSON values, without the name."""
        return {"dtype": self.dtype.str, "shape": self.shape, "offset": self.offset, "checksum": self.checksum}

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Position in the file where the array's `.npy` entry ends."""
        return self.offset + len(_npy_header(self.dtype, self.shape)) + self.size * self.dtype.itemsize


# Writing.


def write_archive(
    path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray | Stream]
) -> None:
    """Write an archive of a kind, such as "pool", completely or not at all."""
    with whole_file(path) as file:
        listed: list[Listed] = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(name + ".npy", _NO_DATE), "w", force_zip64=True) as entry:
                    listed.append(_write_array(entry, name, array, file.tell()))
            entries = {array_entry.name: array_entry.plain() for array_entry in listed}
            head = {"format": _FORMAT, "version": _VERSION, "kind": kind, **header, "arrays": entries}
            text = json.dumps(head, allow_nan=False).encode("ascii")
            with archive.open(zipfile.ZipInfo(_HEADER, _NO_DATE), "w", force_zip64=True) as entry:
                start = file.tell()
                entry.write(text)
            archive.comment = _seal(start, len(text), "0" * 64)
        file.flush()
        length = file.seek(0, os.SEEK_END)
        seal = _checksum_between(file, listed, length - 64)
        file.seek(length - _SEAL_LENGTH)
        file.write(_seal(start, len(text), seal))


def _seal(start: int, length: int, checksum: str) -> bytes:
    text = b"pmlp_np %d header %016x %016x seal %s" % (_VERSION, start, length, checksum.encode())
    return text.rjust(_SEAL_LENGTH)


def _write_array(entry: IO[bytes], name: str, array: np.ndarray | Stream, offset: int) -> Listed:
    if isinstance(array, Stream):
        dtype, shape, parts = array.dtype, array.shape, array.parts()
    else:
        dtype, shape, parts = array.dtype, array.shape, _in_parts(array)
    dtype = np.dtype(dtype).newbyteorder("<")
    if not _is_storable(dtype):
        raise ValueError(f"array {name}: archives cannot hold dtype {dtype}")
    hashed = blake2b(text := _npy_header(dtype, shape), digest_size=32)
    entry.write(text)
    count = 0
    for part in parts:
        values = np.ascontiguousarray(part, dtype)
        content = values.reshape(-1).view(np.uint8).data
        hashed.update(content)
        entry.write(content)
        count += values.size
    if count != math.prod(shape):
        raise ValueError(f"array {name}: {count} elements do not fill shape {shape}")
    return Listed(name, dtype, tuple(map(int, shape)), offset, hashed.hexdigest())


def _in_parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows of an array, in C order."""
    if array.ndim == 0 or array.nbytes <= _PART:
        yield array
        return
    rows = max(1, _PART // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the header of a `.npy` file, always the same bytes: NumPy's header differs between versions."""
    text = str({"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, shape))})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def _is_storable(dtype: np.dtype) -> bool:
    text = dtype.kind == "U" and 0 < dtype.itemsize <= 4 * _LONGEST_TEXT
    return text or dtype.str in _DTYPES


# Reading.


class Archive:
    """An open archive: its header, and its entries for the arrays. Made by `open_archive`."""

    def __init__(self, path: str | os.PathLike[str], file: IO[bytes], kind: str) -> None:
        self.name = f"file {os.fspath(path)}"
        self._file = file
        self._length = file.seek(0, os.SEEK_END)
        start, length, seal = self._read_seal()
        text = self._bytes(start, length)
        self.header: dict[str, Any] = self._parsed(text)
        self._check_kind(kind)
        self.listed = self._listed(self.header.pop("arrays", None), start)
        self.seal = seal
        if _checksum_between(file, self.listed.values(), self._length - 64) != seal:
            self.refuse("a seal that fits its content", "another", _DAMAGED)

    def refuse(self, expected: str, got: str, hint: str = _DAMAGED) -> NoReturn:
        """Raise FileFormatError about this file."""
        raise FileFormatError(compose(self.name, expected, got, hint))

    def read(self, name: str) -> np.ndarray:
        """Read a whole array. Raises FileFormatError for a wrong checksum."""
        entry = self.listed[name]
        array = np.empty(entry.shape, entry.dtype)
        content = array.reshape(-1).view(np.uint8)
        hashed = self._begin(entry)
        for start in range(0, len(content), _PART):
            self._fill(content[start : start + _PART])
            hashed.update(content[start : start + _PART])
        self._end(entry, hashed)
        self._check_values(entry, array)
        return array.astype(entry.dtype.newbyteorder("="), copy=False)

    @contextmanager
    def elements(self, name: str) -> Iterator[Callable[[int], np.ndarray]]:
        """Yield a function that reads the next n elements of an array, one-dimensional.

        All elements must have been read when the block ends. The checksum is verified only then.
        """
        entry = self.listed[name]
        hashed, taken = self._begin(entry), 0

        def take(n: int) -> np.ndarray:
            nonlocal taken
            taken += n
            if taken > entry.size:
                raise ValueError(f"array {name} has {entry.size} elements")
            # Only this reader moves the file's position.
            values = np.empty(n, entry.dtype)
            self._fill(values.view(np.uint8))
            hashed.update(values.view(np.uint8))
            self._check_values(entry, values)
            return values.astype(entry.dtype.newbyteorder("="), copy=False)

        yield take
        if taken != entry.size:
            raise ValueError(f"array {name} has {entry.size} elements, but {taken} were taken")
        self._end(entry, hashed)

    # Parts of an archive.

    def _read_seal(self) -> tuple[int, int, str]:
        """Return (position of the header, its length, the checksum of all bytes outside the arrays)."""
        tail = self._bytes(max(0, self._length - _SEAL_LENGTH), min(self._length, _SEAL_LENGTH))
        match = _SEAL.fullmatch(tail.strip(b" "))
        if match is None:
            version = _version_without_seal(self._file)
            if version is not None:
                self.refuse(f"format version {_VERSION}", show(version), _OTHER_VERSION)
            self.refuse(f"a {_FORMAT} archive", "something else, or a part of one")
        if int(match[1]) != _VERSION:
            self.refuse(f"format version {_VERSION}", match[1].decode(), _OTHER_VERSION)
        start, length = int(match[2], 16), int(match[3], 16)
        if start + length > self._length or length > _PART + self._length // 2:
            self.refuse("a header that lies within it", f"one of {length:,} bytes")
        return start, length, match[4].decode()

    def _parsed(self, text: bytes) -> dict[str, Any]:
        # Every value but the first follows one of these characters: the parsed header cannot grow much larger than the
        # file.
        if sum(text.count(character) for character in (b",", b"[", b"{")) > (1 << 17) + self._length // 32:
            self.refuse("a header of its array's size", "a larger one")
        try:
            header = json.loads(text.decode("ascii"), object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self.refuse("a header of JSON", str(error) or type(error).__name__)
        if not isinstance(header, dict):
            self.refuse("a header", show(header))
        return header

    def _check_kind(self, kind: str) -> None:
        got = self.header.pop("kind", None)
        if self.header.pop("format", None) != _FORMAT or got != kind:
            self.refuse(f"a {_FORMAT} file of kind {kind!r}", show(got), _OPENED_WITH.get(str(got), ""))
        version = self.header.pop("version", None)
        if not is_whole(version) or version != _VERSION:
            self.refuse(f"format version {_VERSION}", show(version), _OTHER_VERSION)

    def _listed(self, plain: Any, header_start: int) -> dict[str, Listed]:
        """Return the entries by array name.

        Each array must lie within the file, after the previous one and before the header.
        """
        if not isinstance(plain, dict):
            self.refuse("a list of its arrays", show(plain))
        entries, end = {}, 0
        for name, value in plain.items():
            entry = _as_listed(name, value)
            if entry is None:
                self.refuse(f"the dtype, shape, offset and checksum of array {show(name)}", show(value))
            if not end <= entry.offset or entry.stop > header_start:
                self.refuse(f"array {show(name)} within the file", f"shape {entry.shape} at {entry.offset:,}")
            entries[name], end = entry, entry.stop
        return entries

    def _begin(self, entry: Listed) -> Any:
        expected = _npy_header(entry.dtype, entry.shape)
        if self._bytes(entry.offset, len(expected)) != expected:
            self.refuse(f"array {entry.name} of {entry.dtype} and shape {entry.shape}", "another")
        return blake2b(expected, digest_size=32)

    def _end(self, entry: Listed, hashed: Any) -> None:
        if hashed.hexdigest() != entry.checksum:
            self.refuse(f"array {entry.name} with its checksum", "another checksum")

    def _check_values(self, entry: Listed, values: np.ndarray) -> None:
        """Refuse bytes that encode no value of the dtype."""
        if entry.dtype.kind == "b" and (values.view(np.uint8) > 1).any():
            self.refuse(f"array {entry.name} of truth values", "other bytes")
        if entry.dtype.kind == "U" and values.size and np.ascontiguousarray(values).view("<u4").max() > 0x10FFFF:
            self.refuse(f"array {entry.name} of texts", "other bytes")

    def _bytes(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        content = self._file.read(length)
        if len(content) != length:
            self.refuse(f"{self._length:,} bytes", "fewer")
        return content

    def _fill(self, content: np.ndarray) -> None:
        if self._file.readinto(content) != len(content):  # type: ignore[attr-defined]
            self.refuse(f"{self._length:,} bytes", "fewer")


@contextmanager
def open_archive(path: str | os.PathLike[str], kind: str) -> Iterator[Archive]:
    """Open an archive of a kind, with header and seal checked.

    Raises FileNotFoundError and other OSErrors; FileFormatError for a file that is no archive, is damaged, or is of
    another kind or version. Errors in the archive's content raise FileFormatError within the block, too.
    """
    file_kind = kind_of(path)
    if file_kind not in (None, "a file", "a folder"):
        raise FileFormatError(compose(f"file {os.fspath(path)}", f"a {_FORMAT} archive", file_kind or ""))
    with open(path, "rb") as file:
        yield Archive(path, file, kind)


def read_archive(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a whole archive: (header, arrays). Raises as `open_archive`."""
    with open_archive(path, kind) as archive:
        return archive.header, {name: archive.read(name) for name in archive.listed}


def seal_of(path: str | os.PathLike[str]) -> str | None:
    """Return the seal of an archive, which differs between archives of different content; None for any other file.

    The seal is not verified here; reading the archive verifies it.
    """
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SEAL_LENGTH))
        match = _SEAL.fullmatch(file.read().strip(b" "))
    return match[4].decode() if match else None


def unfit(path: str | os.PathLike[str], what: str, error: Exception) -> FileFormatError:
    """Return the error for a file whose parts do not fit together.

    what: the object that the file should hold, as "a pool".
    """
    hint = "The file is damaged, or it needs a custom formula: call pm.register_loss or pm.register_activation first."
    got = str(error).rstrip(".") or type(error).__name__
    return FileFormatError(compose(f"file {os.fspath(path)}", what, got, hint))


def _as_listed(name: str, plain: Any) -> Listed | None:
    """Return an entry of the header; None for values that this module never writes."""
    if not isinstance(plain, dict) or plain.keys() != {"dtype", "shape", "offset", "checksum"}:
        return None
    text, shape = plain["dtype"], plain["shape"]
    if not isinstance(text, str) or not (text in _DTYPES or re.fullmatch(r"<U[1-9][0-9]{0,3}", text)):
        return None
    if not isinstance(shape, list) or len(shape) > 8 or not all(is_whole(n) and 0 <= n < 2**48 for n in shape):
        return None
    if math.prod(max(n, 1) for n in shape) >= 2**48 or not is_whole(plain["offset"]) or plain["offset"] < 0:
        return None
    if not isinstance(plain["checksum"], str) or not _is_storable(np.dtype(text)):
        return None
    return Listed(name, np.dtype(text), tuple(shape), plain["offset"], plain["checksum"])


def _checksum_between(file: IO[bytes], listed: Any, stop: int) -> str:
    """Return the checksum of all bytes outside the arrays, up to `stop`."""
    hashed, at = blake2b(digest_size=32), 0
    gaps = [(entry.offset, entry.stop) for entry in listed]
    for start, end in [*gaps, (stop, stop)]:
        file.seek(at)
        while at < start:
            part = file.read(min(_PART, start - at))
            if not part:
                return ""
            hashed.update(part)
            at += len(part)
        at = max(at, end)
    return hashed.hexdigest()


def _version_without_seal(file: IO[bytes]) -> Any:
    """Return the format version of an archive written before seals existed; None for any other file."""
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(_HEADER).file_size > _PART:
                return None
            head = json.loads(archive.read(_HEADER))
        version = head["version"] if head["format"] == _FORMAT else None
        return version if version in range(_VERSION) else None
    except Exception:  # any other file
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    by_name = dict(pairs)
    if len(by_name) != len(pairs):
        raise ValueError("a duplicate name")
    return by_name


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} instead of a number")
