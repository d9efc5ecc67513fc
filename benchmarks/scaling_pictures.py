"""The pictures of docs/scaling.md, from committed results alone: what was measured, beside what would be ideal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.rendering import save_picture

OURS, OTHER, IDEAL = "#1f5fa8", "#e07b39", "#8a8f98"
FLAT = 0.15  # the band around flat curves that counts as flat
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#555b63",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "legend.fontsize": 8,
}
LINE: dict[str, Any] = {"marker": "o", "markersize": 4.5, "linewidth": 1.8}
Cells = list[dict[str, Any]]


def column(cells: Cells, name: str) -> list[float]:
    return [cell[name] for cell in cells]


def whole(value: float, _: Any = None) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _logarithmic(axes: Any, ticks: list[float], words: Callable[..., str] = whole) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(words))


def _flat(axes: Any, values: list[float]) -> None:
    """A level line through the middle of the values, and the band that counts as flat."""
    level = sorted(values)[len(values) // 2]
    axes.axhspan(level * (1 - FLAT / 2), level * (1 + FLAT / 2), color=IDEAL, alpha=0.16, linewidth=0)
    axes.axhline(level, color=IDEAL, linestyle="--", linewidth=1, label="flat, within 15 %")
    axes.set_ylim(0, max(1.5 * level, 1.15 * max(values)))


def _members(axes: Any, cells: Cells) -> None:
    values = column(cells, "ns_per_member_sample")
    _flat(axes, values)
    axes.plot(column(cells, "n_members"), values, color=OURS, **LINE)
    _logarithmic(axes, column(cells, "n_members"))
    axes.set(title="Members", xlabel="members in the pool", ylabel="ns per member and row")


def _rows(axes: Any, cells: Cells) -> None:
    _flat(axes, [c["ns_per_member_sample"] for c in cells if c["shuffle"] is None])
    for shuffle, label, color in ((None, "rows as they lie", OURS), ("shared", "shuffled each epoch", OTHER)):
        chosen = [cell for cell in cells if cell["shuffle"] == shuffle]
        axes.plot(column(chosen, "n_rows"), column(chosen, "ns_per_member_sample"), color=color, label=label, **LINE)
    axes.set_ylim(0, 1.25 * max(column(cells, "ns_per_member_sample")))
    _logarithmic(axes, sorted({*column(cells, "n_rows")}))
    axes.set(title="Rows, from a memory-mapped file", xlabel="rows", ylabel="ns per member and row")


def _threads(axes: Any, cells: Cells) -> None:
    counts = column(cells, "n_threads")
    axes.plot([0, counts[-1]], [0, counts[-1]], color=IDEAL, linestyle="--", linewidth=1, label="proportional")
    axes.plot(counts, [cells[0]["median"] / c["median"] for c in cells], color=OURS, **LINE)
    axes.set_xticks(counts)
    axes.set(title="Threads", xlabel="threads", ylabel="times as fast as one", xlim=(0, 1.08 * counts[-1]))
    axes.set_ylim(0, 1.15 * counts[-1])


def _beside_limit(axes: Any, cells: Cells, name: str) -> None:
    axes.plot(column(cells, name), column(cells, "limit_ns_per_member_sample"), color=IDEAL, linestyle="--",
              linewidth=1, label="the machine's limit")  # fmt: skip
    axes.plot(column(cells, name), column(cells, "ns_per_member_sample"), color=OURS, **LINE)


def _depth(axes: Any, cells: Cells) -> None:
    _beside_limit(axes, cells, "depth")
    axes.set_xticks(column(cells, "depth"))
    axes.set_ylim(bottom=0)
    axes.set(title="Depth", xlabel="hidden layers", ylabel="ns per member and row")


def _outputs(axes: Any, cells: Cells) -> None:
    _beside_limit(axes, cells, "n_outputs")
    _logarithmic(axes, column(cells, "n_outputs"))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(whole))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(title="Outputs", xlabel="outputs", ylabel="ns per member and row")


def _width(axes: Any, cells: Cells) -> None:
    for n, color in zip(sorted({*column(cells, "n_members")}), (OURS, OTHER), strict=False):
        chosen = [cell for cell in cells if cell["n_members"] == n]
        axes.axhline(chosen[0]["peak_gflops"], color=color, linestyle="--", linewidth=1, alpha=0.7)
        label = "one member" if n == 1 else f"{n} members on {n} cores"
        axes.plot(column(chosen, "width"), column(chosen, "gflops"), color=color, label=label, **LINE)
    axes.plot([], [], color=IDEAL, linestyle="--", linewidth=1, label="peak of multiply-adds")
    _logarithmic(axes, sorted({*column(cells, "width")})[::2], lambda value, _: f"{value:,.0f}")
    axes.set_ylim(0, 1.35 * max(max(column(cells, "peak_gflops")), max(column(cells, "gflops"))))
    axes.set(title="Width, two hidden layers", xlabel="width", ylabel="GFLOP/s")


PANELS: dict[str, Callable[[Any, Cells], None]] = {
    "members": _members,
    "rows": _rows,
    "threads": _threads,
    "depth": _depth,
    "outputs": _outputs,
    "width": _width,
}


def draw_scaling(parts: dict[str, Any], path: Path, results: Path) -> None:
    """Six panels, each with what would be ideal as a dashed line."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 6), layout="constrained")
        for axes, (name, panel) in zip(figure.subplots(2, 3).flat, PANELS.items(), strict=True):
            if name in parts:
                panel(axes, parts[name]["cells"])
                axes.legend(loc="best")
        save_picture(figure, path, results)


METHODS = (("pool", "pmlp_np", OURS), ("onnxruntime", "ONNX Runtime", "#c94f7c"), ("pytorch", "PyTorch", OTHER),
           ("sklearn", "scikit-learn", "#7a6fb0"))  # fmt: skip


def _microseconds_of_a_member(cell: dict[str, Any], method: str) -> float | None:
    if method == "pool":
        return 1e6 * cell["own"]["seconds"]["pool"] / cell["n_members"]
    entry = cell["others"].get(method)
    return 1e6 * entry["seconds_of_one"] if entry and entry["agrees"] else None


def draw_inference(results: dict[str, Any], path: Path, source: Path) -> None:
    """Microseconds per member when all members predict, a panel for each number of rows."""
    cells = results["cells"]
    row_counts = sorted({cell["n_rows"] for cell in cells})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, n_rows in zip(figure.subplots(1, len(row_counts), squeeze=False).flat, row_counts, strict=True):
            chosen = [cell for cell in cells if cell["n_rows"] == n_rows]
            for m, (method, label, color) in enumerate(METHODS):
                for i, cell in enumerate(chosen):
                    value = _microseconds_of_a_member(cell, method)
                    if value is not None:
                        place = i + (m - 1.5) * 0.2
                        axes.bar(place, value, 0.19, color=color, label=label if i == 0 else None)
                        text = f"{value:.2g}" if value < 100 else f"{value:.0f}"
                        axes.text(place, 1.06 * value, text, ha="center", va="bottom", fontsize=8)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(whole))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_xticks(range(len(chosen)), [f"{cell['n_features']} features" for cell in chosen])
            axes.grid(visible=False, axis="x")
            axes.margins(y=0.12)
            rows = f"{n_rows:,} row{'s' * (n_rows != 1)}"
            axes.set(title=f"{chosen[0]['n_members']:,} members predict {rows}", ylabel="µs per member")
        figure.axes[0].legend(loc="upper left", ncols=2)
        figure.axes[0].set_ylim(top=4 * figure.axes[0].get_ylim()[1])
        save_picture(figure, path, source)
