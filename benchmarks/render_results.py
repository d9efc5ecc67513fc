"""Write the figures of results/core_speed.json into README.md, between its two markers.

python -m benchmarks.render_results            # after a new measurement
python -m benchmarks.render_results --check    # writes nothing; fails where README.md says something else
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "benchmarks" / "results" / "core_speed.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- core-speed:begin -->", "<!-- core-speed:end -->"

METHODS = {
    "library": "**pmlp_np**",
    "pytorch_fused": "the paper's fused pool, in PyTorch",
    "pytorch_sequential": "PyTorch models, one after another",
    "prototype": "the rough prototype that pmlp_np grew from",
}
# What others may have taken from the processor without a word about it.
QUIET_CORES = 0.1


def render(results: dict[str, Any]) -> str:
    """The text between the markers."""
    cells = results["cells"]
    head = [f"{n(cell['cell']['n_features'])} features" for cell in cells]
    lines = [intro(cells), "", f"| | {' | '.join(head)} |", f"|---|{'---:|' * len(cells)}"]
    for name, title in METHODS.items():
        if any(name in cell["epoch_seconds"] for cell in cells):
            lines.append(f"| {title} | {' | '.join(epoch(cell, name) for cell in cells)} |")
    if any(cell["threads"] for cell in cells):
        lines.append(f"| pmlp_np with two threads instead of one | {' | '.join(two_threads(cell) for cell in cells)} |")
    return "\n".join([*lines, "", *costs(results), "", source(results)])


def intro(cells: list[dict[str, Any]]) -> str:
    cell = cells[0]["cell"]
    note = sequential_note(cells)
    return (
        f"Seconds to train {n(cells[0]['n_members'])} members (one hidden layer of 1 to 100 units, ten activations, "
        f"ten repeats; one output, squared error, plain SGD, float32) for one epoch of {n(cell['n_rows'])} rows in "
        f"minibatches of {cell['batch_size']}: medians, and in brackets how many times as long as pmlp_np's.{note}"
    )


def sequential_note(cells: list[dict[str, Any]]) -> str:
    notes = [cell["epoch_seconds"].get("pytorch_sequential") for cell in cells]
    sizes = {note["extrapolated"].split(" ")[0] for note in notes if note}
    return f" Models one after another: estimated from {' and '.join(sorted(sizes))} of them." if sizes else ""


def epoch(cell: dict[str, Any], name: str) -> str:
    if name not in cell["epoch_seconds"]:
        return "not measured"
    if not cell["agreement_with_library"][name]["agrees"]:
        return "does not count: its losses differ"
    entry = cell["epoch_seconds"][name]
    threads = f"{entry['n_threads']} thread{'s' * (entry['n_threads'] != 1)}"
    if name == "library":
        return f"**{seconds(entry['median'])}**, {threads}"
    return f"{seconds(entry['median'])}, {threads} ({times(cell['times_as_fast'][name])})"


def two_threads(cell: dict[str, Any]) -> str:
    return f"{times(cell['threads']['times_as_fast'])} as fast" if cell["threads"] else "not measured"


def costs(results: dict[str, Any]) -> list[str]:
    memory, compilation = results["memory"], results["first_fit"]["compile_seconds"]
    peak, parameters = memory["peak_bytes"], memory["n_parameters"]
    return [
        f"- Peak memory of a process that fits these members at 100 features: {peak / 1e6:,.0f} MB, of which the "
        f"{n(parameters)} parameters are {4 * parameters / 1e6:,.0f} MB.",
        f"- The first float32 fit compiles for {seconds(compilation)}, once; the code is kept.",
        f"- `import pmlp_np` takes {1000 * results['import_seconds']['median']:.0f} ms more than `import numpy`.",
    ]


def source(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["machine"]["versions"]
    names = {"numpy": "NumPy", "numba": "Numba", "torch": "PyTorch"}
    software = ", ".join(f"{title} {versions[name]}" for name, title in names.items() if versions.get(name))
    busy = max(cell["cores_busy_with_other_work"] for cell in results["cells"])
    notes = [
        f"Measured on {machine['date'][:10]}: {machine['processor']}, {machine['cores']} cores; "
        f"Python {machine['python']}, {software}.",
        "A time counts only where the losses after an epoch agree.",
    ]
    if busy > QUIET_CORES:
        notes.append(f"Other programs kept up to {busy:.1f} cores busy meanwhile.")
    if results["quick"]:
        notes.append("A quick run, with few repeats.")
    notes.append("All numbers: [core_speed.json](benchmarks/results/core_speed.json).")
    notes.append("How: [benchmarks](benchmarks/README.md).")
    return " ".join(notes)


def n(number: int) -> str:
    return f"{number:,}"


def seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1.95 else f"{ratio:.2f}×"


def with_figures(page: str, figures: str) -> str:
    """The page with the figures between its markers."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise ValueError(f"expected {BEGIN} and then {END} in the page, each once")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{figures}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether README.md is up to date")
    options = parser.parse_args()
    page = README.read_text(encoding="utf-8")
    wanted = with_figures(page, render(json.loads(JSON.read_text(encoding="utf-8"))))
    if options.check:
        sys.exit(None if page == wanted else "README.md differs: run python -m benchmarks.render_results")
    README.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
