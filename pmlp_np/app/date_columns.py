"""Which columns of texts hold dates, and how they are read: one order of day and month for all of a file's columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pmlp_np.app.reading.dates import Dated, dated, day_first_of, formats_of, parsed, shown
from pmlp_np.app.tables import Table, is_text, quoted
from pmlp_np.base.errors import DataError, compose, show


def date_formats(table: Table, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """(the format, a note on it) of each column of texts that are dates. names: of the columns to try.

    DataError for a column of dates with other cells among them, and for dates that may have the day or the month first
    where no cell of the table tells.
    """
    found: dict[str, Dated] = {}
    for name in names:
        cells = table.frame[name]
        if is_text(cells) and cells.notna().any():
            dates = dated(cells.dropna())
            if dates is not None:
                _refuse_odd(table, name, dates)
                found[name] = dates
    said = table.conventions.day_first
    told = {day_first_of(dates.formats[0]) for dates in found.values() if not dates.unsure} - {None}
    by_file = told.pop() if len(told) == 1 else None
    return {name: _chosen(table, name, dates, said, by_file) for name, dates in found.items()}


def _chosen(table: Table, name: str, dates: Dated, said: bool | None, by_file: bool | None) -> tuple[str, str]:
    known = table.frame[name].dropna()
    first = _first_that_differs(known, dates) if dates.unsure else 0
    cell, where = known.iloc[first], table.where(int(known.index[first]))
    if not dates.unsure:
        date_format = dates.formats[0]
        order = day_first_of(date_format)
        if said is not None and order is not None and order is not said:
            asked = "--day-first" if said else "--month-first"
            row = known.index[_first_that_tells(known, dates.formats[0])]
            got = f"{show(known[row])} in {table.where(int(row))}"
            expected = f"dates that {asked} reads"
            raise DataError(compose(f"column {name!r} of {table.name}", expected, got, "Leave the option out."))
        return date_format, _read_as(name, cell, where, date_format) if "%y" in date_format else ""
    if said is not None:
        return dates.ordered(said), ""
    if by_file is not None:
        date_format = dates.ordered(by_file)
    elif "." in dates.formats[0]:
        date_format = dates.ordered(True)
    else:
        one, other = (shown(cell, dates.ordered(order)) for order in (True, False))
        hint = f"Say --day-first for {one}, or --month-first for {other}."
        if one == other:
            hint = "Say --day-first or --month-first: these are the same dates, those of later tables may not be."
        got = f"{show(cell)} and no day above 12 in the table"
        raise DataError(compose(f"column {name!r} of {table.name}, {where}", "dates that read one way", got, hint))
    option = "--month-first" if day_first_of(date_format) else "--day-first"
    return date_format, f"{_read_as(name, cell, where, date_format)}; {option} reads day and month the other way"


def _first_that_differs(known: Any, dates: Dated) -> int:
    """The place of the first cell that is another date with the other order of day and month; the first if none is."""
    one, other = (parsed(known, each) for each in dates.formats[:2])
    return int((one != other).to_numpy().argmax())


def _read_as(name: str, cell: str, where: str, date_format: str) -> str:
    return f"column {name!r}: {show(cell)} in {where} is read as {shown(cell, date_format)}"


def _first_that_tells(known: Any, date_format: str) -> int:
    """The place of the first cell that no other order of day and month fits."""
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
        # To call it missing would lose a date.
        hint = "Write all of them in one way"
    if int(known.value_counts().iloc[0]) > 1:
        hint += f", or say --categorical {quoted(name)}"
    raise DataError(compose(f"column {name!r}", "dates in one format", got, f"{hint}."))
