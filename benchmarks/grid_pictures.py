"""The pictures of docs/benchmarks.md: seconds of every method in every cell, and the fraction of the limit reached."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from benchmarks.grid_cells import BATCHES, FEATURES, ROWS
from benchmarks.grid_figures import entries, time_of
from benchmarks.peers import LIBRARY, METHODS
from benchmarks.rendering import count, save_picture

# Colors that stay apart for the color-blind (Okabe and Ito), and marks that do without color.
LOOKS = {
    LIBRARY: ("#0072B2", "o"),
    "jax": ("#D55E00", "s"),
    "pytorch_fused": ("#009E73", "^"),
    "pytorch_sequential": ("#CC79A7", "v"),
    "pytorch_loader": ("#8C6D1F", "D"),
    "sklearn": ("#999999", "X"),
}
PLACES = [(f, b) for f in FEATURES for b in BATCHES]
GAP = 0.6  # between groups of equal features


def position(place: tuple[int, int]) -> float:
    return PLACES.index(place) + GAP * FEATURES.index(place[0])


def panels(n_rows: int, title: str, height: float) -> tuple[Any, list[Axes]]:
    """A figure with one panel for each number of rows, whose places across are batch sizes by features."""
    figure, axes = plt.subplots(1, n_rows, figsize=(13, height), sharey=True, layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left", fontweight="bold")
    for axis, rows in zip(axes, ROWS, strict=True):
        axis.set_title(f"{count(rows)} rows", fontsize=11)
        axis.set_xticks([position(p) for p in PLACES], [str(b) for _, b in PLACES], fontsize=7.5, rotation=90)
        for features in FEATURES:
            middle = position((features, BATCHES[1]))
            below = dict(xycoords=axis.get_xaxis_transform(), xytext=(0, -34), textcoords="offset points")
            axis.annotate(f"F={features}", (middle, 0), ha="center", fontsize=9, **below)
        axis.set_xlim(-0.8, position(PLACES[-1]) + 0.8)
        axis.set_xlabel("batch size, by number of features F", labelpad=20, fontsize=9)
        axis.grid(axis="y", color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def plain_seconds(value: float, _: Any = None) -> str:
    return f"{value:,.0f} s" if value >= 1 else f"{1000 * value:g} ms"


def draw_times(results: dict[str, Any]) -> Any:
    found = entries(results)
    title = "One epoch of the paper's 10,000 networks: the lower, the faster"
    figure, axes = panels(len(ROWS), title, 5.4)
    for axis, rows in zip(axes, ROWS, strict=True):
        here = [e for e in found if e["cell"]["n_rows"] == rows]
        for method, (color, mark) in LOOKS.items():
            for features in FEATURES:
                line = [
                    (position((features, e["cell"]["batch_size"])), t)
                    for e in here
                    if e["cell"]["n_features"] == features and (t := time_of(e, method)) is not None
                ]
                own = method == LIBRARY
                titled = features == FEATURES[0] and any(method in e["methods"] for e in found)
                axis.plot(
                    [x for x, _ in line], [t for _, t in line], color=color, marker=mark,
                    markersize=7 if own else 5, linewidth=2.4 if own else 1.1, zorder=3 if own else 2,
                    label=METHODS[method].title if titled else None,
                )  # fmt: skip
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(plain_seconds))
    axes[0].set_ylabel("seconds per epoch, logarithmic")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_limit(results: dict[str, Any]) -> Any:
    figure, axes = panels(len(ROWS), "How near pmlp_np comes to the machine's limit", 4.4)
    color = LOOKS[LIBRARY][0]
    for axis, rows in zip(axes, ROWS, strict=True):
        here = [e for e in entries(results) if e["cell"]["n_rows"] == rows]
        x = [position((e["cell"]["n_features"], e["cell"]["batch_size"])) for e in here]
        for kind, shade, label in (
            ("rounded_widths", "#BBD7EA", "widths rounded up to whole vectors"),
            ("true_widths", color, "true widths"),
        ):
            axis.bar(x, [e["limit_fraction"][kind] for e in here], color=shade, width=0.78, label=label)
        for place, entry in zip(x, here, strict=True):
            reached = entry["limit_fraction"]["true_widths"]
            axis.text(place, reached - 0.02, f"{100 * reached:.0f}", ha="center", va="top", color="white", fontsize=7.5)
        axis.set_ylim(0, 1)
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylabel("least time possible ÷ time taken")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw(results: dict[str, Any], pictures: dict[str, Path], source: Path) -> None:
    for name, make in {"paper_grid": draw_times, "paper_grid_limit": draw_limit}.items():
        pictures[name].parent.mkdir(parents=True, exist_ok=True)
        figure = make(results)
        save_picture(figure, pictures[name], source)
        plt.close(figure)
