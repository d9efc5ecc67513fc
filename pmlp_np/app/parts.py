"""The split of a table's rows into training, validation (early stopping, ranking) and test (of the best member).

Rows are drawn at random, stratified by class; or groups at random; or by the order of a column, the last rows for the
test; or a column of the table names each row's part. Other files (--validation, --test) are whole parts.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.app.column_kinds import as_numbers, first_row
from pmlp_np.app.date_columns import date_formats
from pmlp_np.app.preparation import Date, Number
from pmlp_np.app.tables import Table, as_texts, quoted
from pmlp_np.base.errors import DataError, compose, show

NAMES = ("training", "validation", "test")
# The default share of rows for validation, and for the test.
SHARE = 0.2
# How the cells of --part may call the parts, in lower case.
_CALLED = {
    "training": ("training", "train", "trn", "tr", "learn", "learning", "fit"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "tune", "tuning"),
    "test": ("test", "testing", "tst", "te", "holdout", "hold-out", "hold out", "held out"),
}
_WORDS = {word: name for name, words in _CALLED.items() for word in words}
# So many ways to deal groups to parts are tried; the one that comes nearest to the shares is taken.
_TRIES = 64


def check_options(
    group: str | None, order_by: str | None, part_column: str | None, validation_file: str | None,
    test_file: str | None, validation_share: float | None, test_share: float | None,
) -> tuple[float, float]:  # fmt: skip
    """The shares of the table's rows that validate and test, 0 where a file holds them. DataError for options that
    contradict each other."""
    chosen = {"--group": group, "--order-by": order_by, "--part": part_column}
    ways = [option for option, value in chosen.items() if value is not None]
    if len(ways) > 1:
        got = "both" if len(ways) == 2 else "all"
        raise DataError(compose(" and ".join(ways), "one of them", got, f"Leave out {', '.join(ways[1:])}."))
    files = {"--validation": validation_file, "--test": test_file}
    given = [option for option, value in files.items() if value is not None]
    if part_column is not None:
        others = {**files, "--test-share": test_share}
        contradicting = [option for option, value in others.items() if value is not None]
        if contradicting:
            both = f"--part and {contradicting[0]}"
            raise DataError(compose(both, "one of them", "both", f"Leave out {contradicting[0]}."))
    if len(given) == 2 and ways:
        hint = f"Leave out {ways[0]}."
        raise DataError(compose(f"{ways[0]}, --validation and --test", "rows that are left to part", "none", hint))
    shares = {"--validation": validation_share, "--test": test_share}
    for option, share in shares.items():
        if share is not None and files[option] is not None:
            hint = f"Leave out {option}-share."
            raise DataError(compose(f"{option} and {option}-share", "one of them", "both", hint))
        if share is not None and not 0.0 < share < 0.8:
            raise DataError(compose(f"{option}-share", "a share of the rows, above 0 and below 0.8", f"{share:g}"))
    validation, test = (
        0.0 if files[option] is not None else SHARE if share is None else share for option, share in shares.items()
    )
    if validation + test > 0.9:
        got, hint = f"{validation:g} and {test:g}", "Say, for instance, --validation-share 0.2 --test-share 0.2."
        raise DataError(compose("--validation-share and --test-share", "at most 0.9 together", got, hint))
    return validation, test


def part(classes: np.ndarray | None, n: int, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Row numbers of the three parts, drawn at random, sorted; each class (numbers (n,)) in its proportion, and in the
    training rows before all others."""
    rng = np.random.default_rng(seed)
    found: list[list[np.ndarray]] = [[], [], []]
    groups = [np.arange(n)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    # What rounding gives one class too much is taken from the next, so that the parts have their shares of all rows.
    owed = np.zeros(2)
    for group in groups:
        rows = rng.permutation(group)
        owed += np.array([validation, test]) * len(rows)
        n_validation, n_test = np.floor(owed + 0.5).astype(int)
        n_validation = min(n_validation, len(rows) - 1)
        n_test = min(n_test, len(rows) - 1 - n_validation)
        owed -= (n_validation, n_test)
        ends = n_validation, n_validation + n_test
        for place, piece in zip((1, 2, 0), np.split(rows, ends), strict=True):
            found[place].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in zip(NAMES, found, strict=True)}


def part_by_group(
    groups: np.ndarray, classes: np.ndarray | None, validation: float, test: float, seed: int, option: str
) -> dict[str, np.ndarray]:
    """Row numbers of the three parts, sorted; all rows of a group in one of them. Groups are drawn at random, in the
    way out of many that comes nearest to the shares, of each class too, and that trains on every class if one does.

    groups: (n,) a text for each row. option: what errors call it.
    """
    values, group_of = np.unique(groups, return_inverse=True)
    shares = np.array([1.0 - validation - test, validation, test])
    wanted = np.flatnonzero(shares > 0.0)
    n_groups = len(values)
    if n_groups < len(wanted):
        expected, hint = f"at least {len(wanted)} groups, one for each part", f"Leave out {option}."
        raise DataError(compose(option, expected, f"{n_groups}", hint))
    label = np.zeros(len(group_of), np.int64) if classes is None else classes
    # counts[g, c]: rows of class c in group g.
    counts = np.zeros((n_groups, int(label.max()) + 1))
    np.add.at(counts, (group_of, label), 1.0)
    totals = counts.sum(axis=0)
    rng = np.random.default_rng(seed)
    best: tuple[tuple[int, float], np.ndarray] | None = None
    for _ in range(_TRIES):
        order = rng.permutation(n_groups)
        # Each part gets a stretch of the order as long as its share, and one group at least.
        ends = np.cumsum(counts[order].sum(axis=1)) / totals.sum()
        place_of = np.zeros(n_groups, np.int64)
        middles = ends - 0.5 * np.diff(ends, prepend=0.0)
        place_of[order] = np.searchsorted(np.cumsum(shares)[:-1], middles, side="right")
        for short, place in enumerate(wanted):
            if not (place_of == place).any():
                place_of[order[short - len(wanted)]] = place
        if any(not (place_of == place).any() for place in wanted):
            continue
        rows = np.array([counts[place_of == place].sum(axis=0) for place in range(3)])
        untrained = int((rows[0] == 0).sum())
        far = float(np.abs(rows - shares[:, None] * totals).sum())
        if best is None or (untrained, far) < best[0]:
            best = (untrained, far), place_of
    # Where none of the ways gave each part a group, there are as few groups as parts, or hardly more.
    place_of = best[1] if best else np.concatenate([wanted, np.zeros(n_groups - len(wanted), np.int64)])
    return {name: np.flatnonzero(place_of[group_of] == place) for place, name in enumerate(NAMES)}


def part_by_order(values: np.ndarray, validation: float, test: float, option: str) -> dict[str, np.ndarray]:
    """Row numbers of the three parts, sorted: the last rows by these values (n,) test, those before them validate.
    Rows of the same value stay together. option: what errors call it."""
    order = np.argsort(values, kind="stable")
    # Where a new value begins, so that a part may end.
    starts = np.flatnonzero(np.diff(values[order]) > 0.0) + 1
    wanted = [share for share in (validation, test) if share > 0.0]
    if len(starts) < len(wanted):
        hint = f"Leave out {option}."
        expected = f"at least {len(wanted) + 1} different values, so that each part has its own"
        raise DataError(compose(option, expected, f"{len(starts) + 1}", hint))
    n = len(values)
    ends: list[int] = []
    # From the last part to the first; each leaves a value to those that come before it.
    left = len(wanted)
    for share in (test, validation):
        last = ends[-1] if ends else n
        if share <= 0.0:
            ends.append(last)
            continue
        left -= 1
        allowed = starts[(starts < last)][left:]
        ends.append(int(allowed[np.abs(allowed - (last - share * n)).argmin()]))
    test_start, validation_start = ends
    pieces = np.split(order, [validation_start, test_start])
    return {name: np.sort(piece) for name, piece in zip(NAMES, pieces, strict=True)}


def part_by_column(table: Table, name: str) -> dict[str, np.ndarray]:
    """Row numbers of the parts that a column's cells name, sorted. Without validation rows that part is empty.
    DataError for cells that name no part, and without training or test rows."""
    cells = as_texts(table.frame[name])
    words = cells.where(cells.isna(), cells.str.strip().str.lower())
    odd = ~words.isin(_WORDS).to_numpy()
    if odd.any():
        row = int(odd.argmax())
        expected = "train, validation or test in every row"
        got = "a missing cell" if words.isna().iloc[row] else show(cells.iloc[row])
        hint = f"Correct it, or leave out --part {quoted(name)}."
        raise DataError(compose(f"--part {quoted(name)}, {table.where(first_row(table, odd))}", expected, got, hint))
    named = words.map(_WORDS).to_numpy()
    found = {each: np.flatnonzero(named == each) for each in NAMES}
    for each in ("training", "test"):
        if not len(found[each]):
            hint = f"Mark some rows so, or leave out --part {quoted(name)}."
            raise DataError(compose(f"--part {quoted(name)}", f"{each} rows", "none", hint))
    return found


def draw_validation(rows: np.ndarray, classes: np.ndarray | None, share: float, seed: int) -> dict[str, np.ndarray]:
    """Training and validation rows out of the training rows, the share of them at random."""
    found = part(None if classes is None else classes[rows], len(rows), share, 0.0, seed)
    return {name: rows[found[name]] for name in NAMES[:2]}


def groups_of(table: Table, name: str) -> np.ndarray:
    """A column's cells as texts (n,). DataError for a missing one."""
    option = f"--group {quoted(name)}"
    cells = as_texts(table.frame[name])
    missing = cells.isna().to_numpy()
    if missing.any():
        where = table.where(first_row(table, missing))
        hint = f"Fill it, or leave out {option}."
        raise DataError(compose(f"{option}, {where}", "a value in every row", "a missing cell", hint))
    return cells.to_numpy(str)


def order_of(table: Table, name: str) -> np.ndarray:
    """A column's numbers or dates as (n,) float64. DataError for anything else, and for missing cells."""
    option = f"--order-by {quoted(name)}"
    values = column_values(table, name, option)
    missing = np.isnan(values)
    if missing.any():
        where = table.where(first_row(table, missing))
        hint = f"Fill it, or leave out --order-by {quoted(name)}."
        raise DataError(compose(f"{option}, {where}", "a value in every row", "a missing cell", hint))
    return values


def weights_of(table: Table, name: str) -> np.ndarray:
    """A column's numbers as weights (n,) float64. DataError for what is missing, below 0, infinite or no number."""
    option = f"--weight {quoted(name)}"
    values = column_values(table, name, option, dates=False)
    odd = ~(np.isfinite(values) & (values >= 0.0))
    if odd.any():
        row = int(odd.argmax())
        got = "a missing cell" if np.isnan(values[row]) else f"{values[row]:g}"
        hint = f"Correct it (a row of weight 0 counts for nothing), or leave out --weight {quoted(name)}."
        raise DataError(compose(f"{option}, {table.where(first_row(table, odd))}", "a number, at least 0", got, hint))
    return values


def column_values(table: Table, name: str, option: str, dates: bool = True) -> np.ndarray:
    """A column's numbers, or its dates as days since 1970, (n,) float64, NaN where missing. DataError, which speaks of
    the option, for anything else."""
    cells = table.frame[name]
    numbers = as_numbers(table, name)
    if numbers is not None:
        return numbers.to_numpy(np.float64, na_value=np.nan)
    date_format, _ = date_formats(table, [name]).get(name, ("", "")) if dates else ("", "")
    if dates and (date_format or cells.dtype.kind == "M"):
        return Date(name, date_format, Number(name, 0.0, 0.0, 1.0, False), ()).read(table)
    expected, hint = "numbers or dates" if dates else "numbers", f"Leave out {option}."
    if cells.dtype.kind == "M":
        raise DataError(compose(option, expected, "dates", hint))
    first = table.numbers(name)[1]
    got = show(cells.iloc[int(first.argmax())])
    raise DataError(compose(f"{option}, {table.where(first_row(table, first))}", expected, got, hint))
