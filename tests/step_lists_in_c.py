"""Step lists as C, one IEEE operation a line: a second language beside LLVM, by which the tests see that lists and
their rendering leave nothing to a language but tables. A GPU's text is much like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pmlp_np.formulas.rendering import Rendering
from pmlp_np.formulas.tracing import BITS_OF, OUTPUT, RAW, ROW, Constant, Step, StepList

TYPES = {"float32": "float", "float64": "double", "bool": "int", "int32": "int32_t", "int64": "int64_t",
         "uint64": "uint64_t"}  # fmt: skip
FLOAT_OF = {bits: dtype for dtype, bits in BITS_OF.items()}
HEAD = """#include <math.h>
#include <stdint.h>
#include <string.h>
static int32_t bits_of_float32(float x) { int32_t n; memcpy(&n, &x, 4); return n; }
static int64_t bits_of_float64(double x) { int64_t n; memcpy(&n, &x, 8); return n; }
static float float32_of_bits(int32_t n) { float x; memcpy(&x, &n, 4); return x; }
static double float64_of_bits(int64_t n) { double x; memcpy(&x, &n, 8); return x; }
#define POWER(T, NAME) static T NAME(T base, int64_t rest) { \\
    T result = 1; \\
    for (; rest; rest >>= 1) { if (rest & 1) result = result * base; base = base * base; } \\
    return result; }
POWER(float, power_of_float32)
POWER(double, power_of_float64)
"""
INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "equal": "==", "not_equal": "!=", "and": "&", "xor": "^", "shift_right": ">>",
}  # fmt: skip
CALLS = {"absolute": "fabs", "sqrt": "sqrt", "fma": "fma"}


def literal(value: Any, dtype: str) -> str:
    if dtype not in BITS_OF:
        return f"{int(value)}{'ull' if dtype == 'uint64' else 'll'}"
    number = np.dtype(dtype).type(value)
    if np.isnan(number):
        return "NAN"
    return f"({float(number).hex()}{'f' if dtype == 'float32' else ''})"


class InC:
    """The lines of a function's body: values are names of constants, or literals."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count_of_names = 0

    def name(self) -> str:
        self.count_of_names += 1
        return f"t{self.count_of_names}"

    def let(self, dtype: str, expression: str) -> str:
        name = self.name()
        self.lines.append(f"const {TYPES[dtype]} {name} = {expression};")
        return name

    def constant(self, constant: Constant, step: Step, known: list[Any]) -> str:
        return literal(constant.value, constant.dtype)

    def word(self, step: Step, given: list[Any]) -> str:
        word, dtype = step.word, step.dtype
        if word in INFIX:
            text = f"{given[0]} {INFIX[word]} {given[1]}"
        elif word in CALLS:
            text = f"{CALLS[word]}{'f' if dtype == 'float32' else ''}({', '.join(given)})"
        else:
            text = {
                "negative": "-{0}",
                "where": "{0} ? {1} : {2}",
                "ones_like": "1",
                "power": f"power_of_{dtype}({{0}}, {{1}})",
                "number": f"({TYPES[dtype]}){{0}}",
                "bits": f"bits_of_{FLOAT_OF.get(dtype)}({{0}})",
                "from_bits": f"{dtype}_of_bits({{0}})",
                # Of signed numbers it may overflow, which C leaves open.
                "shift_left": f"({TYPES[dtype]})((uint64_t){{0}} << {{1}})",
            }[word].format(*given)
        return self.let(dtype, text)

    def count(self, extent: str) -> str:
        return {OUTPUT: "n_outputs", RAW: "n_raw"}[extent]

    def number_of(self, index: str, step: Step) -> str:
        return self.let(step.dtype, f"({TYPES[step.dtype]}){index}")

    def head(self, index: str, heads: int, h: int) -> str:
        return self.let("int64", f"{index} * {heads} + {h}")

    def table(self, step: Step) -> str:
        name = self.name()
        numbers = ", ".join(literal(number, step.dtype) for number in step.parameters)
        self.lines.append(f"const {TYPES[step.dtype]} {name}[] = {{{numbers}}};")
        return name

    def from_table(self, table: str, index: str, step: Step) -> str:
        return self.let(step.dtype, f"{table}[{index}]")

    def reduced(self, step: Step, count: str, at: Callable[[str], Any]) -> str:
        word, best, index = step.word, self.name(), self.name()
        value = at(self.let("int64", "0"))
        self.lines.append(f"{TYPES[step.dtype]} {best} = {value}, {best}_place = 0;")
        self.lines.append(f"for (int64_t {index} = 1; {index} < {count}; ++{index}) {{")
        value = at(index)
        if word == "sum_outputs":
            self.lines.append(f"{best} = {best} + {value};")
        else:
            self.lines.append(f"if ({value} > {best}) {{ {best} = {value}; {best}_place = {index}; }}")
        self.lines.append("}")
        return f"{best}_place" if word == "argmax_outputs" else best


def function(name: str, steps: StepList) -> str:
    """void name(rows, n_raw, n_outputs, inputs, outputs): arrays (rows,) of extent ROW, else (outputs, rows)."""
    c = InC()

    def given(i: int) -> Any:
        type_, extent = TYPES[steps.inputs[i].dtype], steps.inputs[i].extent
        at = f"((const {type_}*)in[{i}])"
        if extent == ROW:
            return c.let(steps.inputs[i].dtype, f"{at}[r]")
        return lambda o: c.let(steps.inputs[i].dtype, f"{at}[{o} * rows + r]")

    results = Rendering(c, steps, tuple(given(i) for i in range(len(steps.inputs)))).results()
    for j, result in enumerate(results):
        at = f"(({TYPES[steps.value(steps.results[j]).dtype]}*)out[{j}])"  # type: ignore[arg-type]
        if not callable(result):
            c.lines.append(f"{at}[r] = {result};")
            continue
        index = c.name()
        c.lines.append(f"for (int64_t {index} = 0; {index} < n_outputs; ++{index}) {{")
        c.lines.append(f"{at}[{index} * rows + r] = {result(index)};")
        c.lines.append("}")
    head = f"void {name}(int64_t rows, int64_t n_raw, int64_t n_outputs, const void* const* in, void* const* out)"
    return "\n".join([head, "{", "for (int64_t r = 0; r < rows; ++r) {", *c.lines, "}", "}"])
