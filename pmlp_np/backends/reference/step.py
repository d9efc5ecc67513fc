"""One step of many networks at once: forward, backward, update. To be read with m3.py and the paper (arXiv 2206.08369).

Some members form one fused network. `w` is one flat array with the parameters of all these members, and a layer has the
units of all of them. For `depth` hidden layers, where f is each unit's activation:

    forward    a_0 = x            z_k = product(a_k, w) + b_k      a_{k+1} = f(z_k)      raw = z_depth
    backward   dz_depth = dL/draw      dw_k = a_k^T dz_k      db_k = sum of dz_k      dz_{k-1} = da_k * f'(z_{k-1})
    update     w, slots = rule(w, dw, slots)

Products and their gradients are M3, which never mixes members. All other operations are elementwise. Dropout, clipped
gradients, averages and learning rate schedules are options of members: see step_options.py. For the members and rows
that are computed at once, and their memory, see chunks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.reference.fused import FusedNetwork, SameRule


class Trace(NamedTuple):
    """The arrays that a forward pass stores for the backward pass."""

    inputs: list[Any]  # of each layer k: a_k, (rows, units of the layer before); a_0 are the features
    derivatives: list[Any]  # of each hidden layer k: f'(z_k), (rows, units)


# Dropout, in place: a function of a layer's number, 0 for the features, and of arrays (rows, units) of its outputs.
Drop = Callable[[int, tuple[Any, ...]], None]


def forward(network: FusedNetwork, w: Any, x: Any, drop: Drop | None = None) -> tuple[Any, Trace]:
    """Compute raw outputs (outputs, rows, members). Returns them and the trace.

    x: (rows, features), or (rows, members * features) where members read different rows.
    """
    if drop is not None:
        drop(0, (x,))
    trace = Trace([x], [])
    for k, layer in enumerate(network.layers):
        z = layer.product.forward(trace.inputs[k], w)
        z[:, layer.biased] += w[layer.bias]
        if layer.activations:
            a, derivative = network.xp.empty_like(z), network.xp.empty_like(z)
            for function, units in layer.activations:
                a[:, units], derivative[:, units] = function(z.take(units, axis=1))
            if drop is not None:
                drop(k + 1, (a, derivative))
            trace.inputs.append(a)
            trace.derivatives.append(derivative)
    return z.reshape(len(x), len(network.members), -1).transpose(2, 0, 1), trace


def backward(network: FusedNetwork, w: Any, draw: Any, trace: Trace, dw: Any) -> None:
    """Add the gradient by w to dw, an array like w.

    draw: (outputs, rows, members), the gradient of the loss by raw outputs.
    """
    dz = draw.transpose(1, 2, 0).reshape(len(trace.inputs[0]), -1)
    for k in reversed(range(len(network.layers))):
        layer = network.layers[k]
        layer.product.add_gradient(dw, trace.inputs[k], dz)
        dw[layer.bias] += dz.sum(axis=0)[layer.biased]
        if k > 0:
            dz = layer.product.backward(dz, w)
            dz *= trace.derivatives[k - 1]


def update(same: SameRule, w: Any, dw: Any, slots: Any, numbers: Any) -> None:
    """Update the parameters in w, and the slots, of members with the same rule.

    numbers: the rule's scalars by name, such as `learning_rate`, each (parameters,).
    """
    old_slots = tuple(slots[positions] for positions in same.slots)
    at = same.parameters
    w[at], new_slots = same.rule.update(w[at], dw[at], old_slots, numbers)
    for positions, values in zip(same.slots, new_slots, strict=True):
        slots[positions] = values


class RowBlock(NamedTuple):
    """Some rows of a minibatch, for all members of a fused network.

    x: as for `forward`. loss: a function from raw outputs (outputs, rows, members) to losses (rows, members) and their
    gradient by raw outputs. drop: dropout; None where no member uses it.
    """

    x: Any
    loss: Callable[[Any], tuple[Any, Any]]
    drop: Drop | None = None


def gradient(network: FusedNetwork, w: Any, blocks: Iterable[RowBlock], n_rows: int) -> tuple[Any, Any]:
    """Compute the gradient of each member's mean loss over a minibatch of n_rows rows, which come in blocks.

    Returns (dw, losses): an array like w, and the mean losses, (members,) float64.
    """
    xp, scales = network.xp, network.scales
    dw, total = xp.zeros_like(w), xp.zeros(len(network.members), np.float64)
    # Feature scales multiply the first layer's weights; forward and backward use the products.
    scaled = w if scales is None else scales.applied(w)
    for block in blocks:
        raw, trace = forward(network, scaled, block.x, block.drop)
        losses, draw = block.loss(raw)
        total += losses.sum(axis=0, dtype=np.float64)
        backward(network, scaled, draw / n_rows, trace, dw)
    if scales is not None:
        scales.add_gradient(dw, w)
    return dw, total / n_rows
