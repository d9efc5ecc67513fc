"""A rule's step on parameters whose gradient is still in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.simd import Emitter, Value
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.step_lists import scalar_steps, update_steps

# take(place, dw, mask): the parameters at an offset take a step along their gradient, in the lanes of a mask.
Take = Callable[[Any, Value, Any], None]


def scalar_names(rule: str) -> tuple[str, ...]:
    """The names of the numbers that a rule derives for each step."""
    return scalar_steps(rule).names


def step_of(e: Emitter, rule: str, w: Any, slots: Any, slot_stride: Any, numbers: Any) -> Take:
    """The step of a rule on parameters from `w` on, whose slots lie `slot_stride` elements apart; each of its numbers
    fills a vector of `numbers`. Padding, where the mask is not, becomes zero."""
    s = [e.load(e.offset(numbers, i * e.kind.lanes)) for i in range(len(scalar_names(rule)))]
    slot_at = [e.offset(slots, e.builder.mul(slot_stride, e.integer(i))) for i in range(RULES[rule].slots)]

    def take(place: Any, dw: Value, mask: Any) -> None:
        old = tuple(e.load(e.offset(at, place)) for at in slot_at)
        held = e.load(e.offset(w, place))
        new_w, *new_slots = emit(e, update_steps(rule, e.kind.name), held, dw, *old, *s)
        e.store(e.masked(mask, new_w), e.offset(w, place))
        for at, slot in zip(slot_at, new_slots, strict=True):
            e.store(e.masked(mask, slot), e.offset(at, place))

    return take


def take_or_keep(e: Emitter, ends: Any, take: Take, dw: Any, places: list[Any], masks: list[Any], sums: Any) -> None:
    """With the last block the parameters at these offsets take their step; before it their gradient is kept in `dw`."""
    with e.builder.if_else(ends) as (done, not_yet):
        with done:
            for place, mask, total in zip(places, masks, sums, strict=True):
                take(place, Value(e, total), mask)
        with not_yet:
            for place, total in zip(places, sums, strict=True):
                e.store(Value(e, total), e.offset(dw, place))
