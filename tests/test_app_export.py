"""`pmlp export`: files that predict what `pmlp predict` does, from the columns of the CSV file."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import pmlp_np as pm
from command_line import in_numbers, refused, run
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.app import exporting
from pmlp_np.app.folder import Result


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fitted_folder(tmp_path_factory)


def predicted(capsys, place, target):
    """What `pmlp predict` writes: values, or probabilities."""
    rows = read(run(capsys, "predict", place / target, place / "t.csv", "--out", "-").out)
    if target == "value":
        return np.array([float(row["prediction"]) for row in rows])
    return np.array([[float(value) for name, value in row.items() if name != "prediction"] for row in rows])


@pytest.mark.parametrize("target", ["value", "grade"])
def test_onnx_takes_the_table(place, capsys, tmp_path, target):
    """Texts, missing cells and days as the CSV file has them, without our reading of it."""
    requires("onnx")
    onnxruntime = requires("onnxruntime")
    said = run(capsys, "export", place / target, "--out", tmp_path / "m.onnx", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["columns"] == ["size", "color", "day", "count"] and found["difference"] < 1e-4
    with (place / "t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))

    def column(of):
        return np.array([[of(row)] for row in table])

    feeds = {
        "size": column(lambda row: float(row["size"] or "nan")),
        "color": column(lambda row: row["color"]).astype(object),
        "day": column(lambda row: float(np.datetime64(row["day"]).astype("datetime64[D]").astype(int))),
        "count": column(lambda row: float(row["count"])),
    }
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    name = "prediction" if target == "value" else "probabilities"
    np.testing.assert_allclose(outputs[name], predicted(capsys, place, target), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["value", "grade"])
def test_python_needs_numpy_alone(place, capsys, tmp_path, target):
    said = run(capsys, "export", place / target, "--out", tmp_path / "mine.py")
    assert said.code == 0 and "Checked on 200 made-up rows" in said.out and "from mine import predict" in said.out
    code = "import sys, json, csv; sys.modules['pmlp_np'] = sys.modules['pandas'] = None; import mine\n"
    code += "rows = list(csv.DictReader(open(sys.argv[1]))); names = ['size', 'color', 'day', 'count']\n"
    code += "cells = {n: [r[n] if n in ('color', 'day') else float(r[n] or 'nan') for r in rows] for n in names}\n"
    code += "cells['color'] = [c or None for c in cells['color']]\n"
    code += f"print(json.dumps(mine.{'predict' if target == 'value' else 'predict_proba'}(cells).tolist()))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place / "t.csv")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), predicted(capsys, place, target), rtol=1e-4, atol=1e-4)


def test_c_is_called_as_the_file(place, capsys, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    assert run(capsys, "export", place / "value", "--out", tmp_path / "mine.h").code == 0
    rows = [{"size": 51.5, "color": "red", "day": (2021, 3, 4), "count": 3.0},
            {"size": float("nan"), "color": None, "day": (2022, 12, 31), "count": 8.0}]  # fmt: skip
    lines = []
    for row in rows:
        size = "NAN" if row["size"] != row["size"] else repr(row["size"])
        color = "0" if row["color"] is None else f'"{row["color"]}"'
        day = "mine_days({}, {}, {})".format(*row["day"])
        cells = f".size = {size}, .color = {color}, .day = {day}, .count = {row['count']}"
        lines.append(f'    {{ mine_row row = {{ {cells} }}; printf("%.9g\\n", mine_predict(&row)); }}')
    source = '#include <math.h>\n#include <stdio.h>\n#include <string.h>\n#include "mine.h"\nint main(void) {\n'
    (tmp_path / "m.c").write_text(source + "\n".join(lines) + "\n    return 0;\n}\n")
    subprocess.run([compiler, "-O1", "-std=c99", "-o", tmp_path / "m", tmp_path / "m.c", "-lm"], check=True)
    found = subprocess.run([tmp_path / "m"], capture_output=True, text=True, check=True).stdout.split()
    import pandas

    frame = pandas.DataFrame(rows).assign(day=[np.datetime64("2021-03-04", "us"), np.datetime64("2022-12-31", "us")])
    expected = pm.TableModel.load(place / "value" / "model.pmlp").predict(frame)
    np.testing.assert_allclose([float(each) for each in found], expected, rtol=1e-4)


def test_an_export_that_predicts_otherwise_is_noticed(place, capsys, tmp_path, monkeypatch):
    run_it = exporting._run_python
    monkeypatch.setitem(exporting._FORMATS, ".py", replace(
        exporting._FORMATS[".py"], run=lambda *arguments: run_it(*arguments) + 0.5))  # fmt: skip
    said = run(capsys, "export", place / "grade", "--out", tmp_path / "m.py")
    assert said.code == 0 and "note: it predicts up to 0.5 apart from pmlp predict" in said.err


def test_made_up_rows_are_as_the_training_rows(place):
    result = Result(place / "value")
    frame = exporting.made_up_rows(result.model, result.columns)
    assert list(frame) == ["size", "color", "day", "count"] and len(frame) == 200
    assert set(frame["color"].dropna()) == {"red", "green", "dark blue"} and frame["day"].dtype.kind == "M"
    assert frame["size"].isna().any() and frame["color"].isna().any() and not frame["count"].isna().any()
    days = in_numbers(frame[["day"]])[:, 0]
    assert 18262 <= days.min() < days.max() < 18262 + 1200


@pytest.mark.parametrize("name, words", [
    ("m.bin", [".onnx, .py, .h", "'m.bin'"]), ("m", [".onnx"]), ("m.pt2", ["networks()"]), ("m.skops", ["networks()"]),
    ("my model.py", ["a module's name", "model.py"]), ("class.py", ["a module's name"]),
])  # fmt: skip
def test_files_that_are_no_exports(place, capsys, monkeypatch, tmp_path, name, words):
    monkeypatch.chdir(tmp_path)
    refused(run(capsys, "export", place / "value", "--out", name), "--out", *words)
    assert not list(tmp_path.iterdir())


def test_exports_that_exist_are_kept(place, capsys, tmp_path):
    (tmp_path / "m.py").write_text("mine")
    refused(run(capsys, "export", place / "value", "--out", tmp_path / "m.py"), "--overwrite")
    assert (tmp_path / "m.py").read_text() == "mine"
    assert run(capsys, "export", place / "value", "--out", tmp_path / "m.py", "--overwrite").code == 0
