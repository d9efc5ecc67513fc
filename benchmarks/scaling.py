"""How time and memory grow: with members, rows, threads, depth, outputs and width.

    python -m benchmarks.scaling                       # all of it; writes benchmarks/results/scaling.json
    python -m benchmarks.scaling --only rows,threads   # these parts; the file keeps what it had of the others
    python -m benchmarks.scaling --quick               # smaller and fewer; written only to --output

Float32, squared error, plain SGD, minibatches of 32. Members have ten widths from 5 to 95 and the paper's ten
activations, in the same mixture at every size, unless a part says otherwise. The file is written after every part.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pmlp_np as pm
from benchmarks import limit
from benchmarks.common import ACTIVATIONS, RESULTS, Architecture, available_cores, machine, regression_data
from benchmarks.fresh_fit import fit_in_a_new_process
from benchmarks.pools import LEARNING_RATE, MIXED_WIDTHS, mixed_pool, time_fit

N_FEATURES = 10
_REPEATS = 25  # of each architecture, where depth and outputs grow


class Effort(NamedTuple):
    repeats: int
    largest_pool: int
    member_samples: int  # of a timed fit, where the pool is not larger by itself
    fewest_rows: int  # of a timed fit of many members
    largest_table: int
    largest_width: int
    wide_operations: float  # of a timed fit of wide members


FULL = Effort(5, 1_000_000, 1 << 25, 1024, 10_000_000, 4096, 4e11)
QUICK = Effort(3, 100_000, 1 << 22, 128, 100_000, 1024, 2e10)

Cells = Iterator[dict[str, Any]]


def powers_of_ten(first: int, last: int) -> list[int]:
    return [10**k for k in range(len(str(first)) - 1, len(str(last)))]


def per_member_sample(cell: dict[str, Any], n_members: int, n_rows: int) -> dict[str, Any]:
    """A cell with the nanoseconds that a member takes for a row: wall time, all threads at work."""
    return cell | {"ns_per_member_sample": 1e9 * cell["median"] / (n_members * n_rows * cell["epochs"])}


def measure_members(effort: Effort) -> Cells:
    """The same mixture of members, more and more of them; fewer rows for larger pools, and as many epochs as fill a
    fit. No fewer than a member's parameters, which come from memory once an epoch, are worth fetching for."""
    for n_members in powers_of_ten(100, effort.largest_pool):
        n_rows = int(np.clip(effort.member_samples // n_members, effort.fewest_rows, 4096))
        epochs = max(1, effort.member_samples // (n_members * n_rows))
        pool = mixed_pool(n_members, N_FEATURES)
        x, y = regression_data(N_FEATURES, n_rows)
        cell = time_fit(pool, x, y, effort.repeats if n_members < 10**6 else min(3, effort.repeats), epochs)
        yield {"n_members": n_members, "n_rows": n_rows} | per_member_sample(cell, n_members, n_rows)


def write_table(folder: Path, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """X and y as memory-mapped files, written in pieces: the table is never in this process's memory as a whole."""
    shapes = {"x": (n_rows, N_FEATURES), "y": (n_rows,)}
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for name, shape in shapes.items()
    }
    step = 100_000
    for start in range(0, n_rows, step):
        x, y = regression_data(N_FEATURES, min(step, n_rows - start), seed=start + 1)
        files["x"][start : start + step], files["y"][start : start + step] = x, y
    del files
    return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


def measure_rows(effort: Effort) -> Cells:
    """A table in a memory-mapped file, read as it lies and in the shared random order of each epoch."""
    members = pm.grid(hidden=MIXED_WIDTHS, activation=["relu", "tanh"], repeats=10, optimizer="sgd",
                      learning_rate=LEARNING_RATE)  # fmt: skip
    for n_rows in powers_of_ten(1000, effort.largest_table):
        with tempfile.TemporaryDirectory() as folder:
            x, y = write_table(Path(folder), n_rows)
            epochs = max(1, effort.member_samples // (len(members) * n_rows))
            repeats = effort.repeats if n_rows <= 10**6 else 1
            for shuffle in (None, "shared"):
                pool = pm.Pool(members, n_features=N_FEATURES)
                cell = time_fit(pool, x, y, repeats, epochs, shuffle=shuffle, warm_rows=1000)
                found = per_member_sample(cell, len(members), n_rows)
                yield {"n_rows": n_rows, "shuffle": shuffle, "n_members": len(members)} | found
            del x, y


def measure_threads(effort: Effort) -> Cells:
    """10,000 members with one thread, two, ... all cores."""
    x, y = regression_data(N_FEATURES, 1000)
    pool = mixed_pool(10_000, N_FEATURES)
    cores = available_cores()
    for n_threads in sorted({*(2**k for k in range(cores.bit_length()) if 2**k <= cores), cores}):
        cell = time_fit(pool, x, y, effort.repeats, n_threads=n_threads)
        yield {"n_threads": n_threads} | per_member_sample(cell, len(pool), len(x))


def beside_the_limit(
    cell: dict[str, Any], rates: dict[str, Any], architectures: list[Architecture], n_features: int, n_outputs: int,
    depth: int, n_rows: int,
) -> dict[str, Any]:  # fmt: skip
    """A cell with the least time that this machine's arithmetic could take, in nanoseconds per member and row."""
    least = limit.epoch_seconds(rates, architectures, n_features, n_outputs, depth, n_rows, rounded=False)
    found = per_member_sample(cell, len(architectures), n_rows)
    return found | {"limit_ns_per_member_sample": 1e9 * least / (len(architectures) * n_rows)}


def measure_depth(effort: Effort, n_rows: int = 1024) -> Cells:
    """Members of one to four hidden layers of the same width."""
    rates = limit.measure(available_cores())
    architectures = [(width, name) for width in MIXED_WIDTHS for name in ACTIVATIONS for _ in range(_REPEATS)]
    x, y = regression_data(N_FEATURES, n_rows)
    for depth in (1, 2, 3, 4):
        specs = pm.grid(hidden=[(width,) * depth for width in MIXED_WIDTHS], activation=list(ACTIVATIONS),
                        repeats=_REPEATS, optimizer="sgd", learning_rate=LEARNING_RATE)  # fmt: skip
        cell = time_fit(pm.Pool(specs, n_features=N_FEATURES), x, y, effort.repeats)
        yield {"depth": depth} | beside_the_limit(cell, rates, architectures, N_FEATURES, 1, depth, n_rows)


def measure_outputs(effort: Effort, n_rows: int = 1024) -> Cells:
    """One hidden layer; one to a hundred outputs."""
    rates = limit.measure(available_cores())
    architectures = [(width, name) for width in MIXED_WIDTHS for name in ACTIVATIONS for _ in range(_REPEATS)]
    x, y = regression_data(N_FEATURES, n_rows)
    specs = pm.grid(hidden=MIXED_WIDTHS, activation=list(ACTIVATIONS), repeats=_REPEATS, optimizer="sgd",
                    learning_rate=LEARNING_RATE)  # fmt: skip
    for n_outputs in (1, 2, 3, 10, 30, 100):
        targets = y if n_outputs == 1 else np.stack([np.roll(y, k) for k in range(n_outputs)], axis=1)
        pool = pm.Pool(specs, n_features=N_FEATURES, n_outputs=n_outputs)
        cell = time_fit(pool, x, targets, effort.repeats)
        found = beside_the_limit(cell, rates, architectures, N_FEATURES, n_outputs, 1, n_rows)
        yield {"n_outputs": n_outputs} | found


def measure_width(effort: Effort, n_features: int = 64) -> Cells:
    """Two hidden relu layers of one width: one member, and one for each core."""
    cores = available_cores()
    rates = limit.measure(cores)
    for width in [w for w in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096) if w <= effort.largest_width]:
        for n_members in sorted({1, cores}):
            operations = float(limit.operations_per_row(np.array([width]), n_features, 1, 2).sum())
            rows_of_fit = effort.wide_operations / operations
            n_rows = int(np.clip(rows_of_fit // 32 * 32, 128, 4096))
            specs = [pm.Member(hidden=(width, width), optimizer=pm.SGD(learning_rate=1e-4))] * n_members
            x, y = regression_data(n_features, n_rows)
            pool = pm.Pool(specs, n_features=n_features)
            cell = time_fit(pool, x, y, min(3, effort.repeats), max(1, int(rows_of_fit / n_rows)))
            gflops = 1e-9 * operations * n_members * n_rows * cell["epochs"] / cell["median"]
            peak = rates["multiply_add_gflops"]
            yield {"width": width, "n_members": n_members, "n_features": n_features, "n_rows": n_rows,
                   "gflops": gflops, "peak_gflops": peak, **cell}  # fmt: skip


def measure_memory(effort: Effort) -> Cells:
    """Peak memory of new processes, less that of one with a hundred members, beside what the library promises."""
    # Compilation takes memory, too: all passes are compiled and kept before anything is measured.
    fit_in_a_new_process(optimizer="adam", early_stopping=True)
    fit_in_a_new_process()
    small = fit_in_a_new_process()
    cases: list[dict[str, Any]] = [
        {"n_members": 10_000, "n_features": 100},
        {"n_members": 10_000, "n_features": 100, "optimizer": "adam"},
        {"n_members": 10_000, "n_features": 100, "optimizer": "adam", "early_stopping": True, "epochs": 3},
        {"n_rows": min(effort.largest_table, 10**6), "data": "float64"},
        {"n_members": 100_000, "n_rows": 128},
        {"n_members": 1_000_000, "n_rows": 128},
    ]
    for case in cases:
        if case.get("n_members", 0) <= effort.largest_pool:
            found = fit_in_a_new_process(**case)
            # What the small process had of its own is counted in its peak; it is next to nothing.
            promised = sum(found["promised"].values())
            above = found["peak_bytes"] - small["peak_bytes"]
            yield found | {"process_bytes": small["peak_bytes"], "promised_bytes": promised, "above_process": above}


PARTS: dict[str, Callable[[Effort], Cells]] = {
    "members": measure_members,
    "rows": measure_rows,
    "threads": measure_threads,
    "depth": measure_depth,
    "outputs": measure_outputs,
    "width": measure_width,
    "memory": measure_memory,
}
_SHOWN = ("n_members", "n_rows", "shuffle", "n_threads", "depth", "n_outputs", "width", "median",
          "ns_per_member_sample", "limit_ns_per_member_sample", "gflops", "peak_gflops", "peak_bytes", "above_process",
          "promised_bytes", "cores_busy_with_other_work")  # fmt: skip


def shown(cell: dict[str, Any]) -> str:
    values = ((name, cell[name]) for name in _SHOWN if name in cell)
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values)


def run_part(name: str, effort: Effort) -> dict[str, Any]:
    cells = []
    for cell in PARTS[name](effort):
        print(f"{name}: {shown(cell)}", flush=True)
        cells.append(cell)
    return {"machine": machine() | {"pmlp_np": pm.__version__}, "effort": effort._asdict(), "cells": cells}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer; written only to --output")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/scaling.json)")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := sorted({*names} - {*PARTS}):
        parser.error(f"--only: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    output = options.output or (None if options.quick else RESULTS / "scaling.json")
    results: dict[str, Any] = {"what": (__doc__ or "").strip(), "parts": {}}
    if output and output.exists():
        results["parts"] = json.loads(output.read_text())["parts"]
    for name in names:
        results["parts"][name] = run_part(name, QUICK if options.quick else FULL)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
