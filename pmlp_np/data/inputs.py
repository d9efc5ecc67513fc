"""Validation of X and y: from whatever users hold to what backends take, without needless copies.

X stays where it is when its dtype is the pool's and each row is contiguous (memory-mapped, read-only, or a block of
columns of a wider table); otherwise it is cast once. y is copied once, one line per target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, require_memory, show
from pmlp_np.data.containers import as_numbers
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.labels import Names, at_cell, require_names
from pmlp_np.data.precision import Columns
from pmlp_np.formulas.losses import Loss

# Rows are checked for NaN and infinity in pieces of about this many elements, so that no large mask is made.
_PIECE = 1 << 20
# A check of numbers as they came and as they were cast, (n, columns) both.
Check = Callable[[np.ndarray, np.ndarray, Columns], None]


def as_features(
    X: Any,
    n_features: int,
    dtype: np.dtype,
    name: str = "X",
    names: Names | None = None,
    source: str = "pool.feature_names_in_",
    check: Check | None = None,
) -> np.ndarray:
    """X as (n_samples, n_features) of the dtype, rows contiguous and finite.

    names: what its columns must be called, where it is a frame; source: the expression that gives them, for errors.
    check: is called where X was cast.

    Raises DataError (names, shape, type, no rows, NaN or infinity after the cast) and MemoryNeededError (the cast would
    not fit).
    """
    # An array of NumPy has no names: one row must be predicted in microseconds.
    if type(X) is not np.ndarray:
        require_names(names, X, name, source)
    if type(X) is np.ndarray and X.dtype == dtype and X.ndim == 2 and X.shape[1] == n_features and len(X):
        given = x = X
    else:
        given = x = _checked_features(X, n_features, name)
    if not (x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned):
        x = _in_rows(x, dtype, name)
    _require_finite(x, name, X, names)
    if check is not None:
        check(given, x, Columns(name, X, names))
    return x


def _checked_features(X: Any, n_features: int, name: str) -> np.ndarray:
    """X as an array of numbers, (n_samples, n_features)."""
    x = as_numbers(X, name)
    if x.ndim != 2:
        array = name if hasattr(X, "reshape") else f"np.asarray({name})"
        hint = f"One feature: {array}.reshape(-1, 1). One sample: {array}.reshape(1, -1)." if x.ndim == 1 else ""
        raise DataError(compose(name, f"shape (n_samples, {n_features})", str(x.shape), hint))
    if x.shape[1] != n_features:
        hint = "The pool was made with n_features=" + str(n_features) + "."
        raise DataError(compose(name, f"{n_features} features (columns)", str(x.shape[1]), hint))
    if len(x) == 0:
        raise DataError(compose(name, "at least one row", "none"))
    return x


def _in_rows(x: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The array where it is, if it has the dtype and each row is contiguous, else a copy of which that is true."""
    ready = x.dtype == dtype and x.flags.aligned and x.strides[0] % dtype.itemsize == 0
    if ready and x.strides[0] > 0 and (x.shape[1] == 1 or x.strides[1] == dtype.itemsize):
        return x
    require_memory(name, x.size * dtype.itemsize, f"Hand over X as C-ordered {dtype.name}, which is used in place.")
    with np.errstate(over="ignore"):
        return _dense(x, dtype)


def as_targets(
    y: Any,
    n_samples: int,
    n_outputs: int,
    loss: Loss,
    dtype: np.dtype,
    name: str = "y",
    check: Check | None = None,
) -> np.ndarray:
    """y as (n_targets, n_samples) of the dtype: a line per output, or one line of labels.

    check: is called with targets that are values, neither labels nor probabilities.

    Raises DataError: shape, type, NaN or infinity, a label that is no class, a probability outside 0 ... 1.
    """
    values = as_numbers(y, name, _label_mend(loss), _class_mend(loss, name))
    per_row = 1 if loss.targets == "labels" else n_outputs
    if values.shape == (n_samples,) and per_row == 1:
        values = values[:, None]
    if values.shape != (n_samples, per_row):
        expected = f"shape ({n_samples},)" if per_row == 1 else f"shape ({n_samples}, {per_row})"
        hint = "" if values.ndim and len(values) == n_samples else "X and y must have as many rows."
        raise DataError(compose(name, expected, str(values.shape), hint))
    with np.errstate(over="ignore"):
        # A copy in any case: what is checked here is not to change while it is trained on.
        lines = np.array(values.T, dtype, order="C")
    _require_finite(lines.T, name, y)
    if loss.targets == "labels":
        bad = (values != np.floor(values)) | (values < 0) | (values >= n_outputs)
        _refuse(
            bad[:, 0],
            values[:, 0],
            name,
            f"whole numbers from 0 to {n_outputs - 1} (n_outputs={n_outputs})",
            _label_mend(loss),
        )
    elif loss.targets == "probabilities":
        bad = np.any((values < 0) | (values > 1), axis=1)
        _refuse(bad, values, name, "values from 0 to 1", "Labels are 0 and 1.")
    elif loss.least_target is not None:
        bad = np.any(values < loss.least_target, axis=1)
        _refuse(bad, values, name, f"values of at least {loss.least_target:g}", f"The loss is {loss.name}.")
    if check is not None and loss.targets not in ("labels", "probabilities"):
        check(values, lines.T, Columns(name, y, only=True))
    return lines


def feature_sets(x: np.ndarray, features: Sets | None) -> list[np.ndarray]:
    """The columns of x that each feature set reads: views where they are neighbors, else one copy for each set."""
    if features is None:
        return [x]
    found = []
    for columns in features.arrays:
        first, stop = int(columns[0]), int(columns[-1]) + 1
        if np.array_equal(columns, np.arange(first, stop)):
            found.append(x[:, first:stop])
        else:
            require_memory("features", len(x) * len(columns) * x.itemsize, "Choose neighboring columns: no copy.")
            found.append(np.ascontiguousarray(x[:, columns]))
    return found


def as_target_sets(
    targets: Any,
    ids: np.ndarray,
    n_samples: int,
    n_outputs: int,
    loss: Loss,
    dtype: np.dtype,
    check: Check | None = None,
) -> np.ndarray:
    """Each member's own targets, (n_members * n_targets, n_samples) of the dtype. Raises DataError."""
    values = as_numbers(targets, "targets", _label_mend(loss))
    if values.ndim not in (2, 3) or len(values) != len(ids):
        shape = f"({len(ids)}, {n_samples}" + (", n_outputs)" if n_outputs > 1 else ")")
        raise DataError(compose("targets", f"shape {shape}: one set for each member", str(values.shape)))
    lines = np.concatenate(
        [
            as_targets(each, n_samples, n_outputs, loss, dtype, f"targets of member {id}")
            for id, each in zip(ids.tolist(), values, strict=True)
        ]
    )
    if check is not None and loss.targets not in ("labels", "probabilities"):
        given = values.reshape(len(ids), n_samples, -1).transpose(1, 0, 2).reshape(n_samples, len(lines))
        check(given, lines.T, Columns("targets", targets, members=ids))
    return lines


def _label_mend(loss: Loss) -> str:
    return "Number the classes: np.unique(y, return_inverse=True)[1]." if loss.targets == "labels" else ""


def _class_mend(loss: Loss, name: str) -> str:
    """What helps where targets that are no class numbers are names of classes."""
    number = f"np.unique({name}, return_inverse=True)[1]"
    two = f"Two classes are 0 and 1: {number}."
    return two if loss.targets == "probabilities" else f'Classes take loss="cross_entropy" and numbers: {number}.'


def _dense(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in the dtype, C-ordered and aligned; copied only where it is not."""
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _require_finite(x: np.ndarray, name: str, X: Any = None, names: Names | None = None) -> None:
    """Raise DataError where x has NaN or infinity. X or else names: what its columns are called."""
    rows = max(1, _PIECE // max(1, x.shape[1]))
    for start in range(0, len(x), rows):
        piece = x[start : start + rows]
        # NaN and infinity reach the sum of squares, and it is found faster than a mask. It may overflow by itself.
        if math.isfinite(np.vdot(piece, piece)):
            continue
        finite = np.isfinite(piece)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            place = (start + row, column) if x.shape[1] > 1 else (start + row,)
            hint = "Fill or drop missing values first; scale what does not fit the dtype."
            raise DataError(
                compose(
                    name,
                    f"finite {x.dtype.name} numbers",
                    f"{x[start + row, column]} in {at_cell(name, place, X, names)}",
                    hint,
                )
            )


def _refuse(bad: np.ndarray, values: np.ndarray, name: str, expected: str, hint: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(compose(name, expected, f"{show(values[row].tolist())} in row {row}", hint))
