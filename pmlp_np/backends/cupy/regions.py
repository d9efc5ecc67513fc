"""Regions: what a thread block keeps of a member in shared memory, and what in its scratch in global memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmlp_np.backends.cupy.device import Device
from pmlp_np.backends.cupy.launch_job import CHUNK, LAYER_BYTES, LOAD_BYTES, REGIONS, STEPS
from pmlp_np.backends.cupy.program_text import MOST_THREADS, RESIDENT
from pmlp_np.formulas.regularizers import NORM_STRANDS
from pmlp_np.state.layout import PoolLayout

# Bytes of shared memory that each thread block takes for the system.
_RESERVED = 1024


@dataclass(frozen=True)
class Sizes:
    """Bytes of every region that each of some members needs, (members,) int64 by name."""

    regions: dict[str, np.ndarray]

    def take(self, members: np.ndarray) -> Sizes:
        return Sizes({name: sizes[members] for name, sizes in self.regions.items()})

    @property
    def shared(self) -> np.ndarray:
        """Bytes of all regions that may be in shared memory, (members,)."""
        total: np.ndarray = sum(_rounded(sizes) for name, sizes in self.regions.items() if name != "ORDER")  # type: ignore[assignment]
        return total


@dataclass(frozen=True)
class Placement:
    """Where the regions lie for the members of a launch.

    offsets: (len(REGIONS),) int64, bytes from the start of shared memory or scratch; -1: not needed.
    in_shared: a bit for each region. all_shared: whether all regions that may be shared are, slots aside.
    shared_bytes, scratch_bytes: of a thread block.
    """

    offsets: np.ndarray
    in_shared: int
    shared_bytes: int
    scratch_bytes: int
    all_shared: bool


def _rounded(sizes: np.ndarray) -> np.ndarray:
    return -(-sizes // LOAD_BYTES) * LOAD_BYTES


def pitch_of_features(features: np.ndarray, itemsize: int) -> np.ndarray:
    """Return the pitch of rows of features in elements: an odd multiple of 16 bytes, and whole groups of four."""
    width = LOAD_BYTES // itemsize
    pitch = (-(-features // width) | 1) * width
    return pitch if itemsize == 4 else -(-pitch // 4) * 4


def gradient_starts(layout: PoolLayout, batch_size: np.ndarray, rows: np.ndarray, clip_norm: np.ndarray) -> np.ndarray:
    """Return the first element of each member's block whose gradient is kept in memory, (members,) int64.

    In a minibatch of one chunk, a weight takes its step as soon as its gradient is known: biases, which end the block,
    are summed up in memory. Over several chunks all gradients are, and where another value depends on all of them.
    batch_size, rows, clip_norm: of each member.
    """
    first_bias = layout.bias_offset[layout.first_layer[:-1]]
    biases = np.where(first_bias >= 0, first_bias, layout.block_size)
    whole = (np.minimum(batch_size, rows) > CHUNK) | (clip_norm > 0) | (layout.scale_offset >= 0)
    return np.where(whole, 0, biases)


def sizes_of(
    layout: PoolLayout,
    itemsize: int,
    n_targets: int,
    n_slots: np.ndarray,
    input_count: np.ndarray,
    most_numbers: int,
    rows: np.ndarray | None,
    gradient_start: np.ndarray | None,
    clip_norm: np.ndarray,
) -> Sizes:
    """Return the sizes of all regions of a layout's members.

    rows: of each member, if each shuffles for itself. gradient_start: see `gradient_starts`; None: for evaluation.
    """
    n, outputs, lanes = layout.n_members, layout.n_raw_outputs, layout.lanes
    first, depth = layout.first_layer[:-1], layout.depth
    pitch = np.where(layout.activation >= 0, layout.row_stride + LOAD_BYTES // itemsize, 0)
    units = CHUNK * np.add.reduceat(pitch, first) * itemsize
    features = layout.fan_in[first]
    everyone = np.ones(n, np.int64)
    regions = {
        "LAYERS": LAYER_BYTES * (depth + 1),
        "TOTALS": 4 * 8 * everyone,
        "LANE_SUMS": 3 * lanes * 8 * everyone,
        "TARGETS": CHUNK * n_targets * itemsize * everyone,
        "ROW_WEIGHTS": CHUNK * 8 * everyone,
        "RAW_OUTPUTS": CHUNK * outputs * itemsize * everyone,
        "FEATURES": CHUNK * pitch_of_features(features, itemsize) * itemsize,
        "UNITS": units,
        "OUTPUT_ROWS": np.where(depth == 0, CHUNK * layout.row_stride[first] * itemsize, 0),
        "SCALED_WEIGHTS": np.where(layout.scale_offset >= 0, features * layout.row_stride[first] * itemsize, 0),
        "BLOCK": layout.block_size * itemsize,
    }
    if gradient_start is not None:
        regions |= {
            "DERIVATIVES": units,
            "OUTPUT_DZ": CHUNK * outputs * itemsize * everyone,
            "BIAS_LANE_SUMS": outputs * lanes * itemsize * everyone,
            "NORM_SUMS": np.where(clip_norm > 0, NORM_STRANDS * lanes * 8, 0),
            "GRADIENT": (layout.block_size - gradient_start) * itemsize,
            "STEP_NUMBERS": STEPS * input_count * most_numbers * itemsize,
            "SLOTS": n_slots * layout.block_size * itemsize,
        }
    if rows is not None:
        regions["ORDER"] = 8 * rows
    return Sizes(regions)


def _resident(shared: int, threads: int, device: Device) -> int:
    """Return how many thread blocks a multiprocessor holds at once, by shared memory and registers."""
    return min(device.processor_shared_bytes // (shared + _RESERVED), RESIDENT * MOST_THREADS // threads)


def placed(sizes: Sizes, threads: int, device: Device) -> Placement:
    """Return one placement for some members, in thread blocks of so many threads.

    Regions go to shared memory in the order of REGIONS, the smallest and most used first, as long as there is room.
    Parameters and slots without room in shared memory are used in place; so are slots that would leave a multiprocessor
    with fewer blocks at once, as each of their numbers is used once in a minibatch.
    """
    offsets = np.full(len(REGIONS), -1, np.int64)
    in_shared = shared = scratch = 0
    all_shared = True
    for i, name in enumerate(REGIONS):
        size = int(_rounded(sizes.regions.get(name, np.zeros(1, np.int64))).max())
        if not size:
            continue
        fits = name != "ORDER" and shared + size <= device.shared_bytes
        if name == "SLOTS":
            fits = fits and _resident(shared + size, threads, device) == _resident(shared, threads, device)
        if fits:
            offsets[i], shared = shared, shared + size
            in_shared |= 1 << i
            continue
        all_shared &= name in ("ORDER", "SLOTS")
        if name not in ("BLOCK", "SLOTS"):
            offsets[i], scratch = scratch, scratch + size
    return Placement(offsets, in_shared, shared, -(-scratch // 256) * 256, all_shared)
