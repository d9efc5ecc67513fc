"""Errors: few classes, and texts that all say the same things in the same order."""

import builtins
import io
import re
import subprocess
import sys

import pytest

from pmlp_np.base import errors
from pmlp_np.base.errors import (
    SMALL_NEED,
    DataError,
    DeviceError,
    FileFormatError,
    MemoryNeededError,
    PmlpError,
    SpecError,
    compose,
    free_memory,
    nearest,
    readable_bytes,
    require_memory,
    show,
    unknown_name,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (SpecError, ValueError),
        (DataError, ValueError),
        (FileFormatError, ValueError),
        (MemoryNeededError, MemoryError),
        (DeviceError, RuntimeError),
    ],
)
def test_every_error_is_the_librarys_and_pythons(error, builtin):
    assert issubclass(error, PmlpError)
    assert issubclass(error, builtin)
    assert str(error("what happened")) == "what happened"


def test_texts_say_expected_got_and_mend():
    assert compose("X", "2 dimensions", "1", "Reshape it.") == "X: expected 2 dimensions, got 1. Reshape it."
    assert compose("X", "2 dimensions", "1") == "X: expected 2 dimensions, got 1."


def test_values_are_shown_short_and_on_one_line():
    class Shy:
        def __repr__(self):
            raise RuntimeError("no")

    assert show("a\nb") == r"'a\nb'"
    assert show(range(3)) == "range(0, 3)"
    assert show(10**5000) == "some int"
    assert show(Shy()) == "some Shy"
    shown = show(list(range(1000)))
    assert len(shown) == 80
    assert shown.startswith("[0, 1, 2") and shown.endswith("...")


@pytest.mark.parametrize(
    ("name", "found"), [("rleu", "relu"), (" RELU ", "relu"), ("Adamm", "Adam"), ("zzz", None), ("", None), (3, None)]
)
def test_nearest(name, found):
    assert nearest(name, ["relu", "elu", "tanh", "Adam"]) == found


def test_unknown_names_come_with_the_nearest_known_name_or_alias():
    text = "loss: expected one of squared_error, cross_entropy, got "
    known, aliases = ["squared_error", "cross_entropy"], ["mse"]
    assert unknown_name("loss", "x-entropy", known, aliases) == f"{text}'x-entropy'. Did you mean 'cross_entropy'?"
    assert unknown_name("loss", "msee", known, aliases) == f"{text}'msee'. Did you mean 'mse'?"
    assert unknown_name("loss", 7, known, aliases) == f"{text}7."


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (20_000_000_000, "20 GB"),
        (5e12, "5.0 TB"),
        (12345e12, "12,345 TB"),
    ],
)
def test_readable_bytes(n, text):
    assert readable_bytes(n) == text


def test_too_much_memory_is_refused_with_both_sizes():
    require_memory("forward", 1000, "Give fewer rows.", free=1000)
    text = "forward: expected no more than the 1.0 kB of memory that are free, got a need of 2.5 MB. Give fewer rows."
    with pytest.raises(MemoryNeededError, match=f"^{re.escape(text)}$"):
        require_memory("forward", 2_500_000, "Give fewer rows.", free=1000)
    with pytest.raises(MemoryNeededError, match="a need of 1,000,000 TB"):
        require_memory("forward", 10**18, "Give fewer rows.")
    require_memory("forward", 1, "Give fewer rows.")


def test_small_needs_are_not_measured(monkeypatch):
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 0)
    require_memory("forward", SMALL_NEED, "Give fewer rows.")
    with pytest.raises(MemoryNeededError, match="0 bytes of memory that are free"):
        require_memory("forward", SMALL_NEED + 1, "Give fewer rows.")


# The folder of a container's memory, and the names of its files and of the pages in its statistics.
V2 = "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
V1 = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize(
    ("limit", "used", "of_files", "free"),
    [
        ("max\n", "5\n", 1, 4_096_000),
        ("1000000\n", "400000\n", None, 600_000),
        # A table that was just read fills a container with pages, which are there to be taken.
        ("1000000\n", "990000\n", 900_000, 910_000),
        ("1000\n", "2000\n", 0, 0),
        ("9223372036854771712\n", "1000\n", 0, 4_096_000),
        (None, None, 0, 4_096_000),
    ],
)
def test_free_memory_is_the_kernels_estimate_within_the_containers_limit(
    monkeypatch, version, limit, used, of_files, free
):
    folder, limit_name, used_name, pages_name = version
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable:   4000 kB\n",
        f"{folder}/{limit_name}": limit,
        f"{folder}/{used_name}": used,
        f"{folder}/memory.stat": None if of_files is None else f"anon 77\n{pages_name} {of_files}\nunevictable 3\n",
    }

    def fake_open(path, *rest):
        if files.get(path) is None:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(errors, "open", fake_open, raising=False)
    assert free_memory() == free
    assert builtins.open is not fake_open


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_free_memory_is_within_the_process_s_limit(limit):
    """A process that may have so many bytes finds so many, and can allocate them."""
    code = f"""
import resource
import numpy as np
from pmlp_np.base.errors import free_memory
pages = open("/proc/self/statm").read().split()
used = int(pages[{0 if limit == "RLIMIT_AS" else 5}]) * resource.getpagesize()
resource.setrlimit(resource.{limit}, (used + 200_000_000, -1))
free = free_memory()
assert 150_000_000 < free <= 200_000_000, free
np.ones(int(0.9 * free), np.uint8)
try:
    np.ones(free + 50_000_000, np.uint8)
except MemoryError:
    print("within the limit")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "within the limit\n", done.stderr


def test_free_memory_without_proc_counts_free_pages(monkeypatch):
    monkeypatch.setattr(errors, "_lines", lambda path: [])
    assert free_memory() > 0
