"""The arguments of `fit` and `partial_fit`: names, order, types and defaults, defined once for both.

`Pool.fit` documents them.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

from pmlp_np.training.callbacks import Callback
from pmlp_np.training.fit_data import OwnData
from pmlp_np.training.settings import Settings

_S = TypeVar("_S")
_A = TypeVar("_A")
_R = TypeVar("_R")
_P = ParamSpec("_P")


@dataclass(eq=False, repr=False)
class FitArguments:
    """The arguments of `Pool.fit`, unchecked."""

    X: Any
    y: Any = None
    epochs: int = 1
    batch_size: int = 32
    shuffle: str | None = "shared"
    validation_data: tuple[Any, ...] | None = None
    early_stopping: bool = False
    patience: int = 10
    min_delta: float = 0.0
    time_budget: float | None = None
    progress: bool | str = "auto"
    n_threads: int | None = None
    _: KW_ONLY
    metrics: str | Sequence[str] = ()
    monitor: str | None = None
    callbacks: Sequence[Callback] = ()
    on_interrupt: str = "keep"
    rows: Any = None
    features: Any = None
    targets: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    validation_rows: Any = None
    validated_weights: str = "last"
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: float = 60.0
    client: Any = None

    def settings(self) -> Settings:
        """Return the settings of training. Raises DataError for an invalid value."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def own_data(self) -> OwnData:
        """Return the arguments that differ between members."""
        return OwnData(*(getattr(self, name) for name in OwnData._fields))


@dataclass(eq=False, repr=False)
class PartialFitArguments(FitArguments):
    """The arguments of `Pool.partial_fit`, unchecked."""

    _: KW_ONLY
    members: Any = None


def takes(arguments: Callable[_P, _A]) -> Callable[[Callable[[_S, _A], _R]], Callable[Concatenate[_S, _P], _R]]:
    """Return a decorator: callers pass the arguments of a dataclass, and the method receives the dataclass.

    The decorated method has the dataclass's signature, for type checkers, `inspect.signature` and help().
    """

    def decorate(function: Callable[[_S, _A], _R]) -> Callable[Concatenate[_S, _P], _R]:
        @functools.wraps(function)
        def call(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                values = arguments(*args, **kwargs)
            except TypeError as error:
                # The message must name the method instead of the dataclass's constructor.
                text = str(error).replace(f"{arguments.__name__}.__init__", function.__qualname__)
                raise TypeError(text) from None
            return function(self, values)

        signature = inspect.signature(function)
        parts = list(signature.parameters.values())[:1], inspect.signature(arguments).parameters.values()
        call.__signature__ = signature.replace(parameters=[*parts[0], *parts[1]])  # type: ignore[attr-defined]
        return call

    return decorate
