"""The layout: where each parameter lies, seen as offsets, as views, as the canonical order, and as the padding mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pmlp_np as pm
from pmlp_np.specs.members import Specs
from pmlp_np.state.layout import PoolLayout, spread

LANES = st.sampled_from([1, 8, 16])
MEMBERS = st.lists(
    st.builds(
        pm.Member,
        hidden=st.lists(st.integers(1, 40), max_size=4).map(tuple),
        activation=st.sampled_from(["relu", "tanh"]),
        bias=st.booleans(),
        feature_scale=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
FEATURES, OUTPUTS = st.integers(1, 20), st.integers(1, 18)


def padded(n, lanes):
    return -(-n // lanes) * lanes


def shapes(member, n_features, n_outputs):
    """Of each layer (fan_in, fan_out), from the spec alone."""
    widths = (n_features, *member.hidden, n_outputs)
    return list(zip(widths[:-1], widths[1:], strict=True))


def test_a_small_pool_lies_where_the_picture_says():
    specs = Specs.from_members([pm.Member(hidden=(3, 5)), pm.Member(hidden=(), bias=False), pm.Member(hidden=2)])
    layout = PoolLayout(specs, n_features=4, n_raw_outputs=2, lanes=8)
    assert layout.first_layer.tolist() == [0, 3, 4, 6]
    assert list(zip(layout.fan_in.tolist(), layout.fan_out.tolist(), strict=True)) == [
        (4, 3), (3, 5), (5, 2), (4, 2), (4, 2), (2, 2),
    ]  # fmt: skip
    # Hidden weights have padded rows of fan-out; the output layer, turned, padded rows of fan-in, unless it is alone.
    assert layout.stride_in.tolist() == [8, 8, 1, 8, 8, 1]
    assert layout.stride_out.tolist() == [1, 1, 8, 1, 1, 8]
    assert layout.weight_offset.tolist() == [0, 32, 56, 0, 0, 32]
    assert layout.bias_offset.tolist() == [72, 80, 88, -1, 48, 56]
    assert layout.block_size.tolist() == [96, 32, 64]
    assert layout.block_offset.tolist() == [0, 96, 128]
    assert layout.size == 192
    relu = layout.activation[0]
    assert layout.activation.tolist() == [relu, relu, -1, -1, relu, -1]
    assert layout.widest_row() == 8


@given(MEMBERS, FEATURES, OUTPUTS, LANES)
def test_blocks_lie_side_by_side_and_start_on_whole_vectors(members, n_features, n_outputs, lanes):
    layout = PoolLayout(Specs.from_members(members), n_features, n_outputs, lanes)
    assert layout.block_offset[0] == 0
    assert np.array_equal(layout.block_offset[1:], np.cumsum(layout.block_size)[:-1])
    assert layout.size == layout.block_size.sum()
    for table in (layout.block_offset, layout.block_size, layout.weight_offset, layout.row_stride, layout.scale_offset):
        assert table.dtype == np.int64
        assert not (table[table >= 0] % lanes).any()
    biased = layout.bias_offset >= 0
    assert not (layout.bias_offset[biased] % lanes).any()
    assert np.array_equal(biased, [member.bias for member in members for _ in range(len(member.hidden) + 1)])


@given(MEMBERS, FEATURES, OUTPUTS, LANES)
def test_every_element_is_one_parameter_or_padding(members, n_features, n_outputs, lanes):
    """Nothing overlaps, nothing is forgotten: each parameter counted once by its view, the rest is the padding mask."""
    layout = PoolLayout(Specs.from_members(members), n_features, n_outputs, lanes)
    uses = np.zeros(layout.size, int)
    blocks = np.repeat(np.arange(len(members)), layout.block_size)
    for i, member in enumerate(members):
        weights, biases = layout.views(uses, i)
        assert [w.shape for w in weights] == shapes(member, n_features, n_outputs)
        assert [b.shape for b in biases] == [(out,) for _, out in shapes(member, n_features, n_outputs)] * member.bias
        before, scales = uses.copy(), layout.scales(uses, i)
        assert (scales is not None) == member.feature_scale
        assert scales is None or scales.shape == (n_features,)
        for view in weights + biases + [scales] * member.feature_scale:
            view += 1
        assert (blocks[uses != before] == i).all()
    assert uses.max(initial=0) == 1
    assert np.array_equal(layout.padding(), uses == 0)
    expected = [
        sum(i * o + o * member.bias for i, o in shapes(member, n_features, n_outputs))
        + n_features * member.feature_scale
        for member in members
    ]
    scaled = [i for i, member in enumerate(members) if member.feature_scale]
    uses[layout.scale_positions(np.arange(len(members)))] += 1
    assert (uses == 2).sum() == n_features * len(scaled)
    assert all((layout.scales(uses, i) == 2).all() for i in scaled)
    uses[uses == 2] = 1
    assert layout.canonical_sizes().tolist() == expected
    assert uses.sum() == sum(expected)
    if lanes == 1:
        assert not layout.padding().any()


@given(MEMBERS, FEATURES, OUTPUTS, LANES, st.randoms(use_true_random=False))
def test_canonical_order_is_that_of_the_views(members, n_features, n_outputs, lanes, random):
    """Member after member, layer after layer: weights row after row, then biases; then scales; for any choice of
    members."""
    layout = PoolLayout(Specs.from_members(members), n_features, n_outputs, lanes)
    buffer = np.arange(layout.size)
    picked = random.sample(range(len(members)), random.randint(0, len(members)))
    expected = [np.zeros(0, int)]
    for i in picked:
        weights, biases = layout.views(buffer, i)
        for k, w in enumerate(weights):
            expected += [w.ravel(), *(biases[k : k + 1])]
        expected += [layout.scales(buffer, i)] * members[i].feature_scale
    found = layout.canonical(np.array(picked, np.int64))
    assert found.dtype == np.int64
    assert np.array_equal(found, np.concatenate(expected))


@given(MEMBERS, FEATURES, OUTPUTS, LANES)
def test_views_in_canonical_order_are_the_positions(members, n_features, n_outputs, lanes):
    layout = PoolLayout(Specs.from_members(members), n_features, n_outputs, lanes)
    buffer = np.arange(layout.size)
    for i, (start, size) in enumerate(zip(layout.block_offset, layout.block_size, strict=True)):
        views = layout.canonical_views(buffer[start : start + size], i)
        assert all(np.shares_memory(view, buffer) for view in views)
        assert np.array_equal(np.concatenate([view.ravel() for view in views]), layout.canonical(np.array([i])))


@given(MEMBERS, FEATURES, OUTPUTS)
def test_canonical_order_does_not_depend_on_lanes(members, n_features, n_outputs):
    """What files hold can be read by a backend with other vectors."""
    specs = Specs.from_members(members)
    plain, wide = (PoolLayout(specs, n_features, n_outputs, lanes) for lanes in (1, 16))
    everyone = np.arange(len(members))
    buffer = np.full(wide.size, np.nan)
    values = np.random.default_rng(0).normal(size=int(plain.canonical_sizes().sum()))
    buffer[wide.canonical(everyone)] = values
    narrow = np.full(plain.size, np.nan)
    narrow[plain.canonical(everyone)] = values
    for i in everyone:
        for a, b in zip(sum(wide.views(buffer, i), []), sum(plain.views(narrow, i), []), strict=True):
            assert np.array_equal(a, b)
        if members[i].feature_scale:
            assert np.array_equal(wide.scales(buffer, i), plain.scales(narrow, i))
    assert np.array_equal(np.isnan(buffer), wide.padding())


@given(MEMBERS, FEATURES, OUTPUTS, LANES)
def test_strides_lead_to_the_same_elements_as_the_views(members, n_features, n_outputs, lanes):
    layout = PoolLayout(Specs.from_members(members), n_features, n_outputs, lanes)
    buffer = np.arange(layout.size)
    for i in range(len(members)):
        weights, _ = layout.views(buffer, i)
        for k, w in enumerate(weights):
            layer = layout.first_layer[i] + k
            rows, columns = np.indices(w.shape)
            place = layout.block_offset[i] + layout.weight_offset[layer]
            assert np.array_equal(w, place + rows * layout.stride_in[layer] + columns * layout.stride_out[layer])
            # One of the two directions is dense, and the other is a row of whole vectors.
            assert min(layout.stride_in[layer], layout.stride_out[layer]) == 1
            assert layout.row_stride[layer] in (padded(w.shape[0], lanes), padded(w.shape[1], lanes))


@pytest.mark.parametrize(("width", "vectors", "apart"), [(240, 15, 15), (256, 16, 17), (272, 17, 17), (1024, 64, 65)])
def test_wide_rows_are_an_odd_number_of_vectors_apart(width, vectors, apart):
    """Of hidden weights, and of the output layer's behind them, which is read beside that layer's activations."""
    layout = PoolLayout(Specs.from_members([pm.Member(hidden=(width,))]), 3, 2, 16)
    assert layout.vectors.tolist() == [vectors, vectors]
    assert layout.row_stride.tolist() == [16 * apart, 16 * apart]
    assert layout.block_size[0] == (3 + 2) * 16 * apart + 16 * vectors + 16


def test_a_members_block_does_not_depend_on_its_neighbors():
    members = [pm.Member(hidden=(7, 3)), pm.Member(hidden=()), pm.Member(hidden=33, bias=False)]
    together = PoolLayout(Specs.from_members(members), 5, 3, 16)
    for i, member in enumerate(members):
        alone = PoolLayout(Specs.from_members([member]), 5, 3, 16)
        layers = slice(together.first_layer[i], together.first_layer[i + 1])
        for name in ("weight_offset", "bias_offset", "stride_in", "stride_out", "fan_in", "fan_out"):
            assert np.array_equal(getattr(together, name)[layers], getattr(alone, name)), name
        assert together.block_size[i] == alone.size


@pytest.mark.parametrize(("dtype", "lanes"), [("float32", 16), ("float64", 8)])
def test_buffers_and_rows_are_aligned_to_a_cache_line(dtype, lanes):
    pool = pm.Pool(pm.grid(hidden=[1, (3, 18), (), 40]), n_features=5, n_outputs=3, dtype=dtype)
    backend = pool._ready()
    assert backend.layout.lanes == lanes
    assert backend.layout.lanes * np.dtype(dtype).itemsize == 64
    for buffer in (backend.store.parameters, backend.store.slots):
        assert buffer.ctypes.data % 64 == 0
    for name in ("block_offset", "weight_offset", "row_stride"):
        assert not (getattr(backend.layout, name) * np.dtype(dtype).itemsize % 64).any(), name


@pytest.mark.parametrize("lanes", [1, 16])
def test_offsets_beyond_what_32_bits_hold(lanes):
    """Tables alone, nothing allocated: 20,000 members of a million parameters each, and one of 2**48 weights."""
    specs = pm.grid(hidden=[(1000, 1000)], repeats=20_000)
    layout = PoolLayout(specs, n_features=10, n_raw_outputs=1, lanes=lanes)
    width = padded(1000, lanes)
    block = 10 * width + 1000 * width + width + 2 * width + padded(1, lanes)
    assert layout.size == 20_000 * block > 2**34
    assert layout.block_offset[-1] == 19_999 * block > 2**31
    assert layout.canonical(np.array([19_999]))[-1] == 19_999 * block + block - padded(1, lanes)

    wide = PoolLayout(pm.grid(hidden=[(2**24, 2**24)]), 1, 1, lanes)
    row = 2**24 + (lanes if lanes > 1 else 0)  # wide rows are an odd number of vectors apart
    assert wide.weight_offset.tolist() == [0, row, row + 2**24 * row]
    assert wide.size == row + 2**24 * row + row + 2 * 2**24 + padded(1, lanes)
    assert wide.canonical_sizes().tolist() == [2**48 + 4 * 2**24 + 1]


def test_a_million_members_are_laid_out():
    layout = PoolLayout(pm.grid(hidden=range(1, 101), repeats=10_000), 10, 1, 16)
    assert layout.n_members == 1_000_000
    assert layout.size == sum(11 * padded(h, 16) + padded(h, 16) + 16 for h in range(1, 101)) * 10_000


def test_spread():
    assert spread(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spread(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
