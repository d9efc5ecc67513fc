"""The split of a table's rows into training, validation and test.

Rows are split at random, stratified by class; or at random by group; or by the order of a column, with the last rows
for the test; or by a column that names each row's part. Other files (--validation, --test) are whole parts. Without
validation rows, configurations are evaluated by folds of the training rows.
"""

from __future__ import annotations

import numpy as np

from pmlp_np.app.column_kinds import as_numbers, first_row
from pmlp_np.app.columns import days_of
from pmlp_np.app.date_columns import date_formats
from pmlp_np.app.tables import Table, as_texts, quoted
from pmlp_np.base.errors import DataError, compose, show

NAMES = ("training", "validation", "test")
# The default share of rows for the test, and, if rows have an order, for validation.
SHARE = 0.2
# Names of the parts in cells of --part, in lower case.
_CALLED = {
    "training": ("training", "train", "trn", "tr", "learn", "learning", "fit"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "tune", "tuning"),
    "test": ("test", "testing", "tst", "te", "holdout", "hold-out", "hold out", "held out"),
}
_WORDS = {word: name for name, words in _CALLED.items() for word in words}
# Number of random splits of groups, of which the one nearest to the shares is used.
_TRIES = 64


def check_options(
    group: str | None, order_by: str | None, part_column: str | None, validation_file: str | None,
    test_file: str | None, validation_share: float | None, test_share: float | None,
) -> tuple[float, float]:  # fmt: skip
    """Return the shares of the table's rows for validation and test, 0 if the part is a separate file.

    The share for validation is 0, too, if it is not chosen: then there are folds. Rows in an order have none.

    Raises DataError for options that contradict each other.
    """
    chosen = {"--group": group, "--order-by": order_by, "--part": part_column}
    ways = [option for option, value in chosen.items() if value is not None]
    if len(ways) > 1:
        got = "both" if len(ways) == 2 else "all"
        raise DataError(compose(" and ".join(ways), "one of them", got, f"Leave out {', '.join(ways[1:])}."))
    files = {"--validation": validation_file, "--test": test_file}
    separate = [option for option, value in files.items() if value is not None]
    if part_column is not None:
        others = {**files, "--test-share": test_share}
        contradicting = [option for option, value in others.items() if value is not None]
        if contradicting:
            both = f"--part and {contradicting[0]}"
            raise DataError(compose(both, "one of them", "both", f"Leave out {contradicting[0]}."))
    if len(separate) == 2 and ways:
        hint = f"Leave out {ways[0]}."
        raise DataError(compose(f"{ways[0]}, --validation and --test", "rows that are left to part", "none", hint))
    shares = {"--validation": validation_share, "--test": test_share}
    for option, share in shares.items():
        if share is not None and files[option] is not None:
            hint = f"Leave out {option}-share."
            raise DataError(compose(f"{option} and {option}-share", "one of them", "both", hint))
        if share is not None and not 0.0 < share < 0.8:
            raise DataError(compose(f"{option}-share", "a share of the rows, above 0 and below 0.8", f"{share:g}"))
    default = {"--validation": SHARE if order_by is not None else 0.0, "--test": SHARE}
    validation, test = (
        0.0 if files[option] is not None else default[option] if share is None else share
        for option, share in shares.items()
    )
    if validation + test > 0.9:
        got, hint = f"{validation:g} and {test:g}", "Say, for instance, --validation-share 0.2 --test-share 0.2."
        raise DataError(compose("--validation-share and --test-share", "at most 0.9 together", got, hint))
    return validation, test


def part(classes: np.ndarray | None, n: int, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Return the row numbers of the three parts, split at random, sorted.

    classes: (n,) number of each row's class, or None. The split is stratified by class; each class has training rows.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    groups = [np.arange(n)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    # Rounding errors of one class are carried over to the next, so that the parts have their shares of all rows.
    owed = np.zeros(2)
    for group in groups:
        rows = rng.permutation(group)
        owed += np.array([validation, test]) * len(rows)
        n_validation, n_test = np.floor(owed + 0.5).astype(int)
        n_validation = min(n_validation, len(rows) - 1)
        n_test = min(n_test, len(rows) - 1 - n_validation)
        owed -= (n_validation, n_test)
        ends = n_validation, n_validation + n_test
        for i, piece in zip((1, 2, 0), np.split(rows, ends), strict=True):
            parts[i].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in zip(NAMES, parts, strict=True)}


def part_by_group(
    groups: np.ndarray, classes: np.ndarray | None, validation: float, test: float, seed: int, option: str
) -> dict[str, np.ndarray]:
    """Return the row numbers of the three parts, sorted, with all rows of a group in one part.

    Of many random splits, the best one is used: first by the number of classes in training, then by the distance from
    the shares, also of each class.

    groups: (n,) a text for each row. option: name of the option, for errors.
    """
    values, group_of = np.unique(groups, return_inverse=True)
    shares = np.array([1.0 - validation - test, validation, test])
    needed = np.flatnonzero(shares > 0.0)
    n_groups = len(values)
    if n_groups < len(needed):
        expected, hint = f"at least {len(needed)} groups, one for each part", f"Leave out {option}."
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
        # Each part gets consecutive groups of the order according to its share, at least one group.
        ends = np.cumsum(counts[order].sum(axis=1)) / totals.sum()
        part_of = np.zeros(n_groups, np.int64)
        middles = ends - 0.5 * np.diff(ends, prepend=0.0)
        part_of[order] = np.searchsorted(np.cumsum(shares)[:-1], middles, side="right")
        for j, i in enumerate(needed):
            if not (part_of == i).any():
                part_of[order[j - len(needed)]] = i
        if any(not (part_of == i).any() for i in needed):
            continue
        rows = np.array([counts[part_of == i].sum(axis=0) for i in range(3)])
        untrained = int((rows[0] == 0).sum())
        distance = float(np.abs(rows - shares[:, None] * totals).sum())
        if best is None or (untrained, distance) < best[0]:
            best = (untrained, distance), part_of
    # If no split gave each part a group, there are hardly more groups than parts.
    part_of = best[1] if best else np.concatenate([needed, np.zeros(n_groups - len(needed), np.int64)])
    return {name: np.flatnonzero(part_of[group_of] == i) for i, name in enumerate(NAMES)}


def part_by_order(values: np.ndarray, validation: float, test: float, option: str) -> dict[str, np.ndarray]:
    """Return the row numbers of the three parts, sorted, in the order of these values (n,): training, validation, test.

    Rows of equal value are in the same part. option: name of the option, for errors.
    """
    order = np.argsort(values, kind="stable")
    # Positions of new values, at which a part may begin.
    starts = np.flatnonzero(np.diff(values[order]) > 0.0) + 1
    needed = [share for share in (validation, test) if share > 0.0]
    if len(starts) < len(needed):
        hint = f"Leave out {option}."
        expected = f"at least {len(needed) + 1} different values, at least one for each part"
        raise DataError(compose(option, expected, f"{len(starts) + 1}", hint))
    n = len(values)
    ends: list[int] = []
    # From the last part to the first. Each leaves at least one value for each part before it.
    left = len(needed)
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
    """Return the row numbers of the parts named by a column's cells, sorted. The validation part may be empty.

    Raises DataError for cells that name no part, and if there are no training or no test rows.
    """
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
    parts = {each: np.flatnonzero(named == each) for each in NAMES}
    for each in ("training", "test"):
        if not len(parts[each]):
            hint = f"Mark some rows so, or leave out --part {quoted(name)}."
            raise DataError(compose(f"--part {quoted(name)}", f"{each} rows", "none", hint))
    return parts


def draw_validation(rows: np.ndarray, classes: np.ndarray | None, share: float, seed: int) -> dict[str, np.ndarray]:
    """Return training and validation rows: a random split of the training rows by the share for validation."""
    parts = part(None if classes is None else classes[rows], len(rows), share, 0.0, seed)
    return {name: rows[parts[name]] for name in NAMES[:2]}


def groups_of(table: Table, name: str) -> np.ndarray:
    """Return a column's cells as texts (n,). Raises DataError for a missing cell."""
    option = f"--group {quoted(name)}"
    cells = as_texts(table.frame[name])
    missing = cells.isna().to_numpy()
    if missing.any():
        where = table.where(first_row(table, missing))
        hint = f"Fill it, or leave out {option}."
        raise DataError(compose(f"{option}, {where}", "a value in every row", "a missing cell", hint))
    return cells.to_numpy(str)


def order_of(table: Table, name: str) -> np.ndarray:
    """Return a column's numbers or dates, (n,) float64. Raises DataError for other columns and missing cells."""
    option = f"--order-by {quoted(name)}"
    values = column_values(table, name, option)
    missing = np.isnan(values)
    if missing.any():
        where = table.where(first_row(table, missing))
        hint = f"Fill it, or leave out --order-by {quoted(name)}."
        raise DataError(compose(f"{option}, {where}", "a value in every row", "a missing cell", hint))
    return values


def weights_of(table: Table, name: str) -> np.ndarray:
    """Return a column's numbers as weights (n,) float64. Raises DataError for cells other than finite numbers >= 0."""
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
    """Return a column's numbers, or its dates as days since 1970, (n,) float64, NaN for missing cells.

    Raises DataError, which names the option, for other columns.
    """
    cells = table.frame[name]
    numbers = as_numbers(table, name)
    if numbers is not None:
        return numbers.to_numpy(np.float64, na_value=np.nan)
    date_format, _ = date_formats(table, [name]).get(name, ("", "")) if dates else ("", "")
    if dates and (date_format or cells.dtype.kind == "M"):
        return days_of(table, name, date_format)
    expected, hint = "numbers or dates" if dates else "numbers", f"Leave out {option}."
    if cells.dtype.kind == "M":
        raise DataError(compose(option, expected, "dates", hint))
    odd = table.numbers(name)[1]
    got = show(cells.iloc[int(odd.argmax())])
    raise DataError(compose(f"{option}, {table.where(first_row(table, odd))}", expected, got, hint))
