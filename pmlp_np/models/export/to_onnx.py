"""Networks as ONNX graphs of plain operators, for ONNX Runtime and whatever else reads ONNX.

Opset 13 (ONNX 1.8, of 2020) has every operator that is used, so that old runtimes read the files too. In float64 ONNX
Runtime lacks kernels for many activations (Elu, Erf, Softplus and others): there, and where the opset has no such
operator, an activation is made of the steps of its own formula.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from pmlp_np.base.persistence import whole_file
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.export.common import checked_class_names, input_names_of, members_of, needed
from pmlp_np.models.export.tracing import Argument, traced
from pmlp_np.models.mlp import MLP

_OPSET, _IR_VERSION = 13, 7
_ROWS = "n_samples"

# Operators whose default attributes are this library's constants. The first have kernels for float64 as well.
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
# Steps of formulas that are one operator. Those that are several are in `_Graph.step`.
_STEPS = {
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
}


def to_onnx(
    model: MLP | Ensemble, path: str | os.PathLike[str] | None = None, input_names: Any = None, class_names: Any = None
) -> Any:
    """An onnx.ModelProto; arguments, outputs and errors are those of `MLP.to_onnx`."""
    onnx = needed("onnx")
    reading = reading_of(model._loss)
    names = input_names_of(model, input_names)
    classes = checked_class_names(class_names, reading, model.n_raw_outputs)
    graph = _Graph(onnx, model.dtype)
    members = []
    for i, (weight, mlp) in enumerate(members_of(model)):
        scope = f"member_{i}/" if isinstance(model, Ensemble) else ""
        members.append((weight, _raw_outputs(graph, mlp, scope)))
    if reading.has_probabilities:
        outputs = _classes(graph, reading, members, model.n_raw_outputs, classes)
    else:
        outputs = _values(graph, reading, members, model.n_raw_outputs)
    found = graph.model(model.n_features, outputs)
    _describe(onnx, found, model, names, classes)
    onnx.checker.check_model(found, full_check=True)
    if path is not None:
        with whole_file(path) as file:
            file.write(found.SerializeToString())
    return found


def _describe(onnx: Any, found: Any, model: MLP | Ensemble, names: Any, classes: Any) -> None:
    """Who made it, and what it is."""
    from pmlp_np import __version__

    found.producer_name, found.producer_version = "pmlp_np", __version__
    found.doc_string = repr(model)
    facts = {"model": repr(model), "loss": model.loss, "pmlp_np_version": __version__}
    if names is not None:
        facts["feature_names"] = json.dumps(names)
    if classes is not None:
        facts["class_names"] = json.dumps(classes)
    onnx.helper.set_model_props(found, facts)


class _Graph:
    """Nodes and constants as they are added; a value is the name of a node's output."""

    def __init__(self, onnx: Any, dtype: np.dtype) -> None:
        self.onnx, self.dtype = onnx, dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, bytes], str] = {}
        self._formulas: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of what it gives."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def array(self, name: str, values: np.ndarray) -> str:
        """A constant of this name."""
        self.constants[name] = values
        return name

    def number(self, value: float) -> str:
        """A constant of the network's dtype, without axes; equal ones are kept once."""
        return self._shared(np.array(value, self.dtype), "number")

    def whole(self, values: Any) -> str:
        """Whole numbers (indices, shapes), kept once."""
        return self._shared(np.array(values, np.int64), "whole")

    def _shared(self, values: np.ndarray, kind: str) -> str:
        key = f"{kind}{values.shape}", values.tobytes()
        if key not in self._known:
            self._known[key] = self.array(f"{kind}_{len(self._known)}", values)
        return self._known[key]

    def columns(self, value: str, numbers: Any) -> str:
        """Some columns of (n_samples, ...); one number drops the axis."""
        return self.add("Gather", value, self.whole(numbers), axis=1)

    def activation(self, name: str, z: str) -> str:
        """a(z), by an operator or by the steps of its formula."""
        if name == "identity":
            return z
        if name == "gelu" and self.dtype == np.float32:
            half, cdf = self.number(0.5), self.add("Erf", self.add("Mul", z, self.number(0.7071067811865476)))
            return self.add("Mul", self.add("Mul", half, z), self.add("Add", cdf, self.number(1.0)))
        operators = _OPERATORS if self.dtype == np.float64 else _OPERATORS | _FLOAT32_OPERATORS
        if name in operators:
            operator, attributes = operators[name]
            return self.add(operator, z, **attributes)
        if name not in self._formulas:
            self._formulas[name] = traced(name, self.dtype)
        values = [z]
        for step, arguments in self._formulas[name]:
            values.append(self.step(step, values, arguments))
        return values[-1]

    def step(self, name: str, values: list[str], arguments: tuple[Argument, ...]) -> str:
        """A step of a formula, of earlier values and constants."""
        given = [values[a] if isinstance(a, int) else self.number(a) for a in arguments]
        if name in _STEPS:
            return self.add(_STEPS[name], *given)
        if name == "fma":
            return self.add("Add", self.add("Mul", given[0], given[1]), given[2])
        (x,), one = given, self.number(1.0)
        if name == "reciprocal":
            return self.add("Div", one, x)
        if name == "ones_like":
            return self.add("Where", self.add("Equal", x, x), one, one)
        if name == "log1p":
            return self.add("Log", self.add("Add", one, x))
        # expm1: by tanh near zero, where e^x - 1 cancels: 2 t / (1 - t), t = tanh(x / 2).
        two = self.number(2.0)
        t = self.add("Tanh", self.add("Div", x, two))
        near = self.add("Div", self.add("Mul", two, t), self.add("Sub", one, t))
        far = self.add("Sub", self.add("Exp", x), one)
        return self.add("Where", self.add("Less", self.add("Abs", x), one), near, far)

    def mean(self, parts: list[tuple[float, str]]) -> str:
        """Σ w a of (w, a)."""
        if len(parts) == 1:
            return parts[0][1]
        return self.add("Sum", *(self.add("Mul", self.number(w), a) for w, a in parts))

    def model(self, n_features: int, outputs: dict[str, tuple[str, Any, list[Any]]]) -> Any:
        """The model that gives these outputs, {name: (value, element type, shape)}."""
        helper, element = self.onnx.helper, self.onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]
        inputs = [helper.make_tensor_value_info("X", element, [_ROWS, n_features])]
        constants = [self.onnx.numpy_helper.from_array(values, name) for name, values in self.constants.items()]
        graph = helper.make_graph(self.nodes, "pmlp_np", inputs, infos, constants)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)


def _raw_outputs(graph: _Graph, mlp: MLP, scope: str) -> str:
    """A network from X to raw outputs; its constants' names begin with `scope`."""
    a = "X" if mlp.features is None else graph.columns("X", mlp.features)
    for k, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        weights = graph.array(f"{scope}weights_{k}", w)
        if mlp.bias:
            a = graph.add("Gemm", a, weights, graph.array(f"{scope}biases_{k}", b))
        else:
            a = graph.add("MatMul", a, weights)
        if k < len(mlp.activation):
            a = graph.activation(mlp.activation[k], a)
    return a


def _values(
    graph: _Graph, reading: Reading, members: list[tuple[float, str]], n_raw: int
) -> dict[str, tuple[str, Any, list[Any]]]:
    """Outputs of a model that predicts values: `prediction`, and `std` or `quantiles`."""
    element = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    n = n_raw // reading.heads
    shape = [_ROWS] if n == 1 else [_ROWS, n]

    def head(raw: str, h: int) -> str:
        if n == 1:
            return graph.columns(raw, h)
        return raw if reading.heads == 1 else graph.columns(raw, range(h, n_raw, reading.heads))

    means = [(w, head(raw, reading.value_head)) for w, raw in members]
    if reading.link == "exp":
        means = [(w, graph.add("Exp", value)) for w, value in means]
    center = graph.mean(means)
    outputs = {"prediction": (center, element, shape)}
    if reading.has_std and len(members) == 1:
        half = graph.add("Mul", graph.number(0.5), head(members[0][1], 1))
        outputs["std"] = (graph.add("Exp", half), element, shape)
    elif reading.has_std:
        # The law of total variance: the mean of variances plus the variance of means.
        spreads = []
        for (w, raw), (_, mean) in zip(members, means, strict=True):
            offset = graph.add("Sub", mean, center)
            variance = graph.add("Exp", head(raw, 1))
            spreads.append((w, graph.add("Add", variance, graph.add("Mul", offset, offset))))
        outputs["std"] = (graph.add("Sqrt", graph.mean(spreads)), element, shape)
    if reading.levels:
        quantiles = graph.mean(members)
        if n > 1:
            # 0: as many rows as there are.
            quantiles = graph.add("Reshape", quantiles, graph.whole([0, n, reading.heads]))
        outputs["quantiles"] = (quantiles, element, [*shape, reading.heads])
    return outputs


def _defined(graph: _Graph, reading: Reading, raws: list[str], n_raw: int) -> str:
    """Whether labels are made of numbers, in their shape. Operators may drop NaN, so that raw outputs tell, and not
    what is made of them."""
    found = []
    for raw in raws:
        if reading.link == "softmax":
            # As of `Loss.predictions`: none is NaN or infinity, and not all are minus infinity.
            below = graph.add("Cast", graph.add("Less", raw, graph.number(np.inf)), to=graph.onnx.TensorProto.FLOAT)
            above = graph.add("Cast", graph.add("Greater", raw, graph.number(-np.inf)), to=graph.onnx.TensorProto.FLOAT)
            all_below = graph.add("ReduceMin", below, axes=[1], keepdims=0)
            any_above = graph.add("ReduceMax", above, axes=[1], keepdims=0)
            found.append(graph.add("Cast", graph.add("Mul", all_below, any_above), to=graph.onnx.TensorProto.BOOL))
        else:
            of_labels = graph.columns(raw, 0) if n_raw == 1 else raw
            found.append(graph.add("Equal", of_labels, of_labels))
    while len(found) > 1:
        found = [graph.add("And", found[0], found[1]), *found[2:]]
    return found[0]


def _no_class(classes: Any) -> Any:
    """What the label is called where there is none, unlike any class."""
    if isinstance(classes[0], str):
        return next(name for name in ("", "NaN", "not a number", "no label " + "".join(classes)) if name not in classes)
    return -1 if -1 not in classes else min(classes) - 1


def _classes(
    graph: _Graph, reading: Reading, members: list[tuple[float, str]], n_raw: int, classes: Any
) -> dict[str, tuple[str, Any, list[Any]]]:
    """Outputs of a model that predicts classes, or labels of which each is 0 or 1: `label` and `probabilities`."""
    element, types = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype), graph.onnx.TensorProto
    link = {"sigmoid": ("Sigmoid", {}), "softmax": ("Softmax", {"axis": 1})}[reading.link]
    probabilities = graph.mean([(w, graph.add(link[0], raw, **link[1])) for w, raw in members])
    # A network's own raw outputs decide more sharply than probabilities that rounding made equal.
    scores, threshold = (members[0][1], 0.0) if len(members) == 1 else (probabilities, 0.5)
    shape: list[Any] = [_ROWS]
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
        names = np.array([*classes, _no_class(classes)], object if isinstance(classes[0], str) else np.int64)
        label = graph.add("Gather", graph.array("class_names", names), label, axis=0)
        kind = types.STRING if isinstance(classes[0], str) else kind
    return {"label": (label, kind, shape), "probabilities": (probabilities, element, [_ROWS, n_raw])}
