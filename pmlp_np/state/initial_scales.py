"""The distribution of each member's initial weights, and its scale in each layer."""

from __future__ import annotations

import numpy as np

from pmlp_np.formulas.initializers import DISTRIBUTIONS, INITIALIZERS
from pmlp_np.specs.members import Specs
from pmlp_np.state.layout import PoolLayout


def initial_distribution(specs: Specs) -> np.ndarray:
    """Return the position in DISTRIBUTIONS of each member's distribution, (n_members,) int64."""
    names = list(DISTRIBUTIONS)
    codes = np.array([names.index(entry.distribution) for entry in INITIALIZERS.values()], np.int64)
    return codes[specs.start]


def initial_scales(specs: Specs, layout: PoolLayout) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales of initial weights and of initial biases of every layer, (layers,) float64."""
    entries = list(INITIALIZERS.values())
    code = np.repeat(specs.start, layout.depth + 1)
    weight, bias = np.zeros(len(code)), np.zeros(len(code))
    for i in np.unique(code):
        chosen = code == i
        fans = layout.fan_in[chosen].astype(np.float64), layout.fan_out[chosen].astype(np.float64)
        weight[chosen] = entries[i].weight_scale(*fans)
        bias[chosen] = entries[i].bias_scale(*fans)
    last = layout.first_layer[1:][specs.option("zero_last") != 0.0] - 1
    weight[last], bias[last] = 0.0, 0.0
    return weight, bias
