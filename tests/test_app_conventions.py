"""Conventions of numbers and dates belong to the file: found once from all cells, kept in table.json, applied at
predict. What reads two ways is refused or said, with the option that decides. And each hint of reading is followed."""

import datetime
import json
import re
import shlex

import numpy as np
import pytest

from command_line import SHORT, in_numbers, refused, run
from conftest import requires
from pmlp_np import DataError, FileFormatError
from pmlp_np.app.column_kinds import kinds_of, task_of
from pmlp_np.app.columns import Columns
from pmlp_np.app.reading.reading_options import Reading
from pmlp_np.app.tables import read_table


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "pyarrow", "matplotlib"):
        requires(name)


@pytest.fixture
def table(tmp_path):
    """table(text, reading={...}, ...) reads a file."""

    def read(text, reading=None, **how):
        path = tmp_path / "t.csv"
        path.write_text(text, newline="")
        return read_table(str(path), reading=Reading.of(**(reading or {})), **how)

    return read


@pytest.fixture
def learned(table):
    """learned(text, ...) gives the columns of a table whose target is y."""

    def learn(text, **how):
        found = table(text, **how)
        kinds = kinds_of(found, "y", (), ())
        learned = Columns.learn(found, np.arange(len(found)), kinds, "y", task_of(found, "y", "regression"))
        # As it comes back from table.json.
        return Columns.from_plain(json.loads(json.dumps(learned.to_plain())), "table.json")

    return learn


def written(value, digits, point, mark):
    """A number with these marks."""
    return f"{value:,.{digits}f}".translate(str.maketrans({",": mark, ".": point}))


WAYS = {
    "german": (";", ",", "."), "german in tabs": ("\t", ",", "."), "swiss": (";", ".", "'"),
    "swiss curved": (",", ".", "’"),
    "us in tabs": ("\t", ".", ","), "us in semicolons": (";", ".", ","), "us in bars": ("|", ".", ","),
    "french": (";", ",", " "), "nbsp": (";", ",", "\u00a0"), "narrow nbsp": (";", ",", "\u202f"),
    "us in quotes": (",", ".", ","), "german in quotes": (",", ",", "."), "plain": (",", ".", ""),
}  # fmt: skip


def ways_table(way, values, digits=(2, 3, 0), header="s;z;y", around=("", "")):
    delimiter, point, mark = WAYS[way]
    lines = [header.replace(";", delimiter)]
    for record in values:
        cells = [written(value, n, point, mark) for value, n in zip(record, digits, strict=False)]
        cells[0] = around[0] + cells[0] + around[1]
        lines.append(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in cells))
    return "\n".join(lines) + "\n"


def values_of(n=80):
    rng = np.random.default_rng()
    return np.column_stack([rng.lognormal(7, 1.5, n), rng.normal(size=n), np.round(3 * rng.lognormal(7, 1.5, n))])


# Numbers.


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_any_country_and_their_file_at_predict(table, learned, way):
    values = values_of()
    text = ways_table(way, values)
    frame = table(text).frame
    for name, column, digits in zip("szy", values.T, (2, 3, 0), strict=True):
        np.testing.assert_allclose(frame[name], np.round(column, digits), rtol=1e-12)
    columns = learned(text)
    # Whole numbers alone, whose marks say nothing by themselves.
    delimiter, point, mark = WAYS[way]
    cell = f'"1{mark}275"' if mark == delimiter else f"1{mark}275"
    later = table(f"s{delimiter}z\n{cell}{delimiter}1\n950{delimiter}2\n", learned=columns.conventions)
    np.testing.assert_array_equal(in_numbers(columns.frame(later, [])), [[1275, 1], [950, 2]])
    if mark and mark != delimiter:
        later = table(f"s\n1{mark}275\n\n950\n", learned=columns.conventions)
        np.testing.assert_array_equal(later.frame["s"], [1275, np.nan, 950])


@pytest.mark.parametrize("way", ["german", "us in tabs", "swiss", "german in quotes"])
@pytest.mark.parametrize(
    "around", [("$", ""), ("€ ", ""), ("", " €"), ("", "%"), ("", " %"), ("CHF ", ""), ("", " kg"), ("", "km/h")]
)
def test_currencies_percent_and_units(table, learned, way, around):
    values = values_of()
    text = ways_table(way, values, around=around)
    found = table(text)
    np.testing.assert_allclose(found.frame["s"], np.round(values[:, 0], 2), rtol=1e-12)
    sign = (around[0] + around[1]).strip()
    assert any(f"s ({sign})" in note and "--categorical" in note for note in found.notes)
    columns = learned(text)
    delimiter = WAYS[way][0]
    same = table(f"s{delimiter}z\n{around[0]}5{around[1]}{delimiter}1\n", learned=columns.conventions)
    assert in_numbers(columns.frame(same, []))[0, 0] == 5
    bare = table(f"s{delimiter}z\n5{delimiter}1\n", learned=columns.conventions)
    other = table(f"s{delimiter}z\n5 lb{delimiter}1\n", learned=columns.conventions)
    for each in (bare, other) if sign == "%" else (other,):
        with pytest.raises(DataError, match="column 's' .* line 2: expected numbers, as in training .*got '5"):
            in_numbers(columns.frame(each, []))
    if sign != "%":
        assert in_numbers(columns.frame(bare, []))[0, 0] == 5


def test_negative_numbers_of_accounts(table):
    cells = {"(1,234.50)": -1234.5, "1,234-": -1234, "−5": -5, "-5": -5, "+7.5": 7.5, "12": 12, "1e3": 1000}
    text = "a;y\n" + "".join(f"{cell};1\n" for cell in cells)
    found = table(text)
    assert found.frame["a"].tolist() == list(cells.values())
    assert any("negative in a" in note for note in found.notes)
    # All of them in parentheses are no accounts.
    assert table("a;y\n(1);1\n(2);2\n").frame["a"].tolist() == ["(1)", "(2)"]
    assert table("a;y\nCHF 1'200.-;1\nCHF 5.--;2\n").frame["a"].tolist() == [1200, 5]


@pytest.mark.parametrize(
    "cell", ["12:30", "1.2.3", "a1", "0x1F", "1_000", "12,34,5", "01.275,5", "1 2", "5 6 7", "-", "5-7", "+", "e5"]
)
def test_what_is_no_number_stays_a_text(table, cell):
    assert table(f"a;y\n{cell};1\n{cell};2\n").frame["a"].tolist() == [cell, cell]


def test_columns_of_one_unit_each(table):
    text = "a;y\n5 kg;1\n6 lb;2\n"
    assert table(text).frame["a"].tolist() == ["5 kg", "6 lb"]
    assert table("a;y\n1st;1\n2nd;2\n").frame["a"].tolist() == ["1st", "2nd"]


@pytest.mark.parametrize("mark", [".", ","])
@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_what_reads_two_ways_is_refused_unless_something_decides(table, mark, delimiter):
    other = {".": ",", ",": "."}[mark]
    text = f"s{delimiter}y\n" + "".join(f"{1 + i}{mark}{i * 7:03d}{delimiter}{i}\n" for i in range(40))
    with pytest.raises(DataError, match=rf"column 's' .*line 2: .*'1\{mark}000'.*--decimal"):
        table(text)
    readings = {mark: 1.0, other: 1000.0}
    for decimal, value in readings.items():
        assert table(text, {"decimal": decimal}).frame["s"].iloc[0] == value
    found = table(text, {"thousands": mark})
    assert found.frame["s"].iloc[0] == 1000.0 and any(f"'1{mark}000' in line 2 is 1000" in note for note in found.notes)
    # Any cell that reads one way decides, in whichever column, and what is dropped is not asked.
    decides = text + f"1{mark}275{other}5{delimiter}3\n"
    assert table(decides).frame["s"].iloc[0] == 1000.0
    assert table(text.replace(f"{delimiter}7\n", f"{delimiter}7{mark}25\n")).frame["s"].iloc[0] == 1.0
    assert table(text.replace(f"{delimiter}7\n", f"{delimiter}7{other}25\n")).frame["s"].iloc[0] == 1000.0
    assert table(text, as_text=["s"]).frame["s"].iloc[0] == f"1{mark}000"


def test_a_file_of_commas_has_points(table):
    assert table("s,y\n1.275,1\n2.300,2\n").frame["s"].tolist() == [1.275, 2.3]
    assert table("s,y\n1.275,1\n2.300,2\n").notes == []
    found = table('s,y\n"1,275",1\n950,2\n')
    assert found.frame["s"].tolist() == [1275, 950]
    assert any("'1,275' in line 2 is 1275 (--decimal , reads 1.275)" in note for note in found.notes)
    assert table('s,y\n"1,275",1\n950,2\n', {"decimal": ","}).frame["s"].tolist() == [1.275, 950]


def test_columns_of_one_file_that_are_written_in_two_ways(table, learned):
    text = "s;z;y\n" + "".join(f"{i},5;{i}.25;{i}\n" for i in range(30))
    found = table(text)
    assert found.frame["s"].iloc[3] == 3.5 and found.frame["z"].iloc[3] == 3.25
    assert any("commas in s" in note for note in found.notes) and any("points in z" in note for note in found.notes)
    columns = learned(text)
    later = table("s;z\n3,5;3.25\n", learned=columns.conventions)
    assert in_numbers(columns.frame(later, [])).tolist() == [[3.5, 3.25]]
    with pytest.raises(DataError, match="'w'.* beside decimal points in 'z' and decimal commas in 's'"):
        table(text.replace("\n", ";1.275\n").replace("y;1.275", "y;w"))


def refusal_of(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    return str(error.value)


def test_a_table_that_is_predicted_is_read_as_the_fit_was(table, learned):
    values = values_of()
    columns = learned(ways_table("german", values))

    def later(text):
        notes = []
        return in_numbers(columns.frame(table(text, learned=columns.conventions), notes)).tolist()

    assert later("s;z\n1.275;0,5\n") == [[1275, 0.5]]
    # One of another program is read as it is written, where that is sure.
    assert later("s,z\n1275.5,0.5\n") == [[1275.5, 0.5]]
    assert later("s\tz\n1,275.5\t0.5\n") == [[1275.5, 0.5]]
    assert later("s;z\n1.275;0.5\n") == [[1.275, 0.5]]
    # Neither is no number, and the line is named.
    for text in ("s;z\n1.5;0,5\n", "s;z\n1,5;0,5\n1.5;1\n", "s;z\nabc;0,5\n"):
        with pytest.raises(DataError, match=r"column 's' of .*, line [23]: expected numbers, .* \(decimal commas"):
            later(text)
    # The hints help.
    assert "--missing 's=not known'" in refusal_of(later, "s;z\nnot known;0,5\n")
    assert "say --decimal ." in refusal_of(later, "s;z\n1.5;0,5\n")
    found = table("s;z\nnot known;0,5\n", missing=["s=not known"], learned=columns.conventions)
    np.testing.assert_array_equal(in_numbers(columns.frame(found, [])), [[np.nan, 0.5]])
    found = table("s;z\n1.5;0,5\n", reading={"decimal": "."}, learned=columns.conventions)
    assert in_numbers(columns.frame(found, [])).tolist() == [[1.5, 0.5]]
    # A mark that the fit did not have may be the other program's decimal mark.
    columns = learned(ways_table("plain", values))
    with pytest.raises(DataError, match="line 2: .*'1,275'"):
        later("s\n1,275\n950\n".replace("s\n", "s;z\n").replace("\n9", ";1\n9").replace("950", "950;1"))


def test_cells_that_cannot_be_read_are_known_by_row(table, learned):
    columns = learned(ways_table("german", values_of()))
    found = table("s;z\n1.275;1\noops;2\n;3\n", learned=columns.conventions)
    numbers, odd = found.numbers("s")
    assert odd.tolist() == [False, True, False] and numbers[0] == 1275 and np.isnan(numbers[1:]).all()


def test_conventions_are_checked_when_they_are_loaded(learned):
    plain = learned(ways_table("german", values_of(), around=("", " €"))).to_plain()
    assert plain["conventions"]["decimal"] == "," and plain["conventions"]["columns"]["s"]["after"] == "€"
    for change in (
        {"decimal": ";"}, {"decimal": None}, {"thousands": ["x"]}, {"thousands": [","]}, {"day_first": "yes"},
        {"delimiter": 5}, {"missing": {}}, {"columns": {"s": {}}}, {"columns": []}, {"more": 1},
    ):  # fmt: skip
        with pytest.raises(FileFormatError, match="table.json"):
            Columns.from_plain(plain | {"conventions": plain["conventions"] | change}, "table.json")
        with pytest.raises(FileFormatError, match="none named 'conventions'"):
            Columns.from_plain({name: part for name, part in plain.items() if name != "conventions"}, "table.json")


def test_words_for_missing_cells_are_kept_for_later_tables(table, learned):
    text = "a,c,y\n" + "".join(f"{'?' if i % 5 == 0 else i},{'None' if i % 3 else 'x'},{i}.5\n" for i in range(60))
    columns = learned(text, missing=["a=?"], reading={"not_missing": ("c=None",)})
    later = table("a,c\n?,None\n1,?\n", learned=columns.conventions)
    assert np.isnan(later.frame["a"].iloc[0]) and later.frame["c"].tolist() == ["None", "?"]


# Parquet.


def test_texts_of_parquet_that_are_numbers(tmp_path):
    import pandas

    rng = np.random.default_rng()
    values = rng.normal(size=100).round(4)
    huge = [str(10**25 + i * 10**20) for i in range(100)]
    german = [written(1000 * v, 2, ",", ".") for v in values]
    frame = pandas.DataFrame({
        "a": values.astype(str), "b": huge, "c": german, "d": ["x", "y"] * 50,
        "e": np.where(np.arange(100) == 7, "n/v", values.astype(str)), "y": values,
    })  # fmt: skip
    frame["cat"] = frame["a"].astype("category")
    frame.to_parquet(tmp_path / "t.parquet")
    found = read_table(str(tmp_path / "t.parquet"), missing=["e=n/v"])
    np.testing.assert_array_equal(found.frame["a"], values)
    np.testing.assert_array_equal(found.frame["cat"], values)
    np.testing.assert_array_equal(found.frame["b"], [float(text) for text in huge])
    np.testing.assert_allclose(found.frame["c"], np.round(1000 * values, 2), rtol=1e-12)
    assert np.isnan(found.frame["e"].iloc[7]) and found.frame["e"].dtype == np.float64
    assert found.frame["d"].tolist() == ["x", "y"] * 50
    assert read_table(str(tmp_path / "t.parquet"), as_text=["a"]).frame["a"].tolist() == frame["a"].tolist()
    with pytest.raises(DataError, match="column 'e': .*'n/v' in row 8"):
        kinds_of(read_table(str(tmp_path / "t.parquet")), "y", (), ())


def test_texts_that_are_numbers_once_rows_are_left_out(table):
    found = table("a,y\n" + "".join(f"{i},{i}.5\n" for i in range(30)) + "x,\n")
    assert found.frame["a"].iloc[0] == "0"
    found.keep_rows(found.frame["y"].notna())
    assert found.frame["a"].dtype == np.int64 and found.where(29) == "line 31"
    # With marks that no column of numbers showed before.
    found = table("a;b;y\n" + "".join(f"1,{i:03d};{i}.25;{i}\n" for i in range(30)) + "x;y;\n")
    found.keep_rows(found.frame["y"].notna())
    assert found.frame["a"].tolist() == [1000 + i for i in range(30)] and found.frame["b"].iloc[1] == 1.25
    assert found.conventions.style("a").thousands == (",",) and found.conventions.style("b").thousands == ()


# Dates.

DAYS = [datetime.date(1990 + i // 12, 1 + i % 12, 1 + i % 3) for i in range(72)]


def dated(form, days=DAYS):
    return "when,a,y\n" + "".join(f'"{day.strftime(form)}",{i % 5},{i % 7}.5\n' for i, day in enumerate(days))


def days_of(columns, found):
    return in_numbers(columns.frame(found, []))[:, 0]


EXPECTED = np.array([(day - datetime.date(1970, 1, 1)).days for day in DAYS], float)


def swapped(form):
    return form.replace("%d", "#").replace("%m", "%d").replace("#", "%m")


@pytest.mark.parametrize(
    "form", ["%d/%m/%Y", "%d-%m-%Y", "%d/%m/%y", "%d/%m/%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%d/%m/%Y %I:%M %p"]
)
def test_dates_of_which_no_day_tells_are_refused_unless_something_does(table, learned, form):
    with pytest.raises(DataError, match="'when' .*no day above 12.*--day-first for 3 March 1990|--day-first for"):
        learned(dated(form))
    for order, months in ((True, form), (False, swapped(form))):
        columns = learned(dated(months), reading={"day_first": order})
        assert columns.conventions.day_first is order
        text = dated(months)
        np.testing.assert_allclose(days_of(columns, table(text)), EXPECTED)
        # Kept for later tables, in which a day that this order cannot have is named.
        bad = datetime.date(1999, 12, 31).strftime(swapped(form) if order else form)
        with pytest.raises(DataError, match="line 2: expected dates such as"):
            in_numbers(columns.frame(table(f'when,a\n"{bad}",1\n'), []))


@pytest.mark.parametrize(
    "form",
    ["%d/%m/%Y", "%m/%d/%Y", "%m-%d-%Y", "%d.%m.%Y", "%d %B %Y", "%b %d, %Y", "%A, %d %B %Y", "%Y/%m/%d", "%Y-%m-%d",
     "%d-%b-%y"],
)  # fmt: skip
def test_dates_that_tell_their_order(table, learned, form):
    days = [datetime.date(1990, 1, 1) + datetime.timedelta(11 * i) for i in range(72)]
    found = table(dated(form, days))
    columns = learned(dated(form, days))
    np.testing.assert_array_equal(days_of(columns, found), [(day - datetime.date(1970, 1, 1)).days for day in days])


def test_dates_that_are_said(table):
    found = table(dated("%d.%m.%Y"))
    note = kinds_of(found, "y", (), ())["when"].reason
    assert "'02.02.1990'" not in note and "is read as" in note and "--month-first" in note
    cell, day, month = re.search(r"'(\d\d\.\d\d\.\d{4})' in line \d+ is read as (\d+) (\w+)", note).groups()
    assert int(cell[:2]) == int(day) and datetime.datetime.strptime(month, "%B").month == int(cell[3:5])
    # Another column of the file tells.
    days = [datetime.date(1990, 1, 1) + datetime.timedelta(11 * i) for i in range(72)]
    lines = dated("%d/%m/%Y").splitlines()
    text = "\n".join([lines[0] + ",w", *(f"{line},{day:%d/%m/%Y}" for line, day in zip(lines[1:], days, strict=True))])
    kinds = kinds_of(table(text), "y", (), ())
    assert kinds["when"].date_format == kinds["w"].date_format == "%d/%m/%Y" and "--month-first" in kinds["when"].reason
    with pytest.raises(DataError, match="column 'w' .*--month-first reads, got '23/01/1990' in line 4"):
        kinds_of(table(text, {"day_first": False}), "y", (), ())
    # What is left out or a category is not asked.
    table_ = table(dated("%d/%m/%Y"))
    assert kinds_of(table_, "y", [], ["when"])["when"].kind == "left out"
    assert kinds_of(table_, "y", ["when"], [])["when"].kind == "category"


@pytest.mark.parametrize("cell", ["31.02.1990", "unknown", "13.13.1991", "1990-01-01"])
def test_cells_that_are_no_dates_among_dates_are_refused_by_line(table, cell):
    text = dated("%d.%m.%Y").replace('"02.05.1990"', f'"{cell}"')
    with pytest.raises(DataError, match=f"'when': expected dates in one format, got 71 dates .* '{cell}' in line 6"):
        kinds_of(table(text), "y", (), ())


# Hints: each option that a message offers is tried, and those of the next message, until the table is understood.

VALUED = ("--missing", "--not-missing", "--categorical", "--decimal", "--thousands", "--skip-lines", "--encoding",
          "--task", "--drop")  # fmt: skip
FLAGS = ("--day-first", "--month-first", "--skip-missing-target")
N = range(60)


def long_table(last):
    return "a,c,y\n" + "".join(f"{i % 50},{last if i == 40_000 else 'x'},{i % 9}.5\n" for i in range(40_001))


HINTED = {
    "two ways": ("s;y\n" + "".join(f"{1 + i}.{i * 7:03d};{i}\n" for i in N), ()),
    "two ways of commas": ("s\ty\n" + "".join(f"{1 + i},{i * 7:03d}\t{i}\n" for i in N), ()),
    "other thousands": ("s;y\n" + "".join(f"{i}'{i * 7:03d};{i}\n" for i in range(1, 60)), ("--thousands", ".")),
    "day or month": (dated("%d/%m/%Y"), ()),
    "an impossible date": (dated("%d.%m.%Y").replace('"02.05.1990"', "31.02.1990"), ()),
    "two formats of dates": (dated("%d.%m.%Y", DAYS * 2).replace('"02.05.1990"', "1990-05-02"), ()),
    "a word among numbers": ("a,y\n" + "".join(f"{'no idea' if i == 20 else i},{i % 9}.5\n" for i in N), ()),
    "a word in the target": ("a,y\n" + "".join(f"{i},{'?' if i == 20 else f'{i % 9}.5'}\n" for i in N), ()),
    "a note in the last line": ("a,b,y\n" + "".join(f"{i},{i},{i % 9}.5\n" for i in N) + "Total,,\n", ()),
    "a class called None": ("a,y\n" + "".join(f"{i},{['None', 'x', 'y'][i % 3]}\n" for i in N), ()),
    "a title": ("A title, with a comma\na,b,y\n" + "".join(f"{i},{i},{i % 9}.5\n" for i in N), ()),
    "late bytes": (long_table("K\xf6ln"), ()),
    "no Windows text": (long_table("K\x81ln"), ()),
}  # fmt: skip


def offered(message):
    """The options that a message offers, each a list of arguments."""
    found = []
    for match in re.finditer(r"(--[a-z]+(?:-[a-z]+)*)(?: ('[^']*'|[^\s;)]+))?", message):
        name, value = match[1], match[2]
        if name in FLAGS:
            found.append([name])
        elif name in VALUED and value:
            value = value.rstrip(",") if name != "--decimal" and name != "--thousands" else value
            value = value.removesuffix(".") if len(value) > 1 else value
            found.append([name, *shlex.split(value)])
    return found


@pytest.mark.parametrize("case", HINTED)
def test_hints_are_followed(capsys, tmp_path, monkeypatch, case):
    from pmlp_np.app import fitting, problem

    def understand(source, choices, out, overwrite, screen):
        problem.understand(source, choices.seed)
        return "done"

    monkeypatch.setattr(fitting, "fit_table", understand)
    text, options = HINTED[case]
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    arguments = ("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "r")

    def tried(options, depth=0):
        said = run(capsys, *arguments, *options)
        if said.code == 0:
            return True
        hints = offered(said.err)
        assert hints and depth < 4, said.err
        for hint in hints:
            assert "--thousands" not in hint or options[-2:] != hint
            # An option that is said twice holds as it is said last.
            kept = list(options)
            if hint[0] in ("--thousands", "--decimal"):
                kept = [each for each in options if each not in ("--thousands", options[-1])]
            assert tried([*kept, *hint], depth + 1), (options, hint)
        return True

    said = run(capsys, *arguments, *options)
    refused(said, "--")
    assert tried(list(options))


def test_no_number_is_called_missing_by_a_hint(table):
    """'1,364' among numbers once was to be said as --missing, which lost it."""
    text = "a;y\n" + "".join(f"{'1,364,5' if i == 20 else f'{i}.25'};{i}\n" for i in range(60))
    with pytest.raises(DataError, match="'1,364,5' in line 22") as error:
        kinds_of(table(text), "y", (), ())
    assert "--missing" not in str(error.value)


# The command line.


def test_german_tables_from_fit_to_predict(capsys, tmp_path):
    rng = np.random.default_rng()
    values = rng.lognormal(7, 1.0, 300)
    (tmp_path / "t.csv").write_text(ways_table("german", np.column_stack([values, 2 * values]), (2, 2), "sales;y"))
    out = tmp_path / "r"
    said = run(capsys, "fit", tmp_path / "t.csv", "--target", "y", "--out", out, "--not-missing", "None", *SHORT)
    assert said.code == 0 and "points between thousands in sales, y" in said.err, said.err
    kept = json.loads((out / "table.json").read_text())["conventions"]
    assert (kept["decimal"], kept["thousands"], kept["missing"]["kept"]) == (",", ["."], ["None"])
    (tmp_path / "n.csv").write_text("sales\n1.275\n950\n")
    said = run(capsys, "predict", out, tmp_path / "n.csv", "--out", tmp_path / "p.csv", "--keep", "sales")
    assert said.code == 0, said.err
    lines = [line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    assert [cell for cell, _ in lines] == ["1.275", "950"]
    (tmp_path / "n.csv").write_text("sales\n1275.0\n950.0\n")
    said = run(capsys, "predict", out, tmp_path / "n.csv", "--out", tmp_path / "q.csv")
    assert said.code == 0 and "decimal points, unlike those of the fit" in said.err
    assert (tmp_path / "q.csv").read_text().splitlines()[1:] == [value for _, value in lines]


def test_a_column_with_another_decimal_mark_than_its_file_keeps_it(learned, table):
    """Its file's other columns have points; a cell that reads both ways is read as the column's were at fit."""
    found = learned("a;z;y\n1.275,50;0.25;1\n2.300,25;0.5;2\n12,5;0.75;4\n")
    for cell, right in (("1,275", 1.275), ("1.275", 1275.0), ("1.275,5", 1275.5)):
        new = table(f"a;z\n{cell};0.5\n", learned=found.conventions)
        assert in_numbers(found.frame(new, []))[0, :2].tolist() == [right, 0.5], cell
    # Of a table with points in all its columns this one has none that read as at the fit.
    new = table("a;z\n1,275.50;0.5\n", learned=found.conventions)
    assert in_numbers(found.frame(new, []))[0, 0] == 1275.5


def test_thousands_that_the_fit_had_not_are_said(learned, table):
    found = learned("a;z;y\n1.275;0.25;1\n2.3;0.5;2\n12.5;0.75;4\n")
    new = table("a;z\n1,275;0.5\n", learned=found.conventions)
    assert new.frame["a"][0] == 1275 and any("'1,275' in line 2 is 1275" in note for note in new.notes), new.notes
    new = table("a;z\n1,275;0.5\n", {"decimal": ","}, learned=found.conventions)
    assert new.frame["a"][0] == 1.275


@pytest.mark.parametrize("cell", ["2.5 kg", "2.5 %", "$2.5", "31.12.2020", "2020", "1990-13"])
def test_no_hint_at_predict_calls_a_number_or_a_date_missing_or_a_date_decimal(learned, table, cell):
    text = "a;d;y\n" + "".join(f"{i}.5;{i % 28 + 1:02}.{i % 12 + 1:02}.2020 10:{i:02};{i}\n" for i in range(40))
    found = learned(text)
    for column in "ad":
        cells = {"a": "1.5", "d": "01.02.2020 10:00"} | {column: cell}
        if column == "a" and cell in ("31.12.2020", "2020", "1990-13"):
            continue
        new = table(f"a;d\n{cells['a']};{cells['d']}\n", learned=found.conventions)
        with pytest.raises(DataError) as error:
            found.frame(new, [])
        assert "--missing" not in str(error.value) and "--decimal" not in str(error.value), error.value
        assert "Write it as the " in str(error.value)


def test_dates_that_are_the_same_in_both_orders_say_so(table):
    found = table("d;y\n" + "".join(f"01/01/{1990 + i};{i}\n" for i in range(20)))
    with pytest.raises(DataError, match="Say --day-first or --month-first: these are the same dates"):
        kinds_of(found, "y", (), ())
    found = table("d;y\n" + "".join(f"01/01/{1990 + i};{i}\n" for i in range(20)), {"day_first": True})
    assert kinds_of(found, "y", (), ())["d"].kind == "date"


@pytest.mark.parametrize(("cells", "words"), [
    (lambda i: f"{i}.25" + " kg" * (i % 9 > 0), "numbers are written in several ways, such as '0.25' and '1.25 kg'"),
    (lambda i: f"{'$€'[i % 2]}{i}.25", "its numbers are written in several ways, such as '$0.25' and '€1.25'"),
    (lambda i: f"{i % 28 + 1:02}.{i % 12 + 1:02}.{1990 + i}" + " 10:00" * (i % 2), "dates are written in several ways"),
    (lambda i: f"{i // 60:02}:{i % 60:02}", "if they are dates, write them as 2026-01-31, and times of day as numbers"),
    (lambda i: f"{i + 1} {['Main', 'Oak', 'Elm', 'Fir'][i % 4]} St", "as ids, names or sentences have"),
    (lambda i: f"10.0.{i}.1", "as ids, names or sentences have"),
])  # fmt: skip
def test_columns_of_many_texts_are_left_out_with_the_true_reason(table, cells, words):
    found = table("a;z;y\n" + "".join(f"{cells(i)};{i}.5;{i}\n" for i in range(90)))
    kind = kinds_of(found, "y", (), ())["a"]
    assert kind.kind == "left out" and words in kind.reason, kind
