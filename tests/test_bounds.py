"""Bounds: threads, turns, budgets beside other fits, Ctrl-C in validation, and pools of very many members."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from member_state import member_states
from pmlp_np import backends
from pmlp_np.backends.contract import Control
from pmlp_np.backends.numba import task_runner, threads
from pmlp_np.base import interrupts, table
from pmlp_np.base.arrays import to_numpy
from pmlp_np.specs.storage import COLUMNS
from pmlp_np.state import layout
from pmlp_np.training import measuring
from pmlp_np.training.fit_data import rows_of
from varied_pool import SETTINGS, assert_same_bits, differing_bits, trained

pytestmark = pytest.mark.usefixtures("ctrl_c_as_in_a_terminal")

CORES = max(numba.config.NUMBA_NUM_THREADS, numba.config.NUMBA_DEFAULT_NUM_THREADS)


def state_of(pool: pm.Pool) -> dict[str, np.ndarray]:
    return {
        f"{id} {name}": array.copy()
        for id, state in member_states(pool).items()
        for name, array in state.arrays().items()
    }


def data(n: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, 4)).astype(np.float32)
    return X, X[:, 0] + 0.3 * draw.normal(size=n).astype(np.float32)


@pytest.fixture
def with_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helper threads for work of any size."""
    monkeypatch.setattr(task_runner, "SMALL_WORK", 0)
    monkeypatch.setattr(task_runner, "_SMALL_WORK_OF_ONE", 0)


# Threads.


@pytest.mark.parametrize("asked", [CORES + 1, 100_000, 2**40])
def test_threads_beyond_the_cores(asked: int, with_helpers: None, monkeypatch: pytest.MonkeyPatch):
    """Neither threads nor scratch grow with what is asked for."""
    made: list[np.ndarray] = []
    new_scratch = task_runner.TaskRunner.new_scratch
    monkeypatch.setattr(
        task_runner.TaskRunner, "new_scratch", lambda *given: made.append(new_scratch(*given)) or made[-1]
    )
    before = len(threads._helpers)
    setting = SETTINGS[1]  # where each member's order takes memory of its thread's
    pool = setting.fit(setting.pool(), n_threads=asked)
    assert len(made) <= CORES and len(threads._helpers) <= max(before, CORES)
    assert_same_bits(pool, trained(setting))


@pytest.mark.parametrize(("usual", "cores", "asked", "expected"), [
    (4, 4, None, 4), (4, 4, 3, 3), (4, 4, 100_000, 4), (1, 4, 3, 3), (1, 4, None, 1), (8, 4, 8, 8), (8, 4, 9, 8),
])  # fmt: skip
def test_how_many_threads(usual: int, cores: int, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", usual)
    monkeypatch.setattr(numba.config, "NUMBA_DEFAULT_NUM_THREADS", cores)
    assert threads.slots_of(Control(n_threads=asked)) == expected


# Turns.


@pytest.fixture
def occupied() -> Iterator[None]:
    """The helpers are somebody else's, for as long as the test runs."""
    with threads._turn:
        yield


def test_a_budget_is_kept_while_others_have_the_helpers(with_helpers: None, occupied: None):
    """It waits no longer than its budget, weights are drawn, and nothing is half done."""
    pool = pm.Pool(pm.grid(hidden=[(8,), (5, 5)]), 4)
    pool.fit(*data(), epochs=3, time_budget=0.1, progress=False, validation_data=data())
    assert pool.ended_ == "time budget" and pool._progress.epoch.tolist() == [0, 0]
    assert not threads._waiting
    expected = pm.Pool(pool.specs, 4).extract(1)
    assert all(np.array_equal(a, b) for a, b in zip(pool.extract(1).weights, expected.weights, strict=True))


def test_ctrl_c_while_others_have_the_helpers(with_helpers: None, occupied: None):
    pool = pm.Pool(pm.grid(hidden=[(8,), (5, 5)]), 4)
    pool._ready()
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    pool.fit(*data(), epochs=3, progress=False)
    assert pool.ended_ == "interrupted" and pool._progress.epoch.tolist() == [0, 0]


@pytest.mark.parametrize("setting", SETTINGS[:2], ids=str)
@pytest.mark.parametrize("all_together", [False, True])
def test_training_that_gives_way_goes_on_to_the_same_bits(
    setting: Any, all_together: bool, with_helpers: None, monkeypatch: pytest.MonkeyPatch
):
    """Somebody waits all the time: the helpers are handed over at every look, every other time before they begin."""
    gave_way: list[bool] = []
    run, work = threads.run, threads.driver.work

    def counted(*args: Any, **kwargs: Any) -> bool:
        gave_way.append(run(*args, **kwargs))
        return gave_way[-1]

    def late(slot: int, jobs: np.ndarray) -> None:
        if len(gave_way) % 2:
            time.sleep(0.02)
        work(slot, jobs)

    late.overloads = work.overloads  # type: ignore[attr-defined]
    expected = trained(setting)
    if all_together:
        monkeypatch.setattr(threads, "n_trained_together", lambda weight, n_threads: len(weight))
    monkeypatch.setattr(threads, "run", counted)
    monkeypatch.setattr(threads.driver, "work", late)
    monkeypatch.setattr(threads, "_waiting", [None])
    monkeypatch.setattr(threads, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(threads, "_POLL_SECONDS", 0.0002)
    monkeypatch.setattr(threads, "_HAND_OVER_SECONDS", 0.0)
    assert_same_bits(setting.fit(setting.pool(), n_threads=2), expected)
    assert any(gave_way)


def test_two_long_fits_at_once_take_turns(with_helpers: None, monkeypatch: pytest.MonkeyPatch):
    """The second one trains within an epoch of the first, and both to the bits of training alone."""
    monkeypatch.setattr(threads, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(threads, "_TURN_SECONDS", 0.002)
    X, y = data(20_000)
    long, short = (pm.Pool(pm.grid(hidden=[(width,)]), 4) for width in (40, 3))
    other: list[pm.Pool] = []

    def train_short() -> None:
        while long._backend is None or not threads._turn.locked():
            pass
        other.append(short.fit(X[:640], y[:640], epochs=2, progress=False))

    thread = threading.Thread(target=train_short)
    thread.start()
    long.fit(X, y, epochs=2, progress=False)
    thread.join()
    for pool, n in ((long, 20_000), (short, 640)):
        assert_same_bits(pool, pm.Pool(pool.specs, 4).fit(X[:n], y[:n], epochs=2, progress=False))


# Ctrl-C in validation.


@pytest.fixture(autouse=True)
def pressed_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """No press counts as the second one of another test."""
    monkeypatch.setattr(interrupts, "AGAIN_SECONDS", 0.0)


VALIDATED: dict[str, Any] = {
    "validation_data": data(30, 1), "early_stopping": True, "patience": 2, "metrics": ["r2", "mae"], "monitor": "mae",
    "batch_size": 16, "progress": False,
}  # fmt: skip
SPECS = [
    pm.Member(hidden=(5,), learning_rate=0.05),
    pm.Member(hidden=(9,), plateau_patience=1, plateau_factor=0.5, learning_rate=0.3),
    pm.Member(hidden=(), optimizer=pm.SGD(learning_rate=1e-4)),
    pm.Member(hidden=(3, 3), learning_rate=0.5, average=0.5),
]


def validated_pool(backend: str) -> pm.Pool:
    return pm.Pool(SPECS, 4, seed=2, backend=backend)


class Pressed:
    """Presses Ctrl-C in the k-th validation, before a value of it is known."""

    def __init__(self, pool: pm.Pool, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.k = 0, k
        evaluate = pool._ready().evaluate

        def pressing(members: Any, rows: Any, weights: str, control: Control) -> Any:
            self.count += weights == "last"
            if self.count == self.k and weights == "last":
                signal.raise_signal(signal.SIGINT)
                control.tick(0.5)
            return evaluate(members, rows, weights, control)

        monkeypatch.setattr(pool._ready(), "evaluate", pressing)


def straight(pool: pm.Pool, folder: Path) -> pm.Pool:
    return pool


def through_a_file(pool: pm.Pool, folder: Path) -> pm.Pool:
    pool.save(folder / "pool.pmlp")
    return pm.load(folder / "pool.pmlp")


def in_parts(pool: pm.Pool, folder: Path) -> pm.Pool:
    return pm.concat([pool.subset([0, 3]), pool.subset([1, 2])]).subset([0, 1, 2, 3])


def copied(pool: pm.Pool, folder: Path) -> pm.Pool:
    return pickle.loads(pickle.dumps(copy.deepcopy(pool)))


@pytest.mark.parametrize("way", [straight, through_a_file, in_parts, copied])
@pytest.mark.parametrize("k", [1, 3])
def test_a_validation_that_was_cut_short_is_done_later(
    backend: str, way: Callable[..., pm.Pool], k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Curves, best weights, who stops and rates that fall are those of a run that nobody interrupted."""
    expected, told = validated_pool(backend), []
    expected.fit(*data(), epochs=6, **VALIDATED, callbacks=[lambda end: told.append(end.epochs.tolist())])
    pool, heard = validated_pool(backend), []
    with monkeypatch.context() as patched:
        Pressed(pool, k, patched)
        pool.fit(*data(), epochs=6, **VALIDATED, callbacks=[lambda end: heard.append(end.epochs.tolist())])
    assert pool.ended_ == "interrupted" and pool._progress.epoch.max() == k
    assert np.isnan(pool.history_["validation_loss"][:, k - 1]).all()
    assert np.isfinite(pool.history_["loss"][:, k - 1]).any() and pool._records.due.any()
    pool = way(pool, tmp_path)
    pool.partial_fit(*data(), epochs=6 - k, **VALIDATED, callbacks=[lambda end: heard.append(end.epochs.tolist())])
    assert not differing_bits(state_of(pool), state_of(expected))
    assert pool.status_ == expected.status_ and str(pool.leaderboard()) == str(expected.leaderboard())
    assert heard == told and not pool._records.due.any()


def test_a_press_while_training_cuts_a_long_validation_short(backend: str, monkeypatch: pytest.MonkeyPatch):
    """Members whose epoch was done when Ctrl-C came are validated later, too."""
    pool, expected = validated_pool(backend), validated_pool(backend).fit(*data(), epochs=4, **VALIDATED)
    held = pool._ready()
    train, evaluate = held.train, held.evaluate

    def pressed_at_the_end(members: Any, state: Any, *args: Any) -> None:
        train(members, state, *args)
        if state.progress.epoch.max() == 2:
            signal.raise_signal(signal.SIGINT)

    def long_one(members: Any, rows: Any, weights: str, control: Control) -> Any:
        control.tick(0.9)
        return evaluate(members, rows, weights, control)

    with monkeypatch.context() as patched:
        patched.setattr(held, "train", pressed_at_the_end)
        patched.setattr(held, "evaluate", long_one)
        pool.fit(*data(), epochs=4, **VALIDATED)
    assert pool.ended_ == "interrupted" and pool._records.due.any()
    pool.partial_fit(*data(), epochs=2, **VALIDATED)
    assert not differing_bits(state_of(pool), state_of(expected))


def test_going_on_without_validation_data(backend: str, monkeypatch: pytest.MonkeyPatch):
    """The epoch stays without values; nothing is due any more."""
    pool = validated_pool(backend)
    with monkeypatch.context() as patched:
        Pressed(pool, 2, patched)
        pool.fit(*data(), epochs=6, **VALIDATED)
    pool.partial_fit(*data(), epochs=1, batch_size=16, progress=False)
    assert not pool._records.due.any() and np.isnan(pool.history_["validation_loss"][:, 1]).all()
    pool.set_weights(0, pool.extract(0))
    pool.fit(*data(), epochs=2, **VALIDATED)
    assert np.isfinite(pool.history_["validation_loss"]).any()


def test_an_evaluation_is_left_between_blocks_of_rows(monkeypatch: pytest.MonkeyPatch):
    """One member and many rows: the flag is heard before the last row."""
    monkeypatch.setattr(threads, "_POLL_SECONDS", 1e-4)
    pool = pm.Pool(pm.Member(hidden=(64, 64)), 4)
    X, y = data(400_000)
    backend, (rows, _) = pool._ready(), rows_of(pool._plan, pool.ids_, X, y)
    placed = backend.place(rows)
    loss, score = backend.evaluate(np.arange(1), placed, "last", Control(lambda share: True))
    assert np.isnan(loss).all() and np.isnan(score).all()
    assert np.isfinite(backend.evaluate(np.arange(1), placed, "last", Control())[0]).all()


def test_metrics_are_left_between_their_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "PIECE_BYTES", 1)
    pool = validated_pool("numba")
    shares: list[float] = []
    rows, _ = rows_of(pool._plan, pool.ids_, *data())
    backend = pool._ready()
    measuring.measured(
        ["mae"], pool._plan.loss, backend, np.arange(4), backend.place(rows), "last",
        Control(lambda share: bool(shares.append(share))), (np.zeros(4), np.zeros(4)),
    )  # fmt: skip
    assert {0.0, 0.25, 0.5, 0.75} <= set(shares)


# Very many members.


def test_blocks_of_neighbors_are_one_range():
    draw = np.random.default_rng(5)
    for _ in range(50):
        sizes = draw.integers(0, 4, 12)
        starts = np.cumsum(sizes) - sizes
        members = np.flatnonzero(draw.random(12) < draw.random())
        members = draw.permutation(members) if draw.random() < 0.3 else members
        found = zip(*layout.merged(starts[members], sizes[members]), strict=True)
        expected = [place for m in members for place in range(starts[m], starts[m] + sizes[m])]
        assert [place for start, size in found for place in range(start, start + size)] == expected
    assert [len(each) for each in layout.merged(np.arange(9) * 3, np.full(9, 3))] == [1, 1]
    assert [len(each) for each in layout.merged(np.zeros(0, np.int64), np.zeros(0, np.int64))] == [0, 0]


def board_of(n: int) -> tuple[pm.Pool, table.Table]:
    pool = pm.Pool(pm.grid(hidden=[(1,), (2, 1), ()], activation=["tanh", "relu"], repeats=-(-n // 6)), 4)
    pool.fit(*data(), epochs=2, progress=False, validation_data=data(9, 1), metrics="r2")
    return pool, pool.leaderboard()


def test_records_of_a_long_leaderboard_are_made_at_need(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table, "_SHORT", 10)
    pool, board = board_of(300)
    asked: list[int] = []
    make = board._make
    assert make is not None
    monkeypatch.setattr(board, "_make", lambda place: asked.append(place) or make(place))
    assert len(board) == len(pool) and asked == []
    assert "more rows" in str(board) and sorted(asked) == list(range(20))
    assert board[-1]["rank"] == len(pool) and board[25] is board[25] and len(asked) == 22
    part = board[40:50:3]
    assert type(part) is table.Table and [record["rank"] for record in part] == [41, 44, 47, 50] and len(asked) == 26
    assert str(part).splitlines()[0].split()[:2] == ["rank", "id"] and part[0] is board[40]
    for wrong in (len(pool), -len(pool) - 1):
        with pytest.raises(IndexError, match="^list index out of range"):
            board[wrong]
    for key in ("loss", [0], 1.0):
        with pytest.raises(TypeError, match="^list indices must be integers or slices"):
            board[key]


def test_code_that_reads_a_list_by_its_memory_finds_no_none(monkeypatch: pytest.MonkeyPatch):
    """Records that are not made yet are no values: who reads past the methods of a list fails, by a name that helps."""
    pyarrow = requires("pyarrow")
    monkeypatch.setattr(table, "_SHORT", 10)
    board = board_of(30)[1]
    with pytest.raises(pyarrow.ArrowInvalid, match=r"not made yet: hand over list\(table\)"):
        pyarrow.array(board)
    assert pyarrow.array([record["id"] for record in list(board)]).to_pylist() == [record["id"] for record in board]


def test_a_long_leaderboard_is_the_short_one(monkeypatch: pytest.MonkeyPatch):
    """However it is read; what it shows is of when it was asked for."""
    pool, short = board_of(200)
    monkeypatch.setattr(table, "_SHORT", 0)
    boards = iter([pool.leaderboard() for _ in range(40)])
    pool.partial_fit(*data(), epochs=1, progress=False, validation_data=data(9, 1))
    plain = list(short)
    assert plain == next(boards) and next(boards) == plain
    assert list(next(boards)) == plain and [*next(boards)] == plain and next(boards)[:] == plain
    assert json.dumps(next(boards)) == json.dumps(list(next(boards))) == json.dumps(plain)
    assert sorted(next(boards), key=lambda r: r["id"]) == sorted(plain, key=lambda r: r["id"])
    assert list(reversed(next(boards))) == plain[::-1] and plain[7] in next(boards)
    assert next(boards) + [1] == plain + [1] and [1] + next(boards) == [1] + plain and 2 * next(boards) == 2 * plain
    assert next(boards).index(plain[9]) == 9 and next(boards).count(plain[9]) == 1
    assert next(boards).copy() == plain and tuple(next(boards)) == tuple(plain)
    extended: list[Any] = []
    extended.extend(next(boards))
    extended += next(boards)
    assert extended == plain + plain
    changed = next(boards)
    changed.sort(key=lambda r: r["id"])
    changed.append({})
    del changed[0]
    changed[0] = {"id": 7}
    assert changed[0] == {"id": 7} and len(changed) == len(plain) and changed.pop() == {}
    for make in (copy.copy, copy.deepcopy, lambda board: pickle.loads(pickle.dumps(board))):
        again = make(next(boards))
        assert again == plain and type(again) is table.Table and str(again) == str(short)
    assert str(next(boards)) == str(short) and next(boards)._repr_html_() == short._repr_html_()
    frame = next(boards).to_pandas()
    requires("pandas").testing.assert_frame_equal(frame, short.to_pandas())
    requires("pandas").testing.assert_frame_equal(requires("pandas").DataFrame(next(boards)), frame)


# Specs that a caller puts together.


def columns_of(specs: pm.Specs) -> dict[str, np.ndarray]:
    return {name: np.array(getattr(specs, name)) for name in COLUMNS}


BROKEN: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "widths": lambda c: c["widths"].__setitem__(1, 0),
    "activations": lambda c: c["activations"].__setitem__(0, 999),
    "initializer": lambda c: c["initializer"].__setitem__(0, -1),
    "optimizer": lambda c: c["optimizer"].__setitem__(0, 77),
    "width_offsets": lambda c: c["width_offsets"].__setitem__(1, 9),
    "batch_size": lambda c: c["batch_size"].__setitem__(0, -3),
    "hyperparameters": lambda c: c["hyperparameters"].__setitem__(0, np.nan),
    "options of schedule": lambda c: c["options"].__setitem__((0, slice(None)), 50.0),
    "bias": lambda c: c.__setitem__("bias", c["bias"].astype(np.int64)),
    "seed": lambda c: c.__setitem__("seed", c["seed"][1:]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_specs_that_are_none_are_refused(name: str):
    columns = columns_of(pm.grid(hidden=[(3,), (2, 2)]))
    BROKEN[name](columns)
    with pytest.raises(pm.SpecError, match=rf"^specs\.{'options of' if 'options' in name else name}.*from_members"):
        pm.Pool(pm.Specs(**columns), 4)


def test_specs_in_memory_of_others():
    """Columns that are views, or lie in other orders, are copied: nobody can change what compiled code reads."""
    specs = pm.grid(hidden=[(3,), (2, 2), (7,)], schedule=["cosine"], schedule_epochs=2.0)
    expected = pm.Pool(specs, 4).fit(*data(), epochs=2, progress=False)
    held = {name: np.asfortranarray(np.repeat(column, 2, axis=0)) for name, column in columns_of(specs).items()}
    held["options"] = np.broadcast_to(specs.options[0], specs.options.shape)
    columns = {name: array if name == "options" else array[::2] for name, array in held.items()}
    pool = pm.Pool(pm.Specs(**columns), 4)
    for name, array in held.items():
        if name != "options":
            array[...] = 1
    assert_same_bits(pool.fit(*data(), epochs=2, progress=False), expected)


def test_backends_are_made_of_what_they_hold(backend: str):
    """Every attribute of a copy of a backend is its own."""
    pool = validated_pool(backend).fit(*data(), epochs=1, **VALIDATED)
    held, again = pool._backend, copy.deepcopy(pool)._backend
    assert type(again) is type(held) is type(backends.create(backend, pool.device, pool._plan))
    for name in ("parameters", "slots", "best", "average"):
        mine, theirs = getattr(held.store, name), getattr(again.store, name)
        if pool.device == "cpu":
            assert not np.shares_memory(mine, theirs)
        else:
            assert theirs is not mine and np.array_equal(to_numpy(theirs), to_numpy(mine))
            theirs[:1] = theirs[:1] + 1
            assert not np.array_equal(to_numpy(theirs), to_numpy(mine))
        if backend == "numba":
            assert theirs.ctypes.data % 64 == 0 and len(theirs) == len(mine)
