"""Styles of plots: colors, dashes and markers; axes, scales, titles and notes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pmlp_np.base.errors import compose
from pmlp_np.formulas.activations import ACTIVATIONS, Style
from pmlp_np.plots.member_table import Column, Score, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#222222"
PALE = "#dddddd"
GRAY = "#888888"
_SIZE = (8.0, 5.0)  # inches: 800 by 500 dots at matplotlib's 100 dots per inch
_NOTE_SIZE = 9.0
_NOTE_WIDTH = 108  # characters of this size in a line of notes
_TITLE_WIDTH = 72
_NAME_LENGTH = 30
_MOST_TICKS_OF_SIZES = 8
_SPAN_FOR_LOG = 10.0
# Shares get a logit axis if their odds span this factor: there, 98 and 99 % are as far apart as 50 and 67 %.
_SPAN_FOR_LOGIT = 20.0
_LOGIT_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
# Outliers lie outside the axes: values farther from the range of most (5th to 95th percentile) than this many times its
# span. A note shows their number.
_FAR = 1.5
_MOST = (0.05, 0.95)
_FEWEST_WITH_FAR = 10


# The styles of activations, the same in every plot.
ACTIVATION_STYLES = {name: entry.style for name, entry in ACTIVATIONS.items() if entry.style is not None}
_SPARE = [
    Style(color, dash, mark)
    for dash, marks in (("-", "os^vD"), ("--", "PX<>p"), (":", "o^svD"))
    for color, mark in zip(("#332288", "#cc3311", "#117733", "#ddaa33", "#88ccee"), marks, strict=True)
]


def styles_of(column: Column, groups: Sequence[Any]) -> list[Style]:
    """Return a style for each value of a column. Activations have a fixed style; numbers go from dark to light."""
    if column.numeric:
        import matplotlib

        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, max(len(groups), 2)))
        colors = [matplotlib.colors.to_hex(shade) for shade in shades]
        return [Style(color, spare.dash, spare.mark) for color, spare in zip(colors, _cycle(len(groups)), strict=False)]
    known = [ACTIVATION_STYLES.get(str(group)) for group in groups]
    taken = {style.color for style in known if style}
    spares = iter([spare for spare in _cycle(3 * len(_SPARE)) if spare.color not in taken] + _cycle(len(groups)))
    return [style or next(spares) for style in known]


def _cycle(n: int) -> list[Style]:
    return [_SPARE[i % len(_SPARE)] for i in range(n)]


def axes_for(ax: Axes | None) -> Axes:
    """Return the axes to draw into: the argument, or those of a new figure. Raises ImportError without matplotlib."""
    try:
        import matplotlib.figure
    except ModuleNotFoundError as error:
        hint = "Install it: pip install 'pmlp_np[plots]'"
        raise ImportError(compose("matplotlib", "the package that draws plots", "none installed", hint)) from error
    if ax is None:
        # Without pyplot, which would hold the figure in memory and might need a display.
        ax = matplotlib.figure.Figure(figsize=_SIZE, layout="constrained", facecolor="white").add_subplot()
    ax.set_facecolor("white")
    ax.tick_params(colors=INK, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.grid(color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def label(ax: Axes, x: str, y: str, title: str, notes: Sequence[str] = (), margin: int = 0) -> None:
    """Label the axes, and write a title with notes below it.

    margin: characters of the longest tick label on the left; the title has less room by it.
    """
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    lines = textwrap.wrap(" ".join(note for note in notes if note), _NOTE_WIDTH - margin)
    ax.annotate(
        "\n".join(lines), (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", color=INK,
        fontsize=_NOTE_SIZE, va="bottom",
    )  # fmt: skip
    pad = 6 + 1.3 * _NOTE_SIZE * len(lines)
    title = "\n".join(textwrap.wrap(title, _TITLE_WIDTH - int(0.7 * margin)))
    ax.set_title(title, loc="left", weight="bold", size=12, color=INK, pad=pad)


def legend(ax: Axes, handles: Sequence[Any], title: str) -> None:
    """Draw a legend to the right of the axes."""
    n_lines = sum(handle.get_label().count("\n") + 1 for handle in handles)
    ax.legend(
        handles=handles, title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, alignment="left",
        fontsize=8.5 if n_lines <= 20 else 7.5, title_fontsize=9, labelcolor=INK,
    ).get_title().set_color(INK)  # fmt: skip


def say_nothing_to_draw(ax: Axes, why: str) -> None:
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=INK, fontsize=11)
    ax.set(xticks=[], yticks=[])


def short(name: str) -> str:
    """Return a name shortened to fit a legend: the middle of a long one is left out."""
    half = (_NAME_LENGTH - 1) // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[:half]}…{name[-half:]}"


def wrapped(name: str) -> str:
    """Return a name on up to three lines of a legend, broken after commas."""
    lines: list[str] = []
    for part in name.split(", "):
        if lines and len(lines[-1]) + len(part) + 2 <= _NAME_LENGTH:
            lines[-1] += f", {part}"
        else:
            lines = [*lines[:-1], f"{lines[-1]},", short(part)] if lines else [short(part)]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], f"{lines[2].removesuffix(',')}, …"])


def scale_of(values: np.ndarray, share: bool = False, span: float = _SPAN_FOR_LOG) -> str:
    """Return the scale for these numbers: "linear", "log" (from a factor of `span` on) or "logit" (shares near 1)."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return "linear"
    if share:
        if values.max() >= 1:
            return "linear"
        odds = values / (1 - values)
        return "logit" if odds.max() >= _SPAN_FOR_LOGIT * odds.min() and values.max() > 0.8 else "linear"
    return "log" if values.max() >= span * values.min() else "linear"


def size_scale(sizes: np.ndarray) -> str:
    """Return the scale for whole numbers, which may be 0: "symlog", or as from `scale_of`."""
    return "symlog" if sizes.min() == 0 and sizes.max() >= _SPAN_FOR_LOG else scale_of(sizes)


def log_odds(share: np.ndarray) -> np.ndarray:
    # Clipped: a color bar also converts values outside its limits.
    share = np.clip(share, 1e-9, 1 - 1e-9)
    return np.log(share / (1 - share))


def share_of_odds(logarithm: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logarithm))


def set_scale(axis: Any, scale: str, share: bool = False, limits: tuple[float, float] | None = None) -> None:
    """Set scale and limits of the x or y axis (ax.xaxis, ax.yaxis), with few ticks, labeled by plain numbers."""
    across = axis.axis_name == "x"
    options = dict(linthresh=1) if scale == "symlog" else {}
    (axis.axes.set_xscale if across else axis.axes.set_yscale)(scale, **options)
    name_ticks(axis, scale, share, limits or axis.get_data_interval())
    if limits:
        (axis.axes.set_xlim if across else axis.axes.set_ylim)(limits)


def name_ticks(axis: Any, scale: str, share: bool, limits: Sequence[float]) -> None:
    """Set the ticks of an axis between these limits."""
    from matplotlib import ticker

    low, high = limits
    # Over more than three decades, powers of ten are enough.
    subs = (1, 2, 5) if high < 3e3 * (1.0 if scale == "symlog" else low) else (1,)
    if scale == "symlog":
        axis.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=1, subs=subs))
    elif scale == "log":
        axis.set_major_locator(ticker.LogLocator(base=10, subs=subs, numticks=9))
    elif scale == "logit":
        axis.set_major_locator(ticker.FixedLocator([t for t in _LOGIT_TICKS if low / 2 <= t <= (1 + high) / 2]))
    axis.set_minor_locator(ticker.NullLocator())
    if share:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
    elif scale != "linear":
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))


def tick_sizes(ax: Axes, sizes: np.ndarray, scale: str) -> None:
    """Set a tick at each size, if there are few and they lie well apart."""
    steps = np.unique(sizes)
    spots = np.arcsinh(steps) if scale != "linear" else steps
    gaps = np.diff(spots)
    if len(steps) <= _MOST_TICKS_OF_SIZES and (not len(gaps) or gaps.min() > 0.06 * gaps.sum()):
        ax.set_xticks(steps, [number(step) for step in steps])


def frame(
    values: np.ndarray, share: bool = False, span: float = _SPAN_FOR_LOG
) -> tuple[str, tuple[float, float] | None]:
    """Return (scale, limits) of an axis for these numbers. Limits are None if all numbers lie inside.

    Outliers lie outside the limits: members that nearly diverged would squeeze all others into a line. Shares have no
    outliers. Scales are those of `scale_of`.
    """
    values = values[np.isfinite(values)]
    if share or len(values) < _FEWEST_WITH_FAR:
        return scale_of(values, share, span), None
    positive = values.min() > 0
    scaled = np.log(values) if positive else values
    low, high = np.quantile(scaled, _MOST)
    reach = _FAR * max(high - low, np.log(2.0) if positive else 0.0)
    near = (scaled >= low - reach) & (scaled <= high + reach)
    if near.all() or reach == 0:
        return scale_of(values, span=span), None
    scale = scale_of(values[near], span=span)
    ends = values[near].min(), values[near].max()
    if scale == "log":
        widened = float(ends[0] / 1.2), float(ends[1] * 1.2)
    else:
        margin = 0.05 * (ends[1] - ends[0])
        widened = float(ends[0] - margin), float(ends[1] + margin)
    return scale, widened


def outside(score: Score, limits: tuple[float, float] | None) -> str:
    """Return a sentence on members outside these limits, or ""."""
    if limits is None:
        return ""
    known = score.values[score.known]
    n = int(((known < limits[0]) | (known > limits[1])).sum())
    return f"{n:,} far off lie outside the picture."
