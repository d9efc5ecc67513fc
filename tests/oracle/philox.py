"""Random numbers by Philox4x32-10, and what is drawn with them: keys, orders of rows, dropout.

Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array

Word = int | NDArray[np.integer[Any]]


LOW_32 = 0xFFFFFFFF
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

# Last counter word: what the random words are for.
FOR_MEMBER_ID, FOR_MEMBER_SEED, FOR_ORDER_KEY, FOR_WEIGHTS, FOR_SHUFFLE, FOR_DROPOUT = 1, 2, 3, 4, 5, 6


def low(value: int) -> int:
    return value & LOW_32


def high(value: int) -> int:
    return value >> 32


def philox4x32(counter: Sequence[Word], key: Sequence[int]) -> tuple[Word, Word, Word, Word]:
    """Four random 32-bit words of a counter of four 32-bit words and a key of two.

    The counter's words are Python ints or, for many blocks at once, uint64 arrays, which hold a product of two words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0 = PHILOX_MULTIPLIERS[0] * c0
        p1 = PHILOX_MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW_32, (p0 >> 32) ^ c3 ^ k1, p0 & LOW_32
        k0 = (k0 + PHILOX_KEY_STEPS[0]) & LOW_32
        k1 = (k1 + PHILOX_KEY_STEPS[1]) & LOW_32
    return c0, c1, c2, c3


def key_words(key: int) -> tuple[int, int]:
    if not 0 <= key < 2**64:
        raise ValueError(f"a key or seed must lie in 0 ... 2**64 - 1, not {key}")
    return low(key), high(key)


def derived_key(counter: Sequence[int], key: int) -> int:
    words = philox4x32(counter, key_words(key))
    return int(words[0]) | int(words[1]) << 32


def stream_key(pool_seed: int, member_id: int | None = None, member_seed: int | None = None) -> int:
    """A member's 64-bit key: from the pool's seed and the member's id, or from the member's own seed alone."""
    if member_seed is not None:
        return derived_key((0, 0, 0, FOR_MEMBER_SEED), member_seed)
    if member_id is None:
        raise ValueError("a member without a seed needs its id")
    return derived_key((low(member_id), high(member_id), 0, FOR_MEMBER_ID), pool_seed)


def order_key(pool_seed: int) -> int:
    """The 64-bit key of the row order that all members share."""
    return derived_key((0, 0, 0, FOR_ORDER_KEY), pool_seed)


def in_reading_order(blocks: Sequence[Word], count: int) -> NDArray[np.uint64]:
    return np.stack([np.asarray(words, dtype=np.uint64) for words in blocks], axis=1).ravel()[:count]


def shuffled_order(key: int, epoch: int, n: int) -> NDArray[np.intp]:
    """The order of n rows in an epoch: Fisher and Yates from the last position down, one random word per swap."""
    blocks = np.arange(-(-n // 4), dtype=np.uint64)
    counter = (blocks, epoch, low(n), FOR_SHUFFLE ^ (high(n) << 8))
    words = in_reading_order(philox4x32(counter, key_words(key)), n).tolist()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = words[n - 1 - i] * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.intp)


def dropout_mask(share: float, key: int, epoch: int, layer: int, place: int, shape: tuple[int, int]) -> Array:
    """What dropout multiplies a layer's (rows, units) by, 0 or 1 / (1 - share).

    The first row is the one at this place of the epoch's order; layer 0 are the features. Four rows share a counter.
    """
    rows, units = np.arange(place, place + shape[0], dtype=np.uint64)[:, None], np.arange(shape[1], dtype=np.uint64)
    words = philox4x32((rows // 4, epoch, units, FOR_DROPOUT ^ (layer << 8)), key_words(key))
    of_row = np.choose((rows % 4).astype(np.intp), [np.broadcast_to(word, shape) for word in words])
    return np.where(of_row < math.floor(share * 2**32), 0.0, 1.0 / (1.0 - share))
