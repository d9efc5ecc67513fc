"""An ONNX model that takes a raw table: in front of an exported network, the preparation as a graph.

One input (n_rows, 1) per column, called as the column is: numbers as float32 with NaN where missing, categories as
strings with "" where missing, dates as float32 days since 1970 with NaN where missing. ONNX has no word for dates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.app.preparation import CYCLES, Category, Date, Number, Preparation

# Names in the graph that no column can clash with: columns are inputs alone, and a network's names have no slash.
_PREFIX = "table/"


def with_preparation(model: Any, preparation: Preparation) -> Any:
    """The onnx.ModelProto that takes columns, made of one that takes prepared inputs as "X"."""
    graph = _Graph()
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
    first = old.input[0].name
    graph.nodes.append(helper.make_node("Concat", parts, [first], name=f"{_PREFIX}all", axis=1))
    new = helper.make_graph(
        [*graph.nodes, *old.node], old.name, graph.inputs, list(old.output), [*graph.constants, *old.initializer]
    )
    opsets = [*model.opset_import, helper.make_opsetid("ai.onnx.ml", 1)]
    found = helper.make_model(new, opset_imports=opsets, ir_version=model.ir_version, producer_name=model.producer_name)
    found.metadata_props.extend(model.metadata_props)
    graph.onnx.checker.check_model(found)
    return found


class _Graph:
    """Nodes, constants and inputs under way."""

    def __init__(self) -> None:
        import onnx

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []

    def _input(self, name: str, kind: Any) -> str:
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, ["rows", 1]))
        return name

    def _add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        out = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [out], name=out, domain=domain, **attributes))
        return out

    def _constant(self, value: Any, kind: type = np.float32) -> str:
        name = f"{_PREFIX}constant {len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name

    def number(self, name: str, column: Number) -> list[str]:
        """The filled number, and whether it was missing if that counts."""
        given = self._input(name, self.onnx.TensorProto.FLOAT)
        missing = self._add("IsNaN", given)
        filled = self._add("Where", missing, self._constant([[column.median]]), given)
        if not column.marks_missing:
            return [filled]
        return [filled, self._add("Cast", missing, to=self.onnx.TensorProto.FLOAT)]

    def date(self, column: Date) -> list[str]:
        found = self.number(column.name, column.days)
        for cycle in column.cycles:
            # Within a cycle first: the sine of a large angle has few digits in float32.
            period = self._constant([[CYCLES[cycle]]])
            begun = self._add("Mul", self._add("Floor", self._add("Div", found[0], period)), period)
            angle = self._add("Mul", self._add("Sub", found[0], begun), self._constant([[2.0 * np.pi / CYCLES[cycle]]]))
            found += [self._add("Sin", angle), self._add("Cos", angle)]
        return found

    def category(self, column: Category) -> list[str]:
        given = self._input(column.name, self.onnx.TensorProto.STRING)
        texts = [*column.categories, *([""] if column.marks_missing else [])]
        if not texts:
            return []
        lines = self._add("OneHotEncoder", given, domain="ai.onnx.ml", cats_strings=texts, zeros=1)
        return [self._add("Reshape", lines, self._constant([-1, len(texts)], np.int64))]
