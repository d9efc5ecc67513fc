"""Copies and pickles that share no memory with the original, and state the package version that made them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from pmlp_np.base import version
from pmlp_np.base.errors import FileFormatError, compose, show

_VERSION, _ATTRIBUTES = "pmlp_np", "attributes"


class Independent:
    """Base class: copies (`copy.copy` included) and pickles are independent of the original.

    Arrays of a copy have memory that nothing else uses, even if the pickle lay in a memory-mapped file or in shared
    buffers. A pickle can be loaded only by the version of pmlp_np that made it; for permanent storage, use files
    (`save`).
    """

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return versioned(self._attributes())

    def __setstate__(self, state: Any) -> None:
        vars(self).update(ensure_owned(attributes(type(self).__name__, state)))

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes that a copy takes over."""
        return dict(vars(self))


def versioned(values: dict[str, Any]) -> dict[str, Any]:
    """Return a picklable state: these attributes and the version of pmlp_np."""
    return {_VERSION: version.__version__, _ATTRIBUTES: values}


def attributes(kind: str, state: Any) -> dict[str, Any]:
    """Return the attributes in a state. Raises FileFormatError where another version of pmlp_np wrote the state.

    kind: the class, for the error.
    """
    made_by = state.get(_VERSION) if isinstance(state, Mapping) else None
    if made_by != version.__version__:
        hint = "A pickle is for one version; for permanent storage, use files: save and load."
        expected, got = f"one of pmlp_np {version.__version__}", f"one of {show(made_by or 'another')}"
        raise FileFormatError(compose(f"pickled {kind}", expected, got, hint))
    return dict(state[_ATTRIBUTES])


def ensure_owned(value: Any) -> Any:
    """Return the value with every array that shares memory replaced by a copy.

    Arrays within lists, tuples and dictionaries are copied, too.
    """
    if isinstance(value, np.ndarray):
        owned = type(value) is np.ndarray and value.flags.owndata and value.flags.writeable
        return value if owned else np.array(value, order="C", subok=False)
    if type(value) in (list, tuple):
        return type(value)(ensure_owned(item) for item in value)
    if type(value) is dict:
        return {name: ensure_owned(item) for name, item in value.items()}
    return value
