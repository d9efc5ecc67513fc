"""Encodings of table models in C: the struct of a row, and the function from a row to the inputs of the networks.

Texts are found by binary search: the byte order of UTF-8, which strcmp has, is that of code points.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from pmlp_np.data.preprocessing.feature_views import PLAIN
from pmlp_np.data.preprocessing.number_column import BEND, FARTHEST
from pmlp_np.data.preprocessing.raw_table import CATEGORY, DATE
from pmlp_np.model_selection.export.table_parts import ExportedColumn, Inputs, TableParts
from pmlp_np.models.export.c_formulas import literal, number_type
from pmlp_np.models.export.to_c import array_text, string

DOUBLE = np.dtype(np.float64)
# Words that can't be names of fields: of C99 and C++11, and macros.
_WORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl complex
    const const_cast constexpr continue decltype default delete do double dynamic_cast else enum errno explicit export
    extern false float for friend goto i386 if inline int linux long mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public register reinterpret_cast restrict return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union
    unix unsigned using virtual void volatile wchar_t while xor xor_eq
    DOMAIN HUGE HUGE_VAL HUGE_VALF HUGE_VALL I INFINITY NAN NULL OVERFLOW PLOSS SING TLOSS UNDERFLOW
"""
_RESERVED = frozenset(_WORDS.split())


def field_names(columns: tuple[ExportedColumn, ...]) -> list[str]:
    """Return a C identifier for each column: its name, as far as C allows."""
    found: list[str] = []
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9_]", "_", column.name).strip("_") or "column"
        name = f"column_{name}" if name[0].isdigit() else name
        name += "_" * (name in _RESERVED or name.startswith(("M_", "FP_", "MATH_")))
        unique, number = name, 2
        while unique in found:
            unique, number = f"{name}_{number}", number + 1
        found.append(unique)
    return found


class Encodings:
    """Writes the text of the encodings. All names begin with the prefix `p`.

    arrays: the definitions, by name, of the constants that `encode` needs; they are known after it was called.
    """

    def __init__(self, parts: TableParts, prefix: str) -> None:
        self.parts, self.p = parts, prefix
        self.number = number_type(parts.networks.dtype)
        self.fields = dict(zip((column.name for column in parts.columns), field_names(parts.columns), strict=True))
        self.arrays: dict[str, str] = {}

    def row(self) -> str:
        lines = []
        for column in self.parts.columns:
            kind = "const char *" if column.kind == CATEGORY else "double "
            shown = string(column.name).replace("*", "\\052")
            lines.append(f"    {kind}{self.fields[column.name]}; /* {column.kind}: {shown} */")
        return "\n".join(["typedef struct {", *lines, f"}} {self.p}_row;"])

    def array(self, each: Inputs, name: str, values: Any, kind: str = "double") -> str:
        """Add an array of constants. Returns its name."""
        full = f"{self.p}_{each.block}_{each.column.position}_{name}"
        texts = [string(value) if isinstance(value, str) else str(int(value)) if kind == "int" else
                 literal(float(value), DOUBLE) for value in values]  # fmt: skip
        self.arrays[full] = array_text(kind, full, texts)
        return full

    def encode(self) -> str:
        """Return the function from a row to the inputs of the networks."""
        lines = [line for each in self.parts.inputs for line in self.encoding(each)]
        numeric = [f"isinf(row->{self.fields[c.name]})" for c in self.parts.columns if c.kind != CATEGORY]
        doubt = " || ".join(numeric)
        lines.append(f"return !({doubt});" if numeric else "return 1;")
        body = "\n".join(f"    {line}" for line in lines)
        return f"""/* The inputs of the networks; returns whether no number is infinite. */
static inline int {self.p}_encode(const {self.p}_row *row, {self.number} *x)
{{
{body}
}}"""

    def encoding(self, each: Inputs) -> list[str]:
        """Return the statements of a block's encoding of a column."""
        column, p, x = each.column, self.p, f"x + {each.start}"
        value = f"row->{self.fields[column.name]}"
        if column.kind == CATEGORY:
            return [self.texts(each, value, x)]
        learned = column.numbers()
        scale = ", ".join(literal(number, DOUBLE) for number in (learned.median, learned.factor))
        if each.block == PLAIN:
            marks = [f"x[{each.start}] = ({self.number})({value} != {value});"] * learned.marks_missing
            first = each.start + len(marks)
            return marks + [
                f"{p}_cycle({value}, {literal(length, DOUBLE)}, x + {first + 2 * k});"
                for k, length in enumerate(column.cycles)
            ]
        if each.block == "raw":
            return [f"x[{each.start}] = ({self.number}){p}_scaled({value}, {scale});"]
        if each.block == "quant":
            known = self.array(each, "values", learned.quantiles), self.array(each, "normal", learned.normal)
            return [f"x[{each.start}] = ({self.number}){p}_quantile({value}, {', '.join(known)}, "
                    f"{len(learned.quantiles)});"]  # fmt: skip
        if each.block == "per":
            names = [self.array(each, name, getattr(learned, name)) for name in ("frequencies", "phases")]
            z = f"{p}_scaled({value}, {scale}), {value} != {value}"
            return [f"{p}_periodic({z}, {', '.join(names)}, {each.width}, {x});"]
        names = [self.array(each, name, getattr(learned, name)[each.block]) for name in ("edges", "centers")]
        return [f"{p}_pieces({value}, {', '.join(names)}, {each.width}, {x});"]

    def texts(self, each: Inputs, value: str, x: str) -> str:
        table, p = each.column.texts[each.block], self.p
        order = sorted(range(len(table.texts)), key=lambda k: table.texts[k])
        n = len(order)
        # C has no empty array.
        texts = self.array(each, "texts", [table.texts[k] for k in order] or [""], "char *const")
        find = f"{p}_find({value}, {texts}, {n})"
        if each.block != PLAIN:
            rows = self.array(each, "rows", table.rows[[*order, n, n + 1]].ravel())
            return f"{p}_text_row({find}, {rows}, {each.width}, {x});"
        # Rows differ from that of other texts in one input.
        base = self.array(each, "base", table.rows[-1])
        missing = each.width - 1 if table.rows[n].tolist() != table.rows[-1].tolist() else -1
        places = self.array(each, "places", [*order, missing, -1], "int")
        return f"{p}_one_hot({places}[{find}], {base}, {each.width}, {x});"

    def functions(self) -> list[str]:
        """Return the functions that encodings call, and that for dates."""
        columns = self.parts.columns
        used = {each.block for each in self.parts.inputs if each.column.kind != CATEGORY}
        used |= {column.kind for column in columns} | ({"cycle"} if any(column.cycles for column in columns) else set())
        texts = [text for text, users in _FUNCTIONS.items() if users & used]
        return [text.replace("PREFIX", self.p).replace("REAL", self.number) for text in texts]


_SCALED = f"""/* A number over the interquartile range around the median, bent so that outliers stay near. */
static inline double PREFIX_scaled(double value, double median, double factor)
{{
    const double z = fmin(fmax((value - median) * factor, -{FARTHEST!r}), {FARTHEST!r});
    return value != value ? 0.0 : z / sqrt(1.0 + (z / {BEND!r}) * (z / {BEND!r}));
}}"""
_QUANTILE = """/* A number as a quantile of the standard normal distribution. */
static inline double PREFIX_quantile(double value, const double *known, const double *normal, int n)
{
    int low = 0, high = n - 1;
    if (value != value) return 0.0;
    if (value <= known[0]) return normal[0];
    if (value >= known[n - 1]) return normal[n - 1];
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (known[middle] <= value) low = middle; else high = middle;
    }
    return normal[low] + (value - known[low]) * ((normal[high] - normal[low]) / (known[high] - known[low]));
}"""
_PIECES = """/* The part of each bin that lies below a number, from 0 to 1, centered. */
static inline void PREFIX_pieces(double value, const double *edges, const double *centers, int n, REAL *x)
{
    int k;
    for (k = 0; k < n; ++k) {
        const double share = (value - edges[k]) / (edges[k + 1] - edges[k]);
        const double part = share < 0.0 ? 0.0 : share > 1.0 ? 1.0 : share;
        x[k] = (REAL)(value != value ? 0.0 : part - centers[k]);
    }
}"""
_PERIODIC = f"""/* Cosines of a scaled number. */
static inline void PREFIX_periodic(double z, int missing, const double *f, const double *phases, int n, REAL *x)
{{
    int k;
    for (k = 0; k < n; ++k) x[k] = (REAL)(missing ? 0.0 : cos({2.0 * np.pi!r} * z * f[k] + phases[k]));
}}"""
_CYCLE = f"""/* Sine and cosine of a cycle of so many days. */
static inline void PREFIX_cycle(double days, double length, REAL *x)
{{
    const double angle = {2.0 * np.pi!r} * days / length;
    x[0] = (REAL)(days != days ? 0.0 : sin(angle));
    x[1] = (REAL)(days != days ? 0.0 : cos(angle));
}}"""
_DAYS = """/* A date of the Gregorian calendar as days since 1970-01-01. */
static inline double PREFIX_days(int year, int month, int day)
{
    /* Years begin in March, so that a leap day is the last day of one; an era has 400 years. */
    const long y = (long)year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    const long of_year = (153L * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return (double)(era * 146097L + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468L);
}"""
_TEXTS = """/* The number of a text among n sorted ones; n where it is missing, n + 1 for any other. */
static inline int PREFIX_find(const char *text, const char *const *texts, int n)
{
    int low = 0, high = n;
    if (!text) return n;
    while (low < high) {
        const int middle = (low + high) / 2, order = strcmp(text, texts[middle]);
        if (order == 0) return middle;
        if (order < 0) high = middle; else low = middle + 1;
    }
    return n + 1;
}

/* Inputs of other texts, and 1 more in one place. */
static inline void PREFIX_one_hot(int place, const double *other, int n, REAL *x)
{
    int k;
    for (k = 0; k < n; ++k) x[k] = (REAL)(other[k] + (k == place ? 1.0 : 0.0));
}

/* A row of a table. */
static inline void PREFIX_text_row(int row, const double *rows, int n, REAL *x)
{
    int k;
    for (k = 0; k < n; ++k) x[k] = (REAL)rows[row * n + k];
}"""
# Functions, and the blocks or kinds of columns that need them.
_FUNCTIONS = {
    _SCALED: {"raw", "per"}, _QUANTILE: {"quant"}, _PIECES: {"ple", "ple8"}, _PERIODIC: {"per"}, _CYCLE: {"cycle"},
    _DAYS: {DATE}, _TEXTS: {CATEGORY},
}  # fmt: skip
