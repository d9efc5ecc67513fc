"""Options of members that change a step: dropout, clipped gradients, averaged weights, and the numbers of update rules,
which schedules and plateaus change. Each is computed for the members that use it."""

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


def dropout(plan: Plan, network: FusedNetwork, place: int, rows: int, progress: Progress) -> Drop | None:
    """Dropout of the network's members in some rows, from this place of their epoch on; None where nobody uses it."""
    members, specs, xp = network.members, plan.specs, network.xp
    features, hidden = (specs.option(name)[members] for name in ("input_dropout", "dropout"))
    if not features.any() and not hidden.any():
        return None

    def drop(layer: int, arrays: tuple[Any, ...]) -> None:
        shares = hidden if layer else features
        for i in np.flatnonzero(shares).tolist():
            own, m = network.units_of(i, layer), members[i]
            key, epoch = plan.stream_key[m], int(progress.epoch[m])
            factors = xp.asarray(
                dropout_factors(key, epoch, layer, place, rows, own.stop - own.start, shares[i], plan.dtype)
            )
            for array in arrays:
                array[:, own] *= factors

    return drop


def clipped(plan: Plan, network: FusedNetwork, dw: Any) -> Any:
    """The gradient, scaled down for members whose own is longer than they allow."""
    xp, limits = network.xp, plan.specs.option("clip_norm")[network.members]
    if not limits.any():
        return dw
    trained = dw.astype(np.float64) * _gradient_factors(plan, network)
    norm = xp.sqrt(segment_sum((trained * trained).reshape(1, -1), network.starts))[0]
    factor = clip_factor(norm, xp.asarray(np.where(limits > 0.0, limits, np.inf)))
    own = xp.asarray(np.repeat(np.arange(len(limits)), network.layout.block_size))
    return dw * factor.astype(plan.dtype)[own]


def _gradient_factors(plan: Plan, network: FusedNetwork) -> Any:
    """What the gradient by each of the network's parameters is multiplied by to be that by what is trained, float64:
    1 / scale for weights w = W / scale that stand for W."""
    layout = network.layout
    divided = np.repeat(plan.specs.option("parametrization")[network.members] != 0.0, layout.depth + 1)
    sizes = (layout.fan_in * layout.fan_out)[divided]
    start = (np.repeat(layout.block_offset, layout.depth + 1) + layout.weight_offset)[divided]
    factors = np.ones(layout.size)
    factors[spread(start, sizes)] = np.repeat(1.0 / np.sqrt(layout.fan_in[divided].astype(np.float64)), sizes)
    return network.xp.asarray(factors)


def add_to_average(store: Store, network: FusedNetwork, w: Any, step: np.ndarray) -> None:
    """Averaged weights of the members that keep them, after these steps (members,) that led to w."""
    xp, dtype = network.xp, store.plan.dtype
    decays = store.plan.specs.option("average")[network.members]
    chosen = np.flatnonzero(decays)
    if not len(chosen):
        return
    sizes = network.layout.block_size[chosen]
    own = xp.asarray(spread(network.layout.block_offset[chosen], sizes))
    place = network.place[own]
    # The first average is the weights themselves.
    decay = np.where(step[chosen] == 1, 0.0, decays[chosen])
    numbers = [xp.asarray(np.repeat(x.astype(dtype), sizes)) for x in (decay, 1.0 - decay)]
    store.average[place] = averaged(store.average[place], w[own], *numbers)


def rule_numbers(plan: Plan, inputs: StepInputs, same: SameRule, progress: Progress, batches: int, xp: Any) -> Any:
    """What the members' rule takes for each of their parameters in this minibatch, one of `batches` of their epoch: by
    name (parameters,) of the pool's dtype."""
    factors, owner = inputs.rows(same.members)
    members = same.members[owner]
    rates = (progress.rate_factor[same.members] * _schedule_factors(plan, same.members, progress, batches))[owner]
    rows = step_inputs(factors, plan.specs.hyperparameters[members], rates)
    by_name = SimpleNamespace(**dict(zip(STEP_INPUTS, rows.T, strict=True)))
    numbers = same.rule.scalars(by_name, progress.step[members])
    moved = {name: xp.asarray(value.astype(plan.dtype)) for name, value in numbers.items()}
    return SimpleNamespace(**{name: value[same.run] for name, value in moved.items()})


def _schedule_factors(plan: Plan, members: np.ndarray, progress: Progress, batches: int) -> np.ndarray:
    """What these members' schedules make of their learning rates in the minibatch that each is at."""
    codes, factors = plan.specs.option("schedule")[members], np.ones(len(members))
    for code in np.unique(codes):
        some = members[codes == code]
        options = SimpleNamespace(**dict(zip(OPTIONS, plan.specs.options[some].T, strict=True)))
        cursor = progress.epoch[some], progress.minibatch[some], batches, progress.fit_epochs[some]
        factors[codes == code] = rate_factor(SCHEDULE_NAMES[int(code)], options, *cursor)
    return factors
