"""Copies and pickles that share nothing with the original, and that say which version of the package made them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from pmlp_np.base import version
from pmlp_np.base.errors import FileFormatError, compose, show

_VERSION, _ATTRIBUTES = "pmlp_np", "attributes"


class Independent:
    """A class whose copies, `copy.copy` included, and pickles are independent of the original.

    Arrays of a copy are its own memory, also where the pickle lay in a memory-mapped file or in shared buffers. A
    pickle is for the version of pmlp_np that made it: files (`save`) are for keeping.
    """

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return versioned(self._attributes())

    def __setstate__(self, state: Any) -> None:
        vars(self).update(own(attributes(type(self).__name__, state)))

    def _attributes(self) -> dict[str, Any]:
        """What a copy takes over."""
        return dict(vars(self))


def versioned(kept: dict[str, Any]) -> dict[str, Any]:
    """A state that says which version wrote it."""
    return {_VERSION: version.__version__, _ATTRIBUTES: kept}


def attributes(kind: str, state: Any) -> dict[str, Any]:
    """What a state holds. FileFormatError where another version of pmlp_np wrote it."""
    made_by = state.get(_VERSION) if isinstance(state, Mapping) else None
    if made_by != version.__version__:
        hint = "A pickle is for one version; what is to be kept goes into a file: save and load."
        expected, got = f"one of pmlp_np {version.__version__}", f"one of {show(made_by or 'another')}"
        raise FileFormatError(compose(f"pickled {kind}", expected, got, hint))
    return dict(state[_ATTRIBUTES])


def own(value: Any) -> Any:
    """The value with arrays that nobody else holds: those within lists, tuples and dictionaries too."""
    if isinstance(value, np.ndarray):
        alone = type(value) is np.ndarray and value.flags.owndata and value.flags.writeable
        return value if alone else np.array(value, order="C", subok=False)
    if type(value) in (list, tuple):
        return type(value)(own(each) for each in value)
    if type(value) is dict:
        return {name: own(each) for name, each in value.items()}
    return value
