"""Charts as inline SVG. Colors are classes (`page.css`), so that they follow the page's theme.

A chart is 360 units wide, which is about its width in pixels on a phone and in a column of a wide page, so that texts
keep their size.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pmlp_np.report.axes import Axis, compact, kind_for
from pmlp_np.report.markup import Html, element, number

WIDTH, HEIGHT = 360.0, 240.0
LEFT, RIGHT, TOP = 46.0, 350.0, 24.0
_BELOW = 38.0  # of the plot: ticks and the name of the x axis
_ROW, _LABEL, _LONGEST_LABEL = 22.0, 6.4, 18
_MISSING_WIDTH = 54.0
_SERIES = 6


@dataclass(frozen=True)
class Words:
    """A chart's texts: a name that is unique on the page, its title, what it shows, and the names of its axes."""

    name: str
    title: str
    shows: str
    x: str
    y: str


def series(k: int) -> str:
    """Return the class of a series: a color and a dash."""
    return f"s{k % _SERIES}"


def swatch(k: int) -> Html:
    """Return a sample of a series' line, for a legend."""
    line = element("path", d="M1 5H25", class_=f"line {series(k)}")
    return element("svg", line, viewBox="0 0 26 10", class_="swatch", aria_hidden="true")


def svg(words: Words, height: float, *marks: Any) -> Html:
    """Return an image with a title and a description."""
    ids = f"{words.name}-title", f"{words.name}-shows"
    return element(
        "svg", element("title", words.title, id=ids[0]), element("desc", words.shows, id=ids[1]), *marks,
        viewBox=f"0 0 {number(WIDTH)} {number(height)}", class_="chart", role="img", aria_labelledby=" ".join(ids),
    )  # fmt: skip


def text(x: float, y: float, content: str, anchor: str = "middle", class_: str = "tick") -> Html:
    return element("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def framed(words: Words, x: Axis, y: Axis, *marks: Any, height: float = HEIGHT, most_x: int = 6) -> Html:
    """Return a chart with grid, ticks and names of axes around marks."""
    bottom = height - _BELOW
    across = "".join(f"M{number(x.start)} {number(y(v))}H{number(RIGHT)}" for v, _ in y.ticks())
    parts = [
        element("path", d=across, class_="grid"),
        [text(LEFT - 6.0, y(v) + 4.0, label, "end") for v, label in y.ticks()],
        element("path", d=f"M{number(x.start)} {number(bottom)}H{number(RIGHT)}", class_="axis"),
        [text(x(v), bottom + 15.0, label) for v, label in x.ticks(most_x)],
        text(2.0, 12.0, words.y, "start", "name"), text(RIGHT, height - 4.0, words.x, "end", "name"),
    ]  # fmt: skip
    return svg(words, height, *parts, *marks)


def plane(
    xs: Sequence[float], ys: Sequence[float], height: float = HEIGHT, x_log: bool = False, y_log: bool = False
) -> tuple[Axis, Axis]:
    """Return the axes of a plot of these values; logarithmic ones only where the values suit them."""
    return (
        Axis.over(xs, LEFT + 4.0, RIGHT, kind_for(xs) if x_log else "linear"),
        Axis.over(ys, height - _BELOW, TOP, kind_for(ys) if y_log else "linear"),
    )


def scatter(words: Words, points: Sequence[Sequence[float]], height: float = 320.0) -> Html:
    """Return predicted against true values, on equal axes with their diagonal."""
    both = [value for point in points for value in point]
    x, y = plane(both, both, height)
    diagonal = f"M{number(x(x.low))} {number(y(x.low))}L{number(x(x.high))} {number(y(x.high))}"
    dots = "".join(f"M{number(x(a))} {number(y(b))}h0" for a, b in points)
    few = len(points) <= 100
    return framed(
        words, x, y, element("path", d=diagonal, class_="reference"),
        element("path", d=dots, class_="dots few" if few else "dots"), height=height, most_x=5,
    )  # fmt: skip


def histogram(words: Words, bins: Sequence[Sequence[float]]) -> Html:
    """Return bars of counts. bins: (low, high, count)."""
    x, y = plane([bins[0][0], bins[-1][1], 0.0], [0.0, max(b[2] for b in bins) or 1.0])
    y = Axis(0.0, y.high, y.start, y.end)
    bars = [
        element("rect", x=x(a) + 0.5, y=y(c), width=max(x(b) - x(a) - 1.0, 0.5), height=y(0.0) - y(c), class_="bar")
        for a, b, c in bins
    ]
    zero = element("path", d=f"M{number(x(0.0))} {number(y.start)}V{number(y.end)}", class_="reference")
    return framed(words, x, y, bars, zero)


def lines(words: Words, curves: Sequence[Sequence[Sequence[float]]]) -> Html:
    """Return curves of points, each a series; values that span a large ratio on a logarithmic axis."""
    xs, ys = ([point[i] for curve in curves for point in curve] for i in (0, 1))
    x, y = plane(xs, ys, y_log=True)
    paths = [element("path", d=polyline(x, y, curve), class_=f"line {series(k)}") for k, curve in enumerate(curves)]
    return framed(words, x, y, paths)


def polyline(x: Axis, y: Axis, points: Sequence[Sequence[float]]) -> str:
    return "M" + "L".join(f"{number(x(a))} {number(y(b))}" for a, b in points)


def sizes(words: Words, records: Sequence[tuple[float, float, float, str]]) -> Html:
    """Return losses against sizes. records: (parameters, loss, weight, label); circles of weight 0 are hollow."""
    x, y = plane([r[0] for r in records], [r[1] for r in records], x_log=True, y_log=True)
    heaviest = max(sys.float_info.min, *(r[2] for r in records))
    circles = [
        element(
            "circle", element("title", label), cx=x(a), cy=y(b), r=4.0 + 6.0 * (max(weight, 0.0) / heaviest) ** 0.5,
            class_="used" if weight > 0.0 else "unused",
        )
        for a, b, weight, label in sorted(records, key=lambda r: -r[2])
    ]  # fmt: skip
    return framed(words, x, y, circles, most_x=4)


def reliability(words: Words, bins: Sequence[dict[str, Any]]) -> Html:
    """Return shares against probabilities, with intervals, beside the diagonal."""
    height = 320.0
    x, y = Axis(0.0, 1.0, LEFT + 4.0, RIGHT), Axis(0.0, 1.0, height - _BELOW, TOP)
    rows = max(1, *(each["rows"] for each in bins))
    marks = []
    for b in bins:
        interval = f"M{number(x(b['mean']))} {number(y(b['low']))}V{number(y(b['high']))}"
        radius = 3.0 + 5.0 * (max(b["rows"], 0) / rows) ** 0.5
        marks.append(element("path", d=interval, class_="interval"))
        marks.append(element("circle", cx=x(b["mean"]), cy=y(b["share"]), r=radius, class_="used"))
    diagonal = f"M{number(x(0.0))} {number(y(0.0))}L{number(x(1.0))} {number(y(1.0))}"
    return framed(words, x, y, element("path", d=diagonal, class_="reference"), marks, height=height)


def dependence_curve(
    words: Words, at: Sequence[float], found: Sequence[dict[str, Any]], deciles: Sequence[float],
    y_range: Sequence[float], is_date: bool,
) -> Html:  # fmt: skip
    """Return predictions along a column of numbers, with its deciles, and a point for missing cells."""
    has_missing = any(line["missing"] is not None for line in found)
    end = RIGHT - (_MISSING_WIDTH if has_missing else 0.0)
    x = Axis.over(at, LEFT + 4.0, end, "date" if is_date else "linear")
    y = Axis.over(y_range, HEIGHT - _BELOW, TOP)
    bottom = HEIGHT - _BELOW
    rug = "".join(f"M{number(x(q))} {number(bottom)}v-6" for q in deciles if x.low <= q <= x.high)
    marks: list[Any] = [element("path", d=rug, class_="rug")]
    for k, line in enumerate(found):
        points = list(zip(at, line["values"], strict=True))
        marks.append(element("path", d=polyline(x, y, points), class_=f"line {series(k)}"))
        dots = "".join(f"M{number(x(a))} {number(y(b))}h0" for a, b in points)
        marks.append(element("path", d=dots, class_=f"knots {series(k)}"))
        if line["missing"] is not None:
            marks.append(_dot(RIGHT - _MISSING_WIDTH / 2.0, y(line["missing"]), k, line["missing"]))
    if has_missing:
        marks.append(text(RIGHT - _MISSING_WIDTH / 2.0, bottom + 15.0, "missing"))
    return framed(words, x, y, marks, most_x=4 if has_missing else 5)


def dependence_rows(
    words: Words, at: Sequence[str], found: Sequence[dict[str, Any]], y_range: Sequence[float]
) -> Html:  # fmt: skip
    """Return predictions by category: a row for each, with a dot for each series."""
    height = TOP + _ROW * len(at) + _BELOW
    labels = [name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…" for name in at]
    left = 16.0 + _LABEL * max(map(len, labels))
    x = Axis.over(y_range, left, RIGHT)
    bottom = height - _BELOW
    down = "".join(f"M{number(x(v))} {number(TOP)}V{number(bottom)}" for v, _ in x.ticks(4))
    marks: list[Any] = [element("path", d=down, class_="grid")]
    marks += [text(x(v), bottom + 15.0, label) for v, label in x.ticks(4)]
    for i, label in enumerate(labels):
        level = TOP + _ROW * (i + 0.5)
        marks.append(text(left - 8.0, level + 4.0, label, "end"))
        marks += [_dot(x(line["values"][i]), level, k, line["values"][i]) for k, line in enumerate(found)]
    marks.append(text(RIGHT, height - 4.0, words.x, "end", "name"))
    marks.append(text(2.0, 12.0, words.y, "start", "name"))
    return svg(words, height, marks)


def _dot(x: float, y: float, k: int, value: float) -> Html:
    return element("circle", element("title", compact(value)), cx=x, cy=y, r=4.5, class_=f"dot {series(k)}")
