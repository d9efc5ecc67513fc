"""Labels that data frames carry: names of columns, kept by fit and checked wherever X comes in again, and of rows.

Names are kept where every label is a string or a whole number, but for 0, 1, 2, ..., which frames number columns with
by themselves. Everything else (arrays, lists, several levels of labels) is unnamed, and taken by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmlp_np.base.checks import is_whole
from pmlp_np.base.errors import DataError, compose, nearest, show

Names = tuple[str | int, ...]
# More characters of column numbers than this make no hint.
_LONGEST_LIST = 60


def columns_of(X: Any) -> list[Any] | None:
    """The labels of a data frame's columns, None where X is no data frame."""
    if isinstance(X, (np.ndarray, list, tuple, dict)):
        return None
    # pyarrow's columns are data; pandas makes attributes of labels.
    for attribute in ("columns",) if hasattr(X, "iloc") else ("column_names", "columns"):
        labels = getattr(X, attribute, None)
        if labels is not None and not callable(labels):
            try:
                return list(labels)
            except TypeError:
                return None
    return None


def names_of(X: Any) -> Names | None:
    """The names of X's columns; None where it is unnamed."""
    labels = columns_of(X)
    if not labels or not all(isinstance(label, str) or is_whole(label) for label in labels):
        return None
    names = tuple(str(label) if isinstance(label, str) else int(label) for label in labels)
    return None if names == tuple(range(len(names))) else names


def kept_names(X: Any, name: str = "X") -> Names | None:
    """The names that fit keeps of its X. Raises DataError where two columns have one name."""
    names = names_of(X)
    if names is not None and len(set(names)) != len(names):
        first = next(i for i, label in enumerate(names) if label in names[:i])
        got = f"{names[first]!r} for columns {names.index(names[first])} and {first}"
        hint = f"Name them apart, or hand over {name}.to_numpy(): by position."
        raise DataError(compose(name, "a name of its own for each column", got, hint))
    return names


def as_strings(names: Names | None) -> np.ndarray | None:
    """Names as scikit-learn has them: an object array, new, where all are strings; else None."""
    if names is None or not all(isinstance(label, str) for label in names):
        return None
    return np.array(names, dtype=object)


def checked_names(name: str, names: Any, n: int) -> Names | None:
    """Names given by hand, one for each of n columns, or None. Raises DataError for anything else."""
    if names is None:
        return None
    found = list(names) if isinstance(names, (list, tuple, np.ndarray)) or hasattr(names, "tolist") else []
    good = len(found) == n and all(isinstance(label, str) or is_whole(label) for label in found)
    if not good or len(set(found)) != n:
        expected = f"a name of its own for each of {n} columns, strings or whole numbers, or None"
        raise DataError(compose(name, expected, show(names)))
    return tuple(str(label) if isinstance(label, str) else int(label) for label in found)


def require_names(expected: Names | None, X: Any, name: str = "X", source: str = "pool.feature_names_in_") -> None:
    """Raise DataError unless the columns of X have these names, in this order. What is unnamed is taken by position.

    source: the expression that gives the names in their order, for the hint.
    """
    found = names_of(X)
    if found is None or found == expected:
        return
    if expected is None:
        # Unnamed so far: what frames number by themselves, in another order, was reordered.
        if set(found) == set(range(len(found))):
            at = next(i for i, label in enumerate(found) if label != i)
            hint = f"The columns of 0, 1, 2, ... in another order: {_chosen(X, name, f'range({len(found)})')}."
            raise DataError(compose(name, f"column {at} at position {at}", f"{found[at]!r}", hint))
        return
    literal = f"[{', '.join(map(repr, expected))}]"
    if as_strings(expected) is None and source != "X.columns":
        source = literal if len(literal) <= _LONGEST_LIST else ""
    chosen = f"{_chosen(X, name, source)} has them in order." if source else ""
    missing = [label for label in expected if label not in found]
    if missing:
        at = expected.index(missing[0])
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        extra = [str(label) for label in found if label not in expected]
        near = nearest(missing[0], extra)
        hint = f"Did you mean {near!r}?" if near else f"There are: {_some(found)}."
        text = compose(name, f"the columns of fit, of which column {at} is {missing[0]!r}", f"no such name{more}", hint)
        raise DataError(text)
    extra_names = [label for label in found if label not in expected]
    if extra_names or len(found) != len(expected):
        got = f"{len(found)} with {extra_names[0]!r}" if extra_names else f"{len(found)}, some of them twice"
        raise DataError(compose(name, f"the {len(expected)} columns of fit", got, chosen))
    at = next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
    hint = f"These are the columns of fit in another order. {chosen}"
    raise DataError(compose(name, f"{expected[at]!r} as column {at}", f"{found[at]!r}", hint))


def require_equal_names(first: Names | None, second: Names | None, name: str, where: str) -> Names | None:
    """The names of two that are to work side by side: of the one that has any. Raises DataError where both have and
    they differ; where: what has the first, as "mlps[0]"."""
    if first is None or second is None or first == second:
        return second if first is None else first
    at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    a, b = (f"{names[at]!r}" if at < len(names) else "none" for names in (first, second))
    raise DataError(compose(name, f"{a} as column {at}, as in {where}", b))


def agreed_names(all_names: Sequence[Names | None], what: str, columns: str = "columns of") -> Names | None:
    """The names of many that are to work side by side, called what[0], what[1], ...: of those that have any. Raises
    DataError where some differ. columns: what errors call them."""
    found, first = None, 0
    for i, names in enumerate(all_names):
        if found is None and names is not None:
            found, first = names, i
        require_equal_names(found, names, f"{columns} {what}[{i}]", f"{what}[{first}]")
    return found


def at_cell(name: str, place: Any, X: Any = None, names: Names | None = None) -> str:
    """A cell as errors show it: "X[3, 1], column 'age'". X or else names: what names its columns."""
    text = f"{name}[{', '.join(str(int(i)) for i in place)}]" if len(place) else name
    known = columns_of(X) or names
    if known and len(place) == 2 and place[1] < len(known):
        text += f", column {known[place[1]]!r}"
    return text


def column_text(column: int, X: Any = None, names: Names | None = None) -> str:
    """A column as errors show it: "'age' (column 3)", or "column 3" where it has no name."""
    known = columns_of(X) or names
    return f"{known[column]!r} (column {column})" if known and column < len(known) else f"column {column}"


def column_code(name: str, column: int, X: Any = None) -> str:
    """An expression for a column of X."""
    labels = columns_of(X)
    return f"{name}[{labels[column]!r}]" if labels and column < len(labels) else f"{name}[:, {column}]"


def require_same_rows(X: Any, y: Any, names: tuple[str, str]) -> None:
    """Raise DataError where both carry labels of rows, as pandas does, and these are the same in another order."""
    a, b = _index(X), _index(y)
    if a is None or b is None or a is b or len(a) != len(b) or a.equals(b):
        return
    if not (a.is_unique and b.is_unique and bool(b.isin(a).all())):
        return
    a, b = a.tolist(), b.tolist()
    at = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    hint = f"By label: {names[1]}.loc[{names[0]}.index]. As the rows lie: {names[1]}.to_numpy()."
    expected = f"rows in the order of {names[0]}, whose row {at} is labeled {show(a[at])}"
    raise DataError(compose(names[1], expected, show(b[at]), hint))


def require_same_rows_of_each(X: Any, given: Any, name: str) -> None:
    """`require_same_rows` of what is given for each member in a list: targets, weights, or sets of rows, whose numbers
    must not be labels of X either."""
    labels = _index(X)
    if labels is None or not isinstance(given, (list, tuple)) or not any(map(_is_labeled, set(map(type, given)))):
        return
    seen: set[int] = set()
    for i, one in enumerate(given):
        if id(one) in seen:
            continue
        seen.add(id(one))
        if _is_index(one):
            _require_positions(labels, one, f"{name}[{i}]")
        # Row numbers come in an order of their own; a mask has one value for each row of X.
        elif len(one) == len(labels) and (name not in _ROW_SETS or getattr(one, "dtype", None) in ("bool", "boolean")):
            require_same_rows(X, one, ("X", f"{name}[{i}]"))


_ROW_SETS = ("rows", "validation_rows")


def _require_positions(labels: Any, rows: Any, name: str) -> None:
    """Raise DataError where pandas labels, an index, stand for row numbers, and would be other rows of X by label."""
    if rows.dtype.kind not in "iu" or not labels.is_unique or not bool(rows.isin(labels).all()):
        return
    found = labels.get_indexer(rows)
    if not np.array_equal(found, rows):
        at = int(np.argmax(found != np.asarray(rows)))
        got = f"labels of X: {show(rows[at])}, which is the label of row {found[at]}"
        hint = f"By label: X.index.get_indexer({name}). As row numbers: {name}.to_numpy()."
        raise DataError(compose(name, "row numbers", got, hint))


def _is_labeled(kind: type) -> bool:
    return hasattr(kind, "iloc") or _is_index(kind)


def _is_index(values: Any) -> bool:
    """Whether these, or their type, are pandas labels."""
    return all(hasattr(values, name) for name in _OF_AN_INDEX) and not hasattr(values, "iloc")


# What is asked of labels.
_OF_AN_INDEX = ("equals", "is_unique", "isin", "get_indexer")


def _index(values: Any) -> Any:
    """The labels of a pandas object's rows, or None."""
    index = None if isinstance(values, (np.ndarray, list, tuple)) else getattr(values, "index", None)
    return index if _is_index(index) else None


def _chosen(X: Any, name: str, source: str) -> str:
    """Code that picks columns of X by name."""
    return f"{name}[{source}]" if hasattr(X, "iloc") else f"{name}.select(list({source}))"


def _some(names: Names) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown + (", ..." if len(names) > 5 else "")
