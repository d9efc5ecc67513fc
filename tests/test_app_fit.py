"""The command line from a table to a folder of results, on a table of mixed columns and on the real ones of
examples/data."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pmlp_np as pm
from command_line import CONCRETE, PENGUINS, SHORT, refused, run
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.app import fitting
from pmlp_np.app.choices import Choices
from pmlp_np.app.columns import Columns
from pmlp_np.app.parts import part
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fitted_folder(tmp_path_factory)


def test_the_folder_holds_what_it_promises(place):
    for target in ("value", "grade"):
        folder = place / target
        assert sorted(p.name for p in folder.iterdir()) == [
            "leaderboard.csv", "model.pmlp", "plots", "report.html", "report.json", "run.json", "table.json",
        ]  # fmt: skip
        assert sorted(p.name for p in (folder / "plots").iterdir()) == ["ensemble.png", "scores.png"]
        found = json.loads((folder / "run.json").read_text())
        assert found["ended"] == "done" and found["versions"]["pmlp_np"] == pm.__version__
        assert found["rows"] == {"all": 300, "training": 240, "validation": 0, "test": 60}
        assert (found["folds"], found["configurations"], found["members"]) == (3, 4, 12)
        records = read((folder / "leaderboard.csv").read_text())
        losses = [float(r["loss"]) for r in records]
        assert losses == sorted(losses) and sorted(int(r["id"]) for r in records) == [0, 1, 2, 3]
        weights = [float(r["weight"]) for r in records]
        assert sum(weights) == pytest.approx(1.0) and np.count_nonzero(weights) == found["in_ensemble"]
        model = pm.TableModel.load(folder / "model.pmlp")
        np.testing.assert_allclose(sorted(model.weights), sorted(w for w in weights if w), rtol=1e-12)
        assert all(int(r["parameters"]) > 0 and r["status"] == "done" for r in records)
        assert not [p for p in place.iterdir() if p.name.startswith(".")], "a draft was left behind"


def test_scores_are_what_they_say(place):
    """The test score from the written parts alone, by scikit-learn: rows, columns and ensemble."""
    metrics = requires("sklearn.metrics")
    for target in ("value", "grade"):
        found = json.loads((place / target / "run.json").read_text())
        table = read_table(str(place / "t.csv"))
        columns = Columns.from_plain(json.loads((place / target / "table.json").read_text()), "file")
        own = columns.target.read(table)
        rows = part(own if target == "grade" else None, len(table), 0.0, 0.2, 0)
        model, X = pm.TableModel.load(place / target / "model.pmlp"), columns.frame(table, []).iloc[rows["test"]]
        said, guess, y = found["scores"]["ensemble"]["test"], found["scores"]["guess"]["test"], own[rows["test"]]
        if target == "value":
            predicted = model.predict(X)
            assert said["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, predicted), rel=1e-6)
            assert said["mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted), rel=1e-6)
            assert said["r2"] == pytest.approx(metrics.r2_score(y, predicted), rel=1e-6)
            low, high = model.predict_interval(X, 0.9).T
            assert found["coverage"]["test"] == pytest.approx(np.mean((low <= y) & (y <= high)))
            assert said["rmse"] < 0.8 * guess["rmse"]
            assert guess["mae"] == pytest.approx(np.abs(y - own[rows["training"]].mean()).mean())
        else:
            assert model.targets.classes.tolist() == list(columns.target.classes)
            p = model.predict_proba(X)
            assert said["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(axis=1)))
            assert said["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, p.argmax(axis=1)))
            expected = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-7)).mean()
            assert said["log_loss"] == pytest.approx(expected, rel=1e-4)
            assert said["accuracy"] > 1.2 * guess["accuracy"]


def test_scores_out_of_fold_are_those_of_the_search(place):
    """Searched again: the same rows, choices and seed give the same configurations. RMSE is the loss in units."""
    table = read_table(str(place / "t.csv"))
    columns = Columns.from_plain(json.loads((place / "value" / "table.json").read_text()), "file")
    own, rows = columns.target.read(table), part(None, len(table), 0.0, 0.2, 0)["training"]
    result = pm.search(columns.frame(table, []).iloc[rows], own[rows], task="regression", cv=3, time_budget=None,
                       max_members=12, max_epochs=15, progress=False)  # fmt: skip
    records = read((place / "value" / "leaderboard.csv").read_text())
    assert [int(r["id"]) for r in records] == [r["trial"] for r in result.records()]
    expected = [np.sqrt(r["loss"]) * own[rows].std() for r in result.records()]
    np.testing.assert_allclose([float(r["validation_rmse"]) for r in records], expected, rtol=1e-6)
    found = json.loads((place / "value" / "run.json").read_text())
    assert found["scores"]["ensemble"]["validation"]["rmse"] == pytest.approx(result.loss**0.5 * own[rows].std())
    np.testing.assert_array_equal(
        result.ensemble.predict(columns.frame(table, [])),
        pm.TableModel.load(place / "value" / "model.pmlp").predict(columns.frame(table, [])),
    )


@pytest.mark.parametrize("table", [CONCRETE, PENGUINS], ids=lambda path: path.stem)
def test_real_tables_become_better_than_a_guess(table, capsys, tmp_path):
    target = {"concrete": "compressive_strength", "penguins": "species"}[table.stem]
    choices = ("--cv", "3", "--max-members", "12", "--max-epochs", "20", "--seed", "3")
    said = run(capsys, "fit", table, "--target", target, "--out", tmp_path / "r", "--json", *choices)
    found = json.loads(said.out)
    scores = {who: found["scores"][who]["test"] for who in ("best", "ensemble", "guess")}
    for who in ("best", "ensemble"):
        if table is CONCRETE:
            assert scores[who]["rmse"] < 0.5 * scores["guess"]["rmse"] and scores[who]["r2"] > 0.75
        else:
            assert scores[who]["accuracy"] > 0.9 and found["task"] == "classification"
    assert found["notes"] == []


def test_parquet_in_csv_out_and_the_other_way(place, capsys, tmp_path):
    """A fit of a Parquet file is that of the CSV file with the same cells, and serves both."""
    requires("pyarrow")
    frame = read_table(str(place / "t.csv")).frame
    frame.assign(color=frame["color"].astype("category")).to_parquet(tmp_path / "t.parquet")
    fit = ("--target", "value", "--drop", "grade", *SHORT, "--json")
    found = [json.loads(run(capsys, "fit", table, *fit, "--out", tmp_path / table.suffix[1:]).out)
             for table in (place / "t.csv", tmp_path / "t.parquet")]  # fmt: skip
    assert found[0]["scores"] == found[1]["scores"] and found[0]["columns"] == found[1]["columns"]
    said = [run(capsys, "predict", tmp_path / "parquet", table, "--out", "-").out
            for table in (place / "t.csv", tmp_path / "t.parquet")]  # fmt: skip
    assert said[0] == said[1] and len(read(said[0])) == 300


# Choices.


def test_how_long_a_search_takes():
    assert Choices().seconds == 60.0 and Choices(quick=True).seconds == 8.0 and Choices(quick=True).folds == 5
    assert Choices(max_members=9).seconds is None and Choices(max_members=9, time_budget=5.0).seconds == 5.0
    assert Choices(quick=True, time_budget=5.0, cv=3).seconds == 5.0 and Choices(quick=True, cv=3).folds == 3
    assert "at most 60 s" in Choices().described()
    assert "at most 9 members, 4 epochs each" in Choices(max_members=9, max_epochs=4).described()
    for odd in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(pm.DataError, match="--time-budget: expected seconds, above 0"):
            Choices(time_budget=odd)


def test_a_quick_fit_ends_and_reports(capsys, tmp_path, monkeypatch):
    """By the clock, of which a test knows no more than that it ends."""
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    said = run(capsys, "fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--quick", "--time-budget", "1")
    assert said.code == 0 and "at most 1 s" in said.out and "in 5 folds" in said.out
    # One line of a fit on stderr is of compiling.
    assert not [line for line in said.err.splitlines() if not line.startswith(("pmlp_np: compiling", "note: "))]


def test_a_space_of_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    space = [{"hidden": [[6], []], "activation": ["tanh"], "learning_rate": [0.02], "view": "raw"},
             {"hidden": 5, "epochs": [0.5]}]  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(space))
    fit = ("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--space", tmp_path / "s.json")
    limits = ("--cv", "3", "--max-members", "100", "--max-epochs", "4", "--json", "--overwrite")
    said = run(capsys, *fit, *limits)
    assert said.code == 0, said.err
    records = {int(r["id"]): r for r in read((tmp_path / "r" / "leaderboard.csv").read_text())}
    assert [records[i]["configuration"] for i in range(3)] == ["6 tanh raw", "linear raw", "5 mish raw+ple"]
    assert [records[i]["epochs"] for i in range(3)] == ["4", "4", "2"]
    assert records[0]["learning_rate"] == "0.02"
    # One object, and a distribution: as many are drawn as fit.
    space = {"hidden": 4, "learning_rate": {"log_uniform": [0.001, 0.1]}, "activation": ["tanh", "relu"]}
    (tmp_path / "s.json").write_text(json.dumps(space))
    found = json.loads(run(capsys, *fit, *limits[:2], "--max-members", "15", *limits[4:]).out)
    rates = {float(r["learning_rate"]) for r in read((tmp_path / "r" / "leaderboard.csv").read_text())}
    assert found["configurations"] == 5 == len(rates) and 0.001 <= min(rates) <= max(rates) <= 0.1


@pytest.mark.parametrize("text, words", [
    ("{", "JSON"), ("[]", "an object of choices"), ("3", "an object of choices"), ("[1]", "an object of choices"),
    ('{"widht": [3]}', "'widht'"), ('{"max_epochs": 3}', "max_epochs"), ('{"hidden": []}', "hidden"),
    ('{"learning_rate": {"normal": [0, 1]}}', "log_uniform"), ('{"learning_rate": {"uniform": [0]}}', "two ends"),
    ('{"learning_rate": {"uniform": [1, 0]}}', "learning_rate"), ('{"learning_rate": {}}', "learning_rate"),
    ('{"activation": ["rleu"]}', "Did you mean 'relu'?"), ('{"view": ["raw+plee"]}', "'plee'"),
    ('{"epochs": [0]}', "epochs"),
])  # fmt: skip
def test_spaces_that_are_none(capsys, tmp_path, text, words):
    (tmp_path / "s.json").write_text(text)
    fit = ("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--json", "--space")
    refused(run(capsys, *fit, tmp_path / "s.json"), "space", words)
    refused(run(capsys, *fit, tmp_path / "none.json"), "--space", "none.json")
    assert not (tmp_path / "r").exists()


def test_a_metric_selects_and_orders(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    fit = ("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--cv", "2", "--max-members", "8",
           "--max-epochs", "3")  # fmt: skip
    said = run(capsys, *fit, "--metric", "f1", "--json")
    assert said.code == 0, said.err
    found, records = json.loads(said.out), read((tmp_path / "r" / "leaderboard.csv").read_text())
    values = [float(r["validation_f1"]) for r in records]
    assert values == sorted(values, reverse=True) and found["metric"] == "f1" and len(values) == 4
    assert set(found["scores"]["ensemble"]["test"]) == {"f1", "accuracy", "balanced_accuracy", "log_loss"}
    refused(run(capsys, *fit, "--metric", "rmse", "--overwrite"), "--metric, for classification", "'rmse'")
    refused(run(capsys, *fit, "--metric", "acuracy", "--overwrite"), "Did you mean 'accuracy'?")


def test_the_same_choices_give_the_same_bits(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    fit = ("fit", PENGUINS, "--target", "species", *SHORT, "--json", "--out")
    found = [json.loads(run(capsys, *fit, tmp_path / name, "--seed", seed).out)["scores"]
             for name, seed in (("a", 1), ("b", 1), ("c", 2))]  # fmt: skip
    assert found[0] == found[1] != found[2]


def test_a_search_that_was_killed_goes_on(capsys, tmp_path, monkeypatch):
    """By SIGTERM, in the middle of its first round."""
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    fit = ("fit", PENGUINS, "--target", "species", "--cv", "3", "--max-members", "24", "--max-epochs", "60", "--json")
    undisturbed = json.loads(run(capsys, *fit, "--out", tmp_path / "a").out)["scores"]
    kept = ("--checkpoint", tmp_path / "run", "--out", tmp_path / "b")
    command = [sys.executable, "-m", "pmlp_np", *map(str, (*fit, *kept))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (tmp_path / "run" / "round-0" / "checkpoint.pmlp").exists():
            time.sleep(0.01)
        process.terminate()
        assert process.wait() in (-signal.SIGTERM, 0)
    again = ("--overwrite", "--resume") if process.returncode == 0 else ("--resume",)
    said = run(capsys, *fit, *kept, *again)
    assert said.code == 0, said.err
    assert json.loads(said.out)["scores"] == undisturbed
    refused(run(capsys, *fit, *kept, "--overwrite"), "checkpoint", "a folder without a checkpoint")
    refused(run(capsys, *fit, "--out", tmp_path / "c", "--resume"), "--resume", "--checkpoint FOLDER")
    both = ("--out", tmp_path / "c", "--checkpoint", tmp_path / "c")
    refused(run(capsys, *fit, *both), "--checkpoint", "another folder than --out")


# Members that diverge, and classes that nothing is learned of.


def test_configurations_that_diverged_are_in_no_ensemble(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    wild = {"hidden": [[8] * 8], "activation": "relu", "optimizer": "sgd", "learning_rate": 1e9}
    fit = ("fit", CONCRETE, "--target", "compressive_strength", "--cv", "3", "--max-members", "9", "--max-epochs", "9",
           "--space", tmp_path / "s.json", "--out", tmp_path / "r")  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps([wild, {"hidden": 4}]))
    said = run(capsys, *fit, "--json")
    found = json.loads(said.out)
    records = {int(r["id"]): r for r in read((tmp_path / "r" / "leaderboard.csv").read_text())}
    assert records[0]["status"] == "diverged" and float(records[0]["weight"]) == 0.0
    assert records[0]["validation_rmse"] == "" and records[0]["rank"] == "2"
    assert "1 of 2 configurations diverged: they are not in the ensemble" in found["notes"]
    assert run(capsys, "leaderboard", tmp_path / "r").code == 0
    (tmp_path / "s.json").write_text(json.dumps([wild]))
    refused(run(capsys, *fit, "--overwrite", "--json"), "all diverged", "smaller learning rates")
    assert len(read((tmp_path / "r" / "leaderboard.csv").read_text())) == 2, "the old result stays"


def test_a_class_of_the_test_rows_alone_has_no_probability(capsys, tmp_path, monkeypatch):
    import pandas

    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    rng = np.random.default_rng()
    a = rng.normal(size=90)
    y = np.where(a > 0, "b", "c").astype(object)
    part_of = np.where(np.arange(90) < 60, "train", "test")
    y[80:] = "a"
    pandas.DataFrame({"a": a, "part": part_of, "y": y}).to_csv(tmp_path / "t.csv", index=False)
    fit = ("fit", tmp_path / "t.csv", "--target", "y", "--part", "part", "--out", tmp_path / "r", *SHORT)
    said = run(capsys, *fit, "--json")
    found = json.loads(said.out)
    assert found["classes"] == ["a", "b", "c"]
    assert any("no training row is of a" in note for note in found["notes"])
    assert found["scores"]["ensemble"]["test"]["accuracy"] <= 2 / 3
    # Ten of thirty rows, at the logarithm of the least probability that counts.
    assert found["scores"]["ensemble"]["test"]["log_loss"] >= -np.log(1e-7) / 3
    rows = read(run(capsys, "predict", tmp_path / "r", tmp_path / "t.csv", "--out", "-").out)
    assert {row["probability of a"] for row in rows} == {"0.0"}


def test_classes_that_the_model_sorts_otherwise(capsys, tmp_path, monkeypatch):
    """By their numbers here, as texts there."""
    import pandas

    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])
    rng = np.random.default_rng()
    a = rng.normal(size=120) + np.tile([-9.0, 0.0, 9.0], 40)
    y = np.tile(["5 %", "10 %", "100 %"], 40)
    pandas.DataFrame({"a": a, "y": y}).to_csv(tmp_path / "t.csv", index=False)
    fit = ("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "r", "--cv", "2", "--max-members", "2")
    found = json.loads(run(capsys, *fit, "--max-epochs", "200", "--json").out)
    assert found["classes"] == ["5 %", "10 %", "100 %"] and found["scores"]["ensemble"]["test"]["accuracy"] > 0.9
    rows = read(run(capsys, "predict", tmp_path / "r", tmp_path / "t.csv", "--out", "-").out)
    assert np.mean([row["prediction"] == label for row, label in zip(rows, y, strict=True)]) > 0.9
    assert np.mean([float(row[f"probability of {label}"]) > 0.5 for row, label in zip(rows, y, strict=True)]) > 0.9
