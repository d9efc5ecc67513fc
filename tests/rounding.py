"""How far rounding may move one training step: a running error analysis of OracleMLP's passes, element by element.

A rounding has the size `unit` relative to what is rounded (2^-24 for float32), and moves it by `least` at least (the
smallest normal number: below it all may be lost). The terms of a sum count in full; errors of earlier layers are
independent and add up as squares. To first order, so away from kinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle import ACTIVATIONS, KINKS, Array, OracleMLP

# Bounds on second derivatives: of an activation (softsign's is the largest), and of a row's loss by its raw outputs.
ACTIVATION_CURVATURE = 2.0
LOSS_CURVATURE = 2.0


@dataclass
class Rounding:
    """Errors of raw outputs, mean loss and gradients; how many roundings the nearest unit is away from a kink."""

    raw: Array
    loss: float
    weights: list[Array]
    biases: list[Array]
    scales: list[Array]
    kink_distance: float


def carried(errors: Array, factors: Array) -> Array:
    """The error of errors @ factors where errors are independent."""
    return np.sqrt(errors**2 @ factors**2)


def exponential_roundings(a: Array, z: Array) -> Array:
    """Roundings of an activation's size, relative to it. Where it is much smaller than z it is an exponential, and that
    of x errs by x roundings: those of its argument, of which each moves it by as much as it is large."""
    return 1.0 + np.maximum(np.log(np.abs(z) / a), 0.0)


@np.errstate(all="ignore")
def rounding(net: OracleMLP, X: Array, y: Any, unit: float, least: float, masks: list[Array] | None = None) -> Rounding:
    """What one rounding per operation does to a step on these rows, with these masks of dropout."""
    inputs, z = net._forward(X, masks)
    names = net.activations
    # A mask's factor is rounded, and so is the product with it.
    factors = [np.ones(1)] * len(inputs) if masks is None else masks
    masking = 0.0 if masks is None else 2.0 * unit
    derivatives = [factors[k + 1] * ACTIVATIONS[name][1](z[k]) for k, name in enumerate(names)]
    scaled = net.options["feature_scale"]
    unscaled = X if masks is None else X * masks[0]
    # Either the features or the weights are multiplied by scales, with as many roundings.
    input_errors, z_errors = [(masking + unit * scaled) * np.abs(inputs[0])], []
    weights = net.divided_weights
    for k, (w, b) in enumerate(zip(weights, net.biases, strict=True)):
        z_errors.append(unit * (np.abs(inputs[k]) @ np.abs(w) + np.abs(b)) + least + carried(input_errors[k], w))
        if k < len(names):
            a = np.abs(inputs[k + 1])
            own = unit * exponential_roundings(a, z[k]) + masking
            # Some activations are an exponential times what goes in.
            lost = least * np.maximum(1.0, np.abs(z[k]))
            input_errors.append(np.where(a == 0.0, 0.0, own * a) + lost + np.abs(derivatives[k]) * z_errors[k])

    raw, raw_error = z[-1], z_errors[-1]
    loss, slope = net.loss_function(raw, y)
    loss_error = unit * (abs(loss) + float(np.abs(raw).mean())) + float(np.sum(np.abs(slope) * raw_error))
    if net.loss_name in ("poisson", "gaussian_nll"):
        loss_terms, slope_terms = exponential_terms(net, raw, y)
        loss_error += unit * loss_terms
        slope_error = unit * slope_terms + moved_slopes(net, raw, y, raw_error)
    else:
        # A slope may be the difference of a probability and a target: numbers up to one, over the rows.
        slope_error = unit * np.abs(slope) + (unit + LOSS_CURVATURE * raw_error) / len(raw)

    weight_errors: list[Array] = []
    bias_errors: list[Array] = []
    for k in reversed(range(len(weights))):
        own = unit * (np.abs(inputs[k]).T @ np.abs(slope)) + least
        weight_errors.insert(0, own + carried(input_errors[k].T, slope) + carried(inputs[k].T, slope_error))
        bias_errors.insert(0, unit * np.abs(slope).sum(axis=0) + np.sqrt((slope_error**2).sum(axis=0)))
        if k > 0:
            w, derivative = weights[k].T, derivatives[k - 1]
            back = slope @ w
            back_error = unit * (np.abs(slope) @ np.abs(w)) + carried(slope_error, w)
            # Derivatives are differences of numbers up to one.
            derivative_error = factors[k] * (unit + ACTIVATION_CURVATURE * z_errors[k - 1]) + masking * derivative
            slope = back * derivative
            slope_error = np.abs(derivative) * back_error + np.abs(back) * derivative_error
    # The gradient of scales: sums over units of a weight times the gradient of what it stands for with its scale.
    product = unscaled.T @ slope
    product_error = unit * (np.abs(unscaled).T @ np.abs(slope)) + masking * np.abs(product)
    product_error += carried(unscaled.T, slope_error)
    scale_error = unit * np.abs(weights[0] * product).sum(axis=1)
    scale_error += np.sqrt(((weights[0] * product_error) ** 2).sum(axis=1))
    weight_errors = [error / net.scale(k) for k, error in enumerate(weight_errors)]
    distance = _kink_distance(net, y, z, z_errors)
    return Rounding(raw_error, loss_error, weight_errors, bias_errors, [scale_error], distance)


def exponential_terms(net: OracleMLP, raw: Array, y: Any) -> tuple[float, Array]:
    """Sizes of the terms of losses that take an exponential: of the mean loss, and of the slopes, like raw."""
    targets = np.asarray(y, np.float64).reshape(len(raw), -1)
    weights = np.array(net.loss_parameters.get("output_weight", (1.0,) * targets.shape[1]))
    weights = weights / weights.mean() / targets.size
    if net.loss_name == "poisson":
        # The exponential of r errs by r roundings relative to itself.
        rates = np.exp(raw) * (1.0 + np.abs(raw))
        return float((weights * (rates + np.abs(targets * raw))).sum()), weights * (rates + np.abs(targets))
    mean, log_variance = raw[:, ::2], raw[:, 1::2]
    precision, size = np.exp(-log_variance) * (1.0 + np.abs(log_variance)), np.abs(mean) + np.abs(targets)
    square = np.abs(mean - targets) * size * precision
    slopes = np.stack([weights * precision * size, weights * (1.0 + square)], axis=2).reshape(raw.shape)
    return float((weights * (np.abs(log_variance) + square)).sum()), slopes


def moved_slopes(net: OracleMLP, raw: Array, y: Any, raw_error: Array) -> Array:
    """How far slopes move when raw outputs move by their errors, one head after the other."""
    _, slope = net.loss_function(raw, y)
    heads = 2 if net.loss_name == "gaussian_nll" else 1
    total = np.zeros_like(raw)
    for head in range(heads):
        step = np.where(np.arange(raw.shape[1]) % heads == head, raw_error, 0.0)
        total += np.max([np.abs(net.loss_function(raw + s, y)[1] - slope) for s in (step, -step)], axis=0)
    return total


def _kink_distance(net: OracleMLP, y: Any, z: list[Array], z_errors: list[Array]) -> float:
    """A unit exactly at a kink does not count: nothing but dead units feeds it, and sums of zeros are not rounded.

    Absolute error and quantile loss have a kink where a raw output is the target.
    """
    names = net.activations
    distances = [
        float(np.where(z[k] == kink, np.inf, np.abs(z[k] - kink) / z_errors[k]).min())
        for k, name in enumerate(names)
        for kink in KINKS.get(name, ())
    ]
    if net.loss_name in ("absolute_error", "quantile"):
        targets = np.asarray(y, np.float64).reshape(len(z[-1]), -1)
        heads = z[-1].shape[1] // targets.shape[1]
        distances.append(float((np.abs(z[-1] - np.repeat(targets, heads, axis=1)) / z_errors[-1]).min()))
    return min(distances, default=np.inf)
