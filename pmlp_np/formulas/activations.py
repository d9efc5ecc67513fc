"""Activations: functions from z to (activation, derivative), written once for arrays and for compiled code.

Constants, kinks and one-sided derivatives are PyTorch's. Every function maps NaN to NaN: comparisons are false for NaN,
so the branch that contains z must be the one for false (`where(z <= 0, 0, z)`, never `where(z > 0, z, 0)`).

To add an activation, write its function here under `@activation(...)`, with its other names, its kinks and its style in
plots. Nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pmlp_np.formulas import vocabulary as v

_SQRT_HALF = 0.7071067811865476
_INVERSE_SQRT_2PI = 0.3989422804014327
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_NEGATIVE_SLOPE = 0.01
_HARDSHRINK_LAMBDA = 0.5
# Beyond these limits the function equals its asymptote in float64. Within them, intermediates are finite in float32.
_MISH_LARGE = 20.0
_MISH_SMALL = -800.0
_GELU_LARGE = 38.0
_GELU_TANH_LARGE = 30.0
_SOFTSIGN_LARGE = 1e18
_SQRT_2_BY_PI, _GELU_TANH_CUBE = 0.7978845608028654, 0.044715


class Style(NamedTuple):
    """The style of a group in plots: a color, a line style and a marker, as matplotlib names them."""

    color: str
    dash: str
    mark: str


@dataclass(frozen=True)
class Activation:
    """An activation: `function(z) -> (a, da/dz)`, elementwise.

    kinks: the z where the derivative jumps. aliases: other names. style: in plots; None: as any group. registered:
        whether a user registered the function (`formulas.registration`).
    """

    name: str
    function: Callable[[Any], tuple[Any, Any]]
    kinks: tuple[float, ...]
    registered: bool = False
    aliases: tuple[str, ...] = ()
    style: Style | None = None


ACTIVATIONS: dict[str, Activation] = {}
ACTIVATION_ALIASES: dict[str, str] = {}


def activation(aliases: tuple[str, ...] = (), kinks: tuple[float, ...] = (), style: Style | None = None):
    """Enter the decorated function into the table of activations under its name and aliases.

    Styles differ by lightness, dash and marker as well as by hue, so that they can be told apart in gray and by people
    with color blindness.
    """

    def enter(function):
        name = function.__name__
        ACTIVATIONS[name] = Activation(name, function, kinks, aliases=aliases, style=style)
        ACTIVATION_ALIASES.update(dict.fromkeys(aliases, name))
        return function

    return enter


@activation(aliases=("linear", "none"), style=Style("#000000", "--", "o"))
def identity(z):
    return z, v.ones_like(z)


@activation(aliases=("logistic",), style=Style("#88ccee", "-", "s"))
def sigmoid(z):
    a = v.sigmoid(z)
    return a, v.fma(-a, a, a)


@activation(style=Style("#332288", "-", "^"))
def tanh(z):
    a = v.tanh(z)
    return a, v.fma(-a, a, 1.0)


@activation(kinks=(0.0,), style=Style("#cc3311", "-", "v"))
def relu(z):
    negative = z <= 0.0
    return v.where(negative, 0.0, z), v.where(negative, 0.0, v.ones_like(z))


@activation(aliases=("leakyrelu",), kinks=(0.0,), style=Style("#ee7733", "--", "<"))
def leaky_relu(z):
    derivative = v.where(z > 0.0, 1.0, _NEGATIVE_SLOPE * v.ones_like(z))
    return derivative * z, derivative


@activation(style=Style("#117733", "-", "D"))
def elu(z):
    m = v.expm1(v.where(z > 0.0, 0.0, z))
    return v.where(z > 0.0, z, m), m + 1.0


@activation(style=Style("#ddaa33", "-", "P"))
def gelu(z):
    # Φ(-|z|) = erfcx(|z| / sqrt 2) exp(-z² / 2) / 2: one exponential gives both the cdf and the density.
    size = v.absolute(z)
    size = v.where(size > _GELU_LARGE, _GELU_LARGE, size)
    e = v.exp(-0.5 * (size * size))
    tail = 0.5 * e * v.scaled_erfc(_SQRT_HALF * size)
    cdf = v.where(z > 0.0, 1.0 - tail, tail)
    density = _INVERSE_SQRT_2PI * e
    return z * cdf, cdf + v.where(z > 0.0, size, -size) * density


@activation(kinks=(0.0,), style=Style("#44aa99", "--", "X"))
def selu(z):
    m = v.expm1(v.where(z > 0.0, 0.0, z))
    return (
        _SELU_SCALE * v.where(z > 0.0, z, _SELU_ALPHA * m),
        _SELU_SCALE * v.where(z > 0.0, 1.0, _SELU_ALPHA * (m + 1.0)),
    )


@activation(aliases=("hard_shrink",), kinks=(-_HARDSHRINK_LAMBDA, _HARDSHRINK_LAMBDA), style=Style("#aa4499", "-", "p"))
def hardshrink(z):
    inside = v.absolute(z) <= _HARDSHRINK_LAMBDA
    return v.where(inside, 0.0, z), v.where(inside, 0.0, v.ones_like(z))


@activation(style=Style("#997700", ":", "*"))
def mish(z):
    # z tanh(log(1 + e^z)) with e = e^z, w = e (e + 2): tanh(...) = w / (w + 2). Misra, arXiv 1908.08681.
    c = v.where(z > _MISH_LARGE, _MISH_LARGE, z)
    c = v.where(c < _MISH_SMALL, _MISH_SMALL, c)
    e = v.exp(c)
    w = e * (e + 2.0)
    r = v.reciprocal(w + 2.0)
    omega = v.polynomial(e, (4.0 * c + 4.0, 4.0 * c + 6.0, 4.0, 1.0))
    return z * (w * r), (e * r) * (omega * r)


def _sigmoid_parts(x):
    """Return σ(x) and σ(-x), both without cancellation, from one exponential."""
    e = v.exp(-v.absolute(x))
    r = v.reciprocal(1.0 + e)
    positive = x > 0.0
    return v.where(positive, 1.0, e) * r, v.where(positive, e, 1.0) * r


@activation(aliases=("swish",), style=Style("#ee3377", "-.", ">"))
def silu(z):
    s, opposite = _sigmoid_parts(z)
    return z * s, s * v.fma(z, opposite, 1.0)


@activation(style=Style("#0077bb", ":", "o"))
def softplus(z):
    # PyTorch returns z beyond a threshold; with log1p no threshold is necessary.
    e = v.exp(-v.absolute(z))
    positive = z > 0.0
    return v.where(positive, z, 0.0 * e) + v.log1p(e), v.where(positive, 1.0, e) * v.reciprocal(1.0 + e)


@activation(style=Style("#7766dd", "-.", "s"))
def softsign(z):
    c = v.where(z > _SOFTSIGN_LARGE, _SOFTSIGN_LARGE, z)
    c = v.where(c < -_SOFTSIGN_LARGE, -_SOFTSIGN_LARGE, c)
    r = v.reciprocal(1.0 + v.absolute(c))
    return c * r, r * r


@activation(aliases=("hardtanh",), kinks=(-1.0, 1.0), style=Style("#332288", ":", "v"))
def hard_tanh(z):
    outside = v.absolute(z) >= 1.0
    return v.where(z > 1.0, 1.0, v.where(z < -1.0, -1.0, z)), v.where(outside, 0.0, v.ones_like(z))


@activation(aliases=("hardsigmoid",), kinks=(-3.0, 3.0), style=Style("#4499cc", "--", "D"))
def hard_sigmoid(z):
    outside = v.absolute(z) >= 3.0
    ramp = (z + 3.0) * (1.0 / 6.0)
    return v.where(z >= 3.0, 1.0, v.where(z <= -3.0, 0.0, ramp)), v.where(outside, 0.0, (1.0 / 6.0) * v.ones_like(z))


@activation(aliases=("hardswish",), kinks=(-3.0, 3.0), style=Style("#882255", "--", "^"))
def hard_swish(z):
    above, below = z >= 3.0, z <= -3.0
    a = v.where(above, z, v.where(below, 0.0, z * ((z + 3.0) * (1.0 / 6.0))))
    return a, v.where(above, 1.0, v.where(below, 0.0, v.fma(z, 1.0 / 3.0, 0.5)))


@activation(style=Style("#bbaa00", "-.", "X"))
def gelu_tanh(z):
    # (1 + tanh u) / 2 = σ(2u), with 2u = z (p + q z²). Hendrycks and Gimpel, arXiv 1606.08415.
    c = v.where(z > _GELU_TANH_LARGE, _GELU_TANH_LARGE, z)
    c = v.where(c < -_GELU_TANH_LARGE, -_GELU_TANH_LARGE, c)
    p, q = 2.0 * _SQRT_2_BY_PI, 2.0 * _SQRT_2_BY_PI * _GELU_TANH_CUBE
    square = c * c
    s, opposite = _sigmoid_parts(c * v.fma(square, q, p))
    return z * s, s * v.fma(c * v.fma(square, 3.0 * q, p), opposite, 1.0)


@activation(style=Style("#663300", "-", "P"))
def sin(z):
    return v.sin(z), v.cos(z)
