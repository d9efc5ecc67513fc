"""The pictures of docs/kernels.md: nothing is measured, and nothing but this file is needed to draw them anew.

python -m benchmarks.kernels.pictures
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.common import ROOT

IMAGES = ROOT / "docs" / "images"
# Okabe and Ito's colors, told apart by color-blind readers too; each with a light tint to fill with.
INPUT, WEIGHT, SUM, GRADIENT = "#0072b2", "#c77700", "#00805e", "#b0487f"
TINT = {INPUT: "#cfe5f3", WEIGHT: "#fbe3bd", SUM: "#c5e8dc", GRADIENT: "#f3d5e5"}
INK, QUIET, LINE, BAND = "#22262b", "#666d76", "#c9ced4", "#f5f6f8"
STYLE = {"font.size": 10, "text.color": INK, "axes.edgecolor": LINE, "font.family": "DejaVu Sans"}
LANES, FLOAT = 16, 4


def _box(axes: Any, x: float, y: float, width: float, height: float, color: str, fill: str = "", **how: Any) -> None:
    from matplotlib.patches import Rectangle

    style = {"linewidth": 0.8} | how
    axes.add_patch(Rectangle((x, y), width, height, edgecolor=color, facecolor=fill or "none", **style))


def _arrow(
    axes: Any, start: tuple[float, float], stop: tuple[float, float], color: str = QUIET, bend: float = 0
) -> None:
    how = {"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11,
           "connectionstyle": f"arc3,rad={bend}"}  # fmt: skip
    axes.annotate("", stop, start, arrowprops=how)


def _blank(figure: Any, width: float, height: float) -> Any:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def draw_tile(figure: Any) -> None:
    """Left: where a tile lies in x, W and the result. Right: what is in registers during one turn."""
    figure.set_size_inches(10.4, 5.6)
    axes = _blank(figure, 104, 56)
    rows, features, vectors, tall, r0, v0, k0 = 32, 10, 7, 0.92, 8, 2, 4
    # x at the left of the result, W above it.
    left, top, cell, vector = 16.5, 19.5, 0.92, 2.5
    x_left, w_top = left - 2.2 - features * cell, top - 2.2 - features * cell
    axes.text(2, 3.2, "Where a tile lies", fontsize=12.5, fontweight="bold")
    _box(axes, x_left, top, features * cell, rows * tall, LINE, BAND)
    _box(axes, x_left, top + r0 * tall, features * cell, 8 * tall, INPUT, TINT[INPUT])
    _box(axes, x_left + k0 * cell, top + r0 * tall, cell, 8 * tall, INPUT, INPUT)
    _box(axes, left, w_top, vectors * vector, features * cell, LINE, BAND)
    _box(axes, left + v0 * vector, w_top, 2 * vector, features * cell, WEIGHT, TINT[WEIGHT])
    _box(axes, left + v0 * vector, w_top + k0 * cell, 2 * vector, cell, WEIGHT, WEIGHT)
    for v in range(vectors):
        for r in range(0, rows, 8):
            _box(axes, left + v * vector, top + r * tall, vector, 8 * tall, LINE, BAND, linewidth=0.6)
    _box(axes, left + v0 * vector, top + r0 * tall, 2 * vector, 8 * tall, SUM, TINT[SUM], linewidth=1.4)
    axes.text(x_left + features * cell / 2, top + rows * tall + 2.2, "x: 32 rows,\n10 inputs", ha="center", va="top")
    axes.text(left - 1, w_top + features * cell / 2, "W: 10 inputs,\n7 vectors\nof 16 units", ha="right", va="center")
    axes.text(
        left + vectors * vector / 2, top + rows * tall + 2.2, "activations and\nderivatives", ha="center", va="top"
    )

    # The tile, enlarged.
    left, top, lane, tall, gap = 57.5, 16.5, 1.34, 2.65, 1.2
    wide = LANES * lane
    axes.text(47, 3.2, "One turn of its loop, all of it in registers", fontsize=12.5, fontweight="bold")
    for v in range(2):
        at = left + v * (wide + gap)
        _box(axes, at, top - 6.4, wide, tall, WEIGHT, TINT[WEIGHT])
        for i in range(1, LANES):
            axes.plot([at + i * lane] * 2, [top - 6.4, top - 6.4 + tall], color="white", linewidth=0.8)
        _arrow(axes, (at + wide / 2, top - 3.3), (at + wide / 2, top - 0.5), WEIGHT)
        for r in range(8):
            _box(axes, at, top + r * tall, wide, tall - 0.5, SUM, TINT[SUM])
            for i in range(1, LANES):
                axes.plot(
                    [at + i * lane] * 2, [top + r * tall + 0.1, top + (r + 1) * tall - 0.6], color="white", lw=0.8
                )
    for r in range(8):
        _box(axes, left - 5, top + r * tall, 2.1, tall - 0.5, INPUT, TINT[INPUT])
        _arrow(axes, (left - 2.6, top + (r + 0.4) * tall), (left - 0.5, top + (r + 0.4) * tall), INPUT)
    axes.text(left + wide + gap / 2, top - 8.6, "row k of the strip: 2 vectors, loaded once for 8 rows", color=WEIGHT,
              ha="center", va="center")  # fmt: skip
    inputs = "input k of 8 rows,\neach broadcast\nto 16 lanes"
    axes.text(left - 6, top + 4 * tall - 0.2, inputs, rotation=90, color=INPUT, ha="right", va="center", ma="center")
    sums = "16 vectors of sums:   sum[row, unit] += x[row, k] · W[k, unit]"
    axes.text(left + wide + gap / 2, top + 8 * tall + 1.4, sums, color=SUM, ha="center", va="center")
    _box(axes, 47, 43.2, 55, 10.6, LINE, BAND)
    for i, (what, of) in enumerate((
        ("a turn", "2 loads, 8 broadcasts, 16 multiply-adds"),
        ("registers", "16 sums + 2 weights + inputs on their way, of 32"),
        ("after the last turn", "the activation and its derivative are computed"),
        ("", "from the sums and stored: sums never reach memory"),
    )):  # fmt: skip
        axes.text(49, 45.3 + 2.35 * i, what, va="center", fontweight="bold", fontsize=9.5)
        axes.text(63.5, 45.3 + 2.35 * i, of, va="center", fontsize=9.5)


class Held(NamedTuple):
    """Something in memory while a member of one hidden layer of 100 units trains: bytes at 10 and at 100 features."""

    level: str
    name: str
    at_10: int
    at_100: int


def held(rows: int = 32, width: int = 112, n_rows: int = 1000) -> list[Held]:
    """What is where, nearest first, of a minibatch of one row block; `width` is padded."""

    def bytes_of(level: str, name: str, elements: Any) -> Held:
        return Held(level, name, FLOAT * elements(10), FLOAT * elements(100))

    return [
        bytes_of("registers", "a tile's sums", lambda f: 8 * 2 * LANES),
        bytes_of("registers", "two vectors of weights, an input", lambda f: 3 * LANES),
        bytes_of("L1", "the strip of W under way", lambda f: f * 2 * LANES),
        bytes_of("L1", "x of the row block", lambda f: rows * f),
        bytes_of("L1", "raw outputs, their gradient and targets", lambda f: 3 * rows),
        bytes_of("L1", "activations and derivatives", lambda f: 2 * rows * width),
        bytes_of("L2", "W, strip after strip", lambda f: f * width),
        bytes_of("L3", f"X, {n_rows:,} rows", lambda f: n_rows * f),
    ]


def _bytes(number: float, _: Any = None) -> str:
    for size, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g} B"


def draw_memory(figure: Any) -> None:
    """Bytes on a logarithmic axis, grouped by where they are, beside what that level holds."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure.set_size_inches(10.4, 4.9)
    axes = figure.add_axes((0.265, 0.12, 0.715, 0.76))
    entries = held()
    levels = {"registers": (2048, 2048), "L1": (32 << 10, 48 << 10), "L2": (1 << 20, 2 << 20), "L3": (32 << 20,) * 2}
    last = 480e6
    y = 0.0
    for n, (level, (least, most)) in enumerate(levels.items()):
        mine = [entry for entry in entries if entry.level == level]
        top, bottom = y - 0.5, y + len(mine) - 0.5
        axes.axhspan(top, bottom, color=BAND if n % 2 == 0 else "white", zorder=0, linewidth=0)
        axes.fill_betweenx([top, bottom], least, last, color="#dfe2e6", zorder=1, linewidth=0)
        if most > least:
            axes.fill_betweenx([top, bottom], least, most, color="#eceef1", zorder=1, linewidth=0)
        axes.text(-0.355, (top + bottom) / 2, level, transform=axes.get_yaxis_transform(), fontweight="bold",
                  fontsize=11, va="center")  # fmt: skip
        axes.text(most * 1.25, (top + bottom) / 2, "more than fits", color=QUIET, fontsize=8.5, va="center")
        for entry in mine:
            axes.text(-0.015, y, entry.name, transform=axes.get_yaxis_transform(), ha="right", va="center")
            same = entry.at_10 == entry.at_100
            axes.plot([entry.at_10, entry.at_100], [y, y], color=LINE, linewidth=3, zorder=2, solid_capstyle="round")
            axes.plot(entry.at_10, y, "o", color=INPUT, markersize=8, zorder=4)
            axes.text(entry.at_10 / 1.25, y, _bytes(entry.at_10), ha="right", va="center", fontsize=8.5, color=INPUT)
            if not same:
                axes.plot(entry.at_100, y, "D", color=WEIGHT, markersize=7, zorder=4)
                axes.text(
                    entry.at_100 * 1.25, y, _bytes(entry.at_100), va="center", fontsize=8.5, color=WEIGHT, zorder=5
                )
            y += 1
    axes.set(xscale="log", xlim=(32, last), ylim=(y - 0.5, -0.5), yticks=[])
    axes.set_xticks([64, 1 << 10, 32 << 10, 1 << 20, 32 << 20])
    axes.xaxis.set_major_formatter(FuncFormatter(_bytes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(color=LINE, labelcolor=QUIET)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.text(
        0.012,
        0.935,
        "What a minibatch touches, and where it is (100 hidden units)",
        fontsize=12.5,
        fontweight="bold",
    )
    axes.plot([], [], "o", color=INPUT, markersize=8, label="10 features, or both")
    axes.plot([], [], "D", color=WEIGHT, markersize=7, label="100 features")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2, frameon=False, fontsize=9.5, handletextpad=0.2)


PASSES = ("scalars", "layer_train", "outputs", "loss_train", "output_backward", "weights_backward", "update")
READ, WRITTEN, BOTH = "r", "w", "rw"
ARRAYS: dict[str, dict[str, dict[str, str]]] = {
    "data": {
        "x, a row block": {"layer_train": READ, "weights_backward": READ},
        "targets": {"loss_train": READ},
    },
    "parameters": {
        "hidden weights W": {"layer_train": READ, "weights_backward": BOTH},
        "output weights": {"outputs": READ, "output_backward": BOTH},
        "biases": {"layer_train": READ, "outputs": READ, "update": BOTH},
    },
    "scratch": {
        "numbers of the step": {"scalars": WRITTEN, "output_backward": READ, "weights_backward": READ, "update": READ},
        "activations a": {"layer_train": WRITTEN, "outputs": READ, "output_backward": READ},
        "derivatives d, then dz": {"layer_train": WRITTEN, "output_backward": BOTH, "weights_backward": READ},
        "raw outputs": {"outputs": WRITTEN, "loss_train": READ},
        "dz of raw outputs": {"loss_train": WRITTEN, "output_backward": READ},
        "gradients of biases": {"loss_train": WRITTEN, "output_backward": WRITTEN, "update": READ},
    },
}
COLORS = {"data": INPUT, "parameters": WEIGHT, "scratch": SUM}


def draw_program(figure: Any) -> None:
    """Passes from left to right, arrays from top to bottom: what each reads and writes."""
    figure.set_size_inches(10.4, 5.6)
    axes = _blank(figure, 104, 56)
    first, apart, top, step = 36, 10.3, 13.6, 3.0
    at = {name: first + i * apart for i, name in enumerate(PASSES)}
    axes.text(2, 3.2, "The program of a minibatch, one hidden layer", fontsize=12.5, fontweight="bold")
    bottom = top + sum(len(group) for group in ARRAYS.values()) * step + 2 * 1.6
    _box(axes, at["layer_train"] - apart / 2, 5.2, 5 * apart, bottom - 4.6, BAND, BAND, zorder=0)
    axes.text(at["loss_train"], 6.9, "for each row block", ha="center", va="center", color=QUIET, fontsize=9.5)
    for name in ("scalars", "update"):
        axes.text(at[name], 6.9, "once", ha="center", va="center", color=QUIET, fontsize=9.5)
    for name, x in at.items():
        axes.text(x, 10.1, name.replace("_", "_\n"), ha="center", va="center", fontweight="bold", fontsize=9.2)
    for before, after in zip(PASSES, PASSES[1:], strict=False):
        _arrow(axes, (at[before] + 4.3, 10.1), (at[after] - 4.3, 10.1), LINE)
    y = top + step / 2
    for group, arrays in ARRAYS.items():
        color = COLORS[group]
        axes.text(2, y, group, fontweight="bold", color=color, va="center")
        for name, touched in arrays.items():
            axes.text(first - apart / 2 - 1.2, y, name, ha="right", va="center")
            places = [at[p] for p in PASSES if p in touched]
            axes.plot([at["scalars"] - apart / 2, at["update"] + apart / 2], [y, y], color="#e4e7ea", lw=0.8, zorder=1)
            axes.plot([places[0], places[-1]], [y, y], color=TINT[color], linewidth=4, zorder=2)
            for p, how in touched.items():
                fill = {READ: "white", WRITTEN: color, BOTH: TINT[color]}[how]
                axes.plot(
                    at[p], y, "o", markersize=12, color=fill, markeredgecolor=color, markeredgewidth=1.8, zorder=3
                )
                if how == BOTH:
                    axes.plot(at[p], y, "o", markersize=5, color=color, zorder=4)
            y += step
        y += 1.6
    y += 0.4
    for i, (how, words) in enumerate(((READ, "reads"), (WRITTEN, "writes"), (BOTH, "reads, then writes"))):
        x = first + i * 12.5
        axes.plot(x, y, "o", markersize=10, color={READ: "white", WRITTEN: QUIET, BOTH: "#dde0e4"}[how],
                  markeredgecolor=QUIET, markeredgewidth=1.6)  # fmt: skip
        if how == BOTH:
            axes.plot(x, y, "o", markersize=4, color=QUIET)
        axes.text(x + 1.6, y, words, va="center", color=QUIET, fontsize=9.5)


PICTURES = {"kernel_tile": draw_tile, "kernel_memory": draw_memory, "kernel_program": draw_program}


def save(pictures: Mapping[str, Callable[[Any], None]]) -> None:
    """Draw pictures by name, each on a figure of its own, into docs/images."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        for name, draw in pictures.items():
            figure = Figure(facecolor="white")
            draw(figure)
            figure.savefig(IMAGES / f"{name}.png", dpi=140)


if __name__ == "__main__":
    save(PICTURES)
