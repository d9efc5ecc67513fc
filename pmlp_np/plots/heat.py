"""A heat map: the score over two hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, unknown_name
from pmlp_np.plots.member_table import Column, Members, Score, brief, capital, counted, number
from pmlp_np.plots.styles import (
    INK,
    PALE,
    axes_for,
    frame,
    label,
    log_odds,
    name_ticks,
    say_nothing_to_draw,
    scale_of,
    share_of_odds,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pmlp_np.pool.pool import Pool

_REDUCES = ("median", "best")
_MOST_NAMES = 30
_MOST_NUMBERS = 120
# More distinct numbers than this, with most cells empty, are taken for random draws and binned into ranges.
_FEW_NUMBERS = 12
_FILLED = 0.5
_RANGES = 10
_MOST_ANNOTATED = (11, 14)  # columns and rows whose cells have room for a number
_MOST_LABELS = 26


@dataclass(frozen=True)
class _Axis:
    """The x or y axis: its cells.

    cell: (n_members,), each member's cell, -1 for none.
    texts: names of the n cells, or, with `are_edges`, the n + 1 edges of ranges.
    said: a note on cells that are left out, or "".
    """

    column: Column
    cell: np.ndarray
    n: int
    texts: list[str]
    are_edges: bool = False
    said: str = ""


def heat_map(
    pool: Pool,
    x: str,
    y: str,
    *,
    value: str | None = None,
    reduce: str = "median",
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the score of members over two columns, as a colored cell for each pair of values.

    x, y: columns of the leaderboard's records ("activation", "architecture", "optimizer", "learning_rate"), "width",
        "depth", "units", or a hyperparameter or option of the specs ("weight_decay", "batch_size").
    value: the score: a column of numbers in the leaderboard's records. Default None: the one that ranks members.
    reduce: how the members of a cell are combined: "median" (default) or "best".
    ax: axes to draw into. Default: those of a new figure.
    title: Default: a title from the arguments.

    Lighter is better. Cells without members are gray; cells whose members have all diverged have a cross. If there are
    few cells, they show numbers. If most cells would be empty, as after a random search, numbers are binned into ten
    ranges, on a logarithmic scale if they span a factor of ten. Of more than 30 names, those with the best score are
    drawn.

    Returns the matplotlib Axes. Raises DataError, and ImportError without matplotlib.
    """
    if reduce not in _REDUCES:
        raise DataError(unknown_name("reduce", reduce, _REDUCES))
    everyone = Members(pool)
    columns = everyone.column("x", x), everyone.column("y", y)
    score = everyone.score(value)
    if x == y:
        raise DataError(compose("y", "another column than x", f"{y!r} for both"))
    if reduce == "best" and score.grows is None:
        raise DataError(compose("reduce", f"'median', as no {score.label} is better than another", "'best'"))
    across, up = _axes(columns, everyone.trained, score)
    cells, diverged = _cells(across, up, score, everyone, reduce)
    ax = axes_for(ax)
    ax.grid(False)
    has_any = bool(np.isfinite(cells).any())
    if has_any:
        _draw(ax, across, up, cells, diverged, score)
    else:
        say_nothing_to_draw(ax, "No member has a score.")
    default = f"{capital(reduce)} {score.short} by {brief(across.column.label)} and {brief(up.column.label)}"
    label(ax, across.column.label, up.column.label, default if title is None else title, [
        f"{counted(len(everyone), 'member')}.",
        "Gray: no members." if has_any and (np.isnan(cells) & ~diverged).any() else "",
        "×: all diverged." if has_any and diverged.any() else "", across.said, up.said, everyone.left_out(score),
    ], margin=max(map(len, up.texts)))  # fmt: skip
    return ax


def _axes(columns: tuple[Column, Column], trained: np.ndarray, score: Score) -> tuple[_Axis, _Axis]:
    plain = [_by_value(column, trained, score) for column in columns]
    used = (plain[0].cell >= 0) & (plain[1].cell >= 0)
    filled = len(set(zip(plain[0].cell[used].tolist(), plain[1].cell[used].tolist(), strict=True)))
    sparse = filled <= _FILLED * plain[0].n * plain[1].n
    first, second = (
        _by_range(axis.column, trained)
        if axis.column.numeric and (axis.n > _MOST_NUMBERS or (sparse and axis.n > _FEW_NUMBERS))
        else axis
        for axis in plain
    )
    return first, second


def _by_value(column: Column, trained: np.ndarray, score: Score) -> _Axis:
    values, said = column.distinct(trained), ""
    if not column.numeric and len(values) > _MOST_NAMES:
        known = [score.values[(column.values == value) & score.known] for value in values]
        worth = [score.worth(float(np.median(scores)) if len(scores) else np.nan) for scores in known]
        best = {values[i] for i in np.argsort(worth, kind="stable")[:_MOST_NAMES]}
        said = f"{column.label}: best {_MOST_NAMES} of {len(values):,}."
        values = [value for value in values if value in best]
    cell_of = {value: i for i, value in enumerate(values)}
    cell = np.array([cell_of.get(value, -1) for value in column.values.tolist()])
    return _Axis(column, np.where(trained, cell, -1), len(values), [short(column.text(v)) for v in values], said=said)


def _by_range(column: Column, trained: np.ndarray) -> _Axis:
    values = column.values
    known = trained & np.isfinite(values)
    low, high = values[known].min(), values[known].max()
    space = np.geomspace if scale_of(values[known]) == "log" else np.linspace
    edges = space(low, high, _RANGES + 1)
    cell = np.clip(np.searchsorted(edges, np.where(known, values, low), side="right") - 1, 0, _RANGES - 1)
    return _Axis(column, np.where(known, cell, -1), _RANGES, [number(float(f"{e:.2g}")) for e in edges], are_edges=True)


def _cells(across: _Axis, up: _Axis, score: Score, everyone: Members, reduce: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of the cells, NaN without one, and a mask of cells with diverged members only: (up.n, across.n)."""
    cells = np.full((up.n, across.n), np.nan)
    inside = (across.cell >= 0) & (up.cell >= 0)
    flat = up.cell * across.n + across.cell
    has_known = np.zeros(cells.size, bool)
    known = np.flatnonzero(inside & score.known)
    order = known[np.argsort(flat[known], kind="stable")]
    starts = np.flatnonzero(np.diff(flat[order], prepend=-1))
    choose = np.median if reduce == "median" else np.max if score.grows else np.min
    for members in np.split(order, starts[1:]) if len(order) else []:
        cells.flat[flat[members[0]]] = choose(score.values[members])
        has_known[flat[members[0]]] = True
    has_diverged = np.zeros(cells.size, bool)
    has_diverged[flat[inside & everyone.diverged]] = True
    return cells, (has_diverged & ~has_known).reshape(cells.shape)


def _draw(ax: Any, across: _Axis, up: _Axis, cells: np.ndarray, diverged: np.ndarray, score: Score) -> None:
    import matplotlib
    from matplotlib.colors import FuncNorm, LogNorm, Normalize

    finite = cells[np.isfinite(cells)]
    scale, limits = frame(finite, score.share)
    limits = limits or (float(finite.min()), float(finite.max()))
    norm: Any = {"log": LogNorm, "linear": Normalize}.get(scale, partial(FuncNorm, (log_odds, share_of_odds)))(*limits)
    # Lighter is better, whether larger or smaller scores are better.
    colors = matplotlib.colormaps["viridis_r" if score.grows is False else "viridis"]
    mesh = ax.pcolormesh(np.arange(across.n + 1), np.arange(up.n + 1), np.ma.masked_invalid(cells), cmap=colors,
                         norm=norm, edgecolors="white", linewidth=1 if cells.size <= 400 else 0)  # fmt: skip
    ax.set_facecolor(PALE)
    beyond = finite.min() < limits[0], finite.max() > limits[1]
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend)
    bar.set_label(score.axis, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)
    name_ticks(bar.ax.yaxis, scale, score.share, limits)
    _name_cells(ax.xaxis, across)
    _name_cells(ax.yaxis, up)
    if not up.column.numeric:
        ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    has_room = across.n <= _MOST_ANNOTATED[0] and up.n <= _MOST_ANNOTATED[1]
    for row, col in np.ndindex(cells.shape):
        text = "×" if diverged[row, col] else score.text(float(cells[row, col])) if has_room else ""
        if text and (diverged[row, col] or np.isfinite(cells[row, col])):
            red, green, blue, _ = colors(norm(cells[row, col])) if not diverged[row, col] else (1, 1, 1, 1)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            ax.text(col + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8.5 if across.n <= 7 else 7,
                    color="white" if dark else INK)  # fmt: skip


def _name_cells(axis: Any, cells: _Axis) -> None:
    """Set ticks in the middle of cells, or at the edges of ranges; with many numbers, not at every cell."""
    ticks = np.arange(len(cells.texts)) + (0.0 if cells.are_edges else 0.5)
    step = 1
    if cells.column.numeric and len(ticks) > _MOST_LABELS:
        step = next(step for step in (2, 5, 10, 20) if len(ticks) <= step * _MOST_LABELS / 2)
    ticks, texts = ticks[step - 1 :: step], cells.texts[step - 1 :: step]
    crowded = axis.axis_name == "x" and sum(len(text) + 2 for text in texts) > 80
    turned = dict(rotation=40, ha="right", rotation_mode="anchor") if crowded else {}
    axis.set_ticks(ticks, texts, fontsize=9 if len(texts) <= 20 else 7.5, **turned)
