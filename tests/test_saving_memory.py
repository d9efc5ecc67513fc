"""Files stream: saving, loading and joining take at most 64 MB beside what pools hold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pmlp_np as pm
from member_state import restore, state_of
from pmlp_np import backends
from pmlp_np.backends.reference.backend import ReferenceBackend
from pmlp_np.state import layout

LIMIT = 64 * 10**6


def extra(work: Callable[[], object]) -> tuple[object, int]:
    """(what comes of it, by how many bytes more than that was once in use)."""
    tracemalloc.start()
    try:
        made = work()
        held, peak = tracemalloc.get_traced_memory()
        return made, peak - held
    finally:
        tracemalloc.stop()


def one_large() -> pm.Pool:
    """3 million parameters, with their average and two slots each."""
    return pm.Pool([pm.Member(hidden=(1000, 2500), average=0.9), pm.Member(hidden=3)], 200, backend="reference")


def many_small() -> pm.Pool:
    """2.5 million parameters, with a slot each."""
    pool = pm.Pool(pm.grid(hidden=[(20, 10)], optimizer=[pm.SGD(0.1, momentum=0.9)], repeats=5_000), 13,
                   backend="reference")  # fmt: skip
    pool._records.make_room(["loss", "validation_loss"], 50)
    return pool


@pytest.fixture(autouse=True)
def no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing millions of initial weights in NumPy takes long, and is not what is measured."""

    def initialize(backend: ReferenceBackend, members: np.ndarray) -> None:
        for buffer in (backend.store.parameters, backend.store.slots, backend.store.average):
            if buffer is not None:
                buffer[:] = np.arange(len(buffer), dtype=np.float32)

    monkeypatch.setattr(ReferenceBackend, "initialize", initialize)


@pytest.mark.parametrize("make", [one_large, many_small])
def test_files_and_parts_stream(tmp_path: Path, make: Callable[[], pm.Pool]) -> None:
    pool = make()
    size = sum(pool._ready().store.buffers().values()) * 4
    assert size > 5_000_000 * 4
    _, more = extra(lambda: pool.save(tmp_path / "a"))
    assert more < LIMIT
    loaded, more = extra(lambda: pm.load(tmp_path / "a"))
    assert more < LIMIT
    assert isinstance(loaded, pm.Pool)
    expected = state_of(pool._ready())
    for name, values in state_of(loaded._ready()).items():
        assert np.array_equal(values, expected[name])
    joined, more = extra(lambda: pm.concat([pool, loaded]))
    assert more < LIMIT
    assert isinstance(joined, pm.Pool)
    part, more = extra(lambda: joined.subset(joined.ids_[len(pool) :]))
    assert more < LIMIT
    assert isinstance(part, pm.Pool)
    for name, values in state_of(part._ready()).items():
        assert np.array_equal(values, expected[name])


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("most", [1, 7, 64, 1000])
def test_parts_of_any_size_hold_the_same(monkeypatch: pytest.MonkeyPatch, backend: str, most: int) -> None:
    """Members that fit into one part, rows of matrices that don't, and all between."""
    rng = np.random.default_rng()
    widths = [tuple(rng.integers(1, 20, rng.integers(0, 3)).tolist()) for _ in range(12)]
    rules = [pm.SGD(0.1), pm.SGD(0.1, momentum=0.5), pm.Adam()]
    specs = [
        pm.Member(hidden=w, optimizer=rules[i % 3], bias=i % 4 != 1, feature_scale=i % 5 == 2, average=0.9 * (i % 2))
        for i, w in enumerate(widths)
    ]
    plan = pm.Pool(specs, 4, n_outputs=2)._plan
    whole, again = (backends.create(backend, "cpu", plan) for _ in range(2))
    restore(whole, {name: rng.normal(size=size).astype(np.float32) for name, size in whole.store.buffers().items()})
    expected = state_of(whole)
    monkeypatch.setattr(layout, "PART", most)
    for name, values in state_of(whole).items():
        assert values.tobytes() == expected[name].tobytes()
        assert all(0 < len(part) <= most for part in whole.store.stream(name))
    restore(again, expected)
    monkeypatch.undo()
    assert {name: values.tobytes() for name, values in state_of(again).items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
