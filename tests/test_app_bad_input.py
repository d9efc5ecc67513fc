"""Bad input of the command line: each mistake is one line on stderr that names the culprit and the hint, an exit code,
and no traceback; and nothing half is left on the disk."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pmlp_np.base.errors
from command_line import CONCRETE, ROOT, SHORT, environment, mixed_table, refused, run, run_apart
from conftest import requires
from pmlp_np.app import fitting


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


ILLUSTRATE = fitting.illustrate


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])


@pytest.fixture
def fit(capsys, tmp_path):
    """fit(text, "--more", ...) writes a table whose target is y, and fits it."""

    def go(table, *more, target="y", name="t.csv"):
        path = tmp_path / name
        if isinstance(table, (str, bytes)):
            path.write_bytes(table if isinstance(table, bytes) else table.encode())
        elif table is not None:
            table.to_csv(path, index=False)
        return run(capsys, "fit", path, "--target", target, "--out", tmp_path / "result", *SHORT, *more)

    go.out = tmp_path / "result"
    return go


def rows(header, n, line):
    return "\n".join([header, *(line(i) for i in range(n))]) + "\n"


GOOD = rows("a,b,y", 60, lambda i: f"{i * 7 % 13},{'xyz'[i % 3]},{i * 0.37 % 5:.3f}")


def nothing_left(tmp_path, *allowed):
    assert {path.name for path in tmp_path.iterdir()} <= {"t.csv", *allowed}


def test_a_missing_file(capsys, tmp_path):
    (tmp_path / "concrete.csv").write_text(GOOD)
    out = ("--target", "y", "--out", tmp_path / "r")
    refused(run(capsys, "fit", tmp_path / "concret.csv", *out), "concret.csv", "Did you mean", "concrete.csv?")
    refused(run(capsys, "fit", tmp_path / "no" / "t.csv", *out), f"There is no folder {tmp_path / 'no'}")
    refused(run(capsys, "fit", tmp_path, *out), "a folder")
    refused(run(capsys, "leaderboard", tmp_path / "r"), "a result folder", "pmlp fit")
    refused(run(capsys, "leaderboard", tmp_path), "run.json")


def test_a_missing_column(fit):
    refused(fit(GOOD, target="Y"), "--target", "'Y'", "(a, b, y)", "Did you mean 'y'?")
    refused(fit(GOOD, "--drop", "c"), "--drop", "'c'")
    refused(fit(GOOD, "--categorical", "aa"), "--categorical", "Did you mean 'a'?")
    refused(fit("1,2\n3,4\n5,6\n"), "The first line holds numbers", "add a line")


def test_empty_and_tiny_tables(fit):
    refused(fit(""), "t.csv", "an empty file")
    refused(fit("a,b,y\n"), "t.csv", "rows below the names of columns, got none")
    refused(fit("a,b,y\n1,2,3\n"), "t.csv", "at least 10 rows, got one")
    refused(fit(rows("a,y", 9, lambda i: f"{i},{i % 2}")), "at least 10 rows, got 9")
    refused(fit(rows("y", 30, str)), "columns to predict the target from", "no other column")


def test_targets_that_teach_nothing(fit):
    refused(fit(rows("a,y", 30, lambda i: f"{i},yes")), "target 'y'", "two different values", "'yes' in all 30 rows")
    holes = rows("a,y", 60, lambda i: f"{i * 7 % 11},{'' if i in (3, 9) else i % 5 / 3}")
    refused(fit(holes), "target 'y'", "2 missing of 60, the first in line 5", "--skip-missing-target")
    said = fit(holes, "--skip-missing-target")
    assert said.code == 0 and "2 rows without a target are left out" in said.err
    many = rows("a,y", 3000, lambda i: f"{i % 7},class {i}")
    refused(fit(many, "--overwrite"), "target 'y'", "at most 1,000 classes, got 3,000")
    refused(fit(GOOD, "--overwrite", "--task", "regresion"), "--task", "regression or classification")
    letters = rows("a,y", 30, lambda i: f"{i % 7},{'ab'[i % 2]}")
    refused(fit(letters, "--overwrite", "--task", "regression"), "line 2", "numbers", "'a'")


def test_constant_columns_are_dropped_and_said(fit):
    said = fit(rows("a,same,y", 60, lambda i: f"{i * 7 % 13},5,{i * 0.37 % 5}"))
    assert said.code == 0 and "note: column 'same' is left out: constant, 5" in said.err
    refused(fit(rows("same,y", 60, lambda i: f"5,{i * 0.37 % 5}"), "--overwrite"), "same: constant, 5")


def test_ten_thousand_categories(fit):
    def line(i):
        return f"{i * 7 % 13},city {i % 10_000},{i * 0.37 % 5:.3f}"

    said = fit(rows("a,city,y", 12_000, line))
    assert said.code == 0, said.err
    assert "column 'city' is left out: 10,000 different texts in 12,000 rows" in said.err
    assert json.loads((fit.out / "run.json").read_text())["columns"] == ["a"]
    # Most rows have one of a few: that is a category.
    common = rows("a,city,y", 3000, lambda i: f"{i % 13},city {i if i % 4 == 0 else i % 3},{i * 0.37 % 5:.3f}")
    said = fit(common, "--overwrite")
    assert said.code == 0 and json.loads((fit.out / "run.json").read_text())["columns"] == ["a", "city"]


def test_mixed_types_in_a_column(fit):
    mixed = rows("a,y", 60, lambda i: f"{'none yet' if i == 20 else i % 29},{i * 0.37 % 5}")
    refused(fit(mixed), "column 'a'", "59 numbers and 1 other cells", "'none yet' in line 22", "--missing 'a=none yet'",
            "--categorical a")  # fmt: skip
    said = fit(mixed, "--missing", "none yet")
    assert said.code == 0
    assert json.loads((fit.out / "run.json").read_text())["columns"][0] == "a"
    refused(fit(GOOD.replace("\n7,", "\ninf,", 1), "--overwrite"), "column 'a', line 3", "finite", "infinity")


def test_a_bom_and_semicolons(fit, capsys, tmp_path):
    said = fit(b"\xef\xbb\xbf" + GOOD.replace(",", ";").replace(".", ",").encode("utf-8"))
    assert said.code == 0 and "separated by semicolons" in said.err and "decimal commas in y" in said.err
    assert json.loads((fit.out / "run.json").read_text())["columns"] == ["a", "b"]
    # The other way of writing it is predicted all the same.
    (tmp_path / "plain.csv").write_text(GOOD)
    said = run(capsys, "predict", fit.out, tmp_path / "plain.csv", "--out", tmp_path / "p.csv")
    assert said.code == 0 and len((tmp_path / "p.csv").read_text().splitlines()) == 61


def test_files_that_are_no_tables(fit, capsys, tmp_path):
    refused(fit(GOOD + "1,2,3,4\n"), "t.csv, line 62", "3 cells", "got 4", "quotes")
    refused(fit("a,a,y\n1,2,3\n"), "each column's name once", "'a' 2 times")
    refused(fit("a,,y\n1,2,3\n4,6,6\n5,6,9\n"), "column 2", "a name")
    refused(fit(b"PK\x03\x04 a sheet"), "an archive, as of Excel", "Save the sheet as CSV")
    refused(fit(b"PAR1 and then something else"), "a whole Parquet file")
    refused(fit(b"\x1f\x8b\x08\x00 cut"), "a whole .gz file")
    requires("pyarrow")
    import pandas

    pandas.DataFrame({"a": [[1, 2]] * 20, "y": range(20)}).to_parquet(tmp_path / "t.parquet")
    refused(fit(None, name="t.parquet"), "column 'a'", "list")


def test_two_gigabytes(fit, tmp_path, monkeypatch):
    """Refused with the size before it is read: by memory, or because it is no text."""
    big = tmp_path / "t.csv"
    with big.open("wb") as file:
        file.write(GOOD.encode())
        file.truncate(2_100_000_000)
    refused(fit(None), "t.csv (2.1 GB)", "bytes that are no text", "line 62")
    with big.open("wb") as file:
        # Ten bytes a line for three cells.
        file.write(b"a,b,y\n" + b"10,x,3.33\n" * 150_000)
        file.truncate(2_100_000_000)
    monkeypatch.setattr(pmlp_np.base.errors, "free_memory", lambda: 100_000)
    refused(fit(None), "t.csv (2.1 GB)", "100 kB of memory that are free", "a need of 36 GB", "Take fewer columns")
    nothing_left(tmp_path)


def test_a_result_is_not_overwritten(fit, tmp_path):
    assert fit(GOOD).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in fit.out.iterdir()}
    refused(fit(GOOD), "already holds a result", "--overwrite")
    assert {path.name: path.stat().st_mtime_ns for path in fit.out.iterdir()} == before
    assert fit(GOOD, "--overwrite").code == 0
    assert {path.name: path.stat().st_mtime_ns for path in fit.out.iterdir()} != before
    (fit.out / "run.json").rename(tmp_path / "mine.txt")
    refused(fit(GOOD, "--overwrite"), "holds other files", "another --out")
    shutil.rmtree(fit.out)
    fit.out.write_text("a file")
    refused(fit(GOOD), "a file of that name")
    fit.out.unlink()
    nothing_left(tmp_path, "mine.txt")
    refused(run_out(fit, tmp_path / "no" / "r"), "mkdir -p")


def run_out(fit, out):
    return fit(GOOD, "--out", out)


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


@pytest.mark.parametrize("what", ["write_text", "savefig"])
def test_a_disk_that_fills_up_leaves_nothing(fit, tmp_path, monkeypatch, what):
    """Whichever file it is that finds no room; and a result that was there stays."""
    from matplotlib.figure import Figure

    from pmlp_np.app import folder

    monkeypatch.setattr(fitting, "illustrate", ILLUSTRATE)
    assert fit(GOOD).code == 0
    shutil.move(fit.out, tmp_path / "kept")
    monkeypatch.setattr(*{"write_text": (folder, "write_text"), "savefig": (Figure, "savefig")}[what], full)
    said = fit(GOOD)
    assert said.code == 1 and said.err.splitlines()[-1].startswith("pmlp: ") and "The disk is full" in said.err
    assert "Traceback" not in said.err
    nothing_left(tmp_path, "kept")
    shutil.move(tmp_path / "kept", fit.out)
    before = (fit.out / "run.json").read_text()
    assert fit(GOOD, "--overwrite").code == 1
    assert (fit.out / "run.json").read_text() == before
    nothing_left(tmp_path, "result")


def test_too_little_room_is_said_before_training(fit, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(fit(GOOD), "of room on the disk, got 1.0 kB", "another --out")


def test_dev_full(fit, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert fit(GOOD).code == 0
    refused(run(capsys, "predict", fit.out, fit.out.with_name("t.csv"), "--out", "/dev/full"), "The disk is full")
    assert os.path.exists("/dev/full")
    command = f"{sys.executable} -m pmlp_np leaderboard {fit.out} > /dev/full"
    done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "No space left" in done.stderr


def test_a_folder_that_lost_or_changed_a_file(fit, capsys, tmp_path):
    assert fit(GOOD).code == 0
    predict = ("predict", fit.out, tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    leaderboard = ("leaderboard", fit.out)
    table = json.loads((fit.out / "table.json").read_text())
    for change, words in (
        (lambda: (fit.out / "table.json").write_text("{"), ["table.json", "JSON"]),
        (lambda: (fit.out / "table.json").write_text(json.dumps(table | {"version": 3})), ["version 2, got 3"]),
        (lambda: (fit.out / "table.json").write_text(json.dumps(table | {"columns": [{}]})), ["all parts"]),
        (lambda: (fit.out / "table.json").unlink(), ["table.json", "none"]),
        (lambda: (fit.out / "leaderboard.csv").unlink(), ["leaderboard.csv", "none"]),
        (lambda: (fit.out / "run.json").write_text("[]"), ["run.json", "a JSON object"]),
    ):
        kept = {path: path.read_bytes() for path in fit.out.iterdir() if path.is_file()}
        change()
        refused(run(capsys, *(leaderboard if "leaderboard.csv" in words else predict)), *words)
        for path, content in kept.items():
            path.write_bytes(content)
    assert fit(GOOD, "--overwrite").code == 0
    model = (fit.out / "model.pmlp").read_bytes()
    (fit.out / "model.pmlp").write_bytes(b"no model")
    refused(run(capsys, *predict), "model.pmlp", "damaged")
    (fit.out / "model.pmlp").unlink()
    refused(run(capsys, *predict), "a file model.pmlp, got none")
    # A whole model, of another fit.
    assert fit(GOOD, "--overwrite", "--seed", "5").code == 0
    (fit.out / "model.pmlp").write_bytes(model)
    refused(run(capsys, *predict), "model.pmlp", "the file of the fit in run.json, got another one")


def test_choices_that_are_none(fit, capsys):
    refused(fit(GOOD, "--time-budget", "0"), "--time-budget", "above 0")
    refused(fit(GOOD, "--time-budget", "-3"), "--time-budget", "above 0, got -3")
    refused(fit(GOOD, "--cv", "1"), "--cv", "2 to 48 folds", "got 1")
    refused(fit(GOOD, "--cv", "60"), "--cv", "for 48 training rows, got 60. Say --cv 48")
    refused(fit(GOOD, "--validation-share", "0"), "--validation-share")
    refused(fit(GOOD, "--max-epochs", "0"), "--max-epochs", code=2)
    refused(fit(GOOD, "--max-members", "0"), "--max-members", code=2)
    refused(fit(GOOD, "--width", "8"), "--width", code=2)
    assert fit(GOOD).code == 0
    refused(run(capsys, "export", fit.out, "--out", "m.bin"), "--out", ".onnx, .py, .h", "'m.bin'")
    for gone in ("m.pt2", "m.skops"):
        refused(run(capsys, "export", fit.out, "--out", gone), gone, "networks()")


def test_a_mistake_shows_its_place_with_debug_alone(fit):
    with pytest.raises(pmlp_np.DataError):
        fit(GOOD, "--debug", target="z")


def test_without_its_packages_it_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from pmlp_np.app.main import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "pmlp: the command line needs typer, which is not installed: pip install 'pmlp_np[app]'\n"


def test_the_entry_point_is_there():
    import importlib
    import tomllib

    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["pmlp"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_mistakes_of_a_real_process():
    said = run_apart("fit", "no.csv", "--target", "y", "--out", "r")
    refused(said, "no.csv")
    refused(run_apart("fit", CONCRETE, "--target", "compressive_strength"), "--out", code=2)


def test_random_tables_end_in_a_result_or_one_line(fit):
    """Whatever cells are put where, nothing raises."""
    rng = np.random.default_rng()
    cells = ["1", "2.5", "-3", "x", "y y", "2020-01-01", "", "NA", "1e400", "true", "ä", '"a,b"', "0x1", "1,5", "∞"]
    for round_ in range(8):
        chosen = [rng.choice(cells, rng.integers(1, 4), replace=False) for _ in range(4)]
        text = "\n".join(["a,b,c,y"] + [",".join(rng.choice(c) for c in chosen) for _ in range(40)])
        said = fit(text, "--overwrite", name=f"t{round_}.csv")
        assert said.code == 0 or (said.code == 1 and said.err.splitlines()[-1].startswith("pmlp: ")), (text, said)
        assert "ValueError" not in said.err and "Traceback" not in said.err, (text, said)


def test_the_mixed_table_of_these_tests_is_mixed():
    frame = mixed_table(np.random.default_rng())
    assert frame["size"].isna().any() and frame["color"].isna().any() and frame["grade"].nunique() == 3
