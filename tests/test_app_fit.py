"""The command line from a table to a leaderboard, plots, predictions and exported models, on a table of mixed columns
and on the real ones of examples/data."""

import csv
import importlib.util
import io
import itertools
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from command_line import CONCRETE, PENGUINS, ROOT, SHORT, Said, environment, mixed_table, refused, run, run_apart
from conftest import requires
from pmlp_np.app.choices import Choices, numbers
from pmlp_np.app.main import main
from pmlp_np.app.preparation import Preparation
from pmlp_np.app.problem import Source, understand
from pmlp_np.app.tables import read_table
from pmlp_np.backends.numba import task_runner


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with t.csv, and the results of a regression (value) and a classification (grade) on it."""
    folder = tmp_path_factory.mktemp("fits")
    mixed_table(np.random.default_rng()).to_csv(folder / "t.csv", index=False)
    choices = (
        "--width",
        "4,16",
        "--depth",
        "0-2",
        "--activation",
        "relu,tanh",
        "--learning-rate",
        "0.01",
        "--epochs",
        "30",
    )
    for target, other in (("value", "grade"), ("grade", "value")):
        arguments = ["fit", folder / "t.csv", "--target", target, "--drop", other, "--out", folder / target, *choices]
        assert main([str(each) for each in arguments]) == 0
    return folder


def test_the_folder_holds_what_it_promises(place):
    for target in ("value", "grade"):
        folder = place / target
        assert sorted(p.name for p in folder.iterdir()) == [
            "best.pmlp", "leaderboard.csv", "plots", "pool.pmlp", "run.json", "table.json",
        ]  # fmt: skip
        assert sorted(p.name for p in (folder / "plots").iterdir()) == [
            "activation.png", "heat-map.png", "loss.png", "parameters.png", "width.png",
        ]  # fmt: skip
        found = json.loads((folder / "run.json").read_text())
        assert found["ended"] == "done" and found["versions"]["pmlp_np"] == pm.__version__
        # Linear members have neither width nor activation to choose.
        assert found["members"] == 9 and found["rows"] == {"all": 300, "training": 180, "validation": 60, "test": 60}
        pool, best = pm.load(folder / "pool.pmlp"), pm.MLP.load(folder / "best.pmlp")
        assert best.hidden == tuple(found["best"]["hidden"]) and len(pool) == 9
        records = read((folder / "leaderboard.csv").read_text())
        assert [int(r["id"]) for r in records] == [r["id"] for r in pool.leaderboard()]
        assert not [p for p in place.iterdir() if p.name.startswith(".")], "a draft was left behind"


def test_scores_are_what_they_say(place):
    """The test score from the written parts alone, by scikit-learn: rows, preparation and best member."""
    metrics = requires("sklearn.metrics")
    from pmlp_np.app.parts import part

    for target in ("value", "grade"):
        found = json.loads((place / target / "run.json").read_text())
        table = read_table(str(place / "t.csv"))
        preparation = Preparation.from_plain(json.loads((place / target / "table.json").read_text()), "file")
        own = preparation.target.read(table)
        rows = part(own if target == "grade" else None, len(table), 0.2, 0.2, 0)
        mlp = pm.MLP.load(place / target / "best.pmlp")
        X = preparation.features(preparation.inputs(table, []))
        for name in ("validation", "test"):
            said, y = found["scores"]["best"][name], own[rows[name]]
            predicted = mlp.predict(X[rows[name]])
            if target == "value":
                predicted = predicted * own[rows["training"]].std() + own[rows["training"]].mean()
                assert said["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, predicted), rel=1e-4)
                assert said["mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted), rel=1e-4)
                assert said["r2"] == pytest.approx(metrics.r2_score(y, predicted), rel=1e-4)
            else:
                assert said["accuracy"] == pytest.approx(metrics.accuracy_score(y, predicted))
                assert said["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
                loss = metrics.log_loss(y, mlp.predict_proba(X[rows[name]]))
                assert said["log_loss"] == pytest.approx(loss, rel=1e-3)
        guess = found["scores"]["guess"]["test"]
        assert found["scores"]["best"]["test"]["rmse" if target == "value" else "log_loss"] < 0.8 * guess.get(
            "rmse", guess.get("log_loss")
        )


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


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


@pytest.mark.parametrize("table", [CONCRETE, PENGUINS], ids=lambda path: path.stem)
def test_real_tables_become_better_than_a_guess(table, capsys, tmp_path):
    target = {"concrete": "compressive_strength", "penguins": "species"}[table.stem]
    said = run(capsys, "fit", table, "--target", target, "--out", tmp_path / "r", "--quick", "--json", "--seed", "3")
    found = json.loads(said.out)
    scores = {who: found["scores"][who]["test"] for who in ("best", "ensemble", "guess")}
    if table is CONCRETE:
        assert scores["best"]["rmse"] < 0.5 * scores["guess"]["rmse"] and scores["best"]["r2"] > 0.75
    else:
        assert scores["best"]["accuracy"] > 0.9 and found["task"] == "classification"
        assert "sex is missing" in found["inputs"]
    assert found["notes"] == []


def test_parquet_in_csv_out_and_the_other_way(place, capsys, tmp_path):
    """A fit of a Parquet file is that of the CSV file with the same cells, and serves both."""
    requires("pyarrow")
    frame = read_table(str(place / "t.csv")).frame
    frame.assign(color=frame["color"].astype("category")).to_parquet(tmp_path / "t.parquet")
    fit = ("--target", "value", "--drop", "grade", *SHORT, "--json")
    found = [json.loads(run(capsys, "fit", table, *fit, "--out", tmp_path / table.suffix[1:]).out)
             for table in (place / "t.csv", tmp_path / "t.parquet")]  # fmt: skip
    assert found[0]["scores"] == found[1]["scores"] and found[0]["inputs"] == found[1]["inputs"]
    said = [run(capsys, "predict", tmp_path / "parquet", table, "--out", "-").out
            for table in (place / "t.csv", tmp_path / "t.parquet")]  # fmt: skip
    assert said[0] == said[1] and len(read(said[0])) == 300


def test_choices(capsys, tmp_path):
    def fit(*more):
        out = tmp_path / str(time.monotonic_ns())
        said = run(
            capsys, "fit", CONCRETE, "--target", "compressive_strength", "--out", out, "--epochs", "2", "--json", *more
        )
        assert said.code == 0, said.err
        return json.loads(said.out), read((out / "leaderboard.csv").read_text())

    found, records = fit(
        "--width", "3,5", "--width", "7", "--depth", "0-1", "--activation", "tanh", "--learning-rate", "0.1"
    )
    assert {r["hidden"] for r in records} == {"", "3", "5", "7"} and found["members"] == 4
    found, records = fit(
        "--members", "20", "--width", "2-9", "--depth", "1", "--learning-rate", "0.001,0.1", "--seed", "4"
    )
    rates = [float(r["learning_rate"]) for r in records]
    assert len(records) == 20 and len(set(rates)) == 20 and 0.001 <= min(rates) < 0.01 < max(rates) <= 0.1
    found, records = fit("--width", "4", "--depth", "1", "--activation", "paper", "--learning-rate", "0.01",
                         "--repeats", "2", "--metric", "mae", "--batch-size", "100", "--patience", "1")  # fmt: skip
    assert len(records) == 20 and found["metric"] == "mae" and found["settings"]["batch_size"] == 100
    # What was not chosen is the default, which the file names.
    assert found["settings"]["depths"] and all(
        value not in (None, []) for name, value in found["settings"].items() if name != "members"
    )
    values = [float(r["validation_mae"]) for r in records]
    assert values == sorted(values)
    assert fit(*SHORT)[0]["scores"] == fit(*SHORT)[0]["scores"]


# Screens, pipes and interrupts.


def test_json_is_all_there_is_on_stdout(tmp_path):
    said = run_apart("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--json", *SHORT)
    assert said.code == 0 and json.loads(said.out)["task"] == "classification" and "\x1b" not in said.out + said.err


def test_a_pipe_that_closes_is_no_error(place):
    """Nobody reads: `true` has ended before anything is printed, little or more than Python's buffer."""
    arguments = [f"leaderboard {place / 'value'} --csv", f"predict {place / 'value'} {place / 't.csv'} --out -"]
    for command in arguments:
        shell = f"{sys.executable} -m pmlp_np {command} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, text=True)
        assert done.stdout == "0\n" and done.stderr == "", done


def test_tables_from_a_pipe_to_a_pipe(place):
    said = run_apart("predict", place / "value", "-", "--out", "-", stdin=(place / "t.csv").read_bytes())
    assert said.code == 0 and len(read(said.out)) == 300 and said.err == ""


def as_on_a_terminal():
    # Where tests run in the background, Ctrl-C may be ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_a_terminal(*arguments, columns=80, interrupt_at=None, **variables):
    """What a command shows on a terminal of so many columns, and its exit code. Ctrl-C is pressed once this is seen."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # What runs the tests may say how wide its own terminal is.
    variables = environment(TERM="xterm-256color", **variables)
    variables = {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pmlp_np", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=variables,
        preexec_fn=as_on_a_terminal,
    )
    os.close(slave)
    seen, pressed = b"", False
    watchdog = threading.Timer(60.0, process.kill)
    watchdog.start()
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        if interrupt_at and not pressed and re.search(interrupt_at, seen):
            pressed = True
            process.send_signal(signal.SIGINT)
    os.close(master)
    watchdog.cancel()
    return Said(process.wait(timeout=60), seen.decode(), "")


@pytest.mark.parametrize("columns", [80, 120])
def test_screens_fit_the_terminal(place, columns):
    said = on_a_terminal("leaderboard", place / "grade", columns=columns)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.out).splitlines()
    assert said.code == 0 and "\x1b[1m" in said.out
    assert all(len(line.rstrip()) <= columns for line in lines) and not any("…" in line for line in lines)
    assert ("training loss" in lines[0]) == (columns == 120) and "log loss" in lines[0]
    plain = on_a_terminal("leaderboard", place / "grade", columns=columns, NO_COLOR="1")
    assert "\x1b[3" not in plain.out


def test_ctrl_c_keeps_the_work(tmp_path):
    out = tmp_path / "r"
    fit = ("fit", CONCRETE, "--target", "compressive_strength", "--out", out, "--time-budget", "0")
    said = on_a_terminal(*fit, "--epochs", "4000", "--patience", "4000", interrupt_at=rb"best RMSE \d")
    assert said.code == 130, said.out[-300:]
    assert "interrupted; training so far is saved" in said.out and "left" in said.out
    found = json.loads((out / "run.json").read_text())
    assert found["ended"] == "interrupted" and found["scores"]["best"]["test"]["r2"] > 0
    assert (out / "plots" / "loss.png").exists() and len(pm.load(out / "pool.pmlp")) == found["members"]


def test_ctrl_c_before_anything_is_learned(tmp_path):
    fit = ("fit", CONCRETE, "--target", "compressive_strength", "--out", tmp_path / "r")
    said = on_a_terminal(*fit, interrupt_at=b"Preparing to train")
    assert said.code == 130 and "interrupted; nothing is written" in said.out and "Traceback" not in said.out
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_compiling(capsys, tmp_path, monkeypatch, ctrl_c_as_in_a_terminal):
    """A fit keeps its work on Ctrl-C, but the one that has everything compiled has none that anybody wants."""
    announce = task_runner.announce_compilation

    def press(kind):
        monkeypatch.setattr(task_runner, "announce_compilation", announce)
        signal.raise_signal(signal.SIGINT)
        return announce(kind)

    monkeypatch.setattr(task_runner, "announce_compilation", press)
    said = run(capsys, "fit", CONCRETE, "--target", "compressive_strength", "--out", tmp_path / "r", *SHORT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert said.code == 130 and said.err == "pmlp: interrupted; nothing is written\n"
    assert "Trained" not in said.out and not list(tmp_path.iterdir())


def test_progress_on_a_pipe_is_plain_lines(capsys, tmp_path, monkeypatch):
    from pmlp_np.app import screen

    monkeypatch.setattr(screen, "_PLAIN_EVERY_SECONDS", 0.0)
    said = run(capsys, "fit", CONCRETE, "--target", "compressive_strength", "--out", tmp_path / "r", *SHORT)
    lines = [line for line in said.err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3 and re.fullmatch(r"epoch 2/3  2 of 2 members  best RMSE [\d.]+  <\d:\d\d left", lines[1])
    # There is never no time left.
    assert "<0:00" not in lines[1]
    best = json.loads((tmp_path / "r" / "run.json").read_text())["best"]["validation_rmse"]
    assert float(re.search(r"RMSE ([\d.]+)", lines[-1])[1]) == pytest.approx(best, rel=1e-3)


# The other commands.


def test_help_of_every_command_has_examples(capsys):
    said = run(capsys, "--help")
    assert said.code == 0
    commands = ["fit", "leaderboard", "predict", "export", "plot", "demo", "bench", "doctor"]
    for command in commands:
        assert re.search(rf"│ {command} ", said.out)
        text = run(capsys, command, "--help").out
        # Flags take no value; what the help says of --help is Typer's.
        assert not [line for line in text.splitlines() if "<bool>" in line and "--help" not in line], command
        assert "Examples" in text and f"pmlp {command}" in text.partition("Examples")[2], command
    assert run(capsys, "--version").out == f"pmlp_np {pm.__version__}\n"
    nothing = run(capsys)
    assert nothing.code == 2 and "Usage: pmlp" in nothing.out and nothing.err == ""
    for wrong in (["fitt"], ["fit"], ["fit", "t.csv", "--targett", "y"], ["leaderboard", "r", "--top", "x"]):
        refused(run(capsys, *wrong), "--help", code=2)


@pytest.mark.parametrize("depth, repeats, said", [
    ("0-2", 2, "26: (6 architectures x 2 activations + a linear model) x 2 repeats"),
    ("0,1", 1, "7: 3 architectures x 2 activations + a linear model"),
    ("0", 3, "3: a linear model x 3 repeats"),
    ("2", 1, "6: 3 architectures x 2 activations"),
])  # fmt: skip
def test_members_are_counted_in_words(depth, repeats, said):
    depths = numbers("--depth", [depth], int, 0, 9)
    specs, how = Choices([4, 8, 16], depths, ["relu", "tanh"], [0.01], repeats).specs()
    assert f"{len(specs)}: {how}" == said


def test_a_metric_that_ranks_leaves_the_usual_scores(capsys, tmp_path):
    fit = ("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--metric", "log_loss")
    assert run(capsys, *fit, *SHORT).code == 0
    for record in json.loads(run(capsys, "leaderboard", tmp_path / "r", "--json").out):
        assert 0.0 <= record["validation_accuracy"] <= 1.0 and 0.0 <= record["validation_balanced_accuracy"] <= 1.0


def test_the_demo(tmp_path, capsys, monkeypatch):
    requires("sklearn")
    monkeypatch.chdir(tmp_path)
    said = run(capsys, "demo")
    assert said.code == 0 and "█" in said.out and "pmlp_demo/plots/width.png" in said.out
    assert run(capsys, "predict", "pmlp_demo", "pmlp_demo.csv", "--out", "p.csv").code == 0
    refused(run(capsys, "demo"), "pmlp_demo", "--overwrite")
    assert json.loads(run(capsys, "demo", "--overwrite", "--json").out)["target"] == "progression"


def test_the_doctor(capsys):
    found = json.loads(run(capsys, "doctor", "--json").out)
    assert found["packages"]["core"]["numpy"] == np.__version__
    numba = found["backends"]["numba"]
    assert numba["threads"] >= 1 and Path(numba["cache"]).is_dir() and numba["simd"]
    # At most four multiply-adds of a vector of 16 numbers a cycle, at 8 GHz; at least one number's a nanosecond.
    assert 1 < numba["peak_gflops_one_core"] < 1024
    assert numba["peak_gflops"] < 1.3 * numba["threads"] * numba["peak_gflops_one_core"]
    text = run(capsys, "doctor").out
    for word in ("Measured peak", "Threads", "GPU", "Compile cache", "own threads"):
        assert word in text


def test_the_bench(capsys):
    requires("sklearn")
    found = json.loads(run(capsys, "bench", "--members", "200", "--json").out)["results"]
    assert [r["method"].partition(",")[0] for r in found] == ["pmlp_np", "scikit-learn", "PyTorch"]
    for record in found:
        if "times" in record:
            assert "note" not in record, "weights are not those of pmlp_np"
            assert record["times"] == pytest.approx(record["seconds_per_1000"] / found[0]["seconds_per_1000"])
    assert found[1]["times"] > 1
    assert ("times" in found[2]) == (importlib.util.find_spec("torch") is not None)


def test_the_page_prints_what_its_commands_print(tmp_path):
    """Each bash block of docs/command_line.md that is followed by a text block, one after another."""
    from test_docs import FENCE, same_text

    requires("onnxruntime")
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "pmlp"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pmlp_np "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])

    def told(text):
        # What takes how long, and the last roundings of a runtime, are the machine's.
        text = re.sub(r"^pmlp_np: compiling .*$", "", text, flags=re.MULTILINE)
        return re.sub(r"in [\d.]+ s:|within \S+ of|\([\d,]+ bytes\)", "...", text)

    fences, checked = list(FENCE.finditer(page)), 0
    for fence, follower in itertools.pairwise(fences):
        if fence[1] == "bash" and follower[1] == "text" and not page[fence.end() : follower.start()].strip():
            done = subprocess.run(
                ["bash", "-c", fence[2]], cwd=tmp_path, env=environment(PATH=path), capture_output=True, text=True
            )
            assert same_text(told(done.stdout + done.stderr), told(follower[2])), fence[2] + done.stdout + done.stderr
            checked += 1
    assert checked >= 5


def test_a_time_budget_takes_as_many_members_as_the_machine_can_train(place, monkeypatch):
    """By a rate that is certain too few fit: it is measured. Who is drawn is said."""
    from pmlp_np.app import run as fits

    problem = understand(Source(str(place / "t.csv"), "value", drop=["grade"]), seed=0)
    rows = len(problem.parts["training"])
    choices = Choices(widths=[2, 40], depths=[1], activations=["relu"], learning_rates=[0.01], repeats=20,
                      time_budget=10.0)  # fmt: skip
    monkeypatch.setattr(fits, "RATE_OF_WORK", 1.0)
    # Whoever looks at the clock finds a millisecond gone.
    clock = itertools.count(step=1e-3)
    monkeypatch.setattr(fits, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    pool, said = fits.pool_of(problem, choices)
    assert len(pool) == 40 and said.startswith("40: ")
    assert not any("at random, so" in note for note in problem.notes)

    # Sixteen members, on all training rows.
    few = pool.specs[np.sort(np.random.default_rng(0).permutation(40)[:16])]
    inputs = problem.X.shape[1]
    work = sum((inputs + 1) * width + width + 1 for member in few for width in member.hidden)
    assert fits.measured_rate(pool.specs, problem, choices) == pytest.approx(3.5 * work * rows / 1e-3)

    # Enough for a tenth of the work.
    parameters = sum(record["parameters"] for record in pool.leaderboard())
    slow = 0.1 * 3.5 * parameters * rows * 30 / 10.0
    monkeypatch.setattr(fits, "measured_rate", lambda *arguments: slow)
    few, said = fits.pool_of(problem, choices)
    assert 8 <= len(few) < 20 and said.startswith(f"{len(few)} of 40: ")
    assert f"{len(few)} of 40 combinations, drawn at random" in problem.notes[-1]
