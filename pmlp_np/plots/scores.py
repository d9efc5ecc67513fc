"""Scores of members: against their size, and by activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pmlp_np.base.errors import DataError, unknown_name
from pmlp_np.formulas.activations import Style
from pmlp_np.plots.member_table import Column, Members, Score, capital, counted
from pmlp_np.plots.styles import (
    GRAY,
    INK,
    axes_for,
    frame,
    label,
    legend,
    outside,
    say_nothing_to_draw,
    set_scale,
    short,
    size_scale,
    styles_of,
    tick_sizes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pmlp_np.pool.pool import Pool

_SIZES = ("parameters", "width")
# Values with a color. There are as many built-in activations, and more colors would be hard to tell apart.
_MOST_COLORS = 18
_MOST_ROWS = 24
_MOST_TALL_ROWS = 11
# With more sizes than this, a line through the median of each size would be jagged: medians are taken over neighbors.
_MOST_EXACT_SIZES = 12
_WINDOW = 1.1
_FEWEST_IN_WINDOW = 7
_OTHERS = "others"


def score_by_size(
    pool: Pool,
    *,
    size: str = "parameters",
    color: str = "activation",
    value: str | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw members as dots, score against size, and a line through the medians of each color.

    size: "parameters" (default) or "width": units of the widest hidden layer, 0 without hidden layers.
    color: a column of the leaderboard's records, "width", "depth" or a hyperparameter. Up to 18 of its values get a
        color, by the best median score; the others are gray. Default "activation".
    value: the score: a column of numbers in the leaderboard's records. Default None: the one that ranks members.
    ax: axes to draw into. Default: those of a new figure.
    title: Default: a title from the arguments.

    With more than twelve sizes, medians are over members within a factor of 1.1 in size, and at least the seven nearest
    ones. Axes are logarithmic if sizes or scores span a factor of ten; shares near 1 have a logit axis. Members that
    diverged are not drawn; a note shows their number.

    Returns the matplotlib Axes. Raises DataError, and ImportError without matplotlib.
    """
    if size not in _SIZES:
        raise DataError(unknown_name("size", size, _SIZES))
    everyone = Members(pool)
    sizes = everyone.column("size", size).values
    column, score = everyone.column("color", color), everyone.score(value)
    ax = axes_for(ax)
    groups = _colored(column, score)
    known_sizes = sizes[score.known]
    scale = size_scale(known_sizes) if len(known_sizes) else "linear"
    y_scale, limits = frame(score.values, score.share)
    exact = len(np.unique(known_sizes)) <= _MOST_EXACT_SIZES
    n, lines = int(score.known.sum()), []
    dot_size, alpha = (5, 0.2) if n > 2000 else (12, 0.45) if n > 200 else (26, 0.75)
    for position, (text, mask, style) in enumerate(groups):
        x, y = sizes[mask], score.values[mask]
        # On a logarithmic axis dots of equal size are shifted by color, so that they don't cover each other.
        beside = 1 + min(0.012, 0.12 / len(groups)) * (position - (len(groups) - 1) / 2) if scale == "log" else 1.0
        ax.scatter(x * beside, y, s=dot_size, color=style.color, marker="o" if n > 200 else style.mark, alpha=alpha,
                   linewidths=0, gid=f"members of {text}")  # fmt: skip
        steps, medians = median_line(x, y, exact)
        lines.append((score.worth(float(medians[-1])), text, medians[-1], style))
        ax.plot(steps, medians, color=style.color, linestyle=style.dash, linewidth=2, gid=f"median of {text}")
    if lines:
        set_scale(ax.xaxis, scale)
        tick_sizes(ax, known_sizes, scale)
        set_scale(ax.yaxis, y_scale, score.share, limits)
    else:
        say_nothing_to_draw(ax, "No member has a score.")
    if len(lines) > 1:
        from matplotlib.lines import Line2D

        if not column.numeric:
            lines.sort(key=lambda line: (line[1] == _OTHERS, line[0]))
        handles = [
            Line2D([], [], color=style.color, linestyle=style.dash, linewidth=2, marker=style.mark if n <= 200 else "",
                   markersize=5, label=f"{short(text)}  {score.text(last)}")
            for _, text, last, style in lines
        ]  # fmt: skip
        legend(ax, handles, f"{column.label}, and where\nits line ends")
    by = "width" if size == "width" else "number of parameters"
    near = "" if exact else ", over neighbors in size"
    default = f"{capital(score.short)} by {by}: {counted(len(everyone), 'member')}"
    label(ax, _size_words(everyone, size), score.axis, default if title is None else title, [
        f"Dots: members. Lines: medians{near}." if lines else "", everyone.left_out(score), outside(score, limits),
    ])  # fmt: skip
    return ax


def _size_words(everyone: Members, size: str) -> str:
    if size == "parameters":
        return "parameters (weights and biases)"
    deepest = max(len(record["hidden"]) for record in everyone.records)
    return "units in the hidden layer" if deepest <= 1 else "units in the widest hidden layer"


def _colored(column: Column, score: Score) -> list[tuple[str, np.ndarray, Style]]:
    """Return (name, mask of members with a score, style) of each value with a color, and of the others together."""
    groups = []
    for group in column.distinct(score.known):
        mask = (column.values == group) & score.known
        groups.append((score.worth(float(np.median(score.values[mask]))), group, mask))
    if len(groups) > _MOST_COLORS:
        groups.sort(key=lambda entry: entry[0])
    colored, others = groups[:_MOST_COLORS], groups[_MOST_COLORS:]
    if column.numeric:
        colored.sort(key=lambda entry: float(entry[1]))
    styles = styles_of(column, [group for _, group, _ in colored])
    result = [(column.text(group), mask, style) for (_, group, mask), style in zip(colored, styles, strict=True)]
    lacking = score.known & np.isnan(column.values) if column.numeric else np.zeros(len(score.values), bool)
    rest = np.logical_or.reduce([mask for _, _, mask in others] + [lacking])
    return [(_OTHERS, rest, Style(GRAY, "-", "o")), *result] if rest.any() else result


def median_line(sizes: np.ndarray, scores: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct sizes, and for each the median score of its members; unless exact, of members near it in size."""
    steps, medians = np.unique(sizes), []
    # Distances are ratios. A size of 0 counts as 0.5.
    positive = np.maximum(sizes, 0.5)
    for step in np.unique(positive):
        factor = np.maximum(positive / step, step / positive)
        nearest = np.sort(factor)[min(_FEWEST_IN_WINDOW, len(sizes)) - 1]
        near = positive == step if exact else factor <= max(nearest, _WINDOW)
        medians.append(np.median(scores[near]))
    return steps, np.array(medians)


def score_by_activation(
    pool: Pool, *, value: str | None = None, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw a row per activation, the best median on top: members as dots, a box around the middle half of them.

    value: the score: a column of numbers in the leaderboard's records. Default None: the one that ranks members.
    ax: axes to draw into. Default: those of a new figure.
    title: Default: a title from the arguments.

    Thin lines reach from the 5th to the 95th percentile. Each row shows the numbers of members with a score, and of
    members that diverged. Members whose layers have different activations get a separate row ("relu-tanh"). Of more
    than 24 rows the best 24 are drawn.

    Returns the matplotlib Axes. Raises DataError, and ImportError without matplotlib.
    """
    everyone = Members(pool)
    score, column = everyone.score(value), everyone.column("color", "activation")
    rows = []
    for group in column.distinct(everyone.trained):
        mask = (column.values == group) & everyone.trained
        known = score.values[mask & score.known]
        rows.append((score.worth(float(np.median(known)) if len(known) else np.nan), str(group), mask, known))
    rows.sort(key=lambda row: row[0])
    rows, unseen = rows[:_MOST_ROWS], len(rows) - _MOST_ROWS
    ax = axes_for(ax)
    ax.grid(False, axis="y")
    styles = styles_of(column, [name for _, name, _, _ in rows])
    labels, roomy = [], len(rows) <= _MOST_TALL_ROWS
    dot_size, alpha = (4, 0.2) if len(everyone) > 2000 else (10, 0.5) if len(everyone) > 200 else (22, 0.75)
    for row, ((_, name, mask, known), style) in enumerate(zip(rows, styles, strict=True)):
        labels.append(short(name) + ("\n" if roomy else "   ") + _row_counts(everyone, mask, known))
        if len(known):
            _draw_row(ax, row, known, style, dot_size, alpha, name)
    scale, limits = frame(score.values, score.share)
    if score.known.any():
        set_scale(ax.xaxis, scale, score.share, limits)
        ax.set_yticks(range(len(rows)), labels, fontsize=9 if len(rows) <= 18 else 7)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
    else:
        say_nothing_to_draw(ax, "No member has a score.")
    default = f"{capital(score.short)} by activation: {counted(len(everyone), 'member')}"
    label(ax, score.axis, "", default if title is None else title, [
        "Dots: members. Box: their middle half, with the median; thin line: 5 to 95 %." if score.known.any() else "",
        everyone.left_out(score), outside(score, limits), f"{unseen:,} more activations." if unseen > 0 else "",
    ], margin=max(len(line) for text in labels for line in text.split("\n")))  # fmt: skip
    return ax


def _row_counts(everyone: Members, mask: np.ndarray, known: np.ndarray) -> str:
    diverged = int((mask & everyone.diverged).sum())
    return f"n = {len(known):,}" + (f", {diverged:,} diverged" if diverged else "")


def _draw_row(ax: Any, row: int, known: np.ndarray, style: Style, dot_size: float, alpha: float, name: str) -> None:
    # Multiples of the golden ratio spread dots evenly over the row's height, in an order that shows no pattern.
    heights = row + 0.62 * ((0.5 + np.arange(len(known)) * 0.6180339887) % 1 - 0.5)
    ax.scatter(known, heights, s=dot_size, color=style.color, alpha=alpha, linewidths=0, gid=f"members of {name}")
    if len(known) > 1:
        least, low, middle, high, most = np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95))
        ax.hlines(row, least, most, color=INK, linewidth=1, zorder=3, gid=f"5 to 95 % of {name}")
        ax.barh(row, high - low, left=low, height=0.7, facecolor="none", edgecolor=INK, linewidth=1, zorder=3,
                gid=f"middle half of {name}")  # fmt: skip
        ax.vlines(middle, row - 0.35, row + 0.35, color=INK, linewidth=2.2, zorder=4, gid=f"median of {name}")
