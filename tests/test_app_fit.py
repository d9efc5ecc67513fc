"""The command line from a table to a folder of results, on a table of mixed columns and on the real ones of
examples/data."""

import itertools
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from command_line import CONCRETE, PENGUINS, SHORT, run
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.app.choices import Choices, numbers
from pmlp_np.app.preparation import Preparation
from pmlp_np.app.problem import Source, understand
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
    metrics, special = requires("sklearn.metrics"), requires("scipy.special")
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
                # Not by metrics.log_loss, which takes a probability below 1e-7, in float32, for 1e-7.
                log_p = special.log_softmax(mlp.forward(X[rows[name]]).astype(np.float64), axis=1)
                assert said["log_loss"] == pytest.approx(-log_p[np.arange(len(y)), y].mean(), rel=1e-4)
        best, guess = found["scores"]["best"]["test"], found["scores"]["guess"]["test"]
        if target == "value":
            assert best["rmse"] < 0.8 * guess["rmse"]
        else:
            # Not by log loss: of 60 rows one of the rare grade, of which the member was too sure, may spoil it.
            assert best["accuracy"] > 1.2 * guess["accuracy"]


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
