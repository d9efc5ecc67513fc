"""What is said on stderr: on streams of any kind, on none, and in notebooks."""

import builtins
import gc
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.base import console
from pmlp_np.training import progress_bar
from pmlp_np.training.progress_bar import ProgressBar

X = np.random.default_rng().normal(size=(40, 2))
Y = X[:, 0]


class WriteAlone:
    """A stream as an application or a test makes one."""

    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)


class Failing(io.StringIO):
    def __init__(self, error, terminal=True):
        super().__init__()
        self.error, self.terminal = error, terminal

    def write(self, text):
        raise self.error

    flush = write

    def isatty(self):
        if self.terminal is None:
            raise ValueError("I/O operation on closed file")
        return self.terminal


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "write alone": WriteAlone,
    "broken pipe": lambda: Failing(BrokenPipeError(32, "Broken pipe")),
    "closed file": lambda: Failing(ValueError("I/O operation on closed file")),
    "no file": lambda: Failing(AttributeError("write")),
    "bad descriptor": lambda: Failing(OSError(9, "Bad file descriptor"), terminal=None),
    "not this text": lambda: Failing(UnicodeEncodeError("ascii", "█", 0, 1, "ordinal not in range")),
    "a number": lambda: 3,
}


@pytest.fixture
def at_once(monkeypatch):
    """Progress is shown from the start, however soon training ends."""
    monkeypatch.setattr(progress_bar, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress_bar, "_PLAIN_EVERY_SECONDS", 0.0)


def press(end):
    if end.epoch == 2:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("at_once", "ctrl_c_as_in_a_terminal")
@pytest.mark.parametrize("shown", [True, "auto", False])
@pytest.mark.parametrize("tqdm", [True, False])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_fit_needs_no_stream(monkeypatch, stream, tqdm, shown):
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    right = pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=2).extract(0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", STREAMS[stream]())
        console.say("a line")
        # The line about Ctrl-C, too, has to go somewhere.
        pool = pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=5, progress=shown, callbacks=[press])
        if stream == "write alone":
            text = "".join(sys.stderr.texts)
            assert "pmlp_np: a line\n" in text and "Ctrl-C ended this fit" in text
            assert ("left" in text) == (shown is True)
        gc.collect()
    assert pool.ended_ == "interrupted"
    assert all(np.array_equal(a, b) for a, b in zip(pool.extract(0).weights, right.weights, strict=True))


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_processes_without_stderr(how):
    """A service has none, and a shell may close it."""
    code = """
import numpy as np, pmlp_np as pm
from pmlp_np.training import progress_bar
progress_bar._QUIET_SECONDS = 0.0
X = np.zeros((40, 2))
for shown in (True, "auto"):
    pool = pm.Pool(pm.Member(hidden=3), 2).fit(X, X[:, 0], epochs=3, progress=shown)
print(pool.ended_)
"""
    shell = ["sh", "-c", f'exec "$0" -c "$1" {how}', sys.executable, code]
    environment = os.environ | {"PYTHONPATH": str(Path(pm.__file__).parents[1])}
    assert subprocess.run(shell, capture_output=True, text=True, env=environment).stdout == "done\n"


@pytest.mark.parametrize("stream", ["none", "closed", "broken pipe", "no file"])
def test_the_command_line_needs_no_stderr(monkeypatch, capsys, tmp_path, stream):
    for name in ("typer", "rich", "pandas", "matplotlib"):
        requires(name)
    from pmlp_np.app.main import main

    table = tmp_path / "t.csv"
    np.savetxt(table, np.c_[X, Y], fmt="%.4f", delimiter=",", header="a,b,y", comments="")
    fit = ["fit", table, "--target", "y", "--out", tmp_path / "r", "--max-members", 10, "--max-epochs", 2]
    monkeypatch.setattr(sys, "stderr", STREAMS[stream]())
    assert main([str(each) for each in fit]) == 0
    assert "Written to" in capsys.readouterr().out
    # And where something is to be said.
    monkeypatch.setattr(sys, "stderr", STREAMS[stream]())
    assert main(["leaderboard", str(tmp_path / "nothing")]) == 1


# Notebooks.


def shell_named(name, *bases):
    return type(name, bases or (object,), {})()


KERNEL = shell_named("ZMQInteractiveShell")


@pytest.mark.parametrize("where", ["IPython", "IPython.core.getipython", "builtins"])
def test_a_notebook_is_known_by_its_shell(monkeypatch, where):
    place = builtins if where == "builtins" else ModuleType(where)
    if place is not builtins:
        monkeypatch.setitem(sys.modules, where, place)
    assert not console.in_notebook()
    for shell, notebook in [
        (None, False),
        (KERNEL, True),
        (shell_named("Shell", type(KERNEL)), True),
        (shell_named("TerminalInteractiveShell"), False),
    ]:
        monkeypatch.setattr(place, "get_ipython", lambda shell=shell: shell, raising=False)
        assert console.in_notebook() == notebook


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(builtins, "get_ipython", lambda: KERNEL, raising=False)


@pytest.mark.usefixtures("notebook", "at_once")
def test_a_notebook_shows_text_without_ipywidgets(monkeypatch, capsys):
    """Without tqdm's warning that they are missing: warnings are errors here."""
    tqdm = requires("tqdm.notebook")
    monkeypatch.setattr(tqdm, "IProgress", None)
    pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=3)
    assert "100%" in capsys.readouterr().err
    pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=3, progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.notebook", None)
    pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=3)
    assert "100.0%, 0 s left" in capsys.readouterr().err


@pytest.mark.usefixtures("notebook", "at_once")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("stderr", [True, False])
def test_a_notebook_shows_a_widget(monkeypatch, capsys, fails, stderr):
    """By stand-ins with what tqdm asks of ipywidgets. One of them fails, as an old version of ipywidgets does."""
    tqdm = requires("tqdm.notebook")
    shown = []

    class Widget:
        def __init__(self, **options):
            if fails:
                raise TypeError("of another version")
            layout, style = type("Layout", (), {})(), type("Style", (), {})()
            self.__dict__ |= {"value": 0, "bar_style": "", "layout": layout, "style": style, **options}

        def close(self):
            pass

    for name in ("IProgress", "HTML", "TqdmHBox"):
        monkeypatch.setattr(tqdm, name, type(name, (Widget,), {}), raising=False)
    monkeypatch.setattr(tqdm, "display", shown.append, raising=False)
    pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=3, progress=False)
    capsys.readouterr()
    if not stderr:
        monkeypatch.setattr(sys, "stderr", None)
    pm.Pool(pm.Member(hidden=3), 2).fit(X, Y, epochs=3)
    gc.collect()
    said = capsys.readouterr()
    if fails:
        assert ("100%" in said.err) == stderr
    else:
        (container,) = shown
        left, bar, right = container.children
        assert (said.err, said.out) == ("", "") and bar.value == pytest.approx(1.0)
        assert left.value.strip() == "100%" and "epoch\u20073/3" in right.value


def test_short_work_shows_nothing_in_a_notebook(notebook, capsys):
    bar = ProgressBar("auto")
    assert bar.wanted
    bar.show(0.5, "note")
    bar.close()
    assert capsys.readouterr().err == ""
