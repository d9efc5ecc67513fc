"""Some members of equal depth as one fused network: which units feed which, and where their parameters are.

Tables of positions alone, no weights and no arithmetic but that of feature scales; step.py computes with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.reference.m3 import OwnInputs, Pairs, SharedInputs
from pmlp_np.base.arrays import segment_sum
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import Rule
from pmlp_np.state.layout import PoolLayout, spread


class Layer(NamedTuple):
    """A layer of all members: the product, plus biases, through activations."""

    product: Any  # SharedInputs or OwnInputs
    biased: Any  # the units that have a bias
    bias: Any  # where their biases lie among the network's parameters
    activations: list[tuple[Any, Any]]  # each activation function and its units; an output layer has none


class Scales(NamedTuple):
    """Feature scales: each multiplies what leads from a feature into the first layer of one member."""

    place: Any  # (scales,) where they lie among the network's parameters
    weight: Any  # (pairs,) where the weights lie that they multiply, scale after scale
    scale: Any  # (pairs,) where the scale of each weight lies
    starts: Any  # (scales,) where each scale's weights start

    def applied(self, w: Any) -> Any:
        """Parameters with the first layer's weights times scales."""
        scaled = w.copy()
        scaled[self.weight] *= w[self.scale]
        return scaled

    def add_gradient(self, dw: Any, w: Any) -> None:
        """From the gradient by weights times scales to that by each: d(sw) = s dw + w ds."""
        terms = w[self.weight] * dw[self.weight]
        dw[self.place] = segment_sum(terms.reshape(1, -1), self.starts)[0]
        dw[self.weight] *= w[self.scale]


class SameRule(NamedTuple):
    """Members of a network that run the same update rule, and where their parameters and slots lie."""

    rule: Rule
    members: np.ndarray
    own: Any  # positions among the network's parameters
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


class FusedNetwork:
    """The tables of some members: `layers`, `scales` (None where no member has any), and `rules` where they train.

    place: where their parameters lie in the pool's buffer; starts: where each member's start among these. All other
    positions are among these, too. layout: of these members alone. rows: how many rows to take at once. own_rows:
    whether each member reads rows of its own: then x is (rows, members * features).
    """

    def __init__(self, xp: Any, layout: PoolLayout, members: np.ndarray, place: np.ndarray, rows: int, own_rows: bool):
        self.xp, self.layout, self.members, self.rows = xp, layout, members, rows
        self.place, self.starts = xp.asarray(place), xp.asarray(layout.block_offset)
        self.layers = [self._layer(k, own_rows or k > 0) for k in range(int(layout.depth[0]) + 1)]
        self.scales = self._scales()
        self.rules: list[SameRule] = []

    def _scales(self) -> Scales | None:
        xp, layout = self.xp, self.layout
        place = layout.scale_positions(np.arange(layout.n_members))
        if not len(place):
            return None
        scaled = layout.scale_offset >= 0
        at = layout.first_layer[:-1][scaled]
        weight = spread(layout.block_offset[scaled] + layout.weight_offset[at], layout.fan_in[at] * layout.fan_out[at])
        units = np.repeat(layout.fan_out[at], layout.fan_in[at])
        return Scales(*(xp.asarray(x) for x in (place, weight, np.repeat(place, units), first_of(units))))

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
