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
    """x (rows, n_features) -> y (rows, 1), float32."""
    name = architecture[1]
    nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["z"])]
    hidden = "z"
    if name != "identity":
        operator, attributes = ACTIVATIONS[name]
        nodes.append(helper.make_node(operator, ["z"], ["a"], **attributes))
        hidden = "a"
    nodes.append(helper.make_node("Gemm", [hidden, "w2", "b2"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", len(weights.w1)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(array, part) for part, array in weights._asdict().items()],
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
