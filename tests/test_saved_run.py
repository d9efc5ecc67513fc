"""A run that pauses, is written, read and goes on ends with the bits, curves and calls of one that nobody paused; what
was not written by us is refused before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import BACKENDS
from paused_runs import Run, begun, read, through_files, written
from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.backends.numba import threads
from pmlp_np.base import errors
from pmlp_np.data.dataset import Dataset
from pmlp_np.state.progress import DIVERGED, STATUS_NAMES
from pmlp_np.training.saved_run import plain_of, run_of
from pmlp_np.training.settings import Settings
from test_rounds import facts
from varied_pool import assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
on_numba = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")

N, F, EPOCHS = 41, 3, 5
MEMBERS = [
    pm.Member(hidden=4, schedule="cosine", average=0.9),
    pm.Member(hidden=(5, 3), activation="tanh", plateau_patience=1, plateau_factor=0.5, learning_rate=0.1),
    pm.Member(hidden=6, batch_size=7, dropout=0.3, optimizer=pm.AdamW(0.01)),
    pm.Member(hidden=3, batch_size=100, input_dropout=0.2, schedule="one_cycle", warmup_epochs=1.5, clip_norm=0.3),
    pm.Member(hidden=(), optimizer=pm.SGD(0.05, momentum=0.9), schedule="linear"),
    pm.Member(hidden=(2, 2), feature_scale=True, bias=False, plateau_patience=2),
    pm.Member(hidden=2, activation="identity", optimizer=pm.SGD(1e12)),
    pm.Member(hidden=5, optimizer=pm.RMSprop(0.3)),
]
IDS = [3, 2**40, 7, 1, 9, 12, 0, 5]


def drawn(seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, F))
    return X, np.sin(2.0 * X[:, 0]) + 0.3 * rng.normal(size=n)


def fresh(backend: str, dtype: str = "float32") -> pm.Pool:
    return pm.Pool(MEMBERS, F, seed=6, backend=backend, dtype=dtype, ids=IDS)


def of_each(seed: int = 5) -> dict[str, Any]:
    """Rows, features, targets and weights of each member's own, and rows to validate on."""
    rng, n = np.random.default_rng(seed), len(MEMBERS)
    return {
        "rows": [rng.integers(0, N, 30 + i % 3) for i in range(n)],
        "features": [[0, 1, 2], [2], [0, 2], [0, 1, 2], [1, 0, 2], [0, 1], [2], [0]],
        "targets": rng.normal(size=(n, N)),
        "sample_weight": rng.uniform(0.5, 2.0, (n, N)),
        "validation_rows": [np.arange(i % 4, N, 4) for i in range(n)],
    }


class Told:
    """A callback that notes what it is told, and has members leave."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def __call__(self, end: pm.EpochEnd) -> None:
        curves = {name: curve.tobytes() for name, curve in end.curves.items()}
        self.ends.append((end.epoch, end.ids.tolist(), end.epochs.tolist(), curves))
        if end.epoch in (2, 3):
            end.stop(end.ids[-2:])


VALIDATED: dict[str, Any] = {"validation_data": drawn(2, 29), "early_stopping": True, "patience": 2}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "each its order": {"shuffle": "member"},
    "in order": {"shuffle": None},
    "validated": {"validation_data": drawn(2, 29)},
    "stopping early": VALIDATED | {"min_delta": 0.01},
    "by the score": VALIDATED | {"monitor": "score", "shuffle": "member"},
    "by a metric of Python": VALIDATED | {"metrics": ["r2", "mae"], "monitor": "mae"},
    "data of each": {"early_stopping": True, "patience": 1},
    "callbacks": {},
    "callbacks, validated": VALIDATED,
}


def run_of_way(way: str, backend: str, told: Told) -> Run:
    how: dict[str, Any] = {"batch_size": 8, "n_threads": 2} | WAYS[way]
    X, y = drawn(0)
    data: tuple[Any, Any] = (X, y)
    if way == "data of each":
        how, data = how | of_each(), (X, None)
    if way.startswith("callbacks"):
        how["callbacks"] = [told]
    return begun(fresh(backend), *data, epochs=EPOCHS, **how)


@pytest.mark.skipif("reference" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out reference")
@pytest.mark.one_in(3)
@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("way", WAYS)
def test_pauses_between_minibatches_change_nothing(way: str, k: int, tmp_path: Path) -> None:
    """The reference backend looks after every minibatch of members that march in step."""
    heard, told = Told(), Told()
    whole = run_of_way(way, "reference", heard)
    assert whole.go_on() == "done"
    run, pauses = run_of_way(way, "reference", told).go_on_with_pauses(k, lambda run: through_files(run, tmp_path))
    assert pauses > 10
    assert_same_bits(run.pool, whole.pool)
    assert facts(run.pool) == facts(whole.pool)
    assert told.ends == heard.ends and bool(told.ends) == way.startswith("callbacks")
    assert "diverged" in run.pool.status_


def test_the_run_is_what_fit_does(backend: str) -> None:
    """Else these tests would be about something else."""
    for way in ("stopping early", "data of each"):
        how, data = {"batch_size": 8, "progress": False} | WAYS[way], drawn(0)
        how, data = (how | of_each(), (data[0], None)) if way == "data of each" else (how, data)
        run, pool = run_of_way(way, backend, Told()), fresh(backend)
        run.go_on()
        pool.fit(*data, epochs=EPOCHS, **how)
        assert_same_bits(run.pool, pool)
        assert facts(run.pool) == facts(pool)


LONG: dict[str, dict[str, Any]] = {
    "plain": {},
    "stopping early": VALIDATED | {"shuffle": "member"},
    "callbacks": VALIDATED,
}


@on_numba
@pytest.mark.parametrize("way", LONG)
def test_pauses_of_the_numba_backend(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads hear between two minibatches, wherever each of them is."""
    monkeypatch.setattr(threads, "_POLL_SECONDS", 1e-3)
    X, y = drawn(0, 40_000)

    def long_run(told: Told) -> Run:
        how = {"callbacks": [told]} if way == "callbacks" else {}
        return begun(fresh("numba"), X, y, epochs=4, batch_size=3, n_threads=2, **LONG[way], **how)

    heard, told = Told(), Told()
    whole = long_run(heard)
    assert whole.go_on() == "done"
    cut = 0

    def then(run: Run) -> Run:
        nonlocal cut
        cut += bool(run.pool._progress.minibatch.any())
        return through_files(run, tmp_path)

    run, _ = long_run(told).go_on_with_pauses(5, then)
    assert cut > 0, "pauses came too late to test anything"
    assert_same_bits(run.pool, whole.pool)
    assert facts(run.pool) == facts(whole.pool)
    assert told.ends == heard.ends


def test_who_diverges_after_a_pause_keeps_its_best(tmp_path: Path) -> None:
    """Without validation data bests end with the run, but not those of members that diverge in it: a pause ends
    none."""
    X, y = drawn(0)
    specs = [pm.Member(hidden=4), pm.Member(hidden=(), optimizer=pm.SGD(0.05)), pm.Member(hidden=(3, 2))]
    pools = [pm.Pool(specs, F, seed=2, backend="reference") for _ in range(2)]
    for pool in pools:
        pool.fit(X, y, epochs=2, batch_size=8, progress=False, **VALIDATED)
    assert (pools[0]._records.best_epoch >= 0).all()
    # Steps of plain gradient descent grow some twentyfold, until they leave the range of float32 after some epochs.
    far = 14.0 * X, y
    whole, run = (begun(pool, *far, epochs=9, batch_size=8, first=False) for pool in pools)
    whole.go_on()
    run, _ = run.go_on_with_pauses(2, lambda run: through_files(run, tmp_path))
    progress = whole.state.progress
    later = (progress.status == DIVERGED) & (progress.epoch > 2)
    assert (later & (whole.pool._records.best_epoch >= 0)).any(), "nobody diverged after an epoch"
    assert_same_bits(run.pool, whole.pool)
    assert facts(run.pool) == facts(whole.pool)


@on_numba
@pytest.mark.parametrize("way", ["plain", "stopping early", "data of each"])
def test_shards_are_runs_of_their_own(way: str, tmp_path: Path) -> None:
    """A run is parted in the middle; its parts pause and go on by themselves, and are joined again."""
    whole, run = (run_of_way(way, "numba", Told()) for _ in range(2))
    whole.go_on()
    looks = iter([False] * 4)
    run.go_on(lambda: next(looks, True))
    shards = ([9, 3, 0, 5], [12, 7, 2**40, 1])
    parts = [run.take(ids) for ids in shards]
    parts = [part.go_on_with_pauses(3, lambda run: through_files(run, tmp_path))[0] for part in parts]
    joined = pm.concat([part.pool for part in parts])
    assert_same_bits(joined, whole.pool)
    state = type(run.state).concatenate([part.state for part in parts], joined._progress)
    assert state.progress is joined._progress and not len(state.in_training())
    order = joined._positions(IDS)
    for name in ("target", "planned", "batch_size", "first_step", "data_key", "validation_key"):
        assert np.array_equal(getattr(state, name)[order], getattr(run.state, name)), name
    # A joined run goes on where its parts stand.
    again = [run.take(ids) for ids in shards]
    pool = pm.concat([part.pool for part in again]).subset(IDS)
    state = type(run.state).concatenate([part.state for part in again]).take(order, pool._progress)
    data, validation = (None if each is None else by_sets_of(pool, run, each) for each in (run.data, run.validation))
    assert data is not None
    resumed = replace(run, pool=pool, state=state, data=data, validation=validation)
    assert resumed.go_on() == "done"
    assert_same_bits(pool, whole.pool)


def by_sets_of(pool: pm.Pool, run: Run, data: Dataset) -> Dataset:
    """The data of a run, for a pool of the same members that counts feature sets in another order."""
    sets, before = pool._plan.features, run.pool._plan.features
    if sets is None or before is None:
        return data
    owners = [np.flatnonzero(sets.of == i)[0] for i in range(len(sets.arrays))]
    return replace(data, x=[data.x[before.of[m]] for m in owners])


# It goes on with what it began with.


OTHERS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "other features": lambda run: {
        "data": replace(run.data, x=[x + (np.arange(len(x)) == 3)[:, None] for x in run.data.x])
    },
    "other targets": lambda run: {"data": replace(run.data, y=-run.data.y)},
    "more rows": lambda run: {
        "data": replace(run.data, x=[np.vstack([x, x[:1]]) for x in run.data.x], y=run.data.y[:, [*range(N), 0]])
    },
    "another batch size": lambda run: {"state": replace(run.state, batch_size=np.maximum(run.state.batch_size - 1, 1))},
    "another order": lambda run: {"state": replace(run.state, shuffle=SHUFFLES[None])},
    "other validation data": lambda run: {"validation": replace(run.validation, y=-run.validation.y)},
    "no validation data": lambda run: {"validation": None},
}


@pytest.mark.parametrize("other", OTHERS)
def test_with_anything_else_it_is_refused(other: str, backend: str) -> None:
    run = run_of_way("stopping early", backend, Told())
    looks = iter([False] * 3)
    assert run.go_on(lambda: next(looks, True)) == "paused"
    before = {name: values.copy() for name, values in vars(run.pool._progress).items()}
    what = "validation data" if "validation" in other else "data"
    changed = replace(run, **OTHERS[other](run))
    with pytest.raises(pm.DataError, match=rf"^{what}: expected those that training began with .* partial_fit"):
        changed.go_on()
    assert all(
        np.array_equal(before[name], values, equal_nan=True) for name, values in vars(run.pool._progress).items()
    )
    whole = run_of_way("stopping early", backend, Told())
    assert run.go_on() == whole.go_on() == "done"
    assert_same_bits(run.pool, whole.pool)


def test_minibatches_of_more_rows_than_there_are_are_refused(backend: str) -> None:
    run = begun(fresh(backend), *drawn(0), epochs=1)
    run.state.batch_size[2] = N + 1
    with pytest.raises(pm.DataError, match=r"^batch_size of member 7: expected at most its 41 rows, got 42"):
        run.go_on()


def test_a_cursor_behind_the_end_of_an_epoch_begins_anew(backend: str) -> None:
    """Whoever knows the data can make the key that would let it through."""
    whole, run = (begun(fresh(backend), *drawn(0), epochs=2, batch_size=8) for _ in range(2))
    whole.go_on()
    run.go_on(lambda: True)
    run.state.progress.minibatch[:], run.state.progress.cursor_key[:] = 2**31 - 1, run.state.data_key
    run.go_on()
    assert_same_bits(run.pool, whole.pool)


# What is read is checked.


def some_run() -> Run:
    run = run_of_way("stopping early", "reference", Told())
    looks = iter([False] * 9)
    run.go_on(lambda: next(looks, True))
    return run


@pytest.fixture(scope="module")
def paused() -> Run:
    return some_run()


def parts(run: Run) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    values, arrays = plain_of(run.state, run.settings)
    return json.loads(json.dumps(values)), {name: array.copy() for name, array in arrays.items()}


def test_what_is_written_is_read(paused: Run) -> None:
    state, settings = read(*written(paused.state, paused.settings), len(MEMBERS))
    assert settings == paused.settings and vars(state).keys() == vars(paused.state).keys()
    assert plain_of(state, settings)[0] == plain_of(paused.state, paused.settings)[0]
    for name, array in plain_of(paused.state, paused.settings)[1].items():
        again = plain_of(state, settings)[1][name]
        assert again.dtype == array.dtype and again.tobytes() == array.tobytes(), name
        assert not np.may_share_memory(again, array)
    # Nothing of a state is left out.
    fields = {name for name, value in vars(paused.state).items() if isinstance(value, np.ndarray)}
    progress = {f"progress/{name}" for name in vars(paused.state.progress)}
    assert set(plain_of(state, settings)[1]) == {f"run/{name}" for name in fields} | progress


@given(
    st.fixed_dictionaries(
        {
            "epochs": st.integers(1, 2**40),
            "batch_size": st.integers(1, 2**40).map(np.int64),
            "shuffle": st.sampled_from(["shared", "member", None]),
            "early_stopping": st.booleans().map(np.bool_),
            "patience": st.integers(1, 2**62),
            "min_delta": st.floats(0, 1e300).map(np.float64) | st.integers(0, 10),
            "time_budget": st.none() | st.floats(1e-300, float("inf")),
            "progress": st.sampled_from([True, False, "auto"]),
            "n_threads": st.none() | st.integers(1, 9),
            "metrics": st.sampled_from(["r2", ("r2", "mae"), None, []]),
            "monitor": st.sampled_from([None, "loss", "score"]),
            "on_interrupt": st.sampled_from(["keep", "raise"]),
            "callbacks": st.sampled_from([None, [print], (print, repr)]),
        }
    )
)
def test_settings_are_plain(given_as: dict[str, Any]) -> None:
    settings = Settings(**given_as)
    again = Settings.from_plain(json.loads(json.dumps(settings.plain(), allow_nan=False)), settings.callbacks)
    endless = settings.time_budget == float("inf")
    assert again == (replace(settings, time_budget=None, monitor=settings.monitor or None) if endless else settings)


BAD_VALUES: list[tuple[str, Any]] = [
    ("shuffle", "mine"), ("shuffle", ["shared"]), ("rounds", -1), ("rounds", 1.0), ("rounds", 2**31),
    ("rounds", True), ("seconds", -1.0), ("seconds", float("inf")), ("seconds", float("nan")), ("seconds", "1"),
    ("settings", None), ("settings", {}), ("settings", []),
]  # fmt: skip
BAD_SETTINGS: list[tuple[str, Any]] = [
    ("epochs", 0), ("epochs", 1.0), ("epochs", "1"), ("epochs", 2**63), ("epochs", True), ("batch_size", -3),
    ("patience", 0), ("patience", 10**30), ("n_threads", 0), ("shuffle", "other"), ("shuffle", {}), ("min_delta", -1),
    ("min_delta", "0"), ("min_delta", float("nan")), ("time_budget", 0), ("time_budget", "long"),
    ("early_stopping", 1), ("progress", "bar"), ("metrics", "r2"), ("metrics", ["r3"]), ("metrics", [["r2"]]),
    ("monitor", "r3"), ("monitor", 5), ("monitor", []), ("on_interrupt", "stop"), ("on_interrupt", None),
    ("callbacks", -1), ("callbacks", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "bad"), BAD_VALUES)
def test_a_value_that_is_none_is_refused(name: str, bad: Any, paused: Run) -> None:
    values, arrays = parts(paused)
    with pytest.raises(pm.FileFormatError, match="(run|settings)"):
        run_of(values | {name: bad}, arrays, len(MEMBERS))


@pytest.mark.parametrize(("name", "bad"), BAD_SETTINGS)
def test_a_setting_that_is_none_is_refused(name: str, bad: Any, paused: Run) -> None:
    values, arrays = parts(paused)
    with pytest.raises(pm.FileFormatError, match=rf"^settings.*{name}"):
        run_of(values | {"settings": values["settings"] | {name: bad}}, arrays, len(MEMBERS))


def test_names_that_are_missing_or_too_many_are_refused(paused: Run) -> None:
    values, arrays = parts(paused)
    for name in values:
        with pytest.raises(pm.FileFormatError, match=name):
            run_of({key: value for key, value in values.items() if key != name}, arrays, len(MEMBERS))
    for name in arrays:
        with pytest.raises(pm.FileFormatError, match=name):
            run_of(values, {key: value for key, value in arrays.items() if key != name}, len(MEMBERS))
    for name in values["settings"]:
        less = {key: value for key, value in values["settings"].items() if key != name}
        with pytest.raises(pm.FileFormatError, match="settings"):
            run_of(values | {"settings": less}, arrays, len(MEMBERS))
    for more in (values | {"more": 1}, values | {"settings": values["settings"] | {"more": 1}}):
        with pytest.raises(pm.FileFormatError, match="more"):
            run_of(more, arrays, len(MEMBERS))
    with pytest.raises(pm.FileFormatError, match="run/more"):
        run_of(values, arrays | {"run/more": arrays["run/target"]}, len(MEMBERS))
    with pytest.raises(pm.FileFormatError, match="run"):
        run_of([], arrays, len(MEMBERS))


RANGES: dict[str, list[Any]] = {
    "progress/epoch": [-1, 2**31], "progress/minibatch": [-1, 2**31], "progress/step": [-1, 2**53],
    "progress/status": [-1, len(STATUS_NAMES)], "progress/fit_epochs": [-1, 2**31],
    "progress/rate_factor": [-0.1, 1.1, np.nan], "progress/plateau_loss": [np.nan],
    "progress/plateau_wait": [-1, 2**31], "run/target": [-1, 2**31], "run/planned": [-1, 2**31],
    "run/batch_size": [0, -1, 2**31], "run/first_step": [-1, 2**53],
}  # fmt: skip


# These may have any values.
FREE = [
    "progress/cursor_key",
    "progress/loss_sum",
    "run/asked",
    "run/untold",
    "run/data_key",
    "run/validation_key",
    "run/measured",
]


@pytest.mark.parametrize("name", [*RANGES, *FREE])
def test_an_array_of_another_kind_is_refused(name: str, paused: Run) -> None:
    values, arrays = parts(paused)
    array = arrays[name]
    others: list[Any] = [
        array[:-1], array[:, None], np.append(array, array[:1]), array.astype(np.float32), array.astype(object),
        array.astype(array.dtype.newbyteorder()) if array.dtype.itemsize > 1 else array.astype(np.int8), array.tolist(),
        None, array[0],
    ]  # fmt: skip
    for other in others:
        with pytest.raises(pm.FileFormatError, match=name):
            run_of(values, arrays | {name: other}, len(MEMBERS))
    for bad in RANGES.get(name, []):
        other = array.copy()
        other[-1] = bad
        with pytest.raises(pm.FileFormatError, match=rf"{name}: expected numbers from"):
            run_of(values, arrays | {name: other}, len(MEMBERS))
    # As it lies in somebody's memory it doesn't matter.
    apart = np.repeat(array, 2)[::2]
    state, _ = run_of(values, arrays | {name: apart}, len(MEMBERS))
    found = plain_of(state, paused.settings)[1][name]
    assert found.flags.c_contiguous and found.flags.owndata and found.tobytes() == array.tobytes()


def test_every_array_is_tried(paused: Run) -> None:
    assert sorted([*RANGES, *FREE]) == sorted(parts(paused)[1])


def test_another_number_of_members_is_refused(paused: Run) -> None:
    with pytest.raises(pm.FileFormatError, match=r"progress/epoch: expected int64, shape \(9,\)"):
        run_of(*parts(paused), len(MEMBERS) + 1)


def test_epochs_whose_curves_would_not_fit_are_refused_with_their_size(
    paused: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, arrays = parts(paused)
    arrays["run/target"][0] = 2**31 - 1
    monkeypatch.setattr(errors, "free_memory", lambda: 10**9)
    with pytest.raises(pm.MemoryNeededError, match=r"^run/target: expected no more than the 1.0 GB .* need of 69 GB"):
        run_of(values, arrays, len(MEMBERS))


def test_callbacks_are_given_again() -> None:
    run = begun(fresh("reference"), *drawn(0), epochs=1, callbacks=[print, repr])
    text = written(run.state, run.settings)
    assert read(*text, len(MEMBERS), [print, repr])[1] == run.settings
    for others in ([], [print], [print] * 3):
        with pytest.raises(pm.DataError, match=rf"^callbacks: expected 2, .* got {len(others)}"):
            read(*text, len(MEMBERS), others)
