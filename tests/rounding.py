"""How far rounding may move one training step: a running error analysis of OracleMLP's passes, element by element.

A rounding has the size `unit` relative to what is rounded (2^-24 for float32). The terms of a sum count in full; errors
of earlier layers are independent and add up as squares. To first order, so away from kinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle import ACTIVATIONS, KINKS, Array, OracleMLP

# Bounds on second derivatives: of an activation (SELU's is the largest), and of a row's loss by its raw outputs.
ACTIVATION_CURVATURE = 1.76
LOSS_CURVATURE = 2.0


@dataclass
class Rounding:
    """Errors of raw outputs, mean loss and gradients; how many roundings the nearest unit is away from a kink."""

    raw: Array
    loss: float
    weights: list[Array]
    biases: list[Array]
    kink_distance: float


def carried(errors: Array, factors: Array) -> Array:
    """The error of errors @ factors where errors are independent."""
    return np.sqrt(errors**2 @ factors**2)


@np.errstate(all="ignore")
def rounding(net: OracleMLP, X: Array, y: Any, unit: float, masks: list[Array] | None = None) -> Rounding:
    """What one rounding per operation does to a step on these rows, with these masks of dropout."""
    inputs, z = net._forward(X, masks)
    names = net.activations
    # A mask's factor is rounded, and so is the product with it.
    factors = [np.ones(1)] * len(inputs) if masks is None else masks
    masking = 0.0 if masks is None else 2.0 * unit
    derivatives = [factors[k + 1] * ACTIVATIONS[name][1](z[k]) for k, name in enumerate(names)]
    input_errors, z_errors = [masking * np.abs(inputs[0])], []
    for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        z_errors.append(unit * (np.abs(inputs[k]) @ np.abs(w) + np.abs(b)) + carried(input_errors[k], w))
        if k < len(names):
            input_errors.append((unit + masking) * np.abs(inputs[k + 1]) + np.abs(derivatives[k]) * z_errors[k])

    raw, raw_error = z[-1], z_errors[-1]
    loss, slope = net.loss_function(raw, y)
    loss_error = unit * (abs(loss) + float(np.abs(raw).mean())) + float(np.sum(np.abs(slope) * raw_error))
    # A slope may be the difference of a probability and a target: numbers up to one, over the rows.
    slope_error = unit * np.abs(slope) + (unit + LOSS_CURVATURE * raw_error) / len(raw)

    weight_errors: list[Array] = []
    bias_errors: list[Array] = []
    for k in reversed(range(len(net.weights))):
        own = unit * (np.abs(inputs[k]).T @ np.abs(slope))
        weight_errors.insert(0, own + carried(input_errors[k].T, slope) + carried(inputs[k].T, slope_error))
        bias_errors.insert(0, unit * np.abs(slope).sum(axis=0) + np.sqrt((slope_error**2).sum(axis=0)))
        if k > 0:
            w, derivative = net.weights[k].T, derivatives[k - 1]
            back = slope @ w
            back_error = unit * (np.abs(slope) @ np.abs(w)) + carried(slope_error, w)
            # Derivatives are differences of numbers up to one.
            derivative_error = factors[k] * (unit + ACTIVATION_CURVATURE * z_errors[k - 1]) + masking * derivative
            slope = back * derivative
            slope_error = np.abs(derivative) * back_error + np.abs(back) * derivative_error
    return Rounding(raw_error, loss_error, weight_errors, bias_errors, _kink_distance(names, z, z_errors))


def _kink_distance(names: list[str], z: list[Array], z_errors: list[Array]) -> float:
    """A unit exactly at a kink does not count: nothing but dead units feeds it, and sums of zeros are not rounded."""
    distances = [
        float(np.where(z[k] == kink, np.inf, np.abs(z[k] - kink) / z_errors[k]).min())
        for k, name in enumerate(names)
        for kink in KINKS.get(name, ())
    ]
    return min(distances, default=np.inf)
