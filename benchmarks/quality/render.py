"""Tables of quality for docs/search.md, drawn from results/quality.json."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.common import ROOT
from benchmarks.quality.tables import TABLES
from benchmarks.render_grid import table as markdown
from benchmarks.rendering import between_markers

# Seconds, for methods that take a time.
USUAL_BUDGET = 60.0
PAGE = ROOT / "docs" / "search.md"
# By metric: its title, whether larger is better, and how it is written.
METRICS = {
    "r2": ("R²", True, "{:.3f}"),
    "accuracy": ("accuracy", True, "{:.3f}"),
    "log_loss": ("log loss", False, "{:.3f}"),
}


def label(record: dict[str, Any]) -> str:
    return record["method"] + (f", {record['budget']:g} s" if record["budget"] else "")


def means(results: list[dict[str, Any]], metric: str) -> dict[str, dict[str, float]]:
    """By table and method the mean over splits, of splits that every method of the table has."""
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in results:
        if metric in record:
            values[record["table"]][label(record)][record["split"]] = record[metric]
    found = {}
    for name, by_method in values.items():
        splits = set.intersection(*(set(each) for each in by_method.values()))
        if splits:
            found[name] = {m: float(np.mean([each[s] for s in sorted(splits)])) for m, each in by_method.items()}
    return {name: found[name] for name in TABLES if name in found}


def ranks(found: dict[str, dict[str, float]], larger: bool) -> dict[str, float]:
    """The mean rank of each method that every table has; equal values share a rank.

    A method with another budget is ranked in the place of the method itself, not beside it.
    """
    methods = set.intersection(*(set(each) for each in found.values())) if found else set()
    total: dict[str, list[float]] = {method: [] for method in methods}
    for each in found.values():
        for method in methods:
            others = [o for o in methods if _name(o) != _name(method) and _is_usual(o)]
            better = sum((each[o] > each[method]) if larger else (each[o] < each[method]) for o in others)
            equal = sum(each[o] == each[method] for o in others)
            total[method].append(1.0 + better + equal / 2.0)
    return {method: float(np.mean(values)) for method, values in total.items()}


def _name(label: str) -> str:
    return label.partition(", ")[0]


def _is_usual(label: str) -> bool:
    """Whether it has the usual budget, or takes none."""
    return label == _name(label) or label.endswith(f", {USUAL_BUDGET:g} s")


def section(whole: dict[str, Any]) -> str:
    """The tables in Markdown: one for each metric, methods by mean rank."""
    parts = []
    for metric, (title, larger, form) in METRICS.items():
        found = means(whole["results"], metric)
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


def facts(whole: dict[str, Any]) -> str:
    results = whole["results"]
    splits = {record["split"] for record in results}
    failed = [record for record in results if "failed" in record]
    own: dict[str, list[float]] = defaultdict(list)
    for record in results:
        if "seconds" in record and not record["budget"]:
            own[record["method"]].append(record["seconds"])
    took = ", ".join(f"{method} {min(each):.1f} to {max(each):.0f} s" for method, each in own.items())
    text = f"Means of {len(splits)} split{'s' * (len(splits) > 1)}, a quarter of the rows for testing. "
    text += (
        f"Ranks are among methods with {USUAL_BUDGET:g} s, or their own time; one with another time takes its place. "
    )
    text += f"Methods without a budget took their own time: {took}. " if took else ""
    text += f"{len(failed)} fits failed. " if failed else ""
    where = whole["machine"]
    return text + f"Measured on {where['date']}: {where['processor']}, {where['cores']} cores."


def write_page(whole: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between_markers(text, "quality", f"{section(whole)}\n\n{facts(whole)}"), encoding="utf-8")
