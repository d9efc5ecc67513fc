"""Archives made byte by byte, with checksums that are right whatever they hold: by the description of the format, not
by the module that writes it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEAL = 120


def checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def npy(array: np.ndarray, descr: str | None = None, shape: Any = None) -> bytes:
    """A .npy file: its header padded to a multiple of 64."""
    text = str({"descr": descr or array.dtype.str, "fortran_order": False, "shape": shape or array.shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + np.ascontiguousarray(array).tobytes()


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays) of an archive."""
    content = path.read_bytes()
    words = content[-SEAL:].split()
    start, length = int(words[3], 16), int(words[4], 16)
    header = json.loads(content[start : start + length])
    arrays = {}
    for name, place in header.pop("arrays").items():
        arrays[name] = np.load(io.BytesIO(content[place["offset"] :]), allow_pickle=False)
    return header, arrays


def craft(
    path: Path,
    header: dict[str, Any],
    arrays: dict[str, np.ndarray | bytes],
    listed: Callable[[dict[str, Any]], Any] = lambda places: None,
    text: Callable[[str], str] = lambda text: text,
    version: int = 2,
) -> None:
    """Write an archive. An array may be the bytes of a .npy, whose dtype and shape `listed` then enters.

    listed: changes the header's list of arrays. text: changes the header's text. Checksums are right after both.
    """
    content, places, gaps = b"", {}, []
    for name, array in arrays.items():
        file = array if isinstance(array, bytes) else npy(array)
        shape = [] if isinstance(array, bytes) else list(array.shape)
        dtype = "" if isinstance(array, bytes) else array.dtype.str
        places[name] = {"dtype": dtype, "shape": shape, "offset": len(content), "checksum": checksum(file)}
        content += file
        gaps.append(len(content))
    listed(places)
    head = text(json.dumps({**header, "arrays": places})).encode()
    tail = b"pmlp_np %d header %016x %016x seal " % (version, len(content), len(head))
    path.write_bytes(content + head + tail + checksum(head + tail).encode())


def flip(content: bytes, bit: int) -> bytes:
    found = bytearray(content)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)
