"""What the results of the paper's grid say: times and ratios of cells."""

from typing import Any

import numpy as np

from benchmarks.peers import LIBRARY, METHODS

PEERS = [name for name in METHODS if name != LIBRARY]
# Of which the best counts: those that train all of the pool's members.
WHOLE_PEERS = [name for name in PEERS if METHODS[name].activations == METHODS[LIBRARY].activations]


def entries(results: dict[str, Any], extra: bool = False) -> list[dict[str, Any]]:
    return [entry for entry in results["cells"] if entry["extra"] == extra]


def time_of(entry: dict[str, Any], method: str) -> float | None:
    """Seconds of an epoch; None where the method was not measured, or does not count."""
    found = entry["methods"].get(method)
    return float(found["epoch_seconds"]["median"]) if found and found["agreement"]["agrees"] else None


def ratio_of(entry: dict[str, Any], method: str) -> float | None:
    """How many times as long as the library's the method's epoch is."""
    own, theirs = time_of(entry, LIBRARY), time_of(entry, method)
    return theirs / own if own and theirs else None


def best_ratio(entry: dict[str, Any]) -> float | None:
    """The fastest peer's."""
    ratios = [ratio for name in WHOLE_PEERS if (ratio := ratio_of(entry, name)) is not None]
    return min(ratios, default=None)


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
