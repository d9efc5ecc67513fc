"""Formulas as lists of steps: an activation is called once with a value that writes down what is done to it.

So each formula stays the only place where its function is written, and a user's own activation goes wherever the
built-in ones go. What each target makes of a step is in its own file.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.activations import ACTIVATIONS

# An argument of a step: the number of an earlier value (0 is z, k what step k - 1 gives), or a constant.
Argument = int | float
Step = tuple[str, tuple[Argument, ...]]
# The words that a step may be, beside operators; `vocabulary` says what they mean.
_WORDS = (
    "exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "sqrt", "absolute", "where", "ones_like", "reciprocal",
    "sigmoid", "fma",
)  # fmt: skip


@dataclass
class _Trace:
    """The steps so far; as a traced value's vocabulary, the words that add to them."""

    dtype: np.dtype
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, *values: Any) -> _Traced:
        self.steps.append((name, tuple(v.number if isinstance(v, _Traced) else float(v) for v in values)))
        return _Traced(self, len(self.steps))

    def __getattr__(self, name: str) -> Any:
        if name not in _WORDS:
            raise AttributeError(name)
        return functools.partial(self.add, name)


@dataclass(eq=False)
class _Traced:
    """A value of a formula: z, or what one of its steps gives."""

    vocabulary: _Trace
    number: int

    @property
    def dtype(self) -> np.dtype:
        return self.vocabulary.dtype

    def __add__(self, other: Any) -> _Traced:
        return self.vocabulary.add("add", self, other)

    def __radd__(self, other: Any) -> _Traced:
        return self.vocabulary.add("add", other, self)

    def __sub__(self, other: Any) -> _Traced:
        return self.vocabulary.add("subtract", self, other)

    def __rsub__(self, other: Any) -> _Traced:
        return self.vocabulary.add("subtract", other, self)

    def __mul__(self, other: Any) -> _Traced:
        return self.vocabulary.add("multiply", self, other)

    def __rmul__(self, other: Any) -> _Traced:
        return self.vocabulary.add("multiply", other, self)

    def __truediv__(self, other: Any) -> _Traced:
        return self.vocabulary.add("divide", self, other)

    def __rtruediv__(self, other: Any) -> _Traced:
        return self.vocabulary.add("divide", other, self)

    def __neg__(self) -> _Traced:
        return self.vocabulary.add("negative", self)

    def __lt__(self, other: Any) -> _Traced:
        return self.vocabulary.add("less", self, other)

    def __le__(self, other: Any) -> _Traced:
        return self.vocabulary.add("less_equal", self, other)

    def __gt__(self, other: Any) -> _Traced:
        return self.vocabulary.add("greater", self, other)

    def __ge__(self, other: Any) -> _Traced:
        return self.vocabulary.add("greater_equal", self, other)


def traced(name: str, dtype: Any) -> tuple[Step, ...]:
    """The steps from z to the activation of this name; the last gives the result. None for the identity.

    DataError where a registered function is no formula of operators and the vocabulary's words.
    """
    trace = _Trace(np.dtype(dtype))
    try:
        result = ACTIVATIONS[name].function(_Traced(trace, 0))[0]
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise DataError(compose(f"activation {name!r}", "a formula of the vocabulary's words", got)) from error
    if not isinstance(result, _Traced):
        raise DataError(compose(f"activation {name!r}", "a formula of the vocabulary's words", show(result)))
    return _needed_for(result.number, trace.steps)


def _needed_for(result: int, steps: list[Step]) -> tuple[Step, ...]:
    """The steps that the result is made of, numbered anew: those of the derivative are left out."""
    wanted, pending = set(), [result]
    while pending:
        number = pending.pop()
        if number and number not in wanted:
            wanted.add(number)
            pending += [a for a in steps[number - 1][1] if isinstance(a, int)]
    kept = sorted(wanted)
    new = {0: 0} | {number: i for i, number in enumerate(kept, 1)}
    found = []
    for name, arguments in (steps[number - 1] for number in kept):
        found.append((name, tuple(new[a] if isinstance(a, int) else a for a in arguments)))
    return tuple(found)
