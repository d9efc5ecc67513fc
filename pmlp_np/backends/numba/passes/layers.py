"""Passes of hidden layers: the product with the weights and, while it is in registers, the activation.

Pre-activations are never stored. With few features the store would take longer than the product: at 5 features the
product takes 5 instructions a vector, and two stores take 4 cycles on some processors.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pmlp_np.backends.numba.emitting import emit
from pmlp_np.backends.numba.passes.matrices import Begin, block_of, multiply, row_of
from pmlp_np.backends.numba.passes.registry import PASSES, Pass, Tiles, enter
from pmlp_np.backends.numba.simd import KINDS, Emitter, Value
from pmlp_np.formulas.activations import ACTIVATIONS, Activation
from pmlp_np.formulas.step_lists import activation_steps
from pmlp_np.formulas.tracing import digest


def layer_pass(name: str, task: str) -> str:
    """Return the name of an activation's pass for a task, entered into the table at first use.

    task: "layer_train" or "layer"; with "_onto" behind it, of a first layer that reads encoded columns.

    Of a user's activation, a hash of its formula is part of the name: compiled code is cached under the name.
    """
    entry = ACTIVATIONS[name]
    label = _hashed_label(entry) if entry.registered else name
    if f"{task}:{label}" not in PASSES:
        _layer_passes(label, entry)
    return f"{task}:{label}"


@cache
def _hashed_label(entry: Activation) -> str:
    return f"{entry.name}@{digest(*(activation_steps(entry.name, kind) for kind in KINDS))}"


def _layer_passes(label: str, entry: Activation) -> None:
    for task, function in _passes_of(entry.name).items():
        enter(f"{task}:{label}")(function)


def _passes_of(name: str) -> dict[str, Pass]:
    def layer(
        e: Emitter, tiles: Tiles, stores, stride, x, x_stride, w, begin: Begin, rows, width, vectors, fan_in
    ) -> None:
        """Store the activation of x w + begin at stores[0], and its derivative at stores[1] where that is given."""
        bld, lanes, steps = e.builder, e.kind.lanes, activation_steps(name, e.kind.name)
        steps = steps.only(*steps.names[: len(stores)])

        def finish(r: Any, height: int, columns: Any, count: int, sums: list[Any]) -> None:
            # Only the last vector of a strip can reach beyond the width.
            end = bld.add(columns, e.integer((count - 1) * lanes))
            masks = [None] * (count - 1) + [e.first_lanes(bld.sub(width, end))]
            lines = [e.rows(e.offset(address, columns), r, stride, height) for address in stores]
            for i in range(height):
                for j in range(count):
                    results = emit(e, steps, Value(e, sums[i * count + j]))
                    for line, result in zip(lines, results, strict=True):
                        e.store(e.masked(masks[j], result), e.offset(line[i], j * lanes))

        multiply(e, tiles.layer, begin, x, x_stride, e.integer(1), w, stride, rows, vectors, fan_in, finish)

    def train(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, a, d, stride, w, start, width, vectors, fan_in
    ) -> None:
        """Compute a hidden layer in training: a[r] = f(x[r] w + start), and d[r], the derivative of f there.

        Reads x (rows, fan_in) by `x_stride`; w (fan_in, width) by `stride`, whole `vectors`; start (width,).
        Writes a and d (rows, width) by `stride`. Pre-activations stay in registers.

        docs/kernels.md#the-register-tile, docs/derivations.md#activations
        """
        layer(e, tiles, (a, d), stride, x, x_stride, w, row_of(e, start), rows, width, vectors, fan_in)

    def forward(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, a, stride, w, start, width, vectors, fan_in
    ) -> None:
        """Compute a layer: a[r] = f(x[r] w + start).

        Reads x (rows, fan_in) by `x_stride`; w (fan_in, width) by `stride`, whole `vectors`; start (width,).
        Writes a (rows, width) by `stride`. Pre-activations stay in registers.

        docs/kernels.md#the-register-tile, docs/derivations.md#activations
        """
        layer(e, tiles, (a,), stride, x, x_stride, w, row_of(e, start), rows, width, vectors, fan_in)

    def train_onto(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, a, d, stride, w, width, vectors, fan_in
    ) -> None:
        """Compute a first layer in training, onto sums: a[r] = f(a[r] + x[r] w), and d[r], the derivative of f there.

        Reads a (rows, width) by `stride`, as `encoded_start` writes it, x (rows, fan_in) by `x_stride`, and w (fan_in,
        width) by `stride`, whole `vectors`. Writes a and d (rows, width) by `stride`.

        docs/kernels.md#encoded-columns
        """
        layer(e, tiles, (a, d), stride, x, x_stride, w, block_of(e, a, stride), rows, width, vectors, fan_in)

    def forward_onto(
        e: Emitter, tiles: Tiles, rows, first, last, x, x_stride, a, stride, w, width, vectors, fan_in
    ) -> None:
        """Compute a first layer, onto sums: a[r] = f(a[r] + x[r] w).

        Reads a (rows, width) by `stride`, as `encoded_start` writes it, x (rows, fan_in) by `x_stride`, and w (fan_in,
        width) by `stride`, whole `vectors`. Writes a.

        docs/kernels.md#encoded-columns
        """
        layer(e, tiles, (a,), stride, x, x_stride, w, block_of(e, a, stride), rows, width, vectors, fan_in)

    return {"layer_train": train, "layer": forward, "layer_train_onto": train_onto, "layer_onto": forward_onto}


for _entry in ACTIVATIONS.values():
    if not _entry.registered:
        _layer_passes(_entry.name, _entry)
