"""One fit in a new process, and the memory that it took, beside what the library promises to need at most.

    python -m benchmarks.fresh_fit '{"n_members": 10000, "n_features": 10, "n_rows": 1000}'

Prints a line of JSON. `scaling` starts it: a process's peak memory can be seen only from its beginning.
"""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import ROOT, available_cores, peak_memory, regression_data
from benchmarks.pools import mixed_pool

DEFAULTS: dict[str, Any] = {
    "n_members": 100,
    "n_features": 10,
    "n_rows": 1000,
    "optimizer": "sgd",
    "early_stopping": False,
    "data": "float32",
    "epochs": 1,
}
BATCH_SIZE = 32
# Larger tables than this are not copied in the order of an epoch but read through it.
_REORDER_BYTES = 1 << 30


def run_fresh(*arguments: str, **variables: str) -> str:
    """The last line that a new Python process prints; `variables` are added to its environment."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    # Modules compile to `__pycache__` once, as after an installation, even where the shell forbids it.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment | variables, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1]


def fit_in_a_new_process(**settings: Any) -> dict[str, Any]:
    return json.loads(run_fresh("-m", "benchmarks.fresh_fit", json.dumps(settings)))


def promised_bytes(pool: pm.Pool, settings: dict[str, Any], n_threads: int) -> dict[str, int]:
    """What the design allows besides the process itself, in bytes by name. Looks inside the pool for padded sizes."""
    from pmlp_np.backends.numba.frame import scratch_bytes

    backend: Any = pool._backend
    layout, size = backend.layout, pool.dtype.itemsize
    row = size * (settings["n_features"] + 1)
    table = row * settings["n_rows"]
    n_tables = 2 if settings["early_stopping"] else 1  # training, and validation data of the same size
    curves = 3 if settings["early_stopping"] else 1
    return {
        "callers_data": n_tables * table * np.dtype(settings["data"]).itemsize // size,
        "parameters": layout.size * size,
        "slots": len(backend.store.slots) * size,
        "best_weights": layout.size * size if settings["early_stopping"] else 0,
        "curves": 4 * len(pool) * curves * settings["epochs"],
        "cast": 0 if settings["data"] == pool.dtype.name else n_tables * table,
        "reordered": table if table <= _REORDER_BYTES else 0,
        "scratch": n_threads * scratch_bytes(layout, size),
    }


def main() -> None:
    settings = DEFAULTS | json.loads(sys.argv[1])
    pool = mixed_pool(settings["n_members"], settings["n_features"], optimizer=settings["optimizer"])
    x, y = regression_data(settings["n_features"], settings["n_rows"])
    x, y = x.astype(settings["data"]), y.astype(settings["data"])
    validation = (x.copy(), y.copy()) if settings["early_stopping"] else None
    n_threads = available_cores()
    pool.fit(x, y, epochs=settings["epochs"], batch_size=BATCH_SIZE, validation_data=validation,
             early_stopping=settings["early_stopping"], progress=False, n_threads=n_threads)  # fmt: skip
    parts = promised_bytes(pool, settings, n_threads)
    print(json.dumps({"settings": settings, "peak_bytes": peak_memory(), "promised": parts}))


if __name__ == "__main__":
    main()
