"""Preprocessing folded into networks: what they say to raw rows is what they said to prepared ones."""

import numpy as np
import pytest

import pmlp_np as pm
from conftest import requires
from exported import N_FEATURES, own, random_mlp, rows
from loss_variants import VARIANTS

IDENTITY = [label for label, (name, _) in VARIANTS.items()
            if name in ("squared_error", "absolute_error", "huber", "quantile", "gaussian_nll")]  # fmt: skip


def pair(rng, n):
    return rng.normal(size=n) * 3.0, rng.uniform(0.2, 4.0, n)


def close(found, expected):
    # Some sums of products more, in float64.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def answers(model, X):
    """Raw outputs, and predictions other than labels, which rounding may flip."""
    return {"forward": model.forward(X)} | {k: v for k, v in own(model, X).items() if v.dtype == np.float64}


@pytest.mark.parametrize("loss", VARIANTS)
def test_inputs(loss):
    rng = np.random.default_rng()
    for hidden in ((), (5, 4)):
        mlps = [random_mlp(rng, loss, 2, "tanh", hidden=hidden) for _ in range(3)]
        X = rows(rng, 30, np.float64)
        shift, scale = pair(rng, N_FEATURES)
        for model in (*mlps, pm.Ensemble(mlps, [1, 2, 3])):
            folded = model.folded(inputs=(shift, scale))
            assert type(folded) is type(model) and folded.loss == model.loss
            found, expected = answers(folded, X * scale + shift), answers(model, X)
            for method, values in expected.items():
                close(found[method], values)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("loss", IDENTITY)
def test_outputs(loss, n_outputs):
    rng = np.random.default_rng()
    for hidden in ((), (5, 4)):
        mlps = [random_mlp(rng, loss, n_outputs, "tanh", hidden=hidden) for _ in range(3)]
        X = rows(rng, 30, np.float64)
        inputs, (shift, scale) = pair(rng, N_FEATURES), pair(rng, n_outputs)
        if n_outputs == 1:
            shift, scale = shift[0], scale[0]
        for model in (*mlps, pm.Ensemble(mlps, [1, 2, 3])):
            folded = model.folded(inputs, (shift, scale))
            raw = X * inputs[1] + inputs[0]
            close(folded.predict(raw), model.predict(X) * scale + shift)
            if loss.endswith("gaussian_nll") or loss == "weighted gaussian":
                close(folded.predict_std(raw), model.predict_std(X) * scale)
            if "quantile" in loss or "level" in loss:
                by_output = (scale, shift) if n_outputs == 1 else (scale[:, None], shift[:, None])
                close(folded.predict_quantiles(raw), model.predict_quantiles(X) * by_output[0] + by_output[1])


def test_numbers_for_all_columns_and_a_scale_below_zero():
    rng = np.random.default_rng()
    mlp, X = random_mlp(rng, n_outputs=2, activation="relu", hidden=(4,)), rows(rng, 20, np.float64)
    close(mlp.folded(inputs=(2, 0.5), outputs=(1, -3)).predict(X * 0.5 + 2), mlp.predict(X) * -3 + 1)


def test_float32_is_folded_in_float64_and_rounded_once():
    rng = np.random.default_rng()
    mlp = random_mlp(rng, n_outputs=2, activation="tanh", dtype=np.float32, hidden=(7,), bias=True)
    wide = pm.MLP([w.astype(np.float64) for w in mlp.weights], [b.astype(np.float64) for b in mlp.biases], "tanh",
                  "squared_error", mlp.features, None if mlp.features is None else N_FEATURES)  # fmt: skip
    pairs = pair(rng, N_FEATURES), pair(rng, 2)
    found, expected = mlp.folded(*pairs), wide.folded(*pairs)
    assert found.dtype == np.float32
    for a, b in zip(found.weights + found.biases, expected.weights + expected.biases, strict=True):
        assert np.array_equal(a, b.astype(np.float32))


def test_biases_come_where_a_shift_needs_them():
    rng = np.random.default_rng()
    mlp = random_mlp(rng, "gaussian_nll", hidden=(3,), activation="tanh", bias=False)
    X = rows(rng, 10, np.float64)
    assert not mlp.folded(inputs=(0.0, 2.0)).bias
    assert mlp.folded(inputs=(1.0, 2.0)).bias
    assert mlp.folded(outputs=(0.0, 2.0)).bias, "the logarithm of a variance is shifted"
    assert not random_mlp(rng, hidden=(3,), bias=False).folded(outputs=(0.0, 2.0)).bias
    close(mlp.folded(outputs=(0.0, 2.0)).predict_std(X), 2.0 * mlp.predict_std(X))


def test_nothing_folded_is_a_copy():
    mlp = random_mlp(np.random.default_rng(), n_outputs=2, hidden=(3,))
    same = mlp.folded()
    same.weights[0][:] = 0.0
    assert repr(same) == repr(mlp) and mlp.weights[0].any()


def test_scalers_of_scikit_learn():
    requires("sklearn")
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    rng = np.random.default_rng()
    X, y = rows(rng, 50, np.float64) * 3 + rng.normal(size=N_FEATURES), rng.normal(size=(50, 2)) * 4 + 7
    X[:, 2] = 5.0  # a constant column
    mlps = [random_mlp(rng, n_outputs=2, activation="tanh", hidden=(4,)) for _ in range(2)]
    for scaler in (
        StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), MinMaxScaler(),
        MinMaxScaler(feature_range=(-1, 3)), MaxAbsScaler(), RobustScaler(), RobustScaler(with_centering=False),
        RobustScaler(with_scaling=False), StandardScaler(with_mean=False, with_std=False),
    ):  # fmt: skip
        targets = type(scaler)(**scaler.get_params()).fit(y)
        scaler.fit(X)
        for model in (mlps[0], pm.Ensemble(mlps)):
            found = model.folded(inputs=scaler, outputs=targets).predict(X)
            close(found, targets.inverse_transform(model.predict(scaler.transform(X))))
    with pytest.raises(pm.DataError, match="^inputs: expected a fitted StandardScaler, got one that is not fitted"):
        mlps[0].folded(inputs=StandardScaler())
    with pytest.raises(pm.DataError, match="^inputs: expected what is affine, got a MinMaxScaler that clips. Fit one"):
        mlps[0].folded(inputs=MinMaxScaler(clip=True).fit(X))
    with pytest.raises(pm.DataError, match="^outputs: expected a scaler of 2 columns, got one of 6"):
        mlps[0].folded(outputs=StandardScaler().fit(X))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (5, r"^inputs: expected a pair \(shift, scale\), or a fitted scaler, got 5. Known are StandardScaler, "),
        ((1, 2, 3), r"^inputs: expected a pair \(shift, scale\), or a fitted scaler, got \(1, 2, 3\)"),
        (([1, 2], 1), r"^shift of inputs: expected a number, or one for each of 6 columns, got \(2,\)"),
        ((0, "wide"), "^scale of inputs: expected a number, or one for each of 6 columns, got 'wide'"),
        ((np.nan, 1), "^shift of inputs: expected finite numbers, got NaN or infinity"),
        ((0, [1, 1, 0, 1, 1, 1]), "^scale of inputs: expected numbers other than 0, got 0 at 2. A constant column"),
        ((0, 1e-320), "^folded weights: expected finite float64 numbers, got others. Scales are too small or"),
    ],
)
def test_what_is_no_pair_is_refused(given, text):
    mlp = random_mlp(np.random.default_rng(0), hidden=(2,), chosen=False)
    with pytest.raises(pm.DataError, match=text):
        mlp.folded(inputs=given)


@pytest.mark.parametrize("loss", ["poisson", "cross_entropy", "binary_cross_entropy"])
def test_outputs_behind_a_link_are_refused(loss):
    mlp = random_mlp(np.random.default_rng(0), loss, 2)
    expected = f"^outputs: expected None for a loss that doesn't predict values as they are, got {loss}. Fold inputs"
    for model in (mlp, pm.Ensemble([mlp])):
        with pytest.raises(pm.DataError, match=expected):
            model.folded(outputs=(0.0, 2.0))


@pytest.mark.parametrize("loss", ["quantile", "one level", "gaussian_nll"])
def test_scales_below_zero_turn_no_quantiles_around(loss):
    with pytest.raises(pm.DataError, match="^scale of outputs: expected numbers above 0 for this loss, got -2"):
        random_mlp(np.random.default_rng(0), loss).folded(outputs=(0.0, -2.0))


@pytest.mark.usefixtures("own_formulas")
def test_of_registered_losses_inputs_can_be_folded_and_outputs_where_they_are_values():
    v, rng = pm.formulas.vocabulary, np.random.default_rng()

    def squares(raw, target):
        return v.mean_outputs((raw - target) * (raw - target)), 2.0 * (raw - target) / v.n_outputs(raw)

    def two_headed(raw, target):
        loss, slope = squares(raw[0], target)
        return loss, (slope, 0.0 * slope)

    pm.register_loss("plain", squares)
    pm.register_loss("linked", squares, link=lambda raw: v.exp(raw))
    pm.register_loss("two_headed", two_headed, heads=2)
    X = rows(rng, 10, np.float64)
    for name in ("plain", "linked", "two_headed"):
        mlp = random_mlp(rng, loss_object=pm.formulas.losses.LOSSES[name], hidden=(3,), activation="tanh")
        close(mlp.folded(inputs=(1.0, 2.0)).predict(X * 2 + 1), mlp.predict(X))
        if name == "plain":
            close(mlp.folded(outputs=(1.0, 2.0)).predict(X), mlp.predict(X) * 2 + 1)
        else:
            expected = "^(outputs: expected None for|loss: expected one with a built-in link)"
            with pytest.raises(pm.DataError, match=expected):
                mlp.folded(outputs=(1.0, 2.0))
