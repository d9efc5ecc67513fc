"""`pmlp plot`, and the pictures of a result folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pmlp_np as pm
from pmlp_np.app import folder
from pmlp_np.app.screen import Screen
from pmlp_np.errors import DataError, compose, unknown_name

_ENDINGS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 130


def _kinds() -> dict[str, Callable[..., Any]]:
    from pmlp_np import plots

    return {
        "loss": plots.loss_curves,
        "width": lambda pool: plots.score_by_size(pool, size="width"),
        "parameters": lambda pool: plots.score_by_size(pool),
        "activation": plots.score_by_activation,
        "heat-map": plots.heat_map,
    }


def draw_all(pool: pm.Pool, where: Path) -> list[str]:
    """Draw every kind of picture into a folder. Returns notes: a picture that can't be drawn does not cost the fit."""
    notes = []
    try:
        kinds = _kinds()
    except ImportError as error:
        return [f"no plots: {error}"]
    for name, draw in kinds.items():
        try:
            axes = draw(pool, "width", "learning_rate") if name == "heat-map" else draw(pool)
            axes.figure.savefig(where / f"{name}.png", dpi=_DOTS_PER_INCH)
        except OSError:
            raise
        except Exception as error:
            notes.append(f"plot {name} could not be drawn: {error}")
    return notes


def draw_one(result: folder.Result, kind: str, out: Path, x: str, y: str, overwrite: bool, screen: Screen) -> None:
    """Do all of `pmlp plot`."""
    kinds = _kinds()
    if kind not in kinds:
        raise DataError(unknown_name("--kind", kind, kinds))
    if out.suffix.lower() not in _ENDINGS:
        raise DataError(compose("--out", f"a file that ends in {', '.join(_ENDINGS)}", repr(str(out))))
    folder.check_file(out, overwrite)
    with screen.busy("Drawing"):
        axes = kinds[kind](result.pool, x, y) if kind == "heat-map" else kinds[kind](result.pool)
        with folder.whole_file(out, overwrite) as draft:
            axes.figure.savefig(draft, dpi=_DOTS_PER_INCH)
    screen.say(f"Written: {out}")
    screen.document({"out": str(out), "kind": kind})
