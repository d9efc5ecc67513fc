"""Networks as PyTorch modules, with their weights as trainable parameters."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pmlp_np.formulas.reading import reading_of
from pmlp_np.formulas.step_lists import activation_steps
from pmlp_np.formulas.tracing import Constant, StepList
from pmlp_np.models.averaging import raw_steps
from pmlp_np.models.export.common import members_of, needed
from pmlp_np.models.network import Network, Networks


def to_torch(model: Networks) -> Any:
    """Return a torch_module.Model. Methods and errors as of `MLP.to_torch`."""
    torch = needed("torch")
    from pmlp_np.models.export.torch_module import ACTIVATIONS, Model

    reading, members = reading_of(model.loss), members_of(model)
    module = Model(
        [_settings(member, ACTIVATIONS) for _, member in members],
        [weight for weight, _ in members],
        reading.link,
        reading.heads,
        reading.value_head,
        reading.has_std,
        bool(reading.levels),
        model.description,
        model.dtype.name,
        plain(raw_steps(reading, model.dtype.name)) if len(members) > 1 else None,
    )
    with torch.no_grad():
        for (_, member), network in zip(members, module.networks, strict=True):
            linear = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
            for layer, w, b in zip(linear, member.weights, member.biases, strict=True):
                # Copied: training the module must not change the network.
                layer.weight.copy_(torch.from_numpy(w.T.copy()))
                if member.bias:
                    layer.bias.copy_(torch.from_numpy(b.copy()))
    return module


def _settings(network: Network, known: Container[str]) -> dict[str, Any]:
    """Return the arguments of torch_module.Network as plain values. Activations that are not `known`: as step lists."""

    def activation(name: str) -> str | dict[str, Any]:
        return name if name in known else plain(activation_steps(name, network.dtype.name).only("activation"))

    return {
        "widths": [len(network.weights[0]), *network.hidden, network.n_raw_outputs],
        "activations": [activation(name) for name in network.activation],
        "bias": network.bias,
        "columns": None if network.features is None else network.features.tolist(),
    }


def plain(steps: StepList) -> dict[str, Any]:
    """Return a step list as plain values, the argument of torch_module.Formula."""
    return {
        "inputs": len(steps.inputs),
        "steps": [
            (step.word, tuple(float(a.value) if isinstance(a, Constant) else a for a in step.arguments))
            for step in steps.steps
        ],
        "results": steps.results,
    }
