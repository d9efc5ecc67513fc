"""What each member of a pool is at a moment, read from the backend's buffers in canonical order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import oracle
import pmlp_np as pm


def slot_names(optimizer: Any) -> tuple[str, ...]:
    """The slots that are kept: none for momentum where it is 0."""
    _, names, _ = oracle.OPTIMIZERS[optimizer.name]
    return tuple(name for name in names if name != "momentum" or optimizer.momentum != 0.0)


@dataclass
class MemberState:
    """Parameters and slots as arrays (biases, and scales of features, are left out where the member has none), curves
    and progress.

    average: none of a member that keeps none, whatever its pool does.
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    scales: list[np.ndarray]
    best: list[np.ndarray]
    average: list[np.ndarray]
    slots: dict[str, dict[str, list[np.ndarray]]]
    curves: dict[str, np.ndarray]
    progress: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name."""
        groups = {"weights": self.weights, "biases": self.biases, "scales": self.scales, "best": self.best}
        groups["average"] = self.average
        groups |= {f"{name} of {kind}": values for name, slot in self.slots.items() for kind, values in slot.items()}
        found = {f"{name} {k}": values for name, group in groups.items() for k, values in enumerate(group)}
        return found | self.curves | self.progress


def state_of(backend: Any) -> dict[str, np.ndarray]:
    """All buffers of a backend in canonical order."""
    empty = np.zeros(0, backend.plan.dtype)
    return {name: np.concatenate([empty, *backend.store.stream(name)]) for name in backend.store.buffers()}


def restore(backend: Any, state: dict[str, np.ndarray]) -> None:
    """Fill a backend's buffers with these, in canonical order."""
    for name, values in state.items():
        rest = [values]

        def take(n: int, rest: list[np.ndarray] = rest) -> np.ndarray:
            found, rest[0] = rest[0][:n], rest[0][n:]
            return found

        backend.store.restore(name, take)
        assert not len(rest[0])


def member_states(pool: pm.Pool) -> dict[int, MemberState]:
    """The state of every member by id."""
    state = state_of(pool._ready())
    parameters, slots, best, average = (_Reader(state.get(name)) for name in ("parameters", "slots", "best", "average"))
    states = {}
    for i, (id, member) in enumerate(zip(pool.ids_.tolist(), pool.specs, strict=True)):
        features = pool._plan.features
        fan_in = pool.n_features if features is None else int(features.lengths[i])
        sizes = [fan_in, *member.hidden, pool._plan.n_raw_outputs]
        weights, biases, scales = parameters.take(sizes, member.bias, member.feature_scale)
        names = slot_names(member.optimizer)
        kinds = "weights", "biases", "scales"
        taken = {
            name: dict(zip(kinds, slots.take(sizes, member.bias, member.feature_scale), strict=True)) for name in names
        }
        kept, averages = (
            sum(reader.take(sizes, member.bias, member.feature_scale), []) if name in state else []
            for name, reader in (("best", best), ("average", average))
        )
        averages = averages if member.average else []
        curves = {name: curve[i] for name, curve in pool.history_.items()}
        progress = {name: values[i] for name, values in vars(pool._progress).items()}
        states[id] = MemberState(weights, biases, scales, kept, averages, taken, curves, progress)
    assert all(reader.exhausted() for reader in (parameters, slots, best, average))
    return states


class _Reader:
    """Takes tensors from a flat buffer: layer after layer, weights (fan_in, fan_out), then biases; then scales."""

    def __init__(self, values: np.ndarray | None) -> None:
        self.values = np.zeros(0) if values is None else values
        self.at = 0

    def take(self, sizes: list[int], bias: bool, scaled: bool) -> tuple[list[np.ndarray], ...]:
        weights, biases = [], []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            weights.append(self._next(fan_in * fan_out).reshape(fan_in, fan_out))
            if bias:
                biases.append(self._next(fan_out))
        return weights, biases, [self._next(sizes[0])] if scaled else []

    def _next(self, count: int) -> np.ndarray:
        values = self.values[self.at : self.at + count]
        assert len(values) == count
        self.at += count
        return values

    def exhausted(self) -> bool:
        return self.at == len(self.values)
