"""PyTorch's twins of the oracle: its activations, losses, networks and optimizers, in float64."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

import oracle
from conftest import requires
from loss_variants import heads, named
from oracle_problems import SAME, Problem, assert_same_arrays


def torch_in_float64() -> Iterator[ModuleType]:
    """PyTorch, for a fixture: meanwhile its default dtype is float64."""
    torch = requires("torch")
    # NAdam keeps a product of momenta in the default dtype.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


def torch_activation(torch: ModuleType, name: str) -> Any:
    nn = torch.nn

    def elementwise(function: Any) -> Any:
        module = nn.Identity()
        module.forward = function
        return module

    modules = {
        "identity": nn.Identity,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "selu": nn.SELU,
        "hardshrink": nn.Hardshrink,
        "mish": nn.Mish,
        "silu": nn.SiLU,
        # Up to its threshold PyTorch's is the function itself.
        "softplus": lambda: nn.Softplus(threshold=100.0),
        "softsign": nn.Softsign,
        "hard_tanh": nn.Hardtanh,
        # The slope of nn.Hardsigmoid is a sixth in float32, in every dtype.
        "hard_sigmoid": lambda: elementwise(lambda z: nn.functional.relu6(z + 3.0) / 6.0),
        "hard_swish": nn.Hardswish,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "sin": lambda: elementwise(torch.sin),
    }
    return modules[name]()


def torch_loss(torch: ModuleType, problem: Problem, raw: Any, y: np.ndarray) -> Any:
    """PyTorch's loss with the problem's parameters; those that it lacks are applied to targets and results."""
    name, parameters = named(problem.loss, problem.n_outputs)
    target, nn = torch.tensor(y), torch.nn
    smoothing = parameters.get("label_smoothing", 0.0)
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(label_smoothing=smoothing)(raw, target)
    by_head = raw.reshape(len(raw), -1, heads(problem.loss))
    if name == "quantile":
        levels = torch.tensor(parameters.get("levels", (0.1, 0.5, 0.9)), dtype=raw.dtype)
        missing = target[..., None] - by_head
        losses = torch.maximum(levels * missing, (levels - 1.0) * missing).mean(dim=2)
    elif name == "gaussian_nll":
        own = nn.GaussianNLLLoss(reduction="none", eps=1e-300)
        losses = own(by_head[..., 0], target, torch.exp(by_head[..., 1]))
    else:
        modules = {
            "squared_error": nn.MSELoss,
            "binary_cross_entropy": nn.BCEWithLogitsLoss,
            "absolute_error": nn.L1Loss,
            "huber": nn.HuberLoss,
            "poisson": nn.PoissonNLLLoss,
        }
        own_parameters = {"delta": parameters["delta"]} if "delta" in parameters else {}
        losses = modules[name](reduction="none", **own_parameters)(raw, target * (1.0 - smoothing) + smoothing / 2.0)
    weights = torch.tensor(parameters.get("output_weight", (1.0,) * problem.n_outputs), dtype=raw.dtype)
    return (losses * weights).sum() / (weights.sum() * len(raw))


def torch_twin(torch: ModuleType, problem: Problem, mlp: oracle.OracleMLP) -> Any:
    modules: list[Any] = []
    for k, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        linear = torch.nn.Linear(*w.shape, bias=problem.bias, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            if problem.bias:
                linear.bias.copy_(torch.from_numpy(b))
        modules.append(linear)
        if k < len(problem.hidden):
            name = problem.activation if isinstance(problem.activation, str) else problem.activation[k]
            modules.append(torch_activation(torch, name))
    return torch.nn.Sequential(*modules)


# Slots of the oracle and their names in PyTorch's optimizer state.
TORCH_SLOTS = {"momentum": "momentum_buffer", "m": "exp_avg", "v": "exp_avg_sq", "square": "square_avg"}

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"learning_rate": 0.02}),
    "sgd with decay": ("sgd", {"learning_rate": 0.02, "weight_decay": 0.1}),
    "momentum": ("sgd", {"learning_rate": 0.005, "momentum": 0.9, "weight_decay": 0.02}),
    "nesterov": ("sgd", {"learning_rate": 0.005, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    "adam": ("adam", {"learning_rate": 0.01}),
    "adam with decay": ("adam", {"learning_rate": 0.02, "beta1": 0.8, "beta2": 0.97, "eps": 1e-5, "weight_decay": 0.1}),
    "adamw": ("adamw", {"learning_rate": 0.02, "beta1": 0.85, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.2}),
    "rmsprop": ("rmsprop", {"learning_rate": 0.005, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
    "rmsprop with momentum": ("rmsprop", {"learning_rate": 0.002, "eps": 1e-4, "momentum": 0.8}),
    "nadam": ("nadam", {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.97, "eps": 1e-5, "momentum_decay": 0.1}),
    "nadam with decay": ("nadam", {"learning_rate": 0.01, "weight_decay": 0.1}),
    "defaults of rmsprop": ("rmsprop", {}),
    "defaults of nadam": ("nadam", {}),
    "defaults of sgd": ("sgd", {}),
    "defaults of adam": ("adam", {}),
    "defaults of adamw": ("adamw", {}),
}


def torch_optimizer(torch: ModuleType, twin: Any, optimizer: str, hyperparameters: dict[str, Any]) -> Any:
    """PyTorch's optimizer with its own defaults, decay kept from the biases by a parameter group."""
    given = dict(hyperparameters)
    keywords: dict[str, Any] = {}
    if "learning_rate" in given:
        keywords["lr"] = given.pop("learning_rate")
    elif optimizer == "sgd":
        # The library's default; PyTorch's is 0.001 since version 2.3.
        keywords["lr"] = 0.01
    if "beta1" in given:
        keywords["betas"] = (given.pop("beta1"), given.pop("beta2"))
    keywords.update(given)
    linears = [module for module in twin if isinstance(module, torch.nn.Linear)]
    groups: list[dict[str, Any]] = [{"params": [linear.weight for linear in linears]}]
    if linears[0].bias is not None:
        groups.append({"params": [linear.bias for linear in linears], "weight_decay": 0.0})
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "nadam": torch.optim.NAdam,
    }
    return kinds[optimizer](groups, **keywords)


def assert_same_as_twin(torch: ModuleType, mlp: oracle.OracleMLP, twin: Any, steps: Any) -> None:
    """Parameters, and those optimizer slots that PyTorch keeps (it has no momentum buffer without momentum)."""
    linears = [module for module in twin if isinstance(module, torch.nn.Linear)]
    for kind in ("weights", "biases") if linears[0].bias is not None else ("weights",):
        parameters = [linear.weight if kind == "weights" else linear.bias for linear in linears]
        assert_same_arrays(getattr(mlp, kind), [p.detach().numpy().T for p in parameters], **SAME)
        for name, slot in mlp.slots.items():
            theirs = [steps.state[p].get(TORCH_SLOTS[name]) for p in parameters]
            if theirs[0] is not None:
                assert_same_arrays(slot[kind], [t.numpy().T for t in theirs], **SAME)
            else:
                assert name == "momentum" and mlp.hyperparameters["momentum"] == 0.0
