"""An ONNX model that takes a raw table: in front of an exported network, the preparation as a graph.

One input (n_rows, 1) per column, called as the column is: numbers as float32 with NaN where missing, categories as
strings with "" where missing, dates as days since 1970 with NaN where missing (ONNX has no word for dates): float32, or
float64 where they have times of day. What follows up to the network's own inputs is float64, so that large numbers keep
their digits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pmlp_np.app.preparation import CYCLES, Category, Date, Number, Preparation

_OWN = "pmlp_np"


def with_preparation(model: Any, preparation: Preparation) -> Any:
    """The onnx.ModelProto that takes columns, made of one that takes X, standardized, as members do.

    Columns keep their names, whatever they are. Outputs keep theirs, with "_" behind where a column has that name.
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
    found = helper.make_model(new, opset_imports=opsets, ir_version=model.ir_version, producer_name=model.producer_name)
    found.metadata_props.extend(model.metadata_props)
    graph.onnx.checker.check_model(found)
    return found


def has_times(column: Date) -> bool:
    """Whether a column's dates have times of day, which float32 days do not hold: their unit is some minutes."""
    return "day" in column.cycles or column.days.scale < 1.0


def output_name(name: str, columns: Collection[str]) -> str:
    """What an output of this name is called beside these columns."""
    while name in columns:
        name += "_"
    return name


def _apart(columns: Collection[str]) -> str:
    """What no column's name begins with: all names of the graph's own begin with it."""
    prefix = _OWN
    while any(name.startswith(prefix) for name in columns):
        prefix += "_"
    return prefix + "/"


def _rename(graph: Any, prefix: str, columns: Collection[str]) -> None:
    """Put a prefix before all names of a network's graph but its outputs'."""
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
    """Nodes, constants and inputs under way."""

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
        """The filled number, and whether it was missing if that counts."""
        return self._filled(self._double(self._input(name, self.onnx.TensorProto.FLOAT)), column)

    def _filled(self, given: str, column: Number) -> list[str]:
        missing = self._add("IsNaN", given)
        filled = self._add("Where", missing, self._constant([[column.median]]), given)
        return [filled, self._double(missing)] if column.marks_missing else [filled]

    def _double(self, value: str) -> str:
        return self._add("Cast", value, to=self.onnx.TensorProto.DOUBLE)

    def date(self, column: Date) -> list[str]:
        """Days, and the sine and cosine of each cycle."""
        types = self.onnx.TensorProto
        given = self._input(column.name, types.DOUBLE if has_times(column) else types.FLOAT)
        found = self._filled(given if has_times(column) else self._double(given), column.days)
        for cycle in column.cycles:
            period = self._constant([[CYCLES[cycle]]])
            begun = self._add("Mul", self._add("Floor", self._add("Div", found[0], period)), period)
            turn = self._constant([[2.0 * np.pi / CYCLES[cycle]]])
            # Within one cycle float32 is enough; Cos has no kernel for float64.
            angle = self._add("Mul", self._add("Sub", found[0], begun), turn)
            angle = self._add("Cast", angle, to=types.FLOAT)
            found += [self._double(self._add(wave, angle)) for wave in ("Sin", "Cos")]
        return found

    def category(self, column: Category) -> list[str]:
        given = self._input(column.name, self.onnx.TensorProto.STRING)
        texts = [*column.categories, *([""] if column.marks_missing else [])]
        if not texts:
            return []
        lines = self._add("OneHotEncoder", given, domain="ai.onnx.ml", cats_strings=texts, zeros=1)
        return [self._double(self._add("Reshape", lines, self._constant([-1, len(texts)], np.int64)))]

    def standardized(self, parts: list[str], preparation: Preparation) -> str:
        """X (n, k) float32 of all inputs, from (x - shift) / scale in float64."""
        shift, scale = (self._constant([each]) for each in preparation.affine())
        inputs = self._add("Concat", *parts, axis=1)
        x = self._add("Div", self._add("Sub", inputs, shift), scale)
        return self._add("Cast", x, to=self.onnx.TensorProto.FLOAT)
