"""The files of a result folder: what was changed since is not predicted with, and what is read is not overwritten."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import refused, run
from conftest import requires
from crafted import flip

pytestmark = pytest.mark.usefixtures("installed")
FILES = ("model.pmlp", "leaderboard.csv", "table.json", "report.json", "run.json")


@pytest.fixture(scope="module")
def installed() -> None:
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


def fitted(place: Path, seed: int = 0) -> Path:
    from pmlp_np.app.main import main

    rng = np.random.default_rng()
    cells = zip(rng.normal(size=90), rng.choice(["x", "y"], 90), strict=True)
    lines = [f"{a:.3f},{b},{a + (b == 'x'):.3f}\n" for a, b in cells]
    (place / "t.csv").write_text(f"a,{'bc'[seed]},y\n" + "".join(lines))
    choices = ("--target", "y", "--task", "regression", "--seed", str(seed), "--cv", "2", "--max-members", "4",
               "--max-epochs", "2")  # fmt: skip
    assert main(["fit", str(place / "t.csv"), "--out", str(place / f"r{seed}"), *choices]) == 0
    return place / f"r{seed}"


@pytest.fixture(scope="module")
def result(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("result"))


@pytest.fixture
def folder(result: Path, tmp_path: Path) -> Path:
    shutil.copytree(result, tmp_path / "r")
    shutil.copy(result.with_name("t.csv"), tmp_path / "t.csv")
    return tmp_path / "r"


def predict(capsys: Any, folder: Path, *more: Any) -> Any:
    out = folder.with_name("p.csv")
    return run(capsys, "predict", folder, folder.with_name("t.csv"), "--out", out, "--overwrite", *more)


def reading(capsys: Any, folder: Path, name: str) -> Any:
    """What a command says that reads this file."""
    out = folder.with_name("r.html")
    commands = {"leaderboard.csv": ("leaderboard", folder), "report.json": ("report", folder, "--out", out)}
    return run(capsys, *commands[name]) if name in commands else predict(capsys, folder)


def test_no_flipped_bit_predicts(folder: Path, capsys: Any) -> None:
    assert predict(capsys, folder).code == 0
    rng = np.random.default_rng()
    for name in FILES:
        content = (folder / name).read_bytes()
        for bit in rng.choice(8 * len(content), 12, replace=False).tolist():
            (folder / name).write_bytes(flip(content, bit))
            refused(reading(capsys, folder, name), str(folder))
        (folder / name).write_bytes(content)
    assert predict(capsys, folder).code == 0


@pytest.mark.parametrize("name", FILES)
def test_files_of_another_fit(folder: Path, capsys: Any, name: str) -> None:
    """Whole, and others than those that belong to the rest."""
    other = fitted(folder.parent, 1)
    assert (other / name).read_bytes() != folder.joinpath(name).read_bytes()
    shutil.copy(other / name, folder / name)
    said = reading(capsys, folder, name)
    refused(said, str(folder / ("table.json" if name == "run.json" else name)), "fit again")


def test_lines_that_moved(folder: Path, capsys: Any) -> None:
    first, *records = (folder / "leaderboard.csv").read_text().splitlines(keepends=True)
    (folder / "leaderboard.csv").write_text("".join([first, *reversed(records)]))
    refused(run(capsys, "leaderboard", folder), str(folder / "leaderboard.csv"))


def digest(content: bytes) -> str:
    return blake2b(content, digest_size=32).hexdigest()


def resealed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change run.json, its checksum with it."""
    run = json.loads((folder / "run.json").read_text())
    del run["checksum"]
    change(run)
    head = json.dumps(run, indent=1)[:-2]
    (folder / "run.json").write_text(f'{head},\n "checksum": "{digest(head.encode())}"\n}}\n')


RUNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no source": lambda run: run.pop("source"),
    "a source that is a list": lambda run: run.update(source=[]),
    "words that are numbers": lambda run: run["source"].update(missing=[1]),
    "words that are a text": lambda run: run["source"].update(missing="NA"),
    "no table": lambda run: run.pop("table"),
    "a table that is a number": lambda run: run.update(table=5),
    "no checksums": lambda run: run.pop("checksums"),
    "checksums in a list": lambda run: run.update(checksums=[]),
    "checksums that are numbers": lambda run: run.update(checksums=dict.fromkeys(run["checksums"], 1)),
    "another version": lambda run: run.update(version=7),
    "another format": lambda run: run.update(format="other"),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_that_hold_nonsense(folder: Path, capsys: Any, name: str) -> None:
    resealed(folder, lambda run: None)
    assert predict(capsys, folder).code == 0
    resealed(folder, RUNS[name])
    refused(predict(capsys, folder), str(folder))


def first(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda table: table["columns"][0].update(values)


TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a format that is a number": first(date_format=7),
    "a mark that is a number": first(truths=7),
    "a mark that is a text": first(truths="no"),
    "a name that is a number": first(name=5),
    "a name too many": first(other=5),
    "a column twice": lambda table: table["columns"].append(table["columns"][0]),
    "the target as a column": first(name="y"),
    "a kind that is none": first(kind="other"),
    "another kind": first(kind="date"),
    "a column too few": lambda table: table["columns"].pop(),
    "columns in another order": lambda table: table["columns"].reverse(),
    "another task": lambda table: table["target"].update(classes=[1, 2]),
    "a target that is a list": lambda table: table.update(target=[]),
    "a target of a number": lambda table: table["target"].update(name=3),
    "classes in one text": lambda table: table["target"].update(classes="ab"),
    "classes that are lists": lambda table: table["target"].update(classes=[[1], [2]]),
    "one class": lambda table: table["target"].update(classes=["a"]),
    "a class twice": lambda table: table["target"].update(classes=["a", "a"]),
    "columns that are left out twice": lambda table: table.update(left_out=["a"]),
    "reasons that are numbers": lambda table: table.update(left_out={"c": 5}),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_hold_nonsense(folder: Path, capsys: Any, name: str) -> None:
    """With checksums that are right."""
    table = json.loads((folder / "table.json").read_text())
    TABLES[name](table)
    content = json.dumps(table).encode()
    (folder / "table.json").write_bytes(content)
    resealed(folder, lambda run: run["checksums"].update({"table.json": digest(content)}))
    refused(predict(capsys, folder), str(folder / "table.json"))


# What is read is not overwritten.


@pytest.mark.parametrize("how", ["itself", "link", "hard link", "link to it", "other way"])
def test_predictions_onto_the_table_they_are_made_of(folder: Path, capsys: Any, how: str) -> None:
    table = folder.with_name("t.csv")
    out, path = folder.with_name("o.csv"), table
    if how == "link":
        out.symlink_to("t.csv")
    elif how == "hard link":
        os.link(table, out)
    elif how == "link to it":
        out, path = table, out
        path.symlink_to("t.csv")
    else:
        out = folder / ".." / "t.csv" if how == "other way" else table
    before = table.read_bytes()
    for more in ((), ("--overwrite",)):
        refused(run(capsys, "predict", folder, path, "--out", out, *more), str(out), "inputs are never overwritten")
    assert table.read_bytes() == before and out.is_symlink() == (how == "link")
    assert run(capsys, "predict", folder, path, "--out", folder.with_name("else.csv")).code == 0


@pytest.mark.parametrize("name", FILES)
def test_results_onto_the_folder_they_are_made_of(folder: Path, capsys: Any, name: str) -> None:
    before = (folder / name).read_bytes()
    link = folder.with_name("link.csv")
    link.symlink_to(folder / name)
    table = folder.with_name("t.csv")
    for out in (folder / name, link):
        refused(run(capsys, "predict", folder, table, "--out", out, "--overwrite"), name)
        refused(run(capsys, "plot", folder, "--kind", "scores", "--out", out, "--overwrite"), "--out")
    assert (folder / name).read_bytes() == before
    assert run(capsys, "predict", folder, table, "--out", folder / "predictions.csv").code == 0


# Drafts of folders.

WRITER = """
import sys, time
from pathlib import Path
from pmlp_np.app import folder
def fill(draft):
    (draft / "run.json").write_text("{}")
    print("ready", flush=True)
    time.sleep(600)
folder.write_folder(Path(sys.argv[1]), True, fill)
"""


def test_what_a_killed_fit_left_is_removed(folder: Path) -> None:
    from pmlp_np.app.folder import write_folder

    def entries() -> list[str]:
        return sorted(each.name for each in folder.parent.iterdir())

    def fill(draft: Path) -> None:
        (draft / "run.json").write_text("{}")

    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        write_folder(folder, True, fill)
        assert len(entries()) == 3
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        (folder.parent / ".r.0123456789ab.old" / "r").mkdir(parents=True)
        write_folder(folder, True, fill)
        assert entries() == ["r", "t.csv"] and os.listdir(folder) == ["run.json"]
    finally:
        writer.kill()
        writer.communicate()


def test_an_old_result_that_stepped_aside_is_kept_until_there_is_a_new_one(folder: Path) -> None:
    """A kill came between the two steps: nothing has its name, and what lies aside may be the only one."""
    from pmlp_np.app.folder import write_folder

    aside = folder.parent / ".r.0123456789ab.old"
    aside.mkdir()
    folder.rename(aside / "r")
    write_folder(folder, False, lambda draft: (draft / "run.json").write_text("{}") and None)
    assert (aside / "r" / "model.pmlp").exists() and folder.is_dir()


def test_a_folder_may_be_a_link(folder: Path) -> None:
    from pmlp_np.app.folder import write_folder

    (folder.parent / "deep").mkdir()
    folder.rename(folder.parent / "deep" / "real")
    folder.symlink_to("deep/real")
    write_folder(folder, True, lambda draft: (draft / "run.json").write_text("{}") and None)
    assert folder.is_symlink() and os.listdir(folder.parent / "deep") == ["real"]
    assert os.listdir(folder) == ["run.json"]
