"""Tables of every kind of column, and whole models of them run in other systems: what each says, in NumPy arrays."""

from __future__ import annotations

import ctypes
import datetime
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pmlp_np as pm
from c_header import WARNINGS, compiler
from conftest import requires
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.export.table_parts import parts_of

EPOCH = datetime.datetime(1970, 1, 1)
SMALL = {"learning_rate": 0.01, "decoupled_weight_decay": 0.1, "dropout": 0.0, "average": 0.9}
# Together they read every block.
FEW = [
    Configuration({**SMALL, "hidden": (8,), "activation": "relu"}, "raw"),
    Configuration({**SMALL, "hidden": (6, 5), "activation": "tanh"}, "quant+ple"),
    Configuration({**SMALL, "hidden": (6,), "activation": "mish"}, "per+ple8"),
]


def draw_rows(draw: np.random.Generator, n: int, texts: tuple[Any, ...] = ("red", "NA", "", None)) -> list[list[Any]]:
    """Rows: a number, a whole number, a category of a few (texts), one of many, a date, a skewed number, a truth."""
    rows = [
        [
            float(draw.normal()), int(draw.integers(-2, 4)), texts[draw.integers(len(texts))],
            f"kä{draw.integers(45)}", EPOCH + datetime.timedelta(hours=float(draw.integers(400_000, 440_000))),
            float(np.exp(2.0 * draw.normal())), bool(draw.integers(2)),
        ]
        for _ in range(n)
    ]  # fmt: skip
    for column in (0, 3, 4, 5):
        for row in draw.choice(n, max(1, n // 12), replace=False):
            rows[row][column] = None
    return rows


def other_rows(draw: np.random.Generator, n: int) -> list[list[Any]]:
    """Rows to predict: some with categories and sizes that training had not, one of missing cells alone."""
    rows = draw_rows(draw, n)
    rows[0] = [None] * len(rows[0])
    rows[1][2], rows[1][3], rows[2][2] = "unseen", "zz", "a"
    rows[3][0], rows[4][5], rows[5][5], rows[6][4] = 1e9, -1e3, 1e300, datetime.datetime(1920, 2, 29, 3)
    return rows


def targets(draw: np.random.Generator, rows: list[list[Any]], task: str) -> np.ndarray:
    signal = np.array([(row[0] or 0.0) + (row[2] == "red") + 0.3 * row[1] for row in rows])
    signal += 0.1 * draw.normal(size=len(rows))
    if task == "regression":
        return 1e5 + 30.0 * signal
    if task == "values":
        return np.stack([signal, 1e3 - signal], axis=1)
    if task == "multilabel":
        return np.stack([signal > 0.0, signal > 1.0], axis=1).astype(int)
    return np.array(["b", "a", "cä"])[np.digitize(signal, [0.0, 1.0])]


def trained(rows: Any, y: np.ndarray, space: Any = FEW, **arguments: Any) -> pm.TableModel:
    """All configurations, trained for a moment."""
    how = {"time_budget": None, "max_members": 100, "max_epochs": 3, "cv": 2, "select": "all", "progress": False}
    X = np.array(rows, object) if isinstance(rows, list) else rows
    return pm.search(X, y, space, **how | arguments).ensemble


def own(model: pm.TableModel, rows: list[list[Any]]) -> dict[str, np.ndarray]:
    X = np.array(rows, object)
    found = {"predict": model.predict(X)}
    return found if model.spread else found | {"predict_proba": model.predict_proba(X)}


def by_python(model: pm.TableModel, rows: list[list[Any]]) -> dict[str, np.ndarray]:
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(compile(model.to_python(), "model.py", "exec"), namespace)
    return {name: namespace[name](rows) for name in ("predict", "predict_proba") if name in namespace}


def _days(cell: Any) -> float:
    return float("nan") if cell is None else (cell - EPOCH) / datetime.timedelta(days=1)


def onnx_inputs(proto: Any, rows: list[list[Any]], names: list[str] | None = None) -> dict[str, np.ndarray]:
    """The columns that a model reads, as its metadata say."""
    names = [str(i) for i in range(len(rows[0]))] if names is None else names
    found = {}
    for column in json.loads(next(each.value for each in proto.metadata_props if each.key == "columns")):
        cells = [row[names.index(column["name"])] for row in rows]
        if column["kind"] == "category":
            texts = [column["missing"] if cell is None else str(cell) for cell in cells]
            found[column["name"]] = np.array(texts, object)[:, None]
        else:
            numbers = [_days(cell) if column["kind"] == "date" else np.nan if cell is None else cell for cell in cells]
            found[column["name"]] = np.array(numbers, np.float64)[:, None]
    return found


def run_onnx(proto: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    runtime = requires("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    method = {"prediction": "predict", "label": "predict", "probabilities": "predict_proba"}
    return {method.get(name, name): each for name, each in zip(outputs, session.run(None, inputs), strict=True)}


def by_onnx(model: pm.TableModel, rows: list[list[Any]]) -> dict[str, np.ndarray]:
    requires("onnx")
    proto = model.to_onnx()
    return run_onnx(proto, onnx_inputs(proto, rows))


def by_c(model: pm.TableModel, rows: list[list[Any]], language: str = "c") -> dict[str, np.ndarray]:
    """Through a header, compiled with every warning as an error."""
    text, classes = model.to_c(), [str(each) for each in model.targets.classes]
    n_outputs = next(int(line.split()[-1]) for line in text.splitlines() if line.startswith("#define MODEL_N_OUTPUTS"))
    names = ["predict_values"] if model.spread else ["predict_proba", "predict" if classes else "predict_labels"]
    lines = ['#include "model.h"', "#ifdef __cplusplus", 'extern "C" {', "#endif"]
    for name in names:
        out = "double" if name in ("predict_values", "predict_proba") else "int"
        call = "*out = model_predict(row)" if name == "predict" else f"model_{name}(row, out)"
        declared = f"void run_{name}(const model_row *row, {out} *out)"
        lines += [f"{declared};", f"{declared} {{ {call}; }}"]
    lines += ["#ifdef __cplusplus", "}", "#endif"]
    fields = [line for line in text[text.index("typedef struct {") :].split("}")[0].splitlines()[1:] if line.strip()]
    positions = [column.position for column in parts_of(model).columns]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.h").write_text(text, encoding="utf-8")
        (Path(folder) / f"rows.{language}").write_text("\n".join(lines) + "\n")
        standard, program = ("c99", compiler()) if language == "c" else ("c++11", compiler(("c++", "g++", "clang++")))
        command = [
            program,
            f"-std={standard}",
            *WARNINGS,
            "-O0",
            "-fPIC",
            "-shared",
            f"rows.{language}",
            "-o",
            "rows.so",
        ]
        done = subprocess.run([*command, "-lm"], cwd=folder, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        library = ctypes.CDLL(str(Path(folder) / "rows.so"))
    kinds = [ctypes.c_char_p if "char *" in line else ctypes.c_double for line in fields]
    row_type = type("Row", (ctypes.Structure,), {"_fields_": [(f"f{k}", kind) for k, kind in enumerate(kinds)]})
    found: dict[str, Any] = {
        name: np.zeros((len(rows), n_outputs if name != "predict" else 1),
                       np.float64 if name in ("predict_values", "predict_proba") else np.int32) for name in names
    }  # fmt: skip
    for i, row in enumerate(rows):
        cells = []
        for position, kind in zip(positions, kinds, strict=True):
            cell = row[position]
            if kind is ctypes.c_char_p:
                cells.append(None if cell is None else cell.encode())
            else:
                cells.append(_days(cell) if isinstance(cell, datetime.datetime) else np.nan if cell is None else cell)
        struct = row_type(*cells)
        for name, out in found.items():
            getattr(library, f"run_{name}")(ctypes.byref(struct), out[i:].ctypes.data_as(ctypes.c_void_p))
    if classes:
        found["predict"] = np.array([*classes, "none"])[found["predict"][:, 0]]
    for old in ("predict_values", "predict_labels"):
        if old in found:
            values = found.pop(old)
            found["predict"] = values[:, 0] if old == "predict_values" and n_outputs == 1 else values
    return found


RUNNERS = {"python": by_python, "onnx": by_onnx, "c": by_c}


def assert_alike(model: pm.TableModel, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Assert predictions equal those of the model, but for what float32 sums of some hundred numbers around 1 lose."""
    assert found.keys() == expected.keys()
    tolerance = 1e-5
    if model.spread:
        assert found["predict"].shape == expected["predict"].shape and found["predict"].dtype == np.float64
        distance = np.abs(found["predict"] - expected["predict"]) / model.targets.scale.max()
        assert np.isfinite(expected["predict"]).all() and distance.max() <= tolerance, distance.max()
        return
    p = expected["predict_proba"]
    assert found["predict_proba"].shape == p.shape
    assert np.abs(found["predict_proba"] - p).max() <= tolerance
    top = np.sort(p, axis=1)
    sure = top[:, -1] - top[:, -2] > 1e-4 if len(model.targets.classes) else (np.abs(p - 0.5) > 1e-4).all(axis=1)
    assert sure.mean() > 0.8 and found["predict"].shape == expected["predict"].shape
    assert (found["predict"].astype(str) == expected["predict"].astype(str))[sure].all()
