"""Losses as users meet them: names and objects, parameters, heads, predictions, files."""

import re

import numpy as np
import pytest

import pmlp_np as pm
from loss_variants import VARIANTS, heads, library_loss, random_targets
from pmlp_np.backends.numba.passes import PASSES
from pmlp_np.backends.numba.passes.loss_passes import loss_pass
from pmlp_np.formulas.losses import LOSSES, as_loss, from_plain, to_plain

N, F = 60, 4
X = np.random.default_rng(0).normal(size=(N, F))
MEMBERS = [pm.Member(hidden=(5,), activation="tanh"), pm.Member(hidden=())]
OBJECTS = {
    "squared_error": pm.SquaredError,
    "absolute_error": pm.AbsoluteError,
    "huber": pm.Huber,
    "quantile": pm.Quantile,
    "poisson": pm.Poisson,
    "gaussian_nll": pm.GaussianNLL,
    "cross_entropy": pm.CrossEntropy,
    "binary_cross_entropy": pm.BinaryCrossEntropy,
}


def targets(label, outputs, seed=1):
    return random_targets(label, np.random.default_rng(seed), N, outputs)


def trained(label, outputs=3, **settings):
    pool = pm.Pool(MEMBERS, F, outputs, library_loss(label, outputs), **settings)
    return pool.fit(X, targets(label, outputs), epochs=2, progress=False)


def test_a_name_means_the_defaults():
    assert set(OBJECTS) == set(LOSSES)
    for name, kind in OBJECTS.items():
        assert as_loss(name) == kind() and str(kind()) == name
        assert pm.Pool(MEMBERS, F, 2, kind()).loss == name


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (pm.Huber(1.35), "huber(delta=1.35)"),
        (pm.Huber(np.float32(0.5), output_weight=np.array([1, 2])), "huber(delta=0.5, output_weight=(1.0, 2.0))"),
        (pm.Quantile(0.25), "quantile(levels=(0.25,))"),
        (pm.Quantile([0.1, 0.9]), "quantile(levels=(0.1, 0.9))"),
        (pm.CrossEntropy(label_smoothing=0.1), "cross_entropy(label_smoothing=0.1)"),
        (pm.GaussianNLL(output_weight=(0, 1)), "gaussian_nll(output_weight=(0.0, 1.0))"),
    ],
)
def test_a_pool_shows_the_parameters(loss, text):
    pool = pm.Pool(MEMBERS, F, 2, loss)
    assert pool.loss == str(loss) == text
    assert text in repr(pool)
    assert pool.extract(0).loss == text and text in repr(pool.extract(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pm.Huber(0), "delta: expected a finite number, above 0, got 0."),
        (lambda: pm.Huber(delta=np.inf), "delta: expected a finite number, above 0, got inf."),
        (lambda: pm.Huber(True), "delta: expected a finite number, above 0, got True."),
        (lambda: pm.Huber(10**400), "delta: expected a finite number, above 0, got 1000"),
        (lambda: pm.Huber(output_weight=(1, 10**400)), "output_weight[1]: expected a finite number, "),
        (lambda: pm.Quantile(()), "levels: expected at least one number, got none."),
        (lambda: pm.Quantile((0.5, 1.0)), "levels[1]: expected a finite number, above 0 and below 1, got 1.0."),
        (lambda: pm.Quantile((0.5, 0.5)), "levels: expected numbers that grow, got (0.5, 0.5)."),
        (lambda: pm.Quantile("0.5"), "levels: expected a tuple of numbers, got '0.5'."),
        (lambda: pm.CrossEntropy(1.0), "label_smoothing: expected a finite number, at least 0 and below 1, got 1.0."),
        (lambda: pm.BinaryCrossEntropy(-0.1), "label_smoothing: expected a finite number, at least 0 and below 1, got"),
        (lambda: pm.Poisson(output_weight=(1, -1)), "output_weight[1]: expected a finite number, at least 0, got -1."),
        (lambda: pm.Poisson(output_weight=(0, 0)), "output_weight: expected a number above 0 among them, got"),
        (
            lambda: pm.Pool(MEMBERS, F, 3, pm.SquaredError(output_weight=(1, 2))),
            "output_weight: expected a number for each of 3 outputs, got 2.",
        ),
        (lambda: pm.Pool(MEMBERS, F, 1, pm.Huber), "loss: expected a name or an object, got <class"),
        (lambda: pm.Pool(MEMBERS, F, 1, "hubre"), "Did you mean 'huber'?"),
        (lambda: pm.MLP([np.ones((2, 1))], loss="hubre"), "Did you mean 'huber'?"),
    ],
)
def test_bad_parameters_are_refused_by_name(make, message):
    with pytest.raises(pm.DataError, match=re.escape(message)):
        make()


def test_rates_of_negative_targets_are_refused():
    pool = pm.Pool(MEMBERS, F, 1, "poisson")
    message = r"^y: expected values of at least 0, got \[-1\.0\] in row 3\. The loss is poisson"
    with pytest.raises(pm.DataError, match=message):
        pool.fit(X, np.where(np.arange(N) == 3, -1.0, 2.0))


@pytest.mark.parametrize("label", VARIANTS)
def test_files_subsets_and_concat_keep_the_loss(label, tmp_path):
    pool = trained(label)
    pool.save(tmp_path / "pool")
    again = pm.load(tmp_path / "pool")
    assert again.loss == pool.loss and again._plan.loss == pool._plan.loss
    both = pm.concat([pool, again.subset([1])])
    assert both._plan.loss == pool._plan.loss
    for other in (again, both):
        assert np.array_equal(other.predict(X)[:2], pool.predict(X))
    for each in (pool, again):
        each.partial_fit(X, targets(label, 3), progress=False)
    assert np.array_equal(again.forward(X), pool.forward(X))
    mlp = pool.extract(1)
    mlp.save(tmp_path / "mlp")
    np.testing.assert_allclose(pm.MLP.load(tmp_path / "mlp").predict(X), pool.predict(X)[1], rtol=1e-5, atol=1e-6)
    assert pm.MLP.load(tmp_path / "mlp").loss == pool.loss
    again.set_weights(0, mlp_of(pool))
    assert np.array_equal(again.forward(X)[0], pool.forward(X)[0])


def mlp_of(pool):
    return pool.extract(0)


def test_pools_of_other_parameters_are_not_joined():
    pools = [pm.Pool(MEMBERS, F, 1, pm.Huber(delta)) for delta in (1.0, 1.5)]
    with pytest.raises(pm.DataError, match=re.escape("pools[1].loss: expected huber, as in pools[0], got huber(delta")):
        pm.concat(pools)


@pytest.mark.parametrize("label", VARIANTS)
def test_plain_forms_are_json_and_come_back(label):
    import json

    loss = library_loss(label, 3)
    assert from_plain(json.loads(json.dumps(to_plain(loss)))) == loss


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_predictions_of_heads(outputs, backend):
    gaussian = trained("gaussian_nll", outputs, backend=backend)
    raw = gaussian.forward(X).astype(np.float64)
    assert raw.shape == (2, N, 2 * outputs)
    means, spreads = raw[..., ::2], np.exp(raw[..., 1::2] / 2)
    levels = trained("quantile", outputs, backend=backend)
    quantiles = levels.forward(X).reshape(2, N, outputs, 3)
    rates = np.exp(trained("poisson", outputs, backend=backend).forward(X).astype(np.float64))
    if outputs == 1:
        means, spreads, rates, quantiles = means[..., 0], spreads[..., 0], rates[..., 0], quantiles[:, :, 0]
    near = {"rtol": 1e-5}
    np.testing.assert_allclose(gaussian.predict(X), means, **near)
    np.testing.assert_allclose(gaussian.predict_std(X), spreads, **near)
    np.testing.assert_allclose(gaussian.predict(X, reduce="mean"), means.mean(axis=0), **near)
    np.testing.assert_allclose(gaussian.predict_std(X, members=[1], reduce="mean"), spreads[1], **near)
    out = np.empty_like(gaussian.predict_std(X))
    assert gaussian.predict_std(X, out=out) is out and np.array_equal(out, gaussian.predict_std(X))
    assert np.array_equal(levels.predict_quantiles(X), quantiles)
    assert np.array_equal(levels.predict(X), quantiles[..., 1])
    out = np.empty_like(quantiles)
    assert np.array_equal(levels.predict_quantiles(X, out=out), quantiles) and np.array_equal(out, quantiles)
    np.testing.assert_allclose(trained("poisson", outputs, backend=backend).predict(X), rates, **near)
    mlps = gaussian.extract(0), levels.extract(0)
    np.testing.assert_allclose(mlps[0].predict_std(X), spreads[0], rtol=1e-4)
    np.testing.assert_allclose(mlps[1].predict_quantiles(X), quantiles[0], rtol=1e-4, atol=1e-5)


def test_the_level_nearest_a_half_is_the_prediction():
    raw = np.arange(8.0).reshape(1, 8)
    assert pm.Quantile((0.1, 0.2, 0.4, 0.9)).predictions(raw).tolist() == [[2.0, 6.0]]
    # Of two as near as each other the lower one.
    assert pm.Quantile((0.1, 0.3, 0.7, 0.9)).predictions(raw).tolist() == [[1.0, 5.0]]


def test_what_a_loss_does_not_define_is_refused():
    pool, mlp = trained("squared_error"), trained("huber").extract(0)
    for ask, message in [
        (lambda: pool.predict_std(X), "loss: expected one that defines a variance, got 'squared_error'."),
        (lambda: mlp.predict_std(X), "loss: expected one that defines a variance, got 'huber'."),
        (lambda: pool.predict_quantiles(X), "loss: expected one that defines quantiles, got 'squared_error'."),
        (lambda: mlp.predict_quantiles(X), "loss: expected one that defines quantiles, got 'huber'."),
        (lambda: trained("poisson").predict_proba(X), "loss: expected one that defines probabilities, got 'poisson'."),
    ]:
        with pytest.raises(pm.DataError, match=re.escape(message)):
            ask()


@pytest.mark.parametrize("label", VARIANTS)
def test_raw_outputs_and_parameters_are_counted_with_heads(label):
    pool = pm.Pool(MEMBERS, F, 3, library_loss(label, 3))
    n = 3 * heads(label)
    assert pool.n_outputs == 3 and pool.forward(X).shape == (2, N, n)
    assert [record["parameters"] for record in pool.leaderboard()] == [F * 5 + 5 + 6 * n, (F + 1) * n]
    assert pool.extract(0).n_raw_outputs == n


def test_passes_are_named_by_parameters():
    """Compiled code is kept under these names, and parameters are constants of it."""
    losses = [pm.Huber(), pm.Huber(1.5), pm.Huber(1.5, output_weight=(1, 2)), pm.Quantile(), pm.Quantile((0.1, 0.5))]
    many = [pm.Huber(output_weight=tuple(range(1, n))) for n in (200, 201)]
    names = [loss_pass(loss, task) for loss in losses + many for task in ("loss_train", "loss_evaluate")]
    assert len(set(names)) == len(names) and set(names) <= set(PASSES)
    assert names[0] == "loss_train:huber" and names[2] == "loss_train:huber(delta=1.5)"
    assert max(map(len, names)) < 110


def test_outputs_of_weight_zero_learn_nothing_and_scores_know_no_weights():
    y = targets("squared_error", 2)
    pool = pm.Pool(pm.Member(hidden=()), F, 2, pm.AbsoluteError(output_weight=(1, 0)))
    before = pool.extract(0).weights[0]
    pool.fit(X, y, epochs=3, validation_data=(X, y), progress=False)
    after = pool.extract(0).weights[0]
    assert np.array_equal(before[:, 1], after[:, 1]) and not np.array_equal(before[:, 0], after[:, 0])
    errors = np.abs(pool.predict(X)[0] - y).mean(axis=0)
    record = pool.leaderboard()[0]
    assert record["metric"] == "mae"
    assert record["validation_score"] == pytest.approx(errors.mean(), rel=1e-5)
    assert record["validation_loss"] == pytest.approx(errors[0], rel=1e-5)


def test_losses_find_what_they_are_for():
    """A constant network learns the mean, the median and other quantiles, the rate, and the spread."""
    rng = np.random.default_rng(3)
    y = rng.exponential(size=2000)
    constant = pm.Member(hidden=(), learning_rate=0.05)
    flat = np.zeros((len(y), 1))

    def learned(loss):
        return pm.Pool(constant, 1, 1, loss, dtype="float64").fit(flat, y, epochs=60, batch_size=500, progress=False)

    assert learned("squared_error").predict(flat[:1])[0, 0] == pytest.approx(y.mean(), abs=0.02)
    assert learned("absolute_error").predict(flat[:1])[0, 0] == pytest.approx(np.median(y), abs=0.05)
    assert learned("poisson").predict(flat[:1])[0, 0] == pytest.approx(y.mean(), abs=0.02)
    found = learned(pm.Quantile((0.2, 0.5, 0.8))).predict_quantiles(flat[:1])[0, 0]
    np.testing.assert_allclose(found, np.quantile(y, [0.2, 0.5, 0.8]), atol=0.08)
    assert learned("gaussian_nll").predict_std(flat[:1])[0, 0] == pytest.approx(y.std(), abs=0.05)
