"""The pictures of docs/gpu.md: a thread block's memory, by the library's own plan, and the model on paper.

python -m benchmarks.gpu.pictures      # nothing is measured; needs no GPU
"""

import json
from typing import Any

import numpy as np

import pmlp_np as pm
from benchmarks.common import RESULTS
from benchmarks.kernels.pictures import GRADIENT, INK, INPUT, LINE, QUIET, SUM, TINT, WEIGHT, save

# Regions of a block's memory, by what they are.
KINDS = {
    "parameters": (WEIGHT, ("BLOCK", "SCALED_WEIGHTS")),
    "optimizer slots": ("#8a5a00", ("SLOTS",)),
    "gradient": (GRADIENT, ("GRADIENT",)),
    "activations": (SUM, ("UNITS",)),
    "their derivatives, then dz": (TINT[SUM], ("DERIVATIVES",)),
    "32 rows of features": (INPUT, ("FEATURES",)),
}
# Features, hidden layers, optimizer, rows of a minibatch.
MEMBERS = (
    (10, (50,), pm.SGD(), 32), (100, (50,), pm.SGD(), 32), (100, (100,), pm.SGD(), 32), (100, (100,), pm.SGD(), 256),
    (100, (100,), pm.Adam(), 32), (100, (100, 100), pm.SGD(), 32),
)  # fmt: skip
# Shared memory of a multiprocessor in KiB, as NVIDIA's programming guide has it.
MULTIPROCESSORS = {"RTX 4090": 100, "A100": 164, "H100": 228}


def regions_of(features: int, hidden: tuple[int, ...], optimizer: Any, batch_size: int) -> dict[str, int]:
    """Bytes of a member's regions in shared memory, by the backend's plan."""
    from benchmarks.gpu.paper_model import planned

    backend = planned([pm.Member(hidden=hidden, optimizer=optimizer)], features)
    start = backend._gradient_starts(np.array([batch_size]), np.array([1000]))
    return {name: int(sizes[0]) for name, sizes in backend._sizes(1, None, start).regions.items()}


def draw_block(figure: Any) -> None:
    """A bar of memory for each of some members, beside what multiprocessors have."""
    figure.set_size_inches(10.4, 4.6)
    axes = figure.add_axes((0.235, 0.14, 0.745, 0.66))
    for y, (features, hidden, optimizer, batch_size) in enumerate(MEMBERS):
        regions, left = regions_of(features, hidden, optimizer, batch_size), 0.0
        rest = sum(regions.values())
        for _, (color, names) in KINDS.items():
            size = sum(regions.get(name, 0) for name in names)
            axes.barh(y, size / 1024, left=left, height=0.62, color=color, linewidth=0)
            left, rest = left + size / 1024, rest - size
        axes.barh(y, rest / 1024, left=left, height=0.62, color=LINE, linewidth=0)
        total = left + rest / 1024
        axes.text(total + 1.5, y, f"{total:.0f} KB", va="center", fontsize=9.5, color=INK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
        units = " and ".join(map(str, hidden))
        name = f"{features} features, {units} units"
        axes.text(-0.015, y - 0.14, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
        how = f"{type(optimizer).__name__}, batch size {batch_size}"
        axes.text(-0.015, y + 0.2, how, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8.5,
                  color=QUIET)  # fmt: skip
    for name, size in MULTIPROCESSORS.items():
        axes.axvline(size, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.text(size, -0.72, name, ha="center", va="bottom", fontsize=9, color=QUIET)
    axes.set(xlim=(0, 240), ylim=(len(MEMBERS) - 0.5, -0.7), yticks=[], xlabel="shared memory, KB")
    axes.xaxis.label.set_color(QUIET)
    axes.tick_params(color=LINE, labelcolor=QUIET)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.text(0.012, 0.93, "What a thread block keeps of its member, beside what a multiprocessor has", fontsize=12.5,
                fontweight="bold")  # fmt: skip
    for name, (color, _) in [*KINDS.items(), ("other", (LINE, ()))]:
        axes.barh(0, 0, color=color, label=name)
    figure.legend(loc="upper left", bbox_to_anchor=(0.003, 0.925), ncols=7, frameon=False, fontsize=8.8,
                  handlelength=1.0, handletextpad=0.4, columnspacing=1.1)  # fmt: skip


def draw_model(figure: Any) -> None:
    """Of each GPU and number of features, what bounds an epoch, as a share of the model's time."""
    found = json.loads((RESULTS / "gpu" / "paper_model.json").read_text("utf-8"))
    figure.set_size_inches(10.4, 3.9)
    gpus = [gpu["name"] for gpu in found["gpus"]]
    figure.text(0.012, 0.92, "The paper's pool on three GPUs: a model on paper, nothing of it measured", fontsize=12.5,
                fontweight="bold")  # fmt: skip
    for i, gpu in enumerate(gpus):
        axes = figure.add_axes((0.06 + 0.32 * i, 0.17, 0.27, 0.58))
        cells = [cell for cell in found["results"] if cell["gpu"] == gpu and cell["rule"] == "sgd"]
        for x, cell in enumerate(cells):
            axes.bar(x, cell["milliseconds"], color=TINT[INPUT], width=0.66, linewidth=0)
            axes.bar(x, cell["fma_milliseconds"], color=INPUT, width=0.66, linewidth=0)
            axes.text(x, cell["milliseconds"], f"{cell['milliseconds']:.1f} ms\n{cell['of_peak']:.0%}", ha="center",
                      va="bottom", fontsize=9)  # fmt: skip
        axes.set(xticks=range(len(cells)), xticklabels=[str(cell["features"]) for cell in cells], xlabel="features",
                 ylim=(0, 1.3 * max(cell["milliseconds"] for cell in cells)), yticks=[])  # fmt: skip
        axes.set_title(gpu, fontsize=10.5, fontweight="bold", color=INK, loc="left")
        axes.xaxis.label.set_color(QUIET)
        axes.tick_params(color=LINE, labelcolor=QUIET)
        axes.spines[["top", "right", "left"]].set_visible(False)
    legend = figure.add_axes((0.06, 0.84, 0.9, 0.05))
    legend.set_axis_off()
    legend.bar(0, 0, color=TINT[INPUT], label="an epoch of 10,000 members, 1,000 rows")
    legend.bar(
        0, 0, color=INPUT, label="its multiply-adds alone at the card's peak, and what share of the time that is"
    )
    legend.legend(loc="center left", ncols=2, frameon=False, fontsize=9.5, borderaxespad=0, handlelength=1.2)


PICTURES = {"gpu_block": draw_block, "gpu_model": draw_model}


if __name__ == "__main__":
    save(PICTURES)
