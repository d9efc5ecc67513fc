"""What is watched while members train: curves and each member's best, metrics on validation data, and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.backends.contract import Backend, Control
from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas.losses import Loss
from pmlp_np.state.epoch_rule import EpochRule
from pmlp_np.state.placed import Placed
from pmlp_np.training.history import History, decider, ranker
from pmlp_np.training.measuring import finished_score, measured
from pmlp_np.training.metrics import METRIC_ALIASES, METRICS, canonical, follows_from_means

# What is measured in any case, and may be monitored as metrics may.
_OWN = ("loss", "score")
_PREFIX = "validation_"
# What `Watch.monitor` may be.
MONITORS = ("", *_OWN, *METRICS)


def grows(name: str, loss: Loss) -> bool:
    """Whether larger is better."""
    return METRICS[name].grows if name in METRICS else name == "score" and loss.score_grows


def metric_names(metrics: Any) -> tuple[str, ...]:
    """The argument `metrics` as the metrics' own names, each once. DataError for unknown ones."""
    if metrics is None or isinstance(metrics, str):
        metrics = () if metrics is None else (metrics,)
    if not isinstance(metrics, (tuple, list)):
        raise DataError(compose("metrics", "a list of names", show(metrics), f"There are {', '.join(METRICS)}."))
    return tuple(dict.fromkeys(canonical("metrics", name) for name in metrics))


def monitor_name(monitor: Any, metrics: tuple[str, ...]) -> str:
    """The argument `monitor` as a name of `Watch`. DataError for what is not computed."""
    if monitor is None:
        return ""
    name = monitor.removeprefix(_PREFIX) if isinstance(monitor, str) else monitor
    name = METRIC_ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in METRICS and name not in metrics:
        hint = f"Have it computed: metrics={[*metrics, name]}."
        raise DataError(compose("monitor", f"one of {', '.join([*_OWN, *metrics])}", show(monitor), hint))
    if not isinstance(name, str) or name not in (*_OWN, *metrics):
        raise DataError(unknown_name("monitor", monitor, (*_OWN, *metrics)))
    return name


@dataclass(frozen=True)
class Watch:
    """What is measured on validation data after each epoch, and which of it decides.

    metrics: names besides the loss and its own score. monitor: "loss", "score" or a metric by which best epochs are
    found and members are ranked; "" for the loss and the score.
    """

    loss: Loss
    metrics: tuple[str, ...] = ()
    monitor: str = ""

    @property
    def curves(self) -> list[str]:
        """Names of what is measured, as in the history."""
        return [_PREFIX + name for name in (*_OWN, *self.metrics)]

    def by_curve(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What `measure` found, by the curves' names."""
        return dict(zip(self.curves, values.values(), strict=True))

    @property
    def shown(self) -> str:
        """The curve that people look at first."""
        return _PREFIX + ranker(self.monitor)

    def measure(
        self, backend: Backend, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> dict[str, np.ndarray]:
        """Loss, score and metrics of these members, (len(members),) float64 by name."""
        means = backend.evaluate(members, placed, weights, control)
        return self.complete(means, backend, members, placed, weights, control)

    def complete(
        self,
        means: tuple[np.ndarray, np.ndarray],
        backend: Backend,
        members: np.ndarray,
        placed: Placed,
        weights: str,
        control: Control,
    ) -> dict[str, np.ndarray]:
        """The same, from the mean losses and scores of an evaluation."""
        values = {"loss": means[0], "score": finished_score(self.loss, means)}
        return values | measured(self.metrics, self.loss, backend, members, placed, weights, control, means)

    def rule(self, placed: Placed, early_stopping: bool, patience: int, min_delta: float) -> EpochRule | None:
        """What follows an epoch with validation on this data, where no part of it needs Python; else None."""
        decides = decider(self.monitor)
        by_means = all(follows_from_means(name, self.loss, placed.data.n_targets) for name in self.metrics)
        plain_score = type(self.loss).finish is Loss.finish
        if not by_means or not (decides == "loss" or (decides == "score" and plain_score)):
            return None
        how = early_stopping, patience, min_delta
        return EpochRule(placed, *how, by_score=decides == "score", score_grows=self.loss.score_grows)

    def oriented(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """What decides, negated where it grows: smaller is better."""
        name = decider(self.monitor)
        return -values[name] if grows(name, self.loss) else values[name]


def measure_again(
    records: History,
    watch: Watch,
    backend: Backend,
    validation: Placed,
    keys: np.ndarray,
    standing: np.ndarray,
    to_keep: np.ndarray,
    epochs: np.ndarray,
    control: Control,
) -> None:
    """Before members train: measure on this validation data what was measured on other data, or never, so that all that
    is kept and shown can be compared with what comes.

    keys: (n_members,) of the validation data. standing: a mask of the members that have trained, and whose last weights
    are usable; those without a best one among `to_keep` (a mask) are at their best where they stand, after so many
    `epochs` (n_members,) of their life.
    """
    other, has_best = records.validated_on != keys, records.best_epoch >= 0
    members = np.flatnonzero(has_best & (other | np.isnan(records.best_value)))
    if len(members):
        values = watch.measure(backend, members, validation, "best", control)
        found = watch.oriented(values)
        records.best_value[members] = np.where(np.isnan(found), np.inf, found)
        records.show(members, watch.by_curve(values), keys[members])
    members = np.flatnonzero(~has_best & standing & (other | to_keep))
    if len(members):
        values = watch.measure(backend, members, validation, "last", control)
        records.show(members, watch.by_curve(values), keys[members])
        found = watch.oriented(values)
        kept = to_keep[members] & (found < np.inf)
        if kept.any():
            backend.store.keep(members[kept])
            records.keep(members[kept], found[kept], epochs[members[kept]] - 1)
