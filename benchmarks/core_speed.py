"""The library's speed on the paper's pool beside its peers', its memory, its import and its compilation.

    python -m benchmarks.core_speed            # all of it; writes benchmarks/results/core_speed.json
    python -m benchmarks.core_speed --quick    # fewer repeats; writes nothing unless --output is given

The paper's pool: 10,000 members (widths 1 to 100, ten activations, ten repeats), one hidden layer, one output, float32,
squared error, plain SGD, minibatches of 32 with rows in order. The library, the prototype and the fused PyTorch pool
start from the library's own initial weights, train one epoch, and must then have the same losses, or their times do
not count. The timed epochs follow on from there, in turn: `partial_fit`, so that no initialization is timed.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np

import pmlp_np as pm
from benchmarks.common import (
    ACTIVATIONS,
    PAPER_REPEATS,
    PAPER_WIDTHS,
    RESULTS,
    ROOT,
    Architecture,
    Weights,
    available_cores,
    cpu_seconds_of_others,
    machine,
    n_parameters,
    paper_architectures,
    regression_data,
    seconds,
    spread,
)
from benchmarks.peers.prototype import PrototypePool

HAS_TORCH = importlib.util.find_spec("torch") is not None


class Cell(NamedTuple):
    n_features: int
    batch_size: int
    n_rows: int
    learning_rate: float  # small enough for the widest linear member to stay finite, large enough to move every loss


class Effort(NamedTuple):
    rounds: int  # of the slow peers
    pairs: int  # of library and prototype within a round
    thread_pairs: int
    sample_widths: int  # of the models trained one after another, spread evenly from 1 to 100
    imports: int


CELLS = (Cell(10, 32, 1000, 2e-3), Cell(100, 32, 1000, 1e-3))
FULL = Effort(rounds=3, pairs=5, thread_pairs=7, sample_widths=20, imports=9)
QUICK = Effort(rounds=1, pairs=3, thread_pairs=3, sample_widths=5, imports=3)

# After an epoch float32 rounding makes 2e-7 of a loss for 99 members in 100; a rare one has had a row on the other side
# of a kink (relu, hardshrink) and differs by up to 2e-4. GELU by tanh instead of erf would make 9e-6 for the 99.
LOSS_TOLERANCE_OF_99_PERCENT, LOSS_TOLERANCE = 2e-6, 1e-3

PROTOTYPE_BOUND = 1 / 1.15  # determinism may cost 15 %
FUSED_BOUND, SEQUENTIAL_BOUND, THREADS_BOUND = 10.0, 60.0, 1.8
IMPORT_BOUND, COMPILE_BOUND = 0.15, 20.0
MEMORY_PER_PARAMETER, MEMORY_BASE = 4 * 1.3, 250e6


class Method(Protocol):
    def train(self, x: np.ndarray, y: np.ndarray, batch_size: int, n_threads: int) -> None: ...

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray: ...


class LibraryPool:
    """The library behind the peers' face."""

    def __init__(self, architectures: list[Architecture], n_features: int, learning_rate: float) -> None:
        optimizer = pm.SGD(learning_rate=learning_rate)
        specs = [pm.Member(hidden=(width,), activation=name, optimizer=optimizer) for width, name in architectures]
        self.pool = pm.Pool(specs, n_features=n_features)
        self.fitted = False

    def train(self, x: np.ndarray, y: np.ndarray, batch_size: int, n_threads: int) -> None:
        fit = self.pool.partial_fit if self.fitted else self.pool.fit
        fit(x, y, epochs=1, batch_size=batch_size, shuffle=None, progress=False, n_threads=n_threads)
        self.fitted = True

    def losses(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.pool.evaluate(x, y)

    def weights(self) -> list[Weights]:
        members = (self.pool.extract(int(i)) for i in self.pool.ids_)
        return [Weights(m.weights[0], m.biases[0], m.weights[1], m.biases[1]) for m in members]


def agreement(found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    difference = np.abs(found - expected) / np.abs(expected)
    nearly_all, largest = float(np.percentile(difference, 99, method="lower")), float(difference.max())
    return {
        "relative_loss_difference_of_99_percent": nearly_all,
        "largest_relative_loss_difference": largest,
        "agrees": nearly_all <= LOSS_TOLERANCE_OF_99_PERCENT and largest <= LOSS_TOLERANCE,
    }


def measure_cell(cell: Cell, effort: Effort) -> dict[str, Any]:
    n_threads = available_cores()
    architectures = paper_architectures()
    x, y = regression_data(cell.n_features, cell.n_rows)
    library = LibraryPool(architectures, cell.n_features, cell.learning_rate)
    start = library.weights()
    prototype = PrototypePool(architectures, start, cell.learning_rate)
    loss_before = prototype.losses(x, y)

    methods: dict[str, Method] = {"library": library, "prototype": prototype}
    if HAS_TORCH:
        from benchmarks.peers.pytorch_fused import FusedPool

        methods["pytorch_fused"] = FusedPool(architectures, start, cell.learning_rate)
    for method in methods.values():
        method.train(x, y, cell.batch_size, n_threads)
    expected = library.losses(x, y)
    agreements = {name: agreement(method.losses(x, y), expected) for name, method in methods.items()}

    def epoch_seconds(method: Method) -> float:
        return seconds(lambda: method.train(x, y, cell.batch_size, n_threads))

    times: dict[str, list[float]] = {name: [] for name in methods}
    began, others = time.perf_counter(), cpu_seconds_of_others()
    for _ in range(effort.rounds):
        for pair in range(effort.pairs):
            # Each goes first as often as the other.
            for name in ("library", "prototype")[:: 1 if pair % 2 == 0 else -1]:
                times[name].append(epoch_seconds(methods[name]))
        if HAS_TORCH:
            times["pytorch_fused"].append(epoch_seconds(methods["pytorch_fused"]))
    summary = {name: spread(values) | {"n_threads": n_threads} for name, values in times.items()}
    if HAS_TORCH:
        summary["pytorch_sequential"], agreements["pytorch_sequential"] = measure_sequential(
            cell, effort, architectures, start, expected
        )

    threads = measure_threads(cell, effort, library) if available_cores() >= 2 else None
    cores_of_others = (cpu_seconds_of_others() - others) / (time.perf_counter() - began)
    if not np.isfinite(library.pool.history_["loss"]).all():
        raise RuntimeError("a member of the library's pool stopped training: lower the learning rate of the cell")

    library_median = summary["library"]["median"]
    times_as_fast = {name: peer["median"] / library_median for name, peer in summary.items() if name != "library"}
    # Close enough to be told apart only run by neighboring run: other work on the machine then slows both.
    neighbors = spread(np.divide(times["prototype"], times["library"]).tolist())
    times_as_fast["prototype"] = neighbors["median"]
    return {
        "cell": cell._asdict(),
        "n_members": len(architectures),
        "n_parameters": n_parameters(architectures, cell.n_features),
        "median_loss_change_in_first_epoch": float(np.median(np.abs(expected - loss_before) / loss_before)),
        "agreement_with_library": agreements,
        "epoch_seconds": summary,
        "cores_busy_with_other_work": cores_of_others,
        "library_gflops": matrix_flops(cell, architectures) / library_median / 1e9,
        "times_as_fast": times_as_fast,
        "times_as_fast_as_prototype_in_neighboring_runs": neighbors,
        "threads": threads,
    }  # fmt: skip


def matrix_flops(cell: Cell, architectures: list[Architecture]) -> float:
    """Forward 2HF, weight gradient 2HF, output layer 6H, for each row."""
    return float(cell.n_rows * sum(width * (4 * cell.n_features + 6) for width, _ in architectures))


def measure_sequential(
    cell: Cell, effort: Effort, architectures: list[Architecture], start: list[Weights], expected: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds for the whole pool, extrapolated from a sample, and the sample's agreement with the library."""
    from benchmarks.peers.pytorch_sequential import SequentialModels

    widths = np.linspace(PAPER_WIDTHS[0], PAPER_WIDTHS[-1], effort.sample_widths).round().astype(int).tolist()
    first_repeat = range(0, len(architectures), PAPER_REPEATS)
    sample = [m for m in first_repeat if architectures[m][0] in widths]
    x, y = regression_data(cell.n_features, cell.n_rows)

    def models(members: list[int]) -> SequentialModels:
        return SequentialModels([architectures[m] for m in members], [start[m] for m in members], cell.learning_rate)

    few = models(sample[:: len(sample) // 10 + 1])  # a step of 21 or 6: all activations in turn, or half of them
    few.train(x, y, cell.batch_size, 1)
    trial = {n: seconds(lambda n=n: few.train(x, y, cell.batch_size, n)) for n in sorted({1, available_cores()})}
    n_threads = min(trial, key=lambda n: trial[n])

    trained = models(sample)
    trained.train(x, y, cell.batch_size, n_threads)
    agrees = agreement(trained.losses(x, y), expected[sample])
    scale = len(architectures) / len(sample)
    times = [scale * seconds(lambda: trained.train(x, y, cell.batch_size, n_threads)) for _ in range(effort.rounds)]
    note = {
        "extrapolated": f"{len(sample)} models trained and timed, seconds multiplied by {scale:g}",
        "sample": {"widths": widths, "activations": list(ACTIVATIONS), "repeats": 1},
        "n_threads": n_threads,
        "trial_seconds_by_threads": trial,
    }
    return spread(times) | note, agrees


def measure_threads(cell: Cell, effort: Effort, library: LibraryPool) -> dict[str, Any]:
    x, y = regression_data(cell.n_features, cell.n_rows)
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(effort.thread_pairs):
        for n_threads, values in times.items():
            values.append(seconds(lambda n=n_threads: library.train(x, y, cell.batch_size, n)))
    neighbors = spread(np.divide(times[1], times[2]).tolist())
    return {
        "one": spread(times[1]),
        "two": spread(times[2]),
        "times_as_fast_in_neighboring_runs": neighbors,
        "times_as_fast": neighbors["median"],
    }


def fresh_environment() -> dict[str, str]:
    """Modules compile to `__pycache__` once, as after an installation, even where the shell forbids it."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run_fresh(*arguments: str) -> str:
    """The last line that a new Python process prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=fresh_environment(), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1]


def measure_import(effort: Effort) -> dict[str, Any]:
    code = "import time, numpy; start = time.perf_counter(); import pmlp_np; print(time.perf_counter() - start)"
    run_fresh("-c", code)
    return spread([float(run_fresh("-c", code)) for _ in range(effort.imports)])


def measure_first_fit() -> dict[str, Any]:
    """The first float32 fit without and then with a cache of compiled code: the import of Numba is in both."""
    cold = json.loads(run_fresh("-m", "benchmarks.fresh_process", "10"))
    cached = json.loads(run_fresh("-m", "benchmarks.fresh_process", "10"))
    return {
        "empty_cache": cold,
        "warm_cache": cached,
        "compile_seconds": cold["first_fit_seconds"] - cold["second_fit_seconds"],
        "seconds_above_a_second_fit_with_warm_cache": cached["first_fit_seconds"] - cached["second_fit_seconds"],
    }


def measure_memory() -> dict[str, Any]:
    parameters = n_parameters(paper_architectures(), 100)
    peak = json.loads(run_fresh("-m", "benchmarks.fresh_process", "100"))["peak_memory_bytes"]
    return {
        "n_parameters": parameters,
        "peak_bytes": peak,
        "bound_bytes": parameters * MEMORY_PER_PARAMETER + MEMORY_BASE,
        "how": "highest resident set of a fresh process that builds and fits the pool at F=100, code cached",
    }


def bounds(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found beside what must be reached, one record per promise."""
    lines: list[dict[str, Any]] = []

    def at_least(what: str, found: float, bound: float, counts: bool = True) -> None:
        met = bool(counts and found >= bound)
        lines.append(
            {"what": what, "found": found, "bound": f">= {bound:.3g}", "unit": "x", "met": met, "counts": counts}
        )

    def at_most(what: str, found: float, bound: float, unit: str) -> None:
        lines.append({"what": what, "found": found, "bound": f"<= {bound:.3g}", "unit": unit, "met": found <= bound})

    for entry in results["cells"]:
        cell, ratio, agrees = entry["cell"], entry["times_as_fast"], entry["agreement_with_library"]
        where = f"F={cell['n_features']} B={cell['batch_size']} N={cell['n_rows']}:"
        for peer, bound in (
            ("prototype", PROTOTYPE_BOUND),
            ("pytorch_fused", FUSED_BOUND),
            ("pytorch_sequential", SEQUENTIAL_BOUND),
        ):
            if peer in ratio and (peer != "pytorch_sequential" or cell["n_features"] == 10):
                at_least(f"{where} as fast as {peer}", ratio[peer], bound, agrees[peer]["agrees"])
        if entry["threads"]:
            at_least(f"{where} two threads beside one", entry["threads"]["times_as_fast"], THREADS_BOUND)
    memory = results["memory"]
    at_most("peak memory at F=100", memory["peak_bytes"] / 1e6, memory["bound_bytes"] / 1e6, "MB")
    at_most("import above NumPy's", results["import_seconds"]["median"], IMPORT_BOUND, "s")
    at_most("compilation, first float32 fit", results["first_fit"]["compile_seconds"], COMPILE_BOUND, "s")
    return lines


def print_table(results: dict[str, Any]) -> None:
    for entry in results["cells"]:
        cell = entry["cell"]
        print(f"\nSeconds per epoch, F={cell['n_features']} B={cell['batch_size']} N={cell['n_rows']}")
        for name, s in entry["epoch_seconds"].items():
            agrees = entry["agreement_with_library"][name]
            loss = f"losses within {agrees['largest_relative_loss_difference']:.0e}"
            low, high = s["quartiles"]
            print(f"  {name:20}{s['median']:9.3f}  ({low:.3f} to {high:.3f}, {s['repeats']} runs)  {loss}")
        others = entry["cores_busy_with_other_work"]
        if others > 0.1:
            print(f"  Other work kept {others:.1f} cores busy: measure again when it has ended")
    print(f"\n{'':46}{'found':>10}  {'bound':>10}")
    for line in results["bounds"]:
        verdict = "met" if line["met"] else "NOT met" if line.get("counts", True) else "NOT met: losses differ"
        print(f"{line['what']:46}{line['found']:10.3g}  {line['bound']:>10} {line['unit']:3} {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, memory, import and compilation beside their bounds.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer repeats and a smaller sample; written only to --output"
    )
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/core_speed.json)")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    output = options.output or (None if options.quick else RESULTS / "core_speed.json")

    # One empty cache for all processes of this run: the first one fills it, the others are to find it warm.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PMLP_CACHE_DIR"] = cache
        results: dict[str, Any] = {
            "what": (__doc__ or "").strip(),
            "quick": options.quick,
            "effort": effort._asdict(),
            "machine": machine(),
            "first_fit": measure_first_fit(),
            "import_seconds": measure_import(effort),
            "memory": measure_memory(),
        }
        results["cells"] = [measure_cell(cell, effort) for cell in CELLS]
    results["machine"]["versions"]["pmlp_np"] = pm.__version__  # also where it is run without being installed
    results["machine"]["numba_threading_layer"] = numba.threading_layer()
    results["bounds"] = bounds(results)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {output}")
    print_table(results)
    if not HAS_TORCH:
        print("PyTorch is not installed: its two peers were not measured")


if __name__ == "__main__":
    main()
