"""Formulas as NumPy code, from their step lists, and activations that are NumPy functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from pmlp_np.formulas.step_lists import activation_steps
from pmlp_np.formulas.tracing import Argument, Constant, StepList

# Activations that are NumPy functions.
NUMPY_FUNCTIONS = {"tanh": "np.tanh", "sin": "np.sin"}
# Activations that other formulas call, and activations with a more readable text than their steps.
_TEXTS = {
    "identity": """
def identity(z):
    return z
""",
    "sigmoid": '''
def sigmoid(z):
    """1 / (1 + exp(-z)), without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0.0, e, 1.0) / (1.0 + e)
''',
    "relu": """
def relu(z):
    return np.maximum(z, 0.0)
""",
    "hard_tanh": """
def hard_tanh(z):
    return np.clip(z, -1.0, 1.0)
""",
    "softsign": """
def softsign(z):
    return z / (1.0 + np.abs(z))
""",
}
_LONGEST = 90  # characters of an expression without a name


def _infix(operator: str) -> Callable[[str, str], str]:
    return lambda a, b: f"({a} {operator} {b})"


def _call(function: str) -> Callable[..., str]:
    return lambda *arguments: f"{function}({', '.join(map(bare, arguments))})"


# From a step's word to its expression: functions of the arguments' expressions. All but calls and names are
# parenthesized.
WORDS: dict[str, Callable[..., str]] = {
    "add": _infix("+"),
    "subtract": _infix("-"),
    "multiply": _infix("*"),
    "divide": _infix("/"),
    "power": _infix("**"),
    "negative": lambda x: f"(-{x})",
    "less": _infix("<"),
    "less_equal": _infix("<="),
    "greater": _infix(">"),
    "greater_equal": _infix(">="),
    "equal": _infix("=="),
    "not_equal": _infix("!="),
    "where": _call("np.where"),
    "exp": _call("np.exp"),
    "expm1": _call("np.expm1"),
    "log": _call("np.log"),
    "log1p": _call("np.log1p"),
    "tanh": _call("np.tanh"),
    "sin": _call("np.sin"),
    "cos": _call("np.cos"),
    "sqrt": _call("np.sqrt"),
    "absolute": _call("np.abs"),
    "ones_like": _call("np.ones_like"),
    "sigmoid": _call("sigmoid"),
    "reciprocal": lambda x: f"(1.0 / {x})",
    "fma": lambda a, b, c: f"({a} * {b} + {c})",
}


def function_texts(names: Iterable[str], dtype: np.dtype) -> list[str]:
    """Return the text of a function for each of these activations, and of the functions that they call."""
    functions = dict.fromkeys(name for name in names if name not in NUMPY_FUNCTIONS)
    lists = {name: activation_steps(name, dtype.name).only("activation") for name in functions if name not in _TEXTS}
    if any(step.word == "sigmoid" for each in lists.values() for step in each.steps):
        functions = {"sigmoid": None} | functions
    return [_function(name, lists[name]) if name in lists else _TEXTS[name].strip() for name in functions]


def _function(name: str, steps: StepList) -> str:
    lines, result = expression(steps, {"z": "z"})
    return "\n".join([f"def {name}(z):", *(f"    {line}" for line in [*lines, f"return {result}"])])


def expression(steps: StepList, inputs: Mapping[str, str], longest: int = _LONGEST) -> tuple[list[str], str]:
    """Return (assignments, expression of the result) of a step list with one result.

    inputs: expressions of the list's inputs, by name. A value that is used twice, or whose expression has more than
    `longest` characters, is assigned to a name; with `longest` 0 no value is.
    """
    (result,) = steps.results
    first = len(steps.inputs)
    texts = {i: inputs[each.name] for i, each in enumerate(steps.inputs)}
    used = [a for step in steps.steps for a in step.arguments if isinstance(a, int)]
    lines: list[str] = []
    for number, step in enumerate(steps.steps, first):
        text = WORDS[step.word](*(_text(a, texts) for a in step.arguments))
        if longest and number != result and (used.count(number) > 1 or len(text) > longest):
            name = f"t{number - first + 1}"
            lines.append(f"{name} = {bare(text)}")
            text = name
        texts[number] = text
    return lines, bare(_text(result, texts))


def _text(argument: Argument, texts: Mapping[int, str]) -> str:
    return repr(argument.value) if isinstance(argument, Constant) else texts[argument]


def bare(text: str) -> str:
    """Return an expression without the parentheses around it. All but calls and names have parentheses."""
    return text[1:-1] if text.startswith("(") else text
