"""Step lists on arrays: what each step means, in NumPy.

A value of extent OUTPUT or RAW has its outputs on axis 0; all else broadcasts. `evaluate` gives what the formula itself
gives on arrays. With `as_compiled` it gives the bits of compiled code: elementary functions by their definitions,
multiply-adds rounded once, sums over outputs one after another. It is the specification that renderers are held to, and
far too slow for anything else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from pmlp_np.formulas import vocabulary as v
from pmlp_np.formulas.elementary import DEFINITIONS, definition
from pmlp_np.formulas.tracing import Constant, Step, StepList

_WORDS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "and": operator.and_,
    "xor": operator.xor,
    "shift_left": operator.lshift,
    "shift_right": operator.rshift,
    "number": lambda count: v.number(count, None),
    "head": lambda raw, heads, h: raw[h::heads],
    "output_constants": lambda x, *numbers: v.output_constants(x, numbers),
}
_WORDS |= {
    word: getattr(v, word)
    for word in (
        "exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "sqrt", "absolute", "reciprocal", "sigmoid", "ones_like",
        "fma", "where", "power", "bits", "from_bits", "n_outputs", "output_index", "sum_outputs", "max_outputs",
        "argmax_outputs",
    )
}  # fmt: skip


def evaluate(steps: StepList, *inputs: Any, as_compiled: bool = False) -> list[Any]:
    """The results of a list, from arrays or numbers of the inputs' dtypes."""
    values = list(inputs)
    with np.errstate(all="ignore"):
        for step in steps.steps:
            given = [_constant(a) if isinstance(a, Constant) else values[a] for a in step.arguments]
            values.append(_compiled(step, given) if as_compiled else _WORDS[step.word](*given, *step.parameters))
    return [_constant(r) if isinstance(r, Constant) else values[r] for r in steps.results]


def _constant(constant: Constant) -> Any:
    return np.dtype(constant.dtype).type(constant.value)


def _compiled(step: Step, given: list[Any]) -> Any:
    if step.word in DEFINITIONS:
        return evaluate(definition(step.word, step.dtype), *given, as_compiled=True)[0]
    if step.word == "n_outputs":
        return np.dtype(step.dtype).type(len(given[0]))
    return _AS_COMPILED.get(step.word, _WORDS[step.word])(*given, *step.parameters)


def _power(base: Any, exponent: Any) -> Any:
    """By squaring."""
    result, factor, rest = np.ones_like(base), base, np.asarray(exponent)
    while rest.any():
        result = np.where(rest & 1, result * factor, result)
        factor, rest = factor * factor, rest >> 1
    return result


def _first_largest(x: Any) -> Any:
    best, number = x[0], np.zeros_like(x[0])
    for o in range(1, len(x)):
        larger = x[o] > best
        best, number = np.where(larger, x[o], best), np.where(larger, x.dtype.type(o), number)
    return number


def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once, of float32 or float64.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 57 (2008): the parts
    that rounding lost are added up to an odd last digit, so that the last rounding sees on which side it is. Of float64
    the product must neither overflow nor come near the least number.
    """
    dtype = np.result_type(a, b, c)
    if dtype == np.float32:
        wide = [np.asarray(x, np.float64) for x in (a, b, c)]
        return _rounded_to_odd(wide[0] * wide[1], wide[2]).astype(np.float32)
    a, b, c = np.broadcast_arrays(a, b, c)
    product, lost = _product(a, b)
    high, low = _sum(c, lost)
    total, rest = _sum(product, high)
    exact = total + _rounded_to_odd(low, rest)
    return np.where(np.isfinite(exact) & np.isfinite(lost), exact, a * b + c)


def _sum(a: Any, b: Any) -> tuple[Any, Any]:
    """(a + b, what its rounding lost)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _product(a: Any, b: Any) -> tuple[Any, Any]:
    """(a * b, what its rounding lost) of float64, by halves of their digits."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(x: Any) -> tuple[Any, Any]:
    shifted = (2.0**27 + 1.0) * x
    high = shifted - (shifted - x)
    return high, x - high


def _rounded_to_odd(a: Any, b: Any) -> Any:
    """a + b, float64: where that is not exact, the neighbor whose last digit is odd."""
    total, lost = _sum(a, b)
    even = (total.view(np.int64) & 1) == 0
    return np.where(even & np.isfinite(lost) & (lost != 0.0), np.nextafter(total, np.copysign(np.inf, lost)), total)


_AS_COMPILED: dict[str, Callable[..., Any]] = {
    "fma": fused_multiply_add,
    "power": _power,
    "sum_outputs": lambda x: reduce(operator.add, x),
    "max_outputs": lambda x: reduce(lambda a, b: np.where(b > a, b, a), x),
    "argmax_outputs": _first_largest,
}
