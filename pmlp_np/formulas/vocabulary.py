"""The words in which formulas are written, and their meaning on arrays.

A formula uses operators (+ - * / comparisons), Python floats as constants, and these words. Called with NumPy or CuPy
arrays, a word is the array function. Called with a value that has a `vocabulary` (a traced value, see `tracing`), it is
that vocabulary's word of the same name. Constants get the other operand's dtype.

Losses use per-output values: on arrays, axis 0 is the output; the words `..._outputs` reduce over it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.base.arrays import namespace

# exp(x²) erfc(x) on x >= 0 as t (c0 + c1 t + ...), t = K / (K + x): Chebyshev interpolation at 40 digits.
# Relative error below 6e-8 (float32, x <= 9.5) and 2e-16 (float64, x <= 27.5); for larger x, exp(-x²) is zero.
_ERFCX_SCALE = {"float32": 2.0, "float64": 3.0}
_ERFCX_FLOAT32 = (
    0.2820844013850872,
    0.2824126132420835,
    0.24282409073183536,
    0.20380226090635453,
    -0.029231098254931795,
    0.2817421933970471,
    -0.4902760468772218,
    0.2859796718217609,
    -0.05933812592064593,
)
_ERFCX_FLOAT64 = (
    0.18806319452964687,
    0.18806319357580065,
    0.17761526874536068,
    0.15671876615618832,
    0.1271241139507732,
    0.09222115281837412,
    0.05746996031748771,
    0.02355077712594396,
    0.015329378629364537,
    -0.04475524777829649,
    0.08528809319640202,
    -0.18896529580524937,
    0.2533915130192481,
    -0.1964339312774066,
    -0.03894440741251505,
    0.38693345052248357,
    -0.601157412944799,
    0.5296539680848212,
    -0.2969347803699137,
    0.10571984907204385,
    -0.022006220482089,
    0.00205461632633042,
)
_ERFCX = {"float32": _ERFCX_FLOAT32, "float64": _ERFCX_FLOAT64}


def _words(x: Any) -> Any:
    """Return the words for x: those of a traced value, or the array module's functions."""
    vocabulary = getattr(x, "vocabulary", None)
    return vocabulary if vocabulary is not None else namespace(x)


def _array_only(x: Any) -> bool:
    return getattr(x, "vocabulary", None) is None


def exp(x):
    """Return e^x. Compiled code: 0 below -87 (float64: -708), and at most e^88 (e^709)."""
    return _words(x).exp(x)


def expm1(x):
    """Return e^x - 1, accurate near zero."""
    return _words(x).expm1(x)


def log(x):
    """Return the natural logarithm of x > 0."""
    return _words(x).log(x)


def log1p(x):
    """Return log(1 + x) for 0 <= x <= 1, accurate near zero."""
    return _words(x).log1p(x)


def tanh(x):
    """Return the hyperbolic tangent."""
    return _words(x).tanh(x)


def sin(x):
    """Return the sine. Compiled code: for |x| <= 1e5 (float64: 1e9), NaN beyond."""
    return _words(x).sin(x)


def cos(x):
    """Return the cosine, with the range of `sin`."""
    return _words(x).cos(x)


def sqrt(x):
    """Return the square root of x >= 0, correctly rounded."""
    return _words(x).sqrt(x)


def absolute(x):
    """Return |x|."""
    return _words(x).absolute(x)


def where(condition, a, b):
    """Return a where the condition holds, else b; at most one of a and b is a constant."""
    return _words(condition).where(condition, a, b)


def ones_like(x):
    """Return one in x's shape and dtype."""
    return _words(x).ones_like(x)


def reciprocal(x):
    """Return 1 / x for 2^-60 < |x| < 2^60. In compiled code faster than a division, and not correctly rounded."""
    return 1.0 / x if _array_only(x) else x.vocabulary.reciprocal(x)


def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    if not _array_only(x):
        return x.vocabulary.sigmoid(x)
    e = exp(-absolute(x))
    return where(x < 0, e, 1.0) / (1.0 + e)


def bits(x):
    """Return the bits of x as an integer of the same size."""
    return x.view({4: np.int32, 8: np.int64}[x.dtype.itemsize]) if _array_only(x) else x.vocabulary.bits(x)


def from_bits(x):
    """Return the float with these bits, the inverse of `bits`."""
    return x.view({4: np.float32, 8: np.float64}[x.dtype.itemsize]) if _array_only(x) else x.vocabulary.from_bits(x)


def power(base, exponent):
    """Return base^exponent for 0 <= base < 1 and an integer exponent >= 1."""
    return base**exponent if _array_only(base) else base.vocabulary.power(base, exponent)


def number(count, like):
    """Convert an integer to a float64 (compiled code: to `like`'s type), for use in arithmetic."""
    return count * 1.0 if _array_only(like) else like.vocabulary.number(count, like)


def scaled_erfc(x):
    """Return exp(x²) erfc(x) for x >= 0. Where exp(-x²) underflows, only the order of magnitude is correct."""
    name = str(x.dtype)
    scale = _ERFCX_SCALE[name]
    t = scale * reciprocal(x + scale)
    return t * polynomial(t, _ERFCX[name])


def polynomial(x, coefficients):
    """Return c0 + c1 x + c2 x² + ... by Horner's rule."""
    *lower, result = coefficients
    for c in reversed(lower):
        result = fma(x, result, c)
    return result


def fma(a, b, c):
    """Return a * b + c; rounded once in compiled code, twice on arrays. `a` is not a constant."""
    return a * b + c if _array_only(a) else a.vocabulary.fma(a, b, c)


def n_outputs(raw):
    """Return the number of outputs of a per-output value."""
    return raw.shape[0] if _array_only(raw) else raw.vocabulary.n_outputs(raw)


def output_index(raw):
    """Return each output's index, for comparison with labels."""
    if not _array_only(raw):
        return raw.vocabulary.output_index(raw)
    return namespace(raw).arange(raw.shape[0], dtype=raw.dtype).reshape(-1, *(1,) * (raw.ndim - 1))


def split_heads(raw, heads):
    """Return the raw outputs of each head, a tuple of per-output values; with one head, `raw` unchanged.

    Raw output o * heads + h is head h of output o.
    """
    if heads == 1:
        return raw
    if not _array_only(raw):
        return raw.vocabulary.split_heads(raw, heads)
    return tuple(raw[h::heads] for h in range(heads))


def join_heads(values):
    """Return raw outputs from the values of each head, the inverse of `split_heads`, on arrays."""
    if len(values) == 1:
        return values[0]
    first, heads = values[0], len(values)
    joined = namespace(first).zeros((heads * len(first), *first.shape[1:]), first.dtype)
    for h, value in enumerate(values):
        joined[h::heads] = value
    return joined


def output_constants(raw, numbers):
    """Return constants that differ between outputs, from a tuple of Python floats, as a per-output value."""
    if not _array_only(raw):
        return raw.vocabulary.output_constants(raw, numbers)
    return namespace(raw).asarray(np.array(numbers, raw.dtype).reshape(-1, *(1,) * (raw.ndim - 1)))


def sum_outputs(x):
    """Return the sum over the outputs."""
    return x.sum(axis=0) if _array_only(x) else x.vocabulary.sum_outputs(x)


def max_outputs(x):
    """Return the maximum over the outputs."""
    return x.max(axis=0) if _array_only(x) else x.vocabulary.max_outputs(x)


def argmax_outputs(x):
    """Return the index of the first maximum over the outputs, in x's dtype."""
    return x.argmax(axis=0).astype(x.dtype) if _array_only(x) else x.vocabulary.argmax_outputs(x)


def mean_outputs(x):
    """Return the mean over the outputs."""
    return sum_outputs(x) / n_outputs(x)
