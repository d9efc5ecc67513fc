"""Neighbors of members: the same architecture and optimizer, with other numbers near those they have."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.optimizers import HYPERPARAMETERS
from pmlp_np.formulas.options import OPTIONS

# Numbers that are multiplied by a factor where they are above 0, hyperparameters and options; and shares of units that
# drop out, which are moved. Widths change by the root of a factor: parameters grow with their square.
FACTORS = ("learning_rate", "weight_decay", "decoupled_weight_decay", "l1")
SHARES = ("dropout", "input_dropout")
_MOST_DROPPED = 0.9
_SHARE_STEP = 0.2
_MOST_SPREAD = 10.0


def check_arguments(n: Any, seed: Any, spread: Any) -> None:
    """Raise DataError for other arguments than `Specs.near` takes."""
    checks.whole("n", n, 0)
    checks.whole("seed", seed, 0, 2**64)
    if not checks.is_number(spread) or not 0.0 <= spread <= _MOST_SPREAD:
        raise DataError(compose("spread", f"a number from 0 to {_MOST_SPREAD:g}", show(spread)))


def moved_columns(
    widths: np.ndarray, hyperparameters: np.ndarray, options: np.ndarray, seed: int, spread: float
) -> dict[str, np.ndarray]:
    """Return these columns of a table of specs with numbers near those it has, as `Specs.near` documents."""
    draw = np.random.default_rng([seed, 2])

    def moved(values: np.ndarray, share: float = 1.0) -> np.ndarray:
        with np.errstate(over="ignore"):
            found = values * np.exp(draw.uniform(-share * spread, share * spread, len(values)))
        return np.minimum(found, np.finfo(np.float64).max)

    hyperparameters, options = hyperparameters.copy(), np.array(options)
    columns: dict[str, Any] = {name: hyperparameters[:, i] for i, name in enumerate(HYPERPARAMETERS)}
    columns |= {name: options[:, i] for i, name in enumerate(OPTIONS)}
    for name in FACTORS:
        columns[name][:] = moved(columns[name])
    for name in SHARES:
        values = columns[name]
        step = draw.uniform(-_SHARE_STEP, _SHARE_STEP, len(values)) * spread
        values[:] = np.where(values > 0.0, np.clip(values + step, 0.0, np.maximum(values, _MOST_DROPPED)), 0.0)
    most = np.iinfo(widths.dtype).max
    moved_widths = np.clip(np.rint(moved(widths.astype(np.float64), 0.5)), 1.0, most).astype(widths.dtype)
    return {"widths": moved_widths, "hyperparameters": hyperparameters, "options": options}
