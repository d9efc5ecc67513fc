"""An ONNX model for raw tables: the preparation as a graph in front of an exported network.

The graph has one input (n_rows, 1) per column, with the column's name: numbers as float32 with NaN for missing cells,
categories as strings with "" for missing cells, dates (a type that ONNX lacks) as days since 1970 with NaN for missing
cells, float32, or float64 for dates with times of day. The preparation computes in float64, so that large numbers lose
no digits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.preparation import CYCLES, Category, Date, Number, Preparation

_PREFIX = "pmlp_np"


def with_preparation(model: Any, preparation: Preparation) -> Any:
    """Return the onnx.ModelProto for columns, from one for the standardized X.

    Inputs have the columns' names, whatever they are. An output with the name of a column gets "_" appended.
    """
    columns = [column.name for column in preparation.columns]
    graph = _Graph(_apart(columns))
    parts = []
    for column in preparation.columns:
        if isinstance(column, Category):
            parts += graph.category(column)
        elif isinstance(column, Date):
            parts += graph.date(column)
        else:
            parts += graph.number(column.name, column)
    helper = graph.onnx.helper
    old = model.graph
    _rename(old, graph.prefix, columns)
    x = graph.standardized(parts, preparation)
    graph.nodes.append(helper.make_node("Identity", [x], [old.input[0].name], name=f"{graph.prefix}X"))
    new = helper.make_graph(
        [*graph.nodes, *old.node], old.name, graph.inputs, list(old.output), [*graph.constants, *old.initializer]
    )
    opsets = [*model.opset_import, helper.make_opsetid("ai.onnx.ml", 1)]
    proto = helper.make_model(new, opset_imports=opsets, ir_version=model.ir_version, producer_name=model.producer_name)
    proto.metadata_props.extend(model.metadata_props)
    graph.onnx.checker.check_model(proto)
    return proto


def has_times(column: Date) -> bool:
    """Return whether a column's dates have times of day: days as float32 have a resolution of some minutes."""
    return "day" in column.cycles or column.days.scale < 1.0


def output_name(name: str, columns: Collection[str]) -> str:
    """Return the name of an output that differs from all columns' names."""
    while name in columns:
        name += "_"
    return name


def _apart(columns: Collection[str]) -> str:
    """Return a prefix, for all internal names of the graph, that no column's name begins with."""
    prefix = _PREFIX
    while any(name.startswith(prefix) for name in columns):
        prefix += "_"
    return prefix + "/"


def _rename(graph: Any, prefix: str, columns: Collection[str]) -> None:
    """Put a prefix before all names of a network's graph except those of its outputs."""
    outputs = {each.name: output_name(each.name, columns) for each in graph.output}

    def new(name: str) -> str:
        return outputs.get(name, prefix + name if name else name)

    for node in graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [new(name) for name in names]
    for each in (*graph.initializer, *graph.input, *graph.output):
        each.name = new(each.name)


class _Graph:
    """A graph under construction: nodes, constants and inputs."""

    def __init__(self, prefix: str) -> None:
        import onnx

        self.onnx, self.prefix = onnx, prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []

    def _input(self, name: str, kind: Any) -> str:
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, ["rows", 1]))
        return name

    def _add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        out = f"{self.prefix}table/{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [out], name=out, domain=domain, **attributes))
        return out

    def _constant(self, value: Any, kind: type = np.float64) -> str:
        name = f"{self.prefix}table/constant {len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name

    def number(self, name: str, column: Number) -> list[str]:
        """Return the inputs of a column of numbers: filled, and, if it marks missing cells, the mark."""
        return self._filled(self._double(self._input(name, self.onnx.TensorProto.FLOAT)), column)

    def _filled(self, value: str, column: Number) -> list[str]:
        missing = self._add("IsNaN", value)
        filled = self._add("Where", missing, self._constant([[column.median]]), value)
        return [filled, self._double(missing)] if column.marks_missing else [filled]

    def _double(self, value: str) -> str:
        return self._add("Cast", value, to=self.onnx.TensorProto.DOUBLE)

    def date(self, column: Date) -> list[str]:
        """Return the inputs of a column of dates: days, and the sine and cosine of each cycle."""
        types = self.onnx.TensorProto
        value = self._input(column.name, types.DOUBLE if has_times(column) else types.FLOAT)
        inputs = self._filled(value if has_times(column) else self._double(value), column.days)
        for cycle in column.cycles:
            period = self._constant([[CYCLES[cycle]]])
            start = self._add("Mul", self._add("Floor", self._add("Div", inputs[0], period)), period)
            factor = self._constant([[2.0 * np.pi / CYCLES[cycle]]])
            # Within one cycle float32 is enough; Cos has no kernel for float64.
            angle = self._add("Mul", self._add("Sub", inputs[0], start), factor)
            angle = self._add("Cast", angle, to=types.FLOAT)
            inputs += [self._double(self._add(wave, angle)) for wave in ("Sin", "Cos")]
        return inputs

    def category(self, column: Category) -> list[str]:
        """Return the inputs of a column of categories."""
        value = self._input(column.name, self.onnx.TensorProto.STRING)
        texts = [*column.categories, *([""] if column.marks_missing else [])]
        if not texts:
            return []
        lines = self._add("OneHotEncoder", value, domain="ai.onnx.ml", cats_strings=texts, zeros=1)
        return [self._double(self._add("Reshape", lines, self._constant([-1, len(texts)], np.int64)))]

    def standardized(self, parts: list[str], preparation: Preparation) -> str:
        """Return X (n, k) float32, (inputs - shift) / scale computed in float64."""
        shift, scale = (self._constant([each]) for each in preparation.affine())
        inputs = self._add("Concat", *parts, axis=1)
        x = self._add("Div", self._add("Sub", inputs, shift), scale)
        return self._add("Cast", x, to=self.onnx.TensorProto.FLOAT)
