"""What an epoch of the paper's pool would take on three GPUs: a model on paper, not a measurement.

    python -m benchmarks.gpu.paper_model        # writes results/gpu/paper_model.json and .md

Needs NVIDIA's compiler (see machine_code.py), no GPU. For each launch of an epoch the library's own plan says which
members it trains, on how many threads and with how much shared memory; the machine code says how many registers a
thread has, and how many instructions there are in a turn of a product's loop, around it for each tile, and in an
activation. What other passes take is estimated (ESTIMATES). A multiprocessor then needs at least the longest of five
times:

    issue    warp instructions, of which it issues four each clock
    fma      fused multiply-adds, by its lanes for them
    shared   passes through shared memory, one each clock; a load of 16 bytes takes two, as neighbors share addresses
    latency  the longest chain of each chunk of rows, over the members that are resident at once

    cache    rows, and slots that have no place in shared memory, to and from the second-level cache

Left out are what instructions wait for beside these five, caches, uneven ends of launches, and the host.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import ACTIVATIONS, RESULTS, paper_architectures
from benchmarks.gpu.machine_code import (
    MULTIPLY_ADDS,
    compiled_kernels,
    counts,
    disassembled,
    kernel_text,
    loops,
    product_loops,
    usages,
)
from benchmarks.gpu.nvrtc import compiled, version
from pmlp_np.backends.cupy.backend import CupyBackend
from pmlp_np.backends.cupy.device import COMPILER_OPTIONS, Device
from pmlp_np.backends.cupy.formulas_text import activation_text, constants_text
from pmlp_np.backends.cupy.launch_job import REGIONS
from pmlp_np.backends.cupy.program_text import MIXED, SHARED, train_kernel

ROWS, CHUNK = 1000, 32
# Features and rule of each cell.
CELLS = tuple((features, "sgd") for features in (5, 10, 50, 100)) + ((10, "adam"), (100, "adam"))
TILE_ROWS, TILE_UNITS, LANES = 4, 8, 16


@dataclass(frozen=True)
class Gpu:
    """Datasheet figures. lanes: for FP32 multiply-adds of a multiprocessor; clock: boost, in Hz. shared: bytes of a
    multiprocessor, of which each block takes `reserved` for itself; block_shared: the most that a block may have.
    cache: bytes a second of the second-level cache, about what others have measured."""

    name: str
    architecture: str
    multiprocessors: int
    clock: float
    lanes: int
    shared: int
    block_shared: int
    threads: int
    blocks: int
    cache: float
    registers: int = 65_536
    reserved: int = 1024

    @property
    def peak(self) -> float:
        """Multiply-adds a second."""
        return self.multiprocessors * self.lanes * self.clock


GPUS = (
    Gpu("A100 SXM", "sm_80", 108, 1.41e9, 64, 164 * 1024, 163 * 1024, 2048, 32, 4.5e12),
    Gpu("H100 SXM", "sm_90", 132, 1.755e9, 128, 228 * 1024, 227 * 1024, 2048, 32, 5.5e12),
    Gpu("RTX 4090", "sm_89", 128, 2.52e9, 128, 100 * 1024, 99 * 1024, 1536, 24, 5.0e12),
)

# Warp instructions, estimated from the text of the passes.
ESTIMATES = {
    "units of four outputs": 12,  # per LANES units: five loads, four multiply-adds, the loop
    "four outputs": 50,  # their folds, biases and stores
    "loss": 220,  # of the first warp
    "row of output_backward": 10,  # dz and its sum, then the gradient by output weights
    "rows that are fetched": 24,  # by a warp at a time: places in the order, addresses
    "numbers of rows": 5,  # 16 bytes of each thread
    "minibatch": 150,  # of each warp: what it does, steps of biases
    "barriers": 90,  # of each warp: nine
}
# Clocks of latency in a chunk's longest chain that its instructions do not fill.
WAITS = {"turn of an activation": 60, "outputs": 120, "loss": 400, "barriers": 360, "rows from global memory": 800}


class _Planned(CupyBackend):
    """The backend, to ask for its plans."""

    gpu = GPUS[0]

    def _open(self) -> Device:
        gpu = self.gpu

        class Stated:
            xp, shared_bytes, processors, operations_per_second = np, gpu.block_shared, gpu.multiprocessors, 1e12
            processor_shared_bytes = gpu.shared

        return Stated()  # type: ignore[return-value]


def planned(specs: list[pm.Member], features: int, gpu: Gpu = GPUS[0]) -> CupyBackend:
    """The backend of a pool of these members, as it would be on a GPU."""
    _Planned.gpu = gpu
    return _Planned(pm.Pool(specs, features)._plan)


@dataclass(frozen=True)
class Code:
    """Of an architecture's machine code: registers of a thread, and instructions.

    forward, forward_end, backward: of eight steps of the layer's product, of four steps at its end, of eight rows of
    the weights' gradient. layer, gradient: around these, of each tile; of a gradient with the steps of its weights.
    turn: of four activations, beside the formula. activation: of each formula.
    """

    registers: int
    forward: int
    forward_end: int
    backward: int
    layer: int
    gradient: int
    turn: int
    activation: Mapping[str, int]


# The two passes of products by themselves, on shared memory, for a tile's instructions around its loops.
_ALONE = """
extern "C" __global__ void __launch_bounds__(256, 2) layer_alone(const int x, const int x_pitch, const int w,
        const int stride, const int start, const int fan_in, const int width, const int a, const int d, const int pitch,
        const Across across) {
    DYNAMIC_SHARED(shared);
    real* const s = reinterpret_cast<real*>(shared);
    layer(s + x, x_pitch, s + w, stride, s + start, fan_in, width, across, CHUNK, s + a, s + d, pitch, -1);
}
extern "C" __global__ void __launch_bounds__(256, 2) gradient_alone(const int x, const int x_pitch, const int dz,
        const int pitch, const int fan_in, const int width, const int w, const int stride, const int numbers,
        const int slots, const int slot_stride, const Across across) {
    DYNAMIC_SHARED(shared);
    real* const s = reinterpret_cast<real*>(shared);
    const Block block = {s, s, s + slots, slot_stride};
    weights_backward<rule_RULE>(s + x, x_pitch, s + dz, pitch, fan_in, width, across, CHUNK, true, true, block,
        w, stride, s + numbers);
}
"""


@cache
def code_of(architecture: str, memory: str = SHARED, rule: str = "sgd") -> Code:
    kernel = train_kernel(rule, memory)
    text = kernel_text([kernel], activations=ACTIVATIONS) + _ALONE.replace("RULE", rule)
    found = compiled_kernels(text, architecture)
    listing = disassembled(found.code)
    # In the order of the text: the training's layer, its end, the weights' gradient, then the validation's layer.
    forward, end, backward = (loop.total() for loop in product_loops(listing[kernel])[:3])
    layer, gradient, turn = (
        _around(listing["layer_alone"]),
        _around(listing["gradient_alone"]),
        _turn(listing["layer_alone"]),
    )
    return Code(usages(found.log)[kernel].registers, forward, end, backward, layer - turn, gradient, turn,
                _activations(architecture))  # fmt: skip


def _around(instructions: list[str]) -> int:
    """Instructions of a pass outside the loops of its product."""
    found = counts(instructions)
    return found.total() - found["NOP"] - sum(loop.total() for loop in product_loops(instructions))


def _turn(instructions: list[str]) -> int:
    """Instructions of the loop over activations, which has no multiply-adds here."""
    others = [found for found in map(counts, loops(instructions)) if not any(found[name] for name in MULTIPLY_ADDS)]
    return max(found.total() for found in others if found["STS.128"])


def _activations(architecture: str) -> dict[str, int]:
    words = (Path(pm.__file__).parent / "backends" / "cupy" / "kernels" / "words.cuh").read_text(encoding="utf-8")
    kernels = [
        f'extern "C" __global__ void of_{name}(real* p) {{'
        f" activation_{name}::at(p[threadIdx.x], p[threadIdx.x + 1024], p[threadIdx.x + 2048]); }}"
        for name in ACTIVATIONS
    ]
    parts = [words, constants_text("float32"), *(activation_text(name, "float32") for name in ACTIVATIONS), *kernels]
    code = disassembled(compiled("\n".join(parts), architecture, COMPILER_OPTIONS).code)
    # A kernel ends with instructions that never run, in whole groups; identity's are what all kernels have in common.
    total = {name: counts(code[f"of_{name}"]).total() - counts(code[f"of_{name}"])["NOP"] for name in ACTIVATIONS}
    return {name: max(total[name] - total["identity"], 0) for name in ACTIVATIONS}


def resident(gpu: Gpu, registers: int, threads: int, shared: int) -> int:
    """Thread blocks that a multiprocessor holds at once. Registers are given to warps by 256."""
    warps = threads // 32
    by_registers = gpu.registers // (-(-registers * 32 // 256) * 256) // warps
    by_shared = gpu.shared // (-(-(shared + gpu.reserved) // 128) * 128)
    return min(gpu.threads // threads, gpu.blocks, by_registers, by_shared)


def warp_rounds(rows: int, units: int, threads: int) -> tuple[int, int]:
    """How often a warp works on tiles of a product of so many rows and units, over all warps; and rounds of a warp."""
    across, down = -(-units // (2 * TILE_UNITS)), -(-rows // (2 * TILE_ROWS))
    number = np.arange(4 * across * down)
    quad = number // 4
    row = TILE_ROWS * (2 * (quad // across) + (number & 1))
    unit = TILE_UNITS * (2 * (quad % across) + (number >> 1 & 1))
    busy = (row < rows) & (unit < units)
    return len(np.unique(number[busy] // 32)), -(-len(number) // threads)


def chunk(code: Code, features: int, units: int, activation: str, threads: int) -> dict[str, float]:
    """A chunk of 32 rows of a member: warp instructions, those that are multiply-adds, passes through shared memory,
    and the longest chain in clocks."""
    e, warps = ESTIMATES, threads // 32
    eights, rest = divmod(features, 8)
    # A four that is not whole costs its loads and branches, and its steps.
    ends = -(-rest // 4) * (code.forward_end - 128) + 32 * rest
    product = eights * code.forward + ends
    turn = 4 * code.activation[activation] + code.turn
    layer = code.layer + product + 8 * turn
    gradient = code.gradient + CHUNK // 8 * code.backward
    forward, forward_rounds = warp_rounds(CHUNK, units, threads)
    backward, backward_rounds = warp_rounds(features, units, threads)
    dots = CHUNK // 4 * LANES // 32  # of a warp: two fours of rows at a time
    dot = -(-units // LANES) * e["units of four outputs"] + e["four outputs"]
    across = -(-units // 32)
    # As `fetch_rows` assigns rows to threads.
    each = next(count for count in (1, 2, 4, 8, 16, 32) if 4 * count >= features or count == 32)
    parts = {
        "layer": forward * layer,
        "outputs": dots * dot,
        "loss": e["loss"],
        "output_backward": across * (CHUNK * e["row of output_backward"] + 40),
        "weights_backward": backward * gradient,
        "rows": each * (e["rows that are fetched"] + e["numbers of rows"] * -(-features // (4 * each))),
        "rest": warps * (e["minibatch"] + e["barriers"]),
    }
    fma = forward * 32 * features + backward * 32 * CHUNK + 4 * dots * -(-units // LANES) + across * CHUNK
    shared = (
        forward * (6 * features + 16 + 8 * 12) + backward * (6 * CHUNK + 2 * 32) + dots * (5 * -(-units // LANES) + 4)
        + across * CHUNK * 7 + 4 * each * -(-features // (4 * each)) + warps * 60
    )  # fmt: skip
    w = WAITS
    latency = (
        forward_rounds * (layer + 8 * w["turn of an activation"]) + -(-dots // warps) * dot + w["outputs"] + w["loss"]
        + CHUNK * e["row of output_backward"] + backward_rounds * gradient + w["barriers"]
        + w["rows from global memory"] + e["minibatch"]
    )  # fmt: skip
    return {"issue": sum(parts.values()), "fma": fma, "shared": shared, "latency": latency}


def launches(gpu: Gpu, features: int, rule: str) -> list[dict[str, Any]]:
    """The launches of an epoch of the paper's pool, batch size 32, 1,000 rows, float32."""
    members = paper_architectures()
    optimizer = pm.SGD() if rule == "sgd" else pm.Adam()
    specs = [pm.Member(hidden=(units,), activation=name, optimizer=optimizer) for units, name in members]
    backend = planned(specs, features, gpu)
    found = []
    gradient_start = backend._gradient_starts(np.full(len(members), 32), np.full(len(members), ROWS))
    for launch in backend._launches(np.arange(len(members)), backend._sizes(1, None, gradient_start), by_rule=True):
        assert launch.rule == rule
        placement = launch.placement
        # Where not all that a member needs fits, the last regions are in the cache. That loads of both sorts take
        # longer is left out.
        memory = SHARED if placement.all_shared else MIXED
        code = code_of(gpu.architecture, memory, rule)
        blocks = resident(gpu, code.registers, launch.threads, placement.shared_bytes)
        some = [members[m] for m in launch.members.tolist()]
        kinds = {kind: some.count(kind) for kind in dict.fromkeys(some)}
        total = dict.fromkeys(("issue", "fma", "shared", "latency"), 0.0)
        for (units, name), count in kinds.items():
            for key, value in chunk(code, features, units, name, launch.threads).items():
                total[key] += count * value * ROWS / CHUNK
        clocks = {
            "issue": total["issue"] / 4, "fma": total["fma"] * 32 / gpu.lanes, "shared": total["shared"],
            "latency": total["latency"] / blocks,
        }  # fmt: skip
        milliseconds = {key: 1e3 * value / gpu.multiprocessors / gpu.clock for key, value in clocks.items()}
        # Of each chunk: its rows, and slots there and back, if they have no place in shared memory.
        numbers = CHUNK * features * len(some)
        if not placement.in_shared >> REGIONS.index("SLOTS") & 1:
            numbers += 2 * int(backend.store.slot_size[launch.members].sum())
        milliseconds["cache"] = 1e3 * 4 * numbers * ROWS / CHUNK / gpu.cache
        useful = ROWS * sum(2 * features * units + 3 * units for units, _ in some)
        bound = max(milliseconds, key=milliseconds.__getitem__)
        found.append({
            "memory": memory, "widths": [min(some)[0], max(some)[0]], "members": len(some),
            "threads": launch.threads, "registers": code.registers, "shared_bytes": placement.shared_bytes,
            "blocks": blocks, "warps": blocks * launch.threads // 32, "fma_share": total["fma"] / total["issue"],
            "milliseconds": milliseconds, "bound": bound,
            "of_peak": useful / gpu.peak / (1e-3 * milliseconds[bound]),
        })  # fmt: skip
    return found


def model() -> dict[str, Any]:
    """Everything, as the JSON has it."""
    results = []
    for gpu in GPUS:
        for features, rule in CELLS:
            groups = launches(gpu, features, rule)
            total = sum(group["milliseconds"][group["bound"]] for group in groups)
            peak = sum(group["of_peak"] * group["milliseconds"][group["bound"]] for group in groups)
            results.append({
                "gpu": gpu.name, "features": features, "rule": rule, "milliseconds": total, "fma_milliseconds": peak,
                "of_peak": peak / total, "launches": groups,
            })  # fmt: skip
    return {
        "what": "a model on paper; nothing of it was measured", "nvrtc": ".".join(map(str, version())),
        "pool": "the paper's: 10,000 members, 1 to 100 units, ten activations; 1,000 rows, batch size 32, float32",
        "gpus": [asdict(gpu) for gpu in GPUS], "code": {gpu.name: asdict(code_of(gpu.architecture)) for gpu in GPUS},
        "estimates": ESTIMATES, "waits": WAITS, "results": results,
    }  # fmt: skip


def tables(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# The paper's pool on GPUs: a model on paper", "",
        "**Not measured.** Written by `python -m benchmarks.gpu.paper_model`, whose first lines say what is counted and"
        f" what is left out; machine code of NVRTC {found['nvrtc']}. The pool is {found['pool']}.", "",
        "*Multiply-adds*: how long the pool's own would take at the card's peak. *Of peak*: what part of the predicted"
        " time that is.", "",
        "| GPU | features | optimizer | an epoch, ms | multiply-adds, ms | of peak |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for each in found["results"]:
        lines.append(
            f"| {each['gpu']} | {each['features']} | {each['rule']} | {each['milliseconds']:.2f} |"
            f" {each['fma_milliseconds']:.2f} | {each['of_peak']:.0%} |"
        )
    lines += [
        "", "By launch. *Resident*: blocks (one member each) and warps on a multiprocessor at once. *Instructions*:"
        " what part of them are multiply-adds. *Bound*: what takes longest. `*`: not all that members need fits into"
        " shared memory.", "",
        "| GPU | features | optimizer | units | members | threads | registers | shared memory, KB | resident |"
        " instructions | ms | bound | of peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for each in found["results"]:
        for group in each["launches"]:
            (least, most), star = group["widths"], " *" * (group["memory"] == MIXED)
            lines.append(
                f"| {each['gpu']} | {each['features']} | {each['rule']} | {least}–{most} | {group['members']:,} |"
                f" {group['threads']} | {group['registers']} | {group['shared_bytes'] / 1024:.1f}{star} |"
                f" {group['blocks']}, {group['warps']} |"
                f" {group['fma_share']:.0%} | {group['milliseconds'][group['bound']]:.2f} | {group['bound']} |"
                f" {group['of_peak']:.0%} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=RESULTS / "gpu", help="where JSON and tables are written")
    folder = parser.parse_args().folder
    found = json.loads(json.dumps(model()), parse_float=lambda text: float(f"{float(text):.4g}"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "paper_model.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "paper_model.md").write_text(tables(found), encoding="utf-8")
    print(tables(found))


if __name__ == "__main__":
    main()
