"""What comes of a fit on the command line: predictions, leaderboards, pictures, and exported models that predict the
same."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import pmlp_np as pm
from command_line import SHORT, refused, run
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.app.preparation import Preparation
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fitted_folder(tmp_path_factory)


def test_predictions_of_the_raw_table(place, capsys, tmp_path):
    out = tmp_path / "p.csv"
    said = run(capsys, "predict", place / "value", place / "t.csv", "--out", out, "--keep", "color")
    assert said.code == 0 and "RMSE" in said.out and "trained on" in said.err
    rows, table = read(out.read_text()), read_table(str(place / "t.csv"))
    assert [row["color"] for row in rows] == table.frame["color"].fillna("").tolist()
    preparation = Preparation.from_plain(json.loads((place / "value" / "table.json").read_text()), "file")
    X = preparation.features(preparation.inputs(table, []))
    expected = (
        pm.MLP.load(place / "value" / "best.pmlp").predict(X) * preparation.target.scale + preparation.target.mean
    )
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-4)
    # The table's own rows in another order, with other columns beside, give the same.
    frame = table.frame.iloc[::-1][["count", "grade", "color", "size", "day"]].assign(more=1)
    frame.to_csv(tmp_path / "other.csv", index=False, sep=";")
    said = run(capsys, "predict", place / "value", tmp_path / "other.csv", "--out", "-")
    assert [row["prediction"] for row in read(said.out)] == [row["prediction"] for row in rows][::-1]
    assert "ignored columns that the fit did not have: more" in said.err


def test_predictions_of_classes(place, capsys, tmp_path):
    out = tmp_path / "p.csv"
    said = run(capsys, "predict", place / "grade", place / "t.csv", "--out", out, "--ensemble", "3", "--json")
    found, rows = json.loads(said.out), read(out.read_text())
    names = ["probability of high", "probability of low", "probability of middle"]
    assert found["columns"] == ["prediction", *names] and found["scores"]["rows"] == 300 == found["rows"]
    p = np.array([[float(row[name]) for name in names] for row in rows])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    classes = np.array(["high", "low", "middle"])
    assert [row["prediction"] for row in rows] == classes[p.argmax(axis=1)].tolist()
    truth = read_table(str(place / "t.csv")).frame["grade"].to_numpy()
    assert found["scores"]["accuracy"] == pytest.approx(np.mean(classes[p.argmax(axis=1)] == truth))
    pool = pm.load(place / "grade" / "pool.pmlp")
    assert found["members"] == [record["id"] for record in pool.leaderboard()[:3]]


def test_tables_that_do_not_match_are_refused_by_name(place, capsys, tmp_path):
    frame = read_table(str(place / "t.csv")).frame
    out = ("--out", tmp_path / "p.csv")

    def predict(other):
        other.to_csv(tmp_path / "other.csv", index=False)
        return run(capsys, "predict", place / "value", tmp_path / "other.csv", *out)

    refused(predict(frame.drop(columns=["size", "day"])), "no 'size', 'day'")
    refused(predict(frame.rename(columns={"color": "colour"})), "no 'color'", "Rename 'colour' to 'color'?")
    refused(predict(frame.assign(size="big")), "column 'size'", "line 2", "numbers", "'big'")
    refused(predict(frame.assign(day="tomorrow")), "column 'day'", "dates such as 2026-01-31", "'tomorrow'")
    said = predict(frame.assign(color="violet", count=[np.nan] * len(frame)))
    assert said.code == 0 and "'violet'" in said.err and "'count': 300 missing cells" in said.err
    assert not (tmp_path / ".p.csv").exists() and (tmp_path / "p.csv").exists()
    refused(run(capsys, "predict", place / "value", place / "t.csv", *out), "p.csv", "--overwrite")


def test_leaderboards(place, capsys):
    said = run(capsys, "leaderboard", place / "value", "--top", "4")
    lines = said.out.splitlines()
    names = "rank id architecture rate parameters epochs best epoch training loss RMSE MAE R²"
    assert lines[0].split() == names.split()
    assert lines[1].startswith("   1") and lines[-1] == "... 5 more: --top 9"
    found = json.loads(run(capsys, "leaderboard", place / "value", "--json").out)
    text = run(capsys, "leaderboard", place / "value", "--csv").out
    assert text == (place / "value" / "leaderboard.csv").read_text() and len(found) == 9
    assert [r["validation_rmse"] for r in found] == sorted(r["validation_rmse"] for r in found)
    for column, sign in (("parameters", 1), ("r2", -1), ("validation_mae", 1)):
        found = json.loads(run(capsys, "leaderboard", place / "value", "--json", "--sort", column).out)
        values = [sign * r[column if column in r else f"validation_{column}"] for r in found]
        assert values == sorted(values)
    refused(run(capsys, "leaderboard", place / "value", "--sort", "parameter"), "Did you mean 'parameters'?")


EXPORTS = {"onnx": ("onnx", "onnxruntime"), "torch": ("torch",), "sklearn": ("sklearn", "skops"), "python": ()}
ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "sklearn": ".skops", "python": ".py"}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize("target", ["value", "grade"])
def test_exported_models_predict_the_same(place, capsys, tmp_path, format, target):
    """From the table's own columns in their own units: here taken from the CSV file without the preparation."""
    for package in EXPORTS[format]:
        requires(package)
    out, predictions = tmp_path / f"m{ENDINGS[format]}", tmp_path / "p.csv"
    who = ("--ensemble", "2") if format != "sklearn" else ()
    said = run(capsys, "export", place / target, "--out", out, "--json", *who)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["difference"] < 1e-4 and found["format"] == format
    run(capsys, "predict", place / target, place / "t.csv", "--out", predictions, *who)

    frame = read_table(str(place / "t.csv")).frame
    learned = {c["name"]: c for c in json.loads((place / target / "table.json").read_text())["columns"]}
    days = (frame["day"].to_numpy().astype("datetime64[D]") - np.datetime64(0, "D")).astype(float)
    columns = []
    for name in found["inputs"]:
        if " = " in name:
            column, _, category = name.partition(" = ")
            columns.append(frame[column].to_numpy() == category)
        elif name.endswith(" is missing"):
            columns.append(frame[name.removesuffix(" is missing")].isna().to_numpy())
        elif name == "day (days since 1970)":
            columns.append(days)
        elif name.startswith("day"):
            cycle = {"week": 7.0, "year": 365.2425}[name.removesuffix(")").rpartition(" ")[2]]
            columns.append((np.sin if "(sine" in name else np.cos)(2 * np.pi * days / cycle))
        else:
            columns.append(frame[name].fillna(learned[name]["median"]).to_numpy())
    inputs = np.column_stack(columns).astype(np.float32)
    rows = read(predictions.read_text())
    if target == "value":
        expected = np.array([float(row["prediction"]) for row in rows])
    else:
        expected = np.array([[float(v) for k, v in row.items() if k.startswith("probability")] for row in rows])
    got = ask(format, out, inputs, target)
    np.testing.assert_allclose(got, expected, atol=2e-3 if target == "value" else 1e-4, rtol=1e-4)


_APART = "import sys, os, numpy as np; sys.modules['pmlp_np'] = None; path, given, got = sys.argv[1:]; "


def ask(format, path, inputs, target):
    if format == "onnx":
        import onnx
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        names = {each.key: each.value for each in onnx.load(path).metadata_props}["feature_names"]
        assert len(json.loads(names)) == inputs.shape[1]
        found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"X": inputs}), strict=True))
        if target == "grade":
            classes = np.array(["high", "low", "middle"])
            assert found["label"].tolist() == classes[found["probabilities"].argmax(axis=1)].tolist()
        return found["prediction" if target == "value" else "probabilities"]
    if format == "torch":
        code = _APART + "import torch; run = torch.export.load(path).module(); x = torch.from_numpy(np.load(given))"
        code += "; y = run(x).detach().numpy()"
        raw = apart(code, path, inputs)
        e = np.exp(raw - raw.max(axis=1, keepdims=True))
        return raw[:, 0] if target == "value" else e / e.sum(axis=1, keepdims=True)
    if format == "sklearn":
        import skops.io

        model = skops.io.load(path)
        return model.predict(inputs) if target == "value" else model.predict_proba(inputs)
    method = "predict" if target == "value" else "predict_proba"
    code = f"{_APART}sys.path.insert(0, os.path.dirname(path)); import m; y = m.{method}(np.load(given))"
    return apart(code, path, inputs)


def apart(code, path, inputs):
    """What a process without pmlp_np makes of the inputs."""
    given, got = path.with_name("given.npy"), path.with_name("got.npy")
    np.save(given, inputs)
    command = [sys.executable, "-W", "ignore", "-c", f"{code}; np.save(got, y)", str(path), str(given), str(got)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.load(got)


@pytest.mark.parametrize("target", ["value", "grade"])
def test_onnx_takes_the_raw_table(place, capsys, tmp_path, target):
    """Texts, missing cells and days as the CSV file has them, without our preparation."""
    requires("onnx")
    onnxruntime = requires("onnxruntime")
    said = run(capsys, "export", place / target, "--raw-table", "--out", tmp_path / "m.onnx", "--json")
    assert json.loads(said.out)["inputs"] == ["size", "color", "day", "count"]
    run(capsys, "predict", place / target, place / "t.csv", "--out", tmp_path / "p.csv")
    with (place / "t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))

    def column(of):
        return np.array([[of(row)] for row in table])

    feeds = {
        "size": column(lambda row: np.float32(row["size"] or "nan")),
        "color": column(lambda row: row["color"]).astype(object),
        "day": column(lambda row: np.float32(np.datetime64(row["day"]).astype("datetime64[D]").astype(int))),
        "count": column(lambda row: np.float32(row["count"])),
    }
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    rows = read((tmp_path / "p.csv").read_text())
    if target == "value":
        expected = [float(row["prediction"]) for row in rows]
        np.testing.assert_allclose(found["prediction"], expected, rtol=1e-4, atol=2e-3)
    else:
        names = [name for name in rows[0] if name.startswith("probability")]
        expected = [[float(row[name]) for name in names] for row in rows]
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-4)
        assert np.mean(found["label"] == [row["prediction"] for row in rows]) > 0.99
    refused(run(capsys, "export", place / target, "--raw-table", "--out", tmp_path / "m.pt2"), "--raw-table", "onnx")


def test_an_export_that_predicts_otherwise_is_noticed(place, capsys, tmp_path, monkeypatch):
    """Numbers that float32 can't tell apart: the check says so."""
    requires("onnxruntime")
    import pandas

    frame = pandas.read_csv(place / "t.csv").assign(size=lambda f: f["size"] + 1e9)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run(capsys, "fit", tmp_path / "t.csv", "--target", "value", "--out", tmp_path / "r", *SHORT).code == 0
    said = run(capsys, "export", tmp_path / "r", "--out", tmp_path / "m.onnx")
    assert said.code == 0 and re.search(r"note: it predicts up to [\d.]+ standard deviations apart", said.err)


def test_scikit_learn_takes_what_it_knows(place, capsys, tmp_path):
    requires("skops")
    fit = ("fit", place / "t.csv", "--target", "value", "--out", tmp_path / "r", "--activation", "silu,tanh")
    assert run(capsys, *fit, "--width", "4", "--depth", "1", "--learning-rate", "0.01", "--epochs", "2").code == 0
    records = read((tmp_path / "r" / "leaderboard.csv").read_text())
    silu = next(r["id"] for r in records if r["activation"] == "silu")
    tanh = next(r["id"] for r in records if r["activation"] == "tanh")
    said = run(capsys, "export", tmp_path / "r", "--out", tmp_path / "m.skops", "--member", silu)
    refused(said, f"member {silu}", "silu", f"--member {tanh} is the best of these")


def test_pictures(place, capsys, tmp_path):
    for kind in ("loss", "width", "parameters", "activation", "heat-map"):
        assert run(capsys, "plot", place / "grade", "--kind", kind, "--out", tmp_path / f"{kind}.svg").code == 0
        assert "<svg" in (tmp_path / f"{kind}.svg").read_text()
    refused(run(capsys, "plot", place / "grade", "--kind", "los", "--out", tmp_path / "a.png"), "Did you mean 'loss'?")
    refused(run(capsys, "plot", place / "grade", "--kind", "loss", "--out", tmp_path / "a.gif"), "a.gif", ".png")
    said = run(capsys, "plot", place / "grade", "--kind", "heat-map", "--x", "sice", "--out", tmp_path / "a.png")
    refused(said, "pmlp: --x: expected", "width", "'sice'")
