"""One method in a process of its own: JSON lines on standard input, an answer to each on standard output.

    python -m benchmarks.peers.worker METHOD

    {"do": "prepare", "cell": {...}, "members": null or [positions]}   a pool, from the weights that all methods share
    {"do": "train", "rows": n, "epochs": e, "n_threads": k}
                                               epochs over the first n rows: seconds of one, cores busy with other work
    {"do": "losses", "rows": n}                  the members' mean losses over the first n rows
    {"do": "quit"}

`Worker` is the other end. What a method prints goes to standard error.
"""

import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import (
    ROOT,
    Cell,
    Weights,
    cpu_seconds_of_others,
    paper_architectures,
    random_weights,
    regression_data,
    seconds,
)
from benchmarks.peers import METHODS, Method

# Idle threads of another process must not spin while this one is timed; `seconds` waits until most have gone to sleep,
# and this lets OpenMP's do so at once.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
# Where set, these slow a current NumPy.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Worker:
    """A method's process, as the one that asks sees it."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.seconds_waited = 0.0  # for all its answers
        environment = {name: value for name, value in os.environ.items() if name not in UNSET} | ENVIRONMENT
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.worker", method],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        began = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: so says its missing answer
        line = self.process.stdout.readline()
        self.seconds_waited += time.perf_counter() - began
        if not line:
            status = self.process.wait()
            raise RuntimeError(f"the process of {self.method} ended with status {status} when asked to {do}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def quit(self) -> None:
        """End it, whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@functools.lru_cache(maxsize=1)
def _weights(n_features: int, n_outputs: int, depth: int) -> list[Weights]:
    return random_weights(paper_architectures(), n_features, 0, n_outputs, depth)


@functools.lru_cache(maxsize=1)
def data_of(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    return regression_data(cell.n_features, cell.n_rows, n_outputs=cell.n_outputs)


class Server:
    """A method's process, from inside."""

    def __init__(self, method: str) -> None:
        self.peer = METHODS[method]
        self.cell: Cell | None = None
        self.pool: Method | None = None

    def prepare(self, cell: dict[str, Any], members: Sequence[int] | None) -> dict[str, Any]:
        self.pool = None  # before the next one is built: both would not fit
        gc.collect()
        self.cell = Cell(**cell)
        architectures = paper_architectures()
        weights = _weights(self.cell.n_features, self.cell.n_outputs, self.cell.depth)
        chosen = range(len(architectures)) if members is None else members
        self.pool = self.peer.make(self.cell, [architectures[m] for m in chosen], [weights[m] for m in chosen])
        return {}

    def rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.cell is not None
        x, y = data_of(self.cell)
        return x[:count], y[:count]

    def train(self, rows: int, epochs: int, n_threads: int) -> dict[str, Any]:
        pool, (x, y) = self.pool, self.rows(rows)
        assert pool is not None
        # Some compile for the shape of the data, which is not to be timed.
        if hasattr(pool, "prepare"):
            pool.prepare(x, y)
        began, others = time.perf_counter(), cpu_seconds_of_others()
        found = seconds(lambda: pool.train(x, y, n_threads, epochs)) / epochs
        busy = (cpu_seconds_of_others() - others) / (time.perf_counter() - began)
        return {"seconds": found, "cores_busy_with_other_work": max(busy, 0.0)}

    def losses(self, rows: int) -> dict[str, Any]:
        assert self.pool is not None
        return {"losses": self.pool.losses(*self.rows(rows)).tolist()}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = Server(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        if do == "quit":
            break
        print(json.dumps(getattr(server, do)(**request)), file=answers)


if __name__ == "__main__":
    main()
