"""A Python file that takes a raw table: in front of an exported network, the preparation as readable code.

Cells are texts as the table writes them, or numbers and dates of Python. They are read by the conventions of the fitted
table, which stand in the file as constants. The code below is the file's own: it needs NumPy alone.
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
    """A cell as days since 1970 (UTC where it has a zone), NaN where it is missing."""
    if is_missing(cell, name):
        return np.nan
    if isinstance(cell, np.datetime64):
        found = cell.astype("datetime64[us]").item()
    elif hasattr(cell, "isoformat"):
        found = iso_date(cell.isoformat())
    else:
        found = datetime.datetime.strptime(cell.strip(), form) if form else iso_date(cell.strip())
    return (found - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)


def iso_date(text):
    """A date as 2026-01-31, with or without a time and a zone; the day may be left out. ValueError for others."""
    parts = re.fullmatch(ISO, re.sub(r"^(\\d{4})(\\d\\d)(\\d\\d)(?!\\d)", r"\\1-\\2-\\3", text), re.ASCII)
    if not parts:
        raise ValueError("expected a date such as 2026-01-31")
    numbers = [int(parts[each] or 1) for each in ("year", "month", "day")]
    numbers += [int(parts[each] or 0) for each in ("hour", "minute", "second")]
    microseconds = int((parts["fraction"] or "").ljust(6, "0")[:6])
    found = datetime.datetime(*numbers, microseconds)
    if parts["sign"]:
        ahead = datetime.timedelta(hours=int(parts["hours"]), minutes=int(parts["minutes"] or 0))
        found += ahead if parts["sign"] == "-" else -ahead
    return found'''
_NUMBER = '''def number(cell, name, decimal=DECIMAL, thousands=THOUSANDS, before="", after=""):
    """A cell as a number, NaN where it is missing. ValueError for what the fitted table did not write so."""
    if is_missing(cell, name):
        return np.nan
    value = parsed(cell, decimal, thousands, before, after) if isinstance(cell, str) else float(cell)
    if np.isinf(value):
        raise ValueError("expected a finite number")
    return np.nan if value in MISSING_NUMBERS.get(name, ()) else value


def parsed(cell, decimal, thousands, before, after):
    """The number that a text is."""
    text = re.sub(r"(\\d)[.,][-–—]{1,2}(\\s|$)", r"\\1\\2", cell.strip().replace("−", "-"))
    if before or after:
        # A sign, what stands before, the number, what stands behind.
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
    """A cell as a text, "" where it is missing: as it is written, but truths in any case, and whole numbers of Python
    without a point."""
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
    """A column's cells, of a table as a list of rows (dicts), or as columns by name (a dict, a data frame)."""
    try:
        return [row[name] for row in table] if isinstance(table, (list, tuple)) else list(table[name])
    except (KeyError, IndexError):
        raise ValueError(f"expected a column {name!r}, got none") from None


def read_cells(table, name, read, *how):
    """What `read` makes of each cell. ValueError that names the row."""
    found = []
    for row, cell in enumerate(column(table, name), 1):
        try:
            found.append(read(cell, name, *how))
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r}, row {row}: {error}, got {cell!r}") from None
    return found


def filled(values, median):
    """(values with the median where they are missing, 1 where they were)."""
    missing = np.isnan(values)
    return np.where(missing, median, values), missing.astype(np.float64)'''


def input_texts(preparation: Preparation) -> InputTexts:
    """The parts of an exported Python file by which it takes the columns of a raw table."""
    kinds = {column.kind for column in preparation.columns}
    sections = [_constants(preparation, kinds), _IS_MISSING]
    sections += [_NUMBER] * ("number" in kinds) + [_DATE] * ("date" in kinds) + [_TEXT] * ("category" in kinds)
    sections += [_COLUMN, _checked(preparation)]
    imports = ["io", "re"] + ["datetime"] * ("date" in kinds)
    said = "a table: a list of rows (dicts), or columns by name (a dict, a data frame)"
    return InputTexts(said, tuple(imports), sections, [_read(preparation)])


def _plain(name: str, value: Any) -> str:
    return f"{name} = {pprint.pformat(value, width=_WIDTH, compact=True)}"


def _constants(preparation: Preparation, kinds: set[str]) -> str:
    conventions = preparation.conventions
    usual = sorted(conventions.missing.of(""))
    own = {column.name: sorted(conventions.missing.of(column.name)) for column in preparation.columns}
    lines = [
        "# Words for a missing cell, beside blank ones; and those of the columns that have others.",
        _plain("USUAL_MISSING", usual),
        _plain("MISSING", {name: words for name, words in own.items() if words != usual}),
    ]
    if "number" in kinds:
        numbers = {column.name: as_numbers(conventions.missing.of(column.name)) for column in preparation.columns
                   if isinstance(column, Number)}  # fmt: skip
        lines += [
            "# Numbers among them, however they are written: -999 is -999.0 too.",
            _plain("MISSING_NUMBERS", {name: found for name, found in numbers.items() if found}),
            "# How numbers are written: what stands before decimals, and between thousands.",
            _plain("DECIMAL", conventions.decimal), _plain("THOUSANDS", list(conventions.thousands)),
            "# Without these a number would be another one.",
            _plain("NEEDED", list(NEEDED_AFFIXES)), _plain("PATTERNS", PATTERNS),
        ]  # fmt: skip
    return "\n".join(lines)


def _checked(preparation: Preparation) -> str:
    """The function that makes X, column by column."""
    shift, scale = preparation.affine()
    lines = ["def checked(table):",
             f'    """X (n_samples, {len(shift)}), standardized as in training. ValueError for what can\'t be read."""',
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
        marked = [f"categories = {categories[0]}", *(f"              {line}" for line in categories[1:])]
        counted = "categories" if not column.marks_missing else '[*categories, ""]'
        return [*marked, f"texts = read_cells(table, {name}, text, categories)",
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
    """Further arguments for a column whose numbers are written in a way of their own."""
    conventions = preparation.conventions
    style = conventions.style(column.name)
    given = style.decimal, list(style.thousands), style.affix.before, style.affix.after
    usual = conventions.decimal, list(conventions.thousands), "", ""
    return "" if given == usual else "".join(f", {each!r}" for each in given)


def _read(preparation: Preparation) -> str:
    delimiter = preparation.conventions.delimiter or ","
    delimiters = list(dict.fromkeys([delimiter, *",;\t|"]))
    return f'''# What separates cells in the fitted table; then what may in others.
DELIMITERS = {delimiters!r}
COLUMNS = {_indented([column.name for column in preparation.columns], 10)}


def read(path):
    """Rows of a CSV file as dicts. ValueError that names a line of another number of cells than the header."""
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
    """(names of columns, rows as dicts) of a CSV file's text."""
    d = re.escape(delimiter)
    lines = [line for line in text.splitlines()[:100] if delimiter in line]
    # Blanks that follow each delimiter, or precede each, belong to no cell; nor do those before a quote.
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
