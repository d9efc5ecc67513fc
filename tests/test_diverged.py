"""Members that diverged: they are named, count in no mean, and no label is made of NaN, here and in other systems."""

import re
import warnings

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from exported import RUNNERS, needs

F = 2
RATES = (0.1, 1e25, 0.05, 1e25, 0.1)
HEALTHY, LOST, IDS = [40, 20, 0], [30, 10], [40, 30, 20, 10, 0]
QUIET = pytest.mark.filterwarnings("ignore::pmlp_np.DivergedWarning")
LOSSES = {
    "squared_error": ("squared_error", 1), "cross_entropy": ("cross_entropy", 3),
    "binary": ("binary_cross_entropy", 1), "labels": ("binary_cross_entropy", 2), "gaussian_nll": ("gaussian_nll", 1),
    "quantile": (pm.Quantile((0.2, 0.7)), 1), "poisson": ("poisson", 1),
}  # fmt: skip


def data(loss, n_outputs=1):
    rng = np.random.default_rng()
    X = rng.normal(size=(80, F))
    if loss == "cross_entropy":
        return X, np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
    if loss == "binary_cross_entropy":
        return X, (X[:, :n_outputs] > 0).astype(float)
    return X, np.exp(0.3 * X[:, 0])


def diverging(label, backend="numba", **how):
    """(pool of which members 10 and 30 have diverged, X, y)."""
    loss, n_outputs = LOSSES[label]
    X, y = data(loss, n_outputs)
    specs = [pm.Member(hidden=6, optimizer=pm.SGD(learning_rate=rate)) for rate in RATES]
    pool = pm.Pool(specs, F, n_outputs, loss, ids=IDS, backend=backend)
    pool.fit(X, y, epochs=20, batch_size=16, progress=False, **how)
    assert pool.status_ == ["ok", "diverged", "ok", "diverged", "ok"]
    return pool, X, y


def healthy(pool):
    """As errors, warnings and docstrings say it."""
    return pool.ids_[np.array(pool.status_) != "diverged"]


# It is said.


def test_fit_says_who_diverged_once_and_where_it_was_called(backend):
    with pytest.warns(pm.DivergedWarning) as said:
        pool, X, y = diverging("squared_error", backend)
    (warning,) = said
    assert str(warning.message).startswith("2 of 5 members diverged: ids 30, 10. They have stopped")
    assert warning.filename == __file__ and issubclass(pm.DivergedWarning, UserWarning)
    # They are said by the call in which they diverge, and no more.
    pool.partial_fit(X, y, epochs=2, progress=False)
    with pytest.warns(pm.DivergedWarning, match="3 of 5 members diverged: ids 40, 20, 0"):
        pool.partial_fit(1e19 * X, y, epochs=9, progress=False)


def test_a_warning_that_is_an_error_leaves_the_pool_whole():
    X, y = data("squared_error")
    pool = pm.Pool([pm.Member(hidden=3, optimizer=pm.SGD(1e25)), pm.Member(hidden=3)], F)
    with pytest.raises(pm.DivergedWarning, match="1 of 2 members diverged: id 0"):
        pool.fit(X, y, epochs=3, progress=False)
    assert pool.ended_ == "done" and pool.status_ == ["diverged", "ok"]
    pool.partial_fit(X, y, epochs=2, progress=False)
    assert pool._progress.epoch[1] == 5


def test_what_it_advises_helps():
    """clip_norm=1.0 and a smaller rate, on a pool that diverges."""
    X, y = data("squared_error")
    member = {"hidden": 6, "optimizer": pm.SGD(learning_rate=0.9, momentum=0.9), "activation": "relu"}
    with pytest.warns(pm.DivergedWarning, match="Smaller learning rates, clip_norm=1.0 or scaled features help"):
        pm.Pool(pm.Member(**member), F).fit(30 * X, 30 * y, epochs=30, progress=False)
    clipped = pm.Pool(pm.Member(**member, clip_norm=1.0), F).fit(30 * X, 30 * y, epochs=30, progress=False)
    slower = pm.Pool(pm.Member(hidden=6, optimizer=pm.SGD(1e-5)), F).fit(30 * X, 30 * y, epochs=30, progress=False)
    assert clipped.status_ == slower.status_ == ["ok"]


# Means.


METHODS = {
    "forward": LOSSES, "predict": LOSSES, "predict_proba": ("cross_entropy", "binary", "labels"),
    "predict_std": ("gaussian_nll",), "predict_quantiles": ("quantile",),
}  # fmt: skip
CASES = [(method, label) for method, labels in METHODS.items() for label in labels]


@QUIET
@pytest.mark.parametrize(("method", "label"), CASES)
def test_they_are_left_out_of_means_and_refused_by_id(method, label):
    pool, X, _ = diverging(label)
    ask = getattr(pool, method)
    with pytest.warns(pm.DivergedWarning, match="2 of 5 members diverged and are left out .*: ids 30, 10") as said:
        mean = ask(X, reduce="mean")
    (warning,) = said
    assert warning.filename == __file__
    out = np.full_like(mean, -7)
    assert ask(X, reduce="mean", out=out) is out
    with warnings.catch_warnings(action="error"):
        # As the warning says it: then nothing is left out, and nothing said.
        expression = re.search(r"members=(pool\..*)\.$", str(warning.message))[1]
        named = ask(X, members=eval(expression, {"pool": pool, "np": np}), reduce="mean")
    assert np.array_equal(mean, named) and np.array_equal(mean, out) and np.isfinite(mean).all()
    parts = ask(X, members=HEALTHY).astype(np.float64)
    if np.issubdtype(mean.dtype, np.floating):
        np.testing.assert_allclose(mean, parts.mean(axis=0), rtol=1e-6)
    for members in (LOST, [40, 30], 10, [10, 10]):
        with pytest.raises(pm.DataError, match=r"^members: .* not diverged, to take a mean of, got ids? (30|10)"):
            ask(X, members=members, reduce="mean")
    with pytest.raises(pm.DataError, match=r"^members: expected one that has not diverged, .* got none\. Train with "):
        getattr(pool.subset(LOST), method)(X, reduce="mean")


@QUIET
def test_hints_are_python_that_works():
    pool, X, _ = diverging("cross_entropy")
    texts = []
    for ask in (
        lambda: pool.predict(X, members=LOST, reduce="mean"),
        lambda: pool.predict(X),
        lambda: pool.ensemble([40, 30]),
    ):
        with pytest.raises(pm.DataError) as error:
            ask()
        texts.append(str(error.value))
    for text in texts:
        expression = re.search(r"pool\.ids_\[.*?\) != 'diverged'\]", text)[0]
        ids = eval(expression, {"pool": pool, "np": np})
        assert ids.tolist() == HEALTHY
    assert pool.predict(X, members=ids).shape == (3, len(X)) and len(pool.ensemble(ids)) == 3
    assert np.isnan(pool.predict_proba(X)[[1, 3]]).all(), "as the second says"


# Labels.


@QUIET
@pytest.mark.parametrize("label", ["cross_entropy", "binary", "labels"])
def test_no_label_is_made_of_nan(label, monkeypatch):
    pool, X, y = diverging(label)
    out = pool.predict(X, members=[40] * 5)
    for how in ({}, {"out": out}):
        with pytest.raises(pm.DataError, match=r"^members: .* to predict labels, got ids 30, 10, diverged\. NaN"):
            pool.predict(X, **how)
    with pytest.raises(pm.DataError, match="got id 10, diverged"):
        pool.predict(X, members=[20, 10])
    with pytest.raises(pm.DataError, match="^outputs: expected numbers, to make labels of"):
        pool.extract(10).predict(X)
    assert np.isnan(pool.forward(X)[[1, 3]]).all()
    # In pieces the members are still named.
    monkeypatch.setattr("pmlp_np.pool.prediction._CHUNK_BYTES", 1)
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    with pytest.raises(pm.DataError, match=r"got id 30, diverged"):
        pool.predict(X)
    # What counts labels knows of none.
    assert np.isnan(pool.score(X, y)).tolist() == [False, True, False, True, False]
    assert np.isnan(pool.score(X, y, "accuracy")).tolist() == [False, True, False, True, False]


def test_members_that_diverged_predict_values_as_they_are():
    with pytest.warns(pm.DivergedWarning):
        pool, X, _ = diverging("squared_error")
    found = pool.predict(X)
    assert not np.isfinite(found[[1, 3]]).any() and np.isfinite(found[[0, 2, 4]]).all()


HUGE = np.array([[1e-20], [1e20], [2e-20], [-1e20]], np.float32)
# Row 1 and 3 overflow in the hidden layer; the raw outputs are infinity less infinity, or infinity alone.
NAN = {
    "cross_entropy": [[[1e20, 1e20]], [[1.0, 2.0, -1.0], [-1.0, -2.0, 1.0]]],
    "infinity": [[[1e20, 1e20]], [[1e20, 1e20, 1e19], [0.0, 0.0, 0.0]]],
    "binary": [[[1e20, 1e20]], [[1.0], [-1.0]]],
    "labels": [[[1e20, 1e20]], [[1.0, 1.0], [-1.0, 1.0]]],
}


def overflowing(label):
    loss = "cross_entropy" if label in ("cross_entropy", "infinity") else "binary_cross_entropy"
    weights = [np.array(w, np.float32) for w in NAN[label]]
    return pm.MLP(weights, [np.zeros(w.shape[1], np.float32) for w in weights], "identity", loss)


@pytest.mark.parametrize("label", NAN)
def test_rows_that_overflow_have_no_label(label):
    mlp = overflowing(label)
    for model in (mlp, pm.Ensemble([mlp, mlp], [1, 2]), pm.Ensemble([mlp])):
        assert np.isnan(model.predict_proba(HUGE)[[1, 3]]).any(axis=1).all() or label == "labels"
        with pytest.raises(pm.DataError, match=r"NaN or infinity in 2 of 4 rows \(1, 3\)\. No label can be made"):
            model.predict(HUGE)
        assert len(model.predict(HUGE[[0, 2]])) == 2
    pool = pm.Pool(pm.Member(hidden=2, activation="identity"), 1, mlp.n_raw_outputs, mlp.loss, ids=[6])
    pool.set_weights(6, mlp)
    with pytest.raises(pm.DataError, match=r"^X: expected rows .* NaN or infinity of id 6, first in row 1\. No label"):
        pool.predict(HUGE)
    with pytest.raises(pm.DataError, match=r"in 2 of 4 rows \(1, 3\)\. No label"):
        pool.predict(HUGE, reduce="mean")


CLASS_NAMES = {None: -1, ("x", "y", "z"): "", ("x", "", "z"): "NaN", (7, 8, 9): -1, (3, -1, 5): -2}


@pytest.mark.parametrize("kind", [pm.MLP, pm.Ensemble])
@pytest.mark.parametrize("label", NAN)
@pytest.mark.parametrize("target", RUNNERS)
def test_no_export_makes_labels_of_nan(target, label, kind):
    needs(target)
    mlp = overflowing(label)
    model = mlp if kind is pm.MLP else pm.Ensemble([mlp, mlp], [1, 2])
    if target == "python":
        with pytest.raises(ValueError, match="^X: outputs of row 1 are not numbers"):
            RUNNERS[target](model, HUGE)
        assert np.array_equal(RUNNERS[target](model, HUGE[::2])["predict"], model.predict(HUGE[::2]))
        return
    found = RUNNERS[target](model, HUGE)["predict"]
    assert np.array_equal(found[[0, 2]], model.predict(HUGE[[0, 2]]))
    undefined = np.isnan(model.forward(HUGE)) if label == "labels" and kind is pm.MLP else np.ones_like(found[1], bool)
    expected = np.isnan(mlp.forward(HUGE))[[1, 3]] if label == "labels" else np.ones((2, *found.shape[1:]), bool)
    assert undefined.any() and (found[[1, 3]][expected] == -1).all()


@pytest.mark.parametrize("names", CLASS_NAMES)
def test_an_undefined_label_of_onnx_is_called_like_no_class(names):
    requires("onnxruntime")
    model = overflowing("cross_entropy")
    found = RUNNERS["onnx"](model, HUGE, class_names=names)["predict"]
    known = np.arange(3) if names is None else np.array(names, object if isinstance(names[0], str) else None)
    assert found[[0, 2]].tolist() == known[model.predict(HUGE[[0, 2]])].tolist()
    assert found[[1, 3]].tolist() == [CLASS_NAMES[names]] * 2


@QUIET
@pytest.mark.parametrize("way", ["to_onnx", "to_torch", "to_sklearn", "to_python", "to_c"])
def test_members_that_diverged_are_not_exported(way):
    requires("onnx"), requires("torch"), requires("sklearn")
    pool, X, _ = diverging("cross_entropy")
    lost, fine = pool.extract(10), pool.extract(20)
    with pytest.raises(pm.DataError, match=r"^weights\[0\] of the network: expected finite .*\. Export another member"):
        getattr(lost, way)()
    with pytest.raises(pm.DataError, match=r"of mlps\[1\]: expected finite .* Leave it out, or give it weight 0"):
        pm.Ensemble([fine, lost])
    # As it says.
    for ensemble in (pm.Ensemble([fine]), pm.Ensemble([fine, lost], [1, 0])):
        assert np.array_equal(ensemble.predict(X), fine.predict(X)) and getattr(ensemble, way)()
    ensemble.mlps[0].weights[0][0, 0] = np.inf
    with pytest.raises(pm.DataError, match="of network 0: expected finite numbers"):
        getattr(ensemble, way)()
    # It may be looked at.
    assert not np.isfinite(lost.forward(X)).any() and np.isnan(pool.hidden(X, 10)).any()


@QUIET
def test_ensembles_refuse_them_by_id():
    pool, X, _ = diverging("squared_error")
    for ids in (LOST, [40, 30], [10]):
        with pytest.raises(pm.DataError, match=r"^ids: expected members that have not diverged, .* got ids? (30|10)"):
            pool.ensemble(ids)
    assert len(pool.ensemble(healthy(pool))) == 3


@QUIET
def test_out_of_fold_names_them():
    pool, X, _ = diverging("cross_entropy")
    folds = np.array_split(np.arange(len(X)), 5)
    with pytest.raises(pm.DataError, match="got id 30, diverged"):
        pool.out_of_fold(X, folds)
    assert np.isnan(pool.out_of_fold(X, folds, method="predict_proba")[0, folds[1]]).all()


@QUIET
def test_training_on_by_id_is_refused_with_what_helps():
    pool, X, y = diverging("squared_error")
    before = pool._progress.step.copy()
    with pytest.raises(pm.DataError, match=r"^members: .* got ids 30, 10, diverged\. set_weights gives a member new"):
        pool.partial_fit(X, y, members=IDS, progress=False)
    assert np.array_equal(pool._progress.step, before)
    for id in LOST:
        pool.set_weights(id, pool.extract(20))
    assert pool.status_ == ["ok"] * 5 and np.array_equal(pool.predict(X, members=[30]), pool.predict(X, members=[20]))
    pool.partial_fit(X, y, members=IDS, progress=False)
    assert pool._progress.step[[1, 3]].all()


@QUIET
@pytest.mark.parametrize("weights", ["last", "average"])
def test_best_weights_of_who_diverged_count(weights):
    """A member that diverges after an epoch that was kept is of use by its best weights, and not by others."""
    X, y = data("squared_error")
    specs = [pm.Member(hidden=(), optimizer=pm.SGD(rate), average=0.9) for rate in (1e-3, 3.0)]
    pool = pm.Pool(specs, F)
    how = {"validation_data": (X, y), "early_stopping": True, "patience": 99, "progress": False}
    pool.fit(X, y, epochs=30, batch_size=40, **how)
    assert pool.status_ == ["ok", "diverged"] and (pool._records.best_epoch >= 0).all()
    with warnings.catch_warnings(action="error"):
        assert np.isfinite(pool.predict(X, reduce="mean")).all() and len(pool.ensemble([0, 1])) == 2
    with pytest.raises(pm.DataError, match="got id 1, diverged"):
        pool.predict(X, members=[0, 1], reduce="mean", weights=weights)
