"""Settings: the arguments of fit that say how to train, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.base import checks, interrupts
from pmlp_np.base.errors import DataError, FileFormatError, compose, show
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.monitoring import metric_names, monitor_name

_VALIDATED = ("last", "average")
_DAMAGED = "It is damaged, or was written by another version of pmlp_np."


@dataclass(frozen=True)
class Settings:
    """The arguments of `fit` and `partial_fit` that say how to train, checked. See Pool.fit for their meaning."""

    epochs: int
    batch_size: int
    shuffle: str | None
    early_stopping: bool
    patience: int
    min_delta: float
    time_budget: float | None
    progress: bool | str
    n_threads: int | None
    # Arguments as of `fit`; after the checks: tuples, names of metrics instead of aliases, and "" for no monitor.
    metrics: str | Sequence[str] = ()
    monitor: str | None = None
    callbacks: Sequence[Callback] = ()
    on_interrupt: str = "keep"
    validated_weights: str = "last"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "n_threads"):
            value = getattr(self, name)
            if not (name == "n_threads" and value is None) and not (checks.is_whole(value) and value >= 1):
                raise DataError(compose(name, "a whole number, at least 1", show(value)))
        if isinstance(self.shuffle, (list, dict, set)) or self.shuffle not in SHUFFLES:
            raise DataError(compose("shuffle", "'shared', 'member' or None", show(self.shuffle)))
        if not checks.is_number(self.min_delta) or not 0 <= self.min_delta < float("inf"):
            raise DataError(compose("min_delta", "a number, at least 0", show(self.min_delta)))
        if self.time_budget is not None and (not checks.is_number(self.time_budget) or not self.time_budget > 0):
            raise DataError(compose("time_budget", "seconds, above 0, or None", show(self.time_budget)))
        if not isinstance(self.early_stopping, (bool, np.bool_)):
            raise DataError(compose("early_stopping", "True or False", show(self.early_stopping)))
        if self.progress not in (True, False, "auto"):
            raise DataError(compose("progress", "True, False or 'auto'", show(self.progress)))
        if not isinstance(self.on_interrupt, str) or self.on_interrupt not in interrupts.CHOICES:
            raise DataError(compose("on_interrupt", "'keep' or 'raise'", show(self.on_interrupt)))
        if not isinstance(self.validated_weights, str) or self.validated_weights not in _VALIDATED:
            raise DataError(compose("validated_weights", "'last' or 'average'", show(self.validated_weights)))
        metrics = metric_names(self.metrics)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "monitor", monitor_name(self.monitor, metrics))
        callbacks = () if self.callbacks is None else self.callbacks
        if not isinstance(callbacks, (tuple, list)) or not all(callable(each) for each in callbacks):
            hint = "Each is called with a pm.EpochEnd."
            raise DataError(compose("callbacks", "a list of functions", show(callbacks), hint))
        object.__setattr__(self, "callbacks", tuple(callbacks))

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds, to be read by `from_plain`. Callbacks are functions: how many there are."""
        found = {name: int(getattr(self, name)) for name in ("epochs", "batch_size", "patience")}
        budget, threads = self.time_budget, self.n_threads
        return found | {
            "shuffle": self.shuffle,
            "early_stopping": bool(self.early_stopping),
            "min_delta": float(self.min_delta),
            # Without end is without a budget.
            "time_budget": None if budget is None or math.isinf(budget) else float(budget),
            "progress": self.progress if isinstance(self.progress, str) else bool(self.progress),
            "n_threads": None if threads is None else int(threads),
            "metrics": list(self.metrics),
            "monitor": self.monitor,
            "callbacks": len(self.callbacks),
            "on_interrupt": self.on_interrupt,
            "validated_weights": self.validated_weights,
        }

    @classmethod
    def from_plain(cls, plain: Any, callbacks: Sequence[Callback] = ()) -> Settings:
        """Return settings from the result of `plain`, and the callbacks, which must be given again. Checks every value.

        Raises FileFormatError, and DataError where callbacks are not as many as they were.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(plain, dict) or set(plain) != set(names):
            got = ", ".join(map(str, plain)) if isinstance(plain, dict) else show(plain)
            raise FileFormatError(compose("settings", ", ".join(names), got, _DAMAGED))
        whole = {name: plain[name] for name in ("epochs", "batch_size", "patience", "n_threads", "callbacks")}
        for name, value in whole.items():
            if not (name == "n_threads" and value is None) and not (checks.is_whole(value) and 0 <= value < 2**63):
                raise FileFormatError(compose(f"settings: {name}", "a whole number below 2**63", show(value), _DAMAGED))
        metrics = plain["metrics"]
        if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
            raise FileFormatError(compose("settings: metrics", "a list of names", show(metrics), _DAMAGED))
        if len(callbacks) != plain["callbacks"]:
            hint = "Hand over the same ones, in their order: functions are in no file."
            raise DataError(
                compose("callbacks", f"{plain['callbacks']}, as training began with", f"{len(callbacks)}", hint)
            )
        monitor = None if plain["monitor"] == "" else plain["monitor"]
        try:
            return cls(**plain | {"monitor": monitor, "callbacks": tuple(callbacks)})
        except DataError as error:
            raise FileFormatError(f"settings: {error}") from error
