"""Exports of whole table models: raw columns to predictions, in Python, ONNX Runtime and C."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from c_header import WARNINGS
from conftest import requires
from exported_tables import (
    FEW,
    RUNNERS,
    SMALL,
    assert_alike,
    by_c,
    by_onnx,
    by_python,
    draw_rows,
    onnx_inputs,
    other_rows,
    own,
    run_onnx,
    targets,
    trained,
)  # fmt: skip
from page_blocks import FENCE, printed_by, python_blocks
from pmlp_np.model_selection.configurations import Configuration
from pmlp_np.model_selection.export.c_encodings import field_names
from pmlp_np.model_selection.export.table_parts import ExportedColumn, parts_of
from test_export_c import build


@pytest.fixture(scope="module")
def draw():
    return np.random.default_rng()


@pytest.fixture(scope="module", params=["regression", "values", "classification", "multilabel"])
def model(request, draw):
    rows = draw_rows(draw, 150)
    found = trained(rows, targets(draw, rows, request.param))
    return found if found.spread else replace(found, temperature=0.8)


@pytest.mark.parametrize("target", RUNNERS)
def test_a_whole_model_predicts_the_same_from_raw_columns(model, target, draw):
    rows = other_rows(draw, 60)
    assert_alike(model, RUNNERS[target](model, rows), own(model, rows))


@pytest.mark.parametrize("view", ["raw", "quant", "ple", "ple8", "per"])
def test_only_what_members_read_is_exported(view, draw):
    rows = draw_rows(draw, 100)
    space = [Configuration({**SMALL, "hidden": (4,), "activation": "relu"}, view)]
    model = trained(rows, targets(draw, rows, "classification"), space)
    parts = parts_of(model)
    assert {each.block for each in parts.inputs} == {view, "plain", "target0", "target1"}
    assert parts.width == parts.networks.n_features < sum(map(model.views.width, model.blocks))
    fresh = other_rows(draw, 20)
    for run in RUNNERS.values():
        assert_alike(model, run(model, fresh), own(model, fresh))
    others = {"raw", "quant", "ple", "ple8", "per"} - {view}
    for text in (model.to_python(), model.to_c()):
        assert not any(f"{other}_0_" in text.lower() for other in others)


def test_columns_that_say_nothing_are_no_inputs(draw):
    requires("onnx")
    rows = draw_rows(draw, 60)
    rows = [[*row, 7.0, f"row {i}"] for i, row in enumerate(rows)]
    model = trained(rows, targets(draw, rows, "regression"), FEW[:1])
    proto = model.to_onnx()
    assert [each.name for each in proto.graph.input] == [str(i) for i in range(7)]
    fresh = [[*row, None, "new"] for row in other_rows(draw, 20)]
    for run in RUNNERS.values():
        assert_alike(model, run(model, fresh), own(model, fresh))


def test_a_table_of_numbers_and_one_of_texts(draw):
    for columns in ([0, 5], [2, 3]):
        rows = [[row[i] for i in columns] for row in draw_rows(draw, 80)]
        y = draw.normal(size=80)
        model = trained(rows, y, [Configuration({**SMALL, "hidden": (), "bias": False}, "raw")])
        fresh = [[row[i] for i in columns] for row in other_rows(draw, 20)]
        for run in RUNNERS.values():
            assert_alike(model, run(model, fresh), own(model, fresh))


def test_a_number_that_is_there_or_not_and_numbers_of_any_size(draw):
    rows = [[row[0], 7.0 if row[1] > 0 else None] for row in draw_rows(draw, 80)]
    model = trained(rows, np.array([row[1] is None for row in rows]) + 0.1 * draw.normal(size=80))
    fresh = [[far, there] for far in (0.5, None, 1e200, -1.7e308) for there in (7.0, None, -1e9)]
    expected = own(model, fresh)
    assert np.isfinite(expected["predict"]).all()
    for run in RUNNERS.values():
        assert_alike(model, run(model, fresh), expected)


@pytest.mark.parametrize(
    "y", [np.array(["a", 'b"\n'], object), np.array([-3, 7]), np.array([True, False]), np.array([1.0, 2.0])]
)
def test_labels_are_texts_or_whole_numbers(y, draw):
    rows = [[row[0]] for row in draw_rows(draw, 60)]
    model = trained(rows, np.tile(y, 30), FEW[:1], task="classification")
    expected = model.predict(np.array(rows, object))
    for run in (by_python, by_onnx):
        found = run(model, rows)["predict"]
        assert np.array_equal(found, expected) and found.dtype.kind in ("U", "O", "i")
    if isinstance(y[0], str):
        assert np.array_equal(by_c(model, rows)["predict"], expected.astype(str))
    else:
        assert f"model_class_names[2] = {{\n    {int(y.min())}LL, {int(y.max())}LL\n}}" in model.to_c()


def test_labels_beyond_64_bits_are_refused(draw):
    y = np.tile(np.array([2**63 + 5, 7], np.uint64), 30)
    model = trained([[row[0]] for row in draw_rows(draw, 60)], y, FEW[:1], task="classification")
    with pytest.raises(pm.DataError, match="labels of y: expected texts, or numbers within 64 bits"):
        model.to_python()


# Python.


@pytest.mark.parametrize(("delimiter", "named"), [(",", True), (";", False), ("\t", True)])
def test_the_python_file_reads_a_csv_file(delimiter, named, draw, tmp_path):
    texts = ("red", "NA", "green", None)
    rows, fresh = draw_rows(draw, 100, texts), draw_rows(draw, 30, texts)
    y = targets(draw, rows, "regression")
    names = [f'it\'s "{i}", ä' for i in range(7)] if named else [str(i) for i in range(7)]
    X, Z = np.array(rows, object), np.array(fresh, object)
    if named:
        pandas = requires("pandas")
        X, Z = (pandas.DataFrame({name: list(column) for name, column in zip(names, each.T, strict=True)})
                for each in (X, Z))  # fmt: skip
    model = trained(X, y)
    model.to_python(tmp_path / "model.py")
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        order = list(range(7)) if not named else [3, 1, 0, 2, 6, 5, 4]
        writer.writerow([names[i] if named else f"column {i}" for i in order])
        for row in fresh:
            cells = ["n/a" if cell is None else cell for cell in row]
            writer.writerow([cells[i] for i in order])
    command = [sys.executable, "-I", "model.py", "rows.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    printed = np.array([float(line) for line in done.stdout.split()])
    assert_alike(model, {"predict": printed}, {"predict": model.predict(Z)})


def test_the_python_file_takes_tables_by_name_and_by_position(draw):
    pandas = requires("pandas")
    names = list("abcdefg")
    frame = pandas.DataFrame(draw_rows(draw, 80), columns=names)
    frame["c"] = frame["c"].astype("category")
    frame["e"] = pandas.to_datetime(frame["e"]).dt.tz_localize("Asia/Tokyo")
    frame["h"] = pandas.to_timedelta(draw.normal(size=80), unit="h")
    model = trained(frame, draw.normal(size=80), FEW[:1])
    namespace = {"__name__": "model"}
    exec(model.to_python(), namespace)
    expected = model.predict(frame)
    shuffled = frame[[*"hgfedcba"]]
    by_dict = {name: list(frame[name]) for name in frame}
    as_rows = frame.to_numpy(object)
    for table in (frame, shuffled, by_dict, as_rows, as_rows.tolist(), frame.to_dict("records")):
        np.testing.assert_allclose(namespace["predict"](table), expected, rtol=0, atol=1e-5)
    for table, said in [
        (frame.drop(columns="f"), "expected a column 'f', got none"),
        (frame.assign(a="x"), "column 'a', row 0: .*'x'"),
        (frame.assign(a=np.inf), "column 'a', row 0: expected a finite number"),
        (frame.assign(e=5.0), "column 'e', row 0: expected a date"),
        (as_rows[:, :5], "expected 8 columns, as in training, got 5"),
    ]:
        with pytest.raises(ValueError, match=said):
            namespace["predict"](table)


# ONNX.


def test_missing_texts_have_a_text_that_is_no_category(draw):
    requires("onnx")
    rows = draw_rows(draw, 80, ("red", "", "NaN", None))
    proto = trained(rows, draw.normal(size=80), FEW[:1]).to_onnx()
    kinds = {name: cells[0, 0] for name, cells in onnx_inputs(proto, [[None] * 7]).items()}
    assert kinds["2"] == "missing" and kinds["3"] == "" and all(np.isnan(kinds[name]) for name in "01456")


def test_names_of_columns_are_those_of_inputs_whatever_they_are(draw):
    pandas = requires("pandas")
    requires("onnx")
    names = ["label", "prediction", "X", "pmlp_np/Sub_1", "member_0/weights_0", "3", "ä b"]
    rows = draw_rows(draw, 60)
    frame = pandas.DataFrame(rows, columns=names)
    for task, output in (("classification", "label_"), ("regression", "prediction_")):
        model = trained(frame, targets(draw, rows, task), FEW[:1])
        proto = model.to_onnx()
        assert [each.name for each in proto.graph.input] == names and proto.graph.output[0].name == output
        run_onnx(proto, onnx_inputs(proto, rows, names))
    model = trained(frame.rename(columns={"X": ""}), draw.normal(size=60), FEW[:1])
    with pytest.raises(pm.DataError, match="columns of X: expected a name for each, for an export to ONNX, got ''"):
        model.to_onnx()
    model = trained(frame.rename(columns={"X": 3}), draw.normal(size=60), FEW[:1])
    with pytest.raises(pm.DataError, match="columns of X: expected names that differ as texts"):
        model.to_python()


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_infinite_numbers_are_no_predictions(task, draw):
    """Although quantiles and bins would be at their ends."""
    requires("onnx")
    rows = draw_rows(draw, 80)
    model = trained(rows, targets(draw, rows, task), FEW[1:2])
    fresh = other_rows(draw, 10)
    proto = model.to_onnx()
    inputs = onnx_inputs(proto, fresh)
    inputs["0"][4], fresh[4][0] = np.inf, float("inf")
    for found in (run_onnx(proto, inputs), by_c(model, fresh)):
        values = found["predict" if model.spread else "predict_proba"].reshape(10, -1)
        assert np.isnan(values[4]).all() and np.isfinite(np.delete(values, 4, axis=0)).all()
        if not model.spread:
            assert set(np.ravel(found["predict"][4]).tolist()) <= {-1, "", "none"}
    with pytest.raises(ValueError, match="finite number"):
        by_python(model, fresh)


def test_the_onnx_file_is_the_returned_model(model, tmp_path):
    onnx = requires("onnx")
    proto = model.to_onnx(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == proto
    assert {each.domain for each in proto.opset_import} == {"", "ai.onnx.ml"}


# C.


def test_the_header_is_cpp_too_and_called_as_its_file(model, tmp_path, draw):
    rows = other_rows(draw, 20)
    assert_alike(model, by_c(model, rows, "cpp"), own(model, rows))
    text = model.to_c(tmp_path / "house.h")
    assert (tmp_path / "house.h").read_text(encoding="utf-8") == text == model.to_c(prefix="house")
    assert "house_row;" in text and "model_" not in text
    with pytest.raises(pm.DataError, match="prefix: expected ASCII letters"):
        model.to_c(prefix="2")


def test_dates_are_days_since_1970(draw, tmp_path):
    rows = [[row[4]] for row in draw_rows(draw, 60)]
    text = trained(rows, draw.normal(size=60), FEW[:1]).to_c()
    days = draw.integers(-800_000, 800_000, 200).astype("datetime64[D]")
    body = text[text.index("static inline double model_days") :].split("\n}\n")[0] + "\n}\n"
    calls = []
    for day in days:
        year, month, of_month = (int(part) for part in str(day).rsplit("-", 2))
        calls.append(f'printf("%.1f\\n", model_days({year}, {month}, {of_month}));')
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        source = f"#include <stdio.h>\n{body}int main(void) {{ {' '.join(calls)} return 0; }}"
        printed = build(Path(folder), source, "-std=c99").decode().split()
    assert [float(each) for each in printed] == days.astype(np.int64).tolist()


def test_fields_have_the_names_of_columns_as_far_as_c_allows():
    names = ["size", "int", "my size", "my_size", "2nd", "ä", "NULL", "", "M_PI", "size"]
    columns = tuple(ExportedColumn(name, i, "number", None, (), (), {}) for i, name in enumerate(names))
    assert field_names(columns) == [
        "size", "int_", "my_size", "my_size_2", "column_2nd", "column", "NULL_", "column_2", "M_PI_", "size_2",
    ]  # fmt: skip


def test_odd_names_and_categories_compile(draw):
    pandas = requires("pandas")
    rows = draw_rows(draw, 80, ('a"b', "*/ x\n", "\\", "??/"))
    frame = pandas.DataFrame(rows, columns=["*/", "/* // \\", 'x"y', "??/", "%d\n", "while", "a"])
    model = trained(frame, draw.normal(size=80), FEW[:1])
    assert_alike(model, by_c(model, rows), {"predict": model.predict(frame)})


def test_the_program_of_the_page_prints_what_the_model_predicts(tmp_path, monkeypatch):
    """That of docs/small_model.md."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "small_model.md").read_text(encoding="utf-8")
    (block,) = python_blocks(page, "small_model.md")
    (source,) = (fence[2] for fence in FENCE.finditer(page) if fence[1] == "c")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(root / "examples")
    printed = printed_by(block, {"__name__": "__main__"}).splitlines()[-1]
    assert build(tmp_path, source, "-std=c99", *WARNINGS).decode().split() == printed.split()


def test_categories_that_c_can_t_hold_are_refused(draw):
    rows = [[row[0], "a\0b" if i % 2 else "c"] for i, row in enumerate(draw_rows(draw, 40))]
    model = trained(rows, draw.normal(size=40), FEW[:1])
    with pytest.raises(pm.DataError, match="categories of '1': expected texts that C can hold"):
        model.to_c()
