"""Loss curves: the median of members that are alike, and their spread."""

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
# With more groups than this, training curves beside validation curves would be a tangle; one can ask for them.
_MOST_FOR_BOTH = 4
_SPREAD = (0.25, 0.75)
# Losses fall in proportion: sooner than elsewhere a logarithmic axis shows more.
_SPAN_FOR_LOG = 5.0
# How far from all medians bands are still in view on a logarithmic axis.
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
    """Curves over epochs: the median of each group of members as a line, the middle half as a band.

    curves: names in `pool.history_`. Default: validation and training loss; where more than four groups are drawn the
        validation loss alone, if there is one.
    by: the column to group by: one of the leaderboard's records ("activation", "architecture", "optimizer"), "width",
        "depth" or a hyperparameter. Default: all of a spec but the seed, so that repeats are a group.
    members: ids of those to draw. Default: all.
    ax: axes to draw into. Default: those of a new figure.
    title: Default: a title made of the arguments.

    Of more than ten groups the ten with the best median score are drawn, the others together in gray. Members that
    diverged are not in the lines; the legend says how many. A line ends where fewer than half of its members still
    train. The axis is logarithmic where losses span a factor of five.

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
        drawn.sort(key=lambda group: group[0])  # NaN, of members that have none, is last
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
    """A group as it is drawn: its name, a mask of its members, and its style."""

    text: str
    mask: np.ndarray
    style: Style


def _draw(ax: Any, everyone: Members, lines: list[_Line], names: list[str]) -> np.ndarray:
    """Draw every curve of every group. Returns medians, low and high ends, (3, n) of all drawn points."""
    points = [np.zeros((3, 0))]
    for line in lines:
        mask = line.mask & everyone.usable
        for k, name in enumerate(names):
            middle, low, high = found = spread(everyone.pool.history_[name][mask].astype(np.float64))
            known = np.isfinite(middle)
            points.append(found[:, known])
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
    """Whether `members` is a list whose repeats can be dropped; anything else is for the pool to refuse."""
    try:
        found = np.asarray(members)
    except ValueError:
        return False
    return found.ndim == 1 and found.dtype.kind in "iu" and len(found) > 0


def _groups(everyone: Members, column: Column) -> list[tuple[Any, np.ndarray]]:
    """(value, mask of members) of each group with a member that has trained, the best median score first."""
    score = everyone.score(None)
    found = []
    values, inverse = np.unique(column.values[everyone.trained], return_inverse=True)
    places = np.flatnonzero(everyone.trained)
    order = np.argsort(inverse, kind="stable")
    for value, own in zip(values.tolist(), np.split(places[order], np.cumsum(np.bincount(inverse))[:-1]), strict=True):
        mask = np.zeros(len(everyone), bool)
        mask[own] = True
        known = score.values[own][score.known[own]]
        found.append((score.worth(float(np.median(known)) if len(known) else np.nan), int(own[0]), value, mask))
    found.sort(key=lambda group: group[:2])
    return [(value, mask) for _, _, value, mask in found]


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
    """Median, low and high end of the middle half of curves (k, n_epochs), as (3, n_epochs); NaN where fewer than half
    of the curves are known."""
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
    """How many a group has, and how many diverged, as the legend says it."""
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
    """How a curve of one epoch is drawn: the first curve filled, others hollow."""
    return dict(marker="o", markerfacecolor="white") if k else dict(marker="o")


def _curve_words(name: str) -> str:
    return "training loss" if name == "loss" else words(name)


def _last_epoch(line: Any) -> float:
    """The last epoch at which a line shows anything."""
    epochs, values = (np.asarray(x, np.float64) for x in line.get_data())
    shown = epochs[np.isfinite(values)]
    return float(shown.max(initial=1.0))


def _finish(ax: Any, everyone: Members, names: list[str], points: np.ndarray, title: str | None) -> None:
    """Scales, and what stands around the drawing."""
    from matplotlib.ticker import MaxNLocator

    histories = [everyone.pool.history_[name] for name in names]
    n_epochs = max(history.shape[1] for history in histories)
    ends = any(np.isnan(history[everyone.usable]).any() for history in histories)
    are_losses = set(names) <= {"loss", "validation_loss"}
    last = n_epochs
    if points.size:
        # Where members stop early most of the epochs may be empty.
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
        say_nothing_to_draw(ax, "No member has a curve that is made of numbers.")
    said = " and ".join(_curve_words(name) for name in names)
    axis = f"{'loss' if len(names) > 1 else said} ({loss_words(everyone.pool)})" if are_losses else said
    shown = f"{last:,} of " if last < n_epochs else ""
    default = f"{capital(said)} of {counted(len(everyone), 'member')} over {shown}{counted(n_epochs, 'epoch')}"
    label(ax, "epoch", axis, default if title is None else title, [
        "Line: median of the members. Band: their middle half." if len(everyone) > 1 and points.size else "",
        "A line ends where fewer than half still train." if ends and points.size else "",
    ])  # fmt: skip
