"""Activations as NumPy text: what a person would write, or expressions made of the steps of a formula."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pmlp_np.formulas import vocabulary
from pmlp_np.models.export.tracing import Argument, Step, traced

# Those that are a function of NumPy already.
NUMPY_FUNCTIONS = {"tanh": "np.tanh", "sin": "np.sin"}

_TEXTS = {
    "identity": '''
def identity(z):
    return z
''',
    "sigmoid": '''
def sigmoid(z):
    """1 / (1 + exp(-z)), without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0.0, e, 1.0) / (1.0 + e)
''',
    "relu": '''
def relu(z):
    return np.maximum(z, 0.0)
''',
    "leaky_relu": '''
def leaky_relu(z):
    return np.where(z > 0.0, z, 0.01 * z)
''',
    "elu": '''
def elu(z):
    return np.where(z > 0.0, z, np.expm1(np.minimum(z, 0.0)))
''',
    "gelu": '''
# exp(x²) erfc(x) = t (c0 + c1 t + ...) for x >= 0, with t = {scale} / (x + {scale}).
ERFCX = (
{coefficients}
)


def gelu(z):
    """z times the normal distribution's cdf, whose tail is exp(-x²/2) erfcx(x/√2) / 2."""
    x = np.minimum(np.abs(z), 38.0)
    t = {scale} / (0.7071067811865476 * x + {scale})
    erfcx = np.zeros_like(t)
    for coefficient in ERFCX[::-1]:
        erfcx = erfcx * t + coefficient
    tail = 0.5 * np.exp(-0.5 * x * x) * t * erfcx
    return z * np.where(z > 0.0, 1.0 - tail, tail)
''',
    "selu": '''
def selu(z):
    return 1.0507009873554805 * np.where(z > 0.0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0.0)))
''',
    "hardshrink": '''
def hardshrink(z):
    return np.where(np.abs(z) <= 0.5, 0.0, z)
''',
    "mish": '''
def mish(z):
    """z tanh(log(1 + exp(z))), which is z itself for large z."""
    e = np.exp(np.minimum(z, 20.0))
    w = e * (e + 2.0)
    return z * (w / (w + 2.0))
''',
    "silu": '''
def silu(z):
    """z / (1 + exp(-z)), without overflow."""
    e = np.exp(-np.abs(z))
    return z * np.where(z < 0.0, e, 1.0) / (1.0 + e)
''',
    "softplus": '''
def softplus(z):
    """log(1 + exp(z)), without overflow."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))
''',
    "softsign": '''
def softsign(z):
    return z / (1.0 + np.abs(z))
''',
    "hard_tanh": '''
def hard_tanh(z):
    return np.clip(z, -1.0, 1.0)
''',
    "hard_sigmoid": '''
def hard_sigmoid(z):
    return np.clip((z + 3.0) / 6.0, 0.0, 1.0)
''',
    "hard_swish": '''
def hard_swish(z):
    return z * np.clip((z + 3.0) / 6.0, 0.0, 1.0)
''',
    "gelu_tanh": '''
def gelu_tanh(z):
    return 0.5 * z * (1.0 + np.tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)))
''',
}

# What a step of a formula is in NumPy.
_OPERATORS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
}  # fmt: skip
_CALLS = {
    "exp": "np.exp", "expm1": "np.expm1", "log": "np.log", "log1p": "np.log1p", "tanh": "np.tanh", "sin": "np.sin",
    "cos": "np.cos", "sqrt": "np.sqrt", "absolute": "np.abs", "where": "np.where", "ones_like": "np.ones_like",
    "sigmoid": "sigmoid",
}  # fmt: skip
_LONGEST = 90


def function_texts(names: Iterable[str], dtype: np.dtype) -> list[str]:
    """The text of a function for each of these activations, and of those that they call."""
    wanted = dict.fromkeys(name for name in names if name not in NUMPY_FUNCTIONS)
    steps = {name: traced(name, dtype) for name in wanted if name not in _TEXTS}
    if any(step == "sigmoid" for each in steps.values() for step, _ in each):
        wanted = {"sigmoid": None} | wanted
    return [_of_steps(name, steps[name]) if name in steps else _built_in(name, dtype) for name in wanted]


def _built_in(name: str, dtype: np.dtype) -> str:
    text = _TEXTS[name].strip()
    if name == "gelu":
        scale, coefficients = vocabulary._ERFCX_SCALE[dtype.name], vocabulary._ERFCX[dtype.name]
        lines = "\n".join(f"    {each!r}," for each in coefficients)
        text = text.replace("{scale}", f"{scale}").replace("{coefficients}", lines)
    return text


def _of_steps(name: str, steps: tuple[Step, ...]) -> str:
    """A function that takes these steps: one expression, in which what is used twice, or long, has a name."""
    uses: dict[Any, int] = {}
    for _, arguments in steps:
        for a in arguments:
            if isinstance(a, int):
                uses[a] = uses.get(a, 0) + 1
    texts, lines = {0: "z"}, []
    for number, (step, arguments) in enumerate(steps, 1):
        text = _expression(step, arguments, texts)
        if number < len(steps) and (uses[number] > 1 or len(text) > _LONGEST):
            lines.append(f"    t{number} = {_bare(text)}")
            text = f"t{number}"
        texts[number] = text
    lines.append(f"    return {_bare(texts[len(steps)])}")
    return "\n".join([f"def {name}(z):", *lines])


def _expression(step: str, arguments: tuple[Argument, ...], texts: dict[int, str]) -> str:
    given = [texts[a] if isinstance(a, int) else repr(a) for a in arguments]
    if step in _OPERATORS:
        return f"({given[0]} {_OPERATORS[step]} {given[1]})"
    if step == "negative":
        return f"(-{given[0]})"
    if step == "fma":
        return f"({given[0]} * {given[1]} + {given[2]})"
    if step == "reciprocal":
        return f"(1.0 / {given[0]})"
    return f"{_CALLS[step]}({', '.join(_bare(each) for each in given)})"


def _bare(text: str) -> str:
    """An expression without the parentheses around it: those that are not calls or names have some."""
    return text[1:-1] if text.startswith("(") else text
