"""An update rule's step on parameters whose gradient is in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.simd import Emitter, Value
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.formulas.step_lists import scalar_steps, update_steps

# take(offset, dw, mask): a step of the parameters at an offset, in the lanes of a mask, with their gradient dw.
Take = Callable[[Any, Value, Any], None]


def scalar_names(rule: str) -> tuple[str, ...]:
    """Return the names of the scalars that a rule derives for each step."""
    return scalar_steps(rule).names


def step_of(e: Emitter, rule: str, w: Any, slots: Any, slot_stride: Any, numbers: Any) -> Take:
    """Return a rule's step on parameters from the address `w` on. Lanes outside its mask become zero.

    slots: the address of the first slot; slots are `slot_stride` elements apart. numbers: the address of the rule's
    scalars (numbers, lanes), each in all lanes of a vector.
    """
    s = [e.load(e.offset(numbers, i * e.kind.lanes)) for i in range(len(scalar_names(rule)))]
    slot_at = [e.offset(slots, e.builder.mul(slot_stride, e.integer(i))) for i in range(RULES[rule].slots)]

    def take(i: Any, dw: Value, mask: Any) -> None:
        old_slots = tuple(e.load(e.offset(at, i)) for at in slot_at)
        old_w = e.load(e.offset(w, i))
        new_w, *new_slots = emit(e, update_steps(rule, e.kind.name), old_w, dw, *old_slots, *s)
        e.store(e.masked(mask, new_w), e.offset(w, i))
        for at, slot in zip(slot_at, new_slots, strict=True):
            e.store(e.masked(mask, slot), e.offset(at, i))

    return take


def take_or_keep(e: Emitter, ends: Any, take: Take, dw: Any, offsets: list[Any], masks: list[Any], sums: Any) -> None:
    """Take the step of the parameters at these offsets with the last block; before, store their gradient in `dw`."""
    with e.builder.if_else(ends) as (done, not_yet):
        with done:
            for offset, mask, total in zip(offsets, masks, sums, strict=True):
                take(offset, Value(e, total), mask)
        with not_yet:
            for offset, total in zip(offsets, sums, strict=True):
                e.store(Value(e, total), e.offset(dw, offset))
