"""Holds the oracle's activations, losses and gradients to PyTorch and finite differences."""

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
from loss_variants import VARIANTS, heads, named
from oracle_problems import Problem, assert_same_arrays, problems
from oracle_twins import torch_activation, torch_in_float64, torch_loss


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    yield from torch_in_float64()


# Central differences with this step err by about step² (truncation) + 1e-16 / step (cancellation).
STEP = 1e-5
NEARLY = {"rtol": 1e-5, "atol": 1e-7}
# Far enough that no parameter moved by STEP carries a pre-activation over a kink, at the activations drawn here.
CLEAR_OF_KINKS = 1e-3


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activations_equal_pytorchs(torch: ModuleType, name: str) -> None:
    kinks = [0.0, -0.0, 0.5, -0.5, np.nextafter(0.5, 1.0), np.nextafter(-0.5, -1.0), 5e-324, -5e-324]
    kinks += [1.0, -1.0, 3.0, -3.0]
    z = np.concatenate([np.linspace(-8.0, 8.0, 1001), kinks, [-800.0, -40.0, 40.0, 800.0]])
    function, derivative = oracle.ACTIVATIONS[name]
    tensor = torch.tensor(z, requires_grad=True)
    value = torch_activation(torch, name)(tensor)
    (slope,) = torch.autograd.grad(value.sum(), tensor)
    np.testing.assert_allclose(function(z), value.detach().numpy(), rtol=1e-12, atol=1e-15, strict=True)
    # PyTorch's 1 - tanh² cancels: by an eps, times up to 8 for z and 4 for the argument's slope.
    atol = 1e-14 if name == "gelu_tanh" else 1e-15
    np.testing.assert_allclose(derivative(z), slope.numpy(), rtol=1e-12, atol=atol, strict=True)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activations_keep_nan_and_their_argument(name: str) -> None:
    z = np.array([[np.nan, 1.0], [-1.0, np.nan]])
    before = z.copy()
    for function in oracle.ACTIVATIONS[name]:
        value = function(z)
        assert value.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(value), np.isnan(z), strict=True)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@given(problem=problems())
def test_losses_equal_pytorchs(torch: ModuleType, scale: float, problem: Problem) -> None:
    """At large logits too, where naive formulas overflow (warnings are errors)."""
    name, parameters = named(problem.loss, problem.n_outputs)
    # These take exponentials of logarithms: 1000 is out of their range.
    scale = min(scale, 30.0) if name in ("poisson", "gaussian_nll") else scale
    raw_outputs = problem.n_outputs * heads(problem.loss)
    raw = np.random.default_rng(problem.seed).normal(0.0, scale, (problem.rows, raw_outputs))
    _, y = problem.data()
    loss, gradient = oracle.LOSSES[name](raw, y, **parameters)
    tensor = torch.tensor(raw, requires_grad=True)
    expected = torch_loss(torch, problem, tensor, y)
    (slope,) = torch.autograd.grad(expected, tensor)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11, atol=1e-14, strict=True)


def test_losses_refuse_targets_that_do_not_fit() -> None:
    raw = np.zeros((3, 2))
    for name in ("squared_error", "binary_cross_entropy"):
        assert oracle.LOSSES[name](raw[:, :1], np.zeros(3))[1].shape == (3, 1)
        for y in (np.zeros(3), np.zeros((3, 1)), np.zeros((3, 3))):
            with pytest.raises(ValueError, match="don't fit"):
                oracle.LOSSES[name](raw, y)
    for labels in ([0, 1], [0, 1, 2], [0, 1, -1], [0.0, 1.0, 1.0], [[0], [1], [1]]):
        with pytest.raises(ValueError, match="labels must be"):
            oracle.LOSSES["cross_entropy"](raw, labels)


def central_differences(
    mlp: oracle.OracleMLP, X: np.ndarray, y: np.ndarray, parameters: list[np.ndarray], masks: Any = None
) -> list[np.ndarray]:
    slopes = []
    for parameter in parameters:
        slope = np.empty_like(parameter)
        for index, value in np.ndenumerate(parameter):
            parameter[index] = value + STEP
            above = mlp.loss(X, y, masks)
            parameter[index] = value - STEP
            below = mlp.loss(X, y, masks)
            parameter[index] = value
            slope[index] = (above - below) / (2.0 * STEP)
        slopes.append(slope)
    return slopes


def differences_are_slopes(problem: Problem, **options: float) -> bool:
    X, y = problem.data()
    mlp = problem.network(options=options)
    masks = mlp.masks(len(X), 0, 0)
    distance = mlp.smallest_kink_distance(X, masks)
    if mlp.loss_name in ("absolute_error", "quantile"):
        _, pre_activations = mlp._forward(X, masks)
        split, targets = oracle.in_heads(pre_activations[-1], y, heads(problem.loss))
        distance = min(distance, np.abs(split - targets).min())
    # A loss of exp(10) is rounded by more than small gradients are.
    tame = mlp.loss_name not in ("poisson", "gaussian_nll") or np.abs(mlp.forward(X)).max() < 3.0
    return bool(distance > CLEAR_OF_KINKS and tame)


def assert_gradients_are_slopes(problem: Problem, **options: float) -> None:
    mlp = problem.network(options=options)
    X, y = problem.data()
    masks = mlp.masks(len(X), 0, 0)
    weight_gradients, bias_gradients, scale_gradients = mlp.gradients(X, y, masks)
    assert_same_arrays(weight_gradients, central_differences(mlp, X, y, mlp.weights, masks), **NEARLY)
    if problem.bias:
        assert_same_arrays(bias_gradients, central_differences(mlp, X, y, mlp.biases, masks), **NEARLY)
    else:
        assert not any(gradient.any() for gradient in bias_gradients)
    assert_same_arrays(scale_gradients, central_differences(mlp, X, y, mlp.scales, masks), **NEARLY)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
@given(data=st.data())
def test_gradients_are_slopes_with_every_activation(name: str, data: st.DataObject) -> None:
    assert_gradients_are_slopes(data.draw(problems(activations=[name]).filter(differences_are_slopes)))


@pytest.mark.parametrize("name", VARIANTS)
@given(data=st.data())
def test_gradients_are_slopes_with_every_loss(name: str, data: st.DataObject) -> None:
    assert_gradients_are_slopes(data.draw(problems(losses=[name]).filter(differences_are_slopes)))


@given(problem=problems(), share=st.sampled_from([0.2, 0.6]), of_features=st.sampled_from([0.0, 0.3]))
def test_gradients_are_slopes_with_dropout(problem: Problem, share: float, of_features: float) -> None:
    options = {"dropout": share, "input_dropout": of_features}
    assume(differences_are_slopes(problem, **options))
    assert_gradients_are_slopes(problem, **options)


@given(problem=problems(), share=st.sampled_from([0.0, 0.3]), divided=st.booleans())
def test_gradients_are_slopes_with_feature_scales(problem: Problem, share: float, divided: bool) -> None:
    options = {"feature_scale": True, "input_dropout": share, "parametrization": "ntk" if divided else "standard"}
    assume(differences_are_slopes(problem, **options))
    assert_gradients_are_slopes(problem, **options)


def test_smallest_kink_distance() -> None:
    def distance(activation: str | tuple[str, ...], x: float) -> float:
        hidden = (1,) if isinstance(activation, str) else (1,) * len(activation)
        mlp = oracle.OracleMLP(hidden, activation, 1, 1, "squared_error", "sgd", {})
        mlp.set_state([np.ones((1, 1))] * len(mlp.weights))
        return mlp.smallest_kink_distance([[x], [10.0]])

    for name in ("relu", "leaky_relu", "selu"):
        assert distance(name, -0.25) == 0.25
    assert distance("hardshrink", 0.375) == 0.125
    assert distance("hardshrink", -0.75) == 0.25
    assert distance("hard_tanh", -0.75) == 0.25
    assert distance("hard_sigmoid", 2.5) == distance("hard_swish", -2.5) == 0.5
    smooth = ("identity", "sigmoid", "tanh", "elu", "gelu", "mish", "silu", "softplus", "softsign", "gelu_tanh", "sin")
    for name in (*smooth, ()):
        assert distance(name, 0.0) == math.inf
    assert distance(("relu", "hardshrink"), 0.4375) == 0.0625
    assert distance(("tanh", "relu"), 0.1) == math.tanh(0.1)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_kinks_are_where_the_derivative_jumps(name: str) -> None:
    _, derivative = oracle.ACTIVATIONS[name]
    z = np.linspace(-4.0, 4.0, 8001)
    jumps = np.abs(derivative(z + 1e-9) - derivative(z - 1e-9)) > 1e-3
    np.testing.assert_allclose(z[jumps], oracle.KINKS.get(name, ()), atol=1e-12)


def test_gradient_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem((3, 2), "tanh", 2, 2, "squared_error", True, 6, seed=3)
    assert_gradients_are_slopes(problem)
    function, derivative = oracle.ACTIVATIONS["tanh"]
    monkeypatch.setitem(oracle.ACTIVATIONS, "tanh", (function, lambda z: 1.001 * derivative(z)))
    with pytest.raises(AssertionError):
        assert_gradients_are_slopes(problem)
