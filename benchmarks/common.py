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

# A member of a pool: the width of each of its hidden layers, and its activation by the library's name. How many hidden
# layers and outputs there are is the same for all members of a pool.
Architecture = tuple[int, str]


class Cell(NamedTuple):
    """One thing to measure: an epoch of a pool of members that differ in width and activation alone."""

    n_features: int
    batch_size: int
    n_rows: int
    learning_rate: float
    n_outputs: int = 1
    depth: int = 1
    optimizer: str = "sgd"  # or "adam", with PyTorch's defaults

    def name(self) -> str:
        extra = [f"outputs={self.n_outputs}"] * (self.n_outputs > 1) + [f"depth={self.depth}"] * (self.depth > 1)
        extra += [self.optimizer] * (self.optimizer != "sgd")
        return " ".join([f"F={self.n_features} B={self.batch_size} N={self.n_rows}", *extra])


class Weights(NamedTuple):
    """A member: one matrix (fan_in, fan_out) and one vector of biases (fan_out,) for each layer, output layer last."""

    matrices: list[np.ndarray]
    biases: list[np.ndarray]


class Adam(NamedTuple):
    """What Adam is here: PyTorch's defaults, which are also the library's."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


def paper_architectures() -> list[Architecture]:
    """10,000 members: widths 1 to 100, ten activations, ten repeats."""
    return [(w, a) for w in PAPER_WIDTHS for a in ACTIVATIONS for _ in range(PAPER_REPEATS)]


def fans(width: int, n_features: int, n_outputs: int = 1, depth: int = 1) -> list[tuple[int, int]]:
    """(fan_in, fan_out) of each layer of a member, output layer last."""
    sizes = [n_features, *[width] * depth, n_outputs]
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def n_parameters(architectures: Sequence[Architecture], n_features: int, n_outputs: int = 1, depth: int = 1) -> int:
    return sum((a + 1) * b for width, _ in architectures for a, b in fans(width, n_features, n_outputs, depth))


def regression_data(n_features: int, n_rows: int, seed: int = 1, n_outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Float32 X (n_rows, n_features) and real targets: a sine of the features and as much noise.

    The targets are (n_rows,), or (n_rows, n_outputs) where there are several.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_features))
    directions = rng.normal(size=(n_features, n_outputs)) / np.sqrt(n_features)
    y = np.sin(2 * x @ directions) + 0.7 * rng.normal(size=(n_rows, n_outputs))
    return x.astype(np.float32), (y[:, 0] if n_outputs == 1 else y).astype(np.float32)


def random_weights(
    architectures: Sequence[Architecture], n_features: int, seed: int = 0, n_outputs: int = 1, depth: int = 1
) -> list[Weights]:
    """Drawn as torch.nn.Linear draws them, from NumPy's own generator."""
    rng = np.random.default_rng(seed)

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    return [
        Weights(
            [uniform(a**-0.5, a, b) for a, b in fans(width, n_features, n_outputs, depth)],
            [uniform(a**-0.5, b) for a, b in fans(width, n_features, n_outputs, depth)],
        )
        for width, _ in architectures
    ]


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
