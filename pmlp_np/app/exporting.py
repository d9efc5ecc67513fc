"""`pmlp export`: the ensemble as a file for another system, which takes the columns of a table as they are.

Before a file gets its name, it predicts made-up rows, and is compared with `pmlp predict`.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from pmlp_np.app import folder
from pmlp_np.app.columns import Columns
from pmlp_np.app.screen import Screen
from pmlp_np.base.errors import DataError, compose
from pmlp_np.data.preprocessing.category_column import CategoryColumn
from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE
from pmlp_np.models.export.c_formulas import is_identifier
from pmlp_np.models.export.to_python import is_module_name

_ROWS, _MISSING = 200, 0.1
# A larger difference, in standard deviations of the target or in probability, is more than rounding in float32.
_TOLERABLE = 1e-3


def _to_c(model: pm.TableModel, path: Path, stem: str) -> None:
    model.to_c(path, prefix=stem if is_identifier(stem) else "model")


def _run_onnx(path: Path, frame: Any, columns: Columns) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    known = json.loads(session.get_modelmeta().custom_metadata_map["columns"])
    missing = {each["name"]: each["missing"] for each in known}
    feeds = {}
    for name in (each.name for each in session.get_inputs()):
        cells = frame[name]
        if cells.dtype.kind == "M":
            cells = (cells - np.datetime64(0, "us")) / np.timedelta64(1, "D")
        elif cells.dtype.kind != "f":
            cells = cells.astype("object").where(cells.notna(), missing[name])
        feeds[name] = cells.to_numpy()[:, None]
    return np.asarray(session.run(None, feeds)[-1])


def _run_python(path: Path, frame: Any, columns: Columns) -> np.ndarray:
    names = runpy.run_path(str(path))
    return np.asarray(names["predict_proba" if columns.target.classes else "predict"](frame))


@dataclass(frozen=True)
class _Format:
    """A format: what writes it, what predicts with it (None: nothing here), the package for that, how to use it."""

    write: Callable[[pm.TableModel, Path, str], Any]
    run: Callable[[Path, Any, Columns], np.ndarray] | None
    needs: str
    use: str


_FORMATS = {
    ".onnx": _Format(lambda model, path, _: model.to_onnx(path), _run_onnx, "onnxruntime",
                     "onnxruntime.InferenceSession({out!r}).run(None, {{name: column of shape (n, 1), ...}})"),
    ".py": _Format(lambda model, path, _: model.to_python(path), _run_python, "numpy",
                   "from {stem} import predict; predict(rows), rows a data frame or a dict of columns"),
    ".h": _Format(_to_c, None, "", '#include "{name}", and link with -lm; its first lines say how to call it'),
}  # fmt: skip
_GONE = (".pt2", ".skops")


def export_model(result: folder.Result, out: Path, overwrite: bool, screen: Screen) -> None:
    """Run `pmlp export`."""
    ending = out.suffix.lower()
    if ending not in _FORMATS:
        hint = "pm.TableModel.load(...).networks() gives single networks for those." if ending in _GONE else ""
        raise DataError(compose("--out", f"a file that ends in {', '.join(_FORMATS)}", repr(str(out)), hint))
    folder.check_file(out, overwrite, result.files())
    if ending == ".py" and not is_module_name(out.stem):
        hint = f"For instance {out.with_name('model.py')}."
        raise DataError(compose("--out", "a module's name, that can be imported", repr(out.name), hint))
    format, columns, model = _FORMATS[ending], result.columns, result.model
    with screen.busy(f"Writing {out}"), folder.whole_file(out, overwrite) as draft:
        format.write(model, draft, out.stem)
        difference = _difference(format, draft, model, columns)
    size = out.stat().st_size
    screen.say(f"The ensemble is written to {out} ({size:,} bytes).")
    if difference is not None:
        outputs = "probabilities" if columns.target.classes else "values, in standard deviations of the target,"
        screen.say(f"Checked on {_ROWS} made-up rows: {outputs} within {difference:.1g} of pmlp predict's.")
    screen.say(f"Use it: {format.use.format(out=str(out), stem=out.stem, name=out.name)}")
    if difference is not None and not difference <= _TOLERABLE:
        screen.notes([f"it predicts up to {difference:.3g} apart from pmlp predict"])
    screen.document({"out": str(out), "bytes": size, "columns": columns.names, "difference": difference})


def _difference(format: _Format, path: Path, model: pm.TableModel, columns: Columns) -> float | None:
    """Return the largest difference between predictions; None if there is nothing here that predicts."""
    if format.run is None or importlib.util.find_spec(format.needs) is None:
        return None
    frame = made_up_rows(model, columns)
    expected = model.predict_proba(frame) if columns.target.classes else model.predict(frame)
    difference = np.abs(format.run(path, frame, columns).reshape(expected.shape) - expected).max()
    return float(difference if columns.target.classes else difference / model.targets.scale[0])


def made_up_rows(model: pm.TableModel, columns: Columns) -> Any:
    """Return a pandas.DataFrame of random cells as the model's training rows had them, some missing."""
    import pandas

    draw = np.random.default_rng(0)
    cells: dict[str, Any] = {}
    for i, column in enumerate(columns.columns):
        used = model.views.columns.get(i)
        if used is None:
            # The model does not read it.
            cells[column.name] = np.full(_ROWS, None if column.kind == CATEGORY else np.nan)
            continue
        learned, holes = used.learned, draw.random(_ROWS) < _MISSING * used.learned.marks_missing
        if isinstance(learned, CategoryColumn):
            texts = draw.choice(np.array(learned.known, object), _ROWS)
            texts[holes] = None
            cells[column.name] = texts
        else:
            cells[column.name] = np.where(holes, np.nan, draw.choice(learned.quantiles, _ROWS))
    frame = pandas.DataFrame(cells)
    for column in columns.columns:
        if column.kind == DATE:
            days = frame[column.name]
            stamps = np.where(days.isna(), 0, days * 86400e6).astype("datetime64[us]")
            frame[column.name] = np.where(days.isna(), np.datetime64("NaT", "us"), stamps)
    return frame
