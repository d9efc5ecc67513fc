"""`pmlp plot`, and the plots of a result folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pmlp_np as pm
from pmlp_np.app import folder
from pmlp_np.app.preparation import Target
from pmlp_np.app.screen import Screen
from pmlp_np.base.errors import DataError, compose, unknown_name

KINDS = ("loss", "width", "parameters", "activation", "heat-map")
_ENDINGS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 130


def _drawn(kind: str, pool: pm.Pool, target: Target, x: str = "width", y: str = "learning_rate") -> Any:
    """Return the matplotlib Figure with a plot of this kind."""
    from pmlp_np import plots

    if kind == "loss":
        axes = plots.loss_curves(pool, by=_grouping(pool))
    elif kind == "heat-map":
        axes = plots.heat_map(pool, x, y)
    elif kind == "activation":
        axes = plots.score_by_activation(pool)
    else:
        axes = plots.score_by_size(pool, size=kind)
    figure = axes.figure
    if not target.classes:
        # Members are trained on a standardized target, and the pool's scores are in its units.
        note = f"Errors in standard deviations of {target.name}: 1 is {target.scale:.4g}."
        figure.supxlabel(note, x=0.01, ha="left", fontsize="small", color="#555555")
    return figure


def _grouping(pool: pm.Pool) -> str | None:
    """Return the column that groups curves: None for repeats of a spec, else the activation or the learning rate."""
    records = pool.leaderboard()
    specs = {(record["architecture"], record["learning_rate"]) for record in records}
    if len(specs) < len(pool) or len(pool) <= len(KINDS):
        return None
    return "activation" if len({record["activation"] for record in records}) > 1 else "learning_rate"


def draw_all(pool: pm.Pool, target: Target, where: Path) -> list[str]:
    """Draw every kind of plot into a folder. Returns notes on plots that could not be drawn.

    Such a plot does not stop the fit; an OSError (a full disk) does.
    """
    notes = []
    for kind in KINDS:
        try:
            _drawn(kind, pool, target).savefig(where / f"{kind}.png", dpi=_DOTS_PER_INCH)
        except OSError:
            raise
        except Exception as error:
            notes.append(f"plot {kind} could not be drawn: {error}")
    return notes


def draw_one(result: folder.Result, kind: str, out: Path, x: str, y: str, overwrite: bool, screen: Screen) -> None:
    """Run `pmlp plot`."""
    if kind not in KINDS:
        raise DataError(unknown_name("--kind", kind, KINDS))
    if out.suffix.lower() not in _ENDINGS:
        raise DataError(compose("--out", f"a file that ends in {', '.join(_ENDINGS)}", repr(str(out))))
    folder.check_file(out, overwrite, result.files())
    with screen.busy("Drawing"):
        try:
            figure = _drawn(kind, result.pool, result.preparation.target, x, y)
        except DataError as error:
            # The function's arguments are the command's options.
            raise DataError(f"--{error}" if str(error).startswith(("x:", "y:")) else str(error)) from None
        with folder.whole_file(out, overwrite) as draft:
            figure.savefig(draft, dpi=_DOTS_PER_INCH)
    screen.say(f"Written: {out}")
    screen.document({"out": str(out), "kind": kind})
