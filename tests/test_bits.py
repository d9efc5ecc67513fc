"""Promise 2: a member's bits depend on nothing but itself, its data and how many minibatches it has done.

On the Numba backend. Compared are the bytes of parameters, slots, best weights, curves and progress.
"""

from __future__ import annotations

import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
import profiles
from conftest import BACKENDS, run_python
from loss_variants import VARIANTS, library_loss
from member_state import member_states
from pmlp_np.backends.numba import compiling, task_runner, threads, views
from pmlp_np.base import interrupts
from pmlp_np.data.encoded import EncodedTable, Encoding
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.initializers import INITIALIZERS
from pmlp_np.formulas.losses import LOSSES
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.options import SCHEDULE_NAMES
from pmlp_np.training import loop as training
from strategies import Case, cases, random_data
from varied_pool import (
    DTYPES,
    EPOCHS,
    IDS,
    MEMBERS,
    N_FEATURES,
    N_OUTPUTS,
    SEED,
    SETTINGS,
    Setting,
    assert_same_bits,
    differing_bits,
    every_setting,
    same_bits,
    trained,
)

pytestmark = pytest.mark.skipif(
    "numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba, which promises bits"
)

both_dtypes = pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[4]], ids=str)


def test_the_varied_pool_holds_everything() -> None:
    specs = pm.Pool(MEMBERS, N_FEATURES).specs
    assert set(specs.activations) == set(range(len(ACTIVATIONS)))
    assert set(specs.rule) == set(range(len(RULES)))
    assert set(specs.initializer) == set(range(len(INITIALIZERS)))
    assert set(specs.depths) == set(range(5))
    assert set(specs.bias) == {True, False}
    assert set(specs.option("schedule")) == set(range(len(SCHEDULE_NAMES)))
    step_options = ("l1", "decay_biases", "bias_rate_factor", "first_layer_rate_factor", "last_layer_rate_factor",
                    "parametrization", "warmup_epochs", "plateau_patience")  # fmt: skip
    assert all(len(set(specs.option(name))) > 1 for name in step_options)
    assert {VARIANTS[setting.loss][0] for setting in SETTINGS} == set(LOSSES)
    assert len(set(IDS)) == len(IDS)


def test_members_of_the_varied_pool_stop_early() -> None:
    stopping = next(setting for setting in SETTINGS if setting.early_stopping)
    assert set(trained(stopping).status_) == {"ok", "stopped early"}


@every_setting
def test_training_moves_members_and_is_repeatable(setting: Setting) -> None:
    pool = trained(setting)
    pairs = zip(member_states(setting.pool()).values(), member_states(pool).values(), strict=True)
    moved = [not np.array_equal(before.weights[0], after.weights[0]) for before, after in pairs]
    # Where small weights pass through hardshrink, gradients vanish.
    assert np.mean(moved) > 0.9
    assert np.isfinite(pool.history_["loss"][:, 0]).all()
    assert_same_bits(setting.fit(setting.pool()), pool)


@every_setting
def test_alone(setting: Setting) -> None:
    for i, id in enumerate(IDS):
        assert_same_bits(setting.fit(setting.pool([i])), trained(setting), [id])


@every_setting
def test_subset(setting: Setting) -> None:
    """Of a pool before training, and of one between epochs."""
    ids = IDS[::-3]
    assert_same_bits(setting.fit(setting.pool().subset(ids)), trained(setting), ids)
    half_way = setting.fit(setting.pool(), 1).subset(ids)
    assert_same_bits(setting.go_on(half_way, EPOCHS - 1), trained(setting), ids)


@every_setting
def test_permutation(setting: Setting) -> None:
    order = np.random.default_rng(3).permutation(len(MEMBERS))
    assert_same_bits(setting.fit(setting.pool(order)), trained(setting))


@every_setting
def test_concatenation(setting: Setting) -> None:
    """Of pools trained apart; and the whole trains on as one pool does."""
    parts = [setting.pool(slice(0, 17)), setting.pool(slice(17, 18)), setting.pool(slice(18, None))]
    whole = pm.concat([setting.fit(part, EPOCHS - 1) for part in parts])
    assert_same_bits(whole, trained(setting, EPOCHS - 1))
    assert_same_bits(setting.go_on(whole, 1), trained(setting))


@every_setting
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads(setting: Setting, n_threads: int) -> None:
    assert_same_bits(setting.fit(setting.pool(), n_threads=n_threads), trained(setting))


@pytest.fixture
def every_member_by_all_threads(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """As members are trained that are too large to be dealt out; what they are held to was trained otherwise."""
    trained(setting)
    monkeypatch.setattr(threads, "n_trained_together", lambda weight, n_threads: len(weight))
    monkeypatch.setattr(task_runner, "SMALL_WORK", 0)


# Members that diverge have other bits: the comparison is to say so.
@pytest.mark.filterwarnings("ignore::pmlp_np.base.errors.DivergedWarning")
@pytest.mark.usefixtures("every_member_by_all_threads")
@every_setting
@pytest.mark.parametrize("n_threads", [2, 3])
def test_all_threads_on_each_member(setting: Setting, n_threads: int) -> None:
    assert_same_bits(setting.fit(setting.pool(), n_threads=n_threads), trained(setting))


@pytest.mark.parametrize(
    ("weight", "n_threads", "together"),
    [
        ([9e6, 3, 2], 2, 1),
        ([9e6, 3, 2], 1, 0),
        ([5e6, 5e6], 2, 0),
        ([5e6, 5e6], 3, 2),
        ([9e6, 8e6, 5e6, 5e6], 3, 0),
        ([9e5, 4e5, 4e5], 2, 1),
        ([1e5, 3, 2], 2, 0),
    ],
)
def test_members_that_outweigh_the_others_are_trained_by_all(weight: list, n_threads: int, together: int) -> None:
    assert threads.n_trained_together(np.array(weight, np.int64), n_threads) == together


@every_setting
def test_epochs_in_parts(setting: Setting) -> None:
    pool = setting.fit(setting.pool(), 1)
    for _ in range(EPOCHS - 1):
        setting.go_on(pool, 1)
    assert_same_bits(pool, trained(setting))
    # fit starts anew, whatever was before.
    assert_same_bits(setting.fit(pool), trained(setting))


@every_setting
def test_saved_and_loaded(setting: Setting, tmp_path: Path) -> None:
    pool = setting.fit(setting.pool(), 1)
    pool.save(tmp_path / "pool.pmlp")
    loaded = pm.load(tmp_path / "pool.pmlp")
    assert_same_bits(loaded, pool)
    assert_same_bits(setting.go_on(loaded, EPOCHS - 1), trained(setting))


@given(case=cases(), data=st.data())
@pytest.mark.filterwarnings("ignore::pmlp_np.base.errors.DivergedWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_pools(case: Case, dtype: str, data: st.DataObject) -> None:
    """Alone, in another order and on other threads."""
    X, y = case.data(dtype)
    pool = case.pool(dtype).fit(X, y, **case.training(), n_threads=1)
    order = data.draw(st.permutations(case.ids))
    assert_same_bits(case.pool(dtype).subset(order).fit(X, y, **case.training(), n_threads=2), pool)
    for member, id in zip(case.members, case.ids, strict=True):
        loss = library_loss(case.loss, case.n_outputs)
        alone = pm.Pool([member], case.n_features, case.n_outputs, loss, case.seed, dtype=dtype, ids=[id])
        assert_same_bits(alone.fit(X, y, **case.training()), pool, [id])


# How the data lie in memory.


def column_major(X: np.ndarray, folder: Path) -> np.ndarray:
    return np.asfortranarray(X)


def every_second_row(X: np.ndarray, folder: Path) -> np.ndarray:
    spread = np.full((2 * len(X), X.shape[1]), np.nan, X.dtype)
    spread[::2] = X
    return spread[::2]


def columns_of_a_wider_table(X: np.ndarray, folder: Path) -> np.ndarray:
    table = np.full((len(X), X.shape[1] + 5), np.nan, X.dtype)
    table[:, 2:-3] = X
    return table[:, 2:-3]


def reversed_rows(X: np.ndarray, folder: Path) -> np.ndarray:
    return X[::-1].copy()[::-1]


def read_only_memory_map(X: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def big_endian(X: np.ndarray, folder: Path) -> np.ndarray:
    return X.astype(X.dtype.newbyteorder(">"))


def unaligned(X: np.ndarray, folder: Path) -> np.ndarray:
    memory = np.empty(X.nbytes + 1, np.uint8)
    view = np.ndarray(X.shape, X.dtype, memory.data, offset=1)
    view[...] = X
    return view


LAYOUTS = (
    column_major,
    every_second_row,
    columns_of_a_wider_table,
    reversed_rows,
    read_only_memory_map,
    big_endian,
    unaligned,
)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_setting
def test_data_in_any_layout(setting: Setting, layout: Any, tmp_path: Path) -> None:
    X, y = setting.data()
    laid = layout(X, tmp_path)
    assert np.array_equal(laid, X)
    assert_same_bits(setting.pool().fit(laid, y, epochs=EPOCHS, **setting.training()), trained(setting))
    assert same_bits(trained(setting).forward(laid), trained(setting).forward(X))


@both_dtypes
def test_rows_read_through_their_order(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """As is done where a reordered copy of the data would be too large."""
    monkeypatch.setattr(views, "_REORDER_BYTES", 0)
    assert_same_bits(setting.fit(setting.pool()), trained(setting))


@both_dtypes
def test_a_members_own_batch_size_and_that_of_fit(setting: Setting) -> None:
    members = [pm.Member(hidden=(9, 4), batch_size=b) for b in (None, 20)]
    X, y = setting.data()
    pools = [pm.Pool([m], N_FEATURES, N_OUTPUTS, setting.loss, dtype=setting.dtype) for m in members]
    for pool, batch_size in zip(pools, (20, 64), strict=True):
        pool.fit(X, y, epochs=2, batch_size=batch_size, progress=False)
    assert_same_bits(*pools)


@every_setting
def test_outputs_of_any_members_and_rows(setting: Setting) -> None:
    """Raw outputs and losses of some members, of some rows, and of the member taken out."""
    pool, (X, y) = trained(setting), setting.data()
    raw, loss = pool.forward(X), pool.evaluate(X, y)
    chosen = [5, 44, 0, 17]
    ids = [IDS[i] for i in chosen]
    assert same_bits(pool.forward(X, members=ids), raw[chosen])
    assert same_bits(pool.evaluate(X, y, members=ids), loss[chosen])
    assert same_bits(pool.subset(ids).forward(X), raw[chosen])
    for rows in (slice(0, 1), slice(3, 40), slice(89, 90)):
        assert same_bits(pool.forward(X[rows]), np.ascontiguousarray(raw[:, rows]))


@every_setting
def test_outputs_asked_again_after_further_training(setting: Setting) -> None:
    """What is prepared for the next question holds on to no weights but the pool's own."""
    pool, (X, _) = setting.fit(setting.pool(), 1), setting.data()
    few = X[:3]
    before = pool.forward(few)
    setting.go_on(pool, 2)
    after = pool.forward(few)
    assert same_bits(after, trained(setting).forward(few)) and not same_bits(after, before)
    readonly = few.copy()
    readonly.flags.writeable = False
    assert same_bits(pool.forward(readonly), after)


# Cut short.


class PressesCtrlC(training.ProgressBar):
    """In place of a progress bar: interrupts at the first poll (a second Ctrl-C would raise)."""

    pressed = False

    def show(self, *arguments: Any) -> None:
        if not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c_as_in_a_terminal")
@pytest.mark.parametrize("way", ["interrupt", "time budget", "file"])
@both_dtypes
def test_cut_in_the_middle_of_epochs(
    setting: Setting, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cut_in_the_middle_of_epochs(setting, way, monkeypatch, tmp_path, n_threads=1)


@pytest.mark.usefixtures("every_member_by_all_threads")
@both_dtypes
def test_cut_while_all_threads_are_on_a_member(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cut_in_the_middle_of_epochs(setting, "time budget", monkeypatch, tmp_path, n_threads=2)


def cut_in_the_middle_of_epochs(
    setting: Setting, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_threads: int
) -> None:
    """Training is cut again and again; each member then has the bits of as many epochs or minibatches without a cut."""
    n_rows, batch_size = 4000, 4
    X, y = random_data(setting.loss, n_rows, N_FEATURES, N_OUTPUTS, dtype=setting.dtype)
    arguments = {"batch_size": batch_size, "shuffle": None, "progress": False}
    chosen = [i for i, member in enumerate(MEMBERS) if member.batch_size is None]
    pool = setting.pool(chosen)
    cut: list[pm.Pool] = []
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_POLL_SECONDS", 1e-3)
        if way == "interrupt":
            patch.setattr(training, "ProgressBar", PressesCtrlC)
            # A press this soon after the last one would stop the program.
            patch.setattr(interrupts, "AGAIN_SECONDS", 0.0)
        else:
            arguments["time_budget"] = 3e-3
        for _ in range(25):
            pool.partial_fit(X, y, **arguments, n_threads=n_threads)
            places = np.flatnonzero((pool._progress.minibatch > 0) & (pool._progress.epoch == 0))
            cut += [pool.subset(pool.ids_[places[-1:]])] if len(places) else []
            if way == "file":
                pool.save(tmp_path / "pool.pmlp")
                pool = pm.load(tmp_path / "pool.pmlp")
        assert pool.ended_ == ("interrupted" if way == "interrupt" else "time budget")
    assert len(cut) > 2, "cuts came too late to test anything"
    arguments.pop("time_budget", None)
    for member in cut:
        # A schedule goes by how many minibatches an epoch has.
        if member.specs[0].schedule == "constant" and not member.specs[0].warmup_epochs:
            assert_first_minibatches(member, X, y, arguments)
    pool.partial_fit(X, y, **arguments)

    assert not pool._progress.minibatch.any()
    for epochs in set(pool._progress.epoch.tolist()):
        whole = setting.pool(chosen).fit(X, y, epochs=epochs, n_threads=1, **arguments)
        done = pool._progress.epoch == epochs
        for got, expected in zip((pool, whole), (whole, pool), strict=True):
            got._records.make_room(["loss"], expected.history_["loss"].shape[1])
        assert_same_bits(pool, whole, pool.ids_[done].tolist())


def assert_first_minibatches(member: pm.Pool, X: np.ndarray, y: np.ndarray, arguments: dict[str, Any]) -> None:
    """A member in its first epoch has the bits of one whose data are the minibatches done."""
    (id,), (done,) = member.ids_.tolist(), member._progress.minibatch.tolist()
    short = pm.Pool([MEMBERS[IDS.index(id)]], N_FEATURES, N_OUTPUTS, member.loss, SEED, dtype=member.dtype, ids=[id])
    n_rows = done * arguments["batch_size"]
    short.fit(X[:n_rows], y[:n_rows], **arguments)
    state, expected = member_states(member)[id], member_states(short)[id]
    assert (expected.progress["epoch"], expected.progress["step"]) == (1, done)
    assert np.float32(state.progress["loss_sum"] / done) == expected.curves["loss"][0]
    for each in (state, expected):
        each.curves, each.progress = {}, {}
    assert not differing_bits(state.arrays(), expected.arrays())


# Instruction sets.

AVX2_ONLY = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+popcnt,+sse4.1,+sse4.2",
}
# As no processor is, but every one with AVX2 runs it: whole vectors of integers only in the smaller registers.
AVX_ONLY = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+avx,+fma,+popcnt,+sse4.1,+sse4.2"}
WRITE_BITS = "import sys, test_bits; test_bits.write_bits(sys.argv[1], test_bits.ALL_SETTINGS, test_bits.MANY)"
WRITE_BITS_OF_AVX512_TILES = """
import sys
from pmlp_np.backends.numba import compiling
compiling.AVX2_TILES = compiling.AVX512_TILES
import test_bits
test_bits.write_bits(sys.argv[1], test_bits.FEW_SETTINGS, test_bits.FEW)
"""
ALL_SETTINGS = [*SETTINGS, *(Setting(dtype, loss, "member") for dtype in DTYPES for loss in VARIANTS)]
# Code for other instructions compiles for minutes, most of it for the members' activations and optimizers. The profile
# quick takes other members in each run.
if profiles.PROFILE == "quick":
    FEW_SETTINGS, FEW, MANY = [SETTINGS[1]], slice(profiles.SEED % 15, None, 15), slice(profiles.SEED % 6, None, 6)
elif profiles.PROFILE == "thorough":
    FEW_SETTINGS, FEW, MANY = [SETTINGS[1], SETTINGS[4]], slice(None), slice(None)
else:
    FEW_SETTINGS, FEW, MANY = [SETTINGS[1]], slice(None, None, 5), slice(None)


def all_bits(settings: list[Setting], chosen: slice = slice(None)) -> dict[str, np.ndarray]:
    """All that the varied pool's members, or some, come to in these settings, by name."""
    found = {}
    for setting in settings:
        pool, (X, y) = setting.fit(setting.pool(chosen)), setting.data()
        outputs = {"raw": pool.forward(X), "loss": pool.evaluate(X, y)}
        found |= {f"{setting} {name}": values for name, values in outputs.items()}
        for id, state in member_states(pool).items():
            found |= {f"{setting} {id} {name}": np.asarray(values) for name, values in state.arrays().items()}
    return found | encoded_bits(settings[:1], chosen)


def encoded_bits(settings: list[Setting], chosen: slice) -> dict[str, np.ndarray]:
    """The same of a table with encoded columns."""
    found = {}
    for setting in settings:
        draw, (X, y) = np.random.default_rng(7), setting.data()
        encoding = Encoding(3, tuple(draw.uniform(size=bins) for bins in (6, 4)))
        numbers = np.concatenate([X[:, :3], np.zeros((len(X), 4))], axis=1)
        numbers[:, 3::2] = draw.integers(0, encoding.bins, (len(X), 2))
        numbers[:, 4::2] = draw.random((len(X), 2))
        table = EncodedTable.checked(numbers.astype(setting.dtype), encoding)
        pool = setting.pool(chosen).fit(table, y, epochs=EPOCHS, **setting.training())
        found[f"{setting} encoded raw"] = pool.forward(table)
        for id, state in member_states(pool).items():
            found |= {f"{setting} encoded {id} {name}": values for name, values in state.arrays().items()}
    return found


def assembly(key: str) -> str:
    """That of a pass, compiled anew: cached code shows none."""

    def run(block):
        compiling._emit(key, block)

    return numba.cfunc(numba.void(numba.int64))(run)._library.get_asm_str()


def registers_used() -> set[str]:
    """The vector registers that this process compiles for."""
    names = ("outputs", "hidden_backward", "layer_train:tanh", "loss_train:cross_entropy", "weights_backward:adam")
    texts = [assembly(f"{dtype}/{name}") for dtype in DTYPES for name in names]
    return {register for register in ("xmm", "ymm", "zmm") for text in texts if register in text}


def write_bits(path: str, settings: list[Setting], chosen: slice) -> None:
    """What the process with other code does."""
    features, registers = sorted(compiling.cpu_features()), sorted(registers_used())
    np.savez(path, **all_bits(settings, chosen), registers=registers, features=features, code=assembly(OUTPUTS))


OUTPUTS = "float32/outputs"


def bits_of_other_code(folder: Path, script: str, **environment: str) -> dict[str, np.ndarray]:
    """Bits from a process that compiles other code."""
    run_python(script, str(folder / "bits.npz"), **environment)
    with np.load(folder / "bits.npz") as file:
        return dict(file)


def _avx2_and_avx512(tmp_path: Path) -> None:
    if not compiling.has_avx512():
        pytest.skip("code here is compiled without AVX-512; the other case emulates the order of its sums")
    other = bits_of_other_code(tmp_path, WRITE_BITS, **AVX2_ONLY)
    assert "avx512f" not in other.pop("features")
    assert set(other.pop("registers").tolist()) == {"xmm", "ymm"}
    assert other.pop("code") != assembly(OUTPUTS)
    bits = all_bits(ALL_SETTINGS, MANY)
    assert "zmm" in registers_used()
    assert len(bits) > 12 * len(MEMBERS[MANY])
    assert not differing_bits(bits, other)


def _avx512_tiles_on_avx(tmp_path: Path) -> None:
    """What a machine without AVX-512 can run of its code: the same tiles, and so the same order of sums, by
    instructions of before AVX2."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{platform.machine()} runs no x86 code")
    # Of its own cache: tiles are no part of a cached function's name.
    other = bits_of_other_code(tmp_path, WRITE_BITS_OF_AVX512_TILES, PMLP_CACHE_DIR=str(tmp_path / "cache"), **AVX_ONLY)
    assert not {"avx2", "avx512f"} & set(other.pop("features").tolist())
    assert set(other.pop("registers").tolist()) == {"xmm", "ymm"}
    assert other.pop("code") != assembly(OUTPUTS)
    bits = all_bits(FEW_SETTINGS, FEW)
    assert len(bits) > 6 * len(MEMBERS[FEW])
    assert not differing_bits(bits, other)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compare", [_avx2_and_avx512, _avx512_tiles_on_avx])
def test_code_for_other_processors_gives_the_same_bits(compare: Callable[[Path], None], tmp_path: Path) -> None:
    compare(tmp_path)
