"""Step lists as the CuPy backend renders them, as functions of arrays that g++ compiles: the text is C++ either way."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from pmlp_np.backends.cupy.cuda_text import SCALARS, CudaText
from pmlp_np.formulas.tracing import OUTPUT, RAW, ROW, StepList

WORDS = files("pmlp_np.backends.cupy").joinpath("kernels", "words.cuh")
HEAD = "#include <cmath>\n#define DEVICE inline\n" + WORDS.read_text(encoding="utf-8")


def function(name: str, steps: StepList) -> str:
    """void name(rows, n_raw, n_outputs, inputs, outputs): arrays (rows,) of extent ROW, else (outputs, rows)."""
    text = CudaText({OUTPUT: "n_outputs", RAW: "n_raw"})

    def given(i: int) -> Any:
        dtype, extent = steps.inputs[i].dtype, steps.inputs[i].extent
        at = f"((const {SCALARS[dtype]}*)in[{i}])"
        if extent == ROW:
            return text.let(f"{at}[r]", dtype)
        return lambda o: text.let(f"{at}[{o} * rows + r]", dtype)

    results = text.results(steps, *(given(i) for i in range(len(steps.inputs))))
    for j, result in enumerate(results):
        at = f"(({SCALARS[steps.value(steps.results[j]).dtype]}*)out[{j}])"  # type: ignore[arg-type]
        if callable(result):
            text.loop("n_outputs", lambda o, at=at, result=result: text.write(f"{at}[{o} * rows + r] = {result(o)};"))
        else:
            text.write(f"{at}[r] = {result};")
    head = f'extern "C" void {name}(int64 rows, int64 n_raw, int64 n_outputs, const void* const* in, void* const* out)'
    return "\n".join([head, "{", "for (int64 r = 0; r < rows; ++r) {", *text.lines, "}", "}"])
