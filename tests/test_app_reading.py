"""Reading is strict: every record's line and count of cells are known, what is no record is refused by its line or left
out and said, cells keep their spelling, and words for missing cells are said."""

import gzip
import itertools
import math
import re
import sys
import tracemalloc
from io import BytesIO, TextIOWrapper

import numpy as np
import pytest

from command_line import SHORT, refused, run
from conftest import requires
from pmlp_np import DataError
from pmlp_np.app.column_kinds import alike, task_of
from pmlp_np.app.columns import Columns
from pmlp_np.app.problem import Source, understand
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "pyarrow", "matplotlib"):
        requires(name)


@pytest.fixture
def table(tmp_path):
    """table(text or bytes, reading={...}, ...) reads a file."""

    def read(text, reading=None, **how):
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(str(path), reading=Reading.of(**(reading or {})), **how)

    return read


def rows(n=60, header="part,a,y", line=lambda i: f"p{i % 3},{i * 7 % 13}.5,{i * 5 % 11}"):
    return "\n".join([*([header] if header else []), *(line(i) for i in range(n))]) + "\n"


def changed(text, **lines):
    """The text with other lines: L22=... replaces line 22, counted from 1."""
    found = text.split("\n")
    for name, line in lines.items():
        found[int(name[1:]) - 1] = line
    return "\n".join(found)


# Counts of cells.


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_short_and_long_lines_are_refused_by_line_and_counted(table, delimiter, end):
    rng = np.random.default_rng()
    places = sorted(rng.choice(np.arange(2, 40), 4, replace=False).tolist())
    for what, line in (("few", "p1,2"), ("many", "p1,2,3,4")):
        text = changed(rows(), **{f"L{place}": line for place in places})
        text = text.replace(",", delimiter).replace("\n", end)
        with pytest.raises(DataError, match=rf"line {places[0]}: expected 3 cells, .* 4 lines have too {what} cells"):
            table(text)


def test_a_short_line_in_a_later_chunk(table):
    text = changed(rows(50_000), L40123="p1,2")
    with pytest.raises(DataError, match="line 40,123: expected 3 cells, as above, got 2"):
        table(text)


def test_a_last_line_that_was_cut_is_refused(table):
    with pytest.raises(DataError, match="line 62: expected 3 cells, as above, got 1"):
        table(rows() + "12")


def test_delimiters_at_the_ends_of_lines(table):
    plain = table(rows()).frame
    for text in (
        rows().replace("\n", ",\n"),
        rows(header="part,a,y") .replace("\n", ",\n").replace("y,\n", "y\n", 1),
        rows(header="part,a,y,"),
    ):  # fmt: skip
        assert table(text).frame.equals(plain)
    with pytest.raises(DataError, match="line 9: expected 3 cells, as above, got 4"):
        table(changed(rows(), L9="p1,2,3,"))


# Lines that are no rows.


ABOVE = {
    "a title": ("My report\n", 1),
    "a title and a blank line": ("Report 2024\n\n", 1),
    "two titles": ("Title\nMade on 2024-01-01\n", 2),
    "comments": ("# made by x\n# p, q, r\n", 2),
    "a title as Excel pads it": ("My report,,\n,,\n", 1),
}


@pytest.mark.parametrize("above", ABOVE)
def test_lines_above_the_names_are_left_out_and_said(table, above):
    text, n = ABOVE[above]
    found = table(text + rows())
    assert found.frame.equals(table(rows()).frame)
    assert len(found.notes) == 1 and f"{n} line" in found.notes[0] and text[:5] in found.notes[0]
    assert found.where(0) == f"line {text.count(chr(10)) + 2}"


def test_names_may_begin_with_a_hash(table):
    assert list(table(rows(header="#part,a,y")).frame.columns) == ["#part", "a", "y"]


def test_lines_are_skipped_where_that_is_said(table):
    found = table("x,z,w,q\n1,2\n" + rows(), reading={"skip_lines": 2})
    assert found.frame.equals(table(rows()).frame) and found.where(3) == "line 7"
    with pytest.raises(DataError, match=r"--skip-lines: .* 99 of 61"):
        table(rows(), reading={"skip_lines": 99})


@pytest.mark.parametrize("below", ["Total: 60\n", "\nSource: me\nwritten by hand, or so\n", "\n\n* estimated\n"])
def test_notes_below_the_table_are_left_out_and_said(table, below):
    found = table(rows() + below)
    assert len(found) == 60 and "below the table" in found.notes[0]
    assert below.strip("\n").split("\n")[0] in found.notes[0]


def test_a_sum_below_the_table_is_said(table):
    assert any("line 62 begins with 'Total'" in note for note in table(rows() + "Total,5,6\n").notes)


def test_blank_lines(table):
    # Of one column they are cells, elsewhere nothing; lines are counted all the same.
    found = table("a\n1\n\n3\n\n\n5\n")
    np.testing.assert_array_equal(found.frame["a"], [1, np.nan, 3, np.nan, np.nan, 5])
    assert [found.where(row) for row in range(6)] == [f"line {n}" for n in range(2, 8)]
    found = table("a\n1\n3\n\n")
    assert found.frame["a"].tolist() == [1, 3] and "blank line" in found.notes[0]
    found = table("a,b\n1,2\n\n  \n3,4\n\n")
    assert found.frame["a"].tolist() == [1, 3] and found.where(1) == "line 5"


def test_line_numbers_count_line_ends_within_cells(table):
    found = table('a,"b\nc",y\n1,"x\ny",2\r\n2,"u\r\nv",3\n\n4,5,6\n')
    assert [found.where(row) for row in range(3)] == ["line 3", "line 5", "line 8"]
    assert found.frame["b\nc"].tolist() == ["x\ny", "u\r\nv", "5"]


# Quotes.


def stray(first, last, begins, ends):
    """A table in which two quotes make one cell of the lines between."""

    def line(i):
        cells = [f"p{i % 3}", f"{i * 7 % 13}.5", f"{i * 5 % 11}"]
        if i == first:
            cells[begins] = '"' + cells[begins]
        if i == last:
            cells[ends] = cells[ends] + '"' if ends >= 0 else cells[ends]
        return ",".join(cells) if i != last or ends >= 0 else '"' + ",".join(cells)

    return rows(100, line=line)


@pytest.mark.parametrize(("begins", "ends"), list(itertools.product(range(3), [-1, 0, 1, 2])))
@pytest.mark.parametrize("length", [1, 2, 60])
def test_quotes_that_swallow_lines_are_refused_by_the_line_of_the_first(table, begins, ends, length):
    first = int(np.random.default_rng().integers(1, 30))
    with pytest.raises(DataError, match=rf"line {first + 2}: expected .*line {first + length + 2}") as error:
        table(stray(first, first + length, begins, ends))
    assert f"Lines 1 to {first + 1} are well" in str(error.value)


def test_swallowed_lines_of_texts(table):
    text = rows(60, "n,c", lambda i: f"word{i % 4},{chr(34) * (i == 7)}col{i % 3}{chr(34) * (i == 30)}")
    with pytest.raises(DataError, match="line 9: .*line 32"):
        table(text)


@pytest.mark.parametrize("spaces", ["", "  ", "\t"])
def test_blanks_behind_a_closing_quote_belong_to_no_cell(table, spaces):
    """And those within quotes do."""
    text = "a,b,y\n" + "".join(f'" u{i % 2} "{spaces},{i}.5,{i % 3}\n' for i in range(30))
    assert set(table(text).frame["a"]) == {" u0 ", " u1 "}


def test_a_quote_that_nothing_closes_and_text_behind_one(table):
    for cell, words in (('"p', "runs over 55 lines, to line 61, the end of the file"), ('"p"x', r"text behind .*'x")):
        with pytest.raises(DataError, match=f"line 7: .*{words}"):
            table(changed(rows(), L7=f"{cell},1,2").rstrip("\n"))


@pytest.mark.parametrize(
    "cell",
    ["Main St 5, Apt 2\n12345 Town, XX\nUSA", "hello, you\n\nsecond, line\nthird, x", 'she said "no", twice\n"yes"',
     'a 5" pipe', "5, 6, 7"],
)  # fmt: skip
def test_cells_of_several_lines_that_are_well_pass(table, cell):
    quoted = '"' + cell.replace('"', '""') + '"'
    text = rows(line=lambda i: f"{quoted if i % 4 == 0 else f'p{i % 3}'},{i * 7 % 13}.5,{i * 5 % 11}")
    assert table(text).frame["part"].iloc[0] == cell
    # A quote within a cell that has none at its ends is a character as others.
    assert table('a,b\n5" pipe,1\n6" pipe,2\n').frame["a"].tolist() == ['5" pipe', '6" pipe']


# Bytes.


def test_bytes_that_are_no_text_are_named_by_line(table):
    text = changed(rows(60_000), L50001="Köln,1,2")
    for end in ("\n", "\r\n"):
        with pytest.raises(DataError, match=r"line 50,001: .* byte 0xf6.* --encoding cp1252"):
            table(text.replace("\n", end).encode("latin-1"))
    assert "Köln" in table(text.encode("latin-1"), reading={"encoding": "cp1252"}).frame["part"].tolist()
    with pytest.raises(DataError, match=r"line 50,001: .* byte 0x81.* --encoding latin-1"):
        table(text.encode("latin-1").replace(b"\xf6", b"\x81"))
    with pytest.raises(DataError, match="bytes that are no text .*line 7"):
        table(changed(rows(), L7="p\0,1,2"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_encodings_that_are_found(table, encoding):
    text = changed(rows(), L7="Köln €,1,2")
    assert table(text.encode(encoding)).frame.equals(table(text).frame)


def test_encodings_that_are_said(table):
    text = changed(rows(), L7="Łódź,1,2")
    assert table(text.encode("cp1250"), reading={"encoding": "cp1250"}).frame.equals(table(text).frame)
    with pytest.raises(DataError, match="--encoding: .* 'utf9'"):
        Reading.of(encoding="utf9")


def test_delimiters_that_are_said(table):
    for delimiter, said in (("^", "^"), ("\t", "tab"), (" ", "space")):
        text = rows().replace(",", delimiter)
        assert table(text, reading={"delimiter": said}).frame.equals(table(rows()).frame)
    for said in ("", "ab", '"', "x"):
        with pytest.raises(DataError, match="--delimiter"):
            Reading.of(delimiter=said)
    # Commas within cells are no delimiters where others separate more evenly.
    text = rows(header="t;a;y", line=lambda i: f"x, y, z{i % 3};{i * 7 % 13}.5;{i}")
    assert table(text).frame["t"].iloc[0] == "x, y, z0"


# Spelling, and words for missing cells.


def test_cells_keep_their_spelling(table):
    labels = ["007", "true", "TRUE", " a ", "a", "1e5x"]
    found = table("c,y\n" + "".join(f"{label},1\n" for label in labels))
    assert found.frame["c"].tolist() == labels
    # Blanks that the file has after every delimiter are no part of cells.
    assert table("c, y\na, b\nd, e\n").frame["y"].tolist() == ["b", "e"]
    assert table('c, y\n"a, x", b\nd , e\n').frame["c"].tolist() == ["a, x", "d "]


@pytest.mark.parametrize(
    "labels", [["007", "08"], ["true", "TRUE"], [" a ", "a"], ["5 %", "10 %"], ["+1", "-1"], ["1,000", "2,000"]]
)
def test_labels_keep_their_spelling(table, labels):
    quoted = [f'"{label}"' for label in labels]
    text = "a,y\n" + "".join(f"{i * 7 % 13}.5,{quoted[i % 2]}\n" for i in range(60))
    found = table(text, spelled=["y"])
    task = task_of(found, "y", "classification")
    assert set(task.classes) == set(labels)
    target = Columns.learn(found, np.arange(60), {}, "y", task).target
    assert target.labels[target.read(found)].tolist() == [labels[i % 2] for i in range(60)]
    # As they are read for a table that is predicted.
    later = table(text, as_text=["y"])
    np.testing.assert_array_equal(target.read(later), target.read(found))


def test_labels_that_differ_in_case_or_blanks_alone_are_said():
    assert "'yes' and 'Yes '" in alike(["no", "yes", "Yes ", "maybe"])
    assert alike(["no", "yes", "yes!", 5, 5.0]) == ""


def test_labels_as_programs_write_numbers_are_numbers(table):
    for labels, classes in ((["2.0", "0.0"], (0, 2)), (["1", "2"], (1, 2)), (["0.5", "1.5"], (0.5, 1.5))):
        found = table("a,y\n" + "".join(f"{i},{labels[i % 2]}\n" for i in range(60)), spelled=["y"])
        assert task_of(found, "y", "classification").classes == classes
    # One number in two ways of writing is one class.
    found = table("a,y\n" + "".join(f"{i},{['1', '01', '2'][i % 3]}\n" for i in range(60)), spelled=["y"])
    assert task_of(found, "y", "classification").classes == (1, 2)


def test_predictions_have_the_labels_of_the_table(capsys, tmp_path):
    labels = ["007", " a ", "TRUE", "true"]
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i * 7 % 13},{labels[i % 4]}\n" for i in range(80)))
    out = tmp_path / "r"
    assert run(capsys, "fit", tmp_path / "t.csv", "--target", "y", "--out", out, *SHORT).code == 0
    said = run(capsys, "predict", out, tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    assert said.code == 0 and "on 80 rows" in said.out, said
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert set(lines[0].split(",")[1:]) == {f"probability of {label}" for label in labels}
    assert {line.split(",")[0] for line in lines[1:]} <= set(labels)


def test_words_taken_for_missing_cells_are_said(table):
    text = rows(line=lambda i: f"{'None' if i % 7 == 0 else f'p{i % 3}'},{'NA' if i % 5 == 0 else i},{i}")
    found = table(text)
    assert found.frame["part"].isna().sum() == 9 and found.frame["a"].isna().sum() == 12
    assert "'None' in part (9)" in found.notes[0] and "'NA' in a (12)" in found.notes[0]
    assert "--not-missing part=None" in found.notes[0]
    for said in ("None", "part=None"):
        kept = table(text, reading={"not_missing": (said,)})
        assert (kept.frame["part"] == "None").sum() == 9 and kept.frame["a"].isna().sum() == 12
    # In another column it says nothing.
    assert table(text, reading={"not_missing": ("a=None",)}).frame["part"].isna().sum() == 9


def test_words_for_missing_cells_of_one_column(table):
    text = rows(line=lambda i: f"{'?' if i % 7 == 0 else f'p{i % 3}'},{'?' if i % 5 == 0 else i},{i}")
    found = table(text, missing=["a=?"])
    assert found.frame["a"].isna().sum() == 12 and (found.frame["part"] == "?").sum() == 9
    assert table(text, missing=["?"]).frame["part"].isna().sum() == 9
    assert any("--missing 'aa=?': no cell holds it" in note for note in table(text, missing=["aa=?", "?"]).notes)
    # The name of a column may itself hold the sign.
    odd = text.replace("part,a,y", "part,a=b,y", 1)
    assert table(odd, missing=["a=b=?"]).frame["a=b"].isna().sum() == 12
    # A number stands for itself however it is written.
    minus = rows(header="part;a;y", line=lambda i: f"p;{'-999,00' if i % 5 == 0 else f'{i},25'};{i}")
    assert table(minus, missing=["-999"]).frame["a"].isna().sum() == 12


# Sources, and memory.


def test_packed_files_and_stdin_are_read_as_files_are(table, tmp_path, monkeypatch):
    # Texts come after many numbers, so that all is read a second time.
    text = changed(rows(40_000), L39999="p1,oops,3")
    expected = table(text).frame
    assert expected["a"].iloc[0] == "0.5" and expected["a"].iloc[39_997] == "oops"
    assert table(gzip.compress(text.encode())).frame.equals(expected)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))
    assert read_table("-").frame.equals(expected)


def test_columns_that_turn_out_otherwise_late(table):
    """What the first chunk says of a column is no more than a guess."""
    n = 40_000
    german = "s;w;y\n" + "".join(f"{1 + i % 9}.{i % 1000:03d};{i};{i}\n" for i in range(n)) + "1.275,5;2;3\n"
    frame = table(german).frame
    assert frame["s"].iloc[-1] == 1275.5 and frame["s"].iloc[1] == 2001.0
    late = "s,y\n" + "".join(f",{i}\n" for i in range(n)) + "x,1\n"
    assert table(late).frame["s"].tolist()[-1] == "x" and table(late).frame["s"].isna().sum() == n


def test_a_table_is_not_held_as_python_texts(table, tmp_path):
    n = 200_000
    rng = np.random.default_rng()
    values = rng.integers(0, 10**6, (n, 4))
    (tmp_path / "big.csv").write_text("a,b,c,y\n" + "".join(f"{a},{b}.5,{c},{y}\n" for a, b, c, y in values.tolist()))
    table(rows())
    tracemalloc.start()
    try:
        frame = read_table(str(tmp_path / "big.csv")).frame
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frame["a"].sum() == values[:, 0].sum() and len(frame) == n
    # 8 bytes a cell, twice while chunks are joined, and a chunk; its cells as str alone would be over 40 MB.
    assert peak < 30e6


def test_random_tables_are_read_as_the_csv_module_writes_them(table, tmp_path):
    """Any cells, quoted where they must be or everywhere, with any delimiter and line end."""
    import csv

    rng = np.random.default_rng()
    alphabet = [*"abc xyz", "ä", "€", ",", ";", '"', "'", "\n", "\t", "|", "#", "1", "."]
    for _ in range(30):
        delimiter, quoting = str(rng.choice([",", ";", "\t", "|"])), int(rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        n_columns = int(rng.integers(2, 5))
        cells = [["".join(rng.choice(alphabet, rng.integers(1, 8))) for _ in range(n_columns)] for _ in range(25)]
        # One line end in a row at most: a row of several lines that look like rows is refused, on purpose.
        for row in cells:
            first = "\0".join(row).find("\n")
            row[:] = "".join(c if c != "\n" or i == first else " " for i, c in enumerate("\0".join(row))).split("\0")
        path = tmp_path / "r.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            end = str(rng.choice(["\n", "\r\n"]))
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
            writer.writerow([f"c{i}" for i in range(n_columns)])
            writer.writerows(cells)
        names = [f"c{i}" for i in range(n_columns)]
        found = read_table(str(path), as_text=names, reading=Reading.of(delimiter=delimiter)).frame
        for place, name in enumerate(names):
            expected = [row[place] if row[place].strip() else math.nan for row in cells]
            assert all(a == b or (a != a and b != b) for a, b in zip(found[name], expected, strict=True)), cells


def test_quotes_within_quoted_cells_do_not_say_that_spaces_are_left_out(table):
    """A cell that goes over lines, with what looks like a quoted cell after a space."""
    for odd in ('"z.\nyz; "', '"\n"', '"a, b\n"'):
        frame = table(f'a,b,c\n{odd},". 1#,  ",",y"\n x, y,z\nv,w,z\n').frame
        assert frame["a"].tolist()[1:] == [" x", "v"] and frame["b"].tolist() == [". 1#,  ", " y", "w"]
    assert table('a,b\n1, "x, y"\n2,z\n').frame["b"].tolist() == ["x, y", "z"]


# Hints.


def test_titles_with_delimiters(table):
    with pytest.raises(DataError, match="line 1: expected names of the 3 columns below, got 2.*--skip-lines") as error:
        table("Title, with a comma\n" + rows())
    n = int(re.search(r"--skip-lines (\d+)", str(error.value))[1])
    assert table("Title, with a comma\n" + rows(), reading={"skip_lines": n}).frame.equals(table(rows()).frame)
    with pytest.raises(DataError, match="line 1: expected names of the 4 columns below, got 3"):
        table(rows(line=lambda i: f"{i},p,2,3"))


def test_the_command_line_says_how_to_separate_cells(capsys, tmp_path):
    (tmp_path / "t.csv").write_text(rows().replace(",", "^"))
    arguments = ("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "r", *SHORT)
    refused(run(capsys, *arguments), "say --delimiter")
    assert run(capsys, *arguments, "--delimiter", "^").code == 0


def test_classes_that_are_one_number_written_in_two_ways_are_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i}.5,{['1', '01', '2'][i % 3]}\n" for i in range(60)))
    problem = understand(Source(str(path), "y"), 0)
    assert "target 'y': '1' and '01' are the same number, and so one class" in problem.notes


def test_words_taken_for_missing_targets_of_numbers_are_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{i}.5,{'None' if i % 9 == 4 else i}\n" for i in range(45)))
    with pytest.raises(DataError, match="5 missing of 45, the first in line 6. 5 are 'None', read as missing"):
        understand(Source(str(path), "y"), 0)


def test_utf_16_that_is_cut_is_not_called_another_encoding(table):
    with pytest.raises(DataError, match="line 3: expected text in UTF-16.*Write or fetch it again") as error:
        table("n,v\n1,2\n".encode("utf-16") + b"x")
    assert "--encoding" not in str(error.value)


def test_a_title_with_as_many_cells_as_the_table_names_the_option(table):
    text = "Report, 2026,\nn,v,c\n1,2,3\n4,5,6\n"
    with pytest.raises(DataError, match="say --skip-lines with how many"):
        table(text)
    assert list(table(text, {"skip_lines": 1}).frame.columns) == ["n", "v", "c"]


def test_parquet_with_texts_that_are_no_utf_8(tmp_path):
    """Arrow reads such bytes as they are: they are found here."""
    pyarrow = requires("pyarrow")
    requires("pyarrow.parquet")
    texts = pyarrow.array([b"good", b"\xb2ad"] * 20).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"c": texts, "y": range(40)}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: expected a whole Parquet file, got Invalid UTF8"):
        read_table(str(tmp_path / "t.parquet"))
