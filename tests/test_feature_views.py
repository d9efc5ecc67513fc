"""Feature views: raw tables of every container, encodings by their definitions, target means without leaks, files."""

import datetime
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.encoded import EncodedTable, Encoding
from pmlp_np.data.preprocessing.category_column import CategoryColumn, ordered_target_means, target_means
from pmlp_np.data.preprocessing.feature_views import Bins, FeatureViews
from pmlp_np.data.preprocessing.number_column import NumberColumn
from pmlp_np.data.preprocessing.raw_table import CATEGORY, RawColumn, part, raw_columns, stacked

DAY = datetime.timedelta(days=1)


def piecewise_linear(column, values):
    """The inputs that are stored as bins and shares."""
    numbers = np.stack(column.bins_and_shares(values, "ple"), axis=1)
    return EncodedTable.checked(numbers, Encoding(0, (column.centers["ple"],))).expanded()


def kinds(X):
    return [column.kind for column in raw_columns(X)]


def draw_table(draw, n=200):
    """A list of rows with every kind of column, some cells missing."""
    days = [datetime.datetime(2020, 1, 1) + i * 7 * DAY for i in draw.integers(0, 150, n)]
    texts = [f"k{i}" for i in draw.integers(0, 60, n)]
    rows = [
        [float(a), int(b), str(c), d, e, bool(f)]
        for a, b, c, d, e, f in zip(
            draw.normal(size=n), draw.integers(0, 3, n), draw.choice(["x", "y", "z"], n), days, texts,
            draw.integers(0, 2, n), strict=True,
        )
    ]  # fmt: skip
    for i, j in ((3, 0), (5, 2), (9, 3), (11, 4)):
        rows[i][j] = None
    return rows


# Raw tables.


def test_every_container_has_the_same_columns():
    pandas, polars = requires("pandas"), requires("polars") if has("polars") else None
    rows = draw_table(np.random.default_rng())
    expected = raw_columns(np.array(rows, object))
    assert [c.kind for c in expected] == ["number", "number", "category", "date", "category", "number"]
    frame = pandas.DataFrame(rows, columns=list("abcdef"))
    frames = [frame, frame.convert_dtypes(), frame.astype({"c": "category", "e": "category"})]
    if polars is not None:
        frames.append(polars.DataFrame(rows, schema=list("abcdef"), orient="row"))
    if has("pyarrow"):
        frames.append(requires("pyarrow").Table.from_pandas(frame))
    for each in frames:
        found = raw_columns(each)
        assert [c.kind for c in found] == [c.kind for c in expected] and [c.name for c in found] == list("abcdef")
        for ours, theirs in zip(found, expected, strict=True):
            if ours.kind == "category":
                assert ours.cells.tolist() == theirs.cells.tolist()
            else:
                np.testing.assert_array_equal(ours.cells, theirs.cells)


def has(name):
    try:
        __import__(name)
    except ModuleNotFoundError:
        return False
    return True


def test_dates_are_days_and_durations_too():
    dates = np.array(["1970-01-02T12:00", "NaT"], "datetime64[m]").reshape(-1, 1)
    np.testing.assert_array_equal(raw_columns(dates)[0].cells, [1.5, np.nan])
    zone = datetime.timezone(datetime.timedelta(hours=6))
    zoned = np.array([[datetime.datetime(1970, 1, 2, 6, tzinfo=zone)], [None]], object)
    np.testing.assert_array_equal(raw_columns(zoned)[0].cells, [1.0, np.nan])
    spans = np.array([[1.5 * DAY], [None]], object)
    assert kinds(spans) == ["number"]
    np.testing.assert_array_equal(raw_columns(spans)[0].cells, [1.5, np.nan])


def test_equal_numbers_are_one_text():
    cells = np.array([["a"], [1], [1.0], [np.int64(1)], [True], [2.5], [b"a"]], object)
    assert raw_columns(cells)[0].cells.tolist() == ["a", "1", "1", "1", "True", "2.5", "a"]


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.zeros(3), r"Reshape your data"),
        (np.zeros((0, 2)), "at least one row"),
        (np.zeros((2, 0)), "at least one column"),
        (np.array([[1j], [2.0]]), "Complex data not supported"),
        (np.array([[np.inf], [1.0]]), "column 0 of X, row 0: expected finite numbers"),
        (np.array([[{"a": 1}], [1.0]], object), "numbers, dates or texts"),
    ],
)
def test_what_is_no_table_is_refused(X, said):
    with pytest.raises(pm.DataError, match=said):
        raw_columns(X)


def test_later_tables_have_the_kinds_of_training():
    training = kinds([[1.0, "a"], [2.0, "b"]])
    assert raw_columns([[1.0, 5], [2.0, None]], training)[1].cells.tolist() == ["5", None]
    with pytest.raises(pm.DataError, match="column 0 of X: expected numbers, as in training, got 'x'"):
        raw_columns([["x", "a"]], training)
    with pytest.raises(pm.DataError, match="X has 1 features, but this model is expecting 2 features"):
        raw_columns([["a"]], training)
    assert np.isnan(raw_columns([[None, "a"]], training)[0].cells).all()


# Numbers.


@given(seed=st.integers(0, 2**32), n=st.integers(3, 200), distinct=st.integers(2, 300), missing=st.booleans())
def test_encodings_of_numbers(seed, n, distinct, missing):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=distinct)[draw.integers(0, distinct, n)] * 10.0 ** draw.integers(-3, 4)
    values[:2] = [values.min() - 1.0, values.max()]
    if missing:
        values[2] = np.nan
    known = values[~np.isnan(values)]
    column = NumberColumn.learn(values, {"ple": 7}, 3, draw)
    others = np.concatenate([draw.normal(size=20) * 5.0, [known.min() - 100.0, known.max() + 100.0, np.nan]])
    low, middle, high = np.percentile(known, [25, 50, 75])
    spread = high - low if high > low else (known.max() - known.min()) / 2.0
    z = (others - middle) / spread
    np.testing.assert_allclose(column.scaled(others), np.nan_to_num(z / np.sqrt(1.0 + (z / 3.0) ** 2)), rtol=1e-9)
    # Each input of the piecewise-linear encoding by its definition, one row after the other.
    edges = column.edges["ple"]
    assert edges[0] == known.min() and edges[-1] == known.max() and len(edges) <= 8
    plain = np.array([
        [min(max((x - a) / (b - a), 0.0), 1.0) for a, b in zip(edges, edges[1:], strict=False)] for x in others[:-1]
    ])  # fmt: skip
    found = piecewise_linear(column, others)
    np.testing.assert_allclose(found[:-1] + column.centers["ple"], plain, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(piecewise_linear(column, known).mean(axis=0), 0.0, atol=1e-9)
    normal = column.quantile_normal(np.sort(others[:-1]))
    assert (np.diff(normal) >= 0.0).all() and abs(normal).max() < 3.1
    for encoded in (
        column.scaled,
        column.quantile_normal,
        column.periodic,
        lambda x: piecewise_linear(column, x),
    ):
        assert (encoded(np.array([np.nan])) == 0.0).all() and np.isfinite(encoded(others)).all()
    assert column.marks_missing is missing
    again = NumberColumn.from_plain(json.loads(json.dumps(column.to_plain())))
    assert np.array_equal(piecewise_linear(again, others), found)
    assert np.array_equal(again.periodic(others), column.periodic(others))


def test_the_map_to_a_normal_distribution_is_scikit_learns():
    preprocessing = requires("sklearn.preprocessing")
    draw = np.random.default_rng()
    values = np.exp(draw.normal(size=2000))
    column = NumberColumn.learn(values, {}, 0, draw)
    inner = np.quantile(values, np.linspace(0.02, 0.98, 100))
    theirs = preprocessing.QuantileTransformer(n_quantiles=513, output_distribution="normal", subsample=None)
    theirs.fit(values[:, None])
    np.testing.assert_allclose(column.quantile_normal(inner), theirs.transform(inner[:, None])[:, 0], atol=2e-3)


# Categories.


def test_one_hot_inputs_are_scikit_learns_centered():
    preprocessing = requires("sklearn.preprocessing")
    cells = np.array([*("aaabbbcccd" * 3), None], object)
    column = CategoryColumn.learn(cells)
    assert set(column.categories) == set("abcd") and column.marks_missing
    new = np.array(["a", "d", "never seen", None], object)
    encoder = preprocessing.OneHotEncoder(categories=[list(column.categories)], handle_unknown="ignore")
    theirs = encoder.fit(cells[:-1, None]).transform(new[:, None]).toarray()
    np.testing.assert_allclose(column.one_hot(RawColumn("c", CATEGORY, new)) + column.centers, theirs, atol=1e-15)


def test_rare_categories_have_no_input():
    cells = np.array(["a"] * 5 + ["b"] * 3 + ["c", "d"], object)
    assert CategoryColumn.learn(cells).categories == ("a", "b")
    assert CategoryColumn.learn(np.array(["a", "b"] * 5, object)).categories == ("a",)
    many = np.array([f"k{i}" for i in range(200)] * 3, object)
    assert len(CategoryColumn.learn(many).categories) == 40 and CategoryColumn.learn(many).is_wide


@given(seed=st.integers(0, 2**32), n=st.integers(1, 60), n_codes=st.integers(1, 6), targets=st.integers(1, 3))
def test_target_means(seed, n, n_codes, targets):
    draw = np.random.default_rng(seed)
    codes, values, order = draw.integers(0, n_codes, n), draw.normal(size=(n, targets)), draw.permutation(n)
    prior = values.mean(axis=0)
    plain = [
        (values[codes == code].sum(axis=0) + 10.0 * prior) / ((codes == code).sum() + 10.0) for code in range(n_codes)
    ]
    np.testing.assert_allclose(target_means(codes, values, n_codes), plain, rtol=1e-9, atol=1e-12)
    expected = np.empty_like(values)
    for place, row in enumerate(order):
        before = [other for other in order[:place] if codes[other] == codes[row]]
        expected[row] = (values[before].sum(axis=0) + 10.0 * prior) / (len(before) + 10.0)
    np.testing.assert_allclose(ordered_target_means(codes, values, order), expected, rtol=1e-9, atol=1e-12)


def test_means_of_the_target_tell_nothing_of_a_row_s_own():
    """Where every row is a category of two, and the target is noise, no input of training rows may know it."""
    draw = np.random.default_rng()
    n = 4000
    table = raw_columns(np.array([[f"k{i // 2}"] for i in range(n)], object))
    targets = draw.normal(size=(n, 1))
    rows = np.flatnonzero(draw.random(n) < 0.7)
    views = FeatureViews.learn(table, draw, targets=targets, folds=[rows])
    own = views.own_means(table, targets, rows, draw.permutation(len(rows)))
    assert views.names() == ("plain", "target0")
    assert abs(np.corrcoef(own[:, 0], targets[rows, 0])[0, 1]) < 0.1
    leaking = views.wide(part(table, rows), ["target0"]).plain[:, 0]
    assert np.corrcoef(leaking, targets[rows, 0])[0, 1] > 0.5


# Views.


@pytest.fixture
def table():
    return raw_columns(np.array(draw_table(np.random.default_rng()), object))


def test_blocks_lie_side_by_side_and_members_read_theirs(table):
    draw = np.random.default_rng()
    folds = [np.arange(0, 120), np.arange(80, 200)]
    views = FeatureViews.learn(table, draw, Bins(300), draw.normal(size=(200, 2)), folds)
    names = views.names()
    assert names == ("raw", "quant", "per", "plain", "target0", "target1", "ple", "ple8")
    with pytest.raises(ValueError, match="encoded blocks come last"):
        views.wide(table, ("ple", "raw"))

    def inputs(table, names):
        return views.wide(table, names).expanded()

    wide = inputs(table, names)
    assert wide.dtype == np.float32 and wide.shape == (200, sum(map(views.width, names))) and np.isfinite(wide).all()
    assert views.width("raw") == 4 and views.width("target0") == 2
    for fold in (0, 1):
        read = views.read_by("raw+ple8", fold, names)
        expected = np.concatenate([inputs(table, [name]) for name in ("raw", "plain", f"target{fold}", "ple8")], axis=1)
        assert np.array_equal(wide[:, read], expected)
    # In pieces, and in other rows' company, a row is the same.
    assert np.array_equal(inputs(part(table, slice(50, 60)), names), wide[50:60])
    both = stacked(part(table, slice(0, 100)), part(table, slice(100, 200)))
    assert np.array_equal(inputs(both, names), wide)
    again = FeatureViews.from_plain(json.loads(json.dumps(views.to_plain())))
    assert again.names() == names and np.array_equal(again.wide(table, names).expanded(), wide)


def test_cycles_of_dates(table):
    views = FeatureViews.learn(table, np.random.default_rng())
    (date,) = [column for column in views.columns.values() if column.kind == "date"]
    assert date.cycles == ("week", "year")
    days = table[3].cells
    at = [i for i in range(6) if i < 3]
    before = sum(views._width_of(views.columns[i], "plain") for i in at)
    waves = views.wide(table, ["plain"]).plain[:, before + 1 : before + 5]
    for row in (0, 9):
        expected = [0.0] * 4
        if not math.isnan(days[row]):
            week, year = (2.0 * math.pi * days[row] / length for length in (7.0, 365.2425))
            expected = [math.sin(week), math.cos(week), math.sin(year), math.cos(year)]
        np.testing.assert_allclose(waves[row], expected, atol=1e-6)


def test_columns_that_say_nothing_are_left_out_with_a_reason():
    draw = np.random.default_rng()
    X = np.array([[float(i), 1.0, "a", None, f"t{i}"] for i in range(20)], object)
    views = FeatureViews.learn(raw_columns(X), draw)
    assert views.left_out == {
        "1": "one value", "2": "one value", "3": "no value", "4": "a different text in every row",
    }  # fmt: skip
    assert list(views.columns) == [0]
    with pytest.raises(pm.DataError, match="a column with two different values"):
        FeatureViews.learn(raw_columns(np.ones((5, 2))), draw)


def test_of_a_number_that_is_there_or_not_only_the_mark_is_read():
    draw = np.random.default_rng()
    there = draw.random(30) < 0.5
    there[:2] = [True, False]
    X = np.column_stack([np.where(there, draw.normal(), np.nan), draw.normal(size=30)])
    views = FeatureViews.from_plain(json.loads(json.dumps(FeatureViews.learn(raw_columns(X), draw).to_plain())))
    assert views.left_out == {} and [views.width(name) for name in ("raw", "quant", "plain")] == [1, 1, 1]
    alone = FeatureViews.learn(raw_columns(X[:, :1]), draw)
    assert alone.names() == ("plain",)
    later = np.array([[1e300], [np.nan], [X[0, 0]]])
    marks = alone.wide(raw_columns(later, ["number"]), alone.names()).plain[:, 0]
    assert marks[0] == marks[2] != marks[1]


def test_numbers_of_any_size_have_encodings():
    draw = np.random.default_rng()
    column = NumberColumn.learn(draw.normal(size=50), {"ple": 7}, 3, draw)
    far = np.array([-1.7e308, -1e200, 1e200, 1.7e308])
    np.testing.assert_allclose(column.scaled(far), [-3.0, -3.0, 3.0, 3.0], rtol=1e-12)
    assert np.isfinite(column.periodic(far)).all() and np.isfinite(piecewise_linear(column, far)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.pop("kinds"), lambda p: p["kinds"].append("other"), lambda p: p["columns"][0].update(position=99),
        lambda p: p["columns"][0]["learned"].update(median="1"),
        lambda p: p["columns"][0]["learned"]["edges"].update(ple=[2.0, 1.0]),
        lambda p: p["columns"][0]["learned"].update(quantiles=[]),
        lambda p: p["columns"][0]["learned"].update(normal=[float("nan")]),
        lambda p: p["columns"][2]["learned"].update(categories=["x", "x"]),
        lambda p: p["columns"][2]["learned"].update(centers=[[1.0]]),
        lambda p: p["columns"][4].update(scale=0.0), lambda p: p["columns"][4].update(means=[[[1.0]]]),
        lambda p: p["columns"][3].update(cycles=["moon"]), lambda p: p.update(columns=[]),
        lambda p: p.update(columns=3),
    ],
)  # fmt: skip
def test_what_is_no_views_is_refused(table, change):
    draw = np.random.default_rng()
    views = FeatureViews.learn(table, draw, Bins(300), draw.normal(size=(200, 1)), [np.arange(100)])
    plain = json.loads(json.dumps(views.to_plain()))
    FeatureViews.from_plain(plain)
    change(plain)
    with pytest.raises(pm.FileFormatError, match="views: expected what feature views are made of"):
        FeatureViews.from_plain(plain)


@given(n=st.integers(1, 500), in_all=st.integers(10, 600), of_column=st.integers(4, 60))
def test_bins_fit_in_all_but_for_tables_of_many_columns(n, in_all, of_column):
    bins = Bins(in_all, of_column).for_columns(n)
    assert 2 <= bins <= of_column
    assert n * bins <= max(in_all, 256, 2 * n)
    if n * 4 <= 256:
        assert bins >= 4
    if in_all // n >= 4:
        assert bins == min(of_column, in_all // n)


@pytest.mark.parametrize("scale", [1.7e308, 1e300, 1e-320, 5e-324])
def test_what_is_learned_of_the_farthest_numbers_is_finite(scale):
    draw = np.random.default_rng()
    values = draw.choice([-1.0, 0.0, 1.0], 60) * scale
    column = NumberColumn.learn(values, {"ple": 7, "ple8": 3}, 3, draw)
    plain = json.dumps(column.to_plain(), allow_nan=False)
    others = np.concatenate([values, [-1.79e308, 1.79e308, 0.0, np.nan, 1.0]])
    for found in (column, NumberColumn.from_plain(json.loads(plain))):
        for encoded in (found.scaled(others), found.quantile_normal(others), found.periodic(others)):
            assert np.isfinite(encoded).all()
        inputs = piecewise_linear(found, others)
        assert np.isfinite(inputs).all() and abs(inputs).max() <= 1.0
