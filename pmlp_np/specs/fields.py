"""The fields of a spec: what each argument may hold, and how its choices become columns.

Every check works on all choices of an argument at once and refuses the first bad one by its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np

from pmlp_np.base.errors import SpecError, compose, nearest, show, unknown_name
from pmlp_np.formulas.activations import ACTIVATION_ALIASES, ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZER_ALIASES, INITIALIZERS
from pmlp_np.formulas.optimizers import (
    HYPERPARAMETERS,
    OPTIMIZERS,
    Adam,
    Optimizer,
    hyperparameter_names,
    hyperparameter_range,
)
from pmlp_np.formulas.options import OPTIONS, Option, Range, default_row
from pmlp_np.specs.storage import MAX_WIDTH, gather, inside, is_switch

MAX_SEED = 2**64 - 1
MAX_BATCH_SIZE = 2**63 - 1

FIELDS = ("hidden", "activation", "bias", "initializer", "optimizer", "batch_size", "seed")

Refuse = Callable[[int], NoReturn]


@dataclass(frozen=True)
class Choices:
    """What one argument offers: its values, and what errors call them.

    label: the argument, with "{}" where the number of the choice belongs.
    stride: choice j is first used by member j * stride; 0 where that is unknown or every member uses it.
    """

    values: Sequence[Any] | np.ndarray
    label: str
    stride: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def refuse(self, j: int, expected: str, hint: str = "") -> NoReturn:
        """Raise SpecError about choice j."""
        value = self.values[j]
        if isinstance(value, (list, range, np.ndarray)):
            hint = "Lists, ranges and arrays are choices, for pm.grid and pm.sample; a tuple is one value."
        elif hasattr(value, "rvs"):
            hint = "A distribution belongs to pm.sample, alone or as a width in a tuple."
        elif isinstance(value, np.generic):
            value = value.item()
        raise SpecError(compose(self.place(j), expected, show(value), hint))

    def place(self, j: int) -> str:
        """What errors call choice j."""
        member = f"member {j * self.stride}: " if self.stride else ""
        return member + self.label.format(j)


def assemble(
    n: int, choices: Mapping[str, Choices], picks: Mapping[str, np.ndarray], arguments: Sequence[str] = FIELDS
) -> dict[str, np.ndarray]:
    """The columns of n members in which member i has, of each argument, the choice picks[argument][i].

    choices: for every field, and for the hyperparameters and options that are given. An argument that `picks` lacks has
    one choice, which is everybody's. arguments: what the caller takes beside these, to suggest what a misspelled one
    may have meant. Raises SpecError for the first bad choice.
    """

    def pick(argument: str, column: np.ndarray) -> np.ndarray:
        if argument in picks:
            return column[picks[argument]]
        return column if n == 1 else np.repeat(column, n, axis=0)

    optimizer_codes, optimizer_rows = optimizers_of(choices["optimizer"])
    given_flat = [name for name in choices if name not in FIELDS and name not in OPTIONS]
    for name in given_flat:
        _refuse_if_lacking(name, set(optimizer_codes.tolist()), arguments)
    flat_widths, offsets = widths_of(choices["hidden"])
    widths, width_offsets = gather(flat_widths, offsets, pick("hidden", np.arange(len(choices["hidden"]))))
    hyperparameters = pick("optimizer", optimizer_rows)
    for name in given_flat:
        hyperparameters[:, HYPERPARAMETERS.index(name)] = pick(name, hyperparameter_of(name, choices[name]))
    options = np.broadcast_to(np.array(default_row()), (n, len(OPTIONS)))
    if not OPTIONS.keys().isdisjoint(choices):
        options = options.copy()
    for i, (name, option) in enumerate(OPTIONS.items()):
        if name in choices:
            options[:, i] = pick(name, option_values(option, choices[name]))
    seeds, has_seed = seeds_of(choices["seed"])
    which = pick("activation", np.arange(len(choices["activation"])))
    return dict(
        width_offsets=width_offsets,
        widths=widths,
        activations=_spread_activations(choices["activation"], which, widths, width_offsets),
        bias=pick("bias", switches_of(choices["bias"])),
        initializer=pick("initializer", initializers_of(choices["initializer"])),
        optimizer=pick("optimizer", optimizer_codes),
        hyperparameters=hyperparameters,
        options=options,
        batch_size=pick("batch_size", batch_sizes_of(choices["batch_size"])),
        seed=pick("seed", seeds),
        has_seed=pick("seed", has_seed),
    )


def widths_of(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """All layers' widths side by side (int32), and where each choice's begin (int64, one more than choices)."""
    expected = f"a layer's width, or a tuple of widths, each a whole number from 1 to {MAX_WIDTH}"
    values: Any = choices.values

    def refuse(j: int) -> NoReturn:
        example = "hidden=64 is one layer, hidden=(64, 32) two, hidden=() none."
        choices.refuse(j, expected, example)

    if isinstance(values, np.ndarray) or not any(isinstance(value, tuple) for value in values):
        return _whole(values, 1, MAX_WIDTH, np.int32, refuse), np.arange(len(values) + 1)
    layers = [value if isinstance(value, tuple) else (value,) for value in values]
    offsets, owners = _ragged(layers)
    flat = list(chain.from_iterable(layers))
    return _whole(flat, 1, MAX_WIDTH, np.int32, lambda e: refuse(owners(e))), offsets


def activations_of(choices: Choices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All names' codes side by side (int16), where each choice's begin (int64), and which choices are one per layer."""
    layers = [value if isinstance(value, tuple) else (value,) for value in choices.values]
    per_layer = np.array([isinstance(value, tuple) for value in choices.values])
    offsets, owners = _ragged(layers)
    flat = list(chain.from_iterable(layers))
    codes = _codes(flat, ACTIVATIONS, ACTIVATION_ALIASES, choices, owners)
    return codes, offsets, per_layer


def initializers_of(choices: Choices) -> np.ndarray:
    """Codes of the initializers (int16)."""
    return _codes(choices.values, INITIALIZERS, INITIALIZER_ALIASES, choices, int)


def switches_of(choices: Choices) -> np.ndarray:
    """Truth values (bool)."""
    values = choices.values
    if isinstance(values, np.ndarray) and values.dtype.kind == "b":
        return values.copy()
    for j, value in enumerate(values):
        if not isinstance(value, (bool, np.bool_)):
            choices.refuse(j, "True or False")
    return np.array(values, dtype=bool)


def batch_sizes_of(choices: Choices) -> np.ndarray:
    """Batch sizes (int64), 0 for fit's."""

    def refuse(j: int) -> NoReturn:
        choices.refuse(j, "a whole number of rows, at least 1, or None", "None takes the batch_size of fit.")

    given, present = _optional(choices.values, 1)
    return np.where(present, _whole(given, 1, MAX_BATCH_SIZE, np.int64, refuse), 0)


def seeds_of(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """Seeds (uint64, 0 where None), and which are given (bool)."""

    def refuse(j: int) -> NoReturn:
        hint = "None draws from the pool's seed and the member's id."
        choices.refuse(j, "a whole number from 0 to 2**64 - 1, or None", hint)

    given, present = _optional(choices.values, 0)
    return _whole(given, 0, MAX_SEED, np.uint64, refuse), present


def optimizers_of(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the optimizers (int16), and their hyperparameters (float64, a row per choice; 0 for those it lacks)."""
    classes = list(OPTIMIZERS.values())
    codes = np.zeros(len(choices), np.int16)
    table = np.zeros((len(choices), len(HYPERPARAMETERS)))
    groups: dict[type[Optimizer], tuple[list[int], list[Optimizer]]] = {}
    for j, value in enumerate(choices.values):
        if value is None or isinstance(value, str):
            default = Adam if value is None else OPTIMIZERS[_known_name(value, OPTIMIZERS, {}, choices, j)]
            codes[j] = classes.index(default)
            table[j] = [getattr(default, name, 0.0) for name in HYPERPARAMETERS]
            continue
        if type(value) not in classes:
            names = [cls.__name__ for cls in classes]
            uncalled = isinstance(value, type) and value in classes
            hint = f"Call it: pm.{value.__name__}()." if uncalled else f"For example pm.{names[0]}()."
            choices.refuse(j, f"an optimizer ({', '.join(names)}) or its name", hint)
        places, group = groups.setdefault(type(value), ([], []))
        places.append(j)
        group.append(value)
    for cls, (places, group) in groups.items():
        codes[places] = classes.index(cls)
        for name in hyperparameter_names(cls):
            parts = _Part([getattr(value, name) for value in group], f"{choices.label}: {name}", choices.stride, places)
            table[places, HYPERPARAMETERS.index(name)] = hyperparameter_of(name, parts)
    return codes, table


def hyperparameter_of(name: str, choices: Choices) -> np.ndarray:
    """Values of the hyperparameter `name` (float64)."""
    if is_switch(name):
        return switches_of(choices).astype(np.float64)
    limits = hyperparameter_range(name)
    default = next(getattr(cls, name) for cls in OPTIMIZERS.values() if hasattr(cls, name))

    def refuse(j: int) -> NoReturn:
        choices.refuse(j, f"a finite number, {limits}", f"For example {name}={default}.")

    return _numbers(choices.values, limits, refuse)


def option_values(option: Option, choices: Choices) -> np.ndarray:
    """Values of an option as columns hold them (float64)."""
    if option.choices:
        return _codes(choices.values, dict.fromkeys(option.choices), {}, choices, int).astype(np.float64)
    if option.limits is None:
        return switches_of(choices).astype(np.float64)

    def refuse(j: int) -> NoReturn:
        choices.refuse(j, f"a finite number, {option.limits}", f"Default: {option.name}={option.default}.")

    return _numbers(choices.values, option.limits, refuse)


@dataclass(frozen=True)
class _Part(Choices):
    """One hyperparameter of some of the choices: `owners[j]` is the choice that value j belongs to."""

    owners: Sequence[int] = ()

    def place(self, j: int) -> str:
        return super().place(self.owners[j])


def _squash(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "").replace(" ", "")


def _known_name(given: str, table: Mapping[str, Any], aliases: Mapping[str, str], choices: Choices, j: int) -> str:
    """The table's name for the name or alias, in any spelling, that stands in choice j."""
    if given in table:
        return given
    squashed = _squash(given)
    for name in (*table, *aliases):
        if squashed == _squash(name):
            return aliases.get(name, name)
    raise SpecError(unknown_name(choices.place(j), str(given), table, aliases))


def _codes(
    values: Iterable[Any],
    table: Mapping[str, Any],
    aliases: Mapping[str, str],
    choices: Choices,
    owners: Callable[[int], int],
) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(table)}
    code_of: dict[str, int] = {}
    codes = []
    for e, value in enumerate(values):
        if not isinstance(value, str):
            choices.refuse(owners(e), f"a name, one of {', '.join(table)}")
        if value not in code_of:
            code_of[value] = numbers[_known_name(value, table, aliases, choices, owners(e))]
        codes.append(code_of[value])
    return np.array(codes, dtype=np.int16)


def _ragged(rows: Sequence[tuple]) -> tuple[np.ndarray, Callable[[int], int]]:
    """Offsets of rows laid side by side, and the function from an element's place to its row's."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets, lambda e: int(np.searchsorted(offsets, e, side="right")) - 1


def _optional(values: Any, filler: int) -> tuple[Any, np.ndarray]:
    """The values with `filler` for None, and which were not None."""
    if isinstance(values, np.ndarray):
        return values, np.ones(len(values), bool)
    present = np.array([value is not None for value in values])
    return [filler if value is None else value for value in values], present


def _whole(values: Any, low: int, high: int, dtype: type, refuse: Refuse) -> np.ndarray:
    """Whole numbers from low to high as an array."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu":
            refuse(0)
        bad = (values < low) | (values > high)
        if bad.any():
            refuse(int(bad.argmax()))
        return values.astype(dtype)
    _refuse_other_types(values, Integral, refuse)
    if values and not low <= min(values) <= max(values) <= high:
        refuse(next(j for j, value in enumerate(values) if not low <= value <= high))
    return np.array(values, dtype=dtype)


def _numbers(values: Any, limits: Range, refuse: Refuse) -> np.ndarray:
    """Numbers within limits as a float64 array."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iuf":
            refuse(0)
        numbers = values.astype(np.float64)
    else:
        _refuse_other_types(values, Real, refuse)
        numbers = np.empty(len(values))
        for j, value in enumerate(values):
            try:
                numbers[j] = float(value)
            except OverflowError:
                refuse(j)
    good = inside(limits, numbers)
    if not good.all():
        refuse(int(good.argmin()))
    return numbers


def _refuse_other_types(values: Iterable[Any], wanted: type, refuse: Refuse) -> None:
    # bool counts as a whole number in Python; np.bool_ does not.
    wrong = {kind for kind in set(map(type, values)) if not issubclass(kind, wanted) or issubclass(kind, bool)}
    if wrong:
        refuse(next(j for j, value in enumerate(values) if type(value) in wrong))


def _spread_activations(
    choices: Choices, which: np.ndarray, widths: np.ndarray, width_offsets: np.ndarray
) -> np.ndarray:
    """Every layer's activation code, where member i has choice which[i]."""
    codes, offsets, per_layer = activations_of(choices)
    depths = np.diff(width_offsets)
    starts = offsets[:-1][which]
    if not per_layer.any():
        return np.repeat(codes[starts], depths)
    bad = per_layer[which] & (np.diff(offsets)[which] != depths)
    if bad.any():
        i = int(bad.argmax())
        hidden = tuple(widths[width_offsets[i] : width_offsets[i + 1]].tolist())
        place = f"member {i}: activation" if len(which) > 1 else "activation"
        layers = f"{len(hidden)} hidden layer{'s' * (len(hidden) != 1)}"
        expected = f"one name, or a tuple of one per layer for the {layers} of hidden={hidden}"
        raise SpecError(compose(place, expected, show(choices.values[which[i]]), "A single name goes for all layers."))
    layer = np.arange(width_offsets[-1]) - np.repeat(width_offsets[:-1], depths)
    return codes[np.repeat(starts, depths) + layer * np.repeat(per_layer[which], depths)]


def _refuse_if_lacking(name: str, used: Iterable[int], arguments: Sequence[str]) -> None:
    """Refuse a flat hyperparameter that one of the optimizers in use (codes) lacks."""
    classes = list(OPTIMIZERS.values())
    for cls in (classes[code] for code in sorted(used)):
        own = hyperparameter_names(cls)
        if name in own:
            continue
        if name in HYPERPARAMETERS:
            owners = ", ".join(f"pm.{other.__name__}" for other in classes if name in hyperparameter_names(other))
            hint = f"Optimizers with {name}: {owners}."
        else:
            suggestion = nearest(name, (*arguments, *own, *OPTIONS))
            others = ", ".join((*arguments, *OPTIONS))
            hint = f"Did you mean {suggestion!r}?" if suggestion else f"Other arguments are {others}."
        raise SpecError(compose(name, f"a hyperparameter of {cls.__name__} ({', '.join(own)})", show(name), hint))
