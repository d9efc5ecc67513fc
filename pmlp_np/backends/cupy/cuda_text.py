"""Step lists become CUDA C++: each step one line, one IEEE operation.

Nothing is folded, contracted or reordered: compiled with `--fmad=false`, correctly rounded division and square root,
each line gives the same bits on every GPU, and those of the Numba backend. In which order steps are written, and where
loops over outputs are, `formulas.rendering` says; here is what each word is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pmlp_np.formulas.rendering import Rendering
from pmlp_np.formulas.tracing import Constant, Step, StepList

# Names of dtypes in the text; int64 and uint64 are defined in kernels/words.cuh.
SCALARS = {
    "float32": "float", "float64": "double", "bool": "bool", "int32": "int", "int64": "int64", "uint64": "uint64",
}  # fmt: skip
# Signed overflow is undefined in C++ and wraps in LLVM: these are computed without a sign.
_UNSIGNED = {"int32": "unsigned", "int64": "uint64"}
_SUFFIX = {"float32": "f", "float64": ""}


def literal(value: float | int, dtype: str) -> str:
    """Return a literal that the compiler reads back to the same bits."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype not in _SUFFIX:
        bits = 32 if dtype == "int32" else 64
        return f"({SCALARS[dtype]}){int(value) % 2**bits:#x}" + ("u" if bits == 32 else "ull")
    number = np.dtype(dtype).type(value)
    if math.isnan(number):
        return f"not_a_number<{SCALARS[dtype]}>()"
    if math.isinf(number):
        return f"{'-' if number < 0 else ''}infinite<{SCALARS[dtype]}>()"
    text = np.format_float_scientific(number, unique=True, trim="0")
    return f"({text}{_SUFFIX[dtype]})" if text.startswith("-") else text + _SUFFIX[dtype]


class _Index(str):
    """The number of an output as an expression; a new one for each loop, so that no value is taken from another."""

    __slots__ = ()


class CudaText:
    """CUDA C++ as a language of step lists. Values are names or literals.

    lines: the statements so far. counts: the number of values of each extent, as expressions.
    """

    def __init__(self, counts: Mapping[str, str] | None = None) -> None:
        self.counts = dict(counts or {})
        self.lines: list[str] = []
        self._indent = 1
        self._names = 0

    # Statements.

    def write(self, line: str) -> None:
        self.lines.append("    " * self._indent + line)

    def name(self, prefix: str = "t") -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def let(self, expression: str, dtype: str) -> str:
        name = self.name()
        self.write(f"const {SCALARS[dtype]} {name} = {expression};")
        return name

    def loop(self, count: str, body: Callable[[str], None], start: int = 0) -> None:
        index = _Index(self.name("o"))
        self.write(f"for (int64 {index} = {start}; {index} < {count}; ++{index}) {{")
        self._indent += 1
        body(index)
        self._indent -= 1
        self.write("}")

    def results(self, steps: StepList, *inputs: Any) -> list[Any]:
        """Write a step list; return its results.

        Inputs and results are expressions, or, for extents over outputs, functions from an output's number to one.
        """
        return Rendering(self, steps, inputs).results()

    # The language: see formulas.rendering.

    def constant(self, constant: Constant, step: Step, known: list[Any]) -> str:
        return literal(constant.value, constant.dtype)

    def word(self, step: Step, given: list[Any]) -> str:
        return self.let(WORDS[step.word](step, *given), step.dtype)

    def count(self, extent: str) -> str:
        return self.counts[extent]

    def number_of(self, index: Any, step: Step) -> str:
        return self.let(f"({SCALARS[step.dtype]})({index})", step.dtype)

    def head(self, index: Any, heads: int, h: int) -> str:
        return _Index(f"({index} * {heads} + {h})")

    def table(self, step: Step) -> str:
        name = self.name("table")
        values = ", ".join(literal(number, step.dtype) for number in step.parameters)
        self.write(f"const {SCALARS[step.dtype]} {name}[] = {{{values}}};")
        return name

    def from_table(self, table: Any, index: Any, step: Step) -> str:
        return self.let(f"{table}[{index}]", step.dtype)

    def reduced(self, step: Step, count: Any, at: Callable[[Any], Any]) -> str:
        scalar, best = SCALARS[step.dtype], self.name("best")
        self.write(f"{scalar} {best} = {at(_Index('0'))};")
        number = self.name("number")
        if step.word == "argmax_outputs":
            self.write(f"{scalar} {number} = 0;")

        def turn(index: str) -> None:
            value = at(index)
            if step.word == "sum_outputs":
                self.write(f"{best} = {best} + {value};")
                return
            if step.word == "argmax_outputs":
                self.write(f"{number} = {value} > {best} ? ({scalar})({index}) : {number};")
            self.write(f"{best} = {value} > {best} ? {value} : {best};")

        self.loop(count, turn, start=1)
        return number if step.word == "argmax_outputs" else best


def function_text(signature: str, text: CudaText) -> str:
    """Return a device function with the statements of a text."""
    return "\n".join([f"DEVICE {signature} {{", *text.lines, "}"])


def _unsigned(operator: str) -> Callable[..., str]:
    """Return the renderer of an operator whose integer version wraps on overflow."""

    def written(step: Step, a: str, b: str) -> str:
        if step.dtype in _UNSIGNED:
            cast = _UNSIGNED[step.dtype]
            return f"({SCALARS[step.dtype]})(({cast}){a} {operator} ({cast}){b})"
        return f"{a} {operator} {b}"

    return written


def _plain(operator: str) -> Callable[..., str]:
    return lambda step, a, b: f"{a} {operator} {b}"


def _function(name: str) -> Callable[..., str]:
    """Return the renderer of a C function, whose name ends in f for float32."""
    return lambda step, *given: f"{name}{_SUFFIX[step.dtype]}({', '.join(given)})"


# From a word to an expression: of the step and the expressions of its arguments. Comparisons are those of C++, as
# LLVM's: what is not a number is unequal to everything, and neither less nor greater.
WORDS: dict[str, Callable[..., str]] = {
    "add": _unsigned("+"),
    "subtract": _unsigned("-"),
    "multiply": _unsigned("*"),
    "divide": _plain("/"),
    "negative": lambda step, x: f"-{x}",
    "less": _plain("<"),
    "less_equal": _plain("<="),
    "greater": _plain(">"),
    "greater_equal": _plain(">="),
    "equal": _plain("=="),
    "not_equal": _plain("!="),
    "where": lambda step, condition, a, b: f"{condition} ? {a} : {b}",
    "absolute": _function("fabs"),
    "sqrt": _function("sqrt"),
    "fma": _function("fma"),
    "ones_like": lambda step, x: literal(1.0, step.dtype),
    "power": lambda step, base, exponent: f"power({base}, (uint64){exponent})",
    "number": lambda step, count: f"({SCALARS[step.dtype]})({count})",
    "bits": lambda step, x: f"bits_of({x})",
    "from_bits": lambda step, x: f"number_of_bits({x})",
    "and": _unsigned("&"),
    "xor": _unsigned("^"),
    "shift_left": _unsigned("<<"),
    # Arithmetic where there is a sign.
    "shift_right": _plain(">>"),
}
