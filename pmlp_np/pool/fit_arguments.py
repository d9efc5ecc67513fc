"""The arguments of `fit` and `partial_fit`: names, order, types and defaults, once for both. `Pool.fit` says what they
mean."""

from __future__ import annotations

import functools
import inspect
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
    """What `Pool.fit` takes, unchecked."""

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

    def settings(self) -> Settings:
        """How to train. DataError where a value is none that its argument may have."""
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def own_data(self) -> OwnData:
        """What members have of their own."""
        return OwnData(*(getattr(self, name) for name in OwnData._fields))


@dataclass(eq=False, repr=False)
class PartialFitArguments(FitArguments):
    """What `Pool.partial_fit` takes, unchecked."""

    _: KW_ONLY
    members: Any = None


def takes(arguments: Callable[_P, _A]) -> Callable[[Callable[[_S, _A], _R]], Callable[Concatenate[_S, _P], _R]]:
    """A method that is called with the arguments of a dataclass, and is handed the dataclass.

    Its signature is the dataclass's, to type checkers and to `inspect.signature`, and so to help().
    """

    def method_of(function: Callable[[_S, _A], _R]) -> Callable[Concatenate[_S, _P], _R]:
        @functools.wraps(function)
        def call(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                given = arguments(*args, **kwargs)
            except TypeError as error:
                # Of the method that was called: the constructor is nobody's business.
                said = str(error).replace(f"{arguments.__name__}.__init__", function.__qualname__)
                raise TypeError(said) from None
            return function(self, given)

        signature = inspect.signature(function)
        ours = list(signature.parameters.values())[:1], inspect.signature(arguments).parameters.values()
        call.__signature__ = signature.replace(parameters=[*ours[0], *ours[1]])  # type: ignore[attr-defined]
        return call

    return method_of
