"""Tables that are predicted in parts: what is written and said is that of the whole, with a bound on memory."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import SHORT, refused, run
from conftest import requires
from pmlp_np.app import fitting, predicting, tables

N = 200


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    for name in ("typer", "rich", "pandas", "pyarrow"):
        requires(name)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])


def frame(n: int = N) -> Any:
    import pandas

    rng = np.random.default_rng()
    a = rng.normal(size=n).round(4)
    return pandas.DataFrame({
        "a": a, "kind": rng.choice(["red", "blue, light", 'so "green"', "two\nlines"], size=n),
        "day": pandas.date_range("2024-01-01", periods=n, freq="7h").strftime("%Y-%m-%d"),
        "note": rng.choice(["x", "y"], size=n), "value": (2 * a + 1).round(3), "grade": np.where(a > 0, "high", "low"),
    })  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pmlp_np.app.main import main

    where = tmp_path_factory.mktemp("parts")
    frame().to_csv(where / "t.csv", index=False)
    for target, other in (("value", "grade"), ("grade", "value")):
        fit = ("fit", where / "t.csv", "--target", target, "--drop", other, "--out", where / target, *SHORT)
        assert main([str(each) for each in fit]) == 0
    return where


def odd_table() -> Any:
    """Missing cells, new categories, unknown targets; anywhere, so that parts differ."""
    table = frame().astype(object)
    rng = np.random.default_rng()
    odd = {"a": [None], "kind": [None, "new", "newer"], "value": ["?"], "grade": ["mid", None], "day": [None]}
    for name, cell in ((name, cell) for name, cells in odd.items() for cell in cells):
        table.loc[rng.choice(N, size=rng.integers(1, 8), replace=False), name] = cell
    return table


def written(table: Any, path: Path) -> None:
    if path.suffix == ".parquet":
        table.assign(value=table["value"].astype(str), a=table["a"].astype(float)).to_parquet(path, row_group_size=37)
    elif path.suffix == ".gz":
        with gzip.open(path, "wt", newline="") as file:
            table.to_csv(file, index=False)
    else:
        table.to_csv(path, index=False)


def predictions(capsys: Any, place: Path, target: str, path: Path, out: Path, *more: Any) -> tuple[str, dict[str, Any]]:
    said = run(capsys, "predict", place / target, path, "--out", out, "--json", "--overwrite", *more)
    assert said.code == 0, said.err
    return out.read_text(), json.loads(said.out)


@pytest.mark.parametrize("suffix", [".csv", ".gz", ".parquet"])
@pytest.mark.parametrize(("target", "more"), [("value", ("--coverage", "0.8")), ("grade", ())])
def test_parts_are_the_whole(
    target: str, more: tuple[str, ...], suffix: str, place: Path, capsys: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / f"new{suffix}"
    written(odd_table(), path)
    more = (*more, "--keep", "note", "--keep", "kind")
    whole = predictions(capsys, place, target, path, tmp_path / "p.csv", *more)
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    read = []
    in_parts = predicting.in_parts

    def watched(*arguments: Any) -> Any:
        read.append(in_parts(*arguments))
        return read[-1]

    monkeypatch.setattr(predicting, "in_parts", watched)
    for cells in (1, 6 * 13, 6 * 50, 6 * N):
        monkeypatch.setattr(tables, "_PART_CELLS", cells)
        found = predictions(capsys, place, target, path, tmp_path / "p.csv", *more)
        assert found[0] == whole[0]
        scores, expected = found[1].pop("scores"), dict(whole[1]["scores"])
        assert scores == pytest.approx(expected)
        assert found[1] == {name: value for name, value in whole[1].items() if name != "scores"}
    assert read


def test_a_pipe_and_stdout(place: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.csv"
    written(odd_table(), path)
    expected, _ = predictions(capsys, place, "grade", path, tmp_path / "p.csv")
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(tables, "_PART_CELLS", 6 * 13)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    said = run(capsys, "predict", place / "grade", "-", "--out", "-")
    assert said.code == 0 and said.out == expected


def test_a_late_error_leaves_nothing(
    place: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """In the last part; with the line of the whole table."""
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(tables, "_PART_CELLS", 6 * 13)
    table = frame().assign(kind="red").astype(object)
    table.loc[N - 1, "day"] = "soon"
    for suffix, where in ((".csv", f"line {N + 1}"), (".parquet", f"row {N}")):
        path = tmp_path / f"new{suffix}"
        written(table, path)
        for out in (tmp_path / "p.csv", "-"):
            said = run(capsys, "predict", place / "value", path, "--out", out)
            refused(said, "column 'day'", where, "soon")
            assert not said.out and not (tmp_path / "p.csv").exists()
    lines = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([*lines, "1,2"]) + "\n")
    refused(run(capsys, "predict", place / "value", tmp_path / "new.csv", "--out", "-"), f"line {N + 2}", "6 cells")


def test_numbers_that_a_later_part_makes_clear(
    place: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Decimal commas, which the first parts do not tell from commas between thousands."""
    table = frame().assign(kind="red")
    table["a"] = [f"{i % 9 + 1},{100 + i}" for i in range(N - 1)] + ["1,5"]
    path = tmp_path / "new.csv"
    table[["a", "kind", "day", "note"]].to_csv(path, index=False, sep=";")
    expected, _ = predictions(capsys, place, "grade", path, tmp_path / "p.csv")
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(tables, "_PART_CELLS", 4 * 13)
    assert predictions(capsys, place, "grade", path, tmp_path / "p.csv")[0] == expected


def test_scores_of_many_rows_are_those_of_the_first(
    place: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    path = tmp_path / "new.csv"
    written(frame(), path)
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(tables, "_PART_CELLS", 6 * 20)
    monkeypatch.setattr(predicting, "_SCORED_NUMBERS", 50)
    _, found = predictions(capsys, place, "value", path, tmp_path / "p.csv")
    assert found["rows"] == N and 50 <= found["scores"]["rows"] < 80
    assert any(f"the first {found['scores']['rows']} rows with a target" in note for note in found["notes"])


def test_names_without_rows(place: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_WHOLE_BYTES", 0)
    for suffix in (".csv", ".parquet"):
        path = tmp_path / f"new{suffix}"
        written(frame()[:0], path)
        refused(run(capsys, "predict", place / "value", path, "--out", tmp_path / "p.csv"), "rows", "none")
        assert not (tmp_path / "p.csv").exists()
