"""Conversion of users' containers (lists, arrays, frames, tensors) to arrays of numbers; nothing is dropped silently.

NumPy accepts nearly everything, but drops a mask or a gradient, turns categories into objects, or raises an error about
another problem. Here each unusable container is refused by name, with a hint.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.data.labels import at_cell, columns_of

# Types of cells that contain no other values.
_SCALARS = frozenset({float, int, bool, complex, str, bytes, type(None), np.float64, np.float32, np.int64, np.bool_})
# Nested lists are checked down to this depth.
_DEEPEST = 8
_MISSING = ("NAType", "NaTType")


def as_numbers(values: Any, name: str, hint: str = "", categories: str = "") -> np.ndarray:
    """Return values as an array of real numbers: floats, integers or booleans.

    hint: advice for values that are no numbers. categories: advice for values that are categories.

    Raises DataError for a mask, a sparse matrix, a tensor with a gradient, rows of different lengths, and the first
    cell that is no number.
    """
    if type(values) is np.ndarray and values.dtype.kind in "fiub":
        return values
    array = as_array(values, name)
    is_list = isinstance(values, (list, tuple))
    if is_list and array.dtype.kind in "USMm" and array.size:
        # NumPy casts all cells to one type: numbers beside a string become strings.
        cells = np.asarray(values, object)
        array = cells if cells.shape == array.shape and len(set(map(type, cells.flat))) > 1 else array
    if array.dtype.kind == "O":
        array = _from_objects(array, values, name, hint, categories)
    if array.dtype.kind not in "fiub":
        hint = hint or _hint_for_dtype(array, name, categories)
        raise DataError(compose(name, "real numbers", f"dtype {array.dtype}", hint))
    return array


def as_array(values: Any, name: str) -> np.ndarray:
    """Return np.asarray(values). Raises DataError where NumPy would drop something, or cannot read the values."""
    if values is None:
        raise DataError(compose(name, "an array", "None"))
    require_plain(values, name)
    try:
        return np.asarray(values)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and isinstance(values, (list, tuple)):
            raise DataError(compose(name, "rows of equal length", show(values))) from None
        got = f"{type(values).__name__}: {show(str(error))[1:-1]}"
        raise DataError(compose(name, "an object that NumPy can convert", got.rstrip("."))) from error


def require_plain(values: Any, name: str, depth: int = 0) -> None:
    """Raise DataError for values that np.asarray would drop or could not read, also within lists.

    These are masked entries, sparse matrices, and tensors that need a gradient or are on a GPU.
    """
    if type(values) is np.ndarray or hasattr(values, "iloc"):  # pandas: labels of columns can be attributes
        return
    if isinstance(values, np.ma.MaskedArray):
        _require_unmasked(values, name)
    elif isinstance(values, (list, tuple)):
        if depth < _DEEPEST and not set(map(type, values)) <= _SCALARS:
            for i, item in enumerate(values):
                if type(item) not in _SCALARS:
                    require_plain(item, f"{name}[{i}]", depth + 1)
    elif hasattr(values, "nnz") and (hasattr(values, "toarray") or hasattr(values, "todense")):
        hint = f"Make it dense: {_expression(name)}.{'toarray' if hasattr(values, 'toarray') else 'todense'}()."
        raise DataError(compose(name, "a dense array", f"a sparse {type(values).__name__}", hint))
    elif hasattr(values, "detach"):
        _require_plain_tensor(values, name)


def _expression(name: str) -> str:
    """Return the argument as code: its name, or "array" where the name is a phrase (as "rows of member 3")."""
    return "array" if " of " in name else name


def _require_unmasked(values: np.ma.MaskedArray, name: str) -> None:
    mask = np.ma.getmaskarray(values)
    if mask.dtype != bool or not mask.any():
        return
    index = np.unravel_index(int(np.argmax(mask)), mask.shape)
    count = int(np.count_nonzero(mask))
    got = f"{count:,} masked {'entry' if count == 1 else 'entries'}, the first at {at_cell(name, index)}"
    if mask.ndim == 0:
        raise DataError(compose(name, "numbers without a mask", "a masked one", "Leave it out, or fill it."))
    rows = ".any(axis=1)" if mask.ndim == 2 else ""
    hint = f"Drop their rows, from the other arrays too: keep = ~np.ma.getmaskarray({name}){rows}; {name}[keep]. "
    hint += f"Or fill them: {name}.filled(0.0)."
    if _expression(name) != name:
        hint = "Take its .compressed() numbers, or the mask .filled(False)."
    raise DataError(compose(name, "numbers without masked entries", got, hint))


def _require_plain_tensor(tensor: Any, name: str) -> None:
    """Raise DataError unless a PyTorch tensor is dense, on the CPU, and needs no gradient."""
    steps = []
    got = []
    if getattr(tensor, "requires_grad", False):
        got.append("needs a gradient")
        steps.append("detach()")
    if str(getattr(tensor, "layout", "torch.strided")) != "torch.strided":
        got.append("is sparse")
        steps.append("to_dense()")
    device = getattr(getattr(tensor, "device", None), "type", "cpu")
    if device != "cpu":
        got.append(f"lies on {show(str(tensor.device))[1:-1]}")
        steps.append("cpu()")
    if str(getattr(tensor, "dtype", "")) == "torch.bfloat16":
        got.append("is bfloat16, which NumPy lacks")
        steps.append("float()")
    if steps:
        hint = f"Hand over {_expression(name)}.{'.'.join(steps)}.numpy()."
        raise DataError(compose(name, "an array", f"a tensor that {' and '.join(got)}", hint))


def _from_objects(array: np.ndarray, values: Any, name: str, hint: str, categories: str) -> np.ndarray:
    """Return an array of objects, all of them numbers, as float64."""
    if array.ndim == 0:
        got = f"the {type(values).__name__} {show(values)}"
        raise DataError(compose(name, "an array of numbers", got, _hint_for_object(values, name)))
    if all(map(_is_number_type, set(map(type, array.flat)))):
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            pass
    result = np.empty(array.shape)
    for index, cell in np.ndenumerate(array):
        try:
            if isinstance(cell, (str, bytes, np.datetime64, np.timedelta64)) or cell is None:
                raise TypeError
            result[index] = float(cell)
        except (TypeError, ValueError, OverflowError):
            raise _not_a_number(cell, index, values, name, hint, categories) from None
        except Exception as error:
            raise _not_a_number(cell, index, values, name, hint, categories) from error
    return result


def _is_number_type(kind: type) -> bool:
    """Return whether NumPy converts cells of this type to the same numbers."""
    return issubclass(kind, (numbers.Real, np.bool_, Decimal)) and not issubclass(kind, np.timedelta64)


def _not_a_number(cell: Any, index: Sequence[int], values: Any, name: str, hint: str, categories: str) -> DataError:
    """Return the error about a cell that is no number; for a frame, with the column's label and dtype."""
    where = at_cell(name, index, values)
    try:
        require_plain(cell, at_cell(name, index))
    except DataError as error:
        return error
    if cell is None or type(cell).__name__ in _MISSING:
        hint = "Fill or drop missing values first."
        return DataError(compose(name, "numbers", f"a missing value, {show(cell)}, in {where}", hint))
    labels = columns_of(values)
    label = labels[index[1]] if labels and len(index) == 2 and labels.count(labels[index[1]]) == 1 else None
    dtypes = getattr(values, "dtypes", None)
    if label is not None and dtypes is not None and hasattr(dtypes, "iloc"):
        where += f" (dtype {dtypes.iloc[index[1]]})"
    if not hint:
        hint = _hint_for_cell(cell, None if label is None or not hasattr(values, "iloc") else label, name, categories)
    return DataError(compose(name, "numbers", f"{show(cell)} in {where}", hint))


def _hint_for_cell(cell: Any, label: Any, name: str, categories: str = "") -> str:
    """Return a hint for a cell that is no number.

    label: of the cell's column, where X is a pandas frame.
    """
    column = f"{name}[{label!r}]"
    if isinstance(cell, (str, bytes)) and _reads_as_number(cell):
        cast = f"np.asarray({name}, float)" if label is None else f"{name}.astype({{{label!r}: float}})"
        return f"Text is not converted by itself: {cast}."
    if isinstance(cell, (str, bytes)):
        if categories:
            return categories
        if label is None:
            return "Turn categories into numbers first, as one column of 0 and 1 for each."
        return f"One column of 0 and 1 for each category: pandas.get_dummies({name}, columns=[{label!r}])."
    if hasattr(cell, "total_seconds") or isinstance(cell, np.timedelta64):
        code = "" if label is None else f": {column} / np.timedelta64(1, 'D')"
        return f"Turn durations into numbers first, as days{code}."
    if hasattr(cell, "isoformat") or isinstance(cell, np.datetime64):
        code = "" if label is None else f": ({column} - {column}.min()) / np.timedelta64(1, 'D')"
        return f"Turn dates into numbers first, as days{code}."
    if isinstance(cell, complex):
        return "Hand over real and imaginary parts as separate columns."
    return ""


def _hint_for_dtype(array: np.ndarray, name: str, categories: str) -> str:
    """Return a hint for an array of this dtype."""
    if array.dtype.names:
        return f"Make one table of its fields: numpy.lib.recfunctions.structured_to_unstructured({name})."
    if not array.size:
        return ""
    kind = array.dtype.kind
    if kind == "M":
        return f"Turn dates into numbers first, as days: ({name} - {name}.min()) / np.timedelta64(1, 'D')."
    if kind == "m":
        return f"Turn durations into numbers first, as days: {name} / np.timedelta64(1, 'D')."
    if kind in "UST":
        return _hint_for_cell(str(array.flat[0]), None, name, categories)
    return _hint_for_cell(1j, None, name) if kind == "c" else ""


def _reads_as_number(cell: str | bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _hint_for_object(values: Any, name: str) -> str:
    """Return a hint how to make an array of an object that NumPy reads as one element."""
    if isinstance(values, dict):
        return f"A column for each key: np.column_stack(list({name}.values()))." if values else ""
    if isinstance(values, (set, frozenset)):
        return "A set has no order: hand over a list."
    return f"Make a list of it: list({name})." if hasattr(values, "__iter__") else ""
