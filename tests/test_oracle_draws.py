"""Holds the oracle's random numbers to published vectors, their definitions, and PyTorch's distributions."""

import math
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from oracle_twins import torch_in_float64


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    yield from torch_in_float64()


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter: tuple, key: tuple, expected: tuple) -> None:
    """Random123's kat_vectors, philox4x32 with 10 rounds; the same through arrays of words."""
    assert oracle.philox4x32(counter, key) == expected
    blocks = oracle.philox4x32([np.full(3, word, dtype=np.uint64) for word in counter], key)
    assert [block.tolist() for block in blocks] == [[word] * 3 for word in expected]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.integers(0, 2**64 - 1))
def test_philox_takes_words_and_arrays_together(rest: list[int], key: int) -> None:
    words = oracle.key_words(key)
    blocks = oracle.philox4x32((np.arange(5, dtype=np.uint64), *rest), words)
    for i, block in enumerate(np.stack(blocks, axis=1).tolist()):
        assert tuple(block) == oracle.philox4x32((i, *rest), words)


def test_keys_follow_their_definitions() -> None:
    seed, member = 0x0123456789ABCDEF, 5 * 2**32 + 7
    words = (0x89ABCDEF, 0x01234567)

    def first_two(counter: tuple[int, ...], key: tuple[int, int]) -> int:
        low, high, *_ = oracle.philox4x32(counter, key)
        return low + high * 2**32

    assert oracle.stream_key(seed, member) == first_two((7, 5, 0, 1), words)
    assert oracle.stream_key(seed, member_seed=2**32 + 3) == first_two((0, 0, 0, 2), (3, 1))
    assert oracle.stream_key(seed, member, member_seed=0) == first_two((0, 0, 0, 2), (0, 0))
    assert oracle.order_key(seed) == first_two((0, 0, 0, 3), words)
    with pytest.raises(ValueError, match="needs its id"):
        oracle.stream_key(seed)
    with pytest.raises(ValueError, match="not -1"):
        oracle.order_key(-1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_shuffled_order_follows_its_definition(key: int, epoch: int, n: int) -> None:
    order = list(range(n))
    for i in reversed(range(1, n)):
        s = n - 1 - i
        x = oracle.philox4x32((s // 4, epoch, n, 5), oracle.key_words(key))[s % 4]
        j = (x * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    got = oracle.shuffled_order(key, epoch, n)
    assert got.tolist() == order
    assert sorted(order) == list(range(n))


def test_all_orders_are_equally_likely() -> None:
    orders = [tuple(oracle.shuffled_order(key, epoch, 4).tolist()) for key in range(80) for epoch in range(30)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    chi_squared = float(np.sum((counts - 100.0) ** 2 / 100.0))
    assert len(counts) == 24
    # The 99.9 % quantile with 23 degrees of freedom; the keys are fixed, so this never changes by chance.
    assert chi_squared < 49.7


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 2**34), st.floats(0.0, 0.99)
)
def test_dropout_masks_follow_their_definition(key: int, epoch: int, layer: int, place: int, share: float) -> None:
    mask = oracle.dropout_mask(share, key, epoch, layer, place, (6, 3))
    assert mask.shape == (6, 3)
    for (row, unit), factor in np.ndenumerate(mask):
        four, i = divmod(place + row, 4)
        word = oracle.philox4x32((four, epoch, unit, 6 + 256 * layer), oracle.key_words(key))[i]
        assert factor == (0.0 if word < int(share * 2**32) else 1.0 / (1.0 - share))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_dropout_equals_pytorchs_in_distribution(torch: ModuleType, share: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.nn.Dropout(share)(torch.ones(200, 100, dtype=torch.float64)).numpy()
    ours = oracle.dropout_mask(share, 3, 4, 1, 5, theirs.shape)
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-15)
    # Of 20,000 draws; rows, columns and neighbors say nothing about each other.
    assert np.mean(ours == 0.0) == pytest.approx(share, abs=0.015)
    assert ours.mean() == pytest.approx(1.0, abs=0.15)
    if share:
        for a, b in ((ours[1:], ours[:-1]), (ours[:, 1:], ours[:, :-1])):
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03


def test_dropout_draws_anew_in_each_row_layer_and_epoch() -> None:
    """And a row has the same mask wherever a minibatch begins."""
    whole = oracle.dropout_mask(0.5, 1, 2, 1, 0, (40, 30))
    for start in (0, 1, 2, 3, 7, 20):
        assert np.array_equal(oracle.dropout_mask(0.5, 1, 2, 1, start, (20, 30)), whole[start : start + 20])
    for key, epoch, layer in ((2, 2, 1), (1, 3, 1), (1, 2, 2), (1, 2, 0)):
        other = oracle.dropout_mask(0.5, key, epoch, layer, 0, (40, 30))
        assert 0.4 < np.mean(other == whole) < 0.6


@pytest.mark.parametrize("initializer", oracle.INITIALIZERS)
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_follow_their_definition(initializer: str, bias: bool) -> None:
    settings = {"initializer": initializer, "zero_last": False, "parametrization": "standard"}
    spec = SimpleNamespace(hidden=(5, 3), bias=bias, **settings)
    key = oracle.stream_key(2**40 + 1, 3)
    weights, biases = oracle.initial_weights(spec, 4, 2, key)
    assert [w.shape for w in weights] == [(4, 5), (5, 3), (3, 2)]
    assert [b.shape for b in biases] == [(5,), (3,), (2,)]

    def u(layer: int, tensor: int, element: int) -> float:
        counter = (element // 4, 0, 2 * layer + tensor, 4)
        word = oracle.philox4x32(counter, oracle.key_words(key))[element % 4]
        return (word + 0.5) / 2**32

    def normal_cdf(x: float) -> float:
        return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))

    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        fan_in, fan_out = w.shape
        for (i, j), value in np.ndenumerate(w):
            expected = u(k, 0, i * fan_out + j)
            if initializer == "pytorch":
                assert value == pytest.approx((2 * expected - 1) / fan_in**0.5, abs=1e-15)
            elif initializer == "glorot_uniform":
                assert value == pytest.approx((2 * expected - 1) * (6 / (fan_in + fan_out)) ** 0.5, abs=1e-15)
            elif initializer == "he_uniform":
                assert value == pytest.approx((2 * expected - 1) * (6 / fan_in) ** 0.5, abs=1e-15)
            elif initializer == "glorot_normal":
                assert normal_cdf(value / (2 / (fan_in + fan_out)) ** 0.5) == pytest.approx(expected, abs=1e-14)
            elif initializer == "lecun_normal":
                assert normal_cdf(value * fan_in**0.5) == pytest.approx(expected, abs=1e-14)
            else:
                assert normal_cdf(value / (2 / fan_in) ** 0.5) == pytest.approx(expected, abs=1e-14)
        if initializer == "pytorch" and bias:
            np.testing.assert_allclose(b, [(2 * u(k, 1, j) - 1) / fan_in**0.5 for j in range(fan_out)], atol=1e-15)
        else:
            assert not b.any()


def test_divided_weights_start_from_standard_normal_numbers() -> None:
    settings = {"bias": True, "initializer": "pytorch", "zero_last": False}
    spec = SimpleNamespace(hidden=(500,), **settings, parametrization="ntk")
    weights, biases = oracle.initial_weights(spec, 40, 20, key=3)
    for w in weights:
        assert w.std() == pytest.approx(1.0, rel=0.02) and abs(w.mean()) < 0.03
    assert not any(b.any() for b in biases)


def test_initializers_equal_pytorchs_in_distribution(torch: ModuleType) -> None:
    """Bounds and standard deviations of torch.nn.init and torch.nn.Linear, by samples of both."""
    spec = SimpleNamespace(hidden=(), bias=True, zero_last=False, parametrization="standard")
    fan_in, fan_out = 120, 60
    empty = torch.zeros(fan_out, fan_in, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linears = [torch.nn.Linear(fan_in, fan_out, dtype=torch.float64) for _ in range(50)]
        theirs = {
            "pytorch": linears[0].weight.detach(),
            "glorot_uniform": torch.nn.init.xavier_uniform_(empty.clone()),
            "glorot_normal": torch.nn.init.xavier_normal_(empty.clone()),
            "he_uniform": torch.nn.init.kaiming_uniform_(empty.clone(), nonlinearity="relu"),
            "he_normal": torch.nn.init.kaiming_normal_(empty.clone(), nonlinearity="relu"),
            "lecun_normal": torch.nn.init.kaiming_normal_(empty.clone(), nonlinearity="linear"),
        }
    biases = torch.cat([linear.bias.detach() for linear in linears]).numpy()
    assert set(theirs) == set(oracle.INITIALIZERS)
    for name, sample in theirs.items():
        spec.initializer = name
        (weights,), _ = oracle.initial_weights(spec, fan_in, fan_out, key=1)
        # Of 7200 numbers each, standard deviations agree to about 1 %; the nearest wrong one is 20 % away.
        assert weights.std() == pytest.approx(sample.numpy().std(), rel=0.05)
        assert abs(weights.mean()) < 0.05 * weights.std()
        if name.endswith("uniform") or name == "pytorch":
            assert np.abs(weights).max() == pytest.approx(sample.abs().max().item(), rel=0.005)
    spec.initializer = "pytorch"
    ours = np.concatenate([oracle.initial_weights(spec, fan_in, fan_out, key)[1][0] for key in range(50)])
    assert np.abs(ours).max() == pytest.approx(np.abs(biases).max(), rel=0.01)
    assert ours.std() == pytest.approx(biases.std(), rel=0.05)
