"""Tables of quality for docs/search.md, drawn from results/quality.json."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from benchmarks.common import ROOT
from benchmarks.quality.tables import TABLES
from benchmarks.render_grid import table as markdown
from benchmarks.rendering import between_markers

# Seconds, for methods that take a time.
SHORT_BUDGET, USUAL_BUDGET, LONG_BUDGET = 10.0, 60.0, 300.0
# A method that has this share of the tables is compared on those that it has.
_FEWER = 0.4
PAGE = ROOT / "docs" / "search.md"
# By metric: its title, whether larger is better, and how it is written.
METRICS = {
    "r2": ("R²", True, "{:.3f}"),
    "accuracy": ("accuracy", True, "{:.3f}"),
    "log_loss": ("log loss", False, "{:.3f}"),
}


def label(record: dict[str, Any]) -> str:
    return record["method"] + (f", {record['budget']:g} s" if record["budget"] else "")


def means(
    results: list[dict[str, Any]], metric: str, methods: Iterable[str], splits: Collection[int]
) -> dict[str, dict[str, float]]:
    """By table and method the mean over these splits, of tables that every method has in all of them."""
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in results:
        if metric in record and record["split"] in splits:
            values[record["table"]][label(record)][record["split"]] = record[metric]
    found = {}
    for name in TABLES:
        whole = {m: list(each.values()) for m, each in values[name].items() if len(each) == len(splits)}
        if methods and set(methods) <= whole.keys():
            found[name] = {m: float(np.mean(whole[m])) for m in methods}
    return found


def compared(
    results: list[dict[str, Any]], splits: Collection[int], budgets: Collection[float], least: float = 2 / 3
) -> list[str]:
    """Return the methods, with one of these budgets or their own time, that have most of what any of them has.

    So a method that is too slow for the largest tables does not leave them out for all, but is left out itself if it
    has less than a share (least) of them.
    """
    counts: dict[str, int] = defaultdict(int)
    for record in results:
        if (
            "failed" not in record
            and record["split"] in splits
            and (not record["budget"] or record["budget"] in budgets)
        ):
            counts[label(record)] += 1
    most = max(counts.values(), default=0)
    return [method for method, count in counts.items() if count >= least * most]


def ranks(found: dict[str, dict[str, float]], larger: bool) -> dict[str, float]:
    """The mean rank of each method that every table has; equal values share a rank.

    Where a method has several budgets, it is ranked with the largest among the others, and with another in its place.
    """
    methods = set.intersection(*(set(each) for each in found.values())) if found else set()
    largest = {_name(m): max(methods, key=lambda o: (_name(o) == _name(m), _budget(o) or 0.0)) for m in methods}
    total: dict[str, list[float]] = {method: [] for method in methods}
    for each in found.values():
        for method in methods:
            others = [o for name, o in largest.items() if name != _name(method)]
            better = sum((each[o] > each[method]) if larger else (each[o] < each[method]) for o in others)
            equal = sum(each[o] == each[method] for o in others)
            total[method].append(1.0 + better + equal / 2.0)
    return {method: float(np.mean(values)) for method, values in total.items()}


_BUDGET = re.compile(r", ([0-9.]+) s$")


def _name(label: str) -> str:
    """The method of a label."""
    return _BUDGET.sub("", label)


def _budget(label: str) -> float | None:
    found = _BUDGET.search(label)
    return None if found is None else float(found[1])


def tables(
    results: list[dict[str, Any]], splits: Collection[int], budgets: Collection[float], least: float = 2 / 3
) -> str:
    """The tables of a comparison in Markdown: one for each metric, methods by mean rank. least: as for `compared`."""
    parts = []
    chosen = compared(results, splits, budgets, least)
    for metric, (title, larger, form) in METRICS.items():
        found = means(results, metric, chosen, splits)
        rank = ranks(found, larger)
        methods = sorted(rank, key=lambda m: (rank[m], m))
        best = {name: (max if larger else min)(each[m] for m in methods) for name, each in found.items()}
        rows = []
        for method in methods:
            cells = [
                f"**{form.format(each[method])}**" if each[method] == best[name] else form.format(each[method])
                for name, each in found.items()
            ]
            rows.append([f"**{method}**" if method.startswith("pmlp") else method, f"{rank[method]:.1f}", *cells])
        if rows:
            parts.append(markdown([title, "mean rank", *found], rows))
    return "\n\n".join(parts)


def section(whole: dict[str, Any]) -> str:
    """All comparisons in Markdown: of more methods on one split, and of fewer on all."""
    results = whole["results"]
    splits = sorted({record["split"] for record in results})
    parts = [f"**One split**:\n\n{tables(results, splits[:1], (SHORT_BUDGET, USUAL_BUDGET))}"]
    usual = results, splits[:1], (USUAL_BUDGET,)
    more = sorted({*compared(*usual, _FEWER)} - {*compared(*usual)})
    if more:
        parts.append(f"**With {' and '.join(more)}**, on fewer tables:\n\n{tables(*usual, _FEWER)}")
    if len(splits) > 1:
        words = f"**Means of {len(splits)} splits**, methods that were measured on them:"
        parts.append(f"{words}\n\n{tables(results, splits, (USUAL_BUDGET,))}")
    long = {record["table"] for record in results if record["budget"] == LONG_BUDGET}
    if long:
        some = [record for record in results if record["table"] in long]
        found = tables(some, splits[:1], (USUAL_BUDGET, LONG_BUDGET))
        parts.append(f"**{LONG_BUDGET:g} seconds**, beside {USUAL_BUDGET:g}:\n\n{found}")
    return "\n\n".join(parts)


def facts(whole: dict[str, Any]) -> str:
    results = whole["results"]
    failed = sorted({f"{r['method']} on {r['table']} ({r['failed']})" for r in results if "failed" in r})
    took: dict[str, list[float]] = defaultdict(list)
    for record in results:
        if "seconds" in record and record["budget"] in (None, USUAL_BUDGET):
            took[label(record)].append(record["seconds"])
    times = ", ".join(f"{method} {min(each):.1f} to {max(each):.0f} s" for method, each in took.items())
    text = "A quarter of the rows is for testing. Tables are those that all methods of a comparison have. "
    text += (
        f"Ranks are among methods with {USUAL_BUDGET:g} s or their own time; one with another time takes its place. "
    )
    text += f"Fits took: {times}. "
    text += f"Failed: {'; '.join(failed)}. " if failed else ""
    where = whole["machine"]
    return text + f"Measured on {where['date'][:10]}: {where['processor']}, {where['cores']} cores."


def write_page(whole: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between_markers(text, "quality", f"{section(whole)}\n\n{facts(whole)}"), encoding="utf-8")
