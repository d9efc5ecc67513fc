"""Initializers: distributions of a member's initial weights.

Each initializer draws from (0, 1), transforms the draw, and scales it by fan-in and fan-out. A table entry gives the
distribution ("uniform" on (-1, 1), or standard "normal") and the scales of weights and biases.

To add an initializer, write its entry in INITIALIZERS; nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmlp_np.formulas import vocabulary as v

# Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988), PPND16.
# Draws are multiples of 2^-33, so the far tail of the algorithm (p < 1e-11) cannot occur and is left out.
_CENTER = (
    (
        3.3871328727963666080,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734,
        4.63033784615654529590,
        5.76949722146069140550,
        3.64784832476320460504,
        1.27045825245236838258,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187,
        1.67638483018380384940,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636165571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)


def _uniform(u):
    return 2.0 * u - 1.0


def _normal(u):
    """Return the u-quantile of the standard normal distribution, 2^-33 <= u <= 1 - 2^-33."""
    q = u - 0.5
    r = 0.180625 - q * q
    center = q * v.polynomial(r, _CENTER[0]) / v.polynomial(r, _CENTER[1])
    tail_mass = v.where(q < 0.0, u, 1.0 - u)
    t = v.sqrt(-v.log(tail_mass)) - 1.6
    tail = v.polynomial(t, _TAIL[0]) / v.polynomial(t, _TAIL[1])
    return v.where(v.absolute(q) <= 0.425, center, v.where(q < 0.0, -tail, tail))


DISTRIBUTIONS: dict[str, Callable[[Any], Any]] = {"uniform": _uniform, "normal": _normal}


@dataclass(frozen=True)
class Initializer:
    """A distribution, and the scales of weights and biases.

    weight_scale, bias_scale: (fan_in, fan_out) -> factor of the distribution's draws (0: the parameters start at 0).
    """

    name: str
    distribution: str
    weight_scale: Callable[[np.ndarray, np.ndarray], np.ndarray]
    bias_scale: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _by_fan_in(numerator: float):
    return lambda fan_in, fan_out: np.sqrt(numerator / fan_in)


def _by_both_fans(numerator: float):
    return lambda fan_in, fan_out: np.sqrt(numerator / (fan_in + fan_out))


def _zero(fan_in, fan_out):
    return np.zeros(np.shape(fan_in))


INITIALIZERS: dict[str, Initializer] = {
    entry.name: entry
    for entry in (
        # torch.nn.Linear's default: kaiming_uniform_(a=sqrt 5) is U(±1 / sqrt fan_in), also for biases.
        Initializer("pytorch", "uniform", _by_fan_in(1.0), _by_fan_in(1.0)),
        # Glorot and Bengio, AISTATS 2010, equation 16.
        Initializer("glorot_uniform", "uniform", _by_both_fans(6.0), _zero),
        Initializer("glorot_normal", "normal", _by_both_fans(2.0), _zero),
        # He et al., ICCV 2015, section 2.2.
        Initializer("he_uniform", "uniform", _by_fan_in(6.0), _zero),
        Initializer("he_normal", "normal", _by_fan_in(2.0), _zero),
        # LeCun et al., "Efficient BackProp", 1998, section 4.6: variance 1 / fan_in.
        Initializer("lecun_normal", "normal", _by_fan_in(1.0), _zero),
    )
}
INITIALIZER_ALIASES = {
    "default": "pytorch",
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}
