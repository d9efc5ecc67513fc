"""Monitoring: loss, score and metrics on validation data, and the curve that decides each member's best epoch."""

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

# Always measured; metrics are added to them. Each can be monitored.
_ALWAYS = ("loss", "score")
_PREFIX = "validation_"
# The valid values of `Watch.monitor`.
MONITORS = ("", *_ALWAYS, *METRICS)


def grows(name: str, loss: Loss) -> bool:
    """Return whether larger is better."""
    return METRICS[name].grows if name in METRICS else name == "score" and loss.score_grows


def metric_names(metrics: Any) -> tuple[str, ...]:
    """Return the names of the metrics in the argument `metrics`, each once. Raises DataError for unknown ones."""
    if metrics is None or isinstance(metrics, str):
        metrics = () if metrics is None else (metrics,)
    if not isinstance(metrics, (tuple, list)):
        raise DataError(compose("metrics", "a list of names", show(metrics), f"There are {', '.join(METRICS)}."))
    return tuple(dict.fromkeys(canonical("metrics", name) for name in metrics))


def monitor_name(monitor: Any, metrics: tuple[str, ...]) -> str:
    """Return the argument `monitor` as `Watch` has it. Raises DataError for a metric that is not computed."""
    if monitor is None:
        return ""
    name = monitor.removeprefix(_PREFIX) if isinstance(monitor, str) else monitor
    name = METRIC_ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in METRICS and name not in metrics:
        hint = f"Have it computed: metrics={[*metrics, name]}."
        raise DataError(compose("monitor", f"one of {', '.join([*_ALWAYS, *metrics])}", show(monitor), hint))
    if not isinstance(name, str) or name not in (*_ALWAYS, *metrics):
        raise DataError(unknown_name("monitor", monitor, (*_ALWAYS, *metrics)))
    return name


@dataclass(frozen=True)
class Watch:
    """The metrics to compute on validation data after each epoch, and the monitored one.

    metrics: names of metrics besides the loss and its score.
    monitor: "loss", "score" or a metric, by which best epochs are chosen and members are ranked; "": best epochs by the
        loss, ranks by the score.
    """

    loss: Loss
    metrics: tuple[str, ...] = ()
    monitor: str = ""

    @property
    def curves(self) -> list[str]:
        """Names of the curves, as in the history."""
        return [_PREFIX + name for name in (*_ALWAYS, *self.metrics)]

    def by_curve(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the values from `measure` by the names of the curves."""
        return dict(zip(self.curves, values.values(), strict=True))

    @property
    def shown(self) -> str:
        """The curve for progress bars: the one that ranks members."""
        return _PREFIX + ranker(self.monitor)

    def measure(
        self, backend: Backend, members: np.ndarray, placed: Placed, weights: str, control: Control
    ) -> dict[str, np.ndarray]:
        """Return loss, score and metrics of these members by name, (len(members),) float64 each."""
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
        """Return the same as `measure`, from the mean losses and scores of an evaluation."""
        values = {"loss": means[0], "score": finished_score(self.loss, means)}
        return values | measured(self.metrics, self.loss, backend, members, placed, weights, control, means)

    def rule(self, placed: Placed, early_stopping: bool, patience: int, min_delta: float) -> EpochRule | None:
        """Return the rule by which the backend validates after an epoch; None where a metric needs Python."""
        decides = decider(self.monitor)
        by_means = all(follows_from_means(name, self.loss, placed.data.n_targets) for name in self.metrics)
        plain_score = type(self.loss).finish is Loss.finish
        if not by_means or not (decides == "loss" or (decides == "score" and plain_score)):
            return None
        stopping = early_stopping, patience, min_delta
        return EpochRule(placed, *stopping, by_score=decides == "score", score_grows=self.loss.score_grows)

    def oriented(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the values of the deciding curve, negated if larger is better: smaller is always better here."""
        name = decider(self.monitor)
        return -values[name] if grows(name, self.loss) else values[name]


def measure_again(
    records: History,
    watch: Watch,
    backend: Backend,
    validation: Placed,
    keys: np.ndarray,
    pending: np.ndarray,
    standing: np.ndarray,
    to_keep: np.ndarray,
    epochs: np.ndarray,
    weights: str,
    control: Control,
) -> None:
    """Measure members on this validation data, before training, if they were measured on other data or never.

    So the values of best epochs and those of the coming epochs can be compared. All arguments by member, (n_members,):

    keys: of the validation data. pending: a mask; others are left as they are.
    standing: a mask of the members that have trained and whose last weights are usable.
    to_keep: a mask. Members without a best epoch among these get their last epoch as the best one.
    epochs: total number of epochs trained.

    weights: which weights of members in `to_keep` without a best epoch are measured, "last" or "average".
    """
    other, has_best = records.validated_on != keys, records.best_epoch >= 0
    members = np.flatnonzero(pending & has_best & (other | np.isnan(records.best_value)))
    if len(members):
        values = watch.measure(backend, members, validation, "best", control)
        oriented = watch.oriented(values)
        records.best_value[members] = np.where(np.isnan(oriented), np.inf, oriented)
        records.show(members, watch.by_curve(values), keys[members])
    without = pending & ~has_best & standing & (other | to_keep)
    # Members whose weights do not become best ones predict with their last.
    for members, shown in ((np.flatnonzero(without & to_keep), weights), (np.flatnonzero(without & ~to_keep), "last")):
        if not len(members):
            continue
        values = watch.measure(backend, members, validation, shown, control)
        records.show(members, watch.by_curve(values), keys[members])
        oriented = watch.oriented(values)
        best = to_keep[members] & (oriented < np.inf)
        if best.any():
            backend.store.keep(members[best], shown)
            records.keep(members[best], oriented[best], epochs[members[best]] - 1)
