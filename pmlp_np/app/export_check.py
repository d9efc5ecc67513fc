"""The check of an exported model: its predictions on rows of the fitted table equal those of `pmlp predict`."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.app import folder
from pmlp_np.app.onnx_table import has_times, output_name
from pmlp_np.app.preparation import Category, Date, Number, Preparation
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.run import raw_mean
from pmlp_np.app.tables import Table, read_table
from pmlp_np.app.typed import typed
from pmlp_np.base.errors import PmlpError
from pmlp_np.formulas.losses import LOSSES

_EXAMPLES = 200
# A note is printed if float32 changes cells by more than this share of the column's standard deviation.
_ROUNDED = 1e-3


@dataclass(frozen=True)
class Check:
    """The result of the check.

    difference: largest difference of predictions (probabilities, or values in standard deviations of the target); None
        if the program that runs the model is not installed.
    rows: the rows of the check, in words.
    imprecise: columns that lose digits in float32.
    """

    difference: float | None
    rows: str
    imprecise: tuple[str, ...] = ()


def checked(kind: str, path: Path, result: folder.Result, ids: list[int], raw_table: bool) -> Check:
    """Run the exported model on rows of the fitted table, or on made-up ones if the table is gone."""
    preparation, classes = result.preparation, bool(result.preparation.target.classes)
    table, rows = example_rows(result)
    exact = preparation.inputs(table, [])
    inputs = exact.astype(np.float32)
    if raw_table:
        predicted = _RUNNERS_OF_TABLES[kind](path, table, preparation)
        expected = _expected(result, ids, exact)
    else:
        predicted = _RUNNERS[kind](path, inputs, classes)
        # Both the model and the pool get the inputs as rounded to float32.
        expected = _expected(result, ids, inputs.astype(np.float64))
    if predicted is None:
        return Check(None, rows)
    with np.errstate(invalid="ignore"):
        lost = np.abs(exact - inputs).max(axis=0) / preparation.affine()[1]
    names = np.array(preparation.input_names(), object)[lost > _ROUNDED]
    return Check(float(np.abs(predicted - expected).max()) / preparation.target.scale, rows, tuple(names))


def _expected(result: folder.Result, ids: list[int], inputs: np.ndarray) -> np.ndarray:
    """Return the predictions of `pmlp predict` for these inputs."""
    target = result.preparation.target
    raw = raw_mean(result.pool, result.preparation.features(inputs), ids)
    if target.classes:
        return LOSSES["cross_entropy"].probabilities(raw)
    return target.in_own_units(raw[:, 0])


def example_rows(result: folder.Result) -> tuple[Table, str]:
    """Return (rows of the fitted table, or made-up ones if it can't be read any more; the rows in words)."""
    preparation, path = result.preparation, str(result.run["table"])
    if path != "-" and Path(path).is_file():
        try:
            source, texts = result.run["source"], preparation.text_columns()
            reading = typed(Reading, source.get("reading", {}))
            # Numbers as they are written, too.
            numbers = [column.name for column in preparation.columns if isinstance(column, Number)]
            table = read_table(path, source["missing"], texts, reading, numbers, preparation.conventions)
            some = np.zeros(len(table), bool)
            some[np.random.default_rng(0).permutation(len(table))[:_EXAMPLES]] = True
            table.keep_rows(some)
            preparation.inputs(table, [])
        except (PmlpError, OSError, TypeError):
            pass
        else:
            return table, f"{len(table):,} rows of {path}"
    return made_up_table(preparation, _EXAMPLES), f"made-up rows, for {path} can't be read any more"


def made_up_table(preparation: Preparation, n: int) -> Table:
    """Return random rows like those of the fitted table: float32 numbers, whole days, categories, missing cells."""
    import pandas

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for column in preparation.columns:
        missing = rng.random(n) < 0.1
        if isinstance(column, Category):
            # Including an unknown category.
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
            exact = isinstance(column, Date) and has_times(column)
            feeds[column.name] = cells.astype(np.float64 if exact else np.float32)
    output = "probabilities" if preparation.target.classes else "prediction"
    return _session_output(path, feeds, output_name(output, feeds))


def _run_python_on_columns(path: Path, table: Table, preparation: Preparation) -> Any:
    cells = {}
    for column in preparation.columns:
        known = table.labels(column.name)
        cells[column.name] = known.astype("object").where(known.notna(), None).tolist()
    return _python_names(path)["predict_proba" if preparation.target.classes else "predict"](cells)


_RUNNERS_OF_TABLES: dict[str, Callable[[Path, Table, Preparation], Any]] = {
    "onnx": _run_on_columns,
    "python": _run_python_on_columns,
}


def _run_onnx(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    return _session_output(path, {"X": inputs}, "probabilities" if classes else "prediction")


def _session_output(path: Path, feeds: dict[str, Any], output: str) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}
    feeds = {name: values for name, values in feeds.items() if name in names}
    return session.run([output], feeds)[0]


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
    return _python_names(path)["predict_proba" if classes else "predict"](inputs)


def _python_names(path: Path) -> dict[str, Any]:
    """Return the names that a Python file defines."""
    names: dict[str, Any] = {"__name__": "model"}
    exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), names)
    return names


def _run_c(path: Path, inputs: np.ndarray, classes: bool) -> Any:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    name = "predict_proba" if classes else "predict_values"
    with tempfile.TemporaryDirectory() as folder_path:
        shutil.copy(path, Path(folder_path) / "model.h")
        prefix = re.search(rf"static inline void (\w+)_{name}\(", path.read_text(encoding="utf-8"))
        assert prefix is not None
        step = f"{prefix[1].upper()}_N_"
        call = f"{prefix[1]}_{name}(x + i * {step}FEATURES, out + i * {step}OUTPUTS)"
        program = '#include "model.h"\nvoid run(const float *x, long n, float *out) { long i; ' + (
            f"for (i = 0; i < n; ++i) {call}; }}\n")  # fmt: skip
        (Path(folder_path) / "run.c").write_text(program)
        command = [compiler, "-std=c99", "-O1", "-fPIC", "-shared", "run.c", "-o", "run.so", "-lm"]
        subprocess.run(command, cwd=folder_path, check=True, capture_output=True)
        library = ctypes.CDLL(str(Path(folder_path) / "run.so"))
    n_outputs = int(re.search(rf"#define {step}OUTPUTS (\d+)", path.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    inputs = np.ascontiguousarray(inputs)
    out = np.empty((len(inputs), n_outputs), np.float32)
    library.run(inputs.ctypes, ctypes.c_long(len(inputs)), out.ctypes)
    return out if classes else out[:, 0]


_RUNNERS: dict[str, Callable[[Path, np.ndarray, bool], Any]] = {
    "onnx": _run_onnx,
    "torch": _run_torch,
    "sklearn": _run_sklearn,
    "python": _run_python,
    "c": _run_c,
}
