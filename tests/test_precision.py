"""Digits lost in a cast: columns and targets that float32 can't tell apart are named before training, ordinary data are
not refused, and the hints help."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.precision import Columns, require_digits, require_range

# What is taken may be of no use: columns that are not scaled are said to diverge.
pytestmark = pytest.mark.filterwarnings("ignore:.* diverged:pmlp_np.DivergedWarning")

N = 400
RNG = np.random.default_rng()
Z = RNG.normal(size=N)
SECONDS = 1.6e9 + 10 * np.arange(N)


def fit(x, y=Z, dtype="float32", outputs=1, loss="squared_error", **arguments):
    members = [pm.Member(hidden=2)] * 2
    pool = pm.Pool(members, np.shape(x)[1], outputs, loss, dtype=dtype, backend="reference")
    return pool.fit(x, y, batch_size=100, progress=False, **arguments)


def beside(column):
    """A table of an ordinary column and this one."""
    return np.column_stack([Z, column])


def different(column, dtype=np.float32):
    return len(set(np.asarray(column).astype(dtype).tolist()))


# Columns of which a cast to float32 leaves too little.
LOST = {
    "unix seconds": SECONDS,
    "unix seconds of minutes": 1.6e9 + 60 * np.arange(N),
    "unix seconds of a day": 1.7e9 + RNG.permutation(86400)[:N],
    "unix seconds, one missing as 0": np.where(np.arange(N) == 7, 0.0, SECONDS),
    "unix milliseconds": 1.6e12 + 1000 * np.arange(N),
    "numbers of rows": 1e9 + np.arange(N),
    "small beside their mean": 1e6 + 1e-3 * Z,
    "small beside their mean, with an outlier": np.where(np.arange(N) == 3, -1e30, 1e6 + 1e-3 * Z),
    "negative": -1e7 - 0.01 * np.arange(N),
    "rare": np.where(np.arange(N) % 50 == 1, 1e9 + 1, 1e9),
    "below float32": 1e-50 * Z,
    "a constant below float32": np.full(N, 1e-50),
}
FINE = {
    "years": RNG.integers(1990, 2021, N),
    "prices": np.round(RNG.uniform(0, 1e6, N), 2),
    "whole numbers": RNG.integers(0, 10**7, N),
    "all digits of float32": RNG.integers(0, 2**24, N),
    "phone numbers": RNG.integers(10**9, 10**10, N),
    "wide numbers": RNG.integers(0, 2**62, N),
    "a constant": np.full(N, 1e9 + 0.3),
    "zeros": np.zeros(N),
    "a constant and noise of its computation": 1e9 / 3 * (1 + 1e-15 * Z),
    "0.1 + 0.2": np.where(Z > 0, 0.1 + 0.2, 0.3),
    "an outlier": np.where(np.arange(N) == 3, 1e30, Z),
    "heavy tails": np.exp(5 * Z),
    "p-values": 10.0 ** -RNG.uniform(0, 300, N),
    "float32 already": (1e6 + 1e-3 * Z).astype(np.float32).astype(float),
    "unix seconds of days": 1.6e9 + 86400 * np.arange(N),
    "small": 1e-20 * Z,
    "large": 1e25 * Z,
    "degrees": 139.7 + 0.01 * Z,
    "kelvins": 300 + 0.05 * Z,
    "days": 2459000.5 + np.arange(N),
    "hours as days": 44000 + RNG.uniform(0, 300, N),
    "truth values": Z > 0,
    "one of many": np.arange(N) == 5,
}


@pytest.mark.parametrize("kind", LOST)
def test_columns_that_lose_their_digits_are_refused(kind):
    column = LOST[kind]
    left = "0 for" if not column.astype(np.float32).any() else f"{different(column):,} (different values|value) left of"
    text = rf"^X: expected values that float32 can tell apart, got {left} {different(column, float):,}.* in column 1\."
    for x in (beside(column), np.asfortranarray(beside(column)), beside(column).tolist(), beside(column)[::-1]):
        with pytest.raises(pm.DataError, match=text):
            fit(x)
    with pytest.raises(pm.DataError, match=text):
        pm.Pool(pm.Member(hidden=2), 2).partial_fit(beside(column), Z)


@pytest.mark.parametrize("kind", LOST)
def test_hints_for_columns(kind):
    column = LOST[kind]
    with pytest.raises(pm.DataError, match=r'Or make the pool with dtype="float64"\.') as caught:
        fit(beside(column))
    fit(beside(column), dtype="float64")
    X = beside(column)
    hints = ("X[:, 1] - X[:, 1].min()", "X[:, 1] - np.median(X[:, 1])", "X[:, 1] / np.abs(X[:, 1]).max()")
    (hint,) = [code for code in hints if code in str(caught.value)]
    X[:, 1] = eval(hint, {"X": X, "np": np})
    fit(X)
    X[:, 1] = X[:, 1] / np.abs(X[:, 1]).max()
    fit(X)


@pytest.mark.parametrize("kind", FINE)
def test_ordinary_columns_are_taken(kind):
    fit(beside(FINE[kind]))
    fit(np.asarray(FINE[kind])[:, None].astype(float))
    if kind != "small" and np.abs(FINE[kind]).max() < 1e16:
        fit(beside(Z), np.asarray(FINE[kind], float))


@given(st.floats(1.0, 1e9), st.floats(-8, 0), st.integers(0, 2**32 - 1))
def test_the_bound_is_a_thousandth_of_the_spread(offset, power, seed):
    """Rounding is uniform over a unit in the last place: what is refused follows from offset and spread alone."""
    spread = offset * 10.0**power
    x = offset + spread * np.random.default_rng(seed).uniform(-1, 1, (2000, 1))
    share = np.spacing(np.float32(offset)) / np.sqrt(12) / x.std()
    if 0.4e-3 < share < 2.5e-3:
        return
    refused = False
    try:
        require_digits(x, x.astype(np.float32), Columns("X", x))
    except pm.DataError:
        refused = True
    assert refused == (share > 1e-3)


WIDE = {
    "int64": lambda v: beside_whole(v),
    "int64 backwards": lambda v: beside_whole(v)[:, ::-1],
    "negative": lambda v: -beside_whole(v),
    "objects": lambda v: np.array([[0.5, int(i)] for i in v], object),
    "list": lambda v: [[0.5, int(i)] for i in v],
    "frame": lambda v: requires("pandas").DataFrame({"a": Z, "time": v}),
}


def beside_whole(v):
    return np.column_stack([np.arange(N), v])


@pytest.mark.parametrize("form", WIDE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_numbers_beyond_float64(form, dtype):
    numbers = 10**18 + np.arange(N)
    x = WIDE[form](numbers)
    column = {"frame": r"'time' \(column 1\)", "int64 backwards": "column 0"}.get(form, "column 1")
    with pytest.raises(pm.DataError, match=rf"{dtype} can .*, got \d (different )?values? left of {N} in {column}\."):
        fit(x, dtype=dtype)
    fit(WIDE[form](numbers - numbers.min()), dtype=dtype)
    fit(WIDE[form](10**18 + 10**15 * np.arange(N)), dtype=dtype)


def test_unsigned_and_extended_numbers():
    with pytest.raises(pm.DataError, match=f"float64 can tell apart, got 1 value left of {N}"):
        fit(np.array([[10**20 + i] for i in range(N)], object), dtype="float64")
    high = np.uint64(2**63) + np.arange(2 * N, dtype=np.uint64).reshape(N, 2)
    for dtype in ("float32", "float64"):
        with pytest.raises(pm.DataError, match="X: expected values that"):
            fit(high, dtype=dtype)
        fit(high - high.min(), dtype=dtype)
    if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        with pytest.raises(pm.DataError, match="float64 can tell apart"):
            fit((1 + np.arange(N) * np.longdouble(1e-16))[:, None], dtype="float64")


def test_nothing_is_lost_where_nothing_is_cast():
    fit(beside(SECONDS), dtype="float64")
    fit(beside(SECONDS).astype(np.float32))
    fit(beside(np.arange(N)).astype(np.float16))
    fit(beside(SECONDS), features=[[0], [0]])
    with pytest.raises(pm.DataError, match="column 1"):
        fit(beside(SECONDS), features=[[0], [1]])
    pool = fit(beside(Z))
    pool.predict([[1e9 + 0.1, 0.0]])
    pool.predict(beside(SECONDS))
    pool.evaluate(beside(SECONDS), Z)
    # What comes later is a part of all data: how far it lies apart says little.
    pool.partial_fit(beside(SECONDS), Z, progress=False)
    fit(beside(Z)[:1], Z[:1])
    fit(beside(SECONDS)[:1], Z[:1])


def test_frames_name_the_column():
    pandas = requires("pandas")
    X = pandas.DataFrame({"a": Z, "time": SECONDS})
    with pytest.raises(pm.DataError, match=r"in 'time' \(column 1\)\. Subtract the least first, X\['time'\] -"):
        fit(X)
    X["time"] = X["time"] - X["time"].min()
    assert fit(X).feature_names_in_.tolist() == ["a", "time"]
    y = pandas.DataFrame({"u": Z, "v": SECONDS})
    with pytest.raises(pm.DataError, match=r"^y: .* in 'v' \(column 1\)\. .*y\['v'\] - y\['v'\]\.min\(\)"):
        fit(beside(Z), y, outputs=2)
    y["v"] = y["v"] - y["v"].min()
    fit(beside(Z), y, outputs=2)


# Targets.

BAD_TARGETS = {
    "1e-50": (1e-50 * Z, r"got 0 for 400 different values\. Scale first: y / np\.abs\(y\)\.max\(\)"),
    "1e19": (1e19 * np.sign(Z), r"magnitudes of up to 1e\+19\. Scale them: \(y - y\.mean\(\)\) / y\.std\(\)"),
    "1e30": (1e30 * Z, r"magnitudes of up to \d(\.\d+)?e\+3\d\. Scale"),
    "1e-25": (1e-25 * Z, r"magnitudes of up to \d(\.\d+)?e-2\d\. Scale"),
    "constant": (np.full(N, 1e25), r"up to 1e\+25\. Scale them: y / np\.abs\(y\)\.max\(\)"),
    "whole": (2 * 10**16 * (1 + np.arange(N)), r"magnitudes of up to 8e\+18\. Scale"),
    "unix seconds": (SECONDS, r"got 32 different values left of 400\. Subtract the least first, y - y\.min\(\),"),
}


@pytest.mark.parametrize("kind", BAD_TARGETS)
def test_targets_that_float32_can_not_hold_are_refused(kind):
    y, text = BAD_TARGETS[kind]
    x = beside(Z)
    for loss in ("squared_error", "absolute_error", "gaussian_nll"):
        with pytest.raises(pm.DataError, match="^y: expected .*float32 .*" + text):
            fit(x, y, loss=loss)
    with pytest.raises(pm.DataError, match="^y: expected .*float32"):
        fit(x, y.tolist())
    with pytest.raises(pm.DataError, match="^y: expected .*float32"):
        pm.Pool(pm.Member(hidden=2), 2).partial_fit(x, y)
    with pytest.raises(pm.DataError, match=r"^y: expected .*column 1"):
        fit(x, np.column_stack([Z, y]), outputs=2)
    with pytest.raises(pm.DataError, match=r"^targets: expected .* those of member 1\. .*targets\[1\]"):
        fit(x, None, targets=[Z, y.astype(float)])
    scaled = (y - y.mean()) / y.std() if y.std() > 0 else y / np.abs(y).max()
    fit(x, scaled, validation_data=(x, scaled))
    code = re.search(r"(?:Scale \w+: |first, )(.+?)(?:\.| and| Or|,)(?: |$)", text.replace("\\", "") + " ")
    if code:
        fit(x, eval(code[1], {"y": y, "np": np}))
    if kind in ("1e-50", "1e19", "unix seconds"):
        fit(x, y, dtype="float64")


def test_validation_targets_must_be_in_range():
    x = beside(Z)
    for y in (1e-50 * Z, 1e19 * np.sign(Z)):
        with pytest.raises(pm.DataError, match=r"^validation_data\[1\]: expected targets whose squares float32 can"):
            fit(x, validation_data=(x, y))
        with pytest.raises(pm.DataError, match=r"^y: expected targets whose squares"):
            fit(x).partial_fit(x, y)
    # A few rows may lie near each other.
    fit(x, validation_data=(x[:2], [5.0, 5.0 + 1e-9]))


def test_labels_are_left_alone():
    fit(beside(Z), Z > 0, outputs=2, loss="cross_entropy")
    fit(beside(Z), np.where(Z > 0, 1.0, 1e-50), loss="binary_cross_entropy")


@pytest.mark.parametrize(("dtype", "limits"), [(np.float32, (1e-18, 1e16)), (np.float64, (1e-150, 1e150))])
def test_the_range_of_targets(dtype, limits):
    for scale in limits:
        require_range(scale * Z[:, None], np.dtype(dtype), Columns("y"))
        with pytest.raises(pm.DataError, match="squares"):
            require_range(scale ** (9 / 8 if dtype == np.float32 else 1.1) * Z[:, None], np.dtype(dtype), Columns("y"))
    require_range(np.zeros((3, 1)), np.dtype(dtype), Columns("y"))
    require_range(np.array([[np.nan], [1.0]]), np.dtype(dtype), Columns("y"))


def test_large_tables_are_looked_at_in_part_and_every_column():
    rng = np.random.default_rng()
    x = rng.normal(size=(20_000, 300))
    require_digits(x, x.astype(np.float32), Columns("X", x))
    column = int(rng.integers(300))
    x[:, column] += 1e7
    with pytest.raises(pm.DataError, match=rf"left of (20,000|19,99\d) in column {column}\."):
        require_digits(x, x.astype(np.float32), Columns("X", x))
    tall = 1.6e9 + np.arange(1 << 18).astype(float)[:, None] % 1000
    with pytest.raises(pm.DataError, match="left of 1,000 in column 0"):
        require_digits(tall, tall.astype(np.float32), Columns("X", tall))
