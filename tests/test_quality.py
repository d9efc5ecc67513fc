"""The comparison of predictions with peers: splits, means, ranks, and that the page says what was measured."""

import json

import numpy as np

from benchmarks.quality.render import PAGE, facts, means, ranks, section
from benchmarks.quality.tables import TABLES, split


def record(table, method, value, number=0, budget=None):
    return {"table": table, "method": method, "split": number, "budget": budget, "seconds": 1.0, "r2": value}


def test_splits_part_the_rows():
    training, test = split(101, 0)
    assert len(test) == 25 and sorted([*training, *test]) == list(range(101))
    assert not np.array_equal(split(101, 1)[1], test)


def test_means_are_of_splits_that_all_have():
    found = means([record("oj", "a", 0.5), record("oj", "a", 0.7, 1), record("oj", "b", 0.1, 0)], "r2")
    assert found == {"oj": {"a": 0.5, "b": 0.1}}


def test_ranks_share_what_is_equal():
    found = {"x": {"a": 0.9, "b": 0.5, "c": 0.5}, "y": {"a": 0.1, "b": 0.3, "c": 0.2, "only here": 1.0}}
    assert ranks(found, larger=True) == {"a": 2.0, "b": 1.75, "c": 2.25}
    assert ranks(found, larger=False)["a"] == 2.0


def test_the_page_shows_what_was_measured():
    from benchmarks.quality.__main__ import JSON

    whole = json.loads(JSON.read_text())
    page = PAGE.read_text("utf-8")
    assert section(whole) in page and facts(whole) in page
    assert {each["table"] for each in whole["results"]} <= set(TABLES)
