"""Validation and conversion of X and y, with as few copies as possible.

X is not copied if it has the pool's dtype and each row is contiguous (it may be memory-mapped, read-only, or a block of
columns of a wider table); otherwise it is cast once. y is copied once, one line per target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, require_memory, show
from pmlp_np.data.containers import as_numbers
from pmlp_np.data.encoded import EncodedTable, Features
from pmlp_np.data.index_sets import Sets
from pmlp_np.data.labels import Names, at_cell, require_names
from pmlp_np.data.precision import Columns
from pmlp_np.formulas.losses import Loss

# Rows are checked for NaN and infinity in blocks of about this many elements, so that no large mask is needed.
_PIECE = 1 << 20
# A check of numbers before and after a cast, (n, columns) both.
Check = Callable[[np.ndarray, np.ndarray, Columns], None]


def as_features(
    X: Any,
    n_features: int,
    dtype: np.dtype,
    name: str = "X",
    names: Names | None = None,
    source: str = "pool.feature_names_in_",
    check: Check | None = None,
) -> Features:
    """Return X as (n_samples, n_features) of the dtype, with contiguous rows and finite values.

    names: the expected names of columns, if X is a frame; source: code that returns these names, for errors.
    check: called if X was cast.

    Raises DataError (names, shape, type, no rows, NaN or infinity after the cast) and MemoryNeededError (not enough
    memory for the cast).
    """
    if isinstance(X, EncodedTable):
        return _checked_table(X, n_features, dtype, name)
    # NumPy arrays have no names; skipping the check helps to predict one row in microseconds.
    if type(X) is not np.ndarray:
        require_names(names, X, name, source)
    if type(X) is np.ndarray and X.dtype == dtype and X.ndim == 2 and X.shape[1] == n_features and len(X):
        values = x = X
    else:
        values = x = _checked_features(X, n_features, name)
    if not (x.dtype == dtype and x.flags.c_contiguous and x.flags.aligned):
        x = _in_rows(x, dtype, name)
    _require_finite(x, name, X, names)
    if check is not None:
        check(values, x, Columns(name, X, names))
    return x


def _checked_table(X: EncodedTable, n_features: int, dtype: np.dtype, name: str) -> EncodedTable:
    """Return an encoded table in the dtype, whose numbers compiled code may read memory by."""
    _require_size(X.shape, n_features, name)
    with np.errstate(over="ignore"):
        table = EncodedTable.checked(X.numbers, X.encoding).astype(dtype)
    _require_finite(table.plain, name)
    return table


def _checked_features(X: Any, n_features: int, name: str) -> np.ndarray:
    """Return X as an array of numbers, (n_samples, n_features)."""
    x = as_numbers(X, name)
    if x.ndim != 2:
        array = name if hasattr(X, "reshape") else f"np.asarray({name})"
        hint = f"One feature: {array}.reshape(-1, 1). One sample: {array}.reshape(1, -1)." if x.ndim == 1 else ""
        raise DataError(compose(name, f"shape (n_samples, {n_features})", str(x.shape), hint))
    _require_size(x.shape, n_features, name)
    return x


def _require_size(shape: tuple[int, ...], n_features: int, name: str) -> None:
    if shape[1] != n_features:
        hint = "The pool was made with n_features=" + str(n_features) + "."
        raise DataError(compose(name, f"{n_features} features (columns)", str(shape[1]), hint))
    if shape[0] == 0:
        raise DataError(compose(name, "at least one row", "none"))


def _in_rows(x: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Return the array in the dtype with contiguous rows; copied only if necessary."""
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
    """Return y as (n_targets, n_samples) of the dtype: one line per output, or one line of labels.

    check: called for targets that are values, neither labels nor probabilities.

    Raises DataError: shape, type, NaN or infinity, a label that is no class, a probability outside 0 ... 1.
    """
    values = as_numbers(y, name, _label_hint(loss), _class_hint(loss, name))
    per_row = 1 if loss.targets == "labels" else n_outputs
    if values.shape == (n_samples,) and per_row == 1:
        values = values[:, None]
    if values.shape != (n_samples, per_row):
        expected = f"shape ({n_samples},)" if per_row == 1 else f"shape ({n_samples}, {per_row})"
        hint = "" if values.ndim and len(values) == n_samples else "X and y must have as many rows."
        raise DataError(compose(name, expected, str(values.shape), hint))
    with np.errstate(over="ignore"):
        # Always a copy: the caller could change y after this check, during training.
        lines = np.array(values.T, dtype, order="C")
    _require_finite(lines.T, name, y)
    if loss.targets == "labels":
        bad = (values != np.floor(values)) | (values < 0) | (values >= n_outputs)
        _refuse(
            bad[:, 0],
            values[:, 0],
            name,
            f"whole numbers from 0 to {n_outputs - 1} (n_outputs={n_outputs})",
            _label_hint(loss),
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


def feature_sets(x: Features, features: Sets | None) -> list[Features]:
    """Return the columns of x of each feature set: a view where they are neighbors, otherwise a copy."""
    if features is None:
        return [x if isinstance(x, np.ndarray) or x.encoding.centers else x.plain]
    if isinstance(x, EncodedTable):
        return [x.inputs(columns) for columns in features.arrays]
    blocks: list[Features] = []
    for columns in features.arrays:
        first, stop = int(columns[0]), int(columns[-1]) + 1
        if np.array_equal(columns, np.arange(first, stop)):
            blocks.append(x[:, first:stop])
        else:
            require_memory("features", len(x) * len(columns) * x.itemsize, "Choose neighboring columns: no copy.")
            blocks.append(np.ascontiguousarray(x[:, columns]))
    return blocks


def as_target_sets(
    targets: Any,
    ids: np.ndarray,
    n_samples: int,
    n_outputs: int,
    loss: Loss,
    dtype: np.dtype,
    check: Check | None = None,
) -> np.ndarray:
    """Return separate targets of each member as (n_members * n_targets, n_samples) of the dtype. Raises DataError."""
    values = as_numbers(targets, "targets", _label_hint(loss))
    if values.ndim not in (2, 3) or len(values) != len(ids):
        shape = f"({len(ids)}, {n_samples}" + (", n_outputs)" if n_outputs > 1 else ")")
        raise DataError(compose("targets", f"shape {shape}: one set for each member", str(values.shape)))
    lines = np.concatenate(
        [
            as_targets(member_targets, n_samples, n_outputs, loss, dtype, f"targets of member {id}")
            for id, member_targets in zip(ids.tolist(), values, strict=True)
        ]
    )
    if check is not None and loss.targets not in ("labels", "probabilities"):
        values_by_row = values.reshape(len(ids), n_samples, -1).transpose(1, 0, 2).reshape(n_samples, len(lines))
        check(values_by_row, lines.T, Columns("targets", targets, members=ids))
    return lines


def _label_hint(loss: Loss) -> str:
    """Return the hint for targets that are no class numbers; "" for a loss without labels."""
    return "Number the classes: np.unique(y, return_inverse=True)[1]." if loss.targets == "labels" else ""


def _class_hint(loss: Loss, name: str) -> str:
    """Return the hint for targets that are names of classes."""
    number = f"np.unique({name}, return_inverse=True)[1]"
    binary = f"Two classes are 0 and 1: {number}."
    return binary if loss.targets == "probabilities" else f'Classes take loss="cross_entropy" and numbers: {number}.'


def _dense(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the array in the dtype, C-ordered and aligned; copied only if necessary."""
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _require_finite(x: np.ndarray, name: str, X: Any = None, names: Names | None = None) -> None:
    """Raise DataError where x has NaN or infinity. X or names: the source of column names for the error."""
    rows = max(1, _PIECE // max(1, x.shape[1]))
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        # NaN and infinity propagate to the sum of squares, which is computed faster than a mask. The sum of finite
        # values may overflow, too; then the mask decides.
        if math.isfinite(np.vdot(block, block)):
            continue
        finite = np.isfinite(block)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            index = (start + row, column) if x.shape[1] > 1 else (start + row,)
            hint = "Fill or drop missing values first; scale what does not fit the dtype."
            raise DataError(
                compose(
                    name,
                    f"finite {x.dtype.name} numbers",
                    f"{x[start + row, column]} in {at_cell(name, index, X, names)}",
                    hint,
                )
            )


def _refuse(bad: np.ndarray, values: np.ndarray, name: str, expected: str, hint: str) -> None:
    """Raise DataError about the first row where `bad` is true."""
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(compose(name, expected, f"{show(values[row].tolist())} in row {row}", hint))
