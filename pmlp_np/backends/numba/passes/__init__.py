"""The passes of the Numba backend; importing this package fills the table of passes."""

from pmlp_np.backends.numba.passes import (  # noqa: F401
    distributions,
    encoded_columns,
    feature_scales,
    layers,
    loss_passes,
    matrices,
    output_backward,
    part_sums,
    regularizer_passes,
    rows,
    step_numbers,
    update_passes,
    weights_backward,
)
from pmlp_np.backends.numba.passes.registry import AVX2_TILES, AVX512_TILES, PASSES, Tiles, argument_names

__all__ = ["AVX2_TILES", "AVX512_TILES", "PASSES", "Tiles", "argument_names"]
