"""A run as plain data: how it trains and how far it has come, as values that JSON holds and as arrays by name.

What a run needs to go on is this, the pool (parameters, slots, history: see `pool.file_format`), and the data. Nothing
that is read is used before its name, dtype, shape and range are those of the table here. Whether the data are those
that the run began with is found out when it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmlp_np.backends.contract import SHUFFLES
from pmlp_np.base import checks
from pmlp_np.base.array_table import COUNT, Entry, kind_of_entry, out_of_range
from pmlp_np.base.errors import FileFormatError, compose, require_memory, show
from pmlp_np.state.progress import STATUS_NAMES, Progress
from pmlp_np.state.training_state import TrainingState
from pmlp_np.training.callbacks import Callback
from pmlp_np.training.settings import Settings

# How far members have come, in a pool's file and in a run.
PROGRESS = {
    "epoch": Entry("i8", ("members",), 0, "epochs + 1"),
    "minibatch": Entry("i8", ("members",), 0, COUNT),
    "cursor_key": Entry("u8", ("members",)),
    "loss_sum": Entry("f8", ("members",)),
    "step": Entry("i8", ("members",), 0, 2**53),
    "status": Entry("i8", ("members",), 0, len(STATUS_NAMES)),
    "fit_epochs": Entry("i8", ("members",), 0, COUNT),
    "rate_factor": Entry("f8", ("members",), 0.0, math.nextafter(1.0, 2.0)),
    "plateau_loss": Entry("f8", ("members",), -math.inf),
    "plateau_wait": Entry("i8", ("members",), 0, COUNT),
}
_RUN = {
    "asked": Entry("?", ("members",)),
    "target": Entry("i8", ("members",), 0, COUNT),
    "planned": Entry("i8", ("members",), 0, COUNT),
    "batch_size": Entry("i8", ("members",), 1, COUNT),
    "first_step": Entry("i8", ("members",), 0, 2**53),
    "untold": Entry("?", ("members",)),
    "data_key": Entry("u8", ("members",)),
    "validation_key": Entry("u8", ("members",)),
    "measured": Entry("?", ("members",)),
}
_TABLE = {f"progress/{name}": entry for name, entry in PROGRESS.items()}
_TABLE |= {f"run/{name}": entry for name, entry in _RUN.items()}
_VALUES = ("shuffle", "rounds", "seconds", "settings")
_DAMAGED = "It is damaged, or was written by another version of pmlp_np."


def plain_of(state: TrainingState, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(values, arrays by name) of a run, to be read by `run_of`. The arrays are the state's own, and no copies.

    Those that begin with "progress/" are, by the same names, in a pool's file, too.
    """
    shuffle = next(name for name, code in SHUFFLES.items() if code == state.shuffle)
    values = shuffle, int(state.rounds), float(state.seconds), settings.plain()
    arrays = {f"progress/{name}": getattr(state.progress, name) for name in PROGRESS}
    return dict(zip(_VALUES, values, strict=True)), arrays | {f"run/{name}": getattr(state, name) for name in _RUN}


def run_of(
    values: Any, arrays: Mapping[str, Any], n_members: int, callbacks: Sequence[Callback] = ()
) -> tuple[TrainingState, Settings]:
    """Return the run that `plain_of` was called with, with copies of the arrays; callbacks must be given again.

    Raises FileFormatError for what is missing, too much, of another dtype or shape, or out of range; DataError where
    callbacks are not as many as they were; MemoryNeededError where the curves of its epochs would not fit.
    """
    if not isinstance(values, dict):
        raise FileFormatError(compose("run", f"values of {', '.join(_VALUES)}", show(values), _DAMAGED))
    _require_names("run: values", values, _VALUES)
    _require_names("run: arrays", arrays, _TABLE)
    shuffle, rounds, seconds = (values[name] for name in _VALUES[:3])
    if not (shuffle is None or isinstance(shuffle, str)) or shuffle not in SHUFFLES:
        _refuse("shuffle", "'shared', 'member' or None", shuffle)
    if not checks.is_whole(rounds) or not 0 <= rounds < COUNT:
        _refuse("rounds", f"a whole number from 0 to {COUNT - 1}", rounds)
    if not checks.is_number(seconds) or not 0 <= seconds < math.inf:
        _refuse("seconds", "a number, at least 0", seconds)
    settings = Settings.from_plain(values["settings"], callbacks)
    sizes = {"members": n_members, "epochs": COUNT - 1}
    found = {name: _checked(name, entry, arrays[name], sizes) for name, entry in _TABLE.items()}
    hint = "The history takes 4 bytes per member, epoch and curve."
    require_memory("run/target", 4 * n_members * int(found["run/target"].max(initial=0)), hint)
    progress = Progress(**{name: found[f"progress/{name}"] for name in PROGRESS})
    own = {name: found[f"run/{name}"] for name in _RUN}
    state = TrainingState(progress, shuffle=SHUFFLES[shuffle], rounds=int(rounds), seconds=float(seconds), **own)
    return state, settings


def _require_names(what: str, found: Mapping[str, Any], names: Any) -> None:
    for name in names:
        if name not in found:
            raise FileFormatError(compose(what, f"one called {name}", "none", _DAMAGED))
    for name in found:
        if name not in names:
            raise FileFormatError(compose(what, f"none but {', '.join(names)}", show(name), _DAMAGED))


def _refuse(name: str, expected: str, got: Any) -> None:
    raise FileFormatError(compose(f"run: {name}", expected, show(got), _DAMAGED))


def _checked(name: str, entry: Entry, array: Any, sizes: Mapping[str, int]) -> np.ndarray:
    """Return a copy of an array, checked against its entry."""
    dtype, shape = kind_of_entry(entry, sizes)
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else show(array)
        raise FileFormatError(compose(f"run: array {name}", f"{dtype}, shape {shape}", got, _DAMAGED))
    values = np.array(array, order="C", subok=False)
    limits = out_of_range(entry, values, sizes)
    if limits:
        raise FileFormatError(compose(f"run: array {name}", f"numbers {limits}", "others", _DAMAGED))
    return values
