"""Networks as one C99 header that needs <math.h> alone: constants, buffers of fixed size, no allocation.

Each unit's sum starts at the bias and adds products in the order of inputs. Predictions equal those of the library up
to rounding.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

from pmlp_np.base.errors import DataError, compose, readable_bytes, show
from pmlp_np.base.persistence import whole_file
from pmlp_np.base.version import __version__
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.models.averaging import Average, averages, label_threshold
from pmlp_np.models.export.c_formulas import (
    function_texts,
    is_identifier,
    literal,
    math_function,
    number_type,
    statements,
)
from pmlp_np.models.export.common import checked_class_names, input_names_of, members_of
from pmlp_np.models.network import Network, Networks

_WIDTH = 110


def to_c(
    model: Networks,
    path: str | os.PathLike[str] | None = None,
    input_names: Any = None,
    class_names: Any = None,
    prefix: Any = None,
) -> str:
    """Return the header's text. Arguments and errors as of `MLP.to_c`."""
    reading = reading_of(model.loss)
    names = input_names_of(model, input_names)
    classes = checked_class_names(class_names, reading, model.n_raw_outputs)
    writer = _Writer(model, reading, prefix_of(prefix, path))
    formulas = [name for _, network in members_of(model) for name in network.activation]
    if reading.link == "sigmoid":
        formulas.append("sigmoid")
    networks, predicting = writer.networks(), writer.predictions()
    sections = [
        writer.head([*networks, *predicting]),
        *writer.constants(names, classes),
        *function_texts(formulas, writer.prefix, model.dtype),
        *networks,
        *predicting,
        f"#endif /* {writer.macro}_H */",
    ]
    text = "\n\n".join(section.strip("\n") for section in sections) + "\n"
    if path is not None:
        with whole_file(path) as file:
            file.write(text.encode())
    return text


def prefix_of(prefix: Any, path: str | os.PathLike[str] | None) -> str:
    """Return the prefix of all names: the argument, else the file's name if it is a C identifier, else "model"."""
    if prefix is None:
        stem = "" if path is None else Path(path).stem
        return stem if is_identifier(stem) else "model"
    if not isinstance(prefix, str) or not is_identifier(prefix):
        expected = "ASCII letters, digits and underscores, a letter first"
        raise DataError(compose("prefix", expected, show(prefix)))
    return prefix


def string(text: str) -> str:
    """Return a C string literal of the text's UTF-8 bytes."""
    safe = set(b" !#$%&'()*+,-./0123456789:;<=>@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~")
    return '"' + "".join(chr(byte) if byte in safe else f"\\{byte:03o}" for byte in text.encode()) + '"'


def class_names_text(prefix: str, classes: list[str] | list[int]) -> str:
    """Return the array `<prefix>_class_names`, of strings or of whole numbers."""
    name = f"{prefix}_class_names"
    if isinstance(classes[0], str):
        return array_text("char *const", name, [string(str(each)) for each in classes])
    # C has no literal of the smallest number: -9223372036854775808 is a minus and a number that overflows.
    values = [f"{each}LL" if each != -(2**63) else f"({int(each) + 1}LL - 1)" for each in classes]
    return array_text("long long", name, values)


def array_text(kind: str, name: str, values: list[str]) -> str:
    """Return the definition of a constant array of these expressions."""
    # Lines are broken between values only, not at spaces: a value may be a string with spaces.
    lines = ["   "]
    for i, value in enumerate(values):
        word = f" {value}{',' * (i < len(values) - 1)}"
        if len(lines[-1]) + len(word) > _WIDTH and lines[-1].strip():
            lines.append("   ")
        lines[-1] += word
    body = "\n".join(lines)
    return f"static const {kind} {name}[{len(values)}] = {{\n{body}\n}};"


class _Writer:
    """Writes the text of constants and functions. All names begin with the prefix."""

    def __init__(self, model: Networks, reading: Reading, prefix: str) -> None:
        self.model, self.reading, self.prefix, self.macro = model, reading, prefix, prefix.upper()
        self.members = members_of(model)
        self.single = len(self.members) == 1
        self.dtype = model.dtype
        self.kind = number_type(model.dtype)
        self.n_raw = model.n_raw_outputs
        self.n = self.n_raw // reading.heads
        self.averages = averages(reading, model.dtype.name)
        widest = [max((*network.hidden, len(network.weights[0]))) for _, network in self.members]
        self.buffer = max(widest)

    def number(self, value: float) -> str:
        return literal(value, self.dtype)

    def call(self, name: str, argument: str) -> str:
        """Return a call of a function of <math.h>."""
        return f"{math_function(name, self.dtype)}({argument})"

    def function(self, comment: str, returns: str, name: str, arguments: str, lines: list[str]) -> str:
        return "\n".join([f"/* {comment} */", f"static inline {returns} {self.prefix}_{name}({arguments})", "{",
                          *(f"    {line}" for line in lines), "}"])  # fmt: skip

    def head(self, functions: list[str]) -> str:
        macro, model = self.macro, self.model
        itemsize = model.dtype.itemsize
        n_constants = sum(network.n_parameters() for _, network in self.members)
        buffers = itemsize * (2 * self.buffer + (0 if self.single else 2 * self.n_raw))
        kind = "The mean of several neural networks" if not self.single else "A neural network"
        title = f"{kind} as C99 (and C++11), written by pmlp_np {__version__}."
        description = model.description.replace("*/", "* /")
        description = textwrap.fill(description, _WIDTH, initial_indent=" * ", subsequent_indent=" * ")
        private = [f"{self.prefix}_{name}(" for name in ("dense", "softmax")] + [f"{self.prefix}_member_"]
        declared = "\n".join(
            f" *     {line.removeprefix('static inline ')};"
            for text in functions for line in text.splitlines()
            if line.startswith("static inline ") and not any(name in line for name in private)
        )  # fmt: skip
        return f"""/* {title}
 *
{description}
 *
{declared}
 *
 * x: {model.n_features} features, {self.kind}. Needs <math.h> alone (link with -lm), and allocates nothing:
 * {readable_bytes(itemsize * n_constants)} of constants, {readable_bytes(buffers)} of buffers.
 * Buffers are static: one call at a time. Define {macro}_BUFFER as nothing to have them on the stack instead.
 */
#ifndef {macro}_H
#define {macro}_H

#include <math.h>

#ifndef {macro}_BUFFER
#define {macro}_BUFFER static
#endif

#define {macro}_N_FEATURES {model.n_features}
#define {macro}_N_OUTPUTS {self.n}
#define {macro}_N_RAW_OUTPUTS {self.n_raw}"""

    def constants(self, names: list[str] | None, classes: list[str] | list[int] | None) -> list[str]:
        texts = []
        if names is not None:
            values = [string(name) for name in names]
            texts.append(array_text("char *const", f"{self.prefix}_feature_names", values))
        if classes is not None:
            texts.append(class_names_text(self.prefix, classes))
        for i, (_, network) in enumerate(self.members):
            scope = self.scope(i)
            if network.features is not None:
                texts.append(
                    array_text("int", f"{scope}_columns", [str(column) for column in network.features.tolist()])
                )
            for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
                # Transposed, a row for each unit: `dense` reads memory in order.
                texts.append(array_text(self.kind, f"{scope}_w{k}", [self.number(value) for value in w.T.ravel()]))
                if network.bias:
                    texts.append(array_text(self.kind, f"{scope}_b{k}", [self.number(value) for value in b]))
        return texts

    def scope(self, i: int) -> str:
        return self.prefix if self.single else f"{self.prefix}_member_{i}"

    def networks(self) -> list[str]:
        """Return the functions for raw outputs of each member."""
        kind = self.kind
        dense = [
            "int i, j;",
            "for (j = 0; j < n_out; ++j) {",
            f"    {kind} sum = b ? b[j] : {self.number(0.0)};",
            "    for (i = 0; i < n_in; ++i) sum += x[i] * w[(long)j * n_in + i];",
            "    y[j] = sum;",
            "}",
        ]
        arguments = f"const {kind} *w, const {kind} *b, const {kind} *x, int n_in, int n_out, {kind} *y"
        texts = [self.function("y = W x + b, W (n_out, n_in); b may be 0.", "void", "dense", arguments, dense)]
        for i, (_, network) in enumerate(self.members):
            name = "forward" if self.single else f"member_{i}_forward"
            comment = f"{self.n_raw} raw outputs" + ("." if self.single else f" of member {i}.")
            arguments = f"const {kind} *x, {kind} *raw"
            texts.append(self.function(comment, "void", name, arguments, self.forward(network, i)))
        return texts

    def forward(self, network: Network, i: int) -> list[str]:
        scope, p = self.scope(i), self.prefix
        lines, source, last = [], "x", len(network.weights) - 1
        n_buffers = min(2, last + (network.features is not None))
        lines += [f"{self.macro}_BUFFER {self.kind} {each}[{self.buffer}];" for each in ("one", "two")[:n_buffers]]
        if network.features is not None or any(name != "identity" for name in network.activation):
            lines.append("int i;")
        if network.features is not None:
            lines.append(f"for (i = 0; i < {len(network.weights[0])}; ++i) one[i] = x[{scope}_columns[i]];")
            source = "one"
        for k, w in enumerate(network.weights):
            target = "raw" if k == last else "two" if source == "one" else "one"
            bias = f"{scope}_b{k}" if network.bias else "0"
            lines.append(f"{p}_dense({scope}_w{k}, {bias}, {source}, {w.shape[0]}, {w.shape[1]}, {target});")
            if k < last and network.activation[k] != "identity":
                step = f"{target}[i] = {p}_activation_{network.activation[k]}({target}[i]);"
                lines.append(f"for (i = 0; i < {w.shape[1]}; ++i) {step}")
            source = target
        return lines

    def predictions(self) -> list[str]:
        """Return the functions predict, and predict_proba, predict_std and predict_quantiles if the model has them."""
        if self.reading.has_probabilities:
            return self.of_classes()
        return self.of_values()

    def part(self, average: Average) -> tuple[list[str], str]:
        """Return (declarations, expression) of a network's part of a mean, for output o, from its raw outputs `raw`."""
        inputs = {f"head_{h}": self.head_of(h) for h in range(self.reading.heads)}
        inputs |= {"raw": "raw[o]", "center": "center[o]"}
        return statements(average.part, inputs, self.prefix, self.dtype)

    def each(self, n: int, declared: list[str], last: str) -> str:
        """Return a loop of o over n, on one line."""
        body = f"{{ {' '.join([*declared, last])} }}" if declared else last
        return f"for (o = 0; o < {n}; ++o) {body}"

    def mean(self, n: int, average: Average) -> list[str]:
        """Return lines that compute a mean over members in out[0 ... n - 1]. They use `raw` and `o`."""
        lines = [f"for (o = 0; o < {n}; ++o) out[o] = {self.number(0.0)};"]
        declared, value = self.part(average)
        for i, (weight, _) in enumerate(self.members):
            lines.append(f"{self.prefix}_member_{i}_forward(x, raw);")
            lines += [f"{self.prefix}_softmax(raw);"] if average.softmax else []
            lines.append(self.each(n, declared, f"out[o] += {self.number(weight)} * ({value});"))
        if average.finish is not None:
            declared, value = statements(average.finish, {"mean": "out[o]"}, self.prefix, self.dtype)
            lines.append(self.each(n, declared, f"out[o] = {value};"))
        return lines

    def raw(self) -> str:
        return f"{self.macro}_BUFFER {self.kind} raw[{self.n_raw}];"

    def head_of(self, h: int) -> str:
        heads = self.reading.heads
        return "raw[o]" if heads == 1 else f"raw[o * {heads} + {h}]"

    def of_values(self) -> list[str]:
        reading, kind, n = self.reading, self.kind, self.n
        arguments = f"const {kind} *x, {kind} *out"
        lines = [self.raw(), "int o;"]
        if self.single:
            declared, value = self.part(self.averages["prediction"])
            lines += [f"{self.prefix}_forward(x, raw);", self.each(n, declared, f"out[o] = {value};")]
        else:
            lines += self.mean(n, self.averages["prediction"])
        texts = [self.function(f"{n} values.", "void", "predict_values", arguments, lines)]
        if n == 1:
            short = [f"{kind} value;", f"{self.prefix}_predict_values(x, &value);", "return value;"]
            texts.append(self.function("The value.", kind, "predict", f"const {kind} *x", short))
        if reading.has_std:
            lines = [self.raw(), "int o;"]
            if self.single:
                half = f"{self.number(0.5)} * {self.head_of(1)}"
                lines += [f"{self.prefix}_forward(x, raw);",
                          f"for (o = 0; o < {n}; ++o) out[o] = {self.call('exp', half)};"]  # fmt: skip
            else:
                lines[0] += f" {self.macro}_BUFFER {kind} center[{n}];"
                lines += [f"{self.prefix}_predict_values(x, center);", *self.mean(n, self.averages["std"])]
            texts.append(self.function(f"{n} standard deviations.", "void", "predict_std", arguments, lines))
        if reading.levels:
            levels = ", ".join(map(repr, reading.levels))
            comment = f"{self.n_raw} quantiles, of levels {levels} of each output."
            if self.single:
                lines = [f"{self.prefix}_forward(x, out);"]
            else:
                lines = [self.raw(), "int o;", *self.mean(self.n_raw, self.averages["quantiles"])]
            texts.append(self.function(comment, "void", "predict_quantiles", arguments, lines))
        return texts

    def of_classes(self) -> list[str]:
        kind, n, p = self.kind, self.n_raw, self.prefix
        softmax = self.reading.link == "softmax"
        arguments = f"const {kind} *x, {kind} *out"
        texts = []
        if softmax:
            largest = f"for (o = 1; o < {n}; ++o) if (raw[o] > most) most = raw[o];"
            lines = [
                f"{kind} most = raw[0], sum = {self.number(0.0)};",
                "int o;",
                largest,
                f"for (o = 0; o < {n}; ++o) {{ raw[o] = {self.call('exp', 'raw[o] - most')}; sum += raw[o]; }}",
                f"for (o = 0; o < {n}; ++o) raw[o] /= sum;",
            ]
            texts.append(self.function("Raw outputs to probabilities, in place.", "void", "softmax",
                                       f"{kind} *raw", lines))  # fmt: skip
        lines = ["int o;"]
        if self.single and softmax:
            lines = [f"{p}_forward(x, out);", f"{p}_softmax(out);"]
        elif self.single:
            lines += [f"{p}_forward(x, out);", f"for (o = 0; o < {n}; ++o) out[o] = {p}_activation_sigmoid(out[o]);"]
        else:
            lines = [self.raw(), *lines, *self.mean(n, self.averages["probabilities"])]
        of = "of the classes" if softmax else "of label 1" if n == 1 else "of each label being 1"
        texts.append(self.function(f"{n} probabilities {of}.", "void", "predict_proba", arguments, lines))
        score, threshold = "forward" if self.single else "predict_proba", label_threshold(not self.single)
        lines = [self.raw(), f"{p}_{score}(x, raw);"]
        undefined = "-1 where it is not a number"
        if softmax:
            lines[0] += " int o, label = 0;"
            lines += [
                f"for (o = 0; o < {n}; ++o) {{",
                "    if (raw[o] != raw[o]) return -1;",
                "    if (raw[o] > raw[label]) label = o;",
                "}",
                "return raw[label] - raw[label] == 0 ? label : -1;",
            ]
            comment = f"The class, 0 to {n - 1}; {undefined}."
            texts.append(self.function(comment, "int", "predict", f"const {kind} *x", lines))
            return texts
        label = f"raw[o] != raw[o] ? -1 : raw[o] > {self.number(threshold)}"
        lines[0] += " int o;"
        lines.append(f"for (o = 0; o < {n}; ++o) labels[o] = {label};")
        comment = f"{n} labels, each 0 or 1; {undefined}."
        texts.append(self.function(comment, "void", "predict_labels", f"const {kind} *x, int *labels", lines))
        if n == 1:
            short = ["int label;", f"{p}_predict_labels(x, &label);", "return label;"]
            texts.append(self.function(f"The label, 0 or 1; {undefined}.", "int", "predict", f"const {kind} *x", short))
        return texts
