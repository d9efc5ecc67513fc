"""Networks as PyTorch modules. This file needs PyTorch alone: a copy of it builds the modules without pmlp_np.

A module's `settings` are the arguments it was built from, as plain values:

    torch.save({"settings": module.settings, "state": module.state_dict()}, "model.pt")

    saved = torch.load("model.pt")
    module = Model(**saved["settings"]);  module.load_state_dict(saved["state"])
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn


class Sine(nn.Module):
    """Activation sin z."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sin(z)


# The function of each step of a formula on tensors. The words are those of formulas/interpreter.py, which this file
# can't import: it works without pmlp_np.
_STEPS: dict[str, Any] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "where": torch.where,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "sqrt": torch.sqrt,
    "absolute": torch.abs,
    "ones_like": torch.ones_like,
    "reciprocal": torch.reciprocal,
    "sigmoid": torch.sigmoid,
    "fma": lambda a, b, c: a * b + c,
    "power": torch.pow,
    # Axis 0 is that of the networks of a mean.
    "sum_outputs": lambda x: x.sum(0),
    "max_outputs": lambda x: x.amax(0),
}


def results_of(formula: Any, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the results of a formula for these inputs.

    formula: {"inputs": their number, "steps": [(word, arguments), ...], "results": [...]}. Arguments and results that
        are int are indices of values: first the inputs, then the values of the steps. A float is a constant.
    """
    values = list(inputs)
    assert len(values) == formula["inputs"]
    for word, arguments in formula["steps"]:
        # Constants are tensors of the inputs' dtype: a step of two plain numbers would be float32.
        operands = [values[a] if isinstance(a, int) else torch.tensor(a, dtype=inputs[0].dtype) for a in arguments]
        values.append(_STEPS[word](*operands))
    return [values[result] for result in formula["results"]]


class Formula(nn.Module):
    """An activation that PyTorch has no module for. formula: see `results_of`."""

    def __init__(self, formula: Any) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return results_of(self.formula, z)[0]


# Above the threshold softplus is z. At 40 log(1 + e^z) equals z in float64, too; PyTorch's default of 20 suits float32.
_SOFTPLUS_THRESHOLD = 40.0
ACTIVATIONS: dict[str, Any] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "hardshrink": lambda: nn.Hardshrink(0.5),
    "mish": nn.Mish,
    "silu": nn.SiLU,
    "softplus": lambda: nn.Softplus(threshold=_SOFTPLUS_THRESHOLD),
    "softsign": nn.Softsign,
    "hard_tanh": nn.Hardtanh,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "sin": Sine,
}


class Network(nn.Module):
    """A multi-layer perceptron from (n_samples, n_columns) to raw outputs.

    widths: of all layers, inputs first.
    activations: a name, or the argument of Formula, for each hidden layer.
    columns: columns that the network reads, or None for all.
    """

    def __init__(self, widths: Any, activations: Any, bias: bool = True, columns: Any = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(len(widths) - 1):
            layers.append(nn.Linear(widths[k], widths[k + 1], bias=bias))
            if k < len(activations):
                activation = activations[k]
                layers.append(ACTIVATIONS[activation]() if isinstance(activation, str) else Formula(activation))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.columns is not None:
            x = x.index_select(1, self.columns)
        return self.layers(x)


class Model(nn.Module):
    """A network, or the weighted mean of several: of values or probabilities, not of logits.

    networks: the arguments of each Network.
    weights: of the networks, of sum 1.
    link: "identity" or "exp" from raw outputs to values; "sigmoid" or "softmax" from raw outputs to probabilities.
    heads: number of raw outputs per output.
    value_head: the head that is the prediction.
    has_std: whether the second head is the logarithm of a variance.
    has_quantiles: whether each head is a quantile.
    description: the model in words.
    dtype: "float32" or "float64".
    mean: for several networks, the formula from their weights and raw outputs to raw outputs of the mean (see
        `results_of`). With a softmax, raw outputs are log probabilities; with `has_std` they are two inputs, one for
        each head.
    """

    def __init__(
        self,
        networks: Any,
        weights: Any = (1.0,),
        link: str = "identity",
        heads: int = 1,
        value_head: int = 0,
        has_std: bool = False,
        has_quantiles: bool = False,
        description: str = "",
        dtype: str = "float32",
        mean: Any = None,
    ) -> None:
        super().__init__()
        self.settings = {
            "networks": networks, "weights": weights, "link": link, "heads": heads, "value_head": value_head,
            "has_std": has_std, "has_quantiles": has_quantiles, "description": description, "dtype": dtype,
            "mean": mean,
        }  # fmt: skip
        self.networks = nn.ModuleList(Network(**each) for each in networks)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64), persistent=False)
        self.link, self.heads, self.value_head = link, heads, value_head
        self.has_std, self.has_quantiles, self.mean = has_std, has_quantiles, mean
        self.to(getattr(torch, dtype))

    def extra_repr(self) -> str:
        return str(self.settings["description"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return raw outputs (n_samples, n_raw_outputs). Of several networks: raw outputs of the mean."""
        if len(self.networks) == 1:
            return self.networks[0](x)
        raw = torch.stack([network(x) for network in self.networks])  # (networks, rows, raw outputs)
        w = self.weights.reshape(-1, 1, 1)
        if self.has_std:
            heads = results_of(self.mean, w, raw[..., 0::2], raw[..., 1::2])
            return torch.stack(heads, dim=-1).flatten(1)
        return results_of(self.mean, w, torch.log_softmax(raw, -1) if self.link == "softmax" else raw)[0]

    @torch.no_grad()
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Return values, or labels (int64): (n_samples,) for one output, else (n_samples, n_outputs).

        A label is -1 if outputs are not numbers.
        """
        raw = self(x)
        if self.link == "softmax":
            top, label = raw.max(1)
            return torch.where(torch.isfinite(top), label, -1)
        if self.link == "sigmoid":
            return _squeezed(torch.where(torch.isnan(raw), -1, (raw > 0).to(torch.int64)))
        values = raw[:, self.value_head :: self.heads]
        return _squeezed(torch.exp(values) if self.link == "exp" else values)

    @torch.no_grad()
    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n_samples, n_outputs): of the classes, or of each label being 1."""
        if self.link not in ("sigmoid", "softmax"):
            raise ValueError("this model predicts values: use predict")
        raw = self(x)
        return torch.sigmoid(raw) if self.link == "sigmoid" else torch.softmax(raw, 1)

    @torch.no_grad()
    def predict_std(self, x: torch.Tensor) -> torch.Tensor:
        """Return standard deviations, shaped as `predict` returns values."""
        if not self.has_std:
            raise ValueError("this model predicts no standard deviations: use predict")
        return _squeezed(torch.exp(0.5 * self(x)[:, 1::2]))

    @torch.no_grad()
    def predict_quantiles(self, x: torch.Tensor) -> torch.Tensor:
        """Return quantiles (n_samples, n_levels) for one output, else (n_samples, n_outputs, n_levels)."""
        if not self.has_quantiles:
            raise ValueError("this model predicts no quantiles: use predict")
        raw = self(x)
        return raw if raw.shape[1] == self.heads else raw.reshape(len(raw), raw.shape[1] // self.heads, self.heads)


def _squeezed(values: torch.Tensor) -> torch.Tensor:
    return values[:, 0] if values.shape[1] == 1 else values
