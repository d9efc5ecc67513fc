"""The choices of a search: how long, how many members, and which configurations, as options of `pmlp fit`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.model_selection.space import Space
from pmlp_np.specs.search_space import integers, log_uniform, uniform

_DISTRIBUTIONS = {"uniform": uniform, "log_uniform": log_uniform, "integers": integers}
_SECONDS, _QUICK_SECONDS, _QUICK_FOLDS = 60.0, 8.0, 5
_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Choices:
    """The options of `pmlp fit` on its search.

    time_budget: seconds. Default: 60, 8 if quick; no limit if max_members is given, so that the result is the same on
    any machine. cv: folds. space: a JSON file of choices. metric: what the ensemble is selected by. checkpoint: a
    folder for checkpoints; resume: whether the search in it goes on. scheduler: address of a Dask scheduler.
    """

    time_budget: float | None = None
    cv: int | None = None
    max_members: int | None = None
    max_epochs: int | None = None
    space: str | None = None
    metric: str | None = None
    seed: int = 0
    threads: int | None = None
    quick: bool = False
    checkpoint: str | None = None
    resume: bool = False
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.time_budget is not None and not 0.0 < self.time_budget < float("inf"):
            raise DataError(compose("--time-budget", "seconds, above 0", f"{self.time_budget:g}"))
        if self.resume and self.checkpoint is None:
            hint = "Name the folder of the search that goes on."
            raise DataError(compose("--resume", "--checkpoint FOLDER beside it", "none", hint))

    @property
    def seconds(self) -> float | None:
        """The time budget, or None."""
        if self.time_budget is not None or self.max_members is not None:
            return self.time_budget
        return _QUICK_SECONDS if self.quick else _SECONDS

    @property
    def folds(self) -> int | None:
        """The number of folds, or None."""
        return _QUICK_FOLDS if self.cv is None and self.quick else self.cv

    @cached_property
    def read(self) -> list[dict[str, Any]] | None:
        """The space of the file, or None."""
        return None if self.space is None else read_space(self.space)

    def for_search(self) -> dict[str, Any]:
        """Return the arguments of a search."""
        return {
            "space": self.read, "metric": self.metric, "time_budget": self.seconds, "max_members": self.max_members,
            "max_epochs": self.max_epochs, "n_threads": self.threads, "seed": self.seed, "checkpoint": self.checkpoint,
            "resume": self.resume,
        }  # fmt: skip

    def described(self) -> str:
        """Return the limits of the search in words."""
        limits = []
        if self.seconds is not None:
            limits.append(f"{self.seconds:g} s")
        if self.max_members is not None:
            limits.append(f"{self.max_members:,} members")
        if self.max_epochs is not None:
            limits.append(f"{self.max_epochs:,} epochs each")
        tried = "a portfolio, then neighbors of the best" if self.read is None else f"the space of {self.space}"
        return f"{tried}; at most {', '.join(limits)}"


@contextlib.contextmanager
def client_of(address: str | None) -> Iterator[Any]:
    """Yield a client of the Dask scheduler at an address, or None for None. Raises DataError where there is none."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        hint = "Install it: pip install 'pmlp_np[distributed]'."
        raise DataError(compose("--scheduler", "the package distributed", str(error), hint)) from error
    try:
        client = Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        hint = "For example tcp://10.0.0.1:8786, as `dask scheduler` prints it."
        raise DataError(
            compose("--scheduler", "the address of a Dask scheduler", f"{address}: {error}", hint)
        ) from error
    with client:
        yield client


def read_space(path: str) -> list[dict[str, Any]]:
    """Return the space of a JSON file: an object of choices by name, or a list of such objects, as for `pm.search`.

    A list holds choices, each layer's width of "hidden" in a list of its own; {"log_uniform": [low, high]}, and so
    uniform and integers, are distributions. Raises DataError, FileNotFoundError.
    """
    name = f"--space {path}"
    if not Path(path).is_file():
        raise FileNotFoundError(compose("--space", "a JSON file", f"{path}, which is none"))
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(compose(name, "JSON", str(error))) from error
    parts = plain if isinstance(plain, list) else [plain]
    if not parts or not all(isinstance(part, dict) for part in parts):
        hint = 'Write, for instance, {"hidden": [[64], [128, 128]], "learning_rate": {"log_uniform": [0.001, 0.1]}}.'
        raise DataError(compose(name, "an object of choices by name, or a list of them", show(plain), hint))
    space = [{key: _choices(f"{name}, {key}", value) for key, value in part.items()} for part in parts]
    try:
        Space.of(space)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    return space


def _choices(name: str, value: Any) -> Any:
    """Return a value of JSON as choices: lists in lists are tuples, objects are distributions."""
    if isinstance(value, list):
        return [tuple(each) if isinstance(each, list) else each for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, ends),) = value.items() if len(value) == 1 else (("", None),)
    if kind not in _DISTRIBUTIONS or not isinstance(ends, list) or len(ends) != 2:
        expected = f"choices, or one of {', '.join(_DISTRIBUTIONS)} with its two ends"
        raise DataError(compose(name, expected, show(value), 'For example {"log_uniform": [0.001, 0.1]}.'))
    try:
        return _DISTRIBUTIONS[kind](*ends)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
