"""From `python -c` to the end of a first small fit, in new processes: with an empty cache of compiled code, and with a
full one.

    python -m benchmarks.start_up            # writes benchmarks/results/start_up.json
    python -m benchmarks.start_up --quick    # few repeats; written only to --output

The clock starts before the process does. The small fit has four members, two activations, 200 rows, three epochs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pmlp_np as pm
from benchmarks.common import RESULTS, machine, spread
from benchmarks.fresh_fit import run_fresh

COLD_BOUND, WARM_BOUND, IMPORT_BOUND = 15.0, 1.5, 0.15

# The steps of a first fit by name, each with what a new process runs for it.
STEPS = {
    "import numpy": "import numpy as np",
    "import pmlp_np": "import pmlp_np as pm",
    "import numba": "import numba",
    "import the backend": "import pmlp_np.backends.numba.backend",
    "first fit": """
x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
pool = pm.Pool(pm.grid(hidden=[8, 16], activation=["tanh", "relu"]), n_features=5)
pool.fit(x, x[:, 0], epochs=3, progress=False)""",
    "second fit": "pool.fit(x, x[:, 0], epochs=3, progress=False)",
}
# The paper's pool: all activations compile.
PAPER_FIT = """
import json, time
import numpy as np, pmlp_np as pm
x = np.random.default_rng(0).normal(size=(1000, 10)).astype(np.float32)
specs = pm.grid(hidden=range(1, 101), activation=pm.PAPER_ACTIVATIONS, repeats=10, optimizer="sgd", learning_rate=1e-3)
pool = pm.Pool(specs, n_features=10)
times = [time.perf_counter()]
for _ in range(2):
    pool.fit(x, x[:, 0], progress=False)
    times.append(time.perf_counter())
print(json.dumps({"first": times[1] - times[0], "second": times[2] - times[1]}))
"""
IMPORT = "import time, numpy; start = time.perf_counter(); import pmlp_np; print(time.perf_counter() - start)"


class Effort(NamedTuple):
    cold: int
    warm: int


FULL, QUICK = Effort(cold=3, warm=9), Effort(cold=1, warm=3)


def script() -> str:
    """The steps with a clock after each, and JSON at the end."""
    lines = ["import time, json", "times = [time.time()]"]
    for code in STEPS.values():
        lines += [code, "times.append(time.time())"]
    return "\n".join([*lines, "print(json.dumps(times))"])


def first_fit(cache: str) -> dict[str, float]:
    """Seconds of each step in a new process, of the interpreter's start, and of all up to the end of the first fit."""
    began = time.time()
    times = json.loads(run_fresh("-c", script(), PMLP_CACHE_DIR=cache))
    steps = {"start Python": times[0] - began}
    steps |= {name: after - before for name, before, after in zip(STEPS, times[:-1], times[1:], strict=True)}
    end_of_first_fit = times[1 + list(STEPS).index("first fit")]
    return steps | {"total": end_of_first_fit - began}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: spread([run[name] for run in runs]) for name in runs[0]}


def measure(effort: Effort) -> dict[str, Any]:
    cold, paper = [], []
    for _ in range(effort.cold):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_fit(cache))
        with tempfile.TemporaryDirectory() as cache:
            paper.append(json.loads(run_fresh("-c", PAPER_FIT, PMLP_CACHE_DIR=cache)))
    with tempfile.TemporaryDirectory() as cache:
        first_fit(cache)
        warm = [first_fit(cache) for _ in range(effort.warm)]
        run_fresh("-c", PAPER_FIT, PMLP_CACHE_DIR=cache)
        warm_paper = [json.loads(run_fresh("-c", PAPER_FIT, PMLP_CACHE_DIR=cache)) for _ in range(effort.cold)]
        size = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file())
    return {
        "cold": summary(cold),
        "warm": summary(warm),
        "paper_pool": {
            "compile_seconds": spread([run["first"] - run["second"] for run in paper]),
            "load_seconds": spread([run["first"] - run["second"] for run in warm_paper]),
            "cache_bytes": size,
        },
        "import_seconds": spread([float(run_fresh("-c", IMPORT)) for _ in range(effort.warm)]),
    }


def bounds(found: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (
        ("first fit, empty cache", found["cold"]["total"]["median"], COLD_BOUND),
        ("first fit, full cache", found["warm"]["total"]["median"], WARM_BOUND),
        ("import pmlp_np after numpy", found["import_seconds"]["median"], IMPORT_BOUND),
    )
    return [{"what": what, "seconds": value, "bound": bound, "met": value <= bound} for what, value, bound in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds to the end of a first fit in a new process.")
    parser.add_argument("--quick", action="store_true", help="few repeats; written only to --output")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/start_up.json)")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    output = options.output or (None if options.quick else RESULTS / "start_up.json")
    run_fresh("-c", "import pmlp_np; print()")  # modules compile to bytecode once
    found = measure(effort)
    results = {"what": (__doc__ or "").strip(), "effort": effort._asdict(), **found, "bounds": bounds(found)}
    results["machine"] = machine() | {"pmlp_np": pm.__version__}
    for name in ("cold", "warm"):
        print(f"{name}: " + ", ".join(f"{step} {values['median']:.2f} s" for step, values in found[name].items()))
    print(json.dumps(found["paper_pool"]))
    for line in results["bounds"]:
        verdict = "met" if line["met"] else "NOT met"
        print(f"{line['what']}: {line['seconds']:.2f} s, bound {line['bound']} s, {verdict}")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
