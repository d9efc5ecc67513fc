"""Formulas as C, from their step lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from pmlp_np.formulas.step_lists import activation_steps
from pmlp_np.formulas.tracing import Argument, Constant, StepList


def is_identifier(text: str) -> bool:
    """Return whether C identifiers may begin with this text."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) is not None


def number_type(dtype: np.dtype) -> str:
    """Return the C type of numbers of this dtype."""
    return "float" if dtype == np.float32 else "double"


def literal(value: float, dtype: np.dtype) -> str:
    """Return a finite number as a C constant with the same bits."""
    text = str(dtype.type(value))
    return f"{text}f" if dtype == np.float32 else text


def math_function(name: str, dtype: np.dtype) -> str:
    """Return the name of a function of <math.h> for this dtype: expf or exp."""
    return f"{name}f" if dtype == np.float32 else name


def sigmoid_text(prefix: str, dtype: np.dtype) -> str:
    """Return the C function for 1 / (1 + e^-z), without overflow."""
    kind, zero, one = number_type(dtype), literal(0.0, dtype), literal(1.0, dtype)
    e = f"{math_function('exp', dtype)}(-{math_function('fabs', dtype)}(z))"
    return f"""static inline {kind} {prefix}_activation_sigmoid({kind} z)
{{
    const {kind} e = {e};
    return (z < {zero} ? e : {one}) / ({one} + e);
}}"""


def function_texts(names: Iterable[str], prefix: str, dtype: np.dtype) -> list[str]:
    """Return the C functions `<prefix>_activation_<name>` of these activations, except identity, and their callees."""
    functions = sorted(set(names) - {"identity", "sigmoid"})
    lists = {name: activation_steps(name, dtype.name).only("activation") for name in functions}
    needs_sigmoid = "sigmoid" in names or any(step.word == "sigmoid" for each in lists.values() for step in each.steps)
    texts = [sigmoid_text(prefix, dtype)] if needs_sigmoid else []
    kind = number_type(dtype)
    for name, steps in lists.items():
        lines, result = statements(steps, {"z": "z"}, prefix, dtype)
        body = [f"    {line}" for line in [*lines, f"return {result};"]]
        texts.append("\n".join([f"static inline {kind} {prefix}_activation_{name}({kind} z)", "{", *body, "}"]))
    return texts


def statements(steps: StepList, inputs: Mapping[str, str], prefix: str, dtype: np.dtype) -> tuple[list[str], str]:
    """Return (declarations of the intermediate values, expression of the result) of a step list with one result.

    inputs: expressions of the list's inputs, by name.
    """
    (result,) = steps.results
    texts = {i: inputs[each.name] for i, each in enumerate(steps.inputs)}
    lines = []
    for number, step in enumerate(steps.steps, len(steps.inputs)):
        value = WORDS[step.word](prefix, dtype, *(_text(a, texts, dtype) for a in step.arguments))
        texts[number] = value
        if number != result:
            kind = "int" if step.dtype == "bool" else number_type(dtype)
            texts[number] = f"v{number - len(steps.inputs) + 1}"
            lines.append(f"const {kind} {texts[number]} = {value};")
    return lines, _text(result, texts, dtype)


def _text(value: Argument, texts: Mapping[int, str], dtype: np.dtype) -> str:
    if isinstance(value, Constant):
        # In parentheses: --1 is not C.
        text = literal(value.value, dtype)
        return f"({text})" if text.startswith("-") else text
    return texts[value]


def _infix(operator: str) -> Callable[..., str]:
    return lambda prefix, dtype, a, b: f"{a} {operator} {b}"


def _call(function: str) -> Callable[..., str]:
    return lambda prefix, dtype, *arguments: f"{math_function(function, dtype)}({', '.join(arguments)})"


# From a step's word to its expression: functions of the prefix of names, the dtype, and the arguments' expressions.
WORDS: dict[str, Callable[..., str]] = {
    "add": _infix("+"),
    "subtract": _infix("-"),
    "multiply": _infix("*"),
    "divide": _infix("/"),
    "negative": lambda prefix, dtype, x: f"-{x}",
    "less": _infix("<"),
    "less_equal": _infix("<="),
    "greater": _infix(">"),
    "greater_equal": _infix(">="),
    "equal": _infix("=="),
    "not_equal": _infix("!="),
    "where": lambda prefix, dtype, condition, a, b: f"{condition} ? {a} : {b}",
    "fma": lambda prefix, dtype, a, b, c: f"{a} * {b} + {c}",
    "reciprocal": lambda prefix, dtype, x: f"{literal(1.0, dtype)} / {x}",
    # The argument may be unused otherwise: (void) silences the compiler's warning.
    "ones_like": lambda prefix, dtype, x: f"((void){x}, {literal(1.0, dtype)})",
    "sigmoid": lambda prefix, dtype, x: f"{prefix}_activation_sigmoid({x})",
    "exp": _call("exp"),
    "expm1": _call("expm1"),
    "log": _call("log"),
    "log1p": _call("log1p"),
    "tanh": _call("tanh"),
    "sin": _call("sin"),
    "cos": _call("cos"),
    "sqrt": _call("sqrt"),
    "absolute": _call("fabs"),
    "power": _call("pow"),
}
