"""Dataclasses from plain values of a file, with a check of each value's type."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pmlp_np.base.errors import show

T = TypeVar("T")
_hints = cache(get_type_hints)


def typed(kind: type[T], plain: Any) -> T:
    """Return a dataclass with a dictionary's values; also of nested dataclasses. Lists become tuples.

    Raises TypeError, with the field's name, for a value of another type than the field's annotation (numbers must be
    finite, and booleans are no numbers), and for missing or unknown fields.
    """
    if not isinstance(plain, dict):
        raise TypeError(f"{kind.__name__} {show(plain)}")
    names, hints = [each.name for each in fields(kind)], _hints(kind)  # type: ignore[arg-type]
    for name in plain.keys() - set(names):
        raise TypeError(f"{kind.__name__} with {show(name)}")
    return kind(**{name: _value(hints[name], value, name) for name, value in plain.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        return typed(hint, value)
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(get_args(hint)[0], each, name) for each in value)
    if get_origin(hint) is dict and isinstance(value, dict):
        of_key, of_value = get_args(hint)
        return {_value(of_key, key, name): _value(of_value, each, name) for key, each in value.items()}
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) in kinds and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    if float in kinds and type(value) is int and abs(value) < 2**1023:
        return value
    raise TypeError(f"{name} {show(value)}")
