"""The page of a report: its HTML, what it shows and escapes, its charts, and contents that are refused."""

import copy
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from pmlp_np.report import charts, write_report
from pmlp_np.report.axes import Axis, compact, date_text, kind_for, round_step
from pmlp_np.report.html_file import page
from pmlp_np.report.markup import Html, element
from reported import HOSTILE, TASKS, contents_of, found

VOID = {"meta", "br"}
WORDS = charts.Words("name", "title", "shows", "x", "y")


class Reader(HTMLParser):
    """Reads a page: texts, elements with attributes, and whether each is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def all(self, tag, class_=None):
        return [
            a for t, a in self.elements if t == tag and (class_ is None or class_ in (a.get("class") or "").split())
        ]


@pytest.mark.parametrize("task", TASKS)
def test_the_page_is_whole_and_needs_nothing_else(task, tmp_path):
    contents = contents_of(task)
    write_report(json.loads(json.dumps(contents)), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text == page(contents) and len(text) < 500_000 and text.startswith("<!DOCTYPE html>")
    read = Reader(text)
    assert not {tag for tag, _ in read.elements} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    names = {name for _, attributes in read.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")} and not names & {"src", "href", "srcset"}
    assert "http" not in text and "url(" not in text and "@import" not in text and "nan" not in text.lower().split('"')
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and read.elements[0] == ("html", {"lang": "en"})
    for attributes in read.all("svg", "chart"):
        assert attributes["role"] == "img" and set(attributes["aria-labelledby"].split()) <= set(ids)
    for section in read.all("section"):
        assert section["aria-labelledby"] in ids


@pytest.mark.parametrize("task", TASKS)
def test_what_users_name_is_text_on_the_page(task):
    contents = copy.deepcopy(contents_of(task))
    contents["title"] = 'Title <b> & "quotes" \x00\x1b'
    contents["notes"] = ["a note <i>"]
    read = Reader(page(contents))
    assert not read.all("b") and not read.all("i")
    assert HOSTILE in read.text and 'Title <b> & "quotes"' in read.text and "A note <i>." in read.text
    assert "<b>constant</b>" in read.text and "\x00" not in read.text and "\x1b" not in read.text
    if task == "classes":
        assert any(HOSTILE in text for text in read.texts)


def test_sections_are_there_where_they_apply():
    ids = {task: {a["id"] for a in Reader(page(contents_of(task))).all("h2")} for task in TASKS}
    common = {"scores", "columns", "ensemble", "trials", "rest"}
    assert ids["values"] == ids["several values"] == common | {"values"}
    assert ids["classes"] == ids["two classes"] == ids["labels"] == common | {"classes"}
    headings = {task: Reader(page(contents_of(task))).text for task in TASKS}
    assert "Which class is taken for which?" in headings["classes"]
    assert "Which class is taken for which?" not in headings["labels"]
    assert "Errors of y 1" in headings["several values"] and "Intervals of y" in headings["values"]
    contents = copy.deepcopy(contents_of("values")) | {"left_out": [], "n_left_out": 0, "curves": [], "dependence": []}
    bare = Reader(page(contents)).text
    assert (
        "Columns that are not used" not in bare and "Learning curves" not in bare and "Mean prediction by" not in bare
    )
    assert "Columns that are not used" in headings["values"] and "Learning curves" in headings["values"]
    test = {"rows": 24, "scores": [["<R²>", "0.4342", "-"]], "doubts": ["there are & 24 rows"]}
    tested = Reader(page(contents | {"test": test})).text
    assert all(text in tested for text in ("24 rows had no part in training", "<R²>", "0.4342", "there are & 24 rows"))
    assert "had no part in training" not in bare
    assert "speaks against" not in Reader(page(contents | {"test": test | {"doubts": []}})).text
    interrupted = Reader(page(contents | {"ended": "interrupted", "folds": 1, "weighted": True})).text
    assert "The search was interrupted" in interrupted and "validation rows were predicted" in interrupted
    assert "training and selection used the weights of rows" in interrupted
    contents["trials"][0] = contents["trials"][0] | {"status": "diverged", "configuration": "8 wild raw", "loss": None}
    assert "Diverged in training, and left out: 8 wild raw." in Reader(page(contents)).text


def test_tables_have_the_figures():
    contents = contents_of("values")
    text = Reader(page(contents)).text
    for trial in contents["trials"]:
        assert f"{trial['parameters']:,}" in text and trial["configuration"] in text
    for score in contents["scores"]:
        assert score["name"] in text
    assert all(sentence in text for sentence in contents["answer"])
    shown = re.findall(r"width:([\d.]+)%", page(contents))
    importances = [each["importance"] for each in contents["importances"]]
    expected = [max(100.0 * each / importances[0], 0.0) for each in importances]
    assert [float(width) for width in shown[: len(expected)]] == pytest.approx(expected, abs=0.006)


# Contents that were edited.


def edited(task, path, value):
    contents = copy.deepcopy(contents_of(task))
    at = contents
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return contents


@pytest.mark.parametrize(
    ("task", "path", "value", "said"),
    [
        ("values", ["format"], "other", "contents: expected contents of a report"),
        ("values", ["version"], 2, "contents.version: expected 1, got 2"),
        ("values", ["task"], "clustering", "contents.task: expected one of regression"),
        ("values", ["title"], 3, "contents.title: expected a text, got 3"),
        ("values", ["rows"], 3.0, "contents.rows: expected a whole number, got 3.0"),
        ("values", ["weighted"], 1, "contents.weighted: expected true or false, got 1"),
        ("values", ["scores"], [], r"contents.scores: expected at least one entry, got \[\]"),
        ("values", ["scores", 0, "value"], math.nan, r"contents.scores\[0\].value: expected a finite number, got nan"),
        ("values", ["scores", 0, "value"], True, r"contents.scores\[0\].value: expected a finite number, got True"),
        ("values", ["scores", 0, "extra"], 1, r"contents.scores\[0\].extra: expected one of name, unit"),
        ("values", ["values", 0, "points", 3], [1.0], r"values\[0\].points\[3\]: expected a list of 2"),
        ("values", ["values", 0, "points"], {}, r"values\[0\].points: expected a list, got {}"),
        ("values", ["ensemble"], [], "contents.ensemble: expected an object"),
        ("values", ["ensemble", "shares", "view"], [["raw", "x"]], r"shares.view\[0\]\[1\]: expected a finite number"),
        ("values", ["dependence", 0, "at"], ["a"], r"contents.dependence\[0\].lines\[0\].values: expected 1 numbers"),
        ("values", ["dependence", 0, "kind"], "category", r"dependence\[0\].at: expected cells of a category"),
        ("classes", ["classes", "confusion", "rows", 0], [1], "confusion.rows: expected 3 rows of 3 counts"),
        ("classes", ["classes", "reliability"], [], "reliability: expected at least one entry"),
    ],
)  # fmt: skip
def test_contents_that_can_t_be_drawn_are_refused_with_the_place(task, path, value, said, tmp_path):
    with pytest.raises(pm.FileFormatError, match=said):
        write_report(edited(task, path, value), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["answer", "values", "curves"])
def test_missing_contents_are_named(key, tmp_path):
    contents = {name: value for name, value in contents_of("values").items() if name != key}
    with pytest.raises(pm.FileFormatError, match=f"contents.{key}: expected .*, got none"):
        write_report(contents, tmp_path / "report.html")
    for other in (None, [], "text", 3):
        with pytest.raises(pm.FileFormatError, match="contents: expected contents of a report"):
            write_report(other, tmp_path / "report.html")


def places(value, path=()):
    """Every path into contents, of few entries of a list."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 2)):
            yield from places(value[i], (*path, i))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.sampled_from([0, -1, 1e99, -1e99, 1e-300, 1e300, 10**14, 0.0, 5e-324]),
)  # fmt: skip


@given(st.sampled_from(TASKS), st.data())
def test_edited_contents_are_drawn_or_refused(task, data):
    paths = [path for path in places(contents_of(task)) if path]
    contents = contents_of(task)
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3)):
        try:
            old, contents = contents, copy.deepcopy(contents)
            at = contents
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = data.draw(VALUES)
        except (TypeError, KeyError, IndexError):
            contents = old  # an earlier edit took the place away
    try:
        text = page_of(contents)
    except pm.FileFormatError as error:
        assert str(error).startswith("contents")
    else:
        for _, attributes in Reader(text).elements:
            for name in attributes.keys() & {"d", "x", "y", "cx", "cy", "r", "width", "height"}:
                assert "nan" not in attributes[name] and "inf" not in attributes[name]


def page_of(contents):
    from pmlp_np.report.contents_check import require_contents

    require_contents(contents)
    return page(contents)


# A search's own method.


def test_a_result_writes_its_report(tmp_path):
    result, _ = found("values")
    result.report(tmp_path / "report.html", "The title", names="price")
    text = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "The title" in text and "Predicts price with" in text
    with pytest.raises(pm.DataError, match="a folder of that name"):
        result.report(tmp_path)
    with pytest.raises(pm.DataError, match="names: expected 1 text"):
        result.report(tmp_path / "other.html", names=["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# Markup, axes and charts.


def test_elements_are_escaped():
    assert element("p", "a < b", Html("<br>"), None, ["&", 3], class_="x\"y") == (
        '<p class="x&quot;y">a &lt; b<br>&amp;3</p>'
    )  # fmt: skip
    assert element("rect", x=1.23456, y=-0.001, stroke_width=2, hidden=True, id=None) == (
        '<rect x="1.23" y="0" stroke-width="2" hidden></rect>'
    )
    assert (
        element("meta", name_="viewport") == '<meta name="viewport">' and element("p", "a\x00b\x9fc") == "<p>a b c</p>"
    )


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_few_round_and_within_the_axis(low, width, most):
    high = low + width
    if high - low <= 1e-9 * abs(low):
        return
    axis = Axis(low, high, 0.0, 100.0)
    ticks = axis.ticks(most)
    values = [value for value, _ in ticks]
    assert 1 <= len(ticks) <= most + 1 and values == sorted(set(values))
    for value, _ in ticks:
        assert low - 1e-6 * width <= value <= high + 1e-6 * width
        assert axis(value) == pytest.approx(100.0 * (value - low) / width, abs=0.01)
    if len(values) > 1:
        step = values[1] - values[0]
        digits = step / 10.0 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(digits - each) for each in (1.0, 2.0, 2.5, 5.0, 10.0)) < 0.01
        assert len({text for _, text in ticks}) == len(ticks)


def test_ticks_of_ratios_and_of_dates():
    assert [text for _, text in Axis(0.8, 1200.0, 0, 1, "log").ticks(5)] == ["1", "10", "100", "1,000"]
    assert [text for _, text in Axis(3.0, 40.0, 0, 1, "log").ticks(5)] == ["5", "10", "20"]
    assert [text for _, text in Axis(1.1, 1.9, 0, 1, "log").ticks(4)] == ["1.2", "1.4", "1.6", "1.8"]
    axis = Axis(1.0, 100.0, 0.0, 10.0, "log")
    assert axis(10.0) == pytest.approx(5.0)
    days = [int(np.datetime64(day).astype(int)) for day in ("2020-03-01", "2023-02-01", "2020-03-20")]
    assert [text for _, text in Axis(days[0], days[1], 0, 1, "date").ticks(5)] == ["2021", "2022", "2023"]
    for value, text in Axis(days[0], days[2], 0, 1, "date").ticks(5):
        assert date_text(value) == text and "2020-03-01" < text < "2020-03-20"
    assert kind_for([1.0, 100.0]) == "log" and kind_for([1.0, 3.0]) == kind_for([-1.0, 100.0]) == "linear"
    assert [compact(v, s) for v, s in ((0.25, 0.05), (1500.0, 500.0), (20_000.0, 5e3), (2.5e6, 5e5), (1e-20, 1.0))] == [
        "0.25", "1,500", "20k", "2.5M", "0",
    ]  # fmt: skip
    assert [compact(v) for v in (0.0, 2e-6, -3.0, 5e13)] == ["0", "2e−6", "−3", "5e13"]
    assert [round_step(v) for v in (0.11, 1.0, 2.1, 70.0)] == [0.2, 1.0, 2.5, 100.0]


def test_axes_hold_their_values_and_no_range_is_too_small():
    for values in ([3.0, 3.0], [0.0], [1e-320, 2e-320], [1e99, -1e99], [1.0, 1.0 + 1e-16]):
        axis = Axis.over(values, 0.0, 1.0)
        assert axis.low < min(values) <= max(values) < axis.high and len(axis.ticks()) >= 1
        assert all(0.0 <= axis(value) <= 1.0 for value in values)


def circles(chart):
    return [(float(a["cx"]), float(a["cy"]), float(a["r"]), a["class"]) for a in Reader(chart).all("circle")]


def dots(chart):
    (path,) = Reader(chart).all("path", "dots")
    return np.array([[float(v) for v in point.split()] for point in re.findall(r"M([-\d. ]+)h0", path["d"])])


def test_points_stand_where_their_values_are():
    draw = np.random.default_rng()
    points = draw.normal(size=(50, 2)) * 1000.0
    at = dots(charts.scatter(WORDS, points.tolist()))
    for i, sign in ((0, 1.0), (1, -1.0)):
        slope, offset = np.polyfit(points[:, i], at[:, i], 1)
        assert sign * slope > 0.0 and np.abs(slope * points[:, i] + offset - at[:, i]).max() < 0.02
    records = [(100.0, 0.5, 0.0, "a"), (10_000.0, 0.25, 1.0, "b"), (1000.0, 0.4, 0.25, "c")]
    found = circles(charts.sizes(WORDS, records))
    assert [kind for *_, kind in found] == ["used", "used", "unused"] and found[0][2] > found[1][2] > found[2][2]
    (b, c, a) = found
    assert c[0] == pytest.approx((a[0] + b[0]) / 2.0, abs=0.02), "sizes that span a large ratio have a logarithmic axis"
    bins = [{"mean": m, "share": m, "low": m / 2, "high": 1.0, "rows": 10} for m in (0.1, 0.5, 0.9)]
    on_diagonal = circles(charts.reliability(WORDS, bins))
    slopes = np.diff([y for _, y, *_ in on_diagonal]) / np.diff([x for x, *_ in on_diagonal])
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-3) and slopes[0] < 0.0


def test_bars_are_as_high_as_their_counts():
    rects = Reader(charts.histogram(WORDS, [(-1.0, 0.0, 30.0), (0.0, 1.0, 60.0), (1.0, 3.0, 15.0)])).all("rect")
    heights, widths = ([float(a[name]) for a in rects] for name in ("height", "width"))
    assert heights[1] == pytest.approx(2.0 * heights[0], abs=0.03) == pytest.approx(4.0 * heights[2], abs=0.05)
    assert widths[2] + 1.0 == pytest.approx(2.0 * (widths[0] + 1.0), abs=0.03)


def test_categories_are_rows_and_missing_cells_a_point():
    lines = [{"name": "y", "values": [1.0, 3.0], "missing": None}, {"name": "z", "values": [2.0, 2.0], "missing": None}]
    chart = charts.dependence_rows(WORDS, ["a", "a very long name of a category"], lines, [1.0, 3.0])
    (first, second, third, fourth) = circles(chart)
    assert first[0] < second[0] == fourth[0] < third[0] and first[1] == second[1] < third[1] == fourth[1]
    assert "a very long name …" in Reader(chart).text
    curve = [{"name": "y", "values": [1.0, 3.0], "missing": 2.0}]
    chart = charts.dependence_curve(WORDS, [0.0, 10.0], curve, [5.0, 99.0], [1.0, 3.0], False)
    ((x, _, _, kind),) = circles(chart)
    assert kind == "dot s0" and "missing" in Reader(chart).text
    path = next(a["d"] for a in Reader(chart).all("path", "line"))
    ends = [float(number) for number in re.findall(r"[-\d.]+", path)]
    assert ends[0] < ends[2] < x and Reader(chart).all("path", "rug")[0]["d"].count("M") == 1
