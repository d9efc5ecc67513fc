"""Activations as C functions, made of the steps of their formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from pmlp_np.models.export.tracing import Argument, traced

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/",
          "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}  # fmt: skip
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal")
# Functions of <math.h>, as they are called for double.
_CALLS = {"exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "tanh": "tanh", "sin": "sin", "cos": "cos",
          "sqrt": "sqrt", "absolute": "fabs"}  # fmt: skip


def is_identifier(text: str) -> bool:
    """Whether names of C may begin with this text."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) is not None


def number_type(dtype: np.dtype) -> str:
    """What C calls numbers of this dtype."""
    return "float" if dtype == np.float32 else "double"


def literal(value: float, dtype: np.dtype) -> str:
    """A finite number as a C constant that reads back to the same bits."""
    text = str(dtype.type(value))
    return f"{text}f" if dtype == np.float32 else text


def math_function(name: str, dtype: np.dtype) -> str:
    """A function of <math.h> for this dtype: expf or exp."""
    return f"{name}f" if dtype == np.float32 else name


def sigmoid_text(prefix: str, dtype: np.dtype) -> str:
    """1 / (1 + e^-z), which overflows nowhere."""
    kind, zero, one = number_type(dtype), literal(0.0, dtype), literal(1.0, dtype)
    e = f"{math_function('exp', dtype)}(-{math_function('fabs', dtype)}(z))"
    return f"""static inline {kind} {prefix}_activation_sigmoid({kind} z)
{{
    const {kind} e = {e};
    return (z < {zero} ? e : {one}) / ({one} + e);
}}"""


def function_texts(names: Iterable[str], prefix: str, dtype: np.dtype) -> list[str]:
    """The C functions `<prefix>_activation_<name>` of these activations but identity, and what they call, each once."""
    wanted = sorted(set(names) - {"identity", "sigmoid"})
    formulas = {name: traced(name, dtype) for name in wanted}
    needs_sigmoid = "sigmoid" in names or any(step == "sigmoid" for steps in formulas.values() for step, _ in steps)
    texts = [sigmoid_text(prefix, dtype)] if needs_sigmoid else []
    kind = number_type(dtype)
    for name, steps in formulas.items():
        lines = [] if steps else ["    return z;"]
        for number, (step, arguments) in enumerate(steps, 1):
            of = "int" if step in _COMPARISONS else kind
            given = [_argument(each, dtype) for each in arguments]
            value = _expression(step, given, prefix, dtype)
            lines.append(f"    return {value};" if number == len(steps) else f"    const {of} v{number} = {value};")
        texts.append("\n".join([f"static inline {kind} {prefix}_activation_{name}({kind} z)", "{", *lines, "}"]))
    return texts


def _argument(value: Argument, dtype: np.dtype) -> str:
    if isinstance(value, float):
        # In parentheses where a sign would meet another: a - -1 is fine, --1 is not C.
        text = literal(value, dtype)
        return f"({text})" if text.startswith("-") else text
    return f"v{value}" if value else "z"


def _expression(step: str, given: list[str], prefix: str, dtype: np.dtype) -> str:
    """One step as a C expression of the values before it."""
    if step in _INFIX:
        return f"{given[0]} {_INFIX[step]} {given[1]}"
    if step in _CALLS:
        return f"{math_function(_CALLS[step], dtype)}({given[0]})"
    one = literal(1.0, dtype)
    return {
        "negative": f"-{given[0]}",
        "where": "{} ? {} : {}".format(*given) if len(given) == 3 else "",
        "fma": "{} * {} + {}".format(*given) if len(given) == 3 else "",
        "reciprocal": f"{one} / {given[0]}",
        # What it is shaped like may have no other use.
        "ones_like": f"((void){given[0]}, {one})",
        "sigmoid": f"{prefix}_activation_sigmoid({given[0]})",
    }[step]
