"""Losses as tests name them: every loss with its default parameters, and some with others.

A label stands for the oracle's function and its keywords, and for the library's loss with the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.formulas.losses import LOSSES, Loss


def uneven(n_outputs: int) -> tuple[float, ...]:
    """A weight for each output, one of them zero where there are several."""
    return tuple(float(o) for o in range(n_outputs)) if n_outputs > 1 else (3.0,)


# label: (the loss's name, its parameters for a number of outputs)
VARIANTS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    **{name: (name, lambda n: {}) for name, loss in LOSSES.items() if not loss.registered},
    "weighted squared error": ("squared_error", lambda n: {"output_weight": uneven(n)}),
    "smoothed cross-entropy": ("cross_entropy", lambda n: {"label_smoothing": 0.2}),
    "smoothed labels": ("binary_cross_entropy", lambda n: {"label_smoothing": 0.1, "output_weight": uneven(n)}),
    "narrow huber": ("huber", lambda n: {"delta": 0.3, "output_weight": uneven(n)}),
    "one level": ("quantile", lambda n: {"levels": (0.3,)}),
    "weighted levels": ("quantile", lambda n: {"levels": (0.05, 0.6), "output_weight": uneven(n)}),
    "weighted gaussian": ("gaussian_nll", lambda n: {"output_weight": uneven(n)}),
}
_CLASSES = {type(loss).name: type(loss) for loss in LOSSES.values()}
assert _CLASSES["huber"] is pm.Huber


def named(label: str, n_outputs: int) -> tuple[str, dict[str, Any]]:
    """The loss's name, and its parameters for this number of outputs."""
    name, parameters = VARIANTS[label]
    return name, parameters(n_outputs)


def library_loss(label: str, n_outputs: int) -> Loss:
    """The library's loss."""
    name, parameters = named(label, n_outputs)
    return _CLASSES[name](**parameters)


def heads(label: str) -> int:
    """Raw outputs per output."""
    name, parameters = named(label, 1)
    known = {"gaussian_nll": 2, "quantile": len(parameters.get("levels", (0.1, 0.5, 0.9)))}
    return known.get(name, LOSSES[name].heads)


def random_targets(label: str, rng: np.random.Generator, n_rows: int, n_outputs: int) -> np.ndarray:
    """Targets that a loss takes: integer labels (rows,), or numbers (rows, outputs)."""
    name = VARIANTS[label][0]
    if LOSSES[name].targets == "labels":
        return rng.integers(0, n_outputs, n_rows)
    if LOSSES[name].targets == "probabilities":
        # Labels, and probabilities between them.
        return np.clip(rng.normal(0.5, 1.0, size=(n_rows, n_outputs)), 0.0, 1.0)
    if name == "poisson":
        return rng.poisson(1.5, size=(n_rows, n_outputs)).astype(float)
    return rng.normal(size=(n_rows, n_outputs))
