"""`pmlp plot`, and the plots of a result folder: scores of the configurations, and what the ensemble is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.app import folder, target_scores
from pmlp_np.app.screen import Screen
from pmlp_np.base.errors import DataError, compose, unknown_name
from pmlp_np.plots.styles import ACTIVATION_STYLES, GRAY, axes_for, label, legend, say_nothing_to_draw
from pmlp_np.training.metrics import METRICS

Records = Sequence[dict[str, Any]]
KINDS = ("scores", "ensemble")
_X = "parameters"
_ENDINGS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 130
# Sizes of dots in points², without weight in the ensemble and with all of it.
_SMALLEST, _LARGEST = 18.0, 700.0
_SPAN_FOR_LOG = 10.0
_MOST_BARS = 24


def _drawn(kind: str, records: Records, x: str = _X, y: str | None = None) -> Any:
    """Return the matplotlib Figure with a plot of this kind."""
    return (_scores(records, x, y) if kind == "scores" else _ensemble(records)).figure


def _scores(records: Records, x: str, y: str | None) -> Any:
    """Draw a dot for each configuration: a score against a column of numbers; the larger its weight, the larger."""
    from matplotlib.lines import Line2D

    metrics = [name.removeprefix("validation_") for name in records[0] if name.startswith("validation_")]
    y = y or metrics[0]
    if y not in metrics:
        raise DataError(unknown_name("--y", y, metrics))
    columns = [name for name in records[0] if name not in ("rank", "id") and _numbers(records, name).size]
    if x not in columns:
        raise DataError(unknown_name("--x", x, columns))
    ax = axes_for(None)
    known = [record for record in records if not _missing(record[x]) and not _missing(record[f"validation_{y}"])]
    shown: dict[str, Any] = {}
    for record in known:
        activation = "linear" if record["configuration"].startswith("linear") else record["activation"]
        style = ACTIVATION_STYLES.get(activation)
        color = style.color if style else GRAY
        size = _SMALLEST + (_LARGEST - _SMALLEST) * record["weight"]
        ax.scatter(record[x], record[f"validation_{y}"], size, color=color, alpha=0.75, linewidths=0)
        shown.setdefault(activation, Line2D([], [], color=color, marker="o", linestyle="", label=activation))
    if not known:
        say_nothing_to_draw(ax, "no configuration has such numbers")
    else:
        _scale(ax.set_xscale, [record[x] for record in known])
        _scale(ax.set_yscale, [record[f"validation_{y}"] for record in known])
        legend(ax, list(shown.values()), "activation")
    better = "larger" if METRICS[y].grows else "smaller"
    name = METRICS[y].label
    label(ax, x.replace("_", " "), f"{name} out of fold ({better} is better)", f"{_capital(name)} of configurations",
          ["The larger a dot, the larger its weight in the ensemble."])  # fmt: skip
    return ax


def _ensemble(records: Records) -> Any:
    """Draw a bar for each configuration of the ensemble: its weight."""
    ax = axes_for(None)
    used = sorted((record for record in records if record["weight"] > 0.0), key=lambda record: -record["weight"])
    first = [name for name in records[0] if name.startswith("validation_")][0]
    metric = first.removeprefix("validation_")
    bars = used[:_MOST_BARS]
    names = [f"{record['configuration']}, id {record['id']}" for record in bars]
    drawn = ax.barh(range(len(bars)), [record["weight"] for record in bars], color="#4477aa")
    ax.bar_label(drawn, [target_scores.shown(metric, record[first]) for record in bars], padding=4, fontsize=8.5)
    ax.set_yticks(range(len(bars)), names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    notes = [f"Beside the bars: {METRICS[metric].label} out of fold."]
    if len(used) > len(bars):
        notes.append(f"{len(used) - len(bars)} more have less weight.")
    label(ax, "weight", "", "Configurations of the ensemble", notes, max(map(len, names)))
    return ax


def _missing(value: Any) -> bool:
    return not isinstance(value, int | float) or not math.isfinite(value)


def _numbers(records: Records, name: str) -> np.ndarray:
    return np.array([record[name] for record in records if not _missing(record[name])], np.float64)


def _scale(set_scale: Any, values: Sequence[float]) -> None:
    if min(values) > 0.0 and max(values) >= _SPAN_FOR_LOG * min(values):
        set_scale("log")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def draw_all(records: Records, where: Path) -> list[str]:
    """Draw every kind of plot into a new folder. Returns notes on plots that could not be drawn.

    Such a plot does not stop the fit; an OSError (a full disk) does.
    """
    notes = []
    where.mkdir()
    for kind in KINDS:
        try:
            _drawn(kind, records).savefig(where / f"{kind}.png", dpi=_DOTS_PER_INCH)
        except OSError:
            raise
        except Exception as error:
            notes.append(f"plot {kind} could not be drawn: {error}")
    return notes


def draw_one(
    result: folder.Result, kind: str, out: Path, x: str, y: str | None, overwrite: bool, screen: Screen
) -> None:
    """Run `pmlp plot`."""
    if kind not in KINDS:
        raise DataError(unknown_name("--kind", kind, KINDS))
    if out.suffix.lower() not in _ENDINGS:
        raise DataError(compose("--out", f"a file that ends in {', '.join(_ENDINGS)}", repr(str(out))))
    folder.check_file(out, overwrite, result.files())
    with screen.busy("Drawing"):
        figure = _drawn(kind, result.records, x, y)
        with folder.whole_file(out, overwrite) as draft:
            figure.savefig(draft, dpi=_DOTS_PER_INCH)
    screen.say(f"Written: {out}")
    screen.document({"out": str(out), "kind": kind})
