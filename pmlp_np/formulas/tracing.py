"""Formulas as lists of steps, which backends and exports render in their language.

`traced` calls a formula once with values that record the operations on them. Every operator and every word of the
vocabulary becomes one step, in the order in which the formula is written. Nothing is folded, shared or reordered, since
the order of operations determines the bits. A renderer is a table from words to operations; words without a processor
instruction (exp, tanh, ...) have separate lists in `elementary`.

A value has a dtype and an extent. A formula runs on one row at a time: ROW is one number for the row, OUTPUT one per
output, RAW one per raw output (of losses with several heads; with one head it is OUTPUT). Reductions over outputs turn
OUTPUT into ROW. Values that do not depend on rows, as a parameter or a learning rate, are ROW.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.base.errors import DataError, compose, show

ROW, OUTPUT, RAW = "row", "output", "raw"
FLOATS = ("float32", "float64")
# The integer dtypes that hold the bits of floats.
BITS_OF = {"float32": "int32", "float64": "int64"}


class Constant(NamedTuple):
    """A constant argument of a step."""

    value: float | int
    dtype: str


# The number of an earlier value (inputs first, then results of steps), or a constant.
Argument = int | Constant


class Step(NamedTuple):
    """One operation: word, arguments, and the dtype and extent of the result.

    parameters: plain numbers of the word ("head": number of heads, index; "output_constants": the constants).
    """

    word: str
    arguments: tuple[Argument, ...]
    dtype: str
    extent: str = ROW
    parameters: tuple[Any, ...] = ()


class Input(NamedTuple):
    """An input of a formula: name, dtype and extent."""

    name: str
    dtype: str
    extent: str = ROW


@dataclass(frozen=True)
class StepList:
    """A formula: inputs, steps, and named results."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    results: tuple[Argument, ...]
    names: tuple[str, ...]

    def value(self, number: int) -> Input | Step:
        """Return the input or step with this number."""
        n = len(self.inputs)
        return self.inputs[number] if number < n else self.steps[number - n]

    def only(self, *names: str) -> StepList:
        """Return the list of some results, by name: the steps that they need, in the same order."""
        results = [self.results[self.names.index(name)] for name in names]
        first = len(self.inputs)
        needed: set[int] = set()
        pending = [r for r in results if isinstance(r, int)]
        while pending:
            number = pending.pop()
            if number >= first and number not in needed:
                needed.add(number)
                pending += [a for a in self.steps[number - first].arguments if isinstance(a, int)]
        ordered = sorted(needed)
        new = {i: i for i in range(first)} | {number: i for i, number in enumerate(ordered, first)}

        def renumbered(arguments: Iterable[Argument]) -> tuple[Argument, ...]:
            return tuple(new[a] if isinstance(a, int) else a for a in arguments)

        steps = [self.steps[number - first] for number in ordered]
        return StepList(
            self.inputs,
            tuple(step._replace(arguments=renumbered(step.arguments)) for step in steps),
            renumbered(results),
            names,
        )


# Elementwise words, and their number of arguments.
ELEMENTWISE = {
    "exp": 1, "expm1": 1, "log": 1, "log1p": 1, "tanh": 1, "sin": 1, "cos": 1, "sqrt": 1, "absolute": 1,
    "reciprocal": 1, "sigmoid": 1, "ones_like": 1, "fma": 3,
}  # fmt: skip
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
REDUCTIONS = ("sum_outputs", "max_outputs", "argmax_outputs")
# All other words of steps.
OTHERS = (
    "add", "subtract", "multiply", "divide", "negative", "where", "power", "number", "n_outputs", "output_index",
    "head", "output_constants", "bits", "from_bits", "and", "xor", "shift_left", "shift_right",
)  # fmt: skip
WORDS = (*ELEMENTWISE, *COMPARISONS, *REDUCTIONS, *OTHERS)


class _Recorder:
    """The steps recorded so far; as a traced value's `vocabulary`, the words that add steps."""

    def __init__(self, inputs: tuple[Input, ...]) -> None:
        self.inputs = inputs
        self.steps: list[Step] = []

    def add(self, word: str, *values: Any, dtype: str | None = None, extent: str | None = None,
            parameters: tuple[Any, ...] = ()) -> _Traced:  # fmt: skip
        """Add a step. Its arguments (apart from a leading condition) and its result have the same dtype.

        dtype: of the result, if it is another one.
        """
        operands = [value for value in values if isinstance(value, _Traced)]
        operand_dtype = next(x.dtype for x in reversed(operands) if x.dtype != "bool" or x is operands[0])
        if extent is None:
            extents = {value.extent for value in operands} - {ROW}
            if len(extents) > 1:
                raise TypeError(f"{word} of raw outputs and outputs: use split_heads first")
            extent = extents.pop() if extents else ROW
        arguments = tuple(x.number if isinstance(x, _Traced) else _constant(x, operand_dtype) for x in values)
        self.steps.append(Step(word, arguments, operand_dtype if dtype is None else dtype, extent, parameters))
        return _Traced(self, len(self.inputs) + len(self.steps) - 1, self.steps[-1].dtype, extent)

    def __getattr__(self, word: str) -> Callable[..., _Traced]:
        count = ELEMENTWISE.get(word)
        if count is None:
            raise AttributeError(f"the vocabulary has no {word!r}")

        def add(*values: Any) -> _Traced:
            if len(values) != count:
                raise TypeError(f"{word} takes {count} arguments, got {len(values)}")
            return self.add(word, *values)

        return add

    def where(self, condition: _Traced, a: Any, b: Any) -> _Traced:
        if condition.dtype != "bool" or not (isinstance(a, _Traced) or isinstance(b, _Traced)):
            raise TypeError("where takes a comparison and two values, at most one of them a constant")
        return self.add("where", condition, a, b)

    def power(self, base: _Traced, exponent: Any) -> _Traced:
        whole = exponent if isinstance(exponent, _Traced) else Constant(int(exponent), "int64")
        return self.add("power", base, whole, dtype=base.dtype)

    def number(self, count: Any, like: _Traced) -> _Traced:
        return self.add("number", count, dtype=like.dtype) if isinstance(count, _Traced) else like.like(count)

    def bits(self, x: _Traced) -> _Traced:
        return self.add("bits", x, dtype=BITS_OF[x.dtype])

    def from_bits(self, x: _Traced) -> _Traced:
        return self.add("from_bits", x, dtype={bits: dtype for dtype, bits in BITS_OF.items()}[x.dtype])

    # Over outputs.

    def sum_outputs(self, x: _Traced) -> _Traced:
        return self.add("sum_outputs", x, extent=ROW)

    def max_outputs(self, x: _Traced) -> _Traced:
        return self.add("max_outputs", x, extent=ROW)

    def argmax_outputs(self, x: _Traced) -> _Traced:
        return self.add("argmax_outputs", x, extent=ROW)

    def n_outputs(self, x: _Traced) -> _Traced:
        return self.add("n_outputs", x, extent=ROW)

    def output_index(self, x: _Traced) -> _Traced:
        return self.add("output_index", x)

    def split_heads(self, raw: _Traced, heads: int) -> tuple[_Traced, ...]:
        return tuple(self.add("head", raw, extent=OUTPUT, parameters=(heads, h)) for h in range(heads))

    def output_constants(self, x: _Traced, numbers: tuple[float, ...]) -> _Traced:
        return self.add("output_constants", x, extent=OUTPUT, parameters=tuple(map(float, numbers)))


def _constant(value: Any, dtype: str) -> Constant:
    if isinstance(value, Constant):
        return value
    return Constant(float(value) if dtype in FLOATS else int(value), dtype)


def _operator(word: str, swapped: bool = False) -> Any:
    """Return the method of an operator."""
    dtype = "bool" if word in COMPARISONS else None

    def operate(self: _Traced, other: Any) -> Any:
        # NumPy's scalars are refused, because their dtypes would determine that of the result; integer values accept
        # NumPy's integers.
        known = (_Traced, int, float) if self.dtype in FLOATS else (_Traced, int, np.uint64)
        if not isinstance(other, known):
            return NotImplemented
        return self.vocabulary.add(word, *((other, self) if swapped else (self, other)), dtype=dtype)

    return operate


class _Traced:
    """A value in a formula that is being traced."""

    # Makes NumPy's scalars defer binary operators to this class.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, recorder: _Recorder, number: int, dtype: str, extent: str) -> None:
        self.vocabulary, self.number, self.dtype, self.extent = recorder, number, dtype, extent

    def like(self, number: Any) -> _Traced:
        """Return a constant as a value of this dtype."""
        one = self.vocabulary.ones_like(self)
        return one if number == 1.0 else number * one

    def __bool__(self) -> bool:
        raise TypeError("no `if` on values")

    def __neg__(self) -> _Traced:
        return self.vocabulary.add("negative", self)

    __add__, __radd__ = _operator("add"), _operator("add", swapped=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", swapped=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", swapped=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", swapped=True)
    __lt__, __le__, __gt__, __ge__ = map(_operator, ("less", "less_equal", "greater", "greater_equal"))
    __eq__, __ne__ = _operator("equal"), _operator("not_equal")
    # For integers.
    __and__, __rand__ = _operator("and"), _operator("and", swapped=True)
    __xor__, __rxor__ = _operator("xor"), _operator("xor", swapped=True)
    __lshift__, __rshift__ = _operator("shift_left"), _operator("shift_right")


def traced(
    function: Callable[..., Any], inputs: Iterable[Input], names: Iterable[str] = (), label: str = ""
) -> StepList:
    """Return the steps of a formula, which is called with a value for each input.

    names: of the results, if the formula returns a value or a tuple; a dictionary's keys are the names otherwise.
    label: the formula's name in errors.

    Raises DataError for a function that does more than operators and the vocabulary's words.
    """
    inputs = tuple(inputs)
    recorder = _Recorder(inputs)
    expected = "a formula of operators and the vocabulary's words"
    hint = "Choose with v.where; no NumPy functions, no `if` on values."
    try:
        results = function(*(_Traced(recorder, i, input_.dtype, input_.extent) for i, input_ in enumerate(inputs)))
    except Exception as error:
        raise DataError(compose(label, expected, f"{type(error).__name__}: {error}", hint)) from error
    if isinstance(results, dict):
        names, results = tuple(results), tuple(results.values())
    names, results = tuple(names), results if isinstance(results, tuple) else (results,)
    for value in results:
        if not isinstance(value, _Traced):
            raise DataError(compose(label, expected, show(value), hint))
    assert len(names) == len(results), f"{label}: {len(results)} results, {len(names)} names"
    return StepList(inputs, tuple(recorder.steps), tuple(value.number for value in results), names)


def digest(*lists: StepList) -> str:
    """Return a short hash of formulas, equal for equal steps."""
    return hashlib.sha256(repr(lists).encode()).hexdigest()[:20]
