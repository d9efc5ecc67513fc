"""An interpreter of step lists on NumPy arrays.

A value of extent OUTPUT or RAW has its outputs on axis 0; all else broadcasts. By default, `evaluate` returns the same
as the formula called with arrays. With `as_compiled` it returns the bits of compiled code: elementary functions by
their definitions, multiply-adds rounded once, sums over outputs one after another. This is the specification that
renderers are compared with, and far too slow for any other use.
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
    """Return the results of a step list for arrays or numbers of the inputs' dtypes.

    as_compiled: whether to compute the bits of compiled code.
    """
    values = list(inputs)
    with np.errstate(all="ignore"):
        for step in steps.steps:
            arguments = [_constant(a) if isinstance(a, Constant) else values[a] for a in step.arguments]
            result = _compiled(step, arguments) if as_compiled else _WORDS[step.word](*arguments, *step.parameters)
            values.append(result)
    return [_constant(r) if isinstance(r, Constant) else values[r] for r in steps.results]


def _constant(constant: Constant) -> Any:
    return np.dtype(constant.dtype).type(constant.value)


def _compiled(step: Step, arguments: list[Any]) -> Any:
    if step.word in DEFINITIONS:
        return evaluate(definition(step.word, step.dtype), *arguments, as_compiled=True)[0]
    if step.word == "n_outputs":
        return np.dtype(step.dtype).type(len(arguments[0]))
    return _AS_COMPILED.get(step.word, _WORDS[step.word])(*arguments, *step.parameters)


def _power(base: Any, exponent: Any) -> Any:
    """Return base to an integer power, by squaring."""
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
    """Return a * b + c rounded once, for float32 or float64.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 57 (2008): the rounding
    errors are added with rounding to odd, so that the final rounding goes to the correct side. For float64 the product
    must neither overflow nor come near the smallest number.
    """
    dtype = np.result_type(a, b, c)
    if dtype == np.float32:
        wide = [np.asarray(x, np.float64) for x in (a, b, c)]
        return _rounded_to_odd(wide[0] * wide[1], wide[2]).astype(np.float32)
    a, b, c = np.broadcast_arrays(a, b, c)
    product, error = _product(a, b)
    high, low = _sum(c, error)
    total, sum_error = _sum(product, high)
    exact = total + _rounded_to_odd(low, sum_error)
    return np.where(np.isfinite(exact) & np.isfinite(error), exact, a * b + c)


def _sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return (a + b, its rounding error)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return (a * b, its rounding error) for float64, by splitting the digits into halves."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(x: Any) -> tuple[Any, Any]:
    shifted = (2.0**27 + 1.0) * x
    high = shifted - (shifted - x)
    return high, x - high


def _rounded_to_odd(a: Any, b: Any) -> Any:
    """Return a + b, float64, rounded to odd: if the sum is not exact, the neighbor with an odd last digit."""
    total, error = _sum(a, b)
    even = (total.view(np.int64) & 1) == 0
    return np.where(even & np.isfinite(error) & (error != 0.0), np.nextafter(total, np.copysign(np.inf, error)), total)


_AS_COMPILED: dict[str, Callable[..., Any]] = {
    "fma": fused_multiply_add,
    "power": _power,
    "sum_outputs": lambda x: reduce(operator.add, x),
    "max_outputs": lambda x: reduce(lambda a, b: np.where(b > a, b, a), x),
    "argmax_outputs": _first_largest,
}
