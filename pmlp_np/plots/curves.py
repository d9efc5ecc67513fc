"""Loss curves: the median and the interquartile range of each group of members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.formulas.activations import Style
from pmlp_np.plots.member_table import Column, Members, capital, counted, loss_words, words
from pmlp_np.plots.styles import (
    GRAY,
    axes_for,
    frame,
    label,
    legend,
    say_nothing_to_draw,
    set_scale,
    styles_of,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pmlp_np.pool.pool import Pool

_MOST_GROUPS = 10
# With more groups than this, only validation curves are drawn by default: with training curves lines would overlap.
_MOST_FOR_BOTH = 4
_SPREAD = (0.25, 0.75)
# Losses get a logarithmic axis from this factor between extremes, a smaller one than elsewhere: training reduces a loss
# by factors.
_SPAN_FOR_LOG = 5.0
# On a logarithmic axis, limits lie at most this factor beyond all medians; bands may be cut off.
_REACH = 4.0
_DASHES = ("-", "--", ":", "-.")
_WIDTHS = (2.0, 1.4)


def loss_curves(
    pool: Pool,
    *,
    curves: str | Sequence[str] | None = None,
    by: str | None = None,
    members: Any = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw curves over epochs: the median of each group of members as a line, the middle half as a band.

    curves: names in `pool.history_`. Default: validation and training loss; with more than four groups the validation
        loss only, if there is one.
    by: the column to group by: one of the leaderboard's records ("activation", "architecture", "optimizer"), "width",
        "depth" or a hyperparameter. Default: all columns of the specs but the seed, so that repeats are a group.
    members: ids of the members to draw. Default: all.
    ax: axes to draw into. Default: those of a new figure.
    title: Default: a title from the arguments.

    Of more than ten groups the ten with the best median score get a line each, and the others a common one in gray.
    Members that diverged are left out of the lines; the legend shows their number. A line ends where fewer than half of
    its members still train. The axis is logarithmic if losses span a factor of five.

    Returns the matplotlib Axes. Raises DataError, and ImportError without matplotlib.
    """
    everyone = Members(pool)
    if members is not None:
        pool = pool.subset(np.unique(np.asarray(members)) if _several(members) else members)
        everyone = Members(pool)
    column = everyone.alike() if by is None else everyone.column("by", by)
    groups = _groups(everyone, column)
    drawn, others = groups[:_MOST_GROUPS], groups[_MOST_GROUPS:]
    if column.numeric:
        drawn.sort(key=lambda group: group[0])  # NaN, of members without a value, is last
    names = _curve_names(pool, curves, len(drawn))
    styles = styles_of(column, [value for value, _ in drawn])
    lines = [_Line(column.text(value), mask, style) for (value, mask), style in zip(drawn, styles, strict=True)]
    if others:
        # First, under all others.
        rest = np.logical_or.reduce([mask for _, mask in others])
        lines.insert(0, _Line(f"the other {len(others):,}", rest, Style(GRAY, "-", "")))
    ax = axes_for(ax)
    bands = _draw(ax, everyone, lines, names)
    if others:
        lines.append(lines.pop(0))
    what = "members alike but for their seed" if by is None else column.label
    heading = f"{what}\n(best {len(drawn)} of {len(groups):,})" if others else what
    handles = [_handle(line, everyone, len(names) > 1) for line in lines]
    if len(names) > 1:
        only = lines[0].style.color if len(lines) == 1 else GRAY
        are_dots = pool.history_[names[0]].shape[1] == 1
        kinds = [_handle_of_curve(_curve_words(name), only, k, are_dots) for k, name in enumerate(names)]
        handles, heading = (kinds, "") if len(lines) == 1 and by is None else (handles + kinds, heading)
    if len(handles) > 1:
        legend(ax, handles, heading)
    _finish(ax, everyone, names, bands, title)
    return ax


class _Line(NamedTuple):
    """A group of members in the plot: its name, a mask of its members, and its style."""

    text: str
    mask: np.ndarray
    style: Style


def _draw(ax: Any, everyone: Members, lines: list[_Line], names: list[str]) -> np.ndarray:
    """Draw every curve of every group. Returns median, lower and upper quartile of all points, (3, n)."""
    points = [np.zeros((3, 0))]
    for line in lines:
        mask = line.mask & everyone.usable
        for k, name in enumerate(names):
            middle, low, high = quartiles = spread(everyone.pool.history_[name][mask].astype(np.float64))
            known = np.isfinite(middle)
            points.append(quartiles[:, known])
            epochs, gid = np.arange(1, len(middle) + 1), f"{name} of {line.text}"
            if mask.sum() > 1:
                ax.fill_between(epochs, low, high, color=line.style.color, alpha=0.2 if len(lines) <= 4 else 0.12,
                                linewidth=0, gid=gid)  # fmt: skip
            ax.plot(
                epochs, middle, color=line.style.color, gid=gid, linewidth=_WIDTHS[min(k, 1)],
                linestyle=_DASHES[k % len(_DASHES)] if len(names) > 1 else line.style.dash,
                **(_dot(k) if known.sum() == 1 else {}),
            )  # fmt: skip
    return np.concatenate(points, axis=1)


def _several(members: Any) -> bool:
    """Return whether `members` is a list of whole numbers, whose repeats can be dropped. The pool checks all else."""
    try:
        ids = np.asarray(members)
    except ValueError:
        return False
    return ids.ndim == 1 and ids.dtype.kind in "iu" and len(ids) > 0


def _groups(everyone: Members, column: Column) -> list[tuple[Any, np.ndarray]]:
    """Return (value, mask of members) of each group with a trained member, the best median score first."""
    score = everyone.score(None)
    groups = []
    values, inverse = np.unique(column.values[everyone.trained], return_inverse=True)
    trained = np.flatnonzero(everyone.trained)
    parts = np.split(trained[np.argsort(inverse, kind="stable")], np.cumsum(np.bincount(inverse))[:-1])
    for value, positions in zip(values.tolist(), parts, strict=True):
        mask = np.zeros(len(everyone), bool)
        mask[positions] = True
        known = score.values[positions][score.known[positions]]
        median = float(np.median(known)) if len(known) else np.nan
        groups.append((score.worth(median), int(positions[0]), value, mask))
    groups.sort(key=lambda group: group[:2])
    return [(value, mask) for _, _, value, mask in groups]


def _curve_names(pool: Pool, curves: Any, n_groups: int) -> list[str]:
    known: list[str] = list(pool.history_)
    names: list[str]
    if curves is None:
        names = [name for name in ("validation_loss", "loss") if name in known]
        return names if n_groups <= _MOST_FOR_BOTH else names[:1]
    names = [curves] if isinstance(curves, str) else list(curves) if isinstance(curves, (list, tuple)) else []
    if not names:
        raise DataError(compose("curves", f"names in pool.history_ ({', '.join(known)})", show(curves)))
    for name in names:
        if name not in known:
            raise DataError(unknown_name("curves", name, known))
    return list(dict.fromkeys(names))


def spread(values: np.ndarray) -> np.ndarray:
    """Return median, lower and upper quartile of curves (k, n_epochs), as (3, n_epochs).

    NaN for epochs in which fewer than half of the curves have a value.
    """
    result = np.full((3, values.shape[1]), np.nan)
    finite = np.isfinite(values)
    enough = (finite.sum(axis=0) >= len(values) / 2) & finite.any(axis=0)
    whole = enough & finite.all(axis=0)
    if whole.any():
        result[:, whole] = np.quantile(values[:, whole], (0.5, *_SPREAD), axis=0)
    for epoch in np.flatnonzero(enough & ~whole):
        result[:, epoch] = np.quantile(values[finite[:, epoch], epoch], (0.5, *_SPREAD))
    return result


def _counts(everyone: Members, mask: np.ndarray) -> str:
    """Return the legend's text on a group's number of members, and of members that diverged."""
    n, diverged = int(mask.sum()), int((mask & everyone.diverged).sum())
    if n == 1:
        return "  diverged" if diverged else ""
    return f"  ×{n:,}" + (f", {diverged:,} diverged" if diverged else "")


def _handle(line: _Line, everyone: Members, solid: bool) -> Any:
    from matplotlib.lines import Line2D

    text = wrapped(line.text) + _counts(everyone, line.mask)
    return Line2D([], [], color=line.style.color, linestyle="-" if solid else line.style.dash, linewidth=2, label=text)


def _handle_of_curve(text: str, color: str, k: int, is_dot: bool) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, linestyle="" if is_dot else _DASHES[k % len(_DASHES)], label=text,
                  linewidth=_WIDTHS[min(k, 1)], **(_dot(k) if is_dot else {}))  # fmt: skip


def _dot(k: int) -> dict[str, Any]:
    """Return the marker of a curve of one epoch: the first curve's is filled, others are hollow."""
    return dict(marker="o", markerfacecolor="white") if k else dict(marker="o")


def _curve_words(name: str) -> str:
    return "training loss" if name == "loss" else words(name)


def _last_epoch(line: Any) -> float:
    """Return the last epoch with a value of the line."""
    epochs, values = (np.asarray(x, np.float64) for x in line.get_data())
    shown = epochs[np.isfinite(values)]
    return float(shown.max(initial=1.0))


def _finish(ax: Any, everyone: Members, names: list[str], points: np.ndarray, title: str | None) -> None:
    """Set scales, limits, title, labels and notes."""
    from matplotlib.ticker import MaxNLocator

    histories = [everyone.pool.history_[name] for name in names]
    n_epochs = max(history.shape[1] for history in histories)
    ends = any(np.isnan(history[everyone.usable]).any() for history in histories)
    are_losses = set(names) <= {"loss", "validation_loss"}
    last = n_epochs
    if points.size:
        # With early stopping most of the epochs may be empty.
        last = int(max(_last_epoch(line) for line in ax.get_lines()))
        scale, limits = frame(points, span=_SPAN_FOR_LOG) if are_losses else ("linear", None)
        if scale == "log":
            middles = points[0]
            limits = max(points.min() / 1.1, middles.min() / _REACH), min(points.max() * 1.1, middles.max() * _REACH)
        set_scale(ax.yaxis, scale, limits=limits)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if n_epochs == 1:
            ax.set_xticks([1])
        else:
            room = 0.03 * max(last - 1, 1)
            ax.set_xlim(1 - min(room, 0.9), last + room)
    else:
        say_nothing_to_draw(ax, "No member has a curve of finite numbers.")
    curve_words = " and ".join(_curve_words(name) for name in names)
    axis = f"{'loss' if len(names) > 1 else curve_words} ({loss_words(everyone.pool)})" if are_losses else curve_words
    shown = f"{last:,} of " if last < n_epochs else ""
    default = f"{capital(curve_words)} of {counted(len(everyone), 'member')} over {shown}{counted(n_epochs, 'epoch')}"
    label(ax, "epoch", axis, default if title is None else title, [
        "Line: median of the members. Band: their middle half." if len(everyone) > 1 and points.size else "",
        "A line ends where fewer than half still train." if ends and points.size else "",
    ])  # fmt: skip
