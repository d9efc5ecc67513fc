"""A pool's members for plots: columns in pool order, and scores with their label and direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, nearest, show
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import HYPERPARAMETERS, OPTIMIZERS, hyperparameter_names
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.pool.pool import Pool
from pmlp_np.training.metrics import METRICS

_VALIDATION = "validation_"
# Labels of columns whose names are no words. Metrics and scores have labels elsewhere.
_WORDS = {"l1": "L1", "units": "hidden units in all layers"}
# Columns by which members are grouped. Members that differ in the seed alone are repeats of a group.
_DISTINGUISHING = ("architecture", "optimizer", *HYPERPARAMETERS, "batch_size", "initializer", *OPTIONS)
_MADE = ("width", "depth", "units", *HYPERPARAMETERS, "batch_size", "initializer", "bias", "seed", *OPTIONS)


@dataclass(frozen=True)
class Column:
    """A column of a table with a row per member.

    label: the name in words.
    values: (n_members,) float64 with NaN for members without a value, or (n_members,) str.
    """

    name: str
    label: str
    values: np.ndarray

    @property
    def numeric(self) -> bool:
        return bool(self.values.dtype.kind == "f")

    def text(self, value: Any) -> str:
        """Return the text of a value."""
        return number(float(value)) if self.numeric else str(value)

    def distinct(self, among: np.ndarray) -> list[Any]:
        """Return the distinct values among these members: numbers sorted, names in the order of first occurrence."""
        values = self.values[among]
        if self.numeric:
            return [float(value) for value in np.unique(values[~np.isnan(values)])]
        return list(dict.fromkeys(values.tolist()))


@dataclass(frozen=True)
class Score:
    """A score of each member.

    label: the name in words.
    grows: whether larger is better; None if neither is better.
    share: whether values are shown in percent.
    values: (n_members,) float64, NaN for members without a score (diverged, untrained).
    """

    label: str
    grows: bool | None
    share: bool
    values: np.ndarray

    @property
    def axis(self) -> str:
        """The label with its direction."""
        better = {True: " (larger is better)", False: " (smaller is better)", None: ""}
        return self.label + better[self.grows]

    @property
    def short(self) -> str:
        """The label for titles, with metrics abbreviated."""
        return brief(self.label)

    @property
    def known(self) -> np.ndarray:
        return np.isfinite(self.values)

    def worth(self, value: float) -> float:
        """Return a sorting key: smaller is better, NaN is last."""
        return np.inf if np.isnan(value) else -value if self.grows else value

    def text(self, value: float) -> str:
        """Return the text of a score, in the format of all scores."""
        if self.share:
            return f"{value:.1%}"
        known = self.values[self.known]
        if (known == known.round()).all():
            return number(value)
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:#.3g}"


class Members:
    """The members of a trained pool, in pool order.

    usable: (n_members,) bool, members that have trained and not diverged. A diverged member with best weights of an
        earlier epoch is usable.
    """

    def __init__(self, pool: Any) -> None:
        if not isinstance(pool, Pool):
            raise DataError(compose("pool", "a pm.Pool", show(pool), "Open a pool's file with pm.load."))
        self.pool = pool
        records = {record["id"]: record for record in pool.leaderboard()}
        self.records = [records[id] for id in pool.ids_.tolist()]
        status = np.array([record["status"] for record in self.records])
        best = np.array([record["best_epoch"] or 0 for record in self.records])
        self.trained = status != "untrained"
        self.diverged = (status == "diverged") & (best < 1)
        self.usable = self.trained & ~self.diverged
        self.everyone = np.ones(len(self), bool)
        if not self.trained.any():
            raise DataError(compose("pool", "one that has trained", "one that has not", "Call fit first."))

    def __len__(self) -> int:
        return len(self.records)

    def column(self, argument: str, name: Any) -> Column:
        """Return a column by name: a key of the leaderboard's records, or a field of the specs.

        argument: name of the caller's argument, for errors. Raises DataError for unknown names, and for columns without
        a value for any member of this pool.
        """
        known = {*self.records[0], *_MADE}
        if not isinstance(name, str) or name not in known:
            suggestion = nearest(name, sorted(known))
            hint = f"Did you mean {suggestion!r}?" if suggestion else ""
            different = ", ".join(self.varying(("activation", "width", "depth", *_DISTINGUISHING))) or "activation"
            expected = f"a column of the leaderboard or a hyperparameter (these vary here: {different})"
            raise DataError(compose(argument, expected, show(name), hint))
        values = self._values(name)
        # A curve in the history is accepted without values: all members may have diverged before the first validation.
        if all(value is None or value != value for value in values) and name not in self.pool.history_:
            hint = "Validation scores need validation data, best epochs need early stopping."
            raise DataError(compose(argument, "a column with values for these members", show(name), hint))
        if any(isinstance(value, (str, tuple, bool)) for value in values):
            return Column(name, words(name), np.array([_as_text(value) for value in values]))
        return Column(name, words(name), np.array([np.nan if v is None else v for v in values], np.float64))

    def varying(self, names: Iterable[str]) -> list[str]:
        """Return the names of the columns in which members differ."""
        return [name for name in names if len(set(map(str, self._values(name)))) > 1]

    def alike(self) -> Column:
        """Return each member's group: members of a group differ only in their seed and the rows they trained on."""
        texts = []
        for name in self.varying(_DISTINGUISHING):
            column = self.column("by", name)
            # Only some optimizers have this hyperparameter, and its value is the same: the optimizer's name is enough.
            if name in HYPERPARAMETERS and column.numeric and len(column.distinct(self.everyone)) < 2:
                continue
            prefix = "" if name in ("architecture", "optimizer") else f"{column.label} "
            texts.append(["" if value != value else prefix + column.text(value) for value in column.values.tolist()])
        kinds = [", ".join(filter(None, parts)) for parts in zip(*texts, strict=True)] or ["all"] * len(self)
        return Column("kind", "kind", np.array(kinds))

    def score(self, value: Any) -> Score:
        """Return the score in a column; None: the one that ranks the leaderboard. Raises DataError as `column` does."""
        name = self._ranking() if value is None else value
        column = self.column("value", name)
        if not column.numeric:
            raise DataError(compose("value", "a column of numbers", show(name), "For example 'validation_loss'."))
        values = np.where(self.usable & np.isfinite(column.values), column.values, np.nan)
        label, grows, share = self._meaning(name)
        return Score(label, grows, share, values)

    def _ranking(self) -> str:
        for name in ("validation_score", "loss"):
            if any(np.isfinite(record[name]) for record in self.records):
                return name
        return "validation_score" if "validation_score" in self.pool.history_ else "loss"

    def _meaning(self, name: str) -> tuple[str, bool | None, bool]:
        """Return (label, grows, share) of a score; see Score."""
        loss = LOSSES[self.pool.loss.partition("(")[0]]
        if name == "loss":
            return f"training loss ({loss_words(self.pool)})", False, False
        metric = self.records[0]["metric"] if name == "validation_score" else name.removeprefix(_VALIDATION)
        if name == "validation_loss" or (name == "validation_score" and metric == "loss"):
            return f"validation loss ({loss_words(self.pool)})", False, False
        if name == "validation_score" and metric == loss.score_name:
            return f"validation {words(metric)}", bool(loss.score_grows), _is_share(metric)
        if name.startswith(_VALIDATION) and metric in METRICS or name == "validation_score":
            return f"validation {words(metric)}", METRICS[metric].grows, _is_share(metric)
        return words(name), None, False

    def _values(self, name: str) -> list[Any]:
        specs = self.pool.specs
        if name in self.records[0]:
            return [record[name] for record in self.records]
        if name in ("width", "depth", "units"):
            measure = {"width": lambda hidden: max(hidden, default=0), "depth": len, "units": sum}[name]
            return [measure(record["hidden"]) for record in self.records]
        if name in HYPERPARAMETERS:
            has = np.array([name in hyperparameter_names(cls) for cls in OPTIMIZERS.values()])
            return list(np.where(has[specs.optimizer], specs.hyperparameter(name), np.nan).tolist())
        if name in OPTIONS:
            return [OPTIONS[name].decoded(code) for code in specs.option(name).tolist()]
        if name == "initializer":
            return [list(INITIALIZERS)[code] for code in specs.initializer.tolist()]
        if name == "bias":
            return list(specs.bias.tolist())
        values, has_one = (specs.seed, specs.has_seed) if name == "seed" else (specs.batch_size, specs.batch_size > 0)
        return [value if known else None for value, known in zip(values.tolist(), has_one.tolist(), strict=True)]

    def left_out(self, score: Score) -> str:
        """Return a sentence on members without a score, or ""."""
        diverged, untrained = int(self.diverged.sum()), int((~self.trained).sum())
        others = int((self.usable & ~score.known).sum())
        counts = [(diverged, "diverged"), (untrained, "untrained"), (others, "without a number")]
        parts = [f"{count:,} {reason}" for count, reason in counts if count]
        return f"Not drawn: {', '.join(parts)}." if parts else ""


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def words(name: str) -> str:
    """Return the label of a column, score or metric."""
    if name.startswith(_VALIDATION):
        return f"validation {words(name.removeprefix(_VALIDATION))}"
    if name in METRICS:
        return METRICS[name].in_words
    labels = {loss.score_name: loss.score_label for loss in LOSSES.values() if loss.score_label}
    return labels.get(name) or _WORDS.get(name, name.replace("_", " "))


def _is_share(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].is_share


def loss_words(pool: Pool) -> str:
    """Return the pool's loss in words, as "huber(delta=1.35)"."""
    name, bracket, parameters = pool.loss.partition("(")
    return words(name) + bracket + parameters


def brief(text: str) -> str:
    """Return the text with metrics by their short labels, for titles."""
    for metric in METRICS.values():
        text = text.replace(metric.in_words, metric.label)
    return text.replace(_WORDS["units"], "units")


def capital(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def number(value: float) -> str:
    """Return a number in few characters: 12,000 or 0.0123 or 1e-05; "none" for NaN."""
    if np.isnan(value):
        return "none"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
