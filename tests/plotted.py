"""Small pools to draw, and what is read off their plots."""

from itertools import pairwise

import numpy as np

import pmlp_np as pm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 5))
Y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
CLASSES = np.searchsorted(np.quantile(Y, [0.5, 0.8]), Y)
TRAIN, VALIDATION = (X[:100], Y[:100]), (X[100:], Y[100:])
EXPLODING = pm.SGD(learning_rate=1e6)


def regression(specs, **options):
    return pm.Pool(specs, 5, seed=3).fit(*TRAIN, **dict(epochs=6, validation_data=VALIDATION) | options)


def rmse(pool):
    return np.sqrt(((pool.predict(X[100:]) - Y[100:]) ** 2).mean(axis=1))


def kinds(pool, key):
    """{key of a spec: places of the members that have it}."""
    found = {}
    for place, member in enumerate(pool.specs):
        found.setdefault(key(member), []).append(place)
    return found


def lines(ax):
    return {line.get_gid(): line for line in ax.get_lines() if line.get_gid()}


def dots(ax):
    """{name: (n, 2)} of the members' dots."""
    found = {c.get_gid(): np.asarray(c.get_offsets()) for c in ax.collections if c.get_gid()}
    return {gid.removeprefix("members of "): xy for gid, xy in found.items() if gid.startswith("members of ")}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def notes(ax):
    return " ".join(text.get_text().replace("\n", " ") for text in ax.texts)


def quantile(values, q):
    """By hand: linear between order statistics."""
    values = sorted(values)
    place = q * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def band(ax, gid):
    """(low, high) over epochs of a band."""
    (found,) = [c for c in ax.collections if c.get_gid() == gid]
    corners = found.get_paths()[0].vertices
    at = [corners[np.isclose(corners[:, 0], epoch), 1] for epoch in np.unique(corners[:, 0])]
    return np.array([y.min() for y in at]), np.array([y.max() for y in at])


def assert_inside_and_apart(figure):
    """Every text lies on the figure, tick labels of an axis don't touch, and the data lie beside the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    for ax in figure.axes:
        shown = []  # ticks outside the limits have labels that are not drawn
        for direction, labels in enumerate((ax.get_xticklabels(), ax.get_yticklabels())):
            low, high = sorted((ax.get_xlim, ax.get_ylim)[direction]())
            here = [t for t in labels if t.get_text() and low <= t.get_position()[direction] <= high]
            shown += here
            boxes = sorted(t.get_window_extent(renderer).get_points()[:, direction].tolist() for t in here)
            if not any(t.get_rotation() for t in here):
                assert all(before[1] <= after[0] + 1 for before, after in pairwise(boxes)), here
        own = [*ax.texts, ax.xaxis.label, ax.yaxis.label, *(ax.get_legend().get_texts() if ax.get_legend() else ())]
        own += [t for t in ax.get_children() if hasattr(t, "get_text")]  # titles are among them
        for text in [*shown, *own]:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1
            assert inside or not text.get_text(), text
        if ax.get_legend():
            assert ax.get_legend().get_window_extent(renderer).x0 >= ax.bbox.x1
