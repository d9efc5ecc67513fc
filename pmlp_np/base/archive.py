"""Archives: named arrays and a header of plain values in one file, every byte of which is under a checksum.

The file is a zip archive that compresses nothing: one `.npy` per array, as `numpy.load` reads them, then `header.json`,
which lists every array with dtype, shape, place and checksum. The archive's comment is a seal: where the header lies,
and the checksum of all bytes that are not an array's. No pickle, on either side.

    | x.npy | y.npy | ... | header.json | zip's directory | seal |

Arrays are written and read part by part, so that none need be in memory as a whole. A reader takes nothing from zip's
own tables: what the header lists must lie within the file, one after another, so that no file can ask for more memory
than it is long. All that the header says is checked before an array is read, and an array's checksum before it is used.
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
    "mlp": "Open it with pm.MLP.load.",
    "ensemble": "Open it with pm.Ensemble.load.",
}
_DAMAGED = "The file is damaged or was written by something else."
_OTHER_VERSION = "Open it with the version of pmlp_np that wrote it."
# Bytes that are read or written at once.
_PART = 1 << 20
# "pmlp_np 2 header 0000000000001234 0000000000000100 seal 64 hexadecimal digits"
_SEAL = re.compile(rb"pmlp_np (\d{1,3}) header ([0-9a-f]{16}) ([0-9a-f]{16}) seal ([0-9a-f]{64})")
_SEAL_LENGTH, _END_LENGTH = 120, 22
# Zip has no dates before 1980. The same arrays make the same bytes.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_DTYPES = {np.dtype(name).str for name in ("?", "i2", "i4", "i8", "u8", "f4", "f8")}
_LONGEST_TEXT = 1024
# What parts that don't fit each other may raise where they are put together.
MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


@dataclass(frozen=True)
class Stream:
    """An array that is too large to be made as a whole: its dtype, its shape, and its elements in parts."""

    dtype: np.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Listed:
    """What the header says of an array. offset: of its .npy in the file."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    checksum: str

    def plain(self) -> dict[str, Any]:
        """As the header keeps it, by name."""
        return {"dtype": self.dtype.str, "shape": self.shape, "offset": self.offset, "checksum": self.checksum}

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Where its .npy ends in the file."""
        return self.offset + len(_npy_header(self.dtype, self.shape)) + self.size * self.dtype.itemsize


# Writing.


def write_archive(
    path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray | Stream]
) -> None:
    """Write an archive of a kind ("pool", "mlp", "ensemble"), whole or not at all."""
    with whole_file(path) as file:
        listed: list[Listed] = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(name + ".npy", _NO_DATE), "w", force_zip64=True) as entry:
                    listed.append(_write_array(entry, name, array, file.tell()))
            places = {each.name: each.plain() for each in listed}
            head = {"format": _FORMAT, "version": _VERSION, "kind": kind, **header, "arrays": places}
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
        raise ValueError(f"array {name}: {dtype} is no type that archives hold")
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
        raise ValueError(f"array {name}: {count} elements where its shape {shape} says others")
    return Listed(name, dtype, tuple(map(int, shape)), offset, hashed.hexdigest())


def _in_parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in C order, some of its first axis at a time."""
    if array.ndim == 0 or array.nbytes <= _PART:
        yield array
        return
    rows = max(1, _PART // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """How a .npy begins, always in the same bytes: NumPy's own differ from version to version."""
    text = str({"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, shape))})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def _is_storable(dtype: np.dtype) -> bool:
    text = dtype.kind == "U" and 0 < dtype.itemsize <= 4 * _LONGEST_TEXT
    return text or dtype.str in _DTYPES


# Reading.


class Archive:
    """An open archive: its header, and what it lists of each array. Made by `open_archive`."""

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
        """Raise the error that names the file."""
        raise FileFormatError(compose(self.name, expected, got, hint))

    def read(self, name: str) -> np.ndarray:
        """A whole array, whose checksum was right."""
        place = self.listed[name]
        array = np.empty(place.shape, place.dtype)
        content = array.reshape(-1).view(np.uint8)
        hashed = self._begin(place)
        for start in range(0, len(content), _PART):
            self._fill(content[start : start + _PART])
            hashed.update(content[start : start + _PART])
        self._end(place, hashed)
        self._check_values(place, array)
        return array.astype(place.dtype.newbyteorder("="), copy=False)

    @contextmanager
    def elements(self, name: str) -> Iterator[Callable[[int], np.ndarray]]:
        """A function that returns so many next elements of an array, one-dimensional. When the block ends all must have
        been taken; only then the checksum is known to be right."""
        place = self.listed[name]
        hashed, taken = self._begin(place), 0

        def take(n: int) -> np.ndarray:
            nonlocal taken
            taken += n
            if taken > place.size:
                raise ValueError(f"array {name} has {place.size} elements")
            # The file's position is the reader's alone.
            values = np.empty(n, place.dtype)
            self._fill(values.view(np.uint8))
            hashed.update(values.view(np.uint8))
            self._check_values(place, values)
            return values.astype(place.dtype.newbyteorder("="), copy=False)

        yield take
        if taken != place.size:
            raise ValueError(f"array {name} has {place.size} elements, of which {taken} were taken")
        self._end(place, hashed)

    # Its parts.

    def _read_seal(self) -> tuple[int, int, str]:
        """(where the header starts, its length, the checksum of all that is no array)."""
        tail = self._bytes(max(0, self._length - _SEAL_LENGTH), min(self._length, _SEAL_LENGTH))
        found = _SEAL.fullmatch(tail.strip(b" "))
        if found is None:
            version = _version_without_seal(self._file)
            if version is not None:
                self.refuse(f"format version {_VERSION}", show(version), _OTHER_VERSION)
            self.refuse(f"a {_FORMAT} archive", "something else, or a part of one")
        if int(found[1]) != _VERSION:
            self.refuse(f"format version {_VERSION}", found[1].decode(), _OTHER_VERSION)
        start, length = int(found[2], 16), int(found[3], 16)
        if start + length > self._length or length > _PART + self._length // 2:
            self.refuse("a header that lies within it", f"one of {length:,} bytes")
        return start, length, found[4].decode()

    def _parsed(self, text: bytes) -> dict[str, Any]:
        # Every value but the first follows one of these: what is parsed can't grow much larger than the file.
        if sum(text.count(each) for each in (b",", b"[", b"{")) > (1 << 17) + self._length // 32:
            self.refuse("a header of its array's size", "a larger one")
        try:
            found = json.loads(text.decode("ascii"), object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self.refuse("a header of JSON", str(error) or type(error).__name__)
        if not isinstance(found, dict):
            self.refuse("a header", show(found))
        return found

    def _check_kind(self, kind: str) -> None:
        got = self.header.pop("kind", None)
        if self.header.pop("format", None) != _FORMAT or got != kind:
            self.refuse(f"a {_FORMAT} file of kind {kind!r}", show(got), _OPENED_WITH.get(str(got), ""))
        version = self.header.pop("version", None)
        if not is_whole(version) or version != _VERSION:
            self.refuse(f"format version {_VERSION}", show(version), _OTHER_VERSION)

    def _listed(self, plain: Any, header_start: int) -> dict[str, Listed]:
        """The arrays by name, each of which lies within the file, before the header and behind the one before it."""
        if not isinstance(plain, dict):
            self.refuse("a list of its arrays", show(plain))
        found, end = {}, 0
        for name, each in plain.items():
            place = _as_listed(name, each)
            if place is None:
                self.refuse(f"the dtype, shape, offset and checksum of array {show(name)}", show(each))
            if not end <= place.offset or place.stop > header_start:
                self.refuse(f"array {show(name)} within the file", f"shape {place.shape} at {place.offset:,}")
            found[name], end = place, place.stop
        return found

    def _begin(self, place: Listed) -> Any:
        expected = _npy_header(place.dtype, place.shape)
        if self._bytes(place.offset, len(expected)) != expected:
            self.refuse(f"array {place.name} of {place.dtype} and shape {place.shape}", "another")
        return blake2b(expected, digest_size=32)

    def _end(self, place: Listed, hashed: Any) -> None:
        if hashed.hexdigest() != place.checksum:
            self.refuse(f"array {place.name} with its checksum", "another checksum")

    def _check_values(self, place: Listed, values: np.ndarray) -> None:
        """Bytes that stand for no value of their dtype."""
        if place.dtype.kind == "b" and (values.view(np.uint8) > 1).any():
            self.refuse(f"array {place.name} of truth values", "other bytes")
        if place.dtype.kind == "U" and values.size and np.ascontiguousarray(values).view("<u4").max() > 0x10FFFF:
            self.refuse(f"array {place.name} of texts", "other bytes")

    def _bytes(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        found = self._file.read(length)
        if len(found) != length:
            self.refuse(f"{self._length:,} bytes", "fewer")
        return found

    def _fill(self, content: np.ndarray) -> None:
        if self._file.readinto(content) != len(content):  # type: ignore[attr-defined]
            self.refuse(f"{self._length:,} bytes", "fewer")


@contextmanager
def open_archive(path: str | os.PathLike[str], kind: str) -> Iterator[Archive]:
    """An archive of a kind, whose header and seal are checked.

    Raises FileNotFoundError and its like, and FileFormatError for what is no archive, damaged, of another kind or
    version; and turns what goes wrong within the block because of its content into one.
    """
    kind_there = kind_of(path)
    if kind_there not in (None, "a file", "a folder"):
        raise FileFormatError(compose(f"file {os.fspath(path)}", f"a {_FORMAT} archive", kind_there or ""))
    with open(path, "rb") as file:
        yield Archive(path, file, kind)


def read_archive(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays) of an archive, whole. Raises as `open_archive`."""
    with open_archive(path, kind) as archive:
        return archive.header, {name: archive.read(name) for name in archive.listed}


def seal_of(path: str | os.PathLike[str]) -> str | None:
    """The seal of an archive, which no archive of other content has; None for any other file. What it seals is checked
    by whoever reads the archive."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SEAL_LENGTH))
        found = _SEAL.fullmatch(file.read().strip(b" "))
    return found[4].decode() if found else None


def unfit(path: str | os.PathLike[str], what: str, error: Exception) -> FileFormatError:
    """The error for a file whose parts are there but don't make up what it should hold."""
    hint = "The file is damaged, or pm.register_loss or pm.register_activation must first enter what it names."
    got = str(error).rstrip(".") or type(error).__name__
    return FileFormatError(compose(f"file {os.fspath(path)}", what, got, hint))


def _as_listed(name: str, plain: Any) -> Listed | None:
    """An entry of the header's list; None for what this module never wrote."""
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
    """The checksum of the bytes that are no array's, up to `stop`."""
    hashed, at = blake2b(digest_size=32), 0
    gaps = [(each.offset, each.stop) for each in listed]
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
    """The version of an archive of before there were seals; None for any other file."""
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(_HEADER).file_size > _PART:
                return None
            head = json.loads(archive.read(_HEADER))
        version = head["version"] if head["format"] == _FORMAT else None
        return version if version in range(_VERSION) else None
    except Exception:  # whatever else it is
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that comes twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no number")
