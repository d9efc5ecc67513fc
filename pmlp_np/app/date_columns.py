"""Dates: the columns of texts that hold dates, and their formats, with one order of day and month for the file."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pmlp_np.app.reading.dates import Dated, dated, day_first_of, formats_of, parsed, shown
from pmlp_np.app.tables import Table, is_text, quoted
from pmlp_np.base.errors import DataError, compose, show


def date_formats(table: Table, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return (the format, a note on it) of each column of texts that are dates. names: the columns to try.

    Raises DataError for a column of dates with other cells among them, and for dates with an ambiguous order of day and
    month if no cell of the table decides it.
    """
    dated_columns: dict[str, Dated] = {}
    for name in names:
        cells = table.frame[name]
        if is_text(cells) and cells.notna().any():
            dates = dated(cells.dropna())
            if dates is not None:
                _refuse_odd(table, name, dates)
                dated_columns[name] = dates
    requested = table.conventions.day_first
    orders = {day_first_of(dates.formats[0]) for dates in dated_columns.values() if not dates.unsure} - {None}
    by_file = orders.pop() if len(orders) == 1 else None
    return {name: _chosen(table, name, dates, requested, by_file) for name, dates in dated_columns.items()}


def _chosen(table: Table, name: str, dates: Dated, requested: bool | None, by_file: bool | None) -> tuple[str, str]:
    known = table.frame[name].dropna()
    first = _first_that_differs(known, dates) if dates.unsure else 0
    cell, where = known.iloc[first], table.where(int(known.index[first]))
    if not dates.unsure:
        date_format = dates.formats[0]
        order = day_first_of(date_format)
        if requested is not None and order is not None and order is not requested:
            option = "--day-first" if requested else "--month-first"
            row = known.index[_first_that_tells(known, dates.formats[0])]
            got = f"{show(known[row])} in {table.where(int(row))}"
            expected = f"dates that {option} reads"
            raise DataError(compose(f"column {name!r} of {table.name}", expected, got, "Leave the option out."))
        return date_format, _read_as(name, cell, where, date_format) if "%y" in date_format else ""
    if requested is not None:
        return dates.ordered(requested), ""
    if by_file is not None:
        date_format = dates.ordered(by_file)
    elif "." in dates.formats[0]:
        date_format = dates.ordered(True)
    else:
        one, other = (shown(cell, dates.ordered(order)) for order in (True, False))
        hint = f"Say --day-first for {one}, or --month-first for {other}."
        if one == other:
            hint = "Say --day-first or --month-first: these are the same dates, those of later tables may not be."
        got = f"{show(cell)} and no day above 12 in the {'table' if table.of_rows is None else 'drawn rows'}"
        raise DataError(compose(f"column {name!r} of {table.name}, {where}", "dates that read one way", got, hint))
    option = "--month-first" if day_first_of(date_format) else "--day-first"
    return date_format, f"{_read_as(name, cell, where, date_format)}; {option} reads day and month the other way"


def _first_that_differs(known: Any, dates: Dated) -> int:
    """Return the position of the first cell with different dates by the two orders of day and month, else 0."""
    one, other = (parsed(known, each) for each in dates.formats[:2])
    return int((one != other).to_numpy().argmax())


def _read_as(name: str, cell: str, where: str, date_format: str) -> str:
    return f"column {name!r}: {show(cell)} in {where} is read as {shown(cell, date_format)}"


def _first_that_tells(known: Any, date_format: str) -> int:
    """Return the position of the first cell that has only one valid order of day and month."""
    swapped = date_format.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")
    return int(parsed(known, swapped).isna().to_numpy().argmax())


def _refuse_odd(table: Table, name: str, dates: Dated) -> None:
    if dates.odd is None:
        return
    known = table.frame[name].dropna()
    n_odd, first = int(dates.odd.sum()), int(dates.odd.argmax())
    cell, good = known.iloc[first], known[~dates.odd].iloc[0]
    got = (
        f"{len(known) - n_odd:,} dates such as {show(good)} and {n_odd:,} other cells, such as {show(cell)} in "
        f"{table.where(int(known.index[first]))}"
    )
    hint = f"Correct them, or say --missing {quoted(f'{name}={cell}')} if that means nothing is known"
    if formats_of(cell):
        # --missing would lose a date.
        hint = "Write all of them in one way"
    if int(known.value_counts().iloc[0]) > 1:
        hint += f", or say --categorical {quoted(name)}"
    raise DataError(compose(f"column {name!r}", "dates in one format", got, f"{hint}."))
