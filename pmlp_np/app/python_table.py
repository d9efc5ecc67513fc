"""A Python file for raw tables: the preparation as readable code in front of an exported network.

Cells are texts as in the table, or Python numbers and dates. They are read by the conventions of the fitted table,
which are constants in the file. The texts below are code of the exported file: it needs NumPy alone.
"""

from __future__ import annotations

import json
import pprint
from typing import Any

from pmlp_np.app.preparation import CYCLES, Category, Date, Number, Preparation
from pmlp_np.app.reading.column_builders import NEEDED_AFFIXES, as_numbers
from pmlp_np.app.reading.dates import ISO
from pmlp_np.app.reading.numbers import PATTERNS
from pmlp_np.models.export.to_python import InputTexts

_WIDTH = 110
_DATE = '''# A date, and a time of day with its zone, as ISO 8601 has them.
ISO = (
    r"(?P<year>\\d{4})(?:(?P<mark>[-/.])(?P<month>\\d\\d?)(?:(?P=mark)(?P<day>\\d\\d?)"
    r"(?:[T ](?P<hour>\\d\\d|\\d(?=:))(?::?(?P<minute>\\d\\d)(?::?(?P<second>\\d\\d)(?:\\.(?P<fraction>\\d+))?)?)?"
    r"\\s*(?:Z|(?P<sign>[+-])(?P<hours>\\d\\d):?(?P<minutes>\\d\\d)?)?)?)?)?"
)


def date(cell, name, form):
    """Return a cell as days since 1970 (UTC if it has a zone), NaN for a missing one."""
    if is_missing(cell, name):
        return np.nan
    if isinstance(cell, np.datetime64):
        value = cell.astype("datetime64[us]").item()
    elif hasattr(cell, "isoformat"):
        value = iso_date(cell.isoformat())
    else:
        value = datetime.datetime.strptime(cell.strip(), form) if form else iso_date(cell.strip())
    return (value - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)


def iso_date(text):
    """Return a date such as 2026-01-31; day, time and zone are optional. Raises ValueError for others."""
    parts = re.fullmatch(ISO, re.sub(r"^(\\d{4})(\\d\\d)(\\d\\d)(?!\\d)", r"\\1-\\2-\\3", text), re.ASCII)
    if not parts:
        raise ValueError("expected a date such as 2026-01-31")
    numbers = [int(parts[each] or 1) for each in ("year", "month", "day")]
    numbers += [int(parts[each] or 0) for each in ("hour", "minute", "second")]
    microseconds = int((parts["fraction"] or "").ljust(6, "0")[:6])
    value = datetime.datetime(*numbers, microseconds)
    if parts["sign"]:
        offset = datetime.timedelta(hours=int(parts["hours"]), minutes=int(parts["minutes"] or 0))
        value += offset if parts["sign"] == "-" else -offset
    return value'''
_NUMBER = '''def number(cell, name, decimal=DECIMAL, thousands=THOUSANDS, before="", after=""):
    """Return a cell as a number, NaN for a missing one. Raises ValueError for another format than in the fit."""
    if is_missing(cell, name):
        return np.nan
    value = parsed(cell, decimal, thousands, before, after) if isinstance(cell, str) else float(cell)
    if np.isinf(value):
        raise ValueError("expected a finite number")
    return np.nan if value in MISSING_NUMBERS.get(name, ()) else value


def parsed(cell, decimal, thousands, before, after):
    """Return the number of a text."""
    text = re.sub(r"(\\d)[.,][-–—]{1,2}(\\s|$)", r"\\1\\2", cell.strip().replace("−", "-"))
    if before or after:
        # A sign, the text before the number, the number, the text after it.
        parts = re.fullmatch(rf"(\\(?[+-]?)\\s*{re.escape(before)}\\s*(.*?)\\s*{re.escape(after)}([-)]*)", text)
        if parts:
            text = "".join(parts.groups())
        elif after in NEEDED:
            raise ValueError(f"expected {after} behind the number")
    if re.fullmatch(r"\\([^-+].*\\)", text):
        text = "-" + text[1:-1]
    elif re.fullmatch(r"[^-+].*-", text):
        text = "-" + text[:-1]
    other = "," if decimal == "." else "."
    if not re.match(PATTERNS[decimal], text, re.ASCII) or (other in text and other not in thousands):
        raise ValueError("expected a number as the fitted table writes them")
    return float(re.sub(rf"[{other}'’ \\u00a0\\u2009\\u202f]", "", text).replace(",", "."))'''
_IS_MISSING = """def is_missing(cell, name):
    if not isinstance(cell, str):
        return cell is None or str(cell) in ("nan", "NaN", "NaT", "<NA>")
    return not cell.strip() or cell.strip() in MISSING.get(name, USUAL_MISSING)"""
_TEXT = '''def text(cell, name, categories):
    """Return a cell as a text, "" for a missing one. Booleans match in any case, whole numbers get no decimal point."""
    if not isinstance(cell, str) and not is_missing(cell, name):
        whole = isinstance(cell, (float, np.floating)) and float(cell).is_integer()
        cell = str(int(cell) if whole else cell)
    if is_missing(cell, name):
        return ""
    truths = {each.lower(): each for each in categories}
    if len(truths) == len(categories) and set(truths) <= {"true", "false"}:
        return truths.get(cell.strip().lower(), cell)
    return cell'''
_COLUMN = '''def column(table, name):
    """Return a column of a table, which is a list of rows (dicts), or columns by name (a dict, a data frame)."""
    try:
        return [row[name] for row in table] if isinstance(table, (list, tuple)) else list(table[name])
    except (KeyError, IndexError):
        raise ValueError(f"expected a column {name!r}, got none") from None


def read_cells(table, name, read, *how):
    """Return read(cell, name, *how) of each cell. Raises ValueError with the row."""
    values = []
    for row, cell in enumerate(column(table, name), 1):
        try:
            values.append(read(cell, name, *how))
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r}, row {row}: {error}, got {cell!r}") from None
    return values


def filled(values, median):
    """Return (values with the median for missing ones, 1 for missing ones and 0 for others)."""
    missing = np.isnan(values)
    return np.where(missing, median, values), missing.astype(np.float64)'''


def input_texts(preparation: Preparation) -> InputTexts:
    """Return the parts of an exported Python file that read the columns of a raw table."""
    kinds = {column.kind for column in preparation.columns}
    sections = [_constants(preparation, kinds), _IS_MISSING]
    sections += [_NUMBER] * ("number" in kinds) + [_DATE] * ("date" in kinds) + [_TEXT] * ("category" in kinds)
    sections += [_COLUMN, _checked(preparation)]
    imports = ["io", "re"] + ["datetime"] * ("date" in kinds)
    description = "a table: a list of rows (dicts), or columns by name (a dict, a data frame)"
    return InputTexts(description, tuple(imports), sections, [_read(preparation)])


def _plain(name: str, value: Any) -> str:
    return f"{name} = {pprint.pformat(value, width=_WIDTH, compact=True)}"


def _constants(preparation: Preparation, kinds: set[str]) -> str:
    conventions = preparation.conventions
    usual = sorted(conventions.missing.of(""))
    by_column = {column.name: sorted(conventions.missing.of(column.name)) for column in preparation.columns}
    lines = [
        "# Words for missing cells, besides blank ones; and columns with other words.",
        _plain("USUAL_MISSING", usual),
        _plain("MISSING", {name: words for name, words in by_column.items() if words != usual}),
    ]
    if "number" in kinds:
        numbers = {column.name: as_numbers(conventions.missing.of(column.name)) for column in preparation.columns
                   if isinstance(column, Number)}  # fmt: skip
        lines += [
            "# Numbers among these words, in any spelling: -999 is also -999.0.",
            _plain("MISSING_NUMBERS", {name: values for name, values in numbers.items() if values}),
            "# The decimal mark and the separators of thousands.",
            _plain("DECIMAL", conventions.decimal), _plain("THOUSANDS", list(conventions.thousands)),
            "# Signs that change a number.",
            _plain("NEEDED", list(NEEDED_AFFIXES)), _plain("PATTERNS", PATTERNS),
        ]  # fmt: skip
    return "\n".join(lines)


def _checked(preparation: Preparation) -> str:
    """Return the function that computes X, column by column."""
    shift, scale = preparation.affine()
    lines = ["def checked(table):",
             f'    """Return X (n_samples, {len(shift)}), standardized. Raises ValueError for invalid cells."""',
             "    inputs = []"]  # fmt: skip
    for column in preparation.columns:
        lines += [f"    {line}" for line in _column_lines(column, preparation)]
    lines += [
        f"    shift = np.array({_numbers(shift)})",
        f"    scale = np.array({_numbers(scale)})",
        "    X = (np.column_stack(inputs) - shift) / scale",
        '    with np.errstate(over="ignore"):',
        "        X = X.astype(np.float32)",
        "    if not np.isfinite(X).all():",
        "        row = np.argwhere(~np.isfinite(X))[0, 0] + 1",
        '        raise ValueError(f"row {row}: expected numbers that float32 can hold, standardized as in training")',
        "    return X",
    ]
    return "\n".join(lines)


def _numbers(values: Any) -> str:
    lines = pprint.pformat([float(value) for value in values], width=_WIDTH - 8, compact=True).split("\n")
    return "\n        ".join(lines)


def _column_lines(column: Any, preparation: Preparation) -> list[str]:
    name = json.dumps(column.name, ensure_ascii=False)
    if isinstance(column, Category):
        categories = pprint.pformat(list(column.categories), width=_WIDTH - 20, compact=True).split("\n")
        lines = [f"categories = {categories[0]}", *(f"              {line}" for line in categories[1:])]
        counted = "categories" if not column.marks_missing else '[*categories, ""]'
        return [*lines, f"texts = read_cells(table, {name}, text, categories)",
                f"inputs += [np.array([each == one for each in texts], np.float64) for one in {counted}]"]  # fmt: skip
    number = column.days if isinstance(column, Date) else column
    if isinstance(column, Date):
        form = "" if column.date_format in ("", ISO) else column.date_format
        lines = [f"values = np.array(read_cells(table, {name}, date, {form!r}), np.float64)"]
    else:
        lines = [f"values = np.array(read_cells(table, {name}, number{_style(column, preparation)}), np.float64)"]
    lines.append(f"values, missing = filled(values, {number.median!r})")
    lines.append("inputs += [values, missing]" if number.marks_missing else "inputs.append(values)")
    for cycle in column.cycles if isinstance(column, Date) else ():
        lines.append(f"angle = 2.0 * np.pi * values / {CYCLES[cycle]!r}  # of the {cycle}")
        lines.append("inputs += [np.sin(angle), np.cos(angle)]")
    return lines


def _style(column: Number, preparation: Preparation) -> str:
    """Return further arguments for a column whose numbers have another format than most."""
    conventions = preparation.conventions
    style = conventions.style(column.name)
    arguments = style.decimal, list(style.thousands), style.affix.before, style.affix.after
    usual = conventions.decimal, list(conventions.thousands), "", ""
    return "" if arguments == usual else "".join(f", {each!r}" for each in arguments)


def _read(preparation: Preparation) -> str:
    delimiter = preparation.conventions.delimiter or ","
    delimiters = list(dict.fromkeys([delimiter, *",;\t|"]))
    return f'''# The delimiter of the fitted table, then those of other files.
DELIMITERS = {delimiters!r}
COLUMNS = {_indented([column.name for column in preparation.columns], 10)}


def read(path):
    """Return rows of a CSV file as dicts. Raises ValueError for a line with another number of cells than the header."""
    with open(path, "rb") as file:
        content = file.read()
    encoding = "utf-16" if content[:2] in (b"\\xff\\xfe", b"\\xfe\\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252")
    for delimiter in DELIMITERS:
        try:
            header, rows = records(text, delimiter)
        except csv.Error as error:
            raise ValueError(f"expected cells in whole quotes, or without them: {{error}}") from None
        if set(COLUMNS) <= set(header):
            return rows
    header, rows = records(text, DELIMITERS[0])
    missing = [name for name in COLUMNS if name not in header]
    raise ValueError(f"expected columns {{', '.join(COLUMNS)}}; missing: {{', '.join(missing)}}")


def records(text, delimiter):
    """Return (names of columns, rows as dicts) of a CSV file's text."""
    d = re.escape(delimiter)
    lines = [line for line in text.splitlines()[:100] if delimiter in line]
    # Spaces after each delimiter, or before each, are no part of cells; nor are spaces before a quote.
    after = bool(lines) and delimiter != "\\t" and not any(re.search(rf"{{d}}(?! |$)", line) for line in lines)
    after = after or any(re.search(rf'{{d}} +"[^"]*"\\s*(?:{{d}}|$)', line) for line in lines)
    before = bool(lines) and delimiter != "\\t" and not any(re.search(rf"(?<! ){{d}}", line) for line in lines)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=after, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not set(COLUMNS) <= set(header):
        return header, []
    if len(set(header)) != len(header):
        raise ValueError("expected each column's name once")
    rows = []
    for cells in reader:
        if not cells and len(header) > 1:
            continue
        cells = [cell.rstrip(" ") for cell in cells] if before else cells or [""]
        if len(cells) == len(header) + 1 and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(header):
            raise ValueError(f"line {{reader.line_num}}: expected {{len(header)}} cells, got {{len(cells)}}")
        rows.append(dict(zip(header, cells)))
    return header, rows'''


def _indented(values: list[str], indent: int) -> str:
    return pprint.pformat(values, width=_WIDTH - indent, compact=True).replace("\n", "\n" + " " * indent)
