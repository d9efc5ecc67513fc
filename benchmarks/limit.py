"""The least time that an epoch of a pool can take on this machine: arithmetic at its peak, and nothing else.

    limit = (matrix operations / multiply-add peak) + (activations * time of one in the nearest cache), over all cores

All three rates are measured by the lab's kernels. Matrix operations: forward, weight gradients, and the gradient handed
back between hidden layers and from the output layer. Counted with true widths, or with widths rounded up to whole
vectors, which is what vector instructions can do at best without packing members together.

    python -m benchmarks.limit
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import ACTIVATIONS, Architecture, available_cores

KIND = "float32"
LANES = 16


def measure(n_threads: int) -> dict[str, Any]:
    """The machine's rates; a few seconds."""
    # Imported late: only what measures needs Numba, what draws and checks tables does not.
    from benchmarks.kernels.peak import activation_seconds, copy_rate, multiply_add_rate

    one = multiply_add_rate(KIND)
    together = one if n_threads == 1 else multiply_add_rate(KIND, n_threads)
    return {
        "n_threads": n_threads,
        "multiply_add_gflops_one_core": one / 1e9,
        "multiply_add_gflops": together / 1e9,
        "activation_ns": {name: 1e9 * activation_seconds(KIND, name) for name in ACTIVATIONS},
        "copy_gb_per_second_one_core": copy_rate() / 1e9,
    }


def fastest(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best of several measurements: what other work takes from a machine only ever makes it look slower."""
    rates = ("multiply_add_gflops_one_core", "multiply_add_gflops", "copy_gb_per_second_one_core")
    names = measured[0]["activation_ns"]
    return {
        "n_threads": measured[0]["n_threads"],
        "activation_ns": {name: min(found["activation_ns"][name] for found in measured) for name in names},
        **{rate: max(found[rate] for found in measured) for rate in rates if rate in measured[0]},
    }


def operations_per_row(width: np.ndarray, n_features: int, n_outputs: int, depth: int) -> np.ndarray:
    """Floating-point operations of one training row of a member with `depth` hidden layers of `width` units.

    Hidden weights: 2 forward and 2 for their gradient; 2 more where the gradient is handed to a layer below. The output
    layer: 2 forward, 2 gradient by weights, 2 gradient by activations.
    """
    first = 4 * n_features * width
    inner = (depth - 1) * 6 * width * width
    return first + inner + 6 * n_outputs * width


def epoch_seconds(
    limit: dict[str, Any],
    architectures: Sequence[Architecture],
    n_features: int,
    n_outputs: int,
    depth: int,
    n_rows: int,
    rounded: bool,
) -> float:
    """The least seconds of an epoch; `rounded`: widths rounded up to whole vectors."""
    widths = np.array([width for width, _ in architectures])
    if rounded:
        widths = -(-widths // LANES) * LANES
    activation_ns = np.array([limit["activation_ns"][name] for _, name in architectures])
    matrices = operations_per_row(widths, n_features, n_outputs, depth).sum() / (1e9 * limit["multiply_add_gflops"])
    activations = (depth * widths * activation_ns * 1e-9).sum() / limit["n_threads"]
    return float(n_rows * (matrices + activations))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=available_cores())
    print(json.dumps(measure(parser.parse_args().threads), indent=1))


if __name__ == "__main__":
    main()
