"""The standalone member: plain NumPy's numbers, a file that keeps every bit, and no need for anything but NumPy."""

import subprocess
import sys

import numpy as np
import pytest

import oracle
import pmlp_np as pm
from pmlp_np.formulas.activations import ACTIVATIONS

LOSSES = ("squared_error", "binary_cross_entropy", "cross_entropy")


def network(hidden=(5, 4), n_features=3, n_outputs=2, dtype=np.float64, bias=True, **settings):
    draw = np.random.default_rng(0)
    widths = (n_features, *hidden, n_outputs)
    weights = [draw.normal(size=shape).astype(dtype) for shape in zip(widths[:-1], widths[1:], strict=True)]
    biases = [draw.normal(size=w.shape[1]).astype(dtype) for w in weights] if bias else None
    return pm.MLP(weights, biases, **settings)


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(20, 3))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, ("relu", "tanh")])
def test_forward_is_plain_numpy(x, activation, bias):
    mlp = network(activation=activation, bias=bias)
    names = (activation,) * 2 if isinstance(activation, str) else activation
    a = x
    for k, name in enumerate(names):
        a = oracle.ACTIVATIONS[name][0](a @ mlp.weights[k] + (mlp.biases[k] if bias else 0))
    expected = a @ mlp.weights[2] + (mlp.biases[2] if bias else 0)
    np.testing.assert_allclose(mlp.forward(x), expected, rtol=1e-12, atol=1e-12)
    assert mlp.activation == names


def test_without_hidden_layers_it_is_linear(x):
    mlp = network(hidden=())
    assert mlp.hidden == () and mlp.activation == ()
    np.testing.assert_allclose(mlp.forward(x), x @ mlp.weights[0] + mlp.biases[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_computes_in_the_dtype_of_its_weights(x, dtype):
    mlp = network(dtype=dtype, loss="cross_entropy", activation="gelu")
    assert mlp.dtype == dtype
    for data in (x, x.astype(np.float32), x.astype(int), x.tolist(), np.asfortranarray(x)):
        assert mlp.forward(data).dtype == dtype
        assert mlp.predict_proba(data).dtype == dtype
    assert mlp.predict(x).dtype == np.int64


def test_whole_numbers_become_float64():
    assert pm.MLP([np.ones((2, 1), int)]).dtype == np.float64


def test_weights_are_copies():
    w = np.ones((2, 1))
    mlp = pm.MLP([w], [np.zeros(1)])
    w[:] = 7
    assert mlp.weights[0].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_regression(x, n_outputs):
    mlp = network(n_outputs=n_outputs)
    expected = mlp.forward(x)[:, 0] if n_outputs == 1 else mlp.forward(x)
    assert np.array_equal(mlp.predict(x), expected)
    with pytest.raises(pm.DataError, match="^loss: expected one that defines probabilities, got 'squared_error'"):
        mlp.predict_proba(x)


def test_classification(x):
    mlp = network(n_outputs=4, loss="cross_entropy")
    raw = mlp.forward(x)
    exponentials = np.exp(raw)
    np.testing.assert_allclose(mlp.predict_proba(x), exponentials / exponentials.sum(axis=1, keepdims=True))
    assert np.array_equal(mlp.predict(x), raw.argmax(axis=1))


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_labels(x, n_outputs):
    mlp = network(n_outputs=n_outputs, loss="binary_cross_entropy")
    raw = mlp.forward(x)
    np.testing.assert_allclose(mlp.predict_proba(x), 1 / (1 + np.exp(-raw)))
    expected = (raw > 0).astype(np.int64)
    found = mlp.predict(x)
    assert found.dtype == np.int64
    assert np.array_equal(found, expected[:, 0] if n_outputs == 1 else expected)


def test_what_it_says_about_itself():
    mlp = network(hidden=(5, 4), dtype=np.float32)
    assert (mlp.n_features, mlp.hidden, mlp.n_raw_outputs) == (3, (5, 4), 2)
    assert mlp.n_parameters() == 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2
    assert repr(mlp) == "MLP(3-5-4-2, relu, squared_error, 54 parameters, float32)"
    mixed = network(activation=("tanh", "relu"), loss="cross_entropy", bias=False)
    assert repr(mixed) == "MLP(3-5-4-2, tanh/relu, no bias, cross_entropy, 43 parameters, float64)"
    assert repr(network(hidden=())) == "MLP(3-2, linear, squared_error, 8 parameters, float64)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [(), (5, 4), (2,) * 11])
def test_files_keep_every_bit(tmp_path, x, hidden, bias, dtype):
    activation = [("relu", "tanh")[k % 2] for k in range(len(hidden))]
    mlp = network(hidden=hidden, bias=bias, dtype=dtype, activation=activation, loss="cross_entropy")
    mlp.save(tmp_path / "one.pmlp")
    again = pm.MLP.load(tmp_path / "one.pmlp")
    assert repr(again) == repr(mlp)
    assert (again.activation, again.loss, again.bias, again.dtype) == (mlp.activation, mlp.loss, mlp.bias, mlp.dtype)
    for a, b in zip(again.weights + again.biases, mlp.weights + mlp.biases, strict=True):
        assert a.tobytes() == b.tobytes() and a.shape == b.shape
    assert np.array_equal(again.forward(x), mlp.forward(x))


def test_numba_is_not_needed(tmp_path):
    """In a process where Numba and llvmlite can't be imported at all."""
    network(loss="cross_entropy").save(tmp_path / "one.pmlp")
    script = f"""
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import numpy as np
import pmlp_np as pm
mlp = pm.MLP.load({str(tmp_path / "one.pmlp")!r})
print(mlp.predict(np.ones((2, 3))).tolist(), mlp.predict_proba(np.ones((2, 3))).shape)
pm.MLP([np.ones((3, 4)), np.ones((4, 1))], activation="gelu").save({str(tmp_path / "two.pmlp")!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    label = int(network(loss="cross_entropy").predict(np.ones((1, 3)))[0])
    assert done.stdout.strip() == f"[{label}, {label}] (2, 2)"
    assert pm.MLP.load(tmp_path / "two.pmlp").activation == ("gelu",)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([],), "^weights: expected at least one matrix, got none"),
        (([np.ones(3)],), r"^weights\[0\]: expected shape \(fan_in, fan_out\), got \(3,\)"),
        (([np.float64(3.0)],), r"^weights\[0\]: expected shape \(fan_in, fan_out\), got \(\)"),
        (([np.ones((3, 2)), np.ones((3, 1))],), r"^weights\[1\]: expected shape \(2, fan_out\), got \(3, 1\)"),
        (([np.ones((3, 2))], [np.ones(3)]), r"^biases\[0\]: expected shape \(2,\), got \(3,\)"),
        (([np.ones((3, 2))], []), r"^biases: expected one vector per layer \(1\), got 0"),
        (([np.ones((3, 2)), np.ones((2, 1))], None, "rleu"), "^activation: expected one of .* Did you mean 'relu'"),
        (([np.ones((3, 2)), np.ones((2, 1))], None, 5), "^activation: expected one of .*, got 5"),
        (([np.ones((3, 2)), np.ones((2, 1))], None, [["relu"]]), r"^activation: expected one of .*, got \['relu'\]"),
        (([np.ones((3, 2)), np.ones((2, 1))], None, ("relu",) * 2), "^activation: expected one name per hidden layer"),
        (([np.ones((3, 2))], None, "relu", "squared"), "^loss: expected one of .* Did you mean 'squared_error'"),
        (([np.ones((3, 2))], None, "relu", 5), "^loss: expected one of .*, got 5"),
    ],
)
def test_bad_networks_are_refused(arguments, text):
    with pytest.raises(pm.DataError, match=text):
        pm.MLP(*arguments)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1)])
def test_data_of_another_shape_are_refused(shape):
    with pytest.raises(pm.DataError, match=r"^X: expected shape \(n_samples, 3\), got "):
        network().forward(np.zeros(shape))


@pytest.mark.parametrize("loss", LOSSES)
def test_no_rows_give_no_predictions(loss):
    assert network(loss=loss).predict(np.zeros((0, 3))).shape[0] == 0


def test_features_beyond_the_dtype_become_infinite_without_a_warning():
    mlp = network(dtype=np.float32, activation="tanh")
    x = np.array([[1e300, 0.0, 0.0], [0.1, -1e39, 0.2], [1.0, 2.0, 3.0]])
    with np.errstate(over="ignore"):
        expected = mlp.forward(x.astype(np.float32))
    assert np.array_equal(mlp.forward(x), expected) and np.isfinite(expected).all()
    infinite = np.float32([[np.inf, 0, 0], [0.1, -np.inf, 0.2], [1, 2, 3]])
    assert np.array_equal(mlp.hidden_activations(x), mlp.hidden_activations(infinite))
