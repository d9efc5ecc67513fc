"""`pmlp export`: a member, or the mean of several, as a file for another system, and a check that it predicts the same.

The model takes the prepared columns in the table's own units (see `preparation`): what standardizes them and the target
is folded into its weights. No format needs pmlp_np to run, and none is a pickle: a PyTorch model is a program of
torch.export, which needs no class of ours; an estimator of scikit-learn is a skops file, which loads nothing but what
it is trusted with.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.app import folder
from pmlp_np.app.onnx_table import with_preparation
from pmlp_np.app.preparation import Category, Date, Preparation
from pmlp_np.app.run import raw_mean
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import Table, plain_text
from pmlp_np.errors import DataError, compose, unknown_name
from pmlp_np.formulas.losses import LOSSES

_TABLE = "onnx of the raw table"
_FORMATS = {".onnx": "onnx", ".pt2": "torch", ".skops": "sklearn", ".py": "python"}
_HOW_TO_LOAD = {
    "onnx": "onnxruntime.InferenceSession({out!r}).run(None, {{'X': inputs}})",
    _TABLE: "onnxruntime.InferenceSession({out!r}).run(None, {{name: column of shape (n, 1), ...}})",
    "torch": "torch.export.load({out!r}).module()(inputs)",
    "sklearn": "skops.io.load({out!r}).predict(inputs)",
    "python": "from {stem} import predict; predict(inputs)",
}
_SKLEARN_ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu")
_EXAMPLES = 200
# In units of the target's standard deviation, or of probability: more than this is no rounding of float32.
_TOLERABLE = 1e-3


def export_model(
    result: folder.Result, format: str | None, out: Path, member: int | None, ensemble: int | None, overwrite: bool,
    screen: Screen, raw_table: bool = False,
) -> None:  # fmt: skip
    """Do all of `pmlp export`."""
    kind = format_of(format, out)
    if raw_table and kind != "onnx":
        raise DataError(compose("--raw-table", "format onnx, which alone can hold the preparation", kind))
    kind = _TABLE if raw_table else kind
    folder.check_file(out, overwrite, result.files())
    ids, preparation = result.ids(member, ensemble), result.preparation
    if kind == "sklearn":
        _require_expressible(result, ids)
    with screen.busy(f"Writing {out}"):
        model = model_of(result, ids)
        names = preparation.input_names()
        classes = [plain_text(c) for c in preparation.target.classes] or None
        if classes and all(isinstance(c, int) for c in preparation.target.classes):
            classes = list(preparation.target.classes)  # type: ignore[arg-type]
        with folder.whole_file(out, overwrite) as draft:
            if raw_table:
                _write_onnx_of_table(model, draft, preparation, classes)
            else:
                _WRITERS[kind](model, draft, names, classes)
            difference = _difference(kind, draft, result, ids)
    if difference is not None and difference > _TOLERABLE:
        screen.notes([
            f"it predicts up to {difference:.2g} standard deviations apart from pmlp predict, because float32 has too "
            "few digits for some column: shift or scale that column in the table"
        ])  # fmt: skip
    who = f"Member {ids[0]}" if len(ids) == 1 else f"The mean of {len(ids)} members"
    what = "probabilities" if classes else "values, in standard deviations of the target,"
    checked = "" if difference is None else f" Checked: {what} within {difference:.1g} of pmlp predict's."
    screen.say(f"{who} written to {out} ({out.stat().st_size:,} bytes).{checked}")
    if raw_table:
        words = {"number": "number", "category": "string", "date": "days since 1970"}
        names = [column.name for column in preparation.columns]
        said = ", ".join(f"{column.name} ({words[column.kind]})" for column in preparation.columns)
        screen.say(f'Inputs, each (n, 1): {said}; float32, NaN where missing; strings, "" where missing')
    else:
        screen.say(f"Inputs, float32, in this order: {', '.join(names)}")
    how = _HOW_TO_LOAD[kind].format(out=str(out), stem=out.stem)
    if kind == "python" and not (out.suffix == ".py" and out.stem.isidentifier()):
        how = "called NAME.py, from NAME import predict; predict(inputs)"
    screen.say(f"Use it: {how}")
    screen.document({
        "out": str(out), "format": "onnx" if raw_table else kind, "members": ids, "inputs": names, "classes": classes,
        "difference": difference, "use": how,
    })  # fmt: skip


def format_of(format: str | None, out: Path) -> str:
    """The format that is asked for, or that the file's ending tells."""
    if format is None:
        if out.suffix.lower() not in _FORMATS:
            known = ", ".join(f"{end} ({name})" for end, name in _FORMATS.items())
            mend = "Say --format onnx, torch, sklearn or python."
            raise DataError(compose("--out", f"a file that ends in {known}", repr(str(out)), mend))
        return _FORMATS[out.suffix.lower()]
    if format not in _FORMATS.values():
        raise DataError(unknown_name("--format", format, _FORMATS.values(), ["pytorch", "scikit-learn", "numpy"]))
    return format


def model_of(result: folder.Result, ids: list[int]) -> Any:
    """The pm.MLP or pm.Ensemble that takes inputs in the table's units and predicts in the target's."""
    target, pool = result.preparation.target, result.pool
    outputs = None if target.classes else (target.mean, target.scale)
    model: Any = pool.extract(ids[0]) if len(ids) == 1 else pool.ensemble(ids)
    return model.folded(inputs=result.preparation.affine(), outputs=outputs)


def _require_expressible(result: folder.Result, ids: list[int]) -> None:
    """scikit-learn knows four activations: DataError that names the best member that has one of them."""
    activation = {record["id"]: str(record["activation"]).split("/") for record in result.records}
    odd = [i for i in ids if not set(activation[i]) <= set(_SKLEARN_ACTIVATIONS)]
    if odd:
        fitting = [i for i, names in activation.items() if set(names) <= set(_SKLEARN_ACTIVATIONS)]
        mend = f"--member {fitting[0]} is the best of these." if fitting else "Choose another --format."
        expected = f"one of the activations that scikit-learn knows ({', '.join(_SKLEARN_ACTIVATIONS)})"
        raise DataError(compose(f"member {odd[0]}", expected, "/".join(activation[odd[0]]), mend))


# Writers: (model, path, names of inputs, names of classes).


def _write_onnx(model: Any, path: Path, names: list[str], classes: Any) -> None:
    model.to_onnx(path, input_names=names, class_names=classes)


def _write_onnx_of_table(model: Any, path: Path, preparation: Preparation, classes: Any) -> None:
    import onnx

    onnx.save(with_preparation(model.to_onnx(class_names=classes), preparation), path)


def _write_python(model: Any, path: Path, names: list[str], classes: Any) -> None:
    # The text speaks of the module by its file's name, which the draft has not yet.
    text = model.to_python(None, input_names=names, class_names=classes)
    folder.write_text(path, text)


def _write_torch(model: Any, path: Path, names: list[str], classes: Any) -> None:
    module = model.to_torch().eval()
    import torch

    example = torch.zeros(2, model.n_features, dtype=getattr(torch, model.dtype.name))
    # What torch.export says of its own insides concerns nobody here.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
        extra = {"inputs.json": json.dumps(names), "classes.json": json.dumps(classes)}
        torch.export.save(program, path, extra_files=extra)


def _write_sklearn(model: Any, path: Path, names: list[str], classes: Any) -> None:
    if importlib.util.find_spec("skops") is None:
        mend = "Run: pip install 'pmlp_np[app]'."
        raise ImportError(compose("package skops", "one that is installed, to write scikit-learn's", "none", mend))
    import skops.io

    skops.io.dump(model.to_sklearn(classes), path)


_WRITERS: dict[str, Callable[[Any, Path, list[str], Any], None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
    "sklearn": _write_sklearn,
    "python": _write_python,
}


# The check.


def _difference(kind: str, path: Path, result: folder.Result, ids: list[int]) -> float | None:
    """By how much the written model's predictions of made-up rows differ from pmlp predict's at most: probabilities, or
    values in standard deviations of the target. None where what runs it is not installed."""
    preparation, classes = result.preparation, bool(result.preparation.target.classes)
    table = made_up_table(preparation, _EXAMPLES)
    inputs = preparation.inputs(table, []).astype(np.float32)
    found = _run_on_columns(path, table, preparation) if kind == _TABLE else _RUNNERS[kind](path, inputs, classes)
    if found is None:
        return None
    raw = raw_mean(result.pool, preparation.features(inputs.astype(np.float64)), ids)
    loss = LOSSES["cross_entropy" if classes else "squared_error"]
    expected = loss.probabilities(raw) if classes else preparation.target.in_own_units(raw[:, 0])
    return float(np.abs(found - expected).max()) / preparation.target.scale


def made_up_table(preparation: Preparation, n: int) -> Table:
    """Rows that might be the fitted table's: normal float32 numbers, whole days, any category, some cells missing."""
    import pandas

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for column in preparation.columns:
        missing = rng.random(n) < 0.1
        if isinstance(column, Category):
            # One that is not known, too: it is none of the known ones.
            texts = np.array([*column.categories, "something else"], object)
            cells = texts[rng.integers(len(texts), size=n)]
            cells[missing] = None
            columns[column.name] = cells
            continue
        number = column.days if isinstance(column, Date) else column
        values = (number.mean + number.scale * rng.normal(size=n)).astype(np.float32).astype(np.float64)
        if isinstance(column, Date):
            days = np.round(values).astype(np.int64).astype("datetime64[D]").astype("datetime64[us]")
            columns[column.name] = np.where(missing, np.datetime64("NaT"), days)
        else:
            columns[column.name] = np.where(missing, np.nan, values)
    return Table(pandas.DataFrame(columns), "made-up rows")


def _run_on_columns(path: Path, table: Table, preparation: Preparation) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    feeds = {}
    for column in preparation.columns:
        cells = column.read(table)[:, None]
        if isinstance(column, Category):
            feeds[column.name] = np.where(cells == None, "", cells)  # noqa: E711
        else:
            feeds[column.name] = cells.astype(np.float32)
    return _session_outputs(path, feeds, bool(preparation.target.classes))


def _run_onnx(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    return _session_outputs(path, {"X": inputs}, classes)


def _session_outputs(path: Path, feeds: dict[str, Any], classes: bool) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    asked = {each.name for each in session.get_inputs()}
    feeds = {name: values for name, values in feeds.items() if name in asked}
    return session.run(["probabilities" if classes else "prediction"], feeds)[0]


def _run_torch(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = torch.export.load(path).module()(torch.from_numpy(inputs)).detach().numpy()
    return LOSSES["cross_entropy"].probabilities(raw) if classes else raw[:, 0]


def _run_sklearn(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    import skops.io

    model = skops.io.load(path, trusted=[])
    if not classes:
        return model.predict(inputs)
    return model.predict_proba(inputs)


def _run_python(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    names: dict[str, Any] = {"__name__": "model"}
    exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), names)
    return names["predict_proba" if classes else "predict"](inputs)


_RUNNERS: dict[str, Callable[[Path, np.ndarray, bool], Any]] = {
    "onnx": _run_onnx,
    "torch": _run_torch,
    "sklearn": _run_sklearn,
    "python": _run_python,
}
