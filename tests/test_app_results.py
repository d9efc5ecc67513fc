"""What comes of a fit on the command line: predictions, leaderboards and pictures."""

import json

import numpy as np
import pytest

import pmlp_np as pm
from command_line import SHORT, refused, run
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.app import target_scores
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fitted_folder(tmp_path_factory)


def test_predictions_of_the_raw_table(place, capsys, tmp_path):
    """Those of the model alone, on columns that pandas read."""
    import pandas

    out = tmp_path / "p.csv"
    said = run(capsys, "predict", place / "value", place / "t.csv", "--out", out, "--keep", "color",
               "--coverage", "0.8")  # fmt: skip
    assert said.code == 0 and "RMSE" in said.out and "trained on" in said.err
    rows, frame = read(out.read_text()), pandas.read_csv(place / "t.csv", parse_dates=["day"])
    assert [row["color"] for row in rows] == frame["color"].fillna("").tolist()
    model, X = pm.TableModel.load(place / "value" / "model.pmlp"), frame[["size", "color", "day", "count"]]
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], model.predict(X), rtol=1e-6)
    found = [[float(row["low"]), float(row["high"])] for row in rows]
    np.testing.assert_allclose(found, model.predict_interval(X, 0.8), rtol=1e-6)
    # The table's own rows in another order, with other columns beside, give the same.
    frame = read_table(str(place / "t.csv")).frame.iloc[::-1][["count", "grade", "color", "size", "day"]].assign(more=1)
    frame.to_csv(tmp_path / "other.csv", index=False, sep=";")
    said = run(capsys, "predict", place / "value", tmp_path / "other.csv", "--out", "-")
    assert [row["prediction"] for row in read(said.out)] == [row["prediction"] for row in rows][::-1]
    assert list(read(said.out)[0]) == ["prediction"]
    assert "ignored columns that the fit did not have: more" in said.err


def test_predictions_of_classes(place, capsys, tmp_path):
    out = tmp_path / "p.csv"
    said = run(capsys, "predict", place / "grade", place / "t.csv", "--out", out, "--json")
    found, rows = json.loads(said.out), read(out.read_text())
    names = ["probability of high", "probability of low", "probability of middle"]
    assert found["columns"] == ["prediction", *names] and found["scores"]["rows"] == 300 == found["rows"]
    p = np.array([[float(row[name]) for name in names] for row in rows])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    classes = np.array(["high", "low", "middle"])
    assert [row["prediction"] for row in rows] == classes[p.argmax(axis=1)].tolist()
    frame = read_table(str(place / "t.csv")).frame
    assert found["scores"]["accuracy"] == pytest.approx(np.mean(classes[p.argmax(axis=1)] == frame["grade"]))
    frame["day"] = frame["day"].astype("datetime64[us]")
    model = pm.TableModel.load(place / "grade" / "model.pmlp")
    np.testing.assert_allclose(p, model.predict_proba(frame[["size", "color", "day", "count"]]), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("target, coverage, words", [
    ("grade", "0.9", ["--coverage", "a result of regression"]), ("value", "90", ["--coverage", "got 90"]),
    ("value", "0", ["--coverage", "such as 0.9"]),
])  # fmt: skip
def test_coverages_that_are_none(place, capsys, tmp_path, target, coverage, words):
    predict = ("predict", place / target, place / "t.csv", "--out", tmp_path / "p.csv", "--coverage", coverage)
    refused(run(capsys, *predict), *words)
    assert not (tmp_path / "p.csv").exists()


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
    said = run(capsys, "leaderboard", place / "value", "--top", "3")
    lines = said.out.splitlines()
    names = "rank id configuration rate parameters epochs members weight RMSE MAE R²"
    assert lines[0].split() == names.split()
    assert lines[1].startswith("   1") and lines[-1] == "... 1 more: --top 4"
    found = json.loads(run(capsys, "leaderboard", place / "value", "--json").out)
    text = run(capsys, "leaderboard", place / "value", "--csv").out
    assert text == (place / "value" / "leaderboard.csv").read_text() and len(found) == 4
    assert [r["validation_rmse"] for r in found] == sorted(r["validation_rmse"] for r in found)
    for column, sign in (("parameters", 1), ("r2", -1), ("validation_mae", 1), ("weight", -1)):
        found = json.loads(run(capsys, "leaderboard", place / "value", "--json", "--sort", column).out)
        values = [sign * r[column if column in r else f"validation_{column}"] for r in found]
        assert values == sorted(values)
    refused(run(capsys, "leaderboard", place / "value", "--sort", "parameter"), "Did you mean 'parameters'?")


def test_pictures(place, capsys, tmp_path):
    for kind, more in (("scores", ()), ("scores", ("--x", "learning_rate", "--y", "log_loss")), ("ensemble", ())):
        out = tmp_path / f"{kind}{len(more)}.svg"
        assert run(capsys, "plot", place / "grade", "--kind", kind, "--out", out, *more).code == 0
        assert "<svg" in out.read_text()
    refused(run(capsys, "plot", place / "grade", "--kind", "score", "--out", tmp_path / "a.png"), "mean 'scores'?")
    refused(run(capsys, "plot", place / "grade", "--kind", "scores", "--out", tmp_path / "a.gif"), "a.gif", ".png")
    for option, name in (("--x", "epoch"), ("--y", "log_los")):
        said = run(capsys, "plot", place / "grade", "--kind", "scores", option, name, "--out", tmp_path / "a.png")
        refused(said, f"pmlp: {option}: expected", f"'{name}'", f"Did you mean '{name}s'?")


def test_a_picture_shows_what_the_leaderboard_says(place):
    from pmlp_np.app import folder, plotting

    records = folder.Result(place / "value").records
    axes = plotting._drawn("scores", records, "epochs", "mae").axes[0]
    drawn = sorted(tuple(each.get_offsets()[0].tolist()) for each in axes.collections)
    assert drawn == sorted((float(r["epochs"]), r["validation_mae"]) for r in records)
    axes = plotting._drawn("ensemble", records).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted((r["weight"] for r in records if r["weight"]), reverse=True)


def test_a_folder_of_an_earlier_version_is_to_be_fitted_again(place, capsys, tmp_path):
    from pmlp_np.app.folder import _sealed

    (tmp_path / "old").mkdir()
    old = {"format": "pmlp_np run", "version": 1, "table": "t.csv", "source": {"missing": []}, "checksums": {}}
    (tmp_path / "old" / "run.json").write_text(_sealed(json.dumps(old, indent=1)))
    for command in (("leaderboard",), ("plot", "--kind", "scores", "--out", tmp_path / "a.png")):
        said = run(capsys, command[0], tmp_path / "old", *command[1:])
        refused(said, "a run, version 2, got 1", "An earlier version of pmlp_np wrote it: fit the table again")


# Reports.


def test_the_report_is_that_of_the_fit(place, capsys, tmp_path):
    found = json.loads((place / "grade" / "run.json").read_text())
    contents = json.loads((place / "grade" / "report.json").read_text())
    assert contents["targets"] == ["grade"] and contents["rows"] == 240 and contents["folds"] == 3
    assert [trial["trial"] for trial in contents["trials"]] == [r["id"] for r in records_of(place / "grade")]
    scores = {score["name"]: score["value"] for score in contents["scores"]}
    validation = found["scores"]["ensemble"]["validation"]
    assert scores["accuracy"] == pytest.approx(validation["accuracy"])
    assert ["value", "as chosen"] in contents["left_out"]
    test = found["scores"]["ensemble"]["test"]
    assert contents["test"]["rows"] == found["rows"]["test"] and contents["test"]["doubts"] == found["doubts"]
    assert [score for _, score, _ in contents["test"]["scores"]] == [target_scores.shown(k, v) for k, v in test.items()]
    assert f"On {found['rows']['test']} test rows" in contents["answer"][-1]
    page = (place / "grade" / "report.html").read_text()
    assert all(text in page for text in ("On rows that were set aside", contents["test"]["scores"][0][1]))
    said = run(capsys, "report", place / "grade", "--out", tmp_path / "r.html", "--json")
    assert json.loads(said.out)["answer"] == contents["answer"]
    assert (tmp_path / "r.html").read_bytes() == (place / "grade" / "report.html").read_bytes()
    refused(run(capsys, "report", place / "grade", "--out", tmp_path / "r.html"), "--overwrite")
    refused(run(capsys, "report", place / "grade", "--out", tmp_path / "r.pdf"), ".html", "r.pdf")


def records_of(folder):
    return [{**row, "id": int(row["id"])} for row in read((folder / "leaderboard.csv").read_text())]


def test_a_report_that_fails_costs_no_fit(place, capsys, tmp_path, monkeypatch):
    from pmlp_np.app import fitting, reporting

    def fails(*arguments, **options):
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr(fitting, "draw_all", lambda *arguments: [])
    for name in ("report_contents", "write_report"):
        with monkeypatch.context() as patch:
            patch.setattr(reporting, name, fails)
            said = run(capsys, "fit", place / "t.csv", "--target", "value", "--out", tmp_path / name, *SHORT)
        assert said.code == 0 and "note: the report could not be written: ZeroDivisionError: no rows" in said.err
        refused(run(capsys, "report", tmp_path / name, "--out", tmp_path / "r.html"), "a file report.json, got none")
        assert run(capsys, "leaderboard", tmp_path / name).code == 0
