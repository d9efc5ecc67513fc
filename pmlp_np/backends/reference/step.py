"""One step of many networks at once: forward, backward, update. To be read with m3.py, beside the paper (arXiv
2206.08369).

Some members lie side by side as one fused network. w is one flat array with the parameters of all of them, and a layer
has the units of all of them. Of a network with `depth` hidden layers, with f each unit's own activation:

    forward    a_0 = x            z_k = product(a_k, w) + b_k      a_{k+1} = f(z_k)      raw = z_depth
    backward   dz_depth = dL/draw      dw_k = a_k^T dz_k      db_k = sum of dz_k      dz_{k-1} = da_k * f'(z_{k-1})
    update     w, slots = rule(w, dw, slots)

Products and their gradients are M3: they keep members apart. All else is elementwise, and so needs no thought about
members. Dropout, clipped gradients, averages and learning rates that change are options of members (step_options.py);
which members and rows are taken at once, and how much memory that needs, is chunks.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.reference.fused import FusedNetwork, SameRule


class Trace(NamedTuple):
    """What a forward pass leaves for the way back."""

    inputs: list[Any]  # of each layer k: a_k, (rows, units of the layer before); a_0 are the features
    derivatives: list[Any]  # of each hidden layer k: f'(z_k), (rows, units)


# Called with a layer's number, 0 for the features, and arrays (rows, units) of what leaves it, to be changed in place.
Drop = Callable[[int, tuple[Any, ...]], None]


def forward(network: FusedNetwork, w: Any, x: Any, drop: Drop | None = None) -> tuple[Any, Trace]:
    """Raw outputs (outputs, rows, members) and the trace, from x (rows, features), or (rows, members * features) where
    each member reads rows of its own."""
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
    """Add to dw, an array like w, the gradient of a loss whose gradient by the raw outputs is `draw`, (outputs, rows,
    members)."""
    dz = draw.transpose(1, 2, 0).reshape(len(trace.inputs[0]), -1)
    for k in reversed(range(len(network.layers))):
        layer = network.layers[k]
        layer.product.add_gradient(dw, trace.inputs[k], dz)
        dw[layer.bias] += dz.sum(axis=0)[layer.biased]
        if k > 0:
            dz = layer.product.backward(dz, w)
            dz *= trace.derivatives[k - 1]


def update(same: SameRule, w: Any, dw: Any, slots: Any, numbers: Any) -> None:
    """Replace, in w and in `slots`, the parameters and the slots of members of one update rule by what the rule makes
    of them. numbers: by name what the rule takes for each of these parameters, such as `learning_rate`."""
    before = tuple(slots[places] for places in same.slots)
    w[same.own], after = same.rule.update(w[same.own], dw[same.own], before, numbers)
    for places, values in zip(same.slots, after, strict=True):
        slots[places] = values


class RowBlock(NamedTuple):
    """Some rows of a minibatch: x as `forward` takes it; loss, which maps raw outputs (outputs, rows, members) to
    losses (rows, members) and their gradient by the raw outputs; dropout, where any member uses it."""

    x: Any
    loss: Callable[[Any], tuple[Any, Any]]
    drop: Drop | None = None


def gradient(network: FusedNetwork, w: Any, blocks: Iterable[RowBlock], n_rows: int) -> tuple[Any, Any]:
    """(dw, losses): the gradient of each member's mean loss over a minibatch of n_rows rows, and the mean losses
    (members,) float64. The rows come in blocks."""
    xp, scales = network.xp, network.scales
    dw, total = xp.zeros_like(w), xp.zeros(len(network.members), np.float64)
    # Feature scales multiply the first layer's weights; the rest of the way they are like any other.
    scaled = w if scales is None else scales.applied(w)
    for block in blocks:
        raw, trace = forward(network, scaled, block.x, block.drop)
        losses, draw = block.loss(raw)
        total += losses.sum(axis=0, dtype=np.float64)
        backward(network, scaled, draw / n_rows, trace, dw)
    if scales is not None:
        scales.add_gradient(dw, w)
    return dw, total / n_rows
