"""Spaces: what a user wants a search to try, as configurations, or as choices and distributions by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas.optimizers import HYPERPARAMETERS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.model_selection.configurations import SET_BY_SEARCHES, Configuration
from pmlp_np.specs.fields import FIELDS
from pmlp_np.specs.search_space import choices_of, drawn, is_random, n_choices

# Names of choices: arguments of members but for those that a search sets, and what else a configuration holds.
NAMES = ("view", "epochs", *(each for each in (*FIELDS, *HYPERPARAMETERS, *OPTIONS) if each not in SET_BY_SEARCHES))
# A larger grid is not listed in whole: of its combinations so many are drawn.
MOST_LISTED = 256
# So many combinations can be put in random order.
_PERMUTED = 1 << 20


@dataclass(frozen=True)
class Space:
    """Configurations, or mappings of names to choices, each a space in itself.

    configurations: to try, in this order. parts: the mappings. One of both is empty.
    """

    configurations: tuple[Configuration, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, space: Any) -> Space:
        """Return the space of the argument of `search`. Raises DataError, or SpecError for what no member can have."""
        if isinstance(space, Mapping):
            return cls._of_parts([space])
        if isinstance(space, (str, bytes)) or not isinstance(space, Sequence) or not len(space):
            hint = 'For example {"hidden": [(64,), (128, 128)], "learning_rate": pm.log_uniform(1e-3, 1e-1)}.'
            raise DataError(compose("space", "a mapping of names to choices, or a list", show(space), hint))
        if all(isinstance(each, Mapping) for each in space):
            return cls._of_parts(space)
        for i, each in enumerate(space):
            if not isinstance(each, Configuration):
                expected = "a pm.Configuration, as all others, or in a list of mappings a mapping"
                raise DataError(compose(f"space[{i}]", expected, show(each)))
            each.check(f"space[{i}]")
        return cls(configurations=tuple(space))

    @classmethod
    def _of_parts(cls, parts: Sequence[Mapping[str, Any]]) -> Space:
        for i, part in enumerate(parts):
            argument = "space" if len(parts) == 1 else f"space[{i}]"
            for name, value in part.items():
                if name not in NAMES:
                    raise DataError(unknown_name(argument, name, NAMES))
                n_choices(name, value) if not is_random(value) else None
        return cls(parts=tuple(parts))

    @property
    def is_finite(self) -> bool:
        """Whether there are no distributions, so that every combination of choices can be tried."""
        return not any(is_random(value) for part in self.parts for value in part.values())

    def candidates(self, first: Configuration, seed: int, most: int) -> list[Configuration]:
        """Return the configurations to try.

        Where all choices are lists these are all combinations, in the order of nested loops; of more than MOST_LISTED
        (or `most`, if that is more) as many at random. With distributions `most` are drawn, of several mappings in
        turn. first: the configuration that has the values of all names that a mapping lacks. Raises DataError or
        SpecError for one that can't be trained.
        """
        if self.configurations:
            return list(self.configurations)
        if self.is_finite:
            found = list(chain.from_iterable(_grid(part, seed, max(most, MOST_LISTED)) for part in self.parts))
        else:
            # A space of its own has draws of its own.
            rows = zip_longest(*(_draws(part, seed + i, most) for i, part in enumerate(self.parts)))
            found = [each for row in rows for each in row if each is not None][:most]
        configurations = [_configuration(values, first) for values in found]
        for values, each in zip(found, configurations, strict=True):
            each.check(f"space at {show(values)}")
        return configurations


def _grid(part: Mapping[str, Any], seed: int, most: int) -> list[dict[str, Any]]:
    """Return all combinations of choices; of more than MOST_LISTED so many of them at random."""
    choices = {name: choices_of(name, value, 0).values for name, value in part.items()}
    sizes = tuple(map(len, choices.values()))
    n = math.prod(sizes)
    # Numbers above 2**62 are left out: the first choices of such a grid's first names.
    numbers = range(n) if n <= MOST_LISTED else _distinct(min(n, 2**62), most, np.random.default_rng([seed, 2]))
    return [
        {name: _plain(choices[name][at]) for name, at in zip(choices, _place(k, sizes), strict=True)} for k in numbers
    ]


def _distinct(n: int, most: int, draw: np.random.Generator) -> Sequence[int]:
    """Return the first `most` of all numbers below n in random order: of a larger `most` the same, and then others."""
    if n <= _PERMUTED:
        return draw.permutation(n)[:most].tolist()
    found: dict[int, None] = {}
    while len(found) < most:
        found |= dict.fromkeys(draw.integers(0, n, MOST_LISTED).tolist())
    return list(found)[:most]


def _place(number: int, sizes: tuple[int, ...]) -> list[int]:
    """Return the place of a combination in nested loops of these sizes: the last loop is the innermost."""
    place = []
    for size in reversed(sizes):
        number, at = divmod(number, size)
        place.append(at)
    return place[::-1]


def _draws(part: Mapping[str, Any], seed: int, most: int) -> list[dict[str, Any]]:
    """Return so many draws; of a part without distributions at most all combinations."""
    if not any(map(is_random, part.values())):
        return _grid(part, seed, most)
    found: list[dict[str, Any]] = [{} for _ in range(most)]
    for name, value in part.items():
        choices, pick = drawn(name, value, most, seed)
        for i, values in enumerate(found):
            values[name] = _plain(choices.values[0 if pick is None else pick[i]])
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _configuration(values: Mapping[str, Any], first: Configuration) -> Configuration:
    """Return the configuration of these values; what they lack is as in `first`."""
    kept = dict(first.member)
    if "optimizer" in values:
        # Rates that suit one optimizer don't suit another.
        kept = {name: value for name, value in kept.items() if name not in HYPERPARAMETERS}
    member = kept | {name: value for name, value in values.items() if name not in ("view", "epochs")}
    if member.get("hidden") == () and "dropout" not in values:
        member["dropout"] = 0.0
    return Configuration(member, values.get("view", first.view), values.get("epochs", first.epochs))
