"""Affine preprocessing folded into a network: x' = (x - m) / s makes x' W + b = x (W / s) + (b - (m / s) W)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pmlp_np.base.errors import DataError, compose, show
from pmlp_np.formulas.reading import Reading, reading_of
from pmlp_np.models.network import Network, Networks


def folded(model: Networks, inputs: Any = None, outputs: Any = None) -> Networks:
    """Return the model for raw data. Arguments and errors as of `MLP.folded`."""
    ins = None if inputs is None else as_pair("inputs", inputs, model.n_features)
    outs = None if outputs is None else _of_outputs(model, outputs)
    reading = None if outs is None else reading_of(model.loss)
    return model.with_networks([_folded(network, ins, outs, reading) for network in model.networks])


def _of_outputs(model: Networks, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (shift, scale) of targets. Raises DataError for a loss whose predictions can't be shifted and scaled."""
    reading = reading_of(model.loss)
    if reading.link != "identity" or (reading.heads > 1 and not (reading.levels or reading.has_std)):
        expected, hint = "None for a loss that doesn't predict values as they are", "Fold inputs alone."
        raise DataError(compose("outputs", expected, str(model.loss), hint))
    shift, scale = as_pair("outputs", outputs, model.n_raw_outputs // reading.heads)
    if (reading.levels or reading.has_std) and (scale < 0.0).any():
        raise DataError(compose("scale of outputs", "numbers above 0 for this loss", f"{scale.min():g}"))
    return shift, scale


def _folded(network: Network, inputs: Any, outputs: Any, reading: Reading | None) -> Network:
    weights, biases = ([a.astype(np.float64) for a in arrays] for arrays in (network.weights, network.biases))
    bias = network.bias
    with np.errstate(all="ignore"):
        if inputs is not None:
            shift, scale = inputs if network.features is None else (each[network.features] for each in inputs)
            weights[0] = weights[0] / scale[:, None]
            biases[0] = biases[0] - shift @ weights[0]
            bias = bias or bool(shift.any())
        if reading is not None:
            shift, scale = (np.repeat(each, reading.heads) for each in outputs)
            added = shift
            if reading.has_std:
                # Head 1 is the logarithm of a variance, which grows by scale².
                added, scale = shift.copy(), scale.copy()
                added[1::2], scale[1::2] = 2.0 * np.log(scale[1::2]), 1.0
            weights[-1], biases[-1] = weights[-1] * scale, biases[-1] * scale + added
            bias = bias or bool(added.any())
        rounded = [a.astype(network.dtype) for a in weights], [a.astype(network.dtype) for a in biases]
    for array, before in zip(rounded[0] + rounded[1], network.weights + network.biases, strict=True):
        if np.isfinite(before).all() and not np.isfinite(array).all():
            hint = "Scales are too small or shifts too large."
            raise DataError(compose("folded weights", f"finite {network.dtype} numbers", "others", hint))
    return replace(network, weights=tuple(rounded[0]), biases=tuple(rounded[1]), bias=bias)


def as_pair(name: str, scaler: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (shift, scale), (n,) float64 each, from a pair or a fitted scaler. Raises DataError for anything else."""
    pair = scaler if isinstance(scaler, (tuple, list)) else _of_scaler(name, scaler, n)
    if len(pair) != 2:
        raise DataError(compose(name, "a pair (shift, scale), or a fitted scaler", show(scaler)))
    arrays = []
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
        arrays.append(np.broadcast_to(array, (n,)))
    if not arrays[1].all():
        at = int(np.flatnonzero(arrays[1] == 0.0)[0])
        hint = "A constant column takes a scale of 1."
        raise DataError(compose(f"scale of {name}", "numbers other than 0", f"0 at {at}", hint))
    return arrays[0], arrays[1]


def _of_scaler(name: str, scaler: Any, n: int) -> tuple[Any, Any]:
    """Return (shift, scale) of a scikit-learn scaler, recognized by its class's name, without an import."""
    names = [cls.__name__ for cls in type(scaler).__mro__]
    known = next((each for each in names if each in _SCALERS), None)
    if known is None:
        hint = f"Known are {', '.join(_SCALERS)}."
        raise DataError(compose(name, "a pair (shift, scale), or a fitted scaler", show(scaler), hint))
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
    # This scaler computes x * scale_ + min_.
    "MinMaxScaler": lambda s: (-s.min_ / s.scale_, 1.0 / s.scale_),
    "MaxAbsScaler": lambda s: (0.0, s.scale_),
    "RobustScaler": lambda s: (s.center_ if s.with_centering else 0.0, _or(s.scale_, 1.0)),
}
