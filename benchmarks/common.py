"""What the benchmark scripts share: the paper's pool, its data, timing, and the facts of the machine."""

import datetime
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

PAPER_WIDTHS = range(1, 101)
PAPER_REPEATS = 10
ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "selu", "hardshrink", "mish")

# One hidden layer: its width and its activation, by the library's name.
Architecture = tuple[int, str]


class Weights(NamedTuple):
    """A member with one hidden layer of h units and one output."""

    w1: np.ndarray  # (n_features, h)
    b1: np.ndarray  # (h,)
    w2: np.ndarray  # (h, 1)
    b2: np.ndarray  # (1,)


def paper_architectures() -> list[Architecture]:
    """10,000 members: widths 1 to 100, ten activations, ten repeats."""
    return [(w, a) for w in PAPER_WIDTHS for a in ACTIVATIONS for _ in range(PAPER_REPEATS)]


def n_parameters(architectures: Sequence[Architecture], n_features: int) -> int:
    return sum(width * (n_features + 2) + 1 for width, _ in architectures)


def regression_data(n_features: int, n_rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Float32 X (n_rows, n_features) and a real target y (n_rows,): a sine of the features and as much noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_features))
    direction = rng.normal(size=n_features) / np.sqrt(n_features)
    y = np.sin(2 * x @ direction) + 0.7 * rng.normal(size=n_rows)
    return x.astype(np.float32), y.astype(np.float32)


def random_weights(architectures: Sequence[Architecture], n_features: int, seed: int = 0) -> list[Weights]:
    """Drawn as torch.nn.Linear draws them, from NumPy's own generator."""
    rng = np.random.default_rng(seed)

    def linear(fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
        bound = 1 / np.sqrt(fan_in)
        return (
            rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32),
            rng.uniform(-bound, bound, fan_out).astype(np.float32),
        )

    return [Weights(*linear(n_features, width), *linear(width, 1)) for width, _ in architectures]


def seconds(call: Callable[[], object], settle: float = 0.05) -> float:
    """Wall time of one call, after a moment in which the idle threads of the previous one stop spinning."""
    gc.collect()
    time.sleep(settle)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, Any]:
    quartiles = np.percentile(values, [25, 50, 75])
    return {
        "median": float(quartiles[1]),
        "quartiles": [float(quartiles[0]), float(quartiles[2])],
        "min": float(np.min(values)),
        "max": float(np.max(values)),
        "repeats": len(values),
    }


def peak_memory() -> int:
    """Bytes this program has held at most. Not `ru_maxrss`, which counts the parent's memory from before the exec."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def cpu_seconds_of_others() -> float:
    """CPU seconds spent since boot by all but this process, those that a hypervisor took away included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    own = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own.user - own.system


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Processor, cores, versions and date, to stand beside every figure."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor_name(),
        "cores": available_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: version_of(name)
            for name in ("numpy", "numba", "llvmlite", "torch", "jax", "scikit-learn", "onnxruntime")
        },
    }
