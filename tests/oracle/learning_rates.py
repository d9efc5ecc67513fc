"""Options and their defaults, and the factor of the learning rate in a step: schedules and warm-up."""

import math
from collections.abc import Callable, Mapping
from typing import Any

OPTION_DEFAULTS: dict[str, Any] = {
    "zero_last": False,
    "l1": 0.0,
    "decoupled_weight_decay": 0.0,
    "decay_biases": False,
    "bias_rate_factor": 1.0,
    "first_layer_rate_factor": 1.0,
    "last_layer_rate_factor": 1.0,
    "parametrization": "standard",
    "feature_scale": False,
    "feature_scale_rate_factor": 1.0,
    "schedule": "constant",
    "schedule_epochs": 0.0,
    "schedule_interval": 1.0,
    "schedule_factor": 0.1,
    "final_rate_factor": 0.0,
    "one_cycle_start": 0.04,
    "one_cycle_peak": 0.3,
    "warmup_epochs": 0.0,
    "plateau_patience": 0.0,
    "plateau_factor": 0.1,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "clip_norm": 0.0,
    "average": 0.0,
}


def along_cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * way)) / 2.0


def one_cycle(o: Mapping[str, Any], epochs: float, length: float) -> float:
    peak, t = o["one_cycle_peak"], part_done(epochs, length)
    if t < peak:
        return along_cosine(o["one_cycle_start"], 1.0, t / peak)
    return along_cosine(1.0, o["final_rate_factor"], (t - peak) / (1.0 - peak))


def linear(end: float, t: float) -> float:
    return 1.0 - t + t * end


def part_done(epochs: float, length: float) -> float:
    """How much of a schedule is over, from 0 to 1."""
    return min(epochs / length, 1.0) if length > 0.0 else 1.0


# name: function(options, epochs since the schedule's beginning, its length in epochs), the factor of the learning rate
SCHEDULES: dict[str, Callable[[Mapping[str, Any], float, float], float]] = {
    "constant": lambda o, epochs, length: 1.0,
    "step": lambda o, epochs, length: o["schedule_factor"] ** math.floor(epochs / o["schedule_interval"]),
    "exponential": lambda o, epochs, length: o["schedule_factor"] ** (epochs / o["schedule_interval"]),
    "cosine": lambda o, epochs, length: along_cosine(
        1.0, o["final_rate_factor"], epochs / length % 1.0 if length > 0.0 else 0.0
    ),
    "one_cycle": one_cycle,
    "linear": lambda o, epochs, length: linear(o["final_rate_factor"], part_done(epochs, length)),
    "coslog4": lambda o, epochs, length: (
        0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + 15.0 * part_done(epochs, length))))
    ),
}


def schedule_factor(o: Mapping[str, Any], epochs: float, length: float) -> float:
    """What the schedule of options o makes of the learning rate, so many epochs after its beginning."""
    return float(SCHEDULES[o["schedule"]](o, epochs, length))


def rate_factor(o: Mapping[str, Any], epoch: int, minibatch: int, n_minibatches: int, fit_epochs: int) -> float:
    """What warm-up and schedule make of the learning rate of an epoch's minibatch (both counted from 0)."""
    now = epoch + minibatch / n_minibatches
    warmup = o["warmup_epochs"]
    if now < warmup:
        return schedule_factor(o, 0.0, 1.0) * min(1.0, (now + 1.0 / n_minibatches) / warmup)
    return schedule_factor(o, now - warmup, o["schedule_epochs"] or fit_epochs - warmup)
