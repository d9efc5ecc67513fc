"""`pmlp predict` scores what can be scored and predicts the rest; failures leave nothing in the way of another try."""

import json

import numpy as np
import pytest

import pmlp_np as pm
from command_line import SHORT, refused, run
from conftest import requires
from following_hints import followed
from pmlp_np.app import fitting, folder, predicting, target_scores

N = 60


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "pyarrow"):
        requires(name)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])


def table(n=N):
    import pandas

    rng = np.random.default_rng()
    a = rng.normal(size=n).round(4)
    return pandas.DataFrame({"a": a, "value": (2 * a + 1).round(3), "grade": np.where(a > 0, "high", "low"),
                             "number": (a > 0) * 1})  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with results for each kind of target."""
    from pmlp_np.app.main import main

    where = tmp_path_factory.mktemp("predict")
    table().to_csv(where / "t.csv", index=False)
    for target in ("value", "grade", "number"):
        dropped = [word for name in ("value", "grade", "number") if name != target for word in ("--drop", name)]
        fit = ("fit", where / "t.csv", "--target", target, "--out", where / target, *SHORT, *dropped)
        assert main([str(each) for each in fit]) == 0
    return where


def predicted(capsys, place, target, frame, tmp_path, kind="csv"):
    path = tmp_path / f"new.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    said = run(capsys, "predict", place / target, path, "--out", tmp_path / "p.csv", "--json", "--overwrite")
    assert said.code == 0, said.err
    import pandas

    found = json.loads(said.out)
    rows = pandas.read_csv(tmp_path / "p.csv")
    assert len(rows) == len(frame) == found["rows"] and rows["prediction"].notna().all()
    return rows, found


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("odd", ["?", "n.a.", "unknown", "inf", "", "2020-01-01"])
def test_values_that_can_be_scored_are(place, capsys, tmp_path, kind, odd):
    frame = table(20)
    truth = frame["value"].copy()
    frame["value"] = frame["value"].astype(str)
    frame.loc[[3, 7], "value"] = odd
    rows, found = predicted(capsys, place, "value", frame[["a", "value"]], tmp_path, kind)
    known = ~frame.index.isin([3, 7])
    error = (rows["prediction"] - truth)[known]
    assert found["scores"]["rows"] == 18
    assert found["scores"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    note = next(note for note in found["notes"] if "no score" in note)
    assert "target 'value': 2 of 20 rows" in note and ("line 5" if kind == "csv" else "row 4") in note
    assert repr(odd) in note or odd == ""


@pytest.mark.parametrize("cells", [["?"] * 5, [""] * 5, [True] * 5, ["x", "", "?", "1 m", "two"]])
def test_where_nothing_can_be_scored_that_is_said(place, capsys, tmp_path, cells):
    for target in ("value", "grade"):
        for kind in ("csv", "parquet"):
            frame = table(5).assign(**{target: cells})[["a", target]]
            _, found = predicted(capsys, place, target, frame, tmp_path, kind)
            assert found["scores"] is None
            assert f"target {target!r}: no row could be scored" in found["notes"]


def test_dates_as_target_are_no_numbers(place, capsys, tmp_path):
    frame = table(5).assign(value=np.datetime64("2020-01-01"))[["a", "value"]]
    _, found = predicted(capsys, place, "value", frame, tmp_path, "parquet")
    assert found["scores"] is None and any("no row could be scored" in note for note in found["notes"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_classes_that_can_be_scored_are(place, capsys, tmp_path, kind):
    frame = table(20)
    truth = frame["grade"].copy()
    frame.loc[[2, 5], "grade"], frame.loc[9, "grade"] = "medium", None
    rows, found = predicted(capsys, place, "grade", frame[["a", "grade"]], tmp_path, kind)
    known = ~frame.index.isin([2, 5, 9])
    assert found["scores"]["rows"] == 17
    assert found["scores"]["accuracy"] == pytest.approx((rows["prediction"] == truth)[known].mean())
    notes = " ".join(found["notes"])
    assert "2 of 20 rows have classes that the fit did not know" in notes and "'medium'" in notes
    assert "1 of 20 rows have no target" in notes


@pytest.mark.parametrize("cells", [["1", "0", "?"], ["1.0", "0.0", "7"], ["01", "00", ""], [1.0, 0.0, 0.5]])
def test_classes_that_are_numbers_however_written(place, capsys, tmp_path, cells):
    import pandas

    frame = pandas.DataFrame({"a": [3.0, -3.0, 1.0], "number": cells})
    for kind in ("csv", "parquet"):
        _, found = predicted(capsys, place, "number", frame, tmp_path, kind)
        assert found["scores"]["rows"] == 2


def test_a_failure_leaves_nothing_in_the_way(place, capsys, tmp_path, monkeypatch):
    """Whatever failed last, the same command runs once the cause is gone."""
    frame = table(10).astype({"a": object})
    out = tmp_path / "p.csv"
    command = ("predict", place / "value", tmp_path / "n.csv", "--out", out)
    frame.assign(a=["x", *frame["a"][1:]]).to_csv(tmp_path / "n.csv", index=False)
    refused(run(capsys, *command), "column 'a'", "line 2", "'x'")
    assert not out.exists()
    frame.to_csv(tmp_path / "n.csv", index=False)

    def fails(*arguments, **options):
        raise pm.DataError("no")

    for module, name in ((target_scores, "scored"), (predicting, "_frame"), (folder, "text_file")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            refused(run(capsys, *command), "no")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["n.csv"], name
    assert run(capsys, *command).code == 0 and out.exists()


def test_a_file_that_exists_is_noticed_before_the_work(place, capsys, tmp_path, monkeypatch):
    out = tmp_path / "p.csv"
    out.write_text("mine")
    command = ["predict", place / "value", place / "t.csv", "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "in_parts", None)
        said = run(capsys, *command)
    refused(said, "p.csv", "one that exists")
    assert out.read_text() == "mine"
    assert run(capsys, *followed(command, said.err)).code == 0 and out.read_text() != "mine"
    keep = [*command, "--overwrite", "--keep", "prediction"]
    table(5).assign(prediction=1).to_csv(tmp_path / "n.csv", index=False)
    keep[2] = tmp_path / "n.csv"
    before = out.read_text()
    refused(run(capsys, *keep), "--keep", "'prediction'")
    assert out.read_text() == before


def test_the_demo_goes_on_after_a_failure(tmp_path, capsys, monkeypatch):
    requires("sklearn")
    from pmlp_np.app import demo

    monkeypatch.chdir(tmp_path)

    def fails(*arguments):
        raise pm.DataError("no")

    with monkeypatch.context() as patch:
        patch.setattr(demo, "fit_table", fails)
        refused(run(capsys, "demo", "--json"), "no")
    assert [path.name for path in tmp_path.iterdir()] == ["pmlp_demo.csv"]
    monkeypatch.setattr(demo, "fit_table", lambda *arguments: "done")
    assert run(capsys, "demo").code == 0
    (tmp_path / "pmlp_demo.csv").write_text("mine")
    said = run(capsys, "demo")
    assert said.code == 1 and "pmlp_demo.csv" in said.err and (tmp_path / "pmlp_demo.csv").read_text() == "mine"
