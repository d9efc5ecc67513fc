"""The other commands: help, demo, doctor and bench; and the page of the command line."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from command_line import ROOT, environment, refused, run
from conftest import requires


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


def test_help_of_every_command_has_examples(capsys):
    said = run(capsys, "--help")
    assert said.code == 0
    commands = ["fit", "leaderboard", "predict", "export", "plot", "report", "demo", "bench", "doctor"]
    for command in commands:
        assert re.search(rf"│ {command} ", said.out)
        text = run(capsys, command, "--help").out
        # Flags take no value; what the help says of --help is Typer's.
        assert not [line for line in text.splitlines() if "<bool>" in line and "--help" not in line], command
        assert "Examples" in text and f"pmlp {command}" in text.partition("Examples")[2], command
    assert run(capsys, "--version").out == f"pmlp_np {pm.__version__}\n"
    nothing = run(capsys)
    assert nothing.code == 2 and "Usage: pmlp" in nothing.out and nothing.err == ""
    for wrong in (["fitt"], ["fit"], ["fit", "t.csv", "--targett", "y"], ["leaderboard", "r", "--top", "x"]):
        refused(run(capsys, *wrong), "--help", code=2)


def test_the_demo(tmp_path, capsys, monkeypatch):
    requires("sklearn")
    monkeypatch.chdir(tmp_path)
    said = run(capsys, "demo")
    assert said.code == 0 and "█" in said.out and "pmlp_demo/plots/scores.png" in said.out
    assert run(capsys, "predict", "pmlp_demo", "pmlp_demo.csv", "--out", "p.csv").code == 0
    refused(run(capsys, "demo"), "pmlp_demo", "--overwrite")
    assert json.loads(run(capsys, "demo", "--overwrite", "--json").out)["target"] == "progression"


def test_the_doctor(capsys):
    found = json.loads(run(capsys, "doctor", "--json").out)
    assert found["packages"]["core"]["numpy"] == np.__version__
    numba = found["backends"]["numba"]
    assert numba["threads"] >= 1 and Path(numba["cache"]).is_dir() and numba["simd"]
    # At most four multiply-adds of a vector of 16 numbers a cycle, at 8 GHz; at least one number's a nanosecond.
    assert 1 < numba["peak_gflops_one_core"] < 1024
    assert numba["peak_gflops"] < 1.3 * numba["threads"] * numba["peak_gflops_one_core"]
    text = run(capsys, "doctor").out
    for word in ("Measured peak", "Threads", "GPU", "Compile cache", "own threads"):
        assert word in text


def test_the_bench(capsys):
    requires("sklearn")
    found = json.loads(run(capsys, "bench", "--members", "200", "--json").out)["results"]
    assert [r["method"].partition(",")[0] for r in found] == ["pmlp_np", "scikit-learn", "PyTorch"]
    for record in found:
        if "times" in record:
            assert "note" not in record, "weights are not those of pmlp_np"
            assert record["times"] == pytest.approx(record["seconds_per_1000"] / found[0]["seconds_per_1000"])
    assert found[1]["times"] > 1
    assert ("times" in found[2]) == (importlib.util.find_spec("torch") is not None)


def test_the_page_prints_what_its_commands_print(tmp_path):
    """Each bash block of docs/command_line.md that is followed by a text block, one after another."""
    from page_blocks import Commands, command_blocks, same_text

    requires("onnxruntime")
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    commands, blocks = Commands(tmp_path, environment()), command_blocks(page, "command_line.md")

    def told(text):
        # What takes how long, and the last roundings of a runtime, are the machine's.
        return re.sub(r"in [\d.]+ s\.|within \S+ of|\([\d,]+ bytes\)", "...", text)

    for block in blocks:
        printed = commands.printed_by(block)
        assert same_text(told(printed), told(block.prints)), block.code + printed
    assert len(blocks) >= 5
