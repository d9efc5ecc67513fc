"""Philox4x32-10, the counter-based random number generator of everything that affects a member.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11). A draw is a pure function of a
counter and a key, so a member's random numbers depend only on its key: not on other members, not on threads.

The functions use operators only, and work on NumPy uint64 arrays and scalars as well as in compiled code. Words are 32
bits, stored in uint64.
"""

import numpy as np

# The purpose of a stream is the last counter word, so that no two purposes share a draw.
PURPOSE_MEMBER_ID, PURPOSE_MEMBER_SEED, PURPOSE_ORDER_KEY, PURPOSE_WEIGHTS, PURPOSE_SHUFFLE = range(1, 6)
PURPOSE_DROPOUT = 6

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_DROPOUT, _LAYER_SHIFT, _HIGH_SHIFT = np.uint64(PURPOSE_DROPOUT), np.uint64(8), np.uint64(24)


def philox(c0, c1, c2, c3, key):
    """Return four random 32-bit words for a counter of four words and a 64-bit key; all uint64, scalars or arrays."""
    k0 = key & _LOW
    k1 = key >> _BITS
    for _ in range(10):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> _BITS) ^ c1 ^ k0,
            product_1 & _LOW,
            (product_0 >> _BITS) ^ c3 ^ k1,
            product_0 & _LOW,
        )
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


def stream_keys(pool_seed: int, ids: np.ndarray) -> np.ndarray:
    """Return 64-bit keys (uint64, one per id) of members without a seed."""
    ids = ids.astype(np.uint64)
    zero = np.zeros_like(ids)
    w0, w1, _, _ = philox(ids & _LOW, ids >> _BITS, zero, zero + np.uint64(PURPOSE_MEMBER_ID), np.uint64(pool_seed))
    return w0 | (w1 << _BITS)


def seeded_keys(seeds: np.ndarray, purpose: int = PURPOSE_MEMBER_SEED) -> np.ndarray:
    """Return 64-bit keys (uint64, one per seed) that depend on the seed alone."""
    seeds = seeds.astype(np.uint64)
    zero = np.zeros_like(seeds)
    w0, w1, _, _ = philox(zero, zero, zero, zero + np.uint64(purpose), seeds)
    return w0 | (w1 << _BITS)


def order_key(pool_seed: int) -> np.uint64:
    """Return the key of the shuffle that all members of a pool share."""
    return seeded_keys(np.array([pool_seed], dtype=np.uint64), PURPOSE_ORDER_KEY)[0]


def uniforms(key, layer: int, tensor: int, n: int) -> np.ndarray:
    """Return the first n draws in (0, 1), float64, of one tensor (0: weights, 1: biases) of one layer of one member."""
    blocks = np.arange((n + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    words = philox(
        blocks & _LOW,
        blocks >> _BITS,
        zero + np.uint64(2 * layer + tensor),
        zero + np.uint64(PURPOSE_WEIGHTS),
        np.uint64(key),
    )
    bits = np.stack(words, axis=1).reshape(-1)[:n]
    return (bits.astype(np.float64) + 0.5) * 2.0**-32


def dropout_words(four, epoch, layer, unit, key):
    """Return four random words, for one unit and the rows 4 `four` ... 4 `four` + 3 of an epoch's order.

    layer: 0 for the features, k for the k-th hidden layer. All uint64: scalars, arrays, or values of compiled code.
    """
    purpose = _DROPOUT ^ (layer << _LAYER_SHIFT) ^ ((four >> _BITS) << _HIGH_SHIFT)
    return philox(four & _LOW, epoch & _LOW, unit & _LOW, purpose & _LOW, key)


def shuffled_order(key, epoch: int, n: int) -> np.ndarray:
    """Return the order (n,) int64 of n rows in epoch number `epoch`: a Fisher-Yates shuffle from the last row down.

    The bounded draw is the high word of a 32 x 64 bit product, whose bias is below n / 2**32.
    """
    blocks = np.arange((n + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    purpose = np.uint64(PURPOSE_SHUFFLE ^ ((n >> 32) << 8))
    words = philox(blocks, zero + np.uint64(epoch), zero + np.uint64(n & 0xFFFFFFFF), zero + purpose, np.uint64(key))
    draws = np.stack(words, axis=1).reshape(-1)[:n]
    remaining = np.arange(n, 0, -1, dtype=np.uint64)
    targets = ((draws * remaining) >> _BITS).astype(np.int64).tolist()
    order = list(range(n))
    for last, target in zip(range(n - 1, -1, -1), targets, strict=True):
        order[last], order[target] = order[target], order[last]
    return np.array(order, dtype=np.int64)
