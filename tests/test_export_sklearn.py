"""Models in scikit-learn: fitted estimators that predict the same, and refusals of what it can't express."""

import pickle

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from exported import N_FEATURES, random_mlp, raw_errors, rows

EXPRESSIBLE = ("identity", "sigmoid", "tanh", "relu")
VALUES = ("squared_error", "absolute_error", "narrow huber", "one level", "poisson")
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(autouse=True)
def sklearn():
    return requires("sklearn")


def allowed(model, X):
    """How far links of raw outputs may lie apart, per row."""
    members = model.mlps if isinstance(model, pm.Ensemble) else [model]
    error = np.max([raw_errors(mlp, X)[0].max(axis=1) for mlp in members], axis=0)
    raw = np.max([np.abs(mlp.forward(X)).max(axis=1) for mlp in members], axis=0)
    unit = np.finfo(model.dtype).eps / 2.0
    steepest = np.exp(raw) if model.loss == "poisson" else 1.0
    return 4.0 * steepest * (error + 16.0 * unit * (1.0 + raw))


def assert_close(found, expected, X, model):
    assert found.shape == expected.shape
    distance = np.abs(found - expected).reshape(len(X), -1).max(axis=1)
    assert (distance <= allowed(model, X)).all()


def drawn(loss, n_outputs, dtype, rng, count):
    """Networks of one activation each, of any depth, one without hidden layers among them."""
    depths = [(), *(tuple(rng.integers(1, 9, rng.integers(1, 4))) for _ in range(count - 1))]
    return [random_mlp(rng, loss, n_outputs, str(rng.choice(EXPRESSIBLE)), dtype, hidden) for hidden in depths]


@DTYPES
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("loss", VALUES)
def test_regressors(loss, n_outputs, dtype):
    from sklearn.base import clone
    from sklearn.utils.validation import check_is_fitted

    rng = np.random.default_rng()
    X = rows(rng, 30, dtype)
    if loss == "poisson":
        X /= 4  # rates are exponentials, which stay finite
    mlps = drawn(loss, n_outputs, dtype, rng, 6)
    for mlp in mlps:
        estimator = mlp.to_sklearn()
        check_is_fitted(estimator)
        assert type(estimator).__name__ == "MLPRegressor" and estimator.n_features_in_ == N_FEATURES
        assert_close(estimator.predict(X), mlp.predict(X), X, mlp)
        assert clone(estimator).hidden_layer_sizes == mlp.hidden
    if n_outputs == 1:
        model = pm.Ensemble(mlps, rng.random(6))
        voting = model.to_sklearn()
        check_is_fitted(voting)
        assert type(voting).__name__ == "VotingRegressor" and len(voting.named_estimators_) == 6
        assert voting.n_features_in_ == N_FEATURES
        assert_close(voting.predict(X), model.predict(X), X, model)


@DTYPES
@pytest.mark.parametrize(
    ("loss", "n_classes"),
    [("cross_entropy", 2), ("cross_entropy", 4), ("smoothed cross-entropy", 3), ("binary_cross_entropy", 2)],
)
def test_classifiers(loss, n_classes, dtype):
    rng = np.random.default_rng()
    binary = loss == "binary_cross_entropy"
    X = rows(rng, 30, dtype)
    mlps = drawn(loss, 1 if binary else n_classes, dtype, rng, 6)
    names = rng.permutation(["pear", "fig", "apple", "lime"])[:n_classes]
    for model in (*mlps, pm.Ensemble(mlps, rng.random(6))):
        proba = model.predict_proba(X)
        proba = np.hstack([1.0 - proba, proba]) if binary else proba
        for classes in (None, names, list(names), rng.permutation([7, -3, 40, 5])[:n_classes]):
            estimator = model.to_sklearn(classes)
            expected = np.arange(n_classes) if classes is None else np.asarray(classes)
            assert type(estimator).__name__ == ("MLPClassifier" if model in mlps else "VotingClassifier")
            assert np.array_equal(estimator.classes_, np.sort(expected))
            found = estimator.predict_proba(X)[:, np.searchsorted(np.sort(expected), expected)]
            assert_close(found, proba, X, model)
            margin = np.diff(np.sort(proba, axis=1))[:, -1]
            sure = margin > 4.0 * allowed(model, X)
            # A row of which all units are dead says the same of all classes.
            assert (sure | (margin == 0.0)).mean() > 0.8
            assert np.array_equal(estimator.predict(X)[sure], expected[model.predict(X)][sure])


@DTYPES
@pytest.mark.parametrize("n_outputs", [2, 3])
def test_several_labels(n_outputs, dtype):
    rng = np.random.default_rng()
    X = rows(rng, 30, dtype)
    certain = []
    for mlp in drawn("binary_cross_entropy", n_outputs, dtype, rng, 4):
        estimator = mlp.to_sklearn()
        assert_close(estimator.predict_proba(X), mlp.predict_proba(X), X, mlp)
        margin = np.abs(mlp.predict_proba(X) - 0.5).min(axis=1)
        sure = margin > 4.0 * allowed(mlp, X)
        certain.append(sure | (margin == 0.0))
        assert np.array_equal(estimator.predict(X)[sure], mlp.predict(X)[sure])
    # Of one network, whose probabilities are all near a half, few labels may be certain.
    assert np.mean(certain) > 0.8


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_it_can_be_trained_on_and_pickled(loss):
    rng = np.random.default_rng()
    mlp = random_mlp(rng, loss, 3, "tanh", hidden=(5,), bias=True, chosen=False)
    X = rows(rng, 40, np.float64)
    estimator = mlp.to_sklearn()
    y = mlp.predict(X)
    copy = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(copy.predict(X), estimator.predict(X))
    loss_before = estimator.partial_fit(X, y).loss_
    # Going on from weights that already fit: far below what random ones reach in a step.
    assert loss_before < 1e-3 if loss == "squared_error" else loss_before < 1.0
    assert not np.array_equal(estimator.coefs_[0], mlp.weights[0])


def test_training_it_leaves_the_network_alone():
    rng = np.random.default_rng()
    mlp = random_mlp(rng, "squared_error", 1, "relu", hidden=(5,), bias=True, chosen=False)
    weights = [w.copy() for w in mlp.weights + mlp.biases]
    X = rows(rng, 40, np.float64)
    mlp.to_sklearn().partial_fit(X, rng.normal(size=40))
    assert all(np.array_equal(a, b) for a, b in zip(weights, mlp.weights + mlp.biases, strict=True))


@pytest.mark.parametrize(
    ("loss", "n_outputs", "activation", "text"),
    [
        ("squared_error", 1, "gelu", "^activation for scikit-learn: expected one of identity, .*, got gelu. Use to_py"),
        ("squared_error", 1, ("tanh", "relu"), "^activation for .*: expected the same one in all layers, got tanh/"),
        ("gaussian_nll", 1, "tanh", "^loss for scikit-learn: expected one raw output per output, got 2 .gaussian_nll"),
        ("quantile", 1, "tanh", "^loss for scikit-learn: expected one raw output per output, got 3"),
    ],
)
def test_what_it_cannot_express_is_refused(loss, n_outputs, activation, text):
    mlp = random_mlp(np.random.default_rng(0), loss, n_outputs, activation, hidden=(3, 2))
    for model in (mlp, pm.Ensemble([mlp, mlp])):
        with pytest.raises(pm.DataError, match=text) as refused:
            model.to_sklearn()
        assert str(refused.value).endswith("Use to_python, to_onnx or to_torch.")


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_ensembles_of_several_outputs_are_refused(loss):
    model = pm.Ensemble([random_mlp(np.random.default_rng(0), loss, 2, "tanh")] * 2)
    with pytest.raises(pm.DataError, match="^ensemble for scikit-learn: expected one output, .*, got 2. Use to_python"):
        model.to_sklearn()


@pytest.mark.parametrize(
    ("loss", "n_outputs", "classes", "text"),
    [
        ("squared_error", 1, [0, 1], r"^classes: expected None for a model without classes, got \[0, 1\]"),
        ("binary_cross_entropy", 2, [0, 1], "^classes: expected None for a model without classes"),
        ("cross_entropy", 3, ["a", "b"], r"^classes: expected 3 different labels, got \['a', 'b'\]"),
        ("cross_entropy", 3, ["a", "b", "a"], "^classes: expected 3 different labels"),
        ("binary_cross_entropy", 1, ["a"], "^classes: expected 2 different labels"),
    ],
)
def test_classes_that_do_not_fit_are_refused(loss, n_outputs, classes, text):
    with pytest.raises(pm.DataError, match=text):
        random_mlp(np.random.default_rng(0), loss, n_outputs, "tanh").to_sklearn(classes)
