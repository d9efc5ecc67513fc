"""Encoded columns: a first layer that gathers sums of weights, held to the inputs that they stand for."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import BACKENDS
from formula_samples import DTYPES
from member_state import member_states
from pmlp_np.backends.numba import threads
from pmlp_np.backends.numba.passes import AVX2_TILES, AVX512_TILES, PASSES
from pmlp_np.backends.numba.passes.encoded_columns import ROWS_BEYOND_BINS
from pmlp_np.base.arrays import allocate
from pmlp_np.data.dataset import Dataset
from pmlp_np.data.encoded import MISSING_AT, EncodedTable, Encoding
from pmlp_np.training.data_keys import DataKeys
from running_passes import LANES, padded, run_pass, sentinel
from test_isolated import assert_padding_is_zero, poison
from test_matrix_passes import TILES, inside, with_tiles
from varied_pool import IDS, MEMBERS, N_FEATURES, N_ROWS, SETTINGS, Setting, assert_same_bits, differing_bits

numba_only = pytest.mark.skipif("numba" not in BACKENDS, reason="PMLP_TEST_BACKENDS leaves out numba")
# As many inputs as the members of the varied pool read; one column has one bin.
PLAIN, BINS = 3, (4, 5, 1)


def drawn_encoding(draw: np.random.Generator, plain: int, bins: Any) -> Encoding:
    return Encoding(plain, tuple(draw.uniform(size=n) for n in bins))


def drawn_table(draw: np.random.Generator, n: int, encoding: Encoding, dtype: str = "float64") -> EncodedTable:
    numbers = np.empty((n, encoding.n_numbers))
    numbers[:, : encoding.plain] = draw.normal(size=(n, encoding.plain))
    for column, bins in enumerate(encoding.bins.tolist()):
        index, share = draw.integers(0, bins, n), draw.choice([0.0, 0.25, draw.random(), 1.0], n)
        missing = draw.random(n) < 0.2
        numbers[:, encoding.plain + 2 * column] = np.where(missing, bins + MISSING_AT, index)
        numbers[:, encoding.plain + 2 * column + 1] = np.where(missing, 0.0, share)
    return EncodedTable.checked(numbers.astype(dtype), encoding)


def by_definition(table: EncodedTable) -> np.ndarray:
    """The inputs, a number at a time."""
    rows = []
    for numbers in table.numbers.astype(np.float64).tolist():
        row = numbers[: table.encoding.plain]
        pairs = numbers[table.encoding.plain :]
        for centers, index, share in zip(table.encoding.centers, pairs[::2], pairs[1::2], strict=True):
            for i, center in enumerate(centers.tolist()):
                value = 1.0 if i < index else share if i == index else 0.0
                row.append(value - center if index < len(centers) else 0.0)
        rows.append(row)
    return np.array(rows).reshape(len(table), table.encoding.n_inputs)


def setting_data(setting: Setting, seed: int = 1) -> tuple[EncodedTable, np.ndarray]:
    """Data of the varied pool, X an encoded table."""
    encoding = drawn_encoding(np.random.default_rng(5), PLAIN, BINS)
    _, y = setting.some_data(N_ROWS, seed)
    return drawn_table(np.random.default_rng(seed), N_ROWS, encoding, setting.dtype), y


def fitted(setting: Setting, chosen: Any = slice(None), **changes: Any) -> pm.Pool:
    return setting.pool(chosen).fit(*setting_data(setting), **({"epochs": 3} | setting.training() | changes))


# Tables.


@given(st.integers(0, 3), st.lists(st.integers(1, 6), max_size=4), st.integers(1, 20), st.sampled_from(DTYPES))
def test_inputs_are_what_the_numbers_stand_for(plain: int, bins: list[int], n: int, dtype: str) -> None:
    draw = np.random.default_rng()
    table = drawn_table(draw, n, drawn_encoding(draw, plain, bins), dtype)
    expected = by_definition(table)
    assert table.shape == expected.shape and table.expanded().dtype == np.dtype(dtype) and len(table) == n
    np.testing.assert_allclose(table.expanded(), expected, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert np.array_equal(np.asarray(table), table.expanded())
    rows = draw.integers(0, n, 5)
    assert np.array_equal(table[rows].expanded(), table.expanded()[rows])
    both = EncodedTable.concatenate([table, table[rows]])
    assert np.array_equal(both.expanded(), np.concatenate([table.expanded(), table.expanded()[rows]]))
    # Whole columns stay encoded; a part of one does not.
    starts = plain + np.cumsum([0, *bins])
    chosen = [np.arange(starts[c], starts[c + 1]) for c in range(len(bins)) if draw.random() < 0.6]
    whole = np.concatenate([draw.permutation(plain)[:2], *chosen]).astype(np.int64)
    if len(whole):
        found = table.inputs(whole)
        assert isinstance(found, EncodedTable) == bool(chosen)
        assert np.array_equal(np.asarray(found), table.expanded()[:, whole])
    some = draw.permutation(table.shape[1])[: draw.integers(1, 5)]
    if table.shape[1]:
        assert np.array_equal(np.asarray(table.inputs(some)), table.expanded()[:, some])
    odd = [part for part in chosen if len(part) > 1]
    if odd:
        for part in (odd[0][::-1], odd[0][:-1], odd[0][1:], np.append(odd[0], 0) if plain else odd[0][1:]):
            assert isinstance(table.inputs(part), np.ndarray)


@pytest.mark.parametrize(
    "change", ["index", "half", "negative", "share", "nan", "missing", "columns", "bins", "centers"]
)
def test_numbers_that_stand_for_nothing_are_refused(change: str) -> None:
    draw = np.random.default_rng()
    encoding = drawn_encoding(draw, 1, (3, 2))
    numbers = drawn_table(draw, 6, encoding).numbers.copy()
    numbers[4, 1:3] = 1.0, 0.5
    place, value = {
        "index": (1, 3.0), "half": (1, 0.5), "negative": (1, -1.0), "share": (2, 1.5), "nan": (2, np.nan),
        "missing": (1, 4.0), "columns": (0, 0.0), "bins": (0, 0.0), "centers": (0, 0.0),
    }[change]  # fmt: skip
    numbers[4, place] = value
    if change == "columns":
        numbers = numbers[:, :-1]
    if change == "bins":
        encoding = Encoding(1, (np.zeros(3), np.zeros(0)))
    if change == "centers":
        encoding = Encoding(1, (np.array([0.1, np.nan, 0.2]), np.zeros(2)))
    with pytest.raises(pm.DataError, match="numbers" if change in ("columns", "bins") else "encoded column 0"):
        EncodedTable.checked(numbers, encoding)


@pytest.mark.parametrize("rows", [3, (slice(None), 0), np.zeros((2, 2), int)])
def test_a_table_is_indexed_by_rows(rows: Any) -> None:
    draw = np.random.default_rng()
    with pytest.raises(pm.DataError, match="a slice, row numbers or a mask"):
        drawn_table(draw, 6, drawn_encoding(draw, 1, (2,)))[rows]


# Passes, on small whole numbers and shares of 0, a half and 1, whose sums are exact in any order.

PARTS = {
    "rows": st.integers(0, 9), "width": st.integers(1, 150), "plain": st.integers(0, 3),
    "bins": st.lists(st.integers(1, 5), min_size=1, max_size=4), "seed": st.integers(0, 1000),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def passes_by_tiles() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tables", "start", "backward", "gradient"):
            for tiles in TILES:
                emit = PASSES[f"encoded_{name}"]
                patch.setitem(PASSES, f"encoded_{name}:{tiles}", with_tiles(emit, TILES[tiles]))
        yield


def aligned(values: np.ndarray, kind: str) -> np.ndarray:
    array = allocate(values.size, np.dtype(kind)).reshape(values.shape)
    array[...] = values
    return array


def whole(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.integers(-4, 5, shape).astype(np.float64)


def exact_table(draw: np.random.Generator, rows: int, plain: int, bins: list[int]) -> EncodedTable:
    table = drawn_table(draw, rows, Encoding(plain, tuple(draw.integers(0, 3, n) / 2.0 for n in bins)))
    table.numbers[:, plain + 1 :: 2] *= draw.choice([0.0, 1.0], (rows, len(bins)))
    table.numbers[:, plain + 1 :: 2] = np.round(2.0 * table.numbers[:, plain + 1 :: 2]) / 2.0
    return table


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("tiles", TILES)
@given(**PARTS, scaled=st.booleans())
def test_a_pass_gathers_what_the_inputs_would_give(
    kind: str, tiles: str, rows: int, width: int, plain: int, bins: list[int], seed: int, scaled: bool
) -> None:
    draw = np.random.default_rng(seed)
    table = exact_table(draw, rows, plain, bins)
    inputs = by_definition(table)[:, plain:]
    vectors = padded(width, kind) // LANES[kind]
    stride = (vectors + 1) * LANES[kind]
    n_weights, counts = sum(bins), np.array(bins)
    table_rows = counts + ROWS_BEYOND_BINS
    common = {
        "columns": np.stack([np.cumsum(table_rows) - table_rows, counts], axis=1).astype(np.int64).ravel(),
        "n": len(bins), "stride": stride, "vectors": vectors,
    }  # fmt: skip
    centers = aligned(np.concatenate(table.encoding.centers), kind)
    w, start, scales = whole(draw, n_weights, stride), whole(draw, stride), whole(draw, n_weights)
    w[:, width:] = start[width:] = 0.0
    read = w * scales[:, None] if scaled else w
    tables = sentinel((int(table_rows.sum()) + 1, stride), kind)
    factors = aligned(scales, kind) if scaled else 0
    run_pass(
        kind, f"encoded_tables:{tiles}", table=tables, w=aligned(w, kind), scales=factors, centers=centers, **common
    )  # fmt: skip
    known = inside(tables.shape, len(tables) - 1, padded(width, kind))
    assert np.isfinite(tables[known]).all() and np.isnan(tables[~known]).all(), "written outside"

    x, out = table.numbers.astype(kind), sentinel((rows + 1, stride), kind)
    block = {"rows": rows, "first": 1, "last": 1, "x": x, "x_stride": x.shape[1], "plain": plain, **common}
    run_pass(kind, f"encoded_start:{tiles}", **block, out=out, start=aligned(start, kind), table=tables)
    assert np.array_equal(out[:rows, : padded(width, kind)], (start + inputs @ read)[:, : padded(width, kind)])
    assert np.isnan(out[~inside(out.shape, rows, padded(width, kind))]).all(), "written outside"

    dz, dtable = whole(draw, rows, stride), np.zeros_like(tables)
    dz[:, width:] = 0.0
    for _ in range(2):
        # A second block of the minibatch adds to the first; a second minibatch begins anew.
        for _ in range(2):
            run_pass(kind, f"encoded_backward:{tiles}", **block, dz=aligned(dz, kind), dtable=dtable)
        dw = sentinel((n_weights + 1, stride), kind)
        run_pass(kind, f"encoded_gradient:{tiles}", dw=dw, dtable=dtable, centers=centers, **common)
        assert np.array_equal(dw[:n_weights, : padded(width, kind)], (2 * inputs.T @ dz)[:, : padded(width, kind)])
        assert np.isnan(dw[~inside(dw.shape, n_weights, padded(width, kind))]).all(), "written outside"
        # Rows of zeros, which missing cells read, gather what nobody needs.
        needed = np.concatenate([np.arange(n + ROWS_BEYOND_BINS) <= n for n in bins])
        assert not dtable[:-1][needed].any()


def test_both_tiles_are_tested() -> None:
    assert set(TILES.values()) == {AVX2_TILES, AVX512_TILES} and AVX2_TILES.strips != AVX512_TILES.strips


# Training.


@numba_only
@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.dtype == "float64"][:2], ids=str)
def test_members_train_as_on_the_inputs(setting: Setting) -> None:
    """As by the reference backend, which computes the inputs, and as by the Numba backend on the inputs."""
    X, y = setting_data(setting)
    held_out = setting_data(setting, 2)
    arguments = setting.training() | {"validation_data": held_out}
    pool = setting.pool().fit(X, y, epochs=2, **arguments)
    plain = pm.Pool(MEMBERS, N_FEATURES, pool.n_outputs, pool.loss, seed=11, dtype=setting.dtype, ids=IDS,
                    backend="reference").fit(X, y, epochs=2, **arguments)  # fmt: skip
    wide = setting.pool().fit(X.expanded(), y, epochs=2, **arguments)
    drops = pool.specs.option("input_dropout") > 0.0
    assert drops.any() and not drops.all()
    gathered = 0
    for position, id in enumerate(IDS):
        found, expected, dense = (each.extract(id).weights for each in (pool, plain, wide))
        for a, b, c in zip(found, expected, dense, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-9)
        same = all(map(np.array_equal, found, dense))
        if drops[position]:
            assert same
        gathered += not same
    assert gathered > len(IDS) // 2
    np.testing.assert_allclose(
        pool.history_["validation_loss"], plain.history_["validation_loss"], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(pool.forward(X), plain.forward(X), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(pool.forward(X[:1]), wide.forward(X.expanded()[:1]), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(pool.evaluate(*held_out), plain.evaluate(*held_out), rtol=1e-5, atol=1e-7)


@numba_only
def test_float32_is_near_float64() -> None:
    """Of members whose steps are no more than sums: rounding is not magnified."""
    draw = np.random.default_rng()
    encoding = drawn_encoding(draw, 4, (48, 9, 30))
    X = drawn_table(draw, 400, encoding)
    y = np.sin(X.expanded().sum(axis=1))
    members = [pm.Member(hidden=h, activation="tanh", optimizer=pm.SGD(0.03)) for h in ((), (20,), (40, 10))]
    pools = [
        pm.Pool(members, encoding.n_inputs, dtype=dtype, seed=3).fit(
            X, y, epochs=4, batch_size=batch, progress=False
        ) for batch in (32, 400) for dtype in DTYPES
    ]  # fmt: skip
    for single, double in (pools[:2], pools[2:]):
        assert np.abs(single.predict(X) - double.predict(X)).max() < 2e-5


# Bits.


@numba_only
@pytest.mark.parametrize("setting", [SETTINGS[i] for i in (0, 1, 4)], ids=str)
def test_a_member_has_the_bits_of_training_alone(setting: Setting) -> None:
    everyone = member_states(fitted(setting))
    for start in range(7):
        if start % 3 == 0:
            part = slice(start, None, 7)
            some = fitted(setting, part, n_threads=1 + start // 3)
            for id, state in member_states(some).items():
                assert not differing_bits(state.arrays(), everyone[id].arrays())
    alone = fitted(setting, slice(20, 21))
    (id,) = alone.ids_.tolist()
    assert not differing_bits(member_states(alone)[id].arrays(), everyone[id].arrays())


@numba_only
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[4]], ids=str)
def test_members_that_all_threads_train_have_the_same_bits(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted(setting, slice(None, None, 3))
    monkeypatch.setattr(threads, "n_trained_together", lambda weight, n_threads: len(weight))
    monkeypatch.setattr("pmlp_np.backends.numba.training_round.is_small", lambda work: False)
    assert_same_bits(fitted(setting, slice(None, None, 3), n_threads=2), expected)


@numba_only
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[1]], ids=str)
def test_row_sets_and_feature_sets_have_the_bits_of_their_own_tables(setting: Setting) -> None:
    """Members read some columns and some rows of a table, encoded or not, in one pool."""
    draw = np.random.default_rng()
    X, y = setting_data(setting)
    starts = PLAIN + np.cumsum([0, *BINS])
    columns = [np.arange(starts[c], starts[c + 1]) for c in range(len(BINS))]
    sets = [
        np.arange(PLAIN), np.concatenate([[2, 0], columns[1]]), np.concatenate([[1], columns[0], columns[2]]),
        np.concatenate([columns[2], columns[1]]), columns[0][1:], np.arange(N_FEATURES),
    ]  # fmt: skip
    members = [pm.Member(hidden=(9, 4), optimizer="adam", dropout=0.1, feature_scale=i % 2 == 0) for i in range(6)]
    rows = [draw.integers(0, N_ROWS, 70 + 3 * i) for i in range(6)]
    pool = setting.pool(slice(0, 6))
    pool = pm.Pool(members, N_FEATURES, pool.n_outputs, pool.loss, seed=4, dtype=setting.dtype)
    pool.fit(X, y, epochs=2, features=sets, rows=rows, **setting.training())
    for i, each in enumerate(sets):
        own = pm.Pool(members[i], len(each), pool.n_outputs, pool.loss, seed=4, dtype=setting.dtype, ids=[i])
        own.fit(X.inputs(each)[rows[i]], y[rows[i]], epochs=2, **setting.training())
        for a, b in zip(pool.extract(i).weights, own.extract(i).weights, strict=True):
            assert np.array_equal(a, b)
        assert np.array_equal(pool.forward(X, members=[i])[0], own.forward(X.inputs(each))[0])


@numba_only
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[4]], ids=str)
def test_poisoned_memory_changes_no_bit(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, (X, y) = fitted(setting), setting_data(setting)
    outputs = expected.forward(X), expected.evaluate(X, y)
    poison(monkeypatch)
    pool = fitted(setting, epochs=1, n_threads=2)
    pool.partial_fit(X, y, epochs=2, **setting.training() | {"n_threads": 3})
    assert_same_bits(pool, expected)
    assert_padding_is_zero(pool)
    assert np.array_equal(pool.forward(X), outputs[0], equal_nan=True)
    assert np.array_equal(pool.evaluate(X, y), outputs[1], equal_nan=True)


@numba_only
def test_a_pool_trains_on_after_pickle_and_file(tmp_path: Any) -> None:
    setting = SETTINGS[0]
    X, y = setting_data(setting)
    expected = fitted(setting)
    pool = pickle.loads(pickle.dumps(fitted(setting, epochs=1)))
    pool.partial_fit(X, y, epochs=1, **setting.training())
    pool.save(tmp_path / "p.pmlp")
    pool = pm.load(tmp_path / "p.pmlp")
    pool.partial_fit(X, y, epochs=1, **setting.training())
    assert_same_bits(pool, expected)


# Validation data, which is evaluated with the tables of training.


@numba_only
@pytest.mark.parametrize("kind", ["encoded", "other centers", "inputs", "encoded after inputs"])
@pytest.mark.parametrize("bins", [(7, 3), (1, 1, 1), (1, 9)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_validation_data_may_be_stored_in_another_way(kind: str, bins: tuple[int, ...], dtype: str) -> None:
    """Neither reads what the other one left in a thread's scratch. With one bin a row has more numbers than inputs."""
    draw = np.random.default_rng()
    encoding = drawn_encoding(draw, 2, bins)
    X, held_out = drawn_table(draw, 90, encoding, dtype), drawn_table(draw, 50, encoding, dtype)
    y, y_held_out = X.expanded().sum(axis=1), held_out.expanded().sum(axis=1)
    inputs = held_out.expanded()
    if kind == "other centers":
        held_out = EncodedTable(held_out.numbers, drawn_encoding(draw, 2, bins))
        inputs = held_out.expanded()
    members = [
        pm.Member(hidden=h, feature_scale=s, activation="tanh", average=0.5, optimizer=pm.SGD(0.03))
        for h in ((), (5,), (128,), (9, 130)) for s in (False, True)
    ]  # fmt: skip
    pools = []
    for backend in ("numba", "reference"):
        pool = pm.Pool(members, encoding.n_inputs, dtype=dtype, seed=2, backend=backend)
        pools.append(pool.fit(
            X.expanded() if kind == "encoded after inputs" else X, y, epochs=3, progress=False, early_stopping=True,
            validation_data=(inputs if kind == "inputs" else held_out, y_held_out),
        ))  # fmt: skip
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-8, "atol": 1e-10}
    for weights in ("last", "best", "average"):
        np.testing.assert_allclose(*(pool.forward(X, weights=weights) for pool in pools), **close)
    np.testing.assert_allclose(*(pool.history_["validation_loss"] for pool in pools), rtol=1e-4)
    found = pools[0].evaluate(inputs, y_held_out, weights="last")
    np.testing.assert_allclose(pools[0].history_["validation_loss"][:, -1], found, rtol=1e-4)


@numba_only
def test_two_threads_predict_with_tables_of_different_sizes() -> None:
    """Each has a scratch in which its tables fit, whatever the other one needs."""
    draw = np.random.default_rng()
    members = [pm.Member(hidden=h) for h in (40, 17)]
    tables = [drawn_table(draw, 300, drawn_encoding(draw, 2, bins)) for bins in ((11,), (1,) * 11, (5, 6), (2, 3, 6))]
    pool = pm.Pool(members, 13).fit(tables[0].expanded(), np.ones(300), epochs=1, progress=False)
    expected = [pool.forward(table) for table in tables]
    runner = pool._backend.runner
    needed = [runner.scratch_items([pool._backend.place(Dataset([t])).in_order], np.arange(2)) for t in tables]
    assert len(set(needed)) > 2
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(pool.forward, tables * 20))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 20, strict=True))


def test_other_centers_are_other_data() -> None:
    """By the keys that tell whether an interrupted epoch may go on."""
    draw = np.random.default_rng()
    encoding = drawn_encoding(draw, 1, (5,))
    X, rows = drawn_table(draw, 64, encoding), draw.integers(0, 64, 64)
    plan = pm.Pool(pm.Member(), encoding.n_inputs)._plan

    def key(x: Any) -> int:
        return int(DataKeys(plan, Dataset([x])).of(np.zeros(1, np.int64))[0])

    assert key(X) == key(EncodedTable(X.numbers.copy(), Encoding(1, (encoding.centers[0].copy(),))))
    others = [EncodedTable(X.numbers, drawn_encoding(draw, 1, (5,))), X[rows], X.expanded(), X.numbers]
    assert len({key(X), *map(key, others)}) == 5


def test_wrong_tables_are_refused() -> None:
    draw = np.random.default_rng()
    table = drawn_table(draw, 20, drawn_encoding(draw, 2, (3,)))
    y = np.zeros(20)
    with pytest.raises(pm.DataError, match=r"X: expected 4 features \(columns\), got 5"):
        pm.Pool(pm.Member(), 4).fit(table, y)
    with pytest.raises(pm.DataError, match="at least one row"):
        pm.Pool(pm.Member(), 5).fit(table[:0], y[:0])
    pool = pm.Pool(pm.Member(), 5).fit(table, y, progress=False)
    table.numbers[3, 1] = np.inf
    with pytest.raises(pm.DataError, match="finite"):
        pool.fit(table, y)
    # Also numbers that were changed after they had been checked: compiled code would read beyond the tables.
    table.numbers[3, 1:4] = 0.0, 1e9, 0.0
    for call in (lambda: pool.fit(table, y), lambda: pool.predict(table), lambda: pool.evaluate(table, y)):
        with pytest.raises(pm.DataError, match="encoded column 0: expected the index of a bin"):
            call()
