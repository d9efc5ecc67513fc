"""Table models as one readable Python file that needs NumPy alone.

The texts below are code of the exported file. It computes encodings in float64, as the library does, and casts them
once to the members' dtype. Numbers are written with all their digits.
"""

from __future__ import annotations

import os
import pprint
from typing import Any

import numpy as np

from pmlp_np.data.preprocessing.feature_views import PLAIN
from pmlp_np.data.preprocessing.number_column import BEND, FARTHEST
from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE, NUMBER
from pmlp_np.model_selection.export.table_parts import Inputs, TableParts
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.models.export.to_python import InputTexts, OutputTexts, to_python

_WIDTH = 110
# Texts that stand for a missing cell in CSV files, as pandas reads them.
_MISSING = ("", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "<NA>")


def table_to_python(parts: TableParts, path: str | os.PathLike[str] | None) -> str:
    """Return the file's text, and write it to `path`."""
    kinds = {column.kind for column in parts.columns}
    said = "a dict of columns, a data frame, or rows"
    imports = ("io",) + ("numbers",) * (CATEGORY in kinds) + ("datetime",) * bool(kinds & {NUMBER, DATE})
    blocks = {each.block for each in parts.inputs if each.column.kind != CATEGORY}
    encodings = [text for text, users in _ENCODINGS.items() if users & blocks]
    encodings += [_CYCLE] * any(column.cycles for column in parts.columns)
    encodings += [_TEXT_ROWS] * (CATEGORY in kinds)
    cells = [_CELLS[kind] for kind in (NUMBER, DATE, CATEGORY) if kind in kinds]
    checked = [_IS_MISSING, *cells, _COLUMN, *encodings, _checked(parts)]
    inputs = InputTexts(said, imports, checked, [_constants(parts), _read(parts)])
    return to_python(parts.networks, path, None, parts.labels, inputs, _outputs(parts))


def _outputs(parts: TableParts) -> OutputTexts:
    targets = parts.targets
    if targets.task == REGRESSION:
        pair = (targets.mean, targets.scale)
        mean, scale = (_literal(float(each[0]) if targets.flat else each) for each in pair)
        return OutputTexts([f"# Of the target in training.\nMEAN = {mean}\nSCALE = {scale}"], "{mean} * SCALE + MEAN")
    if parts.temperature == 1.0:
        return OutputTexts([], "{mean}")
    text = _TEMPERED_CLASSES if targets.task == CLASSIFICATION else _TEMPERED_LABELS
    return OutputTexts([f"TEMPERATURE = {parts.temperature!r}", text], "tempered({mean})")


def _literal(value: Any) -> str:
    """Return a number, or an array of numbers or of texts, as Python, with all digits."""
    if isinstance(value, float):
        return repr(value)
    plain = value.tolist() if isinstance(value, np.ndarray) else list(value)
    text = pprint.pformat(plain, width=_WIDTH, compact=True)
    return f"np.array({text})" if isinstance(value, np.ndarray) else text


def _constants(parts: TableParts) -> str:
    """Return the numbers that encodings need, named by block and position of the column."""
    lines = []
    for each in parts.inputs:
        for name, value in _numbers_of(each).items():
            if not isinstance(value, float):
                lines.append(f"{_name(each, name)} = {_literal(value)}")
    return "\n".join(["# What was learned of the columns, which are numbered as in training.", *lines])


def _name(each: Inputs, name: str) -> str:
    return f"{each.block}_{each.column.position}_{name}".upper()


def _numbers_of(each: Inputs) -> dict[str, Any]:
    """Return what an encoding is made of, by name: arguments of its function."""
    column, block = each.column, each.block
    if column.kind == CATEGORY:
        return {"texts": column.texts[block].texts, "rows": column.texts[block].rows}
    learned = column.numbers()
    if block == "raw":
        return {"median": learned.median, "factor": learned.factor}
    if block == "quant":
        return {"values": learned.quantiles, "normal": learned.normal}
    if block == "per":
        return {
            "median": learned.median, "factor": learned.factor, "frequencies": learned.frequencies,
            "phases": learned.phases,
        }  # fmt: skip
    return {} if block == PLAIN else {"edges": learned.edges[block], "centers": learned.centers[block]}


def _checked(parts: TableParts) -> str:
    """Return the function from a table to the inputs of the networks."""
    said = f"Inputs of the networks, (n_samples, {parts.width}). ValueError for cells of another kind than in training."
    lines = ["def checked(table):", f'    """{said}"""']
    for column in parts.columns:
        arguments = f"{column.name!r}, {column.position}, {_READERS[column.kind]}"
        lines.append(f"    c{column.position} = column(table, {arguments})")
    lines.append("    inputs = [")
    for each in parts.inputs:
        lines += [f"        {text},  # {each.block}" for text in _expressions(each)]
    lines += ["    ]", f"    return np.concatenate(inputs, axis=1).astype(np.{parts.networks.dtype})"]
    return "\n".join(lines)


def _expressions(each: Inputs) -> list[str]:
    column, cells = each.column, f"c{each.column.position}"
    if column.kind != CATEGORY and each.block == PLAIN:
        marks = [f"np.isnan({cells})[:, None]"] * column.numbers().marks_missing
        return marks + [f"cycle({cells}, {length!r})" for length in column.cycles]
    arguments = [
        repr(value) if isinstance(value, float) else _name(each, name) for name, value in _numbers_of(each).items()
    ]
    function = "text_rows" if column.kind == CATEGORY else _FUNCTIONS[each.block]
    return [f"{function}({', '.join([cells, *arguments])})"]


def _read(parts: TableParts) -> str:
    """Return the function that reads a CSV file."""
    by_name = any(column.name != str(column.position) for column in parts.columns)
    not_missing = {column.name: [word for word in _MISSING if word in column.known] for column in parts.columns}
    wanted = [(column.name, column.position) for column in parts.columns]
    find = _BY_NAME if by_name else _BY_POSITION
    expected = "expected columns " + ", ".join(map(repr, [name for name, _ in wanted]))
    expected = expected if by_name else f"expected {parts.n_columns} columns, as in training"
    columns = pprint.pformat(wanted, width=_WIDTH, compact=True)
    words = pprint.pformat(list(_MISSING), width=_WIDTH, compact=True)
    kept = pprint.pformat({name: words for name, words in not_missing.items() if words}, width=_WIDTH, compact=True)
    return f"""N_COLUMNS = {parts.n_columns}
# Names and positions of the columns that are read.
COLUMNS = {columns}
# Words for missing cells of a CSV file, and columns in which some of them are categories.
MISSING = {words}
NOT_MISSING = {kept}


{_READ.replace("{find}", find).replace("{expected}", repr(expected))}"""


_READERS = {NUMBER: "number", DATE: "days", CATEGORY: "text"}
_FUNCTIONS = {"raw": "scaled", "quant": "quantile_normal", "ple": "pieces", "ple8": "pieces", "per": "periodic"}

_IS_MISSING = """def is_missing(cell):
    if type(cell).__name__ in ("NoneType", "NAType", "NaTType"):
        return True
    return isinstance(cell, (float, np.floating, np.datetime64, np.timedelta64)) and cell != cell"""
_NUMBER = '''def number(cell):
    """A cell as a number, NaN where it is missing. Durations are days; true and false are 1 and 0."""
    if is_missing(cell):
        return np.nan
    if isinstance(cell, str) and cell.strip().lower() in ("true", "false"):
        return float(cell.strip().lower() == "true")
    if isinstance(cell, (datetime.timedelta, np.timedelta64)):
        return np.timedelta64(cell) / np.timedelta64(1, "D")
    value = float(cell)
    if np.isinf(value):
        raise ValueError("expected a finite number")
    return value'''
_DAYS = '''def days(cell):
    """A date as days since 1970-01-01 (UTC if it has a zone), NaN where it is missing. Texts as 2026-01-31."""
    if is_missing(cell):
        return np.nan
    if isinstance(cell, str):
        cell = datetime.datetime.fromisoformat(cell.strip())
    if isinstance(cell, datetime.datetime) and cell.tzinfo is not None:
        cell = cell.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if not isinstance(cell, (datetime.date, np.datetime64)):
        raise ValueError("expected a date")
    return (np.datetime64(cell, "us") - np.datetime64(0, "us")) / np.timedelta64(1, "D")'''
_TEXT = '''def text(cell):
    """A cell as a text, None where it is missing. Whole numbers have no decimal point."""
    if is_missing(cell):
        return None
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    whole = isinstance(cell, numbers.Real) and not isinstance(cell, bool) and float(cell).is_integer()
    return str(int(cell) if whole else cell)'''
_CELLS = {NUMBER: _NUMBER, DATE: _DAYS, CATEGORY: _TEXT}
_COLUMN = '''def column(table, name, position, read):
    """A column of a table: numbers as an array, texts as a list. ValueError, with the row, for other cells."""
    if isinstance(table, dict) or hasattr(table, "columns"):
        labels = {str(label): label for label in (table if isinstance(table, dict) else table.columns)}
        if name not in labels:
            raise ValueError(f"expected a column {name!r}, got none")
        cells = list(table[labels[name]])
    else:
        if len(table) and len(table[0]) != N_COLUMNS and not isinstance(table[0], dict):
            raise ValueError(f"expected {N_COLUMNS} columns, as in training, got {len(table[0])}")
        cells = [row[name] if isinstance(row, dict) else row[position] for row in table]
    values = []
    for row, cell in enumerate(cells):
        try:
            values.append(read(cell))
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name!r}, row {row}: {error}, got {cell!r}") from None
    return values if read.__name__ == "text" else np.array(values, np.float64)'''
_SCALED = f'''def scaled(values, median, factor):
    """Values over the interquartile range around the median, bent so that outliers stay near; 0 where missing."""
    with np.errstate(over="ignore"):
        z = np.clip((values - median) * factor, -{FARTHEST!r}, {FARTHEST!r})
        return np.where(np.isnan(values), 0.0, z / np.sqrt(1.0 + np.square(z / {BEND!r})))[:, None]'''
_QUANTILE_NORMAL = '''def quantile_normal(values, known, normal):
    """Values as quantiles of the standard normal distribution; 0 where missing."""
    return np.where(np.isnan(values), 0.0, np.interp(values, known, normal))[:, None]'''
_PIECES = '''def pieces(values, edges, centers):
    """The part of each bin that lies below the value, from 0 to 1, centered; 0 where missing."""
    with np.errstate(over="ignore"):
        parts = np.clip((values[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0) - centers
    return np.where(np.isnan(values)[:, None], 0.0, parts)'''
_PERIODIC = '''def periodic(values, median, factor, frequencies, phases):
    """Cosines of the scaled values; 0 where missing."""
    waves = np.cos(2.0 * np.pi * scaled(values, median, factor) * frequencies + phases)
    return np.where(np.isnan(values)[:, None], 0.0, waves)'''
# Functions, and the blocks that need them.
_ENCODINGS = {
    _SCALED: {"raw", "per"}, _QUANTILE_NORMAL: {"quant"}, _PIECES: {"ple", "ple8"}, _PERIODIC: {"per"},
}  # fmt: skip
_CYCLE = '''def cycle(days, length):
    """Sine and cosine of a cycle of so many days; 0 where missing."""
    angle = 2.0 * np.pi * days / length
    return np.where(np.isnan(days)[:, None], 0.0, np.stack([np.sin(angle), np.cos(angle)], axis=1))'''
_TEXT_ROWS = '''def text_rows(cells, texts, rows):
    """The row of each cell's text; the last but one for a missing cell, the last for other texts."""
    numbers_of = {text: k for k, text in enumerate(texts)}
    numbers_of[None] = len(texts)
    return rows[np.array([numbers_of.get(cell, len(texts) + 1) for cell in cells], np.int64)]'''
_TEMPERED_CLASSES = '''def tempered(p):
    """Probabilities whose logits are divided by a temperature."""
    log_p = np.log(np.maximum(p, np.finfo(np.float64).tiny)) / TEMPERATURE
    e = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)'''
_TEMPERED_LABELS = '''def tempered(p):
    """Probabilities whose logits are divided by a temperature, each by itself."""
    log_p, log_q = (np.log(np.maximum(each, np.finfo(np.float64).tiny)) / TEMPERATURE for each in (p, 1.0 - p))
    return 1.0 / (1.0 + np.exp(np.clip(log_q - log_p, -700.0, 700.0)))'''
_BY_NAME = "{name: header.index(name) for name, _ in COLUMNS} if all(name in header for name, _ in COLUMNS) else {}"
_BY_POSITION = "dict(COLUMNS) if len(header) == N_COLUMNS else {}"
_READ = '''def read(path):
    """Columns of a CSV file by name. Its first line has the names; cells are separated by a comma, ; or | or a tab."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        text_of_file = file.read()
    for delimiter in ",;\\t|":
        lines = [cells for cells in csv.reader(io.StringIO(text_of_file), delimiter=delimiter) if cells]
        header = [name.strip() for name in lines[0]] if lines else []
        places = {find}
        if places:
            break
    else:
        raise ValueError({expected})
    for row, cells in enumerate(lines[1:], 1):
        if len(cells) != len(header):
            raise ValueError(f"row {row}: expected {len(header)} cells, got {len(cells)}")

    def cell_of(name, cell):
        return None if cell.strip() in MISSING and cell not in NOT_MISSING.get(name, ()) else cell

    return {name: [cell_of(name, cells[at]) for cells in lines[1:]] for name, at in places.items()}'''
