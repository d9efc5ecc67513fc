"""The store of a backend: a pool's buffers on one device, and copies of members to and from them.

Buffers are flat arrays of the pool's dtype, of NumPy or CuPy: "parameters"; "slots", the optimizers' state; "best", the
snapshot of best parameters, allocated at first use; "average", the averaged parameters, if any member averages. The
backend's layout gives the offset and the padding of each member's block. Outside a backend, parameters are in main
memory and in canonical order (`PoolLayout.canonical`), which does not depend on padding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from pmlp_np.base.arrays import allocate, free_memory, to_numpy
from pmlp_np.base.copying import attributes, versioned
from pmlp_np.base.errors import require_memory
from pmlp_np.formulas.optimizers import RULES
from pmlp_np.state.layout import PART, PoolLayout, block_parts, merged
from pmlp_np.state.plan import Plan

# The names of buffers, which files use, too. The last two may be missing.
BUFFERS = ("parameters", "slots", "best", "average")
# Members with fewer numbers on average are copied together.
_SMALL = 200


class Store:
    """The buffers of the members of a plan. Parameters are not initialized.

    xp: numpy or cupy, the module of the arrays. slack: zeros behind each buffer, which kernels may read.

    parameters, best, average: (layout.size + slack,); slots: (sum of slot_size + slack,). Member m's slots are
    n_slots[m] blocks like its parameters, side by side from slot_offset[m] on. n_slots, slot_offset, slot_size:
    (n_members,) int64.

    Raises MemoryNeededError before any allocation.
    """

    def __init__(self, plan: Plan, layout: PoolLayout, xp: Any = np, slack: int = 0) -> None:
        self.plan, self.layout, self.xp, self.slack = plan, layout, xp, slack
        self.n_slots = np.array([rule.slots for rule in RULES.values()], np.int64)[plan.specs.rule]
        self.slot_size = layout.block_size * self.n_slots
        self.slot_offset = np.cumsum(self.slot_size) - self.slot_size
        self._sizes = dict.fromkeys(BUFFERS, layout.size) | {"slots": int(self.slot_size.sum())}
        n_numbers = (1 + plan.keeps_average) * layout.size + self._sizes["slots"]
        hint = "Train fewer or smaller members, or float32."
        free = None if xp is np else free_memory(xp)
        require_memory("specs", n_numbers * plan.dtype.itemsize, hint, free)
        self.parameters: Any = self._allocated("parameters")
        self.slots: Any = self._allocated("slots", zero=True)
        self.best: Any = None
        self.average: Any = self._allocated("average") if plan.keeps_average else None
        self._average_lags = True

    def _allocated(self, name: str, zero: bool = False) -> Any:
        size = self._sizes[name]
        buffer = allocate(size + self.slack, self.plan.dtype, self.xp)
        buffer[0 if zero else size :] = 0
        return buffer

    def _make_best(self) -> None:
        if self.best is None:
            self.best = self._allocated("best")

    # Whole members.

    def start(self, members: np.ndarray) -> None:
        """Reset all but the parameters of these members: feature scales to 1, slots to 0, averages to the parameters.

        Called after their initial parameters have been drawn or written.
        """
        self.parameters[self.xp.asarray(self.layout.scale_positions(members))] = 1
        for block in self._blocks("slots", members):
            self.slots[block] = 0
        if self.average is not None:
            self._copy("average", members)
        self.changed()

    def keep(self, members: np.ndarray, weights: str = "last") -> None:
        """Copy "last" or "average" parameters of these members to "best"; a new buffer gets the last of all others."""
        if self.best is None:
            best = self._allocated("best")
            best[...] = self.parameters
            self.best = best
        self._copy("best", members, weights)

    def changed(self) -> None:
        """Note that parameters have changed.

        The averages of members that do not average are copies of their parameters, out of date from then on.
        """
        self._average_lags = True

    def weights(self, which: str) -> Any:
        """Return the buffer of "last", "best" or "average" parameters; that of the last ones if it is not allocated.

        Members without a best epoch, or without averaging, have their last parameters in it.
        """
        if which == "average" and self.average is not None:
            if self._average_lags:
                self._copy("average", np.flatnonzero(self.plan.specs.option("average") == 0.0))
                self._average_lags = False
            return self.average
        return self.best if which == "best" and self.best is not None else self.parameters

    def read(self, member: int, weights: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return copies of a member's (weights, biases), one array per layer; no biases for a member without bias.

        Weights are (fan_in, fan_out); those of the first layer are multiplied by the feature scales.
        """
        block = to_numpy(self.weights(weights)[self._block(member)])
        matrices, biases = ([view.copy() for view in kind] for kind in self.layout.views(block, member, 0))
        scales = self.layout.scales(block, member, 0)
        if scales is not None:
            matrices[0] *= scales[:, None]
        return matrices, biases

    def write(self, member: int, weights: list[np.ndarray], biases: list[np.ndarray]) -> None:
        """Replace a member's parameters and its average, and set its slots to 0."""
        block = np.zeros(int(self.layout.block_size[member]), self.plan.dtype)
        matrices, vectors = self.layout.views(block, member, 0)
        for view, values in zip(matrices + vectors, weights + biases, strict=True):
            view[...] = values
        self.parameters[self._block(member)] = self.xp.asarray(block)
        self.start(np.array([member]))

    # Whole buffers.

    def buffers(self) -> dict[str, int]:
        """Return the count of numbers in canonical order of each allocated buffer, by name."""
        sizes = self.layout.canonical_sizes()
        counts = dict.fromkeys(BUFFERS, int(sizes.sum())) | {"slots": int((sizes * self.n_slots).sum())}
        return {name: count for name, count in counts.items() if getattr(self, name) is not None}

    def stream(self, name: str) -> Iterator[np.ndarray]:
        """Yield the numbers of a buffer in canonical order, in parts of a few megabytes at most.

        Members without a best epoch, or without averaging, have their last parameters in "best" or "average".
        """
        buffer = self.slots if name == "slots" else self.weights(name)
        if self._copies_blocks():
            yield from self._stream_blocks(name, buffer)
            return
        for positions in self._canonical_parts(name):
            yield to_numpy(buffer[self.xp.asarray(positions)])

    def restore(self, name: str, take: Callable[[int], np.ndarray]) -> None:
        """Fill a buffer from numbers in canonical order; take(n) returns the next n. The inverse of `stream`."""
        if name == "best":
            self._make_best()
        buffer = getattr(self, name)
        buffer[...] = 0
        if self._copies_blocks():
            for view in self._canonical_views(name, buffer):
                view[...] = take(view.size).reshape(view.shape)
            self.changed()
            return
        for positions in self._canonical_parts(name):
            buffer[self.xp.asarray(positions)] = self.xp.asarray(take(len(positions)))
        self.changed()

    def fill(self, source: Store, positions: np.ndarray) -> None:
        """Copy all members' blocks from another store, in which they are at these positions."""
        if source.best is not None:
            self._make_best()
        for name in BUFFERS:
            target, values = getattr(self, name), getattr(source, name)
            if target is None:
                continue
            at = 0
            for block in source._blocks(name, positions):
                part = values[block]
                target[at : at + len(part)] = part
                at += len(part)
        self.changed()

    def put_members(self, positions: np.ndarray, source: Store) -> None:
        """Copy all members' blocks of another store to these positions: the inverse of `fill`."""
        if self.best is None and source.best is not None:
            self.keep(positions[:0])
        for name in (each for each in BUFFERS if getattr(self, each) is not None):
            target = getattr(self, name)
            values = source.slots if name == "slots" else source.weights(name)
            at = 0
            for block in self._blocks(name, positions):
                size = block.stop - block.start if isinstance(block, slice) else len(block)
                target[block] = values[at : at + size]
                at += size
        self.changed()

    def on_host(self) -> dict[str, np.ndarray]:
        """Return the allocated buffers, without the slack, in main memory."""
        buffers = {name: getattr(self, name) for name in BUFFERS}
        return {name: to_numpy(buffer[: self._sizes[name]]) for name, buffer in buffers.items() if buffer is not None}

    def put(self, buffers: Mapping[str, np.ndarray]) -> None:
        """Fill the buffers, the inverse of `on_host`."""
        if "best" in buffers:
            self._make_best()
        for name, values in buffers.items():
            getattr(self, name)[: self._sizes[name]] = self.xp.asarray(values)
        self.changed()

    # Offsets of blocks.

    def _copy(self, name: str, members: np.ndarray, weights: str = "last") -> None:
        """Copy these members' parameters, "last" or "average" ones, to another buffer of their size."""
        target, source = getattr(self, name), self.weights(weights)
        for block in self._blocks(name, members):
            target[block] = source[block]

    def _block(self, member: int) -> slice:
        start = int(self.layout.block_offset[member])
        return slice(start, start + int(self.layout.block_size[member]))

    def _all_blocks(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the offset and size of each member's block of a buffer."""
        if name == "slots":
            return self.slot_offset, self.slot_size
        return self.layout.block_offset, self.layout.block_size

    def _blocks(self, name: str, members: np.ndarray) -> Iterable[Any]:
        """Return the blocks of these members as indices into a buffer, those of neighbors as one slice."""
        starts, sizes = merged(*(column[members] for column in self._all_blocks(name)))
        if self.xp is np:
            # Copying a slice is faster than indexing with positions, however short the slice.
            return [slice(start, start + size) for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
        # Each operation of a GPU has a latency: one operation copies many blocks.
        return (part if isinstance(part, slice) else self.xp.asarray(part) for part in block_parts(starts, sizes))

    def _copies_blocks(self) -> bool:
        """Whether members are copied one by one in canonical order: in main memory, unless they are tiny or huge.

        Positions of single numbers take far longer, where a member has many; of a huge one they are computed in parts.
        """
        sizes = self.layout.canonical_sizes()
        return self.xp is np and len(sizes) > 0 and bool(sizes.mean() >= _SMALL and sizes.max() <= PART)

    def _canonical_views(self, name: str, buffer: np.ndarray) -> Iterator[np.ndarray]:
        """Yield all members' tensors in a buffer in canonical order; of slots, one block of a member after another."""
        starts, copies = self._all_blocks(name)[0].tolist(), self.n_slots.tolist() if name == "slots" else None
        for member, (start, size) in enumerate(zip(starts, self.layout.block_size.tolist(), strict=True)):
            for block_number in range(1 if copies is None else copies[member]):
                block = buffer[start + block_number * size : start + (block_number + 1) * size]
                yield from self.layout.canonical_views(block, member)

    def _stream_blocks(self, name: str, buffer: np.ndarray) -> Iterator[np.ndarray]:
        room, used = np.empty(2 * PART, buffer.dtype), 0
        for view in self._canonical_views(name, buffer):
            if used + view.size > len(room):
                yield room[:used].copy()
                used = 0
            room[used : used + view.size].reshape(view.shape)[...] = view
            used += view.size
        if used:
            yield room[:used]

    def _canonical_parts(self, name: str) -> Iterator[np.ndarray]:
        return self.layout.canonical_parts(self._all_blocks(name)[0], self.n_slots if name == "slots" else None)


class StoredBackend:
    """The part of a backend that copies: subsets, deep copies and pickles hold plan, arguments and store.

    The constructor, which takes the plan and the arguments, makes all other attributes, such as scratch.
    """

    plan: Plan
    store: Store

    def _arguments(self) -> tuple[Any, ...]:
        """Return the constructor's arguments after the plan."""
        raise NotImplementedError

    def take(self, plan: Plan, positions: np.ndarray) -> Self:
        """Return a backend for a subset of the members: see the contract."""
        part = type(self)(plan, *self._arguments())  # type: ignore[call-arg]
        part.store.fill(self.store, positions)
        return part

    def free_memory(self) -> int:
        """Return the bytes that are free on the device: see the contract."""
        return free_memory(self.store.xp)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.take(copy.deepcopy(self.plan, memo), np.arange(self.plan.n_members))

    def __getstate__(self) -> dict[str, Any]:
        # Buffers in main memory, without the array module.
        return versioned({"plan": self.plan, "arguments": self._arguments(), "buffers": self.store.on_host()})

    def __setstate__(self, state: Any) -> None:
        values = attributes(type(self).__name__, state)
        self.__init__(values["plan"], *values["arguments"])  # type: ignore[misc]
        self.store.put(values["buffers"])
