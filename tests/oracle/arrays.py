"""Arrays of the oracle: float64."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def float64_copies(arrays: Iterable[ArrayLike], like: Sequence[Array]) -> list[Array]:
    copies = [np.array(array, dtype=np.float64) for array in arrays]
    got, expected = [copy.shape for copy in copies], [array.shape for array in like]
    if got != expected:
        raise ValueError(f"expected arrays of shapes {expected}, got {got}")
    return copies
