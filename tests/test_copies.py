"""Copies of every kind, made after any public method, share nothing with the original and train on to the same bits."""

from __future__ import annotations

import copy
import inspect
import io
import multiprocessing
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmlp_np as pm
from conftest import BACKENDS, requires, run_python
from member_state import member_states
from pmlp_np.formulas import vocabulary as v
from varied_pool import differing_bits

N, F = 40, 5
MEMBERS = [
    pm.Member(hidden=(6, 3), activation=("tanh", "relu"), average=0.9, learning_rate=0.02),
    pm.Member(hidden=(), optimizer=pm.SGD(momentum=0.9)),
    pm.Member(hidden=9, activation="gelu", dropout=0.3, input_dropout=0.2, bias=False, optimizer="adamw"),
    pm.Member(hidden=4, feature_scale=True, clip_norm=0.5, optimizer=pm.RMSprop(momentum=0.5), seed=5),
    pm.Member(hidden=17, activation="sigmoid", schedule="cosine", schedule_epochs=6, plateau_patience=1),
]
IDS = [3, 2**40, 7, 1, 12]
DTYPES = ("float32", "float64")
KINDS = [(backend, dtype) for backend in BACKENDS for dtype in DTYPES]


def data(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, F))
    return X, X @ draw.normal(size=F) + 0.1 * draw.normal(size=n)


X, Y = data()
TRAINING: dict[str, Any] = {"batch_size": 8, "shuffle": "member", "progress": False}
STOPPING: dict[str, Any] = {"validation_data": data(20, 1), "early_stopping": True, "patience": 2, "metrics": "r2"}


def pool_of(backend: str, dtype: str = "float32") -> pm.Pool:
    return pm.Pool(MEMBERS, F, seed=4, ids=IDS, backend=backend, dtype=dtype)


def fitted(backend: str, dtype: str = "float32") -> pm.Pool:
    return pool_of(backend, dtype).fit(X, Y, epochs=2, **TRAINING, **STOPPING)


def state_of(pool: pm.Pool) -> dict[str, np.ndarray]:
    """All that its members are, by name, as copies."""
    return {
        f"{id} {name}": array.copy()
        for id, state in member_states(pool).items()
        for name, array in state.arrays().items()
    } | {"ids": pool.ids_.copy()}


def trained_on(pool: pm.Pool) -> dict[str, np.ndarray]:
    return state_of(pool.partial_fit(X, Y, epochs=2, **TRAINING, **STOPPING))


def saved(pool: pm.Pool, folder: Path) -> pm.Pool:
    pool.save(folder / "pool.pmlp")
    return pm.load(folder / "pool.pmlp")


# A call of every public method; what a method returns is looked at where it is a pool.
METHODS: dict[str, Callable[[pm.Pool, Path], Any]] = {
    "fit": lambda pool, _: pool.fit(X, Y, epochs=1, **TRAINING, features=[[0, 2, 3]] * 5, rows=[np.arange(30)] * 5),
    "partial_fit": lambda pool, _: pool.partial_fit(X, Y, epochs=1, **TRAINING, sample_weight=np.arange(N) % 3),
    "forward": lambda pool, _: pool.forward(X, members=IDS[1:3]),
    "predict": lambda pool, _: pool.predict(X[:1]),
    "predict_proba": lambda pool, _: pytest.raises(pm.DataError, pool.predict_proba, X),
    "predict_std": lambda pool, _: pytest.raises(pm.DataError, pool.predict_std, X),
    "predict_quantiles": lambda pool, _: pytest.raises(pm.DataError, pool.predict_quantiles, X),
    "evaluate": lambda pool, _: pool.evaluate(X, Y, weights="average"),
    "out_of_fold": lambda pool, _: pool.out_of_fold(X, [np.arange(i, N, 5) for i in range(5)]),
    "score": lambda pool, _: pool.score(X, Y, metric="r2"),
    "hidden": lambda pool, _: pool.hidden(X, 12),
    "features_of": lambda pool, _: pool.features_of(12),
    "leaderboard": lambda pool, _: pool.leaderboard(),
    "extract": lambda pool, _: pool.extract(7, weights="last"),
    "ensemble": lambda pool, _: pool.ensemble([3, 1]).predict(X),
    "set_weights": lambda pool, _: pool.set_weights(7, pool.extract(7)),
    "subset": lambda pool, _: pool.subset(IDS[::-1]),
    "save": saved,
}
# Functions that return pools, and what shows a pool.
FUNCTIONS: dict[str, Callable[[pm.Pool, Path], Any]] = {
    "nothing": lambda pool, _: None,
    "repr": lambda pool, _: repr(pool),
    "concat": lambda pool, _: pm.concat([pool, pool.subset([1])]),
    "part of a concat": lambda pool, _: pm.concat([pool.subset([1]), pool_of(pool.backend, pool.dtype)]),
    "a fit that failed": lambda pool, _: pytest.raises(pm.DataError, pool.fit, X, Y[1:]),
    "copies": lambda pool, _: pickle.loads(pickle.dumps(copy.copy(copy.deepcopy(pool)))),
}


def test_every_public_method_is_tried():
    methods = {name for name, _ in inspect.getmembers(pm.Pool, inspect.isfunction) if not name.startswith("_")}
    assert methods == METHODS.keys()


def in_memory(dump: Callable[[Any, Any], Any], load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def again(value: Any) -> Any:
        file = io.BytesIO()
        dump(value, file)
        file.seek(0)
        return load(file)

    return again


def out_of_band(value: Any) -> Any:
    """A pickle whose arrays lie in buffers that are then written to."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    held = [bytearray(buffer.raw()) for buffer in buffers]
    again = pickle.loads(stream, buffers=held)
    for each in held:
        each[:] = b"\xff" * len(each)
    return again


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "out of band": out_of_band,
    **{
        f"pickle {number}": lambda value, number=number: pickle.loads(pickle.dumps(value, number))
        for number in (0, pickle.DEFAULT_PROTOCOL, pickle.HIGHEST_PROTOCOL)
    },
}


@pytest.mark.parametrize(("call", "dtype"), [(call, DTYPES[i % 2]) for i, call in enumerate(METHODS | FUNCTIONS)])
def test_copies_after_every_method(backend: str, dtype: str, call: str, tmp_path: Path):
    pool = fitted(backend, dtype)
    result = (METHODS | FUNCTIONS)[call](pool, tmp_path)
    kinds = ("copy.copy", "out of band") if backend == "reference" else COPIES
    for each in [pool, result] if isinstance(result, pm.Pool) and result is not pool else [pool]:
        before = state_of(each)
        copies = {kind: COPIES[kind](each) for kind in kinds}
        # Copies train on, in other orders, and the original is what it was.
        found = {kind: trained_on(copied) for kind, copied in copies.items()}
        assert not differing_bits(state_of(each), before), "the original has changed"
        expected = trained_on(each)
        for kind, arrays in found.items():
            assert not differing_bits(arrays, expected), kind
            assert not differing_bits(state_of(copies[kind]), arrays), kind
            assert copies[kind].ended_ == "done" and repr(copies[kind]) == repr(each)
            assert np.array_equal(copies[kind].predict(X), each.predict(X)), kind


CHILD = """
import pickle, sys
import test_copies
with open(sys.argv[1], "rb") as file:
    pools = pickle.load(file)
with open(sys.argv[1], "wb") as file:
    pickle.dump({name: test_copies.trained_on(pool) for name, pool in pools.items()}, file)
"""


def test_in_a_process_of_its_own(tmp_path: Path):
    """After each method on each backend; one process reads all of them."""
    pools = {}
    for i, (name, call) in enumerate((METHODS | FUNCTIONS).items()):
        pool = fitted(*KINDS[i % len(KINDS)])
        result = call(pool, tmp_path)
        pools[name] = result if isinstance(result, pm.Pool) else pool
    path = tmp_path / "pools.pickle"
    path.write_bytes(pickle.dumps(pools))
    run_python(CHILD, str(path))
    found = pickle.loads(path.read_bytes())
    for name, pool in pools.items():
        assert not differing_bits(found[name], trained_on(pool)), name


def test_before_any_training(backend: str):
    for make in COPIES.values():
        pool = make(pool_of(backend))
        assert pool.ended_ == "" and not pool.history_
        pool.fit(X, Y, epochs=2, **TRAINING, **STOPPING)
        assert not differing_bits(state_of(pool), state_of(fitted(backend)))


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
def test_joblib_files(backend: str, mode: str | None, tmp_path: Path):
    """Arrays that were mapped from a file are the copy's own, and the file stays what it is."""
    joblib = requires("joblib")
    pool = fitted(backend)
    joblib.dump(pool, tmp_path / "pool.joblib")
    held = (tmp_path / "pool.joblib").read_bytes()
    copied = joblib.load(tmp_path / "pool.joblib", mmap_mode=mode)
    assert not differing_bits(trained_on(copied), trained_on(pool))
    assert (tmp_path / "pool.joblib").read_bytes() == held


def test_joblib_workers_and_clones(backend: str):
    """Arguments above max_nbytes reach workers as read-only files."""
    joblib = requires("joblib")
    pool = fitted(backend)
    with joblib.Parallel(n_jobs=2, max_nbytes=1) as parallel:
        found = parallel([joblib.delayed(trained_on)(pool)])
    cloned = requires("sklearn.base").clone(pool, safe=False)
    expected = trained_on(pool)
    assert not any(differing_bits(arrays, expected) for arrays in [*found, trained_on(cloned)])


STARTS = [name for name in ("spawn", "fork") if name in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("method", STARTS)
def test_workers_of_multiprocessing(backend: str, method: str):
    pool = fitted(backend)
    with warnings.catch_warnings():
        # From Python 3.12 on forking beside other threads warns; that it works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        with multiprocessing.get_context(method).Pool(1) as workers:
            found = workers.apply_async(trained_on, (pool,)).get(120)
    assert not differing_bits(found, trained_on(pool))


# Networks, specs and the rest of what users hold.


def epoch_end() -> pm.EpochEnd:
    ends: list[pm.EpochEnd] = []
    pool_of("numba").fit(X, Y, epochs=1, **TRAINING, **STOPPING, callbacks=[ends.append])
    return ends[0]


def test_networks_and_ensembles():
    pool = fitted("numba")
    for model in (pool.extract(3), pool.subset([12]).fit(X, Y, features=[[4, 1]], **TRAINING).extract(12),
                  pool.ensemble([3, 7], weights=[1, 2])):  # fmt: skip
        for kind, make in COPIES.items():
            copied = make(model)
            assert type(copied) is type(model) and repr(copied) == repr(model), kind
            assert copied.predict(X).tobytes() == model.predict(X).tobytes(), kind
            before = model.predict(X)
            for mlp in getattr(copied, "mlps", [copied]):
                mlp.weights[0][...] = 0.0
            assert model.predict(X).tobytes() == before.tobytes(), kind


@pytest.mark.parametrize("specs", [pm.Specs.from_members(MEMBERS), pm.grid(hidden=[(1,), (2, 3)], repeats=3)])
def test_specs_stay_read_only(specs: pm.Specs):
    for kind, make in COPIES.items():
        copied = make(specs)
        assert copied == specs and list(copied) == list(specs), kind
        for name, column in (specs.columns() | vars(copied)).items():
            assert name.endswith("_names") or not column.flags.writeable, name
        assert not np.shares_memory(copied.widths, specs.widths)
        assert make(specs[:1]) == specs[:1] and len(make(specs[:0])) == 0


def test_a_million_members_are_pickled_in_few_bytes():
    """Options that nobody uses take one row, in a pickle as in memory."""
    specs = pm.grid(hidden=[(1,)], repeats=1_000_000)
    assert len(pickle.dumps(specs)) < 2 * specs.nbytes
    assert copy.deepcopy(specs).nbytes == specs.nbytes


def test_other_things_of_users():
    end = epoch_end()
    things = [
        *MEMBERS, pm.Adam(0.1), pm.SGD(0.1, momentum=0.5), pm.Huber(0.3), pm.Quantile((0.2, 0.7)),
        pm.SquaredError(output_weight=(1.0, 2.0)), pm.uniform(0.0, 2.0), pm.integers(1, 9), pm.log_uniform(1.0, 2.0),
        fitted("numba").leaderboard(), end,
    ]  # fmt: skip
    for thing in things:
        for kind, make in COPIES.items():
            copied = make(thing)
            assert type(copied) is type(thing) and str(copied) == str(thing), kind
            if isinstance(thing, pm.EpochEnd):
                assert all(np.array_equal(copied.curves[name], thing.curves[name]) for name in thing.curves)
                with pytest.raises(ValueError, match="read-only"):
                    copied.ids[0] = 1
                copied.stop(IDS[:1])
                assert copied._leaving()[0].sum() == 1 and not thing._leaving()[0].any()
            elif not isinstance(thing, list):
                assert copied == thing or isinstance(thing, pm.Pool), kind


# Whether so few rows are learned in time is not what is asked here.
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_scikit_learn_estimators_of_members():
    clone = requires("sklearn.base").clone
    estimator = fitted("numba").extract(12).to_sklearn()
    expected = estimator.predict(X)
    for make in (copy.copy, copy.deepcopy, COPIES["pickle 5"]):
        assert np.array_equal(make(estimator).predict(X), expected)
    assert clone(estimator).fit(X, Y).predict(X).shape == expected.shape


def test_torch_modules_of_members():
    torch = requires("torch")
    module = fitted("numba").extract(3).to_torch()
    given = torch.tensor(X, dtype=torch.float32)
    for kind, make in COPIES.items():
        if kind not in ("copy.copy", "out of band"):
            assert torch.equal(make(module)(given), module(given)), kind


# Formulas of users, and other versions.


def own_loss(raw: Any, target: Any) -> Any:
    error = raw - target
    return v.mean_outputs(error * error), 2.0 * error / v.n_outputs(raw)


WITHOUT = """
import pickle, sys
import pytest
import pmlp_np as pm
v = pm.formulas.vocabulary
for path in sys.argv[1:]:
    with open(path, "rb") as file, pytest.raises(pm.PmlpError, match="'shifted_tanh'|'own_loss'") as error:
        pickle.load(file)
    assert "pm.register_" in str(error.value) or "member" in path, str(error.value)
# Other numbers stand for it where other formulas were entered first.
pm.register_activation("another", lambda z: (2.0 * v.tanh(z), 2.0 - 2.0 * v.tanh(z) * v.tanh(z)))
pm.register_activation("shifted_tanh", lambda z: (v.tanh(z), 1.0 - v.tanh(z) * v.tanh(z)))
with open(sys.argv[1], "rb") as file:
    pool = pickle.load(file)
assert [member.activation for member in pool.specs] == ["shifted_tanh", "relu"]
"""


def test_formulas_of_users_travel_by_name(own_formulas: None, tmp_path: Path):
    pm.register_activation("shifted_tanh", lambda z: (v.tanh(z), 1.0 - v.tanh(z) * v.tanh(z)))
    pm.register_loss("own_loss", own_loss)
    specs = [pm.Member(hidden=3, activation="shifted_tanh"), pm.Member(hidden=3)]
    by_activation, by_loss = pm.Pool(specs, F), pm.Pool(specs[1], F, loss="own_loss").fit(X, Y, **TRAINING)
    things = {
        "pool": by_activation, "loss": by_loss, "member": specs[0], "specs": by_activation.specs,
        "mlp": by_activation.extract(0), "mlp of a loss": by_loss.extract(0), "ensemble": by_activation.ensemble([0]),
    }  # fmt: skip
    for name, thing in things.items():
        for kind, make in COPIES.items():
            assert repr(make(thing)) == repr(thing), (name, kind)
        (tmp_path / name).write_bytes(pickle.dumps(thing))
    run_python(WITHOUT, *(str(tmp_path / name) for name in things))


VERSIONED = {
    "pool": lambda: fitted("numba"),
    "reference": lambda: fitted("reference"),
    "network": lambda: fitted("numba").extract(3),
    "ensemble": lambda: fitted("numba").ensemble([3, 1]),
    "end": epoch_end,
}


@pytest.mark.parametrize("make", VERSIONED.values(), ids=VERSIONED)
def test_pickles_of_other_versions_are_refused(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch):
    thing = make()
    with monkeypatch.context() as patched:
        patched.setattr("pmlp_np.base.version.__version__", "0.0.7")
        old = pickle.dumps(thing)
    said = r"^pickled \w+: expected one of pmlp_np .*, got one of '0.0.7'. .*save"
    with pytest.raises(pm.FileFormatError, match=said):
        pickle.loads(old)
    with pytest.raises(pm.FileFormatError, match=r"^pickled \w+: expected one of pmlp_np"):
        object.__new__(type(thing)).__setstate__({"weights": 1})


def test_pickles_that_lack_a_part_are_refused():
    pool = fitted("numba")
    state = pool.__getstate__()
    del state["attributes"]["progress"]
    with pytest.raises(pm.FileFormatError, match="one without progress"):
        object.__new__(pm.Pool).__setstate__(state)


def test_the_hint_of_a_refused_pickle(tmp_path: Path):
    """What is to be kept goes into a file."""
    pool = fitted("numba")
    model = pool.extract(3)
    ensemble = pool.ensemble([3])
    model.save(tmp_path / "a.mlp")
    ensemble.save(tmp_path / "b.ens")
    assert pm.MLP.load(tmp_path / "a.mlp").predict(X).tobytes() == model.predict(X).tobytes()
    assert pm.Ensemble.load(tmp_path / "b.ens").predict(X).tobytes() == ensemble.predict(X).tobytes()
    assert not differing_bits(state_of(saved(pool, tmp_path)), state_of(pool))


def test_nothing_of_a_call_outlives_it_in_a_pickle():
    """Neither addresses nor scratch: a pickle has the size of what a pool holds, after any number of calls."""
    pool = fitted("numba")
    before = len(pickle.dumps(pool))
    for n in (1, 2, N):
        pool.predict(X[:n], members=IDS[:2])
        pool.evaluate(X, Y)
    assert len(pickle.dumps(pool)) == before
