"""Passes of feature scales: weights times scales, which the first layer reads, and their gradients.

Programs of members without feature scales have none of these passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pmlp_np.backends.numba.passes.registry import Tiles, enter
from pmlp_np.backends.numba.simd import Emitter, Value, fma


def _over_vectors(e: Emitter, width: Any, body: Callable[..., Any], *carried: Any) -> list[Any]:
    """Emit body(column, mask, *carried) for every vector of a row."""
    lanes = e.kind.lanes
    return e.loop(width, lambda n, *c: body(n, e.first_lanes(e.builder.sub(width, n)), *c), *carried, step=lanes)


@enter("scale_features")
def _scale_features(e: Emitter, tiles: Tiles, out, w, scales, stride, rows, width) -> None:
    """Compute the weights that the first layer reads: out[i, n] = scales[i] w[i, n].

    Reads w (rows, width) by `stride`, and scales (rows,). Writes out, like w.

    docs/derivations.md#scales-of-features
    """
    bld = e.builder

    def row(i: Any) -> None:
        start, scale = bld.mul(i, stride), e.broadcast(e.offset(scales, i))

        def vector(n: Any, mask: Any) -> None:
            i = bld.add(start, n)
            e.store(e.masked(mask, scale * e.load(e.offset(w, i))), e.offset(out, i))

        _over_vectors(e, width, vector)

    e.loop(rows, row)


@enter("scales_backward")
def _scales_backward(e: Emitter, tiles: Tiles, dscales, dw, w, scales, stride, rows, width) -> None:
    """Compute the gradients by scales and by weights from dw, the gradient by scales[i] w[i, n].

    dscales[i] = sum over n of w[i, n] dw[i, n], one accumulator per lane, then a halving tree; dw[i, n] *= scales[i].

    Reads w (rows, width) by `stride`, and scales (rows,). Writes dw, like w, in place, and dscales (rows,).

    docs/derivations.md#scales-of-features
    """
    bld = e.builder

    def row(i: Any) -> None:
        start, scale = bld.mul(i, stride), e.broadcast(e.offset(scales, i))

        def vector(n: Any, mask: Any, total: Any) -> list[Any]:
            i = bld.add(start, n)
            dw_at = e.offset(dw, i)
            g = e.masked(mask, e.load(dw_at))
            e.store(scale * g, dw_at)
            return [fma(e.load(e.offset(w, i)), g, Value(e, total)).ir]

        (total,) = _over_vectors(e, width, vector, e.constant(0.0).ir)
        e.store_scalar(e.folded(Value(e, total)), e.offset(dscales, i))

    e.loop(rows, row)
