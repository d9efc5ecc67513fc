"""Compare two states of the code on tables that are there to decide on.

    python -m benchmarks.quality.development --budget 15 --output before.json
    python -m benchmarks.quality.development --budget 15 --output after.json
    python -m benchmarks.quality.development --compare before.json after.json

For each table the ratio of test losses (1 - R², log loss), and their geometric mean by task. One split of a small table
says little: differences of a few percent in one table are chance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.quality.__main__ import in_new_process
from benchmarks.quality.tables import DEVELOPMENT


def loss_of(record: dict[str, float]) -> float:
    return 1.0 - record["r2"] if "r2" in record else record["log_loss"]


def compare(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> str:
    lines, logs = [], {}
    for key in sorted(before.keys() & after.keys()):
        ratio = loss_of(after[key]) / loss_of(before[key])
        more = ""
        if "accuracy" in before[key]:
            more = f"  accuracy {before[key]['accuracy']:.4f} {after[key]['accuracy']:.4f}"
        lines.append(f"{key:16} {loss_of(before[key]):.5f} {loss_of(after[key]):.5f} {ratio:.3f}{more}")
        logs.setdefault("values" if "r2" in before[key] else "classes", []).append(np.log(ratio))
    lines += [f"{task}: {np.exp(np.mean(each)):.3f} of {len(each)}" for task, each in logs.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Test losses on tables to decide on.")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of a fit (default 15)")
    parser.add_argument("--splits", type=int, default=1, help="splits of each table (default 1)")
    parser.add_argument("--tables", nargs="+", default=list(DEVELOPMENT), choices=DEVELOPMENT)
    parser.add_argument("--output", type=Path, help="the JSON file")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="two such files")
    options = parser.parse_args()
    if options.compare:
        print(compare(*(json.loads(path.read_text()) for path in options.compare)))
        return
    found = {}
    for table in options.tables:
        for number in range(options.splits):
            found[f"{table} {number}"] = record = in_new_process(table, number, "pmlp_np", options.budget)
            print(table, number, record, flush=True)
            if options.output:
                options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
