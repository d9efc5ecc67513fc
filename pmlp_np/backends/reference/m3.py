"""The paper's modified matrix multiplication (M3) in plain array code, and a chunk of members as one fused network.

Farias, Ludermir, Bastos-Filho, "Embarrassingly Parallel Independent Training of Multi-Layer Perceptrons with
Heterogeneous Architectures", arXiv 2206.08369. The hidden units of all members lie side by side in one fused layer. All
members read the same rows, so the first layer is one ordinary product, the members' weights side by side:

    x (rows, features) @ W (features, units)  ->  z (rows, units)

A later layer must not mix members. M3 writes its product out as a list of pairs: a unit, a unit of the same member in
the next layer, and the weight between them. The list is sorted by the unit that a pair leads to:

    gather        a[:, source]            (rows, units)  ->  (rows, pairs)
    multiply      ... * w                 (rows, pairs)
    segment sum   over each unit's pairs  (rows, pairs)  ->  (rows, units of the next layer)

Two members, one with 2 hidden units and one with 1, each with one output: sources 0 1 | 2, segments of 2 pairs and of
1, and so z = (a0 w0 + a1 w1, a2 w2). The way back is M3 with the segments turned: the same pairs, sorted by the unit
that they come from, carry the slope dz of the loss to the layer before. A weight's gradient is the sum over rows of
a[:, source] * dz[:, destination]. No pair joins two members: gradients, and any NaN, flow on separate paths.

Where every member has its own order of rows, each reads its own copy of the features, and the first layer is M3, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pmlp_np.base.arrays import segment_sum
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import Rule
from pmlp_np.state.layout import PoolLayout, spread

# Called with a layer's number and arrays (rows, units) of it.
Drop = Callable[[int, tuple[Any, ...]], None]


class Pairs(NamedTuple):
    """Connected units of two neighboring layers, sorted by the unit they lead to."""

    source: Any  # (pairs,) the unit that a pair comes from
    weight: Any  # (pairs,) where its weight lies among the chunk's parameters
    starts: Any  # (units of the next layer,) where each unit's pairs start


def m3(a: Any, w: Any, pairs: Pairs) -> Any:
    """Gather, multiply, segment sum: (rows, units) -> (rows, units of the next layer)."""
    terms = a.take(pairs.source, axis=1)
    terms *= w[pairs.weight]
    return segment_sum(terms, pairs.starts)


class SharedInputs(NamedTuple):
    """The product of a first layer where all members read the same rows."""

    weight: Any  # (features, units) where each weight lies among the chunk's parameters

    def forward(self, a: Any, w: Any) -> Any:
        return a @ w[self.weight]

    def add_gradient(self, gradient: Any, a: Any, dz: Any) -> None:
        gradient[self.weight] += a.T @ dz


class OwnInputs(NamedTuple):
    """The product of a layer where each member reads units of its own: M3."""

    pairs: Pairs
    destination: Any  # (pairs,) the unit that a pair leads to
    turned: Pairs

    def forward(self, a: Any, w: Any) -> Any:
        return m3(a, w, self.pairs)

    def backward(self, dz: Any, w: Any) -> Any:
        return m3(dz, w, self.turned)

    def add_gradient(self, gradient: Any, a: Any, dz: Any) -> None:
        terms = a.take(self.pairs.source, axis=1)
        terms *= dz.take(self.destination, axis=1)
        gradient[self.pairs.weight] += terms.sum(axis=0)


class Layer(NamedTuple):
    """A layer of all members of a chunk: the product, plus biases, through activations."""

    product: Any  # SharedInputs or OwnInputs
    biased: Any  # the units that have a bias
    bias: Any  # where their biases lie among the chunk's parameters
    activations: list[tuple[Any, Any]]  # each activation function and its units; an output layer has none


class Scales(NamedTuple):
    """Feature scales: each multiplies what leads from a feature into the first layer of one member."""

    place: Any  # (scales,) where they lie among the chunk's parameters
    weight: Any  # (pairs,) where the weights lie that they multiply, scale after scale
    scale: Any  # (pairs,) where the scale of each weight lies
    starts: Any  # (scales,) where each scale's weights start

    def applied(self, w: Any) -> Any:
        """Parameters with the first layer's weights times scales."""
        scaled = w.copy()
        scaled[self.weight] *= w[self.scale]
        return scaled

    def add_gradient(self, gradient: Any, w: Any) -> None:
        """From the gradient by weights times scales to that by each: d(sw) = s dw + w ds."""
        terms = w[self.weight] * gradient[self.weight]
        gradient[self.place] = segment_sum(terms.reshape(1, -1), self.starts)[0]
        gradient[self.weight] *= w[self.scale]


class SameRule(NamedTuple):
    """Members of a chunk that run the same update rule, and where their parameters and slots lie."""

    rule: Rule
    members: np.ndarray
    own: Any  # positions in the chunk's parameters
    slots: list[Any]  # for each slot, positions in the pool's slots
    run: Any  # for each parameter, its row among the members' rows of inputs (step_inputs.StepInputs)


def first_of(counts: np.ndarray) -> np.ndarray:
    """Where each of some ranges starts that lie one after another."""
    return np.cumsum(counts) - counts


def _pairs(weight: Any, n_from: Any, n_to: Any, step_from: Any, step_to: Any) -> Pairs:
    """Member m's n_from[m] units, each with each of n_to[m]: i with j by weight[m] + i step_from[m] + j step_to[m]."""
    member = np.repeat(np.arange(len(n_to)), n_to)
    j = spread(np.zeros_like(n_to), n_to)
    counts = n_from[member]
    i = spread(np.zeros_like(counts), counts)
    source = i + np.repeat(first_of(n_from)[member], counts)
    i *= np.repeat(step_from[member], counts)
    i += np.repeat(weight[member] + j * step_to[member], counts)
    return Pairs(source, i, first_of(counts))


class Chunk:
    """Some members of equal depth as one fused network: who feeds whom, and where in their parameters things lie.

    `place` are their parameters in the pool's buffer, `starts` where each member's start; other positions are within
    these. `rows` says how many rows to take at once. x is (rows, features), or (rows, members * features) where
    `own_rows` gives each member its own.
    """

    def __init__(self, xp: Any, layout: PoolLayout, members: np.ndarray, place: np.ndarray, rows: int, own_rows: bool):
        self.xp, self.layout, self.members, self.rows = xp, layout, members, rows
        self.place, self.starts = xp.asarray(place), xp.asarray(layout.block_offset)
        self.layers = [self._layer(k, own_rows or k > 0) for k in range(int(layout.depth[0]) + 1)]
        self.scales = self._scales()
        self.rules: list[SameRule] = []

    def _scales(self) -> Scales | None:
        """None where no member has any."""
        xp, layout = self.xp, self.layout
        place = layout.scale_positions(np.arange(layout.n_members))
        if not len(place):
            return None
        scaled = layout.scale_offset >= 0
        at = layout.first_layer[:-1][scaled]
        weight = spread(layout.block_offset[scaled] + layout.weight_offset[at], layout.fan_in[at] * layout.fan_out[at])
        units = np.repeat(layout.fan_out[at], layout.fan_in[at])
        return Scales(*(xp.asarray(x) for x in (place, weight, np.repeat(place, units), first_of(units))))

    def effective(self, w: Any) -> Any:
        """The parameters by which inputs are multiplied: w, with scales applied."""
        return w if self.scales is None else self.scales.applied(w)

    def _layer(self, k: int, own_inputs: bool) -> Layer:
        xp, layout = self.xp, self.layout
        at = layout.first_layer[:-1] + k
        weight = layout.block_offset + layout.weight_offset[at]
        fan_in, fan_out = layout.fan_in[at], layout.fan_out[at]
        step_in, step_out = layout.stride_in[at], layout.stride_out[at]

        def units(members: np.ndarray) -> Any:
            return xp.asarray(spread(first_of(fan_out)[members], fan_out[members]))

        pairs = _pairs(weight, fan_in, fan_out, step_in, step_out)
        if own_inputs:
            turned = _pairs(weight, fan_out, fan_in, step_out, step_in)
            destination = np.repeat(np.arange(len(pairs.starts)), np.repeat(fan_in, fan_out))
            moved = [Pairs(*map(xp.asarray, tables)) for tables in (pairs, turned)]
            product: Any = OwnInputs(moved[0], xp.asarray(destination), moved[1])
        else:
            product = SharedInputs(xp.asarray(pairs.weight.reshape(-1, layout.most_features).T))
        biased = np.flatnonzero(layout.bias_offset[at] >= 0)
        bias = spread((layout.block_offset + layout.bias_offset[at])[biased], fan_out[biased])
        codes, functions = layout.activation[at], [entry.function for entry in ACTIVATIONS.values()]
        used = [(functions[code], units(np.flatnonzero(codes == code))) for code in np.unique(codes[codes >= 0])]
        return Layer(product, units(biased), xp.asarray(bias), used)

    def units_of(self, i: int, k: int) -> slice:
        """Where the i-th member's units lie among those of layer k; 0: its features, each member having its own."""
        counts = self.layout.fan_in[self.layout.first_layer[:-1] + k]
        start = int(counts[:i].sum())
        return slice(start, start + int(counts[i]))

    def forward(self, w: Any, x: Any, drop: Drop | None = None) -> tuple[Any, list[Any], list[Any]]:
        """Raw outputs (outputs, rows, members); each layer's inputs; the derivatives of each hidden layer's units.

        drop: multiplies what leaves the features (0) or hidden layer k by factors, in place.
        """
        if drop is not None:
            drop(0, (x,))
        inputs, derivatives = [x], []
        for k, layer in enumerate(self.layers):
            z = layer.product.forward(inputs[-1], w)
            z[:, layer.biased] += w[layer.bias]
            if layer.activations:
                a, derivative = self.xp.empty_like(z), self.xp.empty_like(z)
                for function, units in layer.activations:
                    a[:, units], derivative[:, units] = function(z.take(units, axis=1))
                if drop is not None:
                    drop(k + 1, (a, derivative))
                inputs.append(a)
                derivatives.append(derivative)
        return z.reshape(len(x), len(self.members), -1).transpose(2, 0, 1), inputs, derivatives

    def add_gradient(self, gradient: Any, w: Any, slope: Any, inputs: list[Any], derivatives: list[Any]) -> None:
        """Add the gradient of a loss of these rows, from its slope by the raw outputs (outputs, rows, members)."""
        dz = slope.transpose(1, 2, 0).reshape(len(inputs[0]), -1)
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            layer.product.add_gradient(gradient, inputs[k], dz)
            gradient[layer.bias] += dz.sum(axis=0)[layer.biased]
            if k > 0:
                dz = layer.product.backward(dz, w)
                dz *= derivatives[k - 1]
