"""Names of columns: kept by fit, checked at every entrance, carried into files, copies, networks and exports; hints are
followed. And labels of rows."""

import copy
import json
import pickle

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from pmlp_np.data.labels import names_of, require_names

N, NAMES = 40, ["age", "income", "height"]
RNG = np.random.default_rng()
A = RNG.normal(size=(N, 3))
Y = A @ [1.0, -3.0, 0.5]


@pytest.fixture(scope="module")
def pandas():
    return requires("pandas")


@pytest.fixture(scope="module")
def X(pandas):
    return pandas.DataFrame(A, columns=NAMES)


@pytest.fixture(scope="module")
def Z(X):
    """The columns in another order."""
    return X[["income", "height", "age"]]


def new_pool(**arguments):
    members = [pm.Member(hidden=3), pm.Member(hidden=2, activation="tanh")]
    return pm.Pool(members, 3, **{"backend": "reference"} | arguments)


def fit(x, y=Y, **arguments):
    return new_pool().fit(x, y, progress=False, **arguments)


@pytest.fixture(scope="module")
def pool(X):
    return fit(X)


ENTRANCES = {
    "predict": lambda pool, x: pool.predict(x),
    "forward": lambda pool, x: pool.forward(x),
    "evaluate": lambda pool, x: pool.evaluate(x, Y),
    "score": lambda pool, x: pool.score(x, Y),
    "metric": lambda pool, x: pool.score(x, Y, "r2"),
    "hidden": lambda pool, x: pool.hidden(x, 0),
    "out_of_fold": lambda pool, x: pool.out_of_fold(x, [np.arange(N)] * 2, groups=[0, 1]),
    "partial_fit": lambda pool, x: pool.subset([0, 1]).partial_fit(x, Y, progress=False).predict(A),
}
MODELS = {
    "mlp.predict": (lambda pool: pool.extract(0), "predict", "mlp"),
    "mlp.forward": (lambda pool: pool.extract(1), "forward", "mlp"),
    "mlp.hidden": (lambda pool: pool.extract(1), "hidden_activations", "mlp"),
    "ensemble.predict": (lambda pool: pool.ensemble([0, 1]), "predict", "ensemble"),
    "ensemble.forward": (lambda pool: pool.ensemble([1]), "forward", "ensemble"),
}
ORDER = r"X: expected 'age' as column 0, got 'income'\. These are the columns of fit in another order\. "


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_another_order_is_refused_and_the_hint_helps(pool, X, Z, entrance):
    ask = ENTRANCES[entrance]
    with pytest.raises(pm.DataError, match="^" + ORDER + r"X\[pool\.feature_names_in_\] has them"):
        ask(pool, Z)
    assert np.array_equal(ask(pool, Z[pool.feature_names_in_]), ask(pool, X))
    # What has no names is taken by position.
    assert np.array_equal(ask(pool, A), ask(pool, X))
    assert np.array_equal(ask(pool, A.tolist()), ask(pool, X))


@pytest.mark.parametrize("entrance", MODELS)
def test_networks_and_ensembles_know_the_names(pool, X, Z, entrance):
    make, method, name = MODELS[entrance]
    model = make(pool)
    ask = getattr(model, method)
    with pytest.raises(pm.DataError, match="^" + ORDER + rf"X\[{name}\.feature_names_in_\] has them"):
        ask(Z)
    assert model.feature_names_in_.tolist() == NAMES
    assert np.array_equal(ask(Z[model.feature_names_in_]), ask(X))
    assert np.array_equal(ask(A), ask(X))


@pytest.mark.parametrize("loss", ["gaussian_nll", "quantile", "cross_entropy", "binary_cross_entropy"])
def test_other_predictions_check_names(X, Z, loss):
    y = (Y > 0).astype(int) if "entropy" in loss else Y
    pool = new_pool(loss=loss, n_outputs=2 if loss == "cross_entropy" else 1).fit(X, y, progress=False)
    method = {"gaussian_nll": "predict_std", "quantile": "predict_quantiles"}.get(loss, "predict_proba")
    for model in (pool, pool.extract(0), pool.ensemble([0, 1])):
        with pytest.raises(pm.DataError, match=ORDER):
            getattr(model, method)(Z)
        assert np.array_equal(getattr(model, method)(Z[model.feature_names_in_]), getattr(model, method)(X))


def test_validation_data_must_have_the_names_of_x(pool, X, Z):
    for train, text in [(X, r"validation_data\[0\]\[X\.columns\]"), (A, None)]:
        if text is None:
            fit(train, validation_data=(Z, Y))
            continue
        with pytest.raises(pm.DataError, match=r"^validation_data\[0\]: expected 'age' as column 0.* " + text):
            fit(train, validation_data=(Z, Y))
    expected = fit(X, validation_data=(X, Y)).history_["validation_loss"]
    assert np.array_equal(fit(X, validation_data=(Z[X.columns], Y)).history_["validation_loss"], expected)
    with pytest.raises(pm.DataError, match=r"^validation_data\[0\]: .* validation_data\[0\]\[pool\.feature_names_in_"):
        pool.subset([0, 1]).partial_fit(A, Y, validation_data=(Z, Y), progress=False)


def test_missing_extra_and_renamed_columns_are_named(pool, X):
    for given, text in [
        (X.drop(columns="income"), r"where column 1 is 'income', got no such name\. There are: 'age', 'height'\."),
        (X.rename(columns={"age": "Age"}), r"column 0 is 'age', got no such name\. Did you mean 'Age'\?"),
        (X.rename(columns={"height": " height"}), r"column 2 is 'height', got no such name\. Did you mean ' height'\?"),
        (X.rename(columns=str.upper), r"'age', got no such name, and 2 more\. Did you mean 'AGE'\?"),
        (X.assign(z=1.0), r"the 3 columns of fit, got 4 with 'z'\. X\[pool\.feature_names_in_\] has them"),
        (X[["age", "age", "income", "height"]], r"the 3 columns of fit, got 4, some of them twice"),
        (X.set_axis([2001, 2002, 2003], axis=1), r"'age', got no such name, and 2 more\. There are: 2001, 2002, 2003"),
    ]:
        with pytest.raises(pm.DataError, match="^X: expected .*" + text):
            pool.predict(given)
    assert np.array_equal(pool.predict(X.assign(z=1.0)[pool.feature_names_in_]), pool.predict(X))


def test_what_is_kept(pandas, X, pool):
    assert pool.feature_names_in_.dtype == object and pool.feature_names_in_.tolist() == NAMES
    pool.feature_names_in_[:] = "changed"
    assert pool.feature_names_in_.tolist() == NAMES
    renamed = X.copy()
    fitted = fit(renamed)
    renamed.columns = ["a", "b", "c"]
    assert fitted.feature_names_in_.tolist() == NAMES
    for unnamed in (A, A.tolist(), pandas.DataFrame(A), pandas.DataFrame(A, columns=[("a", 1), ("a", 2), ("b", 1)])):
        assert fit(unnamed).feature_names_in_ is None
        assert np.array_equal(fit(unnamed).predict(X), fit(A).predict(X))
    assert new_pool().feature_names_in_ is None
    with pytest.raises(pm.DataError, match=r"^X: expected distinct names of columns, got 'a' for columns 0 and 2"):
        fit(X.set_axis(["a", "b", "a"], axis=1))
    assert np.array_equal(fit(X.set_axis(["a", "b", "a"], axis=1).to_numpy()).predict(A), fit(A).predict(A))


def test_fit_starts_afresh_and_partial_fit_does_not(X, Z):
    pool = fit(X)
    assert pool.fit(Z, Y, progress=False).feature_names_in_.tolist() == list(Z.columns)
    assert pool.fit(A, Y, progress=False).feature_names_in_ is None
    assert pool.partial_fit(X, Y, progress=False).feature_names_in_ is None
    first = new_pool().partial_fit(X, Y, progress=False)
    assert first.feature_names_in_.tolist() == NAMES
    with pytest.raises(pm.DataError, match=ORDER):
        first.partial_fit(Z, Y, progress=False)
    # A fit that is refused changes nothing.
    with pytest.raises(pm.DataError):
        first.fit(Z, Y[1:], progress=False)
    assert first.feature_names_in_.tolist() == NAMES


def test_numbers_as_names(pandas):
    """Frames number columns by themselves: 0, 1, 2, ... is no name, another order of them is noticed."""
    pool = fit(pandas.DataFrame(A))
    assert pool.feature_names_in_ is None
    moved = pandas.DataFrame(A)[[1, 0, 2]]
    with pytest.raises(pm.DataError, match=r"^X: expected column 0 at position 0, got 1\. .*: X\[range\(3\)\]"):
        pool.predict(moved)
    assert np.array_equal(pool.predict(moved[range(3)]), pool.predict(A))
    years = pandas.DataFrame(A, columns=[2001, 2002, 2003])
    pool = fit(years)
    assert pool.feature_names_in_ is None
    with pytest.raises(pm.DataError, match=r"expected 2001 as column 0, got 2002.* X\[\[2001, 2002, 2003\]\] has them"):
        pool.predict(years[[2002, 2001, 2003]])
    assert np.array_equal(pool.predict(years[[2002, 2001, 2003]][[2001, 2002, 2003]]), pool.predict(A))
    mixed = pandas.DataFrame(A, columns=["a", 0, "b"])
    with pytest.raises(pm.DataError, match=r"expected 0 as column 1, got 'b'"):
        fit(mixed).predict(mixed[["a", "b", 0]])


def test_tables_of_arrow(X, Z):
    table = requires("pyarrow").Table.from_pandas(X)
    pool = fit(table)
    assert pool.feature_names_in_.tolist() == NAMES
    moved = table.select(list(Z.columns))
    with pytest.raises(pm.DataError, match=ORDER + r"X\.select\(list\(pool\.feature_names_in_\)\) has them"):
        pool.predict(moved)
    assert np.array_equal(pool.predict(moved.select(list(pool.feature_names_in_))), pool.predict(X))


class Frame:
    """A frame of another library: it has columns, and becomes an array."""

    def __init__(self, columns):
        self.columns = columns

    def __array__(self, dtype=None, copy=None):
        return A


def test_frames_of_other_libraries():
    assert names_of(Frame(tuple(NAMES))) == tuple(NAMES) == names_of(Frame(np.array(NAMES)))
    for columns in (None, 3, len, [], [1.5, 2.5], [True, False]):
        assert names_of(Frame(columns)) is None
    with pytest.raises(pm.DataError, match=r"X\.select\(list\(mlp\.feature_names_in_\)\)"):
        pm.MLP([np.zeros((3, 1))], feature_names=NAMES).predict(Frame(NAMES[::-1]))
    require_names(tuple(NAMES), np.zeros((2, 3), [("columns", float)]).view(np.recarray))


def kept_in(pool, way, path):
    """The pool after a journey."""
    if way == "file":
        pool.save(path)
        return pm.load(path)
    return {
        "subset": lambda: pool.subset([1]),
        "concat": lambda: pm.concat([pool, fit(A)]),
        "concat, named last": lambda: pm.concat([fit(A), pool]),
        "copy": lambda: copy.copy(pool),
    }[way]()


@pytest.mark.parametrize("way", ["file", "subset", "concat", "concat, named last", "copy"])
def test_names_of_pools_travel(X, Z, way, tmp_path):
    found = kept_in(fit(X), way, tmp_path / "pool.pmlp")
    assert found.feature_names_in_.tolist() == NAMES
    with pytest.raises(pm.DataError, match=ORDER):
        found.predict(Z)
    years = X.set_axis([2001, 2003, 2002], axis=1)
    with pytest.raises(pm.DataError, match="expected 2003 as column 1, got 2002"):
        kept_in(fit(years), way, tmp_path / "years.pmlp").predict(years[[2001, 2002, 2003]])


@pytest.mark.parametrize("kind", ["mlp", "ensemble"])
def test_names_of_networks_travel(pool, X, Z, kind, tmp_path):
    model = pool.extract(1) if kind == "mlp" else pool.ensemble([1, 0])
    model.save(tmp_path / "model")
    for found in (
        type(model).load(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        model.folded((0.0, 2.0), (1.0, 3.0)),
    ):
        assert found.feature_names_in_.tolist() == NAMES
        with pytest.raises(pm.DataError, match=ORDER):
            found.predict(Z)


def test_names_that_differ_do_not_go_together(pool, X, Z):
    other = fit(Z)
    with pytest.raises(pm.DataError, match=r"^columns of pools\[2\]: expected 'age' as column 0, as in pools\[1\]"):
        pm.concat([fit(A), pool, other])
    unnamed, named = fit(A).extract(0), pool.extract(0)
    with pytest.raises(pm.DataError, match=r"^columns of mlps\[2\]: expected 'age' as column 0, as in mlps\[1\], got"):
        pm.Ensemble([unnamed, named, other.extract(0)])
    mean = pm.Ensemble([unnamed, named])
    with pytest.raises(pm.DataError, match=ORDER):
        mean.predict(Z)
    with pytest.raises(pm.DataError, match=r"^columns of mlp for member 0: expected 'income' as column 0, as in"):
        other.set_weights(0, named)
    other.set_weights(0, unnamed)


def test_a_pool_takes_the_names_of_weights_that_it_begins_with(pool, X, Z):
    new = new_pool()
    new.set_weights(0, pool.extract(0))
    assert new.feature_names_in_.tolist() == NAMES
    assert np.array_equal(new.predict(X, members=0), pool.predict(X, members=0))
    for ask in (new.predict, lambda x: new.fit(x, Y, progress=False), lambda x: new.partial_fit(x, Y, progress=False)):
        with pytest.raises(pm.DataError, match=ORDER):
            ask(Z)
    new.fit(X, Y, progress=False)


def test_feature_names_of_a_network_are_checked():
    weights = [np.zeros((3, 1))]
    for bad in (["a", "b"], ["a", "b", "b"], ["a", "b", 1.5], "abc", 3):
        with pytest.raises(pm.DataError, match="^feature_names: expected distinct names of 3 columns"):
            pm.MLP(weights, feature_names=bad)
    assert pm.MLP(weights, feature_names=np.array(NAMES)).feature_names_in_.tolist() == NAMES
    reads_two = pm.MLP([np.zeros((2, 1))], features=[2, 0], n_columns=3, feature_names=NAMES)
    assert reads_two.feature_names_in_.tolist() == NAMES


# Exports.


def test_names_in_python_files(pandas, pool, X, Z):
    for model in (pool.extract(0), pool.ensemble([0, 1])):
        space = {}
        exec(model.to_python(), space)
        assert space["COLUMNS"] == NAMES
        with pytest.raises(ValueError, match=r"expected columns age, income, height, got income, .* X\[COLUMNS\]"):
            space["predict"](Z)
        for given in (X, Z[space["COLUMNS"]], A, pandas.DataFrame(A)):
            assert np.array_equal(space["predict"](given), space["predict"](A))
        with pytest.raises(ValueError, match="masked entries"):
            space["predict"](np.ma.masked_greater(A, 0.0))
        space["predict"](np.ma.masked_array(A))
        assert 'COLUMNS = ["p", "q", "r"]' in model.to_python(input_names=["p", "q", "r"])
    assert "COLUMNS" not in fit(A).extract(0).to_python()


def test_names_in_onnx(pool):
    requires("onnx")

    def names(model, **arguments):
        facts = {entry.key: entry.value for entry in model.to_onnx(**arguments).metadata_props}
        return json.loads(facts["feature_names"]) if "feature_names" in facts else None

    for model in (pool.extract(0), pool.ensemble([0, 1])):
        assert names(model) == NAMES
        assert names(model, input_names=["p", "q", "r"]) == ["p", "q", "r"]
    assert names(fit(A).extract(0)) is None


def test_names_in_scikit_learn(pool, X, Z):
    requires("sklearn")
    for model in (pool.extract(0), pool.ensemble([0, 0])):
        estimator = model.to_sklearn()
        assert estimator.feature_names_in_.tolist() == NAMES
        assert np.allclose(estimator.predict(X), model.predict(X), atol=1e-5)
        with pytest.raises(ValueError, match="order"):
            estimator.predict(Z)
    assert not hasattr(fit(A).extract(0).to_sklearn(), "feature_names_in_")


# Labels of rows.


def test_rows_in_another_order_are_refused_and_hints_help(pandas, pool, X):
    y = pandas.Series(Y)
    moved = y.sample(frac=1.0, random_state=int(RNG.integers(1000)))
    text = r"expected rows in the order of X, whose row \d+ is labeled \d+, got \d+\. By label: y\.loc\[X\.index\]\. "
    for ask in (lambda t: fit(X, t), lambda t: pool.evaluate(X, t), lambda t: pool.score(X, t)):
        with pytest.raises(pm.DataError, match="^y: " + text + r"By position: y\.to_numpy\(\)"):
            ask(moved)
    assert np.array_equal(fit(X, moved.loc[X.index]).predict(X), fit(X, Y).predict(X))
    assert np.array_equal(fit(X, moved.to_numpy()).predict(X), fit(A, moved.to_numpy()).predict(A))
    with pytest.raises(pm.DataError, match=r"^validation_data\[1\]: .* validation_data\[1\]\.loc\[validation_data"):
        fit(X, validation_data=(X, moved))
    with pytest.raises(pm.DataError, match=r"^sample_weight: .*sample_weight\.to_numpy\(\)"):
        fit(X, sample_weight=moved.abs())
    fit(X, sample_weight=moved.abs().to_numpy())


def test_labels_of_rows_that_tell_nothing_are_left_alone(pandas, X):
    expected = fit(A).predict(A)
    y = pandas.Series(Y)
    for x, t in [
        (X, y.set_axis(range(100, 100 + N))),
        (X.set_axis([0] * N), y.set_axis([0] * N)),
        (X, y.to_frame()),
        (X.set_axis([f"row {i}" for i in range(N)]), y),
        (A, y.set_axis(RNG.permutation(N))),
        (X.set_axis(RNG.permutation(N)), Y),
    ]:
        assert np.array_equal(fit(x, t).predict(A), expected)
    part = X.sample(frac=0.5, random_state=1)
    fit(part, y.loc[part.index])
    fit(part, y.loc[part.index].reset_index(drop=True))
