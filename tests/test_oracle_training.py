"""Holds the oracle's training to PyTorch, scikit-learn and worked examples."""

import math
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
from conftest import requires
from oracle_problems import DIVERGING, SAME, Problem, assert_same_arrays, problems
from oracle_twins import OPTIMIZERS, assert_same_as_twin, torch_in_float64, torch_loss, torch_optimizer, torch_twin


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    yield from torch_in_float64()


@pytest.fixture(scope="module")
def neural_network() -> ModuleType:
    return requires("sklearn.neural_network")


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(problem=problems(), batch_size=st.integers(1, 9))
def test_training_equals_pytorchs(torch: ModuleType, name: str, problem: Problem, batch_size: int) -> None:
    optimizer, hyperparameters = OPTIMIZERS[name]
    mlp = problem.network(optimizer, **hyperparameters)
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, optimizer, hyperparameters)
    X, y = problem.data()
    inputs = torch.tensor(X)
    np.testing.assert_allclose(mlp.forward(X), twin(inputs).detach().numpy(), **SAME, strict=True)
    history = mlp.train(X, y, epochs=3, batch_size=batch_size, shuffle_key=problem.seed)
    assume(all(loss < DIVERGING for loss in history))
    for epoch, loss in enumerate(history):
        losses = []
        for rows in torch.tensor(oracle.shuffled_order(problem.seed, epoch, len(X))).split(batch_size):
            steps.zero_grad()
            batch_loss = torch_loss(torch, problem, twin(inputs[rows]), y[rows.numpy()])
            batch_loss.backward()
            steps.step()
            losses.append(batch_loss.item())
        assert loss == pytest.approx(float(np.mean(losses)), rel=1e-8, abs=1e-10)
    assert_same_as_twin(torch, mlp, twin, steps)
    assert mlp.loss(X, y) == pytest.approx(torch_loss(torch, problem, twin(inputs), y).item(), rel=1e-8, abs=1e-10)


SKLEARN_ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


def sklearn_twin(neural_network: ModuleType, problem: Problem, mlp: oracle.OracleMLP, learning_rate: float) -> Any:
    """scikit-learn's network with the same parameters, ready for steps of plain SGD on all rows at once."""
    kind = neural_network.MLPRegressor if problem.loss == "squared_error" else neural_network.MLPClassifier
    twin = kind(
        hidden_layer_sizes=problem.hidden,
        activation=SKLEARN_ACTIVATIONS[str(problem.activation)],
        solver="sgd",
        alpha=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
        learning_rate_init=learning_rate,
        batch_size=problem.rows,
        shuffle=False,
    )
    X, y = problem.data()
    # The first call makes the arrays that the next lines replace.
    if problem.loss == "squared_error":
        twin.partial_fit(X, sklearn_targets(y))
    else:
        twin.partial_fit(X, sklearn_targets(y), classes=np.arange(max(2, problem.n_outputs)))
    twin.coefs_ = [w.copy() for w in mlp.weights]
    twin.intercepts_ = [b.copy() for b in mlp.biases]
    return twin


def sklearn_targets(y: np.ndarray) -> np.ndarray:
    return y[:, 0] if y.shape[1:] == (1,) else y


def links(problem: Problem, raw: np.ndarray) -> np.ndarray:
    """Raw outputs as scikit-learn returns them: values, or probabilities."""
    if problem.loss == "squared_error":
        return sklearn_targets(raw)
    if problem.loss == "cross_entropy":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    p = 1.0 / (1.0 + np.exp(-raw))
    return np.hstack([1.0 - p, p]) if problem.n_outputs == 1 else p


@pytest.mark.parametrize("name", ["squared_error", "binary_cross_entropy", "cross_entropy"])
@given(data=st.data())
def test_one_step_equals_scikit_learns(neural_network: ModuleType, name: str, data: st.DataObject) -> None:
    """One partial_fit from the same parameters.

    scikit-learn halves the squared error. That it averages over outputs, as we do, but not its gradient; log loss it
    sums over outputs, with its gradient.
    """
    # With fewer than three classes scikit-learn has one logistic output.
    n_outputs = data.draw(st.integers(3 if name == "cross_entropy" else 1, 4))
    problem = replace(data.draw(problems(losses=[name])), n_outputs=n_outputs, bias=True)
    problem = replace(problem, activation=data.draw(st.sampled_from(list(SKLEARN_ACTIVATIONS))))
    loss_ratio = {"squared_error": 0.5, "binary_cross_entropy": n_outputs, "cross_entropy": 1.0}[name]
    gradient_ratio = {"squared_error": 0.5 * n_outputs, "binary_cross_entropy": n_outputs, "cross_entropy": 1.0}[name]

    mlp = problem.network("sgd", learning_rate=0.1)
    twin = sklearn_twin(neural_network, problem, mlp, learning_rate=0.1 / gradient_ratio)
    X, y = problem.data()
    raw = mlp.forward(X)
    # Its log loss is of probabilities, cut off at 2e-16; ours is of raw outputs and has no limit.
    assume(name == "squared_error" or np.abs(raw).max() < 12.0)
    predictions = twin.predict(X) if name == "squared_error" else twin.predict_proba(X)
    np.testing.assert_allclose(links(problem, raw), predictions, **SAME, strict=True)

    loss = mlp.step(X, y)
    twin.partial_fit(X, sklearn_targets(y))
    assert twin.loss_curve_[-1] == pytest.approx(loss * loss_ratio, rel=1e-8, abs=1e-10)
    assert_same_arrays(mlp.weights, twin.coefs_, **SAME)
    assert_same_arrays(mlp.biases, twin.intercepts_, **SAME)


@given(problem=problems(), batch_size=st.integers(1, 9), key=st.none() | st.integers(0, 2**64 - 1))
def test_train_is_steps_in_order_and_can_go_on(problem: Problem, batch_size: int, key: int | None) -> None:
    X, y = problem.data()
    whole, parts, by_hand = (problem.network("adam", learning_rate=0.02) for _ in range(3))
    history = whole.train(X, y, 3, batch_size, key)
    assert history == [*parts.train(X, y, 2, batch_size, key), *parts.train(X, y, 1, batch_size, key, first_epoch=2)]
    for epoch in range(3):
        order = np.arange(len(X)) if key is None else oracle.shuffled_order(key, epoch, len(X))
        losses = []
        while len(order):
            losses.append(by_hand.step(X[order[:batch_size]], y[order[:batch_size]]))
            order = order[batch_size:]
        assert history[epoch] == pytest.approx(np.mean(losses), rel=1e-14)
    assert whole.step_count == parts.step_count == by_hand.step_count == 3 * math.ceil(len(X) / batch_size)
    for other in (parts, by_hand):
        assert_same_arrays(other.weights + other.biases, whole.weights + whole.biases, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("optimizer", oracle.OPTIMIZERS)
def test_state_can_be_carried_over(optimizer: str) -> None:
    problem = Problem((3, 2), "tanh", 4, 2, "squared_error", True, 6, seed=5)
    X, y = problem.data()
    hyperparameters = {"momentum": 0.9} if optimizer == "sgd" else {}
    first = problem.network(optimizer, **hyperparameters)
    first.train(X, y, 2, 4)
    second = problem.network(optimizer, **hyperparameters)
    second.set_state(first.weights, first.biases, first.slots, first.step_count)
    expected = [first.step(X, y), first.step(X, y)]
    assert [second.step(X, y), second.step(X, y)] == expected
    assert_same_arrays(second.weights + second.biases, first.weights + first.biases, rtol=0.0, atol=0.0)


def test_set_state_casts_copies_and_checks() -> None:
    mlp = oracle.OracleMLP((2,), "relu", 3, 1, "squared_error", "adam", {})
    weights = [np.ones((3, 2), dtype=np.float32), np.ones((2, 1), dtype=np.float32)]
    mlp.set_state(weights, slots={"v": {"weights": weights, "biases": [np.ones(2), np.ones(1)]}}, step_count=4)
    for array in (*mlp.weights, *mlp.slots["v"]["weights"]):
        assert array.dtype == np.float64
    mlp.step(np.ones((2, 3), dtype=np.float32), np.zeros(2, dtype=np.float32))
    assert mlp.weights[0].dtype == np.float64 and mlp.step_count == 5
    assert all(np.all(w == 1.0) for w in weights)
    with pytest.raises(ValueError, match="expected arrays of shapes"):
        mlp.set_state([w.T for w in weights])
    with pytest.raises(ValueError, match="expected arrays of shapes"):
        mlp.set_state(weights, [np.ones(2)])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_absent_biases_stay_zero(name: str) -> None:
    optimizer, hyperparameters = OPTIMIZERS[name]
    problem = Problem((3, 2), "sigmoid", 4, 2, "squared_error", False, 6, seed=7)
    # Without eps Adam makes 0/0 of a zero gradient.
    without_eps = {} if optimizer == "sgd" else {"eps": 0.0}
    mlp = problem.network(optimizer, **{**hyperparameters, **without_eps})
    mlp.train(*problem.data(), epochs=3, batch_size=4)
    assert [b.shape for b in mlp.biases] == [(3,), (2,), (2,)]
    assert not any(b.any() for b in mlp.biases)


def test_divergence_is_silent_and_ends_in_nan() -> None:
    problem = Problem((3,), "relu", 2, 1, "squared_error", True, 6, seed=3)
    mlp = problem.network("sgd", learning_rate=1e6)
    history = mlp.train(*problem.data(), epochs=40, batch_size=2)
    assert math.isnan(history[-1])
    assert np.isnan(mlp.forward(problem.data()[0])).any()


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="one per hidden layer"):
        oracle.OracleMLP((2, 2), ("relu",), 3, 1, "squared_error", "adam", {})
    with pytest.raises(ValueError, match="adam has no"):
        oracle.OracleMLP((2,), "relu", 3, 1, "squared_error", "adam", {"momentum": 0.9})


def test_comparisons_can_fail(torch: ModuleType) -> None:
    arrays = [np.ones((2, 3)), np.ones(3)]
    a_little_off = np.array([1.0, 1.0, 1.0 + 1e-7])
    for wrong in ([arrays[0]], [arrays[0], np.ones(1)], [arrays[0], a_little_off], [arrays[0], np.full(3, np.nan)]):
        with pytest.raises(AssertionError):
            assert_same_arrays(wrong, arrays, **SAME)

    problem = Problem((3,), "tanh", 2, 2, "squared_error", True, 6, seed=3)
    X, y = problem.data()
    mlp = problem.network("adam")
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, "adam", {})
    torch_loss(torch, problem, twin(torch.tensor(X)), y).backward()
    steps.step()
    mlp.step(X, y)
    assert_same_as_twin(torch, mlp, twin, steps)
    for arrays in (mlp.weights, mlp.biases, mlp.slots["m"]["weights"], mlp.slots["v"]["biases"]):
        arrays[1].flat[-1] += 1e-6
        with pytest.raises(AssertionError):
            assert_same_as_twin(torch, mlp, twin, steps)
        arrays[1].flat[-1] -= 1e-6
