"""Tables that people look at: lists of records that print aligned and turn into data frames."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, overload

_ROWS_SHOWN = 20
# Columns that a glance needs; the records hold more.
_LEFT = {"architecture", "optimizer", "status", "metric"}
# Of tables up to this long all records are made at once: some milliseconds, and a list like any other.
_SHORT = 2000


def _of_all(name: str) -> Any:
    """A method of lists that is called when all records are made."""

    @functools.wraps(getattr(list, name))
    def method(self: Table, *args: Any, **kwargs: Any) -> Any:
        return getattr(list, name)(self.filled(), *args, **kwargs)

    return method


class _Unmade:
    """What stands for a record that is not made yet. Compiled code that reads a list's memory (orjson, pyarrow) finds
    it there, and knows no such type: None would pass for a record without a word."""

    def __repr__(self) -> str:
        return "<a record that is not made yet: hand over list(table)>"


_UNMADE = _Unmade()


class Table(list[dict[str, Any]]):
    """A list of records (dictionaries with the same keys). Printing shows the first rows; `to_pandas()` takes all.

    Slices are tables too. Records of a long leaderboard are made when they are asked for.

    columns: the keys to print; the records may hold more.
    """

    def __init__(self, records: Iterable[dict[str, Any]], columns: tuple[str, ...] = ()) -> None:
        super().__init__(records)
        self._columns = columns
        # What makes the record of a place that holds _UNMADE; None where all are made.
        self._make: Callable[[int], dict[str, Any]] | None = None

    @classmethod
    def made_at_need(cls, n: int, make: Callable[[int], dict[str, Any]], columns: tuple[str, ...]) -> Table:
        """The table of the records make(0) ... make(n - 1)."""
        unmade: list[Any] = [_UNMADE] * n
        table = cls(unmade, columns)
        table._make = make
        return table.filled() if n <= _SHORT else table

    def filled(self) -> Table:
        """Itself, with all records made."""
        for place in range(len(self) if self._make is not None else 0):
            self._record(place)
        self._make = None
        return self

    def _record(self, place: int) -> dict[str, Any]:
        record: Any = list.__getitem__(self, place)
        if record is _UNMADE and self._make is not None:
            record = self._make(place)
            list.__setitem__(self, place, record)
        return record

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Any] | Table:
        if isinstance(index, slice):
            return Table([self._record(place) for place in range(*index.indices(len(self)))], self._columns)
        # Raises as lists do where there is no such place.
        list.__getitem__(self, index)
        return self._record(range(len(self))[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._make is None:
            return super().__iter__()
        return map(self._record, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (list(self), self._columns)

    def to_pandas(self) -> Any:
        """The records as a pandas.DataFrame. ImportError where pandas is not installed."""
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


# What else a list can do needs all records.
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
