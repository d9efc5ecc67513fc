"""What kernels became: registers, spills and shared memory by ptxas's report, instructions and loops by nvdisasm.

    python -m benchmarks.gpu.machine_code train_sgd_shared train_adam_mixed --architectures sm_80,sm_90

Needs the wheels nvidia-cuda-nvrtc and nvidia-cuda-nvdisasm, no GPU. A loop's row counts one turn of it, which the
compiler may have unrolled: instructions, and what part of them are fused multiply-adds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pmlp_np as pm
from benchmarks.gpu.nvrtc import COMPILER, DISASSEMBLER, Compiled, compiled, file_of, version
from pmlp_np.backends.cupy.device import COMPILER_OPTIONS
from pmlp_np.backends.cupy.formulas_text import part_text, pool_text
from pmlp_np.backends.cupy.program_text import program_text
from pmlp_np.formulas.losses import LOSSES

MULTIPLY_ADDS = ("FFMA", "DFMA")
# Instructions on local memory, where spilled registers and arrays with computed indices are.
LOCAL = ("LDL", "STL")

_REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?",
    re.DOTALL,
)
_BRANCH = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel: registers of a thread, bytes of its stack and of what is spilled to it, bytes of
    static shared memory."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


def usages(log: str) -> dict[str, Usage]:
    """By kernel, of a compiler's log."""
    found = _REPORT.findall(log)
    return {
        name: Usage(int(registers), int(stack), int(stores), int(loads), int(shared or 0))
        for name, stack, stores, loads, registers, shared in found
    }


def disassembled(code: bytes) -> dict[str, list[str]]:
    """Instructions of each kernel in order, as text; labels between them end with a colon."""
    tool = file_of(DISASSEMBLER, "nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cubin"
        file.write_bytes(code)
        command = [str(tool), "--print-code", str(file)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in map(str.strip, listing.splitlines()):
        if section := re.fullmatch(r"\.text\.(\w+):", line):
            lines = found.setdefault(section[1], [])
        elif re.fullmatch(r"\.L_\w+:", line):
            lines.append(line)
        elif instruction := re.match(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            lines.append(instruction[1].strip())
    return found


def opcode(instruction: str) -> str:
    """FFMA, LDS.128: the operation, and how wide its memory access is."""
    words = instruction.replace("{", "").split()
    name, *suffixes = words[1 if words[0].startswith("@") else 0].split(".")
    return ".".join([name, *(suffix for suffix in suffixes if suffix in ("64", "128"))])


def counts(instructions: Iterable[str]) -> Counter[str]:
    """How many instructions there are of each operation."""
    return Counter(opcode(line) for line in instructions if not line.endswith(":"))


def share(found: Counter[str]) -> float:
    """What part of some instructions are multiply-adds."""
    return sum(found[name] for name in MULTIPLY_ADDS) / found.total()


def loops(instructions: Sequence[str]) -> list[list[str]]:
    """Innermost loops in order: from a label to the last branch back to it, with no such loop inside."""
    at = {line[:-1]: i for i, line in enumerate(instructions) if line.endswith(":")}
    ends: dict[int, int] = {}
    for i, line in enumerate(instructions):
        if (branch := _BRANCH.search(line)) and at.get(branch[1], i) < i:
            ends[at[branch[1]]] = i
    spans = sorted(ends.items())
    inner = [(a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]
    return [[line for line in instructions[a : b + 1] if not line.endswith(":")] for a, b in inner]


def product_loops(instructions: Sequence[str]) -> list[Counter[str]]:
    """The loops of matrix products, by their operations: of whole tiles, loaded 16 bytes at a time."""

    def is_product(found: Counter[str]) -> bool:
        wide = sum(n for name, n in found.items() if re.fullmatch(r"LD[SG]?\.128", name))
        return wide >= 8 and sum(found[name] for name in MULTIPLY_ADDS) >= 128

    return list(filter(is_product, map(counts, loops(instructions))))


def kernel_text(
    kernels: Sequence[str],
    dtype: str = "float32",
    loss: str = "squared_error",
    activations: Sequence[str] = pm.PAPER_ACTIVATIONS,
    schedules: Sequence[str] = (),
) -> str:
    """The text that a pool of these formulas has compiled for some kernels, by name."""
    rules = [name.removeprefix("train_").rsplit("_", 1)[0] for name in kernels if name.startswith("train_")]
    formulas = pool_text(LOSSES[loss], dtype, activations, rules, schedules)
    for name in kernels:
        if name.startswith("mean_"):
            formulas += part_text(LOSSES[loss], name.removeprefix("mean_"), dtype)
    return program_text(dtype, formulas, kernels)


def compiled_kernels(text: str, architecture: str, compiler: str = COMPILER) -> Compiled:
    """With the options by which the library compiles."""
    return compiled(text, architecture, COMPILER_OPTIONS, compiler)


def report(name: str, text: str, architecture: str) -> str:
    """A kernel on an architecture, in lines."""
    began = time.process_time()
    result = compiled_kernels(text, architecture)
    seconds = time.process_time() - began
    usage, instructions = usages(result.log)[name], disassembled(result.code)[name]
    lines = [
        f"{name} on {architecture}: {usage.registers} registers, {usage.stack} bytes of stack, "
        f"{usage.spill_stores} and {usage.spill_loads} spilled; {counts(instructions).total():,} instructions; "
        f"compiled in {seconds:.1f} s"
    ]
    for found in product_loops(instructions):
        others = ", ".join(f"{n} {op}" for op, n in found.most_common() if op not in MULTIPLY_ADDS)
        lines.append(f"    {found.total():5} in a turn, multiply-adds {share(found):.1%}; {others}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kernels", nargs="*", default=["train_sgd_shared"], metavar="KERNEL")
    parser.add_argument("--architectures", default="sm_75,sm_80,sm_90,sm_100")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    options = parser.parse_args()
    print(f"NVRTC {'.'.join(map(str, version()))}")
    for name in options.kernels:
        text = kernel_text([name], options.dtype)
        for architecture in options.architectures.split(","):
            print(report(name, text, architecture), flush=True)


if __name__ == "__main__":
    main()
