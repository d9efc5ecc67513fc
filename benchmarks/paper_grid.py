"""The paper's grid: an epoch of its pool of 10,000 members in 36 cells, by pmlp_np and by its peers.

    python -m benchmarks.paper_grid                                 # all of it; 45 minutes on two cores
    python -m benchmarks.paper_grid --quick                         # two cells, in two minutes; printed only
    python -m benchmarks.paper_grid --cells 10,32,1000 5,256,100    # some cells, by features, batch size and rows
    python -m benchmarks.paper_grid --resume                        # what the results do not have yet

The pool: widths 1 to 100, ten activations, ten repeats; one hidden layer, one output, float32, squared error, plain
SGD, rows in order. Further cells have ten outputs, two or three hidden layers, or Adam.

Each method runs in a process of its own, and one at a time. All start from the same weights; after the first epoch each
member's loss must be the library's, or the method's time does not count. Then the methods take turns: further epochs
are timed, the data being at hand and everything compiled: for 100 rows ten in one call of the library and of JAX, whose
epochs are shorter than what a call costs. What bounds an epoch on this machine is measured in between.
The results are written after every cell.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks import limit
from benchmarks.common import RESULTS, Cell, available_cores, machine, n_parameters, paper_architectures, spread
from benchmarks.grid_cells import (
    AGREEMENT_ROWS,
    CELLS,
    EXTRA_CELLS,
    LOSS_ROWS,
    MOST_ROWS,
    MOST_ROWS_ONE_AFTER_ANOTHER,
    QUICK_CELLS,
    TRIAL_ROWS,
    Effort,
    agreement,
    applies,
    cell_of,
    effort,
    expected_seconds,
    sample_of,
)
from benchmarks.peers import LIBRARY, METHODS
from benchmarks.peers.worker import Worker

ARCHITECTURES = paper_architectures()
# Cells between two measurements of the machine's limit, which may change with its clock and its neighbors.
CELLS_PER_LIMIT = 3


class Entrant:
    """A method in one cell: what it trains, and its times so far."""

    def __init__(self, worker: Worker, cell: Cell, quick: bool) -> None:
        self.worker, self.cell = worker, cell
        self.peer = METHODS[worker.method]
        self.effort: Effort = effort(worker.method, cell, quick)
        self.members = sample_of(worker.method, ARCHITECTURES)
        self.n_threads = available_cores()
        self.trial: dict[int, float] = {}
        self.seconds: list[float] = []
        self.busy: list[float] = []
        trained = len(self.members) if self.members is not None else len(ARCHITECTURES)
        # Seconds of what is timed are multiplied by this.
        self.scale = len(ARCHITECTURES) / trained * cell.n_rows / self.effort.rows

    def first_epoch(self) -> None:
        """A pool from the shared weights, and the epoch after which losses are compared."""
        self.worker.ask("prepare", cell=self.cell._asdict(), members=self.members)
        self._train(AGREEMENT_ROWS[self.cell.n_rows], epochs=1)

    def losses(self) -> np.ndarray:
        found = self.worker.ask("losses", rows=LOSS_ROWS)["losses"]
        return np.array([np.nan if loss is None else loss for loss in found])

    def _train(self, rows: int, epochs: int) -> dict[str, Any]:
        return self.worker.ask("train", rows=rows, epochs=epochs, n_threads=self.n_threads)

    def choose_threads(self) -> None:
        """For models one after another, more threads may be slower: the faster number is timed."""
        if not self.peer.one_after_another or available_cores() == 1:
            return
        for self.n_threads in (1, available_cores()) * 2:  # the faster of two: other work must not decide
            found = self._train(min(self.effort.rows, TRIAL_ROWS), epochs=1)["seconds"]
            self.trial[self.n_threads] = min(found, self.trial.get(self.n_threads, found))
        self.n_threads = min(self.trial, key=lambda n: self.trial[n])

    def time_one(self) -> None:
        answer = self._train(self.effort.rows, self.effort.epochs)
        self.seconds.append(self.scale * answer["seconds"])
        self.busy.append(answer["cores_busy_with_other_work"])

    def record(self, agrees: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "epoch_seconds": spread(self.seconds),
            "n_threads": self.n_threads,
            "agreement": agrees,
            "cores_busy_with_other_work": float(np.median(self.busy)),
            "timed_rows": self.effort.rows,
            "timed_epochs": self.effort.epochs,
            "timed_members": len(self.members) if self.members is not None else len(ARCHITECTURES),
            "multiplied_by": self.scale,
        }
        return found | ({"trial_seconds_by_threads": self.trial} if self.trial else {})


def turns(repeats: Sequence[int]) -> Iterator[int]:
    """Positions in the order in which they take turns: each as often as it says, spread over all rounds."""
    rounds = max(repeats)
    for r in range(rounds):
        for i, count in enumerate(repeats):
            if (r + 1) * count // rounds > r * count // rounds:
                yield i


def limits_of(entry: dict[str, Any], rates: dict[str, Any]) -> dict[str, Any]:
    """The least seconds that a cell's epoch can take, and the fraction of that speed which the library reaches."""
    cell, seconds = Cell(**entry["cell"]), entry["methods"][LIBRARY]["epoch_seconds"]["median"]
    shape = ARCHITECTURES, cell.n_features, cell.n_outputs, cell.depth, cell.n_rows
    bounds = {
        kind: limit.epoch_seconds(rates, *shape, kind == "rounded_widths") for kind in ("true_widths", "rounded_widths")
    }
    return {"limit_seconds": bounds, "limit_fraction": {kind: bound / seconds for kind, bound in bounds.items()}}


def measure_cell(cell: Cell, workers: Sequence[Worker], quick: bool) -> dict[str, Any]:
    entrants = [Entrant(worker, cell, quick) for worker in workers if applies(worker.method, cell)]
    agreements: dict[str, Any] = {}
    expected = np.zeros(0)
    for entrant in entrants:  # the library is the first
        entrant.first_epoch()
        losses = entrant.losses()
        expected = expected if len(expected) else losses
        wanted = expected if entrant.members is None else expected[entrant.members]
        agreements[entrant.worker.method] = agreement(losses, wanted, cell.optimizer)
        entrant.choose_threads()
    for i in turns([entrant.effort.repeats for entrant in entrants]):
        entrants[i].time_one()
    if not np.isfinite(entrants[0].losses()).all():
        raise RuntimeError(f"a member of the library's pool diverged: lower the learning rate of {cell.name()}")
    shape = ARCHITECTURES, cell.n_features, cell.n_outputs, cell.depth
    return {
        "name": cell.name(),
        "cell": cell._asdict(),
        "extra": cell in EXTRA_CELLS,
        "n_members": len(ARCHITECTURES),
        "n_parameters": n_parameters(*shape),
        "agreement": {"after_rows": AGREEMENT_ROWS[cell.n_rows], "over_rows": LOSS_ROWS},
        "methods": {e.worker.method: e.record(agreements[e.worker.method]) for e in entrants},
    }  # fmt: skip


class Run:
    """A measurement from the first cell to the last, and the file that it is kept in."""

    def __init__(self, methods: Sequence[str], cells: Sequence[Cell], output: Path | None, quick: bool) -> None:
        self.methods, self.cells, self.output, self.quick = methods, cells, output, quick
        self.results: dict[str, Any] = {
            "what": (__doc__ or "").strip(),
            "quick": quick,
            "machine": machine(),
            "methods": list(methods),
            "cells_of_the_grid": len(CELLS),
            "extra_cells": len(EXTRA_CELLS),
            "most_rows_timed": {"one_after_another": MOST_ROWS_ONE_AFTER_ANOTHER, **MOST_ROWS},
            "limits": [],
            "cells": [],
        }
        versions = self.results["machine"]["versions"]
        versions["pmlp_np"] = pm.__version__  # also where it runs without being installed
        versions.pop("onnxruntime", None)  # no method here

    def resume(self) -> None:
        """Keep the cells that the output already has, from the same versions."""
        if self.output is None or not self.output.exists():
            return
        before = json.loads(self.output.read_text(encoding="utf-8"))
        same = all(before["machine"][part] == self.results["machine"][part] for part in ("processor", "versions"))
        if not same or before["quick"] != self.quick:
            raise SystemExit(f"{self.output} is from another machine, other versions or another effort: start afresh")
        for part in ("machine", "limits", "cells", "methods"):
            self.results[part] = before[part]
        # One that lacks a method which now is asked for is measured anew.
        self.results["cells"] = [
            entry
            for entry in before["cells"]
            if all(m in entry["methods"] for m in self.methods if applies(m, Cell(**entry["cell"])))
        ]
        self.results["methods"] = [m for m in METHODS if m in {*before["methods"], *self.methods}]

    def run(self) -> None:
        done = {entry["name"] for entry in self.results["cells"]}
        todo = [cell for cell in self.cells if cell.name() not in done]
        start, planned = time.perf_counter(), sum(expected_seconds(cell) for cell in todo)
        spent = 0.0
        workers = [Worker(method) for method in self.methods]
        try:
            for i, cell in enumerate(todo):
                began, waited = time.perf_counter(), {worker.method: worker.seconds_waited for worker in workers}
                if i % CELLS_PER_LIMIT == 0:
                    self.results["limits"].append({"before_cell": i, **limit.measure(available_cores())})
                entry = measure_cell(cell, workers, self.quick)
                entry["measuring_seconds"] = time.perf_counter() - began
                entry["measuring_seconds_by_method"] = {w.method: w.seconds_waited - waited[w.method] for w in workers}
                self._keep(entry)
                spent += expected_seconds(cell)
                left = (time.perf_counter() - start) * (planned / spent - 1)
                print(f"[{i + 1}/{len(todo)}] {in_a_line(entry)} | about {left / 60:.0f} min left", flush=True)
        finally:
            for worker in workers:
                worker.quit()

    def _keep(self, entry: dict[str, Any]) -> None:
        order = {cell.name(): i for i, cell in enumerate(CELLS + EXTRA_CELLS)}
        self.results["cells"] = sorted([*self.results["cells"], entry], key=lambda e: order[e["name"]])
        # One machine, one limit: the best that it has shown so far holds for all cells.
        rates = limit.fastest(self.results["limits"])
        for each in self.results["cells"]:
            each.update(limits_of(each, rates))
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            partial = self.output.with_suffix(".partial")
            partial.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, self.output)


def in_a_line(entry: dict[str, Any]) -> str:
    times = [
        f"{name} {method['epoch_seconds']['median']:.3g} s{'' if method['agreement']['agrees'] else ' (DISAGREES)'}"
        for name, method in entry["methods"].items()
    ]
    fraction = entry["limit_fraction"]["true_widths"]
    return f"{entry['name']}: {', '.join(times)}; {fraction:.0%} of the limit; took {entry['measuring_seconds']:.0f} s"


def print_table(results: dict[str, Any]) -> None:
    """Each cell, each method: seconds, their spread, and how far its losses are from the library's."""
    for entry in results["cells"]:
        print(f"\nSeconds per epoch, {entry['name']}")
        for name, method in entry["methods"].items():
            s, agrees = method["epoch_seconds"], method["agreement"]
            low, high = s["quartiles"]
            far = "not finite" if agrees["largest"] is None else f"losses within {agrees['largest']:.0e}"
            verdict = "" if agrees["agrees"] else ": does NOT count"
            times = s["median"] / entry["methods"][LIBRARY]["epoch_seconds"]["median"]
            print(
                f"  {name:20}{s['median']:9.3f}  ({low:.3f} to {high:.3f}, {s['repeats']} runs)"
                f"{times:8.2f}x  {far}{verdict}; {method['cores_busy_with_other_work']:.2f} cores busy with other work"
            )
        fractions = entry["limit_fraction"]
        print(f"  {fractions['true_widths']:.0%} of the limit, {fractions['rounded_widths']:.0%} of whole vectors'")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats; written only to --output")
    parser.add_argument("--cells", nargs="+", type=cell_of, metavar="F,B,N", help="10,32,1000 or 10,32,1000,depth=2")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="these beside the library")
    parser.add_argument("--resume", action="store_true", help="keep the cells that the output has")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/paper_grid.json)")
    options = parser.parse_args()
    wanted = {LIBRARY, *(options.methods or METHODS)}
    methods = [name for name, peer in METHODS.items() if name in wanted and peer.installed()]
    cells = options.cells or (QUICK_CELLS if options.quick else CELLS + EXTRA_CELLS)
    output = options.output or (None if options.quick else RESULTS / "paper_grid.json")
    run = Run(methods, cells, output, options.quick)
    if options.resume:
        run.resume()
    for name in sorted(wanted - set(methods)):
        print(f"{METHODS[name].package} is not installed: {name} is not measured")
    run.run()
    print_table(run.results)
    if output:
        print(f"written to {output}")


if __name__ == "__main__":
    main()
