"""The CuPy backend on emulated kernels: equal bits with the Numba backend, for every option, in any order of threads.

The kernels' text is what a GPU would compile; see emulated_device.py. None of it has run on a GPU.
"""

import numpy as np
import pytest

import emulated_device
import pmlp_np as pm
import trained_bits
from c_header import compiler
from member_state import state_of
from pmlp_np import backends
from pmlp_np.backends.cupy.backend import CupyBackend
from trained_bits import CASES, committed, digest

SCHEDULES_OF_THREADS = [(0, 0), (2, 1), (2, 2)]


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    """The table with the backend "emulated"; without g++ these tests are skipped, and fail where CI=true."""
    compiler(("g++",))
    monkeypatch.setitem(backends.BACKENDS, "emulated", emulated_device.ENTRY)


@pytest.fixture
def on(monkeypatch):
    """From arguments of an emulated device to that device, which the backend runs on from then on."""

    def choose(**arguments):
        device = emulated_device.EmulatedDevice(**arguments)
        monkeypatch.setattr(emulated_device.EmulatedBackend, "on", device)
        return device

    return choose


@pytest.mark.parametrize("dtype", trained_bits.DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_trained_bits_are_the_cpu_s(name, dtype):
    assert digest(CASES[name].train(dtype, "emulated")) == committed()[name][dtype]


DRAWN = ("option: everything", "rows, shuffled by member", "early stopping by score", "targets", "shuffle: None")


@pytest.mark.parametrize(("order", "seed"), SCHEDULES_OF_THREADS)
@pytest.mark.parametrize("name", DRAWN)
def test_no_order_of_threads_changes_a_bit(name, order, seed, on):
    on(order=order, seed=seed)
    assert digest(CASES[name].train("float32", "emulated")) == committed()[name]["float32"]


@pytest.mark.parametrize("shared_bytes", [0, 3000, 9000, 30_000])
@pytest.mark.parametrize("name", ["option: everything", "rows, shuffled by member", "early stopping"])
def test_members_larger_than_shared_memory_have_the_same_bits(name, shared_bytes, on):
    device = on(shared_bytes=shared_bytes)
    assert digest(CASES[name].train("float32", "emulated")) == committed()[name]["float32"]
    assert any(name.endswith("mixed") for name, _ in device.launches)


def test_a_launch_trains_several_epochs():
    X, y = np.random.default_rng().normal(size=(2, 40, 3))
    device = emulated_device.EmulatedBackend.on
    device.launches.clear()
    pm.Pool(pm.grid(hidden=[(4,), (5,)]), 3, backend="emulated").fit(X, y[:, 0], epochs=30, progress=False)
    trained = [name for name, _ in device.launches if name.startswith("train")]
    assert 0 < len(trained) < 30


@pytest.mark.parametrize(("first", "second"), [("numba", "emulated"), ("emulated", "numba")])
def test_a_run_goes_on_elsewhere_with_the_same_bits(first, second, tmp_path):
    draw = np.random.default_rng()
    X, y = draw.normal(size=(50, 4)).astype(np.float32), draw.normal(size=50).astype(np.float32)
    specs = pm.grid(hidden=[(3,), (20, 5), ()], optimizer=[pm.Adam(), pm.SGD(0.01, momentum=0.9)], dropout=0.1)
    whole = pm.Pool(specs, 4, backend="numba", seed=5)
    part = pm.Pool(specs, 4, backend=first, seed=5)
    for pool in (whole, part):
        pool.fit(X, y, epochs=3, batch_size=16, progress=False)
    other = pm.Pool(specs, 4, backend=second, seed=5)._ready()
    before = part._ready()
    for name in before.store.buffers():
        numbers = np.concatenate(list(before.store.stream(name)))
        other.store.restore(name, _taker(numbers))
    part._backend = other
    for pool in (whole, part):
        pool.partial_fit(X, y, epochs=2, batch_size=16, progress=False)
    expected, found = state_of(whole._ready()), state_of(part._ready())
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert np.array_equal(values, found[name]), name


def _taker(numbers):
    at = 0

    def take(n):
        nonlocal at
        at += n
        return numbers[at - n : at]

    return take


def test_registered_formulas_are_rendered(own_formulas):
    v = pm.formulas.vocabulary
    pm.register_activation(
        "bent", lambda z: (0.5 * (z + v.sqrt(z * z + 1.0)), 0.5 + 0.5 * z / v.sqrt(z * z + 1.0))
    )  # fmt: skip
    draw = np.random.default_rng()
    X, y = draw.normal(size=(30, 3)), draw.normal(size=30)
    pools = [pm.Pool([pm.Member(hidden=(6,), activation="bent")], 3, backend=name) for name in ("numba", "emulated")]
    for pool in pools:
        pool.fit(X, y, epochs=2, progress=False)
    assert np.array_equal(*(pool.forward(X) for pool in pools))


def test_the_contract_is_the_library_s():
    assert backends.BACKENDS["cupy"].load() is CupyBackend
    assert backends.check("cupy") == ("cupy", "gpu")
