"""What nobody should feed the command line, and somebody will: it ends in the right result or in one line of error."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from command_line import SHORT, mixed_table, refused, run
from conftest import requires


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "pyarrow", "matplotlib"):
        requires(name)


@pytest.fixture
def fit(capsys, tmp_path):
    """fit(text or bytes, "--more", ...) writes a table and fits its column y."""

    def go(table, *more, target="y", name="t.csv"):
        path = tmp_path / name
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
        return run(capsys, "fit", path, "--target", target, "--out", tmp_path / "result", *SHORT, *more)

    go.out = tmp_path / "result"
    return go


def rows(header, line, n=60):
    return "\n".join([header, *(line(i) for i in range(n))]) + "\n"


GOOD = rows("a,b,y", lambda i: f"{i * 7 % 13},{'xyz'[i % 3]},{i * 0.37 % 5:.3f}")


def columns_of(folder: Path) -> list[str]:
    return json.loads((folder / "run.json").read_text())["columns"]


def test_a_damaged_gzip_file(fit):
    packed = gzip.compress(GOOD.encode())
    middle = len(packed) // 3
    refused(fit(packed[:middle] + b"\xff\xff\xff" + packed[middle + 3 :], name="t.csv.gz"), "a whole .gz file")


def test_numbers_whose_squares_overflow(fit):
    """As inputs they once became zeros, silently, and predictions a traceback."""
    refused(fit(rows("a,y", lambda i: f"{i * 7 % 13}e300,{i % 7 / 3}")), "column 'a', line 3", "up to 1e+100", "7e+300")
    refused(fit(rows("a,y", lambda i: f"{i % 13},{i % 7}e300")), "column 'y', line 3", "up to 1e+100", "1e+300")


def test_classes_that_are_huge_whole_numbers(fit, capsys, tmp_path):
    said = fit(rows("a,y", lambda i: f"{i % 3},{i % 3}e20"))
    assert said.code == 0, said.err
    assert json.loads((fit.out / "run.json").read_text())["classes"] == [0, 1e20, 2e20]
    said = run(capsys, "predict", fit.out, tmp_path / "t.csv", "--out", tmp_path / "p.csv", "--json")
    assert said.code == 0 and json.loads(said.out)["scores"]["rows"] == 60


def test_line_ends_within_names(fit):
    """Those of a quoted name belong to it; what Unicode alone calls a line end separates nothing."""
    said = fit(rows('"two\nlines","odd\u2028name",y', lambda i: f"{i * 7 % 13},{i % 5},{i % 7 / 3}"))
    assert said.code == 0, said.err
    assert columns_of(fit.out) == ["two\nlines", "odd\u2028name"]


def test_columns_called_as_categories_of_others(fit, capsys, tmp_path):
    said = fit(rows("c,c = x,c is missing,y", lambda i: f"{['', 'x', 'z'][i % 3]},{i % 5},{i * 7 % 13},{i % 7 / 3}"))
    assert said.code == 0, said.err
    assert columns_of(fit.out) == ["c", "c = x", "c is missing"]
    assert run(capsys, "predict", fit.out, tmp_path / "t.csv", "--out", tmp_path / "p.csv").code == 0


def test_names_twice_in_parquet(capsys, tmp_path):
    import pyarrow
    from pyarrow import parquet

    column = pyarrow.array(np.arange(60.0))
    parquet.write_table(pyarrow.Table.from_arrays([column] * 3, names=["a", "a", "y"]), tmp_path / "t.parquet")
    said = run(capsys, "fit", tmp_path / "t.parquet", "--target", "y", "--out", tmp_path / "r")
    refused(said, "each column's name once, got 'a' 2 times")


def test_numbers_that_stand_for_missing_cells_in_parquet(capsys, tmp_path):
    import pandas

    frame = pandas.DataFrame({"a": [-999 if i % 9 == 0 else i * 7 % 13 for i in range(60)], "y": np.arange(60) / 7})
    found = {}
    for name in ("t.csv", "t.parquet"):
        frame.to_csv(tmp_path / name, index=False) if name == "t.csv" else frame.to_parquet(tmp_path / name)
        out = tmp_path / f"of {name}"
        said = run(capsys, "fit", tmp_path / name, "--target", "y", "--out", out, "--missing", "-999", *SHORT)
        assert said.code == 0, said.err
        found[name] = json.loads((out / "table.json").read_text())["columns"]
    assert found["t.parquet"] == found["t.csv"]
    model = pm.TableModel.load(tmp_path / "of t.csv" / "model.pmlp")
    assert model.views.columns[0].learned.marks_missing


def test_places_where_no_result_can_be_made_are_refused_before_training(fit, capsys, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text(GOOD)
    arguments = ("fit", tmp_path / "t.csv", "--target", "y", *SHORT, "--out")
    (tmp_path / "link").symlink_to("nowhere")
    refused(run(capsys, *arguments, tmp_path / "link"), "a broken link")
    refused(run(capsys, *arguments, tmp_path / ("x" * 256)), "name too long")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused(run(capsys, *arguments, "."), "the current folder")
    assert sorted(os.listdir(tmp_path)) == ["here", "link", "t.csv"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    from pmlp_np.app.main import main

    folder = tmp_path_factory.mktemp("hostile")
    mixed_table(np.random.default_rng(0), 120).drop(columns="grade").to_csv(folder / "t.csv", index=False)
    assert main(["fit", str(folder / "t.csv"), "--target", "value", "--out", str(folder / "r"), *SHORT]) == 0
    return folder / "r"


def test_kept_numbers_with_decimal_commas_are_still_read(result, capsys, tmp_path):
    """--keep has a column taken as it is written; it may be one that members read."""
    frame = mixed_table(np.random.default_rng(1), 20).drop(columns=["grade", "value"])
    frame["size"] = frame["size"].round(2).astype(str).str.replace(".", ",").where(frame["size"].notna(), "")
    frame.to_csv(tmp_path / "n.csv", sep=";", index=False)
    for name, more in (("plain", ()), ("kept", ("--keep", "size"))):
        said = run(capsys, "predict", result, tmp_path / "n.csv", "--out", tmp_path / f"{name}.csv", *more)
        assert said.code == 0, said.err
    import pandas

    plain, kept = (pandas.read_csv(tmp_path / f"{name}.csv", dtype=str) for name in ("plain", "kept"))
    assert kept["prediction"].equals(plain["prediction"])
    assert kept["size"].fillna("").tolist() == frame["size"].tolist()


def test_new_rows_with_numbers_beyond_float32(result, capsys, tmp_path):
    """They are as far out as anything is; those that a fit refuses are refused here, too."""
    found = []
    for huge in (1e14, 1e45, 1e100, 1.1e100, 1e308):
        frame = mixed_table(np.random.default_rng(2), 20)
        frame.loc[4, "size"] = huge
        frame.to_csv(tmp_path / "n.csv", index=False)
        said = run(capsys, "predict", result, tmp_path / "n.csv", "--out", "-")
        if huge > 1e100:
            refused(said, "column 'size'", "line 6", "numbers up to 1e+100")
        else:
            assert said.code == 0, said.err
            found.append(said.out)
    assert len(found) == 3 and len(set(found)) == 1


def of_json(name, change):
    def hurt(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return hurt


def of_text(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


DAMAGE = {
    "a kind that is none": of_json("table.json", lambda t: t["columns"][0].update(kind=None)),
    "a mark that is a text": of_json("table.json", lambda t: t["columns"][0].update(truths="x")),
    "a name that is a number": of_json("table.json", lambda t: t["columns"][0].update(name=5)),
    "no columns": of_json("table.json", lambda t: t.update(columns=[])),
    "columns that are texts": of_json("table.json", lambda t: t.update(columns="abc")),
    "an unknown kind": of_json("table.json", lambda t: t["columns"][2].update(kind="moon")),
    "JSON without end": of_text("table.json", lambda _: b"[" * 100_000),
    "no source": of_json("run.json", lambda t: t.pop("source")),
    "a source that is a list": of_json("run.json", lambda t: t.update(source=[])),
    "no table": of_json("run.json", lambda t: t.pop("table")),
    "no records": of_text("leaderboard.csv", lambda _: b""),
    "records without ids": of_text("leaderboard.csv", lambda _: b"a,b\n1,2\n"),
    "records with too many cells": of_text("leaderboard.csv", lambda text: text + b"3" + b",1" * 40 + b"\n"),
    "records that are no text": of_text("leaderboard.csv", lambda _: b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_result_folders(result, capsys, tmp_path, damage):
    shutil.copytree(result, tmp_path / "r")
    DAMAGE[damage](tmp_path / "r")
    predict = ("predict", tmp_path / "r", result.parent / "t.csv", "--out", tmp_path / "p.csv")
    leaderboard = ("leaderboard", tmp_path / "r")
    of_records = "record" in damage
    refused(run(capsys, *(leaderboard if of_records else predict)), str(tmp_path / "r"), (".json", ".csv")[of_records])
    said = run(capsys, *(predict if of_records else leaderboard))
    assert said.code == 0 or said.err.count("\n") == 1
