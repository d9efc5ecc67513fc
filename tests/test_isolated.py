"""Promise 3: a member that diverges is marked, stops, and touches nobody; nor do padding, other pools or processes."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import pmlp_np as pm
from conftest import BACKENDS, run_python
from loss_variants import library_loss
from member_state import MemberState, member_states
from pmlp_np.backends import store
from pmlp_np.backends.numba import task_runner
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.losses import LOSSES
from strategies import Case, cases, random_data
from varied_pool import IDS, SETTINGS, Setting, assert_same_bits, differing_bits, every_setting, trained

numba_only = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

X, Y = random_data("squared_error", 60, 6, 2, seed=4)
FIT: dict[str, Any] = {"batch_size": 16, "progress": False}
# The second has three layers and few parameters after them: products that read whole groups of weight rows reach the
# neighbor's from its third, and pass on to its first.
HEALTHY = [
    pm.Member(hidden=(9,), activation="tanh"),
    pm.Member(hidden=(20, 20, 3), activation="leaky_relu", bias=False),
    pm.Member(hidden=(), optimizer=pm.SGD(0.01, momentum=0.9)),
    pm.Member(hidden=(5,), activation="sigmoid", optimizer=pm.SGD(0.01)),
]
HEALTHY_IDS = [10, 11, 12, 13]


def pool_of(members: list[pm.Member], ids: list[int], dtype: str, backend: str) -> pm.Pool:
    return pm.Pool(members, X.shape[1], Y.shape[1], seed=8, dtype=dtype, ids=ids, backend=backend)


def with_neighbor(neighbor: pm.Member, dtype: str, backend: str) -> pm.Pool:
    """A pool with the neighbor, id 0, in the middle of the healthy."""
    return pool_of([*HEALTHY[:2], neighbor, *HEALTHY[2:]], [*HEALTHY_IDS[:2], 0, *HEALTHY_IDS[2:]], dtype, backend)


def healthy_alone(dtype: str, backend: str, epochs: int) -> pm.Pool:
    return pool_of(HEALTHY, HEALTHY_IDS, dtype, backend).fit(X, Y, epochs=epochs, **FIT)


def assert_untouched(pool: pm.Pool, expected: pm.Pool, backend: str) -> None:
    """The healthy members are those of a pool without the neighbor: to the last bit where the backend promises it."""
    if backend == "numba":
        assert_same_bits(pool, expected, HEALTHY_IDS)
    states, others = member_states(pool), member_states(expected)
    for id in HEALTHY_IDS:
        assert states[id].progress == others[id].progress
        for name, values in states[id].arrays().items():
            # Products of other shapes round in another order.
            np.testing.assert_allclose(values, others[id].arrays()[name], rtol=1e-3, atol=1e-5, err_msg=name)


# That it is said is tested in test_diverged.py.
pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")

DIVERGING = {
    "sgd": pm.Member(hidden=(9,), activation="identity", optimizer=pm.SGD(1e6)),
    "sgd, deep": pm.Member(hidden=(9, 40), initializer="he_normal", optimizer=pm.SGD(1e5, momentum=0.9)),
    "linear": pm.Member(hidden=(), optimizer=pm.SGD(1e9)),
    "adam": pm.Member(hidden=(7,), activation="identity", optimizer=pm.Adam(1e200)),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", DIVERGING)
@both_dtypes
def test_a_diverging_neighbor_is_marked_stops_and_touches_nobody(backend: str, dtype: str, name: str) -> None:
    epochs = 40
    pool = with_neighbor(DIVERGING[name], dtype, backend).fit(X, Y, epochs=epochs, **FIT)
    assert pool.status_ == ["ok", "ok", "diverged", "ok", "ok"]
    assert_untouched(pool, healthy_alone(dtype, backend, epochs), backend)
    state = member_states(pool)[0]
    done, steps = state.progress["epoch"], state.progress["step"]
    # It stopped within an epoch, at the minibatch whose loss was not finite.
    assert state.progress["minibatch"] > 0
    assert steps == 4 * done + state.progress["minibatch"] < 4 * epochs
    assert np.isnan(state.curves["loss"][done + 1 :]).all()
    record = next(record for record in pool.leaderboard() if record["id"] == 0)
    assert (record["status"], record["rank"]) == ("diverged", 5)

    # It stays out of the compute, while the others go on.
    pool.partial_fit(X, Y, epochs=2, **FIT)
    later = member_states(pool)[0]
    assert later.progress["step"] == steps
    assert not differing_bits(without_curves(later), without_curves(state))
    assert_untouched(pool, healthy_alone(dtype, backend, epochs).partial_fit(X, Y, epochs=2, **FIT), backend)

    # fit starts anew with all.
    pool.fit(X, Y, epochs=epochs, **FIT)
    assert not differing_bits(member_states(pool)[0].arrays(), state.arrays())


def without_curves(state: MemberState) -> dict[str, np.ndarray]:
    return {name: values for name, values in state.arrays().items() if name not in state.curves}


@both_dtypes
def test_it_stops_at_the_minibatch_whose_loss_is_not_finite(backend: str, dtype: str) -> None:
    """The second of five: the first one's step is what leads there."""
    member = pm.Member(hidden=(), optimizer=pm.SGD({"float32": 1e30, "float64": 1e200}[dtype]))
    pool = pool_of([member, HEALTHY[2]], [0, 12], dtype, backend).fit(X, Y, epochs=1, batch_size=12, progress=False)
    progress = member_states(pool)[0].progress
    assert (progress["epoch"], progress["minibatch"], progress["step"]) == (0, 2, 2)
    assert pool.status_ == ["diverged", "ok"]


@both_dtypes
def test_diverging_members_with_validation_and_early_stopping(backend: str, dtype: str) -> None:
    validation = random_data("squared_error", 20, 6, 2, seed=5)
    arguments = FIT | {"validation_data": validation, "early_stopping": True, "patience": 40, "epochs": 40}
    pool = with_neighbor(DIVERGING["sgd"], dtype, backend).fit(X, Y, **arguments)
    alone = pool_of(HEALTHY, HEALTHY_IDS, dtype, backend).fit(X, Y, **arguments)
    assert pool.status_ == ["ok", "ok", "diverged", "ok", "ok"]
    assert_untouched(pool, alone, backend)
    assert np.isfinite(pool.forward(X, members=HEALTHY_IDS)).all()


@both_dtypes
def test_a_member_is_marked_whose_last_update_overflows(backend: str, dtype: str) -> None:
    """One minibatch: its loss, computed before the update, is finite; the weights after it are not."""
    largest = float(np.finfo(dtype).max)
    neighbor = pm.Member(hidden=(4,), activation="sigmoid", optimizer=pm.SGD(0.9 * largest, momentum=0.5))
    rows = slice(0, 16)
    pool = with_neighbor(neighbor, dtype, backend).fit(X[rows], 100 * Y[rows], epochs=1, **FIT)
    state = member_states(pool)[0]
    assert np.isfinite(state.curves["loss"]).all()
    assert not all(np.isfinite(w).all() for w in state.weights)
    assert pool.status_ == ["ok", "ok", "diverged", "ok", "ok"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@both_dtypes
def test_a_member_of_bad_parameters_touches_nobody(backend: str, dtype: str, value: float) -> None:
    for activation in ACTIVATIONS:
        pool = with_neighbor(pm.Member(hidden=(9, 17), activation=activation), dtype, backend).fit(X, Y, **FIT)
        position = pool.ids_.tolist().index(0)
        weights, biases = pool._backend.store.read(position, "last")
        for tensor in weights + biases:
            tensor[...] = value
        pool._backend.store.write(position, weights, biases)

        raw = pool.forward(X)
        pool.partial_fit(X, Y, epochs=2, **FIT)

        expected = healthy_alone(dtype, backend, 1)
        others = [i for i in range(5) if i != position]
        np.testing.assert_allclose(raw[others], expected.forward(X), rtol=1e-4, atol=1e-6)
        if value != value:
            assert np.isnan(raw[position]).all(), activation
        assert pool.status_ == ["ok", "ok", "diverged", "ok", "ok"], activation
        assert_untouched(pool, expected.partial_fit(X, Y, epochs=2, **FIT), backend)


# Padding.


def poison(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Fill with NaN all memory that kernels will write. Returns a list of what is handed out."""
    handed_out: list[np.ndarray] = []
    clean = store.allocate

    def allocate(n: int, dtype: np.dtype, xp: Any = np) -> np.ndarray:
        block = clean(n, dtype, xp)
        block[...] = np.nan
        handed_out.append(block)
        return block

    clean_scratch = task_runner.TaskRunner.new_scratch

    def new_scratch(runner: task_runner.TaskRunner, items: int | None = None) -> np.ndarray:
        block = clean_scratch(runner, items)
        block[...] = np.nan
        return block

    for module in (store, task_runner):
        monkeypatch.setattr(module, "allocate", allocate)
    monkeypatch.setattr(task_runner.TaskRunner, "new_scratch", new_scratch)
    return handed_out


def assert_padding_is_zero(pool: pm.Pool) -> None:
    """That of parameters, slots and best weights, and what lies behind the last block."""
    held = pool._backend.store
    layout = held.layout
    unused = layout.padding()
    assert unused.any()
    assert not held.parameters[: layout.size][unused].any()
    assert not held.parameters[layout.size :].any()
    for snapshot in (held.best, held.average):
        if snapshot is not None:
            assert not snapshot[: layout.size][unused].any()
    used_slots = 0
    for member in range(len(pool)):
        start, size = int(held.slot_offset[member]), int(layout.block_size[member])
        block = unused[int(layout.block_offset[member]) :][:size]
        for offset in range(start, start + int(held.slot_size[member]), size):
            assert not held.slots[offset : offset + size][block].any()
            used_slots += size
    assert not held.slots[used_slots:].any()


@numba_only
@every_setting
def test_poisoned_memory_changes_no_bit_and_padding_ends_zero(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, (X, y) = trained(setting), setting.data()
    outputs = expected.forward(X), expected.evaluate(X, y)
    handed_out = poison(monkeypatch)
    pool = setting.fit(setting.pool(), 1, n_threads=2)
    # Parameters, slots, averages, the scratch of two threads; the best ones, and the scratch of the forward from which
    # metrics are taken.
    assert len(handed_out) == 5 + 2 * setting.early_stopping
    setting.go_on(pool, 2, n_threads=3)
    assert_same_bits(pool, expected)
    assert_padding_is_zero(pool)
    assert np.array_equal(pool.forward(X), outputs[0]) and np.array_equal(pool.evaluate(X, y), outputs[1])
    # Also where buffers are made from others.
    part = setting.fit(setting.pool(), 1).subset(IDS[10:30])
    setting.go_on(part, 2)
    assert_same_bits(part, expected, IDS[10:30])
    assert_padding_is_zero(part)


@numba_only
@both_dtypes
def test_poisoned_memory_of_pools_made_from_others(dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a file, and from two that are joined; with best and averaged weights."""
    members = [pm.Member(hidden=(5, 17), activation="sigmoid", average=average) for average in (0.9, 0.0, 0.5)]
    arguments = FIT | {"validation_data": (X[:20], Y[:20]), "early_stopping": True, "epochs": 2}
    pool = pool_of(members, [0, 1, 2], dtype, "numba").fit(X, Y, **arguments)
    pool.save(tmp_path / "pool.pmlp")
    poison(monkeypatch)
    loaded = pm.load(tmp_path / "pool.pmlp")
    joined = pm.concat([pool.subset([0]), pool.subset([1, 2])])
    pool.partial_fit(X, Y, **arguments)
    for other in (loaded, joined):
        assert_padding_is_zero(other)
        assert_same_bits(other.partial_fit(X, Y, **arguments), pool)
        assert_padding_is_zero(other)


@numba_only
@both_dtypes
@given(case=cases())
def test_poisoned_memory_in_drawn_pools(dtype: str, case: Case) -> None:
    X, y = case.data(dtype)
    expected = case.pool(dtype).fit(X, y, **case.training())
    with pytest.MonkeyPatch.context() as patch:
        assert poison(patch) == []
        pool = case.pool(dtype).fit(X, y, **case.training())
        assert_same_bits(pool, expected)
        assert np.array_equal(pool.forward(X), expected.forward(X), equal_nan=True)
        assert np.array_equal(pool.evaluate(X, y), expected.evaluate(X, y), equal_nan=True)
    layout = pool._backend.layout
    unused = layout.padding()
    assert not pool._backend.store.parameters[: layout.size][unused].any()


@numba_only
@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"absolute_error", "quantile"}))
@both_dtypes
def test_adam_without_eps_keeps_padding_zero(dtype: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In padding its step is 0 / 0."""
    poison(monkeypatch)
    # Every gradient is other than zero, so that each step is a number: two losses have a few slopes only, which cancel.
    members = [
        pm.Member(hidden=hidden, activation="sigmoid", optimizer=optimizer)
        for hidden in [(), (5,), (17, 3)]
        for optimizer in (pm.Adam(eps=0.0), pm.AdamW(eps=0.0))
    ]
    X, y = random_data(loss, 40, 5, 3, dtype=dtype)
    pool = pm.Pool(members, 5, 3, library_loss(loss, 3), dtype=dtype).fit(X, y, epochs=3, progress=False)
    assert_padding_is_zero(pool)
    assert set(pool.status_) == {"ok"}
    assert all(np.isfinite(w).all() for state in member_states(pool).values() for w in state.weights)


# Others at work at the same time.


@numba_only
def test_two_threads_train_two_pools_at_once() -> None:
    first, second = SETTINGS[0], SETTINGS[3]
    expected = trained(first), trained(second)
    found: dict[Any, list[pm.Pool]] = {first: [], second: []}
    start = threading.Barrier(2)

    def work(setting: Setting) -> None:
        start.wait()
        for _ in range(5):
            found[setting].append(setting.fit(setting.pool(), n_threads=2))

    threads = [threading.Thread(target=work, args=(setting,)) for setting in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for setting, whole in zip((first, second), expected, strict=True):
        assert len(found[setting]) == 5
        for pool in found[setting]:
            assert_same_bits(pool, whole)


@numba_only
def test_threads_that_ask_one_pool_at_once() -> None:
    """Few rows are answered by the thread that asks, one at a time or in another way; many by helpers."""
    setting = SETTINGS[0]
    pool, (X, _) = trained(setting), setting.data()
    expected = pool.forward(X)
    wrong: list[slice] = []
    start = threading.Barrier(4)

    def ask(first: int) -> None:
        start.wait()
        for i in range(200):
            rows = slice(first, first + 1 + i % 7)
            if not np.array_equal(pool.forward(X[rows]), expected[:, rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@numba_only
def test_two_threads_on_a_layer_that_would_abort() -> None:
    """Numba's fallback, where the system has no OpenMP, ends a process in which two threads enter parallel code."""
    code = "import test_isolated; test_isolated.test_two_threads_train_two_pools_at_once()"
    run_python(code, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")


def train_in_child(setting: Setting, connection: Any) -> None:
    pool = setting.fit(setting.pool(), n_threads=2)
    connection.send({id: state.arrays() for id, state in member_states(pool).items()})


@numba_only
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_a_forked_child_trains_to_the_same_bits() -> None:
    setting = SETTINGS[1]
    expected = setting.fit(setting.pool(), n_threads=2)  # so that threads of the parent's exist
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=train_in_child, args=(setting, sender))
    with warnings.catch_warnings():
        # From Python 3.12 on forking beside other threads warns, and so does JAX where it is loaded; that it works is
        # what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        child.start()
    sender.close()
    try:
        assert receiver.poll(60), "the child did not finish"
        found = receiver.recv()
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
    for id, state in member_states(expected).items():
        assert not differing_bits(state.arrays(), found[id])
    # The parent can still train.
    assert_same_bits(setting.fit(setting.pool(), n_threads=2), expected)
