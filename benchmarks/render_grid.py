"""Write the figures of results/paper_grid.json into docs/benchmarks.md and README.md, and draw their pictures.

python -m benchmarks.render_grid            # after a new measurement
python -m benchmarks.render_grid --check    # writes nothing; fails where a page or a picture says something else
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, Cell
from benchmarks.grid_cells import BATCHES, CELLS, EXTRA_CELLS, FEATURES, ROWS, paper_seconds
from benchmarks.grid_figures import PEERS, best_ratio, entries, geometric_mean, ratio_of, time_of
from benchmarks.limit import fastest
from benchmarks.peers import LIBRARY, METHODS
from benchmarks.rendering import between_markers, count, is_drawn_from, percent, seconds, source, times

JSON = RESULTS / "paper_grid.json"
README, PAGE = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
PICTURES = {name: ROOT / "docs" / "images" / f"{name}.png" for name in ("paper_grid", "paper_grid_limit")}

README_CELLS = [Cell(10, 32, 1000, 0), Cell(100, 32, 1000, 0), Cell(100, 256, 1000, 0)]
# What others may have taken from the processor without a word about it.
QUIET_CORES = 0.1
DIFFERS = "losses differ"


def measured_methods(found: list[dict[str, Any]]) -> list[str]:
    return [name for name in METHODS if any(name in entry["methods"] for entry in found)]


# Tables


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Markdown; the first `left` columns to the left, numbers to the right."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *rows])


def shown(entry: dict[str, Any], method: str) -> str:
    """Seconds, and how many times the library's."""
    if method not in entry["methods"]:
        return "–"
    time = time_of(entry, method)
    if time is None:
        return DIFFERS
    if method == LIBRARY:
        return f"**{seconds(time)}**"
    ratio = ratio_of(entry, method)
    return seconds(time) + (f" ({times(ratio)})" if ratio else "")


def title(method: str) -> str:
    return f"**{METHODS[method].title}**" if method == LIBRARY else METHODS[method].title


def cell_table(found: list[dict[str, Any]]) -> str:
    methods = measured_methods(found)
    rows = []
    for entry in found:
        cell = entry["cell"]
        place = [count(cell["n_rows"]), str(cell["n_features"]), str(cell["batch_size"])]
        rows.append([*place, *(shown(entry, method) for method in methods)])
    return table(["rows", "features", "batch", *map(title, methods)], rows, left=0)


def extra_table(found: list[dict[str, Any]]) -> str:
    methods = measured_methods(found)
    rows = []
    for entry in found:
        cell = Cell(**entry["cell"])
        what = [f"{cell.n_outputs} outputs"] * (cell.n_outputs > 1) + [f"{cell.depth} hidden layers"] * (cell.depth > 1)
        what += ["Adam"] * (cell.optimizer == "adam")
        fraction = percent(entry["limit_fraction"]["true_widths"])
        place = [", ".join(what), str(cell.n_features), str(cell.batch_size)]
        rows.append([*place, *(shown(entry, method) for method in methods), fraction])
    return table(["", "features", "batch", *map(title, methods), "of the limit"], rows)


def summary_rows(found: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Of each peer, and of the fastest one: the geometric mean, the least and the most of its ratio over the cells."""
    kinds: list[tuple[str, Callable[[dict[str, Any]], float | None]]] = [("the fastest peer of each cell", best_ratio)]
    kinds += [(METHODS[name].title, partial(ratio_of, method=name)) for name in PEERS]
    for name, ratio in kinds:
        ratios = {entry["name"]: r for entry in found if (r := ratio(entry)) is not None}
        if not ratios:
            continue
        low, high = min(ratios, key=lambda n: ratios[n]), max(ratios, key=lambda n: ratios[n])
        ends = [f"{times(ratios[end])} ({end})" for end in (low, high)]
        yield [name, f"**{times(geometric_mean(list(ratios.values())))}**", *ends, str(len(ratios))]


def summary(results: dict[str, Any]) -> str:
    found = entries(results)
    head = ["how many times pmlp_np's time", "geometric mean", "least", "most", "cells"]
    return f"{coverage(results)}\n\n{table(head, list(summary_rows(found)))}"


def coverage(results: dict[str, Any]) -> str:
    n = len(entries(results))
    text = f"Measured: {n} of {len(CELLS)} cells, and {len(entries(results, True))} of {len(EXTRA_CELLS)} further ones."
    return text + (" The grid is not complete yet." if n < len(CELLS) else "")


def limit_table(found: list[dict[str, Any]]) -> str:
    """Cells as features and batch down, rows across: the fraction with true widths, and with rounded ones."""
    by_place = {tuple(entry["cell"][k] for k in ("n_features", "batch_size", "n_rows")): entry for entry in found}

    def fraction(place: tuple[int, int, int]) -> str:
        if place not in by_place:
            return "–"
        reached = by_place[place]["limit_fraction"]
        return f"{percent(reached['true_widths'])} ({percent(reached['rounded_widths'])})"

    rows = [
        [str(f), str(b), *(fraction((f, b, n)) for n in ROWS)]
        for f in FEATURES
        for b in BATCHES
        if any((f, b, n) in by_place for n in ROWS)
    ]
    return table(["features", "batch", *(f"{count(n)} rows" for n in ROWS)], rows, left=0)


def limit_text(results: dict[str, Any]) -> str:
    limits = results["limits"]
    rates, best = [found["multiply_add_gflops"] for found in limits], fastest(limits)
    words = ", ".join(f"{name} {nanoseconds:.2f}" for name, nanoseconds in best["activation_ns"].items())
    return "\n\n".join(
        [
            limit_table(entries(results)),
            f"What bounds them is the best of {len(limits)} measurements during the run (other work on a machine only"
            f" ever makes it look slower): {max(rates):,.0f} billion operations per second by multiply-adds on"
            f" {limits[0]['n_threads']} cores (the least seen: {min(rates):,.0f}); "
            f"nanoseconds per element of an activation and its derivative, on one core: {words}.",
        ]
    )


def paper_table(found: list[dict[str, Any]]) -> str:
    theirs = paper_seconds()
    kinds = [("cpu", "parallel"), ("cpu", "sequential"), ("cuda", "parallel"), ("cuda", "sequential")]
    rows = []
    for entry in found:
        cell = entry["cell"]
        place = cell["n_rows"], cell["n_features"], cell["batch_size"]
        published = [theirs.get((*kind, *place)) for kind in kinds]
        told = ["–" if value is None else seconds(value) for value in published]
        rows.append([count(place[0]), *map(str, place[1:]), *told, shown(entry, LIBRARY)])
    published_heads = ["fused, CPU", "one by one, CPU", "fused, GPU", "one by one, GPU"]
    return table(["rows", "features", "batch", *published_heads, "pmlp_np, here"], rows, left=0)


def footnote(results: dict[str, Any]) -> str:
    """What was estimated from less than an epoch of the pool."""
    parts: dict[str, list[str]] = {}  # methods by what is said of them
    for method in measured_methods(results["cells"]):
        records = [(e["cell"]["n_rows"], r) for e in results["cells"] if (r := e["methods"].get(method))]
        members = {r["timed_members"] for _, r in records}
        fewer = {(r["timed_rows"], n) for n, r in records if r["timed_rows"] < n}
        what = [f"{count(min(members))} of the {count(results['cells'][0]['n_members'])} members"] * (
            METHODS[method].one_after_another
        )
        what += [f"the first {count(rows)} of {count(n)} rows" for rows, n in sorted(fewer)]
        if what:
            parts.setdefault(", ".join(what), []).append(METHODS[method].short)
    told = "; ".join(f"{', '.join(methods)}: {what}" for what, methods in parts.items())
    note = f"Timed on less, and multiplied up: {told}. " if told else ""
    if any("sklearn" in entry["methods"] for entry in results["cells"]):
        n = len(METHODS["sklearn"].activations)
        note += f"scikit-learn has {n} of the ten activations: the others are taken to cost the same, and it is left "
        note += "out of the fastest peers. "
    return note.strip()


def sample_note(results: dict[str, Any]) -> str:
    """The short form, for the README."""
    found = {
        method: min(e["methods"][method]["timed_members"] for e in results["cells"] if method in e["methods"])
        for method in measured_methods(results["cells"])
        if METHODS[method].one_after_another
    }
    told = ", ".join(f"{METHODS[method].short} {n}" for method, n in found.items())
    return f"Methods that train one after another are estimated from a sample of members ({told}). " if told else ""


def disturbances(results: dict[str, Any]) -> str:
    notes = ["A time counts only where the losses agree with pmlp_np's."]
    busy = {
        entry["name"]: max(method["cores_busy_with_other_work"] for method in entry["methods"].values())
        for entry in results["cells"]
    }
    loud = [name for name, cores in busy.items() if cores > QUIET_CORES]
    if loud:
        most = max(busy.values())
        notes.append(f"Other programs kept up to {most:.1f} cores busy meanwhile, in {len(loud)} of {len(busy)} cells.")
    if results["quick"]:
        notes.append("A quick run, with few repeats.")
    return " ".join(notes)


# Pages


def readme_block(results: dict[str, Any]) -> str:
    by_name = {entry["name"]: entry for entry in entries(results)}
    chosen = [by_name[cell.name()] for cell in README_CELLS if cell.name() in by_name] or list(by_name.values())[:1]
    found = list(by_name.values())
    head = [f"{e['cell']['n_features']} features, batch {e['cell']['batch_size']}" for e in chosen]
    rows = []
    for method in measured_methods(chosen):
        ratios = [r for entry in found if (r := ratio_of(entry, method)) is not None]
        mean = times(geometric_mean(ratios)) if ratios and method != LIBRARY else ""
        rows.append([title(method), *(shown(entry, method) for entry in chosen), mean])
    n_rows = sorted({entry["cell"]["n_rows"] for entry in chosen})
    return "\n".join(
        [
            f"Seconds to train {count(chosen[0]['n_members'])} members (the paper's pool: one hidden layer of 1 to 100 "
            "units, ten activations, ten repeats; one output, squared error, plain SGD, float32) for one epoch of "
            f"{' or '.join(map(count, n_rows))} rows. In brackets: how many times as long as pmlp_np's. Last column: "
            f"the geometric mean of that over {len(found)} of {len(CELLS)} cells ({count(ROWS[0])} to "
            f"{count(ROWS[-1])} rows, {FEATURES[0]} to {FEATURES[-1]} features, batches of {BATCHES[0]} to "
            f"{BATCHES[-1]}).",
            "",
            table(["", *head, "mean"], rows),
            "",
            *best_line(found),
            f"{sample_note(results)}{disturbances(results)}",
            "",
            f"{source(results['machine'])} Every cell, how it is measured, and what the machine could do at most: "
            "[Benchmarks](docs/benchmarks.md).",
        ]
    )


def best_line(found: list[dict[str, Any]]) -> list[str]:
    ratios = [r for entry in found if (r := best_ratio(entry)) is not None]
    if not ratios:
        return []
    return [
        f"Beside the fastest peer of each cell: {times(geometric_mean(ratios))} as fast (geometric mean), and at least "
        f"{times(min(ratios))}.",
        "",
    ]


def page_blocks(results: dict[str, Any]) -> dict[str, str]:
    """The text between each pair of markers of docs/benchmarks.md."""
    grid, extra = entries(results), entries(results, extra=True)
    return {
        "grid-summary": summary(results),
        "grid-cells": "\n\n".join([cell_table(grid), footnote(results)]),
        "grid-extra": extra_table(extra) if extra else "Not measured yet.",
        "grid-limit": limit_text(results),
        "grid-paper": paper_table(grid),
        "grid-source": f"{source(results['machine'])} {disturbances(results)}",
    }


def with_figures(page: str, blocks: dict[str, str]) -> str:
    for name, text in blocks.items():
        page = between_markers(page, name, text)
    return page


def wanted_pages(results: dict[str, Any]) -> dict[Path, str]:
    return {
        README: with_figures(README.read_text(encoding="utf-8"), {"paper-grid": readme_block(results)}),
        PAGE: with_figures(PAGE.read_text(encoding="utf-8"), page_blocks(results)),
    }


def out_of_date(results: dict[str, Any]) -> list[str]:
    """Files that say something else than the results."""
    pages = [path for path, text in wanted_pages(results).items() if path.read_text(encoding="utf-8") != text]
    pictures = [path for path in PICTURES.values() if not path.exists() or not is_drawn_from(path, JSON)]
    return [path.relative_to(ROOT).as_posix() for path in pages + pictures]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    options = parser.parse_args()
    results = json.loads(JSON.read_text(encoding="utf-8"))
    if options.check:
        old = out_of_date(results)
        sys.exit(f"out of date: {', '.join(old)}; run python -m benchmarks.render_grid" if old else None)
    for path, text in wanted_pages(results).items():
        path.write_text(text, encoding="utf-8")
    from benchmarks.grid_pictures import draw  # needs Matplotlib, which the pages don't

    draw(results, PICTURES, JSON)


if __name__ == "__main__":
    main()
