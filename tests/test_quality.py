"""The comparison of predictions with peers: splits, means, ranks, and that the page says what was measured."""

import json

import numpy as np

from benchmarks.quality.development import compare
from benchmarks.quality.render import PAGE, compared, facts, means, ranks, section
from benchmarks.quality.tables import DEVELOPMENT, TABLES, split


def record(table, method, value, number=0, budget=None):
    return {"table": table, "method": method, "split": number, "budget": budget, "seconds": 1.0, "r2": value}


def test_splits_part_the_rows():
    training, test = split(101, 0)
    assert len(test) == 25 and sorted([*training, *test]) == list(range(101))
    assert not np.array_equal(split(101, 1)[1], test)


def test_means_are_of_tables_that_all_have():
    results = [record("oj", "a", 0.5), record("oj", "a", 0.7, 1), record("oj", "b", 0.1), record("cells", "a", 0.2)]
    assert means(results, "r2", ["a", "b"], [0]) == {"oj": {"a": 0.5, "b": 0.1}}
    assert means(results, "r2", ["a"], [0]) == {"oj": {"a": 0.5}, "cells": {"a": 0.2}}
    assert means(results, "r2", ["a"], [0, 1]) == {"oj": {"a": 0.6}}
    assert means(results, "r2", ["a", "b"], [0, 1]) == {} == means(results, "r2", [], [0])


def test_methods_that_lack_much_are_not_compared():
    results = [record(name, "a", 0.5) for name in ("oj", "cells", "churn")]
    results += [record(name, "b", 0.5, budget=60.0) for name in ("oj", "cells")] + [record("oj", "c", 0.5)]
    results += [record(name, "b", 0.5, budget=10.0) for name in ("oj", "cells")] + [record("oj", "b", 0.5, 1)]
    assert compared(results, [0], [60.0]) == ["a", "b, 60 s"]
    assert compared(results, [0], [60.0, 10.0]) == ["a", "b, 60 s", "b, 10 s"]
    assert compared([*results, {**record("x", "d", 0.1), "failed": "why"}], [0], [60.0]) == ["a", "b, 60 s"]


def test_ranks_share_what_is_equal():
    found = {"x": {"a": 0.9, "b": 0.5, "c": 0.5}, "y": {"a": 0.1, "b": 0.3, "c": 0.2, "only here": 1.0}}
    assert ranks(found, larger=True) == {"a": 2.0, "b": 1.75, "c": 2.25}
    assert ranks(found, larger=False)["a"] == 2.0


def test_a_method_is_not_ranked_beside_itself():
    found = {"x": {"a, 60 s": 0.9, "a, 10 s": 0.95, "b": 0.8, "b, searched, 60 s": 0.93}}
    assert ranks(found, larger=True) == {"a, 60 s": 2.0, "a, 10 s": 1.0, "b": 3.0, "b, searched, 60 s": 1.0}


def test_what_was_measured_was_not_tuned_on():
    sources = [{(each.package, each.item) for each in tables.values()} for tables in (TABLES, DEVELOPMENT)]
    assert not sources[0] & sources[1] and not TABLES.keys() & DEVELOPMENT.keys()


def test_two_states_are_compared_by_the_ratio_of_their_losses():
    before = {"a 0": {"r2": 0.8}, "b 0": {"log_loss": 0.5, "accuracy": 0.7}, "c 0": {"r2": 0.9}}
    after = {"a 0": {"r2": 0.9}, "b 0": {"log_loss": 0.6, "accuracy": 0.75}}
    lines = compare(before, after).splitlines()
    assert lines[0].split() == ["a", "0", "0.20000", "0.10000", "0.500"] and "0.7000 0.7500" in lines[1]
    assert lines[2:] == ["values: 0.500 of 1", "classes: 1.200 of 1"]


def test_the_page_shows_what_was_measured():
    from benchmarks.quality.__main__ import JSON

    whole = json.loads(JSON.read_text())
    page = PAGE.read_text("utf-8")
    assert section(whole) in page and facts(whole) in page
    assert {each["table"] for each in whole["results"]} <= set(TABLES)
