"""Everything that only a machine with an NVIDIA GPU can say, in one command of eight minutes at most.

    make gpu                                                  # writes benchmarks/results/gpu/DATE.json
    python -m benchmarks.gpu.on_gpu --device emulated         # the same steps on emulated kernels, as far as they go

Steps run one after another, each in a process of its own with a limit; what is most valuable comes first, and the
record is written after each. It needs CuPy, NumPy and Numba; PyTorch, JAX, pytest, ncu and compute-sanitizer are used
where they are. Nothing is fetched, and no setting of the card is changed.
"""

import argparse
import contextlib
import datetime
import importlib.util
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, Cell, paper_architectures, random_weights, regression_data

FOLDER = RESULTS / "gpu"
# Multiply-adds of a row that trains, per hidden unit: 4 F + 6 operations.
CELLS = [Cell(f, 32, 1000, 1e-3) for f in (10, 100, 5, 50)] + [
    Cell(100, 256, 1000, 1e-3), Cell(10, 32, 10_000, 1e-3), Cell(10, 32, 1000, 1e-3, optimizer="adam"),
    Cell(100, 32, 1000, 1e-3, optimizer="adam"), Cell(10, 32, 1000, 1e-3, depth=2),
]  # fmt: skip
PEER_CELLS = [Cell(10, 32, 1000, 1e-3), Cell(50, 32, 1000, 1e-3), Cell(100, 128, 1000, 1e-3)]
TESTS = ("tests/test_faithful.py", "tests/test_bits.py", "tests/test_training.py", "tests/test_monitoring.py")


def backend_of(device: str) -> str:
    """The backend that runs on a device; "emulated" is entered into the library's table."""
    if device == "gpu":
        return "cupy"
    sys.path.insert(0, str(ROOT / "tests"))
    import emulated_device
    from pmlp_np import backends

    backends.BACKENDS["emulated"] = emulated_device.ENTRY
    return "emulated"


def versions(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                             "python": platform.python_version(), "numpy": np.__version__}  # fmt: skip
    for name in ("numba", "torch", "jax"):
        if importlib.util.find_spec(name):
            found[name] = importlib.import_module(name).__version__
    if device == "gpu":
        import cupy

        properties, attributes = cupy.cuda.runtime.getDeviceProperties(0), cupy.cuda.Device().attributes
        found |= {
            "cupy": cupy.__version__, "runtime": cupy.cuda.runtime.runtimeGetVersion(),
            "driver": cupy.cuda.runtime.driverGetVersion(), "name": properties["name"].decode(),
            "multiprocessors": properties["multiProcessorCount"], "clock_khz": attributes["ClockRate"],
            "compute_capability": cupy.cuda.Device().compute_capability,
            "shared_bytes": attributes["MaxSharedMemoryPerBlockOptin"],
        }  # fmt: skip
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "HEAD"]
        found["commit"] = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return found


def peak(device: str) -> dict[str, Any]:
    """Operations per second of dependent multiply-adds in registers, and bytes per second of a copy."""
    if device != "gpu":
        return {}
    import cupy

    text = """extern "C" __global__ void adds(const int turns, float* out) {
        float a[16];
        for (int j = 0; j < 16; ++j) a[j] = threadIdx.x + j;
        for (int i = 0; i < turns; ++i)
            for (int j = 0; j < 16; ++j) a[j] = fmaf(a[j], 0.999f, 0.001f);
        float sum = 0;
        for (int j = 0; j < 16; ++j) sum += a[j];
        out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
    }"""
    kernel = cupy.RawModule(code=text).get_function("adds")
    blocks, threads, turns = 32 * cupy.cuda.Device().attributes["MultiProcessorCount"], 256, 4096
    out = cupy.empty(blocks * threads, np.float32)
    seconds = _timed(lambda: kernel((blocks,), (threads,), (np.int32(turns), out)), cupy.cuda.Device().synchronize)
    a, b = cupy.zeros(1 << 28, np.uint8), cupy.empty(1 << 28, np.uint8)
    copied = _timed(lambda: cupy.copyto(b, a), cupy.cuda.Device().synchronize)
    return {
        "multiply_add_tflops": 2 * 16 * turns * blocks * threads / seconds / 1e12,
        "copy_gb_per_second": 2 * a.nbytes / copied / 1e9,
    }


def _timed(call: Callable[[], Any], wait: Callable[[], Any], repeats: int = 3) -> float:
    call()
    wait()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def bits(device: str) -> dict[str, Any]:
    """How many of the committed digests of trained bits the device reaches, and which it does not.

    In several processes: each case has formulas of its own, and compiling them takes most of the time.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from trained_bits import CASES, DTYPES

    others, failed, equal = [], {}, 0
    cases = [(device, name, dtype) for name in CASES for dtype in DTYPES]
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(min(8, os.cpu_count() or 1)) as workers:
        for case, found in workers.imap_unordered(_bits_of, cases):
            title = " ".join(case[1:])
            equal += found == "equal"
            if found == "others":
                others.append(title)
            elif found != "equal":
                failed[title] = found
            if found != "equal":
                print(title, found, flush=True)
            elif equal % 20 == 0:
                print(f"{equal} of {len(cases)} are equal", flush=True)
    return {"equal": equal, "others": others, "failed": failed}


def _bits_of(case: tuple[str, str, str]) -> tuple[tuple[str, str, str], str]:
    """Return the case, and "equal", "others" or an error."""
    device, name, dtype = case
    sys.path.insert(0, str(ROOT / "tests"))
    from trained_bits import CASES, committed, digest

    try:
        same = digest(CASES[name].train(dtype, backend_of(device))) == committed()[name][dtype]
    except Exception as error:  # what happens here is to be read, and not to end the run
        return case, f"{type(error).__name__}: {error}"[:300]
    return case, "equal" if same else "others"


def _pool(backend: str, cell: Cell, members: int | None = None) -> Any:
    import pmlp_np as pm

    architectures = paper_architectures()[:: 1 if members is None else 10_000 // members]
    optimizer = (pm.SGD if cell.optimizer == "sgd" else pm.Adam)(learning_rate=cell.learning_rate)
    specs = [pm.Member(hidden=(w,) * cell.depth, activation=a, optimizer=optimizer) for w, a in architectures]
    return pm.Pool(specs, cell.n_features, cell.n_outputs, backend=backend, seed=0)


def grid(device: str) -> list[dict[str, Any]]:
    """Seconds an epoch of the paper's pool, of which a fit has ten, and the operations per second that this is."""
    backend, found = backend_of(device), []
    for cell in CELLS if device == "gpu" else CELLS[:2]:
        cell = cell if device == "gpu" else cell._replace(n_rows=64)
        pool = _pool(backend, cell, None if device == "gpu" else 100)
        data, epochs = regression_data(cell.n_features, cell.n_rows), 10
        fixed = {"batch_size": cell.batch_size, "shuffle": None, "progress": False}
        began = time.perf_counter()
        pool.fit(*data, epochs=1, **fixed)
        first = time.perf_counter() - began
        seconds = []
        for _ in range(5 if device == "gpu" else 1):
            began = time.perf_counter()
            pool.partial_fit(*data, epochs=epochs, **fixed)
            seconds.append((time.perf_counter() - began) / epochs)
        operations = cell.n_rows * sum(
            (4 * cell.n_features + 6 * (cell.depth - 1) * member.hidden[0] + 6) * member.hidden[0]
            for member in pool.specs
        )
        median = float(np.median(seconds))
        found.append(
            {
                "cell": cell.name(),
                "epoch_seconds": median,
                "first_fit_seconds": first,
                "tflops": operations / median / 1e12,
            }
        )
        print(found[-1], flush=True)
    return found


def peers(device: str) -> list[dict[str, Any]]:
    """Seconds an epoch of the peers on the same card; of JAX with what it has compiled."""
    from benchmarks.peers import METHODS

    if device != "gpu":
        return []
    os.environ["PMLP_BENCH_DEVICE"] = "cuda"
    found = []
    for cell in PEER_CELLS:
        architectures = paper_architectures()
        weights = random_weights(architectures, cell.n_features)
        x, y = regression_data(cell.n_features, cell.n_rows)
        for name in ("pytorch_fused", "jax"):
            if not METHODS[name].installed():
                continue
            pool = METHODS[name].make(cell, architectures, weights)
            pool.train(x, y, 2)
            began = time.perf_counter()
            pool.train(x, y, 2, epochs=2)
            found.append({"cell": cell.name(), "method": name, "epoch_seconds": (time.perf_counter() - began) / 2})
            print(found[-1], flush=True)
            del pool
    return found


def _tool(command: list[str], limit: float) -> dict[str, Any]:
    if not shutil.which(command[0]):
        return {"missing": command[0]}
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        return {"timed_out": limit, "tail": str(error.stdout or "")[-2000:]}
    return {"exit_status": done.returncode, "tail": (done.stdout + done.stderr)[-6000:]}


def _small_fit() -> list[str]:
    code = (
        "import numpy as np, pmlp_np as pm; X = np.random.default_rng(0).normal(size=(70, 13));"
        "specs = pm.grid(hidden=[(5,), (17,), (), (7, 9)], optimizer=[pm.SGD(0.01), pm.Adam()], dropout=0.1,"
        " clip_norm=1.0);"
        "pm.Pool(specs, 13, backend='cupy').fit(X, X[:, 0], epochs=2, batch_size=40, progress=False,"
        " validation_data=(X, X[:, 0]))"
    )
    return [sys.executable, "-c", code]


def sanitizers(device: str) -> dict[str, Any]:
    """compute-sanitizer's four tools on a small fit."""
    if device != "gpu":
        return {}
    tools = ("memcheck", "racecheck", "synccheck", "initcheck")
    return {tool: _tool(["compute-sanitizer", "--tool", tool, *_small_fit()], 40) for tool in tools}


def profile(device: str) -> dict[str, Any]:
    """ncu on one launch of the paper's pool: shares of the pipes, conflicts in shared memory, occupancy."""
    if device != "gpu":
        return {}
    metrics = ",".join([
        "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active", "smsp__issue_active.avg.pct",
        "sm__warps_active.avg.pct_of_peak_sustained_active", "launch__registers_per_thread",
        "l1tex__data_bank_conflicts_pipe_lsu.sum", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
        "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum", "gpu__time_duration.sum",
    ])  # fmt: skip
    code = "from benchmarks.gpu.on_gpu import one_launch; one_launch()"
    command = ["ncu", "--csv", "--kernel-name", "regex:train_", "--launch-count", "4", "--metrics", metrics]
    return _tool([*command, sys.executable, "-c", code], 60)


def one_launch() -> None:
    cell = Cell(100, 32, 1000, 1e-3)
    _pool("cupy", cell).fit(*regression_data(100, 1000), epochs=1, batch_size=32, shuffle=None, progress=False)


def tests(device: str) -> dict[str, Any]:
    """The project's property tests on the device."""
    if not importlib.util.find_spec("pytest"):
        return {"missing": "pytest"}
    os.environ["PMLP_TEST_BACKENDS"] = "cupy" if device == "gpu" else "emulated"
    chosen = TESTS if device == "gpu" else TESTS[:1]
    several = ["-n", "8"] if importlib.util.find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=5", "-p", "no:cacheprovider", *several, *chosen]
    return _tool(command, 140)


# In order of value, with the seconds that each may take.
STEPS: dict[str, tuple[Callable[[str], Any], float]] = {
    "versions": (versions, 30), "peak": (peak, 30), "bits": (bits, 120), "grid": (grid, 120), "profile": (profile, 70),
    "peers": (peers, 120), "sanitizers": (sanitizers, 120), "tests": (tests, 150),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["gpu", "emulated"], default="gpu")
    parser.add_argument("--output", type=Path, help="the JSON file (default: benchmarks/results/gpu/DATE.json)")
    parser.add_argument("--seconds", type=float, default=470.0, help="steps that would begin later are left out")
    parser.add_argument("--step", choices=list(STEPS), help="this one alone, its result as the last line")
    given = parser.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step][0](given.device)))
        return
    output = given.output or FOLDER / f"{datetime.date.today().isoformat()}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    began, record = time.perf_counter(), {"what": (__doc__ or "").strip(), "device": given.device, "steps": {}}
    for name, (_, limit) in STEPS.items():
        left = given.seconds - (time.perf_counter() - began)
        if left < 10:
            record["steps"][name] = {"left_out": "no time was left"}
            continue
        record["steps"][name] = _run_step(name, given.device, min(limit, left))
        output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(record['steps'][name])[:400]}", flush=True)
    print(f"written to {output}")


def _run_step(name: str, device: str, limit: float) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu.on_gpu", "--device", device, "--step", name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout if isinstance(error.stdout, str) else (error.stdout or b"").decode(errors="replace")
        return {"timed_out_after": limit, "printed": output[-4000:]}
    found: dict[str, Any] = {"seconds": time.perf_counter() - began}
    if done.returncode:
        return found | {"exit_status": done.returncode, "printed": (done.stdout + done.stderr)[-6000:]}
    return found | {"result": json.loads(done.stdout.strip().splitlines()[-1])}


if __name__ == "__main__":
    main()
