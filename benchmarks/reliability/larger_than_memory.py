"""Training and prediction on tables of 20 GB in processes that may have 4 GB of memory of their own.

    python -m benchmarks.reliability.larger_than_memory             # adds to results/reliability.json
    python -m benchmarks.reliability.larger_than_memory --gigabytes 2 --limit 0.5 --output few.json

In Python, the table is a memory-mapped file, X.npy: holes on the disk, but for a block of numbers every hundred
megabytes. Pages that are mapped from a file belong to the system, which takes them back as it needs; what the process
allocates is limited (RLIMIT_DATA) and noted (RssAnon). A table of a hundredth of the rows trains from the file and from
memory, to compare bits.

On the command line, it is a Parquet file, small on the disk since its numbers repeat: `pmlp fit` draws as many rows as
there is memory for, and `pmlp predict` predicts a twentieth of the table.

Ten minutes, on a file system that has sparse files.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, machine

JSON = RESULTS / "reliability.json"
_FEATURES = 100
_BLOCK_ROWS, _EVERY_ROWS = 1 << 12, 250_000
_GIB = 1 << 30
# Columns, rows of a group, and how often a number repeats, in the Parquet file.
_COLUMNS, _GROUP, _REPEATED = 20, 1 << 20, 64
_PREDICTED = 20


def write_table(path: Path, rows: int) -> None:
    """Write X.npy, sparse: numbers in the first rows of each stretch, holes in between."""
    X = np.lib.format.open_memmap(path, "w+", np.float32, (rows, _FEATURES))
    rng = np.random.default_rng(0)
    for start in range(0, rows, _EVERY_ROWS):
        block = X[start : start + _BLOCK_ROWS]
        block[:] = rng.normal(size=block.shape).astype(np.float32)
    X.flush()


def targets(rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=rows).astype(np.float32)


def new_pool() -> Any:
    import pmlp_np as pm

    specs = [pm.Member(8, learning_rate=rate) for rate in (1e-4, 1e-3, 1e-2)]
    return pm.Pool(specs, _FEATURES, seed=1)


class Watch:
    """The most memory that the process has of its own, looked at twice a second."""

    def __init__(self) -> None:
        self.most, self._ended = 0, threading.Event()
        self._worker = threading.Thread(target=self._look, daemon=True)
        self._worker.start()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            text = Path("/proc/self/status").read_text()
            own = next(line for line in text.splitlines() if line.startswith("RssAnon"))
            self.most = max(self.most, int(own.split()[1]) << 10)

    def end(self) -> int:
        self._ended.set()
        self._worker.join()
        return self.most


def measure(path: Path, limit: float) -> dict[str, Any]:
    """Train for an epoch and predict, within a limit of gigabytes."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * _GIB),) * 2)
    X = np.load(path, mmap_mode="r")
    y, watch = targets(len(X)), Watch()
    began = time.monotonic()
    pool = new_pool().fit(X, y, shuffle=None, batch_size=256, epochs=1, progress=False)
    trained = time.monotonic() - began
    out = np.empty((1, len(X)), np.float32)
    began = time.monotonic()
    step = 1 << 20
    for start in range(0, len(X), step):
        rows = X[start : start + step]
        out[:, start : start + len(rows)] = pool.predict(rows, members=[1])
    predicted = time.monotonic() - began
    few = len(X) // 100
    mapped = new_pool().fit(X[:few], y[:few], epochs=1, batch_size=256, progress=False)
    held = new_pool().fit(np.array(X[:few]), y[:few], epochs=1, batch_size=256, progress=False)
    same = np.array_equal(mapped.predict(X[:1000]), held.predict(X[:1000]))
    return {
        "gigabytes": X.nbytes / _GIB, "rows": len(X), "limit": limit, "own memory": watch.end() / _GIB,
        "seconds to train": trained, "seconds to predict": predicted, "equal bits": bool(same),
        "finite": bool(np.isfinite(out).all()),
    }  # fmt: skip


def write_parquet(path: Path, groups: int) -> None:
    """Write a table of numbers, the same rows in each group."""
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng(0)
    X = rng.normal(size=(_GROUP // _REPEATED, _COLUMNS))
    columns = {f"x{i}": np.repeat(X[:, i], _REPEATED) for i in range(_COLUMNS)}
    columns["y"] = np.repeat(X[:, 0] * X[:, 1] + np.sin(X[:, 2]), _REPEATED)
    table = pyarrow.table(columns)
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=_GROUP)


def run_command(arguments: Sequence[str], limit: float) -> dict[str, float]:
    """Run a command of pmlp in this process, within a limit of gigabytes. Returns seconds and memory."""
    from pmlp_np.app.main import main

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * _GIB),) * 2)
    began, watch = time.monotonic(), Watch()
    if main(list(arguments)):
        sys.exit(1)
    return {"seconds": time.monotonic() - began, "own memory": watch.end() / _GIB}


def on_the_command_line(folder: Path, gigabytes: float, limit: float) -> dict[str, Any]:
    groups = max(1, round(gigabytes * _GIB / (8 * (_COLUMNS + 1) * _GROUP)))
    whole, few, result = folder / "table.parquet", folder / "few.parquet", folder / "result"
    write_parquet(whole, groups)
    write_parquet(few, max(1, groups // _PREDICTED))
    fit = within(limit, "fit", str(whole), "--target", "y", "--out", str(result), "--quick")
    summary = json.loads((result / "run.json").read_text())
    predict = within(limit, "predict", str(result), str(few), "--out", str(folder / "predictions.csv"))
    with (folder / "predictions.csv").open() as file:
        predicted = sum(1 for _ in file) - 1
    return {
        "rows": groups * _GROUP, "columns": _COLUMNS + 1, "drawn": summary["rows"]["all"],
        "r2": summary["scores"]["ensemble"]["test"]["r2"], "fit": fit, "predict": predict, "predicted rows": predicted,
    }  # fmt: skip


def within(limit: float, *arguments: str) -> dict[str, Any]:
    """Return what this script finds out in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reliability.larger_than_memory", "--limit", str(limit), "--within"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(found: dict[str, Any]) -> str:
    """Return the result as lines of the page."""
    command = found["command line"]
    gigabytes = command["rows"] * command["columns"] * 8 / _GIB
    return (
        f"- **Larger than memory.** A memory-mapped table of {found['gigabytes']:.0f} GB ({found['rows']:,} rows, "
        f"mostly holes on the disk), in a process limited to {found['limit']:g} GB of its own: an epoch of three "
        f"members took {found['seconds to train']:.0f} s, predictions {found['seconds to predict']:.0f} s, with "
        f"{found['own memory']:.1f} GB at most; a hundredth of it trained to "
        f"{'the same bits' if found['equal bits'] else 'OTHER BITS'} from the file and from memory.\n"
        f"- **On the command line.** A Parquet file of {command['rows']:,} rows ({gigabytes:.0f} GB as float64), the "
        f"same limit: `pmlp fit --quick` drew {command['drawn']:,} rows and took {command['fit']['seconds']:.0f} s in "
        f"all, with {command['fit']['own memory']:.1f} GB at most; `pmlp predict` took "
        f"{command['predict']['seconds']:.0f} s for {command['predicted rows']:,} rows, with "
        f"{command['predict']['own memory']:.1f} GB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--limit", type=float, default=4.0, help="gigabytes of memory of its own")
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--within", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        python = options.within[0] == "python"
        job = measure(Path(options.within[1]), options.limit) if python else run_command(options.within, options.limit)
        print(json.dumps(job))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "X.npy", int(options.gigabytes * _GIB / 4 / _FEATURES))
        found = within(options.limit, "python", str(folder / "X.npy"))
        (folder / "X.npy").unlink()
        found["command line"] = on_the_command_line(folder, options.gigabytes, options.limit)
    whole = json.loads(options.output.read_text()) if options.output.exists() else {}
    whole["larger than memory"] = {"machine": machine(), **found}
    options.output.write_text(json.dumps(whole, indent=1) + "\n")
    print(line(whole["larger than memory"]))


if __name__ == "__main__":
    main()
