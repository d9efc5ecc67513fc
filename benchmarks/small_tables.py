"""Small tables: what a row costs where an epoch is short, with and without validation after each.

    python -m benchmarks.small_tables            # writes results/small_tables.json; five minutes on two cores
    python -m benchmarks.small_tables --quick    # fewer repeats; printed only

Two kinds of cells. The paper's pool (10,000 members, SGD) on 100 rows: seconds for a row, as a multiple of what a row
takes in a table of 1,000, and the fraction of the machine's limit (widths rounded up) that an epoch reaches; the same
where a quarter of the rows validates and stops early, for a row that trains. And a search (1,000 members, Adam, 300
rows of which a quarter validates, 200 epochs, early stopping): its seconds as a multiple of those of its passes alone.
These are what training and evaluating as many rows takes in a table of 20,000 rows, where all else is negligible.

The fits that are compared take turns; medians are shown, of wall time and of processor time. Where other programs are
at work, only the latter says something.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks import limit
from benchmarks.common import (
    ACTIVATIONS,
    PAPER_REPEATS,
    PAPER_WIDTHS,
    RESULTS,
    available_cores,
    machine,
    paper_architectures,
    regression_data,
)

BATCH_SIZE, FEATURES = 32, (10, 50)
EPOCHS, SEARCH_EPOCHS = 20, 200
LARGE_ROWS = 20_000
FIXED = {"batch_size": BATCH_SIZE, "progress": False}

Seconds = tuple[float, float]


def timed(run: Callable[[], Any]) -> Seconds:
    """(wall, processor) seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Median (wall, processor) seconds of each, after one run of each that is not timed."""
    for run in runs.values():
        run()
    found: dict[str, list[Seconds]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(timed(run))
    return {name: np.median(np.array(seconds), axis=0) for name, seconds in found.items()}


def by_clock(ratio: np.ndarray) -> dict[str, float]:
    return dict(zip(("wall", "processor"), ratio.tolist(), strict=True))


def paper_pool(n_features: int) -> pm.Pool:
    specs = pm.grid(
        hidden=[(width,) for width in PAPER_WIDTHS], activation=list(ACTIVATIONS), repeats=PAPER_REPEATS,
        optimizer=pm.SGD(learning_rate=1e-3),
    )  # fmt: skip
    return pm.Pool(specs, n_features=n_features, seed=0)


def of_the_paper(n_features: int, repeats: int, rates: dict[str, Any]) -> dict[str, Any]:
    """What a row costs on 100 rows, beside 1,000, and which fraction of the machine's limit that is."""
    few, many = regression_data(n_features, 100), regression_data(n_features, 1000)
    (x, y), quarter = few, 25
    pools = {name: paper_pool(n_features) for name in ("few", "many", "validated")}
    stopping = {"early_stopping": True, "patience": 10**6, "validation_data": (x[:quarter], y[:quarter])}
    found = in_turns(
        {
            "few": lambda: pools["few"].partial_fit(*few, epochs=EPOCHS, **FIXED),
            "many": lambda: pools["many"].partial_fit(*many, epochs=EPOCHS // 10, **FIXED),
            "validated": lambda: pools["validated"].partial_fit(
                x[quarter:], y[quarter:], epochs=EPOCHS, **FIXED, **stopping
            ),
        },
        repeats,
    )
    rows = {"few": 100 * EPOCHS, "many": 1000 * (EPOCHS // 10), "validated": (100 - quarter) * EPOCHS}
    each = {name: seconds / rows[name] for name, seconds in found.items()}
    bound = limit.epoch_seconds(rates, paper_architectures(), n_features, 1, 1, 100, rounded=True)
    return {
        "n_features": n_features,
        "epoch_seconds": by_clock(found["few"] / EPOCHS),
        "limit_fraction": bound / (found["few"][0] / EPOCHS),
        "row": by_clock(each["few"] / each["many"]),
        "row_with_validation": by_clock(each["validated"] / each["many"]),
    }


def of_a_search(repeats: int, n_features: int = 10) -> dict[str, Any]:
    """A search's fit, beside its training and evaluating passes alone."""
    x, y = regression_data(n_features, 300)
    specs = pm.grid(hidden=[(w,) for w in PAPER_WIDTHS], activation=list(ACTIVATIONS), optimizer=pm.Adam())
    large = regression_data(n_features, LARGE_ROWS)
    passes, done = pm.Pool(specs, n_features, seed=0), 0

    def search() -> None:
        nonlocal done
        pool = pm.Pool(specs, n_features, seed=0).fit(
            x[75:], y[75:], epochs=SEARCH_EPOCHS, validation_data=(x[:75], y[:75]), early_stopping=True, **FIXED
        )
        done = sum(record["epochs"] for record in pool.leaderboard())

    found = in_turns(
        {
            "search": search,
            "train": lambda: passes.partial_fit(*large, epochs=1, **FIXED),
            "evaluate": lambda: passes.evaluate(*large),
        },
        repeats,
    )
    # The average member: those that stop early are no smaller than others.
    share = done / len(specs) / LARGE_ROWS
    alone = share * (225 * found["train"] + 75 * found["evaluate"])
    return {"n_features": n_features, "member_epochs": done, "seconds": by_clock(found["search"]),
            "passes_alone": by_clock(alone), "times": by_clock(found["search"] / alone)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats; printed only")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/small_tables.json)")
    options = parser.parse_args()
    repeats = 2 if options.quick else 7
    found = {
        "what": (__doc__ or "").strip(),
        "machine": machine(),
        "n_threads": available_cores(),
        "limit": (rates := limit.fastest([limit.measure(available_cores()) for _ in range(3)])),
        "paper": [of_the_paper(n_features, repeats, rates) for n_features in FEATURES],
        "search": of_a_search(repeats),
    }
    print(json.dumps({name: found[name] for name in ("paper", "search")}, indent=1))
    output = options.output or (None if options.quick else RESULTS / "small_tables.json")
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
