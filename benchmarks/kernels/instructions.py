"""What a pass's compiled code consists of: sorts of instructions in its innermost loops.

    python -m benchmarks.kernels.instructions layer_train:relu outputs

The code is that of the processor it runs on. A loop's row counts one turn of it, which LLVM may have unrolled. An
arithmetic instruction that reads memory counts twice: as arithmetic and as a load or broadcast. Spills are vectors that
wait on the stack because registers ran out. Moves between registers count as shuffles; arithmetic on a single lane as
scalar, beside integers and branches.
"""

import argparse
import re
from typing import NamedTuple

from numba import cfunc, types

from pmlp_np.backends.numba.compiling import _emit

COLUMNS = ("instructions", "multiply-adds", "arithmetic", "loads", "broadcasts", "stores", "shuffles", "scalar",
           "spills", "registers")  # fmt: skip
_VECTOR = re.compile(r"%[xyz]mm(\d+)")
_SHUFFLE = re.compile(r"v(p?broadcast|perm|pshuf|shuf|p?unpck|extract|insert|p?align|mov[hl]|mov\wdup|p?compress)")
_ONE_LANE = re.compile(r"v(?!p?broadcast)\w+(ss|sd)(2\w+)?$|vmov[dq]$|vcvt\w*2[su]si")


class Block(NamedTuple):
    """Instructions that run one after another, and the blocks that may run next."""

    label: str
    instructions: list[str]
    following: set[int]


def basic_blocks(assembly: str) -> list[Block]:
    """The blocks of the first function that has any, up to its end."""
    parts: list[tuple[str, list[str]]] = []
    for line in assembly.splitlines():
        text = line.split("#")[0].strip()
        if text.startswith(".size") and any(code for _, code in parts):
            break
        if text.endswith(":"):
            parts.append((text[:-1], []))
        elif text and not text.startswith(".") and parts:
            parts[-1][1].append(text)
            if text.startswith("j"):
                parts.append(("", []))
    while not parts[0][1]:  # labels of constants
        del parts[0]
    place = {label: i for i, (label, _) in enumerate(parts) if label}
    blocks = []
    for i, (label, code) in enumerate(parts):
        last = code[-1].split() if code else [""]
        following = {place[last[1]]} if last[0].startswith("j") and last[1] in place else set()
        if not last[0].startswith(("jmp", "ret")) and i + 1 < len(parts):
            following.add(i + 1)
        blocks.append(Block(label, code, following))
    return blocks


def loops(blocks: list[Block]) -> dict[int, set[int]]:
    """The blocks of each loop, by its first. Text order is no guide to them: a branch backward may leave a loop."""
    back: list[tuple[int, int]] = []
    before: dict[int, set[int]] = {}  # of the blocks that can be reached

    def visit(i: int, way: tuple[int, ...]) -> None:
        for j in blocks[i].following:
            reached = j in before
            before.setdefault(j, set()).add(i)
            if j in way:
                back.append((i, j))
            elif not reached:
                visit(j, (*way, j))

    visit(0, (0,))
    found: dict[int, set[int]] = {}
    for last, first in back:
        inside, ahead = found.setdefault(first, {first}), [last]
        while ahead:
            j = ahead.pop()
            if j not in inside:
                inside.add(j)
                ahead += before.get(j, ())
    return found


def mix(instructions: list[str]) -> dict[str, int]:
    """How many instructions there are of each sort."""
    found = dict.fromkeys(COLUMNS, 0) | {"instructions": len(instructions)}
    registers: set[str] = set()
    for instruction in instructions:
        name, operands = (instruction.split(None, 1) + [""])[:2]
        if not name.startswith("v") or not _VECTOR.search(operands) or _ONE_LANE.match(name):
            found["scalar"] += 1
            continue
        registers |= set(_VECTOR.findall(operands))
        stored = re.search(r"\)( ?\{%k\d\})?$", operands) is not None  # operands end with the target
        read = "(" in operands and not stored
        copied = read and ("broadcast" in name or "{1to" in operands)
        for sort, one in (("spills", "(%rsp" in operands), ("stores", stored), ("broadcasts", copied),
                          ("loads", read and not copied)):  # fmt: skip
            found[sort] += one
        if re.match(r"vfn?m(add|sub)\d", name):
            found["multiply-adds"] += 1
        elif not name.startswith("vmov") and not _SHUFFLE.match(name):
            found["arithmetic"] += 1
        else:
            found["shuffles"] += not (read or stored) or not name.startswith(("vmov", "vbroadcast", "vpbroadcast"))
    return found | {"registers": len(registers)}


def report(assembly: str, every: bool = False) -> list[tuple[str, dict[str, int]]]:
    """Innermost loops (or every loop, beside those inside it) with vectors, most multiply-adds first; then all code."""
    blocks = basic_blocks(assembly)
    found = loops(blocks)
    rows = []
    for first, inside in found.items():
        inner = set().union(*(found[other] for other in (found.keys() - {first}) & inside))
        own = mix([line for i in inside - inner for line in blocks[i].instructions])
        if own["registers"] and (every or not inner):
            rows.append((blocks[first].label, own))
    rows.sort(key=lambda row: (-row[1]["multiply-adds"], -row[1]["instructions"]))
    return [*rows, ("whole pass", mix([line for block in blocks for line in block.instructions]))]


def table(rows: list[tuple[str, dict[str, int]]]) -> str:
    lines = [f"{'loop':10}" + "".join(f"{name:>{len(name) + 2}}" for name in COLUMNS)]
    for label, found in rows:
        lines.append(f"{label:10}" + "".join(f"{found[name]:{len(name) + 2}}" for name in COLUMNS))
    return "\n".join(lines)


def assembly_of(kind: str, name: str) -> str:
    """The assembly of a pass, compiled as for a fit, but never from the cache: what is kept there has lost it."""
    key = f"{kind}/{name}"
    function = cfunc(types.void(types.int64))(lambda block: _emit(key, block))
    return str(function._library.get_asm_str())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("passes", nargs="+", metavar="PASS")
    parser.add_argument("--kind", choices=["float32", "float64"], default="float32")
    parser.add_argument("--every", action="store_true", help="outer loops, too: what each does beside those inside it")
    options = parser.parse_args()
    for name in options.passes:
        print(f"{name}, {options.kind}\n{table(report(assembly_of(options.kind, name), options.every))}\n")


if __name__ == "__main__":
    main()
