"""The CuPy backend on emulated kernels: equal bits with the Numba backend, for every option, in any order of threads.

The kernels' text is what a GPU would compile; see emulated_device.py. None of it has run on a GPU.
"""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cuda_sample
import emulated_device
import pmlp_np as pm
import trained_bits
from c_header import compiler
from member_state import state_of
from pmlp_np import backends
from pmlp_np.backends.cupy import device
from pmlp_np.backends.cupy.backend import CupyBackend
from pmlp_np.backends.cupy.formulas_text import pool_text
from pmlp_np.backends.cupy.program_text import program_text
from pmlp_np.data.encoded import EncodedTable, Encoding
from pmlp_np.formulas.losses import as_loss
from strict_cupy import device_module
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
        chosen = emulated_device.EmulatedDevice(**arguments)
        monkeypatch.setattr(emulated_device.EmulatedBackend, "on", chosen)
        return chosen

    return choose


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", trained_bits.DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_trained_bits_are_the_cpu_s(name, dtype):
    assert digest(CASES[name].train(dtype, "emulated")) == committed()[name][dtype]


def test_the_committed_sample_of_formulas_is_what_is_rendered():
    assert cuda_sample.rendered() == cuda_sample.FILE.read_text("utf-8"), "python tests/cuda_sample.py writes it anew"


DRAWN = ("option: everything", "rows, shuffled by member", "early stopping by score", "targets", "shuffle: None")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("order", "seed"), SCHEDULES_OF_THREADS)
@pytest.mark.parametrize("name", DRAWN)
def test_no_order_of_threads_changes_a_bit(name, order, seed, on):
    on(order=order, seed=seed)
    assert digest(CASES[name].train("float32", "emulated")) == committed()[name]["float32"]


@pytest.mark.parametrize("dtype", trained_bits.DTYPES)
def test_encoded_columns_are_read_as_their_inputs(dtype):
    draw = np.random.default_rng()
    encoding = Encoding(2, (draw.uniform(size=3), draw.uniform(size=2)))
    numbers = np.column_stack([draw.normal(size=(40, 2)), np.zeros((40, 4))])
    numbers[:, 2::2], numbers[:, 3::2] = draw.integers(0, encoding.bins, (40, 2)), draw.random((40, 2))
    table, members = (
        EncodedTable.checked(numbers.astype(dtype), encoding),
        [pm.Member(hidden=h) for h in ((), (5,), (3, 4))],
    )
    y = draw.normal(size=40)

    def fitted(backend, X):
        pool = pm.Pool(members, 7, backend=backend, dtype=dtype)
        return pool.fit(X, y, epochs=2, progress=False, validation_data=(X, y))

    found, expected = fitted("emulated", table), fitted("numba", table.expanded())
    assert np.array_equal(found.forward(table), expected.forward(table.expanded()))
    assert np.array_equal(found.history_["validation_loss"], expected.history_["validation_loss"])


@pytest.mark.parametrize("shared_bytes", [0, 3000, 9000, 30_000])
@pytest.mark.parametrize("name", ["option: everything", "rows, shuffled by member", "early stopping"])
def test_members_larger_than_shared_memory_have_the_same_bits(name, shared_bytes, on):
    small = on(shared_bytes=shared_bytes)
    assert digest(CASES[name].train("float32", "emulated")) == committed()[name]["float32"]
    assert any(kernel.endswith("mixed") for kernel, _ in small.launches)


@pytest.mark.parametrize("name", ["optimizer: adam", "option: everything"])
def test_slots_that_would_cost_a_block_stay_where_they_are(name, on):
    """In global memory, while all else is in shared memory."""
    crowded = on(processor_shared_bytes=1 << 40)
    expected = CASES[name].train("float32", "emulated")
    of_all = crowded.most_shared
    crowded = on(processor_shared_bytes=2 * of_all)
    found = CASES[name].train("float32", "emulated")
    assert digest(found) == digest(expected) == committed()[name]["float32"]
    assert crowded.most_shared < of_all
    assert all(kernel.endswith("shared") for kernel, _ in crowded.launches if kernel.startswith("train"))


def test_tiles_lie_where_a_division_of_integers_says():
    """Also of matrices so large that no test trains them: the kernels multiply by a reciprocal instead."""
    text = program_text("float32", pool_text(as_loss("squared_error"), "float32", ["tanh"], [], []), [])
    check = """
        extern "C" int64 wrong_tiles(const int width, const int from, const int count) {
            const Across quads = across(width);
            int64 wrong = 0;
            for (int n = 0; n < count; ++n) {
                const int quad = from + n, down = quad / quads.quads, over = quad % quads.quads;
                const Tile tile = tile_of(4 * quad + 3, quads);
                wrong += tile.row != TILE_ROWS * (2 * down + 1) || tile.unit != TILE_UNITS * (2 * over + 1);
            }
            return wrong;
        }"""
    source = "\n".join([emulated_device.EMULATOR, text, check])
    wrong = ctypes.CDLL(str(emulated_device.compiled(source, emulated_device.FLAGS))).wrong_tiles
    wrong.restype = ctypes.c_int64
    draw = np.random.default_rng()
    for width in [1, 8, 16, 17, 100, *draw.integers(1, 1 << 16, 20).tolist()]:
        quads = -(-width // 16)
        for last in (4000, quads << 10, min(quads << 20, 1 << 28)):
            assert wrong(width, max(0, last - 4000), 4000) == 0, (width, last)


def test_a_launch_trains_several_epochs():
    X, y = np.random.default_rng().normal(size=(2, 40, 3))
    launches = emulated_device.EmulatedBackend.on.launches
    launches.clear()
    pm.Pool(pm.grid(hidden=[(4,), (5,)]), 3, backend="emulated").fit(X, y[:, 0], epochs=30, progress=False)
    trained = [name for name, _ in launches if name.startswith("train")]
    assert 0 < len(trained) < 30


@pytest.mark.parametrize(("first", "second"), [("numba", "emulated"), ("emulated", "numba")])
def test_a_run_goes_on_elsewhere_with_the_same_bits(first, second, tmp_path):
    draw = np.random.default_rng()
    X, y = draw.normal(size=(50, 4)).astype(np.float32), draw.normal(size=50).astype(np.float32)
    specs = pm.grid(hidden=[(3,), (20, 5), ()], optimizer=[pm.Adam(), pm.SGD(0.01, momentum=0.9)], dropout=0.1)
    whole, part = (pm.Pool(specs, 4, backend=name, seed=5) for name in ("numba", first))
    for pool in (whole, part):
        pool.fit(X, y, epochs=3, batch_size=16, progress=False)
    part.save(tmp_path / "pool.pmlp")
    other = pm.load(tmp_path / "pool.pmlp", backend=second)
    assert other.backend == second
    for pool in (whole, other):
        pool.partial_fit(X, y, epochs=2, batch_size=16, progress=False)
    expected, found = state_of(whole._ready()), state_of(other._ready())
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert np.array_equal(values, found[name]), name


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


def failing(name, module="cupy.cuda.compiler", text="no such thing\nmore"):
    return type(name, (Exception,), {"__module__": module})(text)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            failing("CompileException"),
            "^device: expected a GPU that can do it, got CompileException: no such thing. .*numba",
        ),
        (failing("CUDARuntimeError", "cupy_backends.cuda.api.runtime"), "^device: .* pm.load"),
    ],
)
def test_a_failing_gpu_is_explained(error, expected):
    with pytest.raises(pm.DeviceError, match=expected), device.explained("do it"):
        raise error


def test_a_full_gpu_and_other_errors_are_told_apart():
    with pytest.raises(pm.MemoryNeededError, match="^specs: .*float32"), device.explained("do it"):
        raise failing("OutOfMemoryError", "cupy.cuda.memory")
    with pytest.raises(KeyError), device.explained("do it"):
        raise KeyError("ours")


def test_without_cupy_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device.gpu.cache_clear()
    pool = pm.Pool(pm.Member(hidden=3), 2, backend="cupy")
    with pytest.raises(pm.DataError, match="pip install cupy-cuda12x"):
        pool.fit(np.zeros((4, 2)), np.zeros(4), progress=False)
    saved = pm.Pool(pm.Member(hidden=3), 2, backend="emulated").fit(np.ones((4, 2)), np.ones(4), progress=False)
    saved.save(tmp_path / "pool.pmlp")
    with pytest.raises(pm.DataError, match="backend='numba'"):
        pm.load(tmp_path / "pool.pmlp", backend="cupy")
    with pytest.raises(pm.DataError, match="^backend: expected"):
        pm.load(tmp_path / "pool.pmlp", backend="torch")


def test_an_old_gpu_is_refused(monkeypatch):
    old = device_module()
    old.cuda.Device = lambda: SimpleNamespace(compute_capability="70", attributes={})
    monkeypatch.setitem(sys.modules, "cupy", old)
    with pytest.raises(pm.DeviceError, match="compute capability 7.5 or newer, got 7.0"):
        device.CupyDevice()
