"""Passes of the distributions of initial weights."""

from __future__ import annotations

from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import Emitter
from pmlp_np.formulas.initializers import DISTRIBUTIONS
from pmlp_np.formulas.step_lists import distribution_steps


def _distribution_pass(name: str) -> None:
    @enter(f"distribution:{name}")
    def spread(e: Emitter, tiles: Tiles, values, n) -> None:
        """Transform uniform draws from (0, 1) to draws from the distribution, in place.

        Reads and writes values (n,), float64, whole vectors.

        docs/derivations.md#initial-weights
        """

        def vector(i: Any) -> None:
            (draw,) = emit(e, distribution_steps(name), e.load(e.offset(values, i)))
            e.store(draw, e.offset(values, i))

        e.loop(n, vector, step=e.kind.lanes)


for _name in DISTRIBUTIONS:
    _distribution_pass(_name)
