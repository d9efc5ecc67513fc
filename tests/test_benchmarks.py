"""Benchmarks: pages and pictures are those of the committed results; rendering; peers train as the textbook says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import requires

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import grid_cells, paper_grid, render_grid  # noqa: E402
from benchmarks.common import RESULTS, Cell, paper_architectures  # noqa: E402
from benchmarks.gpu import paper_model  # noqa: E402
from benchmarks.peers import LIBRARY, METHODS, check, textbook  # noqa: E402

# Committed results


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    if not render_grid.JSON.exists():
        pytest.skip(f"{render_grid.JSON.relative_to(ROOT)} is not there: python -m benchmarks.paper_grid measures it")
    results: dict[str, Any] = json.loads(render_grid.JSON.read_text(encoding="utf-8"))
    return results


def test_pages_and_pictures_are_those_of_the_results(committed: dict[str, Any]) -> None:
    assert render_grid.out_of_date(committed) == [], "run python -m benchmarks.render_grid"


def test_rendering_loads_nothing_optional() -> None:
    code = (
        "import sys; from benchmarks import render_grid, paper_grid; "
        "print(*{'torch', 'jax', 'sklearn', 'matplotlib', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Made-up results


def a_cell(cell: Cell, extra: bool = False, **methods: tuple[float, bool]) -> dict[str, Any]:
    """An entry of the results' cells, from each method's seconds and whether its losses agree."""
    return {
        "name": cell.name(),
        "cell": cell._asdict(),
        "extra": extra,
        "n_members": 10_000,
        "methods": {
            name: {
                "epoch_seconds": {"median": found},
                "agreement": {"agrees": agrees},
                "cores_busy_with_other_work": 0.02,
                "timed_rows": cell.n_rows,
                "timed_members": 100 if METHODS[name].one_after_another else 10_000,
            }
            for name, (found, agrees) in methods.items()
        },
        "limit_seconds": {"true_widths": 0.1, "rounded_widths": 0.12},
        "limit_fraction": {"true_widths": 0.4, "rounded_widths": 0.48},
    }


FIRST, SECOND = Cell(10, 32, 1000, 2e-3), Cell(5, 256, 10_000, 2e-3)


@pytest.fixture
def results() -> dict[str, Any]:
    deep = a_cell(FIRST._replace(depth=2), True, pmlp_np=(0.5, True), jax=(1.0, True))
    second = a_cell(SECOND, pmlp_np=(2.0, True), jax=(16.0, True), pytorch_fused=(62.0, False))
    second["methods"]["jax"]["timed_rows"] = 2048
    return {
        "quick": False,
        "machine": {
            "date": "2030-01-02T03:04:05+00:00",
            "processor": "Some CPU @ 2 GHz",
            "cores": 2,
            "python": "3.11.2",
            "versions": {"pmlp_np": "0.1.0", "numpy": "2.4.0", "numba": "0.68.0", "torch": None, "jax": "0.10"},
        },
        "limits": [{"n_threads": 2, "multiply_add_gflops": 400.0, "activation_ns": {"tanh": 0.25}}],
        "cells": [
            a_cell(FIRST, pmlp_np=(0.25, True), jax=(0.5, True), sklearn=(0.1, True), pytorch_sequential=(60, True)),
            second,
            deep,
        ],
    }


def rows_of(text: str) -> list[list[str]]:
    """The rows of a Markdown table, its head first."""
    table = [[part.strip() for part in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return [table[0], *table[2:]]


def test_every_cell_is_shown(results: dict[str, Any]) -> None:
    text = render_grid.page_blocks(results)["grid-cells"]
    head, first, second = rows_of(text)
    assert head[:4] == ["rows", "features", "batch", "**pmlp_np**"]
    found = dict(zip(head, first, strict=True))
    assert found["**pmlp_np**"] == "**0.25 s**" and found[METHODS["jax"].title] == "0.50 s (2.0×)"
    assert found[METHODS["pytorch_sequential"].title] == "60.0 s (240×)"
    assert found[METHODS["pytorch_fused"].title] == "–"
    assert dict(zip(head, second, strict=True))[METHODS["pytorch_fused"].title] == "losses differ"
    assert "100 of the 10,000 members" in text and "the first 2,048 of 10,000 rows" in text and "4 of the ten" in text


def test_ratios_are_summed_up(results: dict[str, Any]) -> None:
    text = render_grid.page_blocks(results)["grid-summary"]
    rows = {row[0]: row[1:] for row in rows_of(text)}
    # scikit-learn trains four of ten activations, and the fused pool's time doesn't count: JAX is the fastest in both.
    assert rows["the fastest peer of each cell"] == [
        "**4.0×**", f"2.0× ({FIRST.name()})", f"8.0× ({SECOND.name()})", "2",
    ]  # fmt: skip
    assert METHODS["pytorch_fused"].title not in rows
    assert "2 of 36 cells" in text and "not complete" in text


def test_other_members_limits_and_published_figures_are_shown(results: dict[str, Any]) -> None:
    blocks = render_grid.page_blocks(results)
    assert rows_of(blocks["grid-extra"])[1][:3] == ["2 hidden layers", "10", "32"]
    assert rows_of(blocks["grid-limit"])[1:] == [
        ["5", "256", "–", "–", "40 % (48 %)"],
        ["10", "32", "–", "40 % (48 %)", "–"],
    ]
    assert "400 billion" in blocks["grid-limit"] and "tanh 0.25" in blocks["grid-limit"]
    paper = rows_of(blocks["grid-paper"])[1]
    assert paper[:5] == ["1,000", "10", "32", "5.34 s", "112 s"] and paper[-1] == "**0.25 s**"
    assert "2030-01-02" in blocks["grid-source"] and "PyTorch" not in blocks["grid-source"]


def test_a_disturbed_or_quick_measurement_says_so(results: dict[str, Any]) -> None:
    assert "Other programs" not in render_grid.disturbances(results)
    results["quick"], results["cells"][1]["methods"]["jax"]["cores_busy_with_other_work"] = True, 0.7
    text = render_grid.readme_block(results)
    assert "kept up to 0.7 cores busy meanwhile, in 1 of 3 cells" in text and "A quick run" in text


def test_the_readme_shows_what_there_is(results: dict[str, Any]) -> None:
    text = render_grid.readme_block(results)
    assert rows_of(text)[1] == ["**pmlp_np**", "**0.25 s**", ""]
    assert rows_of(text)[2] == [METHODS["jax"].title, "0.50 s (2.0×)", "4.0×"]
    assert "over 2 of 36 cells" in text and "at least 2.0×" in text
    for entry in results["cells"]:
        entry["methods"] = {LIBRARY: entry["methods"][LIBRARY]}
    assert "fastest peer" not in render_grid.readme_block(results)


def test_pictures_are_drawn_and_carry_their_source(results: dict[str, Any], tmp_path: Path) -> None:
    requires("matplotlib")
    from benchmarks.grid_pictures import draw
    from benchmarks.rendering import is_drawn_from

    source = tmp_path / "results.json"
    source.write_text("{}")
    pictures = {name: tmp_path / f"{name}.png" for name in render_grid.PICTURES}
    draw(results, pictures, source)
    assert all(is_drawn_from(path, source) for path in pictures.values())
    source.write_text("{ }")
    assert not any(is_drawn_from(path, source) for path in pictures.values())


# The plan of a measurement


def test_the_grid_is_the_papers() -> None:
    assert len({cell.name() for cell in grid_cells.CELLS}) == 36
    published = grid_cells.paper_seconds()
    assert all(("cpu", "parallel", c.n_rows, c.n_features, c.batch_size) in published for c in grid_cells.CELLS)
    assert grid_cells.cell_of("10,32,1000,depth=2") in grid_cells.EXTRA_CELLS
    with pytest.raises(ValueError, match="no cell"):
        grid_cells.cell_of("11,32,1000")


def test_samples_are_spread_over_widths_and_activations() -> None:
    architectures = paper_architectures()
    for method in ("pytorch_sequential", "sklearn"):
        chosen = [architectures[m] for m in grid_cells.sample_of(method, architectures) or []]
        assert {a for _, a in chosen} == set(METHODS[method].activations)
        assert np.mean([w for w, _ in chosen]) == pytest.approx(50.5)
    assert grid_cells.sample_of("jax", architectures) is None


def test_agreement_notices_differences() -> None:
    expected = np.linspace(1, 2, 1000)
    close = expected * (1 + 1e-7)
    assert grid_cells.agreement(close, expected, "sgd")["agrees"]
    assert not grid_cells.agreement(expected * (1 + 1e-5), expected, "sgd")["agrees"]
    assert grid_cells.agreement(expected * (1 + 1e-5), expected, "adam")["agrees"]
    for wrong in (1.5, np.nan, np.inf):
        close[7] = wrong
        assert not grid_cells.agreement(close, expected, "adam")["agrees"]


def test_methods_take_turns() -> None:
    order = list(paper_grid.turns([6, 3, 1]))
    assert [order.count(i) for i in range(3)] == [6, 3, 1]
    assert order == [0, 0, 1, 0, 0, 1, 0, 0, 1, 2]


# Peers


HELD = [(method, cell) for cell in check.cells(quick=True) for method in METHODS if METHODS[method].applies(cell)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("method", "cell"), HELD, ids=lambda value: getattr(value, "name", lambda: value)())
def test_a_peer_trains_as_the_textbook_says(method: str, cell: Cell) -> None:
    package = METHODS[method].package
    # What continuous integration installs must be there; JAX, which it doesn't, is held where it is at hand.
    if package == "jax":
        pytest.importorskip(package, reason=f"{package} is not installed")
    requires(package)
    # JAX compiles for each activation, which takes a second: the one that needs a mask, and one that doesn't.
    activations = ("sigmoid", "relu") if method == "jax" else METHODS[LIBRARY].activations
    found = [(words, passes) for _, words, passes in check.verdicts(cell, [method], (7, 16), activations)]
    assert found and all(passes for _, passes in found), found


def test_a_wrong_peer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(textbook.FORMULAS, "gelu", lambda z: z / (1 + np.exp(-1.702 * z)))
    cell = check.cells(quick=True)[0]
    assert [passes for _, _, passes in check.verdicts(cell, [LIBRARY], (7,))] == [False]


def test_predictions_elsewhere_are_those_of_the_pool() -> None:
    """Every method of benchmarks.inference answers as the float64 forward does, and a wrong one is noticed."""
    from benchmarks import inference
    from benchmarks.common import regression_data

    for package in ("torch", "sklearn"):
        requires(package)
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    effort = inference.Effort(rounds=1, sample_widths=2, widths=(3, 17), repeats=2)
    cell = inference.measure(5, 4, effort)
    assert cell["n_members"] == 40
    assert all(cell["own"]["agrees"].values()), cell["own"]
    assert {name for name, found in cell["others"].items() if found["agrees"]} == {*inference.OTHERS}
    case = inference.a_case(5, effort)
    x = np.ascontiguousarray(regression_data(5, 4)[0])
    wrong = inference.plain_forward((17, "tanh"), case.weights(20), x)  # a sigmoid's weights
    assert case.architectures[20] == (17, "identity") and not inference.agree(case.pool.predict(x)[20], wrong)


def test_the_model_of_gpus_is_written_out() -> None:
    found = json.loads((RESULTS / "gpu" / "paper_model.json").read_text(encoding="utf-8"))
    assert (RESULTS / "gpu" / "paper_model.md").read_text(encoding="utf-8") == paper_model.tables(found)
    assert {(each["gpu"], each["features"], each["rule"]) for each in found["results"]} == {
        (gpu.name, *cell) for gpu in paper_model.GPUS for cell in paper_model.CELLS
    }
    for each in found["results"]:
        assert sum(launch["members"] for launch in each["launches"]) == 10_000
        assert 0 < each["of_peak"] < 1
        assert all(0 < launch["fma_share"] < 1 and launch["blocks"] > 0 for launch in each["launches"])


def test_blocks_share_a_multiprocessor() -> None:
    h100 = next(gpu for gpu in paper_model.GPUS if gpu.name == "H100 SXM")
    # By registers, by shared memory with the kilobyte that each block costs, by threads, by blocks.
    assert paper_model.resident(h100, 128, 256, 10_000) == 2
    assert paper_model.resident(h100, 32, 64, 113 * 1024) == 2
    assert paper_model.resident(h100, 32, 64, 114 * 1024) == 1
    assert paper_model.resident(h100, 16, 1024, 0) == 2
    assert paper_model.resident(h100, 16, 32, 0) == 32


def test_tiles_are_dealt_as_the_kernels_deal_them() -> None:
    # 32 rows of 8 units: 8 tiles, of 16 places of which the right ones are empty, in one warp.
    assert paper_model.warp_rounds(32, 8, 32) == (1, 1)
    # 100 units are 13 tiles of 8, in 7 pairs: 112 places, all 4 warps busy.
    assert paper_model.warp_rounds(32, 100, 128) == (4, 1)
    assert paper_model.warp_rounds(100, 100, 128) == (12, 3)
