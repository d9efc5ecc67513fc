"""Tables: plain records that print aligned, turn into data frames, and stay lists."""

import html
import re
import sys

import numpy as np
import pytest

from conftest import requires
from pmlp_np.base.table import Table

RECORDS = [
    {"rank": 1, "architecture": "64-32 tanh", "loss": 0.123456, "best": None, "count": 12345, "flag": True},
    {"rank": 2, "architecture": "8 relu", "loss": float("nan"), "best": 3, "count": 7, "flag": False},
]


def test_a_table_is_a_list_of_the_records():
    table = Table(RECORDS)
    assert isinstance(table, list) and table == RECORDS and len(table) == 2
    assert table[0]["rank"] == 1 and table[-1] is RECORDS[1]
    assert [record["count"] for record in table] == [12345, 7]


def test_it_prints_aligned():
    assert str(Table(RECORDS)).splitlines() == [
        "rank  architecture    loss  best   count   flag",
        "----  ------------  ------  ----  ------  -----",
        "   1  64-32 tanh    0.1235     -  12,345   True",
        "   2  8 relu             -     3       7  False",
    ]
    assert repr(Table(RECORDS)) == str(Table(RECORDS))


def test_only_the_columns_asked_for_are_printed():
    lines = str(Table(RECORDS, columns=("loss", "architecture", "missing"))).splitlines()
    assert lines[0].split() == ["loss", "architecture", "missing"]
    assert lines[2].split() == ["0.1235", "64-32", "tanh", "-"]


def test_numbers_are_short():
    table = Table([{"x": value} for value in (1e-9, 123456.789, -0.5, np.float64(2.0), np.inf)])
    assert [line.strip() for line in str(table).splitlines()[2:]] == ["1e-09", "1.235e+05", "-0.5", "2", "inf"]


@pytest.mark.parametrize(("n", "more"), [(20, None), (21, "1 more rows"), (5000, "4,980 more rows")])
def test_long_tables_are_cut(n, more):
    table = Table([{"rank": i, "loss": 0.5} for i in range(n)])
    lines = str(table).splitlines()
    assert len(lines) == 22 + (more is not None)
    assert lines[21].split() == ["19", "0.5"]
    if more:
        assert lines[-1] == f"... {more}"
    rows = re.findall("<tr>(.*?)</tr>", table._repr_html_())
    assert len(rows) == 21
    assert (more in table._repr_html_()) if more else "more rows" not in table._repr_html_()


def test_an_empty_table():
    assert str(Table([])) == "(no rows)"
    assert "<table>" in Table([])._repr_html_()


def test_html_is_escaped():
    text = Table([{"<name>": "<b>bold</b> & more"}])._repr_html_()
    assert "<b>" not in text and "<name>" not in text
    assert html.unescape(text).count("<b>bold</b> & more") == 1


def test_data_frames_hold_every_record_and_column():
    pandas = requires("pandas")
    records = [{"rank": i, "loss": i / 7, "hidden": (i, 2)} for i in range(50)]
    frame = Table(records, columns=("rank",)).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == records


def test_without_pandas_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas"):
        Table(RECORDS).to_pandas()
