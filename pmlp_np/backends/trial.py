"""The trial by which backend="auto" chooses: the same members train on the CPU and on the GPU.

It tells whether the GPU computes the CPU's bits, and how much faster it is. It takes about a second, once in a process
and for each dtype, and only where CuPy is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np

from pmlp_np.backends.contract import IN_ORDER, Backend, Control
from pmlp_np.base.console import say
from pmlp_np.base.errors import DataError, DeviceError, MemoryNeededError
from pmlp_np.data.dataset import Dataset
from pmlp_np.formulas import random
from pmlp_np.formulas.losses import as_loss
from pmlp_np.formulas.optimizers import Adam
from pmlp_np.specs.members import Member, as_specs
from pmlp_np.state.epoch_rule import EpochRecord
from pmlp_np.state.plan import Plan
from pmlp_np.state.progress import Progress
from pmlp_np.state.training_state import TrainingState

# Creates a backend from its name, its device and a plan.
Create = Callable[[str, str, Plan], Backend]

# Members enough for every multiprocessor of a large GPU to hold some, and rows enough for a few milliseconds there.
_MEMBERS, _FEATURES, _ROWS, _BATCH_SIZE, _EPOCHS = 1024, 16, 512, 32, 4
_ACTIVATIONS = ("tanh", "relu", "gelu", "sigmoid")


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    same_bits: whether both ended with the same parameters. speed_up: seconds of the CPU over those of the GPU.
    """

    same_bits: bool
    speed_up: float

    def gain(self, n_members: int) -> float:
        """Return how much faster the GPU trains so many members. It trains fewer than the trial's in the same time."""
        return self.speed_up * min(1.0, n_members / _MEMBERS)


def gpu_pays(plan: Plan, create: Create) -> bool:
    """Whether there is a GPU that computes the CPU's bits and trains a plan's members faster. Says what was found."""
    if not _has_cupy():
        return False
    try:
        trial = run(plan.dtype.name, create)
    except (DataError, DeviceError, MemoryNeededError) as error:
        _say_once(f"backend='auto' takes the CPU: {error}")
        return False
    if not trial.same_bits:
        _say_once(
            "backend='auto' takes the CPU: the GPU does not compute the CPU's bits here. Please report this with its"
            " name and the versions that `pmlp doctor` shows."
        )
        return False
    gain = trial.gain(plan.n_members)
    chosen = "GPU" if gain > 1.0 else "CPU"
    _say_once(f"backend='auto' takes the {chosen}: by a trial, the GPU trains {plan.n_members:,} members {gain:.1f}"
              " times as fast as the CPU.")  # fmt: skip
    return gain > 1.0


def _has_cupy() -> bool:
    try:
        return find_spec("cupy") is not None
    except ValueError:  # a module without a spec, which somebody made
        return True


@cache
def _say_once(text: str) -> None:
    say(text)


@cache
def run(dtype: str, create: Create) -> Trial:
    """Run the trial, once for each dtype. Raises DataError or DeviceError if the GPU cannot be used."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(_ROWS, _FEATURES)).astype(dtype)
    data = Dataset([x], np.ascontiguousarray(np.sin(x.sum(axis=1, keepdims=True)).T))
    on_gpu, gpu_seconds = _trained("cupy", "gpu", data, create)
    on_cpu, cpu_seconds = _trained("numba", "cpu", data, create)
    return Trial(on_gpu.tobytes() == on_cpu.tobytes(), cpu_seconds / gpu_seconds)


def _trained(name: str, device: str, data: Dataset, create: Create) -> tuple[np.ndarray, float]:
    """Train the trial's members. Returns their parameters, and the seconds of all epochs after the first."""
    members = np.arange(_MEMBERS)
    specs = as_specs(
        [
            Member(hidden=8 * (1 + m % 6), activation=_ACTIVATIONS[m % 4], optimizer=Adam(learning_rate=1e-3))
            for m in range(_MEMBERS)
        ]
    )
    keys, order_key = random.stream_keys(0, members), np.full(_MEMBERS, random.order_key(0), np.uint64)
    dtype = data.x[0].dtype
    backend = create(name, device, Plan(specs, _FEATURES, 1, as_loss("squared_error"), dtype, keys, order_key))
    backend.initialize(members)
    placed, progress = backend.place(data), Progress.start(_MEMBERS)
    batch_size = np.full(_MEMBERS, _BATCH_SIZE)
    state = TrainingState.start(progress, np.ones(_MEMBERS, bool), 1 + _EPOCHS, batch_size, IN_ORDER)
    seconds = 0.0
    # The first epoch compiles what is not compiled yet.
    for epochs in (1, _EPOCHS):
        columns = (np.full(_MEMBERS, np.inf), *np.full((2, _MEMBERS), -1), np.zeros(_MEMBERS, np.int64))
        record = EpochRecord(progress.epoch.copy(), np.full((epochs, _MEMBERS), np.nan), *columns)
        began = time.perf_counter()
        backend.train(members, state, placed, None, epochs, record, Control())
        seconds = time.perf_counter() - began
    return np.concatenate(list(backend.store.stream("parameters"))), seconds
