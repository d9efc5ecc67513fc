"""Tables for people: lists of records that print aligned and convert to data frames."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, overload

_ROWS_SHOWN = 20
# Columns that are aligned to the left.
_LEFT = {"architecture", "configuration", "optimizer", "status", "metric"}
# Tables of up to this many records are filled at once: that takes some milliseconds, and gives an ordinary list.
_SHORT = 2000


def _of_all(name: str) -> Any:
    """Return a method of list that first makes all records."""

    @functools.wraps(getattr(list, name))
    def method(self: Table, *args: Any, **kwargs: Any) -> Any:
        return getattr(list, name)(self.fill(), *args, **kwargs)

    return method


class _Placeholder:
    """A placeholder for a record that is not made yet.

    Compiled code that reads a list's memory (orjson, pyarrow) finds this placeholder and raises an error about its
    type. None would pass for a record.
    """

    def __repr__(self) -> str:
        return "<a record that is not made yet: hand over list(table)>"


_PLACEHOLDER = _Placeholder()


class Table(list[dict[str, Any]]):
    """A list of records (dictionaries with the same keys). Printing shows the first rows; `to_pandas()` returns all.

    Slices are tables too. Records of a long leaderboard are made when they are first read.

    columns: the keys to print; the records may hold more.
    """

    def __init__(self, records: Iterable[dict[str, Any]], columns: tuple[str, ...] = ()) -> None:
        super().__init__(records)
        self._columns = columns
        # Makes the record of an index that holds the placeholder; None when all records are made.
        self._make: Callable[[int], dict[str, Any]] | None = None

    @classmethod
    def lazy(cls, n: int, make: Callable[[int], dict[str, Any]], columns: tuple[str, ...]) -> Table:
        """Return the table of the records make(0) ... make(n - 1), each made when it is first read."""
        placeholders: list[Any] = [_PLACEHOLDER] * n
        table = cls(placeholders, columns)
        table._make = make
        return table.fill() if n <= _SHORT else table

    def fill(self) -> Table:
        """Make all records. Returns the table."""
        for index in range(len(self) if self._make is not None else 0):
            self._record(index)
        self._make = None
        return self

    def _record(self, index: int) -> dict[str, Any]:
        record: Any = list.__getitem__(self, index)
        if record is _PLACEHOLDER and self._make is not None:
            record = self._make(index)
            list.__setitem__(self, index, record)
        return record

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Any] | Table:
        if isinstance(index, slice):
            return Table([self._record(i) for i in range(*index.indices(len(self)))], self._columns)
        # Raises IndexError as lists do.
        list.__getitem__(self, index)
        return self._record(range(len(self))[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._make is None:
            return super().__iter__()
        return map(self._record, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (list(self), self._columns)

    def to_pandas(self) -> Any:
        """Return the records as a pandas.DataFrame. Raises ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame(list(self))

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        columns = list(self._columns or (self[0] if self else ()))
        return columns, [[_shown(record.get(name)) for name in columns] for record in self[:_ROWS_SHOWN]]

    def __str__(self) -> str:
        if not self:
            return "(no rows)"
        columns, rows = self._cells()
        widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
        lines = [columns, *rows]
        text = [
            "  ".join(cell.ljust(w) if name in _LEFT else cell.rjust(w)
                      for name, cell, w in zip(columns, line, widths, strict=True)).rstrip()
            for line in lines
        ]  # fmt: skip
        text.insert(1, "  ".join("-" * w for w in widths))
        if len(self) > _ROWS_SHOWN:
            text.append(f"... {len(self) - _ROWS_SHOWN:,} more rows")
        return "\n".join(text)

    __repr__ = __str__

    def __radd__(self, other: list[Any]) -> list[Any]:
        return other + list(self)

    def _repr_html_(self) -> str:
        columns, rows = self._cells()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        more = f"<p>... {len(self) - _ROWS_SHOWN:,} more rows</p>" if len(self) > _ROWS_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


# All other methods of list need all records.
_NEED_ALL = """
    __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __contains__ __reversed__ __add__ __mul__ __rmul__
    __iadd__ __imul__ __setitem__ __delitem__
    append clear copy count extend index insert pop remove reverse sort
"""
for _name in _NEED_ALL.split():
    setattr(Table, _name, _of_all(_name))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
