"""`pmlp export` on tables as people have them: names that clash, cells as written, times of day, C."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import c_header
from command_line import SHORT, run
from conftest import requires

ODD_NAMES = ["X", "prediction", "label", "probabilities", "table/0", "pmlp_np", "pmlp_np/X", "pmlp_np_/table/0",
             "Gemm_0", "weights_0", "number_0", "rows", "ärger 'x' \"y\"", "class_names"]  # fmt: skip


def write_table(path, columns):
    """A CSV file of these columns of texts."""
    names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    lines = [",".join(names), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def texts(values, digits=3):
    return [f"{value:.{digits}f}" for value in values]


def fitted(capsys, path, *more):
    said = run(capsys, "fit", path, "--target", "y", "--out", path.with_suffix(""), "--overwrite", *SHORT, *more)
    assert said.code == 0, said.err
    return path.with_suffix("")


def session_of(path):
    return requires("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])


def predicted(capsys, folder, table, tmp_path):
    assert run(capsys, "predict", folder, table, "--out", tmp_path / "p.csv", "--overwrite").code == 0
    import csv

    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_columns_of_any_name_are_inputs_of_the_graph(tmp_path, capsys, task):
    requires("onnx")
    rng = np.random.default_rng()
    x = rng.normal(size=(60, len(ODD_NAMES))).astype(np.float32)
    columns = {name: texts(x[:, i], 8) for i, name in enumerate(ODD_NAMES)}
    total = x.sum(axis=1)
    columns["y"] = texts(total) if task == "regression" else ["high" if each > 0 else "low" for each in total]
    table = write_table(tmp_path / "t.csv", columns)
    folder = fitted(capsys, table)
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "m.onnx")
    assert said.code == 0 and "Checked on 60 rows of" in said.out, said
    session = session_of(tmp_path / "m.onnx")
    assert [each.name for each in session.get_inputs()] == ODD_NAMES
    outputs = [each.name for each in session.get_outputs()]
    assert outputs == (["prediction_"] if task == "regression" else ["label_", "probabilities_"])
    assert f"Outputs: {', '.join(outputs)}\n" in said.out
    found = session.run(None, {name: x[:, [i]] for i, name in enumerate(ODD_NAMES)})
    rows = predicted(capsys, folder, table, tmp_path)
    if task == "regression":
        np.testing.assert_allclose(found[0], [float(row["prediction"]) for row in rows], rtol=1e-4, atol=1e-4)
    else:
        assert found[0].tolist() == [row["prediction"] for row in rows]


def test_times_of_day_keep_their_digits(tmp_path, capsys):
    """What depends on the minute: float32 days since 1970 come in steps of three."""
    requires("onnx")
    rng = np.random.default_rng()
    minutes = rng.integers(0, 60 * 24 * 40, 400)
    stamps = np.datetime64("2024-03-01T00:00") + minutes.astype("timedelta64[m]")
    wave = np.sin(2 * np.pi * minutes / (24 * 60))
    cells = [f"{str(stamp).replace('T', ' ')}:00" for stamp in stamps]
    table = write_table(tmp_path / "t.csv", {"when": cells, "y": texts(wave)})
    folder = fitted(capsys, table, "--epochs", "30")
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "m.onnx")
    assert said.code == 0 and "note" not in said.err and "when (days since 1970, float64)" in said.out, said
    days = (stamps - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    found = session_of(tmp_path / "m.onnx").run(None, {"when": days[:, None]})[0]
    expected = [float(row["prediction"]) for row in predicted(capsys, folder, table, tmp_path)]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_large_numbers_keep_their_digits_in_the_raw_tables_model(tmp_path, capsys):
    """Whole numbers that float32 holds, far from zero: folded into float32 weights they were lost."""
    requires("onnx")
    rng = np.random.default_rng()
    steps = rng.integers(0, 300, 200)
    table = write_table(tmp_path / "t.csv", {"a": [str(16_000_000 + step) for step in steps], "y": texts(steps / 300)})
    folder = fitted(capsys, table, "--epochs", "20")
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "m.onnx", "--json")
    assert json.loads(said.out)["difference"] < 1e-5


def test_c_says_what_predict_says(tmp_path, capsys):
    rng = np.random.default_rng()
    a, b = rng.normal(size=(2, 150))
    colors = rng.choice(["red", "green", 'b"lue'], 150)
    y = a + (colors == "red")
    columns = {"a": texts(a), "b": texts(b), "color": [f'"{c.replace(chr(34), chr(34) * 2)}"' for c in colors]}
    for name, target in (("value", texts(y)), ("grade", ["good" if each > 0 else "bad" for each in y])):
        table = write_table(tmp_path / f"{name}.csv", columns | {"y": target})
        folder = fitted(capsys, table)
        rows = predicted(capsys, folder, table, tmp_path)
        for more in ((), ("--ensemble", "2")):
            said = run(capsys, "export", folder, "--out", tmp_path / "net.h", "--overwrite", "--json", *more)
            document = json.loads(said.out)
            assert document["format"] == "c" and document["difference"] < 1e-4
            assert document["inputs"] == ["a", "b", 'color = b"lue', "color = green", "color = red"]
            if more:
                continue
            marks = [colors == color for color in ('b"lue', "green", "red")]
            inputs = np.column_stack([np.round(a, 3), np.round(b, 3), *marks])
            functions = c_header.compiled((tmp_path / "net.h").read_text(encoding="utf-8"), "net")
            found = functions.rows("predict", inputs, ())
            if name == "value":
                np.testing.assert_allclose(found, [float(row["prediction"]) for row in rows], rtol=1e-4, atol=1e-4)
            else:
                assert [document["classes"][i] for i in found] == [row["prediction"] for row in rows]


def test_categories_are_listed(tmp_path, capsys):
    requires("onnx")
    rng = np.random.default_rng()
    codes = rng.integers(0, 15, 400)
    y = codes + rng.normal(size=400)
    table = write_table(tmp_path / "t.csv", {"kind": [f"k{c:02}" for c in codes], "y": texts(y)})
    folder = fitted(capsys, table)
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "m.onnx")
    listed = ", ".join(repr(f"k{c:02}") for c in range(12))
    assert f"Categories of kind: {listed} and 3 more (--json has all)" in " ".join(said.out.split())
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "m.onnx", "--json", "--overwrite")
    assert json.loads(said.out)["categories"] == {"kind": [f"k{c:02}" for c in range(15)]}


def test_where_the_table_is_gone_made_up_rows_check(tmp_path, capsys):
    requires("onnx")
    x = np.random.default_rng().normal(size=50)
    table = write_table(tmp_path / "t.csv", {"a": texts(x), "y": texts(2 * x)})
    folder = fitted(capsys, table)
    table.unlink()
    said = run(capsys, "export", folder, "--out", tmp_path / "m.onnx")
    assert said.code == 0 and re.search("Checked on made-up rows, for .*t.csv can't", " ".join(said.out.split()))


def test_what_cannot_be_run_is_not_called_checked(tmp_path, capsys, monkeypatch):
    x = np.random.default_rng().normal(size=50)
    folder = fitted(capsys, write_table(tmp_path / "t.csv", {"a": texts(x), "y": texts(2 * x)}))
    monkeypatch.setattr("shutil.which", lambda name: None)
    said = run(capsys, "export", folder, "--out", tmp_path / "m.h")
    assert said.code == 0 and "Checked" not in said.out and "note: the model was not checked" in said.err


def module_of(path):
    names = {"__name__": "model"}
    exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), names)
    return names


MISSING_CELLS = ("", "NA", "  ")


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_python_file_takes_the_raw_table_as_it_is_written(tmp_path, capsys, task):
    """German numbers, a currency, dates with the day first, truths, blanks, missing cells, and words for them."""
    rng = np.random.default_rng()
    n = 240
    amount, rate, share = rng.lognormal(8, 1, n), rng.normal(size=n), rng.integers(0, 100, n)
    days = np.datetime64("2021-01-01") + rng.integers(0, 1400, n)
    member, kind = rng.random(n) < 0.5, rng.choice(["a", " b ", "none"], n)

    def german(value, digits):
        return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))

    def with_missing(cells):
        return [str(rng.choice(MISSING_CELLS)) if rng.random() < 0.1 else cell for cell in cells]

    columns = {
        "amount": with_missing([german(a, 2) for a in amount]),
        "rate": with_missing([german(r, 3) for r in rate]),
        "cost": [f"{german(a / 3, 2)} €" for a in amount],
        "share": [f"{s}%" for s in share],
        "when": with_missing([f"{d.astype(object):%d.%m.%Y}" for d in days]),
        "member": [str(m).lower() for m in member],
        "kind": [str(k) for k in kind],
    }
    y = np.log(amount) + rate + member + (kind == "a")
    classes = ["hoch" if v > y.mean() else "tief" for v in y]
    columns["y"] = [german(v, 3) for v in y] if task == "regression" else classes
    lines = [";".join(columns), *(";".join(row) for row in zip(*columns.values(), strict=True))]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = fitted(capsys, table, "--task", task)
    said = run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "model.py")
    assert said.code == 0 and "note" not in said.err and "Checked on" in said.out, said
    rows = predicted(capsys, folder, table, tmp_path)
    found = module_of(tmp_path / "model.py")
    cells = {name: list(column) for name, column in columns.items()}
    by_rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    import pandas

    for given in (cells, by_rows, pandas.DataFrame(cells), found["read"](table)):
        if task == "regression":
            expected = [float(row["prediction"]) for row in rows]
            np.testing.assert_allclose(found["predict"](given), expected, rtol=1e-4, atol=1e-4)
        else:
            assert found["predict"](given).tolist() == [row["prediction"] for row in rows]
            expected = [[float(row["probability of hoch"]), float(row["probability of tief"])] for row in rows]
            np.testing.assert_allclose(found["predict_proba"](given), expected, atol=1e-4)
    # Cells as other programs write them: numbers of Python, dates, truths in capitals.
    (row,) = found["checked"]([by_rows[0] | {"amount": "1.234,50", "rate": "1,5", "share": "7%", "member": "true"}])
    other = by_rows[0] | {"amount": 1234.5, "rate": 1.5, "share": "7 %", "member": "TRUE"}
    np.testing.assert_array_equal(found["checked"]([other])[0], row)
    for name, cell, words in (("amount", "1,234.50", "a number as the fitted table"), ("share", "7", "expected %"),
                              ("when", "31.31.2021", "31.31.2021"), ("rate", "?", "got '?'")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^column '{name}', row 2: .*{re.escape(words)}"):
            found["predict"]([by_rows[0], by_rows[0] | {name: cell}])
    with pytest.raises(ValueError, match="^expected a column 'kind', got none"):
        found["predict"]([{name: cell for name, cell in by_rows[0].items() if name != "kind"}])


def test_the_raw_tables_python_file_runs_by_itself(tmp_path, capsys):
    """On a machine that has NumPy alone, from the command line."""
    rng = np.random.default_rng()
    a = rng.normal(size=60)
    colors = [str(c) for c in rng.choice(["red", "green"], 60)]
    table = write_table(tmp_path / "t.csv", {"a": texts(a), "color": colors, "y": texts(a)})
    folder = fitted(capsys, table)
    assert run(capsys, "export", folder, "--raw-table", "--out", tmp_path / "model.py", "--ensemble", "2").code == 0
    command = [sys.executable, "-I", str(tmp_path / "model.py"), str(table)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert run(capsys, "predict", folder, table, "--ensemble", "2", "--out", tmp_path / "p.csv").code == 0
    expected = [float(line) for line in (tmp_path / "p.csv").read_text().split()[1:]]
    np.testing.assert_allclose([float(line) for line in done.stdout.split()], expected, atol=1e-5)
    table.write_text(table.read_text().replace("red", "red,more", 1))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and re.search(r"line \d+: expected 3 cells, got 4", done.stderr)


def exported(capsys, path, *more):
    """(folder, what the Python file of a table's fit defines)."""
    folder = fitted(capsys, path, *more)
    said = run(capsys, "export", folder, "--raw-table", "--out", path.with_suffix(".py"), "--overwrite")
    assert said.code == 0 and "note" not in said.err and "Checked on" in said.out, said
    return folder, module_of(path.with_suffix(".py"))


def predicts_alike(capsys, folder, module, table, tmp_path):
    rows = predicted(capsys, folder, table, tmp_path)
    expected = [float(row["prediction"]) for row in rows]
    np.testing.assert_allclose(module["predict"](module["read"](table)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("words", [("true", "True", "false"), ("a", " b ", "b"), ("7", "8", "9")])
def test_categories_of_a_python_file_are_those_of_predict(tmp_path, capsys, words):
    """As they are written: " b " is not "b", and True is not true where a table has both."""
    rng = np.random.default_rng()
    cells = rng.permutation(np.repeat(words, 50))
    y = [10 * words.index(cell) + rng.normal() for cell in cells]
    table = write_table(tmp_path / "t.csv", {"kind": list(cells), "a": texts(rng.normal(size=150)), "y": texts(y)})
    folder, module = exported(capsys, table, "--categorical", "kind")
    others = [*words, *(f" {word} " for word in words), "007", "7.0", "TRUE", "", "NA"]
    new = write_table(tmp_path / "new.csv", {"kind": others, "a": ["0.5"] * len(others)})
    predicts_alike(capsys, folder, module, new, tmp_path)
    if "7" in words:
        # A data frame has floats where a cell is missing.
        for cell in (7, 7.0, np.int64(7), np.float64(7.0)):
            given = {"kind": [cell, "7"], "a": [0.5, 0.5]}
            np.testing.assert_array_equal(*module["checked"](given))


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m", "%Y-%m-%dT%H:%M:%SZ"])
def test_dates_of_a_python_file_are_those_of_predict(tmp_path, capsys, form):
    """Texts, and dates of Python, NumPy and pandas whatever the texts' form is."""
    import datetime

    import pandas

    rng = np.random.default_rng()
    days = [datetime.datetime(2019, 1, 1, 6) + datetime.timedelta(int(d)) for d in rng.integers(0, 900, 150)]
    y = [np.sin(day.timetuple().tm_yday / 58) for day in days]
    table = write_table(tmp_path / "t.csv", {"when": [f"{day:{form}}" for day in days], "y": texts(y)})
    folder, module = exported(capsys, table)
    if form.startswith("%Y"):
        cells = ["2020-01-05", "2020-1-5", "2020-01", "20200105", "2020/01/05", "2020-01-05 7:30",
                 "2020-01-05T07:30:15", "2020-01-05 10:00 +02:00", "2020-01-05T10:00:00-0330", "2020-01-05 10:00Z",
                 "2020-01-05T10:00:00.25"]  # fmt: skip
        predicts_alike(capsys, folder, module, write_table(tmp_path / "new.csv", {"when": cells}), tmp_path)
        for cell in ("2020-W02-1", "2020-13-01", "2020-01-05t10:00", "soon", "2020-01-05T24:00"):
            with pytest.raises(ValueError, match="column 'when', row 1: .*" + re.escape(cell)):
                module["predict"]({"when": [cell]})
    day = datetime.datetime(2020, 3, 5)
    (row,) = module["checked"]({"when": [f"{day:{form}}"]}) if form != "%Y-%m" else module["checked"]({"when": [day]})
    zone = datetime.timezone(datetime.timedelta(hours=2))
    alike = [day, day.date(), np.datetime64("2020-03-05"), pandas.Timestamp(day), day.replace(hour=2, tzinfo=zone),
             pandas.Timestamp(day.replace(hour=2), tz="Etc/GMT-2")]  # fmt: skip
    for given in alike:
        np.testing.assert_array_equal(module["checked"]({"when": [given]})[0], row, repr(given))
    (row,) = module["checked"]({"when": [""]})
    for given in (None, float("nan"), np.datetime64("NaT"), pandas.NaT, pandas.NA):
        np.testing.assert_array_equal(module["checked"]({"when": [given]})[0], row, repr(given))


def test_numbers_for_missing_cells_are_found_by_their_value(tmp_path, capsys):
    """-999.0 is missing where -999 is; what is not finite is refused, as by predict."""
    rng = np.random.default_rng()
    a = rng.normal(size=100)
    cells = ["-999" if rng.random() < 0.2 else text for text in texts(a)]
    columns = {"a": cells, "b": texts(rng.normal(size=100)), "y": texts(a)}
    folder, module = exported(capsys, write_table(tmp_path / "t.csv", columns), "--missing", "a=-999")
    odd = ["-999", "-999.0", "-9.99e2", " -999", "1", ""]
    new = write_table(tmp_path / "new.csv", {"a": odd, "b": ["-999", "-999.0", *["1"] * 4]})
    predicts_alike(capsys, folder, module, new, tmp_path)
    (row,) = module["checked"]({"a": [""], "b": ["1"]})
    np.testing.assert_array_equal(module["checked"]({"a": [-999.0], "b": [1]})[0], row)
    for cell in ("inf", "1e400", np.inf):
        with pytest.raises(ValueError, match="column 'a', row 1: expected a finite number, got"):
            module["predict"]({"a": [cell], "b": ["1"]})
    with pytest.raises(ValueError, match="row 1: expected numbers that float32 can hold"):
        module["predict"]({"a": ["1e300"], "b": ["1"]})


def test_a_python_file_reads_files_as_predict_does(tmp_path, capsys):
    """Other delimiters and encodings, blanks around cells, names of classes with commas."""
    rng = np.random.default_rng()
    a, kind = rng.normal(size=100), rng.choice(["ä", "b"], 100)
    table = write_table(tmp_path / "t.csv", {"a": texts(a), "kind": list(kind), "y": texts(a + 3 * (kind == "b"))})
    folder, module = exported(capsys, table)
    new = tmp_path / "new.csv"
    files = ["a,kind\n0.5,ä\n1,b\n", "a;kind\n0.5;ä\n1;b\n", "kind\ta\nä\t0.5\nb\t1\n", "a, kind\n0.5, ä\n1, b\n",
             'a, kind\n0.5, "ä"\n1, b\n', "a , kind\n0.5 , ä\n1 , b\n",
             "a,kind,\n0.5,ä,\n1,b,\n", "a,kind\n0.5,ä,\n1,b,\n"]  # fmt: skip
    expected = module["predict"]({"a": [0.5, 1], "kind": ["ä", "b"]})
    for text in files:
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
            new.write_bytes(text.encode(encoding))
            predicts_alike(capsys, folder, module, new, tmp_path)
            np.testing.assert_array_equal(module["predict"](module["read"](new)), expected, text)
    for text, words in (("a,kind,kind\n1,b,b\n", "each column's name once"), ("a\n1\n", "missing: kind"),
                        ('a,kind\n1,"b\n', "cells in whole quotes"), ("", "missing: a, kind")):  # fmt: skip
        new.write_text(text)
        with pytest.raises(ValueError, match=words):
            module["read"](new)
    classes = {"a": texts(a), "y": ['"high, or so"' if each > 0 else '"lo""w"' for each in a]}
    table = write_table(tmp_path / "c.csv", classes)
    folder, module = exported(capsys, table)
    command = [sys.executable, "-I", str(table.with_suffix(".py")), str(table)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    import csv

    rows = predicted(capsys, folder, table, tmp_path)
    assert list(csv.reader(done.stdout.splitlines())) == [[row["prediction"]] for row in rows]


def test_how_to_use_it_can_be_followed_for_any_file_name(tmp_path, capsys):
    """class.py and "my model.py" can't be imported; what has no disk gets its text all the same."""
    x = np.random.default_rng().normal(size=50)
    table = write_table(tmp_path / "t.csv", {"a": texts(x), "y": texts(2 * x)})
    folder = fitted(capsys, table)
    for name, how in (("class.py", "called NAME.py, from NAME import predict"), ("net.py", "from net import predict")):
        said = run(capsys, "export", folder, "--out", tmp_path / name)
        assert said.code == 0 and f"Use it: {how}; predict(inputs)" in " ".join(said.out.split()), said
    for device in ("/dev/null", "/dev/stdout"):
        done = subprocess.run(
            [sys.executable, "-m", "pmlp_np", "predict", str(folder), str(table), "--out", device],
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("prediction\n") == (device == "/dev/stdout")
