"""Passes of the initial distributions."""

from __future__ import annotations

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import Emitter
from pmlp_np.formulas.initializers import DISTRIBUTIONS


def _distribution_pass(name: str) -> None:
    function = DISTRIBUTIONS[name]

    @enter(f"distribution:{name}")
    def spread(e: Emitter, tiles: Tiles, values, n) -> None:
        """Uniform draws from (0, 1) become draws from the distribution.

        Reads and writes values (n,), float64, whole vectors.

        docs/derivations.md#initial-weights
        """
        e.loop(n, lambda i: e.store(function(e.load(e.offset(values, i))), e.offset(values, i)), step=e.kind.lanes)


for _name in DISTRIBUTIONS:
    _distribution_pass(_name)
