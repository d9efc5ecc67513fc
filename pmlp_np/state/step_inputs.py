"""Step inputs: the hyperparameters that an update rule uses for each parameter, by layer, for weights and biases.

A rule takes a row of numbers, `formulas.optimizers.STEP_INPUTS`. Most members have two rows: one for weights, with
the hyperparameters unchanged, and one for biases, with no decay. If layers differ in learning rate, or weights are
divided by the square root of their fan-in, each layer has two rows. Feature scales have one more row, the last.

A row is stored as factors of the hyperparameters (of options that are no hyperparameters, as values), so that most
members share their rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.formulas.optimizers import HYPERPARAMETERS, RULES, STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS
from pmlp_np.specs.members import Specs
from pmlp_np.state.layout import PoolLayout, spread

RATE = STEP_INPUTS.index("learning_rate")
_EPS, _DECAY = STEP_INPUTS.index("eps"), STEP_INPUTS.index("weight_decay")
_SHRINKING = [STEP_INPUTS.index(name) for name in ("l1", "decoupled_weight_decay")]
_OF_LAYERS = ("first_layer_rate_factor", "last_layer_rate_factor", "parametrization")
_OF_STEPS = (*_OF_LAYERS, "bias_rate_factor", "decay_biases", "l1", "decoupled_weight_decay", "feature_scale")
# With more rows than this, each layer has its own.
MOST_SHARED_ROWS = 3


class StepInputs:
    """The rows of factors of all members of a pool.

    factors: (rows, len(STEP_INPUTS)) float64. first: (n_members,) int64, the first row of each member. count:
    (n_members,) int64, its number of rows: 2, for weights and biases, or 2 for each layer, one layer after the other;
    and 1 for feature scales.
    """

    def __init__(self, specs: Specs, layout: PoolLayout) -> None:
        used = {name: specs.option(name) != OPTIONS[name].encoded(OPTIONS[name].default) for name in _OF_STEPS}
        layered = np.any([used[name] for name in _OF_LAYERS], axis=0)
        unshared = np.flatnonzero(np.any(list(used.values()), axis=0))
        self.count = np.where(layered, 2 * (layout.depth + 1), 2) + used["feature_scale"]
        self.first = np.zeros(len(specs), np.int64)
        self.first[unshared] = 2 + np.cumsum(self.count[unshared]) - self.count[unshared]
        common = np.ones((2, len(STEP_INPUTS)))
        common[:, _SHRINKING] = 0.0
        common[1, _DECAY] = 0.0
        self.factors = np.concatenate([common, _unshared_rows(specs, layout, unshared, layered, self.count)])

    def rows(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of these members, one member after the other, and each row's index in `members`."""
        counts = self.count[members]
        return self.factors[spread(self.first[members], counts)], np.repeat(np.arange(len(members)), counts)


def _unshared_rows(
    specs: Specs, layout: PoolLayout, members: np.ndarray, layered: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Return the rows of factors of members that share none."""
    member = np.repeat(members, count[members])
    row = spread(np.zeros(len(members), np.int64), count[members])
    scaled = layout.scale_offset[member] >= 0
    of_scales = scaled & (row == count[member] - 1)
    of_biases, by_layer = row % 2 == 1, layered[member] & ~of_scales
    depth, layer = layout.depth[member], row // 2

    def option(name: str) -> np.ndarray:
        return specs.option(name)[member]

    def rules(field: str) -> np.ndarray:
        return np.array([getattr(rule, field) for rule in RULES.values()])[specs.rule[member]]

    # A divided weight w = W / scale stands for W, which is trained.
    divided = by_layer & ~of_biases & (option("parametrization") != 0.0)
    fan_in = layout.fan_in[layout.first_layer[member] + np.where(by_layer, layer, 0)]
    scale = np.sqrt(np.where(divided, fan_in, 1).astype(np.float64))
    factors = np.ones((len(member), len(STEP_INPUTS)))
    rate = np.where(of_biases, option("bias_rate_factor"), 1.0)
    rate[of_scales] = option("feature_scale_rate_factor")[of_scales]
    rate *= np.where(by_layer & (layer == 0) & (depth > 0), option("first_layer_rate_factor"), 1.0)
    rate *= np.where(by_layer & (layer == depth), option("last_layer_rate_factor"), 1.0)
    whole = scale * scale
    factors[:, RATE] = rate / np.where(rules("rate_power") == 2, whole, scale)
    factors[:, _EPS] = scale
    factors[:, _DECAY] = np.where(rules("decay_power") == 2, whole, scale)
    factors[:, _SHRINKING[0]] = option("l1") * scale
    factors[:, _SHRINKING[1]] = option("decoupled_weight_decay") * np.where(rules("rate_power") == 2, whole, scale)
    spared = of_scales | (of_biases & (option("decay_biases") == 0.0))
    factors[np.ix_(spared, [_DECAY, *_SHRINKING])] = 0.0
    return factors


def step_inputs(factors: np.ndarray, hyperparameters: np.ndarray, rate_factor: Any) -> np.ndarray:
    """Return rows of STEP_INPUTS, float64, from rows of factors and the rows' hyperparameters and rate factors."""
    inputs = factors.copy()
    inputs[:, : len(HYPERPARAMETERS)] *= hyperparameters
    inputs[:, RATE] *= rate_factor
    return inputs
