"""The command line on screens, in pipes and under Ctrl-C."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

import pmlp_np as pm
from command_line import CONCRETE, PENGUINS, SHORT, Said, environment, run, run_apart
from conftest import requires
from fitted import fitted_folder, read
from pmlp_np.backends.numba import task_runner


@pytest.fixture(autouse=True, scope="module")
def installed():
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return fitted_folder(tmp_path_factory)


def test_json_is_all_there_is_on_stdout(tmp_path):
    said = run_apart("fit", PENGUINS, "--target", "species", "--out", tmp_path / "r", "--json", *SHORT)
    assert said.code == 0 and json.loads(said.out)["task"] == "classification" and "\x1b" not in said.out + said.err


def test_a_pipe_that_closes_is_no_error(place):
    """Nobody reads: `true` has ended before anything is printed, little or more than Python's buffer."""
    arguments = [f"leaderboard {place / 'value'} --csv", f"predict {place / 'value'} {place / 't.csv'} --out -"]
    for command in arguments:
        shell = f"{sys.executable} -m pmlp_np {command} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", shell], env=environment(), capture_output=True, text=True)
        assert done.stdout == "0\n" and done.stderr == "", done


def test_tables_from_a_pipe_to_a_pipe(place):
    said = run_apart("predict", place / "value", "-", "--out", "-", stdin=(place / "t.csv").read_bytes())
    assert said.code == 0 and len(read(said.out)) == 300 and said.err == ""


def as_on_a_terminal():
    # Where tests run in the background, Ctrl-C may be ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def on_a_terminal(*arguments, columns=80, interrupt_at=None, **variables):
    """What a command shows on a terminal of so many columns, and its exit code. Ctrl-C is pressed once this is seen."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # What runs the tests may say how wide its own terminal is.
    variables = environment(TERM="xterm-256color", **variables)
    variables = {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "pmlp_np", *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=variables,
        preexec_fn=as_on_a_terminal,
    )
    os.close(slave)
    seen, pressed = b"", False
    watchdog = threading.Timer(60.0, process.kill)
    watchdog.start()
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        if interrupt_at and not pressed and re.search(interrupt_at, seen):
            pressed = True
            process.send_signal(signal.SIGINT)
    os.close(master)
    watchdog.cancel()
    return Said(process.wait(timeout=60), seen.decode(), "")


@pytest.mark.parametrize("columns", [80, 120])
def test_screens_fit_the_terminal(place, columns):
    said = on_a_terminal("leaderboard", place / "grade", columns=columns)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.out).splitlines()
    assert said.code == 0 and "\x1b[1m" in said.out
    assert all(len(line.rstrip()) <= columns for line in lines) and not any("…" in line for line in lines)
    assert ("balanced accuracy" in lines[0]) == (columns == 120) and "log loss" in lines[0]
    plain = on_a_terminal("leaderboard", place / "grade", columns=columns, NO_COLOR="1")
    assert "\x1b[3" not in plain.out


def test_ctrl_c_keeps_the_work(tmp_path):
    out = tmp_path / "r"
    fit = ("fit", CONCRETE, "--target", "compressive_strength", "--out", out, "--cv", "2", "--max-members", "400")
    said = on_a_terminal(*fit, "--max-epochs", "4000", interrupt_at=rb"\d%\|")
    assert said.code == 130, said.out[-300:]
    assert "interrupted: what was trained is saved" in " ".join(said.out.split())
    found = json.loads((out / "run.json").read_text())
    assert found["ended"] == "interrupted" and found["scores"]["ensemble"]["test"]["r2"] > 0
    assert (out / "plots" / "scores.png").exists() and pm.TableModel.load(out / "model.pmlp").weights.sum() > 0.99


def test_ctrl_c_before_anything_is_learned(tmp_path):
    fit = ("fit", CONCRETE, "--target", "compressive_strength", "--out", tmp_path / "r")
    said = on_a_terminal(*fit, interrupt_at=b"Reading")
    assert said.code == 130 and "interrupted; nothing is written" in said.out and "Traceback" not in said.out
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_compiling(capsys, tmp_path, monkeypatch, ctrl_c_as_in_a_terminal):
    """A fit keeps its work on Ctrl-C, but the one that has everything compiled has none that anybody wants."""
    announce = task_runner.announce_compilation

    def press(kind):
        monkeypatch.setattr(task_runner, "announce_compilation", announce)
        signal.raise_signal(signal.SIGINT)
        return announce(kind)

    monkeypatch.setattr(task_runner, "announce_compilation", press)
    said = run(capsys, "fit", CONCRETE, "--target", "compressive_strength", "--out", tmp_path / "r", *SHORT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert said.code == 130 and said.err == "pmlp: interrupted; nothing is written\n"
    assert "Trained" not in said.out and not list(tmp_path.iterdir())
