"""Every formula as a kernel of its own, to count fused multiply-adds in its machine code and in its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from pmlp_np.backends.cupy import cuda_text
from pmlp_np.backends.cupy.formulas_text import activation_text, constants_text, loss_text, rule_text, schedule_text
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.schedules import SCHEDULES

# Divisions and square roots become sequences of multiply-adds; a minimum, which is one instruction, stands for them.
_APART = """
DEVICE float apart(float a, const float b) { asm("min.f32 %0, %0, %1;" : "+f"(a) : "f"(b)); return a; }
DEVICE double apart(double a, const double b) { asm("min.f64 %0, %0, %1;" : "+d"(a) : "d"(b)); return a; }
"""
_STAND_INS = {"divide": lambda step, a, b: f"apart({a}, {b})", "sqrt": lambda step, x: f"apart({x}, {x})"}


@dataclass(frozen=True)
class Formula:
    """Functions of a text, and kernels that call them, by the names `NAME_0`, `NAME_1`, ..."""

    name: str
    text: str
    calls: tuple[str, ...]

    @property
    def kernels(self) -> list[str]:
        return [f"{self.name}_{i}" for i in range(len(self.calls))]

    def written(self) -> str:
        # A loop's body stands in the machine code once.
        text = self.text.replace("    for (", '    _Pragma("unroll 1") for (')
        kernels = [
            f'extern "C" __global__ void {name}(real* p, double* q, const int64 n) {{ {call} }}'
            for name, call in zip(self.kernels, self.calls, strict=True)
        ]
        return "\n".join([text, *kernels])

    def multiply_adds(self, single: bool) -> int:
        """How many the text has, of float32 or of float64, in statements that its results depend on."""
        return len(re.findall(r"\bfmaf\(" if single else r"\bfma\(", _live(self.text)))


def _live(text: str) -> str:
    """A text without the values that nothing uses: the compiler leaves them out."""
    functions = text.split("DEVICE ")
    for i, function in enumerate(functions):
        while unused := [
            line
            for line in function.splitlines()
            if (found := re.match(r"\s+const \w+ (t\d+) = ", line))
            and len(re.findall(rf"\b{found[1]}\b", function)) == 1
        ]:
            function = "\n".join(line for line in function.splitlines() if line not in unused)
        functions[i] = function
    return "DEVICE ".join(functions)


def _formulas(dtype: str) -> Iterator[Formula]:
    for name in ACTIVATIONS:
        call = f"activation_{name}::at(p[threadIdx.x], p[threadIdx.x + 1000], p[threadIdx.x + 2000]);"
        yield Formula(f"activation_of_{name}", activation_text(name, dtype), (call,))
    for name, loss in LOSSES.items():
        given = "p + threadIdx.x, 32, p + 1000, 32, n"
        calls = (
            f"p[5000] = {name}_train({given}, p[4000], p + 2000);",
            f"p[5000] = {name}_evaluate({given}, p[6000]);",
        )
        yield Formula(f"loss_{name}", loss_text(loss, dtype, name), calls)
    for name, rule in RULES.items():
        calls = (
            f"rule_{name}::scalars(q + threadIdx.x, n, p);",
            f"real slot[MOST_SLOTS]; for (int i = 0; i < {rule.slots}; ++i) slot[i] = p[i + 1000];"
            f" rule_{name}::update(p[threadIdx.x], p[2000], slot, p + 3000);"
            f" for (int i = 0; i < {rule.slots}; ++i) p[i + 1000] = slot[i];",
        )
        yield Formula(f"rule_of_{name}", rule_text(name, dtype), calls)
    for name in SCHEDULES:
        call = f"q[1000] = schedule_{name}(q + threadIdx.x, n, n + 1, n + 2, n + 3);"
        yield Formula(f"schedule_of_{name}", schedule_text(name), (call,))


def formulas(dtype: str) -> tuple[list[Formula], str]:
    """All of them, and one text with them all."""
    kept = dict(cuda_text.WORDS)
    cuda_text.WORDS.update(_STAND_INS)
    try:
        found = list(_formulas(dtype))
    finally:
        cuda_text.WORDS.update(kept)
    words = files("pmlp_np.backends.cupy").joinpath("kernels", "words.cuh").read_text(encoding="utf-8")
    return found, "\n".join([words, constants_text(dtype), _APART, *(formula.written() for formula in found)])
