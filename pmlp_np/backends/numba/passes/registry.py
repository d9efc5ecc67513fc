"""The table of passes, and what they share.

A pass is one C-signature function over a block of rows, emitted as LLVM IR and reached through its address. It takes
64-bit integers: addresses in bytes, counts and strides in elements. Blocks of activations are (rows, width padded to
whole vectors); per-output blocks are (outputs, rows padded), lanes across rows. Every pass leaves padding zero.
Passes over a block of rows begin with `rows`, `first` and `last`: how many, and whether (1) or not (0) the block is the
first or the last of its minibatch or task.

Accumulation orders, which no choice of tile may change: over inputs, one after another (`layer`); over rows, one
after another (`weights_backward`, `output_backward`, `column_sums`); over units, one accumulator per lane and then a
halving tree (`outputs`, `hidden_backward`); over rows of an output's bias and of the loss, one accumulator per lane and
then a halving tree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple


class Cover(NamedTuple):
    """How a product's result is cut into tiles that stay in registers.

    Tiles of `rows` rows by `odd_vectors` vectors (once, where the number of vectors is odd) or `vectors` vectors; the
    rows that are left in shapes with fewer rows and more vectors, so that enough sums are under way to hide the latency
    of a multiply-add (4 cycles, two at a time).
    """

    rows: int
    vectors: tuple[int, ...]
    odd_vectors: int
    left_rows: tuple[int, ...]
    left_vectors: tuple[int, ...]


class Tiles(NamedTuple):
    """Register blocking. It decides speed alone: results do not depend on it.

    `product` cuts plain products; `layer` those whose tiles then pass through an activation, which is emitted once for
    every vector of every tile shape: few and small ones. `dot_rows` dot products run at once. The output layer's
    backward pass goes through in strips of `strips` vectors, and for the gradient of `outputs` outputs at once.
    """

    product: Cover
    layer: Cover
    dot_rows: int
    strips: tuple[int, ...]
    outputs: tuple[int, ...]


# 32 registers of one vector each, or 16 registers of half a vector each.
AVX512_TILES = Tiles(
    product=Cover(8, (2, 1), 3, left_rows=(4, 2, 1), left_vectors=(4, 2, 1)),
    layer=Cover(8, (2, 1), 0, left_rows=(1,), left_vectors=(4, 1)),
    dot_rows=16,
    strips=(4, 2, 1),
    outputs=(4, 1),
)
AVX2_TILES = Tiles(
    product=Cover(6, (1,), 0, left_rows=(3, 1), left_vectors=(2, 1)),
    layer=Cover(6, (1,), 0, left_rows=(1,), left_vectors=(4, 1)),
    dot_rows=4,
    strips=(2, 1),
    outputs=(2, 1),
)

Pass = Callable[..., None]
# name -> function(emitter, tiles, **i64 arguments)
PASSES: dict[str, Pass] = {}


def enter(name: str) -> Callable[[Pass], Pass]:
    """Put a function into the table of passes."""

    def put(function: Pass) -> Pass:
        PASSES[name] = function
        return function

    return put


def argument_names(name: str) -> tuple[str, ...]:
    """The i64 arguments of a pass, in order."""
    return tuple(inspect.signature(PASSES[name]).parameters)[2:]
