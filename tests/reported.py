"""Small searches whose results tests report on, each run once in a process."""

import functools

import numpy as np

from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE, NUMBER, RawColumn
from pmlp_np.model_selection.clock import Clock
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.search_loop import Search
from pmlp_np.model_selection.search_problem import Problem
from pmlp_np.model_selection.search_settings import Settings
from pmlp_np.model_selection.space import Space
from pmlp_np.report import report_contents

_PLAIN = {"learning_rate": 0.02, "decoupled_weight_decay": 0.1, "dropout": 0.0, "average": 0.9}
SPACE = [
    Configuration({**_PLAIN, "hidden": (8,), "activation": "relu"}, "raw"),
    Configuration({**_PLAIN, "hidden": (6, 5), "activation": "tanh"}, "quant+ple"),
    Configuration({**_PLAIN, "hidden": ()}, "raw+ple8"),
]
HOSTILE = "<script>alert('a & b')</script>"
TASKS = ("values", "several values", "two classes", "classes", "labels")


def table(n):
    """Columns that matter in falling order, with missing cells, and some that say nothing."""
    draw = np.random.default_rng()
    size, color = draw.normal(size=n), draw.choice(["red", "green", HOSTILE], n).astype(object)
    day, noise = 19_000.0 + draw.integers(0, 900, n), draw.normal(size=n)
    signal = 2.0 * size + 1.5 * (color == "red") + 0.001 * (day - 19_000.0)
    size[:: n // 8], color[1 :: n // 8] = np.nan, None
    columns = [
        RawColumn("size", NUMBER, size), RawColumn(HOSTILE, CATEGORY, color), RawColumn("day", DATE, day),
        RawColumn("3", NUMBER, noise), RawColumn("<b>constant</b>", NUMBER, np.ones(n)),
    ]  # fmt: skip
    return columns, signal + 0.3 * draw.normal(size=n)


def targets(task, signal):
    draw = np.random.default_rng()
    if task == "values":
        return 50.0 + 10.0 * signal, "regression"
    if task == "several values":
        return np.stack([50.0 + 10.0 * signal, -signal + 0.1 * draw.normal(size=len(signal))], axis=1), "regression"
    if task == "two classes":
        return np.where(signal > np.median(signal), "yes", "<no>"), "classification"
    if task == "classes":
        number = np.digitize(signal, np.quantile(signal, [0.3, 0.6]))
        return np.array([HOSTILE, "middle", "high"])[number], "classification"
    other = draw.normal(size=len(signal))
    return np.stack([signal > np.median(signal), signal + other > 1.0], axis=1).astype(int), "multilabel"


def search(task, n=120, cv=3, weights=None, configurations=SPACE, epochs=15):
    columns, signal = table(n)
    y, kind = targets(task, signal)
    problem = Problem.of(columns, y, kind, cv, None, weights, 0)
    settings = Settings(None, 100, epochs, progress=False, space=Space.of(list(configurations)))
    return Search(problem, settings, Clock(None)).run(), y


@functools.cache
def found(task):
    """Return (result, y) of a search of this task."""
    return search(task)


@functools.cache
def contents_of(task):
    return report_contents(found(task)[0])
