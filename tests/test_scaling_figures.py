"""docs/scaling.md and its pictures are those of the committed results, and the renderers say what results say."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render_scaling as render
from benchmarks.rendering import is_drawn_from
from conftest import requires

MACHINE = {
    "date": "2030-01-02T03:04:05+00:00",
    "processor": "Some CPU @ 2 GHz",
    "cores": 2,
    "python": "3.11.2",
    "versions": {"numpy": "2.4.0", "numba": "0.68.0", "torch": "2.9", "jax": "0.9", "onnxruntime": None},
}


def fit_cell(ns: float = 30.0, **found: Any) -> dict[str, Any]:
    return {"median": 0.5, "epochs": 2, "ns_per_member_sample": ns, "cores_busy_with_other_work": 0.02} | found


def memory_cell(**settings: Any) -> dict[str, Any]:
    defaults = {"n_members": 10_000, "n_features": 10, "n_rows": 1000, "optimizer": "sgd", "early_stopping": False,
                "data": "float32"}  # fmt: skip
    return {"settings": defaults | settings, "peak_bytes": 400e6, "above_process": 210e6, "promised_bytes": 200e6}


def inference_cell(n_features: int, n_rows: int) -> dict[str, Any]:
    own = {"pool": 0.2, "mean": 0.3, "ten": 4e-4, "one": 5.678e-5, "mlp": 1e-4}
    return {
        "n_features": n_features, "n_rows": n_rows, "n_members": 10_000, "n_threads": 2,
        "own": {"agrees": dict.fromkeys(own, True), "seconds": own},
        "others": {"onnxruntime": {"seconds_of_one": 1e-4, "agrees": True, "n_threads": 1},
                   "pytorch": {"seconds_of_one": 2e-5, "agrees": False, "n_threads": 2}},
        "times_as_fast": {"pool": 5.0, "ten": 2.5, "one": 1.761},
    }  # fmt: skip


def some_results() -> dict[str, Any]:
    limited = {"limit_ns_per_member_sample": 20.0}
    cells: dict[str, list[dict[str, Any]]] = {
        "members": [fit_cell(n_members=100, n_rows=4096), fit_cell(33.0, n_members=1_000_000, n_rows=128)],
        "rows": [fit_cell(ns, n_rows=1000, shuffle=shuffle) for ns, shuffle in ((30.0, None), (36.0, "shared"))],
        "threads": [fit_cell(n_threads=1), fit_cell(n_threads=2, median=0.26)],
        "depth": [fit_cell(depth=k, **limited) for k in (1, 2)],
        "outputs": [fit_cell(1500.0, n_outputs=10, **limited)],
        "width": [fit_cell(width=1024, n_members=n, gflops=50.0 * n, peak_gflops=200.0 * n) for n in (1, 2)],
        "memory": [memory_cell(), memory_cell(early_stopping=True, data="float64")],
    }
    steps = ("start Python", "import numpy", "first fit", "second fit", "total")
    return {
        "scaling": {"parts": {name: {"machine": MACHINE, "cells": found} for name, found in cells.items()}},
        "inference": {"machine": MACHINE, "cells": [inference_cell(10, 1), inference_cell(100, 1000)]},
        "start_up": {
            "machine": MACHINE,
            "cold": {step: {"median": 11.0} for step in steps},
            "warm": {step: {"median": 0.75} for step in steps},
            "paper_pool": {"compile_seconds": {"median": 14.0}, "load_seconds": {"median": 0.6}, "cache_bytes": 2.4e6},
            "import_seconds": {"median": 0.0412},
        },
        "encoded_columns": {
            "machine": MACHINE,
            "cases": [{"case": "8 columns", "plain": {"median": 0.09}, "inputs": {"median": 0.23},
                       "encoded": {"median": 0.14}, "gain": {"median": 1.61}}],
        },
    }  # fmt: skip


def rows_of(text: str) -> dict[str, list[str]]:
    """A table's rows by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {title.strip("| "): [value.strip() for value in values] for title, *values in lines}


def test_tables_say_what_results_say() -> None:
    found = {name: rows_of(text) for name, text in render.sections(some_results()).items()}
    assert found["members"]["1,000,000"] == ["128", "0.25 s", "33 ns"]
    assert found["rows"]["1,000"] == ["30 ns", "36 ns"]
    assert found["threads"]["2"] == ["0.26 s", "1.92×"]
    assert found["depth"]["2"] == ["30 ns", "20 ns", "67 %"]
    assert found["outputs"]["10"] == ["1.5 µs", "20 ns", "1 %"]
    assert found["width"]["1,024"] == ["50 (25 %)", "100 (25 %)"]
    sizes = ["400 MB", "210 MB", "200 MB", "1,000 bytes"]
    assert found["memory"]["10,000 members, 10 features, 1,000 rows, sgd"] == sizes
    assert "10,000 members, 10 features, 1,000 rows, sgd, early stopping, float64 data" in found["memory"]
    assert found["encoded_columns"]["8 columns"] == ["90 ms", "0.23 s", "0.14 s", "1.61×"]
    assert found["start_up"]["first fit"] == ["11.0 s", "0.75 s"] and "second fit" not in found["start_up"]


def test_predictions_count_only_where_outputs_agree() -> None:
    found = rows_of(render.sections(some_results())["inference"])
    assert found["**pool.predict, 10,000 members**"] == ["0.20 s", "0.20 s"]
    assert found["**a pool of one**"][0] == "56.8 µs"
    assert found["ONNX Runtime, one model"][0] == "100 µs"
    assert found["PyTorch, one model"][0] == "does not count: outputs differ"
    assert found["scikit-learn, one model"][0] == "not measured"
    assert found["one: as fast as the best of them"] == ["1.76×", "1.76×"]


def test_words_around_the_tables() -> None:
    results = some_results()
    quiet = render.sections(results)
    assert "fastest to the slowest: 10 %" in quiet["members"]
    assert "14.0 s" in quiet["start_up"] and "41 ms more" in quiet["start_up"]
    assert not any("Other programs" in text for text in quiet.values())
    assert quiet["sources"].count("\n") == 1 and "PyTorch 2.9" in quiet["sources"] and "JAX" not in quiet["sources"]
    disturbed = copy.deepcopy(results)
    disturbed["scaling"]["parts"]["rows"]["cells"][1]["cores_busy_with_other_work"] = 0.7
    assert "kept up to 0.7 cores busy" in render.sections(disturbed)["rows"]


def test_pictures_are_drawn_and_name_their_results(tmp_path: Path) -> None:
    requires("matplotlib")
    from benchmarks.scaling_pictures import draw_inference, draw_scaling

    results, source = some_results(), tmp_path / "results.json"
    source.write_text(json.dumps(results))
    for name, draw, drawn in (("scaling", draw_scaling, results["scaling"]["parts"]),
                              ("inference", draw_inference, results["inference"])):  # fmt: skip
        path = tmp_path / f"{name}.png"
        draw(drawn, path, source)
        assert is_drawn_from(path, source)


def committed() -> dict[str, Any]:
    missing = [path.name for path in render.SOURCES.values() if not path.exists()]
    if missing:
        pytest.skip(f"not measured: {', '.join(missing)}")
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in render.SOURCES.items()}


def test_the_page_is_that_of_the_committed_results() -> None:
    page = render.PAGE.read_text(encoding="utf-8")
    assert page == render.with_results(page, committed()), "run python -m benchmarks.render_scaling"


@pytest.mark.parametrize("name", render.PICTURES)
def test_the_pictures_are_those_of_the_committed_results(name: str) -> None:
    committed()
    assert is_drawn_from(render.PICTURES[name], render.SOURCES[name]), "run python -m benchmarks.render_scaling"
