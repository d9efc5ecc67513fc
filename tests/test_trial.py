"""backend="auto": the trial that finds out whether the GPU pays, and what is said of it.

The GPU is emulated, or a stand-in: none of this has run on one.
"""

import sys

import numpy as np
import pytest

import emulated_device
import pmlp_np as pm
from c_header import compiler
from pmlp_np import backends
from pmlp_np.backends import trial
from strict_cupy import device_module


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is known from earlier trials; CuPy counts as installed."""
    ran = trial.run
    ran.cache_clear()
    trial._say_once.cache_clear()
    monkeypatch.setattr(trial, "_has_cupy", lambda: True)
    yield
    ran.cache_clear()


def auto(members=3):
    return pm.Pool([pm.Member(hidden=3)] * members, 2, backend="auto").backend


def found(monkeypatch, *values):
    monkeypatch.setattr(trial, "run", lambda dtype, create: trial.Trial(*values))


def test_without_cupy_it_is_the_cpu_and_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(trial, "_has_cupy", lambda: False)
    monkeypatch.setattr(trial, "run", None)
    assert auto() == "numba"
    assert capsys.readouterr().err == ""


def test_has_cupy(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not trial._has_cupy()
    monkeypatch.setitem(sys.modules, "cupy", device_module())
    assert trial._has_cupy()


def test_without_a_gpu_it_is_the_cpu_and_says_why_once(monkeypatch, capsys):
    def none(plan, device):
        raise pm.DeviceError("device: expected a GPU of compute capability 7.5 or newer, got 6.1.")

    monkeypatch.setitem(backends.BACKENDS, "cupy", backends.Entry(lambda: none, ("gpu",)))
    assert [auto(), auto()] == ["numba", "numba"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "takes the CPU: device: expected a GPU" in lines[0]


@pytest.mark.parametrize(
    ("speed_up", "members", "chosen"), [(50.0, 1024, "cupy"), (50.0, 3, "numba"), (0.7, 2000, "numba")]
)
def test_the_gpu_is_taken_where_it_pays_for_so_many_members(monkeypatch, capsys, speed_up, members, chosen):
    found(monkeypatch, True, speed_up)
    plan = pm.Pool([pm.Member(hidden=3)] * members, 2)._plan
    assert backends.resolve("auto", "", plan)[0] == chosen
    gain = speed_up * min(1.0, members / 1024)
    assert f"the GPU trains {members:,} members {gain:.1f} times as fast" in capsys.readouterr().err


def test_a_gpu_with_other_bits_is_not_taken(monkeypatch, capsys):
    found(monkeypatch, False, 50.0)
    assert auto(2000) == "numba"
    said = capsys.readouterr().err
    assert "does not compute the CPU's bits" in said and "`pmlp doctor`" in said


def test_other_names_need_no_trial(monkeypatch):
    monkeypatch.setattr(trial, "run", None)
    plan = pm.Pool(pm.Member(hidden=3), 2)._plan
    assert backends.resolve("reference", "gpu", plan) == ("reference", "gpu")


class OtherBits(emulated_device.EmulatedBackend):
    """A backend that draws one weight otherwise."""

    def initialize(self, members):
        super().initialize(members)
        weight = self.store.parameters[:1]
        self.store.parameters[:1] = weight + weight


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("made", [emulated_device.EmulatedBackend, OtherBits])
def test_the_trial_compares_bits_and_times(monkeypatch, made, dtype):
    compiler(("g++",))
    monkeypatch.setattr(trial, "_MEMBERS", 10)
    monkeypatch.setattr(trial, "_ROWS", 40)
    monkeypatch.setitem(backends.BACKENDS, "cupy", backends.Entry(lambda: made, ("gpu",)))
    ran = trial.run(dtype, backends.create)
    assert ran.same_bits == (made is not OtherBits)
    assert ran.speed_up > 0.0
    assert trial.run(dtype, backends.create) is ran


def test_a_saved_pool_is_loaded_on_the_backend_that_auto_takes(monkeypatch, tmp_path):
    compiler(("g++",))
    pool = pm.Pool([pm.Member(hidden=3)] * 2, 2)
    draw = np.random.default_rng()
    pool.fit(draw.normal(size=(20, 2)), draw.normal(size=20), epochs=2, progress=False)
    pool.save(tmp_path / "pool.pmlp")
    found(monkeypatch, True, 1e6)
    monkeypatch.setitem(backends.BACKENDS, "cupy", emulated_device.ENTRY)
    loaded = pm.load(tmp_path / "pool.pmlp", backend="auto")
    assert (loaded.backend, loaded.device) == ("cupy", "gpu")
