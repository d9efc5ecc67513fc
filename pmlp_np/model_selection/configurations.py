"""Configurations: what a search tries, and in which order.

A configuration is a member's spec, the view of the data that it reads (`data.preprocessing`), and its share of the
epochs that the search plans. The portfolios are ordered: the first is the best known one for a table of which nothing
is known, and the next ones differ from it, so that their mean is better than each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.base import checks
from pmlp_np.base.errors import DataError, SpecError, compose, listed, show, unknown_name
from pmlp_np.data.preprocessing.feature_views import BLOCKS
from pmlp_np.specs.members import Member

# From so many rows on members are regularized less.
LARGE_TABLE = 5000
# Arguments of members that a search sets: the length of training, and a seed would be that of every fold.
SET_BY_SEARCHES = ("max_epochs", "schedule_epochs", "seed")


@dataclass(frozen=True)
class Configuration:
    """What a search trains: a member's arguments, the encodings of the table that it reads, and its share of epochs.

    member: arguments of pm.Member by name, apart from max_epochs and schedule_epochs, which a search sets. Default: the
        defaults of pm.Member.
    view: names of encodings, joined by +: raw, quant, ple, ple8, per. Default "raw+ple".
    epochs: share of the epochs that the search plans, above 0. Default 1.0.

        pm.Configuration({"hidden": (64, 64), "learning_rate": 3e-3}, view="quant+ple", epochs=0.5)
    """

    member: Mapping[str, Any] = field(default_factory=dict)
    view: str = "raw+ple"
    epochs: float = 1.0

    def check(self, name: str) -> None:
        """Raise DataError or SpecError, which names the configuration so, unless it can be trained."""
        require_view(f"view of {name}", self.view)
        if not checks.is_number(self.epochs) or not 0.0 < self.epochs < float("inf"):
            expected = "a share of the planned epochs, above 0"
            raise DataError(compose(f"epochs of {name}", expected, show(self.epochs), "All of them are 1.0."))
        if not isinstance(self.member, Mapping):
            raise DataError(compose(f"member of {name}", "arguments of pm.Member by name", show(self.member)))
        taken = [each for each in SET_BY_SEARCHES if each in self.member]
        if taken:
            raise DataError(
                compose(f"member of {name}", "no argument that a search sets", listed(taken), "Leave it out.")
            )
        try:
            Member(**self.member)
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        widths = self.member.get("hidden", (100,))
        return tuple(widths) if isinstance(widths, Iterable) else (int(widths),)

    def changed(self, view: str | None = None, epochs: float | None = None, **member: Any) -> Configuration:
        """Return the configuration with other values.

        view, epochs: as of the class. Default None: as they are. member: arguments of the member by name.
        """
        return Configuration(
            {**self.member, **member}, view or self.view, self.epochs if epochs is None else epochs
        )  # fmt: skip

    def spec(self, max_epochs: int, steps: int, upto: int | None = None) -> Member:
        """Return the member's spec, for max_epochs epochs and so many optimizer steps in all.

        Averaged weights look back over a tenth of the steps at most: over more, they would be near the initial weights.

        upto: the epochs of the first part of a training in parts. Default None: all in one.
        """
        average = min(self.member.get("average", 0.0), max(0.0, 1.0 - _AVERAGED / steps))
        length: dict[str, Any] = {"max_epochs": max_epochs}
        if upto is not None:
            # Of all of the training. A schedule that would begin after its end has no length.
            scheduled = max_epochs - self.member.get("warmup_epochs", 0.0)
            length = {"max_epochs": upto, "schedule_epochs": max(scheduled, 0.0)}
        return Member(**{**self.member, "average": average, **length})

    def multiply_adds(self, n_inputs: float, n_outputs: int) -> float:
        """Return the multiply-adds of a row in training (forward, backward, gradient), of n_inputs and n_outputs.

        n_inputs: those that take as long as a member's inputs; encoded ones take less than others.
        """
        widths = [n_inputs, *self.hidden, n_outputs]
        return 3.0 * sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))

    def text(self) -> str:
        """Return the configuration in a line."""
        hidden = "-".join(map(str, self.hidden)) or "linear"
        shown = [hidden, self.member.get("activation", "") if hidden != "linear" else "", self.view]
        return " ".join(filter(None, shown))

    def near(self, draw: np.random.Generator) -> Configuration:
        """Return a configuration near this one: rate, decay, dropout and epochs change, now and then view or shape."""
        member = dict(self.member)
        member["learning_rate"] *= float(np.exp(draw.uniform(-0.7, 0.7)))
        member["decoupled_weight_decay"] *= float(np.exp(draw.uniform(-1.5, 1.5)))
        view, epochs = self.view, min(self.epochs * float(np.exp(draw.uniform(-0.5, 0.5))), 1.3)
        if member["hidden"]:
            member["dropout"] = float(np.clip(member["dropout"] + draw.uniform(-0.1, 0.15), 0.0, 0.5))
            if draw.random() < 0.3:
                member["hidden"] = _SHAPES[draw.integers(len(_SHAPES))]
            if draw.random() < 0.3:
                member["activation"] = _ACTIVATIONS[draw.integers(len(_ACTIVATIONS))]
        if draw.random() < 0.25:
            view = _VIEWS[draw.integers(len(_VIEWS))]
        return Configuration(member, view, epochs)


def require_view(argument: str, view: Any) -> None:
    """Raise DataError unless a view is names of encodings, joined by +."""
    if not isinstance(view, str):
        raise DataError(compose(argument, "names of encodings, joined by +", show(view), "For example 'raw+ple'."))
    for name in view.split("+"):
        if name not in BLOCKS:
            raise DataError(unknown_name(argument, name, BLOCKS))


# Averaged weights look back over this share of the steps: 1 / (1 - decay) is steps / _AVERAGED.
_AVERAGED = 10.0
_SHAPES = ((64, 64), (128, 128), (128, 128, 128), (256, 256), (128,))
_ACTIVATIONS = ("relu", "mish", "silu", "selu")
_VIEWS = ("quant+ple", "raw+ple", "quant+ple8", "raw+ple8", "per+raw+ple")

_CLASSES = Configuration(
    {
        "hidden": (128, 128), "activation": "mish", "optimizer": "adam", "learning_rate": 3e-3, "beta2": 0.95,
        "decoupled_weight_decay": 0.3, "dropout": 0.2, "schedule": "coslog4", "average": 0.99,
    },
    "quant+ple",
)  # fmt: skip
_VALUES = _CLASSES.changed(
    activation="relu", learning_rate=4e-3, decoupled_weight_decay=0.2, dropout=0.1, schedule="cosine"
)
_SCALES: dict[str, Any] = {"feature_scale": True, "feature_scale_rate_factor": 6.0}
_NTK: dict[str, Any] = {"parametrization": "ntk", "learning_rate": 0.05, "bias_rate_factor": 0.1}
_DEEP, _WIDE = (128, 128, 128), (256, 256)

_FOR_CLASSES = (
    _CLASSES.changed("raw+ple", **_SCALES, dropout=0.1),
    _CLASSES.changed("raw", **_NTK, **_SCALES, hidden=_WIDE),
    _CLASSES.changed(
        "raw+ple", 0.6, hidden=_DEEP, activation="silu", dropout=0.3, decoupled_weight_decay=1.0, learning_rate=2e-3
    ),
    _CLASSES,
    _CLASSES.changed("per+raw+ple"),
    _CLASSES.changed(**_SCALES, activation="relu"),
    _CLASSES.changed("quant", hidden=_WIDE, dropout=0.3, decoupled_weight_decay=1.0),
    _CLASSES.changed(
        "quant+ple8", 0.6, hidden=(64, 64), activation="relu", learning_rate=2e-3, decoupled_weight_decay=1.0,
        dropout=0.1,
    ),
    _CLASSES.changed("raw+ple", **_SCALES, activation="selu"),
    _CLASSES.changed("raw+ple8", 0.3, hidden=(128,), decoupled_weight_decay=1.0, dropout=0.3),
    _CLASSES.changed(epochs=0.3, hidden=(), dropout=0.0),
    _CLASSES.changed(hidden=_WIDE, activation="silu", dropout=0.4, learning_rate=2e-3),
    _CLASSES.changed("raw", activation="tanh", hidden=(64, 64), decoupled_weight_decay=1.0),
    _CLASSES.changed("raw+ple8", **_NTK, **_SCALES, activation="selu"),
    _CLASSES.changed(epochs=0.25, activation="gelu_tanh", dropout=0.0, decoupled_weight_decay=1.0),
    _CLASSES.changed("quant+ple8", 0.4, dropout=0.4, hidden=_DEEP),
)  # fmt: skip
_FOR_MANY_CLASSES = (
    _CLASSES.changed("raw+ple", **_SCALES, dropout=0.1),
    _CLASSES.changed("quant+ple", **_SCALES, hidden=_WIDE, dropout=0.15),
    _CLASSES.changed("per+raw+ple", **_SCALES, dropout=0.1, decoupled_weight_decay=0.1),
    _CLASSES.changed("quant+ple", **_SCALES, activation="relu", dropout=0.1, learning_rate=4e-3),
    _CLASSES.changed("quant+ple8", 0.6),
    *_FOR_CLASSES[1:3],
    *_FOR_CLASSES[6:],
)
_FOR_VALUES = (
    _VALUES.changed("raw+ple", **_SCALES),
    _VALUES,
    _VALUES.changed("raw", **{**_NTK, **_SCALES, "learning_rate": 0.1}, activation="mish", hidden=_WIDE),
    _VALUES.changed("raw+ple", hidden=_DEEP, decoupled_weight_decay=0.5),
    _VALUES.changed("raw+ple", **_SCALES, activation="mish", schedule="coslog4"),
    _VALUES.changed("raw+ple", hidden=_WIDE, dropout=0.2, decoupled_weight_decay=1.0),
    _VALUES.changed("per+raw+ple"),
    _VALUES.changed("quant", activation="mish", dropout=0.0, schedule="coslog4"),
    _VALUES.changed("quant+ple", **{**_NTK, "learning_rate": 0.1}),
    _VALUES.changed("quant+ple8", **_SCALES, activation="mish"),
    _VALUES.changed(epochs=0.3, hidden=(), dropout=0.0),
    _VALUES.changed("raw+ple8", 0.4, hidden=(128,), decoupled_weight_decay=1.0, dropout=0.3),
    _VALUES.changed("raw+ple", hidden=(256, 256, 256), dropout=0.3, learning_rate=2e-3),
    _VALUES.changed("raw", activation="tanh", hidden=(64, 64), dropout=0.0),
    _VALUES.changed("quant+ple8", **{**_NTK, "learning_rate": 0.1}, activation="mish", hidden=_DEEP, dropout=0.05),
    _VALUES.changed("per+raw", hidden=_WIDE, learning_rate=8e-3),
)
_FOR_MANY_VALUES = (
    *_FOR_VALUES[:2], _VALUES.changed("raw+ple", **_SCALES, hidden=_WIDE), *_FOR_VALUES[2:],
)  # fmt: skip


def portfolio(has_classes: bool, n_rows: int) -> tuple[Configuration, ...]:
    """Return the configurations to begin with, in the order in which time allows them."""
    if has_classes:
        return _FOR_CLASSES if n_rows < LARGE_TABLE else _FOR_MANY_CLASSES
    return _FOR_VALUES if n_rows < LARGE_TABLE else _FOR_MANY_VALUES
