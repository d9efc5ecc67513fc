"""Members as ONNX models, each in a session of its own."""

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.common import Architecture, Weights

# Operators and attributes by the library's names of activations; identity needs none.
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "gelu": ("Gelu", {}),
    "selu": ("Selu", {}),
    "hardshrink": ("Shrink", {"lambd": 0.5, "bias": 0.0}),
    "mish": ("Mish", {}),
}
OPSET = 20  # the first with Gelu
IR_VERSION = 10


def model(architecture: Architecture, weights: Weights) -> onnx.ModelProto:
    """x (rows, n_features) -> y (rows, n_outputs), float32."""
    name, last = architecture[1], len(weights.matrices) - 1
    nodes, parts, flow = [], [], "x"
    for k, (matrix, bias) in enumerate(zip(weights.matrices, weights.biases, strict=True)):
        parts += [numpy_helper.from_array(matrix, f"w{k}"), numpy_helper.from_array(bias, f"b{k}")]
        flow, before = ("y" if k == last else f"z{k}"), flow
        nodes.append(helper.make_node("Gemm", [before, f"w{k}", f"b{k}"], [flow]))
        if k < last and name != "identity":
            operator, attributes = ACTIVATIONS[name]
            nodes.append(helper.make_node(operator, [flow], [f"a{k}"], **attributes))
            flow = f"a{k}"
    graph = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", len(weights.matrices[0])])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weights.matrices[-1].shape[1]])],
        parts,
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(found)
    return found


def session(architecture: Architecture, weights: Weights, n_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model(architecture, weights).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
