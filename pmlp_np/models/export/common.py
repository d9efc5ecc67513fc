"""Shared parts of all exports: the networks of a model, checked names, and optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.reading import Reading
from pmlp_np.models.network import Network, Networks, require_finite

_UNUSABLE = "Export another member."
_TO_INSTALL = {"torch": "pip install torch"}


def needed(package: str) -> ModuleType:
    """Return the imported package. Raises ImportError, which says how to install it, if it is missing."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        install = _TO_INSTALL.get(package, "pip install 'pmlp_np[export]'")
        raise ImportError(compose(f"package {package}", "one that is installed", "none", f"Run: {install}")) from error


def members_of(model: Networks) -> list[tuple[float, Network]]:
    """Return (weight, network) of each network of the model with a weight above 0.

    Raises DataError if one has weights that are not finite: other systems predict a label even from NaN.
    """
    members = model.members()
    for i, (_, network) in enumerate(members):
        require_finite(f"network {i}" if model.is_mean else "the network", network, _UNUSABLE)
    return members


def checked_input_names(names: Any, n_features: int) -> list[str] | None:
    """Return names of the columns as a list, or None. Raises DataError unless they are n_features different strings."""
    if names is None:
        return None
    columns = list(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes)) else None
    if columns is None or len(columns) != n_features:
        got = show(names) if columns is None else f"{len(columns)}"
        raise DataError(compose("input_names", f"a name for each of {n_features} columns", got))
    for i, name in enumerate(columns):
        if not isinstance(name, str):
            raise DataError(compose(f"input_names[{i}]", "a string", show(name)))
        if name in columns[:i]:
            raise DataError(compose(f"input_names[{i}]", "a name that no other column has", show(name)))
    return [str(name) for name in columns]


def input_names_of(model: Networks, names: Any) -> list[str] | None:
    """Return the checked names of the columns: `names`, else the model's feature names, else None."""
    return checked_input_names(model.feature_names if names is None else names, model.n_features)


def checked_class_names(names: Any, reading: Reading, n_raw: int) -> list[str] | list[int] | None:
    """Return class names, all strings or all whole numbers, or None. Raises DataError if they don't fit the model."""
    if names is None:
        return None
    if not reading.has_probabilities:
        raise DataError(compose("class_names", "None for a model that predicts values", show(names)))
    if reading.link == "sigmoid" and n_raw > 1:
        hint = "Each output is a label by itself, 0 or 1."
        raise DataError(compose("class_names", f"None for a model of {n_raw} labels at once", show(names), hint))
    n = 2 if reading.link == "sigmoid" else n_raw
    iterable = isinstance(names, Iterable) and not isinstance(names, (str, bytes))
    classes = [name.item() if isinstance(name, np.generic) else name for name in names] if iterable else None
    if classes is None or len(classes) != n:
        got = show(names) if classes is None else f"{len(classes)}"
        raise DataError(compose("class_names", f"a name for each of {n} classes", got))
    kind = str if isinstance(classes[0], str) else int
    for i, name in enumerate(classes):
        if not isinstance(name, kind) or isinstance(name, bool):
            raise DataError(compose(f"class_names[{i}]", "all strings, or all whole numbers", show(name)))
        if name in classes[:i]:
            raise DataError(compose(f"class_names[{i}]", "a name that no other class has", show(name)))
    return classes
