"""The fields of a spec: the valid values of each argument, and their conversion to columns.

Each check handles all choices of an argument at once, and names the first bad choice.
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
    """The choices of one argument, and their names in errors.

    label: the argument, with "{}" in place of the number of the choice.
    stride: choice j is first used by member j * stride; 0 if that is unknown or every member uses the choice.
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
        raise SpecError(compose(self.describe(j), expected, show(value), hint))

    def describe(self, j: int) -> str:
        """Return the name of choice j in errors: "member 3: hidden[1]"."""
        member = f"member {j * self.stride}: " if self.stride else ""
        return member + self.label.format(j)


def assemble(
    n: int, choices: Mapping[str, Choices], picks: Mapping[str, np.ndarray], arguments: Sequence[str] = FIELDS
) -> dict[str, np.ndarray]:
    """Return the columns of n members, where member i has choice picks[argument][i] of each argument.

    choices: for every field, and for the user's hyperparameters and options. An argument that is not in `picks` has one
        choice, used by all members.
    arguments: names of the caller's other arguments, to suggest one for a misspelled name.

    Raises SpecError for the first bad choice.
    """

    def pick(argument: str, column: np.ndarray) -> np.ndarray:
        if argument in picks:
            return column[picks[argument]]
        return column if n == 1 else np.repeat(column, n, axis=0)

    optimizer_codes, optimizer_rows = optimizers_of(choices["optimizer"])
    flat_names = [name for name in choices if name not in FIELDS and name not in OPTIONS]
    for name in flat_names:
        _refuse_if_lacking(name, set(optimizer_codes.tolist()), arguments)
    flat_widths, offsets = widths_of(choices["hidden"])
    widths, width_offsets = gather(flat_widths, offsets, pick("hidden", np.arange(len(choices["hidden"]))))
    hyperparameters = pick("optimizer", optimizer_rows)
    for name in flat_names:
        hyperparameters[:, HYPERPARAMETERS.index(name)] = pick(name, hyperparameter_of(name, choices[name]))
    options = np.broadcast_to(np.array(default_row()), (n, len(OPTIONS)))
    if not OPTIONS.keys().isdisjoint(choices):
        options = options.copy()
    for i, (name, option) in enumerate(OPTIONS.items()):
        if name in choices:
            options[:, i] = pick(name, option_values(option, choices[name]))
    seeds, has_seed = seeds_of(choices["seed"])
    activation_choice = pick("activation", np.arange(len(choices["activation"])))
    return dict(
        width_offsets=width_offsets,
        widths=widths,
        activations=_spread_activations(choices["activation"], activation_choice, widths, width_offsets),
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
    """Return (widths of all layers in one array, int32; offsets of the choices, int64, one more than choices)."""
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
    """Return (codes of all names in one array, int16; offsets of the choices, int64; mask of tuple choices)."""
    layers = [value if isinstance(value, tuple) else (value,) for value in choices.values]
    per_layer = np.array([isinstance(value, tuple) for value in choices.values])
    offsets, owners = _ragged(layers)
    flat = list(chain.from_iterable(layers))
    codes = _codes(flat, ACTIVATIONS, ACTIVATION_ALIASES, choices, owners)
    return codes, offsets, per_layer


def initializers_of(choices: Choices) -> np.ndarray:
    """Return codes of the initializers (int16)."""
    return _codes(choices.values, INITIALIZERS, INITIALIZER_ALIASES, choices, int)


def switches_of(choices: Choices) -> np.ndarray:
    """Return validated booleans."""
    values = choices.values
    if isinstance(values, np.ndarray) and values.dtype.kind == "b":
        return values.copy()
    for j, value in enumerate(values):
        if not isinstance(value, (bool, np.bool_)):
            choices.refuse(j, "True or False")
    return np.array(values, dtype=bool)


def batch_sizes_of(choices: Choices) -> np.ndarray:
    """Return batch sizes (int64), 0 where None."""

    def refuse(j: int) -> NoReturn:
        choices.refuse(j, "a whole number of rows, at least 1, or None", "None takes the batch_size of fit.")

    values, present = _optional(choices.values, 1)
    return np.where(present, _whole(values, 1, MAX_BATCH_SIZE, np.int64, refuse), 0)


def seeds_of(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """Return (seeds, uint64, 0 where None; mask of seeds that are not None)."""

    def refuse(j: int) -> NoReturn:
        hint = "None draws from the pool's seed and the member's id."
        choices.refuse(j, "a whole number from 0 to 2**64 - 1, or None", hint)

    values, present = _optional(choices.values, 0)
    return _whole(values, 0, MAX_SEED, np.uint64, refuse), present


def optimizers_of(choices: Choices) -> tuple[np.ndarray, np.ndarray]:
    """Return (codes of the optimizers, int16; their hyperparameters, float64, one row per choice).

    A hyperparameter that an optimizer lacks is 0.
    """
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
        owners, instances = groups.setdefault(type(value), ([], []))
        owners.append(j)
        instances.append(value)
    for cls, (owners, instances) in groups.items():
        codes[owners] = classes.index(cls)
        for name in hyperparameter_names(cls):
            values = [getattr(instance, name) for instance in instances]
            part = _Part(values, f"{choices.label}: {name}", choices.stride, owners)
            table[owners, HYPERPARAMETERS.index(name)] = hyperparameter_of(name, part)
    return codes, table


def hyperparameter_of(name: str, choices: Choices) -> np.ndarray:
    """Return values of the hyperparameter `name` (float64)."""
    if is_switch(name):
        return switches_of(choices).astype(np.float64)
    limits = hyperparameter_range(name)
    default = next(getattr(cls, name) for cls in OPTIMIZERS.values() if hasattr(cls, name))

    def refuse(j: int) -> NoReturn:
        choices.refuse(j, f"a finite number, {limits}", f"For example {name}={default}.")

    return _numbers(choices.values, limits, refuse)


def option_values(option: Option, choices: Choices) -> np.ndarray:
    """Return values of an option as stored in columns (float64)."""
    if option.choices:
        return _codes(choices.values, dict.fromkeys(option.choices), {}, choices, int).astype(np.float64)
    if option.limits is None:
        return switches_of(choices).astype(np.float64)

    def refuse(j: int) -> NoReturn:
        kind = "whole" if option.whole else "finite"
        choices.refuse(j, f"a {kind} number, {option.limits}", f"Default: {option.name}={option.default:g}.")

    found = _numbers(choices.values, option.limits, refuse)
    parts = found != np.floor(found) if option.whole else np.zeros(len(found), bool)
    if parts.any():
        refuse(int(parts.argmax()))
    return found


@dataclass(frozen=True)
class _Part(Choices):
    """Values of one hyperparameter for some choices of optimizers; value j belongs to choice owners[j]."""

    owners: Sequence[int] = ()

    def describe(self, j: int) -> str:
        return super().describe(self.owners[j])


def _squash(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "").replace(" ", "")


def _known_name(name: str, table: Mapping[str, Any], aliases: Mapping[str, str], choices: Choices, j: int) -> str:
    """Return the table's name for the name or alias in choice j. Case, hyphens, underscores and spaces are ignored."""
    if name in table:
        return name
    squashed = _squash(name)
    for known in (*table, *aliases):
        if squashed == _squash(known):
            return aliases.get(known, known)
    raise SpecError(unknown_name(choices.describe(j), str(name), table, aliases))


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
    for j, value in enumerate(values):
        if not isinstance(value, str):
            choices.refuse(owners(j), f"a name, one of {', '.join(table)}")
        if value not in code_of:
            code_of[value] = numbers[_known_name(value, table, aliases, choices, owners(j))]
        codes.append(code_of[value])
    return np.array(codes, dtype=np.int16)


def _ragged(rows: Sequence[tuple]) -> tuple[np.ndarray, Callable[[int], int]]:
    """Return (offsets of rows stored one after another, a function from an element's index to the index of its row)."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets, lambda e: int(np.searchsorted(offsets, e, side="right")) - 1


def _optional(values: Any, filler: int) -> tuple[Any, np.ndarray]:
    """Return (values with `filler` for None, mask of values that are not None)."""
    if isinstance(values, np.ndarray):
        return values, np.ones(len(values), bool)
    present = np.array([value is not None for value in values])
    return [filler if value is None else value for value in values], present


def _whole(values: Any, low: int, high: int, dtype: type, refuse: Refuse) -> np.ndarray:
    """Return integers from low to high as an array."""
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
    """Return numbers within limits as a float64 array."""
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


def _refuse_other_types(values: Iterable[Any], base: type, refuse: Refuse) -> None:
    """Refuse the first value that is no instance of `base`, or is a bool."""
    # bool is a subclass of int in Python; np.bool_ is not.
    wrong = {kind for kind in set(map(type, values)) if not issubclass(kind, base) or issubclass(kind, bool)}
    if wrong:
        refuse(next(j for j, value in enumerate(values) if type(value) in wrong))


def _spread_activations(
    choices: Choices, choice_of: np.ndarray, widths: np.ndarray, width_offsets: np.ndarray
) -> np.ndarray:
    """Return the activation code of every layer, where member i has choice choice_of[i]."""
    codes, offsets, per_layer = activations_of(choices)
    depths = np.diff(width_offsets)
    starts = offsets[:-1][choice_of]
    if not per_layer.any():
        return np.repeat(codes[starts], depths)
    bad = per_layer[choice_of] & (np.diff(offsets)[choice_of] != depths)
    if bad.any():
        i = int(bad.argmax())
        hidden = tuple(widths[width_offsets[i] : width_offsets[i + 1]].tolist())
        name = f"member {i}: activation" if len(choice_of) > 1 else "activation"
        layers = f"{len(hidden)} hidden layer{'s' * (len(hidden) != 1)}"
        expected = f"one name, or a tuple of one per layer for the {layers} of hidden={hidden}"
        got = show(choices.values[choice_of[i]])
        raise SpecError(compose(name, expected, got, "A single name goes for all layers."))
    layer = np.arange(width_offsets[-1]) - np.repeat(width_offsets[:-1], depths)
    return codes[np.repeat(starts, depths) + layer * np.repeat(per_layer[choice_of], depths)]


def _refuse_if_lacking(name: str, used: Iterable[int], arguments: Sequence[str]) -> None:
    """Refuse a hyperparameter that one of the optimizers in use (codes) lacks."""
    classes = list(OPTIMIZERS.values())
    for cls in (classes[code] for code in sorted(used)):
        names = hyperparameter_names(cls)
        if name in names:
            continue
        if name in HYPERPARAMETERS:
            having = ", ".join(f"pm.{other.__name__}" for other in classes if name in hyperparameter_names(other))
            hint = f"Optimizers with {name}: {having}."
        else:
            suggestion = nearest(name, (*arguments, *names, *OPTIONS))
            others = ", ".join((*arguments, *OPTIONS))
            hint = f"Did you mean {suggestion!r}?" if suggestion else f"Other arguments are {others}."
        raise SpecError(compose(name, f"a hyperparameter of {cls.__name__} ({', '.join(names)})", show(name), hint))
