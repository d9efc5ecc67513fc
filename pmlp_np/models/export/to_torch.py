"""Networks as PyTorch modules, with their weights as trainable parameters."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pmlp_np.formulas.reading import reading_of
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.export.common import members_of, needed
from pmlp_np.models.export.tracing import traced
from pmlp_np.models.mlp import MLP


def to_torch(model: MLP | Ensemble) -> Any:
    """A torch_module.Model; methods and errors are those of `MLP.to_torch`."""
    torch = needed("torch")
    from pmlp_np.models.export.torch_module import ACTIVATIONS, Model

    reading, members = reading_of(model._loss), members_of(model)
    module = Model(
        [_settings(mlp, ACTIVATIONS) for _, mlp in members],
        [weight for weight, _ in members],
        reading.link,
        reading.heads,
        reading.value_head,
        reading.has_std,
        bool(reading.levels),
        repr(model),
        model.dtype.name,
    )
    with torch.no_grad():
        for (_, mlp), network in zip(members, module.networks, strict=True):
            linear = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
            for layer, w, b in zip(linear, mlp.weights, mlp.biases, strict=True):
                # Copies: training the module must not change the network.
                layer.weight.copy_(torch.from_numpy(w.T.copy()))
                if mlp.bias:
                    layer.bias.copy_(torch.from_numpy(b.copy()))
    return module


def _settings(mlp: MLP, known: Container[str]) -> dict[str, Any]:
    """The arguments of a torch_module.Network of this shape, plain values; of activations not `known`, the steps."""
    steps = {name: traced(name, mlp.dtype) for name in mlp.activation if name not in known}
    return {
        "widths": [len(mlp.weights[0]), *mlp.hidden, mlp.n_raw_outputs],
        "activations": [steps.get(name, name) for name in mlp.activation],
        "bias": mlp.bias,
        "columns": None if mlp.features is None else mlp.features.tolist(),
    }
