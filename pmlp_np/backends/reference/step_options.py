"""Options of members that change a step: dropout, clipped gradients, averaged weights, and learning rates over time.

Each is computed for the members that use it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from pmlp_np.backends.reference.fused import FusedNetwork, SameRule
from pmlp_np.backends.reference.step import Drop
from pmlp_np.backends.store import Store
from pmlp_np.base.arrays import segment_sum
from pmlp_np.formulas.optimizers import STEP_INPUTS
from pmlp_np.formulas.options import OPTIONS, SCHEDULE_NAMES
from pmlp_np.formulas.regularizers import averaged, clip_factor, dropout_factors
from pmlp_np.formulas.schedules import rate_factor
from pmlp_np.state.layout import spread
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.state.step_inputs import StepInputs, step_inputs


def dropout(plan: Plan, network: FusedNetwork, position: int, rows: int, progress: Progress) -> Drop | None:
    """Return the dropout of the network's members in some rows; None where no member uses dropout.

    position: of the first row in the order of the epoch.
    """
    members, specs, xp = network.members, plan.specs, network.xp
    features, hidden = (specs.option(name)[members] for name in ("input_dropout", "dropout"))
    if not features.any() and not hidden.any():
        return None

    def drop(layer: int, arrays: tuple[Any, ...]) -> None:
        shares = hidden if layer else features
        for i in np.flatnonzero(shares).tolist():
            units, m = network.units_of(i, layer), members[i]
            key, epoch = plan.stream_key[m], int(progress.epoch[m])
            factors = xp.asarray(
                dropout_factors(key, epoch, layer, position, rows, units.stop - units.start, shares[i], plan.dtype)
            )
            for array in arrays:
                array[:, units] *= factors

    return drop


def clipped(plan: Plan, network: FusedNetwork, dw: Any) -> Any:
    """Return the gradient, scaled down to the norm `clip_norm` for members whose gradient has a larger norm."""
    xp, limits = network.xp, plan.specs.option("clip_norm")[network.members]
    if not limits.any():
        return dw
    trained = dw.astype(np.float64) * _gradient_factors(plan, network)
    norm = xp.sqrt(segment_sum((trained * trained).reshape(1, -1), network.starts))[0]
    factor = clip_factor(norm, xp.asarray(np.where(limits > 0.0, limits, np.inf)))
    member = xp.asarray(np.repeat(np.arange(len(limits)), network.layout.block_size))
    return dw * factor.astype(plan.dtype)[member]


def _gradient_factors(plan: Plan, network: FusedNetwork) -> Any:
    """Return the factor of each parameter's gradient in the norm, float64: 1 / scale for divided weights, else 1.

    Divided weights w = W / scale stand for W, which is trained: the gradient by W is 1 / scale times the gradient by w.
    """
    layout = network.layout
    divided = np.repeat(plan.specs.option("parametrization")[network.members] != 0.0, layout.depth + 1)
    sizes = (layout.fan_in * layout.fan_out)[divided]
    start = (np.repeat(layout.block_offset, layout.depth + 1) + layout.weight_offset)[divided]
    factors = np.ones(layout.size)
    factors[spread(start, sizes)] = np.repeat(1.0 / np.sqrt(layout.fan_in[divided].astype(np.float64)), sizes)
    return network.xp.asarray(factors)


def add_to_average(store: Store, network: FusedNetwork, w: Any, step: np.ndarray) -> None:
    """Update the averaged weights of members that average.

    w: the network's parameters. step: (members,) int64, the number of the step that led to w, from 1.
    """
    xp, dtype = network.xp, store.plan.dtype
    decays = store.plan.specs.option("average")[network.members]
    chosen = np.flatnonzero(decays)
    if not len(chosen):
        return
    sizes = network.layout.block_size[chosen]
    at = xp.asarray(spread(network.layout.block_offset[chosen], sizes))
    positions = network.positions[at]
    # The first average is a copy of the weights.
    decay = np.where(step[chosen] == 1, 0.0, decays[chosen])
    numbers = [xp.asarray(np.repeat(x.astype(dtype), sizes)) for x in (decay, 1.0 - decay)]
    store.average[positions] = averaged(store.average[positions], w[at], *numbers)


def rule_numbers(plan: Plan, inputs: StepInputs, same: SameRule, progress: Progress, batches: int, xp: Any) -> Any:
    """Return the scalars of the members' rule in the current minibatch, by name, each (parameters,).

    batches: minibatches of an epoch.
    """
    factors, owner = inputs.rows(same.members)
    members = same.members[owner]
    rates = (progress.rate_factor[same.members] * _schedule_factors(plan, same.members, progress, batches))[owner]
    rows = step_inputs(factors, plan.specs.hyperparameters[members], rates)
    by_name = SimpleNamespace(**dict(zip(STEP_INPUTS, rows.T, strict=True)))
    numbers = same.rule.scalars(by_name, progress.step[members])
    on_device = {name: xp.asarray(value.astype(plan.dtype)) for name, value in numbers.items()}
    return SimpleNamespace(**{name: value[same.input_row] for name, value in on_device.items()})


def _schedule_factors(plan: Plan, members: np.ndarray, progress: Progress, batches: int) -> np.ndarray:
    """Return the factors of the learning rates in each member's current minibatch, (len(members),) float64."""
    codes, factors = plan.specs.option("schedule")[members], np.ones(len(members))
    for code in np.unique(codes):
        some = members[codes == code]
        options = SimpleNamespace(**dict(zip(OPTIONS, plan.specs.options[some].T, strict=True)))
        cursor = progress.epoch[some], progress.minibatch[some], batches, progress.fit_epochs[some]
        factors[codes == code] = rate_factor(SCHEDULE_NAMES[int(code)], options, *cursor)
    return factors
