"""Ensembles: means as the textbook has them, in NumPy alone; files that keep every bit; refusals by position."""

import subprocess
import sys

import numpy as np
import pytest

import pmlp_np as pm
from exported import METHODS, N_FEATURES, own, random_mlp, rows
from loss_variants import VARIANTS

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def some(loss="squared_error", n_outputs=1, dtype=np.float64, count=3, **settings):
    rng = np.random.default_rng()
    return [random_mlp(rng, loss, n_outputs, dtype=dtype, **settings) for _ in range(count)], rows(rng, 30, dtype)


def softmax(raw):
    e = np.exp(raw - raw.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def logistic(raw):
    return 1.0 / (1.0 + np.exp(-raw))


def precision(dtype):
    """Relative: members round in the dtype, means are taken in float64 and rounded once."""
    return dict(rtol=8.0 * np.finfo(dtype).eps, atol=8.0 * np.finfo(dtype).eps)


@DTYPES
@pytest.mark.parametrize("given", [None, [1, 2, 3], [0.2, 0.0, 0.4], (1e308, 1e308, 1e308)])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("loss", VARIANTS)
def test_means(loss, n_outputs, given, dtype):
    name = VARIANTS[loss][0]
    n_outputs += name == "cross_entropy"
    mlps, X = some(loss, n_outputs, dtype)
    ensemble = pm.Ensemble(mlps, given)
    share = np.array([1.0, 1.0, 1.0] if given is None else given)
    share = share / share.max() / (share / share.max()).sum()
    np.testing.assert_allclose(ensemble.weights, share, rtol=1e-15)
    raws = [mlp.forward(X).astype(np.float64) for mlp in mlps]

    def mean(parts):
        return sum(w * part for w, part in zip(share, parts, strict=True))

    found = own(ensemble, X)
    for values in found.values():
        assert values.dtype in (dtype, np.int64)
    assert set(found) == set(own(mlps[0], X))
    if name == "cross_entropy":
        expected = mean([softmax(raw) for raw in raws])
        np.testing.assert_allclose(found["predict_proba"], expected, **precision(dtype))
        top = np.sort(expected, axis=1)
        sure = top[:, -1] - top[:, -2] > 1e-5
        assert np.array_equal(found["predict"][sure], expected.argmax(axis=1)[sure])
        return
    if name == "binary_cross_entropy":
        expected = mean([logistic(raw) for raw in raws])
        np.testing.assert_allclose(found["predict_proba"], expected, **precision(dtype))
        sure = (np.abs(expected - 0.5) > 1e-5).all(axis=1)
        labels = found["predict"].reshape(len(X), n_outputs)
        assert np.array_equal(labels[sure], (expected > 0.5)[sure])
        return
    heads = raws[0].shape[1] // n_outputs
    if name == "quantile":
        middle = int(np.argmin(np.abs(np.array(mlps[0]._loss.levels) - 0.5)))
        expected = mean(raws)[:, middle::heads]
        quantiles = mean(raws).reshape(len(X), n_outputs, heads)
        quantiles = quantiles[:, 0] if n_outputs == 1 else quantiles
        np.testing.assert_allclose(found["predict_quantiles"], quantiles, **precision(dtype))
    elif name == "gaussian_nll":
        means, variances = [raw[:, ::2] for raw in raws], [np.exp(raw[:, 1::2]) for raw in raws]
        expected = mean(means)
        # The second moment of a mixture is the mean of second moments.
        second = mean([m**2 + v for m, v in zip(means, variances, strict=True)])
        std = np.sqrt(second - expected**2)
        std = std[:, 0] if n_outputs == 1 else std
        np.testing.assert_allclose(found["predict_std"], std, rtol=1e-4 if dtype == np.float32 else 1e-9)
    elif name == "poisson":
        expected = mean([np.exp(raw) for raw in raws])
    else:
        expected = mean(raws)
    expected = expected[:, 0] if n_outputs == 1 else expected
    # exp of a raw output has its argument's rounding.
    size = np.maximum(1.0, max(np.abs(raw).max() for raw in raws))
    tight = precision(dtype)
    np.testing.assert_allclose(found["predict"], expected, rtol=size * tight["rtol"], atol=size * tight["atol"])


@DTYPES
@pytest.mark.parametrize("loss", ["squared_error", "quantile", "gaussian_nll", "poisson", "cross_entropy",
                                  "binary_cross_entropy"])  # fmt: skip
def test_raw_outputs_are_those_of_one_network_that_predicts_the_same(loss, dtype):
    """One without hidden layers, whose biases the raw outputs are."""
    mlps, X = some(loss, 2, dtype)
    ensemble = pm.Ensemble(mlps, [1, 2, 3])
    raw = ensemble.forward(X)
    assert raw.dtype == dtype and raw.shape == (30, mlps[0].n_raw_outputs)
    for row in range(30):
        one = pm.MLP([np.zeros((N_FEATURES, raw.shape[1]), dtype)], [raw[row]], loss=loss)
        for method, values in own(one, X[:1]).items():
            close = np.isclose(values[0], getattr(ensemble, method)(X)[row], rtol=200 * np.finfo(dtype).eps,
                               atol=200 * np.finfo(dtype).eps)  # fmt: skip
            assert close.all() or values.dtype == np.int64 and np.abs(ensemble.predict_proba(X)[row] - 0.5).min() < 1e-4


def test_raw_outputs_stay_finite_where_probabilities_vanish():
    far = [pm.MLP([np.zeros((1, 2))], [np.array([b, -b])], loss=loss)
           for loss in ("cross_entropy", "binary_cross_entropy") for b in (2000.0, 1000.0)]  # fmt: skip
    for members in (far[:2], far[2:]):
        raw = pm.Ensemble(members).forward(np.zeros((1, 1)))
        assert np.isfinite(raw).all()
    np.testing.assert_allclose(raw, [[1000.0 + np.log(2.0), -1000.0 - np.log(2.0)]], rtol=1e-12)


def test_one_network_is_itself():
    for loss in VARIANTS:
        (mlp, other), X = some(loss, 2, count=2)
        for ensemble in (pm.Ensemble([mlp]), pm.Ensemble([other, mlp], [0, 3])):
            assert np.array_equal(ensemble.forward(X), mlp.forward(X))
            for method, values in own(mlp, X).items():
                np.testing.assert_allclose(getattr(ensemble, method)(X), values, rtol=1e-15)


def test_networks_of_weight_zero_are_not_asked():
    (first, second), X = some(count=2, hidden=(3,))
    second.weights[0][:] = np.nan
    assert np.array_equal(pm.Ensemble([first, second], [2.0, 0.0]).predict(X), first.predict(X))
    with pytest.raises(pm.DataError, match=r"^weights\[0\] of mlps\[1\]: expected finite numbers, .* give it weight 0"):
        pm.Ensemble([first, second])


@pytest.mark.parametrize("reduced", ["predict", "predict_proba"])
def test_of_a_pool(reduced):
    rng = np.random.default_rng()
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    pool = pm.Pool(pm.grid(hidden=[3, 5], repeats=2), 4, 3, "cross_entropy", ids=[7, 3, 9, 1], backend="reference")
    pool.fit(X, y, epochs=3, validation_data=(X, y), early_stopping=True)
    ensemble = pool.ensemble([3, 1, 9])
    assert [repr(mlp) for mlp in ensemble.mlps] == [repr(pool.extract(id)) for id in (3, 1, 9)]
    assert np.array_equal(ensemble.mlps[1].weights[0], pool.extract(1).weights[0])
    expected = getattr(pool, reduced)(X, members=[3, 1, 9], reduce="mean")
    np.testing.assert_allclose(getattr(ensemble, reduced)(X), expected, rtol=1e-5)
    np.testing.assert_allclose(pool.ensemble([3, 1], [1, 3]).weights, [0.25, 0.75])
    assert len(pool.ensemble([3, 3, 1])) == 3 and len(pool.ensemble(7)) == 1
    with pytest.raises(pm.DataError, match="^members: expected ids of this pool .*, got 4"):
        pool.ensemble([3, 4])
    with pytest.raises(pm.DataError, match="^weights: expected a number for each of 2 networks"):
        pool.ensemble([3, 1], [1])


@DTYPES
@pytest.mark.parametrize("loss", ["quantile", "narrow huber", "cross_entropy"])
def test_files_keep_every_bit(tmp_path, loss, dtype):
    mlps, X = some(loss, 2, dtype)
    for ensemble in (pm.Ensemble(mlps), pm.Ensemble(mlps, np.random.default_rng().random(3))):
        ensemble.save(tmp_path / "mean.pmlp")
        again = pm.Ensemble.load(tmp_path / "mean.pmlp")
        assert repr(again) == repr(ensemble) and again.loss == ensemble.loss
        assert again.weights.tobytes() == ensemble.weights.tobytes()
        assert again.forward(X).tobytes() == ensemble.forward(X).tobytes()
        assert [mlp.activation for mlp in again.mlps] == [mlp.activation for mlp in ensemble.mlps]


def test_other_files_are_refused(tmp_path):
    mlps, _ = some()
    mlps[0].save(tmp_path / "one.pmlp")
    pm.Ensemble(mlps).save(tmp_path / "mean.pmlp")
    with pytest.raises(pm.FileFormatError, match="of kind 'ensemble', got 'mlp'. Open it with pm.MLP.load"):
        pm.Ensemble.load(tmp_path / "one.pmlp")
    with pytest.raises(pm.FileFormatError, match="of kind 'mlp', got 'ensemble'. Open it with pm.Ensemble.load"):
        pm.MLP.load(tmp_path / "mean.pmlp")
    from pmlp_np.base.archive import read_archive, write_archive

    header, arrays = read_archive(tmp_path / "mean.pmlp", "ensemble")
    del arrays["1/weights_0"]
    write_archive(tmp_path / "part.pmlp", "ensemble", {"mlps": header["mlps"]}, arrays)
    with pytest.raises(pm.FileFormatError, match="part.pmlp: expected an ensemble, got arrays: .*'weights_0' missing"):
        pm.Ensemble.load(tmp_path / "part.pmlp")


def test_numba_is_not_needed(tmp_path):
    mlps, X = some("cross_entropy", 3)
    pm.Ensemble(mlps).save(tmp_path / "mean.pmlp")
    np.save(tmp_path / "x.npy", X)
    script = f"""
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import numpy as np
import pmlp_np as pm
print(*pm.Ensemble.load({str(tmp_path / "mean.pmlp")!r}).predict(np.load({str(tmp_path / "x.npy")!r})))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(label) for label in pm.Ensemble(mlps).predict(X)]


def test_what_it_says_about_itself():
    rng = np.random.default_rng(0)
    mlps = [random_mlp(rng, activation="tanh", hidden=(h,), bias=True, chosen=False) for h in (3, 4)]
    ensemble = pm.Ensemble(mlps)
    assert (len(ensemble), ensemble.n_features, ensemble.n_raw_outputs, ensemble.dtype) == (2, 6, 1, np.float64)
    assert ensemble.n_parameters() == 6 * 3 + 3 + 3 + 1 + 6 * 4 + 4 + 4 + 1
    assert repr(ensemble) == "Ensemble(2 networks, 6 features, squared_error, 58 parameters, float64)"
    assert repr(pm.Ensemble(mlps, [1, 3])).startswith("Ensemble(2 networks of weight 0.25 to 0.75, 6 features, ")
    assert repr(pm.Ensemble(mlps[:1])).startswith("Ensemble(1 network, ")


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1.0], r"^weights: expected a number for each of 2 networks, got \[1.0\]"),
        ([[1.0, 2.0]], "^weights: expected a number for each of 2 networks"),
        (5, "^weights: expected a number for each of 2 networks, got 5"),
        (["a", "b"], "^weights: expected an array of real numbers, got one of <U1"),
        ([1.0, -0.5], r"^weights\[1\]: expected a finite number, at least 0, got -0.5"),
        ([np.nan, 1.0], r"^weights\[0\]: expected a finite number, at least 0, got nan"),
        ([np.inf, 1.0], r"^weights\[0\]: expected a finite number, at least 0, got inf"),
        ([0.0, 0.0], r"^weights: expected a number above 0 among them, got \[0.0, 0.0\]"),
    ],
)
def test_weights_that_are_none_are_refused(weights, text):
    with pytest.raises(pm.DataError, match=text):
        pm.Ensemble(some(count=2)[0], weights)


def test_networks_that_do_not_fit_are_refused_by_position():
    rng = np.random.default_rng(0)
    first = random_mlp(rng, n_outputs=2)
    for other, text in (
        (random_mlp(rng, n_outputs=3), r"^mlps\[1\].n_raw_outputs: expected 2, as in mlps\[0\], got 3"),
        (random_mlp(rng, "narrow huber", 2), r"^mlps\[1\].loss: expected squared_error, as in mlps\[0\], got huber\("),
        (random_mlp(rng, n_outputs=2, dtype=np.float32), r"^mlps\[1\].dtype: expected float64, as in mlps\[0\], got"),
        (pm.MLP([np.ones((3, 2))]), r"^mlps\[1\].n_features: expected 6, as in mlps\[0\], got 3"),
        ("network", r"^mlps\[1\]: expected a pm.MLP, got 'network'"),
    ):
        with pytest.raises(pm.DataError, match=text):
            pm.Ensemble([first, other, first])
    for nothing in ([], 5, None):
        with pytest.raises(pm.DataError, match="^mlps: expected a list of at least one pm.MLP, got "):
            pm.Ensemble(nothing)


def test_data_of_another_shape_are_refused():
    for method in ("forward", "predict"):
        with pytest.raises(pm.DataError, match=r"^X: expected shape \(n_samples, 6\), got \(2, 4\)"):
            getattr(pm.Ensemble(some()[0]), method)(np.zeros((2, 4)))
    for method in METHODS[1:]:
        with pytest.raises(pm.DataError, match="^loss: expected one that defines .*, got 'squared_error'"):
            getattr(pm.Ensemble(some()[0]), method)(np.zeros((2, 6)))
