"""Data: every form in which users hold X and y arrives as the same numbers, copied only where it must be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from pmlp_np.base.errors import DataError, MemoryNeededError
from pmlp_np.data.inputs import as_features, as_targets
from pmlp_np.formulas.losses import LOSSES

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
N, F = 40, 3
SQUARED, BINARY, CLASSES = (LOSSES[name] for name in ("squared_error", "binary_cross_entropy", "cross_entropy"))


@pytest.fixture
def x():
    """(40, 3) float32, whole numbers that every type here can hold, rows and columns all different."""
    return np.random.default_rng(0).permutation(N * F).reshape(N, F).astype(np.float32)


class Framelike:
    """Something that only says how it becomes an array, as data frames of any library do."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


def read_only(x):
    x = x.copy()
    x.setflags(write=False)
    return x


def memory_mapped(x, folder):
    path = folder / "x.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r")


def columns_of_a_wider_table(x):
    table = np.full((len(x), 8), np.nan, np.float32)
    table[:, 2 : 2 + F] = x
    return table[:, 2 : 2 + F]


# What is used in place in a float32 pool, and what must be cast or copied.
IN_PLACE = {
    "C order": lambda x: x,
    "read-only": read_only,
    "columns of a wider table": columns_of_a_wider_table,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "object with __array__": Framelike,
}
COPIED = {
    "F order": np.asfortranarray,
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "int64": lambda x: x.astype(np.int64),
    "uint8": lambda x: x.astype(np.uint8),
    "other byte order": lambda x: x.astype(">f4"),
    "objects": lambda x: x.astype(object),
    "lists": lambda x: x.tolist(),
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "one row repeated in place": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
}


@pytest.mark.parametrize("form", IN_PLACE)
def test_used_in_place(x, form):
    given_x = IN_PLACE[form](x)
    base = given_x._array if isinstance(given_x, Framelike) else given_x
    found = as_features(given_x, F, FLOAT32)
    assert np.array_equal(found, x)
    assert found.dtype == FLOAT32
    assert np.shares_memory(found, base)


def test_memory_maps_are_used_in_place(x, tmp_path):
    mapped = memory_mapped(x, tmp_path)
    found = as_features(mapped, F, FLOAT32)
    assert np.array_equal(found, x)
    assert np.shares_memory(found, mapped)


@pytest.mark.parametrize("form", COPIED)
def test_copied_once_into_dense_rows(x, form):
    given_x = COPIED[form](x)
    found = as_features(given_x, F, FLOAT32)
    assert np.array_equal(found, np.asarray(given_x, np.float32))
    assert found.dtype == FLOAT32 and found.dtype.isnative
    assert found.flags.c_contiguous and found.flags.aligned
    if isinstance(given_x, np.ndarray):
        assert not np.shares_memory(found, given_x)


def test_in_a_float64_pool_float64_is_used_in_place_and_float32_cast(x):
    wide = x.astype(np.float64)
    assert np.shares_memory(as_features(wide, F, FLOAT64), wide)
    assert as_features(x, F, FLOAT64).dtype == FLOAT64
    assert np.array_equal(as_features(x, F, FLOAT64), wide)


def test_bool_features():
    x = np.random.default_rng(0).random((N, F)) < 0.5
    assert np.array_equal(as_features(x, F, FLOAT32), x.astype(np.float32))


def test_one_feature_needs_no_dense_rows(x):
    column = x[:, 1:2]
    found = as_features(column, 1, FLOAT32)
    assert np.shares_memory(found, x) and np.array_equal(found, column)


def test_windows_that_overlap_are_used_in_place():
    series = np.arange(50, dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, 5)
    found = as_features(windows, 5, FLOAT32)
    assert np.shares_memory(found, series) and np.array_equal(found, windows)


def test_data_frames(x):
    pandas = requires("pandas")
    frame = pandas.DataFrame(x, columns=["a", "b", "c"])
    assert np.array_equal(as_features(frame, F, FLOAT32), x)
    mixed = frame.astype({"a": "int64", "b": "float64"})
    mixed["c"] = mixed["c"] > 50
    assert np.array_equal(as_features(mixed, F, FLOAT32), mixed.to_numpy(np.float32))
    y = as_targets(pandas.Series(x[:, 0], index=range(100, 100 + N)), N, 1, SQUARED, FLOAT32)
    assert np.array_equal(y[0], x[:, 0])
    with pytest.raises(DataError, match=r"^X: expected numbers, got 'u' in X\[0, 0\], column 'a'"):
        as_features(pandas.DataFrame({"a": ["u", "v"], "b": [1, 2], "c": [3, 4]}), F, FLOAT32)
    with pytest.raises(DataError, match=r"nan in X\[3, 1\]"):
        as_features(frame.drop(index=3).reindex(range(N)).fillna({"a": 0.0}), F, FLOAT32)


@pytest.mark.parametrize("form", [*IN_PLACE, *COPIED, "memory map"])
def test_every_form_trains_and_predicts_the_same_bits(x, form, tmp_path):
    """Row strides and orders as the kernels read them, and the whole way from argument to result."""
    if form == "one row repeated in place":
        x = np.repeat(x[:1], N, axis=0)
    given_x = memory_mapped(x, tmp_path) if form == "memory map" else (IN_PLACE | COPIED)[form](x)
    y = np.arange(N) % 7
    members = [pm.Member(hidden=(5, 4)), pm.Member(hidden=()), pm.Member(hidden=20, activation="tanh")]
    for shuffle in ("shared", None, "member"):
        pools = [pm.Pool(members, F).fit(data, y, epochs=2, batch_size=7, shuffle=shuffle) for data in (x, given_x)]
        expected, found = (pool.forward(data) for pool, data in zip(pools, (x, given_x), strict=True))
        assert np.isfinite(expected).all()
        assert np.array_equal(found, expected)


def test_the_callers_data_are_not_changed(x):
    y = x[:, 0].copy()
    before = x.copy(), y.copy()
    pm.Pool([pm.Member(hidden=4)], F).fit(x, y, epochs=3, validation_data=(x, y)).predict(x)
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


# Targets: a line per output, or one line of labels.


@pytest.mark.parametrize("form", [np.asarray, list, np.float64, Framelike, read_only, lambda y: y.astype(object)])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_targets_of_one_output(form, shape):
    y = np.arange(N, dtype=np.float32).reshape(shape)
    lines = as_targets(form(y), N, 1, SQUARED, FLOAT32)
    assert lines.shape == (1, N) and lines.dtype == FLOAT32 and lines.flags.c_contiguous
    assert np.array_equal(lines[0], np.arange(N))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, ">f8"])
def test_targets_of_several_outputs(order, dtype):
    y = np.arange(N * 4).reshape(N, 4).astype(dtype, order=order)
    lines = as_targets(y, N, 4, SQUARED, FLOAT64)
    assert lines.shape == (4, N) and lines.flags.c_contiguous and lines.dtype == FLOAT64
    assert np.array_equal(lines, y.T)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64, object])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_labels(dtype, shape):
    y = (np.arange(N) % 3).astype(dtype).reshape(shape)
    lines = as_targets(y, N, 3, CLASSES, FLOAT32)
    assert lines.shape == (1, N) and np.array_equal(lines[0], np.arange(N) % 3)


def test_labels_of_two_classes_may_be_true_and_false():
    y = np.arange(N) % 3 == 0
    assert np.array_equal(as_targets(y, N, 2, CLASSES, FLOAT32)[0], y)


def test_probabilities_and_truth_values():
    assert np.array_equal(as_targets([True, False], 2, 1, BINARY, FLOAT32), [[1.0, 0.0]])
    assert np.array_equal(as_targets([[0.0, 0.25], [1.0, 0.5]], 2, 2, BINARY, FLOAT64), [[0.0, 1.0], [0.25, 0.5]])


def test_unaligned_targets_are_copied():
    y = np.frombuffer(b"." + np.arange(5, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32)
    lines = as_targets(y, 5, 1, SQUARED, FLOAT32)
    assert lines.flags.aligned and np.array_equal(lines[0], y)


# What is refused, in which words.


@pytest.mark.parametrize(
    ("given_x", "text"),
    [
        (None, r"^X: expected an array, got None"),
        (np.zeros(F), r"^X: expected shape \(n_samples, 3\), got \(3,\)\. One feature: .*reshape\(-1, 1\)"),
        (5.0, r"^X: expected shape \(n_samples, 3\), got \(\)"),
        (np.zeros((2, 3, 4)), r"^X: expected shape \(n_samples, 3\), got \(2, 3, 4\)"),
        (np.zeros((5, 4)), r"^X: expected 3 features \(columns\), got 4\. The pool was made with n_features=3"),
        (np.zeros((5, 0)), r"^X: expected 3 features \(columns\), got 0"),
        (np.zeros((0, 3)), r"^X: expected at least one row, got none"),
        ([], r"^X: expected shape \(n_samples, 3\), got \(0,\)"),
        ([["a", "b", "c"]], r"^X: expected real numbers, got dtype <U1"),
        ([[1, 2, "c"]], r"^X: expected numbers, got 'c' in X\[0, 2\]\. Turn categories"),
        (np.array([[1, "b", None]], object), r"^X: expected numbers, got 'b' in X\[0, 1\]"),
        (np.zeros((5, 3), complex), r"^X: expected real numbers, got dtype complex128"),
        (np.zeros((5, 3), "datetime64[s]"), r"^X: expected real numbers, got dtype datetime64\[s\]"),
        (np.zeros((5, 3), "V4"), r"^X: expected real numbers, got dtype \|V4"),
        ([[1.0, 2.0, 3.0], [4.0, 5.0]], r"^X: expected rows of equal length, got \[\[1\.0"),
        ({"a": 1}, r"^X: expected an array of numbers, got the dict \{'a': 1\}\. A column for each key"),
    ],
)
def test_features_refused(given_x, text):
    with pytest.raises(DataError, match=text):
        as_features(given_x, F, FLOAT32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(row=st.integers(0, N - 1), column=st.integers(0, F - 1))
def test_the_first_bad_number_is_named(bad, dtype, row, column):
    x = np.zeros((N, F), dtype)
    x[row, column] = bad
    x[row:, column + 1 :] = bad
    with pytest.raises(DataError, match=rf"^X: expected finite float32 numbers, got {bad} in X\[{row}, {column}\]\. "):
        as_features(x, F, FLOAT32)


def test_bad_numbers_are_found_in_every_piece_of_a_long_table():
    x = np.zeros((5 << 20, 1), np.float32)
    for row in (0, (1 << 20) - 1, 1 << 20, (5 << 20) - 1):
        x[row] = np.nan
        with pytest.raises(DataError, match=rf"nan in X\[{row}\]\."):
            as_features(x, 1, FLOAT32)
        x[row] = 0


def test_numbers_that_the_pools_dtype_can_not_hold_are_refused(recwarn):
    x = np.zeros((N, F))
    x[7, 2] = 1e39
    assert as_features(x, F, FLOAT64) is x
    with pytest.raises(DataError, match=r"^X: expected finite float32 numbers, got inf in X\[7, 2\]\. .*scale"):
        as_features(x, F, FLOAT32)
    with pytest.raises(DataError, match=r"^y: expected finite float32 numbers, got -inf in y\[1\]"):
        as_targets([0.0, -1e39], 2, 1, SQUARED, FLOAT32)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("y", "n_outputs", "loss", "text"),
    [
        (None, 1, SQUARED, r"^y: expected an array, got None"),
        (np.zeros(3), 1, SQUARED, r"^y: expected shape \(4,\), got \(3,\)\. X and y must have as many rows"),
        (0.0, 1, SQUARED, r"^y: expected shape \(4,\), got \(\)"),
        (np.zeros((4, 2)), 1, SQUARED, r"^y: expected shape \(4,\), got \(4, 2\)"),
        (np.zeros(4), 2, SQUARED, r"^y: expected shape \(4, 2\), got \(4,\)"),
        (np.zeros((2, 4)), 2, SQUARED, r"^y: expected shape \(4, 2\), got \(2, 4\)\. X and y must"),
        (np.zeros((4, 3)), 3, CLASSES, r"^y: expected shape \(4,\), got \(4, 3\)"),
        ([0.0, 1.0, np.nan, 2.0], 1, SQUARED, r"^y: expected finite float32 numbers, got nan in y\[2\]"),
        ([[0, 0], [0, np.inf], [0, 0], [0, 0]], 2, SQUARED, r"got inf in y\[1, 1\]"),
        (
            [0, 1, 2, 3],
            3,
            CLASSES,
            r"^y: expected whole numbers from 0 to 2 \(n_outputs=3\), got 3 in row 3\. Number the",
        ),
        ([0, -1, 2, 3], 3, CLASSES, r"^y: expected whole numbers from 0 to 2 .*, got -1 in row 1"),
        ([0, 1.5, 2, 0], 3, CLASSES, r"^y: expected whole numbers from 0 to 2 .*, got 1\.5 in row 1"),
        (
            ["a", "b", "a", "b"],
            2,
            CLASSES,
            r"^y: expected real numbers, got dtype <U1\. Number the classes: np\.unique",
        ),
        ([0, 2, 0, 1], 1, BINARY, r"^y: expected values from 0 to 1, got .*2.* in row 1\. Labels are 0 and 1"),
        ([0, -0.5, 0, 1], 1, BINARY, r"^y: expected values from 0 to 1, got .*-0\.5.* in row 1"),
        ([[1.0], [2.0, 3.0], [4.0], [5.0]], 1, SQUARED, r"^y: expected rows of equal length, got \[\[1\.0"),
    ],
)
def test_targets_refused(y, n_outputs, loss, text):
    with pytest.raises(DataError, match=text):
        as_targets(y, 4, n_outputs, loss, FLOAT32)


def test_a_cast_that_would_not_fit_says_how_much_it_needs(monkeypatch, x):
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 4 * x.size - 1)
    with pytest.raises(
        MemoryNeededError, match=r"^X: expected no more than the 479 bytes .* need of 480 bytes\. .*float32"
    ):
        as_features(x.astype(np.float64), F, FLOAT32)
    assert as_features(x, F, FLOAT32) is x
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 4 * x.size)
    assert np.array_equal(as_features(x.astype(np.float64), F, FLOAT32), x)


def test_names_of_arguments_are_those_of_the_caller(x):
    with pytest.raises(DataError, match=r"^validation_data\[0\]: "):
        as_features(x[:, :2], F, FLOAT32, "validation_data[0]")
    with pytest.raises(DataError, match=r"^validation_data\[1\]: .* in validation_data\[1\]\[0\]"):
        as_targets(np.full(N, np.nan), N, 1, SQUARED, FLOAT32, "validation_data[1]")
