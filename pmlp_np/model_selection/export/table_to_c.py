"""Table models as one C99 header: a struct for a row, encodings in double, the networks of `models.export.to_c`."""

from __future__ import annotations

import os
import textwrap
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.base.persistence import whole_file
from pmlp_np.base.version import __version__
from pmlp_np.data.preprocessing.raw_table import DATE
from pmlp_np.model_selection.export.c_encodings import DOUBLE, Encodings
from pmlp_np.model_selection.export.table_parts import TableParts
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.models.export.c_formulas import literal, number_type
from pmlp_np.models.export.to_c import class_names_text, prefix_of, to_c

_WIDTH = 110


def table_to_c(parts: TableParts, path: str | os.PathLike[str] | None, prefix: Any) -> str:
    """Return the header's text, and write it to `path`. prefix: of all names, or None."""
    for column in parts.columns:
        for text in column.known:
            if "\0" in text:
                raise DataError(compose(f"categories of {column.name!r}", "texts that C can hold", show(text)))
    text = _Writer(parts, prefix_of(prefix, path)).text()
    if path is not None:
        with whole_file(path) as file:
            file.write(text.encode())
    return text


class _Writer:
    """Writes the text of the header. All names begin with the prefix `p`."""

    def __init__(self, parts: TableParts, prefix: str) -> None:
        self.parts, self.p, self.macro = parts, prefix, prefix.upper()
        self.number = number_type(parts.networks.dtype)

    def text(self) -> str:
        p, macro = self.p, self.macro
        network = to_c(self.parts.networks, None, None, None, f"{p}_network").strip("\n")
        encodings, predicting = Encodings(self.parts, p), self.predictions()
        encoded = encodings.encode()
        labels = self.parts.labels
        sections = [
            self.head(predicting),
            network,
            encodings.row(),
            *([] if labels is None else [class_names_text(p, labels)]),
            *encodings.arrays.values(),
            *encodings.functions(),
            encoded,
            *predicting,
            f"#endif /* {macro}_H */",
        ]
        return "\n\n".join(sections) + "\n"

    def head(self, functions: list[str]) -> str:
        p, macro, parts = self.p, self.macro, self.parts
        starts = [text.splitlines()[1].removeprefix("static inline ") for text in functions]
        declared = "\n".join(f" *     {line};" for line in starts)
        description = textwrap.fill(parts.networks.description, _WIDTH, initial_indent=" * ", subsequent_indent=" * ")
        has_dates = any(column.kind == DATE for column in parts.columns)
        days = f"; dates are days since 1970-01-01, as {p}_days(year, month, day) gives them, NAN where missing"
        said = (
            f"A row is a {p}_row. Numbers are double, NAN where missing; categories are strings (UTF-8), 0 where "
            f"missing{days if has_dates else ''}. Needs <math.h> and <string.h> (link with -lm); allocates nothing. "
            f"Buffers are static: one call at a time. Define {macro}_BUFFER as nothing to have them on the stack."
        )
        text = textwrap.fill(said, _WIDTH, initial_indent=" * ", subsequent_indent=" * ")
        n_outputs = parts.networks.n_raw_outputs
        return f"""/* A model of a table as C99 (and C++11), written by pmlp_np {__version__}.
 *
{description}
 *
{declared}
 *
{text}
 */
#ifndef {macro}_H
#define {macro}_H

#include <math.h>
#include <string.h>

#ifndef {macro}_BUFFER
#define {macro}_BUFFER static
#endif
#define {macro}_NETWORK_BUFFER {macro}_BUFFER

#define {macro}_N_INPUTS {parts.width}
#define {macro}_N_OUTPUTS {n_outputs}"""

    def function(self, comment: str, returns: str, name: str, arguments: str, lines: list[str]) -> str:
        body = [f"    {line}" for line in lines]
        first = f"static inline {returns} {self.p}_{name}({arguments})"
        return "\n".join([f"/* {comment} */", first, "{", *body, "}"])

    def predictions(self) -> list[str]:
        """Return the functions that predict."""
        p, macro, targets, n = self.p, self.macro, self.parts.targets, self.parts.networks.n_raw_outputs
        row, kind = f"const {p}_row *row", self.number
        buffers = [f"{macro}_BUFFER {kind} x[{self.parts.width}];", f"{macro}_BUFFER {kind} raw[{n}];"]
        begin = [*buffers, f"const int fine = {p}_encode(row, x);", "int o;"]
        if targets.task == REGRESSION:
            numbers = [[literal(float(v), DOUBLE) for v in each] for each in (targets.scale, targets.mean)]
            tables = [f"static const double {name}[{n}] = {{{', '.join(values)}}};"
                      for name, values in zip(("scale", "mean"), numbers, strict=True)]  # fmt: skip
            each = "out[o] = fine ? (double)raw[o] * scale[o] + mean[o] : (double)NAN;"
            lines = [*tables, *begin, f"{p}_network_predict_values(x, raw);", f"for (o = 0; o < {n}; ++o) {each}"]
            comment = f"{n} values; not numbers where a number of the row is infinite."
            texts = [self.function(comment, "void", "predict_values", f"{row}, double *out", lines)]
            if n == 1:
                lines = ["double value;", f"{p}_predict_values(row, &value);", "return value;"]
                texts.append(self.function("The value.", "double", "predict", row, lines))
            return texts
        each = "out[o] = fine ? (double)raw[o] : (double)NAN;"
        lines = [*begin, f"{p}_network_predict_proba(x, raw);", f"for (o = 0; o < {n}; ++o) {each}", *self.tempered(n)]
        of = "of the classes" if targets.task == CLASSIFICATION else "of each label being 1"
        texts = [self.function(f"{n} probabilities {of}.", "void", "predict_proba", f"{row}, double *out", lines)]
        lines = [f"{macro}_BUFFER double p[{n}];", "int o;", f"{p}_predict_proba(row, p);"]
        if targets.task != CLASSIFICATION:
            lines.append(f"for (o = 0; o < {n}; ++o) labels[o] = p[o] != p[o] ? -1 : p[o] > 0.5;")
            comment = f"{n} labels, each 0 or 1; -1 where it is not a number."
            return [*texts, self.function(comment, "void", "predict_labels", f"{row}, int *labels", lines)]
        lines[1] = "int o, label = 0;"
        lines += [f"for (o = 0; o < {n}; ++o) {{", "    if (p[o] != p[o]) return -1;",
                  "    if (p[o] > p[label]) label = o;", "}", "return label;"]  # fmt: skip
        comment = f"The number of the class in {p}_class_names, 0 to {n - 1}; -1 where it is not a number."
        return [*texts, self.function(comment, "int", "predict", row, lines)]

    def tempered(self, n: int) -> list[str]:
        """Return statements that divide the logits of `out` by the temperature."""
        if self.parts.temperature == 1.0:
            return []
        tiny, t = literal(float(np.finfo(np.float64).tiny), DOUBLE), literal(self.parts.temperature, DOUBLE)

        def logit(of: str) -> str:
            return f"log({of} < {tiny} ? {tiny} : {of}) / {t}"

        if self.parts.targets.task != CLASSIFICATION:
            difference = f"{logit('(1.0 - out[o])')} - {logit('out[o]')}"
            return [f"for (o = 0; o < {n}; ++o) out[o] = 1.0 / (1.0 + exp({difference}));"]
        return [
            "{",
            "    double most, sum = 0.0;",
            f"    for (o = 0; o < {n}; ++o) out[o] = {logit('out[o]')};",
            "    most = out[0];",
            f"    for (o = 1; o < {n}; ++o) if (out[o] > most) most = out[o];",
            f"    for (o = 0; o < {n}; ++o) {{ out[o] = exp(out[o] - most); sum += out[o]; }}",
            f"    for (o = 0; o < {n}; ++o) out[o] /= sum;",
            "}",
        ]
