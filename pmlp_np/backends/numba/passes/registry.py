"""The table of passes, and the conventions that all passes follow.

A pass is a compiled function over a block of rows, emitted as LLVM IR and called through its address. Its arguments are
64-bit integers: addresses in bytes, counts and strides in elements. Blocks of activations are (rows, width padded to
whole vectors); blocks of outputs are (outputs, rows padded), lanes across rows. Every pass leaves padding zero. The
first arguments of a pass over a block of rows are `rows`, `first` and `last`: the number of rows, and whether (1) or
not (0) the block is the first or the last of its minibatch or task.

Accumulation orders, which no choice of tile may change:

    over inputs    one after another                               `layer`
    over columns   one after another, before all other inputs      `encoded_start`
    over rows      one after another                               `weights_backward`, `output_backward`, `column_sums`,
                                                                   `encoded_backward`
    over bins      from the first on; of gradients from the last   `encoded_tables`, `encoded_gradient`
    over units     one accumulator per lane, then a halving tree   `outputs`, `hidden_backward`
    over rows      one accumulator per lane, then a halving tree   output biases and losses (`loss_train`)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple


class Cover(NamedTuple):
    """The tiles into which a product is cut, so that a tile's sums stay in registers.

    Tiles have `rows` rows by `vectors` vectors, or once by `odd_vectors` where the number of vectors is odd. The last
    rows get tiles of fewer rows and more vectors, so that enough sums are independent to hide the latency of a
    multiply-add (4 cycles, two at a time).
    """

    rows: int
    vectors: tuple[int, ...]
    odd_vectors: int
    left_rows: tuple[int, ...]
    left_vectors: tuple[int, ...]


class Tiles(NamedTuple):
    """Register blocking: it changes the speed, not the results.

    product: tiles of plain products. layer: tiles of products with an activation, which is emitted for every vector of
    every tile shape, so that few and small shapes keep the code short. dot_rows: dot products computed at once. strips:
    vectors of a strip in the output layer's backward pass, and half of those in passes of encoded columns. outputs:
    outputs whose gradients the former computes at once.
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
    """Enter a function into the table of passes, as a decorator."""

    def put(function: Pass) -> Pass:
        PASSES[name] = function
        return function

    return put


def argument_names(name: str) -> tuple[str, ...]:
    """Return the names of a pass's i64 arguments, in order."""
    return tuple(inspect.signature(PASSES[name]).parameters)[2:]
