"""Models in other systems, run: what each says to the same rows, in NumPy arrays; and how far two computations of one
network may lie apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import c_header
import oracle
import pmlp_np as pm
from conftest import requires
from loss_variants import heads, library_loss
from pmlp_np.formulas.activations import ACTIVATIONS
from pmlp_np.formulas.reading import reading_of
from rounding import carried

Answers = dict[str, np.ndarray]
METHODS = ("predict", "predict_proba", "predict_std", "predict_quantiles")
N_FEATURES = 6

# Roundings of an activation, relative to the larger of z and the activation: differences of numbers up to one, and
# vendors' approximations of tanh and exp.
ACTIVATION_ROUNDINGS = 4.0


def random_mlp(
    rng: np.random.Generator,
    loss: str = "squared_error",
    n_outputs: int = 1,
    activation: Any = None,
    dtype: Any = np.float64,
    hidden: Any = None,
    bias: bool | None = None,
    chosen: bool | None = None,
    loss_object: Any = None,
) -> pm.MLP:
    """A network with random weights, of a loss (a label of loss_variants, or an object); what isn't said is drawn."""
    hidden = tuple(rng.integers(1, 12, rng.integers(0, 4))) if hidden is None else hidden
    bias = bool(rng.random() < 0.8) if bias is None else bias
    chosen = bool(rng.random() < 0.3) if chosen is None else chosen
    features = rng.choice(N_FEATURES, rng.integers(1, N_FEATURES + 1), replace=False) if chosen else None
    activation = [str(rng.choice(list(ACTIVATIONS))) for _ in hidden] if activation is None else activation
    n_raw = n_outputs * (heads(loss) if loss_object is None else loss_object.heads)
    widths = (N_FEATURES if features is None else len(features), *hidden, n_raw)
    # Pre-activations reach the bends of activations, and raw outputs stay small enough for exponentials.
    weights = [rng.normal(size=s) * 1.5 / np.sqrt(s[0]) for s in zip(widths[:-1], widths[1:], strict=True)]
    biases = [rng.normal(size=n) for n in widths[1:]]
    return pm.MLP(
        [w.astype(dtype) for w in weights],
        [b.astype(dtype) for b in biases] if bias else None,
        activation,
        library_loss(loss, n_outputs) if loss_object is None else loss_object,
        features,
        N_FEATURES if chosen else None,
    )


def rows(rng: np.random.Generator, n: int, dtype: Any) -> np.ndarray:
    """Features, of which some are large."""
    return (rng.normal(size=(n, N_FEATURES)) * rng.choice([0.5, 1.0, 3.0], (n, 1))).astype(dtype)


# What models say.


def own(model: Any, X: np.ndarray) -> Answers:
    """The library's own answers, by method, as far as the loss defines them."""
    found = {}
    for method in METHODS:
        try:
            found[method] = getattr(model, method)(X)
        except pm.DataError as error:
            assert str(error).startswith("loss: expected one that defines")
    return found


def by_onnx(model: Any, X: np.ndarray, **settings: Any) -> Answers:
    """Through bytes and ONNX Runtime."""
    return run_onnx(model.to_onnx(**settings).SerializeToString(), X)


def run_onnx(content: bytes, X: np.ndarray) -> Answers:
    runtime = requires("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"X": X}), strict=True))
    method = {"prediction": "predict", "label": "predict", "probabilities": "predict_proba", "std": "predict_std",
              "quantiles": "predict_quantiles"}  # fmt: skip
    assert set(found) <= set(method)
    return {method[name]: values for name, values in found.items()}


def by_torch(model: Any, X: np.ndarray) -> Answers:
    torch = requires("torch")
    module, x = model.to_torch(), torch.from_numpy(X)
    found = {"forward": module(x).detach().numpy()}
    for method in METHODS:
        try:
            found[method] = getattr(module, method)(x).numpy()
        except ValueError as error:
            assert str(error).startswith("this model predicts ")
    return found


def by_python(model: Any, X: np.ndarray, **settings: Any) -> Answers:
    """Through the text of a file, in a namespace of its own."""
    text = model.to_python(**settings)
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), namespace)
    methods = [method for method in ("forward", *METHODS) if method in namespace]
    return {method: namespace[method](X) for method in methods}


def by_c(model: Any, X: np.ndarray, **settings: Any) -> Answers:
    """Through a header, compiled."""
    functions = c_header.compiled(model.to_c(**settings))
    reading, n_raw = reading_of(model._loss), model.n_raw_outputs
    n = n_raw // reading.heads
    shapes = {"forward": (n_raw,), "predict_proba": (n_raw,), "predict_values": (n,), "predict_std": (n,),
              "predict_quantiles": (n, reading.heads), "predict_labels": (n,)}  # fmt: skip
    found = {}
    for name in functions.names:
        if name != "predict":
            found[name] = functions.rows(name, X, shapes[name])
    if reading.link == "softmax":
        found["predict"] = functions.rows("predict", X, ())
    else:
        found["predict"] = found.pop("predict_labels" if reading.has_probabilities else "predict_values")
        if n == 1:
            # The short form of one output says the same.
            assert np.array_equal(functions.rows("predict", X, ()), found["predict"][:, 0], equal_nan=True)
    if n == 1 and not reading.has_probabilities:
        found = {name: values[:, 0] if name in METHODS else values for name, values in found.items()}
    elif reading.link == "sigmoid" and n == 1:
        found["predict"] = found["predict"][:, 0]
    return found


RUNNERS: dict[str, Callable[..., Answers]] = {"onnx": by_onnx, "torch": by_torch, "python": by_python, "c": by_c}


def needs(target: str) -> None:
    """Skip the test, or fail it where CI=true, where what runs a target is not there."""
    if target == "c":
        c_header.compiler()
    else:
        requires({"onnx": "onnx", "torch": "torch"}.get(target, "numpy"))


# How far apart they may lie.


def raw_errors(mlp: pm.MLP, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bound on the distance of two computations' raw outputs, whether a unit is so near a jump that they may fall on
    both sides of it): (rows, raw outputs) and (rows,).

    Each sum of n products errs by at most n + 1 roundings of its terms' sizes, whatever its order; errors of earlier
    layers add up as their squares do, and count twice.
    """
    unit = np.finfo(mlp.dtype).eps / 2.0
    a = X.astype(np.float64)
    if mlp.features is not None:
        a = a[:, mlp.features]
    error, near = np.zeros_like(a), np.zeros(len(a), bool)
    for k, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        w, b = w.astype(np.float64), b.astype(np.float64)
        z = a @ w + b
        error = 2.0 * carried(error, w) + 2.0 * (len(w) + 1) * unit * (np.abs(a) @ np.abs(w) + np.abs(b))
        if k == len(mlp.activation):
            return error, near
        name = mlp.activation[k]
        if name == "hardshrink":
            near |= (np.abs(np.abs(z) - oracle.SHRINK) <= error).any(axis=1)
        function, derivative = oracle.ACTIVATIONS[name]
        # Errors are far smaller than bends: the steepest slope nearby is one of these.
        slope = np.max([np.abs(derivative(z + move)) for move in (-error, 0.0, error)], axis=0)
        a = function(z)
        error = slope * error + 2.0 * ACTIVATION_ROUNDINGS * unit * np.maximum(np.abs(a), np.abs(z))
    raise AssertionError


def assert_alike(model: Any, X: np.ndarray, found: Answers, expected: Answers | None = None) -> None:
    """Assert that answers are the library's own, up to rounding, in the same shapes and dtypes."""
    expected = own(model, X) if expected is None else expected
    members = model.mlps if isinstance(model, pm.Ensemble) else [model]
    bounds, jumps = zip(*(raw_errors(mlp, X) for mlp in members), strict=True)
    clear = ~np.any(jumps, axis=0)
    assert clear.mean() > 0.9, "too many rows lie at a jump"
    # One number for a row: the largest of its raw outputs and members.
    error = np.max([bound.max(axis=1) for bound in bounds], axis=0)
    raw = np.max([np.abs(mlp.forward(X)).max(axis=1) for mlp in members], axis=0).astype(np.float64)
    unit = np.finfo(model.dtype).eps / 2.0
    assert set(expected) == set(found) - {"forward"}
    if "forward" in found:
        # Links and their inverses, of several members, round a few times more.
        allowed = error if len(members) == 1 else 2.0 * error + 32.0 * unit * (1.0 + raw)
        close(found["forward"], model.forward(X), allowed, clear)
    for method, values in expected.items():
        if values.dtype == np.int64:
            scores = expected["predict_proba"].astype(np.float64)
            binary = "binary" in model.loss
            top = np.sort(scores, axis=1)
            # Rounding may decide between labels that are equally probable.
            margin = np.abs(scores - 0.5).min(axis=1) if binary else top[:, -1] - top[:, -2]
            sure = clear & (margin > 4.0 * (error + 8.0 * unit))
            # A row of which all units are dead says the same of all labels.
            assert (sure | (margin == 0.0)).mean() > 0.8, "too few rows are clear"
            same_kind(found[method], values)
            assert np.array_equal(found[method][sure], values[sure]), method
            continue
        size = np.abs(values.astype(np.float64)).reshape(len(X), -1).max(axis=1)
        linked = method in ("predict_proba", "predict_std") or model.loss.startswith("poisson")
        # Links are exponentials: their error is relative, and that of their argument's rounding grows with it. The
        # deviation of a mixture knows the means as well.
        allowed = error + 32.0 * unit * size
        if linked:
            allowed = 4.0 * size * (error + 16.0 * unit * (1.0 + raw))
        if method == "predict_std":
            allowed += 4.0 * error
        if method == "predict_proba":
            # A vendor's sigmoid may be half of 1 + tanh.
            allowed += ACTIVATION_ROUNDINGS * unit
        close(found[method], values, allowed, clear)


def same_kind(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype, (found.shape, found.dtype, expected.shape)


def close(found: np.ndarray, expected: np.ndarray, allowed: np.ndarray, clear: np.ndarray) -> None:
    same_kind(found, expected)
    distance = np.abs(found.astype(np.float64) - expected.astype(np.float64)).reshape(len(found), -1)
    assert np.isfinite(expected).all()
    assert (distance <= allowed[:, None])[clear].all(), (distance / allowed[:, None])[clear].max()
