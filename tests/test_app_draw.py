"""Tables with more rows than are read: which rows are drawn, what is said of them, and with how much memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import SHORT, refused, run
from conftest import requires
from pmlp_np.app import fitting
from pmlp_np.app.reading import csv_table, parquet, row_draw
from pmlp_np.app.reading.row_draw import RowDraw, RowLimit
from pmlp_np.app.tables import Table, read_table
from pmlp_np.base import errors
from test_app_in_parts import frame, written

N = 200


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("typer", "rich", "pandas", "pyarrow"):
        requires(name)
    monkeypatch.setattr(fitting, "illustrate", lambda *arguments: [])


@pytest.fixture(params=[".csv", ".gz", ".parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table with numbered rows, some of two lines."""
    where = tmp_path / f"t{request.param}"
    written(frame(N).assign(number=np.arange(N) * 10), where)
    return where


@pytest.fixture
def with_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """with_memory(n) is a machine that has n bytes, where nothing is too small to be asked for."""

    def go(n: int) -> None:
        monkeypatch.setattr(errors, "free_memory", lambda: n)
        monkeypatch.setattr(errors, "SMALL_NEED", 0)
        monkeypatch.setattr(row_draw, "SMALL_NEED", 0)

    return go


def drawn(draw: RowDraw, sizes: list[int]) -> np.ndarray:
    """The rows that are drawn from a stream in pieces of these sizes, as a user of RowDraw collects them."""
    values: list[Any] = []
    at = 0
    for size in sizes:
        values += (at + draw.offer(size)).tolist()
        at += size
        values = row_draw.kept(values, draw.thinned())
    values = row_draw.kept(values, draw.thinned(last=True))
    assert values == draw.rows.tolist() and draw.n_seen == at
    return draw.rows


def test_a_draw_is_of_its_size_and_does_not_depend_on_pieces() -> None:
    rng = np.random.default_rng()
    for _ in range(50):
        n, most, seed = int(rng.integers(0, 400)), int(rng.integers(1, 300)), int(rng.integers(2**31))
        pieces = rng.multinomial(n, [0.1] * 10).tolist()
        one, many = drawn(RowDraw(most, seed), [n]), drawn(RowDraw(most, seed), pieces)
        np.testing.assert_array_equal(one, many)
        assert len(one) == min(n, most) and (np.diff(one) > 0).all()


def test_each_row_has_the_same_chance() -> None:
    counts, draws, n, most = np.zeros(60), 4000, 60, 20
    first = int(np.random.default_rng().integers(2**31))
    for seed in range(first, first + draws):
        counts[drawn(RowDraw(most, seed), [7] * 8 + [4])] += 1
    share = most / n
    # Chi-squared with 59 degrees of freedom: mean 59, standard deviation 11; beyond seven of these in no run.
    assert ((counts - draws * share) ** 2 / (draws * share * (1 - share))).sum() < 59 + 7 * 11


def test_few_rows_are_held_while_a_long_stream_is_read() -> None:
    draw, most, longest = RowDraw(100, 1), 100, 0
    for _ in range(2000):
        draw.offer(50)
        draw.thinned()
        longest = max(longest, len(draw.rows))
    assert longest <= most * (1.0 + row_draw._SURPLUS) + 50


def test_rows_of_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the whole, cell by cell, in its order, with their lines; the same however large the chunks are."""
    whole = read_table(str(path))
    seed, most = int(np.random.default_rng().integers(2**31)), 60
    found: list[Table] = []
    for rows in (1, 13, 1000):
        monkeypatch.setattr(csv_table, "_CHUNK_ROWS", rows)
        monkeypatch.setattr(parquet, "_BATCH_CELLS", 7 * rows)
        found.append(read_table(str(path), limit=RowLimit(most, seed)))
    table = found[-1]
    at = table.frame["number"].to_numpy() // 10
    assert len(at) == most and (np.diff(at) > 0).all() and table.of_rows == N
    for each in found:
        assert each.frame.equals(whole.frame.iloc[at].reset_index(drop=True))
        assert [each.where(i) for i in range(most)] == [whole.where(int(row)) for row in at]
    assert not np.array_equal(read_table(str(path), limit=RowLimit(most, seed + 1)).frame["number"] // 10, at)
    assert table.notes == [f"60 of {N} rows are used, drawn at random by --max-rows"]


def test_no_fewer_rows_are_no_draw(path: Path) -> None:
    whole = read_table(str(path))
    for limit in (RowLimit(), RowLimit(N), RowLimit(10**9)):
        table = read_table(str(path), limit=limit)
        assert table.frame.equals(whole.frame) and table.notes == whole.notes and table.of_rows is None
        assert table.where(N - 1) == whole.where(N - 1)


def test_faults_in_rows_that_are_not_drawn(tmp_path: Path) -> None:
    """A table with a line that is no row is refused, whether it would be drawn or not."""
    path = tmp_path / "t.csv"
    lines = [f"{i},{i}" for i in range(100)]
    path.write_text("\n".join(["a,y", *lines, "1,2,3"]) + "\n")
    for seed in range(5):
        with pytest.raises(errors.DataError, match="line 102"):
            read_table(str(path), limit=RowLimit(3, seed))


ODD_CELLS = {
    # What the cells mean is said by two lines alone; the draw may leave them out.
    "numbers": ("1.864", "1.234,5", lambda cells: float(cells.iloc[0]) == 1864.0),
    "texts": ("7", "seven", lambda cells: cells.iloc[0] == "7"),
}


@pytest.mark.parametrize("kind", ODD_CELLS)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cells_that_are_not_drawn_say_how_others_are_read(kind: str, suffix: str, tmp_path: Path) -> None:
    import pandas

    usual, odd, is_right = ODD_CELLS[kind]
    cells = [usual] * 200
    cells[7] = odd
    table = pandas.DataFrame({"a": cells, "y": [str(i) for i in range(200)]})
    path = tmp_path / f"t{suffix}"
    table.to_csv(path, index=False, sep=";") if suffix == ".csv" else table.to_parquet(path)
    whole = read_table(str(path))
    assert is_right(whole.frame["a"])
    for seed in range(4):
        found = read_table(str(path), limit=RowLimit(20, seed))
        assert is_right(found.frame["a"]) and found.conventions == whole.conventions


def test_words_in_rows_that_are_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{'gone' if i == 50 else i},{i}\n" for i in range(100)))
    for seed in range(5):
        notes = read_table(str(path), ["gone"], limit=RowLimit(20, seed)).notes
        assert "read as missing: 'gone' in a (1)" in notes and not any("no cell" in note for note in notes)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_nameless_column_that_numbers_rows_is_left_out(suffix: str, tmp_path: Path) -> None:
    """As pandas writes them: of drawn rows they are no longer neighbors."""
    import pandas

    rng = np.random.default_rng()
    path = tmp_path / f"t{suffix}"
    table = pandas.DataFrame({"": np.arange(90), "a": rng.normal(size=90), "y": rng.normal(size=90)})
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    found = read_table(str(path), limit=RowLimit(40))
    assert list(found.frame.columns) == ["a", "y"] and "it numbers the rows" in " ".join(found.notes)
    shuffled = table.assign(**{"": rng.permutation(90)})
    shuffled.to_csv(path, index=False) if suffix == ".csv" else shuffled.to_parquet(path)
    with pytest.raises(errors.DataError, match="column 1"):
        read_table(str(path), limit=RowLimit(40))


def test_types_of_parquet_of_which_no_rows_can_be_taken(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "t.parquet"
    views = pyarrow.array(["a", "b"] * 50).cast(pyarrow.string_view())
    pyarrow.parquet.write_table(pyarrow.table({"i": range(100), "c": views}), path)
    found = read_table(str(path), limit=RowLimit(50))
    assert found.frame["c"].tolist() == ["ab"[i % 2] for i in found.frame["i"]]
    pyarrow.parquet.write_table(pyarrow.table({"i": range(100), "c": [[1, 2]] * 100}), path)
    with pytest.raises(errors.DataError, match="column 'c'"):
        read_table(str(path), limit=RowLimit(50))
    pyarrow.parquet.write_table(pyarrow.table({}), path)
    with pytest.raises(errors.DataError, match="rows below the names"):
        read_table(str(path), limit=RowLimit(50))


def test_as_many_as_memory_has_room_for(path: Path, with_memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_draw, "_FEWEST", 10)
    monkeypatch.setattr(row_draw, "bytes_of_search", lambda *arguments: 0)
    columns = 7
    with_memory(int(130 * columns * row_draw._BYTES_PER_CELL / row_draw._SHARE))
    table = read_table(str(path), limit=RowLimit(seed=3))
    assert len(table) == 100 and table.of_rows == N
    why = "as memory has no room for all; --max-rows 100 draws them again"
    assert table.notes == [f"100 of 200 rows are used, drawn at random {why}"]
    with_memory(10**9)
    assert read_table(str(path), limit=RowLimit(100, seed=3)).frame.equals(table.frame)


@pytest.mark.parametrize("most_read", [N, 150])
def test_as_many_as_a_search_has_memory_for(
    path: Path, most_read: int, with_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs of a search take more than the table: what they take is known when it is read. The rows are the same."""
    monkeypatch.setattr(row_draw, "_FEWEST", 10)
    asked: list[tuple[int, list[int], int]] = []

    def needed(n: int, n_numeric: int, n_categories: list[int], n_folds: int) -> int:
        asked.append((n_numeric, list(n_categories), n_folds))
        return 1000 * n * n_folds

    monkeypatch.setattr(row_draw, "bytes_of_search", needed)
    with_memory(int(3 * 60 * 1000 / row_draw._SHARE))
    monkeypatch.setattr(RowLimit, "of", lambda self, *_: None if most_read == N else RowDraw(most_read, self.seed))
    table = read_table(str(path), limit=RowLimit(seed=3, n_folds=3))
    # As a label counts: dates are texts in this table.
    assert len(table) == 50 and table.of_rows == N and {each[::2] for each in asked} == {(3, 3)}
    assert sorted(asked[0][1]) == sorted(read_table(str(path)).frame[["kind", "day", "note", "grade"]].nunique())
    with_memory(10**9)
    monkeypatch.undo()
    again, whole = read_table(str(path), limit=RowLimit(50, seed=3)), read_table(str(path))
    assert again.frame.equals(table.frame.reset_index(drop=True))
    at = again.frame["number"].to_numpy() // 10
    assert [table.where(int(i)) for i in table.frame.index] == [whole.where(int(row)) for row in at]


def test_where_there_is_no_memory(path: Path, with_memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = 7
    with_memory(int(110 * columns * row_draw._BYTES_PER_CELL / row_draw._SHARE))
    with pytest.raises(errors.MemoryNeededError, match="Take fewer columns"):
        read_table(str(path), limit=RowLimit())
    monkeypatch.setattr(row_draw, "_FEWEST", 10)
    with pytest.raises(errors.MemoryNeededError, match="150 rows of table .*Say --max-rows 100"):
        read_table(str(path), limit=RowLimit(150))
    monkeypatch.setattr(row_draw, "bytes_of_search", lambda n, *_: 0 if n <= 50 else 10**6)
    with pytest.raises(errors.MemoryNeededError, match="a search on 100 rows of table .*Say --max-rows 50"):
        read_table(str(path), limit=RowLimit(100))
    assert len(read_table(str(path), limit=RowLimit(50))) == 50
    # A table that is read as it is, as one to predict, loses no row.
    with pytest.raises(errors.MemoryNeededError, match="a part of its rows"):
        read_table(str(path))


def test_the_share_that_is_read_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_CHUNK_ROWS", 10)
    monkeypatch.setattr(parquet, "_BATCH_CELLS", 70)
    shares: list[float] = []
    read_table(str(path), limit=RowLimit(50, progress=shares.append))
    if path.suffix == ".gz":
        # Nobody knows how long it is.
        assert not shares
    else:
        assert len(shares) >= 20 and sorted(shares) == shares and shares[-1] == 1.0


def test_a_fit_of_drawn_rows(path: Path, capsys: Any, tmp_path: Path) -> None:
    fit = ("fit", path, "--target", "value", *SHORT)
    said = run(capsys, *fit, "--max-rows", "120", "--out", tmp_path / "r")
    assert said.code == 0 and "120 of 200 rows" in said.out and "drawn at random by --max-rows" in said.err
    summary = json.loads((tmp_path / "r" / "run.json").read_text())
    assert summary["rows"] == {"all": 120, "training": 96, "validation": 0, "test": 24} and summary["of_rows"] == 200
    # The same seed draws the same rows; the ensemble has their bits.
    run(capsys, *fit, "--max-rows", "120", "--out", tmp_path / "again")
    texts = []
    for name in ("r", "again"):
        assert run(capsys, "predict", tmp_path / name, path, "--out", tmp_path / f"{name}.csv").code == 0
        texts.append((tmp_path / f"{name}.csv").read_text())
    assert texts[0] == texts[1] and texts[0].count("\n") == N + 1
    refused(run(capsys, *fit, "--max-rows", "9", "--out", tmp_path / "few"), "at least 10 rows")


def test_a_test_file_is_drawn_from_too(path: Path, capsys: Any, tmp_path: Path) -> None:
    written(frame(90).assign(number=0), tmp_path / "test.csv")
    said = run(capsys, "fit", path, "--target", "value", *SHORT, "--max-rows", "50", "--test", tmp_path / "test.csv",
               "--out", tmp_path / "r")  # fmt: skip
    assert said.code == 0 and "test.csv: 50 of 90 rows are used" in said.err


def test_an_order_of_dates_that_drawn_rows_do_not_tell(tmp_path: Path, capsys: Any) -> None:
    """Dates are looked at once the rows are drawn, and the error says so."""
    path = tmp_path / "t.csv"
    rows = [f"{'25/03/2020' if i == 70 else f'0{1 + i % 9}/02/2020'},{i}" for i in range(100)]
    path.write_text("\n".join(["day,y", *rows]) + "\n")
    seed = next(seed for seed in range(20) if 70 not in drawn(RowDraw(30, seed), [100]))
    fit = ("fit", path, "--target", "y", *SHORT, "--max-rows", "30", "--seed", seed)
    refused(
        run(capsys, *fit, "--out", tmp_path / "r"), "column 'day'", "no day above 12 in the drawn rows", "--day-first"
    )
    assert run(capsys, *fit, "--day-first", "--out", tmp_path / "r").code == 0
