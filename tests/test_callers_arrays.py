"""What callers keep hold of, and do while a pool trains: right, or refused, and never read by compiled code."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from member_state import member_states
from varied_pool import differing_bits

N, F = 60, 6
SPECS = [pm.Member(hidden=(5,), learning_rate=0.02), pm.Member(hidden=()), pm.Member(hidden=(4, 3), average=0.5)]
IDS = [4, 2, 9]
WILD = 10**12


def data(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(7)
    X = draw.normal(size=(N, F)).astype(dtype)
    return X, (X[:, 0] + 0.1 * draw.normal(size=N)).astype(dtype)


def pool_of(backend: str, loss: str = "squared_error", outputs: int = 1, **settings: Any) -> pm.Pool:
    return pm.Pool(SPECS, F, outputs, loss, seed=3, ids=IDS, backend=backend, **settings)


def state_of(pool: pm.Pool) -> dict[str, np.ndarray]:
    return {
        f"{id} {name}": array.copy()
        for id, state in member_states(pool).items()
        for name, array in state.arrays().items()
    }


# Arrays that are written to while training goes on, and after it.


def rows_of(dtype: Any) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.integers(0, N, 30).astype(dtype) for _ in SPECS]


# By name: the arguments of fit, and the arrays in them that a callback scribbles over.
ARGUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "rows": lambda: {"rows": rows_of(np.int64)},
    "rows of one array": lambda: {"rows": np.stack(rows_of(np.int64))},
    "views of rows": lambda: {"rows": [row[::-1] for row in rows_of(np.int64)]},
    "rows as int32": lambda: {"rows": rows_of(np.int32)},
    "masks": lambda: {"rows": np.arange(3 * N).reshape(3, N) % 4 > 0},
    "features": lambda: {"features": [np.array([3, 0]), np.array([5, 4]), np.array([3, 0])]},
    "features as an array": lambda: {"features": np.array([[1, 5, 2]] * 3)},
    "validation rows": lambda: {"validation_rows": rows_of(np.int64), "early_stopping": True},
    "targets": lambda: {"targets": np.random.default_rng(2).normal(size=(3, N)).astype(np.float32)},
    "weights": lambda: {"sample_weight": np.arange(1.0, N + 1)},
    "weights of members": lambda: {"sample_weight": np.arange(1.0, 3 * N + 1, dtype=np.float32).reshape(3, N)},
    # X is used in place, so that what is written to it counts.
    "targets of validation": lambda: {"validation_data": (*data(), np.arange(1.0, N + 1))},
    "weights of validation": lambda: {"validation_data": (*data(), np.arange(1.0, N + 1)), "early_stopping": True},
}


def scribble(value: Any) -> None:
    """Write what no index, label or weight may be."""
    for each in value if isinstance(value, list) else [value]:
        owner = each
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        owner[...] = True if owner.dtype == bool else np.iinfo(owner.dtype).max if owner.dtype.kind == "i" else 1e30


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_are_written_to_while_training(backend: str, name: str, tmp_path: Path):
    X, y = data()
    given, undisturbed = ARGUMENTS[name](), ARGUMENTS[name]()
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 8, "progress": False}
    y = None if "targets" in given else y
    scribbled = next(iter(given.values()))
    if "of validation" in name:
        scribbled = scribbled[1 if "targets" in name else 2]
    expected = pool_of(backend).fit(X, y, **settings, **undisturbed)
    pool = pool_of(backend).fit(X, y, **settings, **given, callbacks=[lambda end: scribble(scribbled)])
    assert not differing_bits(state_of(pool), state_of(expected))
    scribble(scribbled)
    assert np.array_equal(pool.predict(X), expected.predict(X))
    pool.save(tmp_path / "p.pmlp")
    assert np.array_equal(pm.load(tmp_path / "p.pmlp").predict(X), expected.predict(X))
    pool.partial_fit(X, data()[1], epochs=1, progress=False)
    expected.partial_fit(X, data()[1], epochs=1, progress=False)
    assert not differing_bits(state_of(pool), state_of(expected))


@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 3), ("binary_cross_entropy", 1), ("poisson", 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_targets_that_are_written_to_while_training(backend: str, loss: str, outputs: int, dtype: str):
    """Labels that are no classes any more neither reach memory nor the members."""
    X = data()[0]
    labels = np.arange(N).astype(dtype) % max(outputs, 2)
    settings: dict[str, Any] = {"epochs": 3, "progress": False, "metrics": "log_loss" if outputs > 1 else ()}

    def fitted(y: np.ndarray, held: np.ndarray, **more: Any) -> pm.Pool:
        return pool_of(backend, loss, outputs).fit(X, y, validation_data=(X, held), **settings, **more)

    expected = fitted(labels.copy(), labels.copy())
    y, held = labels.copy(), labels.copy()
    pool = fitted(y, held, callbacks=[lambda end: (y.fill(-WILD), held.fill(WILD))])
    assert not differing_bits(state_of(pool), state_of(expected))


def test_features_that_are_written_to_from_another_thread(backend: str):
    """X is used in place: what is written to it is trained on, and members that cannot use it diverge."""
    X, y = data()
    pool = pool_of(backend)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            X[:] = np.nan

    writer = threading.Thread(target=write)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pm.DivergedWarning)
            pool.fit(X, y, epochs=5, progress=False, callbacks=[lambda end: writer.start() if end.epoch == 1 else None])
    finally:
        stop.set()
        writer.join()
    assert set(pool.status_) <= {"ok", "diverged"}
    pool.fit(*data(), epochs=1, progress=False)
    assert set(pool.status_) == {"ok"}


def test_results_that_are_written_to(backend: str):
    """What methods return is the caller's, or read-only."""
    X, y = data()
    pool = pool_of(backend).fit(X, y, epochs=2, progress=False, validation_data=(X, y), metrics="r2")
    before, board = state_of(pool), str(pool.leaderboard())
    mlp, ensemble = pool.extract(4), pool.ensemble([4, 9])
    results = [pool.predict(X), pool.forward(X), pool.evaluate(X, y), pool.score(X, y), pool.hidden(X, 4)]
    results += [*mlp.weights, *mlp.biases, ensemble.mlps[0].weights[0], ensemble.weights]
    for array in results:
        array[...] = 77
    for record in pool.leaderboard():
        record.clear()
    pool.history_.clear()
    columns = {**pool.specs.columns(), "rule": pool.specs.rule, "start": pool.specs.start}
    frozen = {**pool.history_, "ids": pool.ids_, **{n: c for n, c in columns.items() if not n.endswith("_names")}}
    for name, array in frozen.items():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array[...]
        assert not array.flags.writeable, name
    assert not differing_bits(state_of(pool), before) and str(pool.leaderboard()) == board


def test_ids_and_weights_that_are_written_to(backend: str):
    ids = np.array(IDS)
    pool = pm.Pool(SPECS, F, ids=ids, backend=backend)
    mlp = pool.extract(4)
    pool.set_weights(9, pm.Pool(SPECS[2], F, seed=8).extract(0))
    given = pm.Pool(SPECS[0], F, seed=9).extract(0)
    pool.set_weights(4, given)
    expected = given.predict(data()[0])
    ids[:] = 5
    for array in (*given.weights, *mlp.weights):
        array[...] = np.nan
    assert pool.ids_.tolist() == IDS
    np.testing.assert_allclose(pool.predict(data()[0], members=[4])[0], expected, rtol=1e-5, atol=1e-6)
    pool.fit(*data(), epochs=1, progress=False)
    assert set(pool.status_) == {"ok"}


@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (F, 4)])
def test_networks_whose_arrays_were_exchanged(backend: str, shape: tuple[int, int]):
    """A network is checked again when it is handed over: its arrays may not be those it was made of."""
    pool, mlp = pool_of(backend), pm.Pool(SPECS[0], F).extract(0)
    mlp.weights[0] = np.ones(shape, np.float32)
    before = state_of(pool)
    with pytest.raises(pm.DataError, match=r"mlp for member 4|weights\[1\]|biases\[0\]"):
        pool.set_weights(4, mlp)
    assert not differing_bits(state_of(pool), before)


# Results into memory that is something else too.


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba"])
@pytest.mark.parametrize("offset", [0, 1, 17, 3 * N * 2 - 1])
def test_out_may_lie_in_the_memory_of_x(backend: str, method: str, offset: int):
    memory = np.zeros(N * F + 3 * N * 2 + 64, np.float32)
    X = memory[offset : offset + N * F].reshape(N, F)
    X[...] = data()[0]
    pool = pool_of(backend, "binary_cross_entropy", 2).fit(X, np.arange(2 * N).reshape(N, 2) % 2, progress=False)
    expected = getattr(pool, method)(X)
    out = memory[: expected.size].view(np.float32).reshape(expected.shape)
    if method == "predict":
        out = np.frombuffer(bytearray(8 * expected.size), np.int64).reshape(expected.shape)
        X = np.ndarray((N, F), np.float32, out, offset=0)
        X[...] = memory[offset : offset + N * F].reshape(N, F)
    assert np.shares_memory(X, out)
    assert getattr(pool, method)(X, out=out) is out
    assert np.array_equal(out, expected)


def test_means_may_go_where_x_lies(backend: str):
    X = data()[0].copy()
    pool = pool_of(backend)
    expected = pool.forward(X, reduce="mean")
    out = X.reshape(-1)[3 : 3 + N].reshape(N, 1)
    assert np.array_equal(pool.forward(X, out=out, reduce="mean"), expected)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: np.lib.stride_tricks.as_strided(np.zeros(N, np.float32), (3, N), (0, 4)), "do not overlap"),
        (lambda: np.lib.stride_tricks.as_strided(np.zeros(2 * N, np.float32), (3, N), (4, 4)), "do not overlap"),
        (lambda: np.broadcast_to(np.zeros(N, np.float32), (3, N)), "writable"),
        (lambda: np.ma.masked_all((3, N), np.float32), "without masked entries"),
    ],
)
def test_out_that_overlaps_itself_is_refused(make: Callable[[], np.ndarray], expected: str):
    pool, X = pool_of("numba"), data()[0]
    with pytest.raises(pm.DataError, match=f"^out: expected .*{expected}"):
        pool.predict(X, out=make())
    out = np.empty((3, N), np.float32)  # as the error says
    assert np.array_equal(pool.predict(X, out=out), pool.predict(X))


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.empty((N, 3), np.float32).T,
        lambda: np.empty((3, 2 * N), np.float32)[:, ::2],
        lambda: np.empty((3, N), np.float32)[::-1, ::-1],
        lambda: np.frombuffer(bytearray(4 * 3 * N + 1), np.float32, offset=0, count=3 * N).reshape(3, N),
        lambda: np.ndarray((3, N), np.float32, bytearray(4 * 3 * N + 1), offset=1),
    ],
)
def test_out_may_lie_in_any_way(make: Callable[[], np.ndarray]):
    pool, X, out = pool_of("numba"), data()[0], make()
    pool.predict(X, out=out)
    assert np.array_equal(out, pool.predict(X))


# Calls while a pool is trained.


CHANGING: dict[str, Callable[[pm.Pool], Any]] = {
    "fit": lambda pool: pool.fit(*data(), progress=False),
    "partial_fit": lambda pool: pool.partial_fit(*data(), progress=False),
    "set_weights": lambda pool: pool.set_weights(4, pool.extract(4)),
}
READING: dict[str, Callable[[pm.Pool, Path], Any]] = {
    "save": lambda pool, folder: pool.save(folder / "p.pmlp"),
    "copy": lambda pool, folder: copy.copy(pool),
    "deepcopy": lambda pool, folder: copy.deepcopy(pool).fit(*data(), progress=False),
    "pickle": lambda pool, folder: pickle.loads(pickle.dumps(pool)).partial_fit(*data(), progress=False),
    "subset": lambda pool, folder: pool.subset([9, 4]).partial_fit(*data(), progress=False),
    "concat": lambda pool, folder: pm.concat([pool, pool]).set_weights(4, pool.extract(4)),
    "predict": lambda pool, folder: pool.predict(data()[0], weights="average"),
    "evaluate": lambda pool, folder: pool.evaluate(*data()),
    "score": lambda pool, folder: pool.score(*data(), metric="r2"),
    "extract": lambda pool, folder: pool.extract(2),
    "leaderboard": lambda pool, folder: (str(pool.leaderboard()), repr(pool), pool.status_, pool.history_),
    "another pool": lambda pool, folder: pool_of(pool.backend).fit(*data(), progress=False),
}


@pytest.mark.parametrize("name", CHANGING)
def test_calls_that_change_it_are_refused_in_callbacks(backend: str, name: str):
    X, y = data()
    pool = pool_of(backend).fit(X, y, progress=False)
    with pytest.raises(pm.DataError, match=f"^{name}: expected a pool that is not being trained, got .*callback"):
        pool.fit(X, y, epochs=3, progress=False, callbacks=[lambda end: CHANGING[name](pool)])
    # The call was refused, not the pool; and as the error says: end training first.
    assert pool._progress.epoch.tolist() == [1] * 3
    pool.fit(X, y, epochs=3, progress=False, callbacks=[lambda end: end.stop()])
    assert pool.ended_ == "stopped"
    CHANGING[name](pool)


@pytest.mark.parametrize("name", READING)
def test_calls_that_read_it_change_nothing_in_callbacks(backend: str, name: str, tmp_path: Path):
    X, y = data()
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 8, "progress": False, "validation_data": (X, y)}
    expected = pool_of(backend).fit(X, y, **settings, early_stopping=True)
    pool = pool_of(backend)
    pool.fit(X, y, **settings, early_stopping=True, callbacks=[lambda end: READING[name](pool, tmp_path)])
    assert not differing_bits(state_of(pool), state_of(expected))


WHOLE = ["save", "copy", "deepcopy", "pickle", "subset", "concat"]


@pytest.mark.parametrize("name", [*CHANGING, *READING])
def test_another_thread_while_it_is_trained(backend: str, name: str, tmp_path: Path):
    """What would change it, or would take half an epoch for a whole, is refused; the rest is right."""
    X, y = data()
    pool, found = pool_of(backend), []
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 8, "progress": False}
    expected = pool_of(backend).fit(X, y, **settings)

    def call() -> None:
        try:
            CHANGING[name](pool) if name in CHANGING else READING[name](pool, tmp_path)
            found.append(None)
        except pm.DataError as error:
            found.append(str(error))

    def in_thread(end: pm.EpochEnd) -> None:
        other = threading.Thread(target=call)
        other.start()
        other.join()

    pool.fit(X, y, **settings, callbacks=[in_thread])
    assert not differing_bits(state_of(pool), state_of(expected))
    for each in found:
        if name in CHANGING or name in WHOLE:
            assert (
                each is not None
                and "another thread is training" in each
                and each.split(":")[0] in (name, "copy or pickle")
            )
        else:
            assert each is None
    assert len(found) == 2
    call()  # as the error says, when that has returned
    assert found[-1] is None


def test_a_forked_or_copied_state_of_training_is_nobodys():
    """A copy that was made in a callback can be trained at once, and after the original has failed."""
    X, y = data()
    pool, copies = pool_of("numba"), []

    def fail(end: pm.EpochEnd) -> None:
        copies.append(copy.deepcopy(pool))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.fit(X, y, epochs=2, progress=False, callbacks=[fail])
    for each in (pool, *copies):
        each.partial_fit(X, y, epochs=1, progress=False)
    assert not differing_bits(state_of(pool), state_of(copies[0]))


def test_two_threads_ask_an_untrained_pool_at_once(backend: str):
    """They share one backend, whoever makes it."""
    pool = pool_of(backend)
    barrier, found = threading.Barrier(4), []

    def ask() -> None:
        barrier.wait()
        found.append(pool._ready())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each is pool._backend for each in found)
