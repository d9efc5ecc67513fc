"""Elementary functions (exp, log, tanh, sin, ...) as arithmetic, for compiled code.

A library function would make results depend on the library and its version. These functions are polynomials and range
reductions, written in the vocabulary and with the bits of numbers, so that each processor computes the same bits. Their
order of operations is part of the promise. On arrays, NumPy's functions are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pmlp_np.formulas.tracing import Input, StepList, traced
from pmlp_np.formulas.vocabulary import absolute, bits, fma, from_bits, ones_like, polynomial, reciprocal, where


@dataclass(frozen=True)
class Format:
    """A floating-point format, with the constants of its elementary functions."""

    bit_count: int
    mantissa_bits: int
    exponent_bias: int
    # exp: arguments are clamped to these limits so that the scale 2^n stays a normal number.
    exp_low: float
    exp_high: float
    ln2_high: float
    ln2_low: float
    # (e^r - 1 - r) / r² on |r| <= ln 2 / 2: minimax polynomial, lowest power first.
    exp_series: tuple[float, ...]
    log_terms: int
    # Beyond these limits, tanh(x) is ±1 and sigmoid's exponential is negligible or dominant.
    tanh_limit: float
    sigmoid_limit: float
    # Integer from which subtracting the bits of x gives 1/x within 13 %; Newton steps that follow.
    reciprocal_seed: int
    reciprocal_newton_steps: int
    # The bits of 2 / 3, and of 1.5 * 2^mantissa_bits.
    two_thirds_bits: int
    rounding_bits: int
    # pi / 2 as a sum of three numbers, each the rounded remainder. Beyond the limit, sin and cos are NaN.
    half_pi: tuple[float, float, float]
    sine_limit: float
    # (sin r - r) / r³ and (cos r - 1 + r² / 2) / r⁴ as polynomials in r² on |r| <= 0.81, lowest power first.
    sine_series: tuple[float, ...]
    cosine_series: tuple[float, ...]

    @property
    def rounding(self) -> float:
        """Constant that, when added, rounds a number to an integer and puts the integer into the low bits."""
        return 1.5 * 2.0**self.mantissa_bits


# The float32 reduction uses ln 2 as one number: n is at most 127, and the product enters the fma unrounded.
# The series' relative errors in e^r are below 8e-9 and 2e-19, in sin r and cos r below 2e-8 and 2e-17 (mpmath's
# chebyfit).
FORMATS = {
    "float32": Format(
        32, 23, 127,
        exp_low=-87.0, exp_high=88.0, ln2_high=0.6931471805599453, ln2_low=0.0,
        exp_series=(0.5, 0.16666575943917947, 0.041666553310798285, 0.008363352682558865, 0.001392640047984433),
        log_terms=5, tanh_limit=9.1, sigmoid_limit=40.0, reciprocal_seed=0x7EF311C3, reciprocal_newton_steps=0,
        two_thirds_bits=0x3F2AAAAB, rounding_bits=0x4B400000,
        half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15), sine_limit=1e5,
        sine_series=(-0.16666664256136596, 0.008332671788493312, -0.0001957187653111038),
        cosine_series=(0.04166666425253917, -0.0013888226393554423, 2.453189290669784e-05),
    ),
    "float64": Format(
        64, 52, 1023,
        exp_low=-708.0, exp_high=709.0, ln2_high=6.93147180369123816490e-01, ln2_low=1.90821492927058770002e-10,
        exp_series=(
            0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325966, 0.0013888888888883629,
            0.0001984126987540889, 2.4801587325967827e-05, 2.7557254656202336e-06, 2.7557273111810967e-07,
            2.5105525761140995e-08, 2.091490745304636e-09,
        ),
        log_terms=11, tanh_limit=20.0, sigmoid_limit=40.0, reciprocal_seed=0x7FDE623822FC16E6,
        reciprocal_newton_steps=1, two_thirds_bits=0x3FE5555555555555, rounding_bits=0x4338000000000000,
        half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.497384905065873e-33), sine_limit=1e9,
        sine_series=(
            -0.16666666666666663, 0.008333333333330088, -0.00019841269835498498, 2.7557315469490136e-06,
            -2.5051004013548807e-08, 1.590920350380264e-10,
        ),
        cosine_series=(
            0.041666666666666664, -0.001388888888888686, 2.4801587297977393e-05, -2.755731687568584e-07,
            2.087606629630959e-09, -1.1377048360571915e-11,
        ),
    ),
}  # fmt: skip


def _format(x: Any) -> Format:
    return FORMATS[str(x.dtype)]


def _clamped(x, low, high):
    x = where(x > high, high, x)
    return where(x < low, low, x)


def _exp_parts(x):
    """Return (p, s) with e^x = (1 + p) s, where s is a power of two.

    Cody-Waite reduction, and the Taylor series of e^r - 1 on |r| <= ln 2 / 2.
    """
    f = _format(x)
    shifted = fma(x, 1.0 / math.log(2.0), f.rounding)
    n = shifted - f.rounding
    r = fma(n, -f.ln2_high, x)
    if f.ln2_low:
        r = fma(n, -f.ln2_low, r)
    series = polynomial(r, f.exp_series)
    p = fma(r * r, series, r)
    return p, from_bits((bits(shifted) + f.exponent_bias) << f.mantissa_bits)


def exp(x):
    f = _format(x)
    p, scale = _exp_parts(_clamped(x, f.exp_low, f.exp_high))
    return where(x < f.exp_low, 0.0, fma(p, scale, scale))


def expm1(x):
    f = _format(x)
    p, scale = _exp_parts(_clamped(x, f.exp_low, f.exp_high))
    return fma(p, scale, scale - 1.0)


def tanh(x):
    limit = _format(x).tanh_limit
    p, scale = _exp_parts(2.0 * _clamped(x, -limit, limit))
    m = fma(p, scale, scale - 1.0)
    return m * reciprocal(m + 2.0)


def sigmoid(x):
    limit = _format(x).sigmoid_limit
    p, scale = _exp_parts(-_clamped(x, -limit, limit))
    return reciprocal(fma(p, scale, scale + 1.0))


def reciprocal_by_bits(x):
    # Seed from the bits (error below 13 %), then x (1 + e + e²) twice cubes the error, then Newton's x (1 + e).
    f = _format(x)
    y = from_bits(f.reciprocal_seed - bits(x))
    for step in range(2 + f.reciprocal_newton_steps):
        e = fma(-x, y, 1.0)
        y = fma(y, fma(e, e, e) if step < 2 else e, y)
    return y


def _log_of_one_plus(x):
    """Return log(1 + x) for -1/3 <= x <= 1/3.

    x - (x²/2 - s (x²/2 + R)), s = x / (2 + x): fdlibm's form of the atanh series.
    """
    s = x / (2.0 + x)
    square = s * s
    rest = square * polynomial(square, [2.0 / (2 * k + 1) for k in range(1, _format(x).log_terms + 1)])
    half_square = 0.5 * (x * x)
    return x - (half_square - s * (half_square + rest))


def log(x):
    f = _format(x)
    whole = bits(x)
    exponent = (whole - f.two_thirds_bits) >> f.mantissa_bits
    mantissa = from_bits(whole - (exponent << f.mantissa_bits))
    # An integer added to the bits of 1.5 * 2^mantissa is that number plus the integer.
    n = from_bits(exponent + f.rounding_bits) - f.rounding
    result = _log_of_one_plus(mantissa - 1.0)
    result = fma(n, f.ln2_high, fma(n, f.ln2_low, result))
    # The bits of NaN would be read as a number: adding x - x restores NaN.
    return result + (x - x)


def log1p(x):
    large = x > 1.0 / 3.0
    inner = where(large, 0.5 * x - 0.5, x)
    return _log_of_one_plus(inner) + where(large, math.log(2.0) * ones_like(x), 0.0)


def _quarter_turn(x, quarters):
    """Return sin(x + quarters pi / 2): x = n pi / 2 + r with |r| <= pi / 4, and then ±sin r or ±cos r.

    r is exact up to the last of the three numbers: x - n P is a multiple of P's last bit and below 1, so it needs no
    more bits than P.
    """
    f = _format(x)
    x = where(absolute(x) > f.sine_limit, math.nan, x)
    # As in `_exp_parts`.
    shifted = fma(x, 2.0 / math.pi, f.rounding)
    n = shifted - f.rounding
    r = x
    for part in f.half_pi:
        r = fma(n, -part, r)
    square = r * r
    sine = fma(square * r, polynomial(square, f.sine_series), r)
    tail = fma(square, polynomial(square, f.cosine_series), -0.5)
    cosine = fma(square, tail, 1.0)
    turns = bits(shifted) + quarters
    odd = (turns & 1) != 0
    size = bits(where(odd, cosine, sine))
    return from_bits(size ^ ((turns & 2) << (f.bit_count - 2)))


def sin(x):
    return _quarter_turn(x, 0)


def cos(x):
    return _quarter_turn(x, 1)


DEFINITIONS: dict[str, Callable[[Any], Any]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "sin": sin,
    "cos": cos,
    "sigmoid": sigmoid,
    "reciprocal": reciprocal_by_bits,
}


@cache
def definition(word: str, dtype: str) -> StepList:
    """Return the steps of an elementary function of x. They may contain words with other definitions."""
    return traced(DEFINITIONS[word], [Input("x", dtype)], ["result"], f"word {word!r}")
