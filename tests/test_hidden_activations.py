"""Hidden activations of a member, and of a network by itself."""

import numpy as np
import pytest

import pmlp_np as pm
from monitored import validation
from pmlp_np.base.errors import free_memory
from small_pool import X, draw_y, pool_of


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", ["last", "best"])
def test_hidden_activations(dtype, weights):
    pool = pool_of(dtype=dtype)
    pool.fit(X, draw_y(), epochs=9, validation_data=validation(), early_stopping=True, patience=1)
    mlp = pool.extract(10, weights)
    first = np.tanh(X.astype(dtype) @ mlp.weights[0] + mlp.biases[0])
    second = np.maximum(first @ mlp.weights[1] + mlp.biases[1], 0)
    rounding = 1e-5 if dtype == "float32" else 1e-13
    for layer, expected in ((0, first), (-2, first), (1, second), (-1, second)):
        found = pool.hidden(X, 10, layer, weights)
        assert found.dtype == dtype and found.shape == (len(X), expected.shape[1])
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)
        assert np.array_equal(found, mlp.hidden_activations(X, layer))
    assert np.array_equal(pool.hidden(X, 10, weights=weights), pool.hidden(X, 10, -1, weights))
    np.testing.assert_allclose(second @ mlp.weights[2] + mlp.biases[2], mlp.forward(X), rtol=rounding, atol=rounding)
    assert np.array_equal(pool.hidden(X, 10), pool.hidden(X, 10, weights="best"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((X, 99), r"^members: expected ids of this pool"),
        ((X, 7), r"^layer of member 7: expected a network with hidden layers, got one without"),
        ((X, 10, 2), r"^layer of member 10: expected a whole number from -2 to 1, got 2"),
        ((X, 10, -3), r"^layer of member 10: expected a whole number from -2 to 1, got -3"),
        ((X, 10, 0.5), r"^layer of member 10: expected a whole number from -2 to 1, got 0\.5"),
        ((X, 10, True), r"^layer of member 10: expected a whole number from -2 to 1, got True"),
        ((X[:, 1:], 10), r"^X: expected 4 features"),
        ((X, 10, 0, "best"), r"^weights: expected 'last', got 'best'"),
    ],
)
def test_hidden_activations_that_do_not_exist_are_refused(arguments, text):
    with pytest.raises(pm.DataError, match=text):
        pool_of().hidden(*arguments)


def test_a_standalone_network_refuses_them_as_well():
    mlp = pool_of().extract(10)
    with pytest.raises(pm.DataError, match=r"^layer: expected a whole number from -2 to 1, got 5"):
        mlp.hidden_activations(X, 5)
    with pytest.raises(pm.DataError, match=r"^X: expected shape \(n_samples, 4\)"):
        mlp.hidden_activations(X[0])


def test_hidden_activations_that_do_not_fit_memory_are_refused(monkeypatch):
    monkeypatch.setattr("pmlp_np.base.errors.SMALL_NEED", 0)
    monkeypatch.setattr("pmlp_np.base.errors.free_memory", lambda: 3999)
    assert free_memory() > 3999
    with pytest.raises(pm.MemoryNeededError, match=r"^result: .* got a need of 4\.0 kB"):
        pool_of().subset([30]).hidden(X, 30)
