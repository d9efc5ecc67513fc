"""Models out: what other systems say to the same rows is what pmlp_np says, for every activation and every loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from exported import METHODS, N_FEATURES, RUNNERS, assert_alike, close, needs, own, random_mlp, rows
from loss_variants import VARIANTS
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.models.export import python_formulas

TARGETS = pytest.mark.parametrize("target", RUNNERS)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SEEDS = st.integers(0, 2**32 - 1)
BUILT_IN = [name for name, entry in ACTIVATIONS.items() if not entry.registered]


def n_outputs_for(loss, rng):
    return int(rng.integers(2 if VARIANTS[loss][0] == "cross_entropy" else 1, 4))


@TARGETS
@DTYPES
@pytest.mark.parametrize("activation", BUILT_IN)
def test_every_activation(activation, dtype, target):
    needs(target)
    rng = np.random.default_rng()
    mlp = random_mlp(rng, n_outputs=3, activation=activation, dtype=dtype, hidden=(9, 7))
    X = rows(rng, 60, dtype)
    assert_alike(mlp, X, RUNNERS[target](mlp, X))


@DTYPES
@pytest.mark.parametrize("target", ["torch", "python"])
def test_an_activation_that_a_target_has_no_word_for_goes_by_its_steps(monkeypatch, dtype, target):
    """As one does that is new in activations.py: nothing else needs to change."""
    needs(target)
    if target == "torch":
        monkeypatch.setattr("pmlp_np.models.export.torch_module.ACTIVATIONS", {})
    else:
        monkeypatch.setattr("pmlp_np.models.export.to_python.NUMPY_FUNCTIONS", {})
        monkeypatch.setattr(python_formulas, "_TEXTS", {"sigmoid": python_formulas._TEXTS["sigmoid"]})
        monkeypatch.setattr(python_formulas, "NUMPY_FUNCTIONS", {})
    rng = np.random.default_rng()
    for activation in BUILT_IN:
        mlp = random_mlp(rng, n_outputs=3, activation=activation, dtype=dtype, hidden=(9, 7))
        X = rows(rng, 60, dtype)
        assert_alike(mlp, X, RUNNERS[target](mlp, X))


@pytest.mark.one_in(4)
@TARGETS
@DTYPES
@pytest.mark.parametrize("loss", VARIANTS)
def test_every_loss_alone_and_averaged(loss, dtype, target):
    needs(target)
    rng = np.random.default_rng()
    for n_outputs in {2, n_outputs_for(loss, rng), 1 if "cross-entropy" not in loss and loss != "cross_entropy" else 2}:
        mlps = [random_mlp(rng, loss, n_outputs, dtype=dtype) for _ in range(3)]
        X = rows(rng, 40, dtype)
        for model in (mlps[0], pm.Ensemble(mlps), pm.Ensemble(mlps, rng.random(3))):
            assert_alike(model, X, RUNNERS[target](model, X))


@TARGETS
@given(seed=SEEDS, loss=st.sampled_from(list(VARIANTS)), n_members=st.integers(0, 3), single=st.booleans())
def test_any_network(target, seed, loss, n_members, single):
    """Of any depth, biases, columns; alone (no members) or in an ensemble."""
    needs(target)
    rng = np.random.default_rng(seed)
    dtype, n_outputs = (np.float32 if single else np.float64), n_outputs_for(loss, rng)
    mlps = [random_mlp(rng, loss, n_outputs, dtype=dtype) for _ in range(max(n_members, 1))]
    model = pm.Ensemble(mlps, rng.random(n_members)) if n_members else mlps[0]
    X = rows(rng, 40, dtype)
    assert_alike(model, X, RUNNERS[target](model, X))


@TARGETS
@DTYPES
@pytest.mark.parametrize("activation", BUILT_IN)
def test_far_out_and_beside_numbers(activation, dtype, target):
    """z itself goes through: zeros, bends and their neighbors, the far ends, and NaN, which stays NaN."""
    needs(target)
    one, chosen = np.ones((1, 1), dtype), [0]
    mlp = pm.MLP([one, one], None, activation, features=chosen, n_columns=N_FEATURES)
    bends = np.array([0.0, 0.5, 1.0, 3.0, 18.0, 20.0, 38.0, 87.0, 89.0, 100.0, 710.0, 1e4], dtype)
    z = np.concatenate([np.nextafter(bends, -np.inf), bends, np.nextafter(bends, np.inf), np.arange(1, 40) / 8])
    if activation == "sin":
        z = z[z < 1e3]
    z = np.concatenate([z, -z, [np.nan]])
    X = np.zeros((len(z), N_FEATURES), dtype)
    X[:, 0] = z
    found, expected = RUNNERS[target](mlp, X)["predict"], mlp.predict(X)
    assert np.isnan(found[-1]) and np.isnan(expected[-1])
    assert np.isfinite(found[:-1]).all()
    # Relative to z, or absolute where z is below one.
    allowed = 8.0 * np.finfo(dtype).eps * np.maximum(1.0, np.abs(z[:-1]))
    assert (np.abs(found - expected)[:-1] <= allowed).all(), (np.abs(found - expected)[:-1] / allowed).max()


@TARGETS
@pytest.mark.parametrize("loss", VARIANTS)
def test_no_rows(loss, target):
    needs(target)
    rng = np.random.default_rng()
    model = pm.Ensemble([random_mlp(rng, loss, 2, "tanh", hidden=(3,)) for _ in range(2)])
    for each in (model, model.mlps[0]):
        X = np.zeros((0, N_FEATURES))
        found, expected = RUNNERS[target](each, X), own(each, X)
        assert {method: values.shape for method, values in found.items() if method in METHODS} == {
            method: values.shape for method, values in expected.items()
        }


def register_some():
    v = pm.formulas.vocabulary

    def every_word(z):
        size = v.absolute(z)
        small = v.where(size > 4.0, 4.0, size)
        ten = 10.0 * small
        total = v.exp(-size) + v.expm1(-size) + v.expm1(small) + v.expm1(ten) * v.exp(-ten)
        total = total + v.log(1.0 + size) + v.log1p(v.exp(-size))
        total = total + v.tanh(z) + v.sin(small) * v.cos(small) - v.sqrt(size + 1.0) / (2.0 + size)
        total = 0.7 * v.fma(v.sigmoid(z), v.reciprocal(1.0 + size), total)
        total = total + v.ones_like(z) * v.where(z < 0.0, z, 2.0 * z)
        total = total + v.where(z >= 1.0, 0.5, v.where(z <= -1.0, 0.2 * v.ones_like(z), 0.1))
        return total, v.ones_like(z)

    def square_plus(z):
        root = v.sqrt(z * z + 1.0)
        return 0.5 * (z + root), 0.5 + 0.5 * z / root

    pm.register_activation("square_plus", square_plus)
    pm.register_activation("itself", lambda z: (z, v.ones_like(z)))
    return every_word


@TARGETS
@DTYPES
@pytest.mark.usefixtures("own_formulas")
def test_registered_activations_go_along(dtype, target):
    needs(target)
    every_word = register_some()
    # Its derivative is a stand-in, which registration would refuse.
    ACTIVATIONS["every_word"] = ACTIVATIONS["square_plus"].__class__("every_word", every_word, (), registered=True)
    rng = np.random.default_rng()
    X = rows(rng, 60, dtype)
    for name in ("square_plus", "itself", "every_word"):
        # One layer of z itself, so that jumps are where z is 1.
        w = np.eye(N_FEATURES, dtype=dtype)
        mlp = pm.MLP([w, w], None, name)
        found, expected = RUNNERS[target](mlp, X)["predict"], mlp.predict(X)
        close(found, expected, 256.0 * np.finfo(dtype).eps * (1.0 + np.abs(X).max(axis=1)), np.ones(len(X), bool))
        assert np.ptp(expected) > 1.0


@TARGETS
@pytest.mark.usefixtures("own_formulas")
def test_registered_losses_are_read_by_known_links_only(target):
    needs(target)
    rng = np.random.default_rng()
    v = pm.formulas.vocabulary
    X = rows(rng, 30, np.float64)

    def squares(raw, target):
        return v.mean_outputs((raw - target) * (raw - target)), 2.0 * (raw - target) / v.n_outputs(raw)

    pm.register_loss("squares", squares)
    pm.register_loss("linked", squares, link=lambda raw: v.exp(raw))
    known = pm.formulas.losses.LOSSES
    pm.register_loss("own_probabilities", known["binary_cross_entropy"].formula, targets="probabilities")
    pm.register_loss("own_labels", known["cross_entropy"].formula, targets="labels")
    for name in ("squares", "own_probabilities", "own_labels"):
        mlps = [random_mlp(rng, n_outputs=3, loss_object=known[name]) for _ in range(2)]
        for model in (mlps[0], pm.Ensemble(mlps)):
            found, expected = RUNNERS[target](model, X), own(model, X)
            np.testing.assert_allclose(found["predict"], expected["predict"], rtol=1e-10, atol=1e-10)
    mlp = random_mlp(rng, loss_object=known["linked"])
    with pytest.raises(pm.DataError, match="^loss: expected one with a built-in link, got 'linked' with a custom"):
        RUNNERS[target](mlp, X)
