"""A Python file that takes a raw table: in front of an exported network, the preparation as readable code.

Cells are texts as the table writes them, or numbers and dates of Python. They are read by the conventions of the fitted
table, which stand in the file as constants. The code below is the file's own: it needs NumPy alone.
"""

from __future__ import annotations

import json
import pprint
from typing import Any

from pmlp_np.app.preparation import CYCLES, Category, Date, Number, Preparation
from pmlp_np.app.reading.columns import NEEDED_AFFIXES
from pmlp_np.app.reading.dates import ISO
from pmlp_np.app.reading.numbers import PATTERNS
from pmlp_np.export.to_python import InputTexts

_WIDTH = 110
_DATE = '''def date(cell, name, form):
    """A cell as days since 1970, NaN where it is missing."""
    if isinstance(cell, np.datetime64) or hasattr(cell, "isoformat"):
        cell = str(np.datetime64(cell, "us"))
    if is_missing(cell, name):
        return np.nan
    text = str(cell).strip()
    found = datetime.datetime.strptime(text, form) if form else datetime.datetime.fromisoformat(text)
    if found.tzinfo is not None:
        found = found.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return (found - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)'''
_NUMBER = '''def number(cell, name, decimal=DECIMAL, thousands=THOUSANDS, before="", after=""):
    """A cell as a number, NaN where it is missing. ValueError for what the fitted table did not write so."""
    if is_missing(cell, name):
        return np.nan
    if not isinstance(cell, str):
        return float(cell)
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
_IS_MISSING = '''def is_missing(cell, name):
    if not isinstance(cell, str):
        return cell is None or cell != cell
    return not cell.strip() or cell.strip() in MISSING.get(name, USUAL_MISSING)'''
_TEXT = '''def text(cell, name, categories):
    """A cell as a text, "" where it is missing; truths in any case, blanks around only where they tell categories."""
    if is_missing(cell, name):
        return ""
    cell = str(cell)
    truths = {each.lower(): each for each in categories}
    if set(truths) <= {"true", "false"}:
        return truths.get(cell.strip().lower(), cell)
    return cell if cell in categories else cell.strip()'''
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
    imports = ["io"] + ["re"] * ("number" in kinds) + ["datetime"] * ("date" in kinds)
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
        lines += [
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
        "    return X.astype(np.float32)",
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
    return f'''def read(path):
    """Rows of a CSV file as dicts. ValueError that names a line of another number of cells than the header."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        text = file.read()
    # Blanks before quotes belong to no cell.
    blanks = {delimiter + ' "'!r} in text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter={delimiter!r}, skipinitialspace=blanks, strict=True)
    header = [name.strip() for name in next(reader, [])]
    rows = []
    for cells in reader:
        if not cells and len(header) > 1:
            continue
        cells = cells or [""]
        if len(cells) != len(header):
            raise ValueError(f"line {{reader.line_num}}: expected {{len(header)}} cells, got {{len(cells)}}")
        rows.append(dict(zip(header, cells)))
    return rows'''
