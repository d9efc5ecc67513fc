"""`pmlp export`: a member, or the mean of several, as a file for another system, with a check of its predictions.

The model takes the prepared columns in the table's units (see `preparation`): standardization of columns and target is
folded into the weights. No format needs pmlp_np to run, and none is a pickle: a PyTorch model is a torch.export
program, which needs no class of pmlp_np; a scikit-learn estimator is a skops file, which loads only trusted types.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pmlp_np.app import folder
from pmlp_np.app.export_check import Check, checked
from pmlp_np.app.onnx_table import has_times, output_name, with_preparation
from pmlp_np.app.preparation import Category, Date, Preparation
from pmlp_np.app.python_table import input_texts
from pmlp_np.app.screen import Screen
from pmlp_np.app.tables import plain_text
from pmlp_np.base.errors import DataError, compose, show, unknown_name
from pmlp_np.models.export.c_formulas import is_identifier
from pmlp_np.models.export.to_python import is_module_name, to_python

_FORMATS = {".onnx": "onnx", ".pt2": "torch", ".skops": "sklearn", ".py": "python", ".h": "c"}
_HOW_TO_LOAD = {
    "onnx": "onnxruntime.InferenceSession({out!r}).run(None, {{'X': inputs}})",
    "onnx of the raw table": "onnxruntime.InferenceSession({out!r}).run(None, {{name: column of shape (n, 1), ...}})",
    "torch": "torch.export.load({out!r}).module()(inputs)",
    "sklearn": "skops.io.load({out!r}).predict(inputs)",
    "python": "from {stem} import predict; predict(inputs)",
    "python of the raw table": "from {stem} import predict; predict(rows), rows a list of dicts or a data frame",
    "c": '#include "{file}" and {stem}_predict(inputs), compiled with -lm',
}
_SKLEARN_ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu")
# A larger difference, in standard deviations of the target or in probability, is more than rounding in float32.
_TOLERABLE = 1e-3
_MOST_SHOWN = 12


def export_model(
    result: folder.Result, format: str | None, out: Path, member: int | None, ensemble: int | None, overwrite: bool,
    screen: Screen, raw_table: bool = False,
) -> None:  # fmt: skip
    """Run `pmlp export`."""
    kind = format_of(format, out)
    if raw_table and kind not in _HOLD_A_PREPARATION:
        expected = f"format {' or '.join(_HOLD_A_PREPARATION)}, which can hold the preparation"
        raise DataError(compose("--raw-table", expected, kind))
    folder.check_file(out, overwrite, result.files())
    notes: list[str] = []
    ids, preparation = result.ids(member, ensemble, notes), result.preparation
    if kind == "sklearn":
        _require_expressible(result, ids)
    with screen.busy(f"Writing {out}"):
        model = model_of(result, ids, raw_table)
        names = preparation.input_names()
        classes = [plain_text(c) for c in preparation.target.classes] or None
        if classes and all(isinstance(c, int) for c in preparation.target.classes):
            classes = list(preparation.target.classes)  # type: ignore[arg-type]
        with folder.whole_file(out, overwrite) as draft:
            if raw_table:
                _HOLD_A_PREPARATION[kind](model, draft, preparation, classes)
            else:
                _WRITERS[kind](model, draft, names, classes, out.stem)
            check = checked(kind, draft, result, ids, raw_table)
    screen.notes([*notes, *_notes_of(check, preparation, raw_table)])
    subject = f"Member {ids[0]}" if len(ids) == 1 else f"The mean of {len(ids)} members"
    outputs = "probabilities" if classes else "values, in standard deviations of the target,"
    screen.say(f"{subject} written to {out} ({out.stat().st_size:,} bytes).")
    if check.difference is not None:
        screen.say(f"Checked on {check.rows}: {outputs} within {check.difference:.1g} of pmlp predict's.")
    if raw_table:
        names = [column.name for column in preparation.columns]
        if kind == "onnx":
            listed = ", ".join(f"{column.name} ({_input_type(column)})" for column in preparation.columns)
            screen.say(f'Inputs, each (n, 1): {listed}; NaN or "" where missing')
            screen.say(f"Outputs: {', '.join(_outputs(preparation, names))}")
        else:
            screen.say(f"Columns, as the table writes them: {', '.join(names)}")
        for column in preparation.columns:
            if isinstance(column, Category):
                screen.say(f"Categories of {column.name}: {_listed(column.categories)}")
    else:
        screen.say(f"Inputs, float32, in this order: {', '.join(names)}")
    stem = out.stem if kind != "c" or is_identifier(out.stem) else "model"
    template = _HOW_TO_LOAD[f"{kind} of the raw table" if raw_table else kind]
    usage = template.format(out=str(out), stem=stem, file=out.name)
    if kind == "python" and not (out.suffix == ".py" and is_module_name(out.stem)):
        usage = "called NAME.py, " + usage.replace(out.stem, "NAME")
    screen.say(f"Use it: {usage}")
    screen.document({
        "out": str(out), "format": kind, "members": ids, "inputs": names, "classes": classes,
        "categories": {c.name: list(c.categories) for c in preparation.columns if isinstance(c, Category)},
        "checked_on": check.rows, "difference": check.difference, "use": usage,
    })  # fmt: skip


def _input_type(column: Any) -> str:
    """Return the type of an input of the model for raw tables, in words."""
    if isinstance(column, Category):
        return "string"
    if isinstance(column, Date):
        return f"days since 1970, {'float64' if has_times(column) else 'float32'}"
    return "float32"


def _outputs(preparation: Preparation, columns: Sequence[str]) -> list[str]:
    names = ("label", "probabilities") if preparation.target.classes else ("prediction",)
    return [output_name(name, columns) for name in names]


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(map(show, texts[:_MOST_SHOWN]))
    more = len(texts) - _MOST_SHOWN
    return (shown or "none that came often enough") + (f" and {more:,} more (--json has all)" if more > 0 else "")


def _notes_of(check: Check, preparation: Preparation, raw_table: bool) -> list[str]:
    """Return notes on the result of the check."""
    notes = []
    if check.difference is None:
        notes.append("the model was not checked: the program that runs it is not installed")
    elif not check.difference <= _TOLERABLE:
        notes.append(f"it predicts up to {check.difference:.2g} standard deviations apart from pmlp predict")
    dates = {name for column in preparation.columns if isinstance(column, Date) for name in column.input_names()}
    for name in check.imprecise:
        if raw_table and name in dates:
            continue
        # A date can't be shifted in a table. A model that reads dates itself loses no digits.
        hint = "--raw-table keeps them" if name in dates else "subtract a round number from it and fit again"
        notes.append(f"input {name!r} loses digits in float32: {hint}")
    return notes


def format_of(format: str | None, out: Path) -> str:
    """Return the export format: the option, or the one of the file's ending."""
    if format is None:
        if out.suffix.lower() not in _FORMATS:
            known = ", ".join(f"{end} ({name})" for end, name in _FORMATS.items())
            hint = f"Say --format {', '.join(_FORMATS.values())}."
            raise DataError(compose("--out", f"a file that ends in {known}", repr(str(out)), hint))
        return _FORMATS[out.suffix.lower()]
    if format not in _FORMATS.values():
        others = ["pytorch", "scikit-learn", "numpy", "c99"]
        raise DataError(unknown_name("--format", format, _FORMATS.values(), others))
    return format


def model_of(result: folder.Result, ids: list[int], raw_table: bool = False) -> Any:
    """Return the pm.MLP or pm.Ensemble that predicts in the target's units from inputs in the table's units.

    For a raw table its inputs are standardized ones: the exported preparation standardizes.
    """
    target, pool = result.preparation.target, result.pool
    outputs = None if target.classes else (target.mean, target.scale)
    model: Any = pool.extract(ids[0]) if len(ids) == 1 else pool.ensemble(ids)
    return model.folded(inputs=None if raw_table else result.preparation.affine(), outputs=outputs)


def _require_expressible(result: folder.Result, ids: list[int]) -> None:
    """Raise DataError for activations that scikit-learn lacks. The hint names the best member with one that it has."""
    activation = {record["id"]: str(record["activation"]).split("/") for record in result.records}
    odd = [i for i in ids if not set(activation[i]) <= set(_SKLEARN_ACTIVATIONS)]
    if odd:
        fitting = [i for i, names in activation.items() if set(names) <= set(_SKLEARN_ACTIVATIONS)]
        hint = f"--member {fitting[0]} is the best of these." if fitting else "Choose another --format."
        expected = f"one of the activations that scikit-learn knows ({', '.join(_SKLEARN_ACTIVATIONS)})"
        raise DataError(compose(f"member {odd[0]}", expected, "/".join(activation[odd[0]]), hint))


# Writers: (model, path of the draft, names of inputs, names of classes, stem of the final file's name).


def _write_onnx(model: Any, path: Path, names: list[str], classes: Any, stem: str) -> None:
    model.to_onnx(path, input_names=names, class_names=classes)


def _write_onnx_of_table(model: Any, path: Path, preparation: Preparation, classes: Any) -> None:
    import onnx

    onnx.save(with_preparation(model.to_onnx(class_names=classes), preparation), path)


def _write_python_of_table(model: Any, path: Path, preparation: Preparation, classes: Any) -> None:
    folder.write_text(path, to_python(model._networks(), None, None, classes, input_texts(preparation)))


# Writers of models whose inputs are the raw table's columns.
_HOLD_A_PREPARATION: dict[str, Callable[[Any, Path, Preparation, Any], None]] = {
    "onnx": _write_onnx_of_table,
    "python": _write_python_of_table,
}


def _write_python(model: Any, path: Path, names: list[str], classes: Any, stem: str) -> None:
    # Without the path: the text contains the module's name, and the draft has another one.
    text = model.to_python(None, input_names=names, class_names=classes)
    folder.write_text(path, text)


def _write_c(model: Any, path: Path, names: list[str], classes: Any, stem: str) -> None:
    prefix = stem if is_identifier(stem) else None
    folder.write_text(path, model.to_c(None, input_names=names, class_names=classes, prefix=prefix))


def _write_torch(model: Any, path: Path, names: list[str], classes: Any, stem: str) -> None:
    module = model.to_torch().eval()
    import torch

    example = torch.zeros(2, model.n_features, dtype=getattr(torch, model.dtype.name))
    # Warnings about internals of torch.export are suppressed.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
        extra = {"inputs.json": json.dumps(names), "classes.json": json.dumps(classes)}
        torch.export.save(program, path, extra_files=extra)


def _write_sklearn(model: Any, path: Path, names: list[str], classes: Any, stem: str) -> None:
    if importlib.util.find_spec("skops") is None:
        hint = "Run: pip install 'pmlp_np[app]'."
        raise ImportError(compose("package skops", "one that is installed, to write scikit-learn's", "none", hint))
    import skops.io

    skops.io.dump(model.to_sklearn(classes), path)


_WRITERS: dict[str, Callable[[Any, Path, list[str], Any, str], None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
    "sklearn": _write_sklearn,
    "python": _write_python,
    "c": _write_c,
}
