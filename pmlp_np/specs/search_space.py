"""Search spaces: `grid` builds every combination of choices, `sample` draws combinations at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from decimal import Context, Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from pmlp_np.base.errors import SpecError, compose, require_memory, show
from pmlp_np.formulas.optimizers import HYPERPARAMETERS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.formulas.vocabulary import polynomial
from pmlp_np.specs import fields as spec_fields
from pmlp_np.specs.fields import FIELDS, Choices
from pmlp_np.specs.members import Specs

# The ten activations of the paper (arXiv 2206.08369). A list: as an argument of grid or sample it is ten choices.
PAPER_ACTIVATIONS = [
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "selu",
    "hardshrink",
    "mish",
]

# Memory to build a table: the columns and temporary index arrays.
_BYTES_PER_MEMBER = 250 + 16 * (len(HYPERPARAMETERS) + len(OPTIONS))

_DECIMAL = Context(prec=40)
_LN_2 = 0.6931471805599453


def _exp2_coefficients() -> tuple[float, ...]:
    """Return the Taylor coefficients of 2^t; the remaining terms are below 2^-56 of the sum for |t| <= 1/2."""
    coefficients = [1.0]
    for k in range(1, 14):
        coefficients.append(coefficients[-1] * _LN_2 / k)
    return tuple(coefficients)


_EXP2 = _exp2_coefficients()


def grid(
    *,
    hidden: Any = (100,),
    activation: Any = "relu",
    bias: Any = True,
    initializer: Any = "pytorch",
    optimizer: Any = None,
    batch_size: Any = None,
    seed: Any = None,
    repeats: int = 1,
    **hyperparameters: Any,
) -> Specs:
    """Make every combination of the choices, as Specs.

    Lists, ranges and arrays are choices; anything else, a tuple too, is one value: hidden=(64, 32) is one member of two
    layers, hidden=[64, 32] two members of one layer. Values and defaults are those of pm.Member.

    hidden: a width, a tuple of widths, or choices of them. Default (100,).
    activation: a name, a tuple of one name per hidden layer, or choices. Default "relu".
    bias: True, False, or both. Default True.
    initializer: a name or choices. Default "pytorch".
    optimizer: pm.SGD(...), pm.Adam(...), pm.AdamW(...), pm.RMSprop(...), pm.NAdam(...), a name, or choices. Default
        Adam, learning rate 1e-3.
    batch_size: rows per minibatch, or choices; None is the batch_size of `fit`. Default None.
    seed: a seed for the members, or choices. Default None. Equal specs with the same seed train identically, and so do
        their repeats.
    repeats: how often each combination is repeated, at least 1. Default 1.
    hyperparameters: values or choices of hyperparameters that every optimizer in use has (learning_rate, ...), and of
        options (formulas.options: zero_last, ...).

    The order is that of nested loops over hidden (outermost), activation, bias, initializer, optimizer, hyperparameters
    in the order of the call, batch_size, seed, repeats (innermost). Raises SpecError, which names the argument, the
    choice and the first member with this choice; MemoryNeededError if memory is too small for the table.

        pm.grid(hidden=range(1, 101), activation=pm.PAPER_ACTIVATIONS, repeats=10)   # 10,000 members
        pm.grid(hidden=[(64, 32), (128,)], learning_rate=[1e-3, 1e-2])               # 4 members
    """
    arguments = {
        "hidden": hidden,
        "activation": activation,
        "bias": bias,
        "initializer": initializer,
        "optimizer": optimizer,
        **hyperparameters,
        "batch_size": batch_size,
        "seed": seed,
    }
    if not _is_whole(repeats) or repeats < 1:
        raise SpecError(compose("repeats", "a whole number, at least 1", show(repeats), "For example repeats=10."))
    sizes = {name: n_choices(name, value) for name, value in arguments.items()}
    n = math.prod(sizes.values()) * int(repeats)
    require_memory("grid", n * _BYTES_PER_MEMBER, f"It has {n:,} members: give fewer choices.")
    choices, picks, stride = {}, {}, n
    for name, value in arguments.items():
        stride //= sizes[name]
        choices[name] = choices_of(name, value, stride)
        if sizes[name] > 1:
            block = np.repeat(np.arange(sizes[name]), stride)
            picks[name] = np.tile(block, n // len(block))
    return Specs(**spec_fields.assemble(n, choices, picks, (*FIELDS, "repeats")))


def sample(
    n: int,
    *,
    seed: int = 0,
    hidden: Any = (100,),
    activation: Any = "relu",
    bias: Any = True,
    initializer: Any = "pytorch",
    optimizer: Any = None,
    batch_size: Any = None,
    **hyperparameters: Any,
) -> Specs:
    """Draw n members at random, independently of each other, as Specs.

    Lists, ranges and arrays are equally likely choices. pm.uniform, pm.log_uniform, pm.integers and SciPy's frozen
    distributions are sampled. Anything else is one value. Values and defaults are those of pm.Member.

    n: number of members, at least 1.
    seed: seed of the draws, a whole number of at least 0. Default 0. Each argument has a separate random stream:
        another argument, or a larger n, does not change the values drawn before. (SciPy distributions may differ.)
    hidden: as in pm.grid, or a distribution of whole numbers (one layer). Inside a tuple, alone or among choices, each
        layer may be a distribution: hidden=(pm.integers(8, 64), pm.integers(8, 64)). Default (100,).
    activation: a name, a tuple of one name per hidden layer, or choices. Default "relu".
    bias: True, False, or both. Default True.
    initializer: a name or choices. Default "pytorch".
    optimizer: pm.SGD(...), pm.Adam(...), pm.AdamW(...), pm.RMSprop(...), pm.NAdam(...), a name, or choices. Default
        Adam, learning rate 1e-3.
    batch_size: rows per minibatch, choices, or a distribution of whole numbers; None is the batch_size of `fit`.
        Default None.
    hyperparameters: values, choices or distributions of hyperparameters that every optimizer in use has, and of
        options.

    Raises SpecError, which names the argument and, if known, the member.

        pm.sample(1000, hidden=pm.integers(1, 100), activation=pm.PAPER_ACTIVATIONS,
                  learning_rate=pm.log_uniform(1e-4, 1e-1), seed=7)
    """
    if not _is_whole(n) or n < 1:
        raise SpecError(compose("n", "a whole number of members, at least 1", show(n), "For example pm.sample(100)."))
    if not _is_whole(seed) or seed < 0:
        raise SpecError(compose("seed", "a whole number, at least 0", show(seed), "For example seed=0."))
    n = int(n)
    require_memory("sample", n * _BYTES_PER_MEMBER, f"It has {n:,} members: draw fewer.")
    arguments = {
        "hidden": hidden,
        "activation": activation,
        "bias": bias,
        "initializer": initializer,
        "optimizer": optimizer,
        **hyperparameters,
        "batch_size": batch_size,
    }
    choices, picks = {"seed": Choices([None], "seed")}, {}
    for name, value in arguments.items():
        choices[name], pick = drawn(name, value, n, seed)
        if pick is not None:
            picks[name] = pick
    return Specs(**spec_fields.assemble(n, choices, picks, ("n", *FIELDS)))


def drawn(name: str, value: Any, n: int, seed: int) -> tuple[Choices, np.ndarray | None]:
    """Return the choices of an argument of `sample`, and which of them each of n draws takes, (n,); None: the first.

    A larger n does not change the earlier draws.
    """
    if hasattr(value, "rvs"):
        return Choices(_draw(name, value, n, _stream(seed, name)), name, 1), np.arange(n)
    k = n_choices(name, value)
    choices = choices_of(name, value, 0)
    pick = _floor(_stream(seed, name).random(n), 0, k - 1) if k > 1 else None
    if name == "hidden" and any(_is_random_tuple(choice) for choice in choices.values):
        choices = _drawn_layers(list(choices.values), np.zeros(n, int) if pick is None else pick, seed)
        pick = np.arange(n)
    return choices, pick


def is_random(value: Any) -> bool:
    """Return whether an argument of `sample` holds a distribution, so that it is no list of choices."""
    return (
        hasattr(value, "rvs")
        or _is_random_tuple(value)
        or (isinstance(value, list) and any(map(_is_random_tuple, value)))
    )


@dataclass(frozen=True, repr=False)
class Distribution:
    """A distribution that `sample` draws from; made by pm.uniform, pm.log_uniform and pm.integers."""

    kind: str
    low: float
    high: float

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Any = None) -> Any:
        """Draw values of shape `size`; a single number if `size` is None.

        random_state: a seed or generator, as for np.random.default_rng.

        The signature is SciPy's, so that scikit-learn's searches accept these distributions, too.
        """
        draws = np.asarray(np.random.default_rng(random_state).random(size))
        return _FROM_UNIFORM[self.kind](draws, self.low, self.high)[()]

    def __repr__(self) -> str:
        return f"{self.kind}({self.low!r}, {self.high!r})"


def uniform(low: float, high: float) -> Distribution:
    """Make a uniform distribution of numbers from `low` up to, not including, `high`.

    Raises SpecError unless low < high, both finite.

    pm.sample(100, momentum=pm.uniform(0.5, 1.0), optimizer="sgd")
    """
    _check_bounds("uniform", low, high, Real, -math.inf, "pm.uniform(0.5, 0.99)")
    return Distribution("uniform", float(low), float(high))


def log_uniform(low: float, high: float) -> Distribution:
    """Make a distribution of numbers from `low` up to, not including, `high`, with a uniform logarithm.

    Raises SpecError unless 0 < low < high < inf.

    pm.sample(100, learning_rate=pm.log_uniform(1e-4, 1e-1))
    """
    _check_bounds("log_uniform", low, high, Real, 0.0, "pm.log_uniform(1e-4, 1e-1)")
    return Distribution("log_uniform", float(low), float(high))


def integers(low: int, high: int) -> Distribution:
    """Make a uniform distribution of whole numbers from `low` to `high`, both included.

    Raises SpecError unless low < high, both below 2**53 in magnitude.

    pm.sample(100, hidden=pm.integers(1, 100))
    """
    _check_bounds("integers", low, high, Integral, -(2.0**53), "pm.integers(1, 100)")
    return Distribution("integers", int(low), int(high))


def _check_bounds(name: str, low: Any, high: Any, base: type, above: float, example: str) -> None:
    kind = "whole numbers" if base is Integral else "finite numbers"
    numbers = all(isinstance(bound, base) and not isinstance(bound, bool) for bound in (low, high))
    if not numbers or not above < low < high < (math.inf if base is Real else 2.0**53):
        expected = f"{kind} with {'0 < ' if above == 0.0 else ''}low < high"
        raise SpecError(compose(name, expected, f"low={show(low)}, high={show(high)}", f"For example {example}."))


def _below(values: np.ndarray, low: float, high: float) -> np.ndarray:
    # Rounding can give the upper bound, which is excluded, as in momentum < 1.
    return np.clip(values, low, math.nextafter(high, low))


def _uniform(u: np.ndarray, low: float, high: float) -> np.ndarray:
    return _below(low + (high - low) * u, low, high)


def _log_uniform(u: np.ndarray, low: float, high: float) -> np.ndarray:
    # The last bit of NumPy's exp and the C library's depends on the processor, and with it all training results would.
    # Decimal logarithms, and 2^t by exact scaling and a polynomial, give the same bits everywhere.
    ratio = _DECIMAL.divide(Decimal(high), Decimal(low))
    octaves = float(_DECIMAL.divide(_DECIMAL.ln(ratio), _DECIMAL.ln(Decimal(2))))
    t = u * octaves
    whole = np.rint(t)
    return _below(np.ldexp(low * polynomial(t - whole, _EXP2), whole.astype(np.int64)), low, high)


def _floor(u: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.minimum(low + np.floor(u * (high - low + 1)).astype(np.int64), high)


_FROM_UNIFORM: dict[str, Callable[[np.ndarray, Any, Any], np.ndarray]] = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "integers": _floor,
}


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random stream of one argument, which depends only on the seed and the argument's name."""
    return np.random.Generator(np.random.PCG64([int(seed), *" ".join(names).encode()]))


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def n_choices(name: str, value: Any) -> int:
    """Return the number of choices of an argument; one value is one choice."""
    if isinstance(value, (Set, Mapping, Iterator)):
        hint = "Make a list of them: their order is the order of the members."
        raise SpecError(compose(name, "one value, or a list, range or array of choices", show(value), hint))
    if not _is_choices(value):
        return 1
    if len(value) == 0:
        raise SpecError(compose(name, "at least one choice", "none", f"Leave {name} out for its default."))
    return len(value)


def _is_choices(value: Any) -> bool:
    is_array = hasattr(value, "__array__") and not isinstance(value, np.generic) and np.ndim(value) > 0
    return is_array or isinstance(value, (list, range))


def choices_of(name: str, value: Any, stride: int) -> Choices:
    """Return an argument's choices; stride as in Choices."""
    if not _is_choices(value):
        return Choices([value.item() if isinstance(value, np.ndarray) else value], name)
    label = f"{name}[{{}}]"
    if isinstance(value, (list, range)):
        return Choices(list(value), label, stride)
    array = np.asarray(value)
    if array.ndim == 2 and name == "hidden":
        return Choices([tuple(row) for row in array.tolist()], label, stride)
    if array.ndim > 1:
        hint = f"Flatten it, or make it a list: {name}=list(...)."
        raise SpecError(compose(name, "choices in one dimension", f"an array of shape {array.shape}", hint))
    return Choices(array if array.dtype.kind in "biuf" else array.tolist(), label, stride)


def _draw(name: str, distribution: Any, n: int, stream: np.random.Generator) -> np.ndarray:
    """Draw one value for each of n members."""
    values = np.asarray(distribution.rvs(size=n, random_state=stream))
    if values.shape != (n,):
        expected = f"a distribution whose rvs(size={n}) gives {n} numbers"
        got = f"shape {values.shape} from {show(distribution)}"
        raise SpecError(compose(name, expected, got, "Take one with scalar parameters."))
    return values


def _is_random_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and any(hasattr(layer, "rvs") for layer in value)


def _drawn_layers(values: list[Any], pick: np.ndarray, seed: int) -> Choices:
    """Draw one tuple of widths for each member, whose choice is pick[i]: distributions within a tuple are sampled."""
    n = len(pick)
    hidden = [values[j] for j in pick.tolist()]
    for j, choice in enumerate(values):
        if not _is_random_tuple(choice):
            continue
        members = np.flatnonzero(pick == j)
        layers = [
            _draw("hidden", width, n, _stream(seed, "hidden", str(j), str(k)))[members].tolist()
            if hasattr(width, "rvs")
            else [width] * len(members)
            for k, width in enumerate(choice)
        ]
        for i, row in zip(members.tolist(), zip(*layers, strict=True), strict=True):
            hidden[i] = row
    return Choices(hidden, "hidden", 1)
