"""Labels of data frames: names of columns, stored by fit and compared for every later X, and labels of rows.

Names are stored if every label is a string or an integer. The labels 0, 1, 2, ..., by which frames number columns by
default, are no names. All other data (arrays, lists, several levels of labels) is unnamed, and columns are taken by
position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmlp_np.base.checks import is_whole
from pmlp_np.base.errors import DataError, compose, nearest, show

Names = tuple[str | int, ...]
# A list of names longer than this many characters is left out of a hint.
_LONGEST_LIST = 60


def columns_of(X: Any) -> list[Any] | None:
    """Return the labels of a data frame's columns; None if X is no data frame."""
    if isinstance(X, (np.ndarray, list, tuple, dict)):
        return None
    # In pyarrow, `columns` is the data. In pandas, each label is an attribute, even a label "column_names".
    for attribute in ("columns",) if hasattr(X, "iloc") else ("column_names", "columns"):
        labels = getattr(X, attribute, None)
        if labels is not None and not callable(labels):
            try:
                return list(labels)
            except TypeError:
                return None
    return None


def names_of(X: Any) -> Names | None:
    """Return the names of X's columns; None if they are unnamed."""
    labels = columns_of(X)
    if not labels or not all(isinstance(label, str) or is_whole(label) for label in labels):
        return None
    names = tuple(str(label) if isinstance(label, str) else int(label) for label in labels)
    return None if names == tuple(range(len(names))) else names


def distinct_names(X: Any, name: str = "X") -> Names | None:
    """Return the names that fit stores for X. Raises DataError where two columns have the same name."""
    names = names_of(X)
    if names is not None and len(set(names)) != len(names):
        first = next(i for i, label in enumerate(names) if label in names[:i])
        got = f"{names[first]!r} for columns {names.index(names[first])} and {first}"
        hint = f"Name them apart, or hand over {name}.to_numpy(): by position."
        raise DataError(compose(name, "distinct names of columns", got, hint))
    return names


def as_strings(names: Names | None) -> np.ndarray | None:
    """Return names as scikit-learn stores them: a new object array if all are strings, otherwise None."""
    if names is None or not all(isinstance(label, str) for label in names):
        return None
    return np.array(names, dtype=object)


def checked_names(name: str, names: Any, n: int) -> Names | None:
    """Return names given by the user, one per column, as a tuple; or None. Raises DataError for anything else."""
    if names is None:
        return None
    labels = list(names) if isinstance(names, (list, tuple, np.ndarray)) or hasattr(names, "tolist") else []
    good = len(labels) == n and all(isinstance(label, str) or is_whole(label) for label in labels)
    if not good or len(set(labels)) != n:
        expected = f"distinct names of {n} columns, strings or whole numbers, or None"
        raise DataError(compose(name, expected, show(names)))
    return tuple(str(label) if isinstance(label, str) else int(label) for label in labels)


def require_names(expected: Names | None, X: Any, name: str = "X", source: str = "pool.feature_names_in_") -> None:
    """Raise DataError unless the columns of X have these names, in this order. Unnamed columns are taken by position.

    source: code that returns the names in order, for the hint.
    """
    names = names_of(X)
    if names is None or names == expected:
        return
    if expected is None:
        # fit had unnamed columns. Default numbers of a frame in another order mean reordered columns.
        if set(names) == set(range(len(names))):
            at = next(i for i, label in enumerate(names) if label != i)
            hint = f"The columns of 0, 1, 2, ... in another order: {_selection_code(X, name, f'range({len(names)})')}."
            raise DataError(compose(name, f"column {at} at position {at}", f"{names[at]!r}", hint))
        return
    literal = f"[{', '.join(map(repr, expected))}]"
    if as_strings(expected) is None and source != "X.columns":
        source = literal if len(literal) <= _LONGEST_LIST else ""
    chosen = f"{_selection_code(X, name, source)} has them in order." if source else ""
    missing = [label for label in expected if label not in names]
    if missing:
        at = expected.index(missing[0])
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        extra = [str(label) for label in names if label not in expected]
        near = nearest(missing[0], extra)
        hint = f"Did you mean {near!r}?" if near else f"There are: {_first_names(names)}."
        text = compose(name, f"the columns of fit, where column {at} is {missing[0]!r}", f"no such name{more}", hint)
        raise DataError(text)
    extra_names = [label for label in names if label not in expected]
    if extra_names or len(names) != len(expected):
        got = f"{len(names)} with {extra_names[0]!r}" if extra_names else f"{len(names)}, some of them twice"
        raise DataError(compose(name, f"the {len(expected)} columns of fit", got, chosen))
    at = next(i for i, (a, b) in enumerate(zip(expected, names, strict=True)) if a != b)
    hint = f"These are the columns of fit in another order. {chosen}"
    raise DataError(compose(name, f"{expected[at]!r} as column {at}", f"{names[at]!r}", hint))


def require_equal_names(first: Names | None, second: Names | None, name: str, where: str) -> Names | None:
    """Return the common names of columns of two objects that are used together. Raises DataError if they differ.

    where: the object that has the first names, as "mlps[0]".
    """
    if first is None or second is None or first == second:
        return second if first is None else first
    at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    a, b = (f"{names[at]!r}" if at < len(names) else "none" for names in (first, second))
    raise DataError(compose(name, f"{a} as column {at}, as in {where}", b))


def agreed_names(all_names: Sequence[Names | None], what: str, columns: str = "columns of") -> Names | None:
    """Return the common names of columns of objects that are used together, called what[0], what[1], ...

    columns: how errors introduce the objects.

    Raises DataError where some names differ.
    """
    agreed, first = None, 0
    for i, names in enumerate(all_names):
        if agreed is None and names is not None:
            agreed, first = names, i
        require_equal_names(agreed, names, f"{columns} {what}[{i}]", f"{what}[{first}]")
    return agreed


def at_cell(name: str, index: Any, X: Any = None, names: Names | None = None) -> str:
    """Describe a cell for an error: "X[3, 1], column 'age'". X or names: the source of the column's name."""
    text = f"{name}[{', '.join(str(int(i)) for i in index)}]" if len(index) else name
    known = columns_of(X) or names
    if known and len(index) == 2 and index[1] < len(known):
        text += f", column {known[index[1]]!r}"
    return text


def column_text(column: int, X: Any = None, names: Names | None = None) -> str:
    """Describe a column for an error: "'age' (column 3)", or "column 3" if it is unnamed."""
    known = columns_of(X) or names
    return f"{known[column]!r} (column {column})" if known and column < len(known) else f"column {column}"


def column_code(name: str, column: int, X: Any = None) -> str:
    """Return code that selects a column of X."""
    labels = columns_of(X)
    return f"{name}[{labels[column]!r}]" if labels and column < len(labels) else f"{name}[:, {column}]"


def require_same_rows(X: Any, y: Any, names: tuple[str, str]) -> None:
    """Raise DataError where both arguments have row labels, as in pandas, and these are the same in another order."""
    a, b = _index(X), _index(y)
    if a is None or b is None or a is b or len(a) != len(b) or a.equals(b):
        return
    if not (a.is_unique and b.is_unique and bool(b.isin(a).all())):
        return
    a, b = a.tolist(), b.tolist()
    at = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    hint = f"By label: {names[1]}.loc[{names[0]}.index]. By position: {names[1]}.to_numpy()."
    expected = f"rows in the order of {names[0]}, whose row {at} is labeled {show(a[at])}"
    raise DataError(compose(names[1], expected, show(b[at]), hint))


def require_same_rows_of_each(X: Any, values: Any, name: str) -> None:
    """Apply `require_same_rows` to each entry of a list with one entry per member: targets, weights, or row numbers.

    Row numbers must not be labels of X, either.
    """
    labels = _index(X)
    if labels is None or not isinstance(values, (list, tuple)) or not any(map(_is_labeled, set(map(type, values)))):
        return
    seen: set[int] = set()
    for i, entry in enumerate(values):
        if id(entry) in seen:
            continue
        seen.add(id(entry))
        if _is_index(entry):
            _require_positions(labels, entry, f"{name}[{i}]")
            continue
        # Row numbers may have any order; a mask has one value for each row of X.
        has_row_order = name not in _ROW_SETS or getattr(entry, "dtype", None) in ("bool", "boolean")
        if len(entry) == len(labels) and has_row_order:
            require_same_rows(X, entry, ("X", f"{name}[{i}]"))


_ROW_SETS = ("rows", "validation_rows")


def _require_positions(labels: Any, rows: Any, name: str) -> None:
    """Raise DataError where a pandas index is used as row numbers but would select other rows of X by label."""
    if rows.dtype.kind not in "iu" or not labels.is_unique or not bool(rows.isin(labels).all()):
        return
    positions = labels.get_indexer(rows)
    if not np.array_equal(positions, rows):
        at = int(np.argmax(positions != np.asarray(rows)))
        got = f"labels of X: {show(rows[at])}, which is the label of row {positions[at]}"
        hint = f"By label: X.index.get_indexer({name}). As row numbers: {name}.to_numpy()."
        raise DataError(compose(name, "row numbers", got, hint))


def _is_labeled(kind: type) -> bool:
    return hasattr(kind, "iloc") or _is_index(kind)


def _is_index(values: Any) -> bool:
    """Return whether these values, or this type, are a pandas index."""
    return all(hasattr(values, name) for name in _INDEX_ATTRIBUTES) and not hasattr(values, "iloc")


# Attributes that identify a pandas index.
_INDEX_ATTRIBUTES = ("equals", "is_unique", "isin", "get_indexer")


def _index(values: Any) -> Any:
    """Return the row labels of a pandas object, or None."""
    index = None if isinstance(values, (np.ndarray, list, tuple)) else getattr(values, "index", None)
    return index if _is_index(index) else None


def _selection_code(X: Any, name: str, source: str) -> str:
    """Return code that selects columns of X by name."""
    return f"{name}[{source}]" if hasattr(X, "iloc") else f"{name}.select(list({source}))"


def _first_names(names: Names) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown + (", ..." if len(names) > 5 else "")
