"""Tables: what is found out of how CSV files are written, of columns' kinds and of the task; Parquet."""

import gzip
import json
import math

import numpy as np
import pytest

from command_line import in_numbers, mixed_table
from conftest import requires
from pmlp_np import DataError, FileFormatError
from pmlp_np.app.column_kinds import kinds_of, task_of
from pmlp_np.app.columns import Columns
from pmlp_np.app.parts import part
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True)
def pandas():
    return requires("pandas")


def table_of(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(str(path), **options)


ROWS = "a,b\n1,x\n2.5,y\n,z\n"


@pytest.mark.parametrize(
    "written",
    [
        ROWS.encode(),
        b"\xef\xbb\xbf" + ROWS.encode(),
        ROWS.encode("utf-16"),
        ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode(),
        ROWS.replace(",", " | ").encode(),
        ROWS.replace(",", ";").replace("2.5", "2,5").encode(),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace(",", ", ").encode(),
        b",a,b\n0,1,x\n1,2.5,y\n2,,z\n",
        b"\xef\xbb\xbfsep=;\r\n" + ROWS.replace(",", ";").encode(),
        b'"sep=^"\n' + ROWS.replace(",", "^").encode(),
    ],
    ids=["plain", "bom", "utf16", "semicolons", "tabs", "bars", "decimal comma", "crlf", "spaces", "pandas index",
         "excel", "told"],
)  # fmt: skip
def test_ways_of_writing_a_csv_file(tmp_path, written):
    frame = table_of(tmp_path, written).frame
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"].isna().tolist() == [False, False, True] and frame["a"].iloc[:2].tolist() == [1.0, 2.5]
    assert frame["b"].tolist() == ["x", "y", "z"]


def test_lines_are_counted_from_the_first_even_where_it_tells_the_separator(tmp_path):
    for head, line in (("", 3), ("sep=;\n", 4)):
        with pytest.raises(DataError, match=f"line {line}: expected 2 cells, as above, got 3"):
            table_of(tmp_path, head + "a;b\n1;x\n2;y;z\n3;w\n")


def test_gzip_and_latin1(tmp_path):
    assert len(table_of(tmp_path, gzip.compress(ROWS.encode()), "t.csv.gz")) == 3
    table = table_of(tmp_path, "a,b\n1,Köln\n2,Bonn\n".encode("latin-1"))
    assert table.frame["b"].tolist() == ["Köln", "Bonn"] and "not UTF-8" in table.notes[0]


def test_texts_that_stand_for_missing_cells(tmp_path):
    text = "a,b\n1,NA\n?,x\n3,\n"
    frame = table_of(tmp_path, text, missing=["?"]).frame
    assert frame["a"].dtype == np.float64 and math.isnan(frame["a"][1])
    assert frame["b"].isna().tolist() == [True, False, True]


def test_cells_taken_as_they_are_written(tmp_path):
    table = table_of(tmp_path, "code,y\n007,1\n7,2\n", as_text=["code"])
    assert table.frame["code"].tolist() == ["007", "7"]
    assert table_of(tmp_path, "ok,y\nTRUE,1\n,2\nfalse,3\n").frame["ok"].dropna().tolist() == ["TRUE", "false"]


def test_parquet_says_what_csv_says(tmp_path, pandas):
    requires("pyarrow")
    frame = mixed_table(np.random.default_rng())
    frame["flag"] = np.random.default_rng().random(len(frame)) < 0.5
    frame.to_csv(tmp_path / "t.csv", index=False)
    typed = frame.assign(day=pandas.to_datetime(frame["day"]), color=frame["color"].astype("category"))
    typed.to_parquet(tmp_path / "t.parquet")
    csv, parquet = read_table(str(tmp_path / "t.csv")), read_table(str(tmp_path / "t.parquet"))
    kinds = [{name: kind.kind for name, kind in kinds_of(t, "value", (), ()).items()} for t in (csv, parquet)]
    assert kinds[0] == kinds[1] == {
        "size": "number", "color": "category", "day": "date", "count": "number", "grade": "category",
        "flag": "category",
    }  # fmt: skip
    task, rows = task_of(csv, "value"), np.arange(len(frame))
    learned = [Columns.learn(t, rows, kinds_of(t, "value", (), ()), "value", task) for t in (csv, parquet)]
    found = [columns.frame(t, []) for columns in learned for t in (csv, parquet)]
    # What was learned of one kind of file serves the other.
    for other in found[1:]:
        pandas.testing.assert_frame_equal(found[0], other)


@pytest.mark.parametrize(
    "written", ["2021-03-01", "2021-03-01 12:30", "2021-03-01T12:30:05Z", "01.03.2021", "03/17/2021", "17/03/2021"]
)
def test_dates_are_found_and_become_days(tmp_path, written, pandas):
    other = {"01.03.2021": "02.04.2022"}.get(written, written.replace("2021", "2022"))
    table = table_of(tmp_path, f"d,y\n{written},1\n,2\n{other},3\n")
    kind = kinds_of(table, "y", (), ())["d"]
    assert kind.kind == "date"
    task = task_of(table_of(tmp_path, "y\n1\n2.5\n3\n"), "y")
    columns = Columns.learn(table, np.arange(3), {"d": kind}, "y", task)
    days = in_numbers(columns.frame(table, []))[:, 0]
    expected = [pandas.to_datetime(d, dayfirst=d[2] in "./" and d[:2] in ("01", "02", "17")) for d in (written, other)]
    expected = [(d.tz_localize(None) - pandas.Timestamp(0)) / pandas.Timedelta(1, "D") for d in expected]
    np.testing.assert_allclose(days, [expected[0], np.nan, expected[1]], rtol=1e-12)


def test_kinds_of_columns(tmp_path):
    rng = np.random.default_rng()
    lines = ["id,number,text,name,constant,empty,mark,y"]
    lines += [f"{i},{rng.normal():.3f},{rng.choice(['a', 'b'])},person {i},5,,{rng.choice(['', 'x'])},{i % 7}"
              for i in range(60)]  # fmt: skip
    found = kinds_of(table_of(tmp_path, "\n".join(lines)), "y", ["mark"], [])
    assert {name: kind.kind for name, kind in found.items()} == {
        "id": "left out", "number": "number", "text": "category", "name": "left out", "constant": "left out",
        "empty": "left out", "mark": "category",
    }  # fmt: skip
    assert "numbers the rows" in found["id"].reason and "60 different texts" in found["name"].reason
    assert "constant, 5" in found["constant"].reason


@pytest.mark.parametrize(
    ("cells", "asked", "name", "classes"),
    [
        (["b", "a"] * 10, None, "classification", ("a", "b")),
        ([2, 0, 1] * 10, None, "classification", (0, 1, 2)),
        ([2.0, 0.0] * 10, None, "classification", (0, 2)),
        (["True", "False"] * 10, None, "classification", ("False", "True")),
        (list(range(30)), None, "regression", ()),
        ([0.5, 1.5, 2.0] * 10, None, "regression", ()),
        ([2, 0, 1] * 10, "regression", "regression", ()),
        ([0.5, 1.5] * 10, "classification", "classification", (0.5, 1.5)),
    ],
)
def test_the_task_is_found_from_the_target(tmp_path, cells, asked, name, classes):
    table = table_of(tmp_path, "y\n" + "\n".join(map(str, cells)))
    task = task_of(table, "y", asked)
    assert (task.name, task.classes) == (name, classes)
    assert [type(c) for c in task.classes] == [type(c) for c in classes]
    assert task.reason == "as chosen" or str(len(set(cells))) in task.reason


# What is learned of columns.


def test_columns_come_back_from_a_file_and_read_the_same(tmp_path, pandas):
    frame = mixed_table(np.random.default_rng())
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = read_table(str(tmp_path / "t.csv"))
    for target in ("value", "grade"):
        task = task_of(table, target)
        learned = Columns.learn(table, np.arange(200), kinds_of(table, target, (), ()), target, task)
        again = Columns.from_plain(json.loads(json.dumps(learned.to_plain())), "file")
        assert again == learned
        found = again.frame(table, [])
        assert [column.kind for column in again.columns][:4] == ["number", "category", "date", "number"]
        np.testing.assert_array_equal(found["size"], frame["size"])
        assert found["color"].fillna("").tolist() == frame["color"].fillna("").tolist()
        np.testing.assert_array_equal(found["day"], pandas.to_datetime(frame["day"]))


@pytest.mark.parametrize("change", [
    {"version": 1}, {"target": {"name": 1, "classes": []}}, {"target": {"name": "y", "classes": ["one"]}},
    {"target": {"name": "y", "classes": ["a", "a"]}}, {"columns": []}, {"left_out": {"b": 1}}, {"columns": [{}]},
    {"columns": [{"name": "a", "kind": "text", "date_format": "", "truths": False}]},
    {"columns": [{"name": "a", "kind": "number", "date_format": "", "truths": 0}]},
    {"columns": [{"name": "y", "kind": "number", "date_format": "", "truths": False}]},
])  # fmt: skip
def test_columns_of_a_damaged_file_are_refused(tmp_path, change):
    table = table_of(tmp_path, "a,y\n1,1\n2,2\n3,3.5\n")
    plain = Columns.learn(table, np.arange(3), kinds_of(table, "y", (), ()), "y", task_of(table, "y")).to_plain()
    Columns.from_plain(plain, "file")
    with pytest.raises(FileFormatError, match="file: expected"):
        Columns.from_plain(plain | change, "file")


def test_truths_are_the_same_in_any_case(tmp_path):
    """Programs write them differently; among other words they are texts."""
    table = table_of(tmp_path, "a,b,y\n" + "".join(f"{['true', 'false', ''][i % 3]},{['true', 'no'][i % 2]},{i}.5\n"
                                                  for i in range(30)))  # fmt: skip
    columns = Columns.learn(table, np.arange(30), kinds_of(table, "y", (), ()), "y", task_of(table, "y"))
    later = columns.frame(table_of(tmp_path, "a,b\nTRUE,TRUE\nFalse,no\ntrue,true\n"), [])
    assert later["a"].tolist() == ["True", "False", "True"] and later["b"].tolist() == ["TRUE", "no", "true"]
    assert set(columns.frame(table, [])["a"].dropna()) == {"True", "False"}


@pytest.mark.parametrize("n", [10, 11, 57, 1000])
def test_parts_are_disjoint_whole_and_stratified(n):
    rng = np.random.default_rng()
    classes = rng.choice(4, n, p=[0.6, 0.25, 0.1, 0.05])
    parts = part(classes, n, 0.2, 0.3, int(rng.integers(1 << 30)))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    assert set(classes[parts["training"]]) == set(classes)
    for name, share in (("training", 0.5), ("validation", 0.2), ("test", 0.3)):
        for c in set(classes):
            # A class's rows come in whole ones, rest owed to or by the next.
            assert abs((classes[parts[name]] == c).sum() - share * (classes == c).sum()) <= 2.0
    again = part(None, n, 0.2, 0.3, 5), part(None, n, 0.2, 0.3, 5), part(None, n, 0.2, 0.3, 6)
    assert all((again[0][k] == again[1][k]).all() for k in again[0])
    assert any((again[0][k] != again[2][k]).any() for k in again[0])
    assert len(again[0]["test"]) == math.floor(0.3 * n + 0.5)


def test_mixed_cells_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"column 'a': .* 3 numbers and 1 other cells, such as 'two' in line 3"):
        kinds_of(table_of(tmp_path, "a,y\n1,1\ntwo,2\n3,3\n4,4\n"), "y", (), ())
