"""Networks as ONNX graphs of standard operators, for ONNX Runtime and other readers of ONNX.

Opset 13 (ONNX 1.8, of 2020) has all the operators, so that old runtimes read the files, too. In float64 ONNX Runtime
lacks kernels for many activations (Elu, Erf, Softplus and others). There, and for activations without an operator in
the opset, the graph contains the steps of the formula.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from pmlp_np.base.persistence import whole_file
from pmlp_np.base.version import __version__
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.formulas.step_lists import activation_steps
from pmlp_np.formulas.tracing import Constant, StepList
from pmlp_np.models.averaging import Average, averages, label_threshold
from pmlp_np.models.export.common import checked_class_names, input_names_of, members_of, needed
from pmlp_np.models.network import Network, Networks

_OPSET, _IR_VERSION = 13, 7
ROWS = "n_samples"

# Operators of activations, with attributes for this library's constants. The first table has kernels for float64, too.
_OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "sin": ("Sin", {}),
}
_FLOAT32_OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
}
# Words of steps that are one operator. For words that need several, see _WORDS.
_ONE_OPERATOR = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "negative": "Neg",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "where": "Where",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "sqrt": "Sqrt",
    "absolute": "Abs",
    "sigmoid": "Sigmoid",
    "equal": "Equal",
    "power": "Pow",
}


def to_onnx(
    model: Networks, path: str | os.PathLike[str] | None = None, input_names: Any = None, class_names: Any = None
) -> Any:
    """Return an onnx.ModelProto. Arguments, outputs and errors as of `MLP.to_onnx`."""
    onnx = needed("onnx")
    reading = reading_of(model.loss)
    names = input_names_of(model, input_names)
    classes = checked_class_names(class_names, reading, model.n_raw_outputs)
    graph = Graph(onnx, model.dtype)
    members = []
    for i, (weight, network) in enumerate(members_of(model)):
        scope = f"member_{i}/" if model.is_mean else ""
        members.append((weight, raw_outputs(graph, network, scope)))
    if reading.has_probabilities:
        outputs = _classes(graph, reading, members, model.n_raw_outputs, classes)
    else:
        outputs = _values(graph, reading, members, model.n_raw_outputs)
    proto = graph.model(model.n_features, outputs)
    describe(onnx, proto, model, names, classes)
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        with whole_file(path) as file:
            file.write(proto.SerializeToString())
    return proto


def describe(onnx: Any, proto: Any, model: Networks, names: Any, classes: Any, **more: Any) -> None:
    """Set the producer, the description and the metadata. more: further metadata, as JSON."""
    proto.producer_name, proto.producer_version = "pmlp_np", __version__
    proto.doc_string = model.description
    metadata = {"model": model.description, "loss": str(model.loss), "pmlp_np_version": __version__}
    if names is not None:
        metadata["feature_names"] = json.dumps(names)
    if classes is not None:
        metadata["class_names"] = json.dumps(classes)
    metadata |= {name: json.dumps(value) for name, value in more.items()}
    onnx.helper.set_model_props(proto, metadata)


class Graph:
    """A graph under construction: its nodes and constants. A value is the name of a node's output.

    dtype: of the numbers in formulas. prefix: of all names.
    """

    def __init__(self, onnx: Any, dtype: np.dtype, prefix: str = "") -> None:
        self.onnx, self.dtype, self.prefix = onnx, dtype, prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, bytes], str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node. Returns its output."""
        output = f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def array(self, name: str, values: np.ndarray) -> str:
        """Add a constant of this name. Returns the name, with the prefix."""
        self.constants[self.prefix + name] = values
        return self.prefix + name

    def number(self, value: float) -> str:
        """Add a scalar constant of the model's dtype, unless there is an equal one. Returns its name."""
        return self._shared(np.array(value, self.dtype), "number")

    def whole(self, values: Any) -> str:
        """Add a constant of whole numbers (indices, shapes), unless there is an equal one. Returns its name."""
        return self._shared(np.array(values, np.int64), "whole")

    def _shared(self, values: np.ndarray, kind: str) -> str:
        key = f"{kind}{values.shape}", values.tobytes()
        if key not in self._known:
            self._known[key] = self.array(f"{kind}_{len(self._known)}", values)
        return self._known[key]

    def columns(self, value: str, numbers: Any) -> str:
        """Return some columns of a value (n_samples, ...). A single number drops the axis."""
        return self.add("Gather", value, self.whole(numbers), axis=1)

    def activation(self, name: str, z: str) -> str:
        """Return a(z), by an operator or by the steps of the activation's formula."""
        if name == "identity":
            return z
        if name == "gelu" and self.dtype == np.float32:
            half, cdf = self.number(0.5), self.add("Erf", self.add("Mul", z, self.number(0.7071067811865476)))
            return self.add("Mul", self.add("Mul", half, z), self.add("Add", cdf, self.number(1.0)))
        operators = _OPERATORS if self.dtype == np.float64 else _OPERATORS | _FLOAT32_OPERATORS
        if name in operators:
            operator, attributes = operators[name]
            return self.add(operator, z, **attributes)
        return self.run(activation_steps(name, self.dtype.name).only("activation"), z)

    def run(self, steps: StepList, *inputs: str) -> str:
        """Return the result of a step list with one result."""
        values, (result,) = list(inputs), steps.results
        for step in steps.steps:
            operands = [self.number(a.value) if isinstance(a, Constant) else values[a] for a in step.arguments]
            operator = _ONE_OPERATOR.get(step.word)
            values.append(self.add(operator, *operands) if operator else _WORDS[step.word](self, *operands))
        assert isinstance(result, int)
        return values[result]

    def mean(self, parts: list[tuple[float, str]]) -> str:
        """Return Σ w a over pairs (w, a)."""
        if len(parts) == 1:
            return parts[0][1]
        return self.add("Sum", *(self.add("Mul", self.number(w), a) for w, a in parts))

    def model(self, n_features: int, outputs: dict[str, tuple[str, Any, list[Any]]]) -> Any:
        """Return the model of X with these outputs, {name: (value, element type, shape)}."""
        element = self.onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        return self.with_inputs({"X": (element, [ROWS, n_features])}, outputs)

    def with_inputs(
        self, inputs: dict[str, tuple[Any, list[Any]]], outputs: dict[str, tuple[str, Any, list[Any]]]
    ) -> Any:
        """Return the model with these inputs, {name: (element type, shape)}, and outputs, as of `model`."""
        helper = self.onnx.helper
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name=self.prefix + name))
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]
        taken = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        constants = [self.onnx.numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        graph = helper.make_graph(self.nodes, "pmlp_np", taken, infos, constants)
        # Operators on texts are in a domain of their own.
        domains = {"": _OPSET} | ({"ai.onnx.ml": 2} if any(node.domain for node in self.nodes) else {})
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _expm1(graph: Graph, x: str) -> str:
    """Return e^x - 1; near zero as 2 t / (1 - t), t = tanh(x / 2), without cancellation."""
    one, two = graph.number(1.0), graph.number(2.0)
    t = graph.add("Tanh", graph.add("Div", x, two))
    near = graph.add("Div", graph.add("Mul", two, t), graph.add("Sub", one, t))
    far = graph.add("Sub", graph.add("Exp", x), one)
    return graph.add("Where", graph.add("Less", graph.add("Abs", x), one), near, far)


def _ones_like(graph: Graph, x: str) -> str:
    one = graph.number(1.0)
    return graph.add("Where", graph.add("Equal", x, x), one, one)


# Words of steps that need several operators: functions of the graph and the step's operands.
_WORDS: dict[str, Callable[..., str]] = {
    "fma": lambda graph, a, b, c: graph.add("Add", graph.add("Mul", a, b), c),
    "reciprocal": lambda graph, x: graph.add("Div", graph.number(1.0), x),
    "log1p": lambda graph, x: graph.add("Log", graph.add("Add", graph.number(1.0), x)),
    "not_equal": lambda graph, a, b: graph.add("Not", graph.add("Equal", a, b)),
    "ones_like": _ones_like,
    "expm1": _expm1,
}


def raw_outputs(graph: Graph, network: Network, scope: str, x: str = "X") -> str:
    """Add a network of the value x. Returns its raw outputs. scope: prefix of the names of its constants."""
    a = x if network.features is None else graph.columns(x, network.features)
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        weights = graph.array(f"{scope}weights_{k}", w)
        if network.bias:
            a = graph.add("Gemm", a, weights, graph.array(f"{scope}biases_{k}", b))
        else:
            a = graph.add("MatMul", a, weights)
        if k < len(network.activation):
            a = graph.activation(network.activation[k], a)
    return a


def _values(
    graph: Graph, reading: Reading, members: list[tuple[float, str]], n_raw: int
) -> dict[str, tuple[str, Any, list[Any]]]:
    """Return the outputs of a model that predicts values: `prediction`, and `std` or `quantiles`."""
    element = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    n = n_raw // reading.heads
    shape = [ROWS] if n == 1 else [ROWS, n]

    def head(raw: str, h: int) -> str:
        if n == 1:
            return graph.columns(raw, h)
        return raw if reading.heads == 1 else graph.columns(raw, range(h, n_raw, reading.heads))

    def mean(average: Average, center: str = "") -> str:
        """Return a mean over networks, or the prediction of a single one."""
        parts = []
        for w, raw in members:
            inputs = [center if each.name == "center" else raw if each.name == "raw" else
                      head(raw, int(each.name.removeprefix("head_"))) for each in average.part.inputs]  # fmt: skip
            parts.append((w, graph.run(average.part, *inputs)))
        total = graph.mean(parts)
        return total if average.finish is None else graph.run(average.finish, total)

    defined = averages(reading, graph.dtype.name)
    center = mean(defined["prediction"])
    outputs = {"prediction": (center, element, shape)}
    if reading.has_std and len(members) == 1:
        half = graph.add("Mul", graph.number(0.5), head(members[0][1], 1))
        outputs["std"] = (graph.add("Exp", half), element, shape)
    elif reading.has_std:
        outputs["std"] = (mean(defined["std"], center), element, shape)
    if reading.levels:
        quantiles = mean(defined["quantiles"])
        if n > 1:
            # 0 in the shape keeps the size of the axis, the number of rows.
            quantiles = graph.add("Reshape", quantiles, graph.whole([0, n, reading.heads]))
        outputs["quantiles"] = (quantiles, element, [*shape, reading.heads])
    return outputs


def _defined(graph: Graph, reading: Reading, raws: list[str], n_raw: int) -> str:
    """Return whether each label is defined, which is if its raw outputs are numbers.

    Raw outputs are tested, not scores computed from them: operators may drop NaN.
    """
    defined = []
    for raw in raws:
        if reading.link == "softmax":
            # As in `Loss.predictions`: no raw output is NaN or infinity, and not all are minus infinity.
            below = graph.add("Cast", graph.add("Less", raw, graph.number(np.inf)), to=graph.onnx.TensorProto.FLOAT)
            above = graph.add("Cast", graph.add("Greater", raw, graph.number(-np.inf)), to=graph.onnx.TensorProto.FLOAT)
            all_below = graph.add("ReduceMin", below, axes=[1], keepdims=0)
            any_above = graph.add("ReduceMax", above, axes=[1], keepdims=0)
            defined.append(graph.add("Cast", graph.add("Mul", all_below, any_above), to=graph.onnx.TensorProto.BOOL))
        else:
            of_labels = graph.columns(raw, 0) if n_raw == 1 else raw
            defined.append(graph.add("Equal", of_labels, of_labels))
    while len(defined) > 1:
        defined = [graph.add("And", defined[0], defined[1]), *defined[2:]]
    return defined[0]


def no_class(classes: Any) -> Any:
    """Return the label for outputs that are not numbers, different from all classes."""
    if isinstance(classes[0], str):
        return next(name for name in ("", "NaN", "not a number", "no label " + "".join(classes)) if name not in classes)
    return -1 if -1 not in classes else min(classes) - 1


def _classes(
    graph: Graph, reading: Reading, members: list[tuple[float, str]], n_raw: int, classes: Any
) -> dict[str, tuple[str, Any, list[Any]]]:
    """Return the outputs of a model that predicts classes or 0/1 labels: `label` and `probabilities`."""
    element, types = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype), graph.onnx.TensorProto
    average = averages(reading, graph.dtype.name)["probabilities"]
    linked = [(w, graph.add("Softmax", raw, axis=1) if average.softmax else raw) for w, raw in members]
    probabilities = graph.mean([(w, graph.run(average.part, raw)) for w, raw in linked])
    threshold = label_threshold(len(members) > 1)
    scores = members[0][1] if len(members) == 1 else probabilities
    shape: list[Any] = [ROWS]
    if reading.link == "softmax":
        label = graph.add("ArgMax", scores, axis=1, keepdims=0)
    else:
        if n_raw == 1:
            scores = graph.columns(scores, 0)
        else:
            shape.append(n_raw)
        label = graph.add("Cast", graph.add("Greater", scores, graph.number(threshold)), to=types.INT64)
    defined, kind = _defined(graph, reading, [raw for _, raw in members], n_raw), types.INT64
    undefined = -1 if classes is None else len(classes)
    label = graph.add("Where", defined, label, graph.whole(undefined))
    if classes is not None:
        names = np.array([*classes, no_class(classes)], object if isinstance(classes[0], str) else np.int64)
        label = graph.add("Gather", graph.array("class_names", names), label, axis=0)
        kind = types.STRING if isinstance(classes[0], str) else kind
    return {"label": (label, kind, shape), "probabilities": (probabilities, element, [ROWS, n_raw])}
