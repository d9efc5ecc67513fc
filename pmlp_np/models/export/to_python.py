"""Networks as one readable Python file that needs NumPy alone."""

from __future__ import annotations

import base64
import json
import keyword
import os
import pprint
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmlp_np.base.persistence import whole_file
from pmlp_np.base.version import __version__
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.models.averaging import Average, averages, label_threshold
from pmlp_np.models.export.common import checked_class_names, input_names_of, members_of
from pmlp_np.models.export.python_formulas import NUMPY_FUNCTIONS, expression, function_texts
from pmlp_np.models.network import Network, Networks

_LINE = 100  # characters of base64 in a line


@dataclass(frozen=True)
class InputTexts:
    """The parts of a file that define the input of `predict`, and how X is computed from it.

    said: the input of `predict`, in words.
    imports: modules besides those of every file.
    checked: sections with a function `checked`, from the input to X (n_samples, n_features).
    read: sections with a function `read`, which reads the input from a CSV file.
    """

    said: str
    imports: tuple[str, ...]
    checked: list[str]
    read: list[str]


@dataclass(frozen=True)
class OutputTexts:
    """How predictions of a mean of networks follow from the mean, which is float64 then.

    sections: constants and functions. values: the expression of predictions, "{mean}" in it the mean: of values or of
    probabilities.
    """

    sections: list[str]
    values: str


def is_module_name(stem: str) -> bool:
    """Return whether a file of this name can be imported (class.py can't)."""
    return stem.isidentifier() and not keyword.iskeyword(stem)


def to_python(
    model: Networks,
    path: str | os.PathLike[str] | None = None,
    input_names: Any = None,
    class_names: Any = None,
    inputs: InputTexts | None = None,
    outputs: OutputTexts | None = None,
) -> str:
    """Return the file's text. Arguments and errors as of `MLP.to_python`.

    inputs: default None, X itself. outputs: of a mean of networks; default None, the mean itself.
    """
    reading = reading_of(model.loss)
    names = input_names_of(model, input_names) if inputs is None else None
    if inputs is None:
        said, has_columns = f"X (n_samples, {model.n_features})", names is not None
        inputs = InputTexts(said, (), [_checked(model, has_columns)], _read(model.n_features, has_columns))
    classes = checked_class_names(class_names, reading, model.n_raw_outputs)
    single = None if model.is_mean else members_of(model)[0][1]
    writer = _Writer(model, reading, classes is not None, outputs)
    # It stands in the docstring as a module's name, which not every file's name can be.
    name = "model" if path is None or not is_module_name(Path(path).stem) else Path(path).stem
    formulas = [name for _, network in members_of(model) for name in network.activation]
    if single is None:
        formulas.append("identity")
    elif "identity" in formulas:
        formulas = [name for name in formulas if name != "identity"]
    if reading.link == "sigmoid":
        formulas.append("sigmoid")
    constants = []
    if names is not None:
        constants.append(_list("COLUMNS", names))
    if classes is not None:
        constants.append(_list("CLASSES", classes, "np.array({})"))
    sections = [
        "\n\n".join([_head(model, writer, name, inputs), *(["\n".join(constants)] if constants else [])]),
        *function_texts(formulas, model.dtype),
        *inputs.checked,
        *([] if outputs is None else outputs.sections),
        *(writer.network(single) if single is not None else writer.members()),
        *writer.predictions(),
        _array_text(model.dtype),
        *(_weights(single) if single is not None else _member_weights(model)),
        *inputs.read,
        _COMMAND_LINE,
    ]
    text = "\n\n\n".join(section.strip("\n") for section in sections) + "\n"
    if path is not None:
        with whole_file(path) as file:
            file.write(text.encode())
    return text


def _head(model: Networks, writer: _Writer, name: str, inputs: InputTexts) -> str:
    kind = "The mean of several neural networks" if len(members_of(model)) > 1 else "A neural network"
    imports = "\n".join(f"import {module}" for module in sorted({"base64", "csv", "sys", *inputs.imports}))
    return f'''"""{kind}, for use with NumPy alone. Written by pmlp_np {__version__}.

{textwrap.fill(model.description, 110)}

    from {name} import predict
    predict(X)    # {writer.what} {writer.shape}, from {inputs.said}

    python {name}.py rows.csv    # prints a prediction for each row
"""

{imports}

import numpy as np'''


class _Writer:
    """Writes the text of the functions that predict."""

    def __init__(self, model: Networks, reading: Reading, has_names: bool, outputs: OutputTexts | None) -> None:
        self.model, self.reading, self.has_names, self.outputs = model, reading, has_names, outputs
        self.single = not model.is_mean
        self.n_raw, self.n_columns = model.n_raw_outputs, model.n_features
        self.n = self.n_raw // reading.heads
        self.averages = averages(reading, model.dtype.name)
        self.shape = "(n_samples,)" if self.n == 1 else f"(n_samples, {self.n})"
        if reading.link == "softmax":
            self.shape = "(n_samples,)"
        self.what = "values" if not reading.has_probabilities else "names of classes" if has_names else "labels"

    def network(self, network: Network) -> list[str]:
        """Return `forward` of one network."""
        lines = ["a = checked(X)"]
        if network.features is not None:
            lines[0] += "[:, READS]"
        last = len(network.weights) - 1
        for k in range(last + 1):
            z = f"a @ W{k} + b{k}" if network.bias else f"a @ W{k}"
            name = "identity" if k == last else network.activation[k]
            step = z if name == "identity" else f"{NUMPY_FUNCTIONS.get(name, name)}({z})"
            lines.append(f"return {step}" if k == last else f"a = {step}")
        docstring = f"Raw outputs (n_samples, {self.n_raw}) of X (n_samples, {self.n_columns})."
        return [_function("forward", docstring, lines)]

    def members(self) -> list[str]:
        """Return the functions for raw outputs of an ensemble's members, and for means."""
        choosing = any(network.features is not None for _, network in members_of(self.model))
        lines = [
            "x = checked(X)",
            "outputs = []",
            f"for {'columns, ' if choosing else ''}layers in MEMBERS:",
            f"    a = {'x[:, columns]' if choosing else 'x'}",
            "    for W, b, activation in layers:",
            "        a = activation(a @ W + b)",
            "    outputs.append(a)",
            "return outputs",
        ]
        cast = f".astype(np.{self.model.dtype})" if self.model.dtype == np.float32 else ""
        total = "sum(w * part for w, part in zip(MEMBER_WEIGHTS, parts))"
        if cast:
            total = total.replace("w * part ", "w * part.astype(np.float64) ") + (cast if self.outputs is None else "")
        texts = [
            _function("members_forward", f"Raw outputs (n_samples, {self.n_raw}) of each member, a list.", lines),
            _function("mean", "The mean of arrays, one for each member.", [f"return {total}"], quiet=False),
        ]
        if self.reading.link == "identity" and not self.reading.has_std and self.outputs is None:
            texts.append(_function("forward", "Mean raw outputs.", ["return mean(members_forward(X))"]))
        return texts

    def head(self, h: int, of: str) -> str:
        """Return the expression of one head of raw outputs, without the axis of a single output."""
        if self.n == 1:
            return f"{of}[:, {h}]"
        return of if self.reading.heads == 1 else f"{of}[:, {h}::{self.reading.heads}]"

    def part(self, average: Average, raw: str) -> str:
        """Return the expression of one network's part of a mean, from that of its raw outputs."""
        inputs = {f"head_{h}": self.head(h, raw) for h in range(self.reading.heads)}
        inputs |= {"raw": f"softmax({raw})" if average.softmax else raw, "center": "center"}
        return expression(average.part, inputs, longest=0)[1]

    def mean(self, average: Average) -> str:
        value = f"mean([{self.part(average, 'raw')} for raw in members_forward(X)])"
        return value if average.finish is None else expression(average.finish, {"mean": value}, longest=0)[1]

    def finished(self, mean: str) -> str:
        """Return the expression of predictions from that of a mean."""
        return mean if self.outputs is None else self.outputs.values.replace("{mean}", mean)

    def predictions(self) -> list[str]:
        """Return the functions predict, and predict_proba, predict_std and predict_quantiles if the model has them."""
        return self.of_classes() if self.reading.has_probabilities else self.of_values()

    def of_values(self) -> list[str]:
        reading, raw = self.reading, "forward(X)" if self.single else "raw"
        averaged = self.averages["prediction"]
        value = self.part(averaged, raw) if self.single else self.finished(self.mean(averaged))
        texts = [_function("predict", f"{self.what.capitalize()} {self.shape}.", [f"return {value}"])]
        if reading.has_std:
            docstring = f"Standard deviations {self.shape}."
            if self.single:
                lines = [f"return np.exp(0.5 * {self.head(1, raw)})"]
            else:
                docstring = docstring[:-1] + ": the mean of variances plus the variance of means."
                lines = ["center = predict(X)", f"return {self.mean(self.averages['std'])}"]
            texts.append(_function("predict_std", docstring, lines))
        if reading.levels:
            levels = ", ".join(map(repr, reading.levels))
            docstring = f"Quantiles {self.shape[:-1].rstrip(',')}, {len(reading.levels)}), of levels {levels}."
            shape = "" if self.n == 1 else f".reshape(-1, {self.n}, {reading.heads})"
            texts.append(_function("predict_quantiles", docstring, [f"return forward(X){shape}"]))
        return texts

    def of_classes(self) -> list[str]:
        softmax, one = self.reading.link == "softmax", self.n_raw == 1
        of = "of the classes" if softmax else "of label 1" if one else "of each label being 1"
        docstring = f"Probabilities (n_samples, {self.n_raw}) {of}."
        texts = []
        if self.single and softmax:
            lines = [
                "raw = forward(X)",
                "e = np.exp(raw - raw.max(axis=1, keepdims=True))",
                "return e / e.sum(axis=1, keepdims=True)",
            ]
        elif self.single:
            lines = ["return sigmoid(forward(X))"]
        else:
            if softmax:
                steps = [
                    "e = np.exp(raw - raw.max(axis=1, keepdims=True))",
                    "return e / e.sum(axis=1, keepdims=True)",
                ]
                texts.append("\n".join(["def softmax(raw):", *(f"    {step}" for step in steps)]))
            lines = [f"return {self.finished(self.mean(self.averages['probabilities']))}"]
        scores, threshold = "forward(X)" if self.single else "predict_proba(X)", label_threshold(not self.single)
        undefined = "~np.isfinite(scores.max(axis=1))" if softmax else "np.isnan(scores).any(axis=1)"
        if softmax:
            label = "np.argmax(scores, axis=1)"
        else:
            label = f"(scores{'[:, 0]' if one else ''} > {threshold}).astype(np.int64)"
        if self.has_names:
            label = f"CLASSES[{label}]"
        lines_of_labels = [
            f"scores = {scores}",
            f"undefined = np.flatnonzero({undefined})",
            "if len(undefined):",
            '    raise ValueError(f"X: outputs of row {undefined[0]} are not numbers: no label can be made of them")',
            f"return {label}",
        ]
        docstring_of_labels = f"{self.what.capitalize()} {self.shape}. ValueError where outputs are not numbers."
        texts += [
            _function("predict", docstring_of_labels, lines_of_labels),
            _function("predict_proba", docstring, lines),
        ]
        return texts


def _function(name: str, docstring: str, lines: list[str], quiet: bool = True) -> str:
    """Return a function of X (or of parts) with a docstring. quiet: whether it suppresses warnings of overflow."""
    argument = "parts" if name == "mean" else "X"
    body = [f'"""{docstring}"""', *lines]
    head = ['@np.errstate(all="ignore")'] if quiet else []
    return "\n".join([*head, f"def {name}({argument}):", *(f"    {line}" for line in body)])


def _checked(model: Networks, has_columns: bool) -> str:
    by_name = """
    names = list(getattr(X, "columns", COLUMNS))
    if names != COLUMNS and all(isinstance(name, str) for name in names):
        raise ValueError(f"X: expected columns {', '.join(COLUMNS)}, got {', '.join(names)}; X[COLUMNS] may help")"""
    refused = "another shape, masked entries" + (", other columns" if has_columns else "")
    return f'''def checked(X):
    """X as an array (n_samples, {model.n_features}). ValueError for {refused}."""
    if np.ma.is_masked(X):
        raise ValueError("X: expected numbers without masked entries"){by_name if has_columns else ""}
    X = np.asarray(X, np.{model.dtype})
    if X.ndim != 2 or X.shape[1] != {model.n_features}:
        raise ValueError(f"X: expected shape (n_samples, {model.n_features}), got {{X.shape}}")
    return X'''


def _array_text(dtype: np.dtype) -> str:
    return f'''def array(shape, text):
    """Numbers from their bytes, little-endian {dtype} as base64: exact to the last bit."""
    return np.frombuffer(base64.b64decode(text), "<f{dtype.itemsize}").astype(np.{dtype}).reshape(shape)'''


def _array(values: np.ndarray, indent: str = "") -> str:
    """Return a call of the file's function `array` with these values."""
    content = base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()
    shape = repr(values.shape)
    if len(content) <= _LINE - 20:
        return f'array({shape}, "{content}")'
    lines = [f"{indent}    {content[i : i + _LINE]}" for i in range(0, len(content), _LINE)]
    return "\n".join([f'array({shape}, """', *lines, f'{indent}""")'])


def _weights(network: Network) -> list[str]:
    lines = [] if network.features is None else [_list("READS", network.features.tolist())]
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        lines.append(f"W{k} = {_array(w)}")
        if network.bias:
            lines.append(f"b{k} = {_array(b)}")
    return ["\n".join(lines)]


def _member_weights(model: Networks) -> list[str]:
    """Return the weights and the layers of all members."""
    members = members_of(model)
    choosing = any(network.features is not None for _, network in members)
    lines = ["MEMBERS = ["]
    for _, network in members:
        pad = "        " if choosing else "    "
        if choosing:
            columns = range(network.n_features) if network.features is None else network.features.tolist()
            lines += ["    (", textwrap.indent(pprint.pformat(list(columns), width=_LINE, compact=True), pad) + ","]
        lines.append(f"{pad}[")
        for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
            name = network.activation[k] if k < len(network.activation) else "identity"
            inner = pad + "        "
            bias = _array(b, inner) if network.bias else "0.0"
            lines += [f"{pad}    (", f"{inner}{_array(w, inner)},", f"{inner}{bias},",
                      f"{inner}{NUMPY_FUNCTIONS.get(name, name)},", f"{pad}    ),"]  # fmt: skip
        lines.append(f"{pad}],")
        if choosing:
            lines.append("    ),")
    lines.append("]")
    comment = "# The weight of each member."
    return ["\n".join([comment, _list("MEMBER_WEIGHTS", [weight for weight, _ in members]), *lines])]


def _list(name: str, values: list[Any], wrap: str = "{}") -> str:
    """Return an assignment of a list, on one line if it fits."""
    shown = [json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value) for value in values]
    text = ", ".join(shown)
    if len(text) > _LINE:
        text = "\n" + "".join(f"    {each},\n" for each in shown)
    return f"{name} = {wrap.format(f'[{text}]')}"


_COMMAND_LINE = """if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} rows.csv")
    try:
        rows = predict(read(sys.argv[1]))
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    # Names of classes may hold commas.
    csv.writer(sys.stdout, lineterminator="\\n").writerows(map(str, np.atleast_1d(row)) for row in rows)"""


def _read(n_columns: int, has_names: bool) -> list[str]:
    by_name = """
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise ValueError(f"expected columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        order = [header.index(name) for name in COLUMNS]
        lines = [(number, [cells[i] for i in order if i < len(cells)]) for number, cells in lines]"""
    header = "header = lines.pop(0)[1]" + by_name if has_names else "lines.pop(0)"
    return [
        """def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True""",
        f'''def read(path):
    """Rows of a CSV file, (n_samples, {n_columns}). A first line that is not all numbers is its header."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [(number, cells) for number, cells in enumerate(csv.reader(file), 1) if cells]
    if lines and not all(map(is_number, lines[0][1])):
        {header}
    for number, cells in lines:
        if len(cells) != {n_columns} or not all(map(is_number, cells)):
            raise ValueError(f"line {{number}}: expected {n_columns} numbers, got {{', '.join(cells)}}")
    return np.array([[float(cell) for cell in cells] for _, cells in lines]).reshape(-1, {n_columns})''',
    ]
