"""Members of equal depth as one fused network: tables of connected units and of positions of parameters.

The tables hold no weights. Only feature scales are computed here; step.py computes all else from the tables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pmlp_np.backends.reference.m3 import MemberInputs, Pairs, SharedInputs
from pmlp_np.base.arrays import segment_sum
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.optimizers import Rule
from pmlp_np.state.layout import PoolLayout, spread


class Layer(NamedTuple):
    """A layer of all members: the product, plus biases, through activations."""

    product: Any  # SharedInputs or MemberInputs
    biased: Any  # the units that have a bias
    bias: Any  # the positions of their biases among the network's parameters
    activations: list[tuple[Any, Any]]  # each activation function and its units; none in an output layer


class Scales(NamedTuple):
    """Feature scales: each multiplies the weights from one feature to the first layer of one member.

    Positions are among the network's parameters; pairs are a scale and a weight that it multiplies, scale after scale.
    """

    position: Any  # (scales,) of each scale
    weight: Any  # (pairs,) the position of the weight
    scale: Any  # (pairs,) the position of the scale
    starts: Any  # (scales,) the first pair of each scale

    def applied(self, w: Any) -> Any:
        """Return the parameters, with the first layer's weights multiplied by scales."""
        scaled = w.copy()
        scaled[self.weight] *= w[self.scale]
        return scaled

    def add_gradient(self, dw: Any, w: Any) -> None:
        """Replace the gradient by weights times scales by the gradients by weights and scales: d(sw) = s dw + w ds."""
        terms = w[self.weight] * dw[self.weight]
        dw[self.position] = segment_sum(terms.reshape(1, -1), self.starts)[0]
        dw[self.weight] *= w[self.scale]


class SameRule(NamedTuple):
    """Members of a network with the same update rule, and the positions of their parameters and slots."""

    rule: Rule
    members: np.ndarray
    parameters: Any  # positions among the network's parameters
    slots: list[Any]  # for each slot, positions in the pool's slots
    input_row: Any  # for each parameter, its row among the members' rows of inputs (step_inputs.StepInputs)


def first_of(counts: np.ndarray) -> np.ndarray:
    """Return the starts of consecutive ranges of these lengths."""
    return np.cumsum(counts) - counts


def _pairs(weight: Any, n_from: Any, n_to: Any, step_from: Any, step_to: Any) -> Pairs:
    """Return the pairs of each member m: unit i of n_from[m] with unit j of n_to[m].

    The weight of a pair is at weight[m] + i step_from[m] + j step_to[m].
    """
    member = np.repeat(np.arange(len(n_to)), n_to)
    j = spread(np.zeros_like(n_to), n_to)
    counts = n_from[member]
    i = spread(np.zeros_like(counts), counts)
    source = i + np.repeat(first_of(n_from)[member], counts)
    i *= np.repeat(step_from[member], counts)
    i += np.repeat(weight[member] + j * step_to[member], counts)
    return Pairs(source, i, first_of(counts))


class FusedNetwork:
    """The tables of some members: `layers`, `scales` (None without feature scales), and `rules` (for training).

    layout: of these members alone. positions: of their parameters in the pool's buffer; all tables hold indices into
    this array. starts: the index of each member's first parameter. rows: the rows computed at once. shared_rows:
    whether all members read the same rows; otherwise x is (rows, members * features).
    """

    def __init__(
        self, xp: Any, layout: PoolLayout, members: np.ndarray, positions: np.ndarray, rows: int, shared_rows: bool
    ) -> None:
        self.xp, self.layout, self.members, self.rows = xp, layout, members, rows
        self.positions, self.starts = xp.asarray(positions), xp.asarray(layout.block_offset)
        self.layers = [self._layer(k, k == 0 and shared_rows) for k in range(int(layout.depth[0]) + 1)]
        self.scales = self._scales()
        self.rules: list[SameRule] = []

    def _scales(self) -> Scales | None:
        xp, layout = self.xp, self.layout
        position = layout.scale_positions(np.arange(layout.n_members))
        if not len(position):
            return None
        scaled = layout.scale_offset >= 0
        at = layout.first_layer[:-1][scaled]
        weight = spread(layout.block_offset[scaled] + layout.weight_offset[at], layout.fan_in[at] * layout.fan_out[at])
        units = np.repeat(layout.fan_out[at], layout.fan_in[at])
        return Scales(*(xp.asarray(x) for x in (position, weight, np.repeat(position, units), first_of(units))))

    def _layer(self, k: int, shared_inputs: bool) -> Layer:
        xp, layout = self.xp, self.layout
        at = layout.first_layer[:-1] + k
        weight = layout.block_offset + layout.weight_offset[at]
        fan_in, fan_out = layout.fan_in[at], layout.fan_out[at]
        step_in, step_out = layout.stride_in[at], layout.stride_out[at]

        def units(members: np.ndarray) -> Any:
            return xp.asarray(spread(first_of(fan_out)[members], fan_out[members]))

        pairs = _pairs(weight, fan_in, fan_out, step_in, step_out)
        if shared_inputs:
            product: Any = SharedInputs(xp.asarray(pairs.weight.reshape(-1, layout.most_features).T))
        else:
            backward = _pairs(weight, fan_out, fan_in, step_out, step_in)
            destination = np.repeat(np.arange(len(pairs.starts)), np.repeat(fan_in, fan_out))
            on_device = [Pairs(*map(xp.asarray, tables)) for tables in (pairs, backward)]
            product = MemberInputs(on_device[0], xp.asarray(destination), on_device[1])
        biased = np.flatnonzero(layout.bias_offset[at] >= 0)
        bias = spread((layout.block_offset + layout.bias_offset[at])[biased], fan_out[biased])
        codes, functions = layout.activation[at], [entry.function for entry in ACTIVATIONS.values()]
        used = [(functions[code], units(np.flatnonzero(codes == code))) for code in np.unique(codes[codes >= 0])]
        return Layer(product, units(biased), xp.asarray(bias), used)

    def units_of(self, i: int, k: int) -> slice:
        """Return the slice of the i-th member's units among those that layer k reads; for k = 0, of its features."""
        counts = self.layout.fan_in[self.layout.first_layer[:-1] + k]
        start = int(counts[:i].sum())
        return slice(start, start + int(counts[i]))
