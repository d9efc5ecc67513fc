"""From bytes to lines of text: encodings, and line numbers of bytes that are no text."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from pmlp_np.base.errors import DataError, compose, readable_bytes

_BLOCK_BYTES = 1 << 20
# A line with more characters is an error: the file has no line ends, or unusual ones.
_LONGEST_LINE = 1 << 26


@dataclass(frozen=True)
class Source:
    """A file whose bytes can be read more than once.

    size: in bytes, as it lies on the disk.
    opened: opens the file at the beginning.
    packed: whether more bytes are read than it has.
    """

    name: str
    size: int
    opened: Callable[[], contextlib.AbstractContextManager[BinaryIO]]
    packed: bool = False


def encoding_of(head: bytes, requested: str | None, name: str, notes: list[str]) -> str:
    """Return the encoding of a file: the requested one, else by the first bytes. An unusual one is noted."""
    if requested is not None:
        # The byte order mark is no part of the first name.
        utf8 = codecs.lookup(requested).name == "utf-8"
        return "utf-8-sig" if utf8 and head.startswith(b"\xef\xbb\xbf") else requested
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[start::2], head[1 - start :: 2]
        if len(head) > 3 and zeros.count(0) > 0.9 * len(zeros) and others.count(0) == 0:
            notes.append(f"text is read as {encoding.upper()}")
            return encoding
    try:
        # The last character of the head may be incomplete.
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < _BLOCK_BYTES // 16:
            notes.append("text is not UTF-8: read as Windows-1252 (Latin-1); --encoding says another")
            return "cp1252"
    return "utf-8"


def lines_of(file: BinaryIO, encoding: str, source: Source) -> Iterator[str]:
    """Yield the lines of a file, with their ends: \\n, \\r\\n or \\r.

    Raises DataError, with the line number, for bytes that are no text in this encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    rest, n = "", 0
    while True:
        block = file.read(_BLOCK_BYTES)
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            before = rest + _decoded(error.object[: error.start], encoding)
            raise _no_text(source, encoding, error, n + 1 + _ends(before)) from error
        if "\0" in text:
            line = n + 1 + _ends(rest + text[: text.index("\0")])
            got = f"bytes that are no text (a zero byte in line {line:,})"
            name = f"{source.name} ({readable_bytes(source.size)})"
            raise DataError(compose(name, "a CSV or Parquet file", got))
        pieces = list(io.StringIO(rest + text, newline=""))
        rest = ""
        if block and pieces and not pieces[-1].endswith("\n"):
            # The line continues in the next block, or its \n follows there.
            rest = pieces.pop()
            if len(rest) > _LONGEST_LINE:
                got = f"one of more than {_LONGEST_LINE:,} characters"
                raise DataError(compose(f"{source.name}, line {n + len(pieces) + 1:,}", "lines of text", got))
        n += len(pieces)
        yield from pieces
        if not block:
            return


def _decoded(valid: bytes, encoding: str) -> str:
    return bytes(valid).decode(encoding, "ignore")


def _ends(text: str) -> int:
    """Return the number of line ends in a text."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _no_text(source: Source, encoding: str, error: UnicodeDecodeError, line: int) -> DataError:
    byte = error.object[error.start]
    other = "cp1252"
    try:
        bytes([byte]).decode(other)
    except UnicodeDecodeError:
        other = "latin-1"
    hint = f"Save it as UTF-8, or say --encoding {other if encoding != other else 'latin-1'}."
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        # The file's other bytes are no text in another encoding.
        hint = "Write or fetch it again, as UTF-8: it is cut, or was joined with another file."
    name = encoding.removesuffix("-sig").upper() if encoding.startswith("utf") else encoding
    return DataError(compose(f"{source.name}, line {line:,}", f"text in {name}", f"byte {byte:#x}", hint))


def head_of(source: Source, n: int) -> bytes:
    """Return the first n bytes."""
    with source.opened() as file:
        head = b""
        while len(head) < n:
            block = file.read(n - len(head))
            if not block:
                break
            head += block
        return head


@contextlib.contextmanager
def rewound(file: Any) -> Iterator[Any]:
    """Yield an open file, rewound to the beginning. It stays open."""
    file.seek(0)
    yield file
