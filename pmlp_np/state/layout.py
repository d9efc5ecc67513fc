"""The layout of a pool: offsets and strides of each member's parameters in one flat buffer.

A member's parameters are contiguous: its weight matrices, layer by layer, then its bias vectors, then its feature
scales, if it has any. Hidden weights are stored as (fan_in, fan_out padded to whole vectors), the weights of an output
layer behind hidden layers as (n_outputs, fan_in padded), and those of a member without hidden layers like hidden
weights. `stride_in` and `stride_out` are the elements between neighbors along fan-in and fan-out, whatever the
orientation. Padding is zero. Offsets are 64-bit. With `lanes=1` nothing is padded.

    member m:  | W0 (fan_in, padded fan_out) | W1 ... | W_out (n_outputs, padded fan_in) | b0 | b1 | ... | b_out | s |
               ^ block_offset[m]                                                             block_size[m] elements
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pmlp_np.specs.members import Specs

# Vectors per row from which the number of vectors from row to row is odd.
_WIDE = 16
# Elements copied at a time where a buffer is indexed by positions. Positions, and the temporaries that compute them,
# take about 100 bytes per element: they fit into a processor's cache.
PART = 1 << 17


def _starts(counts: np.ndarray) -> np.ndarray:
    """Return the cumulative sum of counts, from 0 on, (n + 1,) int64."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def spread(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the ranges starts[i] ... starts[i] + counts[i] - 1, concatenated, int64."""
    before = np.repeat(_starts(counts)[:-1], counts)
    return np.repeat(starts, counts) + np.arange(len(before), dtype=np.int64) - before


def runs_of(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Yield slices of neighbors whose sizes add up to at most `most`; one that is larger is alone."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, stop)
        start = stop


def merged(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge ranges starts[i] ... starts[i] + sizes[i] - 1 that adjoin. Returns (starts, sizes)."""
    stops = starts + sizes
    first = np.flatnonzero(np.append(True, starts[1:] != stops[:-1])[: len(starts)])
    ends = stops[np.append(first[1:], len(starts))[: len(first)] - 1]
    return starts[first], ends - starts[first]


def block_parts(starts: np.ndarray, sizes: np.ndarray, most: int | None = None) -> Iterator[slice | np.ndarray]:
    """Yield the ranges starts[i] ... starts[i] + sizes[i] - 1, some at a time, as indices into a flat buffer.

    One range is a slice; several are an array of at most `most` (PART) positions.
    """
    for part in runs_of(sizes, PART if most is None else most):
        if part.stop - part.start == 1:
            yield slice(int(starts[part.start]), int(starts[part.start] + sizes[part.start]))
        else:
            yield spread(starts[part], sizes[part])


def _ranges(start: int, count: int, most: int) -> Iterator[np.ndarray]:
    for at in range(start, start + count, most):
        yield np.arange(at, min(at + most, start + count))


class PoolLayout:
    """Offsets and strides of all members of a pool, as columns.

    n_features: of each member, (n_members,) int64, or one number for all. lanes: elements of a vector.

    Columns are int64. Per member: `first_layer` (n_members + 1), `depth`, `block_offset`, `block_size`, `scale_offset`
    (of feature scales, within the block; -1: none). Per layer, member after member, output layers last: `fan_in`,
    `fan_out`, `weight_offset` and `bias_offset` (within the block; -1: no bias), `vectors` (in a row, as stored),
    `stride_in`, `stride_out`, `activation` (a code; -1 for an output layer).
    """

    def __init__(self, specs: Specs, n_features: int | np.ndarray, n_raw_outputs: int, lanes: int) -> None:
        self.lanes = lanes
        self.most_features = int(np.max(n_features))
        self.n_raw_outputs = n_raw_outputs
        depths = np.diff(specs.width_offsets)
        self.n_members = len(depths)
        self.depth = depths.astype(np.int64)
        self.first_layer = _starts(depths + 1)
        n_layers = int(self.first_layer[-1])
        last = self.first_layer[1:] - 1
        first = self.first_layer[:-1]
        is_last = np.zeros(n_layers, bool)
        is_last[last] = True
        self.fan_out = np.empty(n_layers, np.int64)
        self.fan_out[is_last] = n_raw_outputs
        self.fan_out[~is_last] = specs.widths
        self.fan_in = np.empty(n_layers, np.int64)
        self.fan_in[1:] = self.fan_out[:-1]
        self.fan_in[first] = n_features
        self.activation = np.full(n_layers, -1, np.int64)
        self.activation[~is_last] = specs.activations

        turned = is_last.copy()
        turned[last[depths == 0]] = False
        rows = np.where(turned, self.fan_out, self.fan_in)
        hidden = np.where(turned, self.fan_in, self.fan_out)
        self.vectors = self._padded(hidden) // lanes
        row_stride = self._spaced(self.vectors, ~is_last | turned) * lanes
        self.stride_in = np.where(turned, 1, row_stride)
        self.stride_out = np.where(turned, row_stride, 1)
        weight_sizes = rows * row_stride
        bias_sizes = np.where(np.repeat(specs.bias, depths + 1), self._padded(self.fan_out), 0)

        weight_starts, bias_starts = _starts(weight_sizes), _starts(bias_sizes)
        weights_of, biases_of = weight_starts[self.first_layer], bias_starts[self.first_layer]
        of_member = np.repeat(np.arange(self.n_members), depths + 1)
        self.weight_offset = weight_starts[:-1] - weights_of[of_member]
        self.bias_offset = bias_starts[:-1] - biases_of[of_member] + np.diff(weights_of)[of_member]
        self.bias_offset[bias_sizes == 0] = -1
        scaled = specs.option("feature_scale") != 0.0
        without_scales = np.diff(weights_of) + np.diff(biases_of)
        self.scale_offset = np.where(scaled, without_scales, -1)
        self.block_size = without_scales + np.where(scaled, self._padded(self.fan_in[first]), 0)
        self.block_offset = _starts(self.block_size)[:-1]
        self.size = int(self.block_size.sum())

    def _padded(self, widths: np.ndarray) -> np.ndarray:
        return -(-widths // self.lanes) * self.lanes

    def _spaced(self, vectors: np.ndarray, spaced: np.ndarray) -> np.ndarray:
        """Return the vectors from one row to the next: an odd number in wide matrices.

        With a power of two, a column's elements would share a few sets of a cache, and evict each other.
        """
        wide = spaced & (vectors >= _WIDE) & (self.lanes > 1)
        return np.where(wide, vectors | 1, vectors)

    @property
    def row_stride(self) -> np.ndarray:
        """The elements from one row of each weight matrix, as stored, to the next."""
        return np.maximum(self.stride_in, self.stride_out)

    def widest_row(self) -> int:
        """Return the elements of the longest padded row of any weight matrix."""
        return int(self.row_stride.max(initial=self.lanes))

    def tensors(self, member: int, base: int | None = None) -> Iterator[tuple[slice, tuple[int, ...], tuple[int, ...]]]:
        """Yield (slice of the flat buffer, shape, strides in elements) of each layer's weights, and of its biases.

        base: the offset of the member's block in the buffer: 0 in an array that is the block, by default block_offset.
        Weights have shape (fan_in, fan_out), and biases (fan_out,), whatever the orientation in the buffer.
        """
        base = int(self.block_offset[member]) if base is None else base
        for layer in range(int(self.first_layer[member]), int(self.first_layer[member + 1])):
            fan_in, fan_out = int(self.fan_in[layer]), int(self.fan_out[layer])
            strides = int(self.stride_in[layer]), int(self.stride_out[layer])
            start = base + int(self.weight_offset[layer])
            extent = (fan_in - 1) * strides[0] + (fan_out - 1) * strides[1] + 1
            yield slice(start, start + extent), (fan_in, fan_out), strides
            if self.bias_offset[layer] >= 0:
                start = base + int(self.bias_offset[layer])
                yield slice(start, start + fan_out), (fan_out,), (1,)

    def views(
        self, buffer: np.ndarray, member: int, base: int | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return (weights, biases) of a member as views of a flat buffer; no biases for a member without bias.

        base: as in `tensors`.
        """
        weights: list[np.ndarray] = []
        biases: list[np.ndarray] = []
        for part, shape, strides in self.tensors(member, base):
            view = np.lib.stride_tricks.as_strided(buffer[part], shape, [s * buffer.itemsize for s in strides])
            (weights if len(shape) == 2 else biases).append(view)
        return weights, biases

    def scales(self, buffer: np.ndarray, member: int, base: int | None = None) -> np.ndarray | None:
        """Return a member's feature scales, (fan_in,), as a view of a flat buffer; None without feature scales.

        base: as in `tensors`.
        """
        if self.scale_offset[member] < 0:
            return None
        start = int(self.scale_offset[member]) + (int(self.block_offset[member]) if base is None else base)
        return buffer[start : start + int(self.fan_in[self.first_layer[member]])]

    def scale_positions(self, members: np.ndarray) -> np.ndarray:
        """Return the positions in the flat buffer of the feature scales of these members, int64."""
        scaled = members[self.scale_offset[members] >= 0]
        start = self.block_offset[scaled] + self.scale_offset[scaled]
        return spread(start, self.fan_in[self.first_layer[scaled]])

    def padding(self) -> np.ndarray:
        """Return a mask of the elements of the flat buffer that hold no parameter, (size,) bool."""
        unused = np.ones(self.size, bool)
        for member in range(self.n_members):
            weights, biases = self.views(unused, member)
            for view in weights + biases:
                view[...] = False
        unused[self.scale_positions(np.arange(self.n_members))] = False
        return unused

    def canonical(self, members: np.ndarray) -> np.ndarray:
        """Return the positions in the flat buffer of these members' parameters in canonical order, int64.

        Canonical order: member after member, layer after layer, weights (fan_in, fan_out) row after row, then biases;
        after the last layer feature scales.
        """
        layers = spread(self.first_layer[members], self.depth[members] + 1)
        base = np.repeat(self.block_offset[members], self.depth[members] + 1)
        with_bias = self.bias_offset[layers] >= 0
        # Rows of all tensors: fan_in rows of weights, then one row of biases where there is one, then one of scales.
        of_member = np.repeat(members, self.depth[members] + 1)
        with_scales = (layers == self.first_layer[of_member + 1] - 1) & (self.scale_offset[of_member] >= 0)
        rows = self.fan_in[layers] + with_bias + with_scales
        row_layer = np.repeat(np.arange(len(layers)), rows)
        row = spread(np.zeros(len(layers), np.int64), rows)
        at = layers[row_layer]
        is_scale = with_scales[row_layer] & (row == rows[row_layer] - 1)
        is_bias = ~is_scale & (row == self.fan_in[at])
        offset = np.where(is_bias, self.bias_offset[at], self.weight_offset[at] + row * self.stride_in[at])
        owner = of_member[row_layer]
        start = base[row_layer] + np.where(is_scale, self.scale_offset[owner], offset)
        step = np.where(is_bias | is_scale, 1, self.stride_out[at])
        lengths = np.where(is_scale, self.fan_in[self.first_layer[owner]], self.fan_out[at])
        column = spread(np.zeros(len(at), np.int64), lengths)
        return np.repeat(start, lengths) + column * np.repeat(step, lengths)

    def canonical_views(self, block: np.ndarray, member: int) -> list[np.ndarray]:
        """Return a member's parameters, in an array that is its block, as views in canonical order: see `canonical`."""
        views: list[np.ndarray] = []
        for part, shape, strides in self.tensors(member, 0):
            if len(shape) == 1:
                views.append(block[part])
                continue
            # Rows are padded, the last one, too. Both strides are 1 where rows of one element are not.
            (fan_in, fan_out), start = shape, part.start
            if strides[1] == 1 and strides[0] >= fan_out:
                views.append(block[start : start + fan_in * strides[0]].reshape(fan_in, strides[0])[:, :fan_out])
            else:
                views.append(block[start : start + fan_out * strides[1]].reshape(fan_out, strides[1])[:, :fan_in].T)
        scales = self.scales(block, member, 0)
        return views if scales is None else [*views, scales]

    def canonical_parts(
        self, offset: np.ndarray, copies: np.ndarray | None = None, most: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the positions of all members' parameters in canonical order, at most `most` (PART) at a time, int64.

        offset: (n_members,) int64, of each member's block in the buffer. copies: (n_members,) int64, blocks of each
        member, side by side: 1 of parameters, which is the default; of optimizer slots the number of slots.
        """
        most = PART if most is None else most
        sizes = self.canonical_sizes()
        copies = np.ones(self.n_members, np.int64) if copies is None else copies
        totals = sizes * copies
        for part in runs_of(totals, most):
            if not totals[part].any():
                continue
            if totals[part.start] <= most:
                members = np.repeat(np.arange(part.start, part.stop), copies[part])
                which = spread(np.zeros(part.stop - part.start, np.int64), copies[part])
                shift = offset[members] + which * self.block_size[members] - self.block_offset[members]
                yield self.canonical(members) + np.repeat(shift, sizes[members])
                continue
            for copy in range(int(copies[part.start])):
                start = int(offset[part.start]) + copy * int(self.block_size[part.start])
                for positions in self._parts_of_one(part.start, most):
                    yield positions + start

    def _parts_of_one(self, member: int, most: int) -> Iterator[np.ndarray]:
        """Yield positions within a large member's block in canonical order, some rows or a part of a row at a time."""
        for layer in range(int(self.first_layer[member]), int(self.first_layer[member + 1])):
            fan_in, fan_out = int(self.fan_in[layer]), int(self.fan_out[layer])
            start, stride_in, stride_out = (
                int(column[layer]) for column in (self.weight_offset, self.stride_in, self.stride_out)
            )
            columns = min(fan_out, most)
            rows = most // columns
            for row in range(0, fan_in, rows):
                along = np.arange(row, min(row + rows, fan_in))[:, None] * stride_in + start
                for column in range(0, fan_out, columns):
                    across = np.arange(column, min(column + columns, fan_out)) * stride_out
                    yield (along + across).ravel()
            if self.bias_offset[layer] >= 0:
                yield from _ranges(int(self.bias_offset[layer]), fan_out, most)
        if self.scale_offset[member] >= 0:
            yield from _ranges(int(self.scale_offset[member]), int(self.fan_in[self.first_layer[member]]), most)

    def canonical_sizes(self) -> np.ndarray:
        """Return the number of parameters of each member, (n_members,) int64."""
        per_layer = self.fan_in * self.fan_out + np.where(self.bias_offset >= 0, self.fan_out, 0)
        if not self.n_members:
            return np.zeros(0, np.int64)
        scales = np.where(self.scale_offset >= 0, self.fan_in[self.first_layer[:-1]], 0)
        return np.add.reduceat(per_layer, self.first_layer[:-1]) + scales
