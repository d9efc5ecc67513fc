"""Choices: the members that a fit trains, from the options of the command line or its defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app.environment import available_threads
from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS

# Defaults: 240 members, or 16 with --quick. One or two layers suit most tables; the best activation and learning rate
# differ from table to table.
_WIDTHS, _QUICK_WIDTHS = (16, 32, 64, 128), (16, 64)
_DEPTHS, _QUICK_DEPTHS = (1, 2, 3), (1, 2)
_ACTIVATIONS, _QUICK_ACTIVATIONS = ("relu", "silu", "gelu", "tanh", "elu"), ("relu", "tanh")
_RATES, _QUICK_RATES = (0.001, 0.003, 0.01, 0.03), (0.003, 0.01)
_EPOCHS, _QUICK_EPOCHS = 300, 60
_PATIENCE, _QUICK_PATIENCE = 30, 8
SECONDS, QUICK_SECONDS = 60.0, 8.0
# (rows, batch size from so many rows on): minibatches grow, but an epoch still has some hundred updates.
_BATCHES = ((20_000, 128), (5_000, 64), (0, 32))
_LARGEST_DEPTH = 20
# Multiply-adds per second and thread of a whole epoch: a lower bound for all members and machines.
RATE_OF_WORK = 5e9
# Multiply-adds per parameter and row: one each for forward, dw and dz, and a half for validation.
WORK_OF_A_ROW = 3.5
# Epochs that each member should be able to train within the time budget, and the least number of members.
_LEAST_EPOCHS, _FEWEST_MEMBERS = 30, 8


@dataclass(frozen=True)
class Choices:
    """The options of the command line on members and training. Empty lists and None stand for the defaults."""

    widths: Sequence[int] = ()
    depths: Sequence[int] = ()
    activations: Sequence[str] = ()
    learning_rates: Sequence[float] = ()
    repeats: int | None = None
    members: int | None = None
    epochs: int | None = None
    patience: int | None = None
    batch_size: int | None = None
    time_budget: float | None = None
    seed: int = 0
    threads: int | None = None
    metric: str | None = None
    quick: bool = False
    ids: Sequence[int] = ()

    def chosen(self, n: int) -> np.ndarray:
        """Return the ids of the members to train out of n: all, or those of --ids. Raises DataError for larger ids."""
        if not self.ids:
            return np.arange(n)
        ids = np.unique(np.array(self.ids, np.int64))
        if ids[-1] >= n:
            raise DataError(compose("--ids", f"ids of the {n:,} combinations, from 0 to {n - 1}", f"{ids[-1]}"))
        return ids

    def epochs_and_patience(self) -> tuple[int, int]:
        """Return (epochs, patience)."""
        epochs = self.epochs or (_QUICK_EPOCHS if self.quick else _EPOCHS)
        return epochs, self.patience or (_QUICK_PATIENCE if self.quick else _PATIENCE)

    def seconds(self) -> float | None:
        """Return the time budget of training in seconds, or None for no limit (--time-budget 0)."""
        if self.time_budget is None:
            return QUICK_SECONDS if self.quick else SECONDS
        return self.time_budget or None

    def batch(self, n_rows: int) -> int:
        """Return the batch size for so many training rows."""
        return self.batch_size or next(size for rows, size in _BATCHES if n_rows >= rows)

    def filled(self, n_rows: int) -> Choices:
        """Return a copy with all defaults filled in, except the metric and the number of members."""
        epochs, patience = self.epochs_and_patience()
        return replace(
            self,
            widths=self.widths or (_QUICK_WIDTHS if self.quick else _WIDTHS),
            depths=self.depths or (_QUICK_DEPTHS if self.quick else _DEPTHS),
            activations=self.activations or (_QUICK_ACTIVATIONS if self.quick else _ACTIVATIONS),
            learning_rates=self.learning_rates or (_QUICK_RATES if self.quick else _RATES),
            repeats=self.repeats or 1, epochs=epochs, patience=patience, batch_size=self.batch(n_rows),
            time_budget=self.seconds(), threads=self.threads or available_threads(),
        )  # fmt: skip

    def specs(self) -> tuple[pm.Specs, str]:
        """Return (the members, a text on how they were chosen)."""
        used = self.filled(n_rows=1)
        activations, rates, repeats = list(used.activations), list(used.learning_rates), used.repeats or 1
        # Without hidden layers there is neither width nor activation to choose.
        hidden = list(dict.fromkeys((width,) * depth for depth in used.depths for width in used.widths))
        if self.members is not None:
            rate: Any = pm.log_uniform(min(rates), max(rates)) if len(rates) > 1 else rates[0]
            n = self.members
            drawn = pm.sample(n, seed=self.seed, hidden=hidden, activation=activations, learning_rate=rate)
            return drawn, f"{n:,} drawn at random"
        linear = [each for each in hidden if not each]
        nonlinear = [each for each in hidden if each]
        text = f"{_counted(len(nonlinear), 'architecture')} x {_counted(len(activations), 'activation')}"
        times = "".join(
            f" x {_counted(n, word)}" for n, word in ((len(rates), "learning rate"), (repeats, "repeat")) if n > 1
        )
        if linear:
            both = f"{text} + a linear model"
            text = "a linear model" if not nonlinear else f"({both})" if times else both
        text += times
        specs: pm.Specs | None = None
        for some, names in ((linear, activations[:1]), (nonlinear, activations)):
            if some:
                more = pm.grid(hidden=some, activation=names, learning_rate=rates, repeats=repeats)
                specs = more if specs is None else specs + more
        assert specs is not None
        return specs, text


def fitting(
    specs: pm.Specs, n_rows: int, n_inputs: int, n_outputs: int, choices: Choices, rate: float
) -> tuple[np.ndarray, str]:
    """Return (ids of the members that can be trained within the time budget, sorted; a note if not all can).

    rate: multiply-adds per second. Members are drawn at random, by the seed alone: a faster machine trains the members
    of a slower one, and more. A number of members that is set by the user is not reduced.
    """
    seconds, everyone = choices.seconds(), np.arange(len(specs))
    if seconds is None or choices.members is not None or len(specs) <= _FEWEST_MEMBERS:
        return everyone, ""
    sizes = pm.Pool(specs, n_inputs, max(n_outputs, 1), "cross_entropy" if n_outputs > 1 else "squared_error")
    work = np.array([record["parameters"] for record in sizes.leaderboard()], np.float64)
    order = np.random.default_rng(choices.seed).permutation(len(specs))
    needed = np.cumsum(work[order]) * WORK_OF_A_ROW * n_rows * _LEAST_EPOCHS / rate
    n = max(_FEWEST_MEMBERS, int(np.searchsorted(needed, seconds)))
    if n >= len(specs):
        return everyone, ""
    note = (f"{n:,} of {len(specs):,} combinations, drawn at random, so that each trains some "
            f"{_LEAST_EPOCHS} epochs within {seconds:g} s; a longer --time-budget tries more, and run.json names "
            "their ids, for --ids")  # fmt: skip
    return np.sort(order[:n]), note


# Lists on the command line.


def numbers(option: str, texts: Sequence[str], kind: Callable[[str], Any], low: float, high: float) -> list[Any]:
    """Return the values of an option that may be repeated and may hold lists: ["8,16", "32"] -> [8, 16, 32].

    Whole numbers may be given as spans, "1-4". Raises DataError for anything else, and outside of low ... high.
    """
    values: list[Any] = []
    for text in _split(texts):
        word = "whole numbers" if kind is int else "numbers"
        expected = f"{word} from {low:g} to {high:g}, as in {option} {'8,16 or 1-4' if kind is int else '0.001,0.01'}"
        first, dash, last = text.partition("-")
        try:
            span = kind is int and dash and first
            ends = [int(first), int(last)] if span else [kind(text)]
        except ValueError:
            ends = []
        if not ends or ends[0] > ends[-1] or not all(low <= end <= high for end in ends):
            raise DataError(compose(option, expected, show(text)))
        values += range(ends[0], ends[1] + 1) if span else ends
    return list(dict.fromkeys(values))


def names(option: str, texts: Sequence[str]) -> list[str]:
    """Return names of activations; "paper" for the paper's ten, "all" for all. Raises DataError for unknown ones."""
    from pmlp_np.base.errors import unknown_name

    activations: list[str] = []
    for text in _split(texts):
        if text in ("paper", "all"):
            activations += pm.PAPER_ACTIVATIONS if text == "paper" else list(ACTIVATIONS)
        elif text not in ACTIVATIONS and text not in ACTIVATION_ALIASES:
            raise DataError(unknown_name(option, text, ACTIVATIONS, [*ACTIVATION_ALIASES, "paper", "all"]))
        else:
            activations.append(ACTIVATION_ALIASES.get(text, text))
    return list(dict.fromkeys(activations))


def _split(texts: Sequence[str]) -> list[str]:
    return [each.strip() for text in texts for each in text.split(",") if each.strip()]


def as_list(numbers: Sequence[int]) -> str:
    """Return sorted whole numbers as the text of an option: [0, 1, 2, 7] -> "0-2,7"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)


def _counted(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"
