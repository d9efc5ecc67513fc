"""The paper's modified matrix multiplication (M3): the product of a layer, without connections between members.

Farias, Ludermir, Bastos-Filho, "Embarrassingly Parallel Independent Training of Multi-Layer Perceptrons with
Heterogeneous Architectures", arXiv 2206.08369. The hidden units of all members lie side by side in one fused layer. All
members read the same rows, so the first layer is one ordinary product, the members' weights side by side:

    x (rows, features) @ W (features, units)  ->  z (rows, units)

A later layer must not mix members. M3 writes the product of that layer as a list of pairs: a unit, a unit of the same
member in the next layer, and the weight between them. The list is sorted by the unit in the next layer:

    gather        a[:, source]            (rows, units)  ->  (rows, pairs)
    multiply      ... * w                 (rows, pairs)
    segment sum   over each unit's pairs  (rows, pairs)  ->  (rows, units of the next layer)

Two members, one with 2 hidden units and one with 1, each with one output: sources 0 1 | 2, segments of 2 pairs and of
1, and so z = (a0 w0 + a1 w1, a2 w2). The backward pass is M3 with reversed pairs: the same pairs, sorted by the unit in
the layer before, carry the gradient dz to that layer. A weight's gradient is the sum over rows of a[:, source] *
dz[:, destination]. No pair joins two members: gradients, and any NaN, flow on separate paths.

Where every member has its own order of rows, each reads its own copy of the features, and the first layer is M3, too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pmlp_np.base.arrays import segment_sum


class Pairs(NamedTuple):
    """Connected units of two neighboring layers, sorted by the unit in the next layer."""

    source: Any  # (pairs,) the unit in the layer before
    weight: Any  # (pairs,) the position of the pair's weight among the network's parameters
    starts: Any  # (units of the next layer,) the first pair of each unit


def m3(a: Any, w: Any, pairs: Pairs) -> Any:
    """Gather, multiply, segment sum: (rows, units) -> (rows, units of the next layer)."""
    terms = a.take(pairs.source, axis=1)
    terms *= w[pairs.weight]
    return segment_sum(terms, pairs.starts)


class SharedInputs(NamedTuple):
    """The product of a first layer where all members read the same rows."""

    weight: Any  # (features, units) the position of each weight among the network's parameters

    def forward(self, a: Any, w: Any) -> Any:
        return a @ w[self.weight]

    def add_gradient(self, dw: Any, a: Any, dz: Any) -> None:
        dw[self.weight] += a.T @ dz


class MemberInputs(NamedTuple):
    """The product of a layer where each member reads its own units: M3."""

    pairs: Pairs
    destination: Any  # (pairs,) the unit in the next layer
    reversed: Pairs

    def forward(self, a: Any, w: Any) -> Any:
        return m3(a, w, self.pairs)

    def backward(self, dz: Any, w: Any) -> Any:
        return m3(dz, w, self.reversed)

    def add_gradient(self, dw: Any, a: Any, dz: Any) -> None:
        terms = a.take(self.pairs.source, axis=1)
        terms *= dz.take(self.destination, axis=1)
        dw[self.pairs.weight] += terms.sum(axis=0)
