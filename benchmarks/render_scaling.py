"""Write docs/scaling.md's tables and its pictures from its files of results.

python -m benchmarks.render_scaling            # after a new measurement
python -m benchmarks.render_scaling --check    # writes nothing; fails where the page or a picture is out of date
"""

import argparse
import json
import sys
from typing import Any

from benchmarks.common import RESULTS, ROOT
from benchmarks.rendering import between_markers, count, is_drawn_from, percent, seconds, source, times

PAGE = ROOT / "docs" / "scaling.md"
IMAGES = ROOT / "docs" / "images"
# Sections of the page, each from one file of results.
SOURCES = {name: RESULTS / f"{name}.json" for name in ("scaling", "inference", "start_up", "encoded_columns")}
PICTURES = {"scaling": IMAGES / "scaling.png", "inference": IMAGES / "inference.png"}
# Cores that other programs may have kept busy without a word about it.
QUIET_CORES = 0.1

DIFFERS = "does not count: outputs differ"

LIBRARY = {"numpy", "numba"}
OTHER_PACKAGES = {"torch", "scikit-learn", "onnxruntime"}
TITLES = {name: name.capitalize() for name in ("members", "rows", "threads", "depth", "outputs", "width", "memory")}
TITLES |= {"inference": "Predictions", "start_up": "Start-up", "encoded_columns": "Encoded columns"}

OTHERS = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch", "sklearn": "scikit-learn"}

Results = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def time_of_one(ns: float) -> str:
    """Nanoseconds in words."""
    return f"{ns / 1000:,.3g} µs" if ns >= 1000 else f"{ns:.3g} ns"


def short_seconds(value: float) -> str:
    return f"{1e6 * value:.3g} µs" if value < 1e-3 else seconds(value)


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def spread_of_times(cells: list[Results]) -> float:
    """How much longer the slowest takes per member and row than the fastest, as a fraction."""
    found = [cell["ns_per_member_sample"] for cell in cells]
    return max(found) / min(found) - 1


def busy_note(cells: list[Results]) -> str:
    busy = max((cell.get("cores_busy_with_other_work", 0.0) for cell in cells), default=0.0)
    return f"\n\nOther programs kept up to {busy:.1f} cores busy meanwhile." if busy > QUIET_CORES else ""


def render_members(cells: list[Results]) -> str:
    rows = [[count(c["n_members"]), count(c["n_rows"]), seconds(c["median"] / c["epochs"]),
             time_of_one(c["ns_per_member_sample"])] for c in cells]  # fmt: skip
    note = f"From the fastest to the slowest: {percent(spread_of_times(cells))}."
    return table(["members", "rows", "an epoch", "per member and row"], rows) + f"\n\n{note}"


def render_rows(cells: list[Results]) -> str:
    by_size: dict[int, dict[str, Results]] = {}
    for cell in cells:
        by_size.setdefault(cell["n_rows"], {})[cell["shuffle"] or "none"] = cell
    rows = [[count(n), time_of_one(found["none"]["ns_per_member_sample"]),
             time_of_one(found["shared"]["ns_per_member_sample"])] for n, found in by_size.items()]  # fmt: skip
    return table(["rows", "as they lie", "shuffled each epoch"], rows)


def render_threads(cells: list[Results]) -> str:
    one = cells[0]["median"]
    rows = [[str(c["n_threads"]), seconds(c["median"]), times(one / c["median"])] for c in cells]
    return table(["threads", "an epoch of 10,000 members", "as fast as one"], rows)


def _beside_limit(cells: list[Results], name: str, title: str) -> str:
    rows = [[str(c[name]), time_of_one(c["ns_per_member_sample"]), time_of_one(c["limit_ns_per_member_sample"]),
             percent(c["limit_ns_per_member_sample"] / c["ns_per_member_sample"])] for c in cells]  # fmt: skip
    return table([title, "per member and row", "the machine's limit", "of the limit"], rows)


def render_depth(cells: list[Results]) -> str:
    return _beside_limit(cells, "depth", "hidden layers")


def render_outputs(cells: list[Results]) -> str:
    return _beside_limit(cells, "n_outputs", "outputs")


def render_width(cells: list[Results]) -> str:
    sizes = sorted({c["n_members"] for c in cells})
    rows = []
    for width in sorted({c["width"] for c in cells}):
        found = {c["n_members"]: c for c in cells if c["width"] == width}
        rows.append([count(width), *(
            f"{found[n]['gflops']:,.0f} ({percent(found[n]['gflops'] / found[n]['peak_gflops'])})" if n in found else ""
            for n in sizes
        )])  # fmt: skip
    return table(["width", *(f"GFLOP/s, {n} member{'s' * (n != 1)} (of the peak)" for n in sizes)], rows)


def memory_case(settings: Results) -> str:
    words = [f"{count(settings['n_members'])} members", f"{settings['n_features']} features",
             f"{count(settings['n_rows'])} rows", settings["optimizer"]]  # fmt: skip
    if settings["early_stopping"]:
        words.append("early stopping")
    if settings["data"] != "float32":
        words.append(f"{settings['data']} data")
    return ", ".join(words)


def render_memory(cells: list[Results]) -> str:
    rows = []
    for cell in cells:
        rest = (cell["above_process"] - cell["promised_bytes"]) / cell["settings"]["n_members"]
        sizes = (cell["peak_bytes"], cell["above_process"], cell["promised_bytes"])
        rows.append([memory_case(cell["settings"]), *map(megabytes, sizes), f"{rest:,.0f} bytes"])
    head = ["fit", "peak", "above a small fit", "parameters, slots, data, ...", "the rest, per member"]
    return table(head, rows)


RENDERERS = {
    "members": render_members,
    "rows": render_rows,
    "threads": render_threads,
    "depth": render_depth,
    "outputs": render_outputs,
    "width": render_width,
    "memory": render_memory,
}


def render_inference(results: Results) -> str:
    cells = results["cells"]
    head = ["", *(f"{c['n_features']} features, {count(c['n_rows'])} row{'s' * (c['n_rows'] != 1)}" for c in cells)]
    rows = []
    for name, title in (
        ("pool", f"**pool.predict, {count(cells[0]['n_members'])} members**"),
        ("mean", "**their mean**"),
        ("ten", "**a pool of ten**"),
        ("one", "**a pool of one**"),
        ("mlp", "**an extracted pm.MLP**"),
    ):
        rows.append([title, *(own_time(c, name) for c in cells)])
    for name, title in OTHERS.items():
        rows.append([f"{title}, one model", *(other_time(c, name) for c in cells)])
    for name, title in (("pool", "all members"), ("ten", "ten"), ("one", "one")):
        rows.append([f"{title}: as fast as the best of them", *(times(c["times_as_fast"][name]) for c in cells)])
    return table(head, rows)


def own_time(cell: Results, name: str) -> str:
    return short_seconds(cell["own"]["seconds"][name]) if cell["own"]["agrees"][name] else DIFFERS


def other_time(cell: Results, name: str) -> str:
    if name not in cell["others"]:
        return "not measured"
    entry = cell["others"][name]
    return short_seconds(entry["seconds_of_one"]) if entry["agrees"] else DIFFERS


def render_start_up(results: Results) -> str:
    steps = [name for name in results["warm"] if name not in ("second fit", "total")]
    rows = [[step, *(seconds(results[cache][step]["median"]) for cache in ("cold", "warm"))] for step in steps]
    rows.append(["**from the start to a fitted pool**",
                 *(f"**{seconds(results[cache]['total']['median'])}**" for cache in ("cold", "warm"))])  # fmt: skip
    paper = results["paper_pool"]
    notes = [
        f"- All ten activations of the paper's pool compile in {seconds(paper['compile_seconds']['median'])}, once; "
        f"from then on they load in {seconds(paper['load_seconds']['median'])}. They take "
        f"{paper['cache_bytes'] / 1e6:.1f} MB on disk.",
        f"- `import pmlp_np` takes {1000 * results['import_seconds']['median']:.0f} ms more than `import numpy`.",
    ]
    return "\n".join([table(["", "empty cache", "full cache"], rows), "", *notes])


def render_encoded_columns(results: Results) -> str:
    head = ["", "plain columns alone", "all inputs", "encoded", "times as fast"]
    return table(head, [
        [case["case"], *(short_seconds(case[name]["median"]) for name in ("plain", "inputs", "encoded")),
         times(case["gain"]["median"])]
        for case in results["cases"]
    ])  # fmt: skip


def sections(results: dict[str, Results]) -> dict[str, str]:
    """The text of every pair of markers on the page, by name."""
    found = {}
    for name, part in results["scaling"]["parts"].items():
        found[name] = RENDERERS[name](part["cells"]) + busy_note(part["cells"])
    found["inference"] = render_inference(results["inference"]) + busy_note(results["inference"]["cells"])
    found["start_up"] = render_start_up(results["start_up"])
    found["encoded_columns"] = render_encoded_columns(results["encoded_columns"])
    return found | {"sources": render_sources(results)}


def render_sources(results: dict[str, Results]) -> str:
    """Where and when each section was measured; sections that agree share a line."""
    machines = {name: part["machine"] for name, part in results["scaling"]["parts"].items()}
    machines |= {name: results[name]["machine"] for name in ("inference", "start_up", "encoded_columns")}
    titles: dict[str, list[str]] = {}
    for name, machine in machines.items():
        used = {*LIBRARY, *OTHER_PACKAGES} if name == "inference" else LIBRARY
        versions = {package: version for package, version in machine["versions"].items() if package in used}
        titles.setdefault(source(machine | {"versions": versions}), []).append(TITLES[name])
    return "\n".join(f"- {', '.join(names)}. {sentence}" for sentence, names in titles.items())


def with_results(page: str, results: dict[str, Results]) -> str:
    for name, text in sections(results).items():
        page = between_markers(page, name, text)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    options = parser.parse_args()
    results = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_results(page, results)
    if options.check:
        late = [path for name, path in PICTURES.items() if not is_drawn_from(path, SOURCES[name])]
        late += [PAGE] if page != wanted else []
        names = ", ".join(str(path.relative_to(ROOT)) for path in late)
        sys.exit(f"out of date: {names}: run python -m benchmarks.render_scaling" if late else None)
    PAGE.write_text(wanted, encoding="utf-8")
    # Imported late: checking needs no Matplotlib.
    from benchmarks.scaling_pictures import draw_inference, draw_scaling

    IMAGES.mkdir(exist_ok=True)
    draw_scaling(results["scaling"]["parts"], PICTURES["scaling"], SOURCES["scaling"])
    draw_inference(results["inference"], PICTURES["inference"], SOURCES["inference"])


if __name__ == "__main__":
    main()
