"""The store: buffers of members in any layout, on a stand-in for CuPy that refuses whatever CuPy refuses."""

import copy
import sys

import numpy as np
import pytest

import pmlp_np as pm
from pmlp_np import backends
from pmlp_np.backends import store as stores
from pmlp_np.backends.contract import IN_ORDER, Control
from pmlp_np.backends.store import BUFFERS, Store
from pmlp_np.data.dataset import Dataset
from pmlp_np.state import layout as layouts
from pmlp_np.state.layout import PoolLayout
from pmlp_np.state.progress import Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.history import History
from strict_cupy import device_module


def drawn_plan(draw, n=12):
    """Members of all that changes where numbers lie."""
    rules = [pm.SGD(0.1), pm.SGD(0.1, momentum=0.5), pm.Adam()]
    specs = [
        pm.Member(
            hidden=tuple(draw.integers(1, 20, draw.integers(0, 3)).tolist()), optimizer=rules[draw.integers(3)],
            bias=bool(draw.random() < 0.7), feature_scale=bool(draw.random() < 0.4),
            average=float(draw.choice([0.0, 0.9])),
        )
        for _ in range(n)
    ]  # fmt: skip
    return pm.Pool(specs, int(draw.integers(1, 20)), n_outputs=int(draw.integers(1, 4)))._plan


def store_of(plan, lanes, xp=np, slack=0):
    return Store(plan, PoolLayout(plan.specs, plan.fan_in, plan.n_raw_outputs, lanes), xp, slack)


def fed(values):
    """A function that gives so many next numbers."""
    rest = [values]

    def take(n):
        found, rest[0] = rest[0][:n], rest[0][n:]
        return found

    return take


def filled(store, draw, best=True):
    """Random numbers in all its buffers."""
    for name, count in (store.buffers() | ({"best": store.buffers()["parameters"]} if best else {})).items():
        store.restore(name, fed(draw.normal(size=count).astype(np.float32)))
    return store


def streamed(store):
    return {name: np.concatenate([np.zeros(0, np.float32), *store.stream(name)]) for name in store.buffers()}


def members_of(store, name):
    """The numbers of each member in a buffer, in canonical order."""
    sizes = store.layout.canonical_sizes() * (store.n_slots if name == "slots" else 1)
    return np.split(streamed(store)[name], np.cumsum(sizes)[:-1])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.tobytes() == expected[name].tobytes(), name


KINDS = {
    "padded": (16, np, 48),
    "plain": (1, np, 0),
    "device": (1, device_module(), 5),
    "padded device": (16, device_module(), 9),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_holds_the_same_numbers(kind, monkeypatch):
    """Written, kept, read, streamed, taken and copied as by a plain store, in parts of any size."""
    draw = np.random.default_rng()
    plan = drawn_plan(draw)
    plain, other = filled(store_of(plan, 1), draw), store_of(plan, *KINDS[kind])
    monkeypatch.setattr(layouts, "PART", int(draw.integers(1, 200)))
    for name, values in streamed(plain).items():
        other.restore(name, fed(values))
    assert_same(streamed(other), streamed(plain))
    some = draw.permutation(plan.n_members)[:5]
    for store in (plain, other):
        store.keep(some)
    for m in some.tolist():
        weights, biases = plain.read(m, "average")
        for store in (plain, other):
            store.write(m, [2.0 * w for w in weights], biases)
    assert_same(streamed(other), streamed(plain))
    for m in range(plan.n_members):
        for which in ("last", "best", "average"):
            for got, want in zip(sum(other.read(m, which), []), sum(plain.read(m, which), []), strict=True):
                assert got.tobytes() == want.tobytes()
    # Others too than those whose slots are cleared.
    some = draw.permutation(plan.n_members)[:9]
    part = plan.take(some)
    taken = store_of(part, *KINDS[kind])
    taken.fill(other, some)
    for name, values in streamed(taken).items():
        expected = np.concatenate([np.zeros(0, np.float32), *(members_of(plain, name)[m] for m in some)])
        assert values.tobytes() == expected.tobytes(), name
    again = store_of(plan, *KINDS[kind])
    again.put(copy.deepcopy(other.on_host()))
    assert_same(streamed(again), streamed(plain))


@pytest.mark.parametrize("lanes", [1, 8, 16])
def test_members_are_copied_one_by_one_as_together(lanes, monkeypatch):
    """Large ones are copied tensor by tensor, in parts of any size, small ones number by number."""
    draw = np.random.default_rng()
    for _ in range(5):
        plan = drawn_plan(draw)
        monkeypatch.setattr(stores, "_SMALL", 10**9)
        store = filled(store_of(plan, lanes, slack=3), draw)
        assert not store._copies_blocks()
        together = streamed(store)
        monkeypatch.setattr(stores, "_SMALL", 0)
        largest = int(store.layout.canonical_sizes().max())
        for part in (largest, 3 * largest, 1 << 17):
            monkeypatch.setattr(stores, "PART", part)
            assert store._copies_blocks()
            one_by_one = streamed(store)
            again = store_of(plan, lanes, slack=3)
            for name, values in together.items():
                assert values.tobytes() == one_by_one[name].tobytes()
                again.restore(name, fed(values))
                assert getattr(again, name).tobytes() == getattr(store, name).tobytes()
        # A huge one is copied in parts.
        monkeypatch.setattr(stores, "PART", largest - 1)
        assert not store._copies_blocks()
        monkeypatch.undo()


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_behind_and_between_is_zero(kind):
    draw = np.random.default_rng()
    plan = drawn_plan(draw)
    store = filled(store_of(plan, *KINDS[kind]), draw)
    for name in BUFFERS:
        buffer = getattr(store, name)
        values = buffer if isinstance(buffer, np.ndarray) else buffer.get()
        size = len(values) - store.slack
        assert not values[size:].any()
        if name != "slots":
            assert not values[:size][store.layout.padding()].any()


def test_started_members_have_no_slots_and_their_parameters_as_average():
    draw = np.random.default_rng()
    plan = drawn_plan(draw)
    store = filled(store_of(plan, 16), draw)
    members = draw.permutation(plan.n_members)[:6]
    before = streamed(store)
    for m in members.tolist():
        store.write(m, *store.read(m, "last"))
    for m in range(plan.n_members):
        slots = store.slots[int(store.slot_offset[m]) :][: int(store.slot_size[m])]
        assert slots.any() == (m not in members and store.slot_size[m] > 0)
        if m in members:
            for got, want in zip(sum(store.read(m, "average"), []), sum(store.read(m, "last"), []), strict=True):
                assert np.array_equal(got, want)
    assert np.array_equal(streamed(store)["best"], before["best"])


def test_a_best_is_made_of_all_members_at_first_need():
    draw = np.random.default_rng()
    store = filled(store_of(drawn_plan(draw), 16), draw, best=False)
    assert store.best is None and "best" not in store.buffers()
    first = streamed(store)["parameters"]
    assert store.weights("best") is store.parameters
    store.keep(np.array([3]))
    assert np.array_equal(streamed(store)["best"], first)


def test_free_memory_is_the_device_s(backend, monkeypatch):
    plan = drawn_plan(np.random.default_rng())
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 12345)
    name, device = backends.check(backend)
    if device == "cpu":
        assert backends.create(name, device, plan).free_memory() == 12345
    monkeypatch.setitem(sys.modules, "cupy", device_module(free=1 << 33))
    assert backends.create("reference", "gpu", plan).free_memory() == 1 << 33


def test_a_store_that_has_no_room_is_refused_before_it_is_made():
    plan = drawn_plan(np.random.default_rng())
    with pytest.raises(pm.PmlpError, match="^specs: expected no more than"):
        store_of(plan, 16, device_module(free=1000))


def test_averages_asked_for_while_members_train(backend, monkeypatch):
    """What another thread asks for in the middle of an epoch is not what holds at its end."""
    specs = [pm.Member(hidden=4, average=0.9), pm.Member(hidden=4)]
    name, device = backends.check(backend)
    made = backends.create(name, device, pm.Pool(specs, 3)._plan)
    made.initialize(np.arange(2))
    if device == "gpu":
        # A launch is not watched: one for each member.
        made._rate = 1.0
    draw, n = np.random.default_rng(), 64
    if backend == "numba":
        # Helper threads are watched while they work: a hundred times here, on a fast machine too.
        n = 1 << 18
        monkeypatch.setattr("pmlp_np.backends.numba.task_runner.SMALL_WORK", 0)
        monkeypatch.setattr("pmlp_np.backends.numba.threads._POLL_SECONDS", 1e-4)
    data = Dataset([draw.normal(size=(n, 3)).astype(np.float32)], draw.normal(size=(1, n)).astype(np.float32), 1)
    asked = []

    def tick(share):
        made.store.weights("average")
        asked.append(share)
        return False

    state = TrainingState.start(Progress.start(2), np.ones(2, bool), 1, np.full(2, 2), IN_ORDER)
    record = History(2).record(1, state.progress.epoch, False)
    made.train(np.arange(2), state, made.place(data), None, 1, record, Control(tick))
    assert asked[0] < 1.0
    (w, *_), _ = made.store.read(1, "last")
    assert np.array_equal(made.store.read(1, "average")[0][0], w)
    assert not np.array_equal(made.store.read(0, "average")[0][0], made.store.read(0, "last")[0][0])
