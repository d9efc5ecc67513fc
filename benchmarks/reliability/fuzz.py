"""Fuzz files: valid ones are changed at random and read.

Nothing may happen but one of the library's exceptions that names the file, or an object that then works.

    python -m benchmarks.reliability.fuzz 10000 --seed 3

Half of the changes are to bytes. The others are to the content, with checksums that are right afterwards: values of the
header are replaced, removed or added at any depth, arrays change in elements, dtype and shape. Of tables and of result
folders (any of their files) bytes change, and pieces of text that mean something are put in. Each input has two
seconds, and the process two gigabytes of addresses beyond those that it begins with.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import ROOT
from pmlp_np.base.archive import read_archive, write_archive

ARCHIVES = ("pool", "network", "ensemble", "table model", "checkpoint", "search")
KINDS = (*ARCHIVES, "CSV table", "Parquet table", "result folder")
# Their folders are put back as they were after each input.
_FOLDERS = ("search", "result folder")
SECONDS, MEMORY = 2.0, 2 << 30
# By the clock an input may take so many times its seconds of CPU time.
_WAITS = 30.0
_ODD = (
    None, True, False, -1, 0, 1, 2, 7, 2**31, 2**53, 2**63, -(2**63), 2**70, 1e308, -0.0, 0.5, 1e-300, "", "relu",
    "x" * 5000, "../x", [], {}, [[]], [1, "a"], [None] * 50, {"a": 1}, {"": {}}, "float32", "nan",
)  # fmt: skip
_WITH_DATA = ("checkpoint.pmlp", "search.pmlp")
_NUMBERS = (0, -1, 1, 2**31 - 1, -(2**31), 2**62, -(2**62), 1e308, -1e308, 1e-320, np.nan, np.inf, -np.inf)


# What is put into tables and texts.
_PIECES = (
    b"\0", b'"', b"'", b"\r", b"\n", b"\r\n", b",", b";", b"\t", b",,,,,,", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80",
    b"nan", b"NA", b"1.234,5", b"0x10", b"99999999999999999999", b"2024-02-30", b"12:61", b"(5)", b"%", b"x" * 70_000,
    b'"' * 999, b"\n" * 500, b"a,b,c\n" * 300, b"{", b"}", b"[", b"null", b"1e308", b"\\u0000", b"-1",
    b"1e999", b"true", b"=cmd()", b"-",
)  # fmt: skip


class TooLong(BaseException):
    """An input that took too long."""


def valid_files(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any], Callable[[Any], Any]]]:
    """Write a valid file of each kind; return by kind its path, what reads it, and what uses what was read."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    specs = [pm.Member((3, 2), ("tanh", "relu"), average=0.9), pm.Member((), optimizer=pm.SGD(0.01)),
             pm.Member(4, feature_scale=True, bias=False)]  # fmt: skip
    pool = pm.Pool(specs, 3, seed=1, ids=[5, 2, 9], backend="reference")
    how: dict[str, Any] = {"validation_data": (X, y), "early_stopping": True, "progress": False, "epochs": 3}
    pool.fit(X, y, features=[[0, 1], [2], [1, 0, 2]], **how)
    pool.save(folder / "pool.pmlp")
    pool.extract(5).save(folder / "mlp.pmlp")
    pool.ensemble([5, 2]).save(folder / "ensemble.pmlp")
    run = pm.Pool(specs, 3, seed=1, backend="reference")
    run.fit(X, y, checkpoint=folder / "run", time_budget=1e-9, **how)
    table = np.array([[float(a), "red" if b > 0 else "green"] for a, b, _ in X], object)
    search = {"time_budget": None, "max_members": 4, "max_epochs": 2, "cv": 2, "progress": False}
    pm.search(table, y, **search, checkpoint=folder / "search").ensemble.save(folder / "model.pmlp")  # type: ignore[arg-type]

    def resumed(path: Path) -> Any:
        return pm.resume(path.parent, X, y, validation_data=(X, y), time_budget=0.05)

    def went_on(path: Path) -> Any:
        return pm.search(table, y, **search, checkpoint=path.parent, resume=True)  # type: ignore[arg-type]

    tables = _tables(folder)
    return {
        **tables,
        "pool": (folder / "pool.pmlp", pm.load, lambda pool: pool.predict(X)),
        "network": (folder / "mlp.pmlp", pm.MLP.load, lambda mlp: mlp.predict(X)),
        "ensemble": (folder / "ensemble.pmlp", pm.Ensemble.load, lambda ensemble: ensemble.predict(X)),
        "table model": (folder / "model.pmlp", pm.TableModel.load, lambda model: model.predict(table)),
        "checkpoint": (folder / "run" / "checkpoint.pmlp", resumed, lambda pool: pool.predict(X)),
        "search": (folder / "search" / "search.pmlp", went_on, lambda result: result.ensemble.predict(table)),
    }


def _tables(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any], Callable[[Any], Any]]]:
    import pandas

    from pmlp_np.app import folder as results
    from pmlp_np.app.main import main
    from pmlp_np.app.tables import read_table

    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({
        "a": rng.normal(size=60).round(3), "b": rng.integers(0, 9, size=60),
        "when": pandas.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d"),
        "kind": rng.choice(["red", "dark, green", 'so "blue"'], size=60),
    })  # fmt: skip
    frame["y"] = frame["a"] * 2 + frame["b"]
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_parquet(folder / "table.parquet")
    fit = ["fit", str(folder / "table.csv"), "--target", "y", "--out", str(folder / "result"), "--cv", "2"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = main([*fit, "--max-members", "2", "--max-epochs", "2"])
    assert status == 0

    def use(table: Any) -> None:
        for name in table.frame.columns:
            table.numbers(name), table.labels(name)

    def result(path: Path) -> Any:
        found = results.Result(path.parent)
        return found.columns, found.model, found.report, found.records

    return {
        "CSV table": (folder / "table.csv", lambda path: read_table(str(path)), use),
        "Parquet table": (folder / "table.parquet", lambda path: read_table(str(path)), use),
        "result folder": (folder / "result" / "run.json", result, repr),
    }


def other_bytes(original: bytes, draw: np.random.Generator) -> bytes:
    """Return the bytes with a part cut off, taken out, put in, or changed."""
    content, n = bytearray(original), len(original)
    way = int(draw.integers(5))
    if way == 0:
        return bytes(content[: draw.integers(n)])
    start, length = int(draw.integers(n)), int(draw.integers(1, 200))
    if way == 1:
        del content[start : start + length]
    elif way == 2:
        content[start:start] = draw.bytes(length)
    elif way == 3:
        content[start : start + length] = draw.bytes(len(content[start : start + length]))
    else:
        content[start] ^= 1 << int(draw.integers(8))
    return bytes(content)


class TextMutator:
    """Changes bytes of a file, or of any file of its folder, and puts pieces in."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.contents = {path: path.read_bytes() for path in paths}

    def write(self, path: Path, draw: np.random.Generator) -> None:
        """Write one of the files anew; `path` is only one of them."""
        paths = list(self.contents)
        path = paths[draw.integers(len(paths))]
        content = self.contents[path]
        for _ in range(1 + int(draw.integers(3))):
            if draw.random() < 0.4 and content:
                content = other_bytes(content, draw)
            else:
                at = int(draw.integers(len(content) + 1))
                content = content[:at] + _PIECES[draw.integers(len(_PIECES))] + content[at:]
        path.write_bytes(content)


class Mutator:
    """Changes an archive at random."""

    def __init__(self, path: Path, kind: str) -> None:
        self.content, self.kind = path.read_bytes(), kind
        self.header, self.arrays = read_archive(path, kind)

    def write(self, path: Path, draw: np.random.Generator) -> None:
        if draw.random() < 0.5:
            path.write_bytes(other_bytes(self.content, draw))
            return
        header, arrays = json.loads(json.dumps(self.header)), dict(self.arrays)
        for _ in range(1 + int(draw.integers(3))):
            if arrays and draw.random() < 0.5:
                self._change_array(arrays, draw)
            else:
                self._change_value(header, draw)
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            # What no archive can hold is not written.
            write_archive(path, self.kind, header, arrays)

    def _change_value(self, header: Any, draw: np.random.Generator) -> None:
        at: Any = header
        while True:
            keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                return
            key = keys[draw.integers(len(keys))]
            if not isinstance(at[key], (dict, list)) or not at[key] or draw.random() < 0.3:
                break
            at = at[key]
        way = draw.random()
        if way < 0.7:
            at[key] = _ODD[draw.integers(len(_ODD))]
        elif way < 0.85:
            del at[key]
        elif isinstance(at, dict):
            at[f"{key}2"] = at[key]
        else:
            at.append(at[key])

    def _change_array(self, arrays: dict[str, np.ndarray], draw: np.random.Generator) -> None:
        names = list(arrays)
        name = names[draw.integers(len(names))]
        array, way = arrays[name].copy(), draw.random()
        if way < 0.5 and array.size and array.dtype.kind in "iufb":
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = np.asarray(_NUMBERS[draw.integers(len(_NUMBERS))]).astype(array.dtype)
            array.reshape(-1)[draw.integers(array.size)] = value
        elif way < 0.6:
            array = array.reshape(-1)
        elif way < 0.7:
            array = array[: draw.integers(len(array) + 1)] if array.ndim else array
        elif way < 0.8:
            array = np.concatenate([array, array]) if array.ndim else array
        elif way < 0.9 and array.dtype.kind in "iufb":
            with np.errstate(all="ignore"):
                array = array.astype(("float64", "int64", "float32", "uint8", "bool")[draw.integers(5)])
        elif way < 0.95:
            del arrays[name]
            return
        else:
            arrays[f"{name}2"] = array
            return
        arrays[name] = array


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooLong if the block takes longer: in CPU time, as other processes may run, or far longer by the clock."""

    def end(number: int, frame: object) -> None:
        raise TooLong

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, _WAITS * seconds))
    before = [signal.signal(number, end) for _, number, _ in timers]
    for timer, _, length in timers:
        signal.setitimer(timer, length)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0.0)
            signal.signal(number, handler)


def outcome(path: Path, read: Callable[[Path], Any], use: Callable[[Any], Any]) -> str:
    """Return what became of an input: "refused", "accepted", or what is wrong."""
    found = None
    try:
        with within(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(path)
            use(found)
    except pm.PmlpError as error:
        # Where a run goes on, data that it is not about are refused; and what was read may predict no numbers.
        about_data = found is not None or (path.name in _WITH_DATA and isinstance(error, pm.DataError))
        # Of a search either its file or that of a round may be at fault.
        named = path.name in str(error) or f"{path.parent}/" in str(error)
        return "refused" if named or about_data else f"does not name the file: {error}"
    except TooLong:
        return f"took longer than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def fuzz(n: int, seed: int, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """Try n inputs; return how many of each kind were refused and accepted, and faults with the inputs' numbers."""
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        files = valid_files(Path(name))
        for file in files.values():
            found = outcome(*file)
            assert found == "accepted", found
        own = {"network": "mlp"}
        mutators: dict[str, Mutator | TextMutator] = {
            kind: Mutator(path, own.get(kind, kind)) if kind in ARCHIVES else TextMutator(
                sorted(each for each in path.parent.glob("*.*") if each.suffix not in (".html",))
                if kind in _FOLDERS else [path]
            )
            for kind, (path, *_) in files.items()
        }  # fmt: skip
        originals = {kind: path.read_bytes() for kind, (path, *_) in files.items()}
        chosen = list(kinds)
        backups = {kind: Path(name) / f"whole {kind}" for kind in _FOLDERS}
        for kind, backup in backups.items():
            shutil.copytree(files[kind][0].parent, backup)
        for i in range(n):
            kind = chosen[i % len(chosen)]
            path = files[kind][0]
            path.write_bytes(originals[kind])
            if kind in _FOLDERS:
                # A search that is accepted may have trained on.
                shutil.rmtree(path.parent)
                shutil.copytree(backups[kind], path.parent)
            mutators[kind].write(path, np.random.default_rng([seed, i]))
            found = outcome(*files[kind])
            if found in ("refused", "accepted"):
                counts[kind, found] += 1
            else:
                faults.append({"kind": kind, "seed": seed, "input": i, "fault": found[:300]})
    return {
        "inputs": n,
        "by_kind": {kind: {o: counts[kind, o] for o in ("refused", "accepted")} for kind in chosen},
        "faults": faults,
    }


def in_bounds(n: int, seed: int, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """Do as `fuzz` in a process of its own, whose memory has a bound: what ends it ends nothing else."""
    command = [sys.executable, "-m", "benchmarks.reliability.fuzz", str(n), "--seed", str(seed)]
    if kinds:
        command += ["--kinds", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    fault = f"the process ended with {done.returncode}: {done.stderr[-300:]}"
    return {"inputs": n, "by_kind": {}, "faults": [{"fault": fault}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    # What reserves addresses when it is imported.
    import pyarrow.parquet  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    print(json.dumps(fuzz(options.inputs, options.seed, options.kinds), indent=1))


if __name__ == "__main__":
    main()
