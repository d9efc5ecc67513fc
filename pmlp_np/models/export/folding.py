"""Affine preprocessing folded into a network: x' = (x - m) / s makes x' W + b = x (W / s) + (b - (m / s) W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.reading import reading_of
from pmlp_np.models.ensemble import Ensemble
from pmlp_np.models.mlp import MLP


def folded(model: Any, inputs: Any = None, outputs: Any = None) -> Any:
    """A model of the same kind for raw data; arguments and errors are those of `MLP.folded`."""
    ins = None if inputs is None else as_pair("inputs", inputs, model.n_features)
    outs = None if outputs is None else _of_outputs(model, outputs)
    if isinstance(model, Ensemble):
        found = Ensemble([_folded(mlp, ins, outs) for mlp in model.mlps], model.weights)
        found.weights = model.weights.copy()
        return found
    return _folded(model, ins, outs)


def _of_outputs(model: MLP | Ensemble, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """(shift, scale) of targets. DataError where predictions of this loss can't follow them."""
    reading = reading_of(model._loss)
    if reading.link != "identity" or (reading.heads > 1 and not (reading.levels or reading.has_std)):
        mend = "Fold inputs alone."
        raise DataError(compose("outputs", "None for a loss that doesn't predict values as they are", model.loss, mend))
    shift, scale = as_pair("outputs", outputs, model.n_raw_outputs // reading.heads)
    if (reading.levels or reading.has_std) and (scale < 0.0).any():
        raise DataError(compose("scale of outputs", "numbers above 0 for this loss", f"{scale.min():g}"))
    return shift, scale


def _folded(mlp: MLP, inputs: Any, outputs: Any) -> MLP:
    weights, biases = ([a.astype(np.float64) for a in arrays] for arrays in (mlp.weights, mlp.biases))
    bias = mlp.bias
    with np.errstate(all="ignore"):
        if inputs is not None:
            shift, scale = inputs if mlp.features is None else (each[mlp.features] for each in inputs)
            weights[0] = weights[0] / scale[:, None]
            biases[0] = biases[0] - shift @ weights[0]
            bias = bias or bool(shift.any())
        if outputs is not None:
            reading = reading_of(mlp._loss)
            shift, scale = (np.repeat(each, reading.heads) for each in outputs)
            added = shift
            if reading.has_std:
                # Head 1 is the logarithm of a variance, which grows by scale².
                added, scale = shift.copy(), scale.copy()
                added[1::2], scale[1::2] = 2.0 * np.log(scale[1::2]), 1.0
            weights[-1], biases[-1] = weights[-1] * scale, biases[-1] * scale + added
            bias = bias or bool(added.any())
        rounded = [a.astype(mlp.dtype) for a in weights], [a.astype(mlp.dtype) for a in biases]
    for array, before in zip(rounded[0] + rounded[1], mlp.weights + mlp.biases, strict=True):
        if np.isfinite(before).all() and not np.isfinite(array).all():
            mend = "Scales are too small or shifts too large."
            raise DataError(compose("folded weights", f"finite {mlp.dtype} numbers", "others", mend))
    n_columns = None if mlp.features is None else mlp.n_features
    return MLP(rounded[0], rounded[1] if bias else None, mlp.activation, mlp._loss, mlp.features, n_columns, mlp._names)


def as_pair(name: str, given: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(shift, scale), (n,) float64 each, of a pair or of a fitted scaler. DataError for anything else."""
    pair = given if isinstance(given, (tuple, list)) else _of_scaler(name, given, n)
    if len(pair) != 2:
        raise DataError(compose(name, "a pair (shift, scale), or a fitted scaler", show(given)))
    found = []
    for part, values in zip(("shift", "scale"), pair, strict=True):
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            array = np.empty((0, 0))
        if array.shape not in ((), (n,)):
            got = str(array.shape) if array.ndim == 1 else show(values)
            raise DataError(compose(f"{part} of {name}", f"a number, or one for each of {n} columns", got))
        if not np.isfinite(array).all():
            raise DataError(compose(f"{part} of {name}", "finite numbers", "NaN or infinity"))
        found.append(np.broadcast_to(array, (n,)))
    if not found[1].all():
        at = int(np.flatnonzero(found[1] == 0.0)[0])
        mend = "A constant column takes a scale of 1."
        raise DataError(compose(f"scale of {name}", "numbers other than 0", f"0 at {at}", mend))
    return found[0], found[1]


def _of_scaler(name: str, scaler: Any, n: int) -> tuple[Any, Any]:
    """(shift, scale) of a scaler of scikit-learn, which is known by its class's name: it need not be imported."""
    names = [cls.__name__ for cls in type(scaler).__mro__]
    known = next((each for each in names if each in _SCALERS), None)
    if known is None:
        mend = f"Known are {', '.join(_SCALERS)}."
        raise DataError(compose(name, "a pair (shift, scale), or a fitted scaler", show(scaler), mend))
    if not hasattr(scaler, "n_features_in_"):
        raise DataError(compose(name, f"a fitted {known}", "one that is not fitted", "Call its fit first."))
    if scaler.n_features_in_ != n:
        raise DataError(compose(name, f"a scaler of {n} columns", f"one of {scaler.n_features_in_}"))
    if getattr(scaler, "clip", False):
        raise DataError(compose(name, "what is affine", f"a {known} that clips", "Fit one with clip=False."))
    return _SCALERS[known](scaler)


def _or(values: Any, default: float) -> Any:
    return default if values is None else values


_SCALERS: dict[str, Any] = {
    "StandardScaler": lambda s: (s.mean_ if s.with_mean else 0.0, _or(s.scale_, 1.0)),
    # It prepares x as x * scale_ + min_.
    "MinMaxScaler": lambda s: (-s.min_ / s.scale_, 1.0 / s.scale_),
    "MaxAbsScaler": lambda s: (0.0, s.scale_),
    "RobustScaler": lambda s: (s.center_ if s.with_centering else 0.0, _or(s.scale_, 1.0)),
}
