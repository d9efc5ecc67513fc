"""Table models as ONNX graphs: an input for each column that is read, encodings in float64, members, predictions.

Operators are those of `models.export.to_onnx`, and LabelEncoder of ai.onnx.ml for texts. Cosines are sines a quarter
ahead: ONNX Runtime has no float64 kernel of Cos.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose
from pmlp_np.base.persistence import whole_file
from pmlp_np.data.preprocessing.feature_views import PLAIN
from pmlp_np.data.preprocessing.number_column import BEND, FARTHEST
from pmlp_np.data.preprocessing.raw_table import CATEGORY
from pmlp_np.model_selection.export.table_parts import ExportedColumn, Inputs, TableParts
from pmlp_np.model_selection.targets import CLASSIFICATION, REGRESSION
from pmlp_np.models.export.common import members_of, needed
from pmlp_np.models.export.to_onnx import ROWS, Graph, describe, no_class, raw_outputs

_PREFIX = "pmlp_np"
# What stands for a missing text: the first that is no category of the column.
_MISSING_TEXTS = ("", "NaN", "missing")


def table_to_onnx(parts: TableParts, path: str | os.PathLike[str] | None) -> Any:
    """Return an onnx.ModelProto, and write it to `path`."""
    onnx = needed("onnx")
    names = [column.name for column in parts.columns]
    if "" in names:
        raise DataError(compose("columns of X", "a name for each, for an export to ONNX", "''"))
    graph = _TableGraph(onnx, parts.networks.dtype, _apart(names))
    types = onnx.TensorProto
    x = graph.encoded(parts)
    mean = graph.members_mean(parts, x)
    inputs = {
        column.name: (types.STRING if column.kind == CATEGORY else types.DOUBLE, [ROWS, 1]) for column in parts.columns
    }
    outputs = {_output_name(name, names): output for name, output in graph.predictions(parts, mean).items()}
    proto = graph.with_inputs(inputs, outputs)
    columns = [
        {"name": c.name, "kind": c.kind, "missing": missing_text(c) if c.kind == CATEGORY else "NaN"}
        for c in parts.columns
    ]
    describe(onnx, proto, parts.networks, None, parts.labels, columns=columns)
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        with whole_file(path) as file:
            file.write(proto.SerializeToString())
    return proto


def missing_text(column: ExportedColumn) -> str:
    """Return the text that stands for a missing cell of a column of categories."""
    text = next((text for text in _MISSING_TEXTS if text not in column.known), _MISSING_TEXTS[-1])
    while text in column.known:
        text += "?"
    return text


def _output_name(name: str, columns: Collection[str]) -> str:
    """Return the name of an output, which differs from those of all columns."""
    while name in columns:
        name += "_"
    return name


def _apart(columns: Collection[str]) -> str:
    """Return a prefix for all values of the graph, with which no column's name begins."""
    prefix = _PREFIX
    while any(name.startswith(prefix) for name in columns):
        prefix += "_"
    return prefix + "/"


class _TableGraph(Graph):
    """A graph from columns to predictions. Values are (n_samples, k), float64 but for the networks'."""

    def double(self, values: Any) -> str:
        """Add a constant of float64 numbers. Returns its name."""
        return self.array(f"double_{len(self.constants)}", np.array(values, np.float64))

    # From columns to inputs of the networks.

    def encoded(self, parts: TableParts) -> str:
        """Return the inputs of the networks. It sets `_undefined`: (n_samples, 1), NaN for infinite numbers, else 0."""
        self._codes: dict[tuple[str, tuple[str, ...]], str] = {}
        numeric = [column for column in parts.columns if column.kind != CATEGORY]
        missing = {column.name: self.add("IsNaN", column.name) for column in numeric}
        zero = self.double([[0.0]])
        doubts = [
            self.add("Where", missing[c.name], zero, self.add("Sub", c.name, c.name)) for c in numeric
        ]  # fmt: skip
        self._undefined = self._sum(doubts) if doubts else ""
        blocks = []
        for each in parts.inputs:
            column = each.column
            if column.kind == CATEGORY:
                blocks.append(self._texts(each))
            elif each.block == PLAIN:
                blocks += self._marks(each, missing[column.name], zero)
            else:
                blocks.append(self.add("Where", missing[column.name], zero, self._numbers(each)))
        x = self.add("Concat", *blocks, axis=1) if len(blocks) > 1 else blocks[0]
        return self._cast(x, self.onnx.helper.np_dtype_to_tensor_dtype(self.dtype))

    def _cast(self, value: str, kind: Any) -> str:
        return self.add("Cast", value, to=kind)

    def _sum(self, values: list[str]) -> str:
        return self.add("Sum", *values) if len(values) > 1 else values[0]

    def _numbers(self, each: Inputs) -> str:
        """Return a block's encoding of a column of numbers or dates."""
        name, learned = each.column.name, each.column.numbers()
        if each.block == "quant":
            # Interpolated: the sum of the rises of all steps below the value.
            steps = self._pieces(name, learned.quantiles)
            rises = self.add("MatMul", steps, self.double(np.diff(learned.normal)[:, None]))
            return self.add("Add", rises, self.double(learned.normal[:1]))
        if each.block.startswith("ple"):
            pieces = self._pieces(name, learned.edges[each.block])
            return self.add("Sub", pieces, self.double(learned.centers[each.block][None]))
        z = self.add("Mul", self.add("Sub", name, self.double([[learned.median]])), self.double([[learned.factor]]))
        z = self.add("Max", self.add("Min", z, self.double([[FARTHEST]])), self.double([[-FARTHEST]]))
        bent = self.add("Div", z, self.double([[BEND]]))
        root = self.add("Sqrt", self.add("Add", self.double([[1.0]]), self.add("Mul", bent, bent)))
        scaled = self.add("Div", z, root)
        if each.block == "raw":
            return scaled
        angles = self.add("Mul", scaled, self.double(2.0 * np.pi * learned.frequencies[None]))
        return self.add("Sin", self.add("Add", angles, self.double(learned.phases[None] + np.pi / 2.0)))

    def _pieces(self, name: str, edges: np.ndarray) -> str:
        """Return the part of each bin that lies below the value, from 0 to 1."""
        above = self.add("Sub", name, self.double(edges[None, :-1]))
        share = self.add("Div", above, self.double(np.diff(edges)[None]))
        return self.add("Clip", share, self.double(0.0), self.double(1.0))

    def _marks(self, each: Inputs, missing: str, zero: str) -> list[str]:
        """Return whether cells are missing, and sines and cosines of cycles."""
        column = each.column
        found = [self._cast(missing, self.onnx.TensorProto.DOUBLE)] if column.numbers().marks_missing else []
        for length in column.cycles:
            angle = self.add("Mul", column.name, self.double([[2.0 * np.pi]]))
            angle = self.add("Div", angle, self.double([[length]]))
            for turned in (angle, self.add("Add", angle, self.double([[np.pi / 2.0]]))):
                found.append(self.add("Where", missing, zero, self.add("Sin", turned)))
        return found

    def _texts(self, each: Inputs) -> str:
        """Return the row of each text."""
        table = each.column.texts[each.block]
        key = each.column.name, table.texts
        if key not in self._codes:
            known = [*table.texts, missing_text(each.column)]
            self._codes[key] = self.add(
                "LabelEncoder", each.column.name, domain="ai.onnx.ml", keys_strings=known,
                values_int64s=list(range(len(known))), default_int64=len(known),
            )  # fmt: skip
        rows = self.add("Gather", self.double(table.rows), self._codes[key], axis=0)
        return self.add("Reshape", rows, self.whole([-1, each.width]))

    # From inputs to predictions.

    def members_mean(self, parts: TableParts, x: str) -> str:
        """Return the weighted mean of the members' values or probabilities."""
        linked = []
        for i, (weight, network) in enumerate(members_of(parts.networks)):
            raw = raw_outputs(self, network, f"member_{i}/", x)
            if parts.targets.task == CLASSIFICATION:
                raw = self.add("Softmax", raw, axis=1)
            elif parts.targets.task != REGRESSION:
                raw = self.add("Sigmoid", raw)
            linked.append(self.add("Mul", self._cast(raw, self.onnx.TensorProto.DOUBLE), self.double(weight)))
        return self._sum(linked)

    def predictions(self, parts: TableParts, mean: str) -> dict[str, tuple[str, Any, list[Any]]]:
        """Return the outputs: `prediction`; or `label` and `probabilities`."""
        types, targets = self.onnx.TensorProto, parts.targets
        n = parts.networks.n_raw_outputs
        # 0, or NaN where the mean is not a number or a cell is infinite.
        total = self.add("ReduceSum", mean, self.whole([1]), keepdims=1)
        doubt = self._sum([self.add("Sub", total, total), *([self._undefined] if self._undefined else [])])
        if targets.task == REGRESSION:
            scaled = self.add("Mul", mean, self.double(targets.scale[None]))
            values = self.add("Add", self.add("Add", scaled, self.double(targets.mean[None])), doubt)
            return {"prediction": (self.columns(values, 0) if targets.flat else values, types.DOUBLE,
                                   [ROWS] if targets.flat else [ROWS, n])}  # fmt: skip
        p = mean if parts.temperature == 1.0 else self._tempered(parts, mean)
        probabilities = self.add("Add", p, doubt), types.DOUBLE, [ROWS, n]
        if targets.task != CLASSIFICATION:
            label = self._cast(self.add("Greater", p, self.double(0.5)), types.INT64)
            label = self.add("Where", self.add("Equal", doubt, doubt), label, self.whole(-1))
            return {"label": (label, types.INT64, [ROWS, n]), "probabilities": probabilities}
        assert parts.labels is not None
        is_text = isinstance(parts.labels[0], str)
        labels = np.array([*parts.labels, no_class(parts.labels)], object if is_text else np.int64)
        defined = self.columns(self.add("Equal", doubt, doubt), 0)
        number = self.add("Where", defined, self.add("ArgMax", p, axis=1, keepdims=0), self.whole(len(parts.labels)))
        label = self.add("Gather", self.array("labels", labels), number, axis=0)
        return {"label": (label, types.STRING if is_text else types.INT64, [ROWS]), "probabilities": probabilities}

    def _tempered(self, parts: TableParts, p: str) -> str:
        """Return probabilities whose logits are divided by the temperature; of labels each by itself."""

        def logit(of: str) -> str:
            log_p = self.add("Log", self.add("Max", of, self.double(np.finfo(np.float64).tiny)))
            return self.add("Div", log_p, self.double(parts.temperature))

        if parts.targets.task == CLASSIFICATION:
            return self.add("Softmax", logit(p), axis=1)
        other = self.add("Sub", self.double(1.0), p)
        return self.add("Sigmoid", self.add("Sub", logit(p), logit(other)))
