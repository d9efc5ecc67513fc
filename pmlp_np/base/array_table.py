"""Tables of arrays: what each array of a file or a message is to be, by which it is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Counts of what people wait for are below this.
COUNT = 2**31


@dataclass(frozen=True)
class Entry:
    """What one array is to be.

    dtype: "pool" for the pool's own. shape: by names of sizes. low, below: the range of its values, where it has one,
    which NaN is not in; `below` may be a size, or "size + 1".
    """

    dtype: str
    shape: tuple[str, ...]
    low: float | None = None
    below: float | str | None = None


def kind_of_entry(
    entry: Entry, sizes: Mapping[str, int], own: np.dtype | None = None
) -> tuple[np.dtype, tuple[int, ...]]:
    """(dtype, shape) of the array, of a pool whose own dtype is `own`."""
    dtype = own if entry.dtype == "pool" and own is not None else np.dtype(entry.dtype)
    return dtype, tuple(sizes[size] for size in entry.shape)


def out_of_range(entry: Entry, values: np.ndarray, sizes: Mapping[str, int]) -> str:
    """Return the range as text if some values are outside, otherwise ""."""
    below = entry.below
    if isinstance(below, str):
        below = sizes[below.removesuffix(" + 1")] + below.endswith(" + 1")
    good = entry.low is None or (values >= entry.low).all()
    if good and (below is None or bool((values < below).all())):
        return ""
    return f"from {entry.low}" + ("" if below is None else f" to below {below}")
