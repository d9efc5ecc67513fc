"""Holds the oracle's options of steps to autograd and PyTorch: penalties, rates, dropout, clipping, averages."""

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracle
from oracle_problems import DIVERGING, SAME, Problem, assert_same_arrays, problems
from oracle_twins import OPTIMIZERS, assert_same_as_twin, torch_in_float64, torch_loss, torch_optimizer, torch_twin


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    yield from torch_in_float64()


class Divided:
    """A layer whose weights are divided by the root of their fan-in."""

    def __init__(self, torch: ModuleType, weights: np.ndarray, biases: np.ndarray) -> None:
        self.weight = torch.nn.Parameter(torch.tensor(weights))
        self.bias = torch.nn.Parameter(torch.tensor(biases))
        self.root = math.sqrt(len(weights))

    def __call__(self, x: Any) -> Any:
        return x @ self.weight / self.root + self.bias


@pytest.mark.parametrize("optimizer", oracle.OPTIMIZERS)
@given(
    seed=st.integers(0, 2**32 - 1),
    decay_biases=st.booleans(),
    depth=st.integers(0, 2),
    limit=st.sampled_from([0.0, 0.3, 3.0]),
    scaled=st.booleans(),
)
def test_options_of_steps_by_autograd(
    torch: ModuleType, optimizer: str, seed: int, decay_biases: bool, depth: int, limit: float, scaled: bool
) -> None:
    """Penalties as terms of the loss, divided weights in the forward pass, learning rates in parameter groups; what is
    clipped is the gradient without penalties, by the weights that are trained."""
    options = {
        "l1": 0.05, "decoupled_weight_decay": 0.3, "decay_biases": decay_biases, "bias_rate_factor": 0.5,
        "first_layer_rate_factor": 3.0, "last_layer_rate_factor": 0.25, "parametrization": "ntk", "clip_norm": limit,
        "feature_scale": scaled, "feature_scale_rate_factor": 6.0,
    }  # fmt: skip
    rate, l2 = 0.01, 0.1
    hyperparameters = {"learning_rate": rate} | ({} if optimizer == "adamw" else {"weight_decay": l2})
    mlp = oracle.OracleMLP((4,) * depth, "tanh", 3, 2, "squared_error", optimizer, hyperparameters, options=options)
    rng = np.random.default_rng(seed)
    mlp.set_state([rng.normal(size=w.shape) for w in mlp.weights], [rng.normal(size=b.shape) for b in mlp.biases])
    layers = [Divided(torch, w, b) for w, b in zip(mlp.weights, mlp.biases, strict=True)]
    groups = []
    for k, layer in enumerate(layers):
        factor = (3.0 if k == 0 and depth else 1.0) * (0.25 if k == depth else 1.0)
        decay = {"weight_decay": 0.01} if optimizer == "adamw" else {}
        groups.append({"params": [layer.weight], "lr": rate * factor, **decay})
        no_decay = {} if decay_biases else {"weight_decay": 0.0}
        groups.append({"params": [layer.bias], "lr": rate * factor * 0.5, **decay, **no_decay})
    scales = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    if scaled:
        groups.append({"params": [scales], "lr": rate * 6.0, "weight_decay": 0.0})
    kinds = {name.lower(): name for name in dir(torch.optim)}
    steps = getattr(torch.optim, kinds[optimizer])(groups, lr=rate)
    X, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    decaying = [layer.weight for layer in layers] + [layer.bias for layer in layers if decay_biases]
    for _ in range(3):
        mlp.step(X, y)
        out = torch.tensor(X) * scales
        for k, layer in enumerate(layers):
            out = layer(out) if k == depth else torch.tanh(layer(out))
        steps.zero_grad()
        torch.nn.functional.mse_loss(out, torch.tensor(y)).backward()
        if limit:
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], limit)
        penalty = sum(0.05 * p.abs().sum() for p in decaying)
        if optimizer != "adamw":
            penalty = penalty + sum(0.5 * l2 * (p**2).sum() for p in decaying)
        penalty.backward()
        before = [p.detach().clone() for p in decaying]
        steps.step()
        with torch.no_grad():
            for p, old in zip(decaying, before, strict=True):
                (group,) = (group for group in steps.param_groups if group["params"][0] is p)
                p -= group["lr"] * 0.3 * old
    assert_same_arrays(mlp.weights, [layer.weight.detach().numpy() for layer in layers], **SAME)
    assert_same_arrays(mlp.biases, [layer.bias.detach().numpy() for layer in layers], **SAME)
    assert_same_arrays(mlp.scales, [scales.detach().numpy()], **SAME)
    divided = [w / math.sqrt(len(w)) for w in mlp.weights]
    assert_same_arrays(mlp.divided_weights, divided, rtol=0.0, atol=0.0)
    divided[0] = divided[0] * mlp.scales[0][:, None]
    assert_same_arrays(mlp.effective_weights, divided, rtol=0.0, atol=0.0)


def test_how_near_a_penalized_parameter_came_to_zero() -> None:
    hyperparameters = {"learning_rate": 1.0}
    mlp = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", hyperparameters, options={"l1": 1.0})
    X, y = np.zeros((1, 1)), np.zeros(1)
    seen = []
    for weight in (2.0, 1.0, 5.0):
        mlp.set_state([[[weight]]])
        mlp.step(X, y)
        seen.append((mlp.weights[0].item(), mlp.nearest_zero))
    assert seen == [(1.0, 1.0 / 3.0), (0.0, 0.0), (4.0, 0.0)]
    plain = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", hyperparameters)
    plain.step(X, y)
    assert plain.nearest_zero == math.inf


def test_learning_rates_fall_on_a_plateau() -> None:
    options = {"plateau_patience": 2.0, "plateau_factor": 0.5}
    mlp = oracle.OracleMLP((), "tanh", 1, 1, "squared_error", "sgd", {}, options=options)
    seen = []
    for loss in (5.0, 4.0, 4.0, 4.5, 3.0, 3.0, math.nan, 3.5, 3.0, 2.0):
        mlp.watch(loss)
        seen.append(mlp.rate_factor)
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


REGULARIZED: dict[str, dict[str, float]] = {
    "dropout": {"dropout": 0.3, "input_dropout": 0.2},
    "clipping": {"clip_norm": 0.2},
    "averages": {"average": 0.7},
    "all": {"dropout": 0.5, "input_dropout": 0.1, "clip_norm": 1.0, "average": 0.9},
}


def torch_raw(torch: ModuleType, twin: Any, inputs: Any, masks: Any) -> Any:
    """The twin's raw outputs with given masks in the place of torch.nn.Dropout, which draws its own."""
    factors = [torch.from_numpy(mask) for mask in masks or []]
    a = inputs * factors[0] if factors else inputs
    layer = 0
    for module in twin:
        a = module(a)
        if factors and not isinstance(module, torch.nn.Linear):
            layer += 1
            a = a * factors[layer]
    return a


@pytest.mark.parametrize("name", REGULARIZED)
@pytest.mark.parametrize("optimizer", ["sgd with decay", "adam with decay"])
@given(problem=problems(), batch_size=st.integers(1, 9))
def test_regularized_training_equals_pytorchs(
    torch: ModuleType, optimizer: str, name: str, problem: Problem, batch_size: int
) -> None:
    kind, hyperparameters = OPTIMIZERS[optimizer]
    mlp = problem.network(kind, REGULARIZED[name], **hyperparameters)
    twin = torch_twin(torch, problem, mlp)
    steps = torch_optimizer(torch, twin, kind, hyperparameters)
    decay, limit = (REGULARIZED[name].get(option, 0.0) for option in ("average", "clip_norm"))
    averaged = torch.optim.swa_utils.AveragedModel(twin, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay))
    X, y = problem.data()
    inputs = torch.tensor(X)
    history = mlp.train(X, y, epochs=3, batch_size=batch_size, shuffle_key=problem.seed)
    assume(all(loss < DIVERGING for loss in history))
    for epoch, loss in enumerate(history):
        losses = []
        order = oracle.shuffled_order(problem.seed, epoch, len(X))
        for place in range(0, len(X), batch_size):
            rows = order[place : place + batch_size]
            masks = mlp.masks(len(rows), epoch, place)
            steps.zero_grad()
            batch_loss = torch_loss(torch, problem, torch_raw(torch, twin, inputs[rows], masks), y[rows])
            batch_loss.backward()
            if limit:
                torch.nn.utils.clip_grad_norm_(twin.parameters(), limit)
            steps.step()
            averaged.update_parameters(twin)
            losses.append(batch_loss.item())
        assert loss == pytest.approx(float(np.mean(losses)), rel=1e-8, abs=1e-10)
    assert_same_as_twin(torch, mlp, twin, steps)
    linears = [module for module in averaged.module if isinstance(module, torch.nn.Linear)]
    theirs = [linear.weight for linear in linears] + [linear.bias for linear in linears if problem.bias]
    ours = mlp.averages if problem.bias else mlp.averages[: len(linears)]
    assert_same_arrays(ours, [parameter.detach().numpy().T for parameter in theirs], **SAME)
    # Without dropout.
    assert mlp.loss(X, y) == pytest.approx(torch_loss(torch, problem, twin(inputs), y).item(), rel=1e-8, abs=1e-10)
