"""Containers: what NumPy would drop or misread (masks, sparse matrices, gradients, text, missing values, whole numbers
in the place of a mask) is refused by name and cell at every entrance, and each hint is followed once."""

import datetime
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires

N, F = 24, 3
RNG = np.random.default_rng()
X = RNG.normal(size=(N, F))
Y = X @ [1.0, 2.0, 3.0]


def new_pool(members=1, loss="squared_error", outputs=1):
    return pm.Pool([pm.Member(hidden=3)] * members, F, outputs, loss, backend="reference")


def fit(x=X, y=Y, pool=None, **arguments):
    return (pool or new_pool()).fit(x, y, progress=False, **arguments)


@pytest.fixture(scope="module")
def models():
    pool = fit()
    return {"pool": pool, "mlp": pool.extract(0), "ensemble": pool.ensemble([0])}


# Every entrance of features, and of targets: (models, what is handed over there).
ALL_ROWS = [np.arange(N)]
FEATURES = {
    "fit": lambda m, x: fit(x),
    "partial_fit": lambda m, x: new_pool().partial_fit(x, Y, progress=False),
    "validation": lambda m, x: fit(validation_data=(x, Y)),
    "predict": lambda m, x: m["pool"].predict(x),
    "forward": lambda m, x: m["pool"].forward(x),
    "evaluate": lambda m, x: m["pool"].evaluate(x, Y),
    "score": lambda m, x: m["pool"].score(x, Y),
    "out_of_fold": lambda m, x: m["pool"].out_of_fold(x, ALL_ROWS),
    "hidden": lambda m, x: m["pool"].hidden(x, 0),
    "mlp": lambda m, x: m["mlp"].predict(x),
    "mlp.forward": lambda m, x: m["mlp"].forward(x),
    "mlp.hidden": lambda m, x: m["mlp"].hidden_activations(x),
    "ensemble": lambda m, x: m["ensemble"].predict(x),
    "ensemble.forward": lambda m, x: m["ensemble"].forward(x),
}
TARGETS = {
    "fit": lambda m, y: fit(y=y),
    "partial_fit": lambda m, y: new_pool().partial_fit(X, y, progress=False),
    "validation": lambda m, y: fit(validation_data=(X, y)),
    "targets": lambda m, y: fit(y=None, targets=[y]),
    "weights": lambda m, y: fit(sample_weight=y),
    "evaluate": lambda m, y: m["pool"].evaluate(X, y),
    "score": lambda m, y: m["pool"].score(X, y),
}


@pytest.mark.parametrize("entrance", FEATURES)
@pytest.mark.parametrize("form", [lambda a: a, list, lambda a: [list(row) for row in a]])
def test_masked_features_are_refused(models, entrance, form):
    row, column = RNG.integers(N), RNG.integers(F)
    masked = np.ma.masked_array(np.abs(X), np.zeros(X.shape, bool))
    FEATURES[entrance](models, form(masked))  # nothing is masked
    masked[row, column] = np.ma.masked
    with pytest.raises(pm.DataError, match=rf"mask.*\[{row}\W+{column}\]|\[{row}\]\[{column}\].*mask"):
        FEATURES[entrance](models, form(masked))


@pytest.mark.parametrize("entrance", TARGETS)
def test_masked_targets_and_weights_are_refused(models, entrance):
    masked = np.ma.masked_less(np.where(np.arange(N) % 7 == 4, -999.0, 1.0 + np.arange(N)), 0.0)
    with pytest.raises(pm.DataError, match=r"3 masked entries, the first at \S*\[4\]"):
        TARGETS[entrance](models, masked)
    TARGETS[entrance](models, masked.filled(0.0))
    TARGETS[entrance](models, np.ma.masked_array(np.arange(1.0, N + 1)))


def test_hints_for_masks(models):
    y = np.ma.masked_array(Y, np.arange(N) % 5 == 1)
    with pytest.raises(pm.DataError, match=r"keep = ~np\.ma\.getmaskarray\(y\); y\[keep\]\. Or .* y\.filled\(0\.0\)"):
        fit(y=y)
    keep = ~np.ma.getmaskarray(y)
    assert np.array_equal(fit(X[keep], y[keep]).predict(X), fit(X[keep], Y[keep]).predict(X))
    hidden = np.zeros(X.shape, bool)
    hidden[::5, 1] = True
    x = np.ma.masked_array(X, hidden)
    with pytest.raises(pm.DataError, match=r"keep = ~np\.ma\.getmaskarray\(X\)\.any\(axis=1\); X\[keep\]"):
        models["pool"].predict(x)
    keep = ~np.ma.getmaskarray(x).any(axis=1)
    assert np.array_equal(models["pool"].predict(x[keep]), models["pool"].predict(X[keep]))
    assert np.array_equal(models["mlp"].predict(x.filled(0.0)), models["mlp"].predict(np.where(hidden, 0.0, X)))


MASKED_SETS = {
    "rows": lambda v: fit(rows=[v]),
    "validation_rows": lambda v: fit(validation_rows=[v]),
    "evaluate": lambda v: fit().evaluate(X, Y, rows=[v]),
    "out_of_fold": lambda v: fit().out_of_fold(X, [v]),
}


@pytest.mark.parametrize("entrance", MASKED_SETS)
def test_masked_rows_are_refused(entrance):
    for values in (np.arange(N), np.ones(N, bool)):
        with pytest.raises(pm.DataError, match=r"1 masked entry, .*\.compressed\(\) numbers, or the mask \.filled"):
            MASKED_SETS[entrance](np.ma.masked_array(values, np.arange(N) == 2))
        MASKED_SETS[entrance](np.ma.masked_array(values))
    with pytest.raises(pm.DataError, match="masked"):
        fit(features=[np.ma.masked_array([0, 1], [False, True])])
    with pytest.raises(pm.DataError, match="masked"):
        pm.Ensemble([fit().extract(0)], weights=np.ma.masked_array([1.0], [True]))
    with pytest.raises(pm.DataError, match="^members: "):
        fit().predict(X, members=np.ma.masked_array([0, 0], [False, True]))


@pytest.mark.parametrize("entrance", FEATURES)
def test_sparse_features_are_refused(models, entrance):
    form = str(RNG.choice(["csr_matrix", "csc_array", "coo_matrix", "lil_array", "dok_matrix"]))
    sparse = getattr(requires("scipy.sparse"), form)(X)
    with pytest.raises(pm.DataError, match=rf"sparse {form}\. Make it dense: \S+\.toarray\(\)"):
        FEATURES[entrance](models, sparse)
    FEATURES[entrance](models, sparse.toarray())


def test_sparse_targets_and_rows_are_refused(models):
    sparse = requires("scipy.sparse").csr_matrix(np.abs(Y)[:, None])
    with pytest.raises(pm.DataError, match=r"^y: .*y\.toarray\(\)"):
        fit(y=sparse)
    fit(y=sparse.toarray())
    with pytest.raises(pm.DataError, match=r"^X\[0\]: .*sparse"):
        fit([requires("scipy.sparse").csr_matrix(row) for row in X])
    with pytest.raises(pm.DataError, match=r"^rows of member 0: .*sparse"):
        fit(rows=[sparse])


@pytest.mark.parametrize("entrance", FEATURES)
def test_tensors_that_need_a_gradient_are_refused(models, entrance):
    torch = requires("torch")
    tensor = torch.tensor(X, requires_grad=True)
    for given in (tensor, tensor * 2, torch.nn.Parameter(tensor.detach())):
        with pytest.raises(pm.DataError, match=r"needs a gradient\. Hand over \S+\.detach\(\)\.numpy\(\)"):
            FEATURES[entrance](models, given)
    FEATURES[entrance](models, tensor.detach().numpy())
    FEATURES[entrance](models, tensor.detach())
    with pytest.raises(pm.DataError, match="gradient"):
        FEATURES[entrance](models, list(tensor))


def test_other_tensors(models):
    torch = requires("torch")
    tensor = torch.tensor(X)
    with pytest.raises(pm.DataError, match=r"^y: .*y\.detach\(\)\.numpy\(\)"):
        fit(y=torch.tensor(Y, requires_grad=True))
    with pytest.raises(pm.DataError, match=r"sparse\. Hand over X\.to_dense\(\)\.numpy\(\)"):
        fit(tensor.to_sparse())
    fit(tensor.to_sparse().to_dense().numpy())
    with pytest.raises(pm.DataError, match=r"bfloat16.* Hand over X\.float\(\)\.numpy\(\)"):
        models["mlp"].predict(tensor.bfloat16())
    models["mlp"].predict(tensor.bfloat16().float().numpy())
    with pytest.raises(pm.DataError, match=r"lies on meta\. Hand over X\.cpu\(\)\.numpy\(\)"):
        models["pool"].predict(tensor.to("meta"))


class Stubborn:
    """As an array of a GPU: NumPy may not have it."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion is not allowed. Use .get()")


def test_what_numpy_can_not_read_is_a_data_error(models):
    for entrance in ("fit", "predict", "mlp", "ensemble"):
        expected = r"X: expected an object that NumPy can convert, got Stubborn: .*Use \.get\(\)"
        with pytest.raises(pm.DataError, match=expected):
            FEATURES[entrance](models, Stubborn())
    for given, text in [
        ((v for v in Y), r"the generator .* Make a list of it: list\(y\)"),
        (map(float, Y), r"the map .* list\(y\)"),
        ({"a": Y}, r"the dict .* np\.column_stack\(list\(y\.values\(\)\)\)"),
        (set(Y.tolist()), r"the set .* no order"),
    ]:
        with pytest.raises(pm.DataError, match=rf"^y: expected an array of numbers, got {text}"):
            fit(y=given)
    assert np.array_equal(fit(y=list(Y)).predict(X), fit().predict(X))
    fit(np.column_stack(list({"a": Y, "b": Y, "c": Y}.values())))


def test_numbers_of_every_kind_are_taken():
    expected = fit(y=np.round(Y, 3)).predict(X)
    for kind in (Decimal, Fraction, np.longdouble, lambda v: np.float64(v)):
        y = [kind(v) for v in np.round(Y, 3).tolist()]
        assert np.array_equal(fit(y=y).predict(X), expected)
        assert np.array_equal(fit(y=np.array(y, object)).predict(X), expected)
    mixed = np.array([[1, 2.5, True]] * N, object)
    assert np.array_equal(fit(mixed).predict(mixed), fit(mixed.astype(float)).predict(mixed.astype(float)))


CELLS = [
    ("red", r"'red' in X\[5, 1\]\. Turn categories"),
    ("1.5", r"'1\.5' in X\[5, 1\]\. Text is not converted by itself: np\.asarray\(X, float\)"),
    (None, r"a missing value, None, in X\[5, 1\]\. Fill or drop"),
    (1 + 1j, r"\(1\+1j\) in X\[5, 1\]\. Hand over real and imaginary"),
    (datetime.date(2024, 2, 3), r"datetime\.date\(2024, 2, 3\) in X\[5, 1\]\. Turn dates"),
    (datetime.timedelta(2), r"datetime\.timedelta\(days=2\) in X\[5, 1\]\. Turn durations"),
    (np.datetime64("2024-02-03"), r"np\.datetime64\('2024-02-03'\) in X\[5, 1\]\. Turn dates"),
    (np.timedelta64(3, "D"), r"np\.timedelta64\(3,'D'\) in X\[5, 1\]\. Turn durations"),
    (10**400, r"1000+\.\.\. in X\[5, 1\]"),
    ([1, 2], r"\[1, 2\] in X\[5, 1\]"),
    (np.ma.masked, r"mask"),
]


@pytest.mark.parametrize(("cell", "text"), CELLS)
@pytest.mark.parametrize("entrance", ["fit", "predict", "mlp", "ensemble"])
def test_the_first_cell_that_is_no_number_is_named(models, entrance, cell, text):
    given = X.astype(object)
    given[5, 1] = cell
    given[7:, 2] = "later"
    with pytest.raises(pm.DataError, match=r"^X.*: expected numbers.*" + text):
        FEATURES[entrance](models, given)
    rows = [list(row) for row in X.tolist()]
    rows[5][1] = cell
    if not isinstance(cell, (list, complex)):
        with pytest.raises(pm.DataError, match="X.*: expected .*" + text.split(" in X")[0]):
            FEATURES[entrance](models, rows)


def test_text_and_dates_as_arrays():
    days = np.datetime64("2024-01-01") + np.arange(N)
    for given, text in [
        (Y.astype(str), r"dtype <U\d+\. Text is not converted by itself: np\.asarray\(y, float\)"),
        (["cat"] * N, r'dtype <U3\. Classes take loss="cross_entropy" and numbers: np\.unique\(y, return_inv'),
        ([*Y.tolist()[1:], "x"], rf"'x' in y\[{N - 1}\]\. Classes take"),
        (days, r"dtype datetime64\[D\]\. Turn dates .*: \(y - y\.min\(\)\) / np\.timedelta64\(1, 'D'\)"),
        (days - days[0], r"dtype timedelta64\[D\]\. Turn durations .*: y / np\.timedelta64\(1, 'D'\)"),
        (Y + 0j, r"dtype complex128\. Hand over real"),
    ]:
        with pytest.raises(pm.DataError, match=r"^y: expected (real )?numbers, got " + text):
            fit(y=given)
    assert np.array_equal(fit(y=np.asarray(Y.astype(str), float)).predict(X), fit().predict(X))
    counted = (days - days.min()) / np.timedelta64(1, "D")
    assert np.array_equal(fit(y=counted).predict(X), fit(y=np.arange(N)).predict(X))
    fit(y=(days - days[0]) / np.timedelta64(1, "D"))
    names = np.where(Y > 0, "yes", "no")
    with pytest.raises(pm.DataError, match=r"Two classes are 0 and 1: np\.unique\(y, return_inverse=True\)\[1\]"):
        fit(y=names, pool=new_pool(loss="binary_cross_entropy"))
    number = np.unique(names, return_inverse=True)[1]
    fit(y=number, pool=new_pool(loss="binary_cross_entropy"))
    fit(y=number, pool=new_pool(loss="cross_entropy", outputs=2))
    table = np.zeros(N, [("a", float), ("b", float), ("c", float)])
    with pytest.raises(pm.DataError, match=r"structured_to_unstructured\(X\)"):
        fit(table)
    from numpy.lib.recfunctions import structured_to_unstructured

    fit(structured_to_unstructured(table))


def frame_with(column):
    return requires("pandas").DataFrame({"age": X[:, 0], "color": column, "c": X[:, 2]})


def frame_cells():
    pandas = requires("pandas")
    filled, letters = [1] * (N - 1), ["u", "v"] * (N // 2)
    missing = rf"missing value, <NA>, in X\[{N - 1}, 1\], column 'color'"
    days = pandas.Series(pandas.date_range("2024-01-01", periods=N))
    return {
        "text": (["red"] * N, r"'red' in X\[0, 1\], column 'color' \(dt.*get_dummies\(X, columns=\['color'\]\)"),
        "categories": (pandas.Categorical(letters), r"'u' in X\[0, 1\], column 'color' \(dtype category\)"),
        "numbers as text": ([str(v) for v in range(N)], r"'0' in .*: X\.astype\(\{'color': float\}\)"),
        "Int64": (pandas.array([*filled, None], dtype="Int64"), missing),
        "Float64": (pandas.array([*filled, None], dtype="Float64"), r"column 'color'\. Fill or drop missing"),
        "boolean": (pandas.array([*filled, None], dtype="boolean"), missing),
        "string": (pandas.array(["1", None] * (N // 2), dtype="string"), r"'1' in X\[0, 1\], column 'color'"),
        "None": ([None] * N, r"missing value, None, in X\[0, 1\], column 'color'"),
        "NaN": ([*filled, np.nan], rf"nan in X\[{N - 1}, 1\], column 'color'\. Fill"),
        "lists": ([[1, 2]] * N, r"\[1, 2\] in X\[0, 1\], column 'color' \(dtype object\)"),
        "dates": (days, r"Timestamp.* column 'color' \(dtype datet.*\(X\['color'\] - X\['color'\]\.min\(\)\) / np"),
        "durations": (days - days[0], r"Timedelta.* 'color'.*: X\['color'\] / np\.timedelta64\(1, 'D'\)"),
    }  # fmt: skip


FRAME_CELLS = (
    "text", "categories", "numbers as text", "Int64", "Float64", "boolean", "string", "None", "NaN", "lists", "dates",
    "durations",
)  # fmt: skip


@pytest.mark.parametrize("kind", FRAME_CELLS)
def test_columns_of_frames_are_named(models, kind):
    column, text = frame_cells()[kind]
    frame = frame_with(column)
    for ask in (fit, models["pool"].predict):
        with pytest.raises(pm.DataError, match="^X: .*" + text):
            ask(frame)
    if kind != "NaN":
        for model in ("mlp", "ensemble"):
            with pytest.raises(pm.DataError, match="^X: .*" + text):
                models[model].predict(frame)
    assert set(frame_cells()) == set(FRAME_CELLS)


def test_hints_for_columns_of_frames():
    pandas = requires("pandas")
    frame = frame_with(["red", "blue"] * (N // 2))
    encoded = pandas.get_dummies(frame, columns=["color"])
    pm.Pool(pm.Member(hidden=2), 4, backend="reference").fit(encoded, Y, progress=False).predict(encoded)
    fit(frame_with([str(v) for v in range(N)]).astype({"color": float}))
    frame = frame_with(pandas.Series(pandas.date_range("2024-01-01", periods=N)))
    frame["color"] = (frame["color"] - frame["color"].min()) / np.timedelta64(1, "D")
    assert np.array_equal(frame["color"], np.arange(N))
    fit(frame)
    frame["color"] = pandas.to_timedelta(np.arange(N), "D")
    frame["color"] = frame["color"] / np.timedelta64(1, "D")
    fit(frame)
    with pytest.raises(pm.DataError, match=r"One feature: np\.asarray\(X\)\.reshape\(-1, 1\)"):
        fit(frame["age"])


def test_frames_that_hold_numbers_are_taken(models):
    pandas, pyarrow = requires("pandas"), requires("pyarrow")
    whole = np.arange(N) % 4
    expected = models["pool"].predict(np.column_stack([X[:, 0], whole, X[:, 2]]))
    for column in (
        whole, whole.astype("i1"), pandas.array(whole, dtype="Int64"), pandas.Categorical(whole),
        pandas.arrays.SparseArray(whole), pandas.array(whole, dtype="Float64"), whole.astype(object),
    ):  # fmt: skip
        assert np.array_equal(models["pool"].predict(frame_with(column)), expected)
    assert np.array_equal(models["pool"].predict(pyarrow.Table.from_pandas(frame_with(whole))), expected)
    with pytest.raises(pm.DataError, match=r"'u' in X\[0, 1\], column 'color'"):
        models["mlp"].predict(pyarrow.table({"age": X[:, 0], "color": ["u"] * N, "c": X[:, 2]}))
    y = pandas.DataFrame({"y": Y})
    assert np.array_equal(fit(y=y).predict(X), fit().predict(X))
    assert np.array_equal(fit(y=pandas.Index(Y)).predict(X), fit().predict(X))
    two = pm.Pool(pm.Member(hidden=2), F, 2, backend="reference")
    with pytest.raises(pm.DataError, match=r"nan in y\[3, 1\], column 'second'"):
        two.fit(X, pandas.DataFrame({"first": Y, "second": np.where(np.arange(N) == 3, np.nan, Y)}))
    # Labels that pandas makes attributes of.
    odd = pandas.DataFrame(X, columns=["nnz", "toarray", "column_names"])
    assert np.array_equal(fit(odd).predict(odd), fit().predict(X))


# Whole numbers in the place of a mask.

BITS = np.arange(N) % 2
SETS = {
    "rows": lambda v: fit(rows=[v]),
    "validation_rows": lambda v: fit(validation_rows=[v]),
    "evaluate": lambda v: fit().evaluate(X, Y, rows=[v]),
    "score": lambda v: fit().score(X, Y, rows=[v]),
    "out_of_fold": lambda v: fit().out_of_fold(X, [v]),
}
FORMS = {
    "int64": BITS, "uint8": BITS.astype(np.uint8), "list": BITS.tolist(), "tuple": tuple(BITS.tolist()),
    "objects": BITS.astype(object), "zeros": 0 * BITS, "ones": 0 * BITS + 1,
}  # fmt: skip


@pytest.mark.parametrize("entrance", SETS)
@pytest.mark.parametrize("form", FORMS)
def test_whole_numbers_that_could_be_a_mask_are_refused(entrance, form):
    text = rf"rows of member 0: expected row numbers, or a mask of {N} .*: array\.astype\(bool\)\. .* by sample_weight"
    with pytest.raises(pm.DataError, match=text):
        SETS[entrance](FORMS[form])


def test_masks_of_every_kind_are_one_mask():
    pandas = requires("pandas")
    mask = BITS.astype(bool)
    expected = fit(rows=[np.flatnonzero(BITS)]).predict(X)
    shuffled = pandas.Series(mask, index=np.random.default_rng().permutation(N))
    for form in (
        mask, mask.tolist(), mask.astype(object), list(mask), shuffled, pandas.array(mask, dtype="boolean"),
        np.flatnonzero(mask).astype(object), np.flatnonzero(mask).tolist(), pandas.Index(np.flatnonzero(mask)),
    ):  # fmt: skip
        assert np.array_equal(fit(rows=[form]).predict(X), expected)
    assert np.array_equal(fit(rows=mask[None]).predict(X), expected)
    with pytest.raises(pm.DataError, match="could|mask"):
        fit(rows=BITS[None])


def test_the_hint_for_rows_0_and_1():
    """Of two rows with weights a member sees what it would see of their repeats, on average."""
    pool = fit(rows=[[0, 1]], sample_weight=np.where(np.arange(N) < 2, [3.0, 9.0] + [1.0] * (N - 2), 1.0))
    assert np.isfinite(pool.predict(X)).all()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([True, 2, 3], "truth values mixed with others"),
        ([True, 0, 1], "truth values mixed with others"),
        (np.array([True, 2], object), "truth values mixed with others"),
        ([True, None], "missing value, None, at 1"),
        ([0.0, 2.0], r"floats, \[0\.0, 2\.0\]\. Cast whole numbers: array\.astype\(int\)"),
        (BITS.astype(float), r"floats, .* Cast a mask: array\.astype\(bool\)"),
        ([0.5, 2.0], r"floats, \[0\.5, 2\.0\]\.$"),
        ([-1, 2], rf"row numbers from 0 to {N - 1}, got -1"),
        (np.array([True, False], object), f"a mask of {N} truth values, got one of 2"),
        (np.array([10**30], object), "one array of row numbers"),
        (["a"], "one array of row numbers"),
    ],
)
def test_rows_that_are_neither_numbers_nor_masks_are_refused(rows, text):
    with pytest.raises(pm.DataError, match="rows of member 0: .*" + text):
        fit(rows=[rows])


def test_feature_numbers_that_could_be_a_mask_are_refused():
    with pytest.raises(pm.DataError, match=r"features of member 0: .* a mask of 3 .*: array\.astype\(bool\)\.$"):
        fit(features=[[1, 0, 1]])
    read = fit(features=[np.array([1, 0, 1]).astype(bool)])
    assert np.array_equal(read.predict(X), fit(features=[[0, 2]]).predict(X))
    # As many as there are, of two: an order as good as any; and row numbers that are fewer than a mask would be.
    pair = pm.Pool(pm.Member(hidden=2), 2, backend="reference").fit(X[:, :2], Y, features=[[1, 0]], progress=False)
    assert pair.extract(0).features.tolist() == [1, 0]
    fit(rows=[BITS[:-1]])
    fit(rows=[[0, 1, 0]])


def test_tensors_are_taken_without_a_word():
    """Also where NumPy copies them; the suite takes a warning for an error."""
    torch = requires("torch")
    rows, mask, some = np.arange(0, N, 2), np.arange(N) % 2 == 0, [[0, 2]]
    expected = fit(rows=[rows], features=some).predict(X)
    for form in (torch.tensor(rows), torch.tensor(mask)):
        assert np.array_equal(fit(rows=[form], features=torch.tensor(some).numpy()).predict(X), expected)
        assert np.array_equal(fit(rows=[rows], features=[torch.tensor(some[0])]).predict(X), expected)
    absent, weight = np.where(mask, Y, np.nan), mask.astype(float)
    for y in (absent, torch.tensor(absent)):
        pool = fit(y=y, sample_weight=torch.tensor(weight))
        assert np.array_equal(pool.predict(X), fit(y=np.where(mask, Y, 0.0), sample_weight=weight).predict(X))


@pytest.mark.parametrize("entrance", FEATURES)
def test_masked_cells_of_lists_are_named_without_a_warning(models, entrance):
    cells = X.tolist()
    cells[2][1] = np.ma.masked
    for call in (lambda: FEATURES[entrance](models, cells), lambda: fit(cells, sample_weight=np.ones(N))):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(pm.DataError, match=r"\[2\]\[1\]: expected numbers without a mask"):
                call()
        assert not said


def shuffled_frame():
    """A frame whose rows are labeled in another order than they lie, with a mask and its labels."""
    pandas = requires("pandas")
    frame = pandas.DataFrame(X, index=np.random.default_rng().permutation(N), columns=["a", "b", "c"])
    return frame, frame["a"] > frame["a"].median()


@pytest.mark.parametrize("entrance", ["rows", "validation_rows", "evaluate", "score", "out_of_fold"])
def test_labels_of_rows_are_no_positions(entrance):
    frame, mask = shuffled_frame()
    pool = fit(frame, pool=new_pool(2))
    ask = {
        "rows": lambda s: fit(frame, pool=new_pool(2), rows=s).forward(X),
        "validation_rows": lambda s: fit(frame, pool=new_pool(2), validation_rows=s).history_["validation_loss"],
        "evaluate": lambda s: pool.evaluate(frame, Y, rows=s),
        "score": lambda s: pool.score(frame, Y, rows=s),
        "out_of_fold": lambda s: pool.out_of_fold(frame, s, groups=[0, 0]),
    }[entrance]
    expected = ask([mask.to_numpy(), ~mask.to_numpy()])
    name = "validation_rows" if entrance == "validation_rows" else "rows"
    rows = [mask.sort_index(), ~mask]
    with pytest.raises(pm.DataError, match=rf"^{name}\[0\]: .* By label: {name}\[0\]\.loc\[X\.index\]"):
        ask(rows)
    assert np.array_equal(ask([rows[0].loc[frame.index], ~mask]), expected)
    rows = [np.flatnonzero(mask), frame.index[~mask]]
    with pytest.raises(pm.DataError, match=rf"^{name}\[1\]: .* By label: X\.index\.get_indexer\({name}\[1\]\)"):
        ask(rows)
    assert np.array_equal(ask([rows[0], frame.index.get_indexer(rows[1])]), expected)
    assert np.array_equal(ask([mask, ~mask]), expected)
    plain = frame.reset_index(drop=True)
    assert np.array_equal(fit(plain, rows=[plain.index[3:9]]).forward(X), fit(plain, rows=[np.arange(3, 9)]).forward(X))


@pytest.mark.parametrize("name", ["targets", "sample_weight"])
def test_what_each_member_has_is_in_the_order_of_x(name):
    frame, mask = shuffled_frame()
    own = frame["b"].abs() + 1.0
    y = None if name == "targets" else Y

    def ask(values):
        return fit(frame, y, new_pool(2), **{name: values}).forward(X)

    expected = ask([own.to_numpy()] * 2)
    for values in ([own.sort_index()] * 2, [own, own.sort_index()]):
        with pytest.raises(pm.DataError, match=rf"^{name}\[[01]\]: .* rows in the order of X, .*\.loc\[X\.index\]"):
            ask(values)
    assert np.array_equal(ask([own.sort_index().loc[frame.index]] * 2), expected)
    assert np.array_equal(ask([own, own]), expected) and np.array_equal(ask([own.tolist(), own]), expected)
