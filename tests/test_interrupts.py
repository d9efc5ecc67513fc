"""Ctrl-C: what one press does, what two do, and where they fall. Presses are real signals, sent at a known moment."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np.backends.numba import threads
from pmlp_np.backends.numba.code_cache import cache_folder
from pmlp_np.backends.store import Store
from pmlp_np.base import interrupts
from pmlp_np.base.errors import DataError

pytestmark = pytest.mark.usefixtures("ctrl_c_as_in_a_terminal")

F = 3
DRAW = np.random.default_rng()
X, Y = DRAW.normal(size=(70, F)), DRAW.normal(size=70)
VALIDATION = DRAW.normal(size=(20, F)), DRAW.normal(size=20)
SPECS = pm.grid(hidden=[3, (4, 2)], activation=["tanh", "relu"])
SAYS = "pmlp_np: Ctrl-C ended this fit"


def press(times=1):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def pressing(epoch, times=1):
    """A callback that presses Ctrl-C at the end of an epoch."""
    return lambda end: press(times) if end.epoch == epoch else None


def pool_of(backend="numba"):
    return pm.Pool(SPECS, F, backend=backend)


def bits(pool, weights="last"):
    mlps = [pool.extract(int(i), weights) for i in pool.ids_]
    return [array.tobytes() for mlp in mlps for array in mlp.weights + mlp.biases]


@pytest.fixture
def clock(monkeypatch):
    """A clock for presses that a test sets."""
    now = [100.0]
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


# One press.


def test_the_first_press_ends_a_fit_and_says_how_to_end_the_program(backend, capsys):
    pool = pool_of(backend).fit(X, Y, epochs=9, callbacks=[pressing(4)])
    assert pool.ended_ == "interrupted" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line]
    assert line.startswith(SAYS)
    assert "press Ctrl-C again within two seconds" in line and 'on_interrupt="raise"' in line
    assert bits(pool) == bits(pool_of(backend).fit(X, Y, epochs=4))
    pool.partial_fit(X, Y, epochs=5)
    assert pool.ended_ == "done" and bits(pool) == bits(pool_of(backend).fit(X, Y, epochs=9))


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_raising_leaves_a_whole_pool(backend, capsys, way, early_stopping):
    settings = {"validation_data": VALIDATION, "early_stopping": early_stopping}
    pool = pool_of(backend)
    with pytest.raises(KeyboardInterrupt):
        getattr(pool, way)(X, Y, epochs=9, callbacks=[pressing(2)], on_interrupt="raise", **settings)
    assert pool.ended_ == "interrupted" and SAYS not in capsys.readouterr().err
    plain = pool_of(backend).fit(X, Y, epochs=2, **settings)
    for weights in ("last", "best") if early_stopping else ("last",):
        assert bits(pool, weights) == bits(plain, weights)
    assert all(np.array_equal(pool.history_[name][:, :2], plain.history_[name]) for name in plain.history_)
    pool.partial_fit(X, Y, epochs=7, **settings)
    assert bits(pool) == bits(pool_of(backend).fit(X, Y, epochs=9, **settings))


def test_raising_ends_a_loop_that_catches_errors():
    """As a study does, which goes on after a trial that fails."""
    trials = []
    with pytest.raises(KeyboardInterrupt):
        for trial in range(4):
            trials.append(trial)
            with contextlib.suppress(Exception):
                pool_of().fit(X, Y, epochs=5, callbacks=[pressing(1 if trial == 1 else 9)], on_interrupt="raise")
    assert trials == [0, 1]


def test_raising_where_a_callback_fails_after_the_press():
    def fail(end):
        press()
        raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):
        pool_of().fit(X, Y, callbacks=[fail], on_interrupt="raise")
    with pytest.raises(ZeroDivisionError):
        pool_of().fit(X, Y, callbacks=[lambda end: 1 / 0], on_interrupt="raise")


@pytest.mark.parametrize("wrong", [None, "Raise", "", True, 1, ["keep"], np.array(["keep", "raise"])])
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_other_choices_are_refused(way, wrong):
    pool = pool_of()
    with pytest.raises(DataError, match="^on_interrupt: expected 'keep' or 'raise', got "):
        getattr(pool, way)(X, Y, on_interrupt=wrong)
    assert pool.ended_ == ""


def test_fits_within_a_callback_end_with_the_outer_one(capsys):
    """Later ones, too, and the line comes once."""
    inner = []

    def train_another(end):
        for _ in range(2):
            inner.append(pool_of().fit(X, Y, epochs=6, callbacks=[pressing(2)]))

    outer = pool_of().fit(X, Y, epochs=5, callbacks=[train_another])
    assert [pool.ended_ for pool in (outer, *inner)] == ["interrupted"] * 3
    assert [pool._progress.epoch.max() for pool in (outer, *inner)] == [1, 2, 0]
    assert capsys.readouterr().err.count(SAYS) == 1


# The second press.


@pytest.mark.parametrize("seconds", [0.0, 1.9])
def test_a_second_press_in_the_next_fit_raises(backend, clock, seconds):
    first = pool_of(backend).fit(X, Y, epochs=9, callbacks=[pressing(3)])
    clock[0] += seconds
    second, later = pool_of(backend), []
    with pytest.raises(KeyboardInterrupt):
        second.fit(X, Y, epochs=9, callbacks=[pressing(2), later.append])
    assert first.ended_ == second.ended_ == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert bits(second) == bits(pool_of(backend).fit(X, Y, epochs=2))
    # It fell into a callback, and broke in there: the one after it is not called for that epoch.
    assert len(later) == 1


def test_a_second_press_after_two_seconds_is_a_first_one(clock, capsys):
    for _ in range(3):
        assert pool_of().fit(X, Y, epochs=9, callbacks=[pressing(3)]).ended_ == "interrupted"
        clock[0] += 2.0
    assert capsys.readouterr().err.count(SAYS) == 3


def test_the_two_seconds_begin_when_the_line_is_said(clock):
    """A fit may take longer than that to end."""

    def press_and_take_long(end):
        press()
        clock[0] += 60.0

    pool_of().fit(X, Y, epochs=9, callbacks=[press_and_take_long])
    clock[0] += 1.0
    with pytest.raises(KeyboardInterrupt):
        pool_of().fit(X, Y, callbacks=[pressing(1)])


def test_a_second_press_in_the_same_fit_raises_however_late(clock):
    reached = []

    def press_twice(end):
        press()
        clock[0] += 60.0
        press()
        reached.append(end)

    pool = pool_of()
    with pytest.raises(KeyboardInterrupt):
        pool.fit(X, Y, epochs=9, callbacks=[press_twice])
    assert not reached and pool.ended_ == "interrupted"


def test_between_fits_a_press_raises():
    with pytest.raises(KeyboardInterrupt):
        for _ in range(3):
            pool_of().fit(X, Y)
            press()


@pytest.mark.parametrize("times", [1, 2])
def test_presses_during_validation(backend, monkeypatch, times):
    pool = pool_of(backend)
    kind = type(pool._ready())
    evaluate, calls = kind.evaluate, []

    def pressed(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            press(times)
        return evaluate(self, *arguments)

    monkeypatch.setattr(kind, "evaluate", pressed)
    with pytest.raises(KeyboardInterrupt) if times == 2 else contextlib.nullcontext():
        # With a callback validation is an operation of its own on every backend; see test_rounds.py.
        pool.fit(X, Y, epochs=9, validation_data=VALIDATION, callbacks=[lambda end: None])
    monkeypatch.undo()
    assert pool.ended_ == "interrupted" and pool._progress.epoch.tolist() == [3] * len(SPECS)
    assert bits(pool) == bits(pool_of(backend).fit(X, Y, epochs=3))
    assert np.isfinite(pool.history_["loss"]).sum() == 3 * len(SPECS)


def test_a_second_press_while_best_weights_are_kept(monkeypatch):
    """Nothing breaks into the end of a fit."""
    pool = pool_of()
    settings = {"validation_data": VALIDATION, "early_stopping": True}
    # Before anything is pressed: compilation, which a press ends, is over.
    plain = pool_of().fit(X, Y, epochs=1, **settings)
    keep, kept = Store.keep, []

    def pressed(self, members):
        press(2)
        keep(self, members)
        kept.append(len(members))

    monkeypatch.setattr(Store, "keep", pressed)
    with pytest.raises(KeyboardInterrupt):
        pool.fit(X, Y, epochs=3, **settings)
    monkeypatch.undo()
    # When room is made for them, and at the end of the fit.
    assert len(kept) == 2
    assert bits(pool, "best") == bits(plain, "best")


# Other work, threads and handlers.


def test_long_work_outside_of_fits_is_broken_off(monkeypatch):
    """As soon as helpers have ended, which must not be left working on buffers that are gone."""
    stop, at_work = np.zeros(8, np.int64), []

    def work(slot, jobs):
        at_work.append(slot)
        if slot == 0:
            os.kill(os.getpid(), signal.SIGINT)
        while not stop[0]:
            pass
        at_work.remove(slot)

    work.overloads = {"int64": "as if compiled"}
    monkeypatch.setattr(threads, "driver", SimpleNamespace(work=work))
    with pytest.raises(KeyboardInterrupt):
        threads.run(np.zeros(1), 2, False, stop, lambda: False)
    assert not at_work and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert pool_of().fit(X, Y).ended_ == "done"


def test_a_fit_in_another_thread_is_left_alone():
    started, go_on, seen = threading.Event(), threading.Event(), []

    def wait(end):
        seen.append(signal.getsignal(signal.SIGINT))
        started.set()
        go_on.wait()

    pool = pool_of()
    thread = threading.Thread(target=pool.fit, args=(X, Y), kwargs={"callbacks": [wait], "on_interrupt": "raise"})
    thread.start()
    started.wait()
    with pytest.raises(KeyboardInterrupt):
        press()
    # Nor does it end because a fit of this thread is interrupted.
    assert pool_of().fit(X, Y, epochs=3, callbacks=[pressing(1)]).ended_ == "interrupted"
    go_on.set()
    thread.join()
    assert pool.ended_ == "done" and seen == [signal.default_int_handler]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_another_handler_stays_in_force(handler):
    seen = []
    signal.signal(signal.SIGINT, handler)
    pool = pool_of().fit(X, Y, epochs=3, callbacks=[lambda end: seen.append(signal.getsignal(signal.SIGINT)),
                                                    pressing(2, 3)])  # fmt: skip
    assert seen == [handler] * 3 and pool.ended_ == "done" and signal.getsignal(signal.SIGINT) is handler


def test_a_handler_that_a_callback_installs_stays():
    def own(number, frame):
        pass

    pool_of().fit(X, Y, callbacks=[lambda end: signal.signal(signal.SIGINT, own)])
    assert signal.getsignal(signal.SIGINT) is own


# In a process of its own: what happens once.

START = """
import os, shutil, signal, sys
import numpy as np
import pmlp_np as pm
signal.signal(signal.SIGINT, signal.default_int_handler)
X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30.0)
def pool_of(dtype="float32"):
    return pm.Pool(pm.Member(hidden=4), 3, dtype=dtype)
"""


def run_apart(code, **variables):
    environment = os.environ | {"PYTHONPATH": str(Path(pm.__file__).parents[1])} | variables
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "gnored" not in done.stderr, done.stderr
    return done


def test_presses_while_it_compiles(tmp_path):
    """One gives the fit up, two raise, at the next function, and the session goes on."""
    done = run_apart("""
class Presses:
    times = 1
    def write(self, text):
        if "compiling" in text:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)
        return sys.__stderr__.write(text)
    def flush(self):
        pass
sys.stderr = Presses()
from pmlp_np.backends.numba.code_cache import cache_folder
pool = pool_of().fit(X, y, epochs=3)
print(pool.ended_, pool._progress.step.tolist(), len(list(cache_folder().iterdir())))
Presses.times = 2
try:
    pool_of("float64").fit(X, y)
except KeyboardInterrupt:
    print("raised", len(list(cache_folder().iterdir())), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
shutil.copytree(sys.argv[1], cache_folder(), dirs_exist_ok=True)
print(pool.fit(X, y, epochs=3).ended_, np.isfinite(pool.predict(X)).all())
""".replace("sys.argv[1]", repr(str(cache_folder()))), PMLP_CACHE_DIR=str(tmp_path))  # fmt: skip
    assert done.stdout.splitlines() == ["interrupted [0] 0", "raised 0 True", "done True"]
    assert done.stderr.count(SAYS) == 1


IMPORTING = """
class Presses:
    def find_spec(self, name, *arguments):
        if name == "numba.core.dispatcher":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Presses())
"""


def test_a_press_during_the_late_import_of_numba():
    done = run_apart(IMPORTING + """
pool = pool_of().fit(X, y, epochs=3)
print(pool.ended_, pool._progress.step.tolist(), Presses not in map(type, sys.meta_path))
print(pool.fit(X, y, epochs=3).ended_, np.isfinite(pool.predict(X)).all())
""")  # fmt: skip
    assert done.stdout.splitlines() == ["interrupted [0] True", "done True"]


def test_a_press_during_the_late_import_of_numba_ends_a_prediction():
    done = run_apart(IMPORTING + """
pool = pool_of()
try:
    pool.predict(X)
except KeyboardInterrupt:
    print("raised", "numba" in sys.modules)
print(pool.fit(X, y).ended_)
""")  # fmt: skip
    assert done.stdout.splitlines() == ["raised True", "done"]


def test_the_second_press_of_a_user_ends_a_loop_of_fits():
    """Pressed whenever the line is read, as the line says."""
    done = run_apart("""
class User:
    def write(self, text):
        if "press Ctrl-C again" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return sys.__stderr__.write(text)
    def flush(self):
        pass
sys.stderr = User()
def press(end):
    if end.epoch == 2 and trial == 1:
        os.kill(os.getpid(), signal.SIGINT)
try:
    for trial in range(4):
        pool_of().fit(X, y, epochs=3, callbacks=[press])
        print(trial)
except KeyboardInterrupt:
    print("raised")
""")
    assert done.stdout.split() == ["0", "raised"]
